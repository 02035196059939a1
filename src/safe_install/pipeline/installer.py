"""pip as the installer of a change: it plans under our constraints, with the user's own options,
questions and clones.

Its output in a round is kept back, because another round may follow.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import (
    Dict,
    FrozenSet,
    List,
    Mapping,
    Optional,
    Pattern,
    Protocol,
    Sequence,
    Tuple,
    Union,
)
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.stamp import watched_folders
from safe_install.errors import Interrupted, PipFailed, SafeInstallError
from safe_install.events import Reporter, TaskOutcome
from safe_install.folders import expand_home
from safe_install.models import Environment
from safe_install.pip_output import (
    InstallationReport,
    is_about_same_version,
    is_of_build,
    is_of_search,
    is_summary_of_dry_run,
)
from safe_install.pipeline.planned_wheels import PlannedWheels, ReadIndex, read_nothing
from safe_install.pipeline.session import Session, make_folder
from safe_install.resolve.decisions import Selection
from safe_install.resolve.known_plan import LocalWheel, may_be_known, plan_known, show_path
from safe_install.resolve.request import InstallRequest, named
from safe_install.resolve.rounds import Failed, Planned
from safe_install.resolve.torch_rounds import with_real_files
from safe_install.system.askpass import AskPass
from safe_install.system.credentials import AskUser, Credentials, Keyring
from safe_install.system.downloads import KeptDownloads
from safe_install.system.pip import PipRunner
from safe_install.system.process import LineReader
from safe_install.system.read_only import Protection
from safe_install.transaction.clones import Clones, is_repository

TASK = "pip resolves"


class Installer(Protocol):
    """Resolves what we do not choose ourselves; pip is the only implementation."""

    def plan(
        self, requirements: Sequence[str], *, constraints: Sequence[str], find_links: Sequence[Path]
    ) -> Union[Planned, Failed]:
        """A plan for these requirements alone."""

    def plan_request(
        self,
        *,
        constraints: Sequence[str],
        find_links: Sequence[Path],
        hidden: Sequence[str] = (),
        without_source: Sequence[str] = (),
    ) -> Union[Planned, Failed]:
        """A plan for the user's own requirements and options, and for `hidden` requirements, which
        no metadata has. No source distribution is taken of the projects `without_source`: to read
        its requirements is to run its code."""

    def relay(self) -> None:
        """Print the installer's output of its last round."""


