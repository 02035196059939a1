"""The command line of `fleet`: its options, its bundles (made by the command `bundle`), its
progress, its tables."""

from __future__ import annotations

import sys
from typing import Dict, List, Mapping, Sequence, Set, Tuple

from safe_install.cli import main as surface
from safe_install.cli.invocation import Invocation, filling_world
from safe_install.cli.table import render_table
from safe_install.cli.terminal import find_height
from safe_install.cli.translation.speech import say
from safe_install.commands.fleet import Tools, fleet
from safe_install.errors import SystemFailed
from safe_install.events import Reporter
from safe_install.fleet.groups import Group
from safe_install.fleet.phases import Kind, Phase
from safe_install.fleet.report import AlikeRow, KindRow, NodeRow
from safe_install.fleet.run import NothingToDo, Planned, Watcher
from safe_install.fleet.state import FleetState, NodeState, Standing
from safe_install.models import DEFAULT_NETWORK, InstallResult, Outcome
from safe_install.resolve.command_line import parse_command_line
from safe_install.resolve.fleet_request import parse_fleet

BUNDLE = "bundle"
MAX_LINES = 16  # nodes that have a line of their own
BESIDE = 4  # lines of a terminal that such a table leaves to others
AMONG_MANY = 8  # nodes; of more than that only those are named that failed


def run_fleet(invocation: Invocation, reporter: Reporter) -> InstallResult:
    """`fleet VERB ...`. Errors: UsageError, and those of `fleet`."""
    request = parse_fleet(invocation.line.words, environ=invocation.environ)
    world = filling_world(invocation, reporter, DEFAULT_NETWORK)

    def bundle(words: Sequence[str]) -> InstallResult:
        line = parse_command_line([BUNDLE, *words])
        answer = surface.COMMANDS[BUNDLE](Invocation(line, invocation.environ), reporter)
        if isinstance(answer, int):
            raise SystemFailed("bundle said nothing of what it made", hint="Please report it.")
        return answer

    # a table that is higher than the terminal cannot be taken away again
    room = max(0, find_height(sys.stderr) - BESIDE)
    watcher = ReportingWatcher(reporter, max_lines=min(MAX_LINES, room))
    return fleet(request, world, Tools(bundle, watcher))


WAY = (
    Standing.NEW,
    Standing.KNOWN,
    Standing.EXAMINED,
    Standing.PLANNED,
    Standing.READY,
    Standing.STAGED,
    Standing.COMMITTED,
    Standing.VERIFIED,
)  # of a node on which all goes well


class ReportingWatcher(Watcher):
    """Shows the progress: on a terminal a table with a line for each node, or for many nodes a bar
    for each phase; elsewhere lines."""

    def __init__(self, reporter: Reporter, *, max_lines: int) -> None:
        """`max_lines`: the number of nodes that fit on the terminal; 0 without a terminal."""
        self._reporter, self._max_lines = reporter, max_lines
        self._done = 0
        self._steps: Dict[str, int] = {}  # node -> how far it came
        self._groups: List[Group] = []
        self._nodes: Set[str] = set()  # that have a line
        self._failed: Dict[str, str] = {}  # node -> why, as far as it was said

    def phase_begun(self, phase: Phase) -> None:
        """A phase begins; its bar counts nodes."""
        self._done, count = 0, max(1, len(phase.nodes))
        self._reporter.task_started(phase.kind.value, count, "nodes")
        if count > self._max_lines:
            return
        for node in phase.nodes:
            if node not in self._nodes:
                self._nodes.add(node)
                self._reporter.task_started(node, len(WAY) - 1)

    def node_answered(self, node: NodeState, phase: Phase) -> None:
        """A node has answered; a failure is shown at once."""
        self._done += 1
        self._reporter.task_advanced(phase.kind.value, self._done, node.name)
        if node.name in self._nodes:
            self._show(node)
        if node.has_failed and node.name not in self._failed:
            self._failed[node.name] = node.failure
            self._reporter.warn(f"{node.name}: {node.failure}")

    def phase_ended(self, state: FleetState, phase: Phase) -> None:
        """One line for each phase."""
        self._reporter.task_ended(phase.kind.value, _count(phase.nodes))
        if phase.kind is Kind.PLAN and len(self._groups) > 1:
            for number, group in enumerate(self._groups, 1):
                self._reporter.note(f"kind {number}: {group.description}: {_count(group.nodes)}")

    def _show(self, node: NodeState) -> None:
        """Update the line of a node. After a failure it stays as it is."""
        if node.standing in WAY:
            self._steps[node.name] = WAY.index(node.standing)
        kinds = [n for n, group in enumerate(self._groups, 1) if node.name in group.nodes]
        text = say(node.standing.value)
        if kinds and len(self._groups) > 1:
            text = f"{text}, {say('kind')} {kinds[0]}"
        self._reporter.task_advanced(node.name, self._steps.get(node.name, 0), text)

    def group_planned(self, group: Group, planned: Planned) -> None:
        """One line on what a group of nodes gets."""
        self._groups.append(group)
        if isinstance(planned, NothingToDo):
            self._reporter.note(f"{group.description}: nothing to change")


