#!/usr/bin/env python3
"""Renews the documents of the wheel index from the live hosts. For maintainers.

    scripts/update_wheel_index.py [--write] [--host NAME] [--folder DIR] [PROJECT...]

Asks the hosts of the projects (all of them without names), prints how the documents would change, and changes them only
with --write. Exit status: 0 no difference, 1 there is one (or it was written), 2 usage. What every host answered is
told on stderr: rows are replaced only where the page that would list them was read. A host that is down, a page that
is missing, empty or no page of files takes nothing away. Mirrors: SAFE_INSTALL_MIRRORS, as in the program.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from dataclasses import MISSING, dataclass, field, fields, replace
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import IndexInvalid, UsageError
from safe_install.events import Reporter
from safe_install.index import github
from safe_install.index.bundled import make_candidate
from safe_install.index.candidates import is_named_after, sdist_candidate, wheel_candidate
from safe_install.index.catalog import TABLES, bundled_date, cuda_table, torch_table
from safe_install.index.document import build_order, parse_json, parse_project, parse_torch_table, render_document
from safe_install.index.facts import (
    AcceleratorMatch,
    Build,
    Holds,
    HostEntry,
    Layout,
    Project,
    TorchTable,
    canonical_url,
)
from safe_install.index.filename import (
    GRAMMARS,
    WheelName,
    build_filename,
    fields_of,
    grammar_of,
    parse_filename,
    python_tags,
    render_local,
)
from safe_install.index.finder import DEFAULT_INDEX, project_page
from safe_install.index.location import (
    expand_template,
    fields_of_template,
    read_built_for,
    read_location,
    read_template,
)
from safe_install.index.pages import parse_page
from safe_install.models import BuiltFor, Link
from safe_install.pipeline.choice import make_client
from safe_install.ports import World
from safe_install.system.http import HttpClient, PageAnswer, PageStatus
from safe_install.tags import container_of_name, parse_accelerator

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "wheel_index"
PYPI = HostEntry("pypi.org", Layout.PYPI, "pytorch")
PATIENCE = 3  # pages of a host that fail one after the other; then it is not asked again
MAX_RELEASE_PAGES = 10  # of a repository
MAX_MEASURED = 120  # versions of a project whose metadata is read in one run
NEW_SDISTS = 3
MAX_WHEELS = 8  # of one version
_SHOWN = 3  # examples of each kind in the summary

Json = Dict[str, Any]


@dataclass
class Told:
    """What a person should know, project by project."""

    lines: List[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def left_out(self, where: str, reasons: Mapping[str, Sequence[str]]) -> None:
        for reason, names in sorted(reasons.items()):
            examples = ", ".join(shown(name) for name in names[:_SHOWN])
            self.say(f"{where}: left out {count(len(names), 'file')} ({reason}): {examples}")


def shown(text: str) -> str:
    """Somebody else's text on a terminal: no control characters, and not without end."""
    return ascii(text if len(text) <= 160 else text[:160] + "...")


def some(words: Sequence[str]) -> str:
    return ", ".join([*words[:10], *(["..."] if len(words) > 10 else [])])


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- which pages -----------------------------------------------------------------------------------


def pages_of(project: Project, host: HostEntry, torch: str, base: str, accelerator: str, python: str) -> List[str]:
    """The pages of a host that list the wheels for a torch: every template whose fields are known."""
    values = fields_of(torch, accelerator)
    values.update(base=base, python="".join(python.split(".")[:2]), project=project.name)
    pages = [page for page in host.pages if all(values.get(name) for name in fields_of_template(page))]
    return list(dict.fromkeys(expand_template(page, **values) for page in pages))


def pages_to_ask(project: Project, host: HostEntry, table: TorchTable) -> List[str]:
    """Every page that may list wheels: of the releases of torch, and of the rows that the document has."""
    rows = [build for build in project.builds if build.host == host.host]
    by_python = any("python" in fields_of_template(page) for page in host.pages)
    found: Dict[str, None] = {}
    for version, release in table.releases.items():
        if host.torch and version not in host.torch:
            continue
        own = [a for build in rows if minor_of(build.torch) == minor_of(version) for a in build.accelerators]
        known = [*release.accelerators, *([release.untagged] if release.untagged else []), *own]
        for accelerator in dict.fromkeys(known):
            parsed = parse_accelerator(accelerator)
            if host.kinds and (parsed is None or parsed.kind not in host.kinds):
                continue
            base, _ = project.base_of(version, accelerator)
            for python in release.python if by_python else ("",):
                found.update(dict.fromkeys(pages_of(project, host, version, base, accelerator, python)))
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
        found.update(dict.fromkeys(pages_of(project, host, torch, torch, cell.accelerators[0], cell.python[0])))
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


