"""Writes files atomically: a file has its old content or its new one, never a part of it.

`transaction/recovery` has a function of its own for journals, since it stands alone.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterator


@contextmanager
def replacing_file(path: Path, *, mode: int = 0o666, is_durable: bool = True) -> Iterator[BinaryIO]:
    """A stream to a temporary file in the same folder, which replaces `path` at the end of the
    block.

    `mode`: that of the new file; the umask is applied. `is_durable`: write the content to the disk
    first; else a power failure may leave an empty file. Errors: OSError, and those of the block;
    `path` is then unchanged.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            if is_durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def why_no_file(path: Path) -> str:
    """Why a file cannot be written to a path: `is a folder`; "" if it probably can."""
    if path.is_dir():
        return "is a folder"
    if _is_device(path):
        return "is not a regular file"
    return "" if path.parent.is_dir() else "lies in no folder that is there"


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o666, is_durable: bool = True
) -> None:
    """Write the whole content of a file. Arguments and errors are those of `replacing_file`."""
    with replacing_file(path, mode=mode, is_durable=is_durable) as stream:
        stream.write(content)


def write_output(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write to a path that the user named: replace a regular file, also behind a symbolic link;
    write to a device or a FIFO, as `>` of a shell does. Errors: OSError."""
    if _is_device(path):
        path.write_bytes(content)
        return
    write_atomically(path.resolve(), content, mode=mode)


def _is_device(path: Path) -> bool:
    """Is it a device, a FIFO, a folder, or a link of the system to an open file as /dev/stdout? A
    file in its place would be missed by every program."""
    if not path.exists():
        return False
    if not path.is_file():
        return True
    return path.is_symlink() and path.absolute().parts[1] in ("dev", "proc")
