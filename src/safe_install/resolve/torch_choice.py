"""Which torch may come, where not every extension has a wheel for the one that the installer planned? Pure.

The installer takes the newest torch that it finds. Here the releases that may come are put in order, and each of the
others has its reason. Which of them has a wheel of every extension, `pipeline.joint_choice` asks.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.index.facts import Catalog, TorchRelease, TorchTable
from safe_install.models import Candidate, Environment, Finding, Interpreter, Rejection, Severity, TorchBuild
from safe_install.pip_output import conflict_reason
from safe_install.requirements import parse_requirement
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_change import AskedOfTorch, check_torch_change
from safe_install.resolve.torch_fit import check_torch
from safe_install.torch_family import TORCH

# Machines for which nobody publishes torch: neither pypi.org nor download.pytorch.org has a wheel.
_WITHOUT_BUILDS = ("linux_i686", "linux_armv6l", "linux_armv7l", "win32")
_LAST_FOR_INTEL_MACS = Version("2.2.2")


# For which extensions is a wheel known (True), known to be missing (False), or neither (None)?
Known = Mapping[NormalizedName, Optional[bool]]


@dataclass(frozen=True)
class TorchTerms:
    """What the person says about which torch may come."""

    requirements: Tuple[Requirement, ...] = ()  # on torch, of the command line and of files
    constraints: Tuple[Requirement, ...] = ()  # on torch
    pre: bool = False
    asked: AskedOfTorch = field(default_factory=AskedOfTorch)


class Exclusion(enum.Enum):
    """Why a release may not come."""

    PYTHON = "python"
    PLATFORM = "platform"
    BUILD = "build"  # none for this accelerator
    DRIVER = "driver"  # the declared one, or the declared GPU
    PRE_RELEASE = "pre-release"
    REQUIREMENT = "requirement"
    CONSTRAINT = "constraint"
    INSTALLED = "installed"  # it would be a step back from the installed torch


# By the person's own words: another word of theirs would permit it.
BY_THE_PERSON = frozenset({Exclusion.PRE_RELEASE, Exclusion.REQUIREMENT, Exclusion.CONSTRAINT})


@dataclass(frozen=True)
class TorchOption:
    """A torch that could be there after the change."""

    build: TorchBuild  # of a release that pip was not asked for: as the wheel index supposes it
    excluded: Optional[Exclusion] = None
    reason: str = ""  # why it may not come
    warning: str = ""  # it may come, and would not run with the driver or on the GPU that is here
    is_installed: bool = False

    @property
    def release(self) -> str:
        """`2.13.0`."""
        return self.build.version.public


@dataclass(frozen=True)
class PassedOver:
    """A torch that was not taken, and why."""

    build: TorchBuild
    reason: str
    by_installer: bool = False  # it has every extension, and pip found no plan with it

    @property
    def release(self) -> str:
        """`2.14.1`."""
        return self.build.version.public


@dataclass(frozen=True)
class TorchChoice:
    """How the torch that comes was chosen."""

    planned: Optional[TorchBuild] = None  # by the installer, when nothing held it
    is_fixed: bool = False  # the person named its file
    is_assumed: bool = False  # the one that comes is ours: the installer has not named its build yet
    keeps_installed: bool = False  # the installed one stays, because no newer one has every extension
    passed_over: Tuple[PassedOver, ...] = ()
    rejections: Tuple[Rejection, ...] = ()  # of wheels, for those


def pass_over(choice: TorchChoice, passed: PassedOver, rejections: Sequence[Rejection] = ()) -> TorchChoice:
    """With a torch that is not taken, and with the wheels that were rejected for it."""
    return replace(choice, passed_over=(*choice.passed_over, passed), rejections=(*choice.rejections, *rejections))


def merge_rejections(choice: TorchChoice, pins: Sequence[Candidate], own: Sequence[Rejection]) -> Tuple[Rejection, ...]:
    """Those of this choice, then those of the torches that were passed over; each file once, and none that is taken."""
    seen = {pin.link.url for pin in pins} | {rejection.candidate.link.url for rejection in own}
    merged = list(own)
    for rejection in choice.rejections:
        if rejection.candidate.link.url not in seen:
            seen.add(rejection.candidate.link.url)
            merged.append(rejection)
    return tuple(merged)


NO_SUCH_TORCH = "the package index has no such torch"


def why_impossible(torch: TorchBuild, output: str) -> str:
    """Why pip found no plan with a torch that we chose; "" where that torch is not the reason. `output`: pip's."""
    reason = conflict_reason(output, [f"torch=={torch.version.public}"])
    if reason is None:
        return ""
    wish, _, _ = reason.partition(", but torch==")
    if " requires " in wish:
        return wish
    requirement = parse_requirement(wish.partition(" was wanted")[0])
    if requirement is None or requirement.specifier.contains(torch.version, prereleases=True):
        return NO_SUCH_TORCH
    return wish