# --- what a host answered --------------------------------------------------------------------------


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


def read_page(project: Project, host: HostEntry, answer: PageAnswer) -> Tuple[PageStatus, Tuple[Link, ...]]:
    """What a page lists of the project.

    An answer without any file is the notice of a host that is ill, and no list; on a page of several projects the
    files of another one show that it is a list.
    """
    if answer.status is not PageStatus.LISTED:
        return answer.status, ()
    page = {"base": answer.base, "content_type": answer.content_type}
    links = parse_page(answer.text, answer.url, project=project.name, **page)
    names = [link.filename for link in links if is_named_after(project.name, link.filename)]
    if not names and host.layout is Layout.FIND_LINKS:
        names = [link.filename for link in parse_page(answer.text, answer.url, **page) if parse_filename(link.filename)]
    return (PageStatus.LISTED, links) if names else (PageStatus.EMPTY, ())


def read_releases(host: HostEntry, answers: Sequence[PageAnswer], is_end: bool) -> Listing:
    """The pages of a repository's releases as a listing; `is_end`: there is no release after them."""
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
            values = read_template(f"https://github.com/{repository}/releases/download/{{tag}}/{{file}}", link.url)
            if values is not None:
                place = release_place(repository, values["tag"])
                links[place] = (*links.get(place, ()), link)
    if not statuses:
        first = answers[0].url if answers else github.newest_releases_url(repository)
        statuses[first], details[first] = PageStatus.EMPTY, "no release"
        is_end = False
    return Listing(host, statuses, links, details, PageStatus.LISTED if is_end else PageStatus.NOT_ASKED)


# --- links -> cells: rows of one wheel -------------------------------------------------------------

_PLATFORM_TAG = r"(?:manylinux\w+|musllinux_\d+_\d+_\w+|linux_\w+|macosx_\d+_\d+_\w+|win32|win_amd64|win_arm64)"
_PLATFORM = re.compile(rf"(?:any|{_PLATFORM_TAG}(?:\.{_PLATFORM_TAG}){{0,4}})$", re.ASCII)
_PYTHON = re.compile(r"cp(3)(\d{1,2})$", re.ASCII)
_PLAIN_TORCH = re.compile(r"\d+\.\d+(\.\d+)?$", re.ASCII)
_TAG = re.compile(r"[\w.+-]{1,64}$", re.ASCII)


def cells_of(build: Build) -> Iterator[Build]:
    """A row as rows of one wheel each."""
    for accelerator in build.accelerators:
        for python in build.python:
            for abi in build.cxx11_abi or (None,):
                one = () if abi is None else (abi,)
                yield replace(build, accelerators=(accelerator,), python=(python,), cxx11_abi=one)


def address_of(project: Project, host: HostEntry, cell: Build) -> str:
    """Where a wheel lies; its name where no template says that, and nothing where its name is not known."""
    if cell.platform == "macos":
        return ""
    accelerator, python = cell.accelerators[0], cell.python[0]
    abi = cell.cxx11_abi[0] if cell.cxx11_abi else None
    if host.wheel is None:
        return build_filename(project.name, cell, host, accelerator=accelerator, python=python, cxx11_abi=abi)
    made = make_candidate(project, host, cell, accelerator=accelerator, python=python, cxx11_abi=abi)
    return canonical_url(made.link.url)


def address_of_link(host: HostEntry, link: Link) -> str:
    return link.filename if host.wheel is None else canonical_url(link.url)


