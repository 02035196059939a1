"""Reads the pages of torch's hosts: one page for each accelerator lists the builds of every
release. The person's own places may have builds, too.

What torch generates code with (triton for ROCm and XPU) lies beside it, and on no package index.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Collection, Dict, List, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.index.facts import HostEntry, Layout, TorchTable, is_named
from safe_install.index.local_pages import is_local, project_page, read_local_page
from safe_install.index.location import expand_template
from safe_install.index.pages import parse_page
from safe_install.index.torch_files import (
    Absent,
    Listing,
    TorchFile,
    best_wheels,
    is_metadata_of,
    make_candidate,
    pinned_compilers,
)
from safe_install.models import Candidate, Interpreter, Link, TorchBuild
from safe_install.system.http import PageAnswer, PageSource, PageStatus
from safe_install.torch_family import TORCH

OFFLINE = "--offline"  # asks no host at all; with --no-index places of the person's own are asked


class TorchPages:
    """Reads the pages of the hosts of torch; each is asked once."""

    def __init__(
        self,
        http: PageSource,
        table: TorchTable,
        *,
        offline: str = "",
        third_party: Collection[str] = (),
        find_links: Sequence[str] = (),
        indexes: Sequence[str] = (),
    ) -> None:
        """`offline`: the option for which no host is asked. `third_party`: the optional hosts that
        the person names. `find_links`, `indexes`: places of their own, pages of links and package
        indexes."""
        self._http = http
        self._find_links, self._indexes = tuple(find_links), tuple(indexes)
        self._own: Dict[str, Dict[str, Link]] = {}  # by project: what the person's places have
        self._offline = offline
        self._hosts = [
            host
            for host in table.hosts
            if host.layout is not Layout.PYPI and (not host.optional or is_named(host, third_party))
        ]
        self._redirects = tuple(sorted({name for host in self._hosts for name in host.redirects}))
        self._pages: Dict[str, Listing] = {}
        # hosts that did not answer: each would take its whole time-out again
        self._down: Dict[str, Absent] = {}

    def list_torch(self, accelerator: str, interpreter: Interpreter) -> Listing:
        """The builds of torch for an accelerator."""
        return self.list_files(TORCH, accelerator, interpreter)

    def find_torch(self, build: TorchBuild, interpreter: Interpreter) -> Union[TorchFile, Absent]:
        """The wheel of one build of torch."""
        version, accelerator = build.version, build.accelerator
        return self.find_file(TORCH, version, accelerator, interpreter, release=version.public)

    def list_files(
        self, project: str, accelerator: str, interpreter: Interpreter, *, release: str = ""
    ) -> Listing:
        """The wheels of a project for an accelerator: of the hosts on the first that has the page,
        and all of the person's places, which come first.

        `release`: of torch; a host that has only certain releases is asked for those alone.
        """
        listing = self._ask_hosts(project, accelerator, interpreter, release=release)
        if project not in self._own:
            self._own[project] = self._read_own(project, interpreter)
        links = {
            version: link
            for version, link in self._own[project].items()
            if Version(version).local == accelerator
        }
        if not links:
            return listing
        return dataclasses.replace(
            listing, links={**listing.links, **links}, own=tuple(sorted(links, key=Version))
        )

    def _ask_hosts(
        self, project: str, accelerator: str, interpreter: Interpreter, *, release: str
    ) -> Listing:
        listing = Listing(
            "", problem=Absent(f"no host is known that has {project} for {accelerator}")
        )
        for host in sorted(self._hosts, key=lambda host: release not in host.torch):
            if host.torch and release not in host.torch:
                continue
            for template in host.pages:
                url = expand_template(template, accelerator=accelerator, project=project)
                if url not in self._pages:
                    self._pages[url] = self._read(url, host, project, interpreter)
                listing = self._pages[url]
                if listing.problem is None:
                    return listing
        return listing

    def find_file(
        self,
        project: NormalizedName,
        version: Version,
        accelerator: str,
        interpreter: Interpreter,
        *,
        release: str = "",
    ) -> Union[TorchFile, Absent]:
        """The wheel of exactly this version for this interpreter, with its METADATA where that lies
        beside it."""
        listing = self.list_files(project, accelerator, interpreter, release=release)
        link = listing.links.get(str(version))
        if link is None and listing.problem is not None:
            return listing.problem
        if link is None:
            python = ".".join(interpreter.version.split(".")[:2])
            return Absent(
                f"{listing.url} has no wheel of it for Python {python} on {interpreter.platform}"
            )
        metadata = self._read_metadata(link, project, version)
        return TorchFile(make_candidate(project, version, accelerator, link, metadata), metadata)

    def find_compilers(
        self, requires: Sequence[str], accelerator: str, interpreter: Interpreter
    ) -> Tuple[TorchFile, ...]:
        """The compilers that torch requires and that lie beside it; `requires`: torch's own
        requirements. Errors: NoCandidate for one that is not there."""
        found = []
        for name, version in pinned_compilers(requires, interpreter):
            file = self.find_file(name, version, accelerator, interpreter)
            if isinstance(file, Absent):
                # The package index may have something else under its name.
                raise NoCandidate(
                    f"torch needs {name} {version}, which lies beside it: {file.reason}",
                    hint="Try again later, or name another torch.",
                )
            found.append(file)
        return tuple(found)

    def redirects_of(self, candidate: Candidate) -> Tuple[str, ...]:
        """The hosts to which a download of this file may be redirected."""
        return (_host_of(candidate.link.url), *self._redirects)

    def _read(self, url: str, host: HostEntry, project: str, interpreter: Interpreter) -> Listing:
        if self._offline:
            reason = f"{host.host} was not asked ({self._offline})"
            remedy = f"Leave {self._offline} out to ask {host.host}."
            return Listing(url, problem=Absent(reason, remedy, self._offline))
        if host.host in self._down:
            return Listing(url, problem=self._down[host.host])
        page = self._http.get_page(url, allowed_hosts=host.redirects)
        if page.status is not PageStatus.LISTED:
            problem = _why_no_list(page, host.host)
            if page.status is PageStatus.DOWN and not page.is_unread:
                self._down[host.host] = problem
            return Listing(url, problem=problem)
        links = parse_page(
            page.text, url, base=page.base, content_type=page.content_type, project=project
        )
        # As the wheel index knows the host, its files lie on it, or where it redirects to.
        named = {*host.redirects, *map(_host_of, (url, page.asked, host.wheel or ""))}
        own = [link for link in links if _host_of(link.url) in named]
        return Listing(url, best_wheels(own, project, interpreter))

    def _read_own(self, project: str, interpreter: Interpreter) -> Dict[str, Link]:
        """What the person's places have of a project, whichever accelerator it is for. As pip has
        it, one that does not answer says nothing."""
        urls = [*self._find_links, *(project_page(index, project) for index in self._indexes)]
        links: List[Link] = []
        for url in urls:
            if is_local(url):
                page = read_local_page(url)
            elif self._offline == OFFLINE:
                continue
            else:
                page = self._http.get_page(url, allowed_hosts=())
            links += parse_page(
                page.text, url, base=page.base, content_type=page.content_type, project=project
            )
        return best_wheels(links, project, interpreter)

    def _read_metadata(
        self, link: Link, project: NormalizedName, version: Version
    ) -> Optional[str]:
        """The METADATA beside a file (PEP 658), where its page promises its hash and it is that of
        this file."""
        if not link.metadata:
            return None
        page = self._http.get_page(
            f"{link.url}.metadata", allowed_hosts=self._redirects, accept="*/*"
        )
        if page.status is not PageStatus.LISTED:
            return None
        if hashlib.sha256(page.text.encode("utf-8")).hexdigest() != link.metadata:
            return None
        return page.text if is_metadata_of(page.text, project, version) else None


def _why_no_list(page: PageAnswer, host: str) -> Absent:
    if page.is_unread:
        reason = f"the page {page.url} cannot be read: {page.detail}"
        return Absent(reason, "Name a mirror of its host with SAFE_INSTALL_MIRRORS.")
    if page.status is PageStatus.DOWN:
        remedy = f"Try again when {host} answers, or name a mirror with SAFE_INSTALL_MIRRORS."
        return Absent(f"{host} does not answer ({page.detail})", remedy)
    if page.status is PageStatus.EMPTY:
        return Absent(f"the page {page.url} is empty")
    detail = f" ({page.detail})" if page.detail else ""
    return Absent(f"there is no page {page.url}{detail}")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
