"""The text of a host's page as links: find-links pages, PEP 503 HTML and PEP 691 JSON.

A page is somebody else's text: whatever it holds, reading it ends with links or with none.
"""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache
from typing import Any, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from safe_install.models import Link

MAX_PAGE = 64 * 1024 * 1024  # characters
MAX_LINKS = 100_000
_MAX_ANCHOR = 8192  # characters of one start tag
_MAX_URL = 4096
_MAX_UNCLOSED = 1000  # start tags without an end: past these it is no page
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

    `url` is where the page lies: it becomes `Link.found_in`, and relative links start from it, or
    from `base` where
    a mirror has its pages elsewhere. `project`: anchors that do not name it are passed over, which
    is quick.
    """
    text = text[:MAX_PAGE]
    is_json = "json" in content_type or text.lstrip()[:1] == "{"
    found: List[Link] = []
    start = base or url
    for link in (
        _json_links(text, url, start) if is_json else _html_links(text, url, start, _plain(project))
    ):
        found.append(link)
        if len(found) >= MAX_LINKS:
            break
    return tuple(found)


def _plain(text: str) -> str:
    """In the spelling in which a project's name is found, however a file or a page writes it."""
    return text.lower().replace("-", "_").replace(".", "_").replace("%2d", "_")


def _html_links(text: str, url: str, base: str, about: str) -> Iterator[Link]:
    unclosed = 0
    if "<!--" in text[:MAX_PAGE] and text.count("<!--") == text.count("-->"):
        text = _COMMENT.sub("", text)
    for start in _TAG_START.finditer(text):
        # A window keeps a page full of unclosed quotes from costing the square of its length.
        end = _TAG_END.match(text, start.end(), start.end() + _MAX_ANCHOR)
        if end is None:
            unclosed += 1
            if unclosed > _MAX_UNCLOSED:
                return
            continue
        if about and start.group(1).lower() == "a" and about not in _plain(end.group()):
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
    """The file at `target`, by the attributes of an anchor of the page at `url`."""
    yanked = attributes.get("data-yanked")
    promised = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return _make_link(
        target,
        found_in=url,
        requires_python=attributes.get("data-requires-python"),
        yanked=None if yanked is None else (yanked or "yanked"),
        metadata=_promised(promised),
    )


def parse_number(digits: str) -> int:
    """A number of a JSON document; older Pythons take the square of its length in time to read a
    long one."""
    return int(digits) if len(digits) <= 18 else -1


def _json_links(text: str, url: str, base: str) -> Iterator[Link]:
    try:
        document = json.loads(text, parse_int=parse_number)
    except (ValueError, RecursionError):
        return
    files = document.get("files") if isinstance(document, dict) else None
    for entry in files if isinstance(files, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("url"), str):
            link = _json_link(entry, url, base)
            if link is not None:
                yield link


def _json_link(entry: Mapping[str, Any], url: str, base: str) -> Optional[Link]:
    hashes = entry.get("hashes")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    size = entry.get("size")
    requires_python = entry.get("requires-python")
    yanked = entry.get("yanked")
    return _make_link(
        _join(base, entry["url"]),
        found_in=url,
        filename=entry.get("filename") if isinstance(entry.get("filename"), str) else None,
        sha256=sha256 if isinstance(sha256, str) and _HASH.match(f"sha256={sha256}") else None,
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        requires_python=requires_python if isinstance(requires_python, str) else None,
        yanked=(yanked if isinstance(yanked, str) and yanked else "yanked") if yanked else None,
        metadata=_promised_in(entry.get("core-metadata", entry.get("dist-info-metadata"))),
    )


def _promised(attribute: Optional[str]) -> Optional[str]:
    """The hash in `data-core-metadata`: "" where it only says that there is METADATA, None where
    there is none."""
    if attribute is None or attribute.lower() == "false":
        return None
    found = _HASH.search(attribute)
    return found.group(1).lower() if found else ""


def _promised_in(value: Any) -> Optional[str]:
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
        return None  # a host has no say over the files of this machine
    plain, fragment = urldefrag(target)
    # The name is taken from the URL: the one beside it could be another file's.
    name = unquote(urlsplit(plain).path.rsplit("/", 1)[-1])
    if filename is not None and filename != name:
        return None
    if not name.endswith(_SUFFIXES) or "/" in name or "\\" in name or "\0" in name:
        return None
    promised = _HASH.search(fragment)
    return Link(
        url=plain,
        filename=name,
        sha256=(sha256 or (promised.group(1) if promised else "")).lower() or None,
        size=size,
        found_in=found_in,
        requires_python=requires_python or None,
        yanked=yanked,
        metadata=metadata,
    )


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("https://", "http://"))


def _join(base: str, href: str) -> Optional[str]:
    href = href.strip()
    folder, slash, name = href.rpartition("/")
    try:
        if name.endswith(_SUFFIXES) and not set("?#:") & set(folder.rpartition("://")[2] + name):
            # Files of a page lie in few folders: joining each address anew would take half of the
            # time.
            return _folder(base, folder + slash) + name
        return urljoin(base, href)
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _folder(base: str, folder: str) -> str:
    return urljoin(base, folder or ".")