class LinkReader:
    """Reads the links of one host as cells. What no row can say has a reason."""

    def __init__(self, project: Project, host: HostEntry, table: TorchTable) -> None:
        self._project = project
        self._host = host
        self._table = table
        self._rows = [build for build in project.builds if build.host == host.host]
        self._versions = {build.version for build in project.builds}
        pythons = [python for release in table.releases.values() for python in release.python]
        self._newest_python = max(int(python.split(".")[1]) for python in pythons)
        self._grammars = self._known_grammars()

    def _known_grammars(self) -> List[str]:
        """The host's own, then those of its rows, newest first: they know how its names changed."""
        newest_first = sorted(self._rows, key=lambda build: Version(build.version), reverse=True)
        rows = [build.filename for build in newest_first if build.filename]
        return list(dict.fromkeys([self._host.filename, *rows, *GRAMMARS]))

    def read(self, link: Link) -> Tuple[List[Build], str]:
        """The cells of a link (more than one where one file serves several releases of torch), or why there is none."""
        name = parse_filename(link.filename)
        if name is None or name.project != self._project.name:
            return [], ""
        problem = self._check_version(name) or self._check_place(link)
        if problem:
            return [], problem
        abi, python = self._python_of(name)
        if not python:
            return [], "wheel tags that no row says"
        candidate = wheel_candidate(self._project, self._host, link, torch_table())
        built = BuiltFor() if candidate is None else candidate.built_for
        accelerator, by_page_alone = self._accelerator_of(name, link, built)
        if accelerator is None:
            return [], "for which accelerator is not said"
        torches = self._torches_of(name, built.torch)
        if by_page_alone:
            torches = [torch for torch in torches if accelerator in self._accelerators_for(torch)]
        if not torches:
            return [], "for which release of torch is not known here"
        wanted = address_of_link(self._host, link)
        one = Build(
            host=self._host.host,
            torch="",
            version=name.parsed_version.public,
            accelerators=(accelerator,),
            platform=name.platform,
            python=(python,),
            abi=abi,
            cxx11_abi=() if built.cxx11_abi is None else (built.cxx11_abi,),
            tag=self._tag_of(name, link),
        )
        cells = [self._spell(replace(one, torch=torch), name, wanted) for torch in torches]
        found = [cell for cell in cells if cell is not None]
        return found, "" if found else "its address cannot be made from a row"

    def _check_version(self, name: WheelName) -> str:
        version = name.parsed_version
        if name.build:
            return "a build number, which no row says"
        if not can_be(version):
            return "no version that can be"
        if version.is_prerelease and version.public not in self._versions:
            return "a pre-release"
        return "" if _PLATFORM.match(name.platform) else "a platform that is not known"

    def _check_place(self, link: Link) -> str:
        """Where the template does not say where files lie, they lie on the page's host."""
        if self._host.wheel is not None:
            return ""
        known = {urlsplit(page).hostname for page in self._host.pages} | set(self._host.redirects)
        return "" if urlsplit(link.url).hostname in known else "it lies on another host"

    def _python_of(self, name: WheelName) -> Tuple[Optional[str], str]:
        """The row's `abi` and its Python, empty where wheel tags cannot be said by a row."""
        found = _PYTHON.match(name.python)
        if found and int(found.group(2)) <= self._newest_python + 1:
            python = f"3.{int(found.group(2))}"
            for abi in (None, "abi3"):
                if python_tags(python, abi) == (name.python, name.abi):
                    return abi, python
        if (name.python, name.abi) == ("py3", "none"):
            return "none", self._oldest_python()
        return None, ""

    def _oldest_python(self) -> str:
        rows = [build.python[0] for build in self._rows if build.abi == "none"]
        newest = list(self._table.releases.values())[-1]
        return rows[-1] if rows else newest.python[0]

    def _accelerator_of(self, name: WheelName, link: Link, built: BuiltFor) -> Tuple[Optional[str], bool]:
        """What name, folder or page say, and whether the page alone says it; a guess is not written down."""
        said = read_built_for(self._project, self._host, name, link.url, found_in=link.found_in).accelerator
        by_file = read_built_for(self._project, self._host, name, link.url).accelerator
        if said is None or not is_real_accelerator(said, self._table):
            return None, False
        if said != built.accelerator and self._project.accelerator_match is not AcceleratorMatch.ANY:
            return None, False
        return said, by_file is None

    def _accelerators_for(self, torch: str) -> Set[str]:
        releases = [r for r in self._table.releases.values() if torch in (r.version, minor_of(r.version))]
        return {a for r in releases for a in (*r.accelerators, r.untagged) if a}

    def _torches_of(self, name: WheelName, said: Optional[str]) -> List[str]:
        """The releases of torch, as this host's rows write them; only those that torch.json knows."""
        if said is None:
            return []
        if container_of_name(said) is not None:
            return [said]
        if not _PLAIN_TORCH.match(said):
            return self._torches_of_pin(name.parsed_version.public, said)
        if not any(said in (version, minor_of(version)) for version in self._table.releases):
            return []
        spelled = {b.torch for b in self._rows if b.torch == said or b.torch.startswith(said + ".")}
        return [said] if said in spelled or len(spelled) != 1 else list(spelled)

    def _torches_of_pin(self, version: str, pin: str) -> List[str]:
        rows = list(dict.fromkeys(build.torch for build in self._rows if build.version == version))
        if rows:
            return rows
        series = re.match(r"==(\d+\.\d+)\.\*$", pin)
        if series:
            return [series.group(1)] if any(minor_of(v) == series.group(1) for v in self._table.releases) else []
        release = self._table.first_release_with(self._project.name, version)
        if release is not None:
            return [release.version]
        try:
            fitting = [v for v in self._table.releases if SpecifierSet(pin).contains(v)]
        except InvalidSpecifier:
            return []
        return [min(fitting, key=Version)] if fitting else []

    def _tag_of(self, name: WheelName, link: Link) -> Optional[str]:
        values = read_template(self._host.wheel or "", link.url) or {}
        tag = values.get("tag", "")
        usual = self._host.tag.format(version=name.parsed_version.public)
        return tag if _TAG.match(tag) and tag != usual else None

    def _spell(self, cell: Build, name: WheelName, wanted: str) -> Optional[Build]:
        """The cell with the grammar under which it makes exactly the address that was found."""
        local = name.version.partition("+")[2]
        abi = cell.cxx11_abi[0] if cell.cxx11_abi else None
        built = BuiltFor(cell.torch, cell.accelerators[0], abi)
        for grammar in self._grammars:
            if render_local(grammar_of(grammar), built_for=built, platform=cell.platform).lstrip("+") != local:
                continue
            one = replace(cell, filename=None if grammar == self._host.filename else grammar)
            if address_of(self._project, self._host, one) == wanted:
                return one
        return None


