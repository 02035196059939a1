"""Recovers from a killed run, and raises the errors of this program."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Iterator, NamedTuple, Tuple

from safe_install.errors import RollBackFailed
from safe_install.system.held_signals import HeldSignals
from safe_install.transaction.lock import open_state_directory
from safe_install.transaction.recovery import transactions
from safe_install.transaction.recovery.rows import STATE_DIRECTORY, Drift, JournalInvalid


class Recovered(NamedTuple):
    """Something that an earlier run left, and what was done with it."""

    transaction: str  # ID
    what: str  # "rolled-back", "cleaned" (had changed nothing), "finished" (removal of old files)
    detail: str


def recover(prefix: Path) -> Tuple[Recovered, ...]:
    """Undo or remove what a killed run left, and remove expired staged changes. The caller holds
    the lock. Errors: RollBackFailed, with nothing touched, where another program has changed the
    same paths since."""
    if not (Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY).is_dir():
        return ()
    open_state_directory(prefix)
    signals = HeldSignals()
    signals.hold()
    try:
        with explaining_failed_undo(prefix):
            recovered = tuple(Recovered(*row) for row in transactions.recover(str(prefix)))
        _settle_staged(prefix)
        return recovered
    finally:
        signals.release()
        if signals.pending is not None:
            os.kill(os.getpid(), signals.pending)


def _settle_staged(prefix: Path) -> None:
    state = Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY
    if any(name.startswith("staged-") for name in os.listdir(state)):
        # Late, because `staged` imports `swap`, which imports this module.
        from safe_install.transaction import staged

        staged.settle(prefix)


@contextlib.contextmanager
def explaining_failed_undo(prefix: Path) -> Iterator[None]:
    """Turn the errors of an undo into RollBackFailed."""
    state = Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY
    again = f"{sys.executable} -I -S {state / 'recover.py'}"
    try:
        yield
    except Drift as error:
        listed = "\n  ".join(error.paths[:10])
        raise RollBackFailed(
            f"an interrupted change of {state.parent} cannot be undone: these paths were changed "
            f"by something else since, and nothing was touched:\n  {listed}",
            hint=f"Put those paths back (or move them away), then run: {again}. To keep everything as it is "
            f"now instead: mv {state} {state}.given-up, then reinstall what is broken.",
        ) from error
    except JournalInvalid as error:
        raise RollBackFailed(
            f"{error}; nothing was touched",
            hint=f"Use the newest safe-install; if it says the same: mv {state} {state}.given-up, "
            "then reinstall what is broken.",
        ) from error
    except OSError as error:
        raise RollBackFailed(
            f"{state.parent} could not be put back yet: {error}",
            hint=f"Correct that (permissions, free space), then run: {again}",
        ) from error
