"""From a plan to a full stage: every file fetched, its hash compared, the wheel verified, and
unpacked beside the environment."""

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
from safe_install.pipeline.fetching import Fetcher, WantedFile, want_of_pip
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

SHOWN = 3  # requirements
LARGE_WHEEL = 64 * 2**20  # bytes

Artifacts = Mapping[NormalizedName, Artifact]


@dataclass(frozen=True)
class Delivery:
    """How the files of one plan are brought."""

    session: Session
    installer: PipInstaller
    # are the bytes that pip brings for a step promised by somebody?
    is_promised: Callable[[Step], bool]
    fetcher: Fetcher  # brings what pip need not bring
    fetched: Path  # what pip downloads or builds
    # wheels of other folders, which others may rewrite; None: whoever reads them compares the hash
    copies: Optional[Path]
    # what lies in a folder of this run already, and was verified
    brought: Artifacts = field(default_factory=dict)

    @property
    def request(self) -> InstallRequest:
        """What was asked for."""
        return self.session.request

    @property
    def environment(self) -> Environment:
        """The environment as it is."""
        return self.session.environment

    @property
    def cache(self) -> Optional[Path]:
        """Where fetched files are kept, if not beside the others: as with pip, nothing large stays
        in an image that is built without a cache."""
        return self.session.work / "downloaded" if self.request.no_cache else None

    @property
    def fetch_options(self) -> Tuple[str, ...]:
        """pip's options for a file; what a build is told stands with the build."""
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
    """Make the folders, in that of the run or in `folder`. `brought`: wheels that this run has
    fetched and verified for a build. `copies`: wheels of other folders are copied first."""
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
    """Every file of the plan on disk, hashes compared, wheels verified.

    `chosen`: wheels of extensions, which are on disk. `released`: guarded names that may move in
    this plan.
    Errors: HashMismatch, PipFailed, Refused, and what a wheel is refused for.
    """
    artifacts = bring(delivery, plan, chosen)
    _refuse_other_files(delivery, same_version_steps(plan, released=released), artifacts)
    return artifacts


def bring(delivery: Delivery, plan: Plan, chosen: Artifacts) -> Dict[NormalizedName, Artifact]:
    """As `fetch`, whatever is installed now."""
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
    """torch, or what moves with it, in the version that is there and with other files. Errors:
    Refused."""
    for step in steps:
        artifact = artifacts.get(step.name)
        if artifact is None:
            continue
        changed = find_changed_files(artifact, delivery.environment.installed[step.name])
        if changed:
            raise Refused.by([refuse_other_files(step, changed)])


def _fetch(delivery: Delivery, steps: Sequence[Step]) -> Artifacts:
    """What we fetch ourselves, all at the same time; pip is asked for the rest."""
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
    """A wheel that pip planned by its METADATA alone is not on pip's index: only we can bring it.
    Others pip could bring, too, one after the other."""
    if step.candidate is None:
        # Offline the file of a lock may be in the cache; pip would go and fetch it.
        is_offline = delivery.request.own.offline and not step.is_locked
        return None if is_offline else want_of_pip(step)
    is_wheel = step.candidate.kind is CandidateKind.WHEEL
    return delivery.fetcher.want(step.candidate) if is_wheel else None


def _compare_requirements(step: Step, artifact: Artifact) -> None:
    """Of a file of ours pip saw only what its page said. Errors: HashMismatch."""
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
    """A wheel that was fetched for a build, if it is the file of the plan. A build may have written
    to it since."""
    artifact = delivery.brought.get(step.name)
    if artifact is None or step.origin is not Origin.WHEEL or step.sha256 != artifact.sha256:
        return None
    _compare_hash(artifact, artifact.path)
    return artifact


def _take_local(delivery: Delivery, step: Step) -> Optional[Artifact]:
    """A wheel that lies on this machine needs no pip to bring it."""
    url = str((step.download_info or {}).get("url", ""))
    if step.origin is not Origin.WHEEL or not url.startswith("file:"):
        return None
    path = find_local_path(url)
    if path is None or not path.is_file():
        return None
    return _open(delivery, path, step)


def _take_downloaded(delivery: Delivery, step: Step) -> Optional[Artifact]:
    """What pip downloaded while it planned is not downloaded again, if it is the file of the plan.

    A source distribution is put where pip fetches into: pip takes it from there, after it has
    compared the hash.
    """
    downloads = delivery.installer.downloads
    if downloads is None or step.sha256 is None or step.candidate is not None:
        return None
    filename = unquote(urlsplit(step.url or "").path.rpartition("/")[2])
    for path in downloads.find(filename):
        if step.origin is Origin.WHEEL:
            try:
                return _open(delivery, path, step)
            except HashMismatch:
                continue  # a download that broke off: the next one is another file
        # Two projects may have a file of one name: main.zip.
        target = delivery.fetched / filename
        if not target.exists() and hash_file(path) == step.sha256:
            os.link(path, target)
            return None
    return None


