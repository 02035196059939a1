"""From a plan to a full stage: every file fetched, its hash compared, the wheel verified, and unpacked beside the
environment."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import HashMismatch, PipFailed, Refused, mend_of
from safe_install.health.examination import Examination
from safe_install.health.report import Subject
from safe_install.index.catalog import known_projects, load_project
from safe_install.index.native import exact_pattern
from safe_install.models import Finding, InstalledDistribution, Plan, Step, TorchBuild
from safe_install.pip_output import is_of_build, is_of_search
from safe_install.pipeline.contents import contents_findings, find_changed_files, system_path
from safe_install.pipeline.health_gate import Expectation, installed_subjects, subject_of, with_subjects
from safe_install.pipeline.selection import Planner, canonical, make_folder
from safe_install.resolve import plan as planning
from safe_install.resolve.pip_words import PipWords, path_warning
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.step_lines import direct_requirement, is_from_repository, requirement_line
from safe_install.resolve.torch_fit import check_torch
from safe_install.system.process import LineReader
from safe_install.torch_family import TORCH, is_guarded
from safe_install.transaction.room import estimate_size, find_shortage, read_room
from safe_install.transaction.stage import StagedWheel, fill_stage, stage_editables
from safe_install.transaction.tree import folds_case
from safe_install.wheels.abi import Verdict, torch_findings
from safe_install.wheels.archive import Artifact, hash_file, open_wheel
from safe_install.wheels.fetch import find_local_path
from safe_install.wheels.inspection import (
    Inspector,
    check_gpu_files,
    check_objects,
    demangle,
    gpu_code_of_torch,
    read_gpu_files,
    recorded_objects,
)

FILES_MARGIN = 100  # directories, scripts of entry points
LARGE_WHEEL = 64 * 2**20  # bytes; hashing torch's 9,000 members takes 2.5 s


class Delivery:
    """The files of one plan."""

    def __init__(self, planner: Planner, plan: Plan, work: Path) -> None:
        self.planner = planner
        self.plan = plan
        self.request, self.environment, self.world = planner.request, planner.environment, planner.world
        self._pip, self._timings = planner.pip, planner.timings
        self._artifacts = dict(planner.artifacts)
        self._loadable: Dict[NormalizedName, Tuple[str, ...]] = {}  # files that use torch, by the wheels that have any
        self._needs_driver: Set[NormalizedName] = set()  # whose files link libcuda.so.1
        self._work = work
        self._fetched = make_folder(work / "fetched")  # what pip downloads or builds
        self._stage_links = make_folder(work / "stage")
        offline = ["--no-index"] if self.request.own.offline else []
        self._fetch_options = (*self.request.settings_free_options, *offline)
        self._editable_options = (*self.request.fetch_options, *offline)

    def fetch(self) -> None:
        """Bring every file of the plan to disk, hashes checked, wheels verified."""
        for name, artifact in self._artifacts.items():
            self._artifacts[name] = self._copy_artifact(artifact)
        for step in self.plan.steps:
            self._take_local(step)
            self._take_downloaded(step)
        missing = [step for step in self.plan.steps if step.name not in self._artifacts and step.kind != "editable"]
        if missing:
            self._fetch_with_pip(missing)
        self._refuse_other_files()

    def _fetch_with_pip(self, missing: Sequence[Step]) -> None:
        words = PipWords(self.plan.steps, [entry.text for entry in self.request.entries], self.environment)
        wanted = [replace(step, written_name=words.name_of(step)) for step in missing]
        # pip compares hashes for all lines of a run or for none: what has no hash (a folder, a repository) goes apart.
        told = {step.name: self._config_settings_of(step) for step in wanted}
        plain = [step for step in wanted if not told[step.name]]
        hashed = [step for step in plain if step.sha256 and not is_from_repository(step)]
        others = [step for step in plain if step not in hashed]
        with self._timings.stage("fetch"):
            task = f"fetch {', '.join(step.name for step in wanted[:3])}{' ...' if len(wanted) > 3 else ''}"
            with self.world.reporter.task(task):
                for group in (hashed, others):
                    if group:
                        self._pip.fetch(
                            [requirement_line(step) for step in group],
                            self._fetched,
                            options=self._fetch_options,
                            **self.readers(task),
                        )
                for step in wanted:
                    if told[step.name]:
                        self._pip.build(
                            direct_requirement(step),
                            self._fetched,
                            config_settings=told[step.name],
                            options=self._fetch_options,
                            **self.readers(task),
                        )
            self._open_fetched(wanted)

    def _refuse_other_files(self) -> None:
        """torch, or what moves with it, in the version that is there and with other files. Errors: Refused."""
        for step in planning.same_version_steps(self.plan, released=self.planner.released_by(self.plan)):
            artifact = self._artifacts.get(step.name)
            if artifact is None:
                continue
            changed = find_changed_files(artifact, self.environment.installed[step.name])
            if changed:
                finding = planning.refuse_other_files(step, changed)
                raise Refused(finding.detail, hint=finding.hint, findings=(finding,))

    def readers(self, task: str) -> Dict[str, LineReader]:
        """What becomes of the lines of a pip that builds: what it says of builds is the person's; with -v all is."""
        reporter = self.world.reporter

        def read_line(line: str) -> None:
            reporter.task_advanced(task, 0, line)
            if is_of_build(line) or (self.request.verbose and not is_of_search(line)):
                reporter.output(line)

        def read_error(line: str) -> None:
            reporter.task_advanced(task, 0, line)
            if self.request.verbose:
                reporter.error_output(line)

        return {"on_line": read_line, "on_error": read_error}

    def _config_settings_of(self, step: Step) -> Tuple[str, ...]:
        """What its build is told; a wheel is built already."""
        if step.kind == "wheel":
            return ()
        return self.request.config_settings_of(step.name, is_requested=step.requested)

    def _take_local(self, step: Step) -> None:
        """A wheel that lies on this machine needs no pip to bring it."""
        url = str((step.download_info or {}).get("url", ""))
        if step.kind != "wheel" or step.name in self._artifacts or not url.startswith("file:"):
            return
        path = find_local_path(url)
        if path is not None and path.is_file():
            self._artifacts[step.name] = self._open(path, step)

    def _take_downloaded(self, step: Step) -> None:
        """What pip downloaded while it planned is not downloaded again, if it is the file of the plan.

        A source distribution is put where pip fetches into: pip takes it from there, after it has compared the hash.
        """
        downloads = self.planner.downloads
        if downloads is None or step.name in self._artifacts or step.sha256 is None or step.candidate is not None:
            return
        filename = unquote(urlsplit(step.url or "").path.rpartition("/")[2])
        for path in downloads.find(filename):
            if step.kind != "wheel":
                # Two projects may have a file of one name: main.zip.
                if not (self._fetched / filename).exists() and hash_file(path) == step.sha256:
                    os.link(path, self._fetched / filename)
                    return
                continue
            try:
                self._artifacts[step.name] = self._open(path, step)
            except HashMismatch:
                continue  # a download that broke off: the next one is another file
            return

    def _open_fetched(self, wanted: Sequence[Step]) -> None:
        by_name = {step.name: step for step in wanted}
        for path in sorted(self._fetched.glob("*.whl")):
            name = canonicalize_name(path.name.split("-")[0])
            step = by_name.get(name)
            if step is None:
                continue
            artifact = self._open(path, step)
            if str(artifact.version) != canonical(step.version) and step.kind == "wheel":
                raise HashMismatch(
                    f"{path.name} holds {name} {artifact.version}, and {step.version} was planned",
                    hint="The index changed meanwhile: run the command again.",
                )
            self._artifacts[name] = artifact
        missing = [step.name for step in wanted if step.name not in self._artifacts]
        if missing:
            raise PipFailed(f"pip brought no wheel of {', '.join(missing)}", hint="Run the command again with -v.")

    def _open(self, path: Path, step: Step) -> Artifact:
        """The wheel, verified. Where pip's report has the hash of a large file, its members are not hashed once more.
        What pip built of a step is another file than the one that the step names."""
        path = self._copy_wheel(path, step.name)
        is_built = step.kind != "wheel"
        sha256 = None if is_built else step.sha256
        artifact = open_wheel(
            path,
            sha256=sha256,
            verify_members=sha256 is None or path.stat().st_size < LARGE_WHEEL,
            is_promised=lambda: is_built or self.planner.is_promised(step),
            strict_records=self.request.own.strict_records,
        )
        given = self.planner.own_hashes(step.name)
        if given and not is_built and artifact.sha256 not in given:
            raise HashMismatch(
                f"{path.name} has sha256 {artifact.sha256}, which is none of the hashes given for {step.name}",
                hint=f"If that is the file that you want, add --hash=sha256:{artifact.sha256}.",
            )
        return artifact

    def _copy_artifact(self, artifact: Artifact) -> Artifact:
        """An extension's wheel was verified where it lies: the copy that is unpacked has to be the same file."""
        copy = self._copy_wheel(artifact.path, artifact.name)
        if copy != artifact.path and hash_file(copy) != artifact.sha256:
            raise HashMismatch(
                f"{artifact.path} was replaced after it had been checked: it had sha256 {artifact.sha256}",
                hint="Something else writes to that file: run the command again when that has ended.",
            )
        return replace(artifact, path=copy)

    def _copy_wheel(self, path: Path, name: NormalizedName) -> Path:
        """A copy in our own folder, or `path` itself if it lies there. Errors: Refused.

        A wheel in a folder of the person, a find-links folder or a cache may be replaced or rewritten by another
        program between the check and the unpacking. What is checked, recorded and unpacked is therefore one file that
        nobody else writes to.
        """
        if self._work in path.parents:
            return path
        folder = self._work / "copies" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return Path(shutil.copyfile(path, folder / path.name))
        except OSError as error:
            raise Refused(
                f"{path} could not be copied to {folder}: {error.strerror or error}", hint=mend_of(error)
            ) from error

    def notices(self) -> Tuple[Finding, ...]:
        """What a person should know of the files before they are there: code at every start, names that hide others."""
        scheme = self.environment.interpreter.scheme
        folds = folds_case(scheme.purelib)
        elsewhere = system_path(self.environment.interpreter.prefix, self.world.environ)
        findings: List[Finding] = []
        for step in self.plan.steps:
            artifact = self._artifacts.get(step.name)
            if artifact is not None:
                hidden = {name: shutil.which(name, path=elsewhere) for name in artifact.scripts}
                findings += contents_findings(
                    artifact, folds_case=folds, hidden=hidden, beside_torch=self.planner.has_torch()
                )
        return tuple(findings)

    def path_warnings(self) -> List[str]:
        """pip's words on commands in a folder that no shell looks in; Python's own folder is left out, as pip does."""
        interpreter = self.environment.interpreter
        path = self.world.environ.get("PATH", os.defpath).split(os.pathsep)
        known = {os.path.normpath(folder) for folder in (*path, str(interpreter.executable.parent)) if folder}
        folder = os.path.normpath(interpreter.scheme.scripts)
        lines: List[str] = []
        if self.request.warns_of_path and folder not in known:
            for step in self.plan.steps:
                artifact = self._artifacts.get(step.name)
                if artifact is not None and artifact.console_scripts:
                    lines += path_warning(artifact.console_scripts, folder)
        return lines

    def check_space(self) -> None:
        """Old and new files lie side by side until the end. Errors: Refused, before anything is written there."""
        artifacts = self._artifacts.values()
        sizes = [entry for artifact in artifacts for entry in artifact.sizes]
        compiled = self.request.compile_bytecode
        sources = sum(path.endswith(".py") for path, _ in sizes) if compiled else 0
        shortage = find_shortage(
            read_room(self.environment.interpreter.prefix),
            size=estimate_size(sizes, compile_bytecode=compiled),
            files=len(sizes) + sources + FILES_MARGIN,
        )
        if shortage is not None:
            raise Refused(shortage, hint="Make room, or let old changes go: safe-install history --prune --keep 1.")

    def stage(self, stage: Path) -> None:
        """Unpack every wheel of the plan below `stage`."""
        wheels = [
            StagedWheel(
                step,
                artifact.path,
                artifact.installable_filename,
                str(artifact.version),
                len(artifact.files),
                tuple(note.path for note in artifact.record_notes),
                tuple(note.path for note in artifact.record_notes if note.path not in artifact.files),
            )
            for step in self.plan.steps
            for artifact in [self._artifacts.get(step.name)]
            if artifact is not None
        ]
        fill_stage(
            self._pip,
            stage,
            wheels,
            folder=self._stage_links,
            compile_bytecode=self.request.compile_bytecode,
            options=("--user",) if self.request.place == "user" else (),
            reporter=self.world.reporter,
        )
        clones = self.planner.clones
        if clones is not None:
            clones.refuse_uncovered()
        stage_editables(
            self._pip,
            stage,
            [self._from_clone(step) for step in self.plan.steps if step.kind == "editable"],
            options=self._editable_options,
            reporter=self.world.reporter,
            readers=self.readers,
        )
        if clones is not None:
            clones.rewrite(stage)

    def _from_clone(self, step: Step) -> Step:
        """A clone is built where it is now."""
        clones = self.planner.clones
        source = clones.source_of(step.url or "") if clones is not None else None
        if source is None:
            return step
        return replace(step, download_info={**(step.download_info or {}), "url": source.as_uri()})

    # --- will it load? -------------------------------------------------------------------------------

    def inspect(self, stage: Path, replaced: Sequence[InstalledDistribution]) -> Tuple[Finding, ...]:
        """What the files in the stage say of themselves beside the torch that will be there; nothing is executed."""
        torch = self.planner.torch_after(self.plan)
        natives = {name: artifact for name, artifact in self._artifacts.items() if artifact.native_objects}
        if torch is None or not natives:
            return ()
        members = {name: self._final_paths(artifact) for name, artifact in natives.items()}
        inspector = Inspector(
            self.environment,
            torch,
            stage=stage,
            removed=recorded_objects(replaced),
            coming=[path for paths in members.values() for path in paths.values()],
            variables=self.world.environ,
            preloaded=lambda: self._loaded_by(torch),
        )
        findings: List[Finding] = []
        if any(is_guarded(step.name) for step in self.plan.steps):
            findings += self._inspect_torch(inspector)
        for step in self.plan.steps:
            if step.name not in natives:
                continue
            if step.name == TORCH:
                findings += self._inspect_coming_torch(inspector, members[TORCH])
            elif inspector.is_for_torch(members[step.name]):
                findings += self._inspect_wheel(inspector, step, members[step.name])
            elif not is_guarded(step.name):
                findings += self._inspect_gpu_code(inspector, step, members[step.name])
        return tuple(findings)

    def _inspect_coming_torch(self, inspector: Inspector, members: Mapping[str, str]) -> Tuple[Finding, ...]:
        """Has it code for the declared GPUs? The plan was checked by what the wheel index knows; this is the file."""
        driver = self.environment.driver
        if driver is None or not driver.declared or not driver.devices:
            return ()
        code = gpu_code_of_torch(inspector.files, members)
        return check_torch(inspector.beside.torch, driver, self.environment.interpreter, code=code)

    def _inspect_gpu_code(self, inspector: Inspector, step: Step, members: Mapping[str, str]) -> Tuple[Finding, ...]:
        """A wheel that does not link torch may still compute on the GPU."""
        if self.environment.driver is None:
            return ()
        judged = read_gpu_files(inspector.files, members)
        return check_gpu_files(
            step.name,
            judged,
            inspector.beside.torch,
            self.environment.driver,
            version=step.version or "",
            requires=self._artifacts[step.name].requires_dist,
        )

    def _inspect_torch(self, inspector: Inspector) -> List[Finding]:
        """What torch would no longer find; what it does not find today either is not the change's fault."""
        findings = list(torch_findings(inspector.inspect_torch(demangle=demangle)))
        if findings and self.environment.torch is not None:
            today = Inspector(self.environment, self.environment.torch, variables=self.world.environ)
            known = torch_findings(today.inspect_torch(demangle=demangle))
            findings = [finding for finding in findings if finding not in known]
        return findings

    def _loaded_by(self, torch: TorchBuild) -> Sequence[str]:
        """What a process has in memory that imported the torch which is there, if that is the one to come."""
        if torch != self.environment.torch:
            return ()
        limit = self.request.own.check_timeout
        return Examination(self.environment.interpreter.executable, torch, (), timeout=limit).result().libraries

    def _inspect_wheel(self, inspector: Inspector, step: Step, members: Mapping[str, str]) -> List[Finding]:
        judged = inspector.inspect(members, demangle=demangle)
        if any(one.seen.problems.driver for one in judged):
            self._needs_driver.add(step.name)
        self._loadable[step.name] = tuple(
            one.seen.member for one in judged if one.seen.uses_torch and one.verdict is Verdict.FITS
        )
        findings = check_objects(
            step.name,
            judged,
            inspector.beside.torch,
            self.environment.driver,
            version=step.version or "",
            requires=self._artifacts[step.name].requires_dist,
            is_asked_for=step.is_direct,
        )
        noted = {note.subject for note in self.planner.notes if note.check == "cpu-build"}
        return [one for one in findings if one.check != "no-gpu-code" or one.subject not in noted]

    def _final_paths(self, artifact: Artifact) -> Mapping[str, str]:
        """The wheel's shared objects by their member names, and where they will lie."""
        scheme = self.environment.interpreter.scheme
        site = scheme.purelib if artifact.root_is_purelib else scheme.platlib
        data = f"{artifact.dist_info[: -len('.dist-info')]}.data/"
        return {name: str(site / name) for name in artifact.native_objects if not name.startswith(data)}

    # --- what is expected afterwards ---------------------------------------------------------------

    def subjects(self) -> Tuple[Subject, ...]:
        """Every extension that is there or comes."""
        coming = [self._subject(step.name) for step in self.plan.steps]
        return with_subjects(
            installed_subjects(self.environment), [subject for subject in coming if subject is not None]
        )

    def _subject(self, name: NormalizedName) -> Optional[Subject]:
        """The questions about one distribution of the plan; None for one that has nothing to do with torch."""
        if name in known_projects():
            return subject_of(load_project(name))
        artifact = self._artifacts.get(name)
        if artifact is None or name not in self._loadable or is_guarded(name):
            return None
        # Some projects swallow an ImportError: each file that uses torch is loaded, and not only imported.
        return Subject(name, artifact.top_level, native=tuple(exact_pattern(one) for one in self._loadable[name]))

    def expectation(self, kept: Set[NormalizedName]) -> Expectation:
        """What the verdict must know about the request."""
        requested: Set[str] = set()
        # Where images are built there is no driver: what links libcuda.so.1 cannot be asked there, and is not broken.
        has_driver = self.environment.driver is not None and not self.environment.driver.declared
        for subject in self.subjects():
            if subject.name in self._needs_driver and not has_driver:
                continue
            if any(step.name == subject.name for step in self.plan.steps):
                requested |= {subject.name, *subject.imports}
        torch = next((step for step in self.plan.steps if step.name == TORCH), None)
        return Expectation(
            requested=frozenset(requested),
            torch_requested=torch is not None and TORCH in self.planner.released_by(self.plan),
            cuda_loss_requested=torch is not None and _is_cpu_build(self.request, torch),
            require_cuda=self.request.own.require_cuda,
            no_rollback=self.request.own.no_rollback,
            kept=frozenset(kept),
            may_miss=self.planner.may_miss(self.plan),
        )


def _is_cpu_build(request: InstallRequest, step: Step) -> bool:
    """Did the person write a CPU build of torch (`torch==2.4.1+cpu`)? Then losing CUDA is what was asked for."""
    return (step.version or "").endswith("+cpu") and any(
        "+cpu" in entry.text for entry in request.entries if planning.requirement_name(entry.text) == TORCH
    )
