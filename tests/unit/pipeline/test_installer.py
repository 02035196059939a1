"""pip as the installer: what it is shown of the person's words, and what its builds may write."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from safe_install.events import Reporter
from safe_install.pipeline.installer import PipInstaller, local_sources, make_protection
from safe_install.pipeline.session import Session
from safe_install.ports import Timings, World
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install
from tests.factories import make_environment


def request_of(*argv):
    return parse_install(split_words(argv), environ={}, configuration={}, read=lambda name: "")


def test_the_folders_of_sources_that_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("project", "other", "third", "six"):
        (tmp_path / name).mkdir()
    words = [
        "six",
        "./project[extra]",
        "-e",
        "./other",
        f"third @ {(tmp_path / 'third').as_uri()}",
        "git+https://h/x",
    ]
    assert sorted(path.name for path in local_sources(request_of(*words))) == [
        "other",
        "project",
        "third",
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("six", True),
        ("torch==2.13.0+cpu", True),
        ("./torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", True),
        ("torch @ https://h/whl/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", True),
        ("six @ git+ssh://git@h/six", False),
        ("git+https://h/six#egg=six", False),
    ],
)
def test_what_may_use_ssh_is_run_in_no_user_namespace(tmp_path, word, expected):
    protection = make_protection(request_of(word), make_environment(), tmp_path)
    assert protection.in_user_namespace == expected
    assert protection.folders


@pytest.mark.parametrize(
    ("words", "expected"), [(["--offline"], ["--no-index", "torch"]), ([], ["torch"])]
)
def test_offline_asks_no_index_for_the_torch_that_comes_either(tmp_path, words, expected):
    asked = []
    world = World({}, Reporter(), tmp_path / "cache")
    request = request_of(*words, "torch", "torch-scatter")
    installer = PipInstaller(Session(request, make_environment(), world, Timings(), tmp_path))
    installer._runner = SimpleNamespace(
        dry_run=lambda arguments, **options: asked.append(arguments) or {}
    )
    installer.plan(["torch"], constraints=(), find_links=())
    installer.plan_request(constraints=(), find_links=())
    assert asked[0] == expected
    assert ("--no-index" in asked[1]) == ("--offline" in words)
