"""Operations on the file system for a change and its recovery."""

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO, Iterable, Optional, Tuple

from safe_install.transaction.recovery.rows import Identity, JournalInvalid

if TYPE_CHECKING:
    import ctypes

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "ppc64le": 357, "s390x": 347, "riscv64": 276}
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def libc() -> Optional["ctypes.CDLL"]:
    """The C library through ctypes; None if ctypes is missing."""
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None


def exchange(first: str, second: str) -> None:
    """Exchange two names atomically (renameat2). Errors: OSError, with ENOSYS where the kernel does
    not support it."""
    library = libc()
    if library is None or not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "renameat2 is not available", first)
    import ctypes

    arguments = (
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(first)),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(second)),
        ctypes.c_uint(_RENAME_EXCHANGE),
    )
    if hasattr(library, "renameat2"):  # glibc 2.28, musl 1.2.4
        result = library.renameat2(*arguments)
    else:
        number = _SYS_RENAMEAT2.get(os.uname().machine)
        if number is None:
            raise OSError(errno.ENOSYS, "renameat2 is not available", first)
        result = library.syscall(ctypes.c_long(number), *arguments)
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), first, None, second)


def sync_filesystem(path: str) -> None:
    """Write everything on the file system of the directory `path` to the disk."""
    library = libc()
    if library is None or not hasattr(library, "syncfs"):
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if library.syncfs(descriptor) != 0:
            import ctypes

            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Write the names in the directory `path` to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        os.close(descriptor)


def _named(error: OSError, path: str) -> OSError:
    """The error with a path, which errors of calls on open files do not have."""
    return OSError(error.errno, error.strerror, path)


def write_durably(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write a file atomically and durably: after a crash it has its old or its new content."""
    temporary = path + ".tmp"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _named(error, temporary) from error
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def refresh_folders(prefix: str, paths: Iterable[str]) -> None:
    """Refresh what a client of a file server has cached about the folders above these paths.

    A client may use cached names for up to a minute; opening a folder makes it ask the server
    (close-to-open).
    """
    folders = {prefix}
    for path in paths:
        folder = os.path.dirname(path)
        while folder not in folders and is_inside(folder, prefix):
            folders.add(folder)
            folder = os.path.dirname(folder)
    for folder in sorted(folders):  # parents first
        try:
            os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
        except OSError:
            pass  # it does not exist


def read_identity(path: str) -> Optional[Identity]:
    """The identity of the object at `path`; None if there is none. Links are not followed."""
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise
    if stat.S_ISDIR(status.st_mode):
        size, mtime_ns = _read_record_stamp(path)
        return Identity("d", status.st_ino, size, mtime_ns)
    kind = "o"
    if stat.S_ISLNK(status.st_mode):
        kind = "l"
    elif stat.S_ISREG(status.st_mode):
        kind = "f"
    return Identity(kind, status.st_ino, status.st_size, status.st_mtime_ns)


def _read_record_stamp(directory: str) -> Tuple[int, int]:
    # A new dist-info may get the inode number of a removed one, but it has a new RECORD.
    try:
        status = os.lstat(os.path.join(directory, "RECORD"))
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def open_regular_file(path: str) -> BinaryIO:
    """Open a regular file for reading. Errors: JournalInvalid for anything else: opening a FIFO
    would wait for a writer."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        mode = os.fstat(stream.fileno()).st_mode
        if stat.S_ISREG(mode):
            return stream
        stream.close()
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    raise JournalInvalid("%s is %s and not a regular file" % (path, kind))


def read_regular_file(path: str) -> bytes:
    """The bytes of a regular file. Errors: JournalInvalid for anything else."""
    with open_regular_file(path) as stream:
        return stream.read()


def is_bytecode(path: str) -> bool:
    """Is it a cached .pyc file, which any Python may write at any time?"""
    return path.endswith(".pyc") and os.path.basename(os.path.dirname(path)) == "__pycache__"


def is_inside(path: str, directory: str) -> bool:
    """Is `path` strictly below `directory`, compared by component?"""
    return path.startswith(directory.rstrip(os.sep) + os.sep)


def unlink_if_there(path: str) -> None:
    """Remove a file, if it exists."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
