"""Which builds of torch may come, in order of preference, and why each other one may not? Pure.

A build is a release for an accelerator. Each release has one on the package index (torch.json calls
it `untagged`), and others on the pages of download.pytorch.org, whose local version names their
accelerator.
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

# Machines for which nobody publishes torch: neither pypi.org nor download.pytorch.org has a wheel.
_WITHOUT_BUILDS = ("linux_i686", "linux_armv6l", "linux_armv7l", "win32")
_LAST_FOR_INTEL_MACS = Version("2.2.2")


@dataclass(frozen=True)
class TorchTerms:
    """What the person says about which torch may come."""

    requirements: Tuple[Requirement, ...] = ()  # on torch, of the command line and of files
    constraints: Tuple[Requirement, ...] = ()  # on torch
    pre: bool = False
    asked: AskedOfTorch = field(default_factory=AskedOfTorch)
    accelerator: str = ""  # that was asked for; "": the driver decides
    origin: str = ""  # who asked for it: an option, a variable; "": a requirement
    places: Places = field(default_factory=Places)  # where pip looks for it

    def ask_for(self, build: TorchBuild) -> bool:
        """Did they name this accelerator, or the driver does not decide?"""
        return bool(self.accelerator) or self.asked.names(build.accelerator)


class Exclusion(enum.Enum):
    """Why a build may not come."""

    PYTHON = "python"
    PLATFORM = "platform"
    BUILD = "build"  # the release has none for this accelerator
    ACCELERATOR = "accelerator"  # another one was asked for
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

    build: TorchBuild  # where pip did not name it: as the wheel index supposes it
    excluded: Optional[Exclusion] = None
    reason: str = ""  # why it may not come
    warning: str = ""  # it may come, and would not run with the driver or on the GPU that is here
    remedy: str = ""  # what to do where it does not run, as a sentence
    is_installed: bool = False
    # does pip find it where it looks anyway? Else it lies on download.pytorch.org
    is_on_index: bool = True
    # --allow-torch-change permits it, and a build like the installed one comes before it
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
    """The builds that could come, in order of preference; each that may not come with why.

    Those that run with the driver and on the GPU that is here come before those that do not, a
    newer release before an older one; of one release what is installed, then what pip takes from
    its places, then what that hides from it there, then the others. `planned`: what the installer
    chose; it found nothing newer that it may take. None: it was not asked. `is_fixed`: the person
    named the very file.
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
    """The builds of a release that the installer did not pass over, those in its own places
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
    """The local versions of the builds in pip's own places, as far as its plan says; None: PyPI's
    own builds have none."""
    if planned is None:
        return (None,)
    if hides_package_index(planned, terms, here):
        return (planned.version.local, None)
    return (planned.version.local,)


def hides_package_index(planned: TorchBuild, terms: TorchTerms, here: Environment) -> bool:
    """Does a build with a local version (`2.13.0+cpu`, of a folder of wheels) hide PyPI's own build
    of that release from pip, to which the local version is the higher one?

    Not where the person meant it: asked for it, or named a place for its accelerator. Pip's
    configuration names one for a new torch, and none in place of the installed one.
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
    """The accelerators of the builds on download.pytorch.org that may be wanted, in order of
    preference.

    The one that was asked for, else that of the installed torch, else CUDA where there is a driver.
    A place with local versions is one for an accelerator that the person named, where it does not
    lie beside the package index.
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
    # Of the builds for one accelerator the package index has the same as the other pages.
    found_by_pip = [local or release.untagged_on(platform) for local in own_locals]
    if _names_local_version(terms):
        return list(found)  # no version without a local one meets `torch==2.13.0+cu130`
    return [name for name in found if name not in found_by_pip]


def _names_local_version(terms: TorchTerms) -> bool:
    specifiers = [
        specifier
        for one in (*terms.requirements, *terms.constraints)
        for specifier in one.specifier
    ]
    return any("+" in specifier.version for specifier in specifiers)


def _cuda_builds(accelerators: Sequence[str], driver: Driver, cuda: CudaTable) -> List[str]:
    """Those that the driver serves fully, newest first; then the others, oldest first.

    A driver starts newer runtimes of its CUDA's major version, too; that is called minor version
    compatibility.
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
    """Where a driver is too old, a newer one helps, too."""
    if fit.check != "driver-too-old":
        return fit.hint
    return f"Use a newer driver, or {fit.hint[:1].lower()}{fit.hint[1:]}"