def can_be(version: Version) -> bool:
    """Not what only a hostile or damaged page would list."""
    return len(str(version)) <= 64 and max(version.release) <= 9999 and not version.epoch


def is_real_accelerator(accelerator: str, table: TorchTable) -> bool:
    """One that torch was built for, or a CUDA whose driver is known: anything can stand in a name."""
    parsed = parse_accelerator(accelerator)
    if parsed is None or str(parsed) != accelerator:
        return False
    if any(accelerator in (*release.accelerators, release.untagged) for release in table.releases.values()):
        return True
    if parsed.kind == "cuda":
        return cuda_table().driver_floor(accelerator) is not None and max(parsed.version[1:], default=0) < 10
    return all(part < 100 for part in parsed.version) and len(accelerator) < 12


# --- cells -> rows ---------------------------------------------------------------------------------


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


def frame_of(row: Build) -> Build:
    """What the cells of a row have in common."""
    return replace(row, accelerators=(), python=(), cxx11_abi=())


def adopt(frame: Build, known: Mapping[Build, Sequence[Build]]) -> Build:
    """The same with the note of the rows that it joins, where there is one."""
    same = [other for other in known if replace(other, note="") == frame]
    return same[0] if len(same) == 1 else frame


def group(frame: Build, cells: Iterable[Build]) -> List[Build]:
    """As few rows as there are sets of Pythons: each with all the accelerators that have them."""
    table: Dict[str, Dict[str, Set[bool]]] = {}
    for cell in cells:
        table.setdefault(cell.accelerators[0], {}).setdefault(cell.python[0], set()).update(cell.cxx11_abi)
    shapes: Dict[Tuple[Tuple[str, ...], Tuple[bool, ...]], List[str]] = {}
    for accelerator in sorted(table, key=accelerator_order):
        by_abi: Dict[Tuple[bool, ...], List[str]] = {}
        for python, abis in table[accelerator].items():
            by_abi.setdefault(tuple(sorted(abis)), []).append(python)
        for abi, pythons in by_abi.items():
            shape = (tuple(sorted(set(pythons), key=Version)), abi)
            shapes.setdefault(shape, []).append(accelerator)
    return [
        replace(frame, accelerators=tuple(accelerators), python=pythons, cxx11_abi=abi)
        for (pythons, abi), accelerators in shapes.items()
    ]


