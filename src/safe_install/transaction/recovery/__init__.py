"""Undo a change of an environment that was not finished.

    python -I -S <prefix>/.safe-install/recover.py [PREFIX]

How it decides: a journal is written once, before the first rename, and says for every path what it
was before (`old`) and what it will be (`new`). Undo looks at the disk, path by path, and moves back
what has been moved. It can be killed and run again at any moment. A path in neither of its two legal
states means that somebody else worked here (drift): then nothing is touched.

Layout, all under `<prefix>/.safe-install/` (mode 0700, format 1):
    lock, lock.held, recover.py, txn-<id>/{stage/, stash/, journal | committed, summary.json},
    trash-*
The journal: one line with the sha256 of the rest, then one JSON object. Targets are relative to the
prefix, slots relative to `.safe-install`; an identity is [kind, inode, size, mtime_ns], inode 0 is
"not compared".

It stands alone: nothing but the standard library, in the syntax of Python 3.6, so that an
environment whose own packages are half swapped can still be put back. safe-install calls the same
functions (`safe_install.transaction.recovery`), and joins their modules to the one file that lies
in each environment with a journal (`safe_install.transaction.recovery_script`).
"""
