"""Wheels whose RECORD does not say what they hold, from an index, from a page without hashes, and
from a path.

Official wheels of PyPI are of this kind (docs/hosts.md); what pip makes of them is what a person
expects.
"""

from __future__ import annotations

import base64
import csv
import hashlib
from pathlib import Path
from typing import Iterator, Optional, Tuple

import pytest

from tests.functional.conftest import Environment
from tests.unit.wheels.crafted import make_row, make_wheel
from tests.wheelhost import WheelHost

FILE = "alpha-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ROW = "alpha-1.0.dist-info/METADATA"
RENAMED = (ROW, METADATA.replace("Version: 1.0\n", "Version: 1.0+cu102\n"))
CHANGED = (ROW, METADATA + "Requires-Dist: beta\n")
OTHER_FILE = ("alpha/__init__.py", "x = 2\n")


def craft(folder: Path, recorded: Optional[Tuple[str, str]] = None) -> bytes:
    """A wheel; `recorded`: the contents of one file as RECORD knows them."""

    def record(text: str) -> str:
        if recorded is None:
            return text
        kept = [line for line in text.splitlines(True) if not line.startswith(recorded[0])]
        return "".join(kept) + make_row(*recorded)

    files = {"alpha/__init__.py": "x = 1\n"}
    options = {
        "filename": FILE,
        "metadata": METADATA,
        "wheel": WHEEL,
        "dist_info": "alpha-1.0.dist-info",
    }
    return make_wheel(folder, files, record=record, **options).read_bytes()


@pytest.fixture
def host() -> Iterator[WheelHost]:
    with WheelHost() as running:
        yield running


@pytest.fixture
def environment(make_environment, host) -> Environment:
    online = {
        "SAFE_INSTALL_MIRRORS": host.mirrors,
        "PIP_NO_INDEX": "",
        "PIP_INDEX_URL": host.index_url,
    }
    return make_environment("3.11", **online)


def serve_with_hash(host: WheelHost, wheel: bytes) -> None:
    host.put(f"/files/{FILE}", wheel)
    page = f'<a href="/files/{FILE}#sha256={hashlib.sha256(wheel).hexdigest()}">{FILE}</a>'
    host.put("/pypi/simple/alpha/", page.encode(), content_type="text/html")


def serve_without_hash(host: WheelHost, wheel: bytes) -> None:
    host.put(f"/files/{FILE}", wheel)
    host.put(
        "/pypi/simple/alpha/",
        f'<a href="/files/{FILE}">{FILE}</a>'.encode(),
        content_type="text/html",
    )


def untrue_rows(site: Path) -> list:
    """The rows of the installed RECORD that say something else than the disk."""
    untrue = []
    with (site / "alpha-1.0.dist-info" / "RECORD").open(newline="") as file:
        for path, digest, _ in csv.reader(file):
            found = (
                base64.urlsafe_b64encode(hashlib.sha256((site / path).read_bytes()).digest())
                .rstrip(b"=")
                .decode()
            )
            if digest and digest != f"sha256={found}":
                untrue.append(path)
    return untrue


def test_metadata_that_record_does_not_know_is_a_note_where_the_index_promised_the_file(
    environment, host, tmp_path
):
    serve_with_hash(host, craft(tmp_path, CHANGED))
    document = environment.document("install", "alpha")
    assert document["exit_code"] == 0, document["error"]
    (finding,) = [one for one in document["findings"] if one["check"] == "record"]
    assert (finding["severity"], finding["subject"]) == ("note", "alpha")
    assert ROW in finding["detail"]
    assert untrue_rows(environment.site) == []
    removed = environment.safe_install("uninstall", "-y", "alpha")
    assert removed.returncode == 0, removed.stderr
    assert not list(environment.site.glob("alpha*"))


@pytest.mark.any_python
@pytest.mark.parametrize(
    ("recorded", "serve", "reason"),
    [(CHANGED, serve_without_hash, ROW), (OTHER_FILE, serve_with_hash, "alpha/__init__.py")],
    ids=["no promise", "another file"],
)
def test_anything_else_is_refused(environment, host, tmp_path, recorded, serve, reason):
    serve(host, craft(tmp_path, recorded))
    document = environment.document("install", "alpha")
    assert document["exit_code"] == 11
    assert reason in document["error"]["message"]
    assert not list(environment.site.glob("alpha*"))


