"""`safe-install bundle REQ... -o FILE.zip`: requirements and everything that they need in one file,
to be installed on a machine without network."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import tempfile
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple, TypedDict
from urllib.parse import urlsplit, urlunsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install import __version__
from safe_install.errors import Refused, UsageError
from safe_install.folders import expand_home
from safe_install.index.catalog import index_date, known_projects, torch_table
from safe_install.models import Finding, InstallResult, Origin, Outcome, Severity, Step
from safe_install.pipeline.bundling import (
    Machines,
    PlannedBundle,
    fetch_wheels,
    find_machines,
    find_missing,
    find_sizes,
    list_requirements,
    plan_bundle,
)
from safe_install.pipeline.session import Session, error_context, make_folder
from safe_install.ports import Timings, World
from safe_install.program_archive import WHEELS, hash_program
from safe_install.redaction import redact
from safe_install.requirements import requirement_name
from safe_install.resolve.accelerator import with_known_accelerator
from safe_install.resolve.bundle_request import BundleRequest
from safe_install.resolve.own_options import OwnOptions
from safe_install.resolve.recorded_address import is_hosted
from safe_install.resolve.request import PIP_INDEX, InstallRequest
from safe_install.resolve.target import notes_for
from safe_install.snapshot.bundle_file import write_bundle
from safe_install.snapshot.gather import marker_of
from safe_install.snapshot.machine_inventory import MachineInventory, read_inventory
from safe_install.snapshot.manifest import (
    BundledWheel,
    BundleTarget,
    Manifest,
    check_filename,
    describe_target,
    describe_wheel,
    find_oldest_libc,
)
from safe_install.snapshot.program import read_program
from safe_install.snapshot.pylock import render_pylock
from safe_install.snapshot.values import (
    FileSource,
    IndexSource,
    RecordedDistribution,
    Snapshot,
    Source,
    TorchFacts,
    UrlSource,
)
from safe_install.system.atomic_write import why_no_file
from safe_install.torch_family import TORCH
from safe_install.transaction.room import find_shortage_of_folders
from safe_install.wheels.archive import Artifact

Artifacts = Mapping[NormalizedName, Artifact]


class _PlannedRow(TypedDict):
    """A wheel that would be in the bundle, as JSON values."""

    name: str
    version: Optional[str]
    size: Optional[int]  # bytes


def bundle(request: BundleRequest, world: World) -> InstallResult:
    """Write the bundle, or report what would be in it. No environment is changed.

    Errors: NoCandidate and PipFailed where there is no plan, Refused for what cannot be bundled,
    those of downloads. FILE is unchanged after an error.
    """
    timings = Timings()
    with contextlib.ExitStack() as stack:
        with timings.stage("probe"):
            machines = find_machines(request, world)
        stack.enter_context(error_context(machines.target))
        output = None if request.install.own.dry_run else find_output(request)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safe-install-")))
        install = request.install
        own = with_known_accelerator(install.own, torch_table())
        install = _for_machine(request, own, machines)
        session = Session(install, machines.target, world, timings, work)
        planned = plan_bundle(request, machines, session)
        if not planned.steps:
            return _nothing(planned, timings)
        if output is None:
            return _describe(planned, request)
        _refuse_shortage(planned, output)
        return _write(planned, request, output)


def _for_machine(request: BundleRequest, own: OwnOptions, machines: Machines) -> InstallRequest:
    """The install request to plan. For a torch that is not installed here nothing can be built."""
    if machines.target.torch is None:
        own = dataclasses.replace(own, no_build=True, is_elsewhere=True)
    return dataclasses.replace(request.install, own=own)


def find_output(request: BundleRequest) -> Path:
    """The file to write; a folder for -o is an error. Errors: UsageError."""
    path = expand_home(request.output or "").absolute()
    if path.is_symlink():
        path = path.resolve()  # the link stays
    what = why_no_file(path)
    if what:
        raise UsageError(f"-o {request.output}: {what}", hint="Name a file: -o FILE.zip.")
    return path


def _refuse_shortage(planned: PlannedBundle, output: Path) -> None:
    """Refuse a bundle that is known to exceed the disk, before anything is fetched. Errors:
    Refused."""
    size = sum(find_sizes(planned).values())
    session = planned.session
    cache = session.work if session.request.no_cache else session.world.cache_dir
    shortage = find_shortage_of_folders([(cache, find_missing(planned)), (output.parent, size)])
    if shortage is not None:
        raise Refused(
            shortage,
            hint="Make room, or name folders elsewhere: -o FILE.zip, SAFE_INSTALL_CACHE_DIR.",
        )


# --- its content ----------------------------------------------------------------------------------


def _write(planned: PlannedBundle, request: BundleRequest, output: Path) -> InstallResult:
    session = planned.session
    there = (
        read_inventory(expand_home(request.installed)) if request.installed else MachineInventory()
    )
    artifacts = fetch_wheels(planned)
    all_wheels = tuple(
        _wheel_of(step, artifacts[step.name], session.request)
        for step in sorted(planned.steps, key=lambda step: step.name)
    )
    wheels = _find_missing_there(all_wheels, artifacts, there)
    if not wheels:
        return _nothing(planned, session.timings)
    program = read_program(
        planned.machines.target.interpreter.version, functools.partial(_fetch_needed, planned)
    )
    lock = render_pylock(_make_snapshot(planned, all_wheels))
    manifest = Manifest(
        list_requirements(request, planned.steps),
        _made_for(planned, all_wheels),
        wheels,
        hashlib.sha256(lock.encode()).hexdigest(),
        hash_program(program.files),
        __version__,
        program.python,
        index_date(),
    )
    files = {wheel.filename: artifacts[canonicalize_name(wheel.name)].path for wheel in wheels}
    with session.timings.stage("write"):
        sha256 = write_bundle(output, manifest, files, program.files, lock, session.world.reporter)
    return _written(planned, manifest, output, sha256)


def _find_missing_there(
    wheels: Sequence[BundledWheel], artifacts: Artifacts, there: MachineInventory
) -> Tuple[BundledWheel, ...]:
    """The wheels that are not installed on the machine; those in its cache are only named in the
    bundle."""
    missing: List[BundledWheel] = []
    for wheel in wheels:
        if there.has_installed(artifacts[canonicalize_name(wheel.name)]):
            continue
        if wheel.sha256 in there.wheels:
            wheel = dataclasses.replace(wheel, offset=None)
        missing.append(wheel)
    return tuple(missing)


def _written(
    planned: PlannedBundle, manifest: Manifest, output: Path, sha256: str
) -> InstallResult:
    size = output.stat().st_size
    wheels = manifest.wheels
    lines = [
        *_wheel_lines(wheels),
        f"{count(len(wheels))} for {manifest.made_for}: {megabytes(size)}",
        f"{sha256}  {output}",
        f"Install there with: python {output.name} --python ENV install",
    ]
    described = {
        "file": str(output),
        "sha256": sha256,
        "size": size,
        "requirements": list(manifest.requirements),
        "made_for": describe_target(manifest.made_for),
        "wheels": [describe_wheel(wheel) for wheel in wheels],
    }
    return _make_result(planned, Outcome.EXPORTED, lines, described)


def _fetch_needed(planned: PlannedBundle, lines: Sequence[str]) -> Path:
    """The wheels for these requirement lines. Errors: PipFailed."""
    installer = planned.installer
    folder = make_folder(planned.session.work / "program")
    words = [*installer.request.settings_free_options, *installer.offline_words]
    words += ["--only-binary", ":all:"]
    installer.pip.fetch(lines, folder, options=words, on_line=lambda line: None)
    return folder


def _wheel_of(step: Step, artifact: Artifact, request: InstallRequest) -> BundledWheel:
    # for a built wheel, the URL is that of its source
    is_remote = (step.url or "").startswith(("http://", "https://"))
    is_fetched = is_remote and step.origin is Origin.WHEEL
    return BundledWheel(
        step.name,
        artifact.written_version,
        _filename_of(artifact),
        artifact.sha256,
        artifact.path.stat().st_size,
        url=public_address(step.url or "") if is_fetched else "",
        is_listed=is_fetched and not step.is_direct and not is_hosted(step, request),
    )


def _filename_of(artifact: Artifact) -> str:
    """The name that its host gave it, which may have more than METADATA: the torch that it was
    built for."""
    try:
        check_filename(artifact.path.name)
        return artifact.path.name
    except ValueError:
        return artifact.installable_filename


def public_address(url: str) -> str:
    """A URL without user names, passwords and tokens."""
    parts = urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    if redact(urlunsplit(plain)) != urlunsplit(plain):
        plain = plain._replace(query="")
    return redact(urlunsplit(plain))


def _made_for(planned: PlannedBundle, wheels: Sequence[BundledWheel]) -> BundleTarget:
    machines = planned.machines
    interpreter, torch = machines.target.interpreter, machines.target.torch
    named = interpreter.libc if machines.is_elsewhere else ("", "")
    here = ("", "") if machines.is_elsewhere else interpreter.libc
    matters = torch is not None and (machines.is_elsewhere or _has_to_do_with_torch(planned))
    return BundleTarget(
        ".".join(interpreter.version.split(".")[:2]),
        interpreter.platform,
        find_oldest_libc(wheels, named, here),
        torch.runtime_version if torch is not None and matters else "",
    )


def _has_to_do_with_torch(planned: PlannedBundle) -> bool:
    """Is there a wheel that was chosen for a torch, or requires one?"""
    for step in planned.steps:
        needs = {requirement_name(text) for text in step.requires}
        if step.name in known_projects() or TORCH in needs:
            return True
    return False


def _make_snapshot(planned: PlannedBundle, wheels: Sequence[BundledWheel]) -> Snapshot:
    """The content of the lock file: the distributions, with their sources."""
    interpreter = planned.machines.target.interpreter
    torch = planned.selected.torch_after
    facts = None
    if torch is not None:
        facts = TorchFacts(torch.runtime_version, torch.accelerator, torch.cuda or "")
    steps = {step.name: step for step in planned.steps}
    return Snapshot(
        interpreter.version,
        interpreter.platform,
        interpreter.libc,
        tuple(_recorded(steps[canonicalize_name(wheel.name)], wheel, planned) for wheel in wheels),
        torch=facts,
        markers=interpreter.markers,
        requires_python=f"=={'.'.join(interpreter.version.split('.')[:2])}.*",
        environments=(marker_of(interpreter),),
    )


def _recorded(step: Step, wheel: BundledWheel, planned: PlannedBundle) -> RecordedDistribution:
    source: Source = FileSource(
        f"{WHEELS}{wheel.filename}",
        wheel.filename,
        wheel.sha256,
        wheel.size,
        is_built_here=step.origin is not Origin.WHEEL,
    )
    if wheel.is_listed:
        indexes = planned.session.request.searched_indexes or (PIP_INDEX,)
        index = public_address(indexes[0])
        source = IndexSource(index, wheel.url, wheel.filename, wheel.sha256, wheel.size)
    elif wheel.url:
        source = UrlSource(wheel.url, wheel.filename, wheel.sha256, wheel.size)
    return RecordedDistribution(
        step.name, wheel.version, source, step.written_name, is_requested=step.requested
    )


# --- its result -----------------------------------------------------------------------------------


def _nothing(planned: PlannedBundle, timings: Timings) -> InstallResult:
    torch = planned.machines.target.torch
    there = f": torch {torch.runtime_version} is there" if torch is not None else ""
    return InstallResult(
        "bundle",
        Outcome.ALREADY_SATISFIED,
        0,
        planned.session.environment,
        planned.selected.plan,
        findings=_findings(planned),
        timings=timings.total(),
        message=f"Nothing has to be bundled{there}.",
    )


def _describe(planned: PlannedBundle, request: BundleRequest) -> InstallResult:
    """The result of --dry-run."""
    sizes = find_sizes(planned)
    rows: List[_PlannedRow] = []
    for step in sorted(planned.steps, key=lambda step: step.name):
        rows.append({"name": step.name, "version": step.version, "size": sizes.get(step.name)})
    unknown = [row["name"] for row in rows if row["size"] is None]
    total = f"{megabytes(sum(sizes.values()))}"
    if unknown:
        total = f"at least {total} (not known: the size of {', '.join(unknown)})"
    lines = [f"  {row['name']} {row['version']}  {megabytes(row['size'])}".rstrip() for row in rows]
    lines.append(f"Would bundle {count(len(rows))} for {planned.machines}: {total}")
    requirements = list(list_requirements(request, planned.steps))
    described = {"requirements": requirements, "wheels": rows}
    return _make_result(planned, Outcome.PLANNED, lines, described)


def _make_result(
    planned: PlannedBundle, outcome: Outcome, lines: Sequence[str], described: Mapping[str, object]
) -> InstallResult:
    return InstallResult(
        "bundle",
        outcome,
        0,
        planned.session.environment,
        planned.selected.plan,
        findings=_findings(planned),
        timings=planned.session.timings.total(),
        message="\n".join(lines),
        details={"bundle": described},
    )


def _wheel_lines(wheels: Sequence[BundledWheel]) -> List[str]:
    return [f"  {wheel.filename}  {megabytes(wheel.size)}  {_place_of(wheel)}" for wheel in wheels]


def _place_of(wheel: BundledWheel) -> str:
    if not wheel.is_inside:
        return "not in it: in the cache of the machine"
    return wheel.url or "from this machine"


def count(wheels: int) -> str:
    """`1 wheel`, `12 wheels`."""
    return f"{wheels} wheel{'' if wheels == 1 else 's'}"


def megabytes(size: Optional[int]) -> str:
    """`12.3 MB`; "" for None."""
    return "" if size is None else f"{size / 1e6:.1f} MB"


def _findings(planned: PlannedBundle) -> Tuple[Finding, ...]:
    notes: Tuple[str, ...] = ()
    if planned.machines.is_elsewhere:
        notes = notes_for(planned.machines.target)
    torch = planned.machines.target.torch
    requested = [requirement_name(entry.text) for entry in planned.session.request.entries]
    if torch is not None and TORCH in requested:
        notes += (
            f"torch {torch.runtime_version} is taken for installed there, and is not in the bundle",
        )
    assumed = (Finding("assumed", Severity.NOTE, "environment", note) for note in notes)
    return (*planned.selected.findings, *assumed)
