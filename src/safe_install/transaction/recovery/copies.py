"""A half changed environment that was copied: what its journal means in the copy."""

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
    """An exchange in a copied environment: what lies in its two places now."""

    row: Exchange
    here: Identity  # at the target
    there: Identity  # at the slot
    was_exchanged: Optional[bool]  # None: size and time do not say


class Copy:
    """Was the whole environment copied (cp -a, tar, a layer of an image) when its change was half
    done?

    Then no inode number is as in the journal. Where an `out` or an `in` is now, its slot shows. Of
    an exchange size and time show which of the two is where, or the hashes in the RECORDs of the
    old and the new distribution.
    """

    def __init__(self, rows: CheckedRows, document: Document) -> None:
        self.rows = rows
        # The inode number of the transaction's directory; older journals do not have it.
        facts = document.get("facts")
        self.number = facts.get("directory") if isinstance(facts, dict) else None
        self.directory = os.path.join(rows.state, "txn-%s" % document.get("id"))
        moves: List[Tuple[Tuple[str, str], Identity]] = []  # two places, what is in one of them
        moves += [((move.target, move.slot), move.old) for move in rows.outs]
        moves += [((move.slot, move.target), move.new) for move in rows.ins]
        for pair in rows.exchanges:
            places = (pair.target, pair.slot)
            moves += [(places, pair.old), (places, pair.new)]
        self.moves = moves
        self.has_times = self.number is None or self._keeps_times()

    def _keeps_times(self) -> bool:
        """Has any object the time that it had? Some copies have new times throughout."""
        for places, identity in self.moves:
            found = [read_identity(path) for path in places] if identity.mtime_ns else []
            if any(is_copy_of(now, identity) for now in found):
                return True
        return False

    def recognize(self) -> Optional[Tuple[List[Exchange], List[MoveOut], List[MoveIn]]]:
        """The exchanges, outs and ins with the identities that their files have now; None: it is no
        copy."""
        here = read_identity(self.directory)
        if here is not None and here.inode == self.number:
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
            now = self._now(leaving.slot, leaving.target, leaving.old)
            if now is None:
                return None
            outs.append(MoveOut(leaving.target, leaving.slot, now))
        ins: List[MoveIn] = []
        for coming in self.rows.ins:
            now = self._now(coming.slot, coming.target, coming.new)
            if now is None:
                return None
            ins.append(MoveIn(coming.slot, coming.target, now))
        return exchanges, outs, ins

    def _find_exchanged(self) -> Optional[List[Exchange]]:
        """The exchanges, as they are now; None where one of them is something else."""
        copied: List[_CopiedExchange] = []
        for row in self.rows.exchanges:
            found = self._look_at(row)
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
            old, new = (found.there, found.here) if was_exchanged else (found.here, found.there)
            exchanges.append(Exchange(found.row.target, found.row.slot, old, new))
        return exchanges

    def _look_at(self, row: Exchange) -> Optional[_CopiedExchange]:
        """None where the two places hold something else."""
        here, there = read_identity(row.target), read_identity(row.slot)
        if here is None or there is None:
            return None
        is_before = self._is_like(here, row.old) and self._is_like(there, row.new)
        is_after = self._is_like(here, row.new) and self._is_like(there, row.old)
        if is_before and is_after:
            return _CopiedExchange(row, here, there, None)
        return _CopiedExchange(row, here, there, is_after) if is_before or is_after else None

    def _was_exchanged_by_content(
        self, row: Exchange, olds: Sequence[Tuple[str, str]], news: Sequence[Tuple[str, str]]
    ) -> Optional[bool]:
        """None where the contents are neither those of before nor those of after."""
        target, slot = row.target, row.slot
        holds_old = self._holds(target, target, olds) or self._holds(slot, target, news)
        holds_new = self._holds(slot, target, olds) or self._holds(target, target, news)
        if not holds_old and not holds_new:
            return None
        return not holds_old  # both: they hold the same

    def _find_records(
        self, copied: Sequence[_CopiedExchange]
    ) -> Tuple[List[Tuple[str, str]], List[Tuple[str, str]]]:
        """(where it belongs, where it is now) of the metadata of the old and of the new
        distributions."""
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

    def _now(self, slot: str, target: str, identity: Identity) -> Optional[Identity]:
        """What is at the slot, else at the target, if it is a copy of what `identity` describes."""
        now = read_identity(slot) or read_identity(target)
        return now if self._is_like(now, identity) else None

    def _is_like(self, now: Optional[Identity], before: Identity) -> bool:
        """As `is_copy_of`; where the copy has new times throughout (cp -r), kind and size have to
        do."""
        if self.has_times:
            return is_copy_of(now, before)
        return now is not None and (now.kind, now.size) == (before.kind, before.size)

    def _place(self, slot: str, target: str) -> str:
        return slot if os.path.lexists(slot) else target

    def _holds(self, path: str, target: str, moved: Sequence[Tuple[str, str]]) -> bool:
        """Has `path`, whose place is `target`, the content that RECORDs say? `moved`: (target,
        where it is now)."""
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
