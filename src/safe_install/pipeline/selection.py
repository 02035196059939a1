"""From a request to a plan: extensions chosen by us, everything else by pip under our constraints.

Nothing of the environment is touched here; the wheels of the chosen extensions are brought to disk, because their
metadata is part of the question.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Set, Tuple
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.environment.stamp import watched_folders
from safe_install.errors import HashMismatch, Interrupted, NoCandidate, PipFailed, Refused, SafeInstallError
from safe_install.events import Reporter, TaskOutcome
from safe_install.health.report import dependents_of, unmet_requirements
from safe_install.index.catalog import known_projects, load_project
from safe_install.index.facts import TorchMatch
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    HostAnswer,
    HostAnswerKind,
    Plan,
    Rejection,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pip_output import is_summary_of_dry_run, requirement_in_failure
from safe_install.pipeline.choice import Chooser, Wishes, cpu_fallback_notes, describe_pins, describe_torch
from safe_install.pipeline.health_gate import BaselineCheck, check_torch_here
from safe_install.ports import Timings, World
from safe_install.requirements import parse_requirement
from safe_install.resolve import plan as planning
from safe_install.resolve.companions import check_planned, pip_may_choose, says_its_torch
from safe_install.resolve.compatibility import Context
from safe_install.resolve.provider import where_else
from safe_install.resolve.request import InstallRequest, named
from safe_install.resolve.requirements_file import Entry
from safe_install.resolve.spelling import refuse_misspelled
from safe_install.resolve.target import planned_torch
from safe_install.system.askpass import AskPass
from safe_install.system.credentials import Credentials, Keyring, Question
from safe_install.system.downloads import KeptDownloads
from safe_install.system.pip import PipRunner
from safe_install.system.process import LineReader
from safe_install.system.read_only import Protection
from safe_install.torch_family import TORCH, is_guarded
from safe_install.transaction.clones import Clones, is_repository
from safe_install.wheels.archive import Artifact
from safe_install.wheels.placeholder import make_placeholder

MAX_ROUNDS = 6  # pip is asked again when its answer names a project that only we can choose


class Planner:
    """The choices of one install command, and the plan that comes of them."""

    def __init__(
        self,
        request: InstallRequest,
        environment: Environment,
        before: BaselineCheck,
        world: World,
        timings: Timings,
        work: Path,
    ) -> None:
        self.request = request
        self.environment = environment
        self.world = world
        self._before = before
        self.timings = timings
        self._links = make_folder(work / "links")  # the chosen wheels: pip's find-links page
        # A dry run fetches nothing after its plan.
        self.downloads = None if request.own.dry_run else KeptDownloads(make_folder(work / "downloads"))
        self.clones = self._prepare_clones(work / "src")
        self._pip: Optional[PipRunner] = None
        self._said: Optional[_Said] = None  # what pip says in the round that goes on
        self._credentials = _credentials(request, environment, self._ask_person)
        self._askpass = AskPass(make_folder(work / "askpass"), self._ask_person)
        self._chooser = Chooser(environment, _wishes(request), world, self._credentials)
        self._extensions: Dict[NormalizedName, Requirement] = {}
        self._pins: Dict[NormalizedName, Candidate] = {}
        self._files: Dict[NormalizedName, Path] = {}  # the pins as pip is shown them
        self.artifacts: Dict[NormalizedName, Artifact] = {}
        self.built: List[NormalizedName] = []  # the extensions that were built in this run
        self._rejections: List[Rejection] = []
        self._answers: List[HostAnswer] = []
        self.notes: Tuple[Finding, ...] = ()  # what a person should know of the choice
        self.coming_torch: Optional[TorchBuild] = None
        self._planned = environment  # with the torch that comes
        self.torch_findings: Tuple[Finding, ...] = ()  # warnings on the torch that comes
        self._checked_torches: List[TorchBuild] = []
        self._named = _names_written_here(request, environment)
        self._released = planning.names_released(
            environment, named=self._named, allow_torch_change=request.own.allow_torch_change
        )

    @property
    def pip(self) -> PipRunner:
        """pip, found when it is first needed."""
        if self._pip is None:
            self._pip = PipRunner(
                self.environment.interpreter,
                cache_dir=self.world.cache_dir,
                has_wheel=canonicalize_name("wheel") in self.environment.installed,
                answer=self._credentials.answer if self._credentials.can_answer else None,
                askpass=self._askpass,
                protection=self._protection(),
            )
        return self._pip

    def _protection(self) -> Protection:
        """What builds may not change. Repositories may be fetched by ssh, which refuses to work in a user namespace."""
        sources = local_sources(self.request)
        return Protection(
            watched_folders(self.environment, sources),
            written=(*sources, self.world.cache_dir),
            in_user_namespace=not any(is_repository(entry.text) for entry in self.request.entries),
        )

    def _prepare_clones(self, work: Path) -> Optional[Clones]:
        """The folder in which pip clones; None where it clones nothing."""
        repositories = [entry for entry in self.request.editables if is_repository(entry.text)]
        if not repositories:
            return None
        interpreter = self.environment.interpreter
        # pip's rule: beside the packages of a virtual environment, else in the working folder.
        is_inside = interpreter.is_virtual and self.request.place != "user"
        default = interpreter.prefix / "src" if is_inside else Path("src")
        place = Path(os.path.abspath(self.request.src or default))  # noqa: PTH100 - Path.absolute keeps ".."
        clones = Clones(make_folder(work), place, interpreter.prefix)
        names = [named(entry.text) for entry in repositories]
        clones.copy_present(name for name in names if name is not None)
        return clones

    # --- what to install ---------------------------------------------------------------------------

    def make_plan(self) -> Plan:
        """The plan, or UsageError, Refused, NoCandidate, PipFailed."""
        named = [parse_requirement(entry.text) for entry in self.request.entries]
        meant = [one for one in named if one is not None and planning.applies(one, self.environment)]
        refuse_misspelled(meant, known=known_projects(), installed=self.environment.installed)
        if TORCH not in self._released:
            self._check_torch(self.environment.torch)
        extensions, ordinary = self._split()
        if extensions and self._torch_will_change():
            # pip chooses what it can beside the torch that it plans: it is judged in the plan.
            extensions = [one for one in extensions if not self._may_pip_choose(one)]
            ordinary = True
            if extensions:
                self._plan_for_coming_torch()
        with self.timings.stage("resolve"):
            ordinary = not self._choose_unless_torch_may_move(extensions) or ordinary
        if ordinary or not self._is_closed() or self.request.report_file is not None:
            with self.timings.stage("pip"):
                steps = self._ask_pip()
        else:
            self._tell_satisfied(extensions)
            steps = planning.steps_of_pins(tuple(self._pins.values()), self.environment, requested=self._named)
            steps = tuple(self._with_artifact(step) for step in steps)
        steps = tuple(planning.with_own_hash(step, self.own_hashes(step.name)) for step in steps)
        if self.request.has_lock:
            steps = tuple(dataclasses.replace(step, is_locked=step.candidate is None) for step in steps)
        if self.request.ignore_installed:
            steps = planning.beside_installed(steps, self.environment)
        plan = Plan(planning.explained(steps), tuple(self._rejections), tuple(self._answers))
        self._check(plan)
        return plan

    def _split(self) -> Tuple[List[Requirement], bool]:
        """The requirements that the wheel index answers, and whether there are others (which pip answers)."""
        extensions: List[Requirement] = []
        ordinary = bool(self.request.editables) or self.request.has_pip_inputs
        known = known_projects()
        for entry in self.request.entries:
            requirement = parse_requirement(entry.text)
            name = canonicalize_name(requirement.name) if requirement is not None and not requirement.url else None
            if requirement is None or name not in known or not self._is_ours(name):
                ordinary = True
            elif planning.applies(requirement, self.environment):
                extensions.append(requirement)
        return extensions, ordinary

    def _is_ours(self, name: NormalizedName) -> bool:
        """Without a torch there is nothing to fit for what does not depend on it: pip chooses then."""
        if self.environment.torch is not None:
            return True
        project = load_project(name)
        if not project.hosts and project.package_index.note:
            # Nothing could be chosen from anywhere, and pip would take what the name belongs to.
            raise NoCandidate(project.package_index.note, hint=where_else([Context(project, self.environment)]))
        return project.torch_match is not TorchMatch.ANY

    def _choose_unless_torch_may_move(self, extensions: Sequence[Requirement]) -> bool:
        """Choose for the torch that is there. False: nothing fits it, another torch is permitted, so pip decides."""
        try:
            self._choose(extensions)
        except (NoCandidate, Refused) as error:
            if not self.request.own.allow_torch_change:
                raise
            self.world.reporter.note(f"{error.message.splitlines()[0]}: pip chooses, and torch may move with it")
            self._extensions.clear()
            return False
        return True

    def _torch_will_change(self) -> bool:
        """Is torch missing, or asked for in another version than the installed one?"""
        wanted = [
            requirement
            for entry in self.request.entries
            for requirement in [parse_requirement(entry.text)]
            if requirement is not None and canonicalize_name(requirement.name) == TORCH
        ]
        if self.environment.torch is None:
            if not wanted:
                raise NoCandidate(
                    f"torch is not installed for {self.environment.interpreter.executable}, so no extension can fit it",
                    hint="Install torch first, or name it too: safe-install torch torch-scatter.",
                )
            return True
        return TORCH in self._named and not all(
            planning.is_satisfied(requirement, self.environment) for requirement in wanted
        )

    def _may_pip_choose(self, requirement: Requirement) -> bool:
        """Does pip find a version that belongs to the torch that it plans? Not where one that stays would be for the
        torch of today."""
        name = canonicalize_name(requirement.name)
        return pip_may_choose(load_project(name)) and (
            name not in self.environment.installed or self.request.upgrade or self.request.force_reinstall
        )

    def _plan_for_coming_torch(self) -> None:
        """Which torch will pip install? Extensions are chosen for it. Nothing can be built against it yet."""
        texts = []
        for entry in self.request.entries:
            requirement = parse_requirement(entry.text)
            if requirement is None or requirement.url is not None:
                is_meant = planning.requirement_name(entry.text) == TORCH
            else:
                name = canonicalize_name(requirement.name)
                is_meant = name == TORCH or (name in known_projects() and self._may_pip_choose(requirement))
            if is_meant:
                texts.append(entry.text)
        with self.timings.stage("pip"):
            said = _Said(self.world.reporter)
            try:
                report = self.pip.dry_run(
                    [*self.request.fetch_options, *texts],
                    constraints=(),
                    find_links=(),
                    on_output=said.output,
                    on_error=said.error_output,
                    downloads=self.downloads,
                )
            except PipFailed:
                said.relay()
                raise
            finally:
                said.close()
        self._see_coming_torch(planning.steps_of_report(report, self.environment, {}))

    def _see_coming_torch(self, steps: Sequence[Step]) -> None:
        """Remember the torch that a plan of pip's brings: from then on extensions are chosen for it."""
        step = next((step for step in steps if step.name == TORCH), None)
        if step is None or step.version is None or self.coming_torch is not None:
            return
        build = planned_torch(step.version, self.environment.interpreter.platform)
        here = self.environment.torch
        if here is not None and here.runtime_version == build.runtime_version:
            return  # the same one again (--force-reinstall): what fits it today fits it then
        # What pip planned of an extension is judged, and is no reason to choose it.
        others = tuple(step for step in steps if step.name == TORCH or step.name not in known_projects())
        planned = dataclasses.replace(
            self.environment,
            torch=build,
            installed=planning.planned_distributions(Plan(others), self.environment),
        )
        self.world.reporter.note(f"torch {build.runtime_version} will be installed: extensions are chosen for it")
        wishes = dataclasses.replace(_wishes(self.request), no_build=True)
        self._check_torch(build)
        self.coming_torch = build
        self._planned = planned
        self._chooser = Chooser(planned, wishes, self.world, self._credentials)

    def _choose(self, requirements: Sequence[Requirement]) -> None:
        """Choose together with all extensions chosen before, then bring each new pin as a verified wheel."""
        if not requirements:
            return
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            present = self._extensions.get(name)
            if present is not None:
                requirement = Requirement(f"{requirement.name}{present.specifier & requirement.specifier}")
            self._extensions[name] = requirement
        wanted = tuple(self._extensions.values())
        parsed = [parse_requirement(entry.text) for entry in self.request.constraints]
        constraints = [one for one in parsed if one is not None]
        try:
            resolution = self._chooser.choose(wanted, constraints=constraints, upgrade=self._upgrade(wanted))
        except NoCandidate as error:
            can_be_built = any(load_project(name).recipe is not None for name in self._extensions)
            if self.coming_torch is not None and can_be_built and not self.request.own.no_build:
                error.hint = (
                    f"Nothing can be built against a torch that is not there yet: install torch "
                    f"{self.coming_torch.version} first, then the extension is built against it."
                )
            raise
        self._rejections = list(resolution.rejections)
        self._answers = list(resolution.answers)
        self.notes = cpu_fallback_notes(resolution.pins, resolution.answers, self._chooser.environment)
        for sentence in describe_pins(resolution):
            self.world.reporter.note(sentence)
        self._tell_hosts_down(resolution.pins)
        for pin in resolution.pins:
            if not self._is_there(pin) and self._pins.get(pin.name) != pin:
                self._bring(pin)

    def _tell_hosts_down(self, pins: Sequence[Candidate]) -> None:
        """A source build that a host's silence is the reason for should not look like the normal case."""
        built = {pin.name for pin in pins if pin.kind is CandidateKind.SDIST}
        for answer in self._answers:
            if answer.project not in built:
                continue
            if answer.kind is HostAnswerKind.DOWN:
                self.world.reporter.warn(f"{answer.project}: {answer.host} does not answer ({answer.detail})")
            elif answer.gap:
                self.world.reporter.warn(f"{answer.project}: {answer.host} was not asked, and {answer.gap}")

    def _upgrade(self, requirements: Sequence[Requirement]) -> Set[NormalizedName]:
        """The names for which being installed is no reason to stay: -U, or broken beside this torch."""
        names = {canonicalize_name(requirement.name) for requirement in requirements}
        if self.request.upgrade or self.request.force_reinstall:
            return names
        return {name for name in names if self._is_broken(name) or self._was_for_another_torch(name)}

    def _was_for_another_torch(self, name: NormalizedName) -> bool:
        """Is it installed, torch changes, and nothing says that it fits the torch to come?"""
        found = self.environment.installed.get(name)
        return found is not None and self.coming_torch is not None and not says_its_torch(found)

    def _is_broken(self, name: NormalizedName) -> bool:
        """Is it installed, and does it not load? Then the same version for this torch is worth installing."""
        if name not in self.environment.installed:
            return False
        report, project = self._before.report(), load_project(name)
        answers = {**report.imports, **report.operations}
        asked = [answers.get(key) for key in (*project.imports, f"{name} native part", f"{name} on cpu")]
        return any(answer is not None and not answer.ok for answer in asked)

    def _is_there(self, pin: Candidate) -> bool:
        """Is this very version installed and sound? `-U` does not install it again, as with pip."""
        return pin.kind is CandidateKind.INSTALLED or self._is_installed(pin.name, str(pin.version))

    def _is_installed(self, name: NormalizedName, version: str) -> bool:
        found = self.environment.installed.get(name)
        if found is None or self.request.force_reinstall:
            return False
        if self._is_broken(name) or self._was_for_another_torch(name):
            return False
        return canonical(found.version) == version

    def _bring(self, pin: Candidate) -> None:
        if self.request.own.dry_run and pin.kind is CandidateKind.SDIST:
            # A dry run builds nothing: the plan says that it would, and pip is shown an empty wheel in its place.
            self._chooser.check_build(pin, self.pip)
            self._pins[pin.name] = pin
            self._files[pin.name] = make_placeholder(self._links, pin.name, pin.version, requires=pin.requires)
            return
        if pin.kind is CandidateKind.SDIST and self.request.config_settings_of(pin.name, is_requested=False):
            self.world.reporter.warn(
                f"{pin.name}: config settings are not passed to the build of an extension: "
                "set the variables that its setup.py reads"
            )
        with self.timings.stage("fetch"):
            is_promised = bool(self._entries_with_hashes(pin.name))
            if pin.kind is CandidateKind.SDIST:
                self.built.append(pin.name)
            pin, artifact = self._chooser.bring(pin, self.pip, is_promised=is_promised)
            self._check_hashes(pin, artifact)
        if self._is_installed(pin.name, str(artifact.version)):
            return  # a file whose name says more than its METADATA: the very version is there, and sound
        self._pins[pin.name] = pin
        self.artifacts[pin.name] = artifact
        link = self._links / artifact.installable_filename
        if not link.exists():
            link.symlink_to(artifact.path.resolve())
        self._files[pin.name] = link

    def _check_hashes(self, pin: Candidate, artifact: Artifact) -> None:
        """The --hash options of a requirements file hold for the files that we choose, too."""
        for entry in self._entries_with_hashes(pin.name):
            if pin.kind is CandidateKind.WHEEL and f"sha256:{artifact.sha256}" not in entry.hashes:
                raise HashMismatch(
                    f"{entry.origin}: {pin.link.filename} from {pin.link.url} has sha256 {artifact.sha256}, "
                    "which is none of the hashes given there",
                    hint=f"If that is the file that you want, add --hash=sha256:{artifact.sha256}.",
                )

    def _entries_with_hashes(self, name: NormalizedName) -> List[Entry]:
        """Where the person promised hashes of a project: a requirements file, in the lines that are meant for here."""
        return [entry for entry in self.request.entries if entry.hashes and self._is_of(entry, name)]

    def _is_of(self, entry: Entry, name: NormalizedName) -> bool:
        requirement = parse_requirement(entry.text)
        if requirement is None:
            return planning.requirement_name(entry.text) == name
        return canonicalize_name(requirement.name) == name and planning.applies(requirement, self.environment)

    def own_hashes(self, name: NormalizedName) -> Tuple[str, ...]:
        """The sha256 (hex) that the person gave for a project; none where a hash of another kind is among them."""
        given = [text.lower() for entry in self._entries_with_hashes(name) for text in entry.hashes]
        if not all(text.startswith("sha256:") for text in given):
            return ()
        return tuple(dict.fromkeys(text.partition(":")[2] for text in given))

    def is_promised(self, step: Step) -> bool:
        """Are the bytes that pip brings for a step those that the person or the package index promised?

        pip's report does not say it: it has a sha256 for every file, and computes the one that nobody promised. A file
        of this machine that the person named by its path, or that lies in a folder or on a page that the person named,
        is what the person meant; one that a wheel names is not.
        """
        if self._entries_with_hashes(step.name) or step.is_locked:
            return True  # pip has compared them
        is_local = str(step.url).startswith("file:")
        if step.is_direct:
            return self._is_named_with_hash(step) or (is_local and (step.requested or self._is_constrained_to(step)))
        if is_local or step.sha256 is None:
            return is_local
        filename = unquote(urlsplit(step.url or "").path.rpartition("/")[2])
        return self._chooser.is_on_index(step.name, filename, step.sha256)

    def _is_named_with_hash(self, step: Step) -> bool:
        """Did the person write the file's address with `#sha256=`?"""
        promise = f"sha256={step.sha256}"
        named = [entry.text for entry in self.request.entries]
        return any(promise in text and str(step.url) in text for text in named)

    def _is_constrained_to(self, step: Step) -> bool:
        """Did the person write the file's address in a constraint?"""
        return any(str(step.url) in entry.text for entry in self.request.constraints)

    def forget_refused(self) -> None:
        """What was seen for the first time and then refused is not what its address has to serve from now on."""
        self._chooser.forget_new()

    def _is_closed(self) -> bool:
        """Is everything that the chosen wheels require installed or chosen? Then pip has nothing to add."""
        if self.request.no_deps:
            return True
        coming = set(self._pins)
        texts = [text for pin in self._pins.values() for text in pin.requires]
        texts += [text for artifact in self.artifacts.values() for text in artifact.requires_dist]
        return planning.are_satisfied(texts, self.environment, coming=coming)

    def _tell_satisfied(self, requirements: Sequence[Requirement]) -> None:
        """pip's own words for what is there already."""
        for requirement in requirements:
            found = self.environment.installed.get(canonicalize_name(requirement.name))
            if found is not None and found.name not in self._pins:
                self.world.reporter.output(
                    f"Requirement already satisfied: {requirement} in {found.location} ({found.version})"
                )

    def _with_artifact(self, step: Step) -> Step:
        artifact = self.artifacts.get(step.name)
        if artifact is None:
            return step
        return dataclasses.replace(
            step,
            version=str(artifact.version),
            sha256=artifact.sha256,
            requires=tuple(artifact.requires_dist),
        )

    def _constraints(self) -> Tuple[str, ...]:
        guard = planning.guard_constraints(self.environment, released=self._released | set(self._pins))
        # By address: an index may have the same version, with a higher build number and requirements of its own.
        pins = tuple(f"{pin.name} @ {self._files[pin.name].absolute().as_uri()}" for pin in self._pins.values())
        coming = (f"torch=={self.coming_torch.version}",) if self.coming_torch else ()
        return guard + coming + pins

    def _ask_person(self, question: str, *, is_secret: bool = False) -> Optional[str]:
        """A question comes after what pip said before it."""
        if self._said is not None:
            self._said.relay()
        return self.world.reporter.ask(question, is_secret=is_secret)

    # --- pip's part --------------------------------------------------------------------------------

    def _ask_pip(self) -> Tuple[Step, ...]:
        """pip's plan under our constraints; asked again as long as it names extensions that we have to choose."""
        for _ in range(MAX_ROUNDS):
            said = self._said = _Said(self.world.reporter)
            try:
                report = self.pip.dry_run(
                    self._pip_arguments(),
                    constraints=self._constraints(),
                    find_links=[self._links] if self._pins else [],
                    on_output=self._with_final_paths(said.output),
                    on_error=self._with_final_paths(said.error_output),
                    downloads=self.downloads,
                )
            except PipFailed as error:
                if self._choose_named_in(error.output):
                    continue
                refusal = self._refusal(error)
                if refusal is error:
                    said.relay()
                    error.was_relayed = True
                raise refusal from error
            finally:
                said.close()
            if self.clones is not None:
                report = json.loads(self.clones.final_text(json.dumps(report, ensure_ascii=False)))
            steps = planning.steps_of_report(report, self.environment, self._pins)
            self._see_coming_torch(steps)
            if self._choose_in(steps):
                continue
            said.relay()
            self._hand_over(report)
            steps += self._pins_not_in(steps)
            return tuple(self._with_artifact(self._as_dependency(step)) for step in steps)
        raise Refused(
            f"pip's plan still changes after {MAX_ROUNDS} rounds of choosing extensions",
            hint="Name the versions of the extensions explicitly.",
        )

    def _with_final_paths(self, read: LineReader) -> LineReader:
        """What pip says of a clone is said of the place to which it will come."""
        clones = self.clones
        if clones is None:
            return read
        return lambda line: read(clones.final_text(line))

    def _pins_not_in(self, steps: Sequence[Step]) -> Tuple[Step, ...]:
        """What pip leaves out because the same version is installed: it was built for another torch, or is broken."""
        named = {step.name for step in steps}
        pins = [
            pin
            for pin in self._pins.values()
            if pin.name not in named and not self._is_installed(pin.name, str(pin.version))
        ]
        return planning.steps_of_pins(pins, self.environment, requested=self._named)

    def _hand_over(self, report: Mapping[str, Any]) -> None:
        """pip's report to where the person wants it (--report): a file, or stdout."""
        if self.request.report_file is None:
            return
        text = json.dumps(report, indent=2, ensure_ascii=False)
        if self.request.report_file == "-":
            self.world.reporter.document(text)
        else:
            Path(self.request.report_file).write_text(text, encoding="utf-8")

    def _hidden_requirements(self) -> Mapping[str, Candidate]:
        """What the pins need though their metadata does not say so, other pins too, and which pin does."""
        return {text: pin for pin in self._pins.values() for text in pin.requires}

    def _as_dependency(self, step: Step) -> Step:
        """pip was given the hidden requirements as if the person had asked for them."""
        asked = self._named | {planning.requirement_name(entry.text) for entry in self.request.entries}
        for text, pin in self._hidden_requirements().items():
            if planning.requirement_name(text) == step.name and step.name not in asked:
                why = f"{pin.name} {pin.version} needs {text}"
                return dataclasses.replace(step, requested=False, because=why)
        return step

    def _pip_arguments(self) -> List[str]:
        """The person's own words, and the hidden requirements of the pins."""
        hidden = list(self._hidden_requirements())
        # Offline, pip looks where the person pointed, and nowhere else.
        offline = ["--no-index"] if self.request.own.offline else []
        # What hides a distribution of the user site, and so cannot be installed there, only pip knows.
        place = ["--user"] if self.request.place == "user" else []
        sources = ["--src", str(self.clones.work)] if self.clones is not None else []
        return [*offline, *place, *self._no_foreign_source(), *self.request.dry_run_arguments, *sources, *hidden]

    def _no_foreign_source(self) -> List[str]:
        """pip runs the code of a source distribution to learn what it requires, whoever put it under an extension's
        name; what only we can choose has no need of that. The person's own options come later, and win."""
        if not self.has_torch() or self.request.own.allow_torch_change:
            return []
        names = sorted(known_projects() - set(self.environment.installed) - set(self._pins) - {TORCH})
        return ["--only-binary", ",".join(names)]

    def _choose_named_in(self, output: str) -> bool:
        """pip failed on a project that only we can choose: choose it, and say that it is worth asking again."""
        if not self.has_torch():
            return False
        names = [
            name
            for name in planning.names_in_failure(output, known_projects())
            if name not in self._extensions and name not in self.environment.installed
        ]
        if not names:
            return False
        self._choose([Requirement(requirement_in_failure(output, name)) for name in names])
        return True

    def _choose_in(self, steps: Sequence[Step]) -> bool:
        """pip's plan brings extensions that it cannot judge: choose them ourselves."""
        if self.request.has_lock:
            return False  # the lock names the file itself
        if not self.has_torch():
            return False
        known = known_projects()
        unchosen = [step for step in steps if step.name in known and step.name not in self._pins and not step.is_direct]
        if self.coming_torch is not None:
            unchosen = [step for step in unchosen if self._does_not_fit(step)]
        if not unchosen:
            return False
        wanted = [Requirement(f"{step.name}{_specifiers(step.name, steps)}") for step in unchosen]
        try:
            self._choose(wanted)
        except (NoCandidate, Refused) as error:
            reasons = "; ".join(step.because for step in unchosen if not step.requested)
            # The same kind of error, and so the same exit status, as when the person had named them.
            raise type(error)(
                f"{error.message}{f' ({reasons})' if reasons else ''}",
                hint=error.hint,
                rejections=error.rejections,
            ) from error
        return True

    def has_torch(self) -> bool:
        """Is there a torch, or does one come with this change?"""
        return self.environment.torch is not None or self.coming_torch is not None

    def _does_not_fit(self, step: Step) -> bool:
        """Did pip choose what is known not to fit the torch of its own plan?"""
        rejection = check_planned(step, self._planned)
        if rejection is None:
            return False
        self.world.reporter.note(f"{step.name} {step.version}, as pip planned it, does not fit: {rejection.detail}")
        return True

    def _refusal(self, error: PipFailed) -> SafeInstallError:
        """pip's failure, or, where our guard was the reason, the refusal that names who wanted torch moved."""
        constraints = planning.guard_constraints(self.environment, released=self._released)
        reason = planning.conflict_reason(error.output, constraints)
        if reason is None:
            return error
        finding = Finding("torch-moved", Severity.ERROR, "torch", reason)
        return Refused(
            f"this would move {describe_torch(self.environment).split(',')[0]}: {reason}",
            hint="Ask for a version that works with the installed torch, or permit the change with "
            "--allow-torch-change.",
            findings=(finding,),
        )

    # --- checks before anything is touched ---------------------------------------------------------

    def _check(self, plan: Plan) -> None:
        findings = list(planning.check_plan(plan, self.environment, released=self.released_by(plan)))
        if not findings:
            findings += self._check_requirements(plan)
        if findings:
            raise Refused(
                findings[0].detail,
                hint=findings[0].hint,
                findings=findings,
                rejections=plan.rejections,
            )
        if plan.steps:
            self._check_torch_change(plan)
            self._check_torch(self.torch_after(plan))

    def released_by(self, plan: Plan) -> Set[NormalizedName]:
        """The guarded names that may move in this plan; a companion that does not load beside this torch, too."""
        released = planning.names_released_by(
            plan, self.environment, named=self._named, allow_torch_change=self.request.own.allow_torch_change
        )
        for step in plan.steps:
            is_chosen_again = step.candidate is not None and step.version == step.from_version
            if is_chosen_again and is_guarded(step.name) and self._is_broken(step.name):
                released.add(step.name)
        return released

    def _check_torch_change(self, plan: Plan) -> None:
        """Another accelerator, or an older torch, is what somebody asked for. Errors: Refused."""
        texts = [entry.text for entry in _written_here(self.request, self.environment) if named(entry.text) == TORCH]
        places = self.request.named_places
        asked = planning.AskedOfTorch(tuple(texts), places, self.request.own.allow_torch_change)
        here = self.environment.torch
        entries = (*self.request.entries, *self.request.constraints)
        because = planning.who_excludes(here.version, plan.steps, entries) if here is not None else ""
        self._tell_of_torch(planning.check_torch_change(here, self.torch_after(plan), asked, because=because))

    def torch_after(self, plan: Plan) -> Optional[TorchBuild]:
        """The torch that will be there when the plan is carried out."""
        step = next((step for step in plan.steps if step.name == TORCH), None)
        if step is None or step.version is None:
            return self.coming_torch or self.environment.torch
        return planned_torch(step.version, self.environment.interpreter.platform)

    def _check_torch(self, torch: Optional[TorchBuild]) -> None:
        """Would the torch that will be there run with the declared driver, or with the one here?

        What was declared must fit. A driver here that is too old refuses nothing: it is said of a torch that comes.
        """
        if torch is None or torch in self._checked_torches:
            return
        self._checked_torches.append(torch)
        if torch == self.environment.torch and not _is_declared(self.environment):
            return
        self._tell_of_torch(check_torch_here(self.environment, torch))

    def _tell_of_torch(self, findings: Tuple[Finding, ...]) -> None:
        """Refuse for an error, and remember the rest. Errors: Refused."""
        if any(finding.severity is Severity.ERROR for finding in findings):
            raise Refused(findings[0].detail, hint=findings[0].hint, findings=findings)
        self.torch_findings += findings
        for finding in findings:
            if not self.request.own.dry_run:  # whose result says it at once
                self.world.reporter.warn(finding.detail)

    def may_miss(self, plan: Plan) -> FrozenSet[NormalizedName]:
        """The distributions that stay and whose requirements the plan may break.

        Without a torch that is what pip does. With one, --no-warn-conflicts is the consent, and torch and what moves
        with it are never meant.
        """
        kept = planning.kept_names(plan, self.environment)
        if self.torch_after(plan) is None and TORCH not in self.environment.installed:
            return frozenset(kept)
        if not self.request.no_warn_conflicts:
            return frozenset()
        return frozenset(name for name in kept if not is_guarded(name))

    def _check_requirements(self, plan: Plan) -> Iterator[Finding]:
        """Requirements of what was there before that the plan would break; pip says so too, and goes on."""
        may_miss = self.may_miss(plan)
        for text in planning.newly_unmet(plan, self.environment):
            name = canonicalize_name(text.split()[0])
            if name in may_miss:
                continue
            hint = "Name both in one command, in versions that fit each other"
            consent = "." if is_guarded(name) else "; or accept it: --no-warn-conflicts."
            yield Finding("requirement-unmet", Severity.ERROR, name, f"after this {text}", f"{hint}{consent}")

    def conflicts(self, plan: Plan) -> Tuple[Finding, ...]:
        """What pip says once the plan is carried out: of what it brings, and of what requires any of that."""
        if self.request.no_deps or self.request.no_warn_conflicts:
            return ()
        after = planning.planned_distributions(plan, self.environment)
        brought = {step.name for step in plan.steps}
        concerned = brought | dependents_of(brought, after)
        return tuple(
            Finding("requirement-unmet", Severity.WARNING, text.split()[0], text)
            for text in unmet_requirements(after, self.environment.interpreter.markers, of=concerned)
        )


