"""Checks whether the torch that is imported is the installed one. Pure; all paths are real paths.

pip and this tool change the torch with metadata in the environment's own site-packages. If another
one comes before it on sys.path (from PYTHONPATH, the user site, a .pth file or the working folder),
that one is imported, but never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Optional, Sequence, Tuple

from safe_install.health.cuda import install_command
from safe_install.models import Finding, Severity, TorchPlace
from safe_install.requirements import is_version


@dataclass(frozen=True)
class Sites:
    """The folders by which the source of a torch is recognized."""

    own: FrozenSet[Path] = frozenset()  # the environment's site-packages
    user: Optional[Path] = None  # the user site
    pythonpath: FrozenSet[Path] = frozenset()
    base_prefix: Optional[Path] = None


def check_origin(
    imported: Optional[Path], version: Optional[str], places: Sequence[TorchPlace], sites: Sites
) -> Tuple[Finding, ...]:
    """A finding, if the imported torch is not the installed one.

    `imported`: the folder of torch, or the file torch.py, that a fresh process imported; None: it
    does not import. `version`: that of the imported torch. `places`: all that are on sys.path.
    """
    if imported is None:
        return ()
    here = _place_of(imported, places, sites)
    location = here.location if here is not None else imported.parent
    is_own = location in sites.own
    installed = [place for place in places if place.version is not None]
    if any(place.editable for place in installed):
        return () if is_own else (_elsewhere(imported, version, "an editable install"),)
    own = [place for place in installed if place.location in sites.own]
    if is_own:
        return () if own else (_without_metadata(imported, version),)
    others = [place for place in installed if place.location != location]
    hidden = [*own, *others]
    if hidden:
        return (_shadowed(imported, version, hidden[0], location, sites),)
    if here is None or here.version is None:
        return (_without_metadata(imported, version),)
    return (_elsewhere(imported, version, _source(location, sites)),)


def _place_of(imported: Path, places: Sequence[TorchPlace], sites: Sites) -> Optional[TorchPlace]:
    """The place of the imported torch; None: it is not on sys.path. Two places have the same torch
    if one folder is a link to the other: then the environment's own."""
    same = [place for place in places if place.torch == imported]
    own = [place for place in same if place.location in sites.own]
    return next(iter([*own, *same]), None)


def is_whole(places: Sequence[TorchPlace]) -> bool:
    """Is there a torch with both files and metadata?"""
    installed = [place for place in places if place.version is not None]
    return any(place.files == "package" or place.editable for place in installed)


def check_missing(places: Sequence[TorchPlace], executable: Path) -> Finding:
    """Why no torch is installed that can be checked, or why the installed one does not import."""
    for place in places:
        if place.version is not None and place.files != "package" and not place.editable:
            return _error(
                "torch-files-missing",
                f"torch {place.version} is recorded in {place.location}, and its files are gone: "
                f"{place.location}/torch"
                + (" has no __init__.py" if place.files == "namespace" else " does not exist"),
                f"Install it again: safe-install install --force-reinstall torch=={place.version}.",
            )
    for place in places:
        if place.version is not None and place.files == "package" and is_version(place.version):
            return _error(
                "torch-files-missing",
                f"torch {place.version} is recorded in {place.location}, and {place.torch} does not "
                "say what it is: its version.py is not there, or cannot be read",
                f"Install it again: safe-install install --force-reinstall torch=={place.version}.",
            )
    for place in places:
        if place.files == "namespace":
            return _error(
                "torch-leftover",
                f"torch is not installed for {executable}; {place.torch} is what is left of one "
                "(no __init__.py): "
                "`import torch` gives an empty module, \"module 'torch' has no attribute 'cuda'\"",
                f"Remove {place.torch}, then install torch.",
            )
        if place.files:
            return _error(
                "torch-without-metadata",
                f"torch is not installed for {executable}; {place.torch} is there without metadata "
                "(torch-*.dist-info)",
                f"Remove {place.torch}, then install torch.",
            )
    return _error(
        "torch-missing",
        f"torch is not installed for {executable}",
        "Name the right interpreter with --python, or install torch.",
    )


def check_working_folder(
    folder: Path, torch: Optional[Path], imported: Optional[Path]
) -> Tuple[Finding, ...]:
    """An error, if `import torch` takes another torch from the working folder.

    `torch`: the one in the working folder, or None. `imported`: the one that is imported elsewhere.
    """
    if torch is None or torch == imported:
        return ()
    return (
        _error(
            "torch-shadowed",
            f"in {folder} Python imports {torch} as torch (python -c, python -m, scripts of this "
            "folder), and not the "
            f"installed one{f' in {imported}' if imported else ''}",
            f"Rename {torch}, or work in another folder.",
        ),
    )


def _error(check: str, detail: str, hint: str) -> Finding:
    return Finding(check, Severity.ERROR, "torch", detail, hint)


def _without_metadata(imported: Path, version: Optional[str]) -> Finding:
    again = install_command(version or "", "--force-reinstall", "--no-deps")
    return _error(
        "torch-without-metadata",
        f"torch {version} is imported from {imported}, and its metadata (torch-*.dist-info) is not "
        "there: "
        "pip takes torch for not installed",
        f"Install it again, files and metadata: {again}.",
    )


def _shadowed(
    imported: Path, version: Optional[str], hidden: TorchPlace, location: Path, sites: Sites
) -> Finding:
    source = _source(location, sites)
    hints = {
        "PYTHONPATH": f"Take {location} off PYTHONPATH.",
        "the user site": "Set PYTHONNOUSERSITE=1, or remove it: python -m pip uninstall torch, outside of a virtual "
        "environment.",
    }
    return _error(
        "torch-shadowed",
        f"torch {version} is imported from {imported} ({source}), and not torch {hidden.version}, "
        "which is "
        f"installed in {hidden.location}",
        hints.get(
            source,
            f"Remove {location} from sys.path: look for the .pth file or sitecustomize that adds "
            "it.",
        ),
    )


def _elsewhere(imported: Path, version: Optional[str], source: str) -> Finding:
    return Finding(
        "torch-elsewhere",
        Severity.NOTE,
        "torch",
        f"torch {version} comes from {imported} ({source}), which is not a folder of this "
        "environment",
    )


def _source(location: Path, sites: Sites) -> str:
    """Why a folder is on sys.path."""
    if location in sites.pythonpath:
        return "PYTHONPATH"
    if location == sites.user:
        return "the user site"
    if sites.base_prefix is not None and sites.base_prefix in location.parents:
        return "the base environment"
    return "another folder on sys.path"
