"""Checks of the machine around an environment: free space, CUDA toolkits, pip's settings and cache,
lock files of other tools, conda."""

from __future__ import annotations

import re
import shlex
from typing import List, Optional

from packaging.version import InvalidVersion, Version

from safe_install.diagnosis.facts import CondaPackage, Facts, FreeSpace, torch_of
from safe_install.diagnosis.run import Answer
from safe_install.models import Finding, Severity, TorchBuild
from safe_install.tags import split_local
from safe_install.torch_family import TORCH

# MKL 2024.1 dropped a symbol that conda's builds of torch before 2.4 need
# (github.com/pytorch/pytorch/issues/123097).
MKL_WITHOUT_SYMBOL = Version("2024.1")
FIRST_TORCH_WITHOUT_IT = Version("2.4")
ACCELERATOR_IN_ADDRESS = re.compile(r"/whl/(?:nightly/)?(cpu|cu\d+|rocm[\d.]+|xpu)(?:/|$)")

GIBIBYTE = 1 << 30
# With less, a CUDA build of torch (2 to 3 GB unpacked, beside the old one) cannot be installed.
LITTLE_ROOM = 5 * GIBIBYTE
# With less, not even parts of torch can be reinstalled.
NO_ROOM = GIBIBYTE // 4
FEW_FILES = 1000


def check_room(facts: Facts) -> Answer:
    """Is there room on the disks that an install needs?"""
    findings: List[Finding] = []
    for room in facts.rooms:
        if room.files is not None and room.files < FEW_FILES:
            findings.append(_no_more_files(room))
        if room.free < LITTLE_ROOM:
            findings.append(_little_space_finding(room))
    return findings


def _little_space_finding(room: FreeSpace) -> Finding:
    number = f"{room.free / GIBIBYTE:.1f}"
    hint = (
        "Make room: pip cache purge, safe-install history --prune; or set TMPDIR and "
        "SAFE_INSTALL_CACHE_DIR to another disk."
    )
    if room.free < NO_ROOM:
        detail = f"{room.path} has {number} GiB left"
        return Finding("disk-full", Severity.ERROR, str(room.path), detail, hint)
    detail = f"{room.path} has {number} GiB left; a CUDA build of torch needs about 5"
    return Finding("disk-space", Severity.NOTE, str(room.path), detail, hint)


def _no_more_files(room: FreeSpace) -> Finding:
    return Finding(
        "disk-full",
        Severity.ERROR,
        str(room.path),
        f"the file system of {room.path} takes {room.files} more files (inodes), whatever room it "
        "has; a torch has 12000",
        "Remove what has many files there, such as environments and caches that nobody needs; or "
        "set SAFE_INSTALL_CACHE_DIR to another disk.",
    )


def check_toolkit(facts: Facts) -> Answer:
    """Would the CUDA toolkit here compile for this torch?"""
    torch, toolkit = torch_of(facts), facts.toolkit
    found = facts.found.get("toolkit", ())
    if toolkit is None or torch.cuda is None:
        return found
    if _major(toolkit.version) == _major(torch.cuda):
        return found
    return (
        *found,
        Finding(
            "toolkit-of-another-cuda",
            Severity.NOTE,
            "nvcc",
            f"nvcc of {toolkit.home} is of CUDA {toolkit.version}, torch "
            f"{torch.runtime_version} was built with {torch.cuda}: extensions are not compiled "
            "with it",
            f"Wheels need no toolkit. To compile: take a toolkit of CUDA {_major(torch.cuda)} and "
            "name it with CUDA_HOME.",
        ),
    )


def check_pip_settings(facts: Facts) -> Answer:
    """Would pip's settings install another torch, or do they name missing folders?"""
    findings = [_index_missing(folder) for folder in facts.missing_folders]
    findings += [
        _unreadable_settings_finding(path, fault) for path, fault in facts.broken_settings.items()
    ]
    torch = facts.environment.torch if facts.environment is not None else None
    for key in ("index-url", "extra-index-url", "find-links"):
        for address in facts.pip_settings.get(key, "").split():
            findings += _other_accelerator(key, address, torch)
    for key in ("target", "prefix", "root"):
        if facts.pip_settings.get(key):
            findings.append(_installs_elsewhere(key, facts.pip_settings[key]))
    return findings


def _index_missing(folder: str) -> Finding:
    return Finding(
        "index-missing",
        Severity.WARNING,
        folder,
        f"pip's settings name {folder}, which is not there",
        "Correct it: pip config list shows where it stands.",
    )