def accelerator_order(accelerator: str) -> Tuple[bool, str, Tuple[int, ...]]:
    parsed = parse_accelerator(accelerator)
    return (accelerator != "cpu", parsed.kind, parsed.version) if parsed else (True, accelerator, ())


def row_json(row: Build) -> Json:
    """A row as it stands in a document: only what differs from the default."""
    value: Json = {}
    for one in fields(row):
        found = getattr(row, one.name)
        if one.default is MISSING or found != one.default:
            value[one.name] = list(found) if isinstance(found, tuple) else found
    return value


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


# --- the package index -----------------------------------------------------------------------------

_PYPI_FILE = re.compile(r"https://files\.pythonhosted\.org/packages/[0-9a-f/]+/[\w.+%~!-]+$", re.ASCII)
_PIN = re.compile(r"(==|>=)\d+(\.\d+)*(\.\*)?$", re.ASCII)
_MACHINE = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}


@dataclass(frozen=True)
class IndexPage:
    """The files of a project on the package index, and those whose metadata can be asked for (PEP 658)."""

    links: Tuple[Link, ...]
    announced: FrozenSet[str] = frozenset()


def read_index(project: Project, host: HostEntry, answer: PageAnswer) -> Tuple[PageStatus, IndexPage]:
    status, links = read_page(project, host, answer)
    own = [replace(link, url=canonical_url(link.url)) for link in links if is_named_after(project.name, link.filename)]
    good = tuple(link for link in own if _PYPI_FILE.match(link.url) and link.sha256 and not link.yanked)
    return status, IndexPage(good, announced_metadata(answer.text))


