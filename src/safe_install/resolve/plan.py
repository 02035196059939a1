"""pip's installation report and our own pins -> the steps of a plan, and the environment after it.

The report has pip's "installation report" version 1
(pip.pypa.io/en/stable/reference/installation-report).
"""

from __future__ import annotations

import dataclasses
from typing import (
    Any,
    Container,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from safe_install import requirements
from safe_install.health.requirements import new_unmet, unmet_requirements
from safe_install.models import (
    Action,
    Candidate,
    CandidateKind,
    Environment,
    InstalledDistribution,
    Origin,
    Plan,
    Step,
    UnmetRequirement,
)
from safe_install.pip_output import DownloadInfo, InstallationReport, ReportEntry
from safe_install.requirements import parse_requirement, requirement_name, without_marker
from safe_install.torch_family import TORCH, is_guarded

# --- requirements that need no pip ----------------------------------------------------------------


def applies(requirement: Requirement, environment: Environment, extras: Iterable[str] = ()) -> bool:
    """Is the requirement's marker true for the managed interpreter, with one of these extras?"""
    return requirements.applies(requirement, environment.interpreter.markers, extras)


def is_satisfied(requirement: Requirement, environment: Environment) -> bool:
    """Is a fitting version installed? False for a requirement with extras or a URL: pip decides
    those."""
    found = environment.installed.get(canonicalize_name(requirement.name))
    if found is None or requirement.extras or requirement.url:
        return False
    return requirements.accepts(requirement, found.version)


def are_satisfied(
    texts: Iterable[str], environment: Environment, *, coming: Container[NormalizedName]
) -> bool:
    """Are all these requirements met by what is installed or `coming`? False for one that cannot be
    parsed."""
    for text in texts:
        requirement = parse_requirement(text)
        if requirement is None:
            return False
        if not applies(requirement, environment) or canonicalize_name(requirement.name) in coming:
            continue
        if not is_satisfied(requirement, environment):
            return False
    return True


# --- the plan -------------------------------------------------------------------------------------


def steps_of_pins(
    pins: Sequence[Candidate], environment: Environment, *, requested: Container[NormalizedName]
) -> Tuple[Step, ...]:
    """One step for each pin that is not installed already."""
    steps = []
    for pin in pins:
        if pin.kind is CandidateKind.INSTALLED:
            continue
        steps.append(
            _step(
                pin.name,
                str(pin.version),
                environment,
                url=pin.link.url,
                sha256=pin.link.sha256,
                origin=Origin(pin.kind.value),
                requested=pin.name in requested,
                candidate=pin,
                requires=pin.requires,
            )
        )
    return tuple(steps)


def steps_of_report(
    report: InstallationReport, environment: Environment, pins: Mapping[NormalizedName, Candidate]
) -> Tuple[Step, ...]:
    """One step for each entry of pip's installation report. For our own pins, the step has the real
    origin."""
    steps: Dict[NormalizedName, Step] = {}
    for entry in report.get("install", ()):
        step = _step_of_entry(entry, environment)
        if step.name in steps:
            continue  # pip's legacy resolver lists a folder of sources twice
        pin = pins.get(step.name)
        if pin is not None and pin.kind is not CandidateKind.INSTALLED:
            step = _with_candidate(step, pin)
        steps[step.name] = step
    return explained(tuple(steps.values()), environment)


def _step_of_entry(entry: ReportEntry, environment: Environment) -> Step:
    metadata, download = entry["metadata"], entry.get("download_info") or {}
    return _step(
        canonicalize_name(metadata["name"]),
        metadata["version"],
        environment,
        url=download.get("url"),
        sha256=sha256_of(download),
        origin=_origin(download),
        requested=bool(entry.get("requested")),
        extras=tuple(entry.get("requested_extras") or ()),
        requires=tuple(metadata.get("requires_dist") or ()),
        download_info=download,
        is_direct=bool(entry.get("is_direct")),
        written_name=metadata["name"],
    )


def _with_candidate(step: Step, pin: Candidate) -> Step:
    """The step with the file that we chose; pip saw a copy of it on this machine."""
    return dataclasses.replace(
        step,
        url=pin.link.url,
        sha256=pin.link.sha256 or step.sha256,
        origin=Origin(pin.kind.value),
        candidate=pin,
        download_info=None,
        is_direct=False,
    )


def _step(name: NormalizedName, version: str, environment: Environment, **fields: Any) -> Step:
    installed = environment.installed.get(name)
    return Step(
        Action.ADD if installed is None else Action.REPLACE,
        name,
        version,
        from_version=installed.version if installed else None,
        **fields,
    )


def with_own_hash(step: Step, hashes: Sequence[str]) -> Step:
    """The step with the hash that the user gave (`--hash`) in place of that in pip's report.

    With several hashes it is not known which one is of this file: the step has none, and the hash
    is compared after fetching.
    """
    if not hashes or step.sha256 is None or step.sha256 in hashes or step.candidate is not None:
        return step
    if len(hashes) > 1:
        return dataclasses.replace(step, sha256=None) if step.origin is Origin.WHEEL else step
    info = dict(step.download_info or {})
    if "archive_info" in info:
        info["archive_info"] = {"hash": f"sha256={hashes[0]}", "hashes": {"sha256": hashes[0]}}
    return dataclasses.replace(step, sha256=hashes[0], download_info=info)


def beside_installed(steps: Tuple[Step, ...], environment: Environment) -> Tuple[Step, ...]:
    """The steps of `pip install --ignore-installed`: as in pip, an installed distribution stays
    where it is another version, or where its files are not known. torch, its companions and
    extensions are replaced all the same; one without a RECORD is overwritten by the same version
    and so gets one."""
    found = []
    for step in steps:
        installed = environment.installed.get(step.name)
        if installed is not None and _stays_beside(step, installed):
            step = dataclasses.replace(step, action=Action.ADD, from_version=None)
        found.append(step)
    return tuple(found)


def _stays_beside(step: Step, installed: InstalledDistribution) -> bool:
    is_same = installed.version == step.version
    if is_guarded(step.name) or step.candidate is not None:
        return is_same and not installed.has_record
    return not (is_same and installed.has_record)


def sha256_of(download: DownloadInfo) -> Optional[str]:
    """The hash of a file in pip's report; older pips write it in another form."""
    archive = download.get("archive_info") or {}
    found = (archive.get("hashes") or {}).get("sha256")
    if found is None and str(archive.get("hash", "")).startswith("sha256="):
        found = archive["hash"][len("sha256=") :]
    return found


def _origin(download: DownloadInfo) -> Origin:
    if (download.get("dir_info") or {}).get("editable"):
        return Origin.EDITABLE
    if "vcs_info" in download:
        return Origin.REPOSITORY
    is_wheel = str(download.get("url", "")).split("#")[0].endswith(".whl")
    return Origin.WHEEL if is_wheel else Origin.SDIST


def explained(
    steps: Tuple[Step, ...],
    environment: Environment,
    others: Optional[Mapping[NormalizedName, str]] = None,
) -> Tuple[Step, ...]:
    """The steps, each with its reason: "requested", or the first step that requires it.

    `others`: the reasons of steps that nothing requires.
    """
    is_open = any(not step.because and not step.requested for step in steps)
    reasons = dict(others or {})
    if is_open:
        reasons.update(find_requirers(steps, environment))
    found = []
    for step in steps:
        because = step.because or reasons.get(step.name, "dependency")
        if step.requested:
            because = "requested"
        found.append(dataclasses.replace(step, because=because))
    return tuple(found)


def find_requirers(steps: Sequence[Step], environment: Environment) -> Mapping[NormalizedName, str]:
    """For each name that a step requires the first such step: `base 1.0 requires torch>=2.14`; of
    what is replaced the first one that excludes the version that goes, where one does.

    The requirements of an extra count where the extra is requested or required.
    """
    by_name = {step.name: step for step in steps}
    extras: Dict[NormalizedName, FrozenSet[str]] = {}  # of the steps that were looked at
    found: Dict[NormalizedName, str] = {}
    excluding: Dict[NormalizedName, str] = {}
    # What was not requested and nothing here requires, something installed requires.
    for root in sorted(steps, key=lambda step: not step.requested):
        if root.name in extras:
            continue
        extras[root.name] = frozenset(root.extras)
        waiting = [root]
        while waiting:
            step = waiting.pop(0)
            for text, requirement in _active_requirements(step, extras[step.name], environment):
                name = canonicalize_name(requirement.name)
                because = f"{step.name} {step.version} requires {without_marker(text)}"
                found.setdefault(name, because)
                old = by_name[name].from_version if name in by_name else None
                if old and not requirements.accepts(requirement, old):
                    excluding.setdefault(name, because)
                asked = extras.get(name, frozenset()) | requirement.extras
                if name in by_name and extras.get(name) != asked:
                    extras[name] = asked
                    waiting.append(by_name[name])
    return {**found, **excluding}


def _active_requirements(
    step: Step, extras: FrozenSet[str], environment: Environment
) -> Iterator[Tuple[str, Requirement]]:
    """The requirements of a step with these extras, each as its text and parsed. Those that cannot
    be parsed are left out."""
    for text in step.requires:
        requirement = parse_requirement(text)
        if requirement is not None and applies(requirement, environment, extras):
            yield text, requirement


def make_removal(distribution: InstalledDistribution, because: str) -> Step:
    """The step that removes a distribution."""
    return Step(
        Action.REMOVE,
        distribution.name,
        None,
        from_version=distribution.version,
        because=because,
    )


# --- after the plan -------------------------------------------------------------------------------


def planned_distributions(
    plan: Plan, environment: Environment
) -> Mapping[NormalizedName, InstalledDistribution]:
    """The installed distributions after the plan (versions and requirements only)."""
    after = dict(environment.installed)
    for step in plan.steps:
        if step.action is Action.REMOVE:
            after.pop(step.name, None)
            continue
        place = environment.interpreter.scheme.purelib
        after[step.name] = InstalledDistribution(
            step.name,
            step.version or "",
            place / step.name,
            place,
            requires=step.requires,
            is_planned=True,
        )
    return after


def steps_of_torch(steps: Sequence[Step]) -> Tuple[Step, ...]:
    """torch and its direct and indirect requirements among these steps. Empty without torch.

    Markers and extras are not evaluated: a plan has no step for a requirement that does not apply.
    """
    by_name = {step.name: step for step in steps}
    found: List[Step] = []
    waiting = [TORCH]
    while waiting:
        step = by_name.pop(waiting.pop(), None)
        if step is None:
            continue
        found.append(step)
        names = [requirement_name(text) for text in step.requires]
        waiting += [name for name in names if name is not None]
    return tuple(found)


def coming_steps(plan: Plan) -> Tuple[Step, ...]:
    """The steps that install files."""
    return tuple(step for step in plan.steps if step.action is not Action.REMOVE)


def removed_names(plan: Plan) -> FrozenSet[NormalizedName]:
    """The distributions that are removed and not replaced."""
    return frozenset(step.name for step in plan.steps if step.action is Action.REMOVE)


def kept_names(plan: Plan, environment: Environment) -> Set[NormalizedName]:
    """The distributions that the plan does not touch."""
    touched = {step.name for step in plan.steps}
    return {name for name in environment.installed if name not in touched}


def needed_by_torch(environment: Environment) -> Set[NormalizedName]:
    """torch and its direct and indirect requirements, without extras. Empty without torch."""
    found: Set[NormalizedName] = set()
    waiting = [TORCH]
    while waiting:
        distribution = environment.installed.get(waiting.pop())
        if distribution is None or distribution.name in found:
            continue
        found.add(distribution.name)
        for text in distribution.requires:
            requirement = parse_requirement(text)
            if requirement is not None and applies(requirement, environment):
                waiting.append(canonicalize_name(requirement.name))
    return found


def newly_unmet(plan: Plan, environment: Environment) -> Tuple[UnmetRequirement, ...]:
    """The requirements of distributions that stay, which are met now and would not be after the
    plan."""
    values = environment.interpreter.markers
    kept = kept_names(plan, environment)
    old = unmet_requirements(environment.installed, values, of=kept)
    new = unmet_requirements(planned_distributions(plan, environment), values, of=kept)
    return new_unmet(old, new)
