"""The command line of the recovery."""

import os
import sys
from typing import Sequence

from safe_install.transaction.recovery.lock_file import Lock
from safe_install.transaction.recovery.rows import LOCK, STATE_DIRECTORY, Drift, JournalInvalid
from safe_install.transaction.recovery.transactions import recover


def main(arguments: Sequence[str]) -> int:
    """Recover the named prefix, or the one in which this file lies. Exit status: 0 where nothing is
    left to do, 13 for a refusal, 14 where the environment is locked."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    prefix = os.path.realpath(arguments[0] if arguments else own)
    state = os.path.join(prefix, STATE_DIRECTORY)
    if os.path.islink(state) or not os.path.isdir(state):
        print("%s has no %s directory: nothing to recover" % (prefix, STATE_DIRECTORY))
        return 0
    if os.lstat(state).st_uid != os.geteuid():
        print("%s belongs to another user: run this as that user" % state, file=sys.stderr)
        return 13
    lock = Lock(os.path.join(state, LOCK))
    try:
        taken = lock.take()
    except OSError as error:
        print("%s cannot be locked: %s" % (prefix, error), file=sys.stderr)
        return 13
    if not taken:
        print(
            "%s is held by a running safe-install%s" % (prefix, lock.describe_holder()),
            file=sys.stderr,
        )
        return 14
    try:
        return _recover_and_print(prefix)
    finally:
        lock.release()


def _recover_and_print(prefix: str) -> int:
    try:
        for identifier, what, detail in recover(prefix):
            print("%s: %s (%s)" % (identifier, what, detail))
    except (Drift, JournalInvalid, OSError) as error:
        print("not recovered, nothing was touched: %s" % error, file=sys.stderr)
        for path in getattr(error, "paths", ()):
            print("  %s" % path, file=sys.stderr)
        return 13
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
