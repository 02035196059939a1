"""A file system that renames files only, as overlayfs does for the directories of a lower layer."""

from __future__ import annotations

import errno
import os
from typing import Any, Callable

from safe_install.transaction.recovery import disk
from tests.disk_calls import replace_everywhere


def refuse_renames_of_directories(replace: Callable[[Any, str, Any], None]) -> None:
    """Give `replace(owner, name, function)` versions that fail with EXDEV for directories, our
    trash aside."""
    rename, exchange = os.rename, disk.exchange

    def rename_files(first: str, second: str) -> None:
        if is_directory(first) and "trash-" not in str(second):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), first)
        rename(first, second)

    def exchange_files(first: str, second: str) -> None:
        if is_directory(first) or is_directory(second):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), first)
        exchange(first, second)

    replace(os, "rename", rename_files)
    replace_everywhere(replace, "exchange", exchange_files)


def is_directory(path: str) -> bool:
    """A link to a directory is none."""
    return os.path.isdir(path) and not os.path.islink(path)
