"""Which workers of Dask came back after a restart, and what is said of the others."""

from __future__ import annotations

import asyncio

import pytest

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import Node
from safe_install.fleet.engines.dask import (
    DaskCluster,
    Worker,
    describe_left,
    describe_outcome,
    find_absent,
)
from safe_install.fleet.engines.members import Group

FIRST, SECOND = Worker("tcp://n:1", "one"), Worker("tcp://n:2", "two")
OLD = {"tcp://w:1": FIRST, "tcp://w:2": SECOND}


@pytest.mark.parametrize(
    ("now", "absent"),
    [
        # both came back, under other addresses or, with a port of their own, under the same
        ({"tcp://w:3": Worker("tcp://n:1", "3"), "tcp://w:4": Worker("tcp://n:2", "4")}, ()),
        ({"tcp://w:1": Worker("tcp://n:1", "3"), "tcp://w:2": Worker("tcp://n:2", "4")}, ()),
        # the old one has not gone yet
        ({"tcp://w:1": FIRST, "tcp://w:4": Worker("tcp://n:2", "4")}, ("tcp://w:1",)),
        # another worker joined meanwhile
        ({"tcp://w:3": Worker("tcp://n:9", "3"), "tcp://w:4": Worker(None, "4")}, tuple(OLD)),
        ({}, tuple(OLD)),
    ],
)
def test_who_did_not_come_back(now, absent):
    assert find_absent(OLD, now) == frozenset(absent)


def test_what_is_said_of_a_node():
    before = {**OLD, "tcp://w:3": Worker(None, "three")}
    addresses = ("scheduler", "tcp://w:1", "tcp://w:2", "tcp://w:3")
    group = Group(Node("n", "/env/bin/python"), addresses)
    absent = frozenset(["tcp://w:1", "tcp://w:2"])
    now = {"tcp://w:2": SECOND}
    told = describe_left(group, before, now, absent, {"tcp://w:1": "OK", "tcp://w:2": "timed out"})
    assert told.split("; ") == [
        "the scheduler still has the old packages in memory: start it again",
        "worker tcp://w:1 was ended and did not come back",
        "worker tcp://w:2 was not started again (timed out)",
        "worker tcp://w:3 has no nanny: start it again yourself",
    ]
    # it is back, whatever Dask said
    quiet = Group(group.node, ("tcp://w:1",))
    assert describe_left(quiet, before, {}, frozenset(), {"tcp://w:1": "timed out"}) == ""


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("OK", "OK"),
        ({"status": "error", "exception_text": "OSError('x')"}, "OSError('x')"),
        ({}, "its nanny failed"),
        (b"pickled", "its nanny does not answer"),
        (None, "its nanny does not answer"),
    ],
)
def test_what_a_nanny_says(outcome, told):
    assert describe_outcome(outcome) == told


class BadlyListed(DaskCluster):
    """A cluster whose scheduler lists its workers in another form."""

    def __init__(self):
        super().__init__(client=None)

    async def _run_on_scheduler(self, function, *words):
        return b'{"workers": ["tcp://a"]}\n'

    def _wait(self, work, timeout):
        return asyncio.run(work)


def test_a_list_of_workers_in_another_form_is_no_list():
    with pytest.raises(EngineFailed, match=r"does not list its workers: .*it lists no workers"):
        BadlyListed().members()
