"""From a plan to a full stage: fetch every file, compare its hash, verify the wheel, unpack it
beside the environment."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable, Container, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import HashMismatch, PipFailed, Refused, hint_for_oserror
from safe_install.models import CandidateKind, Environment, Finding, Origin, Plan, Step
from safe_install.pipeline.contents import (
    contents_findings,
    find_changed_files,
    find_hidden,
    system_path,
)
from safe_install.pipeline.fetching import Fetcher, WantedFile, wanted_file_of_step
from safe_install.pipeline.installer import PipInstaller, build_readers
from safe_install.pipeline.session import Session, make_folder
from safe_install.requirements import normalize_requirements
from safe_install.resolve.decisions import normalize_version
from safe_install.resolve.guard import refuse_other_files, same_version_steps
from safe_install.resolve.pip_words import PipWords, path_warning
from safe_install.resolve.plan import coming_steps
from safe_install.resolve.promises import own_hashes
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.step_lines import direct_requirement, requirement_line
from safe_install.system.pip_command import find_pip_version
from safe_install.transaction.clones import Clones
from safe_install.transaction.room import find_shortage_of_files
from safe_install.transaction.stage import stage_editables
from safe_install.transaction.tree import folds_case
from safe_install.wheels.archive import Artifact, hash_file, open_wheel
from safe_install.wheels.fetch import find_local_path
from safe_install.wheels.unpack import Destination, Unpacking

SHOWN = 3  # names or requirements in a message
LARGE_WHEEL = 64 * 2**20  # bytes

Artifacts = Mapping[NormalizedName, Artifact]


@dataclass(frozen=True)
class Delivery:
    """How the files of one plan are obtained."""

    session: Session
    installer: PipInstaller
    # does a hash from the command or the index vouch for the bytes that pip fetches for a step?
    is_promised: Callable[[Step], bool]
    fetcher: Fetcher  # for the files that we fetch without pip
    fetched: Path  # what pip downloads or builds
    # copies of wheels from folders that other programs write to; None: make no copies
    copies: Optional[Path]
    # wheels that this run has fetched and verified already
    brought: Artifacts = field(default_factory=dict)

    @property
    def request(self) -> InstallRequest:
        """The request that is carried out."""
        return self.session.request

    @property
    def environment(self) -> Environment:
        """The environment as it was probed."""
        return self.session.environment

    @property
    def cache(self) -> Optional[Path]:
        """The folder for fetched files; None: the usual cache. With --no-cache-dir they are
        temporary, so that an image built without a cache keeps no large files."""
        return self.session.work / "downloaded" if self.request.no_cache else None

    @property
    def fetch_options(self) -> Tuple[str, ...]:
        """pip's options for fetching a file, without --config-settings."""
        return (*self.request.settings_free_options, *self.installer.offline_words)


def begin_delivery(
    session: Session,
    installer: PipInstaller,
    is_promised: Callable[[Step], bool],
    fetcher: Fetcher,
    *,
    brought: Optional[Artifacts] = None,
    folder: Optional[Path] = None,
    copies: bool = True,
) -> Delivery:
    """A delivery with new folders in `folder`, by default the temporary folder of the run.
    `brought`: wheels that this run has fetched and verified already. `copies`: copy wheels of other
    folders first."""
    place = folder or session.work
    return Delivery(
        session,
        installer,
        is_promised,
        fetcher,
        fetched=make_folder(place / "fetched"),
        copies=make_folder(place / "copies") if copies else None,
        brought=brought or {},
    )


# --- fetch ----------------------------------------------------------------------------------------


def fetch(
    delivery: Delivery, plan: Plan, chosen: Artifacts, *, released: Container[NormalizedName]
) -> Dict[NormalizedName, Artifact]:
    """Every file of the plan on disk, with hashes compared and wheels verified.

    `chosen`: the wheels of extensions, which are on disk. `released`: guarded names that this plan
    may change.
    Errors: HashMismatch, PipFailed, Refused, WheelInvalid.
    """
    artifacts = fetch_files(delivery, plan, chosen)
    _refuse_other_files(delivery, same_version_steps(plan, released=released), artifacts)
    return artifacts


def fetch_files(
    delivery: Delivery, plan: Plan, chosen: Artifacts
) -> Dict[NormalizedName, Artifact]:
    """As `fetch`, without comparing anything with the installed distributions."""
    artifacts = {name: _copy_artifact(delivery, artifact) for name, artifact in chosen.items()}
    for step in coming_steps(plan):
        if step.name in artifacts:
            continue
        artifact = (
            _take_brought(delivery, step)
            or _take_local(delivery, step)
            or _take_downloaded(delivery, step)
        )
        if artifact is not None:
            artifacts[step.name] = artifact
    coming = coming_steps(plan)
    artifacts.update(_fetch(delivery, [step for step in coming if step.name not in artifacts]))
    missing = [
        step for step in coming if step.name not in artifacts and step.origin is not Origin.EDITABLE
    ]
    if missing:
        artifacts.update(_fetch_with_pip(delivery, plan, missing))
    return artifacts