@pytest.mark.any_python
def test_a_wheel_that_its_publisher_renamed_needs_no_promise(environment, host, tmp_path):
    serve_without_hash(host, craft(tmp_path, RENAMED))
    completed = environment.safe_install("install", "alpha")
    assert completed.returncode == 0, completed.stderr
    assert (
        "note: alpha-1.0-py3-none-any.whl: RECORD knows" in completed.stderr
        and "1.0+cu102" in completed.stderr
    )
    assert untrue_rows(environment.site) == []


@pytest.mark.any_python
def test_a_file_named_by_its_path_is_what_the_person_means(environment, tmp_path):
    craft(tmp_path, CHANGED)
    document = environment.document("install", str(tmp_path / FILE))
    assert document["exit_code"] == 0, document["error"]
    assert [one["subject"] for one in document["findings"] if one["check"] == "record"] == ["alpha"]
    assert untrue_rows(environment.site) == []


@pytest.mark.any_python
def test_a_file_of_this_machine_that_a_wheel_names_was_named_by_nobody(environment, tmp_path):
    craft(tmp_path, CHANGED)
    needed = f"alpha @ {(tmp_path / FILE).as_uri()}"
    metadata = f"Metadata-Version: 2.1\nName: front\nVersion: 1.0\nRequires-Dist: {needed}\n"
    options = {
        "filename": "front-1.0-py3-none-any.whl",
        "wheel": WHEEL,
        "dist_info": "front-1.0.dist-info",
    }
    front = make_wheel(tmp_path, {"front.py": ""}, metadata=metadata, **options)
    document = environment.document("install", str(front))
    assert document["exit_code"] == 11
    assert ROW in document["error"]["message"]


def bare(folder: Path) -> Path:
    """A wheel with a module, a script and a command, and a RECORD that lists none of its files."""
    files = {
        "alpha/__init__.py": "x = 1\ndef main(): print(x)\n",
        "alpha-1.0.data/scripts/alpha-script": "#!python\nprint(2)\n",
        "alpha-1.0.dist-info/entry_points.txt": "[console_scripts]\nalpha = alpha:main\n",
    }
    options = {"filename": FILE, "metadata": METADATA, "dist_info": "alpha-1.0.dist-info"}
    wheel = WHEEL.replace("Wheel-Version: 1.0", "Wheel-Version: 0.1")
    return make_wheel(folder, files, record=lambda _: "", wheel=wheel, **options)


def test_a_wheel_in_a_folder_that_the_person_named(environment, tmp_path):
    """As pip installs it; and what is installed can be removed whole, its commands too."""
    folder = bare(tmp_path).parent
    words = ("install", "--no-index", "--find-links", str(folder), "alpha")
    before = environment.tree()
    strict = environment.safe_install(*words, "--strict-records")
    assert strict.returncode == 11
    assert "wheel format version is '0.1'" in strict.stderr
    assert environment.tree() == before
    installed = environment.safe_install(*words)
    assert installed.returncode == 0, installed.stderr
    assert "RECORD does not list" in installed.stderr
    assert untrue_rows(environment.site) == []
    for command, says in (("alpha", "1"), ("alpha-script", "2")):
        script = str(environment.prefix / "bin" / command)
        assert (
            environment.ask(f"import runpy; runpy.run_path({script!r}, run_name='__main__')")
            == says
        )
    removed = environment.safe_install("uninstall", "-y", "alpha")
    assert removed.returncode == 0, removed.stderr
    assert environment.tree() == before


@pytest.mark.any_python
def test_the_same_wheel_from_a_page_that_promises_nothing(environment, host, tmp_path):
    serve_without_hash(host, bare(tmp_path).read_bytes())
    document = environment.document("install", "alpha")
    assert document["exit_code"] == 11
    assert not list(environment.site.glob("alpha*"))
