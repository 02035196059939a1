"""The GPU code of a wheel and its CUDA: which of its files count beside a torch, and which GPUs and
drivers they support.

Files that do not link torch may have GPU code, too: they are loaded by ctypes, or compute by
themselves.
"""

from __future__ import annotations

import posixpath
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from safe_install.index.facts import CudaTable
from safe_install.models import Driver, Finding, Severity, TorchBuild
from safe_install.tags import (
    ComputeCapability,
    cuda_of_accelerator,
    is_same_major,
    parse_accelerator,
    parse_device_capabilities,
)
from safe_install.wheels.abi import (
    CUDA_OF_TORCH,
    MEND,
    Needs,
    ObjectVerdict,
    cuda_major_of,
    group_of,
)
from safe_install.wheels.fatbin import CUDA_OF_PTX, DeviceCode, union

# CUDA's own libraries, which some wheels bundle: their code says nothing about the wheel's own.
_OF_CUDA = re.compile(
    r"lib(?:cudart|cublas|cublasLt|cufft|cufftw|curand|cusolver|cusolverMg|cusparse|cusparseLt|cudnn\w*|cupti|cutensor\w*"
    r"|nccl|npp\w+|nvrtc|nvrtc-builtins|nvJitLink|nvjpeg|nvshmem\w*|nvinfer\w*|nvToolsExt)(?:[-.]|$)"
)
_CUDA_IN_NAME = re.compile(r"(?<![a-z])cu(?:da)?[-_]?(\d{2,3})(?!\d)")


class CountingFiles(NamedTuple):
    """The files of a wheel that count beside a torch."""

    files: Tuple[ObjectVerdict, ...]
    # alternatives for another CUDA, none of which is for this one
    left_out: Tuple[ObjectVerdict, ...] = ()

    def with_gpu_code(self) -> CountingFiles:
        """The files that have GPU code, or may have some."""
        return CountingFiles(
            tuple(filter(_has_code, self.files)), tuple(filter(_has_code, self.left_out))
        )

    @property
    def code(self) -> DeviceCode:
        """The code of all these files together."""
        return union([one.facts.code for one in self.files])


def _has_code(one: ObjectVerdict) -> bool:
    return bool(one.facts.code) or not one.facts.code.is_complete


def is_cuda_library(member: str) -> bool:
    """Is it one of CUDA's own libraries, by its name?"""
    return _OF_CUDA.match(posixpath.basename(member)) is not None


def cuda_in_name(text: str) -> Optional[Tuple[int, ...]]:
    """`libbitsandbytes_cuda128.so` -> (12, 8), `pt24cu121` -> (12, 1), `cu12torch2.8` -> (12,)."""
    found = _CUDA_IN_NAME.search(text)
    parsed = parse_accelerator(f"cu{found.group(1)}") if found else None
    return parsed.version if parsed is not None else None


def find_counting_files(verdicts: Sequence[ObjectVerdict], torch: TorchBuild) -> CountingFiles:
    """The files of a wheel that count beside `torch`: all but CUDA's own libraries.

    Of alternatives for different CUDA versions (their names differ only in numbers), those for
    torch's CUDA count; where there is none, those for its major version.
    """
    here = tuple(int(part) for part in (torch.cuda or "0").split(".")[:2])
    groups: Dict[str, List[ObjectVerdict]] = {}
    for one in verdicts:
        if not is_cuda_library(one.facts.member):
            groups.setdefault(group_of(one.facts.member), []).append(one)
    files: List[ObjectVerdict] = []
    left_out: List[ObjectVerdict] = []
    for members in groups.values():
        chosen = _of_alternatives(members, here)
        files += chosen
        if not chosen:
            left_out += members
    return CountingFiles(tuple(files), tuple(left_out))


def _of_alternatives(
    members: Sequence[ObjectVerdict], here: Tuple[int, ...]
) -> List[ObjectVerdict]:
    cuda = [_cuda_of_file(one) for one in members]
    if len(members) == 1 or None in cuda:
        return list(members)
    exact = [one for one, version in zip(members, cuda) if version == here]
    return exact or [
        one for one, version in zip(members, cuda) if version is not None and version[0] == here[0]
    ]