def _fetch_with_pip(delivery: Delivery, plan: Plan, missing: Sequence[Step]) -> Artifacts:
    """pip downloads or builds them."""
    request, reporter = delivery.request, delivery.session.world.reporter
    words = PipWords(plan.steps, [entry.text for entry in request.entries], delivery.environment)
    wanted = [replace(step, written_name=words.name_of(step)) for step in missing]
    settings = {step.name: _config_settings(request, step) for step in wanted}
    # pip compares hashes for all lines of a run or for none: what has no hash (a folder, a
    # repository) goes apart.
    plain = [step for step in wanted if not settings[step.name]]
    hashed = [step for step in plain if step.sha256 and step.origin is not Origin.REPOSITORY]
    others = [step for step in plain if step not in hashed]
    pip = delivery.installer.pip
    first = ", ".join(step.name for step in wanted[:3])
    task = f"fetch {first}{' ...' if len(wanted) > 3 else ''}"
    readers = build_readers(request, reporter, task)
    with delivery.session.timings.stage("fetch"):
        with reporter.task(task):
            for group in (hashed, others):
                if group:
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
    """What its build is told; a wheel is built already."""
    if step.origin is Origin.WHEEL:
        return ()
    return request.config_settings_of(step.name, is_requested=step.requested)


def _open_fetched(delivery: Delivery, wanted: Sequence[Step]) -> Artifacts:
    """The wheels that pip brought."""
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
    """The wheel, verified but for the hashes of its members: they are compared when it is unpacked,
    and not at all where pip's report has the hash of a large file.

    A dry run unpacks nothing, and refuses what the run would refuse: it compares them here. What
    pip built of a step is another file than the one that the step names.
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
    """An extension's wheel was verified where it lies: the copy that is unpacked has to be the same
    file."""
    copy = _copy_wheel(delivery, artifact.path, artifact.name)
    if copy != artifact.path:
        _compare_hash(artifact, copy)
    return replace(artifact, path=copy)


def _compare_hash(artifact: Artifact, path: Path) -> None:
    """Is the file that will be unpacked the one that was verified? Errors: HashMismatch."""
    if hash_file(path) != artifact.sha256:
        raise HashMismatch(
            f"{artifact.path} was replaced after it had been checked: it had sha256 "
            f"{artifact.sha256}",
            hint="Something else writes to that file: run the command again when that has ended.",
        )


def _copy_wheel(delivery: Delivery, path: Path, name: NormalizedName) -> Path:
    """A copy in our own folder, or `path` itself if it lies there. Errors: Refused.

    A wheel in a folder of the person, a find-links folder or a cache may be replaced or rewritten
    by another program between the check and the unpacking. What is checked, recorded and unpacked
    is therefore one file that nobody else writes to.
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
    """Old and new files lie side by side until the end. Errors: Refused, before anything is written
    there."""
    sizes = [entry for artifact in artifacts.values() for entry in artifact.sizes]
    shortage = find_shortage_of_files(
        delivery.environment.interpreter.prefix,
        sizes,
        compile_bytecode=delivery.request.compile_bytecode,
    )
    if shortage is not None:
        raise Refused(
            shortage,
            hint="Make room, or let old changes go: safe-install history --prune --keep 1 (what is "
            "staged takes room, too: safe-install status).",
        )


def stage(delivery: Delivery, plan: Plan, artifacts: Artifacts, folder: Path) -> Unpacking:
    """Build the editables of the plan below `folder`, and unpack its wheels there; what is returned
    ends that."""
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
    """A clone is built where it is now."""
    source = clones.source_of(step.url or "") if clones is not None else None
    if source is None:
        return step
    return replace(step, download_info={**(step.download_info or {}), "url": source.as_uri()})


# --- what is said of the files --------------------------------------------------------------------


def find_notices(
    delivery: Delivery, plan: Plan, artifacts: Artifacts, *, beside_torch: bool
) -> Tuple[Finding, ...]:
    """What a person should know of the files before they are there: code at every start, names that
    hide others.

    `beside_torch`: is there a torch, or does one come?
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
    """pip's words on commands in a folder that no shell looks in; Python's own folder is left out,
    as pip does."""
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