def _refuse_other_files(delivery: Delivery, steps: Sequence[Step], artifacts: Artifacts) -> None:
    """Refuse a guarded distribution that has the installed version and other files. Errors:
    Refused."""
    for step in steps:
        artifact = artifacts.get(step.name)
        if artifact is None:
            continue
        changed = find_changed_files(artifact, delivery.environment.installed[step.name])
        if changed:
            raise Refused.by([refuse_other_files(step, changed)])


def _fetch(delivery: Delivery, steps: Sequence[Step]) -> Artifacts:
    """The wheels that we fetch ourselves, several at the same time."""
    wanted = {}
    for step in steps:
        one = _want(delivery, step)
        if one is not None:
            wanted[step.name] = one
    if not wanted:
        return {}
    with delivery.session.timings.stage("fetch"):
        paths = delivery.fetcher.fetch_all(list(wanted.values()), cache=delivery.cache)
    found = dict(zip(wanted, paths))
    artifacts = {}
    for step in steps:
        path = found.get(step.name)
        if path is not None:
            artifacts[step.name] = _open(delivery, path, step)
            _compare_requirements(step, artifacts[step.name])
    return artifacts


def _want(delivery: Delivery, step: Step) -> Optional[WantedFile]:
    """The file that we fetch ourselves for a step; None where pip does it. A wheel that pip saw
    only as METADATA is on no index of pip. The others are fetched here because pip fetches one at a
    time."""
    if step.candidate is None:
        # Offline, a file named by a lock file may be in our cache; pip would ask its host.
        is_offline = delivery.request.own.offline and not step.is_locked
        return None if is_offline else wanted_file_of_step(step)
    is_wheel = step.candidate.kind is CandidateKind.WHEEL
    return delivery.fetcher.want(step.candidate) if is_wheel else None


def _compare_requirements(step: Step, artifact: Artifact) -> None:
    """Check that a wheel requires what the METADATA on its page said, with which pip planned.
    Errors: HashMismatch."""
    if step.candidate is None:
        return
    planned = set(step.candidate.requires)
    real = set(normalize_requirements(artifact.requires_dist))
    if planned != real:
        differing = ", ".join(sorted(planned ^ real)[:SHOWN])
        raise HashMismatch(
            f"{artifact.path.name} requires something else than the METADATA that its page "
            f"promised: {differing}",
            hint="Its host is wrong or hostile; nothing was changed.",
        )


def _take_brought(delivery: Delivery, step: Step) -> Optional[Artifact]:
    """A wheel that was fetched for a build, where it is the file of the plan. It is hashed again,
    because the build may have changed it."""
    artifact = delivery.brought.get(step.name)
    if artifact is None or step.origin is not Origin.WHEEL or step.sha256 != artifact.sha256:
        return None
    _compare_hash(artifact, artifact.path)
    return artifact


def _take_local(delivery: Delivery, step: Step) -> Optional[Artifact]:
    """A wheel that is a local file."""
    url = str((step.download_info or {}).get("url", ""))
    if step.origin is not Origin.WHEEL or not url.startswith("file:"):
        return None
    path = find_local_path(url)
    if path is None or not path.is_file():
        return None
    return _open(delivery, path, step)


def _take_downloaded(delivery: Delivery, step: Step) -> Optional[Artifact]:
    """A wheel that pip downloaded while it planned, where it is the file of the plan.

    A source distribution is linked into the folder that pip fetches into: pip finds it there and
    compares the hash.
    """
    downloads = delivery.installer.downloads
    if step.sha256 is None or step.candidate is not None:
        return None
    filename = unquote(urlsplit(step.url or "").path.rpartition("/")[2])
    for path in downloads.find(filename):
        if step.origin is Origin.WHEEL:
            try:
                return _open(delivery, path, step)
            except HashMismatch:
                continue  # an incomplete download; try the next file
        # Two projects may have a file of one name: main.zip.
        target = delivery.fetched / filename
        if not target.exists() and hash_file(path) == step.sha256:
            os.link(path, target)
            return None
    return None


