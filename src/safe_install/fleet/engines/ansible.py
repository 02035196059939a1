"""Nodes as Ansible reaches them: the hosts of an inventory, by `ansible-playbook` and the collection
that lies in this package.

Each call is one playbook of one task, written into a private folder. What a node is asked stands in
a file beside it, which is data and no template; what it answered comes back through a file, line by
line. Nothing is read from the working folder: neither ansible.cfg nor library/.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import pkgutil
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sequence

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import (
    MOST_ANSWER,
    Call,
    Delivery,
    EngineOptions,
    File,
    Heard,
    Node,
    Reply,
    Settled,
)
from safe_install.folders import expand_home
from safe_install.system import process

COLLECTION = "ansible_collections/torch_safe_install/safe_install"
COLLECTION_FILES = (
    "galaxy.yml",
    "meta/runtime.yml",
    "plugins/action/node.py",
    "plugins/action/safe_install.py",
    "plugins/callback/replies.py",
    "plugins/filter/machines.py",
    "plugins/module_utils/answers.py",
    "plugins/module_utils/delivered.py",
    "plugins/module_utils/program.py",
    "plugins/modules/delivered.py",
    "plugins/modules/node.py",
    "plugins/modules/safe_install.py",
    "plugins/plugin_utils/delivery.py",
    "roles/install/defaults/main.yml",
    "roles/install/meta/argument_specs.yml",
    "roles/install/meta/main.yml",
    "roles/install/tasks/commit.yml",
    "roles/install/tasks/main.yml",
    "roles/install/tasks/stage.yml",
)
CALLBACK = "torch_safe_install.safe_install.replies"
PROGRAM = "ansible-playbook"
INSTALL = "Install it beside safe-install: pip install 'torch-safe-install[ansible]'"
PYTHON = "safe_install_python"  # the variable of a host that names the interpreter
MOST_FORKS = 64
# Where Ansible looks by itself, less the working folder.
CONFIGURATIONS = ("~/.ansible.cfg", "/etc/ansible/ansible.cfg")
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"
SPARE = 60.0  # seconds that the way there and back may take, beyond the time of a call
MOST_SAID = 4000  # characters
MOST_LINE = 2 * MOST_ANSWER  # an answer in base64, and what stands around it
Row = Mapping[str, Any]


def open_engine(target: str, options: EngineOptions) -> AnsibleEngine:
    """The hosts of an inventory. `target`: its file or folder. Errors: EngineFailed."""
    inventory = expand_home(target).absolute()
    if not inventory.exists():
        raise EngineFailed(
            f"the inventory {target} does not exist",
            hint="Name the file or the folder that ansible-playbook takes as -i.",
        )
    return AnsibleEngine(find_program(options.environ), inventory, options)


def find_program(environ: Mapping[str, str]) -> str:
    """`ansible-playbook` beside the Python that runs us, else on PATH. Errors: EngineFailed."""
    beside = Path(sys.executable).with_name(PROGRAM)
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which(PROGRAM, path=environ.get("PATH", os.defpath))
    if found is None or not Path(found).is_absolute():
        raise EngineFailed(f"{PROGRAM} is not installed", hint=INSTALL)
    return found


@dataclass(frozen=True)
class Finished:
    """One run of ansible-playbook."""

    status: int
    rows: Mapping[str, Row]  # node -> the last that it answered
    said: str  # the end of its standard error


class AnsibleEngine:
    """Hosts of an inventory; see `Engine` for the methods."""

    name = "ansible"

    def __init__(self, program: str, inventory: Path, options: EngineOptions) -> None:
        self._program, self._inventory, self._options = program, inventory, options
        self._pythons: Dict[str, str] = {}  # node -> its interpreter
        self._folder = Path(tempfile.mkdtemp(prefix="safe-install-ansible-"))
        try:
            write_collection(self._folder)
        except BaseException:
            self.close()
            raise

    def nodes(self) -> Sequence[Node]:
        """The hosts that the inventory and `limit` name. Errors: EngineFailed, where one has no
        interpreter named."""
        finished = self._run({}, describes=True)
        if not finished.rows:
            raise EngineFailed(_why_nothing(finished, self._inventory))
        refuse_odd_names(finished.rows)
        failed = [name for name, row in finished.rows.items() if row["kind"] != "ok"]
        if failed:
            first = finished.rows[failed[0]]
            raise EngineFailed(f"Ansible cannot name {failed[0]}: {_said(first)}")
        named = self._options.python
        found = {name: _python_of(row) or named for name, row in finished.rows.items()}
        unnamed = [name for name, python in found.items() if not python.startswith("/")]
        if unnamed:
            raise EngineFailed(
                f"no interpreter is named for {', '.join(sorted(unnamed))}",
                hint=f"Set {PYTHON} in the inventory, to the path of the environment's python on the "
                "host; or --python for all that have none.",
            )
        self._pythons = found
        return [Node(name, found[name]) for name in sorted(found)]

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """A file to nodes, into a folder that only its owner can write."""
        wanted = {"path": str(file.path.absolute()), "sha256": file.sha256}
        finished = self._run({name: {"deliver": wanted} for name in nodes})
        return [delivery_of(name, finished) for name in nodes]

    def call(
        self, calls: Sequence[Call], heard: Heard, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """All calls at the same time."""
        if not self._pythons:
            self.nodes()
        tasks = {call.node: self._task_of(call, timeout) for call in calls}

        def hear(name: str, row: Row) -> None:
            heard(reply_of(name, row))

        finished = self._run(tasks, timeout=timeout, hear=hear)
        replies = []
        for call in calls:
            row = finished.rows.get(call.node)
            if row is None:
                reply = Reply(call.node, problem=_why_silent(finished))
                heard(reply)
            else:
                reply = reply_of(call.node, row)
            replies.append(reply)
        return replies

    def _task_of(self, call: Call, timeout: Optional[float]) -> Row:
        wanted = {
            "python": self._pythons.get(call.node, ""),
            "program": call.program,
            "words": list(call.words),
            "timeout": timeout or 0,
        }
        return {"call": wanted}

    def settle(self, changed: Sequence[str]) -> Settled:
        """Nothing: hosts run no workers of Ansible."""
        return Settled()

    def close(self) -> None:
        """Remove the private folder."""
        shutil.rmtree(str(self._folder), ignore_errors=True)

    def _run(
        self,
        tasks: Mapping[str, Row],
        *,
        describes: bool = False,
        timeout: Optional[float] = None,
        hear: Optional[Callable[[str, Row], None]] = None,
    ) -> Finished:
        """Run one playbook to its end; `hear` each answer when it comes."""
        run = Path(tempfile.mkdtemp(dir=str(self._folder), prefix="run-"))
        seconds = None if timeout is None else timeout + SPARE
        _write_json(run / "play.json", [make_play(describes=describes, timeout=seconds)])
        _write_json(run / "tasks.json", tasks)
        command = [self._program, "--inventory", str(self._inventory)]
        if "ANSIBLE_FORKS" not in self._options.environ:
            command += ["--forks", str(count_forks(tasks))]
        if self._options.limit:
            command += ["--limit", self._options.limit]
        answers = _Answers(run / "replies", hear)
        try:
            completed = process.run(
                [*command, str(run / "play.json")],
                env=self._variables(run),
                on_tick=answers.read,
            )
            answers.read()
        finally:
            shutil.rmtree(str(run), ignore_errors=True)
        return Finished(completed.returncode, answers.rows, completed.stderr.strip()[-MOST_SAID:])

    def _variables(self, run: Path) -> Mapping[str, str]:
        """What a person set stays, but for what would take our answers away."""
        variables = dict(self._options.environ)
        others = variables.get("ANSIBLE_COLLECTIONS_PATH", COLLECTIONS)
        variables.update(
            ANSIBLE_CONFIG=self._configuration(),
            ANSIBLE_COLLECTIONS_PATH=f"{self._folder}:{others}",
            ANSIBLE_STDOUT_CALLBACK=CALLBACK,
            ANSIBLE_CALLBACKS_ENABLED=CALLBACK,  # and no other
            ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true",
            ANSIBLE_NO_TARGET_SYSLOG="true",
            ANSIBLE_RETRY_FILES_ENABLED="false",
            ANSIBLE_FORCE_COLOR="false",
            SAFE_INSTALL_ANSIBLE_FOLDER=str(run),
        )
        return variables

    def _configuration(self) -> str:
        """The ansible.cfg that counts: one that is named, else the person's, else the machine's,
        else none. Never that of the working folder. Errors: EngineFailed."""
        named = self._options.environ.get("ANSIBLE_CONFIG")
        if named:
            path = expand_home(named).absolute()
            if not os.access(path, os.R_OK) or not path.is_file():
                # Ansible would take that of the working folder in its place.
                raise EngineFailed(f"ANSIBLE_CONFIG names {named}, which cannot be read")
            return str(path)
        for standard in CONFIGURATIONS:
            path = expand_home(standard)
            if os.access(path, os.R_OK):
                return str(path)
        empty = self._folder / "ansible.cfg"
        empty.touch()
        return str(empty)


class _Answers:
    """The lines of a file that grows."""

    def __init__(self, path: Path, hear: Optional[Callable[[str, Row], None]]) -> None:
        self.rows: Dict[str, Row] = {}
        self._path, self._hear = path, hear
        self._read = 0  # bytes

    def read(self) -> None:
        """What came since."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._read)
                fresh = stream.read()
        except FileNotFoundError:
            return
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            row = json.loads(line) if len(line) <= MOST_LINE else {}
            name = row.get("node")
            if name and name not in self.rows:
                self.rows[name] = row
                if self._hear is not None:
                    self._hear(name, row)


