"""Which builds of torch may be installed, in order of preference, and why not the others? Pure.

A build is a release for an accelerator. Each release has one on the package index (`untagged` in
torch.json); the others are on the pages of download.pytorch.org, with the accelerator in their
local version.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safe_install.index.facts import Catalog, CudaTable, TorchRelease, TorchTable
from safe_install.models import (
    Driver,
    Environment,
    Finding,
    Interpreter,
    Severity,
    TorchBuild,
)
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_change import AskedOfTorch, check_torch_change, kind_of
from safe_install.resolve.torch_fit import Misfit, find_misfits, unused_gpu
from safe_install.resolve.torch_places import Places
from safe_install.resolve.torch_reason import Reason, predicate
from safe_install.tags import parse_accelerator, parse_release

# Machines without any wheel of torch, on pypi.org or download.pytorch.org.
_WITHOUT_BUILDS = ("linux_i686", "linux_armv6l", "linux_armv7l", "win32")
_LAST_FOR_INTEL_MACS = Version("2.2.2")


@dataclass(frozen=True)
class TorchTerms:
    """Which torch may be installed, by requirements, constraints and options."""

    requirements: Tuple[Requirement, ...] = ()  # on torch, of the command line and of files
    constraints: Tuple[Requirement, ...] = ()  # on torch
    pre: bool = False
    asked: AskedOfTorch = field(default_factory=AskedOfTorch)
    accelerator: str = ""  # that was asked for; "": the driver decides
    origin: str = ""  # the option or variable that names it; "": a requirement does
    places: Places = field(default_factory=Places)  # where pip looks for it

    def ask_for(self, build: TorchBuild) -> bool:
        """Is this the requested accelerator? True also where the driver decides."""
        return bool(self.accelerator) or self.asked.names(build.accelerator)


class Exclusion(enum.Enum):
    """Why a build may not be installed."""

    PYTHON = "python"
    PLATFORM = "platform"
    BUILD = "build"  # the release has none for this accelerator
    ACCELERATOR = "accelerator"  # another one was asked for
    DRIVER = "driver"  # the declared one, or the declared GPU
    PRE_RELEASE = "pre-release"
    REQUIREMENT = "requirement"
    CONSTRAINT = "constraint"
    INSTALLED = (
        "installed"  # it would be older than the installed torch, or for another accelerator
    )


# Excluded by the user's own options and requirements: with others it would be permitted.
BY_THE_PERSON = frozenset({Exclusion.PRE_RELEASE, Exclusion.REQUIREMENT, Exclusion.CONSTRAINT})


@dataclass(frozen=True)
class TorchOption:
    """A torch that could be installed after the change."""

    build: TorchBuild  # where pip has not named it: the one in the wheel index
    excluded: Optional[Exclusion] = None
    reason: Optional[Reason] = None  # why it may not come, or would not run
    # it is permitted, but would not run with the driver or GPU of this machine: the whole sentence
    warning: str = ""
    remedy: str = ""  # what to do where it does not run, as a sentence
    is_installed: bool = False
    # does pip find it on its own indexes? Else it is on download.pytorch.org
    is_on_index: bool = True
    # only --allow-torch-change permits it; a build like the installed one is preferred
    is_for_another_accelerator: bool = False
    needed_driver: str = ""  # the oldest that would do, where the declared one excludes it

    @property
    def release(self) -> str:
        """`2.13.0`."""
        return self.build.version.public

    @property
    def version(self) -> str:
        """`2.13.0+cu126`, and `2.13.0` for the build on the package index."""
        return str(self.build.version)


def rank_torches(
    planned: Optional[TorchBuild],
    terms: TorchTerms,
    here: Environment,
    catalog: Catalog,
    *,
    is_fixed: bool = False,
) -> Tuple[TorchOption, ...]:
    """The possible builds in order of preference; each that is excluded has its reason.

    Builds that run with the driver and GPU of this machine come first, then newer releases. Within
    a release: the installed build, what pip takes from its indexes, what that hides there from pip,
    then the others. `planned`: what the installer chose; it is the newest that pip may take; None:
    it was not asked. `is_fixed`: the user named the exact file.
    """
    found_by_pip = _locals_found_by_pip(planned, terms, here)
    options = [
        _judge(
            build,
            terms,
            here,
            catalog,
            is_planned=build == planned,
            is_fixed=is_fixed,
            is_on_index=build.version.local in found_by_pip or build == here.torch,
        )
        for build in _find_builds(planned, terms, here, catalog)
    ]
    options.sort(key=_order_in_release)
    options.sort(key=lambda option: Version(option.release), reverse=True)
    options.sort(key=lambda option: bool(option.warning))
    return tuple(options)


def _find_builds(
    planned: Optional[TorchBuild], terms: TorchTerms, here: Environment, catalog: Catalog
) -> List[TorchBuild]:
    """The builds of the wheel index, newest release first, with the planned and the installed one;
    each version once."""
    builds: Dict[str, TorchBuild] = {}
    releases = sorted(
        catalog.torch.releases.values(), key=lambda one: Version(one.version), reverse=True
    )
    for release in releases:
        for build in _builds_of(release, planned, terms, here, catalog):
            builds.setdefault(str(build.version), build)
    if planned is not None:
        builds[str(planned.version)] = planned
    installed = here.torch
    if installed is not None and _is_older(installed, planned):
        # The package index has the same build without a local version.
        builds = {
            version: build
            for version, build in builds.items()
            if build.runtime_version != installed.runtime_version
        }
        builds[str(installed.version)] = installed
    return list(builds.values())


def _order_in_release(option: TorchOption) -> Tuple[bool, bool, bool]:
    return (
        not option.is_installed,
        option.is_for_another_accelerator,
        not option.is_on_index,
    )


def _is_older(build: TorchBuild, planned: Optional[TorchBuild]) -> bool:
    return planned is None or Version(build.version.public) < Version(planned.version.public)


def _builds_of(
    release: TorchRelease,
    planned: Optional[TorchBuild],
    terms: TorchTerms,
    here: Environment,
    catalog: Catalog,
) -> List[TorchBuild]:
    """The builds of a release that the installer did not pass over, those on its own indexes
    first."""
    if planned is not None and Version(release.version) > Version(planned.version.public):
        return []
    own = _locals_found_by_pip(planned, terms, here)
    others = _other_accelerators(release, planned, terms, here, catalog.cuda)
    texts = [
        f"{release.version}+{local}" if local else release.version for local in (*own, *others)
    ]
    return [planned_torch(text, here.interpreter.platform, catalog.torch) for text in texts]


def _locals_found_by_pip(
    planned: Optional[TorchBuild], terms: TorchTerms, here: Environment
) -> Tuple[Optional[str], ...]:
    """The local versions of the builds on pip's own indexes, by its plan; None stands for PyPI's
    own builds."""
    if planned is None:
        return (None,)
    if hides_package_index(planned, terms, here):
        return (planned.version.local, None)
    return (planned.version.local,)


def hides_package_index(planned: TorchBuild, terms: TorchTerms, here: Environment) -> bool:
    """Does a build with a local version (`2.13.0+cpu`, from a folder of wheels) hide PyPI's own
    build from pip? The one with the local version counts as newer.

    False where the user meant it: asked for it, or named an index for its accelerator. pip's
    configuration counts only where no torch is installed.
    """
    is_beside = planned.version.local is not None and terms.places.have_package_index
    if not is_beside or not planned.accelerator or terms.asked.names(planned.accelerator):
        return False
    return here.torch is not None or not terms.places.name(planned.accelerator)


def _other_accelerators(
    release: TorchRelease,
    planned: Optional[TorchBuild],
    terms: TorchTerms,
    here: Environment,
    cuda: CudaTable,
) -> List[str]:
    """The accelerators whose builds on download.pytorch.org are of interest, in order of
    preference.

    The requested one, else that of the installed torch, else CUDA where there is a driver. An index
    with local versions only counts as one for the requested accelerator.
    """
    platform = here.interpreter.platform
    own_locals = _locals_found_by_pip(planned, terms, here)
    if platform.startswith("macosx"):
        return []  # it has one build for each release
    if terms.accelerator:
        found = [terms.accelerator]
    elif None not in own_locals:
        found = []
    elif here.torch is not None:
        found = [here.torch.accelerator] if here.torch.accelerator else []
    else:
        names = release.accelerators_on(platform)
        found = _cuda_builds(names, here.driver, cuda) if here.driver is not None else []
    # For its own accelerator the package index has the same builds as download.pytorch.org.
    found_by_pip = [local or release.untagged_on(platform) for local in own_locals]
    if _names_local_version(terms):
        return list(found)  # only a version with that local part meets `torch==2.13.0+cu130`
    return [name for name in found if name not in found_by_pip]


def _names_local_version(terms: TorchTerms) -> bool:
    specifiers = [
        specifier
        for one in (*terms.requirements, *terms.constraints)
        for specifier in one.specifier
    ]
    return any("+" in specifier.version for specifier in specifiers)


def _cuda_builds(accelerators: Sequence[str], driver: Driver, cuda: CudaTable) -> List[str]:
    """The CUDA builds: those that the driver supports, newest first; then the others, oldest first.

    A driver also runs newer runtimes of its CUDA's major version (NVIDIA: minor version
    compatibility).
    """
    served = parse_release(driver.cuda or cuda.cuda_of_driver(driver.version or "") or "")
    versions: Dict[str, Version] = {}
    for name in accelerators:
        accelerator = parse_accelerator(name)
        if accelerator is not None and accelerator.kind == "cuda":
            versions[name] = Version(".".join(map(str, accelerator.version)))
    names = sorted(versions, key=versions.__getitem__)
    full = [name for name in names if served is not None and versions[name] <= served]
    return full[::-1] + [name for name in names if name not in full]


def _judge(
    build: TorchBuild,
    terms: TorchTerms,
    here: Environment,
    catalog: Catalog,
    *,
    is_planned: bool = False,
    is_fixed: bool = False,
    is_on_index: bool = True,
) -> TorchOption:
    is_installed = build == here.torch
    misfit = None if is_installed else _find_misfit(build, here, catalog)
    reasons: Dict[Exclusion, Reason] = {}
    if not is_planned and not is_installed:
        reasons.update(_missing_builds(build, here.interpreter, catalog.torch))
    reasons.update(_another_accelerator(build, terms))
    if misfit is not None and misfit.finding.severity is Severity.ERROR:
        reasons[Exclusion.DRIVER] = misfit.reason
    if not is_planned:
        reasons.update(_forbidden_by_the_person(build, terms, is_fixed=is_fixed))
    reasons.update(_step_back(build, terms, here))
    is_unlike = _is_unlike_installed(build, terms, here)
    excluded = next(iter(reasons), None)
    if excluded is None:
        warning, reason = _find_warning(build, terms, here, misfit, is_unlike=is_unlike)
    else:
        warning, reason = "", reasons[excluded]
    is_about_driver = excluded in (None, Exclusion.DRIVER)
    needed_driver = ""
    if excluded is Exclusion.DRIVER and misfit is not None:
        needed_driver = _needed_driver(misfit.finding, build, here, catalog.cuda)
    return TorchOption(
        build,
        excluded,
        reason,
        warning=warning,
        remedy=_remedy(misfit.finding) if is_about_driver and misfit is not None else "",
        is_installed=is_installed,
        is_on_index=is_on_index,
        is_for_another_accelerator=is_unlike,
        needed_driver=needed_driver,
    )


def _needed_driver(fit: Finding, build: TorchBuild, here: Environment, cuda: CudaTable) -> str:
    """The oldest driver that would do; "" where the driver is not what excludes it."""
    if fit.check != "driver-too-old":
        return ""
    return cuda.driver_floor(build.accelerator, system=here.interpreter.system) or ""


def _find_misfit(build: TorchBuild, here: Environment, catalog: Catalog) -> Optional[Misfit]:
    """Why it does not run here; None where nothing is known against it."""
    misfits = find_misfits(build, here.driver, here.interpreter, catalog=catalog)
    return misfits[0] if misfits else None


def _find_warning(
    build: TorchBuild,
    terms: TorchTerms,
    here: Environment,
    misfit: Optional[Misfit],
    *,
    is_unlike: bool,
) -> Tuple[str, Optional[Reason]]:
    """What speaks against a build that may come: the whole sentence, and the reason. `is_unlike`:
    it is for another accelerator than the installed one."""
    if misfit is not None:
        return misfit.finding.detail, misfit.reason
    reason = None if terms.ask_for(build) else unused_gpu(build, here)
    if reason is None and is_unlike:
        reason = _other_kind(build, here)
    if reason is None:
        return "", None
    return reason.about(f"torch {build.runtime_version}"), reason


def _remedy(fit: Finding) -> str:
    """What to do about a GPU or driver that does not fit; a newer driver is one way."""
    if fit.check != "driver-too-old":
        return fit.hint
    return f"Use a newer driver, or {fit.hint[:1].lower()}{fit.hint[1:]}"


def newest_on_index(options: Sequence[TorchOption], terms: TorchTerms) -> Optional[TorchBuild]:
    """The torch that the installer would plan, as far as that is known from the wheel index and the
    user's options."""
    for option in sorted(options, key=lambda one: Version(one.release), reverse=True):
        forbidden = _forbidden_by_the_person(option.build, terms, is_fixed=False)
        if option.is_on_index and option.excluded is not Exclusion.PYTHON and not forbidden:
            return option.build
    return None


