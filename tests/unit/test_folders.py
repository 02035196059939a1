"""A user whom an image does not know has no home, and gets no folder called "~"."""

from __future__ import annotations

import platformdirs
import pytest

from safe_install.folders import NOWHERE, find_cache_folder, find_data_folder


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
