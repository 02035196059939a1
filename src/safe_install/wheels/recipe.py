"""Can a project be built here, and how? Recipe, environment and machine become a plan or a reason."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.models import Environment
from safe_install.redaction import redact

DEFAULT_TOOLS = ("setuptools<81", "wheel", "ninja")  # 82 has no pkg_resources, which torch.utils may import
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
MEMORY_PER_JOB = 2 * 1024**3  # bytes; measured: 1.6-1.8 GB for one file with torch 2.13's headers
MEMORY_PER_CUDA_JOB = 4 * 1024**3  # bytes

_GUARDED = re.compile(r"^(torch|torchvision|torchaudio|triton|pytorch-triton.*|nvidia-.*)$")
_SECRET = re.compile(
    r"^(PIP_|UV_|TWINE_|AWS_|AZURE_|GOOGLE_|GCP_|NETRC$|SSH_AUTH_SOCK$|GIT_ASKPASS$)"
    r"|(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY)",
    re.IGNORECASE,
)
_STRING = r""""[^"\n]*"|'[^'\n]*'"""
_ASSIGNMENT = re.compile(rf"""^\s*([\w-]+)\s*=\s*(\[(?:[^\]"'#]|{_STRING}|#[^\n]*)*\]|{_STRING})""", re.MULTILINE)
_ARCHITECTURE = re.compile(r"^(\d+)\.(\d+)([af]?)(\+PTX)?$", re.IGNORECASE)


@dataclass(frozen=True)
class BuildRecipe:
    """How a project is built from source; what its own files do not say."""

    name: NormalizedName
    version: Version
    build_requires: Tuple[str, ...] = DEFAULT_TOOLS
    variables: Mapping[str, str] = field(default_factory=dict)  # set in every build
    cuda_variables: Mapping[str, str] = field(default_factory=lambda: {"FORCE_CUDA": "1"})  # for a CUDA torch


@dataclass(frozen=True)
class Toolkit:
    """One CUDA toolkit on this machine."""

    home: Path
    version: str  # "13.0"
    architectures: Tuple[str, ...] = ()  # that its nvcc compiles for, "80"; empty when it cannot be asked


@dataclass(frozen=True)
class Machine:
    """What a build finds here."""

    cores: int
    memory: int  # bytes that are free for us
    compiler: Optional[str]  # path of the C++ compiler
    has_python_headers: bool
    toolkits: Tuple[Toolkit, ...] = ()


@dataclass(frozen=True)
class BuildSystem:
    """The [build-system] table of pyproject.toml."""

    requires: Tuple[str, ...] = ()
    backend: str = LEGACY_BACKEND
    backend_path: Tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildPlan:
    """A build that can be started."""

    variables: Mapping[str, str]  # the whole environment of the build, without secrets
    jobs: int  # compilers at once
    gpu_architectures: Tuple[str, ...] = ()  # "8.0", "9.0+PTX"; empty for a torch without CUDA
    toolkit: Optional[Toolkit] = None


@dataclass(frozen=True)
class BuildRefusal:
    """Why a build cannot be started, and what to do about it."""

    check: str  # "no-torch", "no-toolkit", "nvcc-mismatch", "no-target-gpu", "target-gpu", "host-compiler"
    detail: str
    hint: str


def plan_build(
    environment: Environment,
    recipe: BuildRecipe,
    *,
    machine: Machine,
    variables: Mapping[str, str],
    jobs: Optional[int] = None,
) -> Union[BuildPlan, BuildRefusal]:
    """Decide whether and how the recipe can be built against the installed torch.

    `variables` is the environment of the person's shell; its MAX_JOBS and TORCH_CUDA_ARCH_LIST are obeyed.
    """
    torch = environment.torch
    if torch is None:
        return BuildRefusal("no-torch", f"{recipe.name} needs torch for its build", "install torch first")
    refusal = _check_compiler(recipe, machine, environment.interpreter.version)
    if refusal is not None:
        return refusal
    clean = scrub_variables(variables)
    clean.pop("FORCE_CUDA", None)
    # Debug information would double the memory of each compiler and is stripped by most setup.py files.
    # CFLAGS and CXXFLAGS replace Python's own flags in newer setuptools; CPPFLAGS is added in all of them.
    clean["CPPFLAGS"] = f"-g0 {clean.get('CPPFLAGS', '')}".strip()
    memory = MEMORY_PER_JOB
    toolkit: Optional[Toolkit] = None
    architectures: Tuple[str, ...] = ()
    if torch.cuda is not None:
        found = _select_toolkit(recipe, torch.cuda, machine.toolkits)
        if isinstance(found, BuildRefusal):
            return found
        wanted = _select_architectures(recipe, environment, found, variables)
        if isinstance(wanted, BuildRefusal):
            return wanted
        toolkit, architectures, memory = found, wanted, MEMORY_PER_CUDA_JOB
        clean.update(CUDA_HOME=str(found.home), TORCH_CUDA_ARCH_LIST=";".join(wanted))
        clean["PATH"] = f"{found.home / 'bin'}:{clean.get('PATH', '')}"
        clean.update(recipe.cuda_variables)
    clean.update(recipe.variables)
    count = jobs or _read_count(variables.get("MAX_JOBS")) or count_jobs(machine, memory_per_job=memory)
    clean["MAX_JOBS"] = str(count)
    return BuildPlan(clean, count, architectures, toolkit)


