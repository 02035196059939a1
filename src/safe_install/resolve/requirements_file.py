"""The text of a requirements file -> entries, by pip's documented rules.

Files may name other files and folders; the caller reads them (`read(location) -> text`), and looks
for them (`exists(path)`). Format:
pip.pypa.io/en/stable/reference/requirements-file-format.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import Callable, Iterator, List, Mapping, Match, NamedTuple, Optional, Set, Tuple
from urllib.parse import urljoin, urlsplit

from safe_install.errors import InputError
from safe_install.resolve.pip_options import Option, find_option

Reader = Callable[[str], str]
Existence = Callable[[str], bool]  # is there a file or folder at a path?

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
# pip's rule too: the first word with a hyphen begins the options
_PER_REQUIREMENT = re.compile(r"\s-")
_HASH = re.compile(r"--hash[=\s]+['\"]?([^\s'\"]+)")
_ARCHIVE_URL = re.compile(r"^(https?|ftp|file)://", re.I)


class Entry(NamedTuple):
    """One requirement, as it was written."""

    text: str  # "torch-scatter>=2; python_version < '3.9'", "./dir", "git+https://..."
    editable: bool = False
    constraint: bool = False
    hashes: Tuple[str, ...] = ()  # "sha256:..."
    config_settings: Tuple[str, ...] = ()  # for the build backend, "KEY=VALUE" (PEP 517)
    file: str = ""  # that has it; "" for the command line
    line: int = 0

    @property
    def origin(self) -> str:
        """`requirements.txt, line 3`; "" for the command line."""
        return _name_line(self.file, self.line) if self.file else ""


def _name_line(file: str, line: int) -> str:
    return f"{file}, line {line}"


class Parsed(NamedTuple):
    """All entries of a file and of the files that it names, with their index options."""

    entries: Tuple[Entry, ...] = ()
    options: Tuple[Tuple[str, Optional[str]], ...] = ()  # ("index-url", "https://...")


def as_path(text: str) -> str:
    """The value of `--editable`, so that the bare name of a folder is not read as a project's name.

    As in pip, a text without a scheme is a path.
    """
    is_path_already = text.startswith((".", "~")) or "/" in text or "\\" in text
    return text if is_path_already or ":" in text or " @ " in text else f"./{text}"


def is_lock_file(location: str) -> bool:
    """Is it a lock file by its name (pylock.toml, pylock.NAME.toml)? `pip install -r` reads them
    since 26.1."""
    path = urlsplit(location).path if _ARCHIVE_URL.match(location) else location
    return re.fullmatch(r"pylock(\.[^.]+)?\.toml", re.split(r"[/\\]", path)[-1]) is not None


def nowhere(path: str) -> bool:
    """There is nothing at any path."""
    return False


def parse_file(
    location: str,
    *,
    read: Reader,
    environ: Mapping[str, str],
    exists: Existence = nowhere,
    constraint: bool = False,
) -> Parsed:
    """Read `location` (a path or URL) and all files that it names. `exists`: where it matters
    whether a folder for --find-links lies beside the file. Errors: InputError naming file and
    line."""
    files = _Files(read, environ, exists)
    files.add(location, constraint=constraint, within=())
    return Parsed(tuple(files.entries), tuple(files.options))


class _Files:
    """A file and those that it names, each read once."""

    def __init__(self, read: Reader, environ: Mapping[str, str], exists: Existence) -> None:
        self.entries: List[Entry] = []
        self.options: List[Tuple[str, Optional[str]]] = []
        self._read, self._environ, self._exists = read, environ, exists
        self._seen: Set[Tuple[str, bool]] = set()

    def add(self, location: str, *, constraint: bool, within: Tuple[str, ...]) -> None:
        """Add what a file has. `within`: the files that lead to this one."""
        if (location, constraint) in self._seen:
            return
        self._seen.add((location, constraint))
        for number, text in logical_lines(self._read(location)):
            line = _VARIABLE.sub(self._value_of, text)
            if not line.startswith("-"):
                self.entries.append(_requirement(line, location, number, constraint=constraint))
                continue
            for option, value in _line_options(line, _name_line(location, number)):
                if option.key in ("requirement", "constraint") and value is not None:
                    # As pip has it: -r inside a constraints file names requirements.
                    nested = option.key == "constraint"
                    self._add_named(value, (location, *within), number, constraint=nested)
                elif option.key == "editable" and value is not None:
                    path = as_path(value)
                    entry = Entry(
                        path, editable=True, constraint=constraint, file=location, line=number
                    )
                    self.entries.append(entry)
                elif option.key == "find-links" and value is not None:
                    self.options.append((option.key, self._find_beside(value, location)))
                else:
                    self.options.append((option.key, value))

    def _find_beside(self, place: str, location: str) -> str:
        """A place for --find-links. As in pip, a path is relative to the file that names it if
        something is there, else to the working folder."""
        beside = join_location(location, place)
        return beside if self._exists(beside) else place

    def _add_named(
        self, value: str, within: Tuple[str, ...], number: int, *, constraint: bool
    ) -> None:
        """Add a file that is named in a line of another one, the first of `within`."""
        named = join_location(within[0], value)
        if named in within:
            raise InputError(
                # pip's words
                f"{named} recursively references itself in {_name_line(within[0], number)}",
                hint="Take that line out.",
            )
        self.add(named, constraint=constraint, within=within)

    def _value_of(self, match: Match[str]) -> str:
        """The value of a variable; its name as it stands, where it has none."""
        return self._environ.get(match.group(1)) or match.group(0)


def logical_lines(text: str) -> Iterator[Tuple[int, str]]:
    """(line number, text) of each logical line: continuations joined, without comments and empty
    lines."""
    if text.startswith("\ufeff"):
        text = text[1:]
    kept, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        is_comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not is_comment:
            kept += raw.strip("\\")
            continue
        # A comment line ends a continuation; the space keeps its "#" from becoming part of a URL.
        line = _COMMENT.sub("", kept + (" " if is_comment else "") + raw).strip()
        if line:
            yield start, line
        kept, start = "", 0
    line = _COMMENT.sub("", kept).strip()
    if line:
        yield start, line


def _requirement(line: str, file: str, number: int, *, constraint: bool) -> Entry:
    match = _PER_REQUIREMENT.search(line)
    text = line[: match.start()].strip() if match else line
    settings: Tuple[str, ...] = ()
    if match:
        settings = _config_settings(line[match.start() :], _name_line(file, number))
    return Entry(
        text,
        constraint=constraint,
        hashes=tuple(_HASH.findall(line)),
        config_settings=settings,
        file=file,
        line=number,
    )


def _config_settings(options: str, origin: str) -> Tuple[str, ...]:
    """The values of `--config-settings` behind a requirement, among options such as `--hash`."""
    found: List[str] = []
    rest = _split_words(options, origin)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in ("-C", "--config-settings", "--config-setting"):
            if not equals and rest:
                value = rest.pop(0)
            found.append(value)
    return tuple(found)


def _split_words(line: str, origin: str) -> List[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise InputError(f"{origin}: {error}", hint="Mend the quotes in that line.") from error


def _line_options(line: str, origin: str) -> Iterator[Tuple[Option, Optional[str]]]:
    rest = _split_words(line, origin)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            continue  # as in pip, words between the options are ignored
        name, equals, value = word.partition("=")
        if not name.startswith("--") and len(name) > 2:
            name, equals, value = name[:2], "=", name[2:] + equals + value
        option = find_option(name)
        if option is None:
            raise InputError(
                f"{origin}: {name} is no option of a requirements file",
                hint="See pip's documentation of that format.",
            )
        if option.takes_value and not equals:
            if not rest:
                raise InputError(f"{origin}: {name} needs a value", hint=f"Write {name} VALUE.")
            value = rest.pop(0)
        yield option, value if option.takes_value else None


def join_location(base: str, target: str) -> str:
    """`target` relative to the file that names it; a URL or an absolute path is unchanged."""
    if _ARCHIVE_URL.match(target):
        return target
    if _ARCHIVE_URL.match(base):
        return urljoin(base, target)
    # Normalized, so that a file that names itself by another path is recognized.
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), target))
