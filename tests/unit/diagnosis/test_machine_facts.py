"""Programs on PATH, links to no interpreter."""

from __future__ import annotations

import os
import sys

import pytest

from safe_install.diagnosis import machine_facts
from safe_install.diagnosis.disk_facts import (
    find_closed,
    find_foreign_wheels,
    find_lock_files,
    find_lost_archives,
    find_lost_sources,
    find_metadata,
    find_other_pythons,
    find_unreadable,
    find_unwritable,
)
from safe_install.diagnosis.facts import LockFile, LostSource, OtherPython
from safe_install.diagnosis.machine_facts import (
    find_broken,
    find_lost_settings,
    find_programs,
    find_unreadable_settings,
    find_working_folder,
)
from safe_install.models import Scheme
from tests.factories import make_distribution, make_interpreter


def put_program(folder, name, first_lines):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(first_lines)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "interpreter"),
    [
        ("#!/opt/python/bin/python\n", "/opt/python/bin/python"),
        ("#!/opt/python/bin/python -I\n", "/opt/python/bin/python"),
        (
            "#!/bin/sh\n'''exec' '/opt/with space/bin/python' \"$0\" \"$@\"\n' '''\n",
            "/opt/with space/bin/python",
        ),
        ("#!/bin/sh\n'''exec' /opt/p/bin/python \"$0\" \"$@\"\n", "/opt/p/bin/python"),
        ("#!/bin/sh\n'''exec' 'odd\n", None),
        ("#!/usr/bin/env bash\n", None),
        ("#!\n", None),
        ("\x7fELF", None),
    ],
)
def test_what_a_script_is_started_with(tmp_path, text, interpreter):
    path = put_program(tmp_path / "bin", "pip", text)
    (program,) = find_programs({"PATH": str(path.parent)})
    assert (program.name, program.path) == ("pip", path)
    assert program.interpreter == (interpreter and type(path)(interpreter))
    assert program.own_folder == path.parent.resolve()
    assert (program.folder is None) == (interpreter is None)


def test_a_python_is_its_own_interpreter(tmp_path):
    path = put_program(tmp_path / "bin", "python", "")
    (program,) = find_programs({"PATH": str(path.parent)})
    assert program.folder == program.own_folder == path.parent.resolve()


# --- links to nowhere -----------------------------------------------------------------------------


@pytest.fixture
def prefix(tmp_path):
    prefix = tmp_path / "env"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python3").symlink_to(tmp_path / "gone" / "python3")
    (prefix / "bin" / "python").symlink_to("python3")
    (prefix / "pyvenv.cfg").write_text("home = /usr\nversion = 3.11.7\n")
    return prefix


@pytest.mark.parametrize("named", ["--python", "folder", "VIRTUAL_ENV", "CONDA_PREFIX"])
def test_a_link_to_an_interpreter_that_is_gone(prefix, named):
    python = {"--python": str(prefix / "bin" / "python"), "folder": str(prefix)}.get(named)
    variables = {} if python else {named: str(prefix)}
    link, problem = find_broken(python, variables)
    assert link == prefix / "bin" / "python"
    assert f"is a link to {prefix.parent}/gone/python3, which is not there" in problem.message
    assert problem.hint.endswith(f"python3.11 -m venv --upgrade {prefix}")


def test_an_environment_without_pyvenv_cfg(prefix):
    (prefix / "pyvenv.cfg").unlink()
    _, problem = find_broken(str(prefix), {})
    assert f"python3 -m venv --upgrade {prefix}" in problem.hint


def test_what_is_there_is_not_broken(prefix, tmp_path):
    assert find_broken(None, {}) is None
    assert find_broken(sys.executable, {"VIRTUAL_ENV": str(prefix)}) is None
    assert find_broken(str(tmp_path / "nothing"), {}) is None


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_the_active_environment_was_moved(tmp_path, variable):
    gone = tmp_path / "gone"
    executable, problem = find_broken(None, {variable: str(gone)})
    assert executable == gone / "bin" / "python"
    assert problem.message.startswith(f"{variable} is {gone}, which is not there")
    assert problem.hint.endswith(f"unset {variable}.")
    assert find_broken(sys.executable, {variable: str(gone)}) is None, "another one is meant"


@pytest.fixture
def unmarked(tmp_path):
    """A virtual environment without pyvenv.cfg, and its Python, which takes itself for another."""
    folder = tmp_path / "venv"
    (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "activate").write_text("")
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder, make_interpreter(version="3.11.7", prefix=tmp_path)


def test_a_virtual_environment_that_lost_its_settings(unmarked):
    folder, interpreter = unmarked
    problem = find_lost_settings(folder / "bin" / "python", interpreter)
    assert problem.message.startswith(f"{folder}/pyvenv.cfg is gone")
    assert problem.hint == f"{os.path.realpath(sys.executable)} -m venv --without-pip {folder}"


