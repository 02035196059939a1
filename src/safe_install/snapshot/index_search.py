"""Searches the package indexes for the files that are installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from packaging.utils import NormalizedName

from safe_install.index.finder import DEFAULT_INDEX
from safe_install.index.local_pages import (
    is_local,
    local_path,
    project_page,
    read_local_page,
)
from safe_install.index.pages import parse_page
from safe_install.redaction import without_secrets
from safe_install.snapshot.files import read_wheels_of
from safe_install.snapshot.sources import InstalledFiles, Listed, find_listed, find_same
from safe_install.system.http import HttpClient, PageAnswer, PageStatus
from safe_install.system.several import Call, Stop, call_several
from safe_install.tags import parse_accelerator, split_local

TORCH_INDEX = "https://download.pytorch.org/whl"


@dataclass(frozen=True)
class Question:
    """A distribution whose file is searched for."""

    name: NormalizedName
    version: str
    files: InstalledFiles
    sha256: str = ""  # of a local file that an index may list, too; "" if there is none


@dataclass(frozen=True)
class NoIndexAnswered:
    """Why no package index answered."""

    reason: str


Answer = Union[Listed, NoIndexAnswered, None]  # None: all were asked, and none lists it


class Indexes:
    """The user's package indexes, in order."""

    def __init__(
        self, http: HttpClient, addresses: Sequence[str], folders: Sequence[Path] = ()
    ) -> None:
        """`folders`: the --find-links folders."""
        self._http = http
        self._addresses = tuple(addresses)
        self._wheel_folders = tuple(folders)
        self._folders: Dict[str, PageAnswer] = {}
        self._down: Dict[str, str] = {}  # by host: why it does not answer

    def ask(self, questions: Sequence[Question]) -> List[Answer]:
        """One answer for each question; several are asked at the same time."""
        calls = [self._call(question) for question in questions]
        return call_several(calls, cut=self._http.cut)

    def _call(self, question: Question) -> Call[Answer]:
        def ask(stop: Stop) -> Answer:
            stop.check()
            return self._find(question)

        return Call("indexes", ask)

    def _find(self, question: Question) -> Answer:
        by_name: Optional[Listed] = None
        on_disk: Optional[Listed] = None
        silence: Optional[NoIndexAnswered] = None
        for index in (*self._addresses, *_torch_indexes(question.version)):
            if question.sha256 and is_local(index):
                continue  # on other machines this path is of no use, either
            page = self._read(project_page(index, question.name))
            if page.status in (PageStatus.DOWN, PageStatus.NOT_ASKED):
                silence = silence or NoIndexAnswered(_why_silent(page))
                continue
            found = _find_in(page, question, index)
            if found is None:
                continue
            if is_local(index):  # other machines do not have it
                on_disk = on_disk or found
            elif found.is_compared:
                return found
            else:
                by_name = by_name or found
        if by_name is None and on_disk is None and not question.sha256:
            on_disk = self._find_on_disk(question)
        return by_name or on_disk or silence

    def _find_on_disk(self, question: Question) -> Optional[Listed]:
        """A wheel in a --find-links folder; None if there is none."""
        for folder in self._wheel_folders:
            links = read_wheels_of(folder, question.name, question.version)
            found = find_listed(question.name, question.version, question.files, links, "")
            if found is not None:
                return found
        return None

    def _read(self, url: str) -> PageAnswer:
        if is_local(url):
            if url not in self._folders:
                self._folders[url] = read_local_page(url)
            return self._folders[url]
        host = urlsplit(url).hostname or ""
        if host in self._down:
            return PageAnswer(url, PageStatus.DOWN, detail=self._down[host])
        page = self._http.get_page(url)
        if page.status is PageStatus.DOWN and not page.is_unread:
            self._down[host] = page.detail
        return page


def _torch_indexes(version: str) -> Tuple[str, ...]:
    """The indexes for a version such as `2.13.0+cu126`, which may be of torch or of a companion."""
    accelerator = parse_accelerator(split_local(version)[1] or "")
    return () if accelerator is None else (f"{TORCH_INDEX}/{accelerator}",)


def _why_silent(page: PageAnswer) -> str:
    if page.status is PageStatus.NOT_ASKED:
        return "no package index was asked (--offline)"
    return f"{urlsplit(page.url).hostname} does not answer: {page.detail}"


def _find_in(page: PageAnswer, question: Question, index: str) -> Optional[Listed]:
    """The file on a page of an index; None if the page does not list it."""
    if page.status is not PageStatus.LISTED:
        return None
    links = parse_page(
        page.text,
        page.url,
        base=page.base,
        content_type=page.content_type,
        project=question.name,
    )
    address = without_secrets(index).rstrip("/")
    if question.sha256:
        return find_same(question.sha256, links, address)
    return find_listed(question.name, question.version, question.files, links, address)


def indexes_of(settings: Mapping[str, str]) -> Tuple[str, ...]:
    """The package indexes in pip's settings; none with --no-index."""
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return ()
    main = settings.get("index-url") or DEFAULT_INDEX
    found = [main, *settings.get("extra-index-url", "").split()]
    return tuple(dict.fromkeys(address.rstrip("/") for address in found))


def folders_of(settings: Mapping[str, str]) -> Tuple[Path, ...]:
    """The local --find-links folders in pip's settings."""
    found = []
    for place in settings.get("find-links", "").split():
        folder = local_path(place)
        if is_local(place) and folder.is_dir():
            found.append(folder.absolute())
    return tuple(found)
