"""The text of a requirements file -> entries, by pip's documented rules.

Files may name other files; the caller reads them (`read(location) -> text`). Format:
pip.pypa.io/en/stable/reference/requirements-file-format.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import Callable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple
from urllib.parse import urljoin, urlsplit

from safe_install.errors import InputError
from safe_install.resolve.pip_options import Option, find_option

Reader = Callable[[str], str]

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
    origin: str = ""  # "requirements.txt, line 3"; empty for the command line


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


def parse_file(
    location: str, *, read: Reader, environ: Mapping[str, str], constraint: bool = False
) -> Parsed:
    """Read `location` (a path or URL) and all files that it names. Errors: InputError naming file
    and line."""
    entries: List[Entry] = []
    options: List[Tuple[str, Optional[str]]] = []
    _parse_into(location, read, environ, entries, options, constraint=constraint, seen=set())
    return Parsed(tuple(entries), tuple(options))


def _parse_into(
    location: str,
    read: Reader,
    environ: Mapping[str, str],
    entries: List[Entry],
    options: List[Tuple[str, Optional[str]]],
    *,
    constraint: bool,
    seen: Set[Tuple[str, bool]],
    within: Tuple[str, ...] = (),
) -> None:
    """Add the entries of a file to the result. `seen`: files that were read already and are
    skipped. `within`: the files that lead to this one."""
    if (location, constraint) in seen:
        return
    seen.add((location, constraint))
    for number, line in logical_lines(read(location)):
        origin = f"{location}, line {number}"
        line = _VARIABLE.sub(lambda match: environ.get(match.group(1)) or match.group(0), line)
        if not line.startswith("-"):
            entries.append(_requirement(line, origin, constraint=constraint))
            continue
        for option, value in _line_options(line, origin):
            if option.key in ("requirement", "constraint") and value is not None:
                # As pip has it: -r inside a constraints file names requirements.
                nested = option.key == "constraint"
                named = join_location(location, value)
                if named in (location, *within):
                    raise InputError(
                        f"{named} recursively references itself in {origin}",  # pip's words
                        hint="Take that line out.",
                    )
                _parse_into(
                    named,
                    read,
                    environ,
                    entries,
                    options,
                    constraint=nested,
                    seen=seen,
                    within=(location, *within),
                )
            elif option.key == "editable" and value is not None:
                entries.append(
                    Entry(as_path(value), editable=True, constraint=constraint, origin=origin)
                )
            else:
                options.append((option.key, value))


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


def _requirement(line: str, origin: str, *, constraint: bool) -> Entry:
    match = _PER_REQUIREMENT.search(line)
    text = line[: match.start()].strip() if match else line
    settings = _config_settings(line[match.start() :], origin) if match else ()
    return Entry(
        text,
        constraint=constraint,
        hashes=tuple(_HASH.findall(line)),
        config_settings=settings,
        origin=origin,
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
