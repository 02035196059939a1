"""Undo a change of an environment that was not finished.

    python -I -S <prefix>/.safe-install/recover.py [PREFIX]

A journal is written once, before the first rename. It has for every path the identity before the
change (`old`) and after it (`new`). The undo compares each path on disk, and moves back what was
moved. It can be killed and run again at any time. A path in neither of the two states means that
another program has changed it (drift): then nothing is touched.

Layout, all under `<prefix>/.safe-install/` (mode 0700, format 1):
    lock, lock.held, recover.py, txn-<id>/{stage/, stash/, journal | committed, summary.json},
    trash-*
The journal has one line with the SHA-256 of the rest, then one JSON object. Targets are relative to
the prefix, slots relative to `.safe-install`. An identity is [kind, inode, size, mtime_ns]; inode 0
is not compared.

The recovery needs only the standard library, and has the syntax of Python 3.6, so that it works in
an environment whose packages are half swapped. safe-install calls the same functions
(`safe_install.transaction.recovery`), and joins their modules to one file for each environment
(`safe_install.transaction.recovery_script`).
"""
