"""How ordinary wheels come: pip plans them, we fetch them. Real pip, environment and server."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.functional.conftest import Environment, check, make_once, run_process

BIG = 256 * 2**20  # bytes
ROOM = 128 * 2**20  # for all processes of an install: half of the wheel


def make_wheel(name, *, requires=(), size=1000):
    """A wheel whose largest member is stored as it is."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": b"x = 1\n",
        f"{name}.bin": bytes(size),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(content)}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue(), metadata.encode()


def put(host, name, **options):
    """A project on the index of the host, as pypi.org serves one: with METADATA beside the file."""
    wheel, metadata = make_wheel(name, **options)
    filename = f"{name}-1.0-py3-none-any.whl"
    host.put(f"/own/{filename}", wheel)
    host.put(f"/own/{filename}.metadata", metadata)
    promised = hashlib.sha256(metadata).hexdigest()
    page = (
        f'<a href="{host.url}/own/{filename}#sha256={hashlib.sha256(wheel).hexdigest()}" '
        f'data-core-metadata="sha256={promised}">{filename}</a>'
    )
    host.put(f"/pypi/simple/{name}/", page.encode(), content_type="text/html")


@pytest.fixture(scope="session")
def new_pip(shared: Path) -> Path:
    """A folder with a pip that plans by METADATA and downloads no wheels: pip 25.1 or newer."""

    def fetch(folder: Path) -> None:
        folder.mkdir()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        check([*command, "--dest", str(folder), "pip>=25.1"], dict(os.environ))
        (wheel,) = folder.glob("pip-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()

    return make_once(shared / "new-pip", fetch)


@pytest.fixture
def environment(make_environment, host, new_pip) -> Environment:
    made = make_environment(
        "3.11",
        with_pip=False,
        PIP_INDEX_URL=host.index_url,
        PIP_NO_INDEX="0",
        PIP_FIND_LINKS="",
        PIP_NO_CACHE_DIR="1",
    )
    for folder in new_pip.iterdir():
        shutil.copytree(folder, made.site / folder.name)
    return made


def installed(environment):
    """What lies there, but for what every environment has."""
    found = [path.stem for path in environment.site.glob("*.dist-info")]
    return sorted(name for name in found if name.startswith("demo"))


def test_wheels_that_pip_planned_are_fetched_once_and_together(environment, host):
    names = [f"demo{number}" for number in range(1, 6)]
    put(host, "demo0", requires=names)
    for name in names:
        put(host, name)
    host.misbehave(".whl ", "slow")
    done = environment.safe_install("demo0")
    assert done.returncode == 0, done.stderr
    assert installed(environment) == [f"demo{number}-1.0" for number in range(6)]
    asked = [path for path in host.asked(".whl") if not path.endswith(".metadata")]
    assert len(asked) == len(set(asked)) == 6
    assert host.most_slow >= 4
    assert "Successfully installed demo0-1.0 demo1-1.0" in done.stdout


@pytest.mark.long
def test_what_we_are_refused_pip_is_asked_for(environment, host):
    """A host may want what only pip knows to give; and what pip says of it is what people know."""
    put(host, "demo")
    host.misbehave(".whl ", "404", times=1)
    done = environment.safe_install("demo")
    assert done.returncode == 0, done.stderr
    assert installed(environment) == ["demo-1.0"]
    environment.safe_install("uninstall", "-y", "demo")
    host.misbehave(".whl ", "404")
    done = environment.safe_install("demo")
    assert done.returncode == 1
    assert "404" in done.stderr
    assert installed(environment) == []


def test_what_pip_has_downloaded_is_not_downloaded_again(environment, host, tmp_path):
    put(host, "demo")
    # of what came over plain http pip keeps only the files of hosts that are trusted
    cache = {
        "PIP_NO_CACHE_DIR": "",
        "PIP_CACHE_DIR": str(tmp_path / "pip"),
        "PIP_TRUSTED_HOST": "127.0.0.1",
    }
    done = environment.pip("download", "-d", str(tmp_path / "wheels"), "demo", **cache)
    assert done.returncode == 0, done.stderr
    host.requests.clear()
    assert environment.safe_install("demo", **cache).returncode == 0
    assert installed(environment) == ["demo-1.0"]
    assert not [path for path in host.asked(".whl") if path.endswith(".whl")]


def test_a_file_that_is_not_the_promised_one_changes_nothing(environment, host):
    put(host, "demo")
    before = environment.tree()
    host.answers["/own/demo-1.0-py3-none-any.whl"].body = b"something else"
    done = environment.safe_install("demo")
    assert (done.returncode, environment.tree()) == (11, before)
    assert "sha256" in done.stderr and "demo-1.0" in done.stderr


# The most memory of a process is that of whoever started it, too: so it is started by a small one.
MEASURE = """
import os, sys
process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "safe_install", "big"])
_, status, used = os.wait4(process, 0)
print(os.WEXITSTATUS(status), used.ru_maxrss * 1024)
"""


@pytest.mark.long
def test_no_wheel_is_held_in_memory(environment, host):
    put(host, "big", size=BIG)
    command = [sys.executable, "-c", MEASURE]
    done = run_process(command, environment.variables, cwd=environment.prefix.parent)
    status, used = map(int, done.stdout.splitlines()[-1].split())
    assert status == 0, done.stderr
    assert (environment.site / "big.bin").stat().st_size == BIG
    assert used < ROOM
