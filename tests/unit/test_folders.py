"""A user whom an image does not know has no home, and gets no folder called "~"."""

from __future__ import annotations

import pwd
from pathlib import Path

import platformdirs
import pytest

from safe_install.folders import (
    NOWHERE,
    expand_home,
    find_cache_folder,
    find_data_folder,
    find_home,
)


def test_the_persons_own_folders(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/somebody/cache")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/somebody/data")
    assert str(find_cache_folder()) == "/home/somebody/cache/torch-safe-install"
    assert str(find_data_folder()) == "/home/somebody/data/torch-safe-install"


def _refuse(name):
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize(
    "answer", [_refuse, lambda name: f"~/.cache/{name}"], ids=["new", "old platformdirs"]
)
def test_no_home(monkeypatch, answer):
    monkeypatch.setattr(platformdirs, "user_cache_dir", answer)
    monkeypatch.setattr(platformdirs, "user_data_dir", answer)
    assert (find_cache_folder(), find_data_folder()) == (NOWHERE, NOWHERE)
    assert not NOWHERE.exists()
    with pytest.raises(NotADirectoryError):
        NOWHERE.mkdir(parents=True)


def test_home_is_that_of_the_shell():
    assert find_home({"HOME": "/home/somebody"}) == Path("/home/somebody")


def test_a_user_that_an_image_does_not_know_has_no_home(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    assert find_home({}) == NOWHERE
    assert expand_home("~/wheels") == Path("~/wheels")


def test_the_home_of_nobody_stays_as_it_is_written():
    assert expand_home("~nobody.of.this.name/wheels") == Path("~nobody.of.this.name/wheels")


def test_a_home_is_put_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expand_home("~/wheels") == Path("/home/somebody/wheels")


def _unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
