"""One document, renewed from its hosts."""

from __future__ import annotations

from collections import Counter
from typing import List, Mapping, Sequence, Set, Tuple

from safe_install.index.document import parse_json, parse_project, render_document
from safe_install.index.facts import Build, HostEntry, Layout, Project, TorchTable
from safe_install.index.finder import DEFAULT_INDEX
from safe_install.index.local_pages import project_page
from safe_install.system.http import PageStatus
from wheel_index_update.asking import PYPI, Asker, hosts_of
from wheel_index_update.cells import Json
from wheel_index_update.documents import answered_doubts, with_rows, with_value
from wheel_index_update.merging import Merged, merge_builds, merge_hashes
from wheel_index_update.notes import MAX_EXAMPLES, Notes, count, escape
from wheel_index_update.package_index import merge_pins, merge_sdists, merge_wheels, read_index
from wheel_index_update.pages import Listing


def renew(
    document: Json, table: TorchTable, asker: Asker, notes: Notes, *, wanted: str, today: str
) -> Json:
    """The document after its hosts were asked; raises IndexInvalid rather than giving one that
    cannot be read."""
    where = f"{document.get('name')}.json"
    project = parse_project(document, where)
    rows = project.builds
    new = dict(document)
    merged: List[Merged] = []
    new_pins: Set[str] = set()
    asked = hosts_of(project, wanted)
    all_listed = all(host in asked for host in hosts_of(project, ""))
    for host in asked:
        if host.layout is Layout.PYPI:
            new, is_listed, pins = renew_from_index(new, project, host, asker, notes)
            new_pins |= pins
        else:
            listing = list_host(project, host, asker, table)
            new, one = renew_from_listing(new, project, rows, listing, table, notes)
            rows = one.rows
            merged.append(one)
            is_listed = not one.unchecked and listing.is_answered(list(listing.statuses))
        all_listed = all_listed and is_listed
    new = with_rows(new, project, rows)
    for note in answered_doubts(project, merged, new_pins):
        notes.add(note)
    if asked and (new != document or all_listed):
        new["checked"] = today
    parse_project(parse_json(render_document(new), where), where)
    return new


def list_host(project: Project, host: HostEntry, asker: Asker, table: TorchTable) -> Listing:
    if host.layout is Layout.GITHUB_RELEASES:
        return asker.list_releases(host)
    return asker.list_pages(project, host, table)


def renew_from_listing(
    document: Json,
    project: Project,
    rows: Sequence[Build],
    listing: Listing,
    table: TorchTable,
    notes: Notes,
) -> Tuple[Json, Merged]:
    """The document with the hashes that the host promises, and its rows, which are not in it
    yet."""
    host = listing.host.host
    merged, left_out = merge_builds(project, rows, listing, table)
    hashes, problems = merge_hashes(project, document.get("sha256", {}), listing, merged.rows)
    note_listing(listing, merged, notes)
    notes.add_left_out(host, left_out)
    for problem in dict.fromkeys(problems):
        notes.add(f"{host}: {problem}")
    return with_value(document, "sha256", hashes), merged


def renew_from_index(
    document: Json, project: Project, host: HostEntry, asker: Asker, notes: Notes
) -> Tuple[Json, bool, Set[str]]:
    """The document after the package index was asked, whether it was listed, and the versions with
    a new pin."""
    own = project.recipe.sdist if host is PYPI and project.recipe is not None else project.name
    answer = asker.ask(project_page(DEFAULT_INDEX, own), redirects=host.redirects)
    status, page = read_index(project.name, host, answer)
    if status is not PageStatus.LISTED or not page.links:
        notes.add(
            f"{host.host}: {status.value} ({escape(answer.detail or 'no file')}): its facts stay "
            "as they are"
        )
        return document, False, set()
    notes.add(f"{host.host}: listed, {count(len(page.links), 'file')}")
    new = dict(document)
    if project.recipe is not None or document.get("sdists"):
        new = with_value(new, "sdists", merge_sdists(project, document.get("sdists", []), page))
    if document.get("wheels"):
        new = with_value(
            new, "wheels", merge_wheels(project, document["wheels"], page) or document["wheels"]
        )
    pins: Mapping[str, str] = project.pins
    if project.pins_torch:
        pins, problems = merge_pins(project, asker.measure(project, page, notes))
        new = with_value(new, "pins", pins)
        for problem in problems:
            notes.add(f"{host.host}: {problem}")
    return new, True, set(pins) - set(project.pins)


def note_listing(listing: Listing, merged: Merged, notes: Notes) -> None:
    host = listing.host.host
    kinds = Counter(status.value for status in listing.statuses.values())
    text = (
        ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        or "no page could be named"
    )
    notes.add(f"{host}: {text}; {len(merged.added)} wheels are new, {len(merged.removed)} gone")
    if merged.unchecked:
        notes.add(
            f"{host}: left as they are, as not every page of theirs was listed: "
            f"{count(merged.unchecked, 'row')}"
        )
    failed = [
        url
        for url, status in listing.statuses.items()
        if status in (PageStatus.DOWN, PageStatus.EMPTY)
    ]
    for url in failed[:MAX_EXAMPLES]:
        notes.add(
            f"{host}: {listing.statuses[url].value}: {url} ({escape(listing.details.get(url, ''))})"
        )
