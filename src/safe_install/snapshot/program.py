"""Collects the files of this program and its dependencies for a bundle, from the running
installation (a zipapp, a wheel or a clone)."""

from __future__ import annotations

import pkgutil
import re
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import safe_install
from safe_install.errors import PipFailed, Refused
from safe_install.index import catalog
from safe_install.program_archive import MANIFEST, is_of_program
from safe_install.requirements import applies
from safe_install.snapshot.bundle_file import open_bundle

DISTRIBUTION = "torch-safe-install"
OWN = "safe_install"
PINNED = "program_requirements.txt"
OLDEST_PYTHON = "3.8"  # that safe-install supports
# Dependencies that a bundle does not need, because it builds nothing.
LEFT_OUT = frozenset({canonicalize_name("tomli")})
# Installed files that belong to this machine, or that only one version of Python can read.
_OF_THIS_MACHINE = re.compile(
    r"(^|/)__pycache__/|\.(so|pyd|dylib|pyc|pth)$"
    r"|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$"
)


@dataclass(frozen=True)
class ProgramFiles:
    """The files of the program for an archive."""

    files: Mapping[str, bytes]  # name -> content
    python: str  # the oldest Python that runs it, "3.8"


# Downloads the wheels of requirement lines into a folder, which is returned. Errors: PipFailed.
Fetch = Callable[[Sequence[str]], Path]


def read_program(python: str, fetch: Fetch) -> ProgramFiles:
    """The running program for a version of Python such as "3.8.18". `fetch`: downloads the
    dependencies where the installed ones do not run on that Python. Errors: Refused."""
    archive = find_archive(safe_install)
    if archive is not None:
        files, oldest = _read_archive(archive)
        if Version(python) < Version(oldest):
            raise _unfit(f"that of {archive} needs Python {oldest}", python)
        return ProgramFiles({**files, **_read_newer_facts()}, oldest)
    own = dict(_own_files(Path(safe_install.__file__).parent))
    try:
        needed, oldest = _read_installed(python), ".".join(python.split(".")[:2])
    except Refused as error:
        needed, oldest = _fetch_needed(fetch, error), OLDEST_PYTHON
    return ProgramFiles({**own, **needed, **_read_newer_facts()}, oldest)


def find_archive(package: ModuleType) -> Optional[Path]:
    """The zipapp or bundle that a package was imported from; None if there is none."""
    loader = package.__spec__.loader if package.__spec__ is not None else None
    found = getattr(loader, "archive", None)
    return Path(found) if found is not None else None


def _read_archive(path: Path) -> Tuple[Dict[str, bytes], str]:
    """The files of a zipapp or bundle, and the oldest Python that runs it. A zipapp runs on every
    supported Python."""
    files: Dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            if is_of_program(name):
                files[name] = archive.read(name)
    is_bundle = MANIFEST in names
    return files, open_bundle(path).manifest.program_python if is_bundle else OLDEST_PYTHON


def _read_installed(python: str) -> Dict[str, bytes]:
    """The installed dependencies. Errors: Refused."""
    files: Dict[str, bytes] = {}
    for distribution in find_needed(python):
        files.update(_files_of(distribution))
    return files


def _fetch_needed(fetch: Fetch, refused: Refused) -> Dict[str, bytes]:
    """The dependencies of the zipapp, for every supported Python. Errors: Refused."""
    text = (pkgutil.get_data("safe_install.snapshot", PINNED) or b"").decode("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    try:
        folder = fetch(lines)
    except PipFailed as error:
        raise refused from error
    files: Dict[str, bytes] = {}
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and not _OF_THIS_MACHINE.search(name):
                    files[name] = archive.read(name)
    return files


def _own_files(package: Path) -> Iterator[Tuple[str, bytes]]:
    """The files of the package itself."""
    for path in _walk(package):
        name = f"{OWN}/{path.relative_to(package).as_posix()}"
        if not _OF_THIS_MACHINE.search(name) and not name.endswith(".md"):
            yield name, path.read_bytes()


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _files_of(distribution: metadata.Distribution) -> Iterator[Tuple[str, bytes]]:
    for file in distribution.files or ():
        name = file.as_posix()
        is_inside = not name.startswith(("/", ".."))
        path = Path(str(distribution.locate_file(file)))
        if is_inside and not _OF_THIS_MACHINE.search(name) and path.is_file():
            yield name, path.read_bytes()


def find_needed(python: str) -> List[metadata.Distribution]:
    """The installed distributions of direct and indirect dependencies. Errors: Refused for one that
    is missing, or does not run on that Python."""
    found: Dict[str, metadata.Distribution] = {}
    waiting = _requirements_of(metadata.distribution(DISTRIBUTION), python)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in LEFT_OUT:
            found[name] = _find_installed(name, python)
            waiting += _requirements_of(found[name], python)
    return [found[name] for name in sorted(found)]


def _find_installed(name: str, python: str) -> metadata.Distribution:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise _unfit(f"{name} is not installed beside this safe-install", python) from error
    wanted = ",".join(distribution.metadata.get_all("Requires-Python") or ())
    # "3.8" stands for its newest patch release.
    exact_python = python if python.count(".") >= 2 else f"{python}.99"
    if not SpecifierSet(wanted).contains(exact_python):
        version = distribution.version
        raise _unfit(f"the {name} {version} beside this safe-install needs {wanted}", python)
    return distribution


def _requirements_of(distribution: metadata.Distribution, python: str) -> List[str]:
    """The names of a distribution's requirements on that Python."""
    values = {"python_version": ".".join(python.split(".")[:2])}
    names = []
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if applies(requirement, values):
            names.append(str(canonicalize_name(requirement.name)))
    return names


def _unfit(why: str, python: str) -> Refused:
    return Refused(
        f"the bundle's program has to run on Python {python}, and {why}",
        hint=f"Make the bundle with the zipapp, or with a safe-install that is installed for Python {python}.",
    )


def _read_newer_facts() -> Mapping[str, bytes]:
    """The files of a newer wheel index in the user's data folder; they replace the bundled ones."""
    update = catalog.current_update()
    if update is None:
        return {}
    folder = catalog.PACKAGE.replace(".", "/")
    files = {
        f"{folder}/{name}.json": (update.folder / f"{name}.json").read_bytes()
        for name in update.sha256
    }
    files[f"{folder}/__init__.py"] = f'DATE = "{update.date}"\n'.encode()
    return files
