"""torch.json, renewed from the hosts of torch, the package index and the build matrix."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Protocol, Sequence, Tuple

from packaging.version import Version

from safe_install.index.document import parse_json, parse_torch_table, render_document
from safe_install.index.facts import HostEntry, Layout, Project, TorchTable
from safe_install.index.finder import DEFAULT_INDEX
from safe_install.index.local_pages import project_page
from safe_install.index.location import expand_template
from safe_install.models import Link
from safe_install.system.http import PageStatus
from wheel_index_update.asking import Asker
from wheel_index_update.notes import MAX_EXAMPLES, Notes, count, escape, join_first
from wheel_index_update.package_index import IndexPage, read_index, versions_in
from wheel_index_update.pages import read_page
from wheel_index_update.torch_facts import (
    BuildMatrix,
    IndexRelease,
    accelerator_of_requirements,
    accelerator_of_version_file,
    is_written_down,
    python_order,
    read_accelerators,
    read_builds,
    read_index_releases,
    read_matrix,
    sort_accelerators,
)
from wheel_index_update.torch_merging import (
    UNTAGGED,
    Json,
    MergedReleases,
    PageFacts,
    TorchFacts,
    merge_releases,
)

TORCH = "torch"
VERSION_FILE = "torch/version.py"
# It lists the builds for every accelerator: pytorch/test-infra:s3_management/manage.py.
ALL_BUILDS = "https://download.pytorch.org/whl/torch/"
MATRIX = (
    "https://raw.githubusercontent.com/pytorch/test-infra/main/"
    "tools/scripts/generate_binary_build_matrix.py"
)


class WheelReader(Protocol):
    """Reads a file out of a wheel; `remote_wheel.RemoteWheels` does."""

    def read(self, url: str, name: str) -> Optional[str]:
        """Its text, or None."""


@dataclass(frozen=True)
class Sources:
    """What is asked."""

    asker: Asker
    wheels: WheelReader
    companions: Sequence[Project] = ()  # torchvision and torchaudio, as they are known


def hosts_of_torch(table: TorchTable, wanted: str) -> List[HostEntry]:
    """The hosts to ask: all that are not optional, or the one that is named."""
    return [host for host in table.hosts if (host.host == wanted if wanted else not host.optional)]


def renew_torch(
    document: Json, table: TorchTable, sources: Sources, notes: Notes, *, wanted: str, today: str
) -> Json:
    """The document after its hosts were asked. Errors: IndexInvalid, where it could not be read
    then."""
    asked = hosts_of_torch(table, wanted)
    facts = TorchFacts(
        elsewhere=tuple(release for host in table.hosts for release in host.torch),
        companions=sources.companions,
    )
    is_all_read = True
    pages_of = [host for host in asked if host.layout is not Layout.PYPI]
    if pages_of:
        matrix = ask_matrix(table, sources.asker, notes)
        pages: List[PageFacts] = []
        for host in pages_of:
            found, is_read = ask_pages(host, table, matrix, sources.asker, notes)
            pages += found
            is_all_read = is_all_read and is_read
        facts = replace(facts, pages=pages, matrix=matrix)
    for host in asked:
        if host.layout is Layout.PYPI:
            facts, is_read = ask_index(host, facts, table, document, sources, notes)
            is_all_read = is_all_read and is_read
    merged = merge_releases(document["releases"], facts)
    note_merged(document, merged, notes)
    new = {**document, "releases": merged.rows}
    if asked and (merged.changed or is_all_read):
        new["checked"] = today
    parse_torch_table(parse_json(render_document(new), "torch.json"), "torch.json")
    return new


def note_merged(document: Json, merged: MergedReleases, notes: Notes) -> None:
    for text in merged.notes:
        notes.add(text)
    if merged.changed:
        notes.add(f"{count(len(merged.changed), 'release')} changed: {join_first(merged.changed)}")
    for row in merged.rows:
        if row["torch"] in merged.with_other_builds and row.get("note"):
            notes.add(f"the note of {row['torch']} stays until a person removes it: {row['note']}")
    for doubt in document.get("doubts", []):
        if versions_in(doubt["subject"]) & set(merged.with_other_builds):
            notes.add(
                f"the doubt about {doubt['subject']!r} may be answered now; it stays until a "
                "person removes it"
            )


# --- the build matrix -----------------------------------------------------------------------------


def ask_matrix(table: TorchTable, asker: Asker, notes: Notes) -> Optional[BuildMatrix]:
    """What pytorch/test-infra builds of the current release; None where it was not read."""
    answer = asker.ask(MATRIX, accept="*/*")
    matrix = read_matrix(answer.text, table) if answer.status is PageStatus.LISTED else None
    if matrix is None:
        why = escape(answer.detail or "no matrix in it")
        notes.add(f"pytorch/test-infra: {answer.status.value} ({why})")
        return None
    builds = ", ".join(matrix.accelerators)
    notes.add(f"pytorch/test-infra: {matrix.release} is built for {builds}")
    return matrix


# --- download.pytorch.org -------------------------------------------------------------------------


def ask_pages(
    host: HostEntry,
    table: TorchTable,
    matrix: Optional[BuildMatrix],
    asker: Asker,
    notes: Notes,
) -> Tuple[List[PageFacts], bool]:
    """What the pages of a host say, and whether every page of a known accelerator was read."""
    known = known_accelerators(host, table)
    wanted = list(known)
    if not host.torch:
        more = matrix.accelerators if matrix is not None else ()
        wanted = sort_accelerators([*known, *more, *listed_accelerators(host, table, asker)])
    found: List[PageFacts] = []
    statuses: Dict[str, PageStatus] = {}
    for accelerator in wanted:
        for template in host.pages:
            url = expand_template(template, accelerator=accelerator, project=TORCH)
            status, links = ask_links(host, url, asker)
            statuses[url] = status
            if status is PageStatus.LISTED:
                builds = read_builds(links, accelerator)
                on_aarch64 = read_builds(links, accelerator, "aarch64")
                found.append(PageFacts(accelerator, builds, host.torch, on_aarch64))
                break
    note_pages(host, statuses, notes)
    read = {page.accelerator for page in found}
    return found, set(known) <= read


def known_accelerators(host: HostEntry, table: TorchTable) -> List[str]:
    """Those of the releases that the host has."""
    elsewhere = {release for other in table.hosts for release in other.torch}
    return sort_accelerators(
        accelerator
        for version, release in table.releases.items()
        if (version in host.torch if host.torch else version not in elsewhere)
        for accelerator in release.accelerators
        if is_written_down(accelerator, table)
    )


def listed_accelerators(host: HostEntry, table: TorchTable, asker: Asker) -> List[str]:
    """Those that the page of all builds names; none where it was not read."""
    _, links = ask_links(host, ALL_BUILDS, asker)
    return read_accelerators(links, table)


def ask_links(host: HostEntry, url: str, asker: Asker) -> Tuple[PageStatus, Tuple[Link, ...]]:
    """The files of torch on a page."""
    return read_page(TORCH, host, asker.ask(url, redirects=host.redirects))


def note_pages(host: HostEntry, statuses: Dict[str, PageStatus], notes: Notes) -> None:
    kinds = Counter(status.value for status in statuses.values())
    text = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    notes.add(f"{host.host}: {text or 'no page could be named'}")
    failed = [url for url, status in statuses.items() if status is not PageStatus.LISTED]
    for url in failed[:MAX_EXAMPLES]:
        notes.add(f"{host.host}: {statuses[url].value}: {url}")


# --- the package index ----------------------------------------------------------------------------


def ask_index(
    host: HostEntry,
    facts: TorchFacts,
    table: TorchTable,
    document: Json,
    sources: Sources,
    notes: Notes,
) -> Tuple[TorchFacts, bool]:
    """The facts with those of the package index, and whether its page was read."""
    answer = sources.asker.ask(project_page(DEFAULT_INDEX, TORCH), redirects=host.redirects)
    status, page = read_index(TORCH, host, answer)
    releases = read_index_releases(page.links)
    if status is not PageStatus.LISTED or not releases:
        why = escape(answer.detail or "no wheel for Linux")
        notes.add(f"{host.host}: {status.value} ({why}): its facts stay as they are")
        return facts, False
    notes.add(f"{host.host}: listed, {count(len(releases), 'release')}")
    measured = measure(releases, page, document, table, sources, notes)
    return replace(facts, index=releases, measured=measured), True


def measure(
    releases: Dict[str, IndexRelease],
    page: IndexPage,
    document: Json,
    table: TorchTable,
    sources: Sources,
    notes: Notes,
) -> Dict[Tuple[str, str], str]:
    """What each build was made for: its METADATA says it, else torch/version.py inside of it, which
    is read where no row knows it yet."""
    rows = {row["torch"]: row for row in document["releases"]}
    oldest = min(map(Version, rows))
    found: Dict[Tuple[str, str], str] = {}
    inside: List[str] = []
    for release in sorted(releases, key=Version, reverse=True):
        if Version(release) < oldest:
            break
        for machine, link in releases[release].wheels.items():
            is_known = bool(rows.get(release, {}).get(UNTAGGED[machine]))
            python = max(releases[release].python, key=python_order, default="")
            answer = accelerator_by_metadata(release, machine, python, link, sources.asker)
            if answer is None and not is_known:
                answer = accelerator_by_file(release, link, sources.wheels)
                inside += [f"{release} for {machine}"] if answer is not None else []
            if answer is not None and is_written_down(answer, table):
                found[release, machine] = answer
    if inside:
        notes.add(f"pypi.org: read from {VERSION_FILE} in the wheel: {join_first(inside)}")
    return found


def accelerator_by_metadata(
    release: str, machine: str, python: str, link: Link, asker: Asker
) -> Optional[str]:
    requires = asker.metadata_of(TORCH, release, link)
    if requires is None:
        return None
    return accelerator_of_requirements(requires, machine, python)


def accelerator_by_file(release: str, link: Link, wheels: WheelReader) -> Optional[str]:
    text = wheels.read(link.url, VERSION_FILE)
    return accelerator_of_version_file(text, release) if text is not None else None
