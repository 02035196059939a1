"""Starts the program from a single file: the zipapp or a bundle.

The program unpacks itself into the cache and runs from there, because Python stores no bytecode for
an archive: to compile the program at each start takes longer than most commands. Where the folder
is not safe, or cannot be made, the program silently runs from its file.

A folder is used by new starts for a week, and is removed a week later. So nothing has to be written
when it is used, and files that were lost from it (by a clean-up or a disk error) come back.

This module imports few modules of the standard library only, because it is compiled at each start.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Dict, Iterable, List, Mapping

APPLICATION = "torch-safe-install"
WEEK = 7 * 24 * 3600  # seconds
KEPT = 2 * WEEK  # seconds after which a folder is removed, if no process runs from it
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
OTHERS = stat.S_IRWXG | stat.S_IRWXO
SYNC_THREADS = 16  # each waits for the disk


def start(module: str, sha256: str) -> None:
    """Run the command line of this process by the function `run` of a module, and end the process.
    `sha256`: of the program."""
    archive = getattr(getattr(__spec__, "loader", None), "archive", None)
    if archive is not None:
        # After any error the program runs from the archive.
        with suppress(Exception):
            use(find_folder(archive, sha256, os.environ), archive)
    import_module(module).run()


def find_folder(archive: str, sha256: str, variables: Mapping[str, str]) -> Path:
    """The folder of the unpacked program, which only this user can write; it is unpacked where it
    is missing. Errors: ValueError, PermissionError, and those of `unpack`."""
    folder = find_cache(variables) / "program" / f"{sha256[:32]}-{int(time.time()) // WEEK}"
    if not os.path.lexists(folder):
        if sys.dont_write_bytecode:
            raise ValueError("there would be no bytecode in it")
        unpack(archive, sha256, folder)
    check_private(folder)
    return folder


def find_cache(variables: Mapping[str, str]) -> Path:
    """The cache folder, by the same rules as in wheels/store.py. Errors: FileNotFoundError."""
    chosen = variables.get("SAFE_INSTALL_CACHE_DIR")
    if chosen:
        return Path(os.path.realpath(os.path.expanduser(chosen)))
    parent = variables.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(parent):
        parent = os.path.expanduser("~/.cache")
    if not os.path.isabs(parent):
        raise FileNotFoundError("there is no home")
    return Path(os.path.realpath(parent), APPLICATION)


def check_private(folder: Path) -> None:
    """Raise PermissionError if another user could write into a folder, or replace it. Errors:
    also OSError."""
    is_closed = False  # other users cannot enter a folder above
    for place in (*reversed(folder.parents), folder):
        found = place.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.geteuid())
        # In a folder with the sticky bit, such as /tmp, users cannot replace files of others.
        is_safe = is_closed or found.st_mode & stat.S_ISVTX
        is_made_here = place in (folder.parent, folder)
        is_open = found.st_mode & WRITABLE_BY_OTHERS and (is_made_here or not is_safe)
        if not is_own or is_open:
            raise PermissionError(f"{place} is not of this user alone")
        is_closed |= not found.st_mode & OTHERS


def use(folder: Path, archive: str) -> None:
    """Import from this folder from now on. The loader of the package stays, by which the program
    finds its archive. Errors: BlockingIOError if the folder is being removed."""
    # Held until this process ends, so that no other process removes the folder.
    lock(folder, fcntl.LOCK_SH)
    package = sys.modules[__package__]
    package.__path__[:] = [str(folder / __package__)]
    sys.path[:] = [str(folder) if entry == archive else entry for entry in sys.path]


def lock(folder: Path, kind: int) -> int:
    """Lock a folder until the returned descriptor is closed; without a lock where the file system
    has none. Errors: BlockingIOError if another process has it; OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass
    return descriptor


# --- unpack ---------------------------------------------------------------------------------------


def unpack(archive: str, sha256: str, folder: Path) -> None:
    """Unpack the program into a folder, completely or not at all. Errors: BlockingIOError if
    another process does it; PermissionError, and those of `read_members`."""
    programs = folder.parent
    programs.mkdir(0o700, parents=True, exist_ok=True)
    check_private(programs)
    locked = lock(programs, fcntl.LOCK_EX)
    try:
        _unpack(read_members(archive, sha256), folder)
        remove_old(programs)
    finally:
        os.close(locked)


def read_members(path: str, sha256: str) -> Dict[str, bytes]:
    """The files of the program. Errors: ValueError if their hash differs, or a name leads out
    of the folder; BadZipFile, zlib.error, OSError."""
    import zipfile

    from safe_install.program_archive import hash_program, is_of_program

    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if is_of_program(name)]
        members = {name: archive.read(name) for name in names}
    for name in names:
        if "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ValueError(f"{name} leads elsewhere")
    if hash_program(members) != sha256:
        raise ValueError(f"{path} holds another program")
    return members


def _unpack(members: Mapping[str, bytes], folder: Path) -> None:
    import shutil
    import tempfile

    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    try:
        _sync(_write(members, fresh))
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _write(members: Mapping[str, bytes], folder: Path) -> List[Path]:
    written = []
    for name in members:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(members[name])
        written.append(path)
    return written


def _sync(files: Iterable[Path]) -> None:
    """Write the files to the disk, because after a power cut they could be empty."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        list(pool.map(_sync_file, files))


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def remove_old(programs: Path) -> None:
    """Remove the folders that are not used any more, and what killed processes left."""
    for folder in programs.iterdir():
        # OSError: another process runs from it, or removes it.
        with suppress(OSError):
            if time.time() - folder.lstat().st_mtime > KEPT:
                _remove(folder)


def _remove(folder: Path) -> None:
    import shutil

    locked = lock(folder, fcntl.LOCK_EX)
    try:
        shutil.rmtree(folder)
    finally:
        os.close(locked)
