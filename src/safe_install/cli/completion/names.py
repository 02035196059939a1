"""The names for completion, read from disk: no network, no process, and never an error."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from importlib import resources
from typing import Iterator, List, Mapping, Optional

PACKAGE = "safe_install.wheel_index"
TABLES = frozenset(["cuda", "mirrors", "schema", "torch"])  # no projects
# Placeholder names on the package index, which nobody installs.
NOT_OFFERED = frozenset(["pytorch", "pytorch-triton", "torchtriton"])
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*$")  # what a shell takes as it stands
METADATA = re.compile(r"(?P<name>[^-]+)-[^-]+(-py[0-9.]+)?\.(dist-info|egg-info)$")


class NamesOnDisk:
    """Implements `words.Names`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def projects(self) -> List[str]:
        """The files of the wheel index, bundled or newer; and torch."""
        found = {*_bundled_documents(), *self._updated_documents()}
        return sorted({"torch", *(found - TABLES - NOT_OFFERED)})

    def distributions(self, python: Optional[str]) -> List[str]:
        """Normalized names, from the metadata folders of the environment's site-packages."""
        prefix = self._find_prefix(python)
        names = {name for folder in _site_folders(prefix) for name in _read_distributions(folder)}
        return sorted(names)

    def transactions(self, python: Optional[str]) -> List[str]:
        """Committed transactions, newest first."""
        from safe_install.transaction.recovery.transactions import list_transactions

        try:
            listed = list_transactions(self._find_prefix(python))
        except OSError:
            return []
        return [
            name[len("txn-") :]
            for name, what in listed
            if what == "committed" and PLAIN.match(name)
        ]

    def staged(self, python: Optional[str]) -> List[str]:
        """The IDs of staged changes, newest first."""
        state = os.path.join(self._find_prefix(python), ".safe-install")
        names = sorted(_list(state), reverse=True)
        return [
            name[len("staged-") :]
            for name in names
            if name.startswith("staged-")
            and PLAIN.match(name)
            and os.path.isdir(os.path.join(state, name, "stage"))
        ]

    def _updated_documents(self) -> List[str]:
        """The newer index in the user's data folder, written by `wheels --update`
        (`index.catalog`)."""
        data = self._environ.get("XDG_DATA_HOME", "").strip() or os.path.expanduser(
            "~/.local/share"
        )
        try:
            with open(
                os.path.join(data, "torch-safe-install", "wheel-index", "current.json"), "rb"
            ) as file:
                return [name for name in json.load(file)["sha256"] if PLAIN.match(name)]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _find_prefix(self, python: Optional[str]) -> str:
        """The environment's folder, found as by `environment.interpreter`, but without running the
        interpreter."""
        named = python or self._environ.get("SAFE_INSTALL_PYTHON")
        if named:
            return self._prefix_of(os.path.expanduser(named))
        for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            active = self._environ.get(variable)
            if active and not _is_of_a_tool(active):
                return active
        if _is_of_a_tool(sys.prefix):
            return self._prefix_of("python3")
        return sys.prefix

    def _prefix_of(self, python: str) -> str:
        if os.path.isdir(python):
            return python
        executable = shutil.which(python, path=self._environ.get("PATH")) or python
        return os.path.dirname(os.path.dirname(os.path.abspath(executable)))


def _bundled_documents() -> List[str]:
    try:
        if hasattr(resources, "files"):
            files = [entry.name for entry in resources.files(PACKAGE).iterdir()]
        else:  # Python 3.8
            files = list(resources.contents(PACKAGE))
    except (ImportError, OSError):
        return []
    return [name[: -len(".json")] for name in files if name.endswith(".json")]


def _site_folders(prefix: str) -> Iterator[str]:
    """site-packages, and dist-packages of Debian."""
    for library in ("lib", "lib64", "local/lib"):
        for python in _list(os.path.join(prefix, library)):
            if python.startswith("python3"):
                yield os.path.join(prefix, library, python, "site-packages")
                yield os.path.join(prefix, library, python, "dist-packages")


def _read_distributions(folder: str) -> Iterator[str]:
    for entry in _list(folder):
        match = METADATA.match(entry)
        if match is not None and PLAIN.match(match.group("name")):
            yield re.sub(r"[-_.]+", "-", match.group("name")).lower()


def _list(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_of_a_tool(prefix: str) -> bool:
    """Is it an environment that pipx or `uv tool` made for one program?"""
    return any(
        os.path.isfile(os.path.join(prefix, name))
        for name in ("pipx_metadata.json", "uv-receipt.toml")
    )
