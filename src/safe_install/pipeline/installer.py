"""pip as the installer of a change: it plans under our constraints, with the person's own words,
questions and clones.

What it says in a round is kept, because a round may turn out to be not the last one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import (
    Any,
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
    is_about_same_version,
    is_of_build,
    is_of_search,
    is_summary_of_dry_run,
)
from safe_install.pipeline.session import Session, make_folder
from safe_install.resolve.decisions import Selection
from safe_install.resolve.known_plan import LocalWheel, may_be_known, plan_known, show_path
from safe_install.resolve.request import InstallRequest, named
from safe_install.resolve.rounds import Failed, Planned
from safe_install.resolve.torch_rounds import with_real_files
from safe_install.system.askpass import AskPass
from safe_install.system.credentials import Credentials, Keyring, Question
from safe_install.system.downloads import KeptDownloads
from safe_install.system.pip import PipRunner
from safe_install.system.process import LineReader
from safe_install.system.read_only import Protection
from safe_install.transaction.clones import Clones, is_repository

TASK = "pip resolves"


class Installer(Protocol):
    """Resolves what we do not choose. pip is one."""

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
        """A plan for the person's own words, and for `hidden` requirements, which no metadata has.
        Of the projects `without_source` no source distribution is taken: to read one is to run
        it."""

    def relay(self) -> None:
        """Show the person what the installer said in its last round."""


class PipInstaller:
    """pip in the managed interpreter, as one install command uses it."""

    # of the machine elsewhere for which it plans; None: it plans for its own
    markers: Optional[Mapping[str, str]] = None

    def __init__(self, session: Session) -> None:
        self.request = session.request
        self._environment = session.environment
        self._world = session.world
        # A dry run fetches nothing after its plan.
        keeps = not self.request.own.dry_run
        self.downloads = KeptDownloads(make_folder(session.work / "downloads")) if keeps else None
        self.clones = prepare_clones(self.request, self._environment, session.work / "src")
        self.credentials = make_credentials(self.request, self._environment, self._ask_person)
        self._askpass = AskPass(make_folder(session.work / "askpass"), self._ask_person)
        self._runner: Optional[PipRunner] = None
        self._output: Optional[_Output] = None

    @property
    def pip(self) -> PipRunner:
        """pip, found when it is first needed."""
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
        """A question comes after what pip said before it."""
        self.relay()
        return self._world.reporter.ask(question, is_secret=is_secret)

    def plan(
        self, requirements: Sequence[str], *, constraints: Sequence[str], find_links: Sequence[Path]
    ) -> Union[Planned, Failed]:
        """A plan for these requirements alone, on the indexes and with the options that the person
        named."""
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
        """A plan for the person's own words."""
        known = None if hidden or find_links else self._plan_known(constraints)
        if known is not None:
            return known
        words = [*self.offline_words]
        if self.request.place == "user":
            words.append("--user")  # what hides a distribution of the user site only pip knows
        if without_source:
            words += ["--only-binary", ",".join(without_source)]
        words += self.request.dry_run_arguments  # the person's own options come later, and win
        if self.clones is not None:
            words += ["--src", str(self.clones.work)]
        return self._dry_run([*words, *hidden], constraints, find_links)

    def _plan_known(self, constraints: Sequence[str]) -> Optional[Planned]:
        """The plan of which pip need not be asked; None where it has to be."""
        if not may_be_known(self.request) or _has_leftovers(self._environment):
            return None
        folder = os.getcwd()  # noqa: PTH109 - as pip has it
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
        """With --offline pip looks where the person pointed, and nowhere else."""
        return ("--no-index",) if self.request.own.offline else ()

    def _dry_run(
        self,
        arguments: Sequence[str],
        constraints: Sequence[str],
        find_links: Sequence[Path],
        *,
        without: Optional[Pattern[str]] = None,
    ) -> Union[Planned, Failed]:
        """`without`: what pip says of a file that is ours and no news to anybody."""
        ours = [path.name.partition("-")[0] for folder in find_links for path in folder.iterdir()]
        output = self._output = _Output(
            self._world.reporter, without, ours=frozenset(map(canonicalize_name, ours))
        )
        try:
            report = self.pip.dry_run(
                arguments,
                constraints=constraints,
                find_links=find_links,
                on_output=self._with_final_paths(output.read_line),
                on_error=self._with_final_paths(output.read_error),
                downloads=self.downloads,
            )
        except PipFailed as error:
            return Failed(error)
        finally:
            output.close()
        return Planned(self._at_final_paths(report))

    def relay(self) -> None:
        """What pip said in its last round, as pip would have said it."""
        if self._output is not None:
            self._output.relay()

    def _with_final_paths(self, read: LineReader) -> LineReader:
        """What pip says of a clone is said of the place to which it will come."""
        clones = self.clones
        if clones is None:
            return read
        return lambda line: read(clones.final_text(line))

    def _at_final_paths(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.clones is None:
            return report
        found: Mapping[str, Any] = json.loads(
            self.clones.final_text(json.dumps(report, ensure_ascii=False))
        )
        return found


def hand_over(
    answer: Union[Planned, Failed],
    selection: Selection,
    request: InstallRequest,
    reporter: Reporter,
) -> None:
    """pip's report to where the person wants it (--report): a file, or stdout."""
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
    """Is there something of which pip would warn: what an interrupted pip left?"""
    scheme = environment.interpreter.scheme
    sites = {scheme.purelib, scheme.platlib}
    return any(any(site.glob("~*")) for site in sites)


def read_local_wheels(request: InstallRequest, folder: str) -> Optional[Dict[str, LocalWheel]]:
    """The wheels that the entries name by a path, by their texts; None where only pip can read
    one."""
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
            return None  # pip says what is wrong with it
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
    """What pip says in one round."""

    def __init__(
        self,
        reporter: Reporter,
        without: Optional[Pattern[str]] = None,
        *,
        ours: FrozenSet[NormalizedName] = frozenset(),
    ) -> None:
        """`ours`: the projects of which pip is shown a wheel that we chose."""
        self._reporter, self._without, self._ours = reporter, without, ours
        self._lines: List[Tuple[bool, str]] = []  # is it stdout's, and the line
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
        """The round is over; that pip found nothing is an answer, too."""
        is_interrupted = isinstance(sys.exc_info()[1], (KeyboardInterrupt, Interrupted))
        outcome = TaskOutcome.INTERRUPTED if is_interrupted else TaskOutcome.DONE
        self._reporter.task_ended(TASK, outcome=outcome)

    def relay(self) -> None:
        """Each line once. pip's "Would install" is ours to say."""
        lines, self._lines = self._lines, []
        for is_stdout, line in lines:
            if is_about_same_version(line, self._ours):
                continue
            if not is_stdout:
                self._reporter.error_output(line)
            elif not is_summary_of_dry_run(line):
                self._reporter.output(line)


def build_readers(request: InstallRequest, reporter: Reporter, task: str) -> Dict[str, LineReader]:
    """What becomes of the lines of a pip that builds: what it says of builds is the person's; with
    -v all is."""

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
    """What builds may not change. Repositories may be fetched by ssh, which refuses to work in a
    user namespace."""
    sources = local_sources(request)
    return Protection(
        watched_folders(environment, sources),
        written=(*sources, cache_dir),
        in_user_namespace=not any(is_repository(entry.text) for entry in request.entries),
    )


def prepare_clones(
    request: InstallRequest, environment: Environment, work: Path
) -> Optional[Clones]:
    """The folder in which pip clones; None where it clones nothing."""
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
    request: InstallRequest, environment: Environment, ask: Question
) -> Credentials:
    """As pip has it, --no-input also keeps from a keyring that was not named: it may ask for its
    own password."""
    may_look = not request.no_input or request.keyring_provider not in ("auto", "disabled")
    has_module = canonicalize_name("keyring") in environment.installed
    python = environment.interpreter.executable if has_module else None
    return Credentials(
        index_urls=request.index_urls,
        ask=None if request.no_input else ask,
        keyring=Keyring(request.keyring_provider, python) if may_look else None,
    )


def local_sources(request: InstallRequest) -> Tuple[Path, ...]:
    """The folders of sources that the person names; real paths."""
    found = []
    for entry in request.entries:
        text = re.sub(r"\[[^\]]*\]$", "", entry.text.partition(" @ ")[2] or entry.text)
        if text.startswith("file:"):
            text = unquote(urlsplit(text).path)
        is_path = text.startswith(".") or os.sep in text
        if is_path and expand_home(text).is_dir():
            found.append(Path(os.path.realpath(expand_home(text))))
    return tuple(found)
