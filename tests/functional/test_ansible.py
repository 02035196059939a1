"""The module and the role of the Ansible collection, in plays as people write them."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest

from safe_install.fleet.engines import ansible
from tests.functional.ansible_machines import Machines, Sshd
from tests.functional.ansible_machines import controller as controller
from tests.functional.ansible_machines import fill as fill
from tests.functional.ansible_machines import machines as machines
from tests.functional.ansible_machines import projects as projects
from tests.functional.ansible_machines import start_sshd as start_sshd
from tests.functional.conftest import run_process

ROLE = """\
- hosts: all
  gather_facts: false
  roles:
    - torch_safe_install.safe_install.install
"""


# --- the role: all, or none -----------------------------------------------------------------------


@pytest.mark.long
def test_a_plan_then_all_then_nothing_to_do(
    machines: Machines, fill: Callable[..., None], zipapp: Path
) -> None:
    names = ["a", "b", "c", "d", "e"]
    fill("a", "b", "c", "d")
    machines.add("e", machines.environments["d"])  # one environment, on two hosts
    asked = {
        "safe_install_name": ["alpha==2"],
        "safe_install_program": str(zipapp),
        "safe_install_verify": False,
    }

    planned = machines.play(ROLE, "--check", "--diff", "--limit", "a,b", **asked)
    assert planned.status == 0, planned.text
    assert planned.changed == {"a": 1, "b": 1}
    assert planned.text.count("+alpha==2") == 2
    assert machines.is_as_before()

    done = machines.play(ROLE, **asked)
    assert done.status == 0, done.text
    assert [done.changed[name] for name in "abc"] == [1, 1, 1]
    assert sorted(done.changed[name] for name in "de") == [0, 1]
    assert {machines.version_of_alpha(name) for name in names} == {"2"}

    again = machines.play(ROLE, "--limit", "a,b", **asked)
    assert again.status == 0, again.text
    assert again.changed == {"a": 0, "b": 0}
    (delivered,) = (machines.folder / "home/.cache/torch-safe-install/delivered").iterdir()
    assert delivered.stat().st_mode & 0o777 == 0o600
    assert delivered.parent.stat().st_mode & 0o777 == 0o700


EVIL = """\
import json, sys
evil = "{{ lookup('pipe', 'touch MARK') }}\\x1b[2J\\n"
document = {
    "exit_code": 0, "outcome": "staged", "transaction": evil, "command": "stage", "error": None,
    "plan": {"steps": [{"action": evil, "name": evil, "version": "1", "from_version": evil}]},
    "ansible_facts": {"ansible_connection": "ssh"}, "details": {"changes": [7]},
}
print(json.dumps(document))
"""


def test_not_all_can_stage_it(
    machines: Machines, fill: Callable[..., None], zipapp: Path, lab_wheels: Any
) -> None:
    """The wheel is linked against the torch of all but one; and others answer as they like: nothing
    of that is run here."""
    mark = machines.folder / "mark"
    fill("good", safe_install_program=str(zipapp))
    fill("other", torch="torch==2.4.1", driver="12.1", safe_install_program=str(zipapp))
    codes = {
        "evil": EVIL.replace("MARK", str(mark)),
        "deep": "print('[' * 100000)\n",
        "lying": 'print("{\\"exit_code\\": 0, \\"outcome\\": \\"staged\\"}")\nraise SystemExit(3)\n',
    }
    for name, code in codes.items():
        with zipfile.ZipFile(machines.folder / f"{name}.pyz", "w") as archive:
            archive.writestr("__main__.py", code)
        machines.add(name, machines.environments["good"], safe_install_program=f"{name}.pyz")
    (wheel,) = (lab_wheels("3.11").extensions / "1.8.1+cu111").glob("*.whl")
    done = machines.play(ROLE, "--diff", safe_install_name=[str(wheel)], safe_install_verify=False)
    assert done.status == 2, done.text
    assert done.failed == dict.fromkeys(machines.hosts, 1)
    assert set(done.changed.values()) == {0}
    (said,) = set(
        re.findall(r"Nothing was changed on any machine. Not staged on (.*)\"", done.text)
    )
    reasons = dict(one.split(": ", 1) for one in said.split("; ") if ": " in one)
    assert set(reasons) >= {"other", "deep", "lying"}
    assert not {"good", "evil"} & set(reasons)
    assert reasons["deep"].startswith("no-answer: ")
    assert reasons["lying"].startswith("no-answer: ")
    assert not mark.exists()
    assert "\x1b[2J" not in done.text
    assert machines.is_as_before()
    assert machines.states("good") == ["abandoned"]


@pytest.mark.long
def test_a_check_fails_after_the_change(
    machines: Machines, fill: Callable[..., None], zipapp: Path
) -> None:
    """c's driver is too old for the torch that works on the others."""
    fill("a", "b", driver="12.1")
    fill("c")
    done = machines.play(
        ROLE,
        safe_install_name=["torch==2.4.1"],
        safe_install_program=str(zipapp),
        safe_install_verify=False,
    )
    assert done.status == 2, done.text
    assert done.failed == {"a": 1, "b": 1, "c": 1}
    assert "Not done: c: rolled-back" in done.text
    assert "Every machine is as before" in done.text
    assert machines.is_as_before()
    states = {name: machines.states(name)[0] for name in machines.hosts}
    assert states == {"a": "undone", "b": "undone", "c": "rolled-back"}