def _count(nodes: Sequence[str]) -> str:
    count = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
    return f"{count} ({', '.join(nodes)})" if 0 < len(nodes) <= AMONG_MANY else count


# --- the end --------------------------------------------------------------------------------------


def fleet_lines(result: InstallResult) -> List[str]:
    """The result as text."""
    details = result.details
    lines: List[str] = []
    if details.get("nodes"):
        lines += _node_table(details["nodes"], details.get("groups", ()))
    if "alike" in details:
        lines += _alike_lines(details["alike"])
    lines += result.message.splitlines()
    lines += [f"note: {note}" for note in details.get("notes", ())]
    others = [run for run in details.get("runs", ()) if run != details.get("run")]
    if others:
        lines.append(f"Earlier runs: {', '.join(others)}")
    is_kept = result.outcome in (Outcome.INSTALLED, Outcome.UNINSTALLED)
    if is_kept and any(row["outcome"] == "changed" for row in details["nodes"]):
        lines.append(f"Undo with: safe-install fleet undo {details['run']}")
    return lines


def _node_table(rows: Sequence[NodeRow], groups: Sequence[KindRow]) -> List[str]:
    """The nodes, failed ones first, with the columns that are not empty."""
    columns: Tuple[str, ...] = ("node", "outcome", "change", "kind", "why")
    kinds = {}
    if len(groups) > 1:
        kinds = {node: group["kind"] for group in groups for node in group["nodes"]}
    cells = [[", ".join(nodes), *said[:4]] for said, nodes in _group_nodes(rows, kinds).items()]
    shown = [0]
    for number in range(1, len(columns)):
        if any(line[number] for line in cells):
            shown.append(number)
    return render_table("", _select(columns, shown), [_select(line, shown) for line in cells])


def _group_nodes(
    rows: Sequence[NodeRow], kinds: Mapping[str, str]
) -> Mapping[Tuple[str, ...], Sequence[str]]:
    """The names of the nodes by what is said of them, failed ones first. `kinds`: by name, where
    there are several."""
    names: Dict[Tuple[str, ...], List[str]] = {}
    for row in sorted(rows, key=lambda row: not row["reason"]):
        beside = f" (as {row['shares']})" if row.get("shares") else ""
        kind, reason = kinds.get(row["name"], ""), row["reason"]
        # a node that succeeded has a line of its own; those that failed alike share one
        own = "" if reason else row["name"]
        said = (row["outcome"], _change(row), kind, reason, own)
        names.setdefault(said, []).append(row["name"] + beside)
    return names


def _select(cells: Sequence[str], numbers: Sequence[int]) -> List[str]:
    return [cells[number] for number in numbers]


def _change(row: NodeRow) -> str:
    if row["outcome"] != "changed":
        return ""
    before, after = row["before"], row["after"]
    words = [f"{name} {before[name] or 'none'} -> {after[name] or 'none'}" for name in before]
    return ", ".join(words)


def _alike_lines(rows: Sequence[AlikeRow]) -> List[str]:
    lines: List[str] = []
    if len(rows) == 1 and not rows[0]["reason"]:
        return lines
    for row in rows:
        lines.append(f"{_count(row['nodes'])}: {row['reason'] or _summary(row)}")
        for one in row["differs"]:
            lines.append(f"  {one['subject']}: {one['here']}, on most nodes {one['most']}")
    return lines


def _summary(row: AlikeRow) -> str:
    count = len(row["differs"])
    if not count:
        return "the most"
    return f"{count} thing{'' if count == 1 else 's'} differ{'s' if count == 1 else ''}"
