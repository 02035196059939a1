"""Pages on disk, with what asks again cheaply; and the hosts that count our questions."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple

from safe_install.system.http_body import read_number
from safe_install.system.mirrors import MirrorRule, apply_mirrors

MAX_LIMIT = 2 * 3600  # seconds that a host may keep us from asking again


def write_json(folder: Path, name: str, value: Any) -> None:
    """Write a file of the cache, whole or not at all. Never raises for what a disk does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=str(folder))
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        Path(temporary).replace(folder / name)
    except OSError:
        pass  # a cache that cannot be written costs time and nothing else


def limited_until(code: int, headers: Mapping[str, str]) -> Optional[float]:
    """Until when a host that counts questions refuses them (seconds since the epoch), None when that is not why.

    Headers: docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api; RFC 9110, 10.2.3.
    """
    if code not in (403, 429):
        return None
    after, left, reset = (
        headers.get(name, "") for name in ("Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    )
    now = time.time()
    seconds, until = read_number(after), read_number(reset)
    if seconds is not None:
        return now + min(seconds, MAX_LIMIT)
    if left == "0" or code == 429:
        return now + 60 if until is None else min(float(until), now + MAX_LIMIT)
    return None


def limit_detail(until: float) -> str:
    """Why a host is not asked."""
    return f"its limit of requests is reached until {time.strftime('%H:%M', time.localtime(until))}"


@dataclass(frozen=True)
class CachedPage:
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
    """ETag, Last-Modified, and until when the page need not be asked for again (at most an hour)."""
    fresh_until = 0.0
    directives = [part.strip().lower() for part in headers.get("Cache-Control", "").split(",")]
    if not {"no-store", "no-cache"} & set(directives):
        for directive in directives:
            name, _, value = directive.partition("=")
            age = read_number(value)
            if name == "max-age" and age is not None:
                fresh_until = time.time() + min(age, 3600)
    return headers.get("ETag", ""), headers.get("Last-Modified", ""), fresh_until


def cache_name(url: str, mirrors: Sequence[MirrorRule]) -> str:
    """The file name of a page."""
    # A mirror's page is another page.
    return hashlib.sha256(apply_mirrors(url, mirrors).encode()).hexdigest()[:40] + ".json"