def judge_planned(
    build: TorchBuild, terms: TorchTerms, here: Environment, catalog: Catalog
) -> TorchOption:
    """The installer's torch as an option. pip has applied requirements and constraints already."""
    return _judge(build, terms, here, catalog, is_planned=True)


def is_acceptable(
    build: TorchBuild, terms: TorchTerms, here: Environment, catalog: Catalog
) -> bool:
    """May the installer's torch be installed as it is: not excluded, and it runs on the target?"""
    option = judge_planned(build, terms, here, catalog)
    is_meant = not option.is_for_another_accelerator
    return option.excluded is None and not option.warning and is_meant


def _is_unlike_installed(build: TorchBuild, terms: TorchTerms, here: Environment) -> bool:
    """Is it for another accelerator than the installed one, permitted only by
    --allow-torch-change?"""
    asked = terms.asked
    if not asked.allow_change or terms.accelerator or asked.names(build.accelerator):
        return False
    changes = check_torch_change(here.torch, build, asked)
    return any(change.check == "torch-accelerator" for change in changes)


def _other_kind(build: TorchBuild, here: Environment) -> Optional[Reason]:
    """That it is for another kind of accelerator than the installed torch; None for another CUDA,
    as each release has its own on the package index."""
    if here.torch is None or kind_of(build) == kind_of(here.torch):
        return None
    return _unlike(build, here.torch)


