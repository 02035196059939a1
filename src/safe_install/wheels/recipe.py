"""Can a project be built here, and how? Recipe, environment and machine -> a plan or a refusal."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence, Tuple, Union

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.models import Environment
from safe_install.redaction import redact
from safe_install.requirements import applies
from safe_install.tags import parse_capability, parse_device_capabilities
from safe_install.torch_family import is_guarded
from safe_install.wheels.build_log import _read_count
from safe_install.wheels.toolkit_choice import (
    NAMED_BY_PERSON,
    Place,
    Toolkit,
    ToolkitChoice,
    complete_place,
    describe_rejection,
    find_planned_headers,
    list_obtainable,
    major_version,
    minor_version,
    render_header_commands,
    render_toolkit_commands,
    select_toolkit,
)

# setuptools 82 has no pkg_resources, which torch.utils may import
DEFAULT_TOOLS = ("setuptools<81", "wheel", "ninja")
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
MEMORY_PER_JOB = 2 * 1024**3  # bytes; measured: 1.6-1.8 GB for one file with torch 2.13's headers
MEMORY_PER_CUDA_JOB = 4 * 1024**3  # bytes

_SECRET = re.compile(
    r"^(PIP_|UV_|TWINE_|AWS_|AZURE_|GOOGLE_|GCP_|NETRC$|SSH_AUTH_SOCK$|GIT_ASKPASS$)"
    r"|(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY)",
    re.IGNORECASE,
)
ALLOW_UNSUPPORTED = "-allow-unsupported-compiler"


@dataclass(frozen=True)
class BuildRecipe:
    """How a project is built from source, as far as its own files do not say."""

    name: NormalizedName
    version: Version
    build_requires: Tuple[str, ...] = DEFAULT_TOOLS
    variables: Mapping[str, str] = field(default_factory=dict)  # set in every build
    # for a CUDA torch
    cuda_variables: Mapping[str, str] = field(default_factory=lambda: {"FORCE_CUDA": "1"})
    # it compiles against torch's headers; False: its build needs torch, but no compiler
    is_extension: bool = True


@dataclass(frozen=True)
class Gcc:
    """A gcc that may be the host compiler of nvcc."""

    path: str
    major: int


@dataclass(frozen=True)
class BuildMachine:
    """What this machine has for a build."""

    cores: int
    memory: int  # free memory in bytes
    compiler: Optional[str]  # path of the C++ compiler
    has_python_headers: bool
    places: Tuple[Place, ...] = ()  # the places searched for a CUDA toolkit, in order
    # the required CUDA headers that packages of the environment have
    headers: Tuple[str, ...] = ()
    gcc: Optional[Gcc] = None  # the one that nvcc would call; None for another compiler
    other_gccs: Tuple[Gcc, ...] = ()  # gcc-12, gcc-13 ... on PATH, each with its g++


@dataclass(frozen=True)
class BuildSystem:
    """The [build-system] table of pyproject.toml."""

    requires: Tuple[str, ...] = ()
    backend: str = LEGACY_BACKEND
    backend_path: Tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildPlan:
    """How to build."""

    variables: Mapping[str, str]  # the whole environment of the build, without secrets
    jobs: int  # number of parallel compilers
    gpu_architectures: Tuple[str, ...] = ()  # "8.0", "9.0+PTX"; empty for a torch without CUDA
    # None for a torch without CUDA, and where it has to be fetched
    toolkit: Optional[Toolkit] = None
    toolkit_requirements: Tuple[str, ...] = ()  # requirements of the toolkit that pip has to fetch
    notes: Tuple[str, ...] = ()  # the decisions, one sentence each
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildRefusal:
    """Why a build cannot start, and what to do about it."""

    # "no-torch", "no-toolkit", "nvcc-mismatch", "half-toolkit", "no-target-gpu", "target-gpu",
    # "host-compiler"
    check: str
    detail: str
    hint: str


def plan_build(
    environment: Environment,
    recipe: BuildRecipe,
    *,
    machine: BuildMachine,
    variables: Mapping[str, str],
    jobs: Optional[int] = None,
    forbidden_by: str = "",
) -> Union[BuildPlan, BuildRefusal]:
    """Decide whether and how the recipe can be built against the installed torch.

    `variables`: those of the user's shell; MAX_JOBS and TORCH_CUDA_ARCH_LIST are obeyed.
    `forbidden_by`: the option ("--no-toolkit") that forbids fetching a CUDA toolkit; "" where it
    may be fetched.
    """
    torch = environment.torch
    if torch is None:
        return BuildRefusal(
            "no-torch", f"{recipe.name} needs torch for its build", "Install torch first."
        )
    clean = scrub_variables(variables)
    if not recipe.is_extension:
        clean.update(recipe.variables)
        return BuildPlan(clean, 1)
    refusal = _check_compiler(recipe, machine, environment.interpreter.version)
    if refusal is not None:
        return refusal
    clean.pop("FORCE_CUDA", None)
    # Debug information would double each compiler's memory, and most setup.py files strip it.
    # CFLAGS and CXXFLAGS replace Python's own flags in newer setuptools; CPPFLAGS is added in all
    # of them.
    clean["CPPFLAGS"] = f"-g0 {clean.get('CPPFLAGS', '')}".strip()
    if torch.cuda is None:
        clean.update(recipe.variables)
        return _with_jobs(BuildPlan(clean, 1), machine, MEMORY_PER_JOB, jobs, variables)
    clean.update(recipe.cuda_variables)
    clean.update(recipe.variables)
    plan = _plan_cuda(recipe, environment, machine, variables, forbidden_by)
    if isinstance(plan, BuildRefusal):
        return plan
    clean["TORCH_CUDA_ARCH_LIST"] = ";".join(plan.gpu_architectures)
    return _with_jobs(replace(plan, variables=clean), machine, MEMORY_PER_CUDA_JOB, jobs, variables)


def _with_jobs(
    plan: BuildPlan,
    machine: BuildMachine,
    memory_per_job: int,
    jobs: Optional[int],
    variables: Mapping[str, str],
) -> BuildPlan:
    count = (
        jobs
        or _read_count(variables.get("MAX_JOBS"))
        or count_jobs(machine, memory_per_job=memory_per_job)
    )
    return replace(plan, jobs=count, variables={**plan.variables, "MAX_JOBS": str(count)})


def _plan_cuda(
    recipe: BuildRecipe,
    environment: Environment,
    machine: BuildMachine,
    variables: Mapping[str, str],
    forbidden_by: str,
) -> Union[BuildPlan, BuildRefusal]:
    """The toolkit and the GPU architectures; the caller sets the variables."""
    cuda = (environment.torch.cuda if environment.torch else None) or ""
    wanted = _select_architectures(recipe, environment, variables)
    if isinstance(wanted, BuildRefusal):
        return wanted
    planned = find_planned_headers(environment)
    obtainable = list_obtainable(environment, headers=(*machine.headers, *planned))
    choice = select_toolkit(
        cuda,
        [complete_place(place, planned) for place in machine.places],
        architectures=_compute_numbers(wanted),
        obtainable=() if forbidden_by else obtainable,
    )
    warnings = tuple(
        f"{describe_rejection(rejected)}: it is not used"
        for rejected in choice.rejected
        if rejected.origin in NAMED_BY_PERSON
    )
    if choice.toolkit is None and not choice.requirements:
        return _refuse_toolkit(
            recipe,
            cuda,
            choice,
            machine,
            f"{forbidden_by} forbids fetching it" if obtainable else "",
        )
    if choice.toolkit is not None:
        refusal = _check_toolkit(choice.toolkit, wanted, machine, variables)
        if refusal is not None:
            return refusal
    notes = (describe_toolkit(choice.toolkit),) if choice.toolkit is not None else ()
    return BuildPlan({}, 1, wanted, choice.toolkit, choice.requirements, notes, warnings)


def describe_toolkit(toolkit: Toolkit) -> str:
    """`CUDA toolkit: 13.0 in /usr/local/cuda-13.0 (nvcc on PATH), cusparse.h from the environment's
    packages`."""
    text = f"CUDA toolkit: {toolkit.version} in {toolkit.home} ({toolkit.origin})"
    if toolkit.completed:
        text += f", {', '.join(toolkit.completed)} from the environment's nvidia packages"
    return text


def select_variables(variables: Mapping[str, str], home: Path) -> Dict[str, str]:
    """The build's variables for this CUDA home: torch reads CUDA_HOME, CMake CUDACXX, others
    PATH."""
    nvcc = home / "bin" / "nvcc"
    path = os.pathsep.join([str(nvcc.parent), variables.get("PATH") or os.defpath])
    return {
        **variables,
        "CUDA_HOME": str(home),
        "CUDA_PATH": str(home),
        "CUDACXX": str(nvcc),
        "PATH": path,
    }


def count_jobs(machine: BuildMachine, *, memory_per_job: int) -> int:
    """How many compilers may run in parallel without running out of memory; at least one."""
    return max(1, min(machine.cores, machine.memory // memory_per_job))


def scrub_variables(variables: Mapping[str, str]) -> Dict[str, str]:
    """The variables without those that look like secrets or that change the interpreter's path."""
    return {
        name: value
        for name, value in variables.items()
        if not _is_secret(name, value) and name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    }