def test_a_folder_in_the_place_of_its_settings(unmarked):
    folder, interpreter = unmarked
    (folder / "pyvenv.cfg").mkdir()
    problem = find_lost_settings(folder / "bin" / "python", interpreter)
    assert problem.message.startswith(f"{folder}/pyvenv.cfg is no file")
    assert problem.hint.startswith(f"rm -r {folder}/pyvenv.cfg && ")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (os.mkfifo, "it is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no file"),
        (lambda path: write_sparse(path, 5_000_000_000), "File too large"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "can't decode byte"),
        (lambda path: path.write_text("home = /usr/bin\n"), None),
        (lambda path: None, None),
    ],
)
def test_settings_that_nobody_can_read(tmp_path, make, fault):
    settings = tmp_path / "pyvenv.cfg"
    make(settings)
    problem = find_unreadable_settings(tmp_path / "bin" / "python")
    assert (problem is None) is (fault is None)
    if problem is not None:
        assert f"{settings} is no text" in problem.message
        assert fault in problem.message


def write_sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("other", ["settings", "no activate", "no packages", "its own prefix"])
def test_what_is_no_virtual_environment_without_settings(unmarked, other):
    folder, interpreter = unmarked
    if other == "settings":
        (folder / "pyvenv.cfg").write_text("")
    elif other == "no activate":
        (folder / "bin" / "activate").unlink()
    elif other == "no packages":
        interpreter = make_interpreter(version="3.12.1", prefix=interpreter.prefix)
    else:
        interpreter = make_interpreter(version="3.11.7", prefix=folder)
    assert find_lost_settings(folder / "bin" / "python", interpreter) is None


# --- what lies on the disk ------------------------------------------------------------------------


def test_metadata_folders_of_every_kind(tmp_path):
    for name in ("alpha-1.0", "Zope.Beta-2.0", "~orch-1.0", "odd"):
        (tmp_path / f"{name}.dist-info").mkdir()
    (tmp_path / "alpha-1.0.dist-info" / "METADATA").write_text("Name: alpha\nVersion: 1.0\n")
    os.mkfifo(tmp_path / "Zope.Beta-2.0.dist-info" / "METADATA")
    (tmp_path / "gamma-1.0.dist-info" / "METADATA").mkdir(parents=True)
    found = find_metadata([tmp_path, tmp_path / "nothing"])
    told = [(folder.name, folder.version, folder.is_readable) for folder in found]
    assert told == [("zope-beta", "2.0", False), ("alpha", "1.0", True), ("gamma", "1.0", False)]
    assert found[0].site == tmp_path.resolve()


def test_folders_that_are_read_and_those_that_are_not_there(tmp_path):
    assert find_unreadable([tmp_path, tmp_path / "nothing"]) == ()


@pytest.mark.parametrize(
    ("place", "name", "tool"),
    [
        (".venv", "uv.lock", "uv"),
        (".venv", "poetry.lock", "poetry"),
        (".venv", "pdm.lock", "pdm"),
        (".pixi/envs/default", "pixi.lock", "pixi"),
        ("env", "uv.lock", None),
        (".venv", "pixi.lock", None),
        (".pixi/envs/default", "uv.lock", None),
    ],
)
def test_lock_files_beside_an_environment(tmp_path, place, name, tool):
    (tmp_path / name).write_text("")
    expected = (LockFile(tmp_path / name, tool),) if tool else ()
    assert find_lock_files(tmp_path / place) == expected


def test_editable_installs_whose_folder_is_gone(tmp_path):
    def editable(name, folder, **fields):
        url = {"url": f"file://{folder}", "dir_info": {"editable": True}}
        return make_distribution(name, "1.0", editable=True, direct_url=url, **fields)

    gone = tmp_path / "gone"
    there = editable("there", tmp_path)
    elsewhere = make_distribution("link", "1.0", editable=True)
    archive = make_distribution("archive", "1.0", direct_url={"url": f"file://{gone}"})
    found = find_lost_sources([there, editable("lost", gone), elsewhere, archive])
    assert found == (LostSource("lost", "1.0", gone),)


# --- the ways to the hosts ------------------------------------------------------------------------


@pytest.fixture
def closed(monkeypatch):
    """Nothing listens on port 9, and all else does; which places were asked."""
    asked = []

    def is_closed(place):
        asked.append(place)
        return place[1] == 9

    monkeypatch.setattr(machine_facts, "_is_closed", is_closed)
    return asked


def test_addresses_of_this_machine_are_asked_once_and_no_other_is(closed):
    variables = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "http_proxy": "localhost:9",
        "ALL_PROXY": "socks5://proxy.example:1080",
        "NO_PROXY": "127.0.0.1:9",
    }
    settings = {
        "index-url": "https://pypi.org/simple",
        "extra-index-url": "http://localhost:3141/simple http://127.0.0.1:9/simple",
        "find-links": "/wheels",
        "proxy": "http://[::1",
    }
    found = machine_facts.find_closed_ports(variables, settings)
    assert [(one.setting, one.address) for one in found] == [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "localhost:9"),
        ("extra-index-url", "http://127.0.0.1:9/simple"),
    ]
    assert closed == [("127.0.0.1", 9), ("localhost", 9), ("localhost", 3141)]