def _unlike(build: TorchBuild, installed: TorchBuild) -> Reason:
    return predicate(
        f"is a build for {build.accelerator}, and the installed one is for {installed.accelerator}"
    )


def _missing_builds(
    build: TorchBuild, interpreter: Interpreter, table: TorchTable
) -> Mapping[Exclusion, Reason]:
    """Does the release have no wheel for this Python, machine or accelerator? With the reason."""
    release = table.releases[build.version.public]
    python = ".".join(interpreter.version.split(".")[:2])
    if python not in release.python:
        return {Exclusion.PYTHON: predicate(f"has no wheel for Python {python}")}
    if not _is_published(build.version, interpreter):
        return {Exclusion.PLATFORM: predicate(f"has no wheel for {interpreter.platform}")}
    if not interpreter.platform.startswith("linux_"):
        return {}  # accelerators are known for the builds for Linux only
    if build.version.local:
        is_there = build.accelerator in release.accelerators_on(interpreter.platform)
        missing = f"has no build for {build.accelerator or build.version.local}"
    else:
        is_there = release.untagged is not None
        missing = "is not on the package index"
    return {} if is_there else {Exclusion.BUILD: predicate(missing)}


def _is_published(version: Version, interpreter: Interpreter) -> bool:
    platform = interpreter.platform
    if interpreter.libc[0] == "musl" or platform in _WITHOUT_BUILDS:
        return False
    is_intel_mac = platform.startswith("macosx") and platform.endswith("x86_64")
    return not is_intel_mac or Version(version.public) <= _LAST_FOR_INTEL_MACS


