"""Compares the HealthReports before and after a change.

The result are findings. If one of them is an error, the change is rolled back.
"""

from __future__ import annotations

import re
from typing import Collection, Iterable, List, Mapping, Optional, Tuple

from safe_install.health.requirements import make_finding, new_unmet
from safe_install.models import Finding, HealthReport, ImportResult, Severity, TorchBuild
from safe_install.tags import accelerator_of_cuda, accelerator_of_version


def is_healthy(report: HealthReport) -> bool:
    """Did nothing fail?"""
    answers = (*report.imports.values(), *report.operations.values())
    return report.crashed is None and all(answer.ok for answer in answers)


def compare_health(
    before: HealthReport,
    after: HealthReport,
    *,
    requested: Collection[str],
    torch_requested: bool,
    cuda_loss_requested: bool = False,
) -> Tuple[Finding, ...]:
    """The findings on what got worse. If one is an error, the change must be rolled back.

    `requested`: the modules and projects that the user asked for; they must work even if they are
    new. `torch_requested`: the user named torch, so its version may change. `cuda_loss_requested`:
    the user named a CPU build.
    """
    findings: List[Finding] = []
    if not torch_requested:
        findings += _check_torch(before, after)
    findings += _check_cuda(before, after, cuda_loss_requested)
    for check, old, new in (
        ("import-failed", before.imports, after.imports),
        ("operation-failed", before.operations, after.operations),
    ):
        findings += _check_results(
            check,
            old,
            new,
            requested,
            # The loader is asked fewer questions than an import. A new failure counts as worse
            # here; the caller then checks the old environment by import before it rolls back.
            unasked_worked=before.asked == "loader",
            torch=after.torch_version,
        )
    if after.crashed and not before.crashed:
        detail = f"the process of the check ended: {after.crashed}"
        findings.append(Finding("check-crashed", Severity.ERROR, "torch", detail))
    for unmet in new_unmet(before.unmet, after.unmet):
        hint = "Install versions that fit each other, in one command."
        findings.append(make_finding(unmet, Severity.ERROR, hint=hint))
    return tuple(findings)


def _check_cuda(
    before: HealthReport, after: HealthReport, cuda_loss_requested: bool
) -> Iterable[Finding]:
    if after.crashed and not before.crashed and after.cuda_available is None:
        return  # the crash is an error of its own
    if not before.cuda_available:
        return
    if not after.cuda_available:
        yield Finding(
            "cuda-lost",
            Severity.WARNING if cuda_loss_requested else Severity.ERROR,
            "torch",
            f"torch.cuda.is_available() was True and is now {after.cuda_available}: "
            f"{_why_unavailable(after)}",
            "The change that was tried does not fit this driver or replaced the CUDA build of "
            "torch.",
        )
    elif (before.device_count or 0) > (after.device_count or 0):
        detail = f"torch saw {before.device_count} GPUs before and {after.device_count} after"
        yield Finding("devices-lost", Severity.ERROR, "torch", detail)


def _check_torch(before: HealthReport, after: HealthReport) -> Iterable[Finding]:
    if before.torch_version is None:
        return
    for attribute, old, new in (
        ("torch.__version__", before.torch_version, after.torch_version),
        ("torch.version.cuda", before.torch_cuda, after.torch_cuda),
    ):
        if new != old and after.torch_version is not None:
            yield Finding(
                "torch-moved",
                Severity.ERROR,
                "torch",
                f"{attribute} was {old} and is now {new}, and that was not requested",
                "--allow-torch-change permits it.",
            )
    if before.torch_folder and after.torch_folder and before.torch_folder != after.torch_folder:
        yield Finding(
            "torch-moved",
            Severity.ERROR,
            "torch",
            f"torch was imported from {before.torch_folder} and is now imported from "
            f"{after.torch_folder}",
            "A file of this change puts another folder in front of it: a .pth file, a module named "
            "torch.",
        )


