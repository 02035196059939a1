"""`safe-install fleet VERB`: the same verified change on many machines, or on none."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import AbstractSet, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from safe_install.errors import (
    EngineFailed,
    Interrupted,
    NoCandidate,
    PipFailed,
    Refused,
    SafeInstallError,
    SystemFailed,
    UsageError,
    hint_for_oserror,
)
from safe_install.fleet.answers import Answer, clean
from safe_install.fleet.comparison import compare_nodes
from safe_install.fleet.conclusion import conclude
from safe_install.fleet.engine import Engine, EngineOptions, File, Node
from safe_install.fleet.groups import Group
from safe_install.fleet.opening import open_engine
from safe_install.fleet.page import render_page
from safe_install.fleet.phases import revive
from safe_install.fleet.program import fetch_with_pip, prepare_program
from safe_install.fleet.report import (
    describe_comparison,
    describe_nodes,
    describe_runs,
    describe_verified,
)
from safe_install.fleet.run import (
    FleetRun,
    NoPlan,
    NothingToDo,
    Planned,
    Watcher,
    ask_all,
)
from safe_install.fleet.state import FleetState, Intent, NodeState
from safe_install.fleet.state_file import KeptRun, RunFolder
from safe_install.fleet.stopping import Stop
from safe_install.folders import expand_home, find_data_folder
from safe_install.models import InstallResult, Outcome
from safe_install.ports import Timings, World
from safe_install.resolve.fleet_request import FleetRequest
from safe_install.system.atomic_write import why_no_file, write_output
from safe_install.transaction.identifiers import make_id


@dataclass(frozen=True)
class Tools:
    """What the surface hands in."""

    bundle: Callable[[Sequence[str]], InstallResult]  # `bundle` with these words
    watcher: Watcher
    open_engine: Callable[[str, str, EngineOptions], Engine] = open_engine


def fleet(request: FleetRequest, world: World, tools: Tools) -> InstallResult:
    """Errors: UsageError, EngineFailed, and those of a plan; no node is changed then, or the error
    says that one may be."""
    if request.html:
        _refuse_page(expand_home(request.html))
    front = _Front(request, world, tools)
    verbs: Dict[str, Callable[[], InstallResult]] = {
        "install": front.change,
        "uninstall": front.change,
        "undo": front.undo,
        "status": front.status,
        "verify": front.verify,
        "diff": front.diff,
    }
    result = verbs[request.verb]()
    if request.html:
        _write_page(expand_home(request.html), result, world)
    return result


class _Front:
    """One run of `fleet`."""

    def __init__(self, request: FleetRequest, world: World, tools: Tools) -> None:
        self._request, self._world, self._tools = request, world, tools
        self._timings = Timings()
        self._runs = RunFolder(find_data_folder() / "fleet")
        self._last: Optional[FleetState] = None  # as it was written down
        self._groups: List[Dict[str, object]] = []
        self._joined: List[str] = []  # nodes that came after the run that is asked about

    # --- the verbs ---

    def change(self) -> InstallResult:
        """All nodes are changed, or none is."""
        request = self._request
        removes = request.verb == "uninstall"
        with self._opened(request.engine, request.target, request.limit) as engine:
            nodes = [NodeState(node.name, node.python) for node in _find_nodes(engine)]
            state = FleetState(
                make_id(time.time()),
                tuple(nodes),
                stage_words=_stage_words(request),
                verify_words=request.check_words,
                commit_words=request.check_words,
                needs_bundle=not removes,
                canary=request.canary,
                tolerated=request.tolerated,
                only_plans=request.dry_run,
            )
            command, target = tuple(self._world.command), _kept_target(request)
            run = KeptRun(state, command, request.engine, target, removes, request.limit)
            with self._work_folder() as work:
                plan = None if removes else _BundleMaker(self, work).plan
                state = self._run(engine, run, plan)
        return self._result(state, removes=removes)

    def undo(self) -> InstallResult:
        """What a run left in place, or staged, is taken back."""
        kept = self._find_run(needs_change=True)
        if kept is None:
            return self._nothing("Nothing that a run has left is in place.")
        return self._old_run(kept, Intent.UNDO)

    def status(self) -> InstallResult:
        """What became of a run."""
        kept = self._find_run(needs_change=False)
        if kept is None:
            return self._nothing("No run is kept on this machine.")
        return self._old_run(kept, Intent.LOOK)

    def verify(self) -> InstallResult:
        """Is every node healthy now?"""
        words = ["verify", *self._request.check_words]
        words += ["--require-cuda"] if self._request.require_cuda else []
        answers = self._ask_all(words)
        rows = describe_verified(answers)
        bad = [row for row in rows if row["outcome"] != "healthy"]
        outcome = Outcome.UNHEALTHY if bad else Outcome.HEALTHY
        count = f"{len(rows) - len(bad)} of {len(rows)} nodes are healthy."
        return self._make_result(outcome, 1 if bad else 0, count, nodes=rows)

    def diff(self) -> InstallResult:
        """What differs between the nodes."""
        answers = self._ask_all(["inventory"])
        facts = {name: one.facts for name, one in answers.items() if one.facts is not None}
        groups = compare_nodes(facts)
        silent = [one for one in answers.values() if one.facts is None]
        status = 2 if silent else min(1, max(0, len(groups) - 1))
        outcome = Outcome.DIFFERS if len(groups) > 1 else Outcome.SAME
        if silent:
            outcome = Outcome.ERROR
        told = f"{len(facts)} nodes are the same."
        if len(facts) < 2:
            count = f"{len(facts)} node{'' if len(facts) == 1 else 's'}"
            told = f"{count} answered: there is nothing to compare."
        if len(groups) > 1:
            told = f"{len(facts)} nodes, of {len(groups)} kinds."
        if silent:
            told += f" {len(silent)} did not answer."
        rows = describe_comparison(groups, silent)
        return self._make_result(outcome, status, told, alike=rows)

    # --- runs ---

    def _run(
        self, engine: Engine, run: KeptRun, plan: Optional[Callable[[Group], Planned]]
    ) -> FleetState:
        program, stop = self._program(), Stop(self._tell_stop)

        def keep(state: FleetState) -> None:
            if not state.only_plans and state.intent is not Intent.LOOK:
                self._runs.write(replace(run, state=state))
            self._last = state

        fleet_run = FleetRun(
            engine,
            program,
            keep=keep,
            plan=plan,
            watcher=self._tools.watcher,
            timeout=self._request.node_timeout,
            stop=stop,
        )
        if run.state.intent is Intent.LOOK:
            return fleet_run.run(run.state)
        with self._runs.hold(run.state.run):
            self._runs.prune()
            try:
                return fleet_run.run(run.state)
            except (Exception, KeyboardInterrupt) as error:
                raise self._told(error) from error
            finally:
                stop.release()

    def _tell_stop(self) -> None:
        self._world.reporter.warn(
            "interrupted: waiting until the nodes have ended what they do; once more ends it now"
        )

    def _told(self, error: BaseException) -> BaseException:
        """Where something of the run may be on nodes, that is said, and what to type."""
        state = self._last
        if state is None or not any(node.transaction for node in state.nodes):
            return error
        left = f"nodes may be changed by {state.run}"
        hint = f"safe-install fleet status {state.run}, then safe-install fleet undo {state.run}"
        if not any(node.was_touched for node in state.nodes):
            left = f"no node is changed; what {state.run} has staged expires by itself"
            hint = f"safe-install fleet undo {state.run} lets it go now"
        if isinstance(error, (Interrupted, KeyboardInterrupt)):
            number = error.exit_status - 128 if isinstance(error, Interrupted) else 2
            told: SafeInstallError = Interrupted(
                f"interrupted: {left}", signal_number=number, hint=hint
            )
        else:
            why = str(error) or type(error).__name__
            told = EngineFailed(f"{why}: {left}", hint=hint)
        told.details = {"run": state.run}
        return told

    def _old_run(self, kept: KeptRun, intent: Intent) -> InstallResult:
        name = self._request.engine or kept.engine
        target = self._request.target or kept.target
        limit = self._request.limit or kept.limit
        state = revive(kept.state, intent)
        state = replace(state, commit_words=self._request.check_words)
        with self._opened(name, target, limit) as engine:
            there = {node.name for node in engine.nodes()}
            missing = [node.name for node in state.nodes if node.name not in there]
            if missing:
                self._world.reporter.warn(f"no longer among the nodes: {', '.join(missing)}")
            self._note_joined(there - {node.name for node in state.nodes})
            state = self._run(engine, replace(kept, state=state), None)
        return self._result(state, removes=kept.removes)

    def _note_joined(self, names: AbstractSet[str]) -> None:
        """Nodes that were not there: nothing of the run is on them."""
        self._joined = sorted(clean(name) for name in names)
        if self._joined:
            self._world.reporter.warn(
                f"not part of this run, they joined since: {', '.join(self._joined)}"
            )

    def _find_run(self, *, needs_change: bool) -> Optional[KeptRun]:
        """The run that was named, or the newest; the newest of which something may be in place."""
        if self._request.arguments:
            return self._runs.read(self._request.arguments[0])
        for identifier in self._runs.ids():
            kept = self._runs.read(identifier)
            if not needs_change or revive(kept.state, Intent.UNDO).has_open_nodes:
                return kept
        return None

    def _ask_all(self, words: Sequence[str]) -> Dict[str, Answer]:
        request = self._request
        with self._opened(request.engine, request.target, request.limit) as engine:
            names = [node.name for node in _find_nodes(engine)]
            program = self._program()
            timeout = request.node_timeout
            return dict(ask_all(engine, program, names, words, timeout=timeout))

    # --- engine, files ---

    @contextlib.contextmanager
    def _opened(self, name: str, target: str, limit: str) -> Iterator[Engine]:
        options = EngineOptions(self._request.python, self._world.environ, limit)
        engine = self._tools.open_engine(name, target, options)
        try:
            yield engine
        finally:
            try:
                engine.close()
            except Exception as error:  # noqa: BLE001 - what was done is done
                self._world.reporter.warn(f"{name} could not be closed: {error}")

    def _program(self) -> File:
        try:
            with self._timings.stage("program"):
                note = self._world.reporter.note
                return prepare_program(self._world.cache_dir, fetch_with_pip(self._world), note)
        except OSError as error:
            raise _unwritable(self._world.cache_dir, error) from error

    @contextlib.contextmanager
    def _work_folder(self) -> Iterator[Path]:
        """For bundles, which may be gigabytes: beside the cache, and not in the memory of /tmp."""
        parent = self._world.cache_dir / "fleet"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(prefix="bundles-", dir=parent)
        except OSError as error:
            raise _unwritable(parent, error) from error
        with folder as path:
            yield Path(path)

    def bundle(self, words: Sequence[str]) -> InstallResult:
        """`bundle`, with what the person asked for."""
        return self._tools.bundle([*self._request.plan_words, *words])

    @property
    def is_dry_run(self) -> bool:
        """Is nothing to be changed?"""
        return self._request.dry_run

    @property
    def sends_all(self) -> bool:
        """Is what all nodes have sent nevertheless?"""
        return self._request.sends_all

    def note_group(self, group: Group, **values: object) -> None:
        """What a kind of nodes gets, for the document."""
        row = {"nodes": list(group.nodes), "kind": group.description, **values}
        self._groups.append(row)

    # --- results ---

    def _result(self, state: FleetState, *, removes: bool) -> InstallResult:
        end = conclude(state, removes=removes)
        return self._make_result(
            end.outcome,
            end.status,
            end.sentence,
            run=state.run,
            nodes=describe_nodes(state),
            notes=[clean(note) for note in state.notes],
        )

    def _nothing(self, sentence: str) -> InstallResult:
        return self._make_result(Outcome.ALREADY_SATISFIED, 0, sentence, nodes=[])

    def _make_result(
        self, outcome: Outcome, status: int, sentence: str, **details: object
    ) -> InstallResult:
        if self._groups:
            details["groups"] = self._groups
        if self._joined:
            details["joined"] = self._joined
        if self._request.verb == "status":
            details["runs"] = describe_runs(self._runs.ids())
        return InstallResult(
            "fleet",
            outcome,
            status,
            message=sentence,
            timings=self._timings.total(),
            details={"verb": self._request.verb, **details},
        )


class _BundleMaker:
    """Makes the bundle of each group, in a folder of this run."""

    def __init__(self, front: _Front, work: Path) -> None:
        self._front, self._work = front, work
        self._count = 0

    def plan(self, group: Group) -> Planned:
        """Errors: those that say nothing of the group: a signal, a full disk."""
        self._count += 1
        path = self._work / f"bundle-{self._count}.zip"
        words = [*group.words, "--output", str(path)]
        words += ["--dry-run"] if self._front.is_dry_run else []
        words += self._words_for_installed(group)
        try:
            result = self._front.bundle(words)
        except (NoCandidate, Refused, PipFailed) as error:
            self._front.note_group(group, problem=error.message)
            hint = f" ({error.hint})" if error.hint else ""
            return NoPlan(f"{group.description}: {error.message}{hint}", error.exit_status)
        described = result.details.get("bundle")
        if described is None:
            self._front.note_group(group, wheels=[])
            return NothingToDo()
        wheels = [f"{wheel['name']} {wheel['version']}" for wheel in described["wheels"]]
        self._front.note_group(group, wheels=wheels, sha256=described.get("sha256"))
        return File(path, str(described.get("sha256", "")))

    def _words_for_installed(self, group: Group) -> List[str]:
        """What all nodes have is not sent."""
        if self._front.sends_all:
            return []
        rows = []
        for name, (version, sha256) in group.installed.items():
            rows.append({"name": name, "version": version, "sha256": sha256})
        path = self._work / f"installed-{self._count}.json"
        details = {"distributions": rows, "wheels": sorted(group.wheels)}
        path.write_text(json.dumps({"details": details}), encoding="utf-8")
        return ["--installed", str(path)]


def _stage_words(request: FleetRequest) -> Tuple[str, ...]:
    if request.verb == "uninstall":
        return ("--remove", *request.arguments, *request.node_words)
    return request.node_words


def _find_nodes(engine: Engine) -> Sequence[Node]:
    """Errors: EngineFailed."""
    nodes = engine.nodes()
    names = [node.name for node in nodes]
    if not nodes:
        raise EngineFailed(f"{engine.name} knows no node", hint="Look at its inventory.")
    if len(set(names)) != len(names):
        raise EngineFailed(
            f"{engine.name} has a node twice", hint="Each node needs a name of its own."
        )
    return nodes


def _refuse_page(path: Path) -> None:
    """Before anything is changed. Errors: UsageError."""
    what = why_no_file(path)
    if what:
        raise UsageError(f"--html {path}: {what}", hint="Name a file: --html fleet.html.")


def _write_page(path: Path, result: InstallResult, world: World) -> None:
    """What was done is done, and is told, also where the page cannot be written."""
    page = render_page(result.message, result.outcome.value, result.details)
    try:
        write_output(path, page.encode("utf-8"))
    except OSError as error:
        world.reporter.warn(f"{path} cannot be written: {error.strerror or error}")


def _kept_target(request: FleetRequest) -> str:
    """As it is written down: it is read from other folders, too."""
    if request.engine != "ansible":
        return request.target
    return str(expand_home(request.target).absolute())


def _unwritable(path: Path, error: OSError) -> SystemFailed:
    return SystemFailed(
        f"{path} cannot be written: {error.strerror or error}", hint=hint_for_oserror(error)
    )
