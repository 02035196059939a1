"""What the Ansible module asks of the program, and what it makes of its answers."""

from __future__ import annotations

import hashlib
import json

import pytest

from safe_install.fleet.ansible_collections.torch_safe_install.safe_install.plugins.filter import (
    machines,
)
from safe_install.fleet.ansible_collections.torch_safe_install.safe_install.plugins.module_utils import (
    answers,
)

ID = "20261129T225433Z-3f2a"
STEP = {"action": "replace", "name": "alpha", "version": "2", "from_version": "1"}


def wanted(verb="install", **more):
    return {
        "verb": verb,
        "state": "present",
        "name": [],
        "options": [],
        "transaction": None,
        "run": None,
        **more,
    }


def document(outcome, *, status=0, steps=(), **more):
    rows = [{**step, "url": None, "because": "requested"} for step in steps]
    return {"exit_code": status, "outcome": outcome, "plan": {"steps": rows}, "error": None, **more}


@pytest.mark.parametrize(
    ("task", "only_plan", "words"),
    [
        (wanted(name=["a", "b"]), False, ["install", "a", "b"]),
        (wanted(name=["a"]), True, ["install", "--dry-run", "a"]),
        (wanted(name=["a"], options=["--pre"]), False, ["install", "--pre", "a"]),
        (wanted(name=["a"], state="absent"), False, ["uninstall", "--yes", "a"]),
        (wanted(name=["a"], state="absent"), True, ["inventory"]),
        (wanted("stage", name=["a"]), False, ["stage", "a"]),
        (wanted("stage", name=["a"]), True, ["stage", "--dry-run", "a"]),
        (wanted("stage", name=["a"], run="r1"), False, ["stage", "--run", "r1", "a"]),
        (wanted("install", name=["a"], run="r1"), False, ["install", "a"]),
        (
            wanted("stage", name=["a"], state="absent"),
            False,
            ["stage", "--remove", "--yes", "a"],
        ),
        (wanted("stage", name=["a"], state="absent"), True, ["inventory"]),
        (wanted("commit", transaction=ID), False, ["commit", ID]),
        (wanted("commit", transaction=ID), True, ["status", ID]),
        (wanted("undo", transaction=ID), False, ["undo", ID]),
        (wanted("abandon", transaction=ID), True, ["status", ID]),
        (wanted("status", transaction=ID), False, ["status", ID]),
        (wanted("status"), False, ["status"]),
        (wanted("verify", options=["--require-cuda"]), False, ["verify", "--require-cuda"]),
    ],
)
def test_words(task, only_plan, words):
    assert answers.words_for(task, only_plan=only_plan) == words


@pytest.mark.parametrize(
    ("verb", "answer", "only_plan", "changed"),
    [
        ("install", document("installed", steps=[STEP]), False, True),
        ("install", document("already-satisfied"), False, False),
        ("install", document("planned", steps=[STEP]), True, True),
        ("install", document("already-satisfied"), True, False),
        ("install", document("uninstalled", steps=[STEP]), False, True),
        ("stage", document("staged", steps=[STEP]), False, False),
        ("stage", document("planned", steps=[STEP]), True, True),
        ("commit", document("installed", steps=[STEP]), False, True),
        ("commit", document("already-satisfied"), False, False),
        ("commit", document("listed", details={"changes": [{"state": "staged"}]}), True, True),
        ("commit", document("listed", details={"changes": [{"state": "undone"}]}), True, False),
        ("undo", document("undone"), False, True),
        ("undo", document("listed", details={"changes": [{"state": "committed"}]}), True, True),
        ("undo", document("listed", details={"changes": [{"state": "staged"}]}), True, False),
        ("abandon", document("abandoned"), False, False),
        ("verify", document("healthy"), False, False),
    ],
)
def test_changed_only_where_files_changed(verb, answer, only_plan, changed):
    result = answers.result_of(answer, wanted(verb), only_plan=only_plan)
    assert result["changed"] is changed
    assert "failed" not in result


def test_the_difference_names_distributions():
    steps = [
        STEP,
        {"action": "add", "name": "beta", "version": "1", "from_version": None},
        {"action": "remove", "name": "gamma", "version": None, "from_version": "3"},
    ]
    result = answers.result_of(document("installed", steps=steps), wanted(), only_plan=False)
    assert result["diff"] == {
        "before": "alpha==1\ngamma==3\n",
        "after": "alpha==2\nbeta==1\n",
    }