def check_torch_build(planned: Optional[TorchBuild], after: HealthReport) -> Tuple[Finding, ...]:
    """An error if the imported torch has another accelerator than the version of the planned one
    says."""
    if planned is None or after.torch_version is None:
        return ()
    accelerator = accelerator_of_version(str(planned.version))
    real = accelerator_of_version(after.torch_version)
    if real is None and after.torch_cuda is not None:
        real = accelerator_of_cuda(after.torch_cuda)
    if accelerator is None or real is None or accelerator == real:
        return ()
    detail = f"torch {planned.version} was to come, and {after.torch_version} is imported"
    hint = "Its file is not what its name says: tell the host that served it."
    return (Finding("torch-other-build", Severity.ERROR, "torch", detail, hint),)


def _check_results(
    check: str,
    before: Mapping[str, ImportResult],
    after: Mapping[str, ImportResult],
    requested: Collection[str],
    *,
    unasked_worked: bool,
    torch: Optional[str],
) -> Iterable[Finding]:
    """Findings on the imports or operations that fail. `unasked_worked`: what has no result before
    is taken to have worked. `torch`: the version, for hints."""
    for name, answer in after.items():
        if answer.ok:
            continue
        reason = first_line(answer.error)
        if answer.unknown:
            # An error even if it failed before: the change was not verified.
            detail = f"{name} could not be asked: {reason}"
            hint = "Give the check more time: --check-timeout 20m."
            yield Finding(check, Severity.ERROR, name, detail, hint)
            continue
        hint = hint_for(name, torch, answer.error)
        old = before.get(name)
        worked_before = old.ok if old is not None else (name == "torch" or unasked_worked)
        if worked_before or name.split(" ")[0] in requested:
            verb = "does not import" if check == "import-failed" else "fails"
            yield Finding(check, Severity.ERROR, name, f"{name} {verb}: {reason}", hint)
            continue
        as_before = "" if old is None else ", as it did before"
        detail = f"{name} fails{as_before}: {reason}"
        yield Finding(check, Severity.WARNING, name, detail, hint)


LONGEST_LINE = 300  # characters

# Libraries of the operating system that wheels do not include: pattern -> hint.
_MISSING_LIBRARIES: Tuple[Tuple[str, str], ...] = (
    (
        r"FFmpeg|libav(util|codec|format|device|filter)\.so",
        "Install FFmpeg: apt-get install ffmpeg, dnf install ffmpeg, or conda install ffmpeg.",
    ),
    (r"libGL\.so", "Install OpenGL's library: apt-get install libgl1, dnf install mesa-libGL."),
    (r"libgthread-2|libglib-2", "Install GLib: apt-get install libglib2.0-0, dnf install glib2."),
    (
        r"libgomp\.so",
        "Install GCC's OpenMP library: apt-get install libgomp1, dnf install libgomp.",
    ),
    (r"libsndfile\.so", "Install libsndfile: apt-get install libsndfile1, dnf install libsndfile."),
    (r"libsox\.so", "Install SoX: apt-get install libsox-dev, dnf install sox."),
    (r"libopenblas\.so", "Install OpenBLAS: apt-get install libopenblas0, dnf install openblas."),
    (r"libmpi\w*\.so", "Install MPI: apt-get install libopenmpi3, dnf install openmpi."),
    # setuptools 82 removed it.
    (r"No module named 'pkg_resources'", "safe-install install 'setuptools<82'"),
)
# Other errors of the loader or of torch that do not mean a wrong build: pattern -> hint.
_SYMPTOMS: Tuple[Tuple[str, str], ...] = (
    (
        r"failed to map segment from shared object",  # glibc does not say which of the two causes
        "Its file system is mounted noexec (findmnt -T shows it), or there is too little memory "
        "(ulimit -v, the limit of the container).",
    ),
    (
        r"[Cc]annot allocate memory(?! in static)",
        "There is too little memory: raise `ulimit -v`, or the limit of the container.",
    ),
    (
        r"cannot enable executable stack",
        "glibc 2.41 and newer loads no library with an executable stack: take a newer build of it.",
    ),
    (
        r"cannot allocate memory in static TLS block",
        "Import torch before the other packages; or name that library in LD_PRELOAD.",
    ),
    (
        r"Failed to load the backend extension",
        "Remove the package that brings it, or: export TORCH_DEVICE_BACKEND_AUTOLOAD=0",
    ),
)


