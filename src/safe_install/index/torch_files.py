"""The wheels of torch and of its compilers on download.pytorch.org, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.index.filename import parse_filename
from safe_install.models import BuiltFor, Candidate, CandidateKind, Interpreter, Link
from safe_install.requirements import applies, normalize_requirements, parse_requirement

# The projects of the module `triton`, as torch's metadata names them. The package index has
# placeholders of some of them.
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

# Extensions are looked up for each release of a page. torch has had some 60 releases in ten years.
MAX_RELEASES = 200


class TorchFile(NamedTuple):
    """A wheel of torch, or of its compiler, on a page of torch's host."""

    candidate: Candidate
    metadata: Optional[str] = None  # the text of its METADATA; None: only the file itself has it


class Absent(NamedTuple):
    """Why a file was not found."""

    reason: str
    # what the user can do if the host was not asked or its page could not be read; "": there is no
    # such file
    remedy: str = ""
    forbidden_by: str = ""  # the option because of which the host was not asked

    @property
    def is_open(self) -> bool:
        """Is it unknown whether there is such a file?"""
        return bool(self.remedy)


@dataclass(frozen=True)
class Listing:
    """The wheels of one project on the page for one accelerator that run on an interpreter."""

    url: str
    # the best wheel of each version, by version: "2.13.0+cu126"
    links: Mapping[str, Link] = field(default_factory=dict)
    problem: Optional[Absent] = None  # why there are no links
    own: Tuple[str, ...] = ()  # the versions that the user's own places have, oldest first

    def releases(self, accelerator: str) -> Tuple[str, ...]:
        """The releases with a build for this accelerator, newest first: "2.13.0"."""
        versions = [Version(text) for text in self.links]
        builds = [version for version in versions if version.local == accelerator]
        newest_first = sorted(builds, reverse=True)
        return tuple(version.public for version in newest_first[:MAX_RELEASES])


def make_candidate(
    project: NormalizedName, version: Version, accelerator: str, link: Link, metadata: Optional[str]
) -> Candidate:
    """The candidate for a file. `metadata`: the text of its METADATA, if it is known."""
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
    """The best wheel of each version for an interpreter, by version. Yanked wheels are left out."""
    order = {tag: rank for rank, tag in enumerate(interpreter.tags)}
    best: Dict[str, Tuple[int, Link]] = {}
    for link in links:
        name = parse_filename(link.filename)
        if name is None or name.project != project or link.yanked is not None:
            continue
        if not _runs_on(link.requires_python, interpreter.version):
            continue
        ranks = [order[tag] for tag in name.tags if tag in order]
        version = str(name.parsed_version)
        if ranks and (version not in best or min(ranks) < best[version][0]):
            best[version] = (min(ranks), link)
    return {version: link for version, (_, link) in best.items()}


def _runs_on(requires_python: Optional[str], python: str) -> bool:
    try:
        return SpecifierSet(requires_python or "").contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # pip ignores it, too


def pinned_compilers(
    requires: Sequence[str], interpreter: Interpreter
) -> Iterator[Tuple[NormalizedName, Version]]:
    """The compilers that torch requires in one version on this interpreter. `requires`: torch's own
    requirements."""
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
    """Is it the METADATA of this project and version?"""
    names, versions = _values(metadata, "name"), _values(metadata, "version")
    if not names or not versions or canonicalize_name(names[0]) != project:
        return False
    try:
        return Version(versions[0]) == version
    except InvalidVersion:
        return False


def read_requires(metadata: str) -> Tuple[str, ...]:
    """The requirements of a METADATA text (Requires-Dist). Those that cannot be read are left
    out."""
    return normalize_requirements(_values(metadata, "requires-dist"))


def _values(metadata: str, name: str) -> List[str]:
    """The values of a header. `name`: in lower case."""
    head = metadata.replace("\r\n", "\n").partition("\n\n")[0]
    pairs = [line.partition(":") for line in head.splitlines()]
    return [value.strip() for key, _, value in pairs if key.lower() == name]
