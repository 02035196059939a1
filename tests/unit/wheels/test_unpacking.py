"""The RECORD of an unpacked wheel says what lies there, whatever the wheel's own said."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, Optional
from zipfile import ZipInfo

import pytest
from packaging.utils import canonicalize_name

from safe_install.environment.record import make_entry
from safe_install.errors import WheelInvalid
from safe_install.models import Action, Interpreter, Scheme, Step
from safe_install.wheels import members
from safe_install.wheels import unpack as unpack_module
from safe_install.wheels.archive import Artifact, open_wheel
from safe_install.wheels.unpack import Destination, Unpacking, find_bytecode, render_direct_url
from safe_install.wheels.zip_archive import CheckedZip
from tests.unit.wheels.crafted import make_row, make_wheel

SITE = "env/lib/python3.11/site-packages"
INFO = "alpha-1.0.dist-info"
OWN = {f"{INFO}/INSTALLER", f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD"}


def open_alpha(
    folder: Path, files: Mapping[str, str], record: Optional[Mapping[str, str]] = None
) -> Artifact:
    """A wheel; `record`: the contents that its RECORD knows in place of the real ones."""
    rows = None
    if record is not None:
        rows = "".join(make_row(name, content) for name, content in record.items())
    path = make_wheel(
        folder,
        files,
        filename="alpha-1.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n",
        dist_info=INFO,
        record=None if rows is None else lambda text: rows + text,
    )
    return open_wheel(path, is_promised=lambda: True)


def open_lying(folder: Path, liar: str, files: Mapping[str, str]) -> Artifact:
    """A wheel whose RECORD promises other contents of one member, opened before its members are
    hashed."""
    right, wrong = make_row(liar, files[liar]), make_row(liar, files[liar][::-1])
    path = make_wheel(
        folder,
        files,
        filename="alpha-1.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n",
        dist_info=INFO,
        record=lambda text: text.replace(right, wrong),
    )
    return open_wheel(path, verify_members=False, is_promised=lambda: True)


def destination_at(root: Path) -> Destination:
    prefix = Path("/env")
    site = Path(f"/{SITE}")
    scheme = Scheme(site, site, prefix / "bin", prefix, prefix / "include")
    interpreter = Interpreter(
        root / "python", "3.11.7", "cpython", (), "linux_x86_64", ("glibc", "2.36"), prefix, prefix, scheme
    )  # fmt: skip
    (root / "python").write_bytes(b"\x7fELF")
    return Destination(root, interpreter, lambda: None)


def unpack(folder: Path, artifact: Artifact, **fields: object) -> Path:
    """Below `folder`, without bytecode; returns site-packages."""
    step = Step(Action.ADD, canonicalize_name("alpha"), "1.0", **fields)  # type: ignore[arg-type]
    with Unpacking([(step, artifact)], destination_at(folder), compile_bytecode=False):
        pass
    return folder / SITE


def read_rows(site: Path) -> Dict[str, str]:
    with (site / INFO / "RECORD").open(newline="") as file:
        return {row[0]: row[1] for row in csv.reader(file)}


def test_a_row_without_a_file_goes_and_a_file_without_a_row_gets_one(tmp_path: Path) -> None:
    """Uninstalling alpha must not take along what another wheel of the same change brings."""
    wheel = make_wheel(
        tmp_path,
        {"alpha.py": "x = 1\n"},
        filename="alpha-1.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n",
        dist_info=INFO,
        record=lambda text: text + make_row("beta.py", "x = 2\n"),
        extra=[("unlisted.py", "x = 3\n")],
    )
    artifact = open_wheel(wheel, is_promised=lambda: True)
    (tmp_path / "out" / SITE).mkdir(parents=True)
    (tmp_path / "out" / SITE / "beta.py").write_text("x = 2\n")
    rows = read_rows(unpack(tmp_path / "out", artifact))
    assert "beta.py" not in rows
    assert rows["unlisted.py"] == make_entry("", b"x = 3\n").hash
    assert rows[f"{INFO}/RECORD"] == ""
    assert set(rows) == {"alpha.py", "unlisted.py", *OWN}


def test_what_was_asked_for_and_where_it_came_from(tmp_path: Path) -> None:
    artifact = open_alpha(tmp_path, {"alpha.py": ""})
    for name, fields, added in (
        ("plain", {}, set()),
        ("requested", {"requested": True}, {"REQUESTED"}),
        ("kept", {"keeps_requested": True}, {"REQUESTED"}),
        ("unused", {"download_info": {"url": "file:///a.whl"}}, set()),
        ("direct", {"is_direct": True, "download_info": {"url": "file:///a.whl"}}, {"direct_url.json"}),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        site = unpack(tmp_path / name, artifact, **fields)
        found = {path.name for path in (site / INFO).iterdir()}
        assert found == {"INSTALLER", "METADATA", "WHEEL", "RECORD", *added}
        assert set(read_rows(site)) == {"alpha.py", *OWN, *(f"{INFO}/{one}" for one in added)}


def test_a_command_that_calls_no_function_is_refused(tmp_path: Path) -> None:
    points = "[console_scripts]\ntool = alpha\n"
    artifact = open_alpha(tmp_path, {"alpha.py": "", f"{INFO}/entry_points.txt": points})
    (tmp_path / "out").mkdir()
    with pytest.raises(WheelInvalid, match="names no function"):
        unpack(tmp_path / "out", artifact)


def test_a_file_that_changed_after_it_was_checked_is_not_taken(tmp_path: Path) -> None:
    artifact = open_alpha(tmp_path, {"alpha.py": "x = 12345\n" * 9})
    content = artifact.path.read_bytes()
    artifact.path.write_bytes(content.replace(b"alpha.py", b"alphb.py", 1))
    (tmp_path / "out").mkdir()
    with pytest.raises(WheelInvalid):
        unpack(tmp_path / "out", artifact)


MEMBERS = {
    "alpha/__init__.py": "x = 1\n",
    "alpha/data.bin": "data\n",
    # written twice, and the second counts
    "alpha/twice.py": "x = 2\n",
    "alpha-1.0.data/purelib/alpha/twice.py": "x = 3\n",
    # a command of setuptools, for which pip writes its own
    "alpha-1.0.data/scripts/tool": "#!python\nold\n",
    "alpha-1.0.data/scripts/own": "#!python\nprint(1)\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\ntool = alpha:main\n",
    f"{INFO}/RECORD.jws": "signed\n",
}


@pytest.mark.parametrize("large", [members.LARGE, 1])
@pytest.mark.parametrize("liar", MEMBERS)
def test_a_member_is_compared_with_record_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, liar: str, large: int
) -> None:
    monkeypatch.setattr(members, "LARGE", large)
    artifact = open_lying(tmp_path, liar, MEMBERS)
    (tmp_path / "out").mkdir()
    with pytest.raises(WheelInvalid) as caught:
        unpack(tmp_path / "out", artifact)
    assert caught.value.message == (
        f"alpha-1.0-py3-none-any.whl: the contents of {liar} do not have the hash that RECORD says"
    )
    assert not list((tmp_path / "out").rglob("INSTALLER"))


def test_what_was_promised_as_a_whole_is_not_hashed(tmp_path: Path) -> None:
    artifact = open_lying(tmp_path, "alpha/data.bin", MEMBERS)
    (tmp_path / "out").mkdir()
    site = unpack(tmp_path / "out", replace(artifact, needs_hashing=False))
    assert (site / "alpha" / "data.bin").read_text() == "data\n"


def test_what_was_noted_when_it_was_opened_is_taken(tmp_path: Path) -> None:
    """A local version identifier that was cut out after RECORD was written, and METADATA of a wheel
    that was promised."""
    then = {"alpha.py": "v = '1.0+cpu'\n", f"{INFO}/METADATA": "Name: alpha\nVersion: 1.0\n"}
    path = make_wheel(
        tmp_path,
        {"alpha.py": "v = '1.0'\n"},
        filename="alpha-1.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n",
        dist_info=INFO,
        record=lambda text: "".join(
            make_row(name, then[name]) if name in then else f"{line}\n"
            for line in text.splitlines()
            for name in [line.partition(",")[0]]
        ),
    )
    artifact = open_wheel(path, verify_members=False, is_promised=lambda: True)
    assert {note.path for note in artifact.record_notes} == set(then)
    (tmp_path / "out").mkdir()
    rows = read_rows(unpack(tmp_path / "out", artifact))
    assert rows["alpha.py"] == make_entry("", b"v = '1.0'\n").hash


@pytest.mark.parametrize("large", [members.LARGE, 1])
def test_each_member_is_inflated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(members, "LARGE", large)
    inflated: Counter[str] = Counter()
    inflate = CheckedZip.inflate

    def count(
        self: CheckedZip, info: ZipInfo, stream: Optional[BinaryIO] = None
    ) -> Iterator[bytes]:
        inflated[info.filename] += 1
        return inflate(self, info, stream)

    monkeypatch.setattr(CheckedZip, "inflate", count)
    files = {name: text for name, text in MEMBERS.items() if not name.startswith(INFO)}
    wheel = open_alpha(tmp_path, files).path
    inflated.clear()
    artifact = open_wheel(wheel, verify_members=False)
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "out", artifact)
    assert {name: inflated[name] for name in files} == dict.fromkeys(files, 1)


def test_large_members_are_written_as_small_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = open_alpha(tmp_path, MEMBERS)
    root = tmp_path / "out"
    trees = []
    for large in (members.LARGE, 1):
        monkeypatch.setattr(members, "LARGE", large)
        root.mkdir()
        unpack(root, artifact)
        files = [path for path in root.rglob("*") if path.is_file()]
        trees.append({path: (path.read_bytes(), path.stat().st_mode) for path in files})
        shutil.rmtree(root)
    assert trees[0] == trees[1]


class LastFirst:
    """Threads are free to begin with any file. Here the last one is written first, when the first
    is awaited."""

    def __init__(self, _: int) -> None:
        self._waiting: List[Callable[[], None]] = []

    def __enter__(self) -> LastFirst:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, *call: Any) -> LastFirst:
        self._waiting.append(partial(*call))
        return self

    def result(self) -> None:
        while self._waiting:
            self._waiting.pop()()


def test_of_a_large_file_of_two_wheels_the_last_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack_module, "ThreadPoolExecutor", LastFirst)
    monkeypatch.setattr(members, "LARGE", 1)
    wheels = []
    for name in ("alpha", "beta"):
        path = make_wheel(
            tmp_path,
            {"shared/lib.so": name},
            filename=f"{name}-1.0-py3-none-any.whl",
            metadata=f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            dist_info=f"{name}-1.0.dist-info",
        )
        wheels.append((Step(Action.ADD, canonicalize_name(name), "1.0"), open_wheel(path)))
    with Unpacking(wheels, destination_at(tmp_path), compile_bytecode=False):
        pass
    assert (tmp_path / SITE / "shared" / "lib.so").read_text() == "beta"


def test_bytecode_belongs_to_the_wheel_of_its_module() -> None:
    compiled = frozenset({"s/__pycache__/a.cpython-311.pyc", "s/p/__pycache__/a.b.cpython-311.pyc"})
    assert find_bytecode(["/s/a.py"], compiled) == ["/s/__pycache__/a.cpython-311.pyc"]
    assert find_bytecode(["/s/p/a.b.py"], compiled) == ["/s/p/__pycache__/a.b.cpython-311.pyc"]
    assert find_bytecode(["/s/p/a.py", "/s/a"], compiled) == []


def test_the_address_that_is_kept_has_no_secret() -> None:
    info = {
        "url": "https://host/x.whl?token=secret&a=b",
        "archive_info": {"hash": "sha256=aa"},
        "other": 1,
    }
    assert json.loads(render_direct_url(info)) == {
        "url": "https://host/x.whl?token=****&a=b",
        "archive_info": {"hash": "sha256=aa"},
    }
