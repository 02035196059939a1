"""Reads the files of GitHub releases: from the REST API, or from web pages if the API refuses.

The API's answer: docs.github.com/en/rest/releases/releases. The web page of a release loads its
assets from `/releases/expanded_assets/TAG`, a piece of HTML with one anchor for each asset.
`/releases.atom` lists the newest releases.
"""

from __future__ import annotations

import json
import re
from typing import Iterator, List, Mapping, Tuple
from urllib.parse import quote, unquote, urlsplit

from safe_install.index.facts import canonical_url
from safe_install.index.location import releases_page
from safe_install.index.pages import parse_number, size_or_none
from safe_install.models import Link

ACCEPT = "application/vnd.github+json"
_PER_PAGE = 30  # releases; with 80 assets each this is about 4 MB of JSON
_MAX_FEED = 4 * 1024 * 1024  # characters
_MAX_TAGS = 100  # of a feed
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})$")
_FEED_TAG = re.compile(r"/releases/tag/([^\"'<>\s]+)")


def newest_releases_url(repository: str) -> str:
    """The address of the newest releases and their assets in the API."""
    return f"{releases_page(repository)}?per_page={_PER_PAGE}"


def release_url(repository: str, tag: str) -> str:
    """The address of one release in the API."""
    return f"{releases_page(repository)}/tags/{quote(tag, safe='')}"


def feed_url(repository: str) -> str:
    """The address of the feed of the newest releases, a web page."""
    return f"https://github.com/{repository}/releases.atom"


def assets_url(repository: str, tag: str) -> str:
    """The address of the web page with the assets of one release."""
    return f"https://github.com/{repository}/releases/expanded_assets/{quote(tag, safe='')}"


def parse_releases(text: str, repository: str) -> Tuple[Tuple[str, ...], Tuple[Link, ...]]:
    """The tags and files in an answer of the API: a list of releases, or one release. Never raises;
    junk gives nothing.

    Only files below the repository's own download folder count. The digest of an asset is the
    file's sha256.
    """
    try:
        value = json.loads(text, parse_int=parse_number)
    except (ValueError, RecursionError):
        return (), ()
    tags: List[str] = []
    links: List[Link] = []
    for release in value if isinstance(value, list) else [value]:
        if not isinstance(release, dict) or release.get("draft"):
            continue
        if isinstance(release.get("tag_name"), str):
            tags.append(release["tag_name"])
        links.extend(_assets(release, repository))
    return tuple(tags), tuple(links)


def _assets(release: Mapping[str, object], repository: str) -> Iterator[Link]:
    assets = release.get("assets")
    start = _downloads(repository)
    for asset in assets if isinstance(assets, list) else []:
        url = asset.get("browser_download_url") if isinstance(asset, dict) else None
        if not isinstance(url, str) or not url.lower().startswith(start):
            continue
        name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        if not name.endswith((".whl", ".tar.gz", ".zip")) or set("/\\\0") & set(name):
            continue
        digest = asset.get("digest")
        found = _DIGEST.match(digest) if isinstance(digest, str) else None
        yield Link(
            url=canonical_url(url),
            filename=name,
            sha256=found.group(1) if found else None,
            size=size_or_none(asset.get("size")),
            found_in=f"https://github.com/{repository}/releases",
        )


def _downloads(repository: str) -> str:
    """What the addresses of a repository's files begin with, in lower case."""
    return f"https://github.com/{repository}/releases/download/".lower()


def parse_feed(text: str) -> Tuple[str, ...]:
    """The tags in a feed of releases, newest first. Never raises."""
    tags = [unquote(tag) for tag in _FEED_TAG.findall(text[:_MAX_FEED])]
    return tuple(dict.fromkeys(tags))[:_MAX_TAGS]


def own_assets(links: Tuple[Link, ...], repository: str) -> Tuple[Link, ...]:
    """The links of a release's page that are files of this repository's releases."""
    start = _downloads(repository)
    return tuple(link for link in links if link.url.lower().startswith(start))
