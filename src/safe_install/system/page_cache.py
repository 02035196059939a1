"""Keeps pages on disk, and which hosts refuse requests because of a limit."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

from safe_install.models import JsonValue
from safe_install.system.atomic_write import write_atomically
from safe_install.system.http_body import read_number
from safe_install.system.mirrors import MirrorRule, apply_mirrors

LIMITS_FILE = "limits.json"
MAX_LIMIT = 2 * 3600  # seconds; a host that asks for a longer pause is asked again after this time
MAX_FRESH = 3600  # seconds for which a page is not asked for again


def limited_until(code: int, headers: Mapping[str, str]) -> Optional[float]:
    """Until when a host refuses requests because of a limit, in seconds since the epoch. None: the
    answer has another reason.

    Sources: docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api; RFC 9110,
    10.2.3.
    """
    if code not in (403, 429):
        return None
    now = time.time()
    seconds = read_number(headers.get("Retry-After", ""))
    if seconds is not None:
        return now + min(seconds, MAX_LIMIT)
    if headers.get("X-RateLimit-Remaining", "") != "0" and code != 429:
        return None
    until = read_number(headers.get("X-RateLimit-Reset", ""))
    if until is None:
        return now + 60
    return min(float(until), now + MAX_LIMIT)


def limit_detail(until: float) -> str:
    """Why a host is not asked."""
    return f"its limit of requests is reached until {time.strftime('%H:%M', time.localtime(until))}"


class CachedPage(NamedTuple):
    """A page on disk."""

    text: str
    content_type: str
    etag: str  # the header ETag, or ""
    modified: str  # the header Last-Modified, or ""
    fresh_until: float  # until then it need not be asked for again; seconds since the epoch

    def conditions(self) -> Mapping[str, str]:
        """The headers that ask whether the page has changed."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.modified} if self.modified else {}

    def renewed(self, headers: Mapping[str, str]) -> CachedPage:
        """The same page, after the host answered that it has not changed."""
        return self._replace(fresh_until=_fresh_until(headers) or self.fresh_until)


def make_cached_page(text: str, content_type: str, headers: Mapping[str, str]) -> CachedPage:
    """The page of an answer with these headers."""
    etag = headers.get("ETag", "")
    modified = headers.get("Last-Modified", "")
    return CachedPage(text, content_type, etag, modified, _fresh_until(headers))


def _fresh_until(headers: Mapping[str, str]) -> float:
    """Until when a page need not be asked for again, in seconds since the epoch; 0.0: not known."""
    directives = [part.strip().lower() for part in headers.get("Cache-Control", "").split(",")]
    if {"no-store", "no-cache"} & set(directives):
        return 0.0
    fresh_until = 0.0
    for directive in directives:
        name, _, value = directive.partition("=")
        age = read_number(value)
        if name == "max-age" and age is not None:
            fresh_until = time.time() + min(age, MAX_FRESH)
    return fresh_until


class PageCache:
    """Pages in a folder. Without a folder, nothing is kept."""

    def __init__(self, folder: Optional[Path], mirrors: Sequence[MirrorRule]) -> None:
        self._folder = folder
        self._mirrors = mirrors

    def read(self, url: str) -> Optional[CachedPage]:
        """The page; None if it is not there, or damaged."""
        if self._folder is None:
            return None
        try:
            raw = json.loads((self._folder / self._name(url)).read_text("utf-8"))
            return CachedPage(
                str(raw["text"]),
                str(raw["content_type"]),
                str(raw["etag"]),
                str(raw["modified"]),
                float(raw["fresh_until"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, url: str, page: CachedPage) -> None:
        """Keep a page, unless its headers give no way to use it again."""
        if self._folder is None or not (page.etag or page.modified or page.fresh_until):
            return
        _write_json(self._folder, self._name(url), page._asdict())

    def _name(self, url: str) -> str:
        # The page of a mirror is another one.
        return hashlib.sha256(apply_mirrors(url, self._mirrors).encode()).hexdigest()[:40] + ".json"


class RateLimits:
    """The hosts that refuse requests, and until when. It is kept in a folder, if there is one."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._folder = folder
        self._known: Optional[Mapping[str, float]] = None

    def read(self, host: str) -> Optional[float]:
        """Until when the host refuses requests, in seconds since the epoch. None: it does not."""
        until = self._load().get(host, 0.0)
        return until if until > time.time() else None

    def write(self, host: str, until: float) -> None:
        """Record that the host refuses requests until then."""
        self._known = {**self._load(), host: until}
        if self._folder is not None:
            _write_json(self._folder, LIMITS_FILE, self._known)

    def _load(self) -> Mapping[str, float]:
        if self._known is None:
            self._known = self._read_file()
        return self._known

    def _read_file(self) -> Mapping[str, float]:
        if self._folder is None:
            return {}
        try:
            found = json.loads((self._folder / LIMITS_FILE).read_text("utf-8"))
            return {str(host): float(until) for host, until in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # it is not there, or damaged


def _write_json(folder: Path, name: str, value: JsonValue) -> None:
    """Write a file of the cache, completely or not at all. Never raises: a cache that cannot be
    written only costs time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            folder / name, json.dumps(value).encode("utf-8"), mode=0o600, is_durable=False
        )
    except OSError:
        pass
