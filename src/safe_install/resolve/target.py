"""The environment of another machine, made from the options that describe it."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Dict, List, Mapping, Optional, Tuple, cast

from packaging.version import InvalidVersion, Version

from safe_install.errors import UsageError
from safe_install.index.facts import TorchTable
from safe_install.models import Driver, Environment, Interpreter, Scheme, TorchBuild
from safe_install.tags import (
    accelerator_of_container,
    accelerator_of_version,
    container_of_version,
    cuda_of_accelerator,
    supported_tags,
)

_NOWHERE = PurePosixPath("/")
_LEGACY_GLIBC = {"manylinux2014": "2.17", "manylinux2010": "2.12", "manylinux1": "2.5"}


def environment_for(
    *,
    torch: Optional[str],
    python_version: str,
    platform: str,
    torch_table: TorchTable,
    cxx11_abi: Optional[bool] = None,
    driver: Optional[Driver] = None,
) -> Environment:
    """The environment of a machine elsewhere.

    `torch` "1.8.1+cu111", "2.13.0+cpu" or a bare "2.15.0" (then the accelerator is the one of the
    build on
    PyPI); `python_version` "3.8" or "3.8.10"; `platform` "linux_x86_64" (glibc unknown: every
    manylinux is
    accepted), "manylinux_2_28_x86_64", "manylinux2014_aarch64", "musllinux_1_2_x86_64",
    "macosx_14_0_arm64", "win_amd64"; `cxx11_abi` None: that of the public build. Raises UsageError.
    """
    if not re.match(r"\d+\.\d+(\.\d+)?$", python_version):
        raise UsageError(
            f"{python_version!r} is no Python version", hint="Write it as 3.11 or 3.11.7."
        )
    machine, libc = parse_platform(platform)
    interpreter = Interpreter(
        executable=cast("Path", _NOWHERE / "python"),
        version=python_version,
        implementation="cpython",
        tags=supported_tags(python_version, "cpython", machine, libc),
        platform=machine,
        libc=libc,
        prefix=cast("Path", _NOWHERE),
        base_prefix=cast("Path", _NOWHERE),
        scheme=Scheme(*[cast("Path", _NOWHERE)] * 5),
        markers=_markers(python_version, machine),
    )
    build = _torch_build(torch, machine, cxx11_abi, torch_table) if torch else None
    return Environment(interpreter, build, driver, {})


def is_elsewhere(environment: Environment) -> bool:
    """Is it that of a machine elsewhere, of which only what was declared is known?"""
    return str(environment.interpreter.prefix) == str(_NOWHERE)


def notes_for(environment: Environment) -> Tuple[str, ...]:
    """Notes on what was assumed about the other machine."""
    notes: List[str] = []
    interpreter = environment.interpreter
    if interpreter.platform.startswith("linux_") and not interpreter.libc[0]:
        notes.append(
            "its glibc is not known: every manylinux is accepted; name it with a platform such as "
            f"manylinux_2_28_{interpreter.platform[len('linux_') :]}"
        )
    if interpreter.platform.startswith("macosx_") and environment.driver is not None:
        notes.append("no torch for macOS has CUDA: the NVIDIA driver that was declared is not used")
    if environment.torch is not None and not environment.torch.accelerator:
        notes.append(
            f"torch {environment.torch.runtime_version} does not say what it was built for; "
            "write it with its local version, 2.13.0+cpu"
        )
    return tuple(notes)


def parse_platform(platform: str) -> Tuple[str, Tuple[str, str]]:
    """A wheel platform tag as (`linux_x86_64`, ("glibc", "2.28")). Raises UsageError."""
    platform = platform.lower().replace("-", "_").replace(".", "_")
    found = re.match(r"manylinux_(\d+)_(\d+)_(\w+)$", platform)
    if found:
        return f"linux_{found.group(3)}", ("glibc", f"{found.group(1)}.{found.group(2)}")
    found = re.match(r"(manylinux(?:2014|2010|1))_(\w+)$", platform)
    if found:
        return f"linux_{found.group(2)}", ("glibc", _LEGACY_GLIBC[found.group(1)])
    found = re.match(r"musllinux_(\d+)_(\d+)_(\w+)$", platform)
    if found:
        return f"linux_{found.group(3)}", ("musl", f"{found.group(1)}.{found.group(2)}")
    if re.match(r"(linux_\w+|win_\w+|win32|macosx_\d+_\d+_\w+)$", platform):
        return platform, ("", "")
    raise UsageError(
        f"{platform!r} is no platform tag",
        hint="Write linux_x86_64, manylinux_2_28_x86_64, win_amd64, macosx_14_0_arm64.",
    )


def planned_torch(version: str, platform: str, torch_table: TorchTable) -> TorchBuild:
    """The public build of torch with this version of METADATA, as a plan installs it. Errors:
    UsageError."""
    return _torch_build(version, platform, None, torch_table)


def _torch_build(
    torch: str, platform: str, cxx11_abi: Optional[bool], torch_table: TorchTable
) -> TorchBuild:
    try:
        version = Version(torch)
    except InvalidVersion as error:
        raise UsageError(
            f"{torch!r} is no version of torch", hint="Write it as 1.8.1+cu111."
        ) from error
    container = container_of_version(torch)
    accelerator = accelerator_of_version(torch) or _default_accelerator(
        version, platform, torch_table
    )
    if container is not None:
        # The version does not say its CUDA. The C++ ABI is that of the wheels which are published
        # for containers.
        accelerator = accelerator_of_container(container)
        cxx11_abi = True if cxx11_abi is None else cxx11_abi
    if cxx11_abi is None:
        cxx11_abi = torch_table.cxx11_abi_of(version.public, accelerator, platform=platform)
        if version.local and version.local.endswith("cxx11.abi"):
            cxx11_abi = True
    # torch.__version__ has the accelerator, even for PyPI's build, whose METADATA has none.
    runtime = torch if version.local or not accelerator else f"{torch}+{accelerator}"
    return TorchBuild(
        version=version,
        runtime_version=runtime,
        accelerator=accelerator,
        cuda=cuda_of_accelerator(accelerator) if accelerator else None,
        cxx11_abi=cxx11_abi,
        vendor="NVIDIA" if container is not None else None,
    )


def _default_accelerator(version: Version, platform: str, torch_table: TorchTable) -> str:
    if version.local:
        return ""
    if not platform.startswith("linux_"):
        return "cpu"
    release = torch_table.releases.get(version.public)
    return (release.untagged_on(platform) or "") if release is not None else ""


def _markers(python_version: str, platform: str) -> Mapping[str, str]:
    """PEP 508's markers, as far as they follow from the options."""
    machine = platform.rpartition("_")[2] if not platform.endswith("x86_64") else "x86_64"
    system = (
        "Windows"
        if platform.startswith("win")
        else "Darwin"
        if platform.startswith("macosx")
        else "Linux"
    )
    full = python_version if python_version.count(".") > 1 else f"{python_version}.0"
    markers: Dict[str, str] = {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "nt" if system == "Windows" else "posix",
        "platform_machine": {"amd64": "AMD64"}.get(machine, machine),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": full,
        "python_version": ".".join(full.split(".")[:2]),
        "sys_platform": {"Windows": "win32", "Darwin": "darwin"}.get(system, "linux"),
    }
    return markers