def make_dying(program: Path, path: Path, verb: str, *, stays_dead: bool) -> Path:
    """The program on a machine that dies at the beginning of a verb, once a change is staged there:
    it kills the module that runs it, then itself."""
    dead, staged = path.with_suffix(".dead"), path.with_suffix(".staged")
    code = f"""\
import os, pathlib, runpy, signal, sys
dead, staged = pathlib.Path({str(dead)!r}), pathlib.Path({str(staged)!r})
dies = {verb!r} in sys.argv and staged.exists()
if dies or ({stays_dead!r} and dead.exists()):
    dead.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
if "stage" in sys.argv:
    staged.touch()
sys.path[0] = sys.argv[0] = {str(program)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", code)
    return path


@pytest.mark.long
@pytest.mark.parametrize(("verb", "stays_dead"), [("commit", True), ("verify", False)])
def test_a_machine_dies(
    machines: Machines, fill: Callable[..., None], zipapp: Path, verb: str, stays_dead: bool
) -> None:
    """Between stage and commit, for good; between commit and verify, and it answers again."""
    fill("a", safe_install_program=str(zipapp))
    dying = make_dying(zipapp, machines.folder / "dying.pyz", verb, stays_dead=stays_dead)
    fill("b", safe_install_program=str(dying))
    done = machines.play(ROLE, safe_install_name=["alpha==1"], safe_install_verify=verb == "verify")
    assert done.status == 2, done.text
    assert done.failed == {"a": 1, "b": 1}
    assert "Not done: b: " in done.text
    assert machines.is_as_before()
    if stays_dead:
        assert "Not taken back: b: " in done.text
        assert machines.states("b") == ["staged"]
    else:
        assert "Every machine is as before" in done.text
    assert machines.states("a") == ["undone"]


def make_meeting(program: Path, path: Path) -> Path:
    """The program on a machine on which nothing is committed before two plays have staged."""
    folder = path.with_suffix(".met")
    folder.mkdir()
    code = f"""\
import pathlib, subprocess, sys, time
folder = pathlib.Path({str(folder)!r})
name = sys.argv[sys.argv.index("--python") + 1].replace("/", "-")
end = time.monotonic() + 120
while "commit" in sys.argv and len(list(folder.glob(name + "*"))) < 2 and time.monotonic() < end:
    time.sleep(0.1)
done = subprocess.run([sys.executable, "-I", {str(program)!r}, *sys.argv[1:]])
if "stage" in sys.argv and done.returncode == 0:
    (folder / (name + str(time.monotonic_ns()))).touch()
