"""The directories to which a change writes, and checks whether they can be changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, Mapping, Sequence

from safe_install.environment.record import read_record_text
from safe_install.errors import Refused
from safe_install.models import InstalledDistribution, Scheme
from safe_install.transaction.moves import CLOSED_PACKAGES, Areas, MoveRefusal, is_within
from safe_install.transaction.ownership import Ownership, Resolver, find_conda_package, find_refusal


def make_areas(prefix: Path, scheme: Scheme) -> Areas:
    """The directories of an installation scheme, without symbolic links."""
    real = [os.path.realpath(str(path)) for path in (scheme.purelib, scheme.platlib)]
    return Areas(
        prefix=os.path.realpath(str(prefix)),
        sites=tuple(dict.fromkeys(real)),
        scripts=os.path.realpath(str(scheme.scripts)),
        others=(os.path.realpath(str(scheme.include)), os.path.realpath(str(scheme.data))),
    )


def find_closed_folders(
    keep: Sequence[InstalledDistribution], closed_too: Mapping[Path, str]
) -> Dict[str, str]:
    """The folders to which no other distribution may add a file -> their owners. `closed_too`:
    further folders -> owners."""
    closed = {os.path.realpath(str(folder)): owner for folder, owner in closed_too.items()}
    for distribution in keep:
        for package in CLOSED_PACKAGES.get(distribution.name, ()):
            # Before torch 1.13 functorch was a separate project.
            if package != "functorch" or _lists_package(distribution, package):
                folder = os.path.realpath(str(distribution.location / package))
                closed[folder] = str(distribution.name)
    return closed


def _lists_package(distribution: InstalledDistribution, package: str) -> bool:
    """Does the RECORD list files of this package? The text is searched, not parsed, because torch
    has 15,000 rows."""
    text = read_record_text(distribution.metadata_path) or ""
    return f"\n{package}/" in f"\n{text}"


def make_ownership(
    installed: Iterable[InstalledDistribution], prefix: Path, scheme: Scheme
) -> Ownership:
    """The owner of each file among these distributions."""
    return Ownership(tuple(installed), make_areas(prefix, scheme), Resolver())


def check_place(
    prefix: Path,
    scheme: Scheme,
    remove: Sequence[InstalledDistribution] = (),
    *,
    beside: Sequence[InstalledDistribution] = (),
) -> None:
    """Raise Refused if the environment cannot be changed, before anything is fetched: for its
    directories, file systems, write permissions, distributions of conda or without a RECORD.

    `remove`: distributions that are replaced; `beside`: distributions whose files are overwritten.
    """
    areas = make_areas(prefix, scheme)
    device = os.stat(areas.prefix).st_dev
    for directory in (*areas.sites, areas.scripts):
        if not is_within(directory, areas.prefix):
            raise Refused(
                f"{directory} is not inside of {areas.prefix}: one change could not cover both",
                hint="Use a virtual environment: python -m venv .venv",
            )
        present = directory
        while not os.path.isdir(present):
            present = os.path.dirname(present)
        check_device(present, device, areas.prefix)
        check_writable(present)
    refuse_conda_packages([*remove, *beside], areas.prefix)
    for distribution in remove:
        refusal = find_refusal(distribution, areas)
        if refusal is not None:
            raise make_refused(refusal)


def check_device(directory: str, device: int, prefix: str) -> None:
    """Raise Refused for a directory on another device than the prefix."""
    if os.stat(directory).st_dev != device:
        raise Refused(
            f"{directory} is on another file system than {prefix}: files cannot trade places "
            "between them",
            hint="Use a virtual environment that lies on one file system.",
        )


def check_writable(directory: str) -> None:
    """Raise Refused for a directory into which this user may not write."""
    if os.access(directory, os.W_OK | os.X_OK):
        return
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise Refused(
            f"{directory} is on a file system that is mounted read-only",
            hint="Mount it writable, or use an environment elsewhere: python -m venv.",
        )
    if os.geteuid() == 0:
        raise Refused(
            f"{directory} cannot be written, not even by root: it is immutable",
            hint=f"Look at it: lsattr -d {directory}; chattr -i {directory} makes it writable.",
        )
    raise Refused(
        f"{directory} cannot be written by this user",
        hint="Run as the user that owns this environment, add --user, or use a virtual environment of your own.",
    )


def refuse_conda_packages(remove: Sequence[InstalledDistribution], prefix: str) -> None:
    """Raise Refused if conda installed one of these distributions: conda would keep listing its
    files."""
    packages = {str(item.name): find_conda_package(item, prefix) for item in remove}
    owned = {name: package for name, package in packages.items() if package is not None}
    if owned:
        wanted = " ".join(owned)
        raise Refused(
            f"conda installed {', '.join(owned)}: replaced by pip, conda would keep naming the old "
            "version",
            hint=f"Change it with conda, or take it out of conda's hands first: "
            f"conda remove --force --prefix {prefix} {' '.join(dict.fromkeys(owned.values()))}; "
            f"then safe-install install {wanted}.",
        )


def make_refused(refusal: MoveRefusal) -> Refused:
    """The error for a refusal of the planner."""
    return Refused(f"{refusal.path} {refusal.reason}", hint=refusal.hint)
