"""Finds the documents of the wheel index: the bundled ones, or a newer index that the user fetched.

The bundled documents are data of the package `safe_install.wheel_index` (the folder `wheel_index/`
of the repository). They are read through `pkgutil`, which also works in a zipapp. `safe-install
wheels --update` puts a newer index into the user's data folder: a folder of documents, and
`current.json` with the name of that folder and the hash of each document.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import IndexInvalid
from safe_install.folders import find_data_folder
from safe_install.index.document import (
    Mirror,
    parse_cuda_table,
    parse_json,
    parse_mirrors_table,
    parse_project,
    parse_torch_table,
)
from safe_install.index.facts import Catalog, CudaTable, Project, TorchTable

PACKAGE = "safe_install.wheel_index"
# The documents that are not about a project.
TABLES = frozenset({"torch", "cuda", "mirrors", "schema"})
POINTER = "current.json"


class Update(NamedTuple):
    """A newer index in the user's data folder."""

    date: str  # ISO 8601
    folder: Path
    sha256: Mapping[str, str]  # document name -> hash of its text
    url: str  # where it came from


def update_folder() -> Path:
    """The folder for the indexes that `wheels --update` fetches."""
    return find_data_folder() / "wheel-index"


@lru_cache(maxsize=None)
def current_update() -> Optional[Update]:
    """The update that is used; None if there is none, or the bundled index is as new. Errors:
    IndexInvalid."""
    pointer = update_folder() / POINTER
    try:
        text = pointer.read_text("utf-8")
    except OSError:
        return None
    found = parse_json(text, str(pointer))
    value = found if isinstance(found, dict) else {}
    try:
        update = Update(
            str(value["date"]),
            pointer.parent / str(value["folder"]),
            dict(value["sha256"]),
            str(value["url"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IndexInvalid(f"{pointer} is damaged", hint=_repair_hint(pointer.parent)) from error
    return update if update.date > bundled_date() else None


def bundled_date() -> str:
    """The date of the bundled index, ISO 8601."""
    return str(_data_package().DATE)


def index_date() -> str:
    """The date of the index that is used, ISO 8601."""
    update = current_update()
    return bundled_date() if update is None else update.date


class _Documents:
    """A Catalog of the bundled documents, or of an update. Each document is read when it is first
    needed."""

    def __init__(self, update: Optional[Update]) -> None:
        self._update = update
        self._projects: Dict[NormalizedName, Project] = {}

    @cached_property
    def projects(self) -> FrozenSet[NormalizedName]:
        """The projects of its documents."""
        names = [name for name in _document_names(self._update) if name not in TABLES]
        return frozenset(canonicalize_name(name) for name in names)

    def project(self, name: str) -> Project:
        """One project. Errors: IndexInvalid if it is not known or its document is not valid."""
        canonical = canonicalize_name(name)
        if canonical not in self._projects:
            self._projects[canonical] = self._read_project(name, canonical)
        return self._projects[canonical]

    def _read_project(self, name: str, canonical: NormalizedName) -> Project:
        if canonical not in self.projects:
            raise IndexInvalid(
                f"{name} is not in the wheel index",
                hint="`safe-install wheels` lists the projects that are",
            )
        project = parse_project(_read_document(self._update, canonical), f"{canonical}.json")
        if project.name != canonical:
            raise IndexInvalid(
                f"{canonical}.json: its name is {project.name}",
                hint="Name the file after the project.",
            )
        return project

    @cached_property
    def torch(self) -> TorchTable:
        """The facts about torch."""
        return parse_torch_table(_read_document(self._update, "torch"), "torch.json")

    @cached_property
    def cuda(self) -> CudaTable:
        """The facts about CUDA."""
        return parse_cuda_table(_read_document(self._update, "cuda"), "cuda.json")


@lru_cache(maxsize=None)
def bundled_catalog() -> Catalog:
    """The wheel index that is used: the bundled one, or a newer one that the user fetched."""
    return _Documents(current_update())


def known_projects() -> FrozenSet[NormalizedName]:
    """The names of all projects in the index."""
    return bundled_catalog().projects


def load_project(name: str) -> Project:
    """One project by its name. Errors: IndexInvalid if it is not known or its document is not
    valid."""
    return bundled_catalog().project(name)


def torch_table() -> TorchTable:
    """The facts about torch."""
    return bundled_catalog().torch


def cuda_table() -> CudaTable:
    """The facts about CUDA."""
    return bundled_catalog().cuda


@lru_cache(maxsize=None)
def known_mirrors() -> Mapping[str, Mirror]:
    """The mirrors of mirrors.json, by name."""
    return parse_mirrors_table(read_document("mirrors"), "mirrors.json")


def clear_caches() -> None:
    """Read all documents again when they are next needed. To be called after an update."""
    for cached in (current_update, bundled_catalog, known_mirrors):
        cached.cache_clear()


def _document_names(update: Optional[Update]) -> List[str]:
    if update is not None:
        return sorted(update.sha256)
    from importlib import resources  # late: it imports zipfile, and few commands list the projects

    package = _data_package()
    if hasattr(resources, "files"):
        names = [entry.name for entry in resources.files(package).iterdir()]
    else:  # Python 3.8
        names = list(resources.contents(package))
    return sorted(name[: -len(".json")] for name in names if name.endswith(".json"))


def read_document(name: str) -> object:
    """One document of the index that is used, as JSON. Errors: IndexInvalid."""
    return _read_document(current_update(), name)


def _read_document(update: Optional[Update], name: str) -> object:
    data = _read_bundled(name) if update is None else _read_updated(update, name)
    return parse_json(data.decode("utf-8"), f"{name}.json")


def _read_bundled(name: str) -> bytes:
    _data_package()
    data = pkgutil.get_data(PACKAGE, f"{name}.json")
    if data is None:
        raise IndexInvalid(f"{name}.json cannot be read", hint="Reinstall torch-safe-install.")
    return data


def _read_updated(update: Update, name: str) -> bytes:
    path = update.folder / f"{name}.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IndexInvalid(
            f"{path} cannot be read: {error}", hint=_repair_hint(update.folder.parent)
        ) from error
    import hashlib  # late: it loads OpenSSL, which only an update needs

    if hashlib.sha256(data).hexdigest() != update.sha256.get(name):
        raise IndexInvalid(
            f"{path} is not the document that was fetched", hint=_repair_hint(update.folder.parent)
        )
    return data


def _repair_hint(folder: Path) -> str:
    return (
        f"remove {folder}: the facts that came with the program serve then; newer ones: see --update in "
        "safe-install wheels --help"
    )


def _data_package() -> ModuleType:
    """The package with the documents. In a checkout it is a link to the folder at the top."""
    return importlib.import_module(PACKAGE)