def announced_metadata(text: str) -> FrozenSet[str]:
    """The files of a PEP 691 page whose metadata lies beside them. Never raises."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return frozenset()
    files = value.get("files") if isinstance(value, dict) else None
    names = ("core-metadata", "data-dist-info-metadata", "dist-info-metadata")
    return frozenset(
        canonical_url(entry["url"])
        for entry in (files if isinstance(files, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("url"), str) and any(entry.get(name) for name in names)
    )


def requires_python_of(link: Link) -> Optional[str]:
    """What the page says, if it is a specifier."""
    text = link.requires_python or ""
    if not text or len(text) > 100 or not (text.isascii() and text.isprintable()):
        return None
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return None
    return text


def file_json(link: Link, **first: str) -> Json:
    value: Json = {**first, "url": link.url, "sha256": link.sha256}
    requires = requires_python_of(link)
    return {**value, "requires_python": requires} if requires else value


def merge_sdists(project: Project, rows: Sequence[Json], page: IndexPage) -> List[Json]:
    """The newest three, and those that the document has and the page still lists."""
    known = {row["url"]: row for row in rows}
    found: Dict[Version, Link] = {}
    for link in page.links:
        candidate = None if link.filename.endswith(".whl") else sdist_candidate(project, link)
        if candidate is None or not is_final(candidate.version, {row["version"] for row in rows}):
            continue
        if candidate.version not in found or link.url in known or link.filename.endswith(".tar.gz"):
            found[candidate.version] = link
    newest = sorted(found)[-NEW_SDISTS:]
    return [
        known.get(found[version].url) or file_json(found[version], version=str(version))
        for version in sorted(found)
        if version in newest or found[version].url in known
    ]


def merge_wheels(project: Project, rows: Sequence[Json], page: IndexPage) -> List[Json]:
    """The Linux wheels of the newest version (of as many versions as the document has), x86_64 first.

    A wheel for any platform counts where there is none for Linux: beside one it is what the other systems get.
    """
    known = {row["url"]: row for row in rows}
    by_version: Dict[Version, List[Tuple[WheelName, Link]]] = {}
    had: Set[str] = set()
    for link in page.links:
        name = parse_filename(link.filename) if link.filename.endswith(".whl") else None
        if name is None or name.project != project.name:
            continue
        if link.url in known:
            had.add(str(name.parsed_version))
        if "linux" in name.platform or name.platform == "any":
            by_version.setdefault(name.parsed_version, []).append((name, link))
    final = [version for version in sorted(by_version) if is_final(version, had)]
    chosen = [link for version in final[-max(1, len(had)) :] for link in choose_wheels(by_version[version])]
    if {link.url for link in chosen} == set(known):
        return list(rows)
    return [known.get(link.url) or file_json(link) for link in chosen]


def choose_wheels(files: Sequence[Tuple[WheelName, Link]]) -> List[Link]:
    """At most eight: the x86_64 ones, then of the other machines those for the newest Pythons."""

    def python(one: Tuple[WheelName, Link]) -> Tuple[int, str, str]:
        digits = re.match(r"[a-z]+3(\d*)", one[0].python)
        return (int(digits.group(1) or 0) if digits else 0, one[0].abi, one[0].platform)

    files = [one for one in files if one[0].platform != "any"] or files
    first = sorted((f for f in files if not is_other_machine(f[0])), key=python)[-MAX_WHEELS:]
    others = sorted((f for f in files if is_other_machine(f[0])), key=python)
    left = MAX_WHEELS - len(first)
    return [link for _, link in (*first, *(others[-left:] if left else ()))]


def is_other_machine(name: WheelName) -> bool:
    return name.platform != "any" and (not name.platform.endswith("x86_64") or "musllinux" in name.platform)


def is_final(version: Version, known: Set[str]) -> bool:
    return can_be(version) and (not version.is_prerelease or str(version) in known)


def wheels_to_measure(project: Project, page: IndexPage) -> Dict[str, Link]:
    """For every version from the oldest pinned one on, the wheel whose metadata is read, newest version first.

    Older ones were left out by a person; and what an old wheel's metadata permits is more than what its code bears.
    """
    if not project.pins:
        return {}
    oldest = min(map(Version, project.pins))
    found: Dict[Version, Tuple[int, Link]] = {}
    for link in page.links:
        name = parse_filename(link.filename) if link.filename.endswith(".whl") else None
        if name is None or name.project != project.name or name.parsed_version.local:
            continue
        version = name.parsed_version
        rank = 2 if "linux" in name.platform and "x86_64" in name.platform else 1 if "linux" in name.platform else 0
        if version >= oldest and is_final(version, set(project.pins)) and rank > found.get(version, (-1, link))[0]:
            found[version] = (rank, link)
    return {str(version): found[version][1] for version in sorted(found, reverse=True)}


def read_metadata(text: str, project: Project, version: str) -> Optional[List[str]]:
    """The requirements in a METADATA file; None when it is another's."""
    message = HeaderParser().parsestr(text)
    name, own = str(message.get("Name", "")), str(message.get("Version", ""))
    try:
        is_own = canonicalize_name(name) == project.name and Version(own).public == version
    except ValueError:
        return None
    return [str(line) for line in message.get_all("Requires-Dist", [])] if is_own else None


def read_index_json(text: str, version: str) -> Optional[List[str]]:
    """The requirements in the package index's JSON about a version; None when it is about another or says none."""
    try:
        info = json.loads(text)["info"]
        found = info["requires_dist"] if info["version"] == version else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [line for line in found if isinstance(line, str)] if isinstance(found, list) else None


def torch_requirement(requires: Iterable[str]) -> str:
    """What the requirements say of torch on Linux, empty where they say nothing."""
    found = SpecifierSet()
    for line in requires:
        try:
            requirement = Requirement(line[:1000])
            applies = requirement.marker is None or requirement.marker.evaluate({**_MACHINE, "extra": ""})
        except ValueError:  # no requirement, or a marker that cannot be compared
            continue
        if canonicalize_name(requirement.name) == "torch" and applies:
            found &= requirement.specifier
    return str(found)


def merge_pins(project: Project, measured: Mapping[str, str]) -> Tuple[Dict[str, str], List[str]]:
    """The pins with what was measured of versions that have none; and what a person should look at."""
    pins, notes = dict(project.pins), []
    for version, said in measured.items():
        known = pins.get(version)
        if known is not None:
            if said and SpecifierSet(said) != SpecifierSet(known):
                notes.append(f"the pin of {version} is {known!r}, its metadata says torch{said}: not changed")
        elif any(version in versions_in(doubt.subject) for doubt in project.doubts):
            notes.append(f"{version} has no pin, its metadata says torch{said or ' (any)'}: a doubt speaks of it")
        elif _PIN.match(said) and len(said) <= 20:
            pins[version] = said
        else:
            notes.append(f"{version} has no pin, and its metadata says {f'torch{said}' if said else 'nothing'}")
    if list(project.pins) == sorted(project.pins, key=Version):
        pins = {version: pins[version] for version in sorted(pins, key=Version)}
    return pins, notes


