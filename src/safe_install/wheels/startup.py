"""The effects of a wheel's files that need no call, by their paths alone. Pure.

Files that are refused instead are in `transaction.moves`; docs/security.md has one table of both.
"""

from __future__ import annotations

import re
from typing import Iterable, Optional, Tuple

# The site-packages folders that a wheel's `data` folder can reach.
_SITE_IN_DATA = re.compile(
    r"(local/)?lib(64)?/(python|pypy)[\d.]+t?/(site|dist)-packages/(?P<rest>.+)"
)
# site.py reads `.pth` and, since Python 3.15, `.start` (PEP 829) directly in site-packages.
_READ_BY_SITE = re.compile(r"[^/]+\.(pth|start)")
_IMPORTED_BY_SITE = re.compile(r"(sitecustomize|usercustomize)(\.(py|pyc|[\w.-]*so))?(/.*)?")
# Scripts that the shell runs, and variables that it sets, when an environment is activated.
_READ_BY_ACTIVATION = re.compile(
    r"etc/(conda/((de)?activate\.d|env_vars\.d)|profile\.d|fish/conf\.d)/.+"
)
_LIBRARY = re.compile(r"lib(64)?/[^/]+\.so(\.[\d.]+)?")


def runs_at_start(site_path: str) -> bool:
    """Is it run at every start of the interpreter? `site_path` is relative to site-packages."""
    return (
        _READ_BY_SITE.fullmatch(site_path) is not None
        or _IMPORTED_BY_SITE.fullmatch(site_path) is not None
    )


def find_start_files(files: Iterable[str], dist_info: str) -> Tuple[str, ...]:
    """The files of a wheel that are read at every start of the interpreter, as archive paths."""
    found = []
    for path in files:
        site_path = find_site_path(path, dist_info)
        if site_path is not None and runs_at_start(site_path):
            found.append(path)
    return tuple(found)


def runs_code(name: str, content: bytes) -> bool:
    """Does a file that is read at start run code? A .pth file may only name folders.

    site.py executes the lines of a .pth file that begin with `import` and a space or a tab.
    """
    if not name.endswith(".pth"):
        return True
    lines = content.replace(b"\r", b"\n").split(b"\n")
    return any(line.startswith((b"import ", b"import\t")) for line in lines)


def find_activation_files(files: Iterable[str], dist_info: str) -> Tuple[str, ...]:
    """The files that a shell reads when the environment is activated."""
    return tuple(
        path
        for path in files
        if _READ_BY_ACTIVATION.fullmatch(_find_data_path(path, dist_info) or "")
    )


def find_prefix_libraries(files: Iterable[str], dist_info: str) -> Tuple[str, ...]:
    """Libraries for the environment's own lib folder, which conda's Python and programs search
    before the system's."""
    return tuple(
        path for path in files if _LIBRARY.fullmatch(_find_data_path(path, dist_info) or "")
    )


def find_site_path(path: str, dist_info: str) -> Optional[str]:
    """The path in site-packages; None for a file that is installed elsewhere."""
    folder = _data_folder(dist_info)
    if not path.startswith(folder):
        return path
    scheme, _, rest = path[len(folder) :].partition("/")
    if scheme in ("purelib", "platlib"):
        return rest
    match = _SITE_IN_DATA.fullmatch(rest) if scheme == "data" else None
    return match.group("rest") if match is not None else None


def _find_data_path(path: str, dist_info: str) -> Optional[str]:
    """The path below the prefix, for a file of the wheel's `data` folder."""
    folder = f"{_data_folder(dist_info)}data/"
    return path[len(folder) :] if path.startswith(folder) else None


def _data_folder(dist_info: str) -> str:
    return f"{dist_info[: -len('.dist-info')]}.data/"