def _is_secret(name: str, value: str) -> bool:
    # A build that downloads sources needs the proxy, even with its password.
    return bool(_SECRET.search(name)) or (
        redact(value) != value and not name.lower().endswith("_proxy")
    )


def parse_architectures(text: str) -> Tuple[str, ...]:
    """The entries of a TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX", "8.0 9.0"), in order; names are kept as
    they are."""
    return tuple(dict.fromkeys(part for part in re.split(r"[;,\s]+", text) if part))


def parse_build_system(text: str) -> BuildSystem:
    """[build-system] of a pyproject.toml; without that table, the legacy setuptools backend (PEP
    517).

    Errors: ValueError for invalid TOML, and for values of types that PEP 518 and 517 do not allow.
    """
    table = _load_toml(text).get("build-system")
    if table is None:
        return BuildSystem()
    if not isinstance(table, dict):
        raise ValueError("build-system is no table")
    backend = table.get("build-backend", LEGACY_BACKEND)
    if not isinstance(backend, str):
        raise ValueError("build-system.build-backend is no string")
    return BuildSystem(
        _read_strings(table, "requires"), backend, _read_strings(table, "backend-path")
    )


def _read_strings(table: Mapping[str, object], key: str) -> Tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"build-system.{key} is no list of strings")
    return tuple(found)


