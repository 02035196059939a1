"""A snapshot as requirements that pip and uv install
(pip.pypa.io/en/stable/reference/requirements-file-format). Pure.

With one `--hash` pip requires hashes for all, but repositories and folders have none. So `--hash`
is written where every distribution has a hash; otherwise files are named by URLs with the hash in
the fragment.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import Dict, FrozenSet, List, Sequence, Tuple
from urllib.parse import quote

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.snapshot.sources import PYPI, is_named_by
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    KnownSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    UnknownSource,
    UrlSource,
)

# pip reads the file; it should not replace itself.
LEFT_OUT = ("pip",)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+~-]+")  # a path that needs no escapes
NOT_KNOWN = "# not known where from:"
HEAD = "# made by safe-install export for Python {python} on {platform}"

Named = Tuple[RecordedDistribution, KnownSource]


def render_requirements(snapshot: Snapshot) -> str:
    """The text of a requirements file."""
    head = HEAD.format(python=snapshot.python, platform=snapshot.platform)
    return "\n".join([head, *requirement_lines(snapshot), *unknown_lines(snapshot)]) + "\n"


def requirement_lines(snapshot: Snapshot) -> List[str]:
    """The lines of a requirements file, options first."""
    known = find_named(snapshot)
    has_hashes = all(_has_hash(source) for _, source in known)
    # pip and uv parse the argument of an option like a shell.
    lines = [f"--find-links {shlex.quote(folder)}" for folder in _folders(known)]
    return lines + [_line(one, source, has_hashes=has_hashes) for one, source in known]


def unknown_lines(snapshot: Snapshot) -> List[str]:
    """Comments on the distributions of unknown source."""
    lines: List[str] = []
    for one in snapshot.distributions:
        if isinstance(one.source, UnknownSource):
            comment = f"{one.name} {one.version} ({one.source.reason})"
            lines.append(f"{NOT_KNOWN} {_in_one_line(comment)}")
    return lines


def read_unknown_names(text: str) -> FrozenSet[NormalizedName]:
    """The distributions that the comments of `unknown_lines` name."""
    found = set()
    for line in text.splitlines():
        words = line[len(NOT_KNOWN) :].split() if line.startswith(NOT_KNOWN) else []
        if words:
            found.add(canonicalize_name(words[0]))
    return frozenset(found)


def _in_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def find_named(snapshot: Snapshot) -> List[Named]:
    """The distributions that requirement lines name, each with its source."""
    found: List[Named] = []
    for one in snapshot.distributions:
        if one.name not in LEFT_OUT and not isinstance(one.source, UnknownSource):
            found.append((one, one.source))
    return found


def _has_hash(source: KnownSource) -> bool:
    return bool(getattr(source, "sha256", None))


def _folders(known: Sequence[Named]) -> List[str]:
    """The folders of files beside the document, for --find-links."""
    found: Dict[str, None] = {}
    for one, source in known:
        if isinstance(source, FileSource) and _is_found_by_name(one, source):
            found.setdefault(posixpath.dirname(source.path) or ".")
    return list(found)


def _line(one: RecordedDistribution, source: KnownSource, *, has_hashes: bool) -> str:
    if isinstance(source, IndexSource):
        if has_hashes and source.index == PYPI:
            return f"{one.name}=={one.version} --hash=sha256:{source.sha256}"
        return f"{one.name} @ {source.url}#sha256={source.sha256}"
    if isinstance(source, UrlSource):
        fragment = _fragment(sha256=source.sha256 or "", subdirectory=source.subdirectory)
        return f"{one.name} @ {source.url}{fragment}"
    if isinstance(source, FileSource):
        return _line_of_file(one, source, has_hashes=has_hashes)
    if isinstance(source, RepositorySource):
        if source.is_editable:
            return f"-e {repository_address(source, egg=one.name)}"
        return f"{one.name} @ {repository_address(source)}"
    return _line_of_directory(one, source)


def _line_of_file(one: RecordedDistribution, source: FileSource, *, has_hashes: bool) -> str:
    if posixpath.isabs(source.path):
        fragment = _fragment(sha256=source.sha256, subdirectory=source.subdirectory)
        return f"{one.name} @ {file_address(source.path)}{fragment}"
    if _is_found_by_name(one, source):
        named = f"{one.name}=={one.version}"
    else:
        named = _written_path(source.path, subdirectory=source.subdirectory)
    return f"{named} --hash=sha256:{source.sha256}" if has_hashes else named


def _is_found_by_name(one: RecordedDistribution, source: FileSource) -> bool:
    """Do pip and uv find the file in its folder by name and version? Not an archive master.zip."""
    is_plain = not posixpath.isabs(source.path) and not source.subdirectory
    return is_plain and is_named_by(source.filename, one.name, one.version)


def _line_of_directory(one: RecordedDistribution, source: DirectorySource) -> str:
    if source.is_editable:
        return f"-e {_written_path(source.path, subdirectory=source.subdirectory)}"
    if not posixpath.isabs(source.path):
        return _written_path(source.path, subdirectory=source.subdirectory)
    return f"{one.name} @ {file_address(source.path)}{_fragment(subdirectory=source.subdirectory)}"


def _written_path(path: str, *, subdirectory: str) -> str:
    """A path as pip and uv read it. A relative path begins with "./", because it would be a name
    otherwise. A path with spaces is written as a URL, because pip ends a path at a space, and uv
    accepts no quotes; so is one with a subdirectory, which needs a fragment."""
    is_absolute = posixpath.isabs(path)
    explicit = path if is_absolute or path.startswith(".") else f"./{path}"
    if _PLAIN_PATH.fullmatch(explicit) and not subdirectory:
        return explicit
    address = file_address(explicit) if is_absolute else f"file:{quote(explicit)}"
    return address + _fragment(subdirectory=subdirectory)


def file_address(path: str) -> str:
    """`file:///home/me/x%20y`."""
    return f"file://{quote(path)}"


def repository_address(source: RepositorySource, *, egg: str = "") -> str:
    """`git+https://host/x.git@COMMIT#subdirectory=y`. `egg`: the project if the line does not
    name it otherwise."""
    fragment = _fragment(egg=egg, subdirectory=source.subdirectory)
    return f"{source.vcs}+{source.url}@{source.commit}{fragment}"


def _fragment(**parts: str) -> str:
    written = [f"{key}={value}" for key, value in parts.items() if value]
    return f"#{'&'.join(written)}" if written else ""
