"""Writes files atomically: afterwards a file has its old or its new content, never a part of it.

`transaction/recovery` has its own function for journals, because it has to work alone.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterator


@contextmanager
def replacing_file(path: Path, *, mode: int = 0o666, is_durable: bool = True) -> Iterator[BinaryIO]:
    """A stream into a temporary file of the same folder, which takes the place of `path` when the
    block has ended.

    `mode` is that of the new file, less the umask. `is_durable`: its content is on the disk before
    it takes the place; else a power cut may leave an empty file. Errors: OSError, and those of the
    block; `path` is then as it was.
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
    """Why no file can be written to a path: `is a folder`; "" where nothing is known against it."""
    if path.is_dir():
        return "is a folder"
    # The file takes the place of what is there, also of /dev/null and of the link /dev/stdout.
    if path.exists() and (not path.is_file() or path.parent == Path("/dev")):
        return "is no plain file"
    return "" if path.parent.is_dir() else "lies in no folder that is there"


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o666, is_durable: bool = True
) -> None:
    """Write the whole content of a file. Arguments and errors are those of `replacing_file`."""
    with replacing_file(path, mode=mode, is_durable=is_durable) as stream:
        stream.write(content)