def _load_toml(text: str) -> Mapping[str, object]:
    # Only a build reads TOML.
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # Python 3.8 to 3.10
        import tomli as tomllib
    return tomllib.loads(text)


def select_tools(
    recipe: BuildRecipe, system: BuildSystem, environment: Environment
) -> Tuple[str, ...]:
    """The requirements of the build overlay: the recipe's tools, then those of pyproject.toml.

    What the environment has (numpy, packaging) is used from there, because the result runs beside
    it. torch and its companions are never fetched for a build.
    """
    tools = {canonicalize_name(Requirement(text).name): text for text in recipe.build_requires}
    for text in system.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # not a reason to refuse: the backend will say what it misses
        name = canonicalize_name(requirement.name)
        if is_guarded(name) or not applies(requirement, environment.interpreter.markers):
            continue
        if name == "setuptools" and name in tools and not requirement.specifier.contains("80.9.0"):
            tools[name] = text  # it wants another one than our default
        elif name not in tools and name not in environment.installed:
            tools[name] = text
    return tuple(sorted(tools.values()))


def _check_compiler(
    recipe: BuildRecipe, machine: BuildMachine, python: str
) -> Optional[BuildRefusal]:
    if machine.compiler is None:
        return BuildRefusal(
            "host-compiler",
            f"{recipe.name} {recipe.version} has to be compiled, and there is no C++ compiler",
            "Install one (apt-get install build-essential, dnf install gcc-c++), or set CXX.",
        )
    if not machine.has_python_headers:
        short = ".".join(python.split(".")[:2])
        return BuildRefusal(
            "host-compiler",
            f"{recipe.name} {recipe.version} has to be compiled, and Python.h of Python {short} is "
            "missing",
            f"Install the headers (apt-get install python{short}-dev, dnf install python3-devel).",
        )
    return None


