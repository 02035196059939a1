"""Ansible, real: plays and the engine over environments of this machine; at the end over a real
sshd.

torch is the stand-in (tests/lab). Each host has its own environment, and a wrapper as Ansible's
interpreter that gives it variables of its own: its driver, for one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import pytest

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import Call, Engine, EngineOptions, File, Reply
from safe_install.fleet.engines import ansible
from tests.functional.conftest import (
    Environment,
    clean_variables,
    find_python,
    make_once,
    run_process,
    serving,
)
from tests.lab.wheels import write_wheel
from tests.treehash import hash_tree

COLLECTIONS = Path(ansible.__file__).parents[1]
COLLECTION = COLLECTIONS / ansible.COLLECTION
TORCH = "torch==1.8.1+cu111"
PYTHONS = ("3.11", "3.12", "3.13", "3.10")  # of the controller
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)
ROLE = """\
- hosts: all
  gather_facts: false
  roles:
    - torch_safe_install.safe_install.install
"""


@pytest.fixture(scope="module")
def controller(shared: Path) -> Path:
    """The folder of ansible-playbook, in a virtual environment of its own."""
    pythons = [found for found in map(find_python, PYTHONS) if found]
    if not pythons:
        pytest.skip("ansible-core needs Python 3.10 or newer")
    uv = Path(sys.executable).with_name("uv")

    def make(folder: Path) -> None:
        for words in (
            ["venv", "--quiet", "--python", pythons[0], str(folder)],
            ["pip", "install", "--quiet", "--python", str(folder / "bin/python"), "ansible-core"],
        ):
            done = subprocess.run([str(uv), *words], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    return make_once(shared / "ansible", make) / "bin"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels: alpha in two versions."""
    folder = tmp_path_factory.mktemp("projects")
    for version in ("1", "2"):
        write_wheel(folder, "alpha", version, {"alpha.py": f"version = {version}\n"})
    return folder


@pytest.fixture(scope="module")
def program(shared: Path, zipapp: Path) -> Path:
    """The zipapp, compiled: it is started for each step on each host."""
    interpreter = str(find_python(serving("3.11")))

    def make(folder: Path) -> None:
        app = folder / "app"
        with zipfile.ZipFile(zipapp) as archive:
            archive.extractall(app)
        options = ["-q", "-b", "--invalidation-mode", "unchecked-hash"]
        for words in (
            ["compileall", *options, "."],
            ["zipfile", "-c", str(folder / "safe-install.pyz"), "."],
        ):
            subprocess.run([interpreter, "-m", *words], check=True, cwd=app)
        shutil.rmtree(app)

    return make_once(shared / "compiled", make) / "safe-install.pyz"


