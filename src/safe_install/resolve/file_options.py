"""pip's options in requirements files: which indexes they name, and their words for a pip run that
is not given the files. Pure."""

from __future__ import annotations

from typing import Iterator, List, Optional, Sequence, Tuple

from safe_install.resolve.pip_options import find_option
from safe_install.resolve.requirements_file import Parsed


def _all_options(files: Sequence[Parsed]) -> Iterator[Tuple[str, Optional[str]]]:
    for parsed in files:
        yield from parsed.options


def values_in_files(files: Sequence[Parsed], *keys: str) -> Tuple[str, ...]:
    """The values of these options, in order."""
    return tuple(value for key, value in _all_options(files) if key in keys and value)


def words_of_files(files: Sequence[Parsed], groups: Sequence[str]) -> Tuple[str, ...]:
    """The options of these groups, for a pip run that is not given the files."""
    words: List[str] = []
    for key, value in _all_options(files):
        option = find_option(f"--{key}")
        if option is not None and option.group in groups:
            words += [f"--{key}"] if value is None else [f"--{key}", value]
    return tuple(words)


def searched_indexes(before: Sequence[str], files: Sequence[Parsed]) -> Tuple[str, ...]:
    """The indexes where pip looks, in its order. `before`: those outside of files.

    As in pip, --index-url in a file takes the place of all that was named before it.
    """
    indexes = list(before)
    for key, value in _all_options(files):
        if key == "no-index":
            return ()
        if key == "index-url" and value:
            indexes = [value]
        elif key == "extra-index-url" and value:
            indexes.append(value)
    return tuple(indexes)