# --- documents -------------------------------------------------------------------------------------

# What stands behind a key that a document does not have yet.
_AFTER = {
    "pins": ("recipe", "builds", "sdists", "wheels", "sha256", "doubts"),
    "builds": ("sdists", "wheels", "sha256", "doubts"),
    "sdists": ("wheels", "sha256", "doubts"),
    "wheels": ("sha256", "doubts"),
    "sha256": ("doubts",),
}


def with_value(document: Json, key: str, value: Any) -> Json:
    """The document with another value; a new key takes its usual place."""
    if key in document or not value:
        return {**document, key: value} if key in document else dict(document)
    new: Json = {}
    for name, old in document.items():
        if key not in new and name in _AFTER[key]:
            new[key] = value
        new[name] = old
    return new


def with_rows(document: Json, project: Project, rows: Sequence[Build]) -> Json:
    """The document with other builds; a row that stays keeps its text."""
    if tuple(rows) == project.builds:
        return dict(document)
    text = dict(zip(project.builds, document.get("builds", [])))
    return with_value(document, "builds", [text.get(row) or row_json(row) for row in rows])


def versions_in(text: str) -> Set[str]:
    return set(re.findall(r"\d+(?:\.\w+)+", text))


def answered_doubts(project: Project, merged: Sequence[Merged], pins: Iterable[str]) -> List[str]:
    """The doubts that a row or a pin may answer now; a person decides."""
    found = []
    new_pins = set(pins)
    added = [cell for one in merged for cell in one.added]
    has_macos = any(cell.platform == "macos" for one in merged for cell in one.removed)
    all_read = any(one.checked and not one.unchecked for one in merged)
    for doubt in project.doubts:
        named = versions_in(doubt.subject)
        by_row = any(cell.version in named and ("torch" not in doubt.subject or cell.torch in named) for cell in added)
        words = doubt.subject.lower()
        if by_row or new_pins & named or (has_macos and words == "macos") or (all_read and words.endswith("builds")):
            found.append(f"the doubt about {doubt.subject!r} may be answered now; it stays until a person removes it")
    return found


# --- asking ----------------------------------------------------------------------------------------


class Asker:
    """Asks every address once, and gives up on a host that fails again and again."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._failures: Counter[str] = Counter()

    def ask(self, url: str, *, redirects: Sequence[str] = (), accept: str = "") -> PageAnswer:
        host = urlsplit(url).hostname or ""
        if self._failures[host] >= PATIENCE:
            return PageAnswer(url, PageStatus.DOWN, detail=f"{host} failed {PATIENCE} times, not asked again")
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
            statuses[url], found = read_page(project, host, answer)
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
                # An empty list is the end; a page that was seen before comes from a mirror that does not count.
                return read_releases(host, answers, is_empty_list(answer.text))
            seen.update(tags)
        return read_releases(host, answers, False)

    def measure(self, project: Project, page: IndexPage, told: Told) -> Dict[str, str]:
        """What the metadata of each version on the package index says of torch."""
        found: Dict[str, str] = {}
        unread: List[str] = []
        by_json: List[str] = []
        wheels = wheels_to_measure(project, page)
        for version, link in list(wheels.items())[:MAX_MEASURED]:
            requires = self._metadata_of(project, version, link)
            if requires is None:
                requires = None if link.url in page.announced else self._json_of(project, version)
                (unread if requires is None else by_json).append(version)
            if requires is not None:
                found[version] = torch_requirement(requires)
        if unread:
            told.say(f"pypi.org: the metadata of {count(len(unread), 'version')} was not read: {some(unread)}")
        if by_json:
            # Seen: vllm 0.33.0, whose JSON names another torch than the METADATA in the wheel.
            told.say(f"pypi.org: read from its JSON, which may be about another file than the wheel: {some(by_json)}")
        if len(wheels) > MAX_MEASURED:
            told.say(f"pypi.org: only the newest {MAX_MEASURED} of {len(wheels)} versions were measured")
        return found

    def _metadata_of(self, project: Project, version: str, link: Link) -> Optional[List[str]]:
        """From the file beside the wheel; asked for even where the index does not announce it, as mirrors forget to."""
        answer = self.ask(f"{link.url}.metadata", accept="*/*")
        return read_metadata(answer.text, project, version) if answer.status is PageStatus.LISTED else None

    def _json_of(self, project: Project, version: str) -> Optional[List[str]]:
        """From the JSON of the project, which is about its newest version, else from the version's own."""
        for page in ("json", f"{version}/json"):
            answer = self.ask(f"https://pypi.org/pypi/{project.name}/{page}", accept="application/json")
            found = read_index_json(answer.text, version) if answer.status is PageStatus.LISTED else None
            if found is not None:
                return found
        return None


