"""Command lines of `sync`."""

from __future__ import annotations

import pytest

from safe_install.errors import InputError, UsageError
from safe_install.resolve.command_line import parse_command_line
from safe_install.snapshot.sync_request import parse_sync

FILES = {
    "r.txt": "--extra-index-url https://file/simple\nsix==1.0 --hash=sha256:aa",
    "pylock.toml": 'lock-version = "1.0"',
    "e.yml": "dependencies:\n- pip:\n  - six==1.0\n",
}


def sync(*argv, environ=None, configuration=None):
    def read(name):
        if name not in FILES:
            raise InputError(f"Could not open requirements file: {name}")
        return FILES[name]

    return parse_sync(
        parse_command_line(["sync", *argv]).words,
        environ=environ or {},
        configuration=configuration or {},
        read=read,
    )


def test_a_file():
    request = sync("r.txt")
    assert request.location == "r.txt"
    assert not request.changes_nothing and not request.keep_extra and not request.allow_empty
    assert [entry.text for entry in request.install.entries] == ["six==1.0"]
    assert request.install.require_hashes
    assert request.read("r.txt") == FILES["r.txt"]


def test_options_of_ours_and_of_pip():
    words = ["--check", "--keep-extra", "--allow-empty", "-i", "https://line/simple", "-q", "r.txt"]
    request = sync(*words, "--python", "env", "--offline")
    assert (request.check, request.keep_extra, request.allow_empty) == (True, True, True)
    assert (request.install.own.python, request.install.own.offline) == ("env", True)
    assert request.install.index_url == "https://line/simple"
    assert request.install.quiet == 1
    assert set(request.install.index_urls) == {"https://line/simple", "https://file/simple"}


@pytest.mark.parametrize("name", ["pylock.toml", "e.yml"])
def test_other_forms(name):
    request = sync(name, "--dry-run")
    assert request.changes_nothing and not request.check
    assert request.location == name


@pytest.mark.parametrize(
    ("words", "extras", "groups"),
    [
        (["pylock.toml"], "", ""),
        (["pylock.toml[gpu]"], "gpu", ""),
        (["pylock.toml [GPU, docs_x]"], "docs-x gpu", ""),
        (["pylock.toml", "--group", "Dev"], "", "dev"),
        (["--group", "./pylock.toml:dev", "pylock.toml[gpu]", "--group=test"], "gpu", "dev test"),
    ],
)
def test_extras_and_groups_of_a_lock_file(words, extras, groups):
    request = sync(*words)
    assert request.location == "pylock.toml"
    assert sorted(request.wanted.extras) == extras.split()
    assert sorted(request.wanted.groups) == groups.split()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["r.txt", "--group", "dev"],
        ["r.txt", "--group", "pylock.toml:dev"],
        ["pylock.toml", "--group", "other/pylock.toml:dev"],
        ["r.txt", "e.yml"],
        ["-r", "r.txt"],
        ["r.txt", "-U"],
        ["r.txt", "-c", "c.txt"],
        ["r.txt", "--target", "there"],
        ["r.txt", "-e", "."],
        ["r.txt", "--keep-extras"],
        ["none.txt"],
        ("r.txt", "--accelerator", "cpu"),
    ],
)
def test_what_is_not_understood(words):
    with pytest.raises(UsageError):
        sync(*words)


def test_a_place_in_the_configuration():
    with pytest.raises(UsageError, match="--target"):
        sync("r.txt", configuration={"target": "there"})
