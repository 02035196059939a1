"""The rows of a document, merged with what a host lists: what was listed replaces, what was not takes nothing away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Sequence, Set, Tuple

from safe_install.index.document import build_order
from safe_install.index.facts import Build, Project, TorchTable, canonical_url
from safe_install.index.location import fields_of_template, read_location
from wheel_index_update.cells import address_of, address_of_link, adopt, cells_of, frame_of, group
from wheel_index_update.links import LinkReader
from wheel_index_update.pages import Listing, places_of


@dataclass(frozen=True)
class Merged:
    """The rows of a document after one host was read."""

    rows: Tuple[Build, ...]
    added: Tuple[Build, ...] = ()
    removed: Tuple[Build, ...] = ()
    checked: int = 0  # rows of the host that were compared with its pages
    unchecked: int = 0  # rows that stay because a page of theirs was not read


def merge_builds(
    project: Project, rows: Sequence[Build], listing: Listing, table: TorchTable
) -> Tuple[Merged, Mapping[str, List[str]]]:
    """Replace what was listed, keep what was not; and the files that are left out, by reason."""
    host = listing.host
    kept: Dict[Build, List[Build]] = {}  # row without its cells -> cells
    removed: List[Build] = []
    covered: Set[str] = set()
    changed: Set[Build] = set()
    checked = unchecked = 0
    files = {page: {address_of_link(host, link) for link in links} for page, links in listing.links.items()}
    for row in rows:
        if row.host != host.host:
            continue
        cells = kept.setdefault(frame_of(row), [])
        was_asked = True
        for cell in cells_of(row):
            places, address = places_of(project, host, cell, table), address_of(project, host, cell)
            is_answered = listing.is_answered(places)
            was_asked = was_asked and is_answered
            if is_answered and not any(address in files.get(place, ()) for place in places):
                removed.append(cell)
                changed.add(frame_of(row))
                continue
            cells.append(cell)
            covered.add(address)
        checked += was_asked
        unchecked += not was_asked
    added, left_out = read_new_cells(project, listing, table, covered, {c for cells in kept.values() for c in cells})
    for cell in added:
        frame = adopt(frame_of(cell), kept)
        kept.setdefault(frame, []).append(replace(cell, note=frame.note))
        changed.add(frame)
    others = [row for row in rows if row.host != host.host or frame_of(row) not in changed]
    made = [row for frame in sorted(changed, key=repr) for row in group(frame, kept[frame])]
    new = tuple(sorted([*others, *made], key=build_order)) if changed else tuple(rows)
    return Merged(new, tuple(added), tuple(removed), checked, unchecked), left_out


def read_new_cells(
    project: Project, listing: Listing, table: TorchTable, covered: Set[str], known: Set[Build]
) -> Tuple[List[Build], Mapping[str, List[str]]]:
    """The wheels that no row says yet."""
    host, reader = listing.host, LinkReader(project, listing.host, table)
    says_accelerator = "accelerator" in fields_of_template(host.wheel or "")
    plain = {replace(cell, note="") for cell in known}
    added: Dict[Build, None] = {}
    left_out: Dict[str, List[str]] = {}
    seen: Set[Tuple[str, str]] = set()
    for page, links in listing.links.items():
        for link in links:
            address = address_of_link(host, link)
            # Only where the page alone says the accelerator can a known file be news.
            is_said = says_accelerator or "+" in link.filename
            place = "" if is_said else page
            if not link.filename.endswith(".whl") or (address in covered and is_said) or (address, place) in seen:
                continue
            seen.add((address, place))
            cells, problem = reader.read(link)
            if problem and address not in covered:
                names = left_out.setdefault(problem, [])
                if link.filename not in names[-1:]:
                    names.append(link.filename)
            added.update(dict.fromkeys(cell for cell in cells if cell not in plain))
    return list(added), left_out


def merge_hashes(
    project: Project, hashes: Mapping[str, str], listing: Listing, rows: Sequence[Build]
) -> Tuple[Dict[str, str], List[str]]:
    """The hashes that a page promises for the wheels of the rows, for a host of which the document keeps some.

    A hash that is known is never changed: another one for the same address is news that a person must hear.
    """
    host = listing.host
    notes: List[str] = []
    if host.wheel is None or not any(read_location(host, url) is not None for url in hashes):
        return dict(hashes), notes
    own = {address_of(project, host, cell) for row in rows if row.host == host.host for cell in cells_of(row)}
    new: Dict[str, str] = {}
    for links in listing.links.values():
        for link in links:
            url = canonical_url(link.url)
            known = hashes.get(url) or new.get(url)
            if link.sha256 and known and known != link.sha256:
                notes.append(f"{url} is promised with another sha256 than the known one: {link.sha256}")
            elif link.sha256 and not known and url in own:
                new[url] = link.sha256
    if list(hashes) == sorted(hashes):
        return dict(sorted({**hashes, **new}.items())), notes
    return {**hashes, **dict(sorted(new.items()))}, notes
