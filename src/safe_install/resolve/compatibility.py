"""Does a candidate fit? One function for each rule.

A rule takes a candidate and a context, and returns why it rejects the candidate, or None.
`check_candidate` asks the rules in order; the first one that rejects decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, FrozenSet, Optional, Tuple
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from safe_install.index.bundled import FOUND_IN
from safe_install.index.facts import (
    AcceleratorMatch,
    Catalog,
    Project,
    TorchMatch,
    TorchTable,
)
from safe_install.index.pages import YANKED_WITHOUT_REASON
from safe_install.models import Candidate, CandidateKind, Environment, Rejection, Rule, TorchBuild
from safe_install.resolve.machine_tags import same_machine, supported_tags
from safe_install.tags import (
    container_of_name,
    container_of_version,
    is_same_major,
    parse_accelerator,
    parse_device_capabilities,
    parse_release,
    split_local,
)


@dataclass(frozen=True)
class Context:
    """What the rules compare a candidate with."""

    project: Project
    environment: Environment
    catalog: Catalog
    specifier: SpecifierSet = field(default_factory=SpecifierSet)
    pre: bool = False
    allow_build: bool = True
    forbidden_by: str = "--no-build"  # the option, where building is not allowed
    is_elsewhere: bool = False  # for a machine, or a torch, that is not here: no option permits it
    hosts_down: FrozenSet[str] = frozenset()  # host names as in URLs


RuleFunction = Callable[[Candidate, Context], Optional[str]]


def check_candidate(candidate: Candidate, context: Context) -> Optional[Rejection]:
    """The first rule that rejects the candidate, or None when it fits."""
    for rule, reject in RULES:
        detail = reject(candidate, context)
        if detail is not None:
            return Rejection(candidate, rule, detail)
    return None


# --- what was asked for ---------------------------------------------------------------------------


def reject_specifier(candidate: Candidate, context: Context) -> Optional[str]:
    """The version was not asked for."""
    if context.specifier.contains(candidate.version, prereleases=True):
        return None
    return f"{candidate.version} is not {context.specifier}"


def reject_pre_release(candidate: Candidate, context: Context) -> Optional[str]:
    """A pre-release without --pre."""
    asked = context.pre or context.specifier.prereleases
    return (
        "a pre-release, and --pre was not given"
        if candidate.version.is_prerelease and not asked
        else None
    )


def reject_yanked(candidate: Candidate, context: Context) -> Optional[str]:
    """Yanked by its publisher, unless exactly this version was asked for (PEP 592)."""
    exact = any(
        part.operator in ("==", "===") and "*" not in part.version for part in context.specifier
    )
    if not candidate.link.yanked or exact:
        return None
    if candidate.link.yanked == YANKED_WITHOUT_REASON:
        return "withdrawn by its publisher"
    return f"withdrawn by its publisher: {candidate.link.yanked}"


# --- torch ----------------------------------------------------------------------------------------


def reject_torch_version(candidate: Candidate, context: Context) -> Optional[str]:
    """Built for another torch.

    The torch of an NVIDIA container is no public release: only wheels whose name has that container
    fit it.
    """
    torch = context.environment.torch
    if context.project.torch_match is TorchMatch.ANY:
        return None
    if torch is None:
        return "torch is not installed"
    if not _is_binary(candidate) and candidate.version.public not in context.project.pins:
        return None
    built = candidate.built_for.torch or _torch_requirement(candidate)
    here = torch_release(torch)
    if built is None:
        return "it is not known here which torch it was built for"
    if built[:1] in "<>=!~":
        return (
            None if specifier_fits(built, here) else f"belongs to torch {built}, and not to {here}"
        )
    if candidate.kind is CandidateKind.BUILT and built == split_local(torch.runtime_version)[0]:
        return None  # built here for exactly this torch: the store is keyed by torch
    wanted_container, container = (
        container_of_name(built),
        container_of_version(torch.runtime_version),
    )
    if wanted_container is not None or container is not None:
        return None if wanted_container == container else _other_container(built, torch)
    if here.is_prerelease or here.is_devrelease:
        return f"built for torch {built}, and not for {torch.runtime_version}, which is no release"
    return (
        None
        if _same_torch(built, here, context)
        else f"built for torch {built}, and not for {here}"
    )


def _other_container(built: str, torch: TorchBuild) -> str:
    wanted, here = container_of_name(built), container_of_version(torch.runtime_version)
    wanted_text = f"torch {built}" if wanted is None else f"NVIDIA's container {wanted}"
    if here is None:
        return f"built for {wanted_text}, and not for torch {torch.runtime_version}"
    return f"built for {wanted_text}, and not for the torch of NVIDIA's container {here}"


def _same_torch(built: str, here: Version, context: Context) -> bool:
    version = parse_release(built)
    if version is None:
        return False
    exact = context.project.torch_match is TorchMatch.EXACT and len(built.split(".")) > 2
    return version.release == here.release if exact else version.release[:2] == here.release[:2]


def specifier_fits(specifier: str, here: Version) -> bool:
    """Does the specifier accept the release? False for an invalid specifier."""
    try:
        return SpecifierSet(specifier).contains(here, prereleases=True)
    except InvalidSpecifier:
        return False


def torch_release(torch: TorchBuild) -> Version:
    """The public release of a torch, from torch itself, or from its METADATA where torch has a
    vendor's own version."""
    return parse_release(torch.runtime_version) or Version(torch.version.public)


