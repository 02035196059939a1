"""What is done inside a process of a cluster; here in this one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pickle
import sys
import time

import pytest

from safe_install.fleet.engines import script
from safe_install.fleet.engines.cluster import read_source
from safe_install.fleet.engines.dask import SentFunction

CONTENT = b"some file" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """The folder in which everything lies."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"safe-install-{os.getuid()}"


def ask(question, *words):
    head, _, body = script.answer(question, *words).partition(b"\n")
    return json.loads(head), body


def deliver(token="t", content=CONTENT):
    for offset in range(0, len(content), 500):
        head, _ = ask("receive", SHA256, token, offset, content[offset : offset + 500])
        assert head == {}
    return ask("finish", SHA256, token, ".zip")[0]


def test_a_process_describes_its_environment():
    head, _ = ask("describe")
    assert head["python"] == sys.executable
    assert head["prefix"] == sys.prefix
    assert head["place"][1:] == [str(os.stat(sys.prefix).st_dev), str(os.stat(sys.prefix).st_ino)]


def test_an_error_is_an_answer():
    assert ask("nonsense")[0]["problem"] == "KeyError: 'nonsense'"


# --- files ----------------------------------------------------------------------------------------


def test_a_file_comes_in_pieces(own):
    assert ask("find", SHA256, ".zip")[0] == {"path": ""}
    path = deliver()["path"]
    assert path == str(own / f"{SHA256}.zip")
    assert (own / f"{SHA256}.zip").read_bytes() == CONTENT
    assert own.stat().st_mode & 0o777 == 0o700
    assert ask("find", SHA256, ".zip")[0] == {"path": path}


def test_a_damaged_file_does_not_stay(own):
    found = deliver(content=CONTENT[:-1] + b"x")
    assert "it arrived with the sha256" in found["problem"]
    assert list(own.iterdir()) == []


def test_a_file_that_was_changed_is_sent_again(own):
    path = deliver()["path"]
    (own / f"{SHA256}.zip").write_bytes(b"something else")
    assert ask("find", SHA256, ".zip")[0] == {"path": ""}
    assert deliver("u")["path"] == path
    (own / f"{SHA256}.zip").rename(own / "elsewhere")
    (own / f"{SHA256}.zip").symlink_to("elsewhere")
    assert ask("find", SHA256, ".zip")[0] == {"path": ""}


def test_a_piece_that_is_missing():
    ask("receive", SHA256, "t", 0, b"12")
    assert "has 2 bytes, not 5" in ask("receive", SHA256, "t", 5, b"34")[0]["problem"]
    assert "FileExistsError" in ask("receive", SHA256, "t", 0, b"12")[0]["problem"]


def test_two_that_deliver_at_the_same_time():
    ask("receive", SHA256, "one", 0, CONTENT[:5])
    assert "path" in deliver("two")
    ask("receive", SHA256, "one", 5, CONTENT[5:])
    assert "path" in ask("finish", SHA256, "one", ".zip")[0]


def test_a_folder_that_others_can_write(own):
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    assert "not a folder of this user alone" in ask("find", SHA256, "")[0]["problem"]
    own.rmdir()
    own.symlink_to("/etc")
    assert "not a folder of this user alone" in ask("find", SHA256, "")[0]["problem"]


def test_old_files_go(own):
    deliver()
    (own / "run-old").mkdir()
    long_ago = time.time() - script.KEPT - 10
    for name in (f"{SHA256}.zip", "run-old"):
        os.utime(own / name, (long_ago, long_ago))
    ask("find", "0" * 64, ".zip")
    assert list(own.iterdir()) == []


# --- programs -------------------------------------------------------------------------------------

pytestmark = pytest.mark.real_process


def run(code, *, timeout=None, most=1000, inherited=()):
    return ask("run", [sys.executable, "-c", code], timeout, most, inherited)


def test_a_program_in_a_folder_of_its_own(own):
    code = "import os, sys; print(os.getcwd()); print('why', file=sys.stderr); sys.exit(3)"
    head, body = run(code)
    assert head == {"status": 3, "late": False, "said": "why"}
    assert os.path.dirname(body.decode().strip()) == str(own)
    assert list(own.iterdir()) == []


def test_more_output_than_is_read():
    code = "import sys; print('x' * 100_000); print('y' * 100_000 + 'end', file=sys.stderr)"
    head, body = run(code)
    assert body == b"x" * 1000
    assert len(head["said"]) < 5000
    assert head["said"].endswith("end")


def test_a_program_that_takes_too_long(monkeypatch):
    head, body = run("import time; print('began', flush=True); time.sleep(60)", timeout=0.5)
    assert (head["status"], head["late"], body) == (-15, True, b"began\n")
    monkeypatch.setattr(script, "PATIENCE", 0.2)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    assert run(code, timeout=0.5)[0]["status"] == -9


def test_no_such_program():
    assert "FileNotFoundError" in ask("run", ["/no/such"], None, 10, ())[0]["problem"]


def test_variables_are_those_of_the_parent(monkeypatch):
    """Of the process that started this one: Ray's raylet."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HOME_BEFORE", os.environ["HOME"])
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'), os.environ['HOME'])"
    assert run(code)[1].split()[0:1] == [os.environ["HOME"].encode()]
    monkeypatch.setenv("HOME", "/elsewhere")
    _, body = run(code, inherited=("CUDA_VISIBLE_DEVICES", "HOME"))
    assert body.decode().split() == ["none", os.environ["HOME_BEFORE"]]


# --- sent -----------------------------------------------------------------------------------------


def test_what_is_sent_needs_nothing_of_ours():
    sent = pickle.dumps(SentFunction("answer_in_thread", read_source()))
    assert b"safe_install." not in sent.replace(read_source().encode(), b"")
    received = pickle.loads(sent)
    answer = asyncio.run(received("describe"))
    assert json.loads(answer)["python"] == sys.executable
    assert json.loads(asyncio.run(received("programs")))["programs"] == []