class _Said:
    """What pip says in one round: kept, because a round may turn out to be not the last one."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._lines: List[Tuple[bool, str]] = []
        reporter.task_started("pip resolves")

    def output(self, line: str) -> None:
        """A line of its stdout."""
        self._lines.append((True, line))
        self._reporter.task_advanced("pip resolves", 0, line)

    def error_output(self, line: str) -> None:
        """A line of its stderr."""
        self._lines.append((False, line))

    def close(self) -> None:
        """The round is over; that pip found nothing is an answer, too."""
        is_interrupted = isinstance(sys.exc_info()[1], (KeyboardInterrupt, Interrupted))
        outcome = TaskOutcome.INTERRUPTED if is_interrupted else TaskOutcome.DONE
        self._reporter.task_ended("pip resolves", outcome=outcome)

    def relay(self) -> None:
        """As pip would have said it; its "Would install" is ours to say."""
        lines, self._lines = self._lines, []
        for is_stdout, line in lines:
            if not is_stdout:
                self._reporter.error_output(line)
            elif not is_summary_of_dry_run(line):
                self._reporter.output(line)


# --- small decisions -------------------------------------------------------------------------------


def _wishes(request: InstallRequest) -> Wishes:
    return Wishes(
        offline=request.own.offline,
        no_build=request.own.no_build,
        pre=request.pre,
        upgrade=request.upgrade,
        require_hashes=request.require_hashes,
        index_url=request.index_url,
        find_links=request.find_links,
        no_index=request.no_index,
        third_party=request.own.third_party,
        no_toolkit=request.own.no_toolkit,
        build_timeout=request.own.build_timeout,
        strict_records=request.own.strict_records,
        index_options=request.index_options,
    )


def _credentials(request: InstallRequest, environment: Environment, ask: Question) -> Credentials:
    """As pip has it, --no-input also keeps from a keyring that was not named: it may ask for its own password."""
    may_look = not request.no_input or request.keyring_provider not in ("auto", "disabled")
    has_module = canonicalize_name("keyring") in environment.installed
    python = environment.interpreter.executable if has_module else None
    return Credentials(
        index_urls=request.index_urls,
        ask=None if request.no_input else ask,
        keyring=Keyring(request.keyring_provider, python) if may_look else None,
    )


def _is_declared(environment: Environment) -> bool:
    return environment.driver is not None and environment.driver.declared


def _written_here(request: InstallRequest, environment: Environment) -> List[Entry]:
    """The requirements of the command line, without those whose marker is not true for this interpreter."""
    found = []
    for entry in request.entries:
        requirement = parse_requirement(entry.text)
        is_meant = requirement is None or planning.applies(requirement, environment)
        if is_meant and not entry.origin and named(entry.text) in request.named_on_command_line:
            found.append(entry)
    return found


def _names_written_here(request: InstallRequest, environment: Environment) -> FrozenSet[NormalizedName]:
    names = [named(entry.text) for entry in _written_here(request, environment)]
    return frozenset(name for name in names if name is not None)


def local_sources(request: InstallRequest) -> Tuple[Path, ...]:
    """The folders of sources that the person names; real paths."""
    found = []
    for entry in request.entries:
        text = re.sub(r"\[[^\]]*\]$", "", entry.text.partition(" @ ")[2] or entry.text)
        if text.startswith("file:"):
            text = unquote(urlsplit(text).path)
        is_path = text.startswith(".") or os.sep in text
        if is_path and Path(text).expanduser().is_dir():
            found.append(Path(os.path.realpath(Path(text).expanduser())))
    return tuple(found)


def make_folder(path: Path) -> Path:
    """A new folder."""
    path.mkdir(parents=True)
    return path


def _specifiers(name: NormalizedName, steps: Sequence[Step]) -> str:
    """All specifiers on `name` among the requirements of the steps."""
    found = set()
    for step in steps:
        for text in step.requires:
            requirement = parse_requirement(text)
            if requirement is None or canonicalize_name(requirement.name) != name:
                continue
            if requirement.marker is None or "extra" not in str(requirement.marker):
                found |= {str(specifier) for specifier in requirement.specifier}
    return ",".join(sorted(found))


def canonical(version: Optional[str]) -> str:
    """A version in its one form, where it has one."""
    try:
        return str(Version(version or ""))
    except InvalidVersion:
        return version or ""