def count_jobs(machine: Machine, *, memory_per_job: int) -> int:
    """How many compilers may run at once without running out of memory: at least one."""
    return max(1, min(machine.cores, machine.memory // memory_per_job))


def scrub_variables(variables: Mapping[str, str]) -> Dict[str, str]:
    """The variables without what looks like a secret, and without what bends the interpreter's path."""
    return {
        name: value
        for name, value in variables.items()
        if not _is_secret(name, value) and name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    }


def _is_secret(name: str, value: str) -> bool:
    # A build that fetches what it compiles needs the proxy, with its password.
    return bool(_SECRET.search(name)) or (redact(value) != value and not name.lower().endswith("_proxy"))


def parse_architectures(text: str) -> Tuple[str, ...]:
    """The entries of a TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX", "8.0 9.0"), in order; names stay as they are."""
    return tuple(dict.fromkeys(part for part in re.split(r"[;,\s]+", text) if part))


def parse_build_system(text: str) -> BuildSystem:
    """Read [build-system] of a pyproject.toml; without the table, the legacy setuptools backend (PEP 517)."""
    table = _parse_table(text)
    if table is None:
        return BuildSystem()
    return BuildSystem(
        tuple(str(r) for r in table.get("requires", ())),
        str(table.get("build-backend", LEGACY_BACKEND)),
        tuple(str(p) for p in table.get("backend-path", ())),
    )


def select_tools(recipe: BuildRecipe, system: BuildSystem, environment: Environment) -> Tuple[str, ...]:
    """The requirements of the build overlay: the recipe's tools, then what pyproject.toml adds.

    What the environment has is used from there (numpy, packaging), because the result will run beside it.
    torch and its companions are never fetched for a build.
    """
    tools = {canonicalize_name(Requirement(text).name): text for text in recipe.build_requires}
    for text in system.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # not a reason to refuse: the backend will say what it misses
        name = canonicalize_name(requirement.name)
        if _GUARDED.match(name) or not _applies(requirement, environment):
            continue
        if name == "setuptools" and name in tools and not requirement.specifier.contains("80.9.0"):
            tools[name] = text  # it wants another one than our default
        elif name not in tools and name not in environment.installed:
            tools[name] = text
    return tuple(sorted(tools.values()))


def find_error_lines(log: Sequence[str], *, limit: int = 6) -> Tuple[str, ...]:
    """The lines of a build log that say what went wrong, the first ones first; else its last lines."""
    told = [line.strip() for line in log if _TELLING.search(line) and not _FOLLOWING.search(line)]
    if not told:
        told = [line.strip() for line in log if line.strip()][-limit:]
    return tuple(dict.fromkeys(line[:300] for line in told))[:limit]


def explain_failure(log: Sequence[str]) -> str:
    """What to do about a failed build, from what its log says; a general hint when nothing is known."""
    text = "\n".join(log)
    for pattern, hint in _KNOWN_FAILURES:
        if re.search(pattern, text):
            return hint
    return "read the log; a version of the project made for this torch may build"


_TELLING = re.compile(
    r"(\b(fatal )?error\b\s*(C\d+)?:|undefined reference|Killed signal|^Killed"
    r"|[A-Za-z]+Error: |No such file or dir)"
)
_FOLLOWING = re.compile(
    r"(rror: command .* failed|a file could not be compiled|an extension could not be built|subprocess-exited"
    r"|\braise |ninja: build stopped)"
)
_KNOWN_FAILURES: Tuple[Tuple[str, str], ...] = (
    (
        r"Killed signal|^Killed|\bcc1plus.*Killed|signal 9",
        "it ran out of memory: run it again with MAX_JOBS=1",
    ),
    (r"No space left on device", "free some disk space, or set SAFE_INSTALL_CACHE_DIR to another disk"),
    (r"THC/\w+\.h", "this version is too old for the installed torch: ask for a newer one"),
    (
        r"unsupported GNU version|gcc versions? later than",
        "nvcc wants an older gcc: install one and set CC and CXX to it",
    ),
    (r"Python\.h: No such file", "install the headers of this Python (python3-dev, python3-devel)"),
    (r"No module named '(pkg_resources)'", "it needs setuptools below 82, and found a newer one"),
    (
        r"No module named '[\w.]+'",
        "its build needs a module that its pyproject.toml does not name: install it",
    ),
    (
        r"urlopen error|Connection timed out|Name or service not known",
        "its build fetches files: give it a network",
    ),
    (r"detected CUDA version .* mismatches", "set CUDA_HOME to the toolkit that torch was built with"),
    (r"fatal error: .*: No such file", "a header is missing: install the development package that has it"),
)


def _check_compiler(recipe: BuildRecipe, machine: Machine, python: str) -> Optional[BuildRefusal]:
    if machine.compiler is None:
        return BuildRefusal(
            "host-compiler",
            f"{recipe.name} {recipe.version} has to be compiled, and there is no C++ compiler",
            "install one (apt-get install build-essential, dnf install gcc-c++), or set CXX",
        )
    if not machine.has_python_headers:
        short = ".".join(python.split(".")[:2])
        return BuildRefusal(
            "host-compiler",
            f"{recipe.name} {recipe.version} has to be compiled, and Python.h of Python {short} is missing",
            f"install the headers (apt-get install python{short}-dev, dnf install python3-devel)",
        )
    return None


def _select_toolkit(recipe: BuildRecipe, cuda: str, toolkits: Sequence[Toolkit]) -> Union[Toolkit, BuildRefusal]:
    """The toolkit of torch's own CUDA version, else the first of its major; torch refuses others."""
    major = cuda.split(".")[0]
    fitting = [kit for kit in toolkits if kit.version.split(".")[0] == major]
    exact = [kit for kit in fitting if kit.version == ".".join(cuda.split(".")[:2])]
    if fitting:
        return (exact or fitting)[0]
    hint = f"install a CUDA {major} toolkit (with nvcc) and set CUDA_HOME, or use an image that has one (-devel)"
    if not toolkits:
        return BuildRefusal("no-toolkit", f"{recipe.name} has to be built for CUDA {cuda}, and there is no nvcc", hint)
    seen = ", ".join(f"CUDA {kit.version} in {kit.home}" for kit in toolkits)
    return BuildRefusal(
        "nvcc-mismatch", f"{recipe.name} has to be built for torch's CUDA {cuda}; found was only {seen}", hint
    )


def _select_architectures(
    recipe: BuildRecipe, environment: Environment, toolkit: Toolkit, variables: Mapping[str, str]
) -> Union[Tuple[str, ...], BuildRefusal]:
    """The declared GPUs, else the person's TORCH_CUDA_ARCH_LIST, else the GPUs that are here."""
    driver = environment.driver
    devices = tuple(sorted({d.compute_capability for d in driver.devices}, key=Version)) if driver else ()
    listed = parse_architectures(variables.get("TORCH_CUDA_ARCH_LIST", ""))
    wanted = devices if driver is not None and driver.declared and devices else listed or devices
    if not wanted:
        return BuildRefusal(
            "no-target-gpu",
            f"{recipe.name} has to be built for a GPU, and none is visible here",
            "say what will run it: --target-gpu 8.0 (or TORCH_CUDA_ARCH_LIST=8.0)",
        )
    for entry in wanted:
        match = _ARCHITECTURE.match(entry)
        if match and toolkit.architectures and match.group(1) + match.group(2) not in toolkit.architectures:
            return BuildRefusal(
                "target-gpu",
                f"nvcc {toolkit.version} in {toolkit.home} cannot compile for compute capability {entry}",
                "install a toolkit that can, or name another --target-gpu",
            )
    return wanted


def _applies(requirement: Requirement, environment: Environment) -> bool:
    if requirement.marker is None:
        return True
    return requirement.marker.evaluate({**environment.interpreter.markers, "extra": ""})


def _read_count(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() and int(text) > 0 else None


def _parse_table(text: str) -> Optional[Mapping[str, Any]]:
    # Python 3.8 has no TOML reader, and of this one table only strings and lists of strings are defined.
    match = re.search(r"^\[build-system\][^\n]*\n(.*?)(?=^\[|\Z)", text + "\n", re.MULTILINE | re.DOTALL)
    if match is None:
        return None
    found: Dict[str, Any] = {}
    for key, value in _ASSIGNMENT.findall(match.group(1)):
        try:
            found[key] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            continue
    return found


def split_log(text: str) -> List[str]:
    """The lines of a log, without the colours that compilers write."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines()
