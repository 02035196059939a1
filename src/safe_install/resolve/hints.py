"""One hint for a user for whose request nothing fits, chosen from the rejections and the hosts'
answers.

`choose_hint` is a pure function. Each advice looks at one project and returns a sentence, or ""
where it does not help; they are tried in order. Hosts are not mentioned where they could not change
the result (a version for another torch, a driver that torch's own CUDA does not run with).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Callable, Collection, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safe_install.index.facts import AcceleratorMatch, Project, TorchMatch
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    HostAnswer,
    HostAnswerKind,
    Rejection,
    Rule,
)
from safe_install.resolve.compatibility import Context
from safe_install.resolve.ranking import rank_fitting
from safe_install.resolve.target import is_elsewhere
from safe_install.tags import (
    container_of_name,
    container_of_version,
    parse_accelerator,
    parse_release,
    split_local,
)
from safe_install.torch_family import TORCH

PROGRAM = "safe-install"
_SHOWN = 3  # names in one sentence


class Asked(NamedTuple):
    """The request for one project, and its result."""

    context: Context
    candidates: Tuple[Candidate, ...] = ()
    rejections: Tuple[Rejection, ...] = ()
    answers: Tuple[HostAnswer, ...] = ()


Advice = Callable[[Asked], str]


def choose_hint(asked: Sequence[Asked]) -> str:
    """One sentence that begins with a capital letter and names the remedy."""
    for one in asked:
        if is_settled(one.context):
            return _first_advice((one,), _WHERE_NO_HOST_HELPS)
    return _first_advice(asked, _ADVICES) or _see_another_torch(asked)


def _first_advice(asked: Sequence[Asked], advices: Sequence[Advice]) -> str:
    for advice in advices:
        for one in asked:
            text = advice(one)
            if text:
                return text
    return ""


# --- could a host change the verdict? -------------------------------------------------------------


def is_settled(context: Context) -> bool:
    """Is it certain that nothing fits, whatever the hosts have?"""
    return is_pinned_elsewhere(context) or is_driver_too_old(context) or is_for_cuda_only(context)


def is_for_cuda_only(context: Context) -> bool:
    """Is torch a CPU build, and does the project have code for CUDA only?"""
    recipe, torch = context.project.recipe, context.environment.torch
    return (
        recipe is not None and recipe.cuda_only and torch is not None and torch.accelerator == "cpu"
    )


def is_pinned_elsewhere(context: Context) -> bool:
    """Is exactly one version requested that is known to be for another torch?"""
    return find_foreign_pin(context) is not None


def find_foreign_pin(context: Context) -> Optional[Tuple[str, SpecifierSet]]:
    """The exactly requested version that is for another torch, and that torch's versions."""
    release = _torch_release(context.environment)
    if release is None:
        return None
    for part in context.specifier:
        if part.operator != "==" or part.version.endswith(".*"):
            continue
        pin = _pin_of(context.project, part.version)
        if pin is not None and not pin.contains(release, prereleases=True):
            return part.version, pin
    return None


def is_driver_too_old(context: Context) -> bool:
    """Does torch itself not run with the declared driver? Then no wheel or build for it does."""
    environment, project = context.environment, context.project
    if project.accelerator_match is AcceleratorMatch.ANY or project.torch_match is TorchMatch.ANY:
        return False
    driver, torch = environment.driver, environment.torch
    return (
        driver is not None
        and driver.declared
        and torch is not None
        and not _runs(torch.accelerator, context)
    )


def _pin_of(project: Project, version: str) -> Optional[SpecifierSet]:
    return project.pin_of(Version(version))


def _torch_release(environment: Environment) -> Optional[Version]:
    return (
        parse_release(environment.torch.runtime_version) if environment.torch is not None else None
    )


def _floor(accelerator: str, context: Context) -> Optional[str]:
    system = context.environment.interpreter.system
    return context.catalog.cuda.driver_floor(accelerator, system=system)


def _runs(accelerator: str, context: Context) -> bool:
    """Does a build for this accelerator run with the driver, as far as that is known?"""
    driver, system = context.environment.driver, context.environment.interpreter.system
    return driver is None or not context.catalog.cuda.is_too_old(driver, accelerator, system=system)


# --- the advices ----------------------------------------------------------------------------------