def _another_accelerator(build: TorchBuild, terms: TorchTerms) -> Mapping[Exclusion, Reason]:
    if not terms.accelerator or build.accelerator == terms.accelerator:
        return {}
    kind = (
        f"a build for {build.accelerator}"
        if build.accelerator
        else "not known to be a build for it"
    )
    return {Exclusion.ACCELERATOR: predicate(f"is {kind}; {terms.accelerator} was asked for")}


def _forbidden_by_the_person(
    build: TorchBuild, terms: TorchTerms, *, is_fixed: bool
) -> Mapping[Exclusion, Reason]:
    if is_fixed:
        return {Exclusion.REQUIREMENT: predicate("is not the file that was named")}
    for kind, requirements in (
        (Exclusion.REQUIREMENT, terms.requirements),
        (Exclusion.CONSTRAINT, terms.constraints),
    ):
        for requirement in requirements:
            if requirement.url or not requirement.specifier.contains(
                build.version, prereleases=True
            ):
                return {kind: predicate(f"is excluded by {requirement}")}
    if build.version.is_prerelease and not _permits_pre_releases(terms):
        return {Exclusion.PRE_RELEASE: predicate("is a pre-release, which --pre permits")}
    return {}


def _permits_pre_releases(terms: TorchTerms) -> bool:
    """--pre, or a requirement on a pre-release (PEP 440)."""
    specifiers = SpecifierSet()
    for requirement in (*terms.requirements, *terms.constraints):
        specifiers &= requirement.specifier
    return terms.pre or bool(specifiers.prereleases)


def _step_back(
    build: TorchBuild, terms: TorchTerms, here: Environment
) -> Mapping[Exclusion, Reason]:
    """A request for torch permits a newer one, but no older one and no other accelerator."""
    installed = here.torch
    for finding in check_torch_change(installed, build, terms.asked):
        if finding.severity is not Severity.ERROR or installed is None:
            continue
        reason = predicate(f"is older than the installed {installed.runtime_version}")
        if finding.check == "torch-accelerator":
            reason = _unlike(build, installed)
        return {Exclusion.INSTALLED: reason}
    return {}
