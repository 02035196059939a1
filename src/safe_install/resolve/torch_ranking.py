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

from safe_install.index.facts import Catalog, CudaTable, TorchRelease, TorchTable, parse_release
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
from safe_install.resolve.torch_fit import check_torch, unused_gpu
from safe_install.resolve.torch_places import Places
from safe_install.tags import parse_accelerator

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
    reason: str = ""  # why it may not come
    warning: str = ""  # it is permitted, but would not run with the driver or GPU of this machine
    remedy: str = ""  # what to do where it does not run, as a sentence
    is_installed: bool = False
    # does pip find it on its own indexes? Else it is on download.pytorch.org
    is_on_index: bool = True
    # only --allow-torch-change permits it; a build like the installed one is preferred
    is_for_another_accelerator: bool = False

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
    builds: Dict[str, TorchBuild] = {}
    found_by_pip = _locals_found_by_pip(planned, terms, here)
    for release in sorted(
        catalog.torch.releases.values(), key=lambda one: Version(one.version), reverse=True
    ):
        for build in _builds_of(release, planned, terms, here, catalog):
            builds.setdefault(str(build.version), build)
    if planned is not None:
        builds[str(planned.version)] = planned
    if here.torch is not None and _is_older(here.torch, planned):
        # The package index has the same build without a local version.
        same = [
            version
            for version, build in builds.items()
            if build.runtime_version == here.torch.runtime_version
        ]
        for version in same:
            del builds[version]
        builds[str(here.torch.version)] = here.torch
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
        for build in builds.values()
    ]
    options.sort(key=_order_in_release)
    options.sort(key=lambda option: Version(option.release), reverse=True)
    options.sort(key=lambda option: bool(option.warning))
    return tuple(options)


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
    findings = (
        () if is_installed else check_torch(build, here.driver, here.interpreter, catalog=catalog)
    )
    fit = findings[0] if findings else None
    reasons: Dict[Exclusion, str] = {}
    if not is_planned and not is_installed:
        reasons.update(_missing_builds(build, here.interpreter, catalog.torch))
    reasons.update(_another_accelerator(build, terms))
    if fit is not None and fit.severity is Severity.ERROR:
        reasons[Exclusion.DRIVER] = fit.detail
    if not is_planned:
        reasons.update(_forbidden_by_the_person(build, terms, is_fixed=is_fixed))
    reasons.update(_step_back(build, terms, here))
    excluded, reason = next(iter(reasons.items()), (None, ""))
    is_unlike = _is_unlike_installed(build, terms, here)
    warning = fit.detail if fit is not None else ""
    if not warning and not terms.ask_for(build):
        warning = unused_gpu(build, here)
    warning = warning or (_other_kind(build, here) if is_unlike else "")
    is_about_driver = excluded in (None, Exclusion.DRIVER)
    return TorchOption(
        build,
        excluded,
        reason,
        warning="" if excluded is not None else warning,
        remedy=_remedy(fit) if is_about_driver and fit is not None else "",
        is_installed=is_installed,
        is_on_index=is_on_index,
        is_for_another_accelerator=is_unlike,
    )


def _remedy(fit: Finding) -> str:
    """What to do about a GPU or driver that does not fit; a newer driver is one way."""
    if fit.check != "driver-too-old":
        return fit.hint
    return f"Use a newer driver, or {fit.hint[:1].lower()}{fit.hint[1:]}"


def without_name(reason: str, option: TorchOption) -> str:
    """The reason without the build's name at its beginning, and without the list of what its files
    hold."""
    for version in (option.build.runtime_version, option.version, option.release):
        name = f"torch {version} "
        if reason.startswith(name):
            return reason[len(name) :]
    return reason.partition(f": torch {option.build.runtime_version} has ")[0]


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


def _other_kind(build: TorchBuild, here: Environment) -> str:
    """A warning on another kind of accelerator than the installed torch's; "" for another CUDA, as
    each release has its own on the package index."""
    if here.torch is None or kind_of(build) == kind_of(here.torch):
        return ""
    return (
        f"torch {build.runtime_version} is a build for {build.accelerator}, and the installed one "
        f"is for {here.torch.accelerator}"
    )


def _missing_builds(
    build: TorchBuild, interpreter: Interpreter, table: TorchTable
) -> Mapping[Exclusion, str]:
    """Does the release have no wheel for this Python, machine or accelerator? With the reason."""
    release = table.releases[build.version.public]
    python = ".".join(interpreter.version.split(".")[:2])
    if python not in release.python:
        return {Exclusion.PYTHON: f"torch {release.version} has no wheel for Python {python}"}
    if not _is_published(build.version, interpreter):
        return {
            Exclusion.PLATFORM: f"torch {release.version} has no wheel for {interpreter.platform}"
        }
    if not interpreter.platform.startswith("linux_"):
        return {}  # accelerators are known for the builds for Linux only
    if build.version.local:
        is_there = build.accelerator in release.accelerators_on(interpreter.platform)
        missing = (
            f"torch {release.version} has no build for {build.accelerator or build.version.local}"
        )
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


def _another_accelerator(build: TorchBuild, terms: TorchTerms) -> Mapping[Exclusion, str]:
    if not terms.accelerator or build.accelerator == terms.accelerator:
        return {}
    kind = (
        f"a build for {build.accelerator}"
        if build.accelerator
        else "not known to be a build for it"
    )
    return {
        Exclusion.ACCELERATOR: f"torch {build.version} is {kind}; {terms.accelerator} was asked for"
    }


def _forbidden_by_the_person(
    build: TorchBuild, terms: TorchTerms, *, is_fixed: bool
) -> Mapping[Exclusion, str]:
    name = f"torch {build.version}"
    if is_fixed:
        return {Exclusion.REQUIREMENT: f"{name} is not the file that was named"}
    for kind, requirements in (
        (Exclusion.REQUIREMENT, terms.requirements),
        (Exclusion.CONSTRAINT, terms.constraints),
    ):
        for requirement in requirements:
            if requirement.url or not requirement.specifier.contains(
                build.version, prereleases=True
            ):
                return {kind: f"{name} is excluded by {requirement}"}
    if build.version.is_prerelease and not _permits_pre_releases(terms):
        return {Exclusion.PRE_RELEASE: f"{name} is a pre-release, which --pre permits"}
    return {}


def _permits_pre_releases(terms: TorchTerms) -> bool:
    """--pre, or a requirement on a pre-release (PEP 440)."""
    specifiers = SpecifierSet()
    for requirement in (*terms.requirements, *terms.constraints):
        specifiers &= requirement.specifier
    return terms.pre or bool(specifiers.prereleases)


def _step_back(build: TorchBuild, terms: TorchTerms, here: Environment) -> Mapping[Exclusion, str]:
    """A request for torch permits a newer one, but no older one and no other accelerator."""
    installed = here.torch
    for finding in check_torch_change(installed, build, terms.asked):
        if finding.severity is not Severity.ERROR or installed is None:
            continue
        reason = f"torch {build.version} is older than the installed {installed.runtime_version}"
        if finding.check == "torch-accelerator":
            reason = (
                f"torch {build.version} is a build for {build.accelerator}, and the installed one "
                f"is for {installed.accelerator}"
            )
        return {Exclusion.INSTALLED: reason}
    return {}
