"""pip's installation report and our own pins x Environment -> Plan; says what a plan must not do.

The report's form is pip's "installation report" version 1 (pip.pypa.io/en/stable/reference/installation-report).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Container, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.health.requirements import new_sentences, unmet_requirements
from safe_install.models import (
    Action,
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    InstalledDistribution,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.resolve.requirements_file import Entry, parse_requirement
from safe_install.tags import parse_accelerator
from safe_install.torch_family import TORCH, is_guarded


def guarded_distributions(environment: Environment) -> Tuple[InstalledDistribution, ...]:
    """torch and its companions as they are installed; none where there is no torch to guard."""
    if TORCH not in environment.installed and environment.torch is None:
        return ()
    names = sorted(name for name in environment.installed if is_guarded(name))
    return tuple(environment.installed[name] for name in names)


def guard_constraints(environment: Environment, *, released: Container[NormalizedName]) -> Tuple[str, ...]:
    """Constraint lines with the full installed versions. `released`: names that may move, because they were asked for.

    The full version matters: `torch==1.8.1` would accept 1.8.1+cpu in place of 1.8.1+cu111.
    """
    lines = [
        f"{distribution.name}=={distribution.version}"
        for distribution in guarded_distributions(environment)
        if distribution.name not in released and _is_version(distribution.version)
    ]
    unknown = torch_without_metadata(environment)
    if unknown is not None and TORCH not in released and TORCH not in environment.installed:
        # Its files say 1.8.1+cu102, which the package index has as 1.8.1.
        lines.append(f"{TORCH}=={unknown.version.public}")
    return tuple(lines)


def torch_without_metadata(environment: Environment) -> Optional[TorchBuild]:
    """A torch that is imported and that pip does not know: it would put another one over it, or before it."""
    torch = environment.torch
    if torch is None or (TORCH in environment.installed and torch.has_metadata):
        return None
    return torch


def _foreign_torch(environment: Environment) -> Optional[str]:
    """What is imported as torch and has no metadata, in words; also a package that does not say its version."""
    unknown = torch_without_metadata(environment)
    if unknown is not None:
        where = f" in {unknown.folder}" if unknown.folder is not None else ""
        return f"torch {unknown.runtime_version}{where}"
    if environment.torch is not None or TORCH in environment.installed:
        return None
    packages = [place for place in environment.torch_places if place.files == "package"]
    return f"the torch in {packages[0].torch}" if packages else None


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def names_released(
    environment: Environment, *, named: Container[NormalizedName], allow_torch_change: bool
) -> Set[NormalizedName]:
    """The guarded names that may move: those named on the command line, and all of them when torch itself may move."""
    guarded = {distribution.name for distribution in guarded_distributions(environment)}
    if allow_torch_change or TORCH in named:
        return guarded | {TORCH}
    return {name for name in guarded if name in named}


def names_released_by(
    plan: Plan, environment: Environment, *, named: Container[NormalizedName], allow_torch_change: bool
) -> Set[NormalizedName]:
    """The guarded names that may move in this plan. Where torch was named and stays, nothing moves along with it."""
    torch = next((step for step in plan.steps if step.name == TORCH), None)
    is_moved = torch is not None and torch.version != torch.from_version
    released = names_released(environment, named=named, allow_torch_change=allow_torch_change)
    if allow_torch_change or is_moved or TORCH not in released:
        return released
    return {name for name in released if name in named}


# --- requirements that need no pip -----------------------------------------------------------------


def applies(requirement: Requirement, environment: Environment) -> bool:
    """Is the requirement's marker true for the managed interpreter?"""
    marker = requirement.marker
    return marker is None or bool(marker.evaluate({**environment.interpreter.markers, "extra": ""}))


def is_satisfied(requirement: Requirement, environment: Environment) -> bool:
    """Is it installed in a version that fits? Extras and URLs are never taken for satisfied: pip decides those."""
    found = environment.installed.get(canonicalize_name(requirement.name))
    if found is None or requirement.extras or requirement.url:
        return False
    try:
        return bool(requirement.specifier.contains(found.version, prereleases=True))
    except InvalidVersion:
        return False