def name_fitting_version(one: Asked) -> str:
    """The version to request in place of the given one."""
    context = one.context
    torch = context.environment.torch
    if not str(context.specifier) or torch is None:
        return ""
    name = context.project.name
    fitting = rank_fitting(one.candidates, replace(context, specifier=SpecifierSet()))
    if fitting:
        best = fitting[0]
        built = ", built from source" if best.kind is CandidateKind.SDIST else ""
        version = best.version.public
        command = f"{PROGRAM} {_torch_to_name(context.environment)}{name}=={version}"
        return f"Ask for the version that fits torch {torch.runtime_version}{built}: {command}"
    companion = companion_version(context)
    if companion is None:
        return ""
    hosts = _listed(silent_hosts(one.answers), "or")
    when = f" ({hosts} does not answer now)" if hosts else ""
    release = split_local(torch.runtime_version)[0]
    command = f"{PROGRAM} {_torch_to_name(context.environment)}{name}=={companion}"
    return f"Ask for the version that belongs to torch {release}{when}: {command}"


def _torch_to_name(environment: Environment) -> str:
    """The requirement on a torch that is still to come, which the offered command has to name, too;
    "" where it is installed."""
    torch, found = environment.torch, environment.installed.get(TORCH)
    is_there = bool(environment.torch_places) or is_elsewhere(environment)
    is_coming = found.is_planned if found is not None else not is_there
    return f"{TORCH}=={torch.version} " if torch is not None and is_coming else ""


def name_companion(one: Asked) -> str:
    """The version that was released with this torch: it exists, even where a silent host does not
    list it."""
    return name_fitting_version(one) if companion_version(one.context) is not None else ""


def companion_version(context: Context) -> Optional[str]:
    """The version of the project for the installed torch; None where it is not known."""
    release = _torch_release(context.environment)
    if release is None:
        return None
    known = context.catalog.torch.releases.get(str(release))
    if known is not None and context.project.name in known.companions:
        return known.companions[context.project.name]
    fitting = [
        version for version in context.project.pins if _belongs(context.project, version, release)
    ]
    return max(fitting, key=Version, default=None)


def _belongs(project: Project, version: str, release: Version) -> bool:
    pin = _pin_of(project, version)
    return pin is not None and pin.contains(release, prereleases=True)


def name_torch_of_version(one: Asked) -> str:
    """The torch that the requested version is for."""
    torch, pinned = one.context.environment.torch, find_foreign_pin(one.context)
    if torch is None or pinned is None:
        return ""
    if container_of_version(torch.runtime_version) is not None:
        return f"Keep the {one.context.project.name} of the container: public wheels belong to public builds of torch."
    version, pin = pinned
    return (
        f"Permit another torch with --allow-torch-change: {one.context.project.name} {version} "
        f"belongs to torch {str(pin).replace('==', '')}."
    )


def name_cuda_torch(one: Asked) -> str:
    """A project whose code is for CUDA only needs a torch for CUDA."""
    torch, name = one.context.environment.torch, one.context.project.name
    if torch is None or not is_for_cuda_only(one.context):
        return ""
    release = one.context.catalog.torch.releases.get(split_local(torch.runtime_version)[0])
    platform = one.context.environment.interpreter.platform
    builds = release.accelerators_on(platform) if release is not None else ()
    cuda = _newest_cuda(builds, one.context)
    return (
        f"Choose a torch for CUDA (--accelerator {cuda or 'cuNNN'} torch), or leave {name} out: it "
        f"has code for CUDA only, and torch {torch.runtime_version} is a build for the CPU."
    )


def name_driver(one: Asked) -> str:
    """The driver that is needed, and a torch that does not need it."""
    environment = one.context.environment
    driver, torch = environment.driver, environment.torch
    needed = [candidate.built_for.accelerator or "" for candidate in _rejected(one, Rule.DRIVER)]
    if driver is None or torch is None or not (needed or is_driver_too_old(one.context)):
        return ""
    floor = _floor(next(filter(None, needed), torch.accelerator), one.context)
    newer = f"driver {floor} or newer" if floor is not None else "a newer driver"
    built = {
        candidate.built_for.accelerator or "" for candidate in _rejected(one, Rule.ACCELERATOR)
    }
    other = torch_for_driver(one.context, preferred=built)
    if other is None:
        return f"Use {newer}."
    return f"Use {newer}, or a torch for an older CUDA, such as {other}, which runs with driver {driver.version}."


