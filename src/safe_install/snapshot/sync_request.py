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
from safe_install.resolve.requirements_file import Existence, Reader, nowhere
from safe_install.resolve.unheard_options import refuse_unheard
from safe_install.snapshot.forms import Form, form_of, requirements_text, split_extras
from safe_install.snapshot.pylock_reader import RequestedGroups

# Options of install that make no sense with a file that names everything.
WITHOUT_MEANING = frozenset(
    [
        *("requirement", "constraint", "editable", "requirements-from-script"),
        *("upgrade", "pre", "no-deps", "force-reinstall", "ignore-installed", "report"),
        *("target", "root", "prefix", "platform", "python-version", "implementation", "abi"),
    ]
)


@dataclass(frozen=True)
class SyncRequest:
    """A parsed command line of `sync`."""

    location: str  # the path or URL of the file
    wanted: RequestedGroups  # extras and groups of a lock file
    install: InstallRequest  # the options, including those in the file
    read: Reader  # returns the text of the file, and of files that it names
    check: bool = False
    keep_extra: bool = False
    allow_empty: bool = False

    @property
    def changes_nothing(self) -> bool:
        """Is it --check or --dry-run?"""
        return self.check or self.install.own.dry_run


def _check_one_file(files: Sequence[str]) -> None:
    """Raise UsageError, unless exactly one file is named."""
    if len(files) == 1:
        return
    named = "no file was named" if not files else f"{len(files)} files were named"
    raise UsageError(f"sync takes one file: {named}", hint="Write: safe-install sync pylock.toml.")


def parse_sync(
    words: Words,
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
    exists: Existence = nowhere,
) -> SyncRequest:
    """Parse a command line. `configuration`: pip's settings; `read`: returns the text of a file;
    `exists`: is there something at a path? Errors: UsageError; InputError for a file that cannot be
    read."""
    refuse_unheard("sync", words.checked())
    options: List[Word] = []
    files: List[str] = []
    groups: List[str] = []
    for word in words.checked():
        if word.argument:
            files.append(word.value or "")
        elif word.key == "group":
            groups.append(word.value or "")
        elif word.key in WITHOUT_MEANING:
            raise UsageError(
                f"sync has no option {word.text[0]}",
                hint="Write what is to be there into the file.",
            )
        else:
            options.append(word)
    _check_one_file(files)
    location, extras = split_extras(files[0])
    wanted = RequestedGroups(extras, _groups_of(location, groups))
    text = read(location)

    def read_once(name: str) -> str:
        return text if name == location else read(name)

    def read_requirements(name: str) -> str:
        return requirements_text(location, text) if name == location else read(name)

    file = Word(find_option("--requirement"), "", location, ("--requirement", location))
    install = parse_install(
        Words((*options, file)),
        environ=environ,
        configuration=configuration,
        read=read_requirements,
        exists=exists,
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
    """The groups in the values of --group: NAME, or pip's FILE:NAME. Errors: UsageError."""
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
