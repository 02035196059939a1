"""Finds the builds of torch: on the pages of its hosts, and in the user's own places.

A host has one page for each accelerator, with the builds of all releases. The compilers of torch
(triton for ROCm and XPU) are on the same host, and on no package index.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.index.facts import HostEntry, Layout, TorchTable, all_redirects, is_named
from safe_install.index.local_pages import (
    expected_hosts,
    host_of,
    is_local,
    links_of,
    local_path,
    project_page,
    read_local_page,
)
from safe_install.index.location import expand_template
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
from safe_install.redaction import redact
from safe_install.system.http import PageAnswer, PageSource, PageStatus
from safe_install.tags import parse_accelerator
from safe_install.torch_family import TORCH

OFFLINE = "--offline"  # no host is asked; --no-index still allows the user's own places


class _OwnWheels(NamedTuple):
    """The wheels of a project in the user's places."""

    links: Dict[str, Link]  # by version; the best one for the interpreter
    unread: Optional[Absent] = None  # why one of the places was not read


class TorchPages:
    """Reads the pages of torch's hosts. Each page is read once."""

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
        """`offline`: the option because of which no host is asked; "": hosts are asked.
        `third_party`: the optional hosts that the user named. `find_links`, `indexes`: the user's
        own pages of links and package indexes."""
        self._http = http
        self._find_links = tuple(find_links)
        self._indexes = tuple(indexes)
        self._own: Dict[str, _OwnWheels] = {}  # by project
        self._offline = offline
        self._hosts = []
        for host in table.hosts:
            is_asked = not host.optional or is_named(host, third_party)
            if host.layout is not Layout.PYPI and is_asked:
                self._hosts.append(host)
        self._redirects = all_redirects(self._hosts)
        self._pages: Dict[str, Listing] = {}
        # hosts that did not answer: to ask them again would take their whole time-out again
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
        """The wheels of a project for an accelerator: those of the first host that has the page,
        and those of all of the user's places, which are preferred.

        `release`: of torch. A host of certain releases is only asked for these.
        """
        listing = self._ask_hosts(project, accelerator, interpreter, release=release)
        own = {}
        for version, link in self._own_wheels(project, interpreter).links.items():
            if Version(version).local == accelerator:
                own[version] = link
        if not own:
            return listing
        return dataclasses.replace(
            listing, links={**listing.links, **own}, own=tuple(sorted(own, key=Version))
        )

    def _ask_hosts(
        self, project: str, accelerator: str, interpreter: Interpreter, *, release: str
    ) -> Listing:
        """The listing of the first host that has the page; else why the last one has none."""
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
        """The wheel of exactly this version for an interpreter, with its METADATA if the host has
        it as a file of its own."""
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

    def why_not_on_own_index(self, build: TorchBuild, interpreter: Interpreter) -> Optional[Absent]:
        """Why pip does not find a build of pypi.org where the user's own places are all that it
        searches. None: it finds it, or they were not asked (--offline)."""
        own = self._own_wheels(TORCH, interpreter)
        places = " or ".join(_name_of(place) for place in (*self._indexes, *self._find_links))
        same = [one for one in map(Version, own.links) if one.public == build.version.public]
        if any(version.local in (None, build.accelerator) for version in same):
            return None
        if own.unread is not None:
            return None if own.unread.forbidden_by else own.unread
        if not places:
            return Absent(f"{self._offline} leaves no place where it could be")
        if same:
            local = same[0].local or ""
            is_accelerator = parse_accelerator(local) is not None
            remedy = f"Ask for that build: --accelerator {local}." if is_accelerator else ""
            return Absent(f"only the build {same[0]} is in {places}", remedy)
        python = ".".join(interpreter.version.split(".")[:2])
        return Absent(
            f"no wheel of it for Python {python} on {interpreter.platform} is in {places}"
        )

    def find_compilers(
        self, requires: Sequence[str], accelerator: str, interpreter: Interpreter
    ) -> Tuple[TorchFile, ...]:
        """The compilers that torch requires from its own host. `requires`: torch's requirements.
        Errors: NoCandidate, if one is not found."""
        found = []
        for name, version in pinned_compilers(requires, interpreter):
            file = self.find_file(name, version, accelerator, interpreter)
            if isinstance(file, Absent):
                # It must not come from the package index, which may have another project of its
                # name.
                raise NoCandidate(
                    f"torch needs {name} {version}, which lies beside it: {file.reason}",
                    hint="Try again later, or name another torch.",
                )
            found.append(file)
        return tuple(found)

    def redirects_of(self, candidate: Candidate) -> Tuple[str, ...]:
        """The hosts to which a download of this file may be redirected."""
        return (host_of(candidate.link.url), *self._redirects)

    def _read(self, url: str, host: HostEntry, project: str, interpreter: Interpreter) -> Listing:
        """The listing of one page of a host."""
        if self._offline:
            return Listing(url, problem=self._not_asked(host.host))
        if host.host in self._down:
            return Listing(url, problem=self._down[host.host])
        page = self._http.get_page(url, allowed_hosts=host.redirects)
        if page.status is not PageStatus.LISTED:
            problem = _why_no_list(page, host.host)
            if page.status is PageStatus.DOWN and not page.is_unread:
                self._down[host.host] = problem
            return Listing(url, problem=problem)
        expected = expected_hosts(host, page)
        own = [link for link in links_of(page, project=project) if host_of(link.url) in expected]
        return Listing(url, best_wheels(own, project, interpreter))

    def _own_wheels(self, project: str, interpreter: Interpreter) -> _OwnWheels:
        """The wheels of the user's places, for all accelerators. A place that does not answer is
        skipped, as pip does it."""
        if project not in self._own:
            self._own[project] = self._read_own(project, interpreter)
        return self._own[project]

    def _read_own(self, project: str, interpreter: Interpreter) -> _OwnWheels:
        urls = [*self._find_links, *(project_page(index, project) for index in self._indexes)]
        links: List[Link] = []
        unread: Optional[Absent] = None
        for url in urls:
            if is_local(url):
                page = read_local_page(url)
            elif self._offline == OFFLINE:
                unread = self._not_asked(host_of(url))
                continue
            else:
                page = self._http.get_page(url, allowed_hosts=())
            if page.status is PageStatus.DOWN:
                unread = unread or _why_no_list(page, host_of(url))
            links += links_of(page, project=project)
        return _OwnWheels(best_wheels(links, project, interpreter), unread)

    def _not_asked(self, host: str) -> Absent:
        reason = f"{host} was not asked ({self._offline})"
        return Absent(reason, f"Leave {self._offline} out to ask {host}.", self._offline)

    def _read_metadata(
        self, link: Link, project: NormalizedName, version: Version
    ) -> Optional[str]:
        """The METADATA beside a file (PEP 658). None: there is none, the page gives no hash of it,
        or it has another hash or is of another file."""
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


def _name_of(place: str) -> str:
    """A place as messages name it."""
    return str(local_path(place)) if is_local(place) else redact(place)


def _why_no_list(page: PageAnswer, host: str) -> Absent:
    """Why a page lists nothing."""
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
