"""Reads a journal in a copy of an environment that was copied during its change."""

import os
from typing import List, NamedTuple, Optional, Sequence, Tuple

from safe_install.transaction.recovery.disk import is_inside, read_identity
from safe_install.transaction.recovery.journal_file import CheckedRows
from safe_install.transaction.recovery.records import has_hash, read_record
from safe_install.transaction.recovery.rows import (
    Document,
    Exchange,
    Identity,
    MoveIn,
    MoveOut,
    is_copy_of,
)


class _CopiedExchange(NamedTuple):
    """An exchange in a copied environment, and the present objects at its two paths."""

    row: Exchange
    at_target: Identity
    at_slot: Identity
    was_exchanged: Optional[bool]  # None: not known by size and time


class CopiedEnvironment:
    """An environment that may have been copied as a whole (cp -a, tar, an image layer) during its
    change.

    In a copy no inode number is as in the journal. For a move the slot shows whether it was made;
    for an exchange size and time show it, or the hashes in the RECORDs of the old and the new
    distributions.
    """

    def __init__(self, rows: CheckedRows, document: Document) -> None:
        self.rows = rows
        # The inode number of the transaction's directory; None in older journals.
        facts = document.get("facts")
        self.number = facts.get("directory") if isinstance(facts, dict) else None
        self.directory = os.path.join(rows.state, "txn-%s" % document.get("id"))
        # Two paths, and the identity of the object at one of them.
        moves: List[Tuple[Tuple[str, str], Identity]] = []
        moves += [((move.target, move.slot), move.old) for move in rows.outs]
        moves += [((move.slot, move.target), move.new) for move in rows.ins]
        for pair in rows.exchanges:
            places = (pair.target, pair.slot)
            moves += [(places, pair.old), (places, pair.new)]
        self.moves = moves
        self.has_times = self.number is None or self._keeps_times()

    def _keeps_times(self) -> bool:
        """Did the copy keep the time of any object? `cp -r` keeps none."""
        for places, identity in self.moves:
            if not identity.mtime_ns:
                continue
            if any(is_copy_of(read_identity(path), identity) for path in places):
                return True
        return False

    def recognize(self) -> Optional[Tuple[List[Exchange], List[MoveOut], List[MoveIn]]]:
        """The exchanges, outs and ins with the present identities of their objects; None if the
        environment is no copy."""
        directory = read_identity(self.directory)
        if directory is not None and directory.inode == self.number:
            return None
        known = [(places, identity) for places, identity in self.moves if identity.inode]
        if self.number is None and not known:
            return None
        if any(self._is_original(places, identity) for places, identity in known):
            return None
        exchanges = self._find_exchanged()
        if exchanges is None:
            return None
        outs: List[MoveOut] = []
        for leaving in self.rows.outs:
            now = self._identity_now(leaving.slot, leaving.target, leaving.old)
            if now is None:
                return None
            outs.append(MoveOut(leaving.target, leaving.slot, now))
        ins: List[MoveIn] = []
        for coming in self.rows.ins:
            now = self._identity_now(coming.slot, coming.target, coming.new)
            if now is None:
                return None
            ins.append(MoveIn(coming.slot, coming.target, now))
        return exchanges, outs, ins

    def _find_exchanged(self) -> Optional[List[Exchange]]:
        """The exchanges with present identities; None if other objects are at one of them."""
        copied: List[_CopiedExchange] = []
        for row in self.rows.exchanges:
            found = self._read_exchange(row)
            if found is None:
                return None
            copied.append(found)
        olds, news = self._find_records(copied)
        exchanges: List[Exchange] = []
        for found in copied:
            was_exchanged = found.was_exchanged
            if was_exchanged is None:
                was_exchanged = self._was_exchanged_by_content(found.row, olds, news)
            if was_exchanged is None:
                return None
            old, new = found.at_target, found.at_slot
            if was_exchanged:
                old, new = new, old
            exchanges.append(Exchange(found.row.target, found.row.slot, old, new))
        return exchanges

    def _read_exchange(self, row: Exchange) -> Optional[_CopiedExchange]:
        """The present objects of an exchange; None if they are others."""
        at_target, at_slot = read_identity(row.target), read_identity(row.slot)
        if at_target is None or at_slot is None:
            return None
        is_before = self._is_same_kind(at_target, row.old) and self._is_same_kind(at_slot, row.new)
        is_after = self._is_same_kind(at_target, row.new) and self._is_same_kind(at_slot, row.old)
        if not is_before and not is_after:
            return None
        was_exchanged = None if is_before and is_after else is_after
        return _CopiedExchange(row, at_target, at_slot, was_exchanged)

    def _was_exchanged_by_content(
        self, row: Exchange, olds: Sequence[Tuple[str, str]], news: Sequence[Tuple[str, str]]
    ) -> Optional[bool]:
        """Was an exchange made, by the hashes in RECORDs? None if the contents are others, or
        are not listed."""
        target, slot = row.target, row.slot
        holds_old = self._holds(target, target, olds) or self._holds(slot, target, news)
        holds_new = self._holds(slot, target, olds) or self._holds(target, target, news)
        if not holds_old and not holds_new:
            return None
        return not holds_old  # if both are true, the two contents are the same

    def _find_records(
        self, copied: Sequence[_CopiedExchange]
    ) -> Tuple[List[Tuple[str, str]], List[Tuple[str, str]]]:
        """(target, present path) of the moved objects of the old and of the new distributions,
        whose metadata is among them."""
        olds = [(move.target, self._place(move.slot, move.target)) for move in self.rows.outs]
        news = [(move.target, self._place(move.slot, move.target)) for move in self.rows.ins]
        for found in copied:
            target, slot = found.row.target, found.row.slot
            if found.was_exchanged is not None:
                olds.append((target, slot if found.was_exchanged else target))
                news.append((target, target if found.was_exchanged else slot))
        return olds, news

    def _is_original(self, places: Sequence[str], identity: Identity) -> bool:
        found = [read_identity(path) for path in places]
        return any(
            now is not None and (now.kind, now.inode) == (identity.kind, identity.inode)
            for now in found
        )

    def _identity_now(self, slot: str, target: str, identity: Identity) -> Optional[Identity]:
        """The object at the slot, else at the target, if it is a copy of `identity`."""
        now = read_identity(slot) or read_identity(target)
        return now if self._is_same_kind(now, identity) else None

    def _is_same_kind(self, now: Optional[Identity], before: Identity) -> bool:
        """Like `is_copy_of`; in a copy without times (cp -r), kind and size are compared only."""
        if self.has_times:
            return is_copy_of(now, before)
        return now is not None and (now.kind, now.size) == (before.kind, before.size)

    def _place(self, slot: str, target: str) -> str:
        return slot if os.path.lexists(slot) else target

    def _holds(self, path: str, target: str, moved: Sequence[Tuple[str, str]]) -> bool:
        """Do the files at `path` have the hashes that RECORDs list for `target`? False if none
        lists them. `moved`: (target, present path) of objects, some of which are RECORDs or their
        folders."""
        is_known = False
        for folder, place in moved:
            if folder.endswith(".dist-info/RECORD"):
                folder = os.path.dirname(folder)
            elif folder.endswith(".dist-info"):
                place = os.path.join(place, "RECORD")
            else:
                continue
            for row, written in read_record(place):
                listed = os.path.join(os.path.dirname(folder), row)
                if not written or (listed != target and not is_inside(listed, target)):
                    continue
                is_known = True
                if not has_hash(path + listed[len(target) :], written):
                    return False
        return is_known
