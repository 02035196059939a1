"""Parses a lock file (PEP 751) of any program into a snapshot. Pure.

A lock file may have files of a package for different machines; the file for the given machine is
chosen. The text is not trusted: every fault in it is an InputError.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple, Type, TypeVar
from urllib.parse import unquote, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)

from safe_install.errors import InputError
from safe_install.requirements import MarkerValue, is_project_name, is_true, is_version
from safe_install.snapshot.locked import COMMIT, LONGEST_FILENAME, VCS
from safe_install.snapshot.pylock import TOOL
from safe_install.snapshot.toml_text import parse_toml
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    Source,
    TorchFacts,
    UnknownSource,
    UrlSource,
)

COMMIT_OF_GIT = r"[0-9a-f]{40}([0-9a-f]{24})?"
IPV6_HOST = re.compile(r"\[[0-9a-fA-F:.]+\](:[0-9]*)?")
NO_WHEEL_HERE = "none of its wheels is for this Python and this machine"

Table = Mapping[str, object]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Machine:
    """The machine for which files are chosen."""

    python: str  # "3.11.7"
    markers: Mapping[str, str]  # PEP 508's environment markers
    tags: Tuple[Tag, ...]  # supported wheel tags, best first


@dataclass(frozen=True)
class RequestedGroups:
    """The requested extras and dependency groups of a lock file, by their normalized names. Its
    default groups are always taken."""

    extras: FrozenSet[str] = frozenset()
    groups: FrozenSet[str] = frozenset()


DEFAULT_GROUPS = RequestedGroups()  # no others


def parse_pylock(
    text: str,
    *,
    name: str = "pylock.toml",
    machine: Optional[Machine] = None,
    wanted: RequestedGroups = DEFAULT_GROUPS,
    takes_foreign: bool = False,
) -> Snapshot:
    """The snapshot that a lock file describes.

    `machine`: packages whose markers are false there are left out; of several wheels the best one
    for it is taken; a lock file for other machines is refused. Without a machine, and with
    `takes_foreign` for a lock file for other machines, all packages are taken, with the first wheel
    of each. `name`: of the file, in messages. Errors: InputError, also for a requested extra or
    group that is not in the file.
    """
    return _Reader(name, machine, wanted, takes_foreign=takes_foreign).read(text)


class _Reader:
    """Reads one lock file."""

    def __init__(
        self, name: str, machine: Optional[Machine], wanted: RequestedGroups, *, takes_foreign: bool
    ) -> None:
        self._takes_foreign = takes_foreign
        self._name = name
        self._machine = machine
        self._wanted = wanted
        self._groups: FrozenSet[str] = frozenset()

    def read(self, text: str) -> Snapshot:
        document = self._parse(text)
        self._check_version(document)
        environments = self._texts(document, "environments")
        requires_python = self._text(document, "requires-python")
        self._read_groups(document)
        unfit = self._why_unfit(requires_python, environments)
        if unfit and not self._takes_foreign:
            raise self._unfit(unfit)
        if unfit:
            self._machine = None
        found = [self._distribution(one) for one in self._list(document, "packages", needed=True)]
        ours = self._table(self._table(document, "tool"), TOOL)
        found += [self._unknown(one) for one in self._list(ours, "unknown")]
        distributions = [one for one in found if one is not None]
        self._refuse_doubles(distributions)
        libc, _, libc_version = self._text(ours, "libc").partition(" ")
        return Snapshot(
            python=self._text(ours, "python"),
            platform=self._text(ours, "platform"),
            libc=(libc, libc_version),
            distributions=tuple(sorted(distributions, key=lambda one: one.name)),
            torch=self._torch(ours),
            requires_python=requires_python,
            environments=environments,
        )

    def _parse(self, text: str) -> Table:
        try:
            return parse_toml(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{self._name} is no TOML: {error}", hint="Make the file again, or mend that line."
            ) from error

    def _check_version(self, document: Table) -> None:
        written = self._text(document, "lock-version")
        if written.partition(".")[0] != "1":
            raise self._wrong(f"its lock-version is {written or 'missing'}, known is 1.0")

    def _read_groups(self, document: Table) -> None:
        """Set the dependency groups that are taken. Errors: InputError for an extra or a group that
        is not in the file."""
        self._check_wanted("extra", self._texts(document, "extras"), self._wanted.extras)
        groups = self._texts(document, "dependency-groups")
        self._check_wanted("dependency group", groups, self._wanted.groups)
        self._groups = self._wanted.groups.union(self._texts(document, "default-groups"))

    def _check_wanted(self, kind: str, known: Tuple[str, ...], wanted: FrozenSet[str]) -> None:
        """Raise InputError for names that are not in the file."""
        missing = wanted - {canonicalize_name(name) for name in known}
        if missing:
            raise InputError(
                f"{kind} {', '.join(sorted(missing))}: {self._name} has none of that name",
                hint=f"It has {', '.join(sorted(known)) or 'none'}.",
            )

    def _why_unfit(self, requires_python: str, environments: Tuple[str, ...]) -> str:
        """The other machines for which the file is; "" if it is for this one."""
        machine = self._machine
        if machine is None:
            return ""
        if requires_python and not self._specifier(requires_python).contains(
            machine.python, prereleases=True
        ):
            return f"Python {requires_python}, here is {machine.python}"
        if environments and not any(self._is_true(one) for one in environments):
            return f"machines with {' or '.join(environments)}"
        return ""

    def _unfit(self, what: str) -> InputError:
        return InputError(
            f"{self._name} is for {what}",
            hint="Make one on a machine like this: safe-install export.",
        )

    def _specifier(self, text: str) -> SpecifierSet:
        try:
            return SpecifierSet(text)
        except InvalidSpecifier as error:
            raise self._wrong(f"{text!r} is no version specifier") from error

    def _is_true(self, marker: str) -> bool:
        if self._machine is None:
            return True
        values: Dict[str, MarkerValue] = {
            **self._machine.markers,
            "extra": "",
            "extras": self._wanted.extras,
            "dependency_groups": self._groups,
        }
        try:
            return is_true(marker, values)
        except ValueError as error:
            raise self._wrong(str(error)) from error

    def _distribution(self, package: Table) -> Optional[RecordedDistribution]:
        """One package; None if its marker is false."""
        name = self._text(package, "name")
        if not name:
            raise self._wrong("a package has no name")
        if not is_project_name(name):
            raise self._wrong(f"{name!r} is no name of a project")
        marker = self._text(package, "marker")
        if marker and not self._is_true(marker):
            return None
        ours = self._table(self._table(package, "tool"), TOOL)
        return RecordedDistribution(
            name=canonicalize_name(name),
            version=self._version(package) or self._text(ours, "version"),
            source=self._source(package, ours),
            written_name=self._written_name(ours, canonicalize_name(name)),
            is_requested=self._flag(ours, "requested"),
            requires_python=self._text(package, "requires-python"),
        )

    def _version(self, package: Table) -> str:
        version = self._text(package, "version")
        if version and not is_version(version):
            raise self._wrong(f"{version!r} is no version")
        return version

    def _written_name(self, ours: Table, name: NormalizedName) -> str:
        """The name in METADATA; "" if the text is another name."""
        written = self._text(ours, "written-name")
        return written if canonicalize_name(written) == name else ""

    def _source(self, package: Table, ours: Table) -> Source:
        if "vcs" in package:
            return self._repository(self._table(package, "vcs"), ours)
        if "directory" in package:
            return self._directory(self._table(package, "directory"))
        if "archive" in package:
            return self._file(self._table(package, "archive"))
        wheels = self._list(package, "wheels")
        chosen = self._best(wheels)
        if chosen is None and "sdist" in package:
            chosen = self._table(package, "sdist")
        if chosen is None and wheels:
            return UnknownSource(NO_WHEEL_HERE)
        if chosen is None:
            raise self._wrong(f"the package {self._text(package, 'name')} has no source")
        is_built_here = self._flag(ours, "built-here")
        return self._file(
            chosen, index=self._text(package, "index"), is_listed=True, is_built_here=is_built_here
        )

    def _best(self, wheels: List[Table]) -> Optional[Table]:
        """The wheel whose tag is the first one in the machine's list; None if no wheel fits."""
        if self._machine is None:
            return wheels[0] if wheels else None
        order = {tag: place for place, tag in enumerate(self._machine.tags)}
        found: List[Tuple[int, int]] = []
        for number, wheel in enumerate(wheels):
            try:
                tags = parse_wheel_filename(self._filename(wheel))[3]
            except InvalidWheelFilename as error:
                raise self._wrong(str(error)) from error
            places = [order[tag] for tag in tags if tag in order]
            if places:
                found.append((min(places), number))
        return wheels[min(found)[1]] if found else None

    def _file(
        self, table: Table, *, index: str = "", is_listed: bool = False, is_built_here: bool = False
    ) -> Source:
        """A file: on an index (`is_listed`), at a URL, or on this machine."""
        path, url = self._text(table, "path"), self._address(table)
        filename = self._filename(table)
        sha256 = self._sha256(table, filename)
        size = self._get(table, "size", int)
        subdirectory = self._subdirectory(table)
        if path:
            return FileSource(path, filename, sha256, size, is_built_here, subdirectory)
        if not url:
            raise self._wrong(f"{filename or 'a file'} has neither an address nor a path")
        if is_listed:
            return IndexSource(index, url, filename, sha256, size)
        return UrlSource(url, filename, sha256, size, subdirectory)

    def _filename(self, table: Table) -> str:
        path = self._text(table, "path").replace("\\", "/")
        url = unquote(urlsplit(self._address(table)).path)
        filename = self._text(table, "name") or (path or url).rpartition("/")[2]
        if len(filename) > LONGEST_FILENAME:  # a long name may expand to millions of wheel tags
            raise self._wrong("the name of a file is too long")
        return filename

    def _address(self, table: Table) -> str:
        """The URL of a file. Errors: InputError for an invalid one, and for one with spaces or
        `${`: pip splits its lines at spaces, and replaces variables in them."""
        url = self._text(table, "url")
        try:
            host = urlsplit(url).netloc.rpartition("@")[2]
        except ValueError as error:
            raise self._wrong(f"{url!r} is no address: {error}") from error
        # Python 3.8 accepts any text in brackets.
        is_invalid_host = "[" in host and not IPV6_HOST.fullmatch(host)
        if is_invalid_host or re.search(r"[\s\x00-\x1f\x7f]|\$\{", url):
            raise self._wrong(f"{url!r} is no address")
        return url

    def _subdirectory(self, table: Table) -> str:
        """The folder in an archive or clone. Errors: InputError for one that leads out of it."""
        found = self._text(table, "subdirectory")
        leads_out = found.startswith("/") or ".." in found.split("/")
        if leads_out or (found and not re.fullmatch(r"[\w./+-]+", found)):
            raise self._wrong(f"{found!r} is no folder in an archive")
        return found

    def _sha256(self, table: Table, filename: str) -> str:
        found = self._text(self._table(table, "hashes"), "sha256").lower()
        if len(found) != 64 or set(found) - set("0123456789abcdef"):
            raise self._wrong(f"{filename} has no sha256")
        return found

    def _repository(self, table: Table, ours: Table) -> RepositorySource:
        commit, vcs = self._text(table, "commit-id"), self._text(table, "type")
        url = self._address(table) or self._text(table, "path")
        if not commit or not url:
            raise self._wrong("a repository has no commit-id, or no url")
        pattern = COMMIT_OF_GIT if vcs == "git" else COMMIT
        if vcs not in VCS or not re.fullmatch(pattern, commit, re.ASCII):
            raise self._wrong(f"{commit!r} is no commit of a repository of {vcs!r}")
        return RepositorySource(
            vcs=vcs,
            url=url,
            commit=commit,
            requested_revision=self._text(table, "requested-revision"),
            subdirectory=self._subdirectory(table),
            is_editable=self._flag(ours, "editable"),
        )

    def _directory(self, table: Table) -> DirectorySource:
        path = self._text(table, "path")
        if not path:
            raise self._wrong("a directory has no path")
        return DirectorySource(path, self._flag(table, "editable"), self._subdirectory(table))

    def _unknown(self, table: Table) -> RecordedDistribution:
        """A distribution of unknown source, in our own table."""
        url = self._address(table)
        source: Source = UnknownSource(self._text(table, "reason"), self._text(table, "sha256"))
        if url:
            subdirectory = self._subdirectory(table)
            source = UrlSource(url, self._filename({"url": url}), None, None, subdirectory)
        name = canonicalize_name(self._text(table, "name"))
        return RecordedDistribution(
            name=name,
            version=self._text(table, "version"),
            source=source,
            written_name=self._written_name(table, name),
            is_requested=self._flag(table, "requested"),
            requires_python=self._text(table, "requires-python"),
        )

    def _torch(self, ours: Table) -> Optional[TorchFacts]:
        table = self._table(ours, "torch")
        if not table:
            return None
        return TorchFacts(
            self._text(table, "version"),
            self._text(table, "accelerator"),
            self._text(table, "cuda"),
        )

    def _refuse_doubles(self, found: List[RecordedDistribution]) -> None:
        """Raise InputError for two packages of one name that both apply to this machine."""
        if self._machine is None:
            return
        counted = Counter(one.name for one in found)
        twice = sorted(name for name, count in counted.items() if count > 1)
        if twice:
            raise self._wrong(f"{', '.join(twice)} is listed more than once for this machine")

    # --- the fields of a table, with their types ---

    def _get(self, table: Table, key: str, kind: Type[_T]) -> Optional[_T]:
        value = table.get(key)
        if value is None:
            return None
        is_bool = isinstance(value, bool) and kind is not bool
        if is_bool or not isinstance(value, kind):
            raise self._wrong(f"{key} is not of the right type")
        return value

    def _text(self, table: Table, key: str) -> str:
        return self._get(table, key, str) or ""

    def _flag(self, table: Table, key: str) -> bool:
        return bool(self._get(table, key, bool))

    def _table(self, table: Table, key: str) -> Table:
        return self._get(table, key, dict) or {}

    def _texts(self, table: Table, key: str) -> Tuple[str, ...]:
        found = self._get(table, key, list) or []
        if not all(isinstance(item, str) for item in found):
            raise self._wrong(f"{key} is no list of texts")
        return tuple(found)

    def _list(self, table: Table, key: str, *, needed: bool = False) -> List[Table]:
        found = self._get(table, key, list)
        if found is None and needed:
            raise self._wrong(f"it has no {key}")
        if not all(isinstance(item, dict) for item in found or ()):
            raise self._wrong(f"{key} is no list of tables")
        return found or []

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self._name}: {what}", hint="It is no lock file as PEP 751 has it.")
