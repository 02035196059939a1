"""Changes an environment: whatever happens, it ends in the state before or after the change.

    with lock_environment(prefix):
        recover(prefix)
        with begin(prefix, command=..., scheme=...) as transaction:
            ...fill transaction.stage...
            transaction.plan(remove=..., keep=...)
            transaction.swap()
            transaction.commit({...})  # or roll_back()

Before `swap` nothing in the environment is touched. The journal is on the disk before the first
rename; from then until `commit` a recovery undoes the change (`recovery.undo`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import AbstractSet, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Type

from safe_install.errors import Refused, hint_for_oserror
from safe_install.models import InstalledDistribution, JsonValue, Scheme
from safe_install.system.held_signals import HeldSignals
from safe_install.transaction.eggs import find_path_edits
from safe_install.transaction.identifiers import make_id, next_moment
from safe_install.transaction.journal import Journal, encode, make_document
from safe_install.transaction.journal_rows import (
    expand_to_files,
    fill_journal,
    find_touched,
)
from safe_install.transaction.lock import open_state_directory
from safe_install.transaction.moves import (
    Areas,
    Level,
    MovePlan,
    MoveRefusal,
    make_plan_without_exchange,
    plan_moves,
)
from safe_install.transaction.moving_folders import (
    Listing,
    MovingFolder,
    find_added,
    find_local_disk,
    find_moving,
)
from safe_install.transaction.ownership import Ownership, Resolver, find_old_files, find_overwritten
from safe_install.transaction.place import (
    check_device,
    check_place,
    check_writable,
    find_closed_folders,
    make_areas,
    make_refused,
    refuse_conda_packages,
)
from safe_install.transaction.recovery.disk import (
    exchange,
    libc,
    sync_directory,
    sync_filesystem,
    write_durably,
)
from safe_install.transaction.recovery.rows import (
    COMMITTED,
    JOURNAL,
    DirectoryTimes,
    JournalInvalid,
)
from safe_install.transaction.recovery.transactions import discard, undo_journal
from safe_install.transaction.recovery.undo import Undo
from safe_install.transaction.recovery_script import write_recovery_script
from safe_install.transaction.room import find_shortage, read_room
from safe_install.transaction.tree import DiskTree, read_staged, read_targets
from safe_install.transaction.unfinished import explaining_failed_undo
from safe_install.transaction.walk import walk_files

_ROOM_MARGIN = 16 * 2**20  # bytes: the journal, directories
# Errors where the kernel or the file system does not support a kind of rename.
_OTHER_RENAME = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def begin(prefix: Path, *, command: Sequence[str], scheme: Scheme) -> Transaction:
    """Open a transaction on the environment `prefix`. The caller holds the lock and has run
    `recover`.

    Errors: Refused if a directory of `scheme` is outside of the prefix, on another device, or
    not writable.
    """
    state = open_state_directory(prefix)
    areas = make_areas(state.parent, scheme)
    check_place(prefix, scheme)
    libc()  # imports ctypes: nothing may be imported later, while the environment is half changed
    moment = next_moment(state)
    journal = Journal(
        id=make_id(moment), command=tuple(command), created=moment, facts=make_facts()
    )
    return Transaction(state, journal, areas)


def make_facts() -> Dict[str, str]:
    """The Python that writes the journal, for people who read it."""
    return {"python": sys.version.split()[0], "executable": sys.executable}


class Transaction:
    """One change of one environment. A context that ends without a commit rolls it back."""

    def __init__(self, state: Path, journal: Journal, areas: Optional[Areas]) -> None:
        """`areas`: None for an undo, whose journal already has its rows."""
        self.id = journal.id
        self.directory = state / f"txn-{journal.id}"
        self.stage = self.directory / "stage"  # its tree stands for `/`, like pip's --root
        self._state = state
        self._journal = journal
        self._areas = areas
        self._replan_by_file: Callable[[], Journal] = lambda: expand_to_files(
            self._journal, state.parent
        )
        self._document: Dict[str, JsonValue] = {}
        # directory -> the names in it when the moves were planned
        self._listed: Mapping[str, Listing] = {}
        self._moving: Tuple[MovingFolder, ...] = ()
        self._signals = HeldSignals()
        self._is_swapped = False
        self._is_over = False
        self.warning = ""  # of a commit
        try:
            for directory in (self.directory, self.stage, self.directory / "stash"):
                os.mkdir(directory, 0o700)
        except OSError as error:
            raise Refused(
                f"no transaction can be begun, nothing was changed: {error}",
                hint=hint_for_oserror(error),
            ) from error

    @property
    def pending_signal(self) -> Optional[int]:
        """The signal that arrived since `swap`, which the caller has to handle; None if there is
        none."""
        return self._signals.pending

    # --- before the swap --------------------------------------------------------------------------

    def plan(
        self,
        *,
        remove: Sequence[InstalledDistribution],
        keep: Sequence[InstalledDistribution],
        beside: Sequence[InstalledDistribution] = (),
        closed: Optional[Mapping[Path, str]] = None,
        sources: Sequence[Path] = (),
    ) -> MovePlan:
        """Plan the change: the files of `remove` are moved out, the stage is moved in.

        `keep`: distributions that stay, with all their files. `beside`: distributions that lose the
        files whose places the stage takes. `closed`: further folders to which no file may be added
        -> owner. `sources`: folders of clones (real paths), which are replaced as a whole. Errors:
        Refused, with path and reason.
        """
        if self._areas is None:
            raise Refused(f"transaction {self.id} has its plan already", hint="Begin another one.")
        areas, resolver = self._areas, Resolver()
        refuse_conda_packages([*remove, *beside], areas.prefix)
        ownership = Ownership(keep, areas, resolver)
        old = find_old_files(remove, areas, ownership, resolver)
        if isinstance(old, MoveRefusal):
            raise make_refused(old)
        for path, content in find_path_edits(remove, areas).items():
            old.add(path)
            self._stage_edited(path, content)
        for folder in sources:
            old.update(walk_files(folder))
        if beside:
            old |= find_overwritten(read_targets(self.stage), beside, areas, ownership, resolver)
        areas = dataclasses.replace(
            areas, closed=find_closed_folders(keep, closed or {}), sources=tuple(map(str, sources))
        )
        return self._plan(old, ownership, areas)

    def _stage_edited(self, path: str, content: bytes) -> None:
        """Stage the new content of an existing file, which is then replaced."""
        target = self.stage / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        shutil.copymode(path, str(target))

    def plan_paths(
        self, old: AbstractSet[str], *, keep: Sequence[InstalledDistribution]
    ) -> MovePlan:
        """Like `plan`, for files that no RECORD lists. `old`: their real paths; files of `keep`
        stay."""
        if self._areas is None:
            raise Refused(f"transaction {self.id} has its plan already", hint="Begin another one.")
        ownership = Ownership(keep, self._areas, Resolver())
        unowned = {path for path in old if ownership.find_owner(path) is None}
        return self._plan(unowned, ownership, self._areas)

    def _plan(self, old: AbstractSet[str], ownership: Ownership, areas: Areas) -> MovePlan:
        tree = DiskTree(ownership, find_local_disk(self._state))
        staged = read_staged(self.stage)

        def plan_at(level: Level) -> MovePlan:
            moves = plan_moves(old, staged, tree=tree, areas=areas, level=level)
            if isinstance(moves, MoveRefusal):
                raise make_refused(moves)
            return moves

        def replan_by_file() -> Journal:
            moves = make_plan_without_exchange(plan_at(Level.FILE))
            return fill_journal(self._journal, moves, self._state)

        moves = plan_at(Level.DIRECTORY)
        self._journal = fill_journal(self._journal, moves, self._state)
        self._replan_by_file = replan_by_file
        self._listed = tree.listed
        self._find_moving()
        return moves

    def _find_moving(self) -> None:
        prefix = str(self._state.parent)
        self._moving = find_moving(self._listed, self._journal.leaving, prefix)

    def moves_any(self, files: AbstractSet[str]) -> bool:
        """Does the change move out or replace one of these files? `files`: absolute paths whose
        folders have no symbolic links."""
        prefix = str(self._state.parent)
        targets = {os.path.join(prefix, target) for target, _ in self._journal.leaving}
        folders = tuple(target + os.sep for target in targets)
        return not targets.isdisjoint(files) or any(path.startswith(folders) for path in files)

    def touches(self, folder: Path) -> bool:
        """Does the change move something into or out of this folder, or the folder itself?"""
        place = os.path.realpath(str(folder))
        prefix = str(self._state.parent)
        moved = [target for target, _ in self._journal.leaving]
        moved += [target for _, target in self._journal.coming]
        for target in moved:
            path = os.path.join(prefix, target)
            if path == place or path.startswith(place + os.sep) or place.startswith(path + os.sep):
                return True
        return False

    def abandon(self) -> Optional[str]:
        """Remove the transaction before the swap, or after a roll back; what could not be removed,
        or None."""
        if self._is_swapped:
            raise Refused(f"transaction {self.id} is in place", hint="Roll it back or commit it.")
        self._is_over = True
        return discard(str(self.directory)) if self.directory.is_dir() else None

    # --- the swap ---------------------------------------------------------------------------------

    def swap(self) -> None:
        """Put the change in place, durably. From here on signals are held back (`pending_signal`).

        Errors: Refused, with the environment as before; RollBackFailed, with the command that
        finishes the roll back.
        """
        sync_filesystem(str(self.stage))
        self._signals.hold()
        try:
            try:
                self._try_swap()
            except OSError as error:
                if error.errno not in _OTHER_RENAME:
                    raise
                # In a lower layer of overlayfs (an image build) directories cannot be renamed, but
                # files can.
                self._journal = self._replan_by_file()
                self._find_moving()
                self._check_room()
                self._try_swap()
        except (OSError, JournalInvalid) as error:
            self._signals.release()
            raise Refused(
                f"the environment could not be changed, everything is as before: {error}",
                hint=hint_for_oserror(error)
                if isinstance(error, OSError)
                else "Look at the links in that path.",
            ) from error
        except BaseException:
            self._signals.release()
            raise
        self._is_swapped = True

    def swap_again(self) -> None:
        """Swap again after a roll back, with the same stage."""
        self.swap()

    def _check_room(self) -> None:
        """Raise Refused if there is no room: overlayfs copies a file of a lower layer that is
        renamed."""
        sizes = [file.size for _, file in self._journal.leaving]
        room = read_room(self._state)
        shortage = find_shortage(room, size=sum(sizes) + _ROOM_MARGIN, files=len(sizes))
        if shortage is not None:
            raise Refused(
                f"{shortage}: here a file that is moved is copied (overlayfs)",
                hint="Make room there. In an image build: remove and install in the same RUN step.",
            )

    def _try_swap(self) -> None:
        # By this inode number a recovery detects that the whole environment was copied.
        inode = os.lstat(self.directory).st_ino
        facts: Dict[str, JsonValue] = {**self._journal.facts, "directory": inode}
        self._journal = dataclasses.replace(self._journal, times=self._read_times(), facts=facts)
        self._document = make_document(self._journal)
        undo = Undo(str(self._state.parent), self._document)
        self._check_before(undo)
        try:
            self._write_journal()
        except OSError:
            self._drop_journal()
            raise
        try:
            self._rename_all()
            self._refuse_added()
        except BaseException:
            self._undo()
            raise

    def _check_before(self, undo: Undo) -> None:
        wrong = undo.find_missing_before() + self._find_added({})
        if wrong:
            raise Refused(
                "the environment changed while the change was prepared: " + ", ".join(wrong[:5]),
                hint="Something else installs into it; run the command again when that has ended.",
            )
        checked: Set[str] = set()
        prefix, device = str(self._state.parent), os.stat(self._state).st_dev
        for target, old in find_touched(self._journal):
            path = os.path.join(prefix, target)
            directories = [os.path.dirname(path)]
            if old.kind == "d":
                # A directory that is moved has to be writable, too: its ".." changes.
                directories.append(path)
            for directory in directories:
                if directory in checked or not os.path.isdir(directory):
                    continue
                checked.add(directory)
                check_device(directory, device, prefix)
                check_writable(directory)

    def _write_journal(self) -> None:
        # The folders above the journal are on the disk since the stage is.
        write_recovery_script(self._state)
        write_durably(str(self.directory / JOURNAL), encode(self._document))

    def _drop_journal(self) -> None:
        """Remove the journal before anything was moved. If that fails, it is harmless: a recovery
        finds everything as before."""
        for name in (JOURNAL, JOURNAL + ".tmp"):
            with contextlib.suppress(OSError):
                os.unlink(self.directory / name)

    def _rename_all(self) -> None:
        prefix, state = str(self._state.parent), str(self._state)
        journal = self._journal
        for pair in journal.exchanges:
            exchange(os.path.join(prefix, pair.target), os.path.join(state, pair.slot))
        for leaving in journal.outs:
            os.rename(os.path.join(prefix, leaving.target), os.path.join(state, leaving.slot))
        for gone in journal.rmdirs:
            os.rmdir(os.path.join(prefix, gone.target))
        if journal.outs or journal.rmdirs:
            # What comes may take a name that became free. Not every file system keeps the order of
            # renames across a power cut.
            sync_filesystem(state)
        for made in journal.mkdirs:
            os.mkdir(os.path.join(prefix, made.target), made.mode)
        for coming in journal.ins:
            _rename_to_free_name(
                os.path.join(state, coming.slot), os.path.join(prefix, coming.target)
            )
        sync_filesystem(state)

    def _refuse_added(self) -> None:
        """Raise OSError if another program has added files meanwhile, so that the change is
        undone and they are not lost."""
        state, journal = str(self._state), self._journal
        places = {pair.target: os.path.join(state, pair.slot) for pair in journal.exchanges}
        places.update({gone.target: os.path.join(state, gone.slot) for gone in journal.outs})
        added = self._find_added(places)
        if added:
            raise OSError(errno.EBUSY, "something else installs into this environment", added[0])

    def _find_added(self, places: Mapping[str, str]) -> List[str]:
        """The files that were added, since the moves were planned, to directories that are moved as
        a whole. `places`: target -> its present path, where it was moved already."""
        return find_added(self._moving, str(self._state.parent), places)

    def _read_times(self) -> Tuple[DirectoryTimes, ...]:
        """The times of every existing directory in which the renames change a name."""
        prefix = str(self._state.parent)
        touched = {os.path.dirname(target) for target, _ in find_touched(self._journal)}
        touched.update(gone.target for gone in self._journal.rmdirs)
        rows: List[DirectoryTimes] = []
        for relative in sorted(touched - {""}):
            path = os.path.join(prefix, relative)
            if os.path.isdir(path) and not os.path.islink(path):
                status = os.lstat(path)
                rows.append(DirectoryTimes(relative, status.st_atime_ns, status.st_mtime_ns))
        return tuple(rows)

    # --- after the swap ---------------------------------------------------------------------------

    def roll_back(self) -> None:
        """Restore everything as before the swap, and deliver signals again. The stage is kept for
        `swap_again`. Errors: RollBackFailed, with the journal kept."""
        try:
            self._undo()
        finally:
            self._signals.release()
        self._is_swapped = False

    def _undo(self) -> None:
        with explaining_failed_undo(self._state.parent):
            undo_journal(str(self._state.parent), self.directory.name)

    def commit(self, summary: Mapping[str, object]) -> None:
        """Commit the change. After one rename a recovery keeps it. `summary`: JSON values for the
        history. Errors: Refused, with the change rolled back; RollBackFailed."""
        if not self._is_swapped:
            raise Refused(f"transaction {self.id} is not in place", hint="Swap it first.")
        content = {"id": self.id, "committed": time.time(), **summary}
        text = json.dumps(content, indent=1, sort_keys=True)
        try:
            write_durably(str(self.directory / "summary.json"), text.encode())
            os.rename(self.directory / JOURNAL, self.directory / COMMITTED)
        except OSError as error:
            self.roll_back()
            raise Refused(
                f"the change could not be recorded, everything is as before: {error}",
                hint=hint_for_oserror(error),
            ) from error
        self._is_swapped = False
        self._is_over = True
        self._signals.release()
        try:
            sync_directory(str(self.directory))
        except OSError as error:
            self.warning = f"the change is made, but a power cut within the next seconds could take it back: {error}"

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._is_swapped:
            self.roll_back()
        if not self._is_over and not (self.directory / JOURNAL).exists():
            self.abandon()


def _rename_to_free_name(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)
