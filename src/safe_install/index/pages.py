"""Reads the links on a host's page: find-links pages, PEP 503 HTML and PEP 691 JSON.

Pages are not trusted. Whatever a page holds, the result is links or no links, never an error.
"""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache
from itertools import islice
from typing import Iterator, Mapping, Optional, Tuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from safe_install.models import Link

MAX_PAGE = 64 * 1024 * 1024  # characters
MAX_LINKS = 100_000
YANKED_WITHOUT_REASON = "yanked"  # as a Link's reason where the page gives none
_MAX_ANCHOR = 8192  # characters of one start tag
_MAX_URL = 4096
_MAX_UNCLOSED = 1000  # start tags without an end: after these the rest is not read
_SUFFIXES = (".whl", ".tar.gz", ".zip")

_ATTRIBUTE = re.compile(r"""([a-zA-Z][\w-]*)\s*(?:=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+)))?""")
_TAG_END = re.compile(r"""(?:[^>"']|"[^"]*"|'[^']*')*>""")
_TAG_START = re.compile(r"<(a|base)\s", re.IGNORECASE)
_HASH = re.compile(r"sha256=([0-9a-fA-F]{64})")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def parse_page(
    text: str, url: str, *, base: str = "", content_type: str = "", project: str = ""
) -> Tuple[Link, ...]:
    """The files that a page lists, in its order. Never raises; junk gives no links.

    `url`: the address of the page; it becomes `Link.found_in`. Relative links start from `base`
    (the page of a mirror may lie elsewhere), or without one from `url`. `project`: anchors that do
    not contain this name are skipped, which saves time.
    """
    text = text[:MAX_PAGE]
    start = base or url
    if "json" in content_type or text.lstrip()[:1] == "{":
        links = _json_links(text, url, start)
    else:
        links = _html_links(text, url, start, _normalize(project))
    return tuple(islice(links, MAX_LINKS))


def _normalize(text: str) -> str:
    """One spelling for all spellings of a project's name in files and pages."""
    return text.lower().replace("-", "_").replace(".", "_").replace("%2d", "_")


def _html_links(text: str, url: str, base: str, name: str) -> Iterator[Link]:
    """The links of an HTML page. `name`: the normalized name of a project, or ""."""
    unclosed = 0
    if "<!--" in text and text.count("<!--") == text.count("-->"):
        text = _COMMENT.sub("", text)
    for start in _TAG_START.finditer(text):
        # The limit keeps the time linear on a page full of unclosed quotes.
        end = _TAG_END.match(text, start.end(), start.end() + _MAX_ANCHOR)
        if end is None:
            unclosed += 1
            if unclosed > _MAX_UNCLOSED:
                return
            continue
        if name and start.group(1).lower() == "a" and name not in _normalize(end.group()):
            continue
        attributes = {
            name.lower(): html.unescape(double or single or bare)
            for name, double, single, bare in _ATTRIBUTE.findall(end.group()[:-1])
        }
        href = attributes.get("href")
        if href is None:
            continue
        if start.group(1).lower() == "base":
            base = _join(base, href) or base
            continue
        link = _html_link(attributes, _join(base, href), url)
        if link is not None:
            yield link


def _html_link(attributes: Mapping[str, str], target: Optional[str], url: str) -> Optional[Link]:
    """The file at `target`, with the attributes of its anchor on the page at `url`."""
    yanked = attributes.get("data-yanked")
    metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return _make_link(
        target,
        found_in=url,
        requires_python=attributes.get("data-requires-python"),
        yanked=None if yanked is None else (yanked or YANKED_WITHOUT_REASON),
        metadata=_metadata_of_attribute(metadata),
    )


def parse_number(digits: str) -> int:
    """A number of a JSON document; -1 for a very long one. Older Pythons need quadratic time for
    those."""
    return int(digits) if len(digits) <= 18 else -1


