"""Notes on a snapshot that others will use. Pure."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Tuple

from safe_install.models import Finding, Severity
from safe_install.snapshot.sources import is_hidden
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    Source,
    UnknownSource,
    UrlSource,
    is_tree,
)

SHOWN = 6  # names in one sentence


def make_notes(
    snapshot: Snapshot,
    *,
    by_name: Sequence[str] = (),
    foreign: Sequence[str] = (),
    twice: Sequence[str] = (),
) -> Tuple[Finding, ...]:
    """Findings on a snapshot: distributions of which something is not certain.

    `by_name`: distributions whose file was found by name, version and wheel tags only. `foreign`:
    distributions that another program has changed since the time of the snapshot. `twice`:
    distributions with two dist-info folders.
    """
    findings = [*_unknown_sources(snapshot), *_uncertain_sources(snapshot, by_name, twice)]
    if foreign:
        detail = f"changed since by others than safe-install, and may have been different then: {_listed(foreign)}"
        findings.append(Finding("changed-by-others", Severity.WARNING, foreign[0], detail))
    return tuple(findings)


def _uncertain_sources(
    snapshot: Snapshot, by_name: Sequence[str], twice: Sequence[str]
) -> List[Finding]:
    findings: List[Finding] = []
    if twice:
        detail = f"recorded twice, and named as one of the two: {_listed(twice)}"
        hint = "safe-install doctor says what to do about it."
        findings.append(Finding("recorded-twice", Severity.WARNING, twice[0], detail, hint))
    if by_name:
        detail = (
            f"found by name, version and wheel tags, because the index has no hash of their "
            f"metadata: {_listed(by_name)}"
        )
        findings.append(Finding("source-by-name", Severity.NOTE, by_name[0], detail))
    without_hash = [one.name for one in snapshot.distributions if _has_no_hash(one)]
    if without_hash:
        detail = f"their address is known, and no hash of the file: {_listed(without_hash)}"
        findings.append(Finding("source-without-hash", Severity.WARNING, without_hash[0], detail))
    hidden = [one.name for one in snapshot.distributions if is_hidden(one.source)]
    if hidden:
        detail = f"a secret was taken out of the address, which does not work as it stands: {_listed(hidden)}"
        findings.append(Finding("source-hidden", Severity.WARNING, hidden[0], detail))
    return findings


def _unknown_sources(snapshot: Snapshot) -> List[Finding]:
    """One finding for each reason why sources are unknown."""
    by_reason: Dict[str, List[str]] = {}
    for one in snapshot.distributions:
        if isinstance(one.source, UnknownSource):
            by_reason.setdefault(one.source.reason, []).append(f"{one.name} {one.version}")
    return [
        Finding(
            "source-unknown",
            Severity.WARNING,
            names[0].partition(" ")[0],
            f"not known where from: {_listed(names)} ({reason})",
        )
        for reason, names in by_reason.items()
    ]


def note_local(snapshot: Snapshot) -> Tuple[Finding, ...]:
    """Notes on sources that only this machine has."""
    files = [one.name for one in snapshot.distributions if _is_local_file(one)]
    folders = [one.name for one in snapshot.distributions if _is_local_tree(one.source)]
    findings: List[Finding] = []
    if files:
        detail = f"named by a path of this machine, which others do not have: {_listed(files)}"
        hint = "--wheels DIR puts these files beside the export."
        findings.append(Finding("source-is-local", Severity.WARNING, files[0], detail, hint))
    if folders:
        detail = f"a folder of this machine is their source: {_listed(folders)}"
        findings.append(Finding("source-is-folder", Severity.NOTE, folders[0], detail))
    return tuple(findings)


def note_pip(snapshot: Snapshot) -> Tuple[Finding, ...]:
    """A note on a lock file that pip refuses, because some distributions have hashes and others
    cannot have any."""
    trees = [one.name for one in snapshot.distributions if is_tree(one.source)]
    if not trees or len(trees) == len(snapshot.distributions):
        return ()
    detail = (
        "pip installs no lock file that names folders or repositories beside files with hashes: "
        f"{_listed(trees)}"
    )
    hint = "Use uv pip sync, or write requirements: --format requirements."
    return (Finding("lock-not-for-pip", Severity.NOTE, trees[0], detail, hint),)


def note_filename(filename: str) -> Tuple[Finding, ...]:
    """A note on a lock file whose name other programs do not recognize (PEP 751)."""
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", filename):
        return ()
    detail = f"pip and uv take no lock file of this name: {filename}"
    hint = "Name it pylock.toml, or pylock.NAME.toml."
    return (Finding("lock-name", Severity.NOTE, filename, detail, hint),)


def _is_local_file(one: RecordedDistribution) -> bool:
    return isinstance(one.source, FileSource) and one.source.path.startswith("/")


def _is_local_tree(source: Source) -> bool:
    is_repository = isinstance(source, RepositorySource) and source.url.startswith("file:")
    return is_repository or isinstance(source, DirectorySource)


def _has_no_hash(one: RecordedDistribution) -> bool:
    return isinstance(one.source, UrlSource) and one.source.sha256 is None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    more = len(names) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