def first_line(error: Optional[str]) -> str:
    """The first line of an exception's text, since torch appends many lines of advice and stacks.
    The JSON document has the whole text."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    if not lines:
        return "no reason was given"
    # Some exceptions begin with a line that only has their name: "ValueError:".
    is_name_alone = len(lines) > 1 and re.fullmatch(r"[\w.]+:", lines[0]) is not None
    line = f"{lines[0]} {lines[1]}" if is_name_alone else lines[0]
    return line[:LONGEST_LINE]


def hint_for(name: str, torch: Optional[str], error: Optional[str] = None) -> str:
    """The remedy for a failed import or operation; "" if none is known. `torch`: its version."""
    if name == "torch.from_numpy" and _is_built_for_numpy_1(torch):
        return 'Ask for "numpy<2": torch before 2.3 was built for numpy 1.'
    if "no kernel image is available" in (error or ""):
        return (
            "This build has no code for this GPU: take one that has, or build it with --target-gpu."
        )
    for pattern, hint in (*_MISSING_LIBRARIES, *_SYMPTOMS):
        if re.search(pattern, error or ""):
            return hint
    return ""


def _is_built_for_numpy_1(torch: Optional[str]) -> bool:
    """torch 2.3 is the first release that is built for numpy 2."""
    release = re.match(r"(\d+)\.(\d+)", torch or "")
    if release is None:
        return False
    return (int(release.group(1)), int(release.group(2))) < (2, 3)


def _why_unavailable(after: HealthReport) -> str:
    """Why CUDA is not available, from torch's own messages if there are any."""
    if after.torch_version is not None and after.torch_cuda is None:
        return f"torch {after.torch_version} is a build without CUDA"
    if after.warnings:
        return after.warnings[0]
    return _first_error(after) or "torch gives no reason"


def _first_error(report: HealthReport) -> Optional[str]:
    for answers in (report.imports, report.operations):
        for answer in answers.values():
            if not answer.ok:
                return answer.error
    return None


def check_cuda_required(
    report: HealthReport, cause: Optional[Finding] = None
) -> Tuple[Finding, ...]:
    """For `--require-cuda`: an error if CUDA is not available. `cause`: the finding of a diagnosis,
    if there was one."""
    if report.cuda_available:
        return ()
    if cause is not None:
        detail = f"CUDA is required and torch.cuda.is_available() is not True: {cause.detail}"
        return (Finding("cuda-required", Severity.ERROR, "torch", detail, cause.hint),)
    reason = _why_not_asked(report) if report.cuda_available is None else _why_unavailable(report)
    hint = "Start the container with its GPUs (docker run --gpus all), or repair the driver."
    if not _is_imported(report):
        hint = "Make torch import first: what its import says is above."
    elif _is_cpu_build(report):
        hint = "Install a CUDA build of this torch: https://pytorch.org/get-started/locally has its index."
    detail = f"CUDA is required and torch.cuda.is_available() is not True: {reason}"
    return (Finding("cuda-required", Severity.ERROR, "torch", detail, hint),)


def _why_not_asked(report: HealthReport) -> str:
    if not _is_imported(report):
        return f"torch does not import: {report.imports['torch'].error}"
    if report.crashed is not None:
        return f"the check did not end: {report.crashed}"
    if _is_cpu_build(report):
        return f"torch {report.torch_version} is built without CUDA"
    return "there is no NVIDIA driver here (libcuda.so.1 is not found)"


def _is_cpu_build(report: HealthReport) -> bool:
    """Is it a CPU build? A driver would not help."""
    if report.torch_version is None or report.torch_cuda is not None:
        return False
    return report.accelerator in (None, "cpu")


def _is_imported(report: HealthReport) -> bool:
    torch = report.imports.get("torch")
    return torch is None or torch.ok
