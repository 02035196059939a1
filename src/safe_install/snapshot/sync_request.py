"""Parses the command line of `sync`. Pure."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import FrozenSet, List, Mapping, Sequence

from packaging.utils import canonicalize_name

from safe_install.errors import UsageError
from safe_install.resolve.command_line import Word, Words
from safe_install.resolve.pip_options import find_option
from safe_install.resolve.request import InstallRequest, parse_install
from safe_install.resolve.requirements_file import Reader
from safe_install.snapshot.forms import Form, form_of, requirements_text, split_extras
from safe_install.snapshot.pylock_reader import Wanted

# Options that contradict a file which names everything.
WITHOUT_MEANING = frozenset(
    [
        *("requirement", "constraint", "editable", "requirements-from-script"),
        *("upgrade", "pre", "no-deps", "force-reinstall", "ignore-installed", "report"),
        *("target", "root", "prefix", "platform", "python-version", "implementation", "abi"),
    ]
)


@dataclass(frozen=True)
class SyncRequest:
    """`sync FILE`."""

    location: str  # of the file
    wanted: Wanted  # of a lock file
    install: InstallRequest  # our options and pip's, with those that stand in the file
    read: Reader  # brings the text of the file, and of those that it names
    check: bool = False
    keep_extra: bool = False
    allow_empty: bool = False

    @property
    def changes_nothing(self) -> bool:
        """Is it --check or --dry-run?"""
        return self.check or self.install.own.dry_run


def _refuse_all_but_one(files: Sequence[str]) -> None:
    """Refuse anything but one file. Errors: UsageError."""
    if len(files) == 1:
        return
    said = "no file was named" if not files else f"{len(files)} files were named"
    raise UsageError(f"sync takes one file: {said}", hint="Write: safe-install sync pylock.toml.")


def parse_sync(
    words: Words,
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
) -> SyncRequest:
    """The request. `configuration`: pip's; `read`: returns the text of a file. Errors: UsageError;
    InputError for a file that cannot be read."""
    options: List[Word] = []
    files: List[str] = []
    groups: List[str] = []
    for word in words.checked():
        if word.argument or word.key == "group":
            (files if word.argument else groups).append(word.value or "")
            continue
        if word.key in WITHOUT_MEANING:
            raise UsageError(
                f"sync has no option {word.text[0]}",
                hint="Write what is to be there into the file.",
            )
        options.append(word)
    _refuse_all_but_one(files)
    location, extras = split_extras(files[0])
    wanted = Wanted(extras, _groups_of(location, groups))
    texts = {location: read(location)}

    def read_once(name: str) -> str:
        return texts[name] if name in texts else read(name)

    file = Word(find_option("--requirement"), "", location, ("--requirement", location))
    install = parse_install(
        Words((*options, file)),
        environ=environ,
        configuration=configuration,
        read=lambda name: (
            requirements_text(location, texts[location]) if name == location else read(name)
        ),
    )
    if install.place not in (None, "user"):
        raise UsageError(
            f"sync has no --{install.place}: it is about a whole environment",
            hint="Name the environment: --python PATH.",
        )
    return SyncRequest(
        location,
        wanted,
        install,
        read_once,
        check=words.has("--check"),
        keep_extra=words.has("--keep-extra"),
        allow_empty=words.has("--allow-empty"),
    )


def _groups_of(location: str, values: Sequence[str]) -> FrozenSet[str]:
    """`--group NAME`, or pip's `--group FILE:NAME`. Errors: UsageError."""
    if values and form_of(location) is not Form.PYLOCK:
        raise UsageError(
            f"--group {values[0]}: {location} has no groups",
            hint="Only a lock file (pylock.toml) has groups.",
        )
    found = set()
    for value in values:
        path, _, name = value.rpartition(":")
        if path and posixpath.normpath(path) != posixpath.normpath(location):
            raise UsageError(
                f"--group {value}: that is another file than {location}",
                hint=f"Write: --group {name}.",
            )
        found.add(canonicalize_name(name))
    return frozenset(found)