def rank_torches(
    planned: TorchBuild, terms: TorchTerms, here: Environment, catalog: Catalog, *, is_fixed: bool = False
) -> Tuple[TorchOption, ...]:
    """The torch that the installer planned and all older ones, in order of preference; each excluded one with why.

    Those that run with the driver and on the GPU that is here come before those that do not, a newer release before an
    older one. The installer found nothing newer that it may take. `is_fixed`: the person named the very file.
    """
    builds = _older_builds(planned, here, catalog.torch)
    options = [_judge(planned, terms, here, catalog, is_planned=True)]
    options += [_judge(build, terms, here, catalog, is_fixed=is_fixed) for build in builds]
    options.sort(key=lambda option: Version(option.release), reverse=True)
    options.sort(key=lambda option: bool(option.warning))
    return tuple(options)


def _older_builds(planned: TorchBuild, here: Environment, table: TorchTable) -> List[TorchBuild]:
    """The older releases of the wheel index, each for the accelerator of the planned one, and the installed torch."""
    builds: Dict[Version, TorchBuild] = {}
    for release in table.releases.values():
        version = Version(release.version)
        if version < Version(planned.version.public):
            builds[version] = _assume_build(release, planned, here.interpreter, table)
    installed = here.torch
    if installed is not None and Version(installed.version.public) < Version(planned.version.public):
        builds[Version(installed.version.public)] = installed
    return list(builds.values())


def _assume_build(
    release: TorchRelease, planned: TorchBuild, interpreter: Interpreter, table: TorchTable
) -> TorchBuild:
    """The build that the same index has of another release: with a local version where the planned one has one."""
    local = planned.version.local
    text = f"{release.version}+{local}" if local else release.version
    return planned_torch(text, interpreter.platform, table)


def _judge(
    build: TorchBuild,
    terms: TorchTerms,
    here: Environment,
    catalog: Catalog,
    *,
    is_planned: bool = False,
    is_fixed: bool = False,
) -> TorchOption:
    is_installed = build == here.torch
    findings = () if is_installed else check_torch(build, here.driver, here.interpreter, catalog=catalog)
    fit = findings[0] if findings else None
    reasons: Dict[Exclusion, str] = {}
    if not is_planned and not is_installed:
        reasons.update(_missing_builds(build, here.interpreter, catalog.torch))
    if fit is not None and fit.severity is Severity.ERROR:
        reasons[Exclusion.DRIVER] = fit.detail
    if not is_planned:
        reasons.update(_forbidden_by_the_person(build, terms, is_fixed=is_fixed))
        reasons.update(_step_back(build, terms, here))
    if reasons:
        excluded, reason = next(iter(reasons.items()))
        return TorchOption(build, excluded, reason, is_installed=is_installed)
    return TorchOption(build, warning=fit.detail if fit is not None else "", is_installed=is_installed)


def _missing_builds(build: TorchBuild, interpreter: Interpreter, table: TorchTable) -> Mapping[Exclusion, str]:
    """Has the release a wheel for this Python, this machine, this accelerator?"""
    release = table.releases[build.version.public]
    python = ".".join(interpreter.version.split(".")[:2])
    if python not in release.python:
        return {Exclusion.PYTHON: f"torch {release.version} has no wheel for Python {python}"}
    if not _is_published(build.version, interpreter):
        return {Exclusion.PLATFORM: f"torch {release.version} has no wheel for {interpreter.platform}"}
    if not interpreter.platform.startswith("linux_"):
        return {}  # which accelerators there are is known of the builds for Linux
    if build.version.local:
        is_there = build.accelerator in release.accelerators
        missing = f"torch {release.version} has no build for {build.accelerator or build.version.local}"
    else:
        is_there = release.untagged is not None
        missing = f"torch {release.version} is not on the package index"
    return {} if is_there else {Exclusion.BUILD: missing}