# --- what is asked --------------------------------------------------------------------------------


def write_collection(folder: Path) -> None:
    """The collection, out of this package, which may be an archive. Errors: OSError."""
    for name in COLLECTION_FILES:
        content = pkgutil.get_data("safe_install.fleet", f"{COLLECTION}/{name}")
        path = folder / COLLECTION / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or b"")


def make_play(*, describes: bool, timeout: Optional[float]) -> Dict[str, Any]:
    """One play of one task. Its one template is ours."""
    arguments = {"python": f"{{{{ {PYTHON} | default('') }}}}"} if describes else {}
    task: Dict[str, Any] = {
        "torch_safe_install.safe_install.node": arguments,
        "name": "safe-install",
    }
    if timeout is not None:
        task["timeout"] = int(timeout) + 1
    return {
        "name": "safe-install",
        "hosts": "all",
        "gather_facts": False,
        "strategy": "ansible.builtin.linear",
        "any_errors_fatal": False,
        "check_mode": False,
        "tags": ["always"],
        "tasks": [task],
    }


def count_forks(tasks: Mapping[str, Row]) -> int:
    """All nodes at the same time, as far as the memory of the controller allows."""
    return max(1, min(len(tasks), MOST_FORKS))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


# --- what is answered, which nobody trusts ----------------------------------------------------------


