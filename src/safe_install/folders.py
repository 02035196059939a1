"""Finds the user's folders: the home, the cache, and the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

APPLICATION = "torch-safe-install"
# A path below a file, at which nothing can exist.
NOWHERE = Path("/dev/null") / APPLICATION
NO_HOME = "HOME is not set, and this user has no home"


def find_cache_folder(application: str = APPLICATION) -> Path:
    """The folder for files that can be made again; NOWHERE for a user without a home, such as one
    that a container image does not know."""
    return _find("user_cache_dir", application)


def find_data_folder() -> Path:
    """The folder for files that cannot be made again; NOWHERE for a user without a home."""
    return _find("user_data_dir")


def find_home(variables: Mapping[str, str]) -> Path:
    """The home folder; NOWHERE for a user without a home."""
    try:
        return Path(variables.get("HOME", "~")).expanduser()
    except (RuntimeError, KeyError):  # KeyError: Python 3.8
        return NOWHERE


def expand_home(text: str) -> Path:
    """A path with `~` and `~user` expanded if that is a home folder; else as it is."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, KeyError):  # KeyError: Python 3.8
        return Path(text)


def _find(function: str, application: str = APPLICATION) -> Path:
    import platformdirs  # late, because not every command needs it

    try:
        found = Path(getattr(platformdirs, function)(application))
    except RuntimeError:  # platformdirs since 4.11 raises for a user without a home
        return NOWHERE
    return found if found.is_absolute() else NOWHERE  # "~/..." in older versions