def are_satisfied(texts: Iterable[str], environment: Environment, *, coming: Container[NormalizedName]) -> bool:
    """Are all these requirements met by what is installed or `coming`? An unreadable one counts as "no"."""
    for text in texts:
        requirement = parse_requirement(text)
        if requirement is None:
            return False
        if not applies(requirement, environment) or canonicalize_name(requirement.name) in coming:
            continue
        if not is_satisfied(requirement, environment):
            return False
    return True


# --- the plan --------------------------------------------------------------------------------------


def steps_of_pins(
    pins: Sequence[Candidate], environment: Environment, *, requested: Container[NormalizedName]
) -> Tuple[Step, ...]:
    """One step for each pin that is not installed as it is."""
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
                kind=pin.kind.value,
                requested=pin.name in requested,
                candidate=pin,
                requires=pin.requires,
            )
        )
    return tuple(steps)


def steps_of_report(
    report: Mapping[str, Any], environment: Environment, pins: Mapping[NormalizedName, Candidate]
) -> Tuple[Step, ...]:
    """One step for each entry of pip's installation report; entries that are our pins keep their real origin."""
    steps: List[Step] = []
    for entry in report.get("install", ()):
        metadata, download = entry["metadata"], entry.get("download_info") or {}
        name = canonicalize_name(metadata["name"])
        if any(step.name == name for step in steps):
            continue  # pip's legacy resolver lists a folder of sources twice
        pin = pins.get(name)
        step = _step(
            name,
            metadata["version"],
            environment,
            url=download.get("url"),
            sha256=_sha256(download),
            kind=_kind(download),
            requested=bool(entry.get("requested")),
            requires=tuple(metadata.get("requires_dist") or ()),
            download_info=download,
            is_direct=bool(entry.get("is_direct")),
            written_name=metadata["name"],
        )
        if pin is not None and pin.kind is not CandidateKind.INSTALLED:
            step = dataclasses.replace(
                step,
                url=pin.link.url,
                sha256=pin.link.sha256 or step.sha256,
                kind=pin.kind.value,
                candidate=pin,
                download_info=None,
                is_direct=False,
            )
        steps.append(step)
    return explained(tuple(steps))


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
    """pip's report has the sha256 of an address or a page, right or wrong; the person's own (`--hash`) is stronger.

    Of several it is not known which one is of this file: then it has none here, and is compared when it is fetched.
    """
    if not hashes or step.sha256 is None or step.sha256 in hashes or step.candidate is not None:
        return step
    if len(hashes) > 1:
        return dataclasses.replace(step, sha256=None) if step.kind == "wheel" else step
    info = dict(step.download_info or {})
    if "archive_info" in info:
        info["archive_info"] = {"hash": f"sha256={hashes[0]}", "hashes": {"sha256": hashes[0]}}
    return dataclasses.replace(step, sha256=hashes[0], download_info=info)


def beside_installed(steps: Tuple[Step, ...], environment: Environment) -> Tuple[Step, ...]:
    """The steps of `pip install --ignore-installed`: what is installed stays, as pip leaves it, if it is another
    version, or if nobody knows its files. torch, what moves with it and extensions are replaced all the same."""
    found = []
    for step in steps:
        installed = environment.installed.get(step.name)
        if (
            installed is not None
            and not is_guarded(step.name)
            and step.candidate is None
            and not (installed.has_record and installed.version == step.version)
        ):
            step = dataclasses.replace(step, action=Action.ADD, from_version=None)
        found.append(step)
    return tuple(found)


def _sha256(download: Mapping[str, Any]) -> Optional[str]:
    archive = download.get("archive_info") or {}
    found = (archive.get("hashes") or {}).get("sha256")
    if found is None and str(archive.get("hash", "")).startswith("sha256="):
        found = archive["hash"][len("sha256=") :]
    return found


def _kind(download: Mapping[str, Any]) -> str:
    if (download.get("dir_info") or {}).get("editable"):
        return "editable"
    return "wheel" if str(download.get("url", "")).split("#")[0].endswith(".whl") else "sdist"


