"""The person's own folders: where what can be made again is kept, and what cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

APPLICATION = "torch-safe-install"
# Below a file: nothing is found there, and nothing can be written.
NOWHERE = Path("/dev/null") / APPLICATION
NO_HOME = "HOME is not set, and this user has no home"


def find_cache_folder(application: str = APPLICATION) -> Path:
    """For what can be made again; NOWHERE for a user who has no home, as one that an image does not
    know."""
    return _find("user_cache_dir", application)


def find_data_folder() -> Path:
    """For what has to be remembered; NOWHERE for a user who has no home."""
    return _find("user_data_dir")


def find_home(variables: Mapping[str, str]) -> Path:
    """The person's own folder; NOWHERE for a user who has none."""
    try:
        return Path(variables.get("HOME", "~")).expanduser()
    except (RuntimeError, KeyError):  # KeyError: Python 3.8
        return NOWHERE


def expand_home(text: str) -> Path:
    """A path as a shell takes it: `~` is the home, and one that is nobody's stays."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, KeyError):  # KeyError: Python 3.8
        return Path(text)


def _find(function: str, application: str = APPLICATION) -> Path:
    import platformdirs  # late: not every command needs a folder

    try:
        found = Path(getattr(platformdirs, function)(application))
    except RuntimeError:  # platformdirs since 4.11; before, the path begins with "~"
        return NOWHERE
    return found if found.is_absolute() else NOWHERE