def _json_links(text: str, url: str, base: str) -> Iterator[Link]:
    try:
        document = json.loads(text, parse_int=parse_number)
    except (ValueError, RecursionError):
        return
    files = document.get("files") if isinstance(document, dict) else None
    for entry in files if isinstance(files, list) else []:
        address = entry.get("url") if isinstance(entry, dict) else None
        if isinstance(address, str):
            link = _json_link(entry, url, _join(base, address))
            if link is not None:
                yield link


def _json_link(entry: Mapping[str, object], url: str, target: Optional[str]) -> Optional[Link]:
    hashes = entry.get("hashes")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(sha256, str) or not _HASH.match(f"sha256={sha256}"):
        sha256 = None
    yanked = entry.get("yanked") or None
    if yanked is not None and not isinstance(yanked, str):
        yanked = YANKED_WITHOUT_REASON
    return _make_link(
        target,
        found_in=url,
        filename=_text_or_none(entry.get("filename")),
        sha256=sha256,
        size=size_or_none(entry.get("size")),
        requires_python=_text_or_none(entry.get("requires-python")),
        yanked=yanked,
        metadata=_metadata_of_json(entry.get("core-metadata", entry.get("dist-info-metadata"))),
    )


def _text_or_none(value: object) -> Optional[str]:
    return value if isinstance(value, str) else None


def size_or_none(value: object) -> Optional[int]:
    """The size of a file in bytes, as JSON has it; None if that is not a size."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if value >= 0 else None


def _metadata_of_attribute(value: Optional[str]) -> Optional[str]:
    """The sha256 of the METADATA beside a file. "": it is there without a hash; None: it is not
    there."""
    if value is None or value.lower() == "false":
        return None
    found = _HASH.search(value)
    return found.group(1).lower() if found else ""


def _metadata_of_json(value: object) -> Optional[str]:
    """The same as `_metadata_of_attribute` for a value of PEP 691."""
    if isinstance(value, dict):
        found = value.get("sha256")
        return found.lower() if isinstance(found, str) else ""
    return "" if value is True else None


def _make_link(
    target: Optional[str],
    *,
    found_in: str,
    filename: Optional[str] = None,
    sha256: Optional[str] = None,
    size: Optional[int] = None,
    requires_python: Optional[str] = None,
    yanked: Optional[str] = None,
    metadata: Optional[str] = None,
) -> Optional[Link]:
    if target is None or len(target) > _MAX_URL:
        return None
    if _is_remote(found_in) and not _is_remote(target):
        return None  # a page of a host must not lead to files of this machine
    plain, fragment = urldefrag(target)
    # The name comes from the URL: a `filename` beside it could be that of another file.
    name = unquote(urlsplit(plain).path.rsplit("/", 1)[-1])
    if filename is not None and filename != name:
        return None
    if not name.endswith(_SUFFIXES) or "/" in name or "\\" in name or "\0" in name:
        return None
    if not sha256:
        in_fragment = _HASH.search(fragment)
        sha256 = in_fragment.group(1) if in_fragment else None
    return Link(
        url=plain,
        filename=name,
        sha256=sha256.lower() if sha256 else None,
        size=size,
        found_in=found_in,
        requires_python=requires_python or None,
        yanked=yanked,
        metadata=metadata,
    )


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("https://", "http://"))


def _join(base: str, href: str) -> Optional[str]:
    """The address that `href` means on a page at `base`; None if it cannot be read."""
    href = href.strip()
    folder, slash, name = href.rpartition("/")
    is_plain = not set("?#:") & set(folder.rpartition("://")[2] + name)
    try:
        if is_plain and name.endswith(_SUFFIXES):
            # The files of a page lie in few folders, and urljoin takes half of the time of a page.
            return _join_folder(base, folder + slash) + name
        return urljoin(base, href)
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _join_folder(base: str, folder: str) -> str:
    return urljoin(base, folder or ".")