def explained(steps: Tuple[Step, ...]) -> Tuple[Step, ...]:
    """Each step with its reason: requested, or the first other step that needs it."""
    wanted_by: Dict[NormalizedName, str] = {}
    for step in steps:
        for text in step.requires:
            name = requirement_name(text)
            if name is not None:
                wanted_by.setdefault(name, f"{step.name} {step.version} requires {_without_marker(text)}")
    return tuple(
        dataclasses.replace(
            step,
            because="requested" if step.requested else step.because or wanted_by.get(step.name, "dependency"),
        )
        for step in steps
    )


def requirement_name(text: str) -> Optional[NormalizedName]:
    """The project that a requirement's text names."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", text)
    return canonicalize_name(match.group(1)) if match else None


def _without_marker(text: str) -> str:
    return text.split(";")[0].strip().replace(" ", "")


# --- what a plan must not do -----------------------------------------------------------------------


def check_plan(plan: Plan, environment: Environment, *, released: Container[NormalizedName]) -> Tuple[Finding, ...]:
    """Errors that refuse the plan: it moves a guarded distribution, or brings a second torch."""
    findings: List[Finding] = []
    for step in plan.steps:
        if not is_guarded(step.name) or step.name in released:
            continue
        if step.name == TORCH and _foreign_torch(environment) is not None:
            findings.append(_refuse_second_torch(step, environment))
        elif TORCH in environment.installed and _is_moved(step, environment):
            findings.append(_refuse_move(step))
    return tuple(findings)


def _is_moved(step: Step, environment: Environment) -> bool:
    """Does a guarded distribution become another one? Of the same version only the files tell (see
    `same_version_steps`), but what is built anew is never the same."""
    if step.action is not Action.REPLACE:
        return False
    if step.version == step.from_version:
        return step.kind in ("sdist", "editable")
    return not _is_repair(step, environment)


def _is_repair(step: Step, environment: Environment) -> bool:
    """Does torch, or what moves with it, require the version that comes, and not the one that is there?"""
    if step.name == TORCH or step.version is None or step.from_version is None:
        return False
    for distribution in guarded_distributions(environment):
        for text in distribution.requires:
            requirement = parse_requirement(text)
            if requirement is None or canonicalize_name(requirement.name) != step.name:
                continue
            if applies(requirement, environment) and not _accepts(requirement, step.from_version):
                return _accepts(requirement, step.version)
    return False


def _accepts(requirement: Requirement, version: str) -> bool:
    try:
        return bool(requirement.specifier.contains(version, prereleases=True))
    except InvalidVersion:
        return False


def _refuse_move(step: Step) -> Finding:
    change = f"{step.name} {step.from_version} would become {step.version}"
    if step.version == step.from_version:
        change = f"{step.name} {step.version} would be replaced by one built from {step.url}"
    return Finding(
        _check_of(step.name),
        Severity.ERROR,
        str(step.name),
        f"{change}: {step.because}",
        "If that is what you want, permit it with --allow-torch-change."
        if step.requested
        else "Ask for a version that works with this torch, or permit the change with --allow-torch-change.",
    )


def _check_of(name: NormalizedName) -> str:
    return "torch-moved" if name == TORCH else "companion-moved"


def same_version_steps(plan: Plan, *, released: Container[NormalizedName]) -> Tuple[Step, ...]:
    """The guarded distributions that come again in the version that is there: their files must be the same."""
    return tuple(
        step
        for step in plan.steps
        if step.action is Action.REPLACE
        and is_guarded(step.name)
        and step.name not in released
        and step.version == step.from_version
    )


def refuse_other_files(step: Step, paths: Sequence[str]) -> Finding:
    """The error for a guarded distribution that comes in the same version with other files."""
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return Finding(
        _check_of(step.name),
        Severity.ERROR,
        str(step.name),
        f"{step.name} {step.version} would be replaced by other files of the same version ({shown}): {step.because}",
        f"Name {step.name} to replace it, or permit the change with --allow-torch-change.",
    )


@dataclasses.dataclass(frozen=True)
class AskedOfTorch:
    """What the person wrote about torch on the command line.

    What a requirements file, a constraint or pip's configuration says chooses among what the command line permits, and
    permits nothing itself.
    """

    texts: Tuple[str, ...] = ()  # requirements on torch
    places: Tuple[str, ...] = ()  # addresses of the indexes and pages that they named
    allow_change: bool = False  # --allow-torch-change

    def names_another(self, installed: Version) -> bool:
        """Did they write what the installed version is not: `torch<2.13`, but not `torch>=2.0`?"""
        return any(_excludes(text, installed) for text in self.texts)

    def names(self, accelerator: str) -> bool:
        """Did they write this very build: `torch==2.12.0+cu130`, or the index of its accelerator?"""
        # After a plus sign, or as a whole segment of a path: not `/cpu-images/simple`.
        name = re.escape(accelerator)
        written = re.compile(rf"\+{name}(?![a-z0-9])|/{name}(?=[/?#\s]|$)", re.IGNORECASE)
        return any(written.search(text.replace("%2B", "+")) for text in (*self.texts, *self.places))


def _excludes(text: str, version: Version) -> bool:
    """Is a requirement not met by this version? The address or the path of a file is another file."""
    requirement = parse_requirement(text)
    if requirement is None:
        return True
    return bool(requirement.url) or not requirement.specifier.contains(version, prereleases=True)


def who_excludes(torch: Version, steps: Sequence[Step], entries: Sequence[Entry]) -> str:
    """Whose requirement this version of torch does not meet, as a sentence; "" where it is nobody's."""
    for step in steps:
        for text in step.requires:
            if requirement_name(text) == TORCH and _excludes(text, torch):
                return f"{step.name} {step.version} requires {_without_marker(text)}"
    for entry in entries:
        if requirement_name(entry.text) == TORCH and entry.origin and _excludes(entry.text, torch):
            return f"{entry.origin}: {entry.text}"
    return ""