def _is_published(version: Version, interpreter: Interpreter) -> bool:
    platform = interpreter.platform
    if interpreter.libc[0] == "musl" or platform in _WITHOUT_BUILDS:
        return False
    is_intel_mac = platform.startswith("macosx") and platform.endswith("x86_64")
    return not is_intel_mac or Version(version.public) <= _LAST_FOR_INTEL_MACS


def _forbidden_by_the_person(build: TorchBuild, terms: TorchTerms, *, is_fixed: bool) -> Mapping[Exclusion, str]:
    name = f"torch {build.version}"
    if is_fixed:
        return {Exclusion.REQUIREMENT: f"{name} is not the file that was named"}
    for kind, requirements in (
        (Exclusion.REQUIREMENT, terms.requirements),
        (Exclusion.CONSTRAINT, terms.constraints),
    ):
        for requirement in requirements:
            if requirement.url or not requirement.specifier.contains(build.version, prereleases=True):
                return {kind: f"{name} is excluded by {requirement}"}
    if build.version.is_prerelease and not _permits_pre_releases(terms):
        return {Exclusion.PRE_RELEASE: f"{name} is a pre-release, which --pre permits"}
    return {}


def _permits_pre_releases(terms: TorchTerms) -> bool:
    """--pre, or a requirement that names one (PEP 440)."""
    specifiers = SpecifierSet()
    for requirement in (*terms.requirements, *terms.constraints):
        specifiers &= requirement.specifier
    return terms.pre or bool(specifiers.prereleases)


def _step_back(build: TorchBuild, terms: TorchTerms, here: Environment) -> Mapping[Exclusion, str]:
    """Naming torch permits a newer one, never an older one nor another accelerator."""
    for finding in check_torch_change(here.torch, build, terms.asked):
        if finding.severity is Severity.ERROR:
            return {Exclusion.INSTALLED: finding.detail}
    return {}


# --- what is said of it ----------------------------------------------------------------------------


def note_choice(
    choice: TorchChoice, taken: Optional[TorchBuild], extensions: Iterable[NormalizedName]
) -> Tuple[Finding, ...]:
    """Why the newest torch was not taken, as one line; nothing where it was. `taken`: the one that will be there."""
    if not choice.passed_over or taken is None:
        return ()
    newest = max(choice.passed_over, key=lambda one: Version(one.release))
    if Version(newest.release) <= Version(taken.version.public):
        return ()
    remedy = f"{taken.version} stays" if choice.keeps_installed else f"{taken.version} has {join_all(extensions)}"
    detail = f"torch {newest.release}: {newest.reason}; {remedy}"
    return (Finding("older-torch", Severity.NOTE, TORCH, detail),)


def join_all(names: Iterable[str]) -> str:
    """`torch-scatter`, or `all of torch-scatter, torch-sparse`."""
    found = list(names)
    return f"all of {', '.join(found)}" if len(found) > 1 else "".join(found)


def hint_to_permit(option: TorchOption, requirements: Sequence[Requirement]) -> str:
    """What to write for a torch that has every extension and that only the person's words exclude."""
    names = join_all(canonicalize_name(requirement.name) for requirement in requirements)
    if option.excluded is Exclusion.CONSTRAINT:
        return f"Permit torch {option.release}, which has {names}: {option.reason}."
    flag = "--pre " if option.excluded is Exclusion.PRE_RELEASE else ""
    words = " ".join(_quoted(requirement) for requirement in requirements)
    return f"Ask for torch {option.release}, which has {names}: safe-install {flag}torch=={option.release} {words}"


def hint_to_leave_out(options: Sequence[TorchOption], known: Mapping[str, Known]) -> str:
    """The newest torch that has the most extensions, and those that hold it back; "" where none has any.

    `known`: by release.
    """
    most = 0
    text = ""
    for option in options:
        answers = known[option.release]
        there = [name for name, is_known in answers.items() if is_known]
        missing = [name for name, is_known in answers.items() if not is_known]
        if missing and len(there) > most:
            most = len(there)
            text = f"Without {', '.join(missing)}: torch {option.release} has {join_all(there)}."
    return text


def _quoted(requirement: Requirement) -> str:
    text = str(requirement)
    return f"'{text}'" if set(text) & set("<>;! ~*[") else text
