"""Finds files that pip has downloaded before, in its cache of HTTP responses (pip 23.3 and newer).

They are not trusted: the caller compares the hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Optional
from urllib.parse import urldefrag, urlsplit, urlunsplit

from safe_install.folders import find_cache_folder


def find_pip_cache(named: Optional[str]) -> Path:
    """The folder of pip's cache. `named`: the value of its option --cache-dir."""
    if named is not None:
        return Path(named)
    return find_cache_folder("pip")


def find_body(url: str, cache: Path) -> Optional[Path]:
    """The file that pip downloaded from this URL; None if there is none."""
    name = hashlib.sha224(_key(url).encode()).hexdigest()
    body = cache.joinpath("http-v2", *name[:5], f"{name}.body")
    return body if body.is_file() else None


def _key(url: str) -> str:
    """The address in the form of CacheControl: without a fragment. pip removes the password
    before."""
    parts = urlsplit(urldefrag(url)[0])
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path or "/", parts.query, ""))
