"""What runs at every start of the managed interpreter, and keeps it from starting: before a change,
and by one."""

from __future__ import annotations

import os
import time

import pytest

from safe_install.environment import startup
from safe_install.environment.interpreter import child_environment
from tests.unit.wheels.crafted import make_wheel

TORCH = "torch==1.8.1+cu111"
PURE = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
DEMO = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
ENDS, HANGS = "import os; os._exit(3)\n", "import time; time.sleep(60)\n"


@pytest.mark.parametrize("python", ["3.8", pytest.param("3.13", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hook.pth", ENDS),
        ("hook.pth", "import sys; sys.exit(0)\n"),
        ("hook.pth", "import sys; sys.stdin.read()\n"),
        ("sitecustomize.py", ENDS),
    ],
    ids=["ends", "exits", "reads stdin", "sitecustomize"],
)
def test_a_start_file_that_ends_the_interpreter_is_named(make_environment, python, name, text):
    environment = make_environment(python)
    library = environment.ask("import sysconfig; print(sysconfig.get_path('stdlib'))")
    if os.path.exists(os.path.join(library, name)):
        pytest.skip("this Python (Debian's) has a sitecustomize of its own, which comes first")
    (environment.site / name).write_text(text)
    done = environment.safe_install("history")
    assert done.returncode == 15
    assert "Traceback" not in done.stderr
    if "stdin" in text:
        assert "has read what was on stdin" in done.stderr
    else:
        assert (
            f"site-packages/{name}, which runs at every start of this Python, ends it or hangs"
            in done.stderr
        )


@pytest.mark.parametrize(
    "text",
    [
        'import sys; print(\'{"result": "success"}\'); sys.stdout.flush()\n',
        "import atexit; atexit.register(print, 'good bye')\n",
        "import no_such_module\n",
        "import json, sys; json.dumps = lambda *words: '{}'; sys.stdout = None\n",
    ],
    ids=["prints", "prints at the end", "raises", "changes modules"],
)
def test_a_start_file_that_only_talks_does_no_harm(make_environment, text):
    environment = make_environment("3.11")
    (environment.site / "hook.pth").write_text(text)
    done = environment.safe_install("history")
    # what it broke is broken for everybody; it has to be said, and no more
    changes = "json.dumps" in text
    assert done.returncode == (15 if changes else 0), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["hook.pth", "sitecustomize.py"])
def test_a_start_file_that_hangs_is_named(make_environment, monkeypatch, name):
    monkeypatch.setattr(startup, "LIMIT", 2.0)
    environment = make_environment("3.11")
    found = "import importlib.util as u; print(u.find_spec('sitecustomize') is not None)"
    if name == "sitecustomize.py" and environment.ask(found) == "True":
        pytest.skip("this Python has a sitecustomize of its own, which comes first")
    path = environment.site / name
    assert startup.find_culprit(environment.executable, child_environment()) is None
    path.write_text(HANGS)
    assert startup.find_culprit(environment.executable, child_environment()) == str(path)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (ENDS, (), "hook.pth, which runs at every start of this Python, ends it or hangs"),
        pytest.param(
            HANGS,
            ("--check-timeout", "2"),
            "hook.pth, which runs at every start of this Python, ends it or hangs",
            marks=pytest.mark.long,
        ),
        ("import json; json.dumps = None\n", (), "could not be probed"),
    ],
    ids=["ends", "hangs", "changes modules"],
)
def test_a_start_file_of_the_change_that_breaks_the_interpreter_is_rolled_back(
    make_environment, tmp_path, text, words, said
):
    environment = make_environment("3.11", TORCH)
    before = environment.tree()
    files = {"hook.pth": text, "demo/__init__.py": ""}
    wheel = make_wheel(
        tmp_path, files, filename="demo-1.0-py3-none-any.whl", metadata=DEMO, wheel=PURE
    )
    started = time.monotonic()
    document = environment.document("install", *words, str(wheel))
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    (finding,) = [finding for finding in document["findings"] if finding["severity"] == "error"]
    assert finding["check"] == "check-crashed"
    assert said in finding["detail"]
    assert environment.tree() == before
    assert time.monotonic() - started < 60
    assert environment.safe_install("history").returncode == 0


def test_the_check_names_the_import_that_hangs(make_environment, tmp_path):
    environment = make_environment("3.11", TORCH)
    before = environment.tree()
    metadata = "Metadata-Version: 2.1\nName: torchdata\nVersion: 0.3.0\n"
    files = {"torchdata/__init__.py": HANGS}
    options = {"metadata": metadata, "wheel": PURE, "dist_info": "torchdata-0.3.0.dist-info"}
    wheel = make_wheel(tmp_path, files, filename="torchdata-0.3.0-py3-none-any.whl", **options)
    done = environment.safe_install("install", str(wheel), SAFE_INSTALL_CHECK_TIMEOUT="6")
    assert done.returncode == 12
    assert "torchdata does not import: no answer within 3.0 s (--check-timeout is 6)" in done.stderr
    assert environment.tree() == before


def test_what_could_not_be_asked_is_not_kept(make_environment, tmp_path):
    """However it was before: a limit that is too short is no reason to believe that all is well."""
    environment = make_environment("3.11", TORCH)
    (environment.site / "torch" / "__init__.py").write_text("import time; time.sleep(60)\n")
    before = environment.tree()
    wheel = make_wheel(
        tmp_path,
        {"demo/__init__.py": ""},
        filename="demo-1.0-py3-none-any.whl",
        metadata=DEMO,
        wheel=PURE,
    )
    done = environment.safe_install("install", "--check-timeout", "1", str(wheel))
    assert done.returncode == 12
    assert "torch could not be asked: no answer within 0.5 s (--check-timeout is 1)" in done.stderr
    assert "hint: Give the check more time" in done.stderr
    assert environment.tree() == before