def _torch_requirement(candidate: Candidate) -> Optional[str]:
    """The requirement on torch in the candidate's metadata; None where it is not known."""
    for text in candidate.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name == "torch" and requirement.specifier:
            return str(requirement.specifier)
    return None


def reject_accelerator(candidate: Candidate, context: Context) -> Optional[str]:
    """Built for another accelerator: CPU beside a CUDA torch, CUDA beside a CPU torch, or another
    CUDA."""
    torch = context.environment.torch
    if not _is_binary(candidate) or torch is None or not _needs_accelerator(candidate, context):
        return None
    if _is_named_exactly(candidate, context.specifier) or _is_in_its_name(context.project, torch):
        return None
    built = candidate.built_for.accelerator
    if built is None:
        return "it is not known here which accelerator it was built for"
    if not torch.accelerator:
        return f"built for {built}, and what torch was built for is not known"
    return (
        None
        if _accelerator_fits(built, torch, context.project)
        else (f"built for {built}, torch here is {torch.accelerator}")
    )


def _is_named_exactly(candidate: Candidate, specifier: SpecifierSet) -> bool:
    """Was exactly this build requested (`==2.1.2+pt213cpu`)? Then its accelerator is accepted."""
    return candidate.version.local is not None and any(
        part.operator in ("==", "===")
        and part.version.lower().replace("-", ".") == str(candidate.version)
        for part in specifier
    )


def _is_in_its_name(project: Project, torch: TorchBuild) -> bool:
    """Does the project's name have the accelerator on purpose? cupy-cuda12x beside a CPU torch is;
    beside a torch for CUDA 11 it is a mistake."""
    return project.accelerator is not None and torch.accelerator == "cpu"


def _needs_accelerator(candidate: Candidate, context: Context) -> bool:
    if context.project.accelerator_match is AcceleratorMatch.ANY:
        return False
    # macOS has one build of everything.
    return not context.environment.interpreter.platform.startswith("macosx")


def _accelerator_fits(built: str, torch: TorchBuild, project: Project) -> bool:
    if is_exact_accelerator(built, torch, project):
        return True
    if is_cpu_fallback(built, torch, project):
        return True
    parsed = parse_accelerator(built)
    by_major = project.accelerator_match is AcceleratorMatch.MAJOR or (
        parsed is not None and parsed.major_only
    )
    return by_major and is_same_major(built, torch.accelerator)


def name_for(project: Project, torch: TorchBuild, catalog: Catalog) -> Optional[str]:
    """Of the names of one software (cupy-cuda11x, cupy-cuda12x), the one for torch's accelerator;
    None where none fits."""
    first_fitting = None
    for name in project.family:
        other = catalog.project(name)
        if other.accelerator is None:
            continue
        if not _accelerator_fits(other.accelerator, torch, other):
            continue
        if other.accelerator == torch.accelerator:
            return str(name)
        first_fitting = first_fitting or str(name)
    return first_fitting


def is_cpu_fallback(built: Optional[str], torch: TorchBuild, project: Project) -> bool:
    """Is it a CPU build beside a torch for a GPU, of a project that works like that (on the
    CPU)?"""
    return project.cpu_fits_all and built == "cpu" and torch.accelerator not in ("", "cpu")


