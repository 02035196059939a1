"""The requirement that installs a distribution again as it is recorded. Pure."""

from __future__ import annotations

from typing import Mapping

from safe_install.diagnosis.facts import Facts
from safe_install.models import InstalledDistribution


def recorded_requirement(distribution: InstalledDistribution, facts: Facts) -> str:
    """ "alpha==1.0"; "alpha @ https://.../alpha-1.0-py3-none-any.whl#sha256=..." where it has a
    recorded URL (PEP 610) that still exists and is not on a wheel host of its project."""
    value = distribution.direct_url or {}
    url = str(value.get("url") or "")
    by_name = facts.lost_archives | facts.hosted
    if not url or distribution.editable or distribution.name in by_name:
        return f"{distribution.name}=={distribution.version}"
    return f"{distribution.name} @ {_address(url, value)}"


def _address(url: str, value: Mapping[str, object]) -> str:
    repository = value.get("vcs_info")
    if isinstance(repository, dict):
        return f"{repository.get('vcs')}+{url}@{repository.get('commit_id')}"
    archive = value.get("archive_info")
    hashes = archive.get("hashes") if isinstance(archive, dict) else None
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    return f"{url}#sha256={sha256}" if sha256 and "#" not in url else url