def torch_for_driver(context: Context, *, preferred: Collection[str] = ()) -> Optional[str]:
    """A public build of torch that runs with the driver: of the same release where there is one,
    else the newest.

    `preferred`: the accelerators that the project has wheels for.
    """
    torch, driver = context.environment.torch, context.environment.driver
    if torch is None or driver is None or driver.version is None:
        return None
    releases = context.catalog.torch.releases
    own = releases.get(split_local(torch.runtime_version)[0])
    newest_first = sorted(
        releases.values(), key=lambda release: Version(release.version), reverse=True
    )
    for release in [*([own] if own is not None else []), *newest_first]:
        builds = release.accelerators_on(context.environment.interpreter.platform)
        with_wheels = [name for name in builds if name in preferred]
        accelerator = _newest_cuda(with_wheels, context) or _newest_cuda(builds, context)
        if accelerator is not None:
            return f"{release.version}+{accelerator}"
    return None


def _newest_cuda(accelerators: Sequence[str], context: Context) -> Optional[str]:
    """The newest of these CUDA builds that runs with the driver; None where none does."""
    found: Dict[Tuple[int, ...], str] = {}
    for name in accelerators:
        accelerator = parse_accelerator(name)
        is_cuda = accelerator is not None and accelerator.kind == "cuda"
        if accelerator is not None and is_cuda and _floor(name, context) and _runs(name, context):
            found[accelerator.version] = name
    return found[max(found)] if found else None


def permit_build(one: Asked) -> str:
    """A source build would fit, and was forbidden."""
    if one.context.allow_build or one.context.project.recipe is None:
        return ""
    versions = [
        rejection.candidate.version
        for rejection in one.rejections
        if rejection.rule is Rule.NO_BUILD
    ]
    if not versions:
        return ""
    if one.context.is_elsewhere:
        return (
            f"Install {one.context.project.name} {max(versions)} on a machine of that kind, beside its "
            "torch, where it can be built; `export -o requirements.txt --wheels DIR` names its wheel."
        )
    hosts = _unasked(one)
    first = f"Leave --offline out to ask {hosts}, or leave" if hosts else "Leave"
    return (
        f"{first} {one.context.forbidden_by} out: {one.context.project.name} {max(versions)} "
        "can be built from source."
    )


def wait_for_host(one: Asked) -> str:
    """A host does not answer."""
    hosts = _listed(silent_hosts(one.answers), "or")
    return (
        f"Try again when {hosts} answers, or name a mirror with SAFE_INSTALL_MIRRORS."
        if hosts
        else ""
    )


def wait_for_known_wheel(one: Asked) -> str:
    """A wheel that fits is known, and its host does not answer."""
    return wait_for_host(one) if _rejected(one, Rule.HOST_DOWN) else ""


def ask_hosts(one: Asked) -> str:
    """Hosts were not asked, and the bundled facts do not list everything that they have."""
    hosts = _unasked(one)
    return f"Leave --offline out to ask {hosts}." if hosts else ""


def permit_pre_release(one: Asked) -> str:
    """Only a pre-release fits."""
    versions = _versions(one, Rule.PRE_RELEASE)
    return f"Add --pre to take the pre-release {max(versions)}." if versions else ""


def name_yanked(one: Asked) -> str:
    """Only a yanked version fits."""
    versions = _versions(one, Rule.YANKED)
    name = one.context.project.name
    return (
        f"Name a yanked version exactly to take it: {PROGRAM} {name}=={max(versions)}"
        if versions
        else ""
    )


def name_gpu(one: Asked) -> str:
    """No wheel has code for the GPU."""
    if not _versions(one, Rule.GPU_CODE):
        return ""
    return "Use a version whose wheels have code for this GPU, or build it from source for it (TORCH_CUDA_ARCH_LIST)."


def name_libc(one: Asked) -> str:
    """The wheels need another libc, or a newer one."""
    platforms = [tag.platform for candidate in _rejected(one, Rule.LIBC) for tag in candidate.tags]
    if not platforms:
        return ""
    if one.context.environment.interpreter.libc[0] == "musl":
        return "Use a system with glibc (Debian, Ubuntu, RHEL): these wheels are built on it."
    needed = [
        (int(found.group(1)), int(found.group(2)))
        for found in map(_MANYLINUX.match, platforms)
        if found
    ]
    if not needed:
        return ""
    return (
        f"Use a system with glibc {min(needed)[0]}.{min(needed)[1]} or newer: these wheels need it."
    )


_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_")