def check_torch_change(
    installed: Optional[TorchBuild], coming: Optional[TorchBuild], asked: AskedOfTorch, *, because: str = ""
) -> Tuple[Finding, ...]:
    """What a plan does to the kind of torch: another accelerator, or an older release that nobody named.

    Errors where it was not asked for, warnings where it was. Whoever names torch alone, or with a specifier that the
    installed one satisfies, permits a newer release; whoever names another release permits another CUDA too, because
    each release has its own on the package index. `because`: who wants it (see `who_excludes`).
    """
    if installed is None or coming is None:
        return ()
    findings = []
    is_older = Version(coming.version.public) < Version(installed.version.public)
    if is_older and not asked.names_another(installed.version) and not asked.allow_change:
        detail = f"torch {installed.runtime_version} would become the older {coming.runtime_version}"
        detail += f": {because}" if because else ""
        hint = f"If that is what you want, name the version: torch=={coming.version}."
        findings.append(Finding("torch-moved", Severity.ERROR, TORCH, detail, hint))
    if installed.accelerator and coming.accelerator and installed.accelerator != coming.accelerator:
        findings.append(_judge_accelerator(installed, coming, asked))
    return tuple(findings)


def _judge_accelerator(installed: TorchBuild, coming: TorchBuild, asked: AskedOfTorch) -> Finding:
    detail = (
        f"torch {installed.runtime_version} is a build for {installed.accelerator}, and torch {coming.runtime_version} "
        f"in its place is one for {coming.accelerator}"
    )
    is_near = asked.names_another(installed.version) and _kind_of(coming) == _kind_of(installed)
    if asked.allow_change or is_near or asked.names(coming.accelerator):
        return Finding("torch-accelerator", Severity.WARNING, TORCH, detail)
    same = f"{coming.version.public}+{installed.accelerator}"
    index = f"https://download.pytorch.org/whl/{installed.accelerator}"
    hint = (
        f"Ask for a build like the installed one: safe-install torch=={same} --index-url {index}, "
        "or permit the change with --allow-torch-change."
    )
    return Finding("torch-accelerator", Severity.ERROR, TORCH, detail, hint)


def _kind_of(torch: TorchBuild) -> str:
    """`cpu`, `cuda`, `rocm`; the accelerator itself where it is of no known kind."""
    accelerator = parse_accelerator(torch.accelerator)
    return accelerator.kind if accelerator is not None else torch.accelerator


