"""A real pip on tiny local wheels: resolve, fetch; and what it says when it fails."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest

from safe_install.environment.interpreter import read_environment
from safe_install.errors import PipFailed
from safe_install.system import pip, pip_command

FOREIGN = ("PIP_", "SAFE_INSTALL_", "VIRTUAL_ENV", "PYTHONPATH")


def make_wheel(folder, name, version, requires=()):
    """A wheel with one module, one script and a valid RECORD."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-tool = {name}:main\n",
    }
    rows = [f"{path},sha256={digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return path


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def interpreter():
    found = read_environment(Path(sys.executable), None).interpreter
    if pip_command.select_pip(found, None) is None and pip_command.find_own_pip(found) is None:
        pytest.skip("no pip 23 beside this Python")
    return found


@pytest.fixture
def runner(interpreter, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return pip.PipRunner(interpreter, cache_dir=tmp_path / "cache")


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, version, requires in (
        ("tinyone", "1.0", ()),
        ("tinyone", "2.0", ()),
        ("tinytwo", "1.0", ("tinyone>=1",)),
        ("tinyodd", "1.0", ("tinyone>=3",)),
    ):
        make_wheel(folder, name, version, requires)
    return folder


class Lines(list):
    """What a reader was given."""

    def __call__(self, line):
        self.append(line)


def names_of(report):
    return {(item["metadata"]["name"], item["metadata"]["version"]) for item in report["install"]}


def dry_run(runner, arguments, **options):
    out, err = Lines(), Lines()
    options = {"constraints": (), "find_links": (), **options}
    report = runner.dry_run(arguments, on_output=out, on_error=err, **options)
    return report, out, err


def test_a_dry_run_under_constraints(runner, wheels, tmp_path):
    arguments = ["--no-index", "tinytwo"]
    report, out, _ = dry_run(runner, arguments, find_links=[wheels])
    assert names_of(report) == {("tinytwo", "1.0"), ("tinyone", "2.0")}
    assert out[-1].startswith("Would install ")
    assert not any(line.endswith("\n") for line in out)
    report, _, _ = dry_run(runner, arguments, find_links=[wheels], constraints=["tinyone==1.0"])
    assert names_of(report) == {("tinytwo", "1.0"), ("tinyone", "1.0")}
    assert not runner.interpreter.scheme.purelib.joinpath("tinyone").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--no-index", "tinymissing"], 1, "tinymissing"),
        (["--no-index", "tinyodd"], 1, "tinyone>=3"),
        (["--no-such-option", "tinyone"], 2, "--no-such-option"),
    ],
)
def test_a_failure_carries_pips_words_and_its_status(arguments, status, said, runner, wheels):
    out, err = Lines(), Lines()
    with pytest.raises(PipFailed) as caught:
        runner.dry_run(arguments, constraints=(), find_links=[wheels], on_output=out, on_error=err)
    assert caught.value.exit_status == status
    assert said in caught.value.output
    assert caught.value.message.startswith("pip could not resolve the requirements: ")
    assert any(said in line for line in err)


def test_the_persons_variables_are_pips_to_honour_less_those_that_lead_elsewhere(
    runner, wheels, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_REPORT", str(tmp_path / "report"))
    report, _, _ = dry_run(runner, ["tinyone"])
    assert names_of(report) == {("tinyone", "2.0")}
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_fetch_brings_just_the_lines_that_were_named(runner, wheels, tmp_path, monkeypatch):
    (tmp_path / "more.txt").write_text("tinyodd\n")
    monkeypatch.setenv("PIP_REQUIREMENT", str(tmp_path / "more.txt"))
    target = tmp_path / "fetched"
    chosen = wheels / "tinyone-1.0-py3-none-any.whl"
    sha256 = hashlib.sha256(chosen.read_bytes()).hexdigest()
    lines = [f"tinyone @ {chosen.as_uri()} --hash=sha256:{sha256}"]
    runner.fetch(lines, target, options=["--no-index"], on_line=Lines())
    assert [path.name for path in target.iterdir()] == [chosen.name]
    assert next(target.iterdir()).read_bytes() == chosen.read_bytes()


def test_fetch_refuses_other_bytes(runner, wheels, tmp_path):
    chosen = wheels / "tinyone-1.0-py3-none-any.whl"
    line = f"tinyone @ {chosen.as_uri()} --hash=sha256:{'0' * 64}"
    with pytest.raises(PipFailed) as caught:
        runner.fetch([line], tmp_path / "fetched", options=["--no-index"], on_line=Lines())
    assert "HASH" in caught.value.output.upper()


def test_a_carried_pip_is_unpacked_once(interpreter, wheels, tmp_path):
    if interpreter.ensurepip_wheel is None:
        pytest.skip("this Python carries no pip wheel")
    bare = dataclasses.replace(interpreter, pip_version=None)
    chosen = pip_command.select_pip(bare, None)
    if chosen is None:
        pytest.skip("the carried pip is too old")
    runner = pip.PipRunner(bare, cache_dir=tmp_path / "cache")
    folder = Path(runner.pip.command[1])
    assert runner.pip.origin == "ensurepip"
    assert folder.is_dir()
    before = folder.stat().st_mtime_ns
    assert pip.PipRunner(bare, cache_dir=tmp_path / "cache").pip == runner.pip
    assert folder.stat().st_mtime_ns == before
    report, _, _ = dry_run(runner, ["--no-index", "tinyone"], find_links=[wheels])
    assert names_of(report) == {("tinyone", "2.0")}


def test_passthrough_ends_with_pips_status(runner, capfd):
    assert runner.passthrough(["--version"]) == 0
    assert capfd.readouterr().out.startswith("pip ")
    assert runner.passthrough(["no-such-command"]) == 1
    assert "no-such-command" in capfd.readouterr().err
    assert pip.passthrough(runner.interpreter.executable, ["--version"]) == 0
