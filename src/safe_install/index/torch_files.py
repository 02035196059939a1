"""Files of torch on download.pytorch.org, and of the compilers that lie beside it, as values.
Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.index.filename import parse_filename
from safe_install.models import BuiltFor, Candidate, CandidateKind, Interpreter, Link
from safe_install.requirements import applies, normalize_requirements, parse_requirement

# The module `triton`, as torch's metadata names it for these accelerators. The package index has
# placeholders of some.
COMPILERS_BESIDE_TORCH = frozenset(
    canonicalize_name(name)
    for name in (
        "pytorch-triton",
        "pytorch-triton-rocm",
        "pytorch-triton-xpu",
        "triton-rocm",
        "triton-xpu",
    )
)


# Each release of a page is one more torch that extensions are looked up for. In ten years torch has
# had some 60.
MAX_RELEASES = 200


class TorchFile(NamedTuple):
    """A wheel of torch, or of its compiler, on a page of torch's host."""

    candidate: Candidate
    # the text of its METADATA, as its page promises it; None: only the file has it
    metadata: Optional[str] = None


class Absent(NamedTuple):
    """Why a page has no such file."""

    reason: str
    # how to learn what is not known, because a host was not asked or sent no page that can be read;
    # "": there is no such file
    remedy: str = ""
    forbidden_by: str = ""  # the option that forbids to ask its host

    @property
    def is_open(self) -> bool:
        """Is it not known whether there is such a file?"""
        return bool(self.remedy)


@dataclass(frozen=True)
class Listing:
    """What the page of one project for one accelerator has for an interpreter."""

    url: str
    # by version, "2.13.0+cu126": the best wheel of each
    links: Mapping[str, Link] = field(default_factory=dict)
    problem: Optional[Absent] = None  # there is no such list
    own: Tuple[str, ...] = ()  # the versions that a place of the person's own has, oldest first

    def releases(self, accelerator: str) -> Tuple[str, ...]:
        """The newest releases of which it has a build for this accelerator: "2.13.0"."""
        versions = [Version(text) for text in self.links]
        own = sorted((one for one in versions if one.local == accelerator), reverse=True)
        return tuple(version.public for version in own[:MAX_RELEASES])


def make_candidate(
    project: NormalizedName, version: Version, accelerator: str, link: Link, metadata: Optional[str]
) -> Candidate:
    """A file as a candidate; `metadata`: the text of its METADATA, where that is known."""
    name = parse_filename(link.filename)
    return Candidate(
        name=project,
        version=version,
        kind=CandidateKind.WHEEL,
        link=link,
        tags=name.tags if name is not None else frozenset(),
        built_for=BuiltFor(None, accelerator),
        requires_python=link.requires_python,
        requires=read_requires(metadata or ""),
    )


def best_wheels(links: Sequence[Link], project: str, interpreter: Interpreter) -> Dict[str, Link]:
    """By version the wheel that the interpreter likes best; none of a version that was withdrawn
    (yanked)."""
    order = {tag: place for place, tag in enumerate(interpreter.tags)}
    best: Dict[str, Tuple[int, Link]] = {}
    for link in links:
        name = parse_filename(link.filename)
        if name is None or name.project != project or link.yanked is not None:
            continue
        if not _runs_on(link.requires_python, interpreter.version):
            continue
        places = [order[tag] for tag in name.tags if tag in order]
        version = str(name.parsed_version)
        if places and (version not in best or min(places) < best[version][0]):
            best[version] = (min(places), link)
    return {version: link for version, (_, link) in best.items()}


def _runs_on(requires_python: Optional[str], python: str) -> bool:
    try:
        return SpecifierSet(requires_python or "").contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip reads it


def pinned_compilers(
    requires: Sequence[str], interpreter: Interpreter
) -> Iterator[Tuple[NormalizedName, Version]]:
    """The compilers beside torch that its requirements name with their version, for this
    interpreter."""
    for text in requires:
        requirement = parse_requirement(text)
        if requirement is None or canonicalize_name(requirement.name) not in COMPILERS_BESIDE_TORCH:
            continue
        exact = [one.version for one in requirement.specifier if one.operator == "=="]
        if exact and applies(requirement, interpreter.markers):
            try:
                yield canonicalize_name(requirement.name), Version(exact[0])
            except InvalidVersion:
                continue


# --- METADATA -------------------------------------------------------------------------------------


def is_metadata_of(metadata: str, project: NormalizedName, version: Version) -> bool:
    """Does a METADATA text say that it is of this project and version?"""
    names, versions = _values(metadata, "name"), _values(metadata, "version")
    if not names or not versions or canonicalize_name(names[0]) != project:
        return False
    try:
        return Version(versions[0]) == version
    except InvalidVersion:
        return False


def read_requires(metadata: str) -> Tuple[str, ...]:
    """Its Requires-Dist, those that can be read."""
    return normalize_requirements(_values(metadata, "requires-dist"))


def _values(metadata: str, name: str) -> List[str]:
    head = metadata.replace("\r\n", "\n").partition("\n\n")[0]
    pairs = [line.partition(":") for line in head.splitlines()]
    return [value.strip() for key, _, value in pairs if key.lower() == name]
