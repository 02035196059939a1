"""What is a wheel file, which torch it is held against, and what its name says of this machine."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag

from safe_install.commands import check_wheel
from safe_install.commands.check_wheel import (
    _check_tags,
    _is_fitting,
    _is_python_fitting,
    _probe,
    _wheel_file,
)
from safe_install.errors import Refused, UsageError
from safe_install.events import Reporter
from safe_install.models import Severity
from safe_install.ports import World
from safe_install.resolve.own_options import OwnOptions
from safe_install.wheels.archive import open_wheel
from tests.factories import make_environment, make_interpreter, planned_torch
from tests.unit.wheels.crafted import FILENAME, make_wheel

HERE = make_environment(torch="2.13.0+cpu")
WITHOUT = make_environment()


@pytest.mark.parametrize("as_address", [False, True])
def test_a_file_is_named_by_its_path_or_its_address(as_address, tmp_path):
    path = make_wheel(tmp_path)
    assert _wheel_file(path.as_uri() if as_address else str(path)) == path


@pytest.mark.parametrize(
    ("name", "message"), [("x.whl", "is not there"), ("x.zip", "is no wheel"), (".", "is no wheel")]
)
def test_what_is_no_wheel_file(name, message, tmp_path):
    (tmp_path / "x.zip").touch()
    with pytest.raises(UsageError, match=message):
        _wheel_file(str(tmp_path / name))


@pytest.mark.parametrize(
    ("here", "folder", "torch"),
    [(HERE, None, "2.13.0+cpu"), (HERE, "/t", "2.12.0"), (WITHOUT, "/t", "2.12.0")],
)
def test_the_torch_is_the_installed_one_or_the_unpacked_one_that_was_named(
    here, folder, torch, tmp_path, monkeypatch
):
    unpacked = planned_torch("2.12.0", "linux_x86_64")
    monkeypatch.setattr(check_wheel, "probe_environment", lambda own, world: here)
    monkeypatch.setattr(check_wheel, "read_torch_dir", lambda path, interpreter: (path, unpacked))
    world = World({}, Reporter(), tmp_path)
    environment, found, place = _probe(world, OwnOptions(), folder)
    assert found.runtime_version.startswith(torch)
    assert environment.torch == found
    assert str(place) == str(folder)


def test_without_a_torch_there_is_nothing_to_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(check_wheel, "probe_environment", lambda own, world: WITHOUT)
    with pytest.raises(Refused, match="torch is not installed for /env/bin/python") as caught:
        _probe(World({}, Reporter(), tmp_path), OwnOptions(), None)
    assert "--torch-dir" in caught.value.hint


@pytest.mark.parametrize(
    ("tags", "fits"),
    [("cp311-cp311-linux_x86_64", True), ("cp310-cp310-linux_x86_64", False), ("", False)],
)
def test_a_wheel_for_another_python_is_an_error(tags, fits, tmp_path):
    interpreter = make_interpreter(tags=tuple(parse_tag(tags)) if tags else ())
    here = dataclasses.replace(HERE, interpreter=interpreter)
    found = _check_tags(open_wheel(make_wheel(tmp_path)), here)
    assert [(one.check, one.severity) for one in found] == (
        [] if fits else [("wheel-tag", Severity.ERROR)]
    )
    if not fits:
        assert found[0].detail == (
            f"{FILENAME} is for cp311-cp311-linux_x86_64, which Python 3.11.7 on linux_x86_64 "
            "is not"
        )


@pytest.mark.parametrize(
    ("wanted", "version", "fits"),
    [("x>=2", "2.1", True), ("x>=2", "1.9", False), ("x>=2", "a vendor's own", True)],
)
def test_a_version_that_nobody_can_compare_is_nothing_against_it(wanted, version, fits):
    assert _is_fitting(Requirement(wanted), version) is fits


@pytest.mark.parametrize(
    ("wanted", "fits"), [(">=3.8", True), (">=3.12", False), (">=three", True)]
)
def test_a_requirement_on_python_that_cannot_be_read_is_passed_over(wanted, fits):
    """As pip does."""
    assert _is_python_fitting(wanted, "3.11.7") is fits