def hosts_of(project: Project, wanted: str) -> List[HostEntry]:
    """The hosts to ask: all that are not optional, or the one that is named. Who builds has sources on the index."""
    hosts = list(project.hosts)
    if project.recipe is not None and all(host.layout is not Layout.PYPI for host in hosts):
        hosts.append(PYPI)
    on_index = project.package_index.holds in (Holds.WHEELS, Holds.SDISTS)
    hosts = [host for host in hosts if host.layout is not Layout.PYPI or on_index]
    return [host for host in hosts if (host.host == wanted if wanted else not host.optional)]


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


# --- the program -----------------------------------------------------------------------------------


def read_documents(folder: Path, names: Sequence[str]) -> Dict[Path, str]:
    """The texts of the documents. Errors: UsageError for a name that has none."""
    wanted = [canonicalize_name(name) for name in names]
    paths = [folder / f"{name}.json" for name in wanted] or sorted(folder.glob("*.json"))
    paths = [path for path in dict.fromkeys(paths) if path.stem not in TABLES]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise UsageError(f"{missing[0] if missing else folder} is no document of a project", hint="see wheel_index/")
    return {path: path.read_text("utf-8") for path in paths}


def read_torch(folder: Path) -> TorchTable:
    path = folder / "torch.json"
    if not path.is_file():
        return torch_table()
    return parse_torch_table(parse_json(path.read_text("utf-8"), path.name), path.name)


def run(options: argparse.Namespace, today: str, cache: Path) -> int:
    """Renew the chosen documents one after the other; 1 when any differs."""
    texts = read_documents(options.folder, options.project)
    documents = {path: parse_json(text, path.name) for path, text in texts.items()}
    projects = {path: parse_project(document, path.name) for path, document in documents.items()}
    if options.host and not any(hosts_of(project, options.host) for project in projects.values()):
        raise UsageError(f"none of the projects has a host {options.host!r}", hint="its name is `host` in the document")
    table = read_torch(options.folder)
    asker = Asker(make_client(World(environ=os.environ, reporter=Reporter(), cache_dir=cache)))
    differs = False
    for path, document in documents.items():
        if not hosts_of(projects[path], options.host):
            continue
        told = Told()
        try:
            text = render_document(renew(document, table, asker, told, wanted=options.host, today=today))
        except IndexInvalid as error:
            told.say(f"what the hosts say makes no document, it stays as it is: {shown(str(error))}")
            text = texts[path]
        for line in told.lines:
            print(f"{path.stem}: {line}", file=sys.stderr)
        if text == texts[path]:
            continue
        differs = True
        old, new = texts[path].splitlines(keepends=True), text.splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(old, new, f"a/{path.name}", f"b/{path.name}"))
        if options.write:
            path.write_bytes(text.encode("utf-8"))
    if differs and options.write and today > bundled_date():
        print(f"wheel_index/__init__.py: DATE is {bundled_date()}, older than what was written", file=sys.stderr)
    return int(differs)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="update_wheel_index.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("project", nargs="*", metavar="PROJECT", help="names of projects; all of them without one")
    parser.add_argument("--write", action="store_true", help="change the documents; without it they are only compared")
    parser.add_argument("--host", default="", metavar="NAME", help="ask only this host (optional hosts must be named)")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="the folder with the documents")
    options = parser.parse_args(arguments)
    # Pages are asked anew every time: what a cache remembers would hide that a host is down.
    with tempfile.TemporaryDirectory() as cache:
        try:
            return run(options, datetime.date.today().isoformat(), Path(cache))
        except (UsageError, IndexInvalid) as error:
            print(f"update_wheel_index.py: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
