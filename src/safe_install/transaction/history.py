"""Reads the committed transactions on disk, undoes one, and removes the oldest.

The files that a change replaced stay in its transaction directory. An undo is a transaction with
the reverse renames, so it can be verified, rolled back and undone, too.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.utils import canonicalize_name

from safe_install.errors import Refused
from safe_install.transaction.identifiers import make_id, next_moment
from safe_install.transaction.journal import (
    Journal,
    make_document,
    make_reverse,
    parse_document,
)
from safe_install.transaction.journal_rows import expand_to_files, read_removed_directory
from safe_install.transaction.kept_sources import keep_sources
from safe_install.transaction.lock import open_state_directory
from safe_install.transaction.ownership import has_recorded_content, read_hashes
from safe_install.transaction.recovery.disk import (
    is_bytecode,
    libc,
    read_identity,
)
from safe_install.transaction.recovery.journal_file import read_journal
from safe_install.transaction.recovery.rows import (
    COMMITTED,
    STATE_DIRECTORY,
    Exchange,
    Identity,
    JournalInvalid,
    MoveIn,
    MoveOut,
    is_copy_of,
    is_same,
)
from safe_install.transaction.recovery.transactions import discard, list_transactions
from safe_install.transaction.recovery.undo import Undo
from safe_install.transaction.summary import StepRow, read_summary
from safe_install.transaction.swap import Transaction, make_facts
from safe_install.transaction.walk import walk_files

FindOwner = Callable[[str], Optional[str]]  # a path -> the distribution whose RECORD lists it

KEPT_TRANSACTIONS = 20  # how many can be undone; `history` shows their size
KEPT_GB = 10
KEPT_BYTES = KEPT_GB * 1024**3  # the size of all together; the newest stays whatever its size


@dataclass(frozen=True)
class HistoryEntry:
    """One committed transaction."""

    id: str
    command: Tuple[str, ...]
    created: float  # seconds since the epoch
    steps: Tuple[StepRow, ...] = ()
    committed: Optional[float] = None  # seconds since the epoch; None if it is not known
    undoes: Optional[str] = None  # the ID of the transaction that this one undid
    undone_by: Optional[str] = None  # the ID of the transaction that undid this one
    problem: Optional[str] = None  # why its journal cannot be read


class Pruned(NamedTuple):
    """One transaction whose kept files were removed."""

    id: str
    size: int  # bytes
    problem: Optional[str] = None  # what could not be removed, for a warning


def read_history(prefix: Path) -> Tuple[HistoryEntry, ...]:
    """All committed transactions, newest first. Changes nothing, takes no lock."""
    state = find_state(prefix)
    try:
        names = [name for name, what in list_transactions(str(prefix)) if what == "committed"]
    except PermissionError as error:
        raise Refused(
            f"{state} cannot be read: {error.strerror}",
            hint="Run as the user that owns this environment.",
        ) from error
    entries = [_read_entry(state / name) for name in names]
    # The ID of a staged change is older than its commit.
    entries.sort(key=lambda entry: entry.created, reverse=True)
    undone: Dict[str, str] = {}
    for entry in entries:
        # An undo that was undone itself does not count. In the order newest first this is known
        # when the undo is reached.
        if entry.undoes is not None and entry.id not in undone:
            undone[entry.undoes] = entry.id
    return tuple(dataclasses.replace(entry, undone_by=undone.get(entry.id)) for entry in entries)


def find_state(prefix: Path) -> Path:
    """The state folder of an environment."""
    return Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY


def _read_entry(directory: Path) -> HistoryEntry:
    identifier = directory.name[len("txn-") :]
    try:
        journal = read_committed(directory)
    except (JournalInvalid, KeyError, TypeError, ValueError, OSError) as error:
        return HistoryEntry(identifier, (), 0.0, problem=str(error))
    summary = read_summary(directory)
    return HistoryEntry(
        identifier,
        journal.command,
        journal.created,
        summary.steps,
        summary.committed,
        undoes=journal.undoes,
    )


def read_committed(directory: Path) -> Journal:
    """The journal of a committed change. Errors: JournalInvalid, KeyError, TypeError, ValueError,
    OSError."""
    return parse_document(read_journal(str(directory / COMMITTED)))


def begin_undo(
    prefix: Path,
    transaction_id: Optional[str] = None,
    *,
    command: Sequence[str] = ("undo",),
    find_owner: FindOwner = lambda path: None,
) -> Transaction:
    """Open a transaction that undoes `transaction_id`, by default the newest transaction that is
    not undone and is no undo itself.

    The moves of the result are planned. The caller holds the lock; it swaps, verifies, and commits
    or rolls back. Files that another distribution (by `find_owner`) has put into the folders since
    stay there. Errors: Refused if there is no such transaction, later changes depend on it, or
    its files were changed since.
    """
    entries = read_history(prefix)
    entry = _select_entry(entries, transaction_id, prefix)
    state = open_state_directory(prefix)
    directory = state / f"txn-{entry.id}"
    document = read_journal(str(directory / COMMITTED))
    journal = parse_document(document)
    moment = next_moment(state, entries[0].created)
    reverse = make_reverse(
        journal, transaction_id=make_id(moment), command=tuple(command), created=moment
    )
    as_stored = _accept_copies(reverse, state.parent)
    stay = _check_unchanged(state.parent, as_stored, entry, entries, find_owner)
    libc()
    if stay or as_stored != reverse:
        # An exchange of two files with equal times (whole seconds) could not be detected. After the
        # expansion there are no exchanges.
        reverse = expand_to_files(reverse, state.parent, stay)
    rmdirs = tuple(
        read_removed_directory(str(state.parent), gone.target) for gone in reverse.rmdirs
    )
    return Transaction(state, dataclasses.replace(reverse, rmdirs=rmdirs, facts=make_facts()), None)


def _select_entry(
    entries: Sequence[HistoryEntry], transaction_id: Optional[str], prefix: Path
) -> HistoryEntry:
    entry = _find_entry(entries, transaction_id, prefix)
    if entry.undone_by is not None:
        raise Refused(
            f"transaction {entry.id} was undone already, by {entry.undone_by}",
            hint=f"To bring it back: safe-install undo {entry.undone_by}",
        )
    if entry.problem is not None:
        raise Refused(
            f"transaction {entry.id} cannot be read: {entry.problem}", hint="Undo another one."
        )
    return entry


def _newest_entry(entries: Sequence[HistoryEntry], prefix: Path) -> HistoryEntry:
    """The newest transaction that is not undone and is no undo itself. Errors: Refused."""
    for entry in entries:
        if entry.undone_by is None and entry.undoes is None:
            return entry
    raise Refused(
        f"there is nothing to undo in {prefix}", hint="safe-install history lists what was done."
    )


def _find_entry(
    entries: Sequence[HistoryEntry], transaction_id: Optional[str], prefix: Path
) -> HistoryEntry:
    """The transaction with this ID; without an ID the newest one. Errors: Refused."""
    if transaction_id is None:
        return _newest_entry(entries, prefix)
    for entry in entries:
        if entry.id == transaction_id:
            return entry
    raise Refused(
        f"{prefix} has no transaction {transaction_id}",
        hint="safe-install history lists those that are kept: "
        f"the newest {KEPT_TRANSACTIONS}, up to {KEPT_GB} GB.",
    )


def _accept_copies(reverse: Journal, prefix: Path) -> Journal:
    """The same change with the present identities of files that were copied, so that inode numbers
    and times differ.

    Image layers store whole seconds; archives and copies of an environment may have other times. A
    file in the environment must have the hash in its RECORD. In the state folder, to which only we
    write, the size has to be the same.
    """
    targets = [str(prefix / path) for path, _ in reverse.leaving]
    recorded = read_hashes(_find_metadata_folders(targets))
    state = find_state(prefix)
    exchanges = []
    for pair in reverse.exchanges:
        old = _identity_now(str(prefix / pair.target), pair.old, recorded)
        new = _identity_now(str(state / pair.slot), pair.new, None)
        exchanges.append(Exchange(pair.target, pair.slot, old, new))
    outs = []
    for gone in reverse.outs:
        old = _identity_now(str(prefix / gone.target), gone.old, recorded)
        outs.append(MoveOut(gone.target, gone.slot, old))
    ins = []
    for coming in reverse.ins:
        new = _identity_now(str(state / coming.slot), coming.new, None)
        ins.append(MoveIn(coming.slot, coming.target, new))
    return dataclasses.replace(
        reverse, exchanges=tuple(exchanges), outs=tuple(outs), ins=tuple(ins)
    )


def _find_metadata_folders(targets: Sequence[str]) -> Set[str]:
    """The dist-info folders among the targets, and those whose RECORD is a target."""
    folders = {path for path in targets if path.endswith(".dist-info")}
    folders |= {os.path.dirname(path) for path in targets if os.path.basename(path) == "RECORD"}
    return folders


def _identity_now(path: str, identity: Identity, recorded: Optional[Mapping[str, str]]) -> Identity:
    """The present identity of `path` if the file is a copy of the one with `identity`; else
    `identity`.

    `recorded`: path -> the hash that the content must have; None for the state folder.
    """
    now = read_identity(path)
    if now is None or is_same(now, identity):
        return identity
    if (now.kind, now.size) != (identity.kind, identity.size):
        return identity
    # The files in a directory are compared later, and a RECORD has no hash of itself.
    is_hashed_kind = (
        now.kind == "f" and os.path.basename(path) != "RECORD" and not is_bytecode(path)
    )
    if recorded is None or not is_hashed_kind:
        return now
    if path not in recorded:
        # A file without a hash in RECORD (a script of an old installer) needs the same time, as
        # copies keep it.
        return now if is_copy_of(now, identity) else identity
    return now if has_recorded_content(path, recorded) else identity


def _check_unchanged(
    prefix: Path,
    reverse: Journal,
    entry: HistoryEntry,
    entries: Sequence[HistoryEntry],
    find_owner: FindOwner,
) -> Set[str]:
    """The files of other distributions in folders that the undo would move out; they have to stay.
    Errors: Refused if files were changed or added since."""
    try:
        changed = Undo(str(prefix), make_document(reverse)).find_missing_before()
    except JournalInvalid as error:
        raise Refused(
            f"transaction {entry.id} cannot be undone: {error}", hint="Undo another one."
        ) from error
    _refuse_lost(_find_lost(prefix, reverse), entry)
    later = [item.id for item in entries if item.id > entry.id and item.undone_by is None]
    _refuse_changed(changed, entry, later)
    own = {str(canonicalize_name(row["name"])) for row in entry.steps}
    staying: Set[str] = set()
    added: List[str] = []
    for path in _find_later_files(prefix, reverse, entry):
        owner = find_owner(path)
        if owner is None or owner in own:
            added.append(path)
        staying.add(path)
    _refuse_added(added, entry)
    return staying


def _refuse_lost(lost: Sequence[str], entry: HistoryEntry) -> None:
    if not lost:
        return
    listed = "\n  ".join(lost[:10])
    raise Refused(
        f"transaction {entry.id} cannot be undone: what it replaced is no longer kept (removed by "
        f"hand?); these are gone:\n  {listed}",
        hint=_name_versions(entry),
    )


def _refuse_changed(changed: Sequence[str], entry: HistoryEntry, later: Sequence[str]) -> None:
    """`later`: the transactions after this one, newest first, which may have changed the paths."""
    if not changed:
        return
    listed = "\n  ".join(changed[:10])
    hint = _name_versions(entry)
    if later:
        hint = f"Undo the later transactions first, newest first: {', '.join(later)}."
    raise Refused(
        f"transaction {entry.id} cannot be undone: these paths were changed since, by a later "
        f"transaction or by another installer:\n  {listed}",
        hint=hint,
    )


def _refuse_added(added: Sequence[str], entry: HistoryEntry) -> None:
    if not added:
        return
    listed = "\n  ".join(added[:10])
    raise Refused(
        f"transaction {entry.id} cannot be undone: these files were added or edited since and "
        f"would go with it:\n  {listed}",
        hint="Move them to a place outside of the packages (of an edited file: a copy, then put the old content "
        f"back), and run the command again. {_name_versions(entry)}",
    )


def _find_lost(prefix: Path, reverse: Journal) -> List[str]:
    """The files that the undo would restore, but that are missing."""
    state = find_state(prefix)
    slots = [str(state / slot) for slot, _ in reverse.coming]
    return [slot for slot in slots if not os.path.lexists(slot)]


def _name_versions(entry: HistoryEntry) -> str:
    """A hint: the commands that restore the versions before the change without an undo."""
    old: List[str] = []
    new: List[str] = []
    for row in entry.steps:
        if row["from_version"]:
            old.append(f"{row['name']}=={row['from_version']}")
        elif row["version"]:
            new.append(str(row["name"]))
    commands = [f"safe-install install {' '.join(old)}"] if old else []
    commands += [f"safe-install uninstall {' '.join(new)}"] if new else []
    if not commands:
        return "Undo another one."
    return f"The versions from before, without undo: {'; '.join(commands)}."


def _find_later_files(prefix: Path, reverse: Journal, entry: HistoryEntry) -> Iterator[str]:
    """The files that were written since the commit into directories that would be moved as a whole;
    without bytecode."""
    committed = entry.created if entry.committed is None else float(entry.committed)
    directories = [
        str(prefix / target) for target, identity in reverse.leaving if identity.kind == "d"
    ]
    suspects: List[str] = []
    for directory in directories:
        suspects += _find_touched_since(directory, committed)
    if not suspects:
        return
    # A file may be touched and still the same: by another environment that shares it by a hard
    # link, by `chown -R`, by a backup. So its hash decides.
    recorded = read_hashes(path for path in directories if path.endswith(".dist-info"))
    for path in suspects:
        # A RECORD has no hash of itself; its size and time were compared with its folder.
        is_record = os.path.basename(path) == "RECORD" and os.path.dirname(path) in directories
        if not is_record and not has_recorded_content(path, recorded):
            yield path


def _find_touched_since(directory: str, moment: float) -> Iterator[str]:
    for folder, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(folder, name)
            if is_bytecode(path) or is_index_of_git(path):
                continue
            # By ctime, because a copied file may have an old mtime.
            if os.lstat(path).st_ctime > moment:
                yield path


def is_index_of_git(path: str) -> bool:
    """Is it the index of a git repository? `git status` rewrites it."""
    return path.endswith("/.git/index")


def measure(prefix: Path, transaction_id: str) -> int:
    """The bytes on disk that a transaction keeps for its undo."""
    total = 0
    for path in walk_files(find_state(prefix) / f"txn-{transaction_id}"):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            total += status.st_blocks * 512
    return total


def prune(prefix: Path, *, keep: int = 5, limit_bytes: Optional[int] = None) -> Tuple[Pruned, ...]:
    """Remove the oldest transactions: all but the newest `keep`, and more until the rest fits into
    `limit_bytes`. The URLs and hashes of their files are kept.

    The newest transaction stays, unless `keep` is 0. A transaction and its undo share files, so
    they are removed together. The caller holds the lock.
    """
    entries = read_history(prefix)
    groups = _make_groups(entries)
    sizes = {entry.id: measure(prefix, entry.id) for entry in entries}
    kept, kept_bytes = 0, 0
    is_full = False  # after the first group that does not fit, all groups are removed
    removed: List[str] = []
    for number, group in enumerate(groups):
        size = sum(sizes[identifier] for identifier in group)
        too_many = kept + len(group) > keep
        too_large = limit_bytes is not None and kept_bytes + size > limit_bytes
        is_newest = number == 0 and keep > 0
        is_full = is_full or (not is_newest and (too_many or too_large))
        if is_full:
            removed += group
        else:
            kept += len(group)
            kept_bytes += size
    keep_sources(prefix, [entry.steps for entry in entries if entry.id in removed])
    return tuple(_discard(prefix, identifier, sizes[identifier]) for identifier in removed)


def _discard(prefix: Path, identifier: str, size: int) -> Pruned:
    problem = discard(str(find_state(prefix) / f"txn-{identifier}"))
    return Pruned(identifier, size, problem)


def _make_groups(entries: Sequence[HistoryEntry]) -> List[List[str]]:
    """Groups of transactions that share files, newest group first."""
    group_of: Dict[str, List[str]] = {}
    groups: List[List[str]] = []
    for entry in entries:
        group = group_of.get(entry.id)
        if group is None:
            group = group_of[entry.id] = []
            groups.append(group)
        group.append(entry.id)
        if entry.undoes is not None:
            group_of[entry.undoes] = group
    return groups