def _fetch_with_pip(delivery: Delivery, plan: Plan, missing: Sequence[Step]) -> Artifacts:
    """The files that pip downloads or builds."""
    request, reporter = delivery.request, delivery.session.world.reporter
    words = PipWords(plan.steps, [entry.text for entry in request.entries], delivery.environment)
    wanted = [replace(step, written_name=words.name_of(step)) for step in missing]
    settings = {step.name: _config_settings(request, step) for step in wanted}
    # pip compares hashes for all lines of a run or for none, so what has no hash (a folder, a
    # repository) is fetched in a run of its own.
    plain = [step for step in wanted if not settings[step.name]]
    hashed = [step for step in plain if step.sha256 and step.origin is not Origin.REPOSITORY]
    others = [step for step in plain if step not in hashed]
    pip = delivery.installer.pip
    first = ", ".join(step.name for step in wanted[:3])
    task = f"fetch {first}{' ...' if len(wanted) > 3 else ''}"
    readers = build_readers(request, reporter, task)
    with delivery.session.timings.stage("fetch"):
        with reporter.task(task):
            for group in filter(None, (hashed, others)):
                lines = [requirement_line(step) for step in group]
                pip.fetch(lines, delivery.fetched, options=delivery.fetch_options, **readers)
            for step in wanted:
                if settings[step.name]:
                    pip.build(
                        direct_requirement(step),
                        delivery.fetched,
                        config_settings=settings[step.name],
                        options=delivery.fetch_options,
                        **readers,
                    )
        return _open_fetched(delivery, wanted)


def _config_settings(request: InstallRequest, step: Step) -> Tuple[str, ...]:
    """The --config-settings for the build of a step; none for a wheel."""
    if step.origin is Origin.WHEEL:
        return ()
    return request.config_settings_of(step.name, is_requested=step.requested)


def _open_fetched(delivery: Delivery, wanted: Sequence[Step]) -> Artifacts:
    """The wheels that pip fetched or built. Errors: HashMismatch, PipFailed."""
    by_name = {step.name: step for step in wanted}
    found: Dict[NormalizedName, Artifact] = {}
    for path in sorted(delivery.fetched.glob("*.whl")):
        name = canonicalize_name(path.name.split("-")[0])
        step = by_name.get(name)
        if step is None:
            continue
        artifact = _open(delivery, path, step)
        if str(artifact.version) != normalize_version(step.version) and step.origin is Origin.WHEEL:
            raise HashMismatch(
                f"{path.name} holds {name} {artifact.version}, and {step.version} was planned",
                hint="The index changed meanwhile: run the command again.",
            )
        found[name] = artifact
    missing = [name for name in by_name if name not in found]
    if missing:
        raise PipFailed(
            f"pip brought no wheel of {', '.join(missing)}", hint="Run the command again with -v."
        )
    return found


def _open(delivery: Delivery, path: Path, step: Step) -> Artifact:
    """The wheel, verified except for the hashes of its members. These are compared when it is
    unpacked; not at all for a large file whose own hash is in pip's report.

    A dry run unpacks nothing, so it compares them here, to refuse what the real run would refuse.
    The hash of a step is not compared with a wheel that pip built from its source.
    """
    request = delivery.request
    path = _copy_wheel(delivery, path, step.name)
    is_built = step.origin is not Origin.WHEEL
    sha256 = None if is_built else step.sha256
    needs_hashing = sha256 is None or path.stat().st_size < LARGE_WHEEL
    verify_members = needs_hashing and request.own.dry_run
    artifact = open_wheel(
        path,
        sha256=sha256,
        verify_members=verify_members,
        is_promised=lambda: is_built or step.candidate is not None or delivery.is_promised(step),
        strict_records=request.own.strict_records,
    )
    given = own_hashes(step.name, request, delivery.environment)
    if given and not is_built and artifact.sha256 not in given:
        raise HashMismatch(
            f"{path.name} has sha256 {artifact.sha256}, which is none of the hashes given for "
            f"{step.name}",
            hint=f"If that is the file that you want, add --hash=sha256:{artifact.sha256}.",
        )
    return replace(artifact, needs_hashing=needs_hashing and not verify_members)


def _copy_artifact(delivery: Delivery, artifact: Artifact) -> Artifact:
    """The artifact with a copy of its file, which is compared with the verified one."""
    copy = _copy_wheel(delivery, artifact.path, artifact.name)
    if copy != artifact.path:
        _compare_hash(artifact, copy)
    return replace(artifact, path=copy)


def _compare_hash(artifact: Artifact, path: Path) -> None:
    """Is this still the file that was verified? Errors: HashMismatch."""
    if hash_file(path) != artifact.sha256:
        raise HashMismatch(
            f"{artifact.path} was replaced after it had been checked: it had sha256 "
            f"{artifact.sha256}",
            hint="Something else writes to that file: run the command again when that has ended.",
        )


