"""A snapshot as a Dockerfile: the Python and the C library of the environment, its lock file, and
a check at the first start. Pure."""

from __future__ import annotations

import posixpath
from typing import List, Optional, Tuple

from safe_install.snapshot.values import FileSource, Snapshot

# Debian's releases with the C library of each; images of Python are built on them.
DEBIAN = (("bullseye", (2, 31)), ("bookworm", (2, 36)), ("trixie", (2, 41)))
NO_TRIXIE_BEFORE = (3, 9)  # no images of older Pythons were built on it
PYLOCK_SINCE = (3, 10)  # the Python of the pips that read a lock file (26.1)
LOCK_PIP = "pip>=26.1"
ZIPAPP = "safe-install.pyz"


def render_dockerfile(snapshot: Snapshot) -> str:
    """The text of a Dockerfile. Beside it lie the lock file and the zipapp."""
    lock = "pylock.toml" if _python(snapshot) >= PYLOCK_SINCE else "requirements.txt"
    lines = [
        f"# Beside this file: {lock} (safe-install export -o {lock} --wheels wheels) and {ZIPAPP}",
        "# (the zipapp of safe-install).",
        f"FROM {base_image(snapshot)}",
        "WORKDIR /opt/environment",
        *_copies(snapshot, lock),
        *_installs(lock),
        *_checks(snapshot),
    ]
    return "\n".join(lines) + "\n"


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
    for folder in wheel_folders(snapshot):
        lines.append(f"COPY {folder} {folder}")
    return lines


def wheel_folders(snapshot: Snapshot) -> List[str]:
    """The folders beside the document in which files lie."""
    folders = set()
    for one in snapshot.distributions:
        if isinstance(one.source, FileSource) and not posixpath.isabs(one.source.path):
            folders.add(posixpath.dirname(one.source.path) or ".")
    return sorted(folders)


def _installs(lock: str) -> List[str]:
    if lock == "requirements.txt":
        return [f"RUN python -m pip install --no-cache-dir -r {lock}"]
    return [
        f"RUN python -m pip install --no-cache-dir '{LOCK_PIP}' \\",
        f" && python -m pip install --no-cache-dir -r {lock}",
    ]


def _checks(snapshot: Snapshot) -> List[str]:
    """While an image is built there is no GPU: CUDA is asked for at the start. With -B the zipapp
    unpacks itself into no layer."""
    if snapshot.torch is None:
        return []
    lines = [f"RUN python -B {ZIPAPP} verify"]
    if snapshot.torch.cuda:
        lines += [
            "# CUDA is there only when the image runs on its GPU.",
            f'CMD ["python", "-B", "/opt/environment/{ZIPAPP}", "verify", "--require-cuda"]',
        ]
    return lines
