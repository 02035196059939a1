"""Loads modules of this process before a change replaces their files, and lists the loaded ones."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import FrozenSet


def loaded_files() -> FrozenSet[str]:
    """The source files of all imported modules. Symbolic links in their folders are resolved."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    parts = [os.path.split(file) for file in files if isinstance(file, str)]
    # Each folder is resolved once: there are far fewer folders than files.
    folders = {folder: os.path.realpath(folder) for folder, _ in parts}
    return frozenset(f"{folders[folder]}{os.sep}{name}" for folder, name in parts)


def load_packages(*names: str) -> None:
    """Import every module of these packages. A module that cannot be imported is skipped: it may
    need a package that is not installed."""
    for name in names:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}.", onerror=lambda _: None):
            if found.name.rpartition(".")[2] in ("__main__", "script"):
                continue
            try:
                importlib.import_module(found.name)
            except ImportError:
                continue
