"""Pages of a package index: their addresses, and those that lie on this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name

from safe_install.system.http import PageAnswer, PageStatus


def project_page(index_url: str, project: str) -> str:
    """The page of a project on a package index; for a folder, the folder itself or its
    sub-folder."""
    if is_local(index_url):
        folder = local_path(index_url)
        own = folder / canonicalize_name(project)
        return (own if own.is_dir() else folder).absolute().as_uri()
    return f"{index_url.rstrip('/')}/{canonicalize_name(project)}/"


def is_local(url: str) -> bool:
    """A `file:` address, or a path."""
    return url.startswith("file:") or "://" not in url


def local_path(url: str) -> Path:
    """The path of such an address."""
    if not url.startswith("file:"):
        return Path(url)
    return Path(unquote(urlsplit(url).path))


def read_local_page(url: str) -> PageAnswer:
    """The index.html of a folder, else its files as a page of links."""
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
