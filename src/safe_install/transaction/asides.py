"""Folders that pip renames while it replaces a distribution (`~orch`), found by name only."""

from __future__ import annotations

import os
from typing import List, Tuple

from safe_install.models import Finding, Scheme, Severity


def check_leftovers(scheme: Scheme) -> Tuple[Finding, ...]:
    """A warning if an interrupted pip left such folders."""
    sites = dict.fromkeys(os.path.realpath(str(site)) for site in (scheme.purelib, scheme.platlib))
    paths: List[str] = []
    for site in sites:
        paths += find_asides(site)
    if not paths:
        return ()
    names = ", ".join(os.path.basename(path) for path in paths[:5])
    return (
        Finding(
            "interrupted-pip",
            Severity.WARNING,
            names,
            f"pip was interrupted while it replaced something; it left {names} in "
            f"{os.path.dirname(paths[0])}",
            "`safe-install recover` puts back or moves away what is certain, and says what is not.",
        ),
    )


def find_asides(directory: str) -> List[str]:
    """The paths of such folders in a site-packages folder."""
    try:
        with os.scandir(directory) as entries:
            renamed = [entry for entry in entries if entry.name.startswith("~")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(entry.path for entry in renamed if entry.is_dir(follow_symlinks=False))
