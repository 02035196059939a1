"""Checks whether this process has the installed packages in memory, or older ones. For notebooks
and servers, whose packages may be replaced while they run.

Standard library only, because it is imported into the user's program.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Dict, List, Mapping, Optional

SITE_FOLDERS = ("site-packages", "dist-packages")
DELETED = " (deleted)"
STATE_FOLDER = ".safe-install"  # replaced files are kept below it
# A literal version; not an expression such as `".".join(...)`.
VERSION_LINE = re.compile(
    r"""^__version__\s*(?::\s*str\s*)?=\s*['"](\d[^'"\n]*)['"][ \t]*(?:\#.*)?\r?$""", re.MULTILINE
)


def check_running() -> List[str]:
    """A sentence for each package of which this process has other files in memory than the
    installed ones; an empty list where there is none.

    The versions of imported modules are compared with those on the disk, and on Linux the libraries
    in memory (/proc/self/maps) with their files.
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


def loaded_packages(modules: Mapping[str, object]) -> Dict[str, ModuleType]:
    """The imported top-level modules whose `__version__` is a text, by name."""
    found: Dict[str, ModuleType] = {}
    for name, module in list(modules.items()):
        if "." in name or name == "__main__" or not isinstance(module, ModuleType):
            continue
        # Not by getattr, because some modules compute it with a warning.
        if isinstance(vars(module).get("__version__"), str) and _file_of(module):
            found[name] = module
    return found


def is_same_version(one: str, other: str) -> bool:
    """Are two versions the same? Local versions are compared only where both have one."""
    public, _, local = one.partition("+")
    other_public, _, other_local = other.partition("+")
    if public != other_public:
        return False
    return local == other_local or not (local and other_local)


def replaced_packages(maps: str) -> List[str]:
    """The packages with a library in memory whose file was deleted or replaced. `maps`: the text of
    /proc/self/maps (proc(5))."""
    found: Dict[str, None] = {}
    for line in maps.splitlines():
        start = line.find("/")
        if start == -1:
            continue
        path = line[start:]
        is_set_aside = f"/{STATE_FOLDER}/" in path
        if not path.endswith(DELETED) and not is_set_aside:
            continue
        name = package_of(path[: -len(DELETED)] if path.endswith(DELETED) else path)
        if name is not None:
            found[name] = None
    return list(found)


def package_of(path: str) -> Optional[str]:
    """The package of a path: `torch` for `/env/lib/python3.11/site-packages/torch/lib/libc10.so`;
    None outside of site-packages."""
    parts = path.split("/")
    for folder in SITE_FOLDERS:
        if folder in parts:
            below = parts[parts.index(folder) + 1 :]
            return below[0].partition(".")[0] if below else None
    return None


def _installed_version(module: ModuleType) -> Optional[str]:
    """The version in the package's files on the disk; None if it is no literal text there. The
    metadata is not used, because its version differs in many packages."""
    path = Path(_file_of(module))
    files = [path]
    if path.name == "__init__.py":
        files.insert(0, path.parent / "version.py")
    for file in files:
        try:
            match = VERSION_LINE.search(file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match is not None:
            return match.group(1)
    return None


def _file_of(module: ModuleType) -> str:
    path = vars(module).get("__file__")
    return path if isinstance(path, str) else ""


def _read_maps() -> str:
    try:
        maps = Path("/proc/self/maps")
        return maps.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""  # not Linux
