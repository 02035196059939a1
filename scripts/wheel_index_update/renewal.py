"""One document, renewed from its hosts."""

from __future__ import annotations

from collections import Counter
from typing import List, Mapping, Set, Tuple

from safe_install.index.document import parse_json, parse_project, render_document
from safe_install.index.facts import HostEntry, Layout, Project, TorchTable
from safe_install.index.finder import DEFAULT_INDEX, project_page
from safe_install.system.http import PageStatus
from wheel_index_update.asking import PYPI, Asker, hosts_of
from wheel_index_update.cells import Json
from wheel_index_update.documents import answered_doubts, with_rows, with_value
from wheel_index_update.merging import Merged, merge_builds, merge_hashes
from wheel_index_update.notes import _SHOWN, Told, count, shown
from wheel_index_update.package_index import merge_pins, merge_sdists, merge_wheels, read_index
from wheel_index_update.pages import Listing


def renew(document: Json, table: TorchTable, asker: Asker, told: Told, *, wanted: str, today: str) -> Json:
    """The document after its hosts were asked; raises IndexInvalid rather than giving one that cannot be read."""
    where = f"{document.get('name')}.json"
    project = parse_project(document, where)
    rows, new = project.builds, dict(document)
    merged: List[Merged] = []
    new_pins: Set[str] = set()
    asked = hosts_of(project, wanted)
    all_listed = [host for host in hosts_of(project, "") if host not in asked] == []
    for host in asked:
        if host.layout is Layout.PYPI:
            new, is_listed, pins = renew_from_index(new, project, host, asker, told)
            new_pins |= pins
        else:
            is_github = host.layout is Layout.GITHUB_RELEASES
            listing = asker.list_releases(host) if is_github else asker.list_pages(project, host, table)
            one, left_out = merge_builds(project, rows, listing, table)
            rows = one.rows
            merged.append(one)
            hashes, notes = merge_hashes(project, new.get("sha256", {}), listing, rows)
            new = with_value(new, "sha256", hashes)
            tell_listing(listing, one, told)
            told.left_out(host.host, left_out)
            for note in dict.fromkeys(notes):
                told.say(f"{host.host}: {note}")
            is_listed = not one.unchecked and listing.is_answered(list(listing.statuses))
        all_listed = all_listed and is_listed
    new = with_rows(new, project, rows)
    for note in answered_doubts(project, merged, new_pins):
        told.say(note)
    if asked and (new != document or all_listed):
        new["checked"] = today
    parse_project(parse_json(render_document(new), where), where)
    return new


def renew_from_index(
    document: Json, project: Project, host: HostEntry, asker: Asker, told: Told
) -> Tuple[Json, bool, Set[str]]:
    """The document after the package index was asked, whether it was listed, and the versions with a new pin."""
    own = project.recipe.sdist if host is PYPI and project.recipe is not None else project.name
    answer = asker.ask(project_page(DEFAULT_INDEX, own), redirects=host.redirects)
    status, page = read_index(project, host, answer)
    if status is not PageStatus.LISTED or not page.links:
        told.say(f"{host.host}: {status.value} ({shown(answer.detail or 'no file')}): its facts stay as they are")
        return document, False, set()
    told.say(f"{host.host}: listed, {count(len(page.links), 'file')}")
    new = dict(document)
    if project.recipe is not None or document.get("sdists"):
        new = with_value(new, "sdists", merge_sdists(project, document.get("sdists", []), page))
    if document.get("wheels"):
        new = with_value(new, "wheels", merge_wheels(project, document["wheels"], page) or document["wheels"])
    pins: Mapping[str, str] = project.pins
    if project.pins_torch:
        pins, notes = merge_pins(project, asker.measure(project, page, told))
        new = with_value(new, "pins", pins)
        for note in notes:
            told.say(f"{host.host}: {note}")
    return new, True, set(pins) - set(project.pins)


def tell_listing(listing: Listing, merged: Merged, told: Told) -> None:
    host = listing.host.host
    kinds = Counter(status.value for status in listing.statuses.values())
    text = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()) or "no page could be named"
    told.say(f"{host}: {text}; {len(merged.added)} wheels are new, {len(merged.removed)} gone")
    if merged.unchecked:
        told.say(f"{host}: left as they are, as not every page of theirs was listed: {count(merged.unchecked, 'row')}")
    failed = [url for url, status in listing.statuses.items() if status in (PageStatus.DOWN, PageStatus.EMPTY)]
    for url in failed[:_SHOWN]:
        told.say(f"{host}: {listing.statuses[url].value}: {url} ({shown(listing.details.get(url, ''))})")
