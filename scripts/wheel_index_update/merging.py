"""The rows of a document, merged with what a host lists: what was listed replaces, what was not
takes nothing away."""

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
    known = KnownRows(project, listing, table)
    for row in rows:
        if row.host == host.host:
            known.compare(row)
    cells = {cell for kept in known.kept.values() for cell in kept}
    added, left_out = read_new_cells(project, listing, table, known.covered, cells)
    for cell in added:
        known.add(cell)
    changed = known.changed
    new = tuple(rows)
    if changed:
        others = [row for row in rows if row.host != host.host or frame_of(row) not in changed]
        for frame in sorted(changed, key=repr):
            others += group(frame, known.kept[frame])
        new = tuple(sorted(others, key=build_order))
    return Merged(new, tuple(added), tuple(known.removed), known.checked, known.unchecked), left_out


class KnownRows:
    """The rows of one host, compared with what it lists."""

    def __init__(self, project: Project, listing: Listing, table: TorchTable) -> None:
        self._project = project
        self._listing = listing
        self._table = table
        self._files = {
            page: {address_of_link(listing.host, link) for link in links}
            for page, links in listing.links.items()
        }
        self.kept: Dict[Build, List[Build]] = {}  # row without its cells -> cells
        self.removed: List[Build] = []
        self.covered: Set[str] = set()  # addresses of cells that are kept
        self.changed: Set[Build] = set()
        self.checked = 0
        self.unchecked = 0

    def compare(self, row: Build) -> None:
        """Keep the cells of a row that are listed, or whose pages were not read."""
        frame = frame_of(row)
        cells = self.kept.setdefault(frame, [])
        all_answered = True
        for cell in cells_of(row):
            places = places_of(self._project, self._listing.host, cell, self._table)
            address = address_of(self._project, self._listing.host, cell)
            is_answered = self._listing.is_answered(places)
            all_answered = all_answered and is_answered
            if is_answered and not self._is_listed(address, places):
                self.removed.append(cell)
                self.changed.add(frame)
            else:
                cells.append(cell)
                self.covered.add(address)
        self.checked += all_answered
        self.unchecked += not all_answered

    def _is_listed(self, address: str, places: Sequence[str]) -> bool:
        return any(address in self._files.get(place, ()) for place in places)

    def add(self, cell: Build) -> None:
        """A new cell, in the row that it fits."""
        frame = adopt(frame_of(cell), self.kept)
        self.kept.setdefault(frame, []).append(replace(cell, note=frame.note))
        self.changed.add(frame)


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
            if (
                not link.filename.endswith(".whl")
                or (address in covered and is_said)
                or (address, place) in seen
            ):
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
    """The hashes that a page promises for the wheels of the rows, for a host of which the document
    keeps some.

    A hash that is known is never changed: another one for the same address is news that a person
    must hear.
    """
    host = listing.host
    notes: List[str] = []
    if host.wheel is None or not any(read_location(host, url) is not None for url in hashes):
        return dict(hashes), notes
    own = {
        address_of(project, host, cell)
        for row in rows
        if row.host == host.host
        for cell in cells_of(row)
    }
    new: Dict[str, str] = {}
    for links in listing.links.values():
        for link in links:
            url = canonical_url(link.url)
            known = hashes.get(url) or new.get(url)
            if link.sha256 and known and known != link.sha256:
                notes.append(
                    f"{url} is promised with another sha256 than the known one: {link.sha256}"
                )
            elif link.sha256 and not known and url in own:
                new[url] = link.sha256
    if list(hashes) == sorted(hashes):
        return dict(sorted({**hashes, **new}.items())), notes
    return {**hashes, **dict(sorted(new.items()))}, notes
