"""Makes wheels for `doctor --fix` from files that the history keeps, without any network."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Mapping, Sequence

from packaging.utils import NormalizedName

from safe_install.errors import SafeInstallError
from safe_install.models import Environment
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.transaction.kept_files import find_kept
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.repack import repack


def pack_kept(
    requirements: Sequence[str], environment: Environment, folder: Path
) -> Mapping[NormalizedName, Path]:
    """Distribution -> a wheel in `folder`, for each requirement that names the recorded version and
    whose files a past change keeps. A distribution that cannot be packed is left out."""
    found: Dict[NormalizedName, Path] = {}
    interpreter = environment.interpreter
    for text in requirements:
        name = requirement_name(text)
        distribution = environment.installed.get(name) if name is not None else None
        if name is None or distribution is None or not _is_as_recorded(text, distribution.version):
            continue
        try:
            files = find_kept(interpreter.prefix, distribution)
            if files is None:
                continue
            wheel = repack(distribution, files, interpreter.scheme, folder)
            if wheel is not None:
                open_wheel(wheel, verify_members=False)
                found[name] = wheel
        except (OSError, ValueError, SafeInstallError):
            continue
    return found


def _is_as_recorded(text: str, version: str) -> bool:
    """Does a requirement name exactly this version ("alpha==1.0"), or a URL?"""
    requirement = parse_requirement(text)
    if requirement is None:
        return False
    return bool(requirement.url) or str(requirement.specifier) == f"=={version}"
