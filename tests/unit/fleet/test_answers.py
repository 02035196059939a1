"""Answers of nodes as a stranger may send them: each is a value, and none steers a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safe_install.fleet.answers import LONGEST, Answer, clean, parse_reply
from safe_install.fleet.engine import MAX_ANSWER, Reply

ID = "20261130T010203Z-abcdef"
OTHER = "20261130T010203Z-000000"
ENVIRONMENT = {
    "python": "3.11.7",
    "executable": "/env/bin/python",
    "prefix": "/env",
    "platform": "linux_x86_64",
    "libc": "glibc 2.36",
    "torch": {"version": "2.8.0+cu126", "accelerator": "cu126", "cuda": "12.6", "cxx11_abi": True},
    "driver": {
        "version": "535.104.05",
        "cuda": "12.2",
        "devices": [{"name": "A100", "compute_capability": "8.0"}],
    },
}
DETAILS = {
    "host": "node1",
    "distributions": [{"name": "torch", "version": "2.8.0", "sha256": "0" * 64}],
    "tree": {"sha256": "1" * 64},
    "history": {"head": None, "count": 0},
    "place": {"device": 1, "inode": 2},
}


def document(verb, **values):
    return {
        "schema": 1,
        "command": verb,
        "exit_code": 0,
        "outcome": "listed",
        "environment": ENVIRONMENT,
        "plan": {"steps": [], "hosts": []},
        "findings": [],
        "transaction": None,
        "details": {},
        "error": None,
        **values,
    }


def reply(found, status=0, **values):
    output = found if isinstance(found, bytes) else json.dumps(found).encode()
    return Reply("n1", status, output, **values)


def inventory(**values):
    return document("inventory", details={**DETAILS, **values})


def test_an_inventory():
    facts = parse_reply(reply(inventory()), "inventory").facts
    assert (facts.host, facts.python, facts.libc) == ("node1", "3.11.7", ("glibc", "2.36"))
    assert (facts.torch.version, facts.torch.cxx11_abi) == ("2.8.0+cu126", True)
    assert (facts.driver.version, facts.driver.capabilities) == ("535.104.05", ("8.0",))
    assert (facts.place, facts.marker) == ((1, 2), "")
    assert facts.distributions == {"torch": ("2.8.0", "0" * 64)}
    large = inventory(place={"device": 1, "inode": 2**64 - 1})
    assert parse_reply(reply(large), "inventory").facts.place == (1, 2**64 - 1)
    marked = inventory(place={"device": 1, "inode": 2, "marker": "cluster-7"})
    assert parse_reply(reply(marked), "inventory").facts.marker == "cluster-7"


def test_the_wheels_of_a_cache():
    assert parse_reply(reply(inventory()), "inventory").facts.wheels == ()
    facts = parse_reply(reply(inventory(wheels=["2" * 64, "1" * 64])), "inventory").facts
    assert facts.wheels == ("2" * 64, "1" * 64)


def test_what_thousands_of_nodes_say_lies_in_memory_once():
    one, other = (
        parse_reply(reply(inventory()), "inventory").facts.distributions["torch"] for _ in range(2)
    )
    assert one[0] is other[0]
    assert one[1] is other[1]


def test_a_change():
    steps = [{"name": "alpha", "version": "2", "from_version": None}]
    staged = document("stage", outcome="staged", transaction=ID, plan={"steps": steps})
    answer = parse_reply(reply(staged), "stage")
    assert (answer.outcome, answer.transaction, answer.problem) == ("staged", ID, "")
    assert [(step.name, step.old, step.new) for step in answer.steps] == [("alpha", "", "2")]
    rows = [{"id": OTHER, "state": "staged"}, {"id": ID, "state": "committed"}]
    listed = document("status", details={"changes": rows})
    assert parse_reply(reply(listed), "status", ID).state == "committed"
    assert parse_reply(reply(document("status", details={"changes": []})), "status", ID).state == ""


def test_an_error_and_findings():
    error = {"code": "refused", "message": "no\x1b]0;x\x07 room", "hint": ""}
    found = document("stage", exit_code=11, outcome="refused", error=error)
    answer = parse_reply(reply(found, 11), "stage")
    assert (answer.status, answer.message) == (11, "no?]0;x? room")
    rows = [
        {"check": "import-failed", "severity": "error", "subject": "torch", "detail": "it fails"},
        {"check": "note", "severity": "note", "subject": "x", "detail": "y"},
    ]
    found = document("verify", exit_code=1, outcome="unhealthy", findings=rows)
    answer = parse_reply(reply(found, 1), "verify")
    assert answer.errors == {("import-failed", "torch")}
    assert answer.message == "it fails"


WRONG = [
    (Reply("n1"), "it did not answer"),
    (Reply("n1", problem="no route\x1b[31m to host"), "no route?[31m to host"),
    (reply(b""), "no JSON"),
    (reply(b"\xff\xfe"), "no JSON"),
    (reply(b"[" * 100_000), "cannot be used"),
    (reply(b"", problem="no\x1b[31m\nspace"), "no JSON document (no?[31m space)"),
    (reply(b"[]"), "an object is missing"),
    (reply(b" " * (MAX_ANSWER + 1)), "longer than"),
    (reply(b'{"schema": ' + b"9" * 5000 + b"}"), "too long"),
    (reply(document("inventory", schema=2)), "another schema"),
    (reply(document("inventory", schema=True)), "a number is missing"),
    (reply(document("stage")), "no answer to inventory"),
    (reply(document("inventory"), 11), "contradicts"),
    (reply(document("inventory", exit_code=True)), "a number is missing"),
    (reply(document("inventory", outcome="a b")), "outcome"),
    (reply(document("inventory", transaction="../../etc")), "an ID"),
    (reply(document("inventory", findings=[{}] * 30_000)), "too long"),
    (reply(document("inventory", plan={"steps": [{"name": "../x"}]})), "name"),
    (reply(inventory(place={"device": -1, "inode": 2})), "a number"),
    (reply(inventory(place={"device": 1, "inode": 2, "marker": 5})), "marker"),
    (reply(inventory(tree={"sha256": "x"})), "tree"),
    (reply(inventory(host=None)), "host"),
    (reply(inventory(distributions=[{"name": "a b", "version": "1"}])), "name"),
    (reply(inventory(wheels=["0" * 63])), "sha256"),
    (reply(inventory(wheels={"0" * 64: 1})), "a list"),
    (reply(inventory(wheels=[5])), "sha256"),
    (reply(inventory(wheels=["0" * 64] * 1001)), "too many wheels"),
    (reply(document("inventory", details=DETAILS, environment=None)), "an object is missing"),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_is_a_value_with_its_reason(wrong, told):
    answer = parse_reply(wrong, "inventory")
    assert told in answer.problem
    assert answer == Answer("n1", problem=answer.problem)
    assert answer.problem.isprintable()


@pytest.mark.parametrize("verb", ["commit", "undo", "abandon"])
def test_an_answer_about_another_change_is_none(verb):
    found = document(verb, outcome="undone", details={"id": OTHER, "state": "undone"})
    assert "another change" in parse_reply(reply(found), verb, ID).problem
    if verb == "commit":
        found = document(verb, outcome="installed", transaction=OTHER)
        assert "another change" in parse_reply(reply(found), verb, ID).problem


def test_a_driver_and_a_torch_that_lie():
    for environment in (
        {**ENVIRONMENT, "torch": {"version": "2.8.0; rm -rf /", "accelerator": "cu126"}},
        {**ENVIRONMENT, "torch": {"version": "--index-url=x", "accelerator": "cu126"}},
        {**ENVIRONMENT, "torch": {**ENVIRONMENT["torch"], "cxx11_abi": "false"}},
        {**ENVIRONMENT, "python": "3.11\n3"},
        {**ENVIRONMENT, "platform": "linux x86"},
        {**ENVIRONMENT, "driver": {"version": "5 5", "cuda": None, "devices": []}},
    ):
        found = document("inventory", details=DETAILS, environment=environment)
        assert parse_reply(reply(found), "inventory").problem


def test_what_is_shown_is_short_and_one_line():
    shown = clean("a\x00\x1b[2J\u202e\nb" + "x" * 9999)
    assert shown.isprintable()
    assert len(shown) == LONGEST
    assert clean(json.loads('"\\ud800"')) == "?"
    assert "secret" not in clean("https://user:secret@host.example/x")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*DETAILS, "id", "state", "steps"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["inventory", "stage", "commit", "status", "verify"]),
    st.dictionaries(st.sampled_from(sorted(document("x"))), VALUES, max_size=4),
    st.binary(max_size=30),
)
def test_nothing_that_is_sent_is_an_exception(verb, values, tail):
    for sent in (json.dumps({**document(verb), **values}).encode(), tail):
        answer = parse_reply(reply(sent), verb, ID)
        assert answer.problem.isprintable()
        assert answer.message.isprintable()