class PipInstaller:
    """pip in the managed interpreter, as one install command uses it."""

    # environment markers of another machine that it plans for; None: it plans for this one
    markers: Optional[Mapping[str, str]] = None

    def __init__(self, session: Session, *, read_index: ReadIndex = read_nothing) -> None:
        self.request = session.request
        self._environment = session.environment
        self._world = session.world
        self.downloads = KeptDownloads(make_folder(session.work / "downloads"))
        self._wheels = PlannedWheels(
            self.downloads, make_folder(session.work / "planned"), read_index
        )
        self.clones = prepare_clones(self.request, self._environment, session.work / "src")
        self.credentials = make_credentials(self.request, self._environment, self._ask_person)
        self._askpass = AskPass(make_folder(session.work / "askpass"), self._ask_person)
        self._runner: Optional[PipRunner] = None
        self._output: Optional[_Output] = None

    @property
    def pip(self) -> PipRunner:
        """pip, searched for at its first use."""
        if self._runner is None:
            self._runner = PipRunner(
                self._environment.interpreter,
                cache_dir=self._world.cache_dir,
                has_wheel=canonicalize_name("wheel") in self._environment.installed,
                answer=self.credentials.answer if self.credentials.can_answer else None,
                askpass=self._askpass,
                protection=make_protection(self.request, self._environment, self._world.cache_dir),
                markers=self.markers,
            )
        return self._runner

    def _ask_person(self, question: str, *, is_secret: bool = False) -> Optional[str]:
        """Ask the user, after printing what pip said before its question."""
        self.relay()
        return self._world.reporter.ask(question, is_secret=is_secret)

    def plan(
        self, requirements: Sequence[str], *, constraints: Sequence[str], find_links: Sequence[Path]
    ) -> Union[Planned, Failed]:
        """A plan for these requirements alone, with the user's indexes and options."""
        words = [*self.offline_words, *self.request.fetch_options]
        if self.request.upgrade:
            words.append("--upgrade")
        return self._dry_run([*words, *requirements], constraints, find_links)

    def plan_exactly(self, lines: Sequence[str], folder: Path) -> Union[Planned, Failed]:
        """What each of these lines of a requirements file brings by itself, whatever is installed,
        and nothing that it requires. `folder`: a new one, for the file."""
        file = make_folder(folder) / "requirements.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        words = [*self.offline_words, *self.request.fetch_options]
        words += ["--no-deps", "--ignore-installed", "--requirement", str(file)]
        if self.clones is not None:
            words += ["--src", str(self.clones.work)]
        ours = re.compile(rf" \(from -r {re.escape(str(file))} \(line \d+\)\)")
        return self._dry_run(words, (), (), without=ours)

    def plan_request(
        self,
        *,
        constraints: Sequence[str],
        find_links: Sequence[Path],
        hidden: Sequence[str] = (),
        without_source: Sequence[str] = (),
    ) -> Union[Planned, Failed]:
        """As Installer says."""
        known = None if hidden or find_links else self._plan_known(constraints)
        if known is not None:
            return known
        words = [*self.offline_words]
        if self.request.place == "user":
            words.append("--user")  # only pip knows what hides a distribution of the user site
        if without_source:
            words += ["--only-binary", ",".join(without_source)]
        words += self.request.dry_run_arguments  # the user's options come last, so they win
        if self.clones is not None:
            words += ["--src", str(self.clones.work)]
        return self._dry_run([*words, *hidden], constraints, find_links)

    def _plan_known(self, constraints: Sequence[str]) -> Optional[Planned]:
        """The plan where it is certain without running pip; None where pip has to run."""
        if not may_be_known(self.request) or _has_leftovers(self._environment):
            return None
        folder = os.getcwd()  # noqa: PTH109 - pip does the same
        wheels = read_local_wheels(self.request, folder)
        plan = None
        if wheels is not None:
            plan = plan_known(
                self.request,
                self._environment,
                wheels=wheels,
                constraints=constraints,
                folder=folder,
            )
        if plan is None:
            return None
        output = self._output = _Output(self._world.reporter)
        for line in plan.lines:
            output.read_line(line)
        output.close()
        return Planned(plan.report)

    @property
    def offline_words(self) -> Tuple[str, ...]:
        """With --offline pip looks only where the user's own options point."""
        return ("--no-index",) if self.request.own.offline else ()

    def _dry_run(
        self,
        arguments: Sequence[str],
        constraints: Sequence[str],
        find_links: Sequence[Path],
        *,
        without: Optional[Pattern[str]] = None,
    ) -> Union[Planned, Failed]:
        """The plan of one pip run. `without`: text to remove from its output, about a file of
        ours."""
        ours = [path.name.partition("-")[0] for folder in find_links for path in folder.iterdir()]
        output = self._output = _Output(
            self._world.reporter, without, ours=frozenset(map(canonicalize_name, ours))
        )
        try:
            report = self.pip.dry_run(
                arguments,
                constraints=constraints,
                find_links=[*find_links, *self._wheels.find_links()],
                on_output=self._with_lasting_places(output.read_line),
                on_error=self._with_lasting_places(output.read_error),
                downloads=self.downloads,
            )
        except PipFailed as error:
            self._wheels.add_downloads()
            return Failed(error)
        finally:
            output.close()
        report = self._wheels.with_origins(report)
        self._wheels.add(report)
        return Planned(self._at_final_paths(report))

    def relay(self) -> None:
        """Print pip's output of the last round."""
        if self._output is not None:
            self._output.relay()

    def _with_lasting_places(self, read: LineReader) -> LineReader:
        """A reader of pip's output that replaces the temporary folder of a clone by its final one,
        and the path of a planned wheel by its filename."""

        def read_line(line: str) -> None:
            line = self._wheels.with_filenames(line)
            if self.clones is not None:
                line = self.clones.final_text(line)
            read(line)

        return read_line

    def _at_final_paths(self, report: InstallationReport) -> InstallationReport:
        if self.clones is None:
            return report
        found: InstallationReport = json.loads(
            self.clones.final_text(json.dumps(report, ensure_ascii=False))
        )
        return found


def write_report(
    answer: Union[Planned, Failed],
    selection: Selection,
    request: InstallRequest,
    reporter: Reporter,
) -> None:
    """Write pip's report to the file of --report, or to stdout for `-`."""
    target = request.report_file
    if target is None or isinstance(answer, Failed):
        return
    report = with_real_files(answer.report, selection)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    if target == "-":
        reporter.document(text)
    else:
        Path(target).write_text(text, encoding="utf-8")


def _has_leftovers(environment: Environment) -> bool:
    """Are there leftovers of an interrupted pip, of which pip would warn?"""
    scheme = environment.interpreter.scheme
    sites = {scheme.purelib, scheme.platlib}
    return any(any(site.glob("~*")) for site in sites)


def read_local_wheels(request: InstallRequest, folder: str) -> Optional[Dict[str, LocalWheel]]:
    """The wheels that the entries name by path, by the texts of the entries; None where only pip
    can read one."""
    from safe_install.wheels.archive import open_wheel

    found: Dict[str, LocalWheel] = {}
    for entry in request.entries:
        path = Path(os.path.abspath(entry.text))  # noqa: PTH100 - Path.absolute keeps ".."
        is_path = entry.text.endswith(".whl") and not re.search(r"://| @ |^~", entry.text)
        if not is_path:
            continue
        try:
            artifact = open_wheel(path, verify_members=False, is_promised=lambda: True)
        except (SafeInstallError, OSError):
            return None  # pip will report what is wrong with it
        is_plain = str(artifact.version) == artifact.written_version
        if artifact.installable_filename != path.name or not is_plain:
            return None
        found[entry.text] = LocalWheel(
            path.as_uri(),
            show_path(str(path), folder),
            artifact.sha256,
            artifact.written_name,
            artifact.written_version,
            artifact.tags,
            artifact.requires_dist,
            artifact.requires_python,
        )
    return found