sys.exit(done.returncode)
"""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", code)
    return path


@pytest.mark.long
def test_two_plays_of_the_same_words_at_once(
    machines: Machines, fill: Callable[..., None], zipapp: Path
) -> None:
    """Each has its own change: what one of them takes back is not what the other one has done."""
    fill("a", "b")
    meeting = make_meeting(zipapp, machines.folder / "meeting.pyz")
    asked = {"safe_install_program": str(meeting), "safe_install_verify": False}
    running = [machines.start(ROLE, safe_install_name=["alpha==2"], **asked) for _ in range(2)]
    texts = [process.communicate(timeout=300)[0] for process in running]
    statuses = [process.returncode for process in running]
    assert [len(machines.states(name)) for name in "ab"] == [2, 2], texts
    assert statuses != [0, 0], texts
    if 0 in statuses:
        assert [machines.version_of_alpha(name) for name in "ab"] == ["2", "2"], texts
    else:
        assert machines.is_as_before(), texts


# --- the module -----------------------------------------------------------------------------------

TASKS = """\
- hosts: all
  gather_facts: false
  module_defaults:
    torch_safe_install.safe_install.safe_install:
      python: "{{ safe_install_python }}"
      program: "{{ program }}"
  tasks:
    - {name: first, torch_safe_install.safe_install.safe_install: {name: [alpha==1]}}
    - {name: second, torch_safe_install.safe_install.safe_install: {name: alpha}}
    - {name: newer, torch_safe_install.safe_install.safe_install: {name: [alpha==2]}}
    - name: removal that is planned
      torch_safe_install.safe_install.safe_install: {name: [alpha], state: absent}
      check_mode: true
      diff: true
    - {name: removal, torch_safe_install.safe_install.safe_install: {name: [alpha], state: absent}}
    - {name: again, torch_safe_install.safe_install.safe_install: {name: [alpha], state: absent}}
    - name: refused
      torch_safe_install.safe_install.safe_install:
        name: [no-such-thing]
        options: [--index-url, "https://user:s3cret@127.0.0.1:9/simple"]
      ignore_errors: true
      register: refused
    - ansible.builtin.debug: {var: refused}
    - {name: option, torch_safe_install.safe_install.safe_install: {name: [--pre]}, ignore_errors: true}
"""


@pytest.mark.long
def test_the_module_alone(machines: Machines, fill: Callable[..., None], zipapp: Path) -> None:
    fill("a")
    done = machines.play(TASKS, "-vvv", program=str(zipapp))
    assert done.status == 0, done.text
    said = {
        match[1]: match[2]
        for match in re.finditer(r"TASK \[(.*?)\].*?^(ok|changed|fatal): ", done.text, re.M | re.S)
    }
    assert said["first"] == "changed"
    assert said["second"] == "ok"
    assert said["newer"] == "changed"
    assert said["removal that is planned"] == "changed"
    assert "-alpha==2" in done.text
    assert said["removal"] == "changed"
    assert said["again"] == "ok"
    assert said["refused"] == "fatal"
    assert re.search(r'"code": "(no-candidate|pip-failed)"', done.text)
    assert "s3cret" not in done.text
    assert "'--pre' is no requirement" in done.text
    assert machines.is_as_before()


@pytest.mark.long
def test_the_documentation(machines: Machines) -> None:
    names = [
        f"torch_safe_install.safe_install.{name}" for name in ("safe_install", "node", "delivered")
    ]
    done = run_process(
        [str(machines.controller / "ansible-doc"), "--json", *names], machines.variables
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(names)
    options = found[names[0]]["doc"]["options"]
    assert set(options) >= {"name", "state", "python", "program", "bundle", "verb"}


def test_the_wheel_has_the_collection(zipapp: Path) -> None:
    """A zipapp is the wheel, unpacked."""
    with zipfile.ZipFile(zipapp) as archive:
        names = set(archive.namelist())
    for name in ansible.COLLECTION_FILES:
        assert f"safe_install/fleet/{ansible.COLLECTION}/{name}" in names


@pytest.mark.long
def test_the_role_over_ssh(
    machines: Machines, fill: Callable[..., None], zipapp: Path, start_sshd: Callable[[str], Sshd]
) -> None:
    """Whoever cannot be reached has not staged it."""
    fill("a", **start_sshd("a").host)
    gone = start_sshd("b")
    fill("b", **gone.host)
    gone.stop()
    asked = {
        "safe_install_name": ["alpha==1"],
        "safe_install_program": str(zipapp),
        "safe_install_verify": False,
    }
    refused = machines.play(ROLE, **asked)
    assert refused.status == 2, refused.text
    assert "Not staged on b: it cannot be reached" in refused.text
    assert machines.is_as_before()
