"""Finds the candidates of a project: in our store, on its hosts in order, in the bundled facts, and
on the package index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import (
    Callable,
    Collection,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)
from urllib.parse import urlsplit

from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.index import bundled, github
from safe_install.index.candidates import make_candidates, read_torch_pin, with_pin
from safe_install.index.facts import (
    Catalog,
    Holds,
    HostEntry,
    Layout,
    Project,
    all_redirects,
    is_named,
)
from safe_install.index.filename import fields_of
from safe_install.index.local_pages import (
    expected_hosts,
    host_of,
    is_local,
    links_of,
    project_page,
    read_local_page,
)
from safe_install.index.location import expand_template
from safe_install.index.search import (
    IsWanted,
    Search,
    assume_torch,
    describe_near_files,
    describe_other_files,
    is_near,
    tags_fit,
)
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    HostAnswer,
    HostAnswerKind,
    Link,
    TorchBuild,
)
from safe_install.system.http import PageAnswer, PageSource, PageStatus
from safe_install.tags import container_of_version, parse_accelerator

DEFAULT_INDEX = "https://pypi.org/simple/"
FILES_OF_DEFAULT_INDEX = "files.pythonhosted.org"
MAX_METADATA = 3  # METADATA files read from one host
MAX_RELEASES = 12  # releases of one repository, each a request
_NOT_THE_PROJECT = frozenset({Holds.NOTHING, Holds.PLACEHOLDER, Holds.ANOTHER_PROJECT})
Store = Callable[[NormalizedName, Environment], Iterable[Candidate]]


class _NotAsked(NamedTuple):
    """Why a host is not asked."""

    reason: str
    is_offline: bool = False  # no host may be asked


@dataclass(frozen=True)
class Found:
    """The candidates of one project, and the answer of every host."""

    project: Project
    candidates: Tuple[Candidate, ...]
    answers: Tuple[HostAnswer, ...]


@dataclass(frozen=True)
class _Releases:
    """What was found on the pages of some releases."""

    near: int  # files for the minor version of this torch, as far as that is known
    read: int  # releases that were read
    down: str  # why a page could not be read; "": all could


class Finder:
    """Finds candidates. A host is only asked if no wheel before it is wanted."""

    def __init__(
        self,
        *,
        http: PageSource,
        catalog: Catalog,
        store: Optional[Store] = None,
        offline: bool = False,
        index_url: Optional[str] = None,
        find_links: Sequence[str] = (),
        only_find_links: bool = False,
        third_party: Collection[str] = (),
        only_near: bool = False,
    ) -> None:
        """`index_url`: the package index (PEP 503/691), a folder or a file: URL; None: pypi.org.

        `find_links`: the user's own pages, folders and files; they are asked first.
        `only_find_links` (pip's --no-index): only these and our store are asked. `third_party`: the
        optional hosts that the user named. `only_near`: leave out the bundled candidates that do
        not fit; they are only needed to show why they are rejected.
        """
        self._http = http
        self._store = store
        self._offline = offline
        self._index_url = index_url or DEFAULT_INDEX
        self._find_links = tuple(find_links)
        self._only_find_links = only_find_links
        self._third_party = frozenset(third_party)
        self._only_near = only_near
        self._catalog = catalog
        # by project: the wheels that the facts list by their address
        self._files: Dict[str, Tuple[Candidate, ...]] = {}

    def find(
        self, name: str, environment: Environment, *, wanted: Optional[IsWanted] = None
    ) -> Found:
        """The candidates of one project for an environment, and the answer of every host.

        `wanted`: would this candidate be installed? Without it: every one whose wheel tags fit. For
        an environment without torch only our store and the package index are used.
        """
        project = self._catalog.project(name)
        search = Search(project, environment, wanted or tags_fit(environment))
        if self._store is not None:
            search.add(self._store(project.name, environment))
        self._ask_find_links(search)
        if self._only_find_links:
            return Found(project, tuple(search.candidates), tuple(search.answers))
        for host in project.hosts:
            if self._should_ask(host, search):
                self._ask(host, search)
        self._add_bundled(search)
        if not self._only_near and Layout.PYPI not in {host.layout for host in project.hosts}:
            self._find_sdists(search)
        return Found(project, tuple(search.candidates), tuple(search.answers))

    def _add_bundled(self, search: Search) -> None:
        """Add the bundled candidates of the hosts without an answer, unless a wheel is found."""
        unanswered = search.unanswered()
        if search.satisfied or not unanswered:
            return
        project = search.project
        search.add(
            bundled.bundled_wheels(
                project, search.environment, hosts=unanswered, only_near=self._only_near
            )
        )
        if any(host.layout is Layout.PYPI and host.host in unanswered for host in project.hosts):
            search.add(self._bundled_files(project))

    def _bundled_files(self, project: Project) -> Tuple[Candidate, ...]:
        """The wheels that the facts list by their address, the same for every torch."""
        if project.name not in self._files:
            self._files[project.name] = tuple(bundled.bundled_files(project, self._catalog.torch))
        return self._files[project.name]

    def redirects_of(self, candidate: Candidate) -> Tuple[str, ...]:
        """The hosts to which a download of this candidate may be redirected."""
        return all_redirects(self._catalog.project(candidate.name).hosts)

    def read_index_page(self, project: str) -> Tuple[Link, ...]:
        """The files of any project on the package index; none if it does not answer."""
        url = project_page(self._index_url, project)
        if self._only_find_links or (self._offline and not is_local(url)):
            return ()
        page = self._read_page(url, ())
        return links_of(page) if page.status is PageStatus.LISTED else ()

    # --- the user's own pages ---

    def _ask_find_links(self, search: Search) -> None:
        for location in self._find_links:
            host = HostEntry(urlsplit(location).hostname or location, Layout.FIND_LINKS, "pytorch")
            if self._offline and not is_local(location):
                search.add_answer(
                    host, location, HostAnswerKind.NOT_ASKED, "offline", is_offline=True
                )
                continue
            page = self._read_page(location, ())
            if page.status is not PageStatus.LISTED:
                search.add_answer(host, location, HostAnswerKind(page.status.value), page.detail)
                continue
            links = links_of(page, project=search.project.name)
            candidates = make_candidates(search.project, host, links, self._catalog.torch)
            found = [assume_torch(candidate, search.environment) for candidate in candidates]
            search.add(found)
            if found:  # a page of other projects is no answer about this one
                search.add_answer(host, location, HostAnswerKind.LISTED, f"{len(found)} files")

    # --- one host ---

    def _should_ask(self, host: HostEntry, search: Search) -> bool:
        """Is the host for the installed torch, and not an optional one that the user did not
        name?"""
        torch = search.environment.torch
        release = torch.runtime_version.partition("+")[0] if torch is not None else ""
        accelerator = parse_accelerator(torch.accelerator) if torch is not None else None
        if host.torch and release not in host.torch:
            return False
        if host.kinds and (accelerator is None or accelerator.kind not in host.kinds):
            return False
        if host.optional and not is_named(host, self._third_party):
            pages = self._pages_of(host, search)
            detail = f"{host.optional}; --third-party {host.host} asks it"
            search.add_answer(host, pages[0] if pages else "", HostAnswerKind.LEFT_OUT, detail)
            return False
        return True

    def _ask(self, host: HostEntry, search: Search) -> None:
        pages = self._pages_of(host, search)
        not_asked = self._why_not_asked(host, pages, search)
        if not_asked is not None:
            search.add_answer(
                host,
                pages[0] if pages else "",
                HostAnswerKind.NOT_ASKED,
                not_asked.reason,
                is_offline=not_asked.is_offline,
            )
        elif host.layout is Layout.GITHUB_RELEASES:
            self._ask_github(host, search)
        else:
            self._ask_pages(host, pages, search)

    def _why_not_asked(
        self, host: HostEntry, pages: Sequence[str], search: Search
    ) -> Optional[_NotAsked]:
        """Why a host is not asked; None: it is asked."""
        project = search.project
        if search.satisfied:
            return _NotAsked("an earlier place has a wheel that fits")
        if host.layout is Layout.PYPI and self._is_not_on_the_index(project):
            return _NotAsked(project.package_index.note)
        if not pages:
            return _NotAsked("torch, or what it was built for, is not known")
        if self._offline and not is_local(pages[0]):
            known = bundled.versions_only_on_page(project, search.environment, host)
            detail = "offline"
            if known:
                detail += f"; it has {', '.join(known)} for this torch, its address is only on the live page"
            return _NotAsked(detail, is_offline=True)
        return None

    def _is_not_on_the_index(self, project: Project) -> bool:
        """Does pypi.org have nothing of this project? Another index may have it."""
        return self._index_url == DEFAULT_INDEX and project.package_index.holds in _NOT_THE_PROJECT

    def _pages_of(self, host: HostEntry, search: Search) -> List[str]:
        """The addresses of a host's pages for this project and torch; none if torch is not
        known."""
        project = search.project.name
        if host.layout is Layout.PYPI:
            return [project_page(self._index_url, project)]
        if host.repository is not None:
            return [github.newest_releases_url(host.repository)]
        torch = search.environment.torch
        if torch is None or not torch.accelerator:
            return []
        release = torch.runtime_version.partition("+")[0]
        values = fields_of(release, torch.accelerator)
        values["base"], _ = search.project.base_of(release, torch.accelerator)
        values["python"] = "".join(search.environment.interpreter.version.split(".")[:2])
        values["project"] = project
        return list(dict.fromkeys(expand_template(page, **values) for page in host.pages))

    def _ask_pages(self, host: HostEntry, pages: Sequence[str], search: Search) -> None:
        """Use the first page that exists."""
        for url in pages:
            page = self._read_page(url, host.redirects)
            if page.status is PageStatus.MISSING and url != pages[-1]:
                continue
            if page.status is PageStatus.LISTED:
                self._use_page(host, page, search)
            else:
                search.add_answer(host, url, HostAnswerKind(page.status.value), page.detail)
            return

    def _use_page(self, host: HostEntry, page: PageAnswer, search: Search) -> None:
        """Add the files of a page, and record what it has for this torch."""
        links, foreign = self._split_foreign(host, page, search)
        near = self._add_links(host, links, search)
        if near:
            detail = describe_near_files(near, search.environment.torch)
            search.add_answer(host, page.url, HostAnswerKind.LISTED, detail)
            return
        others = links or links_of(page)
        if not others:
            detail = "the page lists no file"
            search.add_answer(host, page.url, HostAnswerKind.PAGE_EMPTY, detail)
            return
        found = list(make_candidates(search.project, host, links, self._catalog.torch))
        detail = describe_other_files(found, others)
        if foreign:
            detail += f"; not believed: links to {', '.join(foreign[:3])}"
        search.add_answer(host, page.url, HostAnswerKind.NO_WHEEL_FOR_TORCH, detail)

    def _split_foreign(
        self, host: HostEntry, page: PageAnswer, search: Search
    ) -> Tuple[Tuple[Link, ...], Tuple[str, ...]]:
        """The project's links on a page to the expected hosts, and the names of all other hosts.

        The user's own index may have its files on any host.
        """
        links = links_of(page, project=search.project.name)
        if host.layout is Layout.PYPI and self._index_url != DEFAULT_INDEX:
            return links, ()
        expected = expected_hosts(host, page)
        if host.layout is Layout.PYPI:
            expected.add(FILES_OF_DEFAULT_INDEX)
        own = tuple(link for link in links if host_of(link.url) in expected)
        foreign = {host_of(link.url) for link in links} - expected
        return own, tuple(sorted(foreign))

    def _add_links(self, host: HostEntry, links: Sequence[Link], search: Search) -> int:
        """Add the candidates among some links. The result: how many are near this torch."""
        candidates = list(make_candidates(search.project, host, links, self._catalog.torch))
        pins = self._read_pins(host, candidates, search.project)
        found = []
        for candidate in candidates:
            pin = pins.get(Version(candidate.version.public))
            found.append(with_pin(candidate, pin, search.environment.torch))
        search.add(found)
        return sum(1 for candidate in found if is_near(candidate, search))

    def _read_pins(
        self, host: HostEntry, candidates: Sequence[Candidate], project: Project
    ) -> Mapping[Version, Optional[str]]:
        """The torch that the versions newer than the wheel index require, by version. It is read
        from the METADATA beside their files."""
        if not project.pins_torch or not project.pins:
            return {}
        newest = max(map(Version, project.pins))
        unknown: Dict[Version, Candidate] = {}
        for candidate in candidates:
            public = Version(candidate.version.public)
            if public > newest and candidate.link.metadata is not None:
                unknown.setdefault(public, candidate)
        pins = {}
        for version in sorted(unknown, reverse=True)[:MAX_METADATA]:
            link = unknown[version].link
            page = self._http.get_page(
                f"{link.url}.metadata", allowed_hosts=host.redirects, accept="*/*"
            )
            if page.status is PageStatus.LISTED and _has_hash(page.text, link.metadata):
                pins[version] = read_torch_pin(page.text)
        return pins

    # --- releases on GitHub ---

    def _ask_github(self, host: HostEntry, search: Search) -> None:
        """Read the newest releases, then the known ones for this torch. If the API refuses, web
        pages are read instead."""
        repository = host.repository or ""
        url = github.newest_releases_url(repository)
        page = self._http.get_page(url, allowed_hosts=host.redirects, accept=github.ACCEPT)
        tags: Tuple[str, ...] = ()
        links: Tuple[Link, ...] = ()
        if page.status is PageStatus.LISTED:
            tags, links = github.parse_releases(page.text, repository)
        near = self._add_links(host, links, search)
        by_api = bool(tags)
        wanted = [tag for tag in _known_tags(host, search) if tag not in tags]
        if not by_api and page.status is not PageStatus.MISSING:
            newest = self._read_feed(host)
            wanted = [*newest, *(tag for tag in wanted if tag not in newest)]
        found = self._read_releases(host, wanted, search, by_api=by_api)
        found = replace(found, near=near + found.near)
        kind, detail = _describe_releases(page, len(tags), found, search.environment.torch)
        search.add_answer(host, url, kind, detail)

    def _read_feed(self, host: HostEntry) -> Tuple[str, ...]:
        """The tags of the newest releases, from their feed."""
        url = github.feed_url(host.repository or "")
        feed = self._http.get_page(url, allowed_hosts=host.redirects)
        return github.parse_feed(feed.text) if feed.status is PageStatus.LISTED else ()

    def _read_releases(
        self, host: HostEntry, tags: Sequence[str], search: Search, *, by_api: bool
    ) -> _Releases:
        """Read the releases with these tags until a wheel is wanted."""
        near, read, down = 0, 0, ""
        for tag in tags[:MAX_RELEASES]:
            if search.satisfied:
                break
            answer, links = self._read_release(host, tag, by_api=by_api)
            if answer.status is PageStatus.DOWN:
                down = down or answer.detail
            if answer.status is PageStatus.LISTED:
                read += 1
            near += self._add_links(host, links, search)
        return _Releases(near, read, down)

    def _read_release(
        self, host: HostEntry, tag: str, *, by_api: bool
    ) -> Tuple[PageAnswer, Tuple[Link, ...]]:
        repository = host.repository or ""
        if by_api:
            url = github.release_url(repository, tag)
            answer = self._http.get_page(url, allowed_hosts=host.redirects, accept=github.ACCEPT)
            return answer, github.parse_releases(answer.text, repository)[1]
        url = github.assets_url(repository, tag)
        answer = self._http.get_page(url, allowed_hosts=host.redirects)
        return answer, github.own_assets(links_of(answer), repository)

    def _read_page(self, url: str, redirects: Sequence[str]) -> PageAnswer:
        if is_local(url):
            return read_local_page(url)
        return self._http.get_page(url, allowed_hosts=redirects)

    # --- source distributions ---

    def _find_sdists(self, search: Search) -> None:
        project = search.project
        if project.recipe is None:
            return
        url = project_page(self._index_url, project.recipe.sdist)
        entry = HostEntry(urlsplit(url).hostname or url, Layout.PYPI, "pytorch")
        if self._is_not_on_the_index(project):
            search.add_answer(entry, url, HostAnswerKind.NOT_ASKED, project.package_index.note)
            return
        if (search.satisfied or self._offline) and not is_local(url):
            # The known ones are enough beside a wheel that fits: the page would cost a connection.
            search.add(bundled.bundled_sdists(project))
            detail = "offline" if self._offline else "a wheel fits"
            search.add_answer(
                entry, url, HostAnswerKind.NOT_ASKED, detail, is_offline=self._offline
            )
            return
        page = self._read_page(url, ())
        if page.status is not PageStatus.LISTED:
            search.add_answer(entry, url, HostAnswerKind(page.status.value), page.detail)
            return
        links, _ = self._split_foreign(entry, page, search)
        found = list(make_candidates(project, entry, links, self._catalog.torch))
        search.add(found)
        if not found:
            search.add_answer(entry, url, HostAnswerKind.PAGE_EMPTY, "")
            return
        sdists = sum(1 for candidate in found if candidate.kind is CandidateKind.SDIST)
        detail = f"{len(found)} files, {sdists} of them source distributions"
        search.add_answer(entry, url, HostAnswerKind.LISTED, detail)


def _has_hash(text: str, sha256: Optional[str]) -> bool:
    """Has the text this hash? Without a hash: yes."""
    return not sha256 or hashlib.sha256(text.encode("utf-8")).hexdigest() == sha256


def _known_tags(host: HostEntry, search: Search) -> List[str]:
    """The tags of the known releases with wheels for this torch, the newest version first."""
    torch = search.environment.torch
    version = torch.runtime_version if torch is not None else ""
    container = container_of_version(version)
    wanted = f"nv{container}" if container is not None else bundled.minor_of(version)
    own = [build for build in search.project.builds if build.host == host.host]
    rows = [build for build in own if bundled.minor_of(build.torch) == wanted]
    newest_first = sorted(rows, key=lambda build: Version(build.version), reverse=True)
    tags = [build.tag or host.tag.format(version=build.version) for build in newest_first]
    return list(dict.fromkeys(tags))


def _describe_releases(
    page: PageAnswer, listed: int, found: _Releases, torch: Optional[TorchBuild]
) -> Tuple[HostAnswerKind, str]:
    """The answer of GitHub as a whole. `page`: the answer of its API, with `listed` releases.
    `found`: what the releases had that were read one by one."""
    if found.near:
        detail = describe_near_files(found.near, torch)
        if found.read and not listed:
            detail += f"; GitHub's API refused ({page.detail}), "
            detail += f"{found.read} release pages were read instead"
        return HostAnswerKind.LISTED, detail
    if listed or found.read:
        return HostAnswerKind.NO_WHEEL_FOR_TORCH, f"{listed + found.read} releases were read"
    if page.status is PageStatus.MISSING:
        return HostAnswerKind.PAGE_MISSING, page.detail or found.down
    return HostAnswerKind.DOWN, page.detail or found.down