def _cuda_of_file(one: ObjectVerdict) -> Optional[Tuple[int, ...]]:
    named = cuda_in_name(posixpath.basename(one.facts.member))
    if named is not None:
        return named
    majors = [major for major in map(cuda_major_of, one.facts.needed) if major is not None]
    return (majors[0],) if majors else None


# --- GPUs -----------------------------------------------------------------------------------------


def check_gpu_code(
    name: str,
    verdicts: Sequence[ObjectVerdict],
    *,
    torch: TorchBuild,
    driver: Optional[Driver],
    has_gpu_code: bool,
    needs: Optional[Needs] = None,
    is_extension: bool = True,
) -> Tuple[Finding, ...]:
    """Does the wheel have code for the GPUs that were declared, or for those of this machine?

    `has_gpu_code`: the wheel index says that it should. `needs`: is a member one that its project
    needs? Each of these must have code for a GPU; without such a file, one of all. `is_extension`:
    for a wheel that does not belong to torch there are only warnings.
    """
    if torch.cuda is None:
        return ()
    found = find_counting_files(verdicts, torch).with_gpu_code()
    if not found.files:
        return _check_lost_code(name, verdicts, found, torch, has_gpu_code)
    devices = parse_device_capabilities(
        device.compute_capability for device in (driver.devices if driver else ())
    )
    cuda = driver.cuda if driver else None
    missed = [device for device in devices if not _is_served(found, device, cuda, needs)]
    if not missed or not found.code.is_complete:
        return ()
    declared = driver is not None and driver.declared
    is_error = is_extension and (declared or len(missed) == len(devices))
    names = ", ".join(device.sm for device in missed)
    detail = f"no kernel image for {names}: {name} has {_describe(found)}{_unread_ptx(found, missed, cuda)}"
    severity = Severity.ERROR if is_error else Severity.WARNING
    return (
        Finding(
            "no-kernel-image",
            severity,
            name,
            detail,
            "Take a build that has it, or build it for this GPU.",
        ),
    )


def _is_served(
    found: CountingFiles,
    device: ComputeCapability,
    driver_cuda: Optional[str],
    needs: Optional[Needs],
) -> bool:
    needed: Dict[str, List[ObjectVerdict]] = {}
    for one in found.files:
        if needs is not None and needs(one.facts.member):
            needed.setdefault(group_of(one.facts.member), []).append(one)
    for members in list(needed.values()) or [list(found.files)]:
        if not any(one.facts.code.runs_on(device, driver_cuda=driver_cuda) for one in members):
            return False
    return True


def _describe(found: CountingFiles) -> str:
    chosen = [one for one in found.files if cuda_in_name(posixpath.basename(one.facts.member))]
    where = (
        f" ({posixpath.basename(chosen[0].facts.member)})"
        if len(chosen) == len(found.files) == 1
        else ""
    )
    return f"{found.code}{where}"


def _unread_ptx(
    found: CountingFiles, missed: Sequence[ComputeCapability], driver_cuda: Optional[str]
) -> str:
    """A hint that a newer driver could compile the PTX; "" where it could not."""
    if found.code.is_ptx_read_by(driver_cuda) or not all(
        found.code.runs_on(device) for device in missed
    ):
        return ""
    oldest = ".".join(map(str, CUDA_OF_PTX[found.code.ptx_version]))
    return f", and a driver for CUDA {driver_cuda} does not compile PTX of CUDA {oldest}"


