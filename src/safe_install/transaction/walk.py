"""Lists the files below a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Union


def walk_files(folder: Union[str, Path]) -> Iterator[str]:
    """The paths of all files below a folder. A symbolic link counts as a file, also one to a
    directory."""
    for parent, names, files in os.walk(str(folder)):
        links = [name for name in names if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            yield os.path.join(parent, name)
