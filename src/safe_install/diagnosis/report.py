"""Renders the block that people paste into an issue: the fields of torch.utils.collect_env in its
spelling, which maintainers know, then further facts. Pure.

Source: env_info_fmt in torch/utils/collect_env.py of torch 2.13.0, where an unknown value is "Could
not collect".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from safe_install.diagnosis.facts import Facts
from safe_install.diagnosis.run import CheckResult, Status
from safe_install.models import Environment, HealthReport, InstalledDistribution
from safe_install.redaction import HIDDEN, redact
from safe_install.torch_family import is_guarded

UNKNOWN = "Could not collect"
NONE = "N/A"
NO_CUDA = "No CUDA"  # in collect_env's CUDA fields if there is no nvcc, driver or GPU
# The distributions that collect_env lists, by parts of the lines of `pip list --format=freeze` (its
# COMMON_PATTERNS, NVIDIA_PATTERNS, ONEAPI_PATTERNS and PIP_PATTERNS).
LISTED_PARTS = (
    *("torch", "numpy", "triton", "optree", "mypy", "flake8", "onnx"),
    *("cuda-cudart", "cuda-cupti", "cuda-libraries", "cuda-opencl", "cuda-nvrtc", "cuda-runtime"),
    *("cublas", "cudnn", "cufft", "curand", "cusolver", "cusparse", "nccl", "nvjitlink", "nvtx"),
    *("dpcpp-cpp-rt", "intel-cmplr-lib-rt", "intel-cmplr-lib-ur", "intel-cmplr-lic-rt"),
    *("intel-opencl-rt", "intel-sycl-rt", "mkl", "onemkl-sycl-blas", "onemkl-sycl-dft"),
    *("onemkl-sycl-lapack", "onemkl-sycl-rng", "onemkl-sycl-sparse", "intel-openmp", "tbb"),
    *("impi-rt", "impi-devel", "oneccl", "intel-pti", "umf", "tcmlib"),
)


@dataclass(frozen=True)
class Extension:
    """An installed extension and its origin."""

    name: str
    version: str
    source: str  # a URL, "built here", or "" if it is not known
    verdict: str  # "fits", or what is wrong


@dataclass(frozen=True)
class MachineDescription:
    """The facts about the machine in a report; "" if one is not known."""

    system: str = ""  # "Debian GNU/Linux 12 (bookworm)"
    platform: str = ""  # "Linux-6.1.0-x86_64-with-glibc2.36"
    gcc: str = ""  # "gcc (Debian 12.2.0-14) 12.2.0"
    clang: str = ""
    cmake: str = ""
    nvcc: str = ""
    cudnn: str = ""  # as the loader lists it: "/usr/lib/x86_64-linux-gnu/libcudnn.so.9.1.0"
    python: str = ""  # sys.version and "(64-bit runtime)"
    is_debug_build: str = ""  # "False"
    has_conda: bool = False  # the program conda is on PATH
    processor: str = ""  # the output of lscpu
    home: str = ""
    user: str = ""
    host: str = ""
    changes: Tuple[str, ...] = ()  # the newest ones, "2026-11-24 +torch-scatter 2.1.2"
    extensions: Tuple[Extension, ...] = ()


def render_report(facts: Facts, machine: MachineDescription, results: Sequence[CheckResult]) -> str:
    """The report as a Markdown block, without secrets and the names of the user and the host."""
    lines = [
        "```text",
        *_torch_lines(facts, machine),
        "",
        *_machine_lines(facts, machine),
        "",
        *_python_lines(facts, machine),
        "",
        "CPU:",
        machine.processor or UNKNOWN,
        "",
        "Versions of relevant libraries:",
        *_library_lines(facts, machine),
        "",
        *_own_lines(machine, results, facts),
        "```",
    ]
    return hide_names("\n".join(lines), machine)


def hide_names(text: str, machine: MachineDescription) -> str:
    """The text without secrets, home folders, and the names of the user and the host."""
    text = redact(text)
    if machine.home not in ("", "/"):
        text = text.replace(machine.home, "~")
    text = re.sub(r"(/home|/Users)/[^/\s:]+", rf"\1/{HIDDEN}", text)
    for name in (machine.user, machine.host):
        if len(name) > 2 and name not in ("root", "localhost"):
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", HIDDEN, text)
    return text


def _torch_lines(facts: Facts, machine: MachineDescription) -> List[str]:
    torch = facts.environment.torch if facts.environment is not None else None
    if torch is None:
        cuda, hip = NONE, NONE
    else:
        cuda, hip = NONE if torch.hip else torch.cuda or "None", torch.hip or NONE
    return [
        f"PyTorch version: {torch.runtime_version if torch else NONE}",
        f"Is debug build: {_or(machine.is_debug_build, NONE)}",
        f"CUDA used to build PyTorch: {cuda}",
        f"ROCM used to build PyTorch: {hip}",
    ]


def _machine_lines(facts: Facts, machine: MachineDescription) -> List[str]:
    libc = facts.environment.interpreter.libc if facts.environment is not None else ("", "")
    return [
        f"OS: {_or(machine.system, UNKNOWN)}",
        f"GCC version: {_or(machine.gcc, UNKNOWN)}",
        f"Clang version: {_or(machine.clang, UNKNOWN)}",
        f"CMake version: {_or(machine.cmake, UNKNOWN)}",
        f"Libc version: {'-'.join(libc) if libc[0] else UNKNOWN}",
    ]


def _python_lines(facts: Facts, machine: MachineDescription) -> List[str]:
    environment = facts.environment
    version = environment.interpreter.version if environment is not None else UNKNOWN
    driver = environment.driver if environment is not None else None
    driver_version = driver.version if driver is not None else ""
    missing = UNKNOWN
    if not (machine.nvcc or driver_version) and _available(facts.health) == "False":
        missing = NO_CUDA
    return [
        f"Python version: {_or(machine.python, version)}",
        f"Python platform: {_or(machine.platform, UNKNOWN)}",
        f"Is CUDA available: {_available(facts.health)}",
        f"CUDA runtime version: {_or(machine.nvcc, missing)}",
        f"CUDA_MODULE_LOADING set to: {_module_loading(facts)}",
        *_gpu_lines(environment, missing),
        f"Nvidia driver version: {_or(driver_version, missing)}",
        f"cuDNN version: {NO_CUDA if missing == NO_CUDA else _or(machine.cudnn, UNKNOWN)}",
        f"Caching allocator config: {_allocator(facts)}",
    ]


def _available(health: Optional[HealthReport]) -> str:
    if health is None or health.torch_version is None:
        return NONE
    return str(bool(health.cuda_available))


def _module_loading(facts: Facts) -> str:
    if _available(facts.health) != "True":
        return NONE
    return facts.variables.get("CUDA_MODULE_LOADING", "")


def _gpu_lines(environment: Optional[Environment], missing: str) -> List[str]:
    """One GPU is in the line of the field; several are in the lines below it."""
    driver = environment.driver if environment is not None else None
    if driver is None or not driver.devices:
        return [f"GPU models and configuration: {missing}"]
    lines = [f"GPU {number}: {device.name}" for number, device in enumerate(driver.devices)]
    if len(lines) == 1:
        return [f"GPU models and configuration: {lines[0]}"]
    return ["GPU models and configuration: ", *lines, ""]


ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def _allocator(facts: Facts) -> str:
    chosen = {
        name: facts.variables[name] for name in ALLOCATOR_VARIABLES if name in facts.variables
    }
    return str(chosen) if any(chosen.values()) else NONE


def _library_lines(facts: Facts, machine: MachineDescription) -> List[str]:
    if facts.environment is None:
        return [f"[pip3] {UNKNOWN}", f"[conda] {UNKNOWN}"]
    lines: List[str] = []
    for name in sorted(facts.environment.installed):
        line = _library_line(facts.environment.installed[name])
        if is_guarded(name) or any(part in line for part in LISTED_PARTS):
            lines.append(f"[pip3] {line}")
    lines = lines or ["[pip3] No relevant packages"]
    conda = [f"[conda] {package.name} {package.version}" for package in facts.conda]
    return lines + (
        conda or [f"[conda] {'No relevant packages' if machine.has_conda else UNKNOWN}"]
    )


def _library_line(distribution: InstalledDistribution) -> str:
    return f"{distribution.written_name or distribution.name}=={distribution.version}"


def _own_lines(
    machine: MachineDescription, results: Sequence[CheckResult], facts: Facts
) -> List[str]:
    lines = ["Compute capability of the GPUs:", _capabilities(facts.environment), "", "Extensions:"]
    for extension in machine.extensions:
        source = extension.source or "not known where from"
        lines.append(f"{extension.name}=={extension.version}: {extension.verdict} ({source})")
    if not machine.extensions:
        lines.append("none")
    lines += ["", "Checks of doctor:"]
    lines += _check_lines(results)
    if facts.problem is not None:
        lines.append(f"the interpreter: {facts.problem.message}")
    lines += ["", "Last changes:", *(machine.changes or ("none",))]
    return lines


def _capabilities(environment: Optional[Environment]) -> str:
    driver = environment.driver if environment is not None else None
    devices = driver.devices if driver is not None else ()
    return ", ".join(device.compute_capability for device in devices) or "none"


def _check_lines(results: Sequence[CheckResult]) -> List[str]:
    lines: List[str] = []
    for result in results:
        lines += [
            f"{result.name}: {finding.severity.value}: {finding.detail}"
            for finding in result.findings
        ]
        if result.status is Status.CANNOT_TELL:
            lines.append(f"{result.name}: cannot tell, because {result.because}")
    asked = [one for one in results if one.status in (Status.PASSED, Status.FOUND)]
    lines.append(f"{len(asked)} of {len(results)} checks were made")
    return lines


def _or(value: Optional[str], instead: str) -> str:
    return value or instead
