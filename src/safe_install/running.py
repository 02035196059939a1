"""Has this process in memory what is installed? For notebooks and servers, whose packages may be
replaced while they run.

Standard library only: it is imported into the program that asks.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Mapping, Optional

SITE_FOLDERS = ("site-packages", "dist-packages")
DELETED = " (deleted)"
STATE_FOLDER = ".safe-install"  # replaced files are kept below it, so that they can be put back
# A version as text, and nothing behind it: `".".join(...)` is computed.
VERSION_LINE = re.compile(
    r"""^__version__\s*(?::\s*str\s*)?=\s*['"](\d[^'"\n]*)['"][ \t]*(?:\#.*)?\r?$""", re.MULTILINE
)


def check_running() -> List[str]:
    """A sentence for each package of which this process has another state in memory than the one
    that is installed; none where all are the same.

    Compared are the versions of imported modules with those on the disk, and the libraries in
    memory (/proc/self/maps, on Linux) with the files from which they came.
    """
    sentences: Dict[str, str] = {}
    for name, module in sorted(loaded_packages(sys.modules).items()):
        loaded = vars(module)["__version__"]
        installed = _installed_version(module)
        if installed is not None and not is_same_version(loaded, installed):
            sentences[name] = (
                f"this process has {name} {loaded} in memory, {installed} is installed: restart it"
            )
    for name in replaced_packages(_read_maps()):
        sentences.setdefault(
            name, f"this process has files of {name} in memory that were replaced: restart it"
        )
    return list(sentences.values())


def loaded_packages(modules: Mapping[str, Any]) -> Dict[str, Any]:
    """The imported top-level modules that say their version as text."""
    found: Dict[str, Any] = {}
    for name, module in list(modules.items()):
        if "." in name or name == "__main__" or not isinstance(module, ModuleType):
            continue
        # Not by getattr: some modules compute it, and warn.
        if isinstance(vars(module).get("__version__"), str) and _file_of(module):
            found[name] = module
    return found


def is_same_version(one: str, other: str) -> bool:
    """Are they the same, as far as both say it? Metadata of torch leaves `+cu130` out."""
    public, _, local = one.partition("+")
    other_public, _, other_local = other.partition("+")
    if public != other_public:
        return False
    return local == other_local or not (local and other_local)


def replaced_packages(maps: str) -> List[str]:
    """The packages with a library in memory whose file is gone or was set aside.

    `maps`: the text of /proc/self/maps (proc(5)).
    """
    found: Dict[str, None] = {}
    for line in maps.splitlines():
        at = line.find("/")
        if at == -1:
            continue
        path = line[at:]
        is_set_aside = f"/{STATE_FOLDER}/" in path
        if not path.endswith(DELETED) and not is_set_aside:
            continue
        name = package_of(path[: -len(DELETED)] if path.endswith(DELETED) else path)
        if name is not None:
            found[name] = None
    return list(found)


def package_of(path: str) -> Optional[str]:
    """`torch` of `/env/lib/python3.11/site-packages/torch/lib/libc10.so`; None outside of such a
    folder."""
    parts = path.split("/")
    for folder in SITE_FOLDERS:
        if folder in parts:
            below = parts[parts.index(folder) + 1 :]
            return below[0].partition(".")[0] if below else None
    return None


def _installed_version(module: Any) -> Optional[str]:
    """The version that the package's files say now. Not that of its metadata: the two differ in
    many packages. None where it does not stand there as text."""
    path = Path(_file_of(module))
    beside = [path.parent / "version.py"] if path.name == "__init__.py" else []
    for file in (*beside, path):
        try:
            match = VERSION_LINE.search(file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match is not None:
            return match.group(1)
    return None


def _file_of(module: Any) -> str:
    path = vars(module).get("__file__")
    return path if isinstance(path, str) else ""


def _read_maps() -> str:
    try:
        maps = Path("/proc/self/maps")
        return maps.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""  # not Linux