def name_python(one: Asked) -> str:
    """The wheels for this torch and this machine are for other Pythons."""
    platforms = {tag.platform for tag in one.context.environment.interpreter.tags}
    interpreters = {
        tag.interpreter
        for candidate in _rejected(one, Rule.PYTHON)
        for tag in candidate.tags
        if tag.platform in platforms
    }
    found = sorted(
        {(int(name[2]), int(name[3:])) for name in interpreters if re.match(r"cp3\d+$", name)}
    )
    if not found:
        return ""
    pythons = _listed([f"{major}.{minor}" for major, minor in reversed(found)], "or")
    return f"Use Python {pythons}: the wheels for this torch are for these."


def name_third_party(one: Asked) -> str:
    """The hosts that are asked only when they are named."""
    hosts = [answer.host for answer in one.answers if answer.kind is HostAnswerKind.LEFT_OUT]
    return f"Ask other builders too: --third-party {hosts[0]}." if hosts else ""


def name_accelerator(one: Asked) -> str:
    """The wheels for this torch are for other accelerators."""
    torch = one.context.environment.torch
    found = {candidate.built_for.accelerator for candidate in _rejected(one, Rule.ACCELERATOR)}
    accelerators = sorted(accelerator for accelerator in found if accelerator is not None)
    if torch is None or not accelerators:
        return ""
    release = split_local(torch.runtime_version)[0]
    return (
        f"Install another build of torch {release}: there are wheels for {_listed(accelerators)}."
    )


def name_abi(one: Asked) -> str:
    """The wheels have the other C++ ABI."""
    torch = one.context.environment.torch
    if torch is None or not _rejected(one, Rule.CXX11_ABI):
        return ""
    state = "off" if torch.cxx11_abi else "on"
    return f"Install a torch with the C++11 ABI {state}, or build from source against the one that is there."


def name_torch(one: Asked) -> str:
    """The wheels are for other releases of torch."""
    found = {candidate.built_for.torch or "" for candidate in _rejected(one, Rule.TORCH_VERSION)}
    releases = {text: parse_release(text) for text in found if container_of_name(text) is None}
    known = sorted((version, text) for text, version in releases.items() if version is not None)
    if not known:
        return ""
    newest_first = [text for _, text in reversed(known)]
    return f"Install torch {_listed(newest_first, 'or')}: {one.context.project.name} has wheels for it."


def name_platform(one: Asked) -> str:
    """The wheels are for other machines."""
    platforms = sorted(
        {tag.platform for candidate in _rejected(one, Rule.PLATFORM) for tag in candidate.tags}
    )
    here = one.context.environment.interpreter.platform
    return f"Use {_listed(platforms, 'or')}: there is no wheel for {here}." if platforms else ""


def _see_another_torch(asked: Sequence[Asked]) -> str:
    name = asked[0].context.project.name if asked else "PROJECT"
    return f"See what another torch would get: {PROGRAM} explain {name} --torch X.Y.Z+cuNNN"


# Nothing fits whatever the hosts have.
_WHERE_NO_HOST_HELPS: Tuple[Advice, ...] = (
    name_cuda_torch,
    name_driver,
    name_fitting_version,
    name_torch_of_version,
)
_ADVICES: Tuple[Advice, ...] = (
    wait_for_known_wheel,
    name_companion,
    permit_build,
    wait_for_host,
    ask_hosts,
    name_fitting_version,
    name_driver,
    permit_pre_release,
    name_yanked,
    name_gpu,
    name_libc,
    name_python,
    name_accelerator,
    name_abi,
    name_third_party,
    name_torch,
    name_platform,
)


def _rejected(one: Asked, rule: Rule) -> List[Candidate]:
    return [rejection.candidate for rejection in one.rejections if rejection.rule is rule]


def _versions(one: Asked, rule: Rule) -> List[Version]:
    return [candidate.version for candidate in _rejected(one, rule)]


def _unasked(one: Asked) -> str:
    """The hosts that were not asked and may have more than the bundled facts know."""
    return _listed([a.host for a in one.answers if a.kind is HostAnswerKind.NOT_ASKED and a.gap])


def silent_hosts(answers: Iterable[HostAnswer]) -> Tuple[str, ...]:
    """The hosts that did not answer, each once."""
    down = [answer.host for answer in answers if answer.kind is HostAnswerKind.DOWN]
    return tuple(dict.fromkeys(down))


def _listed(names: Sequence[str], last: str = "and") -> str:
    """`a, b and c`; of more than three only the first ones."""
    names = list(dict.fromkeys(names))[:_SHOWN]
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