def without_name(reason: str, option: TorchOption) -> str:
    """Why a build does not come, without its name before it, and without the list of what its files
    hold."""
    for version in (option.build.runtime_version, option.version, option.release):
        name = f"torch {version} "
        if reason.startswith(name):
            return reason[len(name) :]
    return reason.partition(f": torch {option.build.runtime_version} has ")[0]


def newest_on_index(options: Sequence[TorchOption], terms: TorchTerms) -> Optional[TorchBuild]:
    """The torch that the installer would plan, by what is known of its index and of the words of
    the person."""
    for option in sorted(options, key=lambda one: Version(one.release), reverse=True):
        forbidden = _forbidden_by_the_person(option.build, terms, is_fixed=False)
        if option.is_on_index and option.excluded is not Exclusion.PYTHON and not forbidden:
            return option.build
    return None


def judge_planned(
    build: TorchBuild, terms: TorchTerms, here: Environment, catalog: Catalog
) -> TorchOption:
    """The torch that the installer planned, which has seen the requirements and the constraints
    itself."""
    return _judge(build, terms, here, catalog, is_planned=True)


def is_acceptable(
    build: TorchBuild, terms: TorchTerms, here: Environment, catalog: Catalog
) -> bool:
    """May the torch that the installer planned come as it is: nothing excludes it, and it runs here
    or there?"""
    option = judge_planned(build, terms, here, catalog)
    is_meant = not option.is_for_another_accelerator
    return option.excluded is None and not option.warning and is_meant


def _is_unlike_installed(build: TorchBuild, terms: TorchTerms, here: Environment) -> bool:
    """Is it for another accelerator than the installed one, by --allow-torch-change alone?"""
    asked = terms.asked
    if not asked.allow_change or terms.accelerator or asked.names(build.accelerator):
        return False
    changes = check_torch_change(here.torch, build, asked)
    return any(change.check == "torch-accelerator" for change in changes)


def _other_kind(build: TorchBuild, here: Environment) -> str:
    """Another CUDA is a small step, as each release has its own on the package index; "" for one."""
    if here.torch is None or kind_of(build) == kind_of(here.torch):
        return ""
    return (
        f"torch {build.runtime_version} is a build for {build.accelerator}, and the installed one "
        f"is for {here.torch.accelerator}"
    )


def _missing_builds(
    build: TorchBuild, interpreter: Interpreter, table: TorchTable
) -> Mapping[Exclusion, str]:
    """Has the release a wheel for this Python, this machine, this accelerator?"""
    release = table.releases[build.version.public]
    python = ".".join(interpreter.version.split(".")[:2])
    if python not in release.python:
        return {Exclusion.PYTHON: f"torch {release.version} has no wheel for Python {python}"}
    if not _is_published(build.version, interpreter):
        return {
            Exclusion.PLATFORM: f"torch {release.version} has no wheel for {interpreter.platform}"
        }
    if not interpreter.platform.startswith("linux_"):
        return {}  # which accelerators there are is known of the builds for Linux
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
    """--pre, or a requirement that names one (PEP 440)."""
    specifiers = SpecifierSet()
    for requirement in (*terms.requirements, *terms.constraints):
        specifiers &= requirement.specifier
    return terms.pre or bool(specifiers.prereleases)


def _step_back(build: TorchBuild, terms: TorchTerms, here: Environment) -> Mapping[Exclusion, str]:
    """Naming torch permits a newer one, never an older one nor another accelerator."""
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