def _check_lost_code(
    name: str,
    verdicts: Sequence[ObjectVerdict],
    found: CountingFiles,
    torch: TorchBuild,
    has_gpu_code: bool,
) -> Tuple[Finding, ...]:
    if found.left_out:
        versions = {_cuda_of_file(one) or () for one in found.left_out}
        names = ", ".join(".".join(map(str, version)) for version in sorted(versions))
        detail = f"{name} has GPU code for CUDA {names}, and torch here is for CUDA {torch.cuda}"
        return (
            Finding("no-gpu-code", Severity.WARNING, name, detail, MEND.replace("PROJECT", name)),
        )
    if has_gpu_code and any(one.facts.uses_torch for one in verdicts):
        detail = f"{name} has no code for GPUs, and torch here is for CUDA {torch.cuda}: it would compute on the CPU"
        return (
            Finding("no-gpu-code", Severity.WARNING, name, detail, MEND.replace("PROJECT", name)),
        )
    return ()


# --- drivers --------------------------------------------------------------------------------------


class BuiltForCuda(NamedTuple):
    """The CUDA that a wheel was built for, as far as that is certain."""

    accelerator: str  # "cu13", "cu128"
    evidence: str  # "it needs libcudart.so.13"


def find_cuda(
    verdicts: Sequence[ObjectVerdict], torch: TorchBuild, claimed: Optional[BuiltForCuda] = None
) -> Optional[BuiltForCuda]:
    """The CUDA of a wheel: from the libraries that its files link, else from its version or name
    (`claimed`), else from its PTX, else torch's, where its files link torch's CUDA libraries. None
    where nothing tells.

    A statically linked CUDA runtime leaves no library name.
    """
    counting = find_counting_files(verdicts, torch)
    needed = [name for one in counting.files for name in one.facts.needed]
    linked = {
        major: name for name in needed for major in [cuda_major_of(name)] if major is not None
    }
    if linked:
        here = int((torch.cuda or "0").split(".")[0])
        major = here if here in linked else min(linked)
        return BuiltForCuda(f"cu{major}", f"it needs {linked[major]}")
    if claimed is not None:
        return claimed
    ptx = CUDA_OF_PTX.get(counting.code.ptx_version)
    if ptx is not None:
        return BuiltForCuda(f"cu{ptx[0]}{ptx[1]}", f"its PTX is of CUDA {ptx[0]}.{ptx[1]}")
    of_torch = [name for name in needed if name in CUDA_OF_TORCH]
    if of_torch and torch.accelerator:
        return BuiltForCuda(torch.accelerator, f"it needs {of_torch[0]}")
    return None


def check_cuda_major(
    name: str, built: Optional[BuiltForCuda], *, torch: TorchBuild
) -> Tuple[Finding, ...]:
    """A warning where an extension was built for another CUDA major version than torch. It may
    bring its own libraries, or work without the files that need them."""
    if built is None or torch.cuda is None or is_same_major(built.accelerator, torch.accelerator):
        return ()
    cuda = cuda_of_accelerator(built.accelerator)
    detail = f"{name} was built for CUDA {cuda} ({built.evidence}), and torch here is for CUDA {torch.cuda}"
    return (
        Finding(
            "built-for-another-cuda", Severity.WARNING, name, detail, MEND.replace("PROJECT", name)
        ),
    )


def check_driver(
    name: str,
    built: Optional[BuiltForCuda],
    *,
    torch: TorchBuild,
    driver: Optional[Driver],
    table: CudaTable,
    is_extension: bool = True,
) -> Tuple[Finding, ...]:
    """Does the driver, declared or of this machine, support the CUDA that a wheel was built for?

    That the driver of this machine is too old for torch itself is not the wheel's fault. `table`:
    minimum drivers from NVIDIA's release notes.
    """
    if driver is None or built is None or torch.cuda is None:
        return ()
    too_old = table.why_too_old(driver, built.accelerator)
    if not too_old or (not driver.declared and table.is_too_old(driver, torch.accelerator)):
        return ()
    severity = Severity.ERROR if is_extension else Severity.WARNING
    cuda = cuda_of_accelerator(built.accelerator)
    detail = f"{name} was built for CUDA {cuda} ({built.evidence}) and {too_old}"
    return (
        Finding(
            "driver-too-old",
            severity,
            name,
            detail,
            "Take a build for an older CUDA, or update the driver.",
        ),
    )
