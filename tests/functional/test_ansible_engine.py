"""The engine of Ansible, as `safe-install fleet` calls it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import pytest

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import Call, Engine, EngineOptions, File, Reply
from safe_install.fleet.engines import ansible
from tests.functional.ansible_machines import Machines, Sshd
from tests.functional.ansible_machines import controller as controller
from tests.functional.ansible_machines import fill as fill
from tests.functional.ansible_machines import machines as machines
from tests.functional.ansible_machines import projects as projects
from tests.functional.ansible_machines import start_sshd as start_sshd
from tests.functional.conftest import run_process


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
    zipapp: Path,
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

    file = file_of(zipapp)
    arrived = {one.node: one for one in engine.deliver(file, names)}
    assert arrived["gone"].path == ""
    assert "onnect" in arrived["gone"].problem
    there = arrived["a"].path
    assert Path(there).read_bytes() == zipapp.read_bytes()
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
    assert not is_running(str(sleeping))
    engine.close()
    assert not mark.exists(), mark.read_text()
    assert not list(trap.rglob("__pycache__"))


def is_running(program: str) -> bool:
    """Does a process of this machine run it?"""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if program.encode() in path.read_bytes():
                return True
    return False


@pytest.mark.long
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


@pytest.mark.long
def test_over_ssh(
    machines: Machines,
    fill: Callable[..., None],
    zipapp: Path,
    opened: Callable[..., Engine],
    start_sshd: Callable[[str], Sshd],
) -> None:
    """Two machines; one of them goes between stage and commit."""
    stays, goes = start_sshd("a"), start_sshd("b")
    fill("a", **stays.host)
    fill("b", **goes.host)
    engine = opened()
    nodes = [node.name for node in engine.nodes()]
    arrived = engine.deliver(file_of(zipapp), nodes)
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


@pytest.mark.long
@pytest.mark.slow
def test_fleet(machines: Machines, fill: Callable[..., None], zipapp: Path) -> None:
    """The whole of it by the zipapp, which sends itself; and back by an installed safe-install,
    which finds the same hosts again."""
    fill("a", "b")
    machines.hosts["gone"] = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    machines.write()

    def fleet(program: Sequence[str], *words: str) -> str:
        command = [sys.executable, *program, "fleet", *words]
        done = run_process(command, machines.variables, cwd=machines.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = fleet(
        ["-I", str(zipapp)], "install", "alpha==2", "--inventory", "hosts.yml", "--limit", "a,b"
    )
    assert "Installed on 2 nodes" in said
    assert f"{zipapp} fleet undo" in said
    assert [machines.version_of_alpha(name) for name in "ab"] == ["2", "2"]
    delivered = machines.folder / "home/.cache/torch-safe-install/delivered"
    (program,) = delivered.glob("*.pyz")
    assert program.read_bytes() == zipapp.read_bytes()
    fleet(["-m", "safe_install"], "undo")
    assert machines.is_as_before()

    words = ["install", "alpha==2", "--inventory", "hosts.yml", "--limit", "a,b", "--json"]
    inside = machines.environments["a"].prefix / ".safe-install"
    old = set(inside.glob("staged-*"))
    running = subprocess.Popen(
        [sys.executable, "-m", "safe_install", "fleet", *words],
        env=machines.variables,
        cwd=machines.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    while set(inside.glob("staged-*")) <= old:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    document = json.loads(running.communicate(timeout=300)[0])
    assert (document["exit_code"], document["outcome"]) == (130, "rolled-back"), document
    assert machines.is_as_before()
    assert {machines.states(name)[0] for name in "ab"} <= {"abandoned", "undone"}
