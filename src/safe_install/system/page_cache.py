"""Pages on disk, with what asks again cheaply; and the hosts that count our questions."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

from safe_install.system.atomic_write import write_atomically
from safe_install.system.http_body import read_number
from safe_install.system.mirrors import MirrorRule, apply_mirrors

LIMITS_FILE = "limits.json"
MAX_LIMIT = 2 * 3600  # seconds that a host may keep us from asking again


def limited_until(code: int, headers: Mapping[str, str]) -> Optional[float]:
    """Until when a host that counts questions refuses them (seconds since the epoch), None when
    that is not why.

    Headers: docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api; RFC 9110,
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
    """A page on disk, with what asks again cheaply."""

    text: str
    content_type: str
    etag: str
    modified: str
    fresh_until: float  # seconds since the epoch

    def conditions(self) -> Mapping[str, str]:
        """The headers that ask whether the page has changed."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.modified} if self.modified else {}

    def renewed(self, headers: Mapping[str, str]) -> CachedPage:
        """The same page after a host said that it has not changed."""
        return CachedPage(
            self.text,
            self.content_type,
            self.etag,
            self.modified,
            validators(headers)[2] or self.fresh_until,
        )


def validators(headers: Mapping[str, str]) -> Tuple[str, str, float]:
    """ETag, Last-Modified, and until when the page need not be asked for again (at most an
    hour)."""
    fresh_until = 0.0
    directives = [part.strip().lower() for part in headers.get("Cache-Control", "").split(",")]
    if not {"no-store", "no-cache"} & set(directives):
        for directive in directives:
            name, _, value = directive.partition("=")
            age = read_number(value)
            if name == "max-age" and age is not None:
                fresh_until = time.time() + min(age, 3600)
    return headers.get("ETag", ""), headers.get("Last-Modified", ""), fresh_until


class PageCache:
    """Pages in a folder; without one, nothing is remembered."""

    def __init__(self, folder: Optional[Path], mirrors: Sequence[MirrorRule]) -> None:
        self._folder = folder
        self._mirrors = mirrors

    def read(self, url: str) -> Optional[CachedPage]:
        """The page, None where it is not there or damaged."""
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
        """Remember a page that can be asked for again cheaply."""
        if self._folder is None or not (page.etag or page.modified or page.fresh_until):
            return
        _write_json(self._folder, self._name(url), page._asdict())

    def _name(self, url: str) -> str:
        # A mirror's page is another page.
        return hashlib.sha256(apply_mirrors(url, self._mirrors).encode()).hexdigest()[:40] + ".json"


class RateLimits:
    """Until when which host refuses our requests; remembered in a folder, where there is one."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._folder = folder
        self._known: Optional[Mapping[str, float]] = None

    def read(self, host: str) -> Optional[float]:
        """Until when `host` will refuse us (seconds since the epoch), None when it will not."""
        until = self._all().get(host, 0.0)
        return until if until > time.time() else None

    def write(self, host: str, until: float) -> None:
        """Remember that `host` refuses us until then."""
        self._known = {**self._all(), host: until}
        if self._folder is not None:
            _write_json(self._folder, LIMITS_FILE, self._known)

    def _all(self) -> Mapping[str, float]:
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
            return {}  # not there, or damaged: asked anew


def _write_json(folder: Path, name: str, value: Any) -> None:
    """Write a file of the cache, whole or not at all. Never raises for what a disk does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            folder / name, json.dumps(value).encode("utf-8"), mode=0o600, is_durable=False
        )
    except OSError:
        pass  # a cache that cannot be written costs time and nothing else