def is_exact_accelerator(built: Optional[str], torch: TorchBuild, project: Project) -> bool:
    """Is it built for torch's own accelerator, or for the one whose wheels its host offers for
    it?"""
    release = torch.runtime_version.partition("+")[0]
    return built in (torch.accelerator, project.base_of(release, torch.accelerator)[1])


def reject_cxx11_abi(candidate: Candidate, context: Context) -> Optional[str]:
    """Built with the other C++ ABI of libstdc++ than this torch."""
    torch = context.environment.torch
    if not _is_binary(candidate) or torch is None or torch.cxx11_abi is None:
        return None
    if candidate.kind is CandidateKind.BUILT or context.project.torch_match is TorchMatch.ANY:
        return None
    built = candidate.built_for.cxx11_abi
    if built is None:
        built = _public_abi(candidate, torch, context.catalog.torch)
    if built is None or built == torch.cxx11_abi:
        return None
    return f"built with C++11 ABI {_on(built)}, torch here has it {_on(torch.cxx11_abi)}"


def _public_abi(candidate: Candidate, torch: TorchBuild, table: TorchTable) -> Optional[bool]:
    """The C++ ABI of the public torch that the candidate was built against; None where it is not
    known."""
    platforms = {tag.platform for tag in candidate.tags if "linux" in tag.platform}
    built = candidate.built_for.torch or ""
    if not platforms:
        return None
    if built[:1] in "<>=!~":
        built = torch.runtime_version.partition("+")[0]
    accelerator = candidate.built_for.accelerator or torch.accelerator
    return table.cxx11_abi_of(built, accelerator, platform=min(platforms))


def _on(value: bool) -> str:
    return "on" if value else "off"


# --- the machine ----------------------------------------------------------------------------------


def reject_python(candidate: Candidate, context: Context) -> Optional[str]:
    """For another Python."""
    interpreter = context.environment.interpreter
    wanted = candidate.requires_python or candidate.link.requires_python
    if wanted and not _python_fits(wanted, interpreter.version):
        return f"needs Python {wanted}, here is {interpreter.version}"
    if not candidate.tags or _fits(candidate, context):
        return None
    here = supported_tags(context.environment).pythons
    if any((tag.interpreter, tag.abi) in here for tag in candidate.tags):
        return None
    names = sorted({f"{tag.interpreter}-{tag.abi}" for tag in candidate.tags})
    return f"for {', '.join(names)}, here is {interpreter.python_tag}"


def _python_fits(wanted: str, here: str) -> bool:
    try:
        # A version without a patch release stands for the newest one of it.
        version = here if here.count(".") > 1 else f"{here}.99"
        return SpecifierSet(wanted).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True  # not the candidate's fault; pip ignores it too


def reject_platform(candidate: Candidate, context: Context) -> Optional[str]:
    """For another operating system or architecture."""
    if not candidate.tags or _fits(candidate, context):
        return None
    here = context.environment.interpreter.platform
    platforms = sorted({tag.platform for tag in candidate.tags})
    if any(same_machine(platform, here) for platform in platforms):
        return None
    return f"for {', '.join(platforms)}, here is {here}"


def reject_libc(candidate: Candidate, context: Context) -> Optional[str]:
    """Needs a newer glibc, or another libc."""
    if not candidate.tags:
        return None
    interpreter = context.environment.interpreter
    here = " ".join(part for part in interpreter.libc if part) or interpreter.platform
    platforms = sorted({tag.platform for tag in candidate.tags})
    if _fits(candidate, context):
        bare = all(platform.startswith("linux_") for platform in platforms)
        # `linux_x86_64` promises no libc; whoever publishes such wheels builds them on glibc.
        return f"built on glibc, here is {here}" if bare and interpreter.libc[0] == "musl" else None
    return f"for {', '.join(platforms)}, here is {here}"


def _fits(candidate: Candidate, context: Context) -> bool:
    return not candidate.tags.isdisjoint(supported_tags(context.environment).tags)


