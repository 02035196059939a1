"""Snapshots of an environment, now or after a past change, from recorded facts alone. Pure."""

from __future__ import annotations

import re
from typing import List, Mapping, Optional, Sequence, Set

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.models import Environment, InstalledDistribution
from safe_install.program_archive import WHEELS
from safe_install.snapshot.difference import recorded_hashes
from safe_install.snapshot.locked import LockedEnvironment, filename_of, only_sha256, path_of
from safe_install.snapshot.manifest import BundledWheel, Manifest
from safe_install.snapshot.past import Change, versions_after
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    Source,
    TorchFacts,
    UnknownSource,
    UrlSource,
)
from safe_install.tags import accelerator_of_version, cuda_of_accelerator
from safe_install.torch_family import TORCH

NOT_RECORDED = UnknownSource("nothing is recorded of its source")  # a reason in messages


def describe_environment(environment: Environment) -> Snapshot:
    """The installed distributions, each with its recorded source."""
    interpreter, torch = environment.interpreter, environment.torch
    found = [_describe(one) for one in environment.installed.values()]
    facts = None
    if torch is not None:
        facts = TorchFacts(torch.runtime_version, torch.accelerator, torch.cuda or "")
    return Snapshot(
        interpreter.version,
        interpreter.platform,
        interpreter.libc,
        tuple(sorted(found, key=lambda one: one.name)),
        torch=facts,
    )


def _describe(distribution: InstalledDistribution) -> RecordedDistribution:
    return RecordedDistribution(
        distribution.name,
        distribution.version,
        read_source(distribution.direct_url, is_editable=distribution.editable),
        distribution.written_name,
        distribution.requested,
    )


def read_source(record: Optional[Mapping[str, object]], *, is_editable: bool) -> Source:
    """The source that a direct_url.json names (PEP 610)."""
    url = str((record or {}).get("url", ""))
    if record is None or not url:
        return NOT_RECORDED
    subdirectory = str(record.get("subdirectory") or "")
    info = record.get("vcs_info")
    if isinstance(info, Mapping):
        return RepositorySource(
            str(info.get("vcs", "")),
            url,
            str(info.get("commit_id", "")),
            str(info.get("requested_revision") or ""),
            subdirectory,
            is_editable,
        )
    if "dir_info" in record:
        return DirectorySource(path_of(url), is_editable, subdirectory)
    sha256 = only_sha256(sorted(recorded_hashes(record)))
    return UrlSource(url, filename_of(url), sha256, subdirectory=subdirectory)


def describe_lock(lock: LockedEnvironment) -> Snapshot:
    """The content of a lock as a snapshot, without a machine."""
    found: List[RecordedDistribution] = []
    for one in lock.distributions:
        source = one.source or NOT_RECORDED
        name = one.name or canonicalize_name(one.line)
        found.append(RecordedDistribution(name, one.version, source))
    ordered = tuple(sorted(found, key=lambda one: one.name))
    return Snapshot(lock.python, "", ("", ""), ordered)


def describe_manifest(manifest: Manifest) -> Snapshot:
    """The content of a bundle, with the torch that it is for."""
    found = [_describe_wheel(wheel) for wheel in manifest.wheels]
    target = manifest.made_for
    facts = None
    if target.torch:
        accelerator = accelerator_of_version(target.torch) or ""
        facts = TorchFacts(target.torch, accelerator, cuda_of_accelerator(accelerator) or "")
        # Without a version: in METADATA it may have no local part (2.8.0 for 2.8.0+cu128).
        found.append(RecordedDistribution(TORCH, "", NOT_RECORDED))
    return Snapshot(
        target.python,
        target.platform,
        target.libc,
        tuple(sorted(found, key=lambda one: one.name)),
        torch=facts,
    )


def _describe_wheel(wheel: BundledWheel) -> RecordedDistribution:
    source: Source = UrlSource(wheel.url, wheel.filename, wheel.sha256, wheel.size)
    if not wheel.url:
        source = FileSource(WHEELS + wheel.filename, wheel.filename, wheel.sha256, wheel.size)
    return RecordedDistribution(canonicalize_name(wheel.name), wheel.version, source)


# --- the past -------------------------------------------------------------------------------------


def describe_past(now: Snapshot, later: Sequence[Change]) -> Snapshot:
    """The environment before the `later` changes, which are in the order newest first. Changes by
    other installers in between are not known."""
    today = {one.name: one.version for one in now.distributions}
    past = versions_after(today, later)
    moved: Set[NormalizedName] = set()
    for change in later:
        moved.update(canonicalize_name(str(step["name"])) for step in change.steps)
    found = []
    for name, version in sorted(past.versions.items()):
        present = now.find(name)
        if present is None or name in moved:
            present = RecordedDistribution(name, version, NOT_RECORDED)
        found.append(present)
    torch = now.torch if TORCH not in moved else None
    return Snapshot(now.python, now.platform, now.libc, tuple(found), torch=torch)


def is_transaction(text: str) -> bool:
    """Is the text a transaction ID, such as `20261123T101112Z-1f43f2`?"""
    return re.fullmatch(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4,8}", text) is not None
