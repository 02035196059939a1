"""The program as one file, and what a node does with a bundle: without network, by every verb."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from safe_install.errors import PipFailed
from safe_install.fleet.program import prepare_program
from tests.functional.conftest import (
    Environment,
    any_python,
    find_python,
    read_document,
    run_process,
)
from tests.functional.round_trips import WITHOUT_NETWORK

MACHINE = ("--python-version", any_python(), "--platform", f"manylinux_2_17_{platform.machine()}")


@pytest.fixture(scope="module")
def network():
    """How a process is started without one."""
    done = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False)
    return WITHOUT_NETWORK if done.returncode == 0 else ()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program of this installation, for this Python."""

    def fetch(lines):
        raise PipFailed("there is no index")

    folder = tmp_path_factory.mktemp("cache")
    made = prepare_program(folder, fetch)
    content = made.path.read_bytes()
    assert prepare_program(folder, fetch) == made
    made.path.unlink()
    assert prepare_program(folder, fetch).path.read_bytes() == content
    return made.path


def test_what_old_pythons_need_is_asked_once_and_the_failure_is_told(tmp_path):
    asked, told = [], []

    def fetch(lines):
        asked.append(lines)
        raise PipFailed("there is no index")

    for _ in range(2):
        prepare_program(tmp_path, fetch, told.append)
    assert len(asked) == 1
    assert len(told) == 2
    assert told[0].endswith("what older ones need cannot be had: there is no index")
    (failure,) = (tmp_path / "fleet").glob("*.failure")
    os.utime(failure, (0, 0))  # it is long ago
    prepare_program(tmp_path, fetch)
    assert len(asked) == 2


@pytest.fixture
def environment(make_environment, projects) -> Environment:
    found = make_environment("3.11")
    found.variables["PIP_FIND_LINKS"] += f" {projects}"
    return found


@pytest.fixture
def node(environment, program, network, node_cache):
    """Runs a verb as an engine does, where nothing of pip's configuration is there."""
    variables = {
        name: value
        for name, value in environment.variables.items()
        if not name.startswith(("PIP_", "SAFE_INSTALL_"))
    }
    variables["SAFE_INSTALL_CACHE_DIR"] = str(node_cache)

    def run(*words, by=(sys.executable, "-I", str(program))):
        command = [*network, *by, "--python", str(environment.executable), *words, "--json"]
        return read_document(run_process(command, variables, cwd=environment.prefix.parent))

    return run


def make_bundle(environment, *words):
    path = environment.prefix.parent / "FILE.zip"
    made = environment.document("bundle", *words, "-o", str(path))
    assert made["exit_code"] == 0, made
    return path


def test_every_verb_of_a_node(environment, node):
    before = environment.tree()
    path = make_bundle(environment, "alpha==2", "beta")
    inventory = node("inventory")
    assert inventory["details"]["tree"]["sha256"]
    staged = node("stage", "--bundle", str(path))
    assert (staged["exit_code"], staged["outcome"]) == (0, "staged"), staged
    identifier = staged["transaction"]
    assert environment.tree() == before
    assert node("stage", "--bundle", str(path))["transaction"] == identifier
    assert node("status", identifier)["details"]["changes"][0]["fits"] is True
    committed = node("commit", identifier)
    assert (committed["outcome"], committed["transaction"]) == ("installed", identifier)
    assert {"alpha==2", "beta==1"} <= set(environment.versions())
    assert node("stage", "--bundle", str(path))["outcome"] == "already-satisfied"
    assert node("verify")["outcome"] == "unhealthy"  # there is no torch

    removed = node("stage", "--remove", "alpha", "nothing")
    assert (removed["command"], removed["outcome"]) == ("stage", "staged"), removed
    assert [step["action"] for step in removed["plan"]["steps"]] == ["remove"]
    assert node("stage", "--remove", "alpha", "nothing")["transaction"] == removed["transaction"]
    assert "alpha==2" in environment.versions()
    assert node("commit", removed["transaction"])["exit_code"] == 0
    assert "alpha==2" not in environment.versions()
    assert node("stage", "--remove", "alpha")["outcome"] == "already-satisfied"
    assert node("undo", removed["transaction"])["outcome"] == "undone"
    assert node("undo", identifier)["outcome"] == "undone"
    assert environment.tree() == before

    again = node("stage", "--bundle", str(path), "beta")["transaction"]
    assert node("abandon", again)["outcome"] == "abandoned"
    assert environment.tree() == before


@pytest.mark.long
def test_a_bundle_without_what_is_there(environment, node):
    """The files of beta are those of its wheel; alpha is there in another version."""
    environment.document("install", "alpha==1", "beta")
    there = environment.prefix.parent / "there.json"
    there.write_text(json.dumps(node("inventory")))
    path = make_bundle(environment, "alpha==2", "beta", "--installed", str(there))
    checked = environment.document("check-bundle", str(path))
    assert [wheel["name"] for wheel in checked["details"]["bundle"]["wheels"]] == ["alpha"]
    staged = node("stage", "--bundle", str(path))
    assert node("commit", staged["transaction"])["exit_code"] == 0
    assert {"alpha==2", "beta==1"} <= set(environment.versions())
    there.write_text(json.dumps(node("inventory")))
    full = environment.prefix.parent / "full.zip"
    words = ("bundle", "alpha==2", "beta", "-o", str(full), "--installed", str(there))
    assert environment.document(*words)["outcome"] == "already-satisfied"
    there.write_text("{}")
    assert environment.document(*words)["exit_code"] == 1
    assert not full.exists()


@pytest.mark.long
def test_a_bundle_stages_itself(environment, node):
    path = make_bundle(environment, "alpha==1")
    staged = node("stage", "--ttl", "1h", by=(str(environment.executable), str(path)))
    assert (staged["exit_code"], staged["outcome"]) == (0, "staged"), staged
    assert node("commit", staged["transaction"])["exit_code"] == 0
    assert "alpha==1" in environment.versions()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*MACHINE, "--torch", "1.8.1+cu111", "alpha"), "was made for torch 1.8.1+cu111"),
        (("--python-version", "3.12", *MACHINE[2:], "alpha"), "is for Python 3.12"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(environment, node, words, told):
    path = make_bundle(environment, *words)
    before = environment.tree()
    refused = node("stage", "--bundle", str(path))
    assert (refused["exit_code"], refused["outcome"]) == (11, "refused")
    assert told in refused["error"]["message"]
    assert environment.tree() == before


def test_a_bundle_that_is_damaged_or_not_there(environment, node):
    path = make_bundle(environment, "alpha==1")
    content = bytearray(path.read_bytes())
    content[content.index(b"version = 1") + 10] ^= 1
    path.write_bytes(content)
    refused = node("stage", "--bundle", str(path))
    assert (refused["exit_code"], refused["error"]["code"]) == (11, "bundle-invalid")
    assert node("stage", "--bundle", "/nowhere.zip")["exit_code"] == 1
    assert node("stage", "--bundle", str(path), "--index-url", "https://h")["exit_code"] == 2


def test_a_python_that_is_too_old_for_the_program(program):
    python = find_python("3.6")
    if python is None:
        pytest.skip("no Python 3.6 here")
    done = run_process([python, "-I", str(program), "--version"], {})
    assert "safe-install needs Python" in done.stderr
    assert Path(program).suffix == ".pyz"