class Machines:
    """The hosts of an inventory, and the controller beside them."""

    def __init__(self, folder: Path, controller: Path, variables: Mapping[str, str]) -> None:
        self.folder, self.controller = folder, controller
        self.variables = {
            **variables,
            "HOME": str(folder / "home"),
            "PATH": f"{controller}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
        }
        self.environments: Dict[str, Environment] = {}
        self.hosts: Dict[str, Dict[str, Any]] = {}
        self.before: Dict[str, str] = {}
        (folder / "home").mkdir(exist_ok=True)

    @property
    def inventory(self) -> Path:
        return self.folder / "hosts.yml"

    def add(self, name: str, environment: Environment, **variables: Any) -> None:
        """A host that is this machine, with the driver that `environment` was made with."""
        self.environments[name] = environment
        self.before[name] = hash_tree(environment.prefix)
        self.hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.wrap(name, environment.variables)),
            "safe_install_python": str(environment.executable),
            **variables,
        }
        self.write()

    def wrap(self, name: str, variables: Mapping[str, str]) -> Path:
        """A Python for Ansible's modules, in variables of its own."""
        path = self.folder / f"python-of-{name}"
        ours = {**variables, "HOME": str(self.folder / "home")}
        names = [one for one in ours if ours[one] != os.environ.get(one)]
        lines = [f"export {one}={shlex.quote(ours[one])}" for one in names]
        path.write_text(
            "\n".join(["#!/bin/sh", *lines, f'exec {shlex.quote(sys.executable)} "$@"\n'])
        )
        path.chmod(0o755)
        return path

    def write(self) -> None:
        self.inventory.write_text(json.dumps({"all": {"hosts": self.hosts}}))  # JSON is YAML

    def start(self, play: str, *options: str, **role: Any) -> subprocess.Popen[str]:
        """ansible-playbook with these variables of the role."""
        number = len(list(self.folder.glob("play-*.yml")))
        path = self.folder / f"play-{number}.yml"
        path.write_text(play)
        return subprocess.Popen(
            [
                str(self.controller / "ansible-playbook"),
                *("-i", str(self.inventory)),
                *("-f", "5"),
                *("-e", json.dumps(role)),
                *options,
                str(path),
            ],
            env=self.variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def play(self, play: str, *options: str, **role: Any) -> Played:
        """The same, to its end."""
        process = self.start(play, *options, **role)
        text, _ = process.communicate(timeout=300)
        return Played(process.returncode, text)

    def is_as_before(self, *names: str) -> bool:
        """Are the environments of these hosts, or of all, as they were?"""
        return all(
            hash_tree(self.environments[name].prefix) == self.before[name]
            for name in names or self.environments
        )

    def version_of_alpha(self, name: str) -> str:
        """As a fresh process of a host imports it."""
        return self.environments[name].ask("import alpha; print(alpha.version)")

    def states(self, name: str) -> List[str]:
        """What became of the changes of a host, the newest first."""
        rows = self.environments[name].document("status")["details"]["changes"]
        return [row["state"] for row in rows]


class Played:
    """How a play ended."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        self.changed: Dict[str, int] = {}
        self.failed: Dict[str, int] = {}
        for name, changed, _, failed in RECAP.findall(text):
            self.changed[name], self.failed[name] = int(changed), int(failed)


@pytest.fixture
def machines(
    tmp_path: Path, controller: Path, projects: Path, driver: Dict[str, str], lab_wheels: Any
) -> Machines:
    index = lab_wheels("3.11").index
    variables = clean_variables(driver, index, tmp_path / "home")
    variables["PIP_FIND_LINKS"] = f"{index} {projects}"
    return Machines(tmp_path, controller, variables)


@pytest.fixture
def fill(
    machines: Machines, make_environment: Callable[..., Environment], projects: Path
) -> Callable[..., None]:
    """Add hosts with the stand-in torch 1.8.1."""

    def add(*names: str, torch: str = TORCH, driver: str = "11.1", **host: Any) -> None:
        for name in names:
            made = make_environment("3.11", torch, name=name, FAKE_DRIVER_CUDA=driver)
            made.variables["PIP_FIND_LINKS"] += f" {projects}"
            machines.add(name, made, **host)

    return add


# --- the role: all, or none -----------------------------------------------------------------------


def test_a_plan_then_all_then_nothing_to_do(
    machines: Machines, fill: Callable[..., None], program: Path
) -> None:
    names = ["a", "b", "c", "d", "e"]
    fill("a", "b", "c", "d")
    machines.add("e", machines.environments["d"])  # one environment, on two hosts
    asked = {
        "safe_install_name": ["alpha==2"],
        "safe_install_program": str(program),
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
    machines: Machines, fill: Callable[..., None], program: Path, lab_wheels: Any
) -> None:
    """The wheel is linked against the torch of all but one; and others answer as they like: nothing
    of that is run here."""
    mark = machines.folder / "mark"
    fill("good", safe_install_program=str(program))
    fill("other", torch="torch==2.4.1", driver="12.1", safe_install_program=str(program))
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


def test_a_check_fails_after_the_change(
    machines: Machines, fill: Callable[..., None], program: Path
) -> None:
    """c's driver is too old for the torch that works on the others."""
    fill("a", "b", driver="12.1")
    fill("c")
    done = machines.play(
        ROLE,
        safe_install_name=["torch==2.4.1"],
        safe_install_program=str(program),
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


@pytest.mark.parametrize(("verb", "stays_dead"), [("commit", True), ("verify", False)])
def test_a_machine_dies(
    machines: Machines, fill: Callable[..., None], program: Path, verb: str, stays_dead: bool
) -> None:
    """Between stage and commit, for good; between commit and verify, and it answers again."""
    fill("a", safe_install_program=str(program))
    dying = make_dying(program, machines.folder / "dying.pyz", verb, stays_dead=stays_dead)
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


def test_two_plays_at_once(machines: Machines, fill: Callable[..., None], program: Path) -> None:
    fill("a", "b")
    asked = {"safe_install_program": str(program), "safe_install_verify": False}
    running = [
        machines.start(ROLE, safe_install_name=[f"alpha=={version}"], **asked) for version in (1, 2)
    ]
    texts = [process.communicate(timeout=300)[0] for process in running]
    statuses = [process.returncode for process in running]
    found = {machines.environments[name].ask("import alpha; print(alpha.version)") for name in "ab"}
    assert len(found) == 1, (found, texts)  # the same on both
    if 0 in statuses:
        assert found <= {"1", "2"}, (statuses, texts)
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


def test_the_module_alone(machines: Machines, fill: Callable[..., None], program: Path) -> None:
    fill("a")
    done = machines.play(TASKS, "-vvv", program=str(program))
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


# --- the engine -----------------------------------------------------------------------------------


@pytest.fixture
def opened(machines: Machines) -> Iterator[Callable[..., Engine]]:
    """Opens the engine as a command does."""
    engines: List[Engine] = []
    kept = {name: machines.variables[name] for name in machines.variables if "ANSIBLE" not in name}

    def start(*, limit: str = "", python: str = "", **variables: str) -> Engine:
        options = EngineOptions(python, {**kept, **variables}, limit)
        engines.append(ansible.open_engine(str(machines.inventory), options))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def ask(
    engine: Engine, program: str, *words: str, nodes: Sequence[str], timeout: Optional[float] = 120
) -> Dict[str, Reply]:
    """One verb for several nodes; each reply is heard."""
    heard: List[Reply] = []
    calls = [Call(name, program, words) for name in nodes]
    replies = engine.call(calls, heard.append, timeout=timeout)
    assert [reply.node for reply in replies] == list(nodes)
    assert sorted(heard, key=str) == sorted(replies, key=str)
    return {reply.node: reply for reply in replies}


def file_of(path: Path) -> File:
    import hashlib

    return File(path, hashlib.sha256(path.read_bytes()).hexdigest())


def set_trap(folder: Path) -> Path:
    """A working folder in which everything that Ansible might read leaves a mark; the mark."""
    mark = folder / "mark"
    (folder / "ansible.cfg").write_text(
        "[defaults]\nlibrary = library\naction_plugins = library\nstdout_callback = minimal\n"
        "inventory = evil\ncollections_path = collections\nhost_key_checking = false\n"
    )
    code = f"open({str(mark)!r}, 'a').write(__file__)\n"
    for name in (
        *("library/node.py", "library/safe_install.py", "library/delivered.py"),
        *("action_plugins/node.py", "callback_plugins/replies.py", "filter_plugins/machines.py"),
        *("module_utils/basic.py", "json.py", "ansible.py", "sitecustomize.py"),
        f"collections/{ansible.COLLECTION}/plugins/action/node.py",
        f"collections/{ansible.COLLECTION}/plugins/modules/node.py",
        f"{ansible.COLLECTION}/plugins/action/node.py",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return mark


def test_the_engine(
    machines: Machines,
    fill: Callable[..., None],
    program: Path,
    opened: Callable[..., Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a working folder that is full of traps."""
    fill("a", "b")
    machines.hosts["gone"] = {
        "ansible_host": "127.0.0.1",
        "ansible_port": 9,
        "safe_install_python": "/x/bin/python",
    }
    machines.write()
    trap = machines.folder / "trap"
    trap.mkdir()
    mark = set_trap(trap)
    monkeypatch.chdir(trap)
    engine = opened()
    names = [node.name for node in engine.nodes()]
    assert names == ["a", "b", "gone"]
    assert engine.nodes()[0].python == str(machines.environments["a"].executable)

    file = file_of(program)
    arrived = {one.node: one for one in engine.deliver(file, names)}
    assert arrived["gone"].path == ""
    assert "onnect" in arrived["gone"].problem
    there = arrived["a"].path
    assert Path(there).read_bytes() == program.read_bytes()
    again = {one.node: one for one in engine.deliver(file, ["a"])}
    assert again["a"].path == there

    staged = ask(engine, there, "stage", "alpha==1", nodes=names)
    assert staged["gone"].status is None
    documents = {name: json.loads(staged[name].output) for name in ("a", "b")}
    assert [documents[name]["outcome"] for name in "ab"] == ["staged", "staged"]
    assert machines.is_as_before()
    identifier = documents["a"]["transaction"]
    committed = ask(engine, there, "commit", identifier, nodes=["a", "b"])
    assert [committed[name].status for name in "ab"] == [0, 11]
    assert machines.is_as_before("b")
    assert not machines.is_as_before("a")
    # words are words, whatever they look like
    odd = ask(engine, there, "status", "{{ lookup('pipe', 'touch mark') }}", nodes=["a"])
    assert odd["a"].status == 2
    assert "lookup" in odd["a"].output.decode()
    # what takes longer than it may is ended
    sleeping = machines.folder / "sleeping.pyz"
    with zipfile.ZipFile(sleeping, "w") as archive:
        archive.writestr("__main__.py", "import time\nprint('{}', flush=True)\ntime.sleep(600)\n")
    slow = ask(engine, str(sleeping), "verify", nodes=["a"], timeout=1)["a"]
    assert slow.status is None
    assert "longer than 1 seconds" in slow.problem
    assert not run_process(["pgrep", "-f", str(sleeping)], os.environ).stdout
    engine.close()
    assert not mark.exists(), mark.read_text()
    assert not list(trap.rglob("__pycache__"))


def test_what_the_engine_refuses(
    machines: Machines, fill: Callable[..., None], opened: Callable[..., Engine]
) -> None:
    fill("a", "b")
    machines.hosts["b"].pop("safe_install_python")
    machines.write()
    with pytest.raises(EngineFailed) as refused:
        opened().nodes()
    assert refused.value.message == "no interpreter is named for b"
    assert [node.name for node in opened(limit="a").nodes()] == ["a"]
    assert opened(python="/env/bin/python").nodes()[1].python == "/env/bin/python"
    machines.inventory.write_text("all: [nonsense\n")
    with pytest.raises(EngineFailed) as refused:
        opened().nodes()
    assert "finds no host" in refused.value.message
    with pytest.raises(EngineFailed) as refused:
        opened(ANSIBLE_CONFIG="missing.cfg").nodes()
    assert "missing.cfg" in refused.value.message


# --- over a real sshd -----------------------------------------------------------------------------


class Sshd:
    """sshd on a loopback port, with a key of its own."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        for name in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {
            "ListenAddress": "127.0.0.1",
            "Port": self.port,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "user.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "PasswordAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        (folder / "config").write_text("".join(lines))
        key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("sshd does not answer")

    @property
    def host(self) -> Dict[str, Any]:
        """The variables of the inventory."""
        words = f"-F none -o UserKnownHostsFile={self.folder / 'known'} -o ControlMaster=no"
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_ssh_private_key_file": str(self.folder / "user"),
            "ansible_ssh_args": words,
            "ansible_remote_tmp": str(self.folder / "remote"),
        }

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[Callable[[str], Sshd]]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here (apt-get install openssh-server)")
    started: List[Sshd] = []

    def start(name: str) -> Sshd:
        folder = tmp_path / f"sshd-{name}"
        folder.mkdir(mode=0o700)
        started.append(Sshd(folder, str(program)))
        return started[-1]

    yield start
    for sshd in started:
        if sshd.process.poll() is None:
            sshd.stop()


def test_over_ssh(
    machines: Machines,
    fill: Callable[..., None],
    program: Path,
    opened: Callable[..., Engine],
    start_sshd: Callable[[str], Sshd],
) -> None:
    """Two machines; one of them goes between stage and commit."""
    stays, goes = start_sshd("a"), start_sshd("b")
    fill("a", **stays.host)
    fill("b", **goes.host)
    engine = opened()
    nodes = [node.name for node in engine.nodes()]
    arrived = engine.deliver(file_of(program), nodes)
    assert [one.problem for one in arrived] == ["", ""]
    there = arrived[0].path
    staged = ask(engine, there, "stage", "alpha==1", nodes=nodes)
    assert [reply.status for reply in staged.values()] == [0, 0]
    identifiers = {name: json.loads(reply.output)["transaction"] for name, reply in staged.items()}
    goes.stop()
    for name, status in (("a", 0), ("b", None)):
        reply = ask(engine, there, "commit", identifiers[name], nodes=[name])[name]
        assert reply.status == status, reply
    assert machines.is_as_before("b")
    undone = ask(engine, there, "undo", identifiers["a"], nodes=["a"])["a"]
    assert json.loads(undone.output)["outcome"] == "undone"
    assert machines.is_as_before()


def test_the_role_over_ssh(
    machines: Machines, fill: Callable[..., None], program: Path, start_sshd: Callable[[str], Sshd]
) -> None:
    """Whoever cannot be reached has not staged it."""
    fill("a", **start_sshd("a").host)
    gone = start_sshd("b")
    fill("b", **gone.host)
    gone.stop()
    asked = {
        "safe_install_name": ["alpha==1"],
        "safe_install_program": str(program),
        "safe_install_verify": False,
    }
    refused = machines.play(ROLE, **asked)
    assert refused.status == 2, refused.text
    assert "Not staged on b: it cannot be reached" in refused.text
    assert machines.is_as_before()
