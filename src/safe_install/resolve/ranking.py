"""The order of candidates: the best first among those that fit, the nearest miss first among the
others."""

from __future__ import annotations

from typing import Collection, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from packaging.tags import Tag
from packaging.version import Version

from safe_install.index.facts import Project
from safe_install.models import Candidate, CandidateKind, Environment, Rejection, Rule, TorchBuild
from safe_install.resolve.compatibility import (
    Context,
    check_candidate,
    is_cpu_fallback,
    is_exact_accelerator,
    specifier_fits,
    torch_release,
)
from safe_install.resolve.machine_tags import machine_of, supported_tags
from safe_install.tags import is_same_major, parse_release

# --- candidates that fit --------------------------------------------------------------------------


class SortKey(NamedTuple):
    """How good a candidate is; compared field by field, the larger the better."""

    is_wheel: bool
    is_for_accelerator: bool  # not one for the CPU beside a torch for a GPU
    is_version_to_keep: bool
    version: Version
    is_exact_accelerator: bool  # and not of the same major version only
    host: int  # an earlier one is larger
    has_hash: bool
    tag: int  # a better one is larger


def sort_key(candidate: Candidate, context: Context, keep_version: Optional[str] = None) -> SortKey:
    """What a candidate is ranked by. `keep_version`: a public version that is preferred to a newer
    one."""
    torch = context.environment.torch
    built = candidate.built_for.accelerator
    exact = torch is None or is_exact_accelerator(built, torch, context.project)
    return SortKey(
        candidate.kind is not CandidateKind.SDIST,
        torch is None or not is_cpu_fallback(built, torch, context.project),
        candidate.version.public == keep_version,
        Version(candidate.version.public),
        exact,
        -host_rank(candidate, context.project),
        candidate.link.sha256 is not None,
        -_tag_rank(candidate, context.environment.interpreter.tags),
    )


def host_rank(candidate: Candidate, project: Project) -> int:
    """0 for what was built here; then the position of the host in the project's list."""
    if candidate.kind in (CandidateKind.BUILT, CandidateKind.INSTALLED):
        return 0
    host = urlsplit(candidate.link.url).hostname
    for rank, entry in enumerate(project.hosts, 1):
        urls = (*entry.pages, entry.wheel or "")
        if host is not None and any(urlsplit(url).hostname == host for url in urls):
            return rank
    return len(project.hosts) + 1


def _tag_rank(candidate: Candidate, tags: Sequence[Tag]) -> int:
    if not candidate.tags:
        return len(tags)
    return next((rank for rank, tag in enumerate(tags) if tag in candidate.tags), len(tags))


def rank_fitting(
    candidates: Sequence[Candidate], context: Context, *, keep_version: Optional[str] = None
) -> List[Candidate]:
    """The candidates that fit, best first. `keep_version`: a public version that is preferred to a
    newer one."""
    fitting = [candidate for candidate in candidates if check_candidate(candidate, context) is None]
    return sorted(
        fitting, key=lambda candidate: sort_key(candidate, context, keep_version), reverse=True
    )


def explain_loser(candidate: Candidate, chosen: Candidate, context: Context) -> Rejection:
    """Why another candidate was chosen: a rule rejects this one, or it is only second best."""
    own = check_candidate(candidate, context)
    if own is not None:
        return own
    if candidate.kind is CandidateKind.SDIST and chosen.kind is not CandidateKind.SDIST:
        return Rejection(
            candidate, Rule.SDIST_BEHIND_WHEEL, f"would be built; {chosen.link.filename} fits"
        )
    if Version(candidate.version.public) != Version(chosen.version.public):
        return Rejection(candidate, Rule.OLDER_VERSION, f"{chosen.version} fits too")
    return Rejection(
        candidate,
        Rule.LATER_HOST,
        f"the same version as {chosen.link.filename}, chosen from {chosen.link.found_in}",
    )


# --- candidates that do not fit -------------------------------------------------------------------

# What fits and cannot be fetched comes first; last what is only second best, or not a requested
# version.
_FAR_RULES = {
    Rule.HOST_DOWN: -1,
    Rule.SDIST_BEHIND_WHEEL: 1,
    Rule.OLDER_VERSION: 1,
    Rule.LATER_HOST: 1,
    Rule.PRE_RELEASE: 2,
    Rule.SPECIFIER: 3,
    Rule.YANKED: 4,
}
_FAR_TORCH = 98  # minors; for a candidate whose torch is not known


def order_rejections(rejections: Sequence[Rejection], environment: Environment) -> List[Rejection]:
    """The rejections, nearest miss first: what fits this machine and Python, then the nearest minor
    of torch, then the newest version."""
    pythons = supported_tags(environment).pythons
    newest_first = sorted(
        rejections, key=lambda rejection: rejection.candidate.version, reverse=True
    )
    return sorted(newest_first, key=lambda rejection: _distance(rejection, environment, pythons))


class _Distance(NamedTuple):
    """How far a candidate is from one that fits; compared field by field."""

    rule: int
    machine: int
    is_other_python: bool
    torch: int  # minors
    is_other_cuda: bool


def _distance(
    rejection: Rejection, environment: Environment, pythons: FrozenSet[Tuple[str, str]]
) -> _Distance:
    """The smaller, the nearer."""
    candidate, torch = rejection.candidate, environment.torch
    machines = {machine_of(tag.platform) for tag in candidate.tags if tag.platform != "any"}
    is_other_python = bool(candidate.tags) and pythons.isdisjoint(
        (t.interpreter, t.abi) for t in candidate.tags
    )
    is_unknown_torch = candidate.built_for.torch is None and rejection.rule is Rule.TORCH_VERSION
    accelerator = candidate.built_for.accelerator
    is_other_cuda = (
        torch is not None
        and accelerator is not None
        and not is_same_major(accelerator, torch.accelerator)
    )
    return _Distance(
        _FAR_RULES.get(rejection.rule, 0),
        _machine_distance(machines, machine_of(environment.interpreter.platform)),
        is_other_python,
        _FAR_TORCH if is_unknown_torch else _torch_distance(candidate.built_for.torch, torch),
        is_other_cuda,
    )


def _machine_distance(machines: Collection[Tuple[str, str]], here: Tuple[str, str]) -> int:
    """0 for this machine or for any, 1 for the same operating system, 2 for another one."""
    if not machines or here in machines or (here[0] == "mac" and ("mac", "universal2") in machines):
        return 0
    return 1 if any(system == here[0] for system, _ in machines) else 2


def _torch_distance(built: Optional[str], torch: Optional[TorchBuild]) -> int:
    """How many minors the candidate's torch is away from the installed one; 0 where it is not
    known."""
    if torch is None or built is None:
        return 0
    here, release = torch_release(torch), parse_release(built)
    if release is None:
        return 0 if specifier_fits(built, here) else _FAR_TORCH
    return abs((release.major - here.major) * 20 + release.minor - here.minor)
