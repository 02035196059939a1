"""Asks the hosts."""

from __future__ import annotations

from collections import Counter
from typing import Dict, List, Optional, Sequence, Set, Tuple
from urllib.parse import urlsplit

from safe_install.index import github
from safe_install.index.facts import Holds, HostEntry, Layout, Project, TorchTable
from safe_install.models import Link
from safe_install.system.http import HttpClient, PageAnswer, PageStatus
from wheel_index_update.notes import Notes, count, join_first
from wheel_index_update.package_index import (
    IndexPage,
    read_index_json,
    read_metadata,
    torch_requirement,
    wheels_to_measure,
)
from wheel_index_update.pages import Listing, is_empty_list, pages_to_ask, read_page, read_releases

PYPI = HostEntry("pypi.org", Layout.PYPI, "pytorch")
PATIENCE = 3  # pages of a host that fail one after the other; then it is not asked again
MAX_RELEASE_PAGES = 10  # of a repository
MAX_MEASURED = 120  # versions of a project whose metadata is read in one run


class Asker:
    """Asks every address once, and gives up on a host that fails again and again."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._failures: Counter[str] = Counter()

    def ask(self, url: str, *, redirects: Sequence[str] = (), accept: str = "") -> PageAnswer:
        host = urlsplit(url).hostname or ""
        if self._failures[host] >= PATIENCE:
            return PageAnswer(
                url, PageStatus.DOWN, detail=f"{host} failed {PATIENCE} times, not asked again"
            )
        answer = self._http.get_page(url, allowed_hosts=redirects, accept=accept)
        self._failures[host] = self._failures[host] + 1 if answer.status is PageStatus.DOWN else 0
        return answer

    def list_pages(self, project: Project, host: HostEntry, table: TorchTable) -> Listing:
        """The pages of a find-links or simple host."""
        statuses: Dict[str, PageStatus] = {}
        links: Dict[str, Tuple[Link, ...]] = {}
        details: Dict[str, str] = {}
        for url in pages_to_ask(project, host, table):
            answer = self.ask(url, redirects=host.redirects)
            statuses[url], found = read_page(project.name, host, answer)
            if statuses[url] is PageStatus.LISTED:
                links[url] = found
            else:
                details[url] = answer.detail or "the page lists no file that counts"
        return Listing(host, statuses, links, details)

    def list_releases(self, host: HostEntry) -> Listing:
        """The releases of a repository: page by page, until one has none that was not seen."""
        answers: List[PageAnswer] = []
        seen: Set[str] = set()
        first = github.newest_releases_url(host.repository or "")
        for number in range(1, MAX_RELEASE_PAGES + 1):
            url = first if number == 1 else f"{first}&page={number}"
            answer = self.ask(url, redirects=host.redirects, accept=github.ACCEPT)
            answers.append(answer)
            if answer.status is not PageStatus.LISTED:
                return read_releases(host, answers, False)
            tags, _ = github.parse_releases(answer.text, host.repository or "")
            if not set(tags) - seen:
                # An empty list is the end; a page that was seen before comes from a mirror that
                # does not count.
                return read_releases(host, answers, is_empty_list(answer.text))
            seen.update(tags)
        return read_releases(host, answers, False)

    def measure(self, project: Project, page: IndexPage, notes: Notes) -> Dict[str, str]:
        """What the metadata of each version on the package index says of torch."""
        found: Dict[str, str] = {}
        unread: List[str] = []
        by_json: List[str] = []
        wheels = wheels_to_measure(project, page)
        for version, link in list(wheels.items())[:MAX_MEASURED]:
            requires = self.metadata_of(project.name, version, link)
            if requires is None:
                requires = None if link.url in page.announced else self._json_of(project, version)
                (unread if requires is None else by_json).append(version)
            if requires is not None:
                found[version] = torch_requirement(requires)
        if unread:
            notes.add(
                f"pypi.org: the metadata of {count(len(unread), 'version')} was not read: "
                f"{join_first(unread)}"
            )
        if by_json:
            # Seen: vllm 0.33.0, whose JSON names another torch than the METADATA in the wheel.
            versions = join_first(by_json)
            notes.add(
                "pypi.org: read from its JSON, which may be about another file than the wheel: "
                f"{versions}"
            )
        if len(wheels) > MAX_MEASURED:
            notes.add(
                f"pypi.org: only the newest {MAX_MEASURED} of {len(wheels)} versions were measured"
            )
        return found

    def metadata_of(self, name: str, version: str, link: Link) -> Optional[List[str]]:
        """The requirements, from the file beside the wheel; asked for even where the index does not announce it, as
        mirrors forget to."""
        answer = self.ask(f"{link.url}.metadata", accept="*/*")
        return (
            read_metadata(answer.text, name, version)
            if answer.status is PageStatus.LISTED
            else None
        )

    def _json_of(self, project: Project, version: str) -> Optional[List[str]]:
        """From the JSON of the project, which is about its newest version, else from the version's
        own."""
        for page in ("json", f"{version}/json"):
            answer = self.ask(
                f"https://pypi.org/pypi/{project.name}/{page}", accept="application/json"
            )
            found = (
                read_index_json(answer.text, version)
                if answer.status is PageStatus.LISTED
                else None
            )
            if found is not None:
                return found
        return None


def hosts_of(project: Project, wanted: str) -> List[HostEntry]:
    """The hosts to ask: all that are not optional, or the one that is named. Who builds has sources
    on the index."""
    hosts = list(project.hosts)
    if project.recipe is not None and all(host.layout is not Layout.PYPI for host in hosts):
        hosts.append(PYPI)
    on_index = project.package_index.holds in (Holds.WHEELS, Holds.SDISTS)
    hosts = [host for host in hosts if host.layout is not Layout.PYPI or on_index]
    return [host for host in hosts if (host.host == wanted if wanted else not host.optional)]