def reply_of(name: str, row: Row) -> Reply:
    """The reply of a node, from its row."""
    if row["kind"] != "ok":
        return Reply(name, problem=_said(row))
    answer = row.get("answer")
    if not isinstance(answer, dict):
        return Reply(name, problem="it answered something else")
    status, said = answer.get("status"), plain(str(answer.get("said") or ""))
    try:
        output = base64.b64decode(str(answer.get("output") or ""), validate=True)
    except (ValueError, binascii.Error):
        return Reply(name, problem="its answer is damaged")
    if len(output) > MOST_ANSWER:
        return Reply(name, problem="its answer is too long")
    is_status = isinstance(status, int) and not isinstance(status, bool) and 0 <= status <= 255
    if not is_status:
        return Reply(name, output=output, problem=said or "it does not know how the program ended")
    return Reply(name, status, output, said)


def delivery_of(name: str, finished: Finished) -> Delivery:
    """Where a file lies on a node, or why it does not."""
    row = finished.rows.get(name)
    if row is None:
        return Delivery(name, problem=_why_silent(finished))
    answer = row.get("answer")
    path = answer.get("path") if isinstance(answer, dict) else None
    if row["kind"] != "ok" or not isinstance(path, str) or not path.startswith("/"):
        return Delivery(name, problem=_said(row))
    return Delivery(name, path)


def refuse_odd_names(names: Iterable[str]) -> None:
    """Errors: EngineFailed for a host whose name a terminal does not show as it is."""
    for name in names:
        if not name.isprintable():
            raise EngineFailed(f"the inventory has a host with the name {name!r}")


def plain(text: str) -> str:
    """What a machine says, without the characters that a terminal obeys."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _python_of(row: Row) -> str:
    answer = row.get("answer")
    python = str(answer.get("python") or "") if isinstance(answer, dict) else ""
    return python if python.isprintable() else ""


def _said(row: Row) -> str:
    said = plain(str(row.get("said") or ""))[:MOST_SAID]
    return said or "it did not say why"


def _why_silent(finished: Finished) -> str:
    said = plain(finished.said)
    return (
        f"Ansible ended with {finished.status} and without its answer{': ' if said else ''}{said}"
    )


def _why_nothing(finished: Finished, inventory: Path) -> str:
    said = plain(finished.said) or "no host matches"
    return f"Ansible finds no host in {inventory}: {said}"
