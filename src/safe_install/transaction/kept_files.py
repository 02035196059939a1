"""Files that past changes keep for their undo, from which a distribution can be restored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from safe_install.environment.record import RecordEntry, read_record
from safe_install.models import InstalledDistribution
from safe_install.transaction.history import find_state, read_committed, read_history
from safe_install.transaction.recovery.disk import is_bytecode
from safe_install.transaction.recovery.records import has_hash
from safe_install.transaction.recovery.rows import JournalInvalid

# Files that the installer writes, and that are not in the wheel.
WRITTEN_BY_INSTALLER = ("/INSTALLER", "/RECORD", "/REQUESTED", "/direct_url.json")


def find_kept(prefix: Path, distribution: InstalledDistribution) -> Optional[Mapping[str, Path]]:
    """Path in a distribution's RECORD -> the file with that hash that a past change keeps. None
    if no change keeps all of them. Errors: Refused if the history cannot be read."""
    try:
        entries = list(read_record(distribution.metadata_path))
    except OSError:
        return None
    rows = [row for row in entries if _is_of_wheel(row.path)]
    if not rows or not all(row.hash for row in rows):
        return None
    for entry in read_history(prefix):
        found = _find_rows(prefix, rows, distribution.location, read_slots(prefix, entry.id))
        if found is not None:
            return found
    return None


def _is_of_wheel(path: str) -> bool:
    return not is_bytecode(path) and not path.endswith(WRITTEN_BY_INSTALLER)


def read_slots(prefix: Path, transaction_id: str) -> Mapping[str, Path]:
    """Target relative to the prefix -> the path at which a change keeps what it moved out. Empty
    if its journal cannot be read."""
    state = find_state(prefix)
    try:
        journal = read_committed(state / f"txn-{transaction_id}")
    except (JournalInvalid, KeyError, TypeError, ValueError, OSError):
        return {}
    slots = {gone.target: state / gone.slot for gone in journal.outs}
    slots.update({pair.target: state / pair.slot for pair in journal.exchanges})
    return slots


def find_replaced(prefix: Path, transaction_id: str, ending: str) -> List[Path]:
    """The kept folders of a change whose original names have this ending."""
    slots = read_slots(prefix, transaction_id)
    return [slot for target, slot in slots.items() if target.endswith(ending) and slot.is_dir()]


def _find_rows(
    prefix: Path, rows: Sequence[RecordEntry], location: Path, slots: Mapping[str, Path]
) -> Optional[Mapping[str, Path]]:
    if not slots:
        return None
    top, site = os.path.realpath(str(prefix)), os.path.realpath(str(location))
    found: Dict[str, Path] = {}
    for row in rows:
        target = os.path.relpath(os.path.join(site, row.path), top)
        kept = _find_in(target, slots)
        if kept is None or not kept.is_file() or kept.is_symlink():
            return None
        found[row.path] = kept
    is_same = all(has_hash(str(found[row.path]), row.hash) for row in rows)
    return found if is_same else None


def _find_in(target: str, slots: Mapping[str, Path]) -> Optional[Path]:
    """The kept file of a target, which was moved out by itself or with a folder above it."""
    folder, rest = target, ""
    while folder:
        if folder in slots:
            return slots[folder] / rest if rest else slots[folder]
        folder, _, name = folder.rpartition("/")
        rest = f"{name}/{rest}" if rest else name
    return None