def test_a_port_that_is_not_written_is_that_of_the_scheme(closed):
    machine_facts.find_closed_ports({"ALL_PROXY": "socks5://localhost"}, {"proxy": "localhost"})
    assert closed == [("localhost", 1080), ("localhost", 80)]


def test_certificates(tmp_path):
    variables = {"SSL_CERT_FILE": str(tmp_path), "CURL_CA_BUNDLE": "/gone.pem", "SSL_CERT_DIR": ""}
    assert machine_facts.find_lost_certificates(variables) == {"CURL_CA_BUNDLE": "/gone.pem"}


# --- what came from this machine, and what was there for another Python ---------------------------


def test_files_that_something_was_installed_from(tmp_path):
    here = tmp_path / "a b.whl"
    here.write_bytes(b"PK")
    sources = {
        "here": {"url": here.as_uri()},
        "gone": {"url": "file:///gone.whl"},
        "elsewhere": {"url": "https://example.org/gone.whl"},
    }
    installed = [make_distribution("plain", "1.0")]
    installed += [make_distribution(name, "1.0", direct_url=url) for name, url in sources.items()]
    assert find_lost_archives(installed) == {"gone"}


def test_packages_for_another_Python(tmp_path):
    own, other = (tmp_path / f"lib/python3.{minor}/site-packages" for minor in (11, 10))
    for folder, names in ((own, ["alpha-1"]), (other, ["torch-2.1", "Py_Yaml-6", "torch-2.0"])):
        for name in names:
            (folder / f"{name}.dist-info").mkdir(parents=True)
    (tmp_path / "lib/python3.9/site-packages").mkdir(parents=True)
    fields = {"prefix": tmp_path, "paths": (own,)}
    assert find_other_pythons(make_interpreter(**fields)) == (
        OtherPython(other, "3.10", ("py-yaml", "torch")),
    )
    assert find_other_pythons(make_interpreter(**fields, base_prefix=tmp_path)) == ()


@pytest.mark.parametrize(
    ("written", "made_for"),
    [
        (["cp311-cp311-manylinux_2_28_x86_64"], None),
        (["cp38-abi3-linux_x86_64"], None),
        (["py2-none-any", "py3-none-any"], None),
        (["py2.py3-none-any"], None),
        (["py3-none-manylinux2014_x86_64"], None),
        (["cp310-cp310-linux_x86_64"], "Python 3.10"),
        (["cp310-cp310-linux_x86_64", "cp311-cp311-linux_x86_64"], None),
        (["cp311-cp311-manylinux_2_28_aarch64"], "manylinux_2_28_aarch64"),
        (["cp311-cp311-macosx_11_0_arm64"], "macosx_11_0_arm64"),
        (["cp311-cp311-macosx_11_0_x86_64"], "macosx_11_0_x86_64"),
        (["odd"], None),
        ([], None),
    ],
)
def test_wheels_of_another_Python_or_machine(tmp_path, written, made_for):
    (tmp_path / "WHEEL").write_text("".join(f"Tag: {tag}\n" for tag in written))
    alpha = make_distribution("alpha", "1.0", metadata_path=tmp_path)
    found = find_foreign_wheels([alpha], make_interpreter())
    assert [one.made_for for one in found] == ([made_for] if made_for else [])


def test_folders_of_a_narrow_umask(tmp_path, monkeypatch):
    for name in ("torch", "torch-2.13.0.dist-info", "alpha", "beta-1.0.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "torch-2.0.dist-info").write_text("a file")
    monkeypatch.setattr("os.access", lambda path, mode: path.name == "beta-1.0.dist-info")
    closed = find_closed([tmp_path, tmp_path / "gone"])
    assert [path.name for path in closed] == ["torch", "torch-2.13.0.dist-info"]


@pytest.mark.parametrize("fields", [{"editable": True}, {"installer": "conda"}])
def test_wheels_that_nobody_promised_anything_of(tmp_path, fields):
    (tmp_path / "WHEEL").write_text("Tag: cp310-cp310-linux_x86_64\n")
    alpha = make_distribution("alpha", "1.0", metadata_path=tmp_path, **fields)
    nothing = make_distribution("beta", "1.0", metadata_path=tmp_path / "gone")
    assert find_foreign_wheels([alpha, nothing], make_interpreter()) == ()


def test_the_working_folder_and_one_that_was_removed(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert find_working_folder() == folder.resolve()
    folder.rmdir()
    assert find_working_folder() is None


@pytest.mark.parametrize(
    ("closed", "found"), [((), ()), (("torch",), ("torch",)), (("", "torch"), ("",))]
)
def test_folders_that_this_user_may_not_write_to(tmp_path, monkeypatch, closed, found):
    (tmp_path / "torch").mkdir()
    shut = {tmp_path / name for name in closed}
    # As for another user than root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path not in shut)
    scheme = Scheme(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path)
    assert find_unwritable(scheme) == tuple(tmp_path / name for name in found)
