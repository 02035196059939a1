"""pip's options as they are set for one command: on its line, else in pip's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import (
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.utils import canonicalize_name

from safe_install.folders import expand_home
from safe_install.resolve.command_line import Word

_FALSE = ("", "0", "false", "no", "off", "n", "f")


def is_true(text: Optional[str]) -> bool:
    """Is the text a true value, as pip reads flags from variables and configuration files?"""
    return text is not None and text.strip().lower() not in _FALSE


class Formats(NamedTuple):
    """--only-binary and --no-binary: the projects of which only wheels are used, and those of which
    no wheel is used.

    `:all:` stands for all projects that are not named otherwise.
    """

    only_wheels: FrozenSet[str] = frozenset()
    no_wheels: FrozenSet[str] = frozenset()

    def allows_source(self, name: str) -> bool:
        """May a source distribution of the project be used? `name`: normalized."""
        if name in self.only_wheels or name in self.no_wheels:
            return name not in self.only_wheels
        return ALL not in self.only_wheels


ALL, NONE = ":all:", ":none:"


def parse_formats(options: Iterable[Tuple[str, str]]) -> Formats:
    """`options`: ("only-binary", "torch-scatter,scipy") ..., in the order in which pip reads them:
    a later one wins."""
    found: Dict[str, Set[str]] = {"only-binary": set(), "no-binary": set()}
    for key, value in options:
        other = "no-binary" if key == "only-binary" else "only-binary"
        for part in value.split(","):
            if part in (ALL, NONE):
                found[key].clear()
            if part == ALL:
                found[other].clear()
            if part != NONE:
                name = part if part == ALL else canonicalize_name(part)
                found[other].discard(name)
                found[key].add(name)
    return Formats(frozenset(found["only-binary"]), frozenset(found["no-binary"]))


class PipSettings:
    """pip's options: from the command line, else from pip's configuration."""

    def __init__(self, words: Sequence[Word], configuration: Mapping[str, str]) -> None:
        self._words = words
        self._configuration = configuration

    def configured(self) -> PipSettings:
        """Without the command line."""
        return PipSettings((), self._configuration)

    def keys(self) -> FrozenSet[str]:
        """The options that are set."""
        written = {word.key for word in self._words if word.key}
        return frozenset(written | set(self._configuration))

    def flag(self, key: str) -> bool:
        """Is it on?"""
        return any(word.key == key for word in self._words) or is_true(self._configuration.get(key))

    def count(self, key: str) -> int:
        """How often it was given (-qq is 2)."""
        written = sum(1 for word in self._words if word.key == key)
        text = self._configuration.get(key, "")
        return written or (int(text) if text.isdigit() else int(is_true(text) if text else 0))

    def one(self, key: str) -> Optional[str]:
        """Its value; the last one on the command line counts."""
        written = [word.value for word in self._words if word.key == key and word.value is not None]
        return written[-1] if written else self._configuration.get(key) or None

    def path(self, key: str) -> Optional[Path]:
        """Its value as a path; `~` is the home."""
        value = self.one(key)
        return expand_home(value) if value else None

    def path_text(self, key: str) -> Optional[str]:
        """The same as text."""
        path = self.path(key)
        return None if path is None else str(path)

    def all(self, key: str) -> Tuple[str, ...]:
        """Every value. As in pip, those of the command line are added to the configured ones."""
        written = tuple(
            word.value for word in self._words if word.key == key and word.value is not None
        )
        return (*self._configuration.get(key, "").split(), *written)

    def formats(self, of_files: Iterable[Tuple[str, Optional[str]]]) -> Formats:
        """--only-binary and --no-binary. `of_files`: the options in requirements files."""
        keys = ("no-binary", "only-binary")
        found: List[Tuple[str, str]] = []
        for key in keys:
            found += [(key, value) for value in self._configuration.get(key, "").split()]
        for word in self._words:
            if word.key in keys:
                found.append((str(word.key), word.value or ""))
        for key, written in of_files:
            if key in keys:
                found.append((key, written or ""))
        return parse_formats(found)

    def compiles(self) -> bool:
        """Is bytecode compiled? The last option counts. In pip's configuration, `no-compile = no`
        turns it off."""
        written = [word.key for word in self._words if word.key in ("compile", "no-compile")]
        if written:
            return written[-1] == "compile"
        configured = [
            self._configuration[key]
            for key in ("compile", "no-compile")
            if key in self._configuration
        ]
        return is_true(configured[-1]) if configured else True

    def place(self) -> Optional[str]:
        """The option that puts files elsewhere than into the environment."""
        for key in (
            "target",
            "root",
            "prefix",
            "platform",
            "python-version",
            "implementation",
            "abi",
        ):
            if self.one(key):
                return key
        written = [word.key for word in self._words if word.key in ("user", "no-user")]
        if written:
            return "user" if written[-1] == "user" else None
        return "user" if is_true(self._configuration.get("user")) else None

    def refuses_user(self) -> bool:
        """Was the user site excluded explicitly?"""
        written = [word.key for word in self._words if word.key in ("user", "no-user")]
        if written:
            return written[-1] == "no-user"
        return "user" in self._configuration and not is_true(self._configuration["user"])
