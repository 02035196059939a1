"""Finds the candidates of a project: own store, hosts in their order, bundled facts, package
index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Tuple,
)
from urllib.parse import urlsplit

from packaging.version import Version

from safe_install.index import bundled, github
from safe_install.index.candidates import make_candidates, read_torch_pin, with_pin
from safe_install.index.facts import Catalog, Holds, HostEntry, Layout, Project, is_named
from safe_install.index.filename import fields_of
from safe_install.index.local_pages import is_local, project_page, read_local_page
from safe_install.index.location import expand_template
from safe_install.index.pages import parse_page
from safe_install.index.search import (
    IsWanted,
    Search,
    _vouched_for,
    is_near,
    tags_fit,
    what_there_is,
)
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    HostAnswer,
    HostAnswerKind,
    Link,
)
from safe_install.system.http import PageAnswer, PageSource, PageStatus
from safe_install.tags import container_of_version, parse_accelerator

DEFAULT_INDEX = "https://pypi.org/simple/"
FILES_OF_DEFAULT_INDEX = "files.pythonhosted.org"
MAX_METADATA = 3  # files of METADATA that are read for one host
MAX_RELEASES = 12  # of one repository, asked one by one
_NOT_THE_PROJECT = frozenset({Holds.NOTHING, Holds.PLACEHOLDER, Holds.ANOTHER_PROJECT})
Store = Callable[[Any, Environment], Iterable[Candidate]]


@dataclass(frozen=True)
class Found:
    """What there is of one project, and what every host said."""

    project: Project
    candidates: Tuple[Candidate, ...]
    answers: Tuple[HostAnswer, ...]


@dataclass(frozen=True)
class _Releases:
    """What the pages of some releases have."""

    near: int  # files for this torch
    read: int  # releases
    down: str  # why a page could not be had


class Finder:
    """Asks no further than needed: the next host only when nothing before it is wanted."""

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
        """`index_url`: the package index (PEP 503/691) instead of pypi.org, or a folder, or a file:
        URL.

        `find_links`: the person's own pages, folders and files, asked first; `only_find_links`
        (pip's --no-index): nothing else is asked but our own store. `third_party`: the optional
        hosts that the person names. `only_near`: of the bundled facts only what could fit, without
        what would be shown as rejected.
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
        # by project: what the facts know by its address
        self._files: Dict[str, Tuple[Candidate, ...]] = {}

    def find(
        self, name: str, environment: Environment, *, wanted: Optional[IsWanted] = None
    ) -> Found:
        """The candidates of one project near `environment`, and the answer of every host.

        `wanted(candidate, project)` tells whether a candidate would be taken; without it, one whose
        wheel
        tags fit. An environment without torch gets what the store and the package index have.
        """
        project = self._catalog.project(name)
        search = Search(project, environment, wanted or tags_fit(environment))
        if self._store is not None:
            search.add(self._store(project.name, environment))
        self._ask_find_links(search)
        if self._only_find_links:
            return Found(project, tuple(search.candidates), tuple(search.answers))
        for host in project.hosts:
            if self._is_meant(host, search):
                self._ask(host, search)
        unanswered = search.unanswered()
        if unanswered and not search.satisfied:
            search.add(
                bundled.bundled_wheels(
                    project, environment, hosts=unanswered, only_near=self._only_near
                )
            )
            if any(
                host.layout is Layout.PYPI and host.host in unanswered for host in project.hosts
            ):
                search.add(self._bundled_files(project))
        if not self._only_near and Layout.PYPI not in {host.layout for host in project.hosts}:
            self._find_sdists(search)
        return Found(project, tuple(search.candidates), tuple(search.answers))

    def _bundled_files(self, project: Project) -> Tuple[Candidate, ...]:
        """They are the same for every torch."""
        if project.name not in self._files:
            self._files[project.name] = tuple(bundled.bundled_files(project, self._catalog.torch))
        return self._files[project.name]

    def redirects_of(self, candidate: Candidate) -> Tuple[str, ...]:
        """The hosts that a download of this candidate may be redirected to."""
        return tuple(
            sorted(
                {
                    host
                    for entry in self._catalog.project(candidate.name).hosts
                    for host in entry.redirects
                }
            )
        )

    def read_index_page(self, project: str) -> Tuple[Link, ...]:
        """The files of any project on the package index, as its page lists them; none where it does
        not answer."""
        url = project_page(self._index_url, project)
        if self._only_find_links or (self._offline and not is_local(url)):
            return ()
        page = self._read_page(url, ())
        if page.status is not PageStatus.LISTED:
            return ()
        return tuple(parse_page(page.text, url, base=page.base, content_type=page.content_type))

    # --- the person's own pages ---

    def _ask_find_links(self, search: Search) -> None:
        for location in self._find_links:
            host = HostEntry(urlsplit(location).hostname or location, Layout.FIND_LINKS, "pytorch")
            if self._offline and not is_local(location):
                search.answer(host, location, HostAnswerKind.NOT_ASKED, "offline", is_offline=True)
                continue
            page = self._read_page(location, ())
            if page.status is not PageStatus.LISTED:
                search.answer(host, location, HostAnswerKind(page.status.value), page.detail)
                continue
            links = _read_links(page, location, search)
            found = [
                _vouched_for(candidate, search.environment)
                for candidate in make_candidates(search.project, host, links, self._catalog.torch)
            ]
            search.add(found)
            if found:  # a folder that holds other projects has nothing to say about this one
                search.answer(host, location, HostAnswerKind.LISTED, f"{len(found)} files")

    # --- one host ---

    def _is_meant(self, host: HostEntry, search: Search) -> bool:
        """Is this host for this torch, and one that the person did not leave out?"""
        torch = search.environment.torch
        release = torch.runtime_version.partition("+")[0] if torch is not None else ""
        accelerator = parse_accelerator(torch.accelerator) if torch is not None else None
        if host.torch and release not in host.torch:
            return False
        if host.kinds and (accelerator is None or accelerator.kind not in host.kinds):
            return False
        if host.optional and not is_named(host, self._third_party):
            first = (self._pages_of(host, search) or [""])[0]
            search.answer(
                host,
                first,
                HostAnswerKind.LEFT_OUT,
                f"{host.optional}; --third-party {host.host} asks it",
            )
            return False
        return True

    def _ask(self, host: HostEntry, search: Search) -> None:
        pages = self._pages_of(host, search)
        first = pages[0] if pages else ""
        if search.satisfied:
            search.answer(
                host, first, HostAnswerKind.NOT_ASKED, "an earlier place has a wheel that fits"
            )
        elif host.layout is Layout.PYPI and self._is_not_on_the_index(search.project):
            search.answer(host, first, HostAnswerKind.NOT_ASKED, search.project.package_index.note)
        elif not pages:
            search.answer(
                host, "", HostAnswerKind.NOT_ASKED, "torch, or what it was built for, is not known"
            )
        elif self._offline and not is_local(first):
            known = bundled.known_elsewhere(search.project, search.environment, host)
            detail = "offline"
            if known:
                detail += f"; it has {', '.join(known)} for this torch, its address is only on the live page"
            search.answer(host, first, HostAnswerKind.NOT_ASKED, detail, is_offline=True)
        elif host.layout is Layout.GITHUB_RELEASES:
            self._ask_github(host, search)
        else:
            self._ask_pages(host, pages, search)

    def _is_not_on_the_index(self, project: Project) -> bool:
        """Has the public index nothing of this project? A company's own index may."""
        return self._index_url == DEFAULT_INDEX and project.package_index.holds in _NOT_THE_PROJECT

    def _pages_of(self, host: HostEntry, search: Search) -> List[str]:
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
        for url in pages:
            page = self._read_page(url, host.redirects)
            if page.status is PageStatus.MISSING and url != pages[-1]:
                continue
            kind = HostAnswerKind(page.status.value)
            if page.status is not PageStatus.LISTED:
                search.answer(host, url, kind, page.detail)
                return
            links, foreign = self._split_foreign(host, url, page, _read_links(page, url, search))
            near = self._take(host, links, search)
            if near:
                search.answer(host, url, HostAnswerKind.LISTED, f"{near} files for this torch")
                return
            found = list(make_candidates(search.project, host, links, self._catalog.torch))
            others = links or parse_page(
                page.text, url, base=page.base, content_type=page.content_type
            )
            if others:
                told = f"; not believed: links to {', '.join(foreign[:3])}" if foreign else ""
                search.answer(
                    host,
                    url,
                    HostAnswerKind.NO_WHEEL_FOR_TORCH,
                    what_there_is(found, others) + told,
                )
            else:
                search.answer(host, url, HostAnswerKind.PAGE_EMPTY, "the page lists no file")
            return

    def _split_foreign(
        self, host: HostEntry, url: str, page: PageAnswer, links: Sequence[Link]
    ) -> Tuple[Tuple[Link, ...], Tuple[str, ...]]:
        """The links to where the wheel index says that the files of this host lie, and the hosts of
        all others.

        The person's own index may have its files wherever it likes.
        """
        if host.layout is Layout.PYPI and self._index_url != DEFAULT_INDEX:
            return tuple(links), ()
        named = {*host.redirects, *map(_host_of, (url, page.asked, host.wheel or ""))}
        named |= {FILES_OF_DEFAULT_INDEX} if host.layout is Layout.PYPI else set()
        own = tuple(link for link in links if _host_of(link.url) in named)
        return own, tuple(sorted({_host_of(link.url) for link in links} - named))

    def _take(self, host: HostEntry, links: Sequence[Link], search: Search) -> int:
        """Add what a page lists; how many of it are near this torch."""
        found = self._with_pins(
            host, list(make_candidates(search.project, host, links, self._catalog.torch)), search
        )
        search.add(found)
        return sum(1 for candidate in found if is_near(candidate, search))

    def _with_pins(
        self, host: HostEntry, found: List[Candidate], search: Search
    ) -> List[Candidate]:
        """A version that is newer than the index says itself which torch it wants: its METADATA
        lies beside it."""
        project = search.project
        if not project.pins_torch or not project.pins:
            return found
        newest = max(map(Version, project.pins))
        unknown: Dict[Version, Candidate] = {}
        for candidate in found:
            public = Version(candidate.version.public)
            if public > newest and candidate.link.metadata is not None:
                unknown.setdefault(public, candidate)
        pins = {}
        for version in sorted(unknown, reverse=True)[:MAX_METADATA]:
            link = unknown[version].link
            page = self._http.get_page(
                f"{link.url}.metadata", allowed_hosts=host.redirects, accept="*/*"
            )
            if page.status is PageStatus.LISTED and _is_promised(page.text, link.metadata):
                pins[version] = read_torch_pin(page.text)
        return [
            with_pin(c, pins.get(Version(c.version.public)), search.environment.torch)
            for c in found
        ]

    # --- releases on GitHub ---

    def _ask_github(self, host: HostEntry, search: Search) -> None:
        """The newest releases, then those that the index knows for this torch; by web pages where
        the API refuses."""
        repository = host.repository or ""
        url = github.newest_releases_url(repository)
        page = self._http.get_page(url, allowed_hosts=host.redirects, accept=github.ACCEPT)
        tags, links = (
            github.parse_releases(page.text, repository)
            if page.status is PageStatus.LISTED
            else ((), ())
        )
        near = self._take(host, links, search)
        by_api = bool(tags)
        wanted = [tag for tag in _known_tags(host, search) if tag not in tags]
        if not by_api and page.status is not PageStatus.MISSING:
            newest = self._read_feed(host)
            wanted = [*newest, *(tag for tag in wanted if tag not in newest)]
        found = self._read_releases(host, wanted, search, by_api=by_api)
        found = replace(found, near=near + found.near)
        kind, detail = _describe_releases(page, len(tags), found)
        search.answer(host, url, kind, detail)

    def _read_feed(self, host: HostEntry) -> Tuple[str, ...]:
        """The tags of the newest releases, by the web page that lists them."""
        url = github.feed_url(host.repository or "")
        feed = self._http.get_page(url, allowed_hosts=host.redirects)
        return github.parse_feed(feed.text) if feed.status is PageStatus.LISTED else ()

    def _read_releases(
        self, host: HostEntry, tags: Sequence[str], search: Search, *, by_api: bool
    ) -> _Releases:
        """Read the releases with these tags, until a wheel fits."""
        near, read, down = 0, 0, ""
        for tag in tags[:MAX_RELEASES]:
            if search.satisfied:
                break
            answer, links = self._read_release(host, tag, by_api=by_api)
            if answer.status is PageStatus.DOWN:
                down = down or answer.detail
            read += answer.status is PageStatus.LISTED
            near += self._take(host, links, search)
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
        links = parse_page(answer.text, url, base=answer.base, content_type=answer.content_type)
        return answer, github.own_assets(links, repository)

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
        host = urlsplit(url).hostname or url
        entry = HostEntry(host, Layout.PYPI, "pytorch")
        local = is_local(url)
        if self._is_not_on_the_index(project):
            search.answer(entry, url, HostAnswerKind.NOT_ASKED, project.package_index.note)
            return
        if (search.satisfied or self._offline) and not local:
            # Known sdists are shown beside a wheel that fits; asking for them would cost a
            # connection.
            search.add(bundled.bundled_sdists(project))
            detail = "offline" if self._offline else "a wheel fits"
            search.answer(entry, url, HostAnswerKind.NOT_ASKED, detail, is_offline=self._offline)
            return
        page = self._read_page(url, ())
        if page.status is not PageStatus.LISTED:
            search.answer(entry, url, HostAnswerKind(page.status.value), page.detail)
            return
        links, _ = self._split_foreign(entry, url, page, _read_links(page, url, search))
        found = list(make_candidates(project, entry, links, self._catalog.torch))
        sdists = [candidate for candidate in found if candidate.kind is CandidateKind.SDIST]
        search.add(found)
        kind = HostAnswerKind.LISTED if found else HostAnswerKind.PAGE_EMPTY
        detail = f"{len(found)} files, {len(sdists)} of them source distributions" if found else ""
        search.answer(entry, url, kind, detail)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_promised(text: str, sha256: Optional[str]) -> bool:
    return not sha256 or hashlib.sha256(text.encode("utf-8")).hexdigest() == sha256


def _read_links(page: PageAnswer, url: str, search: Search) -> Tuple[Link, ...]:
    """What a page lists of the project."""
    return parse_page(
        page.text, url, base=page.base, content_type=page.content_type, project=search.project.name
    )


def _known_tags(host: HostEntry, search: Search) -> List[str]:
    """The releases that have wheels for this torch, as far as the index knows, newest version
    first."""
    torch = search.environment.torch
    version = torch.runtime_version if torch is not None else ""
    container = container_of_version(version)
    wanted = f"nv{container}" if container is not None else bundled.minor_of(version)
    own = [build for build in search.project.builds if build.host == host.host]
    rows = [build for build in own if bundled.minor_of(build.torch) == wanted]
    newest_first = sorted(rows, key=lambda build: Version(build.version), reverse=True)
    return list(
        dict.fromkeys(build.tag or host.tag.format(version=build.version) for build in newest_first)
    )


def _describe_releases(
    page: PageAnswer, listed: int, found: _Releases
) -> Tuple[HostAnswerKind, str]:
    """What GitHub answered: `page` of its API, with `listed` releases, and then `found`."""
    if found.near:
        detail = f"{found.near} files for this torch"
        if found.read and not listed:
            detail += f"; GitHub's API refused ({page.detail}), "
            detail += f"{found.read} release pages were read instead"
        return HostAnswerKind.LISTED, detail
    if listed or found.read:
        return HostAnswerKind.NO_WHEEL_FOR_TORCH, f"{listed + found.read} releases were read"
    if page.status is PageStatus.MISSING:
        return HostAnswerKind.PAGE_MISSING, page.detail or found.down
    return HostAnswerKind.DOWN, page.detail or found.down


# --- the package index ----------------------------------------------------------------------------