def test_the_plan_of_a_removal_comes_from_the_inventory():
    rows = [{"name": "My.Thing", "version": "3"}, {"name": "other", "version": "1"}]
    answer = document("listed", command="inventory", details={"distributions": rows})
    task = wanted(name=["my_thing", "missing"], state="absent")
    result = answers.result_of(answer, task, only_plan=True)
    assert result["changed"] is True
    assert result["diff"] == {"before": "My.Thing==3\n", "after": ""}


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (
            document(
                "refused", status=11, error={"code": "refused", "message": "no", "hint": "do"}
            ),
            {"code": "refused", "msg": "no", "hint": "do"},
        ),
        (
            document(
                "rolled-back",
                status=12,
                findings=[
                    {"severity": "note", "detail": "all", "hint": ""},
                    {"severity": "error", "detail": "worse", "hint": "do"},
                ],
            ),
            {"code": "rolled-back", "msg": "rolled-back: worse", "hint": "do"},
        ),
        (
            document("unhealthy", status=1),
            {"code": "unhealthy", "msg": "unhealthy: exit status 1", "hint": ""},
        ),
    ],
)
def test_failures_have_our_code_message_and_hint(answer, failure):
    result = answers.result_of(answer, wanted(), only_plan=False)
    assert result["failed"] is True
    assert {key: result[key] for key in failure} == failure


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"nonsense",
        b"[" * 100000,
        b"{}",
        json.dumps({"exit_code": 1}).encode(),
    ],
)
def test_no_document(output):
    with pytest.raises(answers.NoAnswer):
        answers.read_document(0, output)


def test_the_document_is_what_was_written():
    assert answers.read_document(1, b'{"exit_code": 1, "outcome": "unhealthy"}') == {
        "exit_code": 1,
        "outcome": "unhealthy",
    }


def test_steps_of_another_shape_are_passed_over():
    answer = document("installed", plan={"steps": ["alpha", STEP, None]})
    assert answers.result_of(answer, wanted(), only_plan=False)["steps"] == [STEP]


def test_a_long_inventory_stays_short():
    rows = [{"name": f"p{number}", "version": "1"} for number in range(1000)]
    answer = document("listed", details={"host": "h", "distributions": rows}, environment={})
    result = answers.result_of(answer, wanted("inventory"), only_plan=False)
    assert result["details"] == {"host": "h"}


def test_changes_are_listed_without_their_steps_and_only_some_of_them():
    row = {
        "id": ID,
        "state": "staged",
        "detail": "",
        "fits": True,
        "expires": None,
        "steps": [STEP],
    }
    answer = document("listed", details={"changes": [row, "strange"] * 1000}, environment={})
    result = answers.result_of(answer, wanted("status"), only_plan=False)
    short = {"id": ID, "state": "staged", "detail": "", "fits": True, "expires": None}
    assert result["details"] == {"changes": [{**short, "undone_by": None}] * answers.MAX_ROWS}


def test_without_details_there_are_none():
    answer = document("error", status=14, details=None)
    assert answers.result_of(answer, wanted("status"), only_plan=False)["details"] == {}


# --- the role's decisions -------------------------------------------------------------------------

GOOD = {"code": "staged", "transaction": ID}


@pytest.mark.parametrize(
    ("said", "active", "reason"),
    [
        ({"answer": GOOD}, True, None),
        ({"answer": {"skipped": True}}, True, None),
        ({"answer": GOOD}, False, "it did not answer"),
        ({}, True, "it did not answer"),
        ({"answer": "good"}, True, "it did not answer"),
        ({"answer": {"unreachable": True}}, True, "it cannot be reached"),
        ({"answer": {"failed": True}}, True, "it failed"),
        (
            {"answer": {"failed": True, "code": "refused", "msg": "no\x1b[2J\nall", "hint": ""}},
            True,
            "refused: no [2J all",
        ),
    ],
)
def test_who_failed(said, active, reason):
    hosts = ["one", "two"]
    variables = {"one": {"answer": GOOD}, "two": said}
    found = machines.failures(hosts, variables, "answer", hosts if active else ["one"])
    assert found == ({} if reason is None else {"two": reason})


def test_reasons_are_one_line():
    assert machines.reasons({"a": "x", "b\n": "y"}) == "a: x; b : y"
    assert machines.reasons({}) == ""


def test_the_filters_are_those_that_the_role_names(tmp_path):
    filters = machines.FilterModule().filters()
    assert filters["failures"] is machines.failures
    assert filters["reasons"] is machines.reasons
    (tmp_path / "file").write_bytes(b"abc" * machines.CHUNK)
    expected = hashlib.sha256(b"abc" * machines.CHUNK).hexdigest()
    assert filters["file_sha256"](str(tmp_path / "file")) == expected