def _refuse_toolkit(
    recipe: BuildRecipe, cuda: str, choice: ToolkitChoice, machine: BuildMachine, obstacle: str
) -> BuildRefusal:
    """The refusal where no toolkit here can compile for this torch, and none may or can be
    fetched."""
    kits = [place for place in machine.places if isinstance(place, Toolkit)]
    halves = [
        kit for kit in kits if kit.missing and major_version(kit.version) == major_version(cuda)
    ]
    check = "half-toolkit" if halves else "nvcc-mismatch" if kits else "no-toolkit"
    detail = f"{recipe.name} {recipe.version} has to be compiled for CUDA {cuda}, and "
    if choice.rejected:
        reasons = [f"\n  {describe_rejection(rejected)}" for rejected in choice.rejected]
        detail += "no CUDA toolkit here fits:" + "".join(reasons)
    else:
        detail += "there is no nvcc"
    if obstacle:
        detail += f"\n  the package index has one, and {obstacle}"
    if halves:
        hint = "Install the packages with the missing headers, one of:\n"
        return BuildRefusal(
            check, detail, hint + render_header_commands(halves[0].version, halves[0].missing)
        )
    hint = f"Install the CUDA {minor_version(cuda)} toolkit (and set CUDA_HOME if it is elsewhere), one of:\n"
    return BuildRefusal(check, detail, hint + render_toolkit_commands(cuda))


def _select_architectures(
    recipe: BuildRecipe, environment: Environment, variables: Mapping[str, str]
) -> Union[Tuple[str, ...], BuildRefusal]:
    """The declared GPUs, else TORCH_CUDA_ARCH_LIST, else the GPUs of this machine."""
    driver = environment.driver
    capabilities = parse_device_capabilities(
        device.compute_capability for device in (driver.devices if driver else ())
    )
    devices = tuple(str(capability) for capability in sorted(capabilities))
    listed = parse_architectures(variables.get("TORCH_CUDA_ARCH_LIST", ""))
    wanted = devices if driver is not None and driver.declared and devices else listed or devices
    if wanted:
        return wanted
    return BuildRefusal(
        "no-target-gpu",
        f"{recipe.name} {recipe.version} has to be compiled for a GPU, and none is visible here",
        "Name the compute capability of the machine that will run it: --target-gpu 8.0 (or "
        "TORCH_CUDA_ARCH_LIST=8.0).",
    )


def _compute_numbers(architectures: Sequence[str]) -> Tuple[str, ...]:
    """`80`, `90` for `8.0`, `9.0a+PTX`; names such as Ampere are left to torch."""
    found = [parse_capability(entry) for entry in architectures]
    return tuple(
        f"{capability.major}{capability.minor}" for capability in found if capability is not None
    )


def _check_toolkit(
    toolkit: Toolkit, wanted: Sequence[str], machine: BuildMachine, variables: Mapping[str, str]
) -> Optional[BuildRefusal]:
    """Why this nvcc cannot compile for these GPUs, or does not accept this gcc; None where it
    can."""
    for entry in wanted:
        numbers = _compute_numbers([entry])
        if toolkit.architectures and not set(numbers) <= set(toolkit.architectures):
            return BuildRefusal(
                "target-gpu",
                f"nvcc {toolkit.version} in {toolkit.home} cannot compile for compute capability "
                f"{entry}",
                "Install a toolkit that can, or name another --target-gpu.",
            )
    return check_host_compiler(toolkit, machine.gcc, machine.other_gccs, variables)


def check_host_compiler(
    toolkit: Toolkit, gcc: Optional[Gcc], others: Sequence[Gcc], variables: Mapping[str, str]
) -> Optional[BuildRefusal]:
    """Why this nvcc does not accept this gcc; None where it does. `others`: other gccs that it
    could use."""
    flags = f"{variables.get('NVCC_PREPEND_FLAGS', '')} {variables.get('NVCC_APPEND_FLAGS', '')}"
    newest = toolkit.newest_gcc
    if gcc is None or newest is None or gcc.major <= newest or ALLOW_UNSUPPORTED in flags:
        return None
    return BuildRefusal(
        "host-compiler",
        f"nvcc {toolkit.version} in {toolkit.home} accepts gcc {newest} at most, and {gcc.path} is "
        f"gcc {gcc.major}",
        _gcc_hint(newest, others),
    )


def _gcc_hint(newest: int, others: Sequence[Gcc]) -> str:
    accepted = sorted((gcc for gcc in others if gcc.major <= newest), key=lambda gcc: gcc.major)
    if not accepted:
        return (
            f"Install an older one (apt-get install gcc-{newest} g++-{newest}, conda install "
            f"gxx={newest}) and set "
            f"CC=gcc-{newest} CXX=g++-{newest}."
        )
    path = accepted[-1].path
    name = path.rpartition("/")[2]
    return f"Set CC={path} CXX={path[: -len(name)]}{name.replace('gcc', 'g++')}."