def _installs_elsewhere(key: str, folder: str) -> Finding:
    return Finding(
        "installs-elsewhere",
        Severity.WARNING,
        key,
        f"pip's setting {key} = {folder} makes it install there, and not into this environment",
        f"Remove it: unset PIP_{key.upper()}, pip config unset global.{key}.",
    )


def _unreadable_settings_finding(path: str, fault: str) -> Finding:
    return Finding(
        "settings-unreadable",
        Severity.WARNING,
        path,
        f"pip does not start with its settings in {path}: {fault}",
        f"Correct it, or move it away: mv {shlex.quote(path)} {shlex.quote(path)}.old",
    )


def _other_accelerator(key: str, address: str, torch: Optional[TorchBuild]) -> List[Finding]:
    match = ACCELERATOR_IN_ADDRESS.search(address)
    if match is None or torch is None or not torch.accelerator:
        return []
    if match.group(1) == torch.accelerator:
        return []
    return [
        Finding(
            "index-of-another-build",
            Severity.WARNING,
            key,
            f"pip's setting {key} is {address}, and the installed torch is "
            f"{torch.runtime_version}: plain pip takes torch and its companions for "
            f"{match.group(1)} from there",
            f"Name the one of this torch: .../whl/{torch.accelerator}; or remove the setting.",
        )
    ]


def check_pip_cache(facts: Facts) -> Answer:
    """Does pip's cache have a wheel that was built on this machine for some torch?"""
    if not facts.cached_wheels:
        return ()
    names = sorted({f"{wheel.name} {wheel.version}" for wheel in facts.cached_wheels})
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    projects = sorted({wheel.name for wheel in facts.cached_wheels})
    return (
        Finding(
            "built-wheels-in-pip-cache",
            Severity.NOTE,
            projects[0],
            f"pip's cache holds wheels that were built here, for a torch that their names do not "
            f"say: {', '.join(names[:3])}{more}; plain pip takes them for every torch",
            "Remove them: " + "; ".join(f"pip cache remove {name}" for name in projects),
        ),
    )


# Tool -> its command that adds a project to its lock file.
ADD_COMMANDS = {
    "uv": "uv add NAME",
    "poetry": "poetry add NAME",
    "pdm": "pdm add NAME",
    "pixi": "pixi add --pypi NAME",
}


def check_lock_file(facts: Facts) -> Answer:
    """Does another tool sync this environment with a lock file?"""
    return [
        Finding(
            "kept-by-lock-file",
            Severity.NOTE,
            lock.tool,
            f"{lock.path} lists what belongs here: {lock.tool} takes back what is installed "
            "otherwise when it syncs",
            f"Put into it what shall stay: {ADD_COMMANDS[lock.tool]}",
        )
        for lock in facts.lock_files
    ]


def check_conda(facts: Facts) -> Answer:
    """Did pip overwrite conda's torch, and does MKL fit conda's torch?"""
    by_name = {package.name: package for package in facts.conda}
    torch = facts.environment.torch if facts.environment is not None else None
    findings = _check_torch_of_conda(by_name.get("pytorch") or by_name.get("libtorch"), torch)
    findings += _check_mkl(by_name.get("mkl"), by_name.get("pytorch"))
    return findings


def _check_torch_of_conda(
    package: Optional[CondaPackage], torch: Optional[TorchBuild]
) -> List[Finding]:
    """`package`: conda's record of torch; `torch`: the one that is imported."""
    if torch is None or package is None:
        return []
    if split_local(package.version)[0] == split_local(torch.runtime_version)[0]:
        return []
    return [
        Finding(
            "conda-and-pip-torch",
            Severity.ERROR,
            TORCH,
            f"conda recorded {package.name} {package.version}, and the torch that is "
            f"imported is {torch.runtime_version}: pip installed it over conda's",
            f"Keep one of them: conda remove --force {package.name}, then safe-install "
            f"install --force-reinstall torch=={torch.version}.",
        )
    ]


def _check_mkl(mkl: Optional[CondaPackage], torch: Optional[CondaPackage]) -> List[Finding]:
    if mkl is None or torch is None:
        return []
    try:
        is_broken = (
            Version(mkl.version) >= MKL_WITHOUT_SYMBOL
            and Version(torch.version) < FIRST_TORCH_WITHOUT_IT
        )
    except InvalidVersion:
        return []
    if not is_broken:
        return []
    return [
        Finding(
            "mkl-too-new",
            Severity.ERROR,
            "mkl",
            f"mkl {mkl.version} has no iJIT_NotifyEvent, which conda's pytorch "
            f"{torch.version} asks for",
            "Take the older one: conda install 'mkl<2024.1'.",
        )
    ]


def _major(version: str) -> str:
    return version.split(".")[0]
