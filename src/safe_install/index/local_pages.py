"""Finds the pages of a package index, reads local ones, and lists the links of a page."""

from __future__ import annotations

from pathlib import Path
from typing import Set, Tuple
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name

from safe_install.index.facts import HostEntry
from safe_install.index.pages import parse_page
from safe_install.models import Link
from safe_install.system.http import PageAnswer, PageStatus


def project_page(index_url: str, project: str) -> str:
    """The address of a project's page on a package index. If the index is a folder: the sub-folder
    of the project, or without one the folder itself."""
    if is_local(index_url):
        folder = local_path(index_url)
        own = folder / canonicalize_name(project)
        return (own if own.is_dir() else folder).absolute().as_uri()
    return f"{index_url.rstrip('/')}/{canonicalize_name(project)}/"


def is_local(url: str) -> bool:
    """Is it a `file:` address or a path?"""
    return url.startswith("file:") or "://" not in url


def local_path(url: str) -> Path:
    """The path of a local address."""
    if not url.startswith("file:"):
        return Path(url)
    return Path(unquote(urlsplit(url).path))


def read_local_page(url: str) -> PageAnswer:
    """A page at a local address: a file, or the index.html of a folder, or a page with links to the
    files of the folder."""
    path = local_path(url)
    page_url = path.absolute().as_uri() + "/"
    try:
        if path.is_file():
            text = path.read_text("utf-8", "replace")
            return PageAnswer(url, PageStatus.LISTED, f'<base href="{page_url[:-1]}">\n{text}')
        index = path / "index.html"
        if index.is_file():
            text = index.read_text("utf-8", "replace")
            return PageAnswer(url, PageStatus.LISTED, f'<base href="{page_url}">\n{text}')
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        return PageAnswer(url, PageStatus.MISSING, detail=error.strerror or str(error))
    anchors = "".join(f'<a href="{page_url}{quote(name)}">{name}</a>\n' for name in names)
    return PageAnswer(url, PageStatus.LISTED, anchors or "<html></html>")


def links_of(page: PageAnswer, *, project: str = "") -> Tuple[Link, ...]:
    """The files that a fetched page lists, as `parse_page` gives them."""
    return parse_page(
        page.text, page.url, base=page.base, content_type=page.content_type, project=project
    )


def host_of(url: str) -> str:
    """The host of an address; "" if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def expected_hosts(host: HostEntry, page: PageAnswer) -> Set[str]:
    """The hosts that may have the files of a page of `host`: its own ones, and those to which the
    wheel index lets it redirect."""
    return {*host.redirects, host_of(page.url), host_of(page.asked), host_of(host.wheel or "")}
