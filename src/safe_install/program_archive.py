"""What the archive of the program is made of, by itself or in a bundle. Pure."""

from __future__ import annotations

import hashlib
from typing import Mapping

MAIN = "__main__.py"  # where it starts
# What else is in a bundle.
MANIFEST = "safe_install_bundle.json"
LOCK = "pylock.toml"
WHEELS = "wheels/"  # the folder of the wheels


def is_of_program(name: str) -> bool:
    """Is a member of the archive one of the program's files?"""
    return name not in (MANIFEST, LOCK, MAIN) and not name.startswith(WHEELS) and name[-1:] != "/"


def hash_program(program: Mapping[str, bytes]) -> str:
    """One hash of all of its files."""
    digest = hashlib.sha256()
    for name in sorted(program):
        digest.update(f"{hashlib.sha256(program[name]).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()
