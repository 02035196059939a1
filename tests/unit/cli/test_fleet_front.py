"""What people see of a run on many machines."""

from __future__ import annotations

from dataclasses import replace

from safe_install.cli.completion.words import complete
from safe_install.cli.fleet_front import ReportingWatcher, fleet_lines
from safe_install.cli.translation import speech
from safe_install.events import Reporter
from safe_install.fleet.groups import Group
from safe_install.fleet.phases import Kind, Phase
from safe_install.fleet.run import NoPlan
from safe_install.fleet.state import Standing
from safe_install.models import InstallResult, Outcome
from tests.unit.fleet.simulated import RUN, new_state
from tests.unit.resolve.test_options_table import Names

ROW = {
    "name": "n1",
    "torch": "2.8.0",
    "outcome": "changed",
    "before": {"alpha": None},
    "after": {"alpha": "2"},
    "reason": "",
    "shares": None,
}


def lines(outcome, status, *rows, verb="install", **details):
    found = InstallResult(
        "fleet",
        outcome,
        status,
        message="It is over.",
        details={"verb": verb, "run": RUN, "nodes": list(rows), **details},
    )
    return "\n".join(fleet_lines(found))


def test_what_failed_comes_first_and_undo_is_named():
    bad = {**ROW, "name": "n2", "outcome": "refused", "reason": "no \x1b[31mroom", "before": {}}
    shown = lines(Outcome.INSTALLED, 1, ROW, bad)
    assert shown.index("n2") < shown.index("n1")
    assert "alpha none -> 2" in shown
    assert "\x1b" not in shown
    assert f"Undo with: safe-install fleet undo {RUN}" in shown
    assert "Undo with" not in lines(Outcome.ROLLED_BACK, 12, {**ROW, "outcome": "undone"})


def test_the_kind_of_each_stands_there_where_there_are_several():
    groups = [{"nodes": ["n1"], "kind": "Python 3.11"}, {"nodes": ["n2"], "kind": "Python 3.12"}]
    shown = lines(Outcome.INSTALLED, 0, ROW, {**ROW, "name": "n2"}, groups=groups)
    assert "Python 3.12" in shown
    assert "Python 3.11" not in lines(Outcome.INSTALLED, 0, ROW, groups=groups[:1])


def test_nodes_that_differ():
    odd = {
        "nodes": ["n2"],
        "differs": [{"subject": "torch", "here": "1", "most": "2"}],
        "reason": "",
    }
    most = {"nodes": ["n1", "n3"], "differs": [], "reason": ""}
    found = InstallResult(
        "fleet",
        Outcome.DIFFERS,
        1,
        message="3 nodes, of 2 kinds.",
        details={"verb": "diff", "alike": [odd, most]},
    )
    assert fleet_lines(found) == [
        "1 node (n2): 1 thing differs",
        "  torch: 1, on most nodes 2",
        "2 nodes (n1, n3): the most",
        "3 nodes, of 2 kinds.",
    ]


class Heard(Reporter):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)

    def warn(self, text):
        self.said.append(f"warning: {text}")

    def task_ended(self, task, text="", outcome=None):
        self.said.append(f"{task}: {text}")

    def task_advanced(self, task, done, text="", total=None):
        self.said.append(f"{task}: {done} {text}")


def test_each_phase_is_told_and_each_failure_once():
    heard = Heard()
    watcher = ReportingWatcher(heard, max_lines=0)
    state = new_state(2)
    state = state.with_nodes([replace(state.find("n1"), failure="no room")])
    phase = Phase(Kind.STAGE, nodes=("n0", "n1"))
    watcher.phase_begun(phase)
    for node in ("n0", "n1", "n1"):
        watcher.node_answered(state.find(node), phase)
    watcher.phase_ended(state, phase)
    assert heard.said == [
        "stage: 1 n0",
        "stage: 2 n1",
        "warning: n1: no room",
        "stage: 3 n1",
        "stage: 2 nodes (n0, n1)",
    ]


def test_on_a_terminal_each_node_has_a_line():
    heard = Heard()
    watcher = ReportingWatcher(heard, max_lines=1)
    for standing in (Standing.STAGED, Standing.REFUSED):
        state = new_state(1)
        state = state.with_nodes([replace(state.find("n0"), standing=standing)])
        phase = Phase(Kind.STAGE, nodes=("n0",))
        watcher.phase_begun(phase)
        watcher.node_answered(state.find("n0"), phase)
    assert [line for line in heard.said if line.startswith("n0")] == [
        "n0: 5 staged",
        "n0: 5 refused",
    ]


def test_what_many_failed_of_is_said_once():
    """With its lines, which may be many."""
    bad = [{**ROW, "name": f"n{n}", "outcome": "refused", "reason": "no room"} for n in range(3)]
    shown = lines(Outcome.REFUSED, 11, *bad, {**bad[0], "name": "n3", "reason": "no lock"})
    assert shown.count("no room") == 1
    assert "n0, n1, n2" in shown
    well = lines(Outcome.INSTALLED, 0, ROW, {**ROW, "name": "n2"})
    assert well.count("alpha none -> 2") == 2


def test_a_chinese_table_has_chinese_words():
    heard = Heard()
    watcher = ReportingWatcher(heard, max_lines=1)
    state = new_state(1)
    try:
        speech.speak("zh_CN")
        for standing in Standing:
            node = replace(state.find("n0"), standing=standing)
            phase = Phase(Kind.STAGE, nodes=("n0",))
            watcher.phase_begun(phase)
            watcher.node_answered(node, phase)
            assert not heard.said[-1].endswith(standing.value)
    finally:
        speech.speak("en")


def test_more_nodes_than_lines_have_one_bar():
    heard = Heard()
    watcher = ReportingWatcher(heard, max_lines=1)
    phase = Phase(Kind.STAGE, nodes=("n0", "n1"))
    watcher.phase_begun(phase)
    watcher.node_answered(new_state(2).find("n0"), phase)
    assert heard.said == ["stage: 1 n0"]


def test_kinds_are_told_where_there_are_several():
    heard = Heard()
    watcher = ReportingWatcher(heard, max_lines=8)
    phase = Phase(Kind.PLAN, nodes=("n0", "n1"))
    watcher.phase_begun(phase)
    for number in (0, 1):
        group = Group((f"n{number}",), (), f"Python 3.1{number}")
        watcher.group_planned(group, NoPlan("no", 10))
    watcher.phase_ended(new_state(2), phase)
    assert heard.said[-2:] == [
        "kind 1: Python 3.10: 1 node (n0)",
        "kind 2: Python 3.11: 1 node (n1)",
    ]
    watcher.node_answered(new_state(2).find("n1"), phase)
    assert heard.said[-1] == "n1: 0 new, kind 2"


def test_the_verbs_are_completed():
    verbs = ["install", "uninstall", "verify", "undo", "status", "diff"]
    assert complete(["fleet"], "", Names()) == verbs
    assert complete(["fleet"], "u", Names()) == ["uninstall", "undo"]
    assert "--canary" in complete(["fleet", "install"], "--c", Names())
    assert complete(["fleet", "verify"], "", Names()) == []
