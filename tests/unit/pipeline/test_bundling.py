"""The plan of a bundle: how pip is told of another machine, and what the install there asks for."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.models import Action, Link, Origin, Step
from safe_install.pipeline.bundling import (
    Machines,
    _refuse_sources,
    _with_torch_alone,
    _without_torch,
    find_missing,
    list_requirements,
    machine_words,
)
from safe_install.resolve.bundle_request import parse_bundle
from safe_install.resolve.command_line import parse_command_line
from safe_install.system.pip_command import PipCommand, command_for_markers
from tests.factories import environment_for, make_distribution, make_environment
from tests.functional.conftest import base_python
from tests.lab.wheels import write_wheel


def elsewhere(platform="manylinux_2_28_x86_64", torch="2.8.0+cu126"):
    return environment_for(torch=torch, python_version="3.11", platform=platform)


def test_pip_is_told_of_the_machine():
    words = machine_words(elsewhere(), "/target")
    assert words[:8] == (
        "--target", "/target", "--only-binary", ":all:", "--implementation", "cp",
        "--python-version", "3.11",
    )  # fmt: skip
    platforms = words[9::2]
    assert set(words[8::2]) == {"--platform"}
    assert platforms[0] == "manylinux_2_28_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_5_x86_64", "linux_x86_64"} <= set(platforms)
    assert "manylinux_2_29_x86_64" not in platforms
    assert len(set(platforms)) == len(platforms)


def test_torch_alone_counts_as_installed():
    here = make_environment(
        make_distribution("numpy", "1.26.4"),
        make_distribution("torch", "2.13.0+cpu", requires=["numpy"]),
        torch="2.13.0+cpu",
    )
    (torch,) = _with_torch_alone(here).installed.values()
    assert (torch.name, torch.version, torch.requires) == ("torch", "2.13.0+cpu", ())
    (torch,) = _with_torch_alone(elsewhere()).installed.values()
    assert (torch.name, torch.version) == ("torch", "2.8.0+cu126")
    assert _with_torch_alone(elsewhere(torch=None)).installed == {}


def test_the_torch_that_was_shown_is_no_part_of_the_plan():
    report = {"version": "1", "install": [{"metadata": {"name": name}} for name in ("Torch", "x")]}
    assert _without_torch(report) == {"version": "1", "install": [{"metadata": {"name": "x"}}]}


@pytest.mark.parametrize(
    ("command", "place"),
    [(("/env/bin/python", "-m", "pip"), ""), (("/env/bin/python", "/cache/pip-26/pip"), "/cache/pip-26")],
)  # fmt: skip
def test_pip_runs_with_the_markers_of_the_machine(command, place):
    markers = elsewhere().interpreter.markers
    words = command_for_markers(PipCommand(command, Version("26.0"), "environment"), markers)
    assert words[:2] == ("/env/bin/python", "-c")
    assert json.loads(words[3]) == dict(markers)
    assert words[4] == place


def report_of(words, python, executable=sys.executable):
    """What pip itself says, told of a machine with this Python."""
    import subprocess

    markers = environment_for(torch=None, python_version=python, platform="linux_x86_64")
    command = command_for_markers(
        PipCommand((executable, "-m", "pip"), Version("26"), ""), markers.interpreter.markers
    )
    options = ["install", "--dry-run", "--quiet", "--no-index", "--report", "-", "--isolated"]
    done = subprocess.run([*command, *options, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def has_pip(executable):
    """The environment of the tests has one: it is where they were installed."""
    import subprocess

    question = "from importlib.util import find_spec; print(find_spec('pip') is not None)"
    done = subprocess.run([executable, "-c", question], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


@pytest.mark.real_process
def test_markers_are_those_of_the_machine():
    report = report_of(["not-there; python_version > '3.5'"], "3.5")
    assert report["install"] == []
    assert report["environment"]["python_version"] == "3.5"


@pytest.mark.real_process
@pytest.mark.parametrize(("python", "version"), [("3.6", "1.0"), ("3.99", "2.0")])
def test_what_a_file_requires_of_python_is_asked_of_the_machine(tmp_path, python, version):
    """Requires-Python stands in METADATA alone here, which pip reads after it has chosen."""
    for number, required in (("1.0", ">=3.5"), ("2.0", ">=3.99")):
        metadata = f"Requires-Python: {required}\n"
        write_wheel(tmp_path, "needs", number, {"needs.py": ""}, metadata=metadata)
    words = ["--find-links", str(tmp_path), "--target", str(tmp_path / "target"), "needs"]
    words += ["--only-binary", ":all:", "--python-version", python]
    # pip 23 asks its own Python; 26 does not. Debian's Python has no pip.
    for executable in filter(has_pip, (sys.executable, base_python())):
        (entry,) = report_of(words, python, executable)["install"]
        assert entry["metadata"]["version"] == version


def step(name, version="1.0", **fields):
    return Step(Action.ADD, name, version, **fields)


@pytest.mark.parametrize("origin", [Origin.SDIST, Origin.BUILT, Origin.REPOSITORY])
def test_what_is_built_here_goes_nowhere_else(origin):
    there = Machines(make_environment(), elsewhere(), is_elsewhere=True)
    steps = (step("a"), step("b", origin=origin))
    with pytest.raises(NoCandidate, match=r"b==1\.0 .*Python 3\.11, linux_x86_64 \(glibc 2\.28\)"):
        _refuse_sources(steps, there)
    _refuse_sources(steps[:1], there)
    _refuse_sources(steps, Machines(make_environment(), make_environment(), is_elsewhere=False))


def test_what_the_install_there_asks_for():
    words = ["-oF", "Idna>=3; python_version > '3'", "./wheels/b-1.0-py3-none-any.whl"]
    words += ["c @ https://h.example/c-2.0-py3-none-any.whl", "rich[jupyter]", "rich[jupyter]"]
    line = parse_command_line(["bundle", *words])
    request = parse_bundle(line.words, environ={}, configuration={}, read=str)
    steps = [
        step("idna", "3.1", requested=True),
        step("b", requested=True),
        step("c", "2.0", requested=True),
        step("d", requested=False),
        step("rich", requested=True),
    ]
    assert list_requirements(request, steps) == (
        'Idna>=3; python_version > "3"',
        "rich[jupyter]",
        "b==1.0",
        "c==2.0",
    )


def test_what_has_to_be_fetched():
    """Not what was chosen and brought, nor what the cache has; of what has no size nothing is
    known."""

    def step(name, url):
        return Step(Action.ADD, name, "1.0", url=url, sha256=name, origin=Origin.WHEEL)

    steps = (
        step("brought", "https://h/brought-1.0-py3-none-any.whl"),
        step("here", "https://h/here-1.0-py3-none-any.whl"),
        step("wanted", "https://h/wanted-1.0-py3-none-any.whl"),
        step("unknown", "https://h/unknown-1.0-py3-none-any.whl"),
        step("local", "file:///wheels/local-1.0-py3-none-any.whl"),
    )
    sizes = {"here": 10, "wanted": 100, "local": 1000}
    path = SimpleNamespace(stat=lambda: SimpleNamespace(st_size=10000))
    planned = SimpleNamespace(
        steps=steps,
        selected=SimpleNamespace(artifacts={"brought": SimpleNamespace(path=path)}),
        chooser=SimpleNamespace(
            read_index=lambda name: [Link("u", "f", sha256=name, size=sizes.get(name))],
            fetcher=SimpleNamespace(is_here=lambda link: "here" in link.url),
        ),
    )
    assert find_missing(planned) == 100
