"""Would a torch, installed or planned, run with the declared driver and GPUs, or with those of this
machine?"""

from __future__ import annotations

from typing import (
    Dict,
    FrozenSet,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Set,
    Tuple,
)

from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.index.facts import Catalog, GpuCode, TorchRelease, TorchTable
from safe_install.models import (
    Driver,
    Environment,
    Finding,
    Interpreter,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.requirements import requirement_name
from safe_install.resolve.torch_change import kind_of
from safe_install.resolve.torch_reason import Reason, predicate
from safe_install.tags import (
    ComputeCapability,
    parse_accelerator,
    parse_device_capabilities,
    parse_release,
)
from safe_install.torch_family import TORCH, is_library_of_torch


class Code(Protocol):
    """GPU code, as the wheel index lists it or as it was read from a file."""

    def runs_on(self, device: ComputeCapability) -> bool:
        """Is there code for a device of this compute capability?"""


def check_torch(
    torch: TorchBuild,
    driver: Optional[Driver],
    interpreter: Interpreter,
    *,
    catalog: Catalog,
    code: Optional[Code] = None,
) -> Tuple[Finding, ...]:
    """What excludes it: errors for a declared driver or GPU, warnings for those of this machine.

    `code`: the GPU code in its files; None: the code that the wheel index lists.
    """
    misfits = find_misfits(torch, driver, interpreter, catalog=catalog, code=code)
    return tuple(one.finding for one in misfits)


class Misfit(NamedTuple):
    """Why a torch does not run with a driver, or with its GPUs."""

    finding: Finding
    reason: Reason  # the same, without the name of the torch and what its files hold


def find_misfits(
    torch: TorchBuild,
    driver: Optional[Driver],
    interpreter: Interpreter,
    *,
    catalog: Catalog,
    code: Optional[Code] = None,
) -> Tuple[Misfit, ...]:
    """As `check_torch`, each with its reason.

    Sources: cuda.json for minimum drivers (NVIDIA's release notes); torch.json for GPU code.
    """
    if driver is None or torch.cuda is None:
        return ()
    problems = []
    too_old = catalog.cuda.why_too_old(driver, torch.accelerator, system=interpreter.system)
    if too_old:
        reason = predicate(too_old)
        name = f"torch {torch.runtime_version}"
        problems.append(("driver-too-old", reason.about(name), reason))
    if code is None:
        code = known_code(torch.version, torch.accelerator, interpreter, catalog.torch)
    code = code or toolkit_limits(torch.accelerator)
    missed = missed_devices(code, driver)
    if missed:
        problems.append(("no-kernel-image", *_describe_missed(torch, driver, missed, code)))
    if not problems:
        return ()
    severity = Severity.ERROR if driver.declared else Severity.WARNING
    hint = _hint(torch, driver, interpreter, catalog)
    return tuple(
        Misfit(Finding(check, severity, TORCH, detail, hint), reason)
        for check, detail, reason in problems
    )


def known_code(
    version: Version, accelerator: str, interpreter: Interpreter, torch_table: TorchTable
) -> Optional[GpuCode]:
    """The GPU code of a public build of torch; None where it is not known."""
    return torch_table.gpu_code_of(version, accelerator, platform=interpreter.platform)


class ToolkitLimits(NamedTuple):
    """The GPUs that a CUDA toolkit can compile for: an upper bound, where the code of a build is
    not known."""

    cuda: str
    oldest: ComputeCapability
    newest: Optional[ComputeCapability] = None  # None: every newer one

    def runs_on(self, device: ComputeCapability) -> bool:
        """May there be code for a device of this compute capability?"""
        own = (device.major, device.minor)
        is_too_new = self.newest is not None and own > (self.newest.major, self.newest.minor)
        return own >= (self.oldest.major, self.oldest.minor) and not is_too_new

    def __str__(self) -> str:
        """`no code below 7.5: CUDA 13.2 compiles none`."""
        if self.newest is None:
            return f"no code below {self.oldest}: CUDA {self.cuda} compiles none"
        return (
            f"no code below {self.oldest} or beyond {self.newest}: CUDA {self.cuda} compiles none"
        )


def toolkit_limits(accelerator: str) -> Optional[ToolkitLimits]:
    """The limits of a CUDA accelerator; None for others.

    Release notes of the toolkits: 13.0 dropped Maxwell, Pascal and Volta, 12.8 added Blackwell,
    12.0 dropped Kepler, 11.8 added Hopper. The wheels of torch for older toolkits hold no PTX that would run on newer
    GPUs (torch.json).
    """
    parsed = parse_accelerator(accelerator)
    if parsed is None or parsed.kind != "cuda" or len(parsed.version) < 2:
        return None
    cuda = ".".join(map(str, parsed.version))
    if parsed.version >= (13, 0):
        return ToolkitLimits(cuda, ComputeCapability(7, 5))
    if parsed.version >= (12, 8):
        return ToolkitLimits(cuda, ComputeCapability(5, 0))
    if parsed.version >= (12, 0):
        return ToolkitLimits(cuda, ComputeCapability(5, 0), ComputeCapability(9, 0))
    if parsed.version >= (11, 8):
        return ToolkitLimits(cuda, ComputeCapability(3, 5), ComputeCapability(9, 0))
    return None


def missed_devices(code: Optional[Code], driver: Driver) -> List[ComputeCapability]:
    """The compute capabilities, declared or of this machine, without code; none where the code is
    not known."""
    devices = parse_device_capabilities(device.compute_capability for device in driver.devices)
    return [device for device in devices if code is not None and not code.runs_on(device)]


def _describe_missed(
    torch: TorchBuild, driver: Driver, missed: List[ComputeCapability], code: Optional[Code]
) -> Tuple[str, Reason]:
    """The whole sentence, and the reason."""
    names = ", ".join(device.sm for device in missed)
    where = "declared" if driver.declared else "here"
    reason = Reason(f"no kernel image for {names}, which is {where}")
    version = torch.runtime_version
    return (
        f"no kernel image for {names}, which is {where}: torch {version} has {code}",
        reason,
    )


# --- which build would run ------------------------------------------------------------------------


def check_numpy(plan: Plan, torch: Optional[TorchBuild]) -> Tuple[Finding, ...]:
    """A warning where the plan installs a numpy that this torch was not built for.

    torch 2.3 is the first one built for numpy 2; in older ones `torch.from_numpy` fails beside
    numpy 2.
    """
    release = parse_release(torch.runtime_version) if torch is not None else None
    if torch is None or release is None or release >= Version("2.3"):
        return ()
    for step in plan.steps:
        numpy = parse_release(step.version or "") if step.name == "numpy" else None
        if numpy is not None and numpy >= Version("2"):
            detail = f"torch {torch.runtime_version} was built for numpy 1: torch.from_numpy fails beside numpy {numpy}"
            return (
                Finding("breaks-numpy", Severity.WARNING, "numpy", detail, 'Ask for "numpy<2".'),
            )
    return ()


def note_unused_cuda(
    plan: Plan, torch: Optional[TorchBuild], environment: Environment, *, accelerator: str
) -> Tuple[Finding, ...]:
    """A note where a CUDA build would be installed on a machine without a driver, and none was
    declared: how much the CPU build would save. `accelerator`: the requested one; no note where
    there is one."""
    had_cuda = environment.torch is not None and environment.torch.cuda is not None
    if (
        accelerator
        or had_cuda
        or environment.driver is not None
        or torch is None
        or torch.cuda is None
    ):
        return ()
    if plan.find(TORCH) is None:
        return ()
    libraries = _find_libraries(plan)
    detail = f"no NVIDIA driver is here, and torch {torch.runtime_version} is a build for CUDA"
    saved = "is smaller"
    if libraries:
        detail += (
            f": {len(libraries)} of the {len(plan.steps)} distributions that come are its libraries"
        )
        saved = "needs none of them"
    hint = (
        f"The build for the CPU {saved}: add --accelerator cpu. For an image, declare the driver "
        "that it will meet: "
        "--target-driver."
    )
    return (Finding("no-driver", Severity.NOTE, TORCH, detail, hint),)


def _find_libraries(plan: Plan) -> FrozenSet[NormalizedName]:
    """The libraries that torch requires in the plan, and what these require in turn."""
    by_name = {step.name: step for step in plan.steps}
    found: Set[NormalizedName] = set()
    waiting = [name for name in _required_by(by_name[TORCH]) if is_library_of_torch(name)]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:
            found.add(name)
            waiting += _required_by(by_name[name])
    return frozenset(found)


def _required_by(step: Step) -> List[NormalizedName]:
    names = map(requirement_name, step.requires)
    return [name for name in names if name is not None]


def unused_gpu(torch: TorchBuild, here: Environment) -> Optional[Reason]:
    """Why a new torch would not use the NVIDIA GPU of this machine, or the declared one; None where
    it would, or where a torch is installed already: then that one decides."""
    driver, kind = here.driver, kind_of(torch)
    if kind in ("", "cuda") or here.torch is not None or driver is None:
        return None
    if not driver.declared and not driver.devices:
        return None
    if kind == "cpu":
        return predicate("is a build for the CPU, and there is a GPU")
    return predicate(f"is a build for {torch.accelerator}, and the GPU is NVIDIA's")


def warn_of_unused_gpu(
    plan: Plan, torch: Optional[TorchBuild], here: Environment, *, catalog: Catalog
) -> Tuple[Finding, ...]:
    """A warning where such a torch would be installed without a request for it: pip found no
    other."""
    if torch is None or here.driver is None or plan.find(TORCH) is None:
        return ()
    reason = unused_gpu(torch, here)
    if reason is None:
        return ()
    detail = reason.about(f"torch {torch.runtime_version}")
    hint = _hint(torch, here.driver, here.interpreter, catalog)
    return (Finding("unused-gpu", Severity.WARNING, TORCH, detail, hint),)


def note_torch_stays(
    plan: Plan, environment: Environment, *, accelerator: str
) -> Tuple[Finding, ...]:
    """A note where an accelerator was requested, but a torch for another one stays because torch
    was not named."""
    torch = environment.torch
    if (
        not accelerator
        or torch is None
        or torch.accelerator == accelerator
        or plan.find(TORCH) is not None
    ):
        return ()
    detail = (
        f"torch {torch.runtime_version} stays: {accelerator} was asked for, and torch was not named"
    )
    return (
        Finding(
            "torch-stays",
            Severity.NOTE,
            TORCH,
            detail,
            f"Name it too: --accelerator {accelerator} torch.",
        ),
    )


def _hint(torch: TorchBuild, driver: Driver, interpreter: Interpreter, catalog: Catalog) -> str:
    place = "there" if driver.declared else "here"
    build = next(_fitting_builds(torch, driver, interpreter, catalog), None)
    if build is None:
        return f"Take the build for the CPU (--accelerator cpu): none for CUDA is known that runs {place}."
    return f"Take a build that runs {place}: safe-install {build}"


def _fitting_builds(
    torch: TorchBuild, driver: Driver, interpreter: Interpreter, catalog: Catalog
) -> Iterator[str]:
    """The requirements to ask for, best first: the same release for another CUDA, then newer
    releases before older ones."""
    here = torch.version.public
    releases = sorted(
        catalog.torch.releases.values(), key=lambda release: Version(release.version), reverse=True
    )
    same = [release for release in releases if release.version == here]
    for release in [*same, *releases]:
        if _python_of(interpreter) not in release.python:
            continue
        on_index = release.untagged_on(interpreter.platform)
        for accelerator in _cuda_builds(release.accelerators_on(interpreter.platform), on_index):
            if _runs(release, accelerator, driver, interpreter, catalog):
                # An installed 2.9.1+cuXYZ would satisfy a bare `torch==2.9.1`.
                if accelerator == on_index and release.version != here:
                    yield f"torch=={release.version} (it is built for {accelerator})"
                else:
                    yield f"torch=={release.version}+{accelerator}"


def _python_of(interpreter: Interpreter) -> str:
    return ".".join(interpreter.version.split(".")[:2])


def _cuda_builds(accelerators: Sequence[str], on_index: Optional[str]) -> List[str]:
    """The CUDA accelerators among these, newest first."""
    versions: Dict[str, Tuple[int, ...]] = {}
    for name in (*accelerators, on_index):
        accelerator = parse_accelerator(name) if name else None
        if name and accelerator is not None and accelerator.kind == "cuda":
            versions[name] = accelerator.version
    return sorted(versions, key=versions.__getitem__, reverse=True)


def _runs(
    release: TorchRelease,
    accelerator: str,
    driver: Driver,
    interpreter: Interpreter,
    catalog: Catalog,
) -> bool:
    if catalog.cuda.is_too_old(driver, accelerator, system=interpreter.system):
        return False
    code = known_code(Version(release.version), accelerator, interpreter, catalog.torch)
    limits = code or toolkit_limits(accelerator)
    if driver.devices and limits is None:
        return False
    return not missed_devices(limits, driver)
