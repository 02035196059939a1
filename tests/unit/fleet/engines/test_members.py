"""Which processes share an environment, from what they say of themselves."""

from __future__ import annotations

import json

import pytest

from safe_install.fleet.engines.members import (
    InvalidAnswer,
    Member,
    group_members,
    read_member,
    split_answer,
)

SAID = {"host": "box", "python": "/env/bin/python", "prefix": "/env", "place": ["b", "1", "2"]}


def say(**changes):
    return json.dumps({**SAID, **changes}).encode() + b"\n"


def member(address, *, host="box", prefix="/env", place=("b", "1", "2")):
    return Member(address, host, f"{prefix}/bin/python", prefix, place)


def test_what_a_process_says():
    assert read_member("tcp://1", say()) == member("tcp://1")
    assert split_answer(b'{"status": 0}\nout\nput') == ({"status": 0}, b"out\nput")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no bytes but NoneType"),
        ({"host": "box"}, "no bytes but dict"),
        (b"", "no JSON"),
        (b"\xff\xfe\n", "no JSON"),
        (b"[" * 10_000 + b"\n", "no JSON"),
        (b"[1]\n", "no JSON object"),
        (b'{"a": "' + b"x" * 70_000 + b'"}\n', "begins with a line of"),
        (b'{"problem": "PermissionError: \\u001b[31m/var"}\n', "PermissionError:  [31m/var"),
        (b'{"problem": ""}\n', "it gives no reason"),
        (say(host=""), "does not say its host"),
        (say(host=7), "does not say its host"),
        (say(host="box\x1b[2J"), "host is no name that can be shown"),
        (say(host="box\nother"), "host is no name that can be shown"),
        (say(host="x" * 2000), "host is no name that can be shown"),
        (say(python="python"), "no path of its own"),
        (say(prefix="env"), "no path of its own"),
        (say(place=None), "where its environment lies"),
        (say(place=[]), "where its environment lies"),
    ],
)
def test_what_is_no_answer(answer, reason):
    with pytest.raises(InvalidAnswer) as raised:
        read_member("tcp://1", answer)
    assert reason in str(raised.value)
    assert str(raised.value).isprintable()


def test_processes_of_one_environment_are_one_node():
    other = member("tcp://3", prefix="/other", place=("b", "1", "3"))
    groups = group_members([member("tcp://1"), other, member("tcp://2")])
    assert [(one.node.name, one.addresses) for one in groups] == [
        ("box:/env", ("tcp://1", "tcp://2")),
        ("box:/other", ("tcp://3",)),
    ]
    assert groups[0].node.python == "/env/bin/python"


def test_one_folder_that_two_containers_see_by_other_names_is_one_node():
    groups = group_members([member("1"), member("2", host="pod", prefix="/mnt/env")])
    assert [one.node.name for one in groups] == ["box:/env"]


def test_two_machines_of_one_name_are_two_nodes():
    groups = group_members([member("tcp://1"), member("tcp://2", place=("c", "1", "2"))])
    assert [one.node.name for one in groups] == ["box:/env (tcp://1)", "box:/env (tcp://2)"]


def test_none():
    assert group_members([]) == ()