class _Output:
    """The output of pip in one round."""

    def __init__(
        self,
        reporter: Reporter,
        without: Optional[Pattern[str]] = None,
        *,
        ours: FrozenSet[NormalizedName] = frozenset(),
    ) -> None:
        """`ours`: the projects whose chosen wheel pip is given."""
        self._reporter, self._without, self._ours = reporter, without, ours
        self._lines: List[Tuple[bool, str]] = []  # (is it of stdout, the line)
        reporter.task_started(TASK)

    def read_line(self, line: str) -> None:
        """A line of its stdout."""
        if self._without is not None:
            line = self._without.sub("", line)
        self._lines.append((True, line))
        self._reporter.task_advanced(TASK, 0, line)

    def read_error(self, line: str) -> None:
        """A line of its stderr."""
        if self._without is not None:
            line = self._without.sub("", line)
        self._lines.append((False, line))

    def close(self) -> None:
        """End the task of this round. A round without a plan is no failure: what pip did not find
        is an answer."""
        is_interrupted = isinstance(sys.exc_info()[1], (KeyboardInterrupt, Interrupted))
        outcome = TaskOutcome.INTERRUPTED if is_interrupted else TaskOutcome.DONE
        self._reporter.task_ended(TASK, outcome=outcome)

    def relay(self) -> None:
        """Print each line once, without pip's "Would install": we print our own."""
        lines, self._lines = self._lines, []
        for is_stdout, line in lines:
            if is_about_same_version(line, self._ours):
                continue
            if not is_stdout:
                self._reporter.error_output(line)
            elif not is_summary_of_dry_run(line):
                self._reporter.output(line)


def build_readers(request: InstallRequest, reporter: Reporter, task: str) -> Dict[str, LineReader]:
    """The readers of pip's output while it builds, as arguments of PipRunner. They print the lines
    about builds; with -v all lines."""

    def read_line(line: str) -> None:
        reporter.task_advanced(task, 0, line)
        if is_of_build(line) or (request.verbose and not is_of_search(line)):
            reporter.output(line)

    def read_error(line: str) -> None:
        reporter.task_advanced(task, 0, line)
        if request.verbose:
            reporter.error_output(line)

    return {"on_line": read_line, "on_error": read_error}


def make_protection(
    request: InstallRequest, environment: Environment, cache_dir: Path
) -> Protection:
    """The folders that builds may not change. Without a user namespace where a repository is
    cloned: ssh refuses to work in one."""
    sources = local_sources(request)
    return Protection(
        watched_folders(environment, sources),
        written=(*sources, cache_dir),
        in_user_namespace=not any(is_repository(entry.text) for entry in request.entries),
    )


def prepare_clones(
    request: InstallRequest, environment: Environment, work: Path
) -> Optional[Clones]:
    """The folder for pip's clones; None where nothing is cloned."""
    repositories = [entry for entry in request.editables if is_repository(entry.text)]
    if not repositories:
        return None
    interpreter = environment.interpreter
    # pip's rule: beside the packages of a virtual environment, else in the working folder.
    is_inside = interpreter.is_virtual and request.place != "user"
    default = interpreter.prefix / "src" if is_inside else Path("src")
    place = Path(os.path.abspath(request.src or default))  # noqa: PTH100 - Path.absolute keeps ".."
    clones = Clones(make_folder(work), place, interpreter.prefix)
    names = [named(entry.text) for entry in repositories]
    clones.copy_present(name for name in names if name is not None)
    return clones


def make_credentials(
    request: InstallRequest, environment: Environment, ask: AskUser
) -> Credentials:
    """User names and passwords for the indexes. As in pip, --no-input also disables a keyring that
    was not named, because it may ask for its own password."""
    may_look = not request.no_input or request.keyring_provider not in ("auto", "disabled")
    has_module = canonicalize_name("keyring") in environment.installed
    python = environment.interpreter.executable if has_module else None
    return Credentials(
        index_urls=request.index_urls,
        ask=None if request.no_input else ask,
        keyring=Keyring(request.keyring_provider, python) if may_look else None,
    )


def local_sources(request: InstallRequest) -> Tuple[Path, ...]:
    """The local source folders among the requirements, as real paths."""
    found = []
    for entry in request.entries:
        text = re.sub(r"\[[^\]]*\]$", "", entry.text.partition(" @ ")[2] or entry.text)
        if text.startswith("file:"):
            text = unquote(urlsplit(text).path)
        is_path = text.startswith(".") or os.sep in text
        if is_path and expand_home(text).is_dir():
            found.append(Path(os.path.realpath(expand_home(text))))
    return tuple(found)
