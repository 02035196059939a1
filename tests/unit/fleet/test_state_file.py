"""Runs that are written down, and read again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from safe_install.errors import EnvironmentLocked, Refused, UsageError
from safe_install.fleet.answers import StepFacts
from safe_install.fleet.state import NodeState, Standing
from safe_install.fleet.state_file import KEPT, KeptRun, RunFolder
from tests.unit.fleet.simulated import RUN, new_state

NODE = NodeState(
    "a",
    "/env/bin/python",
    Standing.COMMITTED,
    transaction=RUN,
    failure="why",
    status=12,
    steps=(StepFacts("alpha", "", "2"),),
    was_touched=True,
)
RUN_KEPT = KeptRun(
    replace(
        new_state(0),
        nodes=(NODE, replace(NODE, name="b", leader="a")),
        tolerated=None,
        stopped_by=15,
    ),
    ("safe-install", "fleet", "install", "alpha"),
    "ansible",
    "hosts.yml",
    removes=False,
    limit="gpus:!gpu3",
)


def test_what_is_written_is_read(tmp_path):
    runs = RunFolder(tmp_path / "fleet")
    assert runs.ids() == ()
    runs.write(RUN_KEPT)
    assert runs.ids() == (RUN,)
    assert runs.read(RUN) == RUN_KEPT
    path = tmp_path / "fleet" / f"{RUN}.json"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no run"):
        RunFolder(tmp_path).read(RUN)
    with pytest.raises(UsageError, match="no run"):
        RunFolder(tmp_path).read("../../etc/passwd")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("engine"),
        lambda document: document.update(more=1),
        lambda document: document.update(schema=2),
        lambda document: document.update(run="20261130T010203Z-111111"),
        lambda document: document["nodes"].append(document["nodes"][0]),
        lambda document: document["nodes"][1].update(leader="nobody"),
        lambda document: document["nodes"][0].update(standing="fine"),
        lambda document: document["nodes"][0].update(transaction="../x"),
        lambda document: document["nodes"][0].update(status=True),
        lambda document: document["nodes"][0].update(steps=[["a"]]),
        lambda document: document.update(nodes=None),
        lambda document: document.update(tolerated="2"),
        lambda document: document.update(stopped_by=None),
    ],
)
def test_a_damaged_run_is_refused(tmp_path, change):
    runs = RunFolder(tmp_path)
    runs.write(RUN_KEPT)
    path = tmp_path / f"{RUN}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(Refused, match="cannot be read"):
        runs.read(RUN)


def test_one_controller_at_a_time_works_on_a_run(tmp_path):
    runs, others = RunFolder(tmp_path), RunFolder(tmp_path)
    with runs.hold(RUN):
        with pytest.raises(EnvironmentLocked), others.hold(RUN):
            pass
        with others.hold("20261130T010203Z-000000"):
            pass
    with others.hold(RUN):
        assert others.ids() == ()


def test_the_oldest_go(tmp_path):
    runs = RunFolder(tmp_path)
    for number in range(KEPT + 3):
        (tmp_path / f"20261130T010203Z-{number:06x}.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    runs.prune()
    assert len(runs.ids()) == KEPT
    assert runs.ids()[0] == f"20261130T010203Z-{KEPT + 2:06x}"