def reject_driver(candidate: Candidate, context: Context) -> Optional[str]:
    """Needs a newer driver than the declared one; or than the one here, where torch itself runs
    with it.

    What is built from source is built for torch's CUDA, and so needs the same driver as torch.
    """
    driver, torch = context.environment.driver, context.environment.torch
    built = _accelerator_when_installed(candidate, context)
    if driver is None or built is None:
        return None
    table, system = context.catalog.cuda, context.environment.interpreter.system
    too_old = table.why_too_old(driver, built, system=system)
    if not too_old:
        return None
    # That torch itself does not run with the driver here is not the extension's fault.
    if (
        torch is not None
        and not driver.declared
        and table.is_too_old(driver, torch.accelerator, system=system)
    ):
        return None
    what = f"a build for {built}" if candidate.kind is CandidateKind.SDIST else built
    return f"{what} {too_old}"


def _accelerator_when_installed(candidate: Candidate, context: Context) -> Optional[str]:
    """The accelerator that the code of a candidate uses after its installation; None where it has
    none, or it is not known."""
    if _is_binary(candidate):
        return candidate.built_for.accelerator
    project, torch = context.project, context.environment.torch
    is_built = (
        candidate.kind is CandidateKind.SDIST
        and project.recipe is not None
        and project.recipe.extension
    )
    if not is_built or torch is None or project.accelerator_match is AcceleratorMatch.ANY:
        return None
    return torch.accelerator or None


def reject_gpu(candidate: Candidate, context: Context) -> Optional[str]:
    """Has no code for the GPUs that were declared, or that are here, as far as its code is
    known."""
    driver, torch = context.environment.driver, context.environment.torch
    if (
        not _is_binary(candidate)
        or candidate.kind is CandidateKind.BUILT
        or driver is None
        or torch is None
    ):
        return None
    code = context.project.gpu_code_of(candidate.version, candidate.built_for.accelerator)
    devices = parse_device_capabilities(device.compute_capability for device in driver.devices)
    if code is None or not devices or torch.cuda is None:
        return None
    missed = [device for device in devices if not code.runs_on(device)]
    # All declared GPUs must be supported; of those that are here, one is enough.
    if not missed or (len(missed) < len(devices) and not driver.declared):
        return None
    where = "declared is" if driver.declared else "here is"
    return f"no code for compute capability {', '.join(map(str, missed))}, which {where}: it has {code}"


def reject_build(candidate: Candidate, context: Context) -> Optional[str]:
    """A source distribution, where building is forbidden, has no recipe, or cannot succeed beside
    this torch."""
    if candidate.kind is not CandidateKind.SDIST:
        return None
    if context.is_elsewhere and not context.allow_build:
        return "would have to be built, and that is done where its torch is"
    if not context.allow_build:
        return f"would have to be built, and {context.forbidden_by} was given"
    recipe, torch = context.project.recipe, context.environment.torch
    if recipe is None:
        return "it is not known here how to build it"
    if recipe.cuda_only and torch is not None and torch.accelerator == "cpu":
        return (
            f"its code is for CUDA only, and torch {torch.runtime_version} is a build for the CPU"
        )
    return None


def reject_host_down(candidate: Candidate, context: Context) -> Optional[str]:
    """Known from the bundled facts, but its host does not answer."""
    if candidate.link.found_in != FOUND_IN or not context.hosts_down:
        return None
    host = urlsplit(candidate.link.url).hostname or ""
    return f"{host} does not answer now" if host in context.hosts_down else None


RULES: Tuple[Tuple[Rule, RuleFunction], ...] = (
    (Rule.SPECIFIER, reject_specifier),
    (Rule.PRE_RELEASE, reject_pre_release),
    (Rule.YANKED, reject_yanked),
    (Rule.TORCH_VERSION, reject_torch_version),
    (Rule.ACCELERATOR, reject_accelerator),
    (Rule.CXX11_ABI, reject_cxx11_abi),
    (Rule.PYTHON, reject_python),
    (Rule.PLATFORM, reject_platform),
    (Rule.LIBC, reject_libc),
    (Rule.DRIVER, reject_driver),
    (Rule.GPU_CODE, reject_gpu),
    (Rule.NO_BUILD, reject_build),
    (Rule.HOST_DOWN, reject_host_down),
)


def _is_binary(candidate: Candidate) -> bool:
    """Does it hold machine code? A wheel for every platform holds none: its GPU code is compiled at
    run time."""
    is_pure = bool(candidate.tags) and all(tag.platform == "any" for tag in candidate.tags)
    return candidate.kind is not CandidateKind.SDIST and not is_pure
