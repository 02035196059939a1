"""The modules of this process: a change may replace their files."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import FrozenSet


def loaded_files() -> FrozenSet[str]:
    """The source files of all imported modules, without symbolic links in their folders."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    parts = [os.path.split(file) for file in files if isinstance(file, str)]
    folders = {folder: os.path.realpath(folder) for folder, _ in parts}  # far fewer than files
    return frozenset(f"{folders[folder]}{os.sep}{name}" for folder, name in parts)


def load_packages(*names: str) -> None:
    """Import every module of these packages. Modules whose requirements are missing are skipped."""
    for name in names:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}.", onerror=lambda _: None):
            if found.name.rpartition(".")[2] not in ("__main__", "script"):
                try:
                    importlib.import_module(found.name)
                except ImportError:
                    continue
