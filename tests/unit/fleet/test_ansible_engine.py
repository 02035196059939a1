"""The Ansible engine without Ansible: what it writes, and what it makes of answers that nobody
trusts."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

import safe_install
from safe_install.errors import EngineFailed
from safe_install.fleet.engine import EngineOptions
from safe_install.fleet.engines import ansible

FOLDER = Path(safe_install.__file__).parent / "fleet" / ansible.COLLECTION


def test_every_file_of_the_collection_is_carried(tmp_path):
    """The table is what a zipapp writes out."""
    real = {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert real == set(ansible.COLLECTION_FILES)
    ansible.write_collection(tmp_path)
    for name in ansible.COLLECTION_FILES:
        copy = tmp_path / ansible.COLLECTION / name
        assert copy.read_bytes() == (FOLDER / name).read_bytes()


def test_the_collection_has_our_version():
    lines = (FOLDER / "galaxy.yml").read_text().splitlines()
    assert f"version: {safe_install.__version__}" in lines


def row(**answer):
    return {"node": "a", "kind": "ok", "answer": answer}


def encoded(content):
    return base64.b64encode(content).decode()


def test_a_reply():
    reply = ansible.reply_of("a", row(status=11, output=encoded(b"\xff{}"), said="why\n"))
    assert (reply.node, reply.status, reply.output) == ("a", 11, b"\xff{}")
    assert reply.problem == "why\n"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (row(status=None, output="", said="it took longer"), "it took longer"),
        (row(status="0", output="", said=""), "it does not know how the program ended"),
        (row(status=True, output="", said=""), "it does not know how the program ended"),
        (row(status=-9, output="", said=""), "it does not know how the program ended"),
        (row(status=0, output="!!!", said=""), "its answer is damaged"),
        ({"node": "a", "kind": "ok", "answer": ["0"]}, "it answered something else"),
        ({"node": "a", "kind": "ok", "answer": None}, "it answered something else"),
        ({"node": "a", "kind": "unreachable", "said": "no\x1b[2Jroute"}, "no [2Jroute"),
        ({"node": "a", "kind": "failed"}, "it did not say why"),
    ],
)
def test_a_node_that_is_lost(answer, problem):
    reply = ansible.reply_of("a", answer)
    assert reply.status is None
    assert reply.problem == problem


def test_a_delivery():
    def finished(**rows):
        return ansible.Finished(0, rows, "")

    good = ansible.delivery_of("a", finished(a=row(path="/x.zip")))
    assert (good.path, good.problem) == ("/x.zip", "")
    for bad in (
        row(path="x.zip"),
        row(path=7),
        row(),
        {"node": "a", "kind": "failed", "said": "no"},
    ):
        found = ansible.delivery_of("a", finished(a=bad))
        assert found.path == ""
        assert found.problem
    assert "ended with 0" in ansible.delivery_of("b", finished()).problem


def test_the_play_has_one_template():
    assert json.dumps(ansible.make_play(asks_python=True, timeout=None)).count("{{") == 1
    assert json.dumps(ansible.make_play(asks_python=False, timeout=90.5)).count("{{") == 0
    assert ansible.make_play(asks_python=False, timeout=90.5)["tasks"][0]["timeout"] == 91
    assert "timeout" not in ansible.make_play(asks_python=False, timeout=None)["tasks"][0]


def test_without_the_inventory():
    with pytest.raises(EngineFailed) as refused:
        ansible.open_engine("missing.yml", EngineOptions())
    assert "missing.yml does not exist" in refused.value.message


def test_without_ansible(tmp_path, monkeypatch):
    (tmp_path / "hosts.yml").write_text("all:\n")
    monkeypatch.setattr(ansible.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EngineFailed) as refused:
        ansible.open_engine(
            str(tmp_path / "hosts.yml"), EngineOptions(environ={"PATH": str(tmp_path)})
        )
    assert "torch-safe-install[ansible]" in refused.value.hint


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb"])
def test_odd_names_are_refused(name):
    with pytest.raises(EngineFailed):
        ansible.refuse_odd_names(["good", name])
