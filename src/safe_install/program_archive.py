"""The names of the files in a zipapp or a bundle. Pure."""

from __future__ import annotations

import hashlib
from typing import Mapping

MAIN = "__main__.py"  # the start script
# Further files of a bundle.
MANIFEST = "safe_install_bundle.json"
LOCK = "pylock.toml"
WHEELS = "wheels/"  # the folder of the wheels


def is_of_program(name: str) -> bool:
    """Is this member of an archive one of the program's files?"""
    return name not in (MANIFEST, LOCK, MAIN) and not name.startswith(WHEELS) and name[-1:] != "/"


def hash_program(program: Mapping[str, bytes]) -> str:
    """One SHA-256 of all files. `program`: name -> content."""
    digest = hashlib.sha256()
    for name in sorted(program):
        digest.update(f"{hashlib.sha256(program[name]).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()
