"""What the package index lists: source distributions, wheels, and the torch that their metadata
pins."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.index.candidates import is_named_after, sdist_candidate
from safe_install.index.facts import HostEntry, Project, canonical_url
from safe_install.index.filename import WheelName, parse_filename
from safe_install.models import Link
from safe_install.system.http import PageAnswer, PageStatus
from wheel_index_update.cells import Json
from wheel_index_update.links import can_be
from wheel_index_update.pages import read_page

NEW_SDISTS = 3
MAX_WHEELS = 8  # of one version
_PYPI_FILE = re.compile(
    r"https://files\.pythonhosted\.org/packages/[0-9a-f/]+/[\w.+%~!-]+$", re.ASCII
)
_PIN = re.compile(r"(==|>=)\d+(\.\d+)*(\.\*)?$", re.ASCII)
_MACHINE = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "platform_machine": "x86_64",
}


@dataclass(frozen=True)
class IndexPage:
    """The files of a project on the package index, and those whose metadata can be asked for (PEP
    658)."""

    links: Tuple[Link, ...]
    announced: FrozenSet[str] = frozenset()


def read_index(name: str, host: HostEntry, answer: PageAnswer) -> Tuple[PageStatus, IndexPage]:
    """The page of the project `name` on the package index."""
    status, links = read_page(name, host, answer)
    own = [
        replace(link, url=canonical_url(link.url))
        for link in links
        if is_named_after(name, link.filename)
    ]
    good = tuple(
        link for link in own if _PYPI_FILE.match(link.url) and link.sha256 and not link.yanked
    )
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
        if isinstance(entry, dict)
        and isinstance(entry.get("url"), str)
        and any(entry.get(name) for name in names)
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
    """The Linux wheels of the newest version (of as many versions as the document has), x86_64
    first.

    A wheel for any platform counts where there is none for Linux: beside one it is what the other
    systems get.
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
    chosen = [
        link
        for version in final[-max(1, len(had)) :]
        for link in choose_wheels(by_version[version])
    ]
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
    return name.platform != "any" and (
        not name.platform.endswith("x86_64") or "musllinux" in name.platform
    )


def is_final(version: Version, known: Set[str]) -> bool:
    return can_be(version) and (not version.is_prerelease or str(version) in known)


def wheels_to_measure(project: Project, page: IndexPage) -> Dict[str, Link]:
    """For every version from the oldest pinned one on, the wheel whose metadata is read, newest
    version first.

    Older ones were left out by a person; and what an old wheel's metadata permits is more than what
    its code bears.
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
        rank = (
            2
            if "linux" in name.platform and "x86_64" in name.platform
            else 1
            if "linux" in name.platform
            else 0
        )
        if (
            version >= oldest
            and is_final(version, set(project.pins))
            and rank > found.get(version, (-1, link))[0]
        ):
            found[version] = (rank, link)
    return {str(version): found[version][1] for version in sorted(found, reverse=True)}


def read_metadata(text: str, name: str, version: str) -> Optional[List[str]]:
    """The requirements in a METADATA file of a project; None when it is another's."""
    message = HeaderParser().parsestr(text)
    own_name, own = str(message.get("Name", "")), str(message.get("Version", ""))
    try:
        is_own = canonicalize_name(own_name) == name and Version(own).public == version
    except ValueError:
        return None
    return [str(line) for line in message.get_all("Requires-Dist", [])] if is_own else None


def read_index_json(text: str, version: str) -> Optional[List[str]]:
    """The requirements in the package index's JSON about a version; None when it is about another
    or says none."""
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
            applies = requirement.marker is None or requirement.marker.evaluate(
                {**_MACHINE, "extra": ""}
            )
        except ValueError:  # no requirement, or a marker that cannot be compared
            continue
        if canonicalize_name(requirement.name) == "torch" and applies:
            found &= requirement.specifier
    return str(found)


def merge_pins(project: Project, measured: Mapping[str, str]) -> Tuple[Dict[str, str], List[str]]:
    """The pins with what was measured of versions that have none; and what a person should look
    at."""
    pins, notes = dict(project.pins), []
    for version, specifier in measured.items():
        known = pins.get(version)
        if known is not None:
            if specifier and SpecifierSet(specifier) != SpecifierSet(known):
                notes.append(
                    f"the pin of {version} is {known!r}, its metadata says torch{specifier}: not "
                    "changed"
                )
        elif any(version in versions_in(doubt.subject) for doubt in project.doubts):
            notes.append(
                f"{version} has no pin, its metadata says torch{specifier or ' (any)'}: a doubt "
                "speaks of it"
            )
        elif _PIN.match(specifier) and len(specifier) <= 20:
            pins[version] = specifier
        else:
            requirement = f"torch{specifier}" if specifier else "nothing"
            notes.append(f"{version} has no pin, and its metadata says {requirement}")
    if list(project.pins) == sorted(project.pins, key=Version):
        pins = {version: pins[version] for version in sorted(pins, key=Version)}
    return pins, notes


def versions_in(text: str) -> Set[str]:
    return set(re.findall(r"\d+(?:\.\w+)+", text))