def _refuse_second_torch(step: Step, environment: Environment) -> Finding:
    unknown = environment.torch
    version = unknown.version.public if unknown is not None else str(step.version)
    return Finding(
        "torch-without-metadata",
        Severity.ERROR,
        TORCH,
        f"{_foreign_torch(environment)} has no metadata (torch-*.dist-info): pip would install torch {step.version} "
        f"over it, because {step.because}",
        f"Install it again, files and metadata: safe-install --force-reinstall --no-deps torch=={version}, "
        "or leave out what is required: --no-deps.",
    )


def planned_distributions(plan: Plan, environment: Environment) -> Mapping[NormalizedName, InstalledDistribution]:
    """The installed distributions as they would be after the plan (versions and requirements only)."""
    after = dict(environment.installed)
    for step in plan.steps:
        if step.action is Action.REMOVE:
            after.pop(step.name, None)
            continue
        place = environment.interpreter.scheme.purelib
        after[step.name] = InstalledDistribution(
            step.name, step.version or "", place / step.name, place, requires=step.requires
        )
    return after


def kept_names(plan: Plan, environment: Environment) -> Set[NormalizedName]:
    """What was there before and is not touched."""
    touched = {step.name for step in plan.steps}
    return {name for name in environment.installed if name not in touched}


def needed_by_torch(environment: Environment) -> Set[NormalizedName]:
    """torch, and what it requires, itself or through others; without extras. Empty where torch is not installed."""
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


def newly_unmet(plan: Plan, environment: Environment) -> Tuple[str, ...]:
    """The requirements of what stays that are met now and would not be after the plan, as sentences."""
    markers = environment.interpreter.markers
    kept = kept_names(plan, environment)
    old = unmet_requirements(environment.installed, markers, of=kept)
    new = unmet_requirements(planned_distributions(plan, environment), markers, of=kept)
    return new_sentences(old, new)


# --- what pip said when it refused -----------------------------------------------------------------

_USER_CONSTRAINT = re.compile(r"The user requested \(constraint\) (\S+)")
_DEPENDS = re.compile(r"^\s+(\S+(?: \S+)?) depends on (\S.*)$", re.M)
_NO_VERSION = re.compile(r"(?:satisfies the requirement|No matching distribution found for) (\S+)")
_REQUESTED = re.compile(r"The user requested (?!\(constraint\))(\S.*)")


def conflict_reason(output: str, constraints: Sequence[str]) -> Optional[str]:
    """The sentence that names who wanted a guarded distribution moved, when pip's failure was one of our constraints.

    pip's resolver prints "The conflict is caused by:" with one line a party (unchanged since pip 20.3), or, when no
    version at all is left, "Could not find a version that satisfies the requirement".
    """
    guarded = {requirement_name(line): line for line in constraints}
    parties = [(who, what) for who, what in _DEPENDS.findall(output) if requirement_name(what) in guarded]
    if parties:
        told = []
        for who, what in parties:
            # pip joins two specifiers by a word: torch<2.1 and >=2.0
            sentence = f"{who} requires {_without_marker(what.replace(' and ', ','))}"
            if sentence not in told:
                told.append(sentence)
        name = requirement_name(parties[0][1])
        return f"{'; '.join(told[:3])}, but {guarded[name]} is installed"
    for line in _USER_CONSTRAINT.findall(output):
        name = requirement_name(line)
        if name in guarded:
            asked = [text for text in _REQUESTED.findall(output) if requirement_name(text) == name]
            return f"{asked[0] if asked else name} was wanted, but {guarded[name]} is installed"
    for text in _NO_VERSION.findall(output):
        if requirement_name(text) in guarded:
            return f"{text} was wanted, but {guarded[requirement_name(text)]} is installed"
    return None


_TELLING_LINE = re.compile(r"^(?:ERROR: (.*)|Collecting (\S+).*)$", re.M)


def names_in_failure(output: str, known: Container[NormalizedName]) -> Tuple[NormalizedName, ...]:
    """The projects of the wheel index that pip was collecting, or that its errors name, in order of appearance.

    Paths are no names: a folder called torchvision among the find-links says nothing.
    """
    found: List[NormalizedName] = []
    for error, collected in _TELLING_LINE.findall(output):
        for text in re.findall(r"(?<![/\w.-])[A-Za-z0-9][A-Za-z0-9._-]*(?![/\w])", error or collected):
            name = canonicalize_name(text)
            if name in known and name not in found:
                found.append(name)
    return tuple(found)
