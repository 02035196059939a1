"""Releases on GitHub as links: the REST API's answer, and the web pages for when the API refuses.

The form of the API's answer: docs.github.com/en/rest/releases/releases. The web page of a release
loads its assets from `/releases/expanded_assets/TAG`, which is a piece of HTML with one anchor per
asset; `/releases.atom` lists the newest releases.
"""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, Tuple
from urllib.parse import quote, unquote, urlsplit

from safe_install.index.facts import canonical_url
from safe_install.index.location import releases_page
from safe_install.index.pages import parse_number
from safe_install.models import Link

ACCEPT = "application/vnd.github+json"
_PER_PAGE = 30  # releases; with 80 assets each this is about 4 MB of JSON
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})$")
_FEED_TAG = re.compile(r"/releases/tag/([^\"'<>\s]+)")


def newest_releases_url(repository: str) -> str:
    """The API's answer with the newest releases and their assets."""
    return f"{releases_page(repository)}?per_page={_PER_PAGE}"


def release_url(repository: str, tag: str) -> str:
    """The API's answer for one release."""
    return f"{releases_page(repository)}/tags/{quote(tag, safe='')}"


def feed_url(repository: str) -> str:
    """The feed of the newest releases, which needs no API."""
    return f"https://github.com/{repository}/releases.atom"


def assets_url(repository: str, tag: str) -> str:
    """The piece of HTML with the assets of one release."""
    return f"https://github.com/{repository}/releases/expanded_assets/{quote(tag, safe='')}"


def parse_releases(text: str, repository: str) -> Tuple[Tuple[str, ...], Tuple[Link, ...]]:
    """The tags and the files in an answer of the API: a list of releases, or one. Never raises;
    junk gives nothing.

    Only files below the repository's own download folder are believed; a digest is the file's
    sha256.
    """
    try:
        value = json.loads(text, parse_int=parse_number)
    except (ValueError, RecursionError):
        return (), ()
    releases = [
        release
        for release in (value if isinstance(value, list) else [value])
        if isinstance(release, dict)
    ]
    tags = tuple(
        r["tag_name"] for r in releases if isinstance(r.get("tag_name"), str) and not r.get("draft")
    )
    links = tuple(
        link
        for release in releases
        if not release.get("draft")
        for link in _assets(release, repository)
    )
    return tags, links


def _assets(release: Any, repository: str) -> Iterator[Link]:
    assets = release.get("assets")
    start = f"https://github.com/{repository}/releases/download/"
    for asset in assets if isinstance(assets, list) else []:
        url = asset.get("browser_download_url") if isinstance(asset, dict) else None
        if not isinstance(url, str) or not url.lower().startswith(start.lower()):
            continue
        name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        if name.endswith((".whl", ".tar.gz", ".zip")) and not set("/\\\0") & set(name):
            digest, size = asset.get("digest"), asset.get("size")
            found = _DIGEST.match(digest) if isinstance(digest, str) else None
            yield Link(
                url=canonical_url(url),
                filename=name,
                sha256=found.group(1) if found else None,
                size=size
                if isinstance(size, int) and not isinstance(size, bool) and size >= 0
                else None,
                found_in=f"https://github.com/{repository}/releases",
            )


def parse_feed(text: str) -> Tuple[str, ...]:
    """The tags in a feed of releases, newest first. Never raises."""
    return tuple(dict.fromkeys(unquote(tag) for tag in _FEED_TAG.findall(text[: 4 * 1024 * 1024])))[
        :100
    ]


def own_assets(links: Tuple[Link, ...], repository: str) -> Tuple[Link, ...]:
    """Of the anchors on a release's page, the files of this repository's releases."""
    start = f"https://github.com/{repository}/releases/download/".lower()
    return tuple(link for link in links if link.url.lower().startswith(start))
