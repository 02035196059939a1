"""The interpreter of the check after a change is started before it, and has imported nothing of the
environment when the change is made."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from safe_install.environment import waiting as module
from safe_install.environment.waiting import WaitingInterpreter, can_wait
from tests.factories import make_interpreter
from tests.unit.wheels.crafted import make_wheel

# Runs at the start of every Python of the environment: writes down what is loaded by then.
HOOK = (
    "import json, sys; open({seen!r}, 'a').write(json.dumps("
    "[[name, str(getattr(module, '__file__', ''))] for name, module in sys.modules.items()])"
    " + chr(10))\n"
)
SCRIPT = """\
import json, os, sys, sysconfig
import added
answer = {"added": added.VALUE, "prefix": sys.prefix, "scheme": sysconfig.get_paths()["purelib"],
          "path": [path for path in sys.path if path], "arguments": sys.argv[1:]}
print(sys.stdin.read(4), json.dumps(answer))
"""


@pytest.fixture(params=["3.8", "3.11", pytest.param("3.13", marks=pytest.mark.long)])
def environment(request, make_environment):
    return make_environment(request.param)


def test_nothing_of_the_environment_is_loaded_before_the_change(
    environment, tmp_path: Path, monkeypatch
):
    seen = tmp_path / "seen.json"
    (environment.site / "0-first.pth").write_text(HOOK.format(seen=str(seen)))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    waiting = WaitingInterpreter(environment.executable)
    time.sleep(0.5)
    assert not seen.exists()
    # the change
    (environment.site / "added.py").write_text("VALUE = 'new'\n")
    monkeypatch.setattr(module, "read_script", lambda package: SCRIPT)
    running = waiting.run("any", ["one", "two"], ["word"])
    completed = running.wait(60)
    assert completed.returncode == 0, completed.stderr
    word, _, text = completed.stdout.partition(" ")
    answer = json.loads(text)
    assert (word, answer["added"], answer["arguments"]) == ("word", "new", ["one", "two"])
    # `site` reads the folder of a virtual environment twice
    loaded = json.loads(seen.read_text().splitlines()[0])
    # it is the Python of the environment, as one that was started now would be
    fresh = environment.ask(
        "import json, sys, sysconfig; print(json.dumps([sys.prefix, sysconfig.get_paths()['purelib'],"
        " [path for path in sys.path if path]]))"
    )
    assert [answer["prefix"], answer["scheme"], answer["path"]] == json.loads(fresh)
    assert "unittest.mock" in [name for name, _ in loaded]
    assert [file for _, file in loaded if file.startswith(str(environment.prefix))] == []
    assert [name for name, _ in loaded if name == "sysconfig"] == []


def test_what_comes_in_front_of_the_standard_library_is_seen(
    environment, tmp_path: Path, monkeypatch
):
    """An egg in easy-install.pth with a module of the standard library's name."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    waiting = WaitingInterpreter(environment.executable)
    egg = tmp_path / "backport.egg"
    egg.mkdir()
    (egg / "dataclasses.py").write_text("VALUE = 'of the egg'\n")
    (environment.site / "easy-install.pth").write_text(
        f"import sys; sys.path.insert(0, {str(egg)!r})\n"
    )
    monkeypatch.setattr(
        module, "read_script", lambda package: "import dataclasses; print(dataclasses.VALUE)\n"
    )
    completed = waiting.run("any", [], []).wait(60)
    assert (completed.stdout, completed.stderr) == ("of the egg\n", "")


def test_one_that_is_gone_is_not_asked(environment):
    waiting = WaitingInterpreter(environment.executable)
    waiting.stop()
    assert waiting.run("safe_install.health", [], []) is None


def test_where_the_standard_library_may_come_out_of_the_environment_none_waits():
    assert can_wait(make_interpreter(), {})
    assert not can_wait(make_interpreter(conda=True), {})
    assert not can_wait(make_interpreter(), {"PYTHONPATH": "/somewhere"})


def test_every_change_is_checked_by_one_that_waited(make_environment, tmp_path: Path):
    """An interpreter that waited was started without `site`, and runs the .pth files itself."""
    environment = make_environment("3.11", "torch==1.8.1+cu111")
    files = {"demo/__init__.py": "x = 1\n"}
    wheel = make_wheel(tmp_path, files, filename="demo-1.0-py3-none-any.whl")
    seen = tmp_path / "seen"
    (environment.site / "0-first.pth").write_text(
        f"import sys; open({str(seen)!r}, 'a').write(str(sys.flags.no_site))\n"
    )
    changes = ("install", "--no-index", str(wheel)), ("uninstall", "-y", "demo"), ("undo",)
    for words in changes:
        seen.write_text("")
        document = environment.document(*words)
        assert document["exit_code"] == 0, document
        assert "1" in seen.read_text(), words
