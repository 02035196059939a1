"""A snapshot as a Dockerfile: the Python and C library of the environment, its lock file, and a
check at the first start. Pure."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from typing import List, Optional, Tuple

from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RepositorySource,
    Snapshot,
    is_tree,
)

# Debian releases on which Python images are built, with the version of glibc.
DEBIAN = (("bullseye", (2, 31)), ("bookworm", (2, 36)), ("trixie", (2, 41)))
NO_TRIXIE_BEFORE = (3, 9)  # there are no images of older Pythons on trixie
PYLOCK_SINCE = (3, 10)  # the oldest Python of pip 26.1, which reads lock files
LOCK_PIP = "pip>=26.1"
# VCS -> the package in Debian and Alpine. bzr is left out: its names differ, and it is hardly used.
PACKAGES = {"git": "git", "hg": "mercurial", "svn": "subversion"}
ZIPAPP = "safe-install.pyz"
WHEELS = "wheels"  # the default folder of wheels


def render_dockerfile(snapshot: Snapshot) -> str:
    """The text of a Dockerfile, which needs the lock file and the zipapp beside it."""
    lock = _lock_for_pip(snapshot)
    made_by = f"safe-install export -o {lock} --wheels {shlex.quote(_wheel_folder(snapshot))}"
    lines = [
        f"# Beside this file: {lock} ({made_by}) and {ZIPAPP}",
        "# (the zipapp of safe-install).",
        f"FROM {base_image(snapshot)}",
        "WORKDIR /opt/environment",
        *_programs(snapshot),
        *_copies(snapshot, lock),
        *_installs(lock),
        *_checks(snapshot),
    ]
    return "\n".join(lines) + "\n"


def _lock_for_pip(snapshot: Snapshot) -> str:
    """The name of the lock for pip. pip does not accept a pylock.toml that mixes files with folders
    or repositories."""
    is_old = _python(snapshot) < PYLOCK_SINCE
    has_tree = any(is_tree(one.source) for one in snapshot.distributions)
    return "requirements.txt" if is_old or has_tree else "pylock.toml"


def _programs(snapshot: Snapshot) -> List[str]:
    """The line that installs git and others if repositories are cloned: slim images lack
    them."""
    sources = [one.source for one in snapshot.distributions]
    used = {one.vcs for one in sources if isinstance(one, RepositorySource)}
    packages = [PACKAGES[vcs] for vcs in sorted(used) if vcs in PACKAGES]
    if not packages:
        return []
    if snapshot.libc[0] == "musl":
        return [f"RUN apk add --no-cache {' '.join(packages)}"]
    install = "apt-get install -y --no-install-recommends"
    clean = "rm -rf /var/lib/apt/lists/*"
    return [f"RUN apt-get update && {install} {' '.join(packages)} && {clean}"]


def _python(snapshot: Snapshot) -> Tuple[int, int]:
    major, minor = snapshot.python.split(".")[:2]
    return int(major), int(minor)


def base_image(snapshot: Snapshot) -> str:
    """`python:3.11.7-slim-bookworm`: the oldest Debian whose C library is new enough."""
    name, version = snapshot.libc
    if name == "musl":
        return f"python:{snapshot.python}-alpine"
    release = _debian_for(_version_pair(version), _python(snapshot))
    return f"python:{snapshot.python}-slim-{release}"


def _debian_for(libc: Optional[Tuple[int, int]], python: Tuple[int, int]) -> str:
    releases = [name for name, _ in DEBIAN if name != "trixie" or python >= NO_TRIXIE_BEFORE]
    for name, own in DEBIAN:
        if name in releases and libc is not None and libc <= own:
            return name
    return releases[-1]


def _version_pair(text: str) -> Optional[Tuple[int, int]]:
    parts = text.split(".")[:2]
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def _copies(snapshot: Snapshot, lock: str) -> List[str]:
    lines = [f"COPY {lock} {ZIPAPP} ./"]
    for folder in _folders_beside(snapshot):
        lines.append(f"COPY {_pair(folder)}")
    return lines


def _pair(folder: str) -> str:
    """The arguments of COPY for a folder; in JSON where its name has spaces or quotes."""
    is_plain = not re.search(r"[\s\"\\\[]", folder)
    return f"{folder} {folder}" if is_plain else json.dumps([folder, folder])


def _folders_beside(snapshot: Snapshot) -> List[str]:
    """The folders beside the document that have wheels or sources."""
    folders = set()
    for one in snapshot.distributions:
        source = one.source
        if isinstance(source, FileSource):
            folders.add(_wheel_folder(snapshot))
        if isinstance(source, DirectorySource) and not posixpath.isabs(source.path):
            folders.add(source.path)
    return sorted(folders)


def _wheel_folder(snapshot: Snapshot) -> str:
    """The folder beside the document for the wheels."""
    for one in snapshot.distributions:
        if isinstance(one.source, FileSource) and not posixpath.isabs(one.source.path):
            return posixpath.dirname(one.source.path) or "."
    return WHEELS


def _installs(lock: str) -> List[str]:
    if lock == "requirements.txt":
        return [f"RUN python -m pip install --no-cache-dir -r {lock}"]
    return [
        f"RUN python -m pip install --no-cache-dir '{LOCK_PIP}' \\",
        f" && python -m pip install --no-cache-dir -r {lock}",
    ]


def _checks(snapshot: Snapshot) -> List[str]:
    """The check of torch while the image is built, and of CUDA when it starts: during the build
    there is no GPU. With -B the zipapp does not unpack itself into the image."""
    if snapshot.torch is None:
        return []
    lines = [f"RUN python -B {ZIPAPP} verify"]
    if snapshot.torch.cuda:
        lines += [
            "# CUDA is there only when the image runs on its GPU.",
            f'CMD ["python", "-B", "/opt/environment/{ZIPAPP}", "verify", "--require-cuda"]',
        ]
    return lines
