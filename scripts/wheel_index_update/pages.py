"""Which pages of a host list a project's wheels, and what they list."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Sequence, Tuple

from safe_install.index import github
from safe_install.index.candidates import is_named_after
from safe_install.index.facts import Build, HostEntry, Layout, Project, TorchTable
from safe_install.index.filename import fields_of, parse_filename
from safe_install.index.location import expand_template, fields_of_template, read_template
from safe_install.index.pages import parse_page
from safe_install.models import Link
from safe_install.system.http import PageAnswer, PageStatus
from safe_install.tags import parse_accelerator
from wheel_index_update.cells import cells_of


def pages_of(
    project: Project, host: HostEntry, torch: str, base: str, accelerator: str, python: str
) -> List[str]:
    """The pages of a host that list the wheels for a torch: every template whose fields are
    known."""
    values = fields_of(torch, accelerator)
    values.update(base=base, python="".join(python.split(".")[:2]), project=project.name)
    pages = [
        page for page in host.pages if all(values.get(name) for name in fields_of_template(page))
    ]
    return list(dict.fromkeys(expand_template(page, **values) for page in pages))


def pages_to_ask(project: Project, host: HostEntry, table: TorchTable) -> List[str]:
    """Every page that may list wheels: of the releases of torch, and of the rows that the document
    has."""
    rows = [build for build in project.builds if build.host == host.host]
    by_python = any("python" in fields_of_template(page) for page in host.pages)
    found: Dict[str, None] = {}
    for version, release in table.releases.items():
        if host.torch and version not in host.torch:
            continue
        own = [
            a
            for build in rows
            if minor_of(build.torch) == minor_of(version)
            for a in build.accelerators
        ]
        known = [*release.accelerators, *([release.untagged] if release.untagged else []), *own]
        for accelerator in dict.fromkeys(known):
            parsed = parse_accelerator(accelerator)
            if host.kinds and (parsed is None or parsed.kind not in host.kinds):
                continue
            base, _ = project.base_of(version, accelerator)
            for python in release.python if by_python else ("",):
                found.update(
                    dict.fromkeys(pages_of(project, host, version, base, accelerator, python))
                )
    for build in rows:
        for cell in cells_of(build):
            found.update(dict.fromkeys(places_of(project, host, cell, table)))
    return list(found)


def places_of(project: Project, host: HostEntry, cell: Build, table: TorchTable) -> List[str]:
    """The pages (on GitHub: the release) that list a wheel if it is there."""
    if host.repository:
        return [release_place(host.repository, cell.tag or host.tag.format(version=cell.version))]
    torches = [cell.torch]
    if cell.torch.count(".") < 2:
        torches = [t for t in table.releases if minor_of(t) == cell.torch] or [f"{cell.torch}.0"]
    found: Dict[str, None] = {}
    for torch in torches:
        found.update(
            dict.fromkeys(
                pages_of(project, host, torch, torch, cell.accelerators[0], cell.python[0])
            )
        )
    return list(found)


def is_empty_list(text: str) -> bool:
    """GitHub's answer behind the last release. Never raises."""
    try:
        return bool(json.loads(text) == [])
    except (ValueError, RecursionError):
        return False


def release_place(repository: str, tag: str) -> str:
    return f"https://github.com/{repository}/releases/tag/{tag}"


def minor_of(torch: str) -> str:
    return ".".join(torch.split(".")[:2])


@dataclass(frozen=True)
class Listing:
    """What a host answered about one project, page by page (on GitHub: release by release)."""

    host: HostEntry
    statuses: Mapping[str, PageStatus]
    links: Mapping[str, Tuple[Link, ...]]  # of the listed pages
    details: Mapping[str, str] = field(default_factory=dict)  # why a page is not listed
    otherwise: PageStatus = PageStatus.NOT_ASKED  # of a page that is not named here

    def is_answered(self, places: Sequence[str]) -> bool:
        """Would a wheel that is there have been seen? A page that failed could have listed it."""
        found = [self.statuses.get(place, self.otherwise) for place in places]
        return PageStatus.LISTED in found and set(found) <= {PageStatus.LISTED, PageStatus.MISSING}


def read_page(
    name: str, host: HostEntry, answer: PageAnswer
) -> Tuple[PageStatus, Tuple[Link, ...]]:
    """What a page lists of the project `name`.

    An answer without any file is the notice of a host that is ill, and no list; on a page of
    several projects the
    files of another one show that it is a list.
    """
    if answer.status is not PageStatus.LISTED:
        return answer.status, ()
    page = {"base": answer.base, "content_type": answer.content_type}
    links = parse_page(answer.text, answer.url, project=name, **page)
    names = [link.filename for link in links if is_named_after(name, link.filename)]
    if not names and host.layout is Layout.FIND_LINKS:
        names = [
            link.filename
            for link in parse_page(answer.text, answer.url, **page)
            if parse_filename(link.filename)
        ]
    return (PageStatus.LISTED, links) if names else (PageStatus.EMPTY, ())


def read_releases(host: HostEntry, answers: Sequence[PageAnswer], is_end: bool) -> Listing:
    """The pages of a repository's releases as a listing; `is_end`: there is no release after
    them."""
    repository = host.repository or ""
    statuses: Dict[str, PageStatus] = {}
    links: Dict[str, Tuple[Link, ...]] = {}
    details: Dict[str, str] = {}
    for answer in answers:
        if answer.status is not PageStatus.LISTED:
            statuses[answer.url], details[answer.url] = answer.status, answer.detail
            continue
        tags, found = github.parse_releases(answer.text, repository)
        for tag in tags:
            statuses[release_place(repository, tag)] = PageStatus.LISTED
        for link in found:
            values = read_template(
                f"https://github.com/{repository}/releases/download/{{tag}}/{{file}}", link.url
            )
            if values is not None:
                place = release_place(repository, values["tag"])
                links[place] = (*links.get(place, ()), link)
    if not statuses:
        first = answers[0].url if answers else github.newest_releases_url(repository)
        statuses[first], details[first] = PageStatus.EMPTY, "no release"
        is_end = False
    return Listing(
        host, statuses, links, details, PageStatus.LISTED if is_end else PageStatus.NOT_ASKED
    )
