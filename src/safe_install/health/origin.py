"""Which torch is imported, and is it the installed one? Decisions only; every path is resolved.

pip and this tool change the torch whose metadata they find in the environment's own site-packages.
Another that lies before it on sys.path (PYTHONPATH, the user site, a .pth file, the working folder)
is imported, and never changed.
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
    """Folders that tell whose a torch is."""

    own: FrozenSet[Path] = frozenset()  # where an install of this environment puts files
    user: Optional[Path] = None
    pythonpath: FrozenSet[Path] = frozenset()
    base_prefix: Optional[Path] = None


def check_origin(
    imported: Optional[Path], version: Optional[str], places: Sequence[TorchPlace], sites: Sites
) -> Tuple[Finding, ...]:
    """`imported`: torch's folder, or the file torch.py, as a fresh process had it; None where it
    did not import."""
    if imported is None:
        return ()
    # two where one folder is a link to the other
    same = [place for place in places if place.torch == imported]
    here = next((place for place in same if place.location in sites.own), same[0] if same else None)
    location = here.location if here else imported.parent
    installed = [place for place in places if place.version is not None]
    own = next((place for place in installed if place.location in sites.own), None)
    if any(place.editable for place in installed):
        return (
            () if location in sites.own else (_outside(imported, version, "an editable install"),)
        )
    if location in sites.own:
        return () if own is not None else (_without_metadata(imported, version),)
    others = [place for place in installed if place.location != location]
    hidden = own or next(iter(others), None)
    if hidden is not None:
        return (_shadowed(imported, version, hidden, location, sites),)
    if here is None or here.version is None:
        return (_without_metadata(imported, version),)
    return (_outside(imported, version, _source(location, sites)),)


def is_whole(places: Sequence[TorchPlace]) -> bool:
    """Is there a torch with both files and metadata?"""
    return any(
        place.version is not None and (place.files == "package" or place.editable)
        for place in places
    )


def check_missing(places: Sequence[TorchPlace], executable: Path) -> Finding:
    """Why there is no torch that could be asked, or none that imports."""
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
    """`torch`: what `import torch` would take from the working folder, if anything."""
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


def _outside(imported: Path, version: Optional[str], source: str) -> Finding:
    return Finding(
        "torch-elsewhere",
        Severity.NOTE,
        "torch",
        f"torch {version} comes from {imported} ({source}), which is not a folder of this "
        "environment",
    )


def _source(location: Path, sites: Sites) -> str:
    if location in sites.pythonpath:
        return "PYTHONPATH"
    if location == sites.user:
        return "the user site"
    if sites.base_prefix is not None and sites.base_prefix in location.parents:
        return "the base environment"
    return "another folder on sys.path"
