"""The one-file form under the oldest and the newest Python: it answers, installs, and leaves
nothing of itself."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import zipfile

import pytest

from tests.functional.conftest import find_python

VERSIONS = ("3.8", pytest.param("3.13", marks=pytest.mark.long))


@pytest.fixture(params=VERSIONS)
def python(request):
    found = find_python(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} here")
    return found


@pytest.fixture(autouse=True)
def _cache(node_cache, monkeypatch):
    monkeypatch.setenv("SAFE_INSTALL_CACHE_DIR", str(node_cache))


def run(python, zipapp, *arguments, **variables):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")
    }
    environment.update(variables)
    command = [str(python), str(zipapp), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def digest_of(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def make_wheel(folder):
    """A pure wheel of one module."""
    members = {
        "tiny_thing.py": "ANSWER = 42\n",
        "tiny_thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n",
        "tiny_thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "tiny_thing-1.0.dist-info/RECORD"
    path = folder / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in members.items():
            wheel.writestr(name, text)
        rows = [f"{name},sha256={digest_of(text)},{len(text)}\n" for name, text in members.items()]
        wheel.writestr(record, "".join(rows) + f"{record},,\n")
    return path


def names_of(environment):
    return {path.name for path in environment.glob("lib/python*/site-packages/*")}


def test_says_its_version(zipapp, python):
    assert run(python, zipapp, "--version").startswith("safe-install 0.")


def test_speaks_chinese(zipapp, python):
    """The catalogue is in the wheel, and can be read in an archive."""
    english = run(python, zipapp, "doctor", "--list")
    assert "there is one triton" in english
    assert "只有一个 triton" in run(python, zipapp, "doctor", "--list", SAFE_INSTALL_LANGUAGE="zh")


def test_explains_a_machine_elsewhere_without_the_network(zipapp, python):
    text = run(
        python, zipapp, "explain", "torch-scatter", "--torch", "1.8.1+cu111", "--python-version", "3.8",
        "--platform", "linux_x86_64", "--offline", "--json",
    )  # fmt: skip
    (step,) = json.loads(text)["plan"]["steps"]
    assert step["url"].endswith(
        "/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
    )


def test_installs_and_leaves_nothing_of_its_own(zipapp, python, tmp_path):
    environment = tmp_path / "env"
    subprocess.run([str(python), "-m", "venv", str(environment)], check=True)
    inside = environment / "bin" / "python"
    before = names_of(environment)
    digest = hashlib.sha256(zipapp.read_bytes()).hexdigest()
    out = run(python, zipapp, "--python", inside, "install", "--no-index", make_wheel(tmp_path))
    assert "Successfully installed tiny-thing-1.0" in out
    assert f"{zipapp} --python {inside} undo" in out
    assert names_of(environment) - before == {
        "tiny_thing.py",
        "tiny_thing-1.0.dist-info",
        "__pycache__",
    }
    answer = subprocess.run(
        [str(inside), "-c", "import tiny_thing; print(tiny_thing.ANSWER)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "42\n"
    run(python, zipapp, "--python", inside, "undo")
    assert names_of(environment) - {"__pycache__"} == before - {"__pycache__"}
    assert hashlib.sha256(zipapp.read_bytes()).hexdigest() == digest
