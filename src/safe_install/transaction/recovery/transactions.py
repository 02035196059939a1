"""Lists, undoes and removes the transactions of an environment."""

import errno
import os
import shutil
from typing import List, Optional, Tuple

from safe_install.transaction.recovery.disk import sync_directory, unlink_if_there
from safe_install.transaction.recovery.journal_file import read_journal
from safe_install.transaction.recovery.rows import (
    COMMITTED,
    JOURNAL,
    STATE_DIRECTORY,
    TRANSACTION_NAME,
    Document,
)
from safe_install.transaction.recovery.undo import Undo


def list_transactions(prefix: str) -> List[Tuple[str, str]]:
    """(name of the transaction directory, "journal" | "committed" | "unfinished") of each
    transaction, newest first."""
    state = os.path.join(os.path.realpath(prefix), STATE_DIRECTORY)
    try:
        names = os.listdir(state)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in sorted(filter(TRANSACTION_NAME.match, names), reverse=True):
        # The folder is listed, because a client of a file server may have cached that a file is
        # missing.
        inside = _list_names(os.path.join(state, name))
        if JOURNAL in inside:
            found.append((name, "journal"))
        elif COMMITTED in inside:
            found.append((name, "committed"))
        else:
            found.append((name, "unfinished"))
    return found


def _list_names(directory: str) -> List[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def undo_journal(prefix: str, name: str) -> Document:
    """Undo the transaction in the directory `name`, then remove its journal durably; the document
    of the journal."""
    directory = os.path.join(os.path.realpath(prefix), STATE_DIRECTORY, name)
    journal = os.path.join(directory, JOURNAL)
    document = read_journal(journal)
    Undo(prefix, document, os.lstat(journal).st_mtime_ns).run()
    os.unlink(journal)
    sync_directory(directory)
    return document


def discard(path: str) -> Optional[str]:
    """Remove a transaction directory without a journal: it is renamed to `trash-*`, then its files
    are removed. The error, or None."""
    parent, name = os.path.split(path)
    trash = path
    if not name.startswith("trash-"):
        trash = os.path.join(parent, "trash-" + name)
        while os.path.lexists(trash):
            trash += "-"
        try:
            os.rename(path, trash)
        except OSError as error:
            if error.errno != errno.EXDEV:
                return str(error)
            # A directory in a lower layer of overlayfs cannot be renamed. Without this file the
            # transaction counts as unfinished, so that the next recovery goes on if this is killed.
            unlink_if_there(os.path.join(path, COMMITTED))
            trash = path
    problem = _remove_tree(trash)
    if problem is not None:
        # The files in a read-only directory cannot be removed. The modes of files are not changed,
        # because a hard link shares its mode with another environment.
        _allow_writing(trash)
        for folder, names, _ in os.walk(trash):
            for name in names:
                _allow_writing(os.path.join(folder, name))
        problem = _remove_tree(trash)
    return problem if os.path.lexists(trash) else None


def _remove_tree(path: str) -> Optional[str]:
    problems: List[str] = []
    if os.path.islink(path) or not os.path.isdir(path):
        try:
            unlink_if_there(path)
        except OSError as error:
            return str(error)
        return None
    shutil.rmtree(path, onerror=lambda function, failed, info: problems.append(str(info[1])))
    return problems[0] if problems else None


def _allow_writing(directory: str) -> None:
    if os.path.islink(directory):
        return
    try:
        os.chmod(directory, 0o700)
    except OSError:
        pass  # the failed removal is reported


def recover(prefix: str) -> List[Tuple[str, str, str]]:
    """Undo or remove everything unfinished: (transaction ID, "rolled-back" | "cleaned" |
    "finished", detail) of each.

    The caller holds the lock. Errors: Drift or JournalInvalid, before anything of that transaction
    is touched; OSError.
    """
    done = []
    state = os.path.join(os.path.realpath(prefix), STATE_DIRECTORY)
    for name, what in list_transactions(prefix):
        identifier = name[len("txn-") :]
        if what == "journal":
            document = undo_journal(prefix, name)
            command = " ".join(str(part) for part in document.get("command", ()))
            done.append((identifier, "rolled-back", "undone: " + command))
        if what != "committed":
            problem = discard(os.path.join(state, name))
            if what == "unfinished":
                done.append((identifier, "cleaned", problem or "had not changed anything"))
    for name in sorted(os.listdir(state)) if os.path.isdir(state) else []:
        if name.startswith("trash-"):
            problem = discard(os.path.join(state, name))
            done.append(
                (name[len("trash-") :], "finished", problem or "removed what was no longer needed")
            )
    return done