def _copy_wheel(delivery: Delivery, path: Path, name: NormalizedName) -> Path:
    """A copy in our own folder, or `path` itself where it is there already. Errors: Refused.

    Another program may replace a wheel in a user's folder, a find-links folder or a cache after it
    was checked. So the checked, recorded and unpacked file is one that only this run writes to.
    """
    if delivery.copies is None or delivery.session.work in path.parents:
        return path
    folder = delivery.copies / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(path, folder / path.name))
    except OSError as error:
        raise Refused(
            f"{path} could not be copied to {folder}: {error.strerror or error}",
            hint=hint_for_oserror(error),
        ) from error


# --- stage ----------------------------------------------------------------------------------------


def check_space(delivery: Delivery, artifacts: Artifacts) -> None:
    """Refuse where the disk has no room for old and new files together. Errors: Refused."""
    sizes = [entry for artifact in artifacts.values() for entry in artifact.sizes]
    shortage = find_shortage_of_files(
        delivery.environment.interpreter.prefix,
        sizes,
        compile_bytecode=delivery.request.compile_bytecode,
    )
    if shortage is not None:
        raise Refused(
            shortage,
            hint="Make room, or remove old changes: safe-install history --prune --keep 1 (what is "
            "staged takes room, too: safe-install status).",
        )


def stage(delivery: Delivery, plan: Plan, artifacts: Artifacts, folder: Path) -> Unpacking:
    """Build the editables of the plan below `folder` and unpack its wheels there. Bytecode is still
    compiled when this returns; leaving the result's context waits for it."""
    request, reporter = delivery.request, delivery.session.world.reporter
    clones = delivery.installer.clones
    if clones is not None:
        clones.refuse_uncovered()
    editables = [step for step in plan.steps if step.origin is Origin.EDITABLE]
    if editables:
        stage_editables(
            delivery.installer.pip,
            folder,
            [_from_clone(step, clones) for step in editables],
            options=(*request.fetch_options, *delivery.installer.offline_words),
            reporter=reporter,
            readers=lambda task: build_readers(request, reporter, task),
        )
    if clones is not None:
        clones.rewrite(folder)
    return unpack_wheels(
        delivery.session, plan.steps, artifacts, folder, compile_bytecode=request.compile_bytecode
    )


def unpack_wheels(
    session: Session,
    steps: Sequence[Step],
    artifacts: Artifacts,
    folder: Path,
    *,
    compile_bytecode: bool,
) -> Unpacking:
    """Unpack the wheels of these steps below `folder`. Errors: Refused, WheelInvalid."""
    wheels = [(step, artifacts[step.name]) for step in steps if step.name in artifacts]
    interpreter = session.environment.interpreter
    destination = Destination(folder, interpreter, partial(find_pip_version, interpreter))
    with session.world.reporter.task(f"unpack {len(wheels)} wheel{'s' if len(wheels) > 1 else ''}"):
        return Unpacking(wheels, destination, compile_bytecode=compile_bytecode)


def _from_clone(step: Step, clones: Optional[Clones]) -> Step:
    """The step with the clone's present folder as its source."""
    source = clones.source_of(step.url or "") if clones is not None else None
    if source is None:
        return step
    return replace(step, download_info={**(step.download_info or {}), "url": source.as_uri()})


# --- what is said of the files --------------------------------------------------------------------


def find_notices(
    delivery: Delivery, plan: Plan, artifacts: Artifacts, *, beside_torch: bool
) -> Tuple[Finding, ...]:
    """Notes and warnings on the files that will be installed: code that runs at every start,
    scripts that hide other commands.

    `beside_torch`: is torch there after the change?
    """
    interpreter = delivery.environment.interpreter
    folds = folds_case(interpreter.scheme.purelib)
    elsewhere = system_path(interpreter.prefix, delivery.session.world.environ)
    findings: List[Finding] = []
    for step in plan.steps:
        artifact = artifacts.get(step.name)
        if artifact is None:
            continue
        hidden = find_hidden(artifact.scripts, Path(interpreter.scheme.scripts), elsewhere)
        findings += contents_findings(
            artifact, folds_case=folds, hidden=hidden, beside_torch=beside_torch
        )
    return tuple(findings)


def path_warnings(delivery: Delivery, plan: Plan, artifacts: Artifacts) -> List[str]:
    """pip's warnings on scripts in a folder that is not on PATH. As in pip, the folder of Python
    itself is left out."""
    interpreter = delivery.environment.interpreter
    path = delivery.session.world.environ.get("PATH", os.defpath).split(os.pathsep)
    known = {
        os.path.normpath(folder) for folder in (*path, str(interpreter.executable.parent)) if folder
    }
    folder = os.path.normpath(interpreter.scheme.scripts)
    if not delivery.request.warns_of_path or folder in known:
        return []
    lines: List[str] = []
    for step in plan.steps:
        artifact = artifacts.get(step.name)
        if artifact is not None and artifact.console_scripts:
            lines += path_warning(artifact.console_scripts, folder)
    return lines
