"""The engine for Ansible: nodes are the hosts of an inventory, reached by `ansible-playbook` with
the collection of this package.

Each call is one playbook with one task, in a private folder. The tasks of the nodes are in a JSON
file beside it, which Ansible does not treat as a template. Answers come back through another file,
line by line. Nothing is read from the working folder: neither ansible.cfg nor library/.
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
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import (
    MAX_ANSWER,
    Call,
    Delivery,
    EngineOptions,
    File,
    Node,
    OnReply,
    Reply,
    SettleResult,
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
MAX_FORKS = 64
# Ansible's default places for ansible.cfg, without the working folder.
CONFIGURATIONS = ("~/.ansible.cfg", "/etc/ansible/ansible.cfg")
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"
SPARE = 60.0  # seconds for connecting and copying, beyond the time of a call
MAX_MESSAGE = 4000  # characters
MAX_LINE = 2 * MAX_ANSWER  # an answer in base64, and the JSON around it
Row = Mapping[str, object]  # an answer, or a task


def open_engine(target: str, options: EngineOptions) -> AnsibleEngine:
    """Open an inventory. `target`: its file or folder. Errors: EngineFailed."""
    inventory = expand_home(target).absolute()
    if not inventory.exists():
        raise EngineFailed(
            f"the inventory {target} does not exist",
            hint="Name the file or the folder that ansible-playbook takes as -i.",
        )
    return AnsibleEngine(find_program(options.environ), inventory, options)


def find_program(environ: Mapping[str, str]) -> str:
    """`ansible-playbook` beside the running Python, else on PATH. Errors: EngineFailed."""
    beside = Path(sys.executable).with_name(PROGRAM)
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which(PROGRAM, path=environ.get("PATH", os.defpath))
    if found is None or not Path(found).is_absolute():
        raise EngineFailed(f"{PROGRAM} is not installed", hint=INSTALL)
    return found


@dataclass(frozen=True)
class Finished:
    """The result of one run of ansible-playbook."""

    status: int  # exit status
    rows: Mapping[str, Row]  # node -> its first answer
    stderr: str  # the end of its standard error


class AnsibleEngine:
    """The hosts of an inventory; see `Engine` for the methods."""

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
        """The hosts that the inventory and `limit` name. Errors: EngineFailed if no interpreter
        is named for one of them."""
        finished = self._run({}, asks_python=True)
        if not finished.rows:
            raise EngineFailed(_why_no_host(finished, self._inventory))
        refuse_odd_names(finished.rows)
        self._pythons = find_pythons(finished.rows, self._options.python)
        return [Node(name, self._pythons[name]) for name in sorted(self._pythons)]

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """See Engine.deliver."""
        wanted = {"path": str(file.path.absolute()), "sha256": file.sha256}
        finished = self._run({name: {"deliver": wanted} for name in nodes})
        return [delivery_of(name, finished) for name in nodes]

    def call(
        self, calls: Sequence[Call], on_reply: OnReply, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """See Engine.call."""
        if not self._pythons:
            self.nodes()
        tasks = {call.node: self._task_of(call, timeout) for call in calls}

        def on_row(name: str, row: Row) -> None:
            on_reply(reply_of(name, row))

        finished = self._run(tasks, timeout=timeout, on_row=on_row)
        replies = []
        for call in calls:
            row = finished.rows.get(call.node)
            if row is None:
                reply = Reply(call.node, problem=_why_silent(finished))
                on_reply(reply)
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

    def settle(self, changed: Sequence[str]) -> SettleResult:
        """There is nothing to do: Ansible has no workers on the hosts."""
        return SettleResult()

    def close(self) -> None:
        """Remove the private folder."""
        shutil.rmtree(str(self._folder), ignore_errors=True)

    def _run(
        self,
        tasks: Mapping[str, Row],
        *,
        asks_python: bool = False,
        timeout: Optional[float] = None,
        on_row: Optional[Callable[[str, Row], None]] = None,
    ) -> Finished:
        """Run one playbook to its end. `on_row`: called with each answer when it comes."""
        run = Path(tempfile.mkdtemp(dir=str(self._folder), prefix="run-"))
        seconds = None if timeout is None else timeout + SPARE
        _write_json(run / "play.json", [make_play(asks_python=asks_python, timeout=seconds)])
        _write_json(run / "tasks.json", tasks)
        answers = _AnswerFile(run / "replies", on_row)
        try:
            completed = process.run(
                [*self._command(tasks), str(run / "play.json")],
                env=self._variables(run),
                on_tick=answers.read,
            )
            answers.read()
        finally:
            shutil.rmtree(str(run), ignore_errors=True)
        return Finished(completed.returncode, answers.rows, completed.stderr.strip()[-MAX_MESSAGE:])

    def _command(self, tasks: Mapping[str, Row]) -> List[str]:
        command = [self._program, "--inventory", str(self._inventory)]
        if "ANSIBLE_FORKS" not in self._options.environ:
            command += ["--forks", str(count_forks(tasks))]
        if self._options.limit:
            command += ["--limit", self._options.limit]
        return command

    def _variables(self, run: Path) -> Mapping[str, str]:
        """The variables of this process, with those that the exchange of answers needs."""
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
        """The ansible.cfg to use: the one that ANSIBLE_CONFIG names, else the user's, else the
        system's, else an empty file. Never that of the working folder. Errors: EngineFailed."""
        named = self._options.environ.get("ANSIBLE_CONFIG")
        if named:
            path = expand_home(named).absolute()
            if not os.access(path, os.R_OK) or not path.is_file():
                # Ansible would use the one of the working folder instead.
                raise EngineFailed(f"ANSIBLE_CONFIG names {named}, which cannot be read")
            return str(path)
        for standard in CONFIGURATIONS:
            path = expand_home(standard)
            if os.access(path, os.R_OK):
                return str(path)
        empty = self._folder / "ansible.cfg"
        empty.touch()
        return str(empty)


class _AnswerFile:
    """The file to which the callback appends one line for each answer."""

    def __init__(self, path: Path, on_row: Optional[Callable[[str, Row], None]]) -> None:
        self.rows: Dict[str, Row] = {}  # node -> its first answer
        self._path, self._on_row = path, on_row
        self._offset = 0  # bytes that were read

    def read(self) -> None:
        """Read the whole lines that came since the last call."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                fresh = stream.read()
        except FileNotFoundError:
            return
        lines = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(lines)
        for line in lines.splitlines():
            row = json.loads(line) if len(line) <= MAX_LINE else {}
            name = row.get("node")
            if name and name not in self.rows:
                self.rows[name] = row
                if self._on_row is not None:
                    self._on_row(name, row)


# --- the playbook ---------------------------------------------------------------------------------


def write_collection(folder: Path) -> None:
    """Copy the collection out of this package, which may lie in an archive. Errors: OSError."""
    for name in COLLECTION_FILES:
        content = pkgutil.get_data("safe_install.fleet", f"{COLLECTION}/{name}")
        path = folder / COLLECTION / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or b"")


def make_play(*, asks_python: bool, timeout: Optional[float]) -> Dict[str, object]:
    """One play of one task. `asks_python`: the answer is the interpreter that the inventory names;
    else each node's task is in tasks.json."""
    # The only template in the play.
    arguments = {"python": f"{{{{ {PYTHON} | default('') }}}}"} if asks_python else {}
    task: Dict[str, object] = {
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
    """How many nodes Ansible works on at once; MAX_FORKS limits the controller's memory."""
    return max(1, min(len(tasks), MAX_FORKS))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


# --- answers, which are not trusted -----------------------------------------------------------------


def find_pythons(rows: Mapping[str, Row], default: str) -> Dict[str, str]:
    """Node -> its interpreter, from the answers; `default` where the inventory names none. Errors:
    EngineFailed if a node failed or has no absolute path."""
    for name, row in rows.items():
        if row["kind"] != "ok":
            raise EngineFailed(f"Ansible cannot name {name}: {_message_of(row)}")
    found = {name: _python_of(row) or default for name, row in rows.items()}
    unnamed = [name for name, python in found.items() if not python.startswith("/")]
    if unnamed:
        raise EngineFailed(
            f"no interpreter is named for {', '.join(sorted(unnamed))}",
            hint=f"Set {PYTHON} in the inventory, to the path of the environment's python on the "
            "host; or --python for all that have none.",
        )
    return found


def reply_of(name: str, row: Row) -> Reply:
    """The reply of a node to a call, from its row."""
    if row["kind"] != "ok":
        return Reply(name, problem=_message_of(row))
    answer = row.get("answer")
    if not isinstance(answer, dict):
        return Reply(name, problem="it answered something else")
    status, stderr = answer.get("status"), plain(str(answer.get("said") or ""))
    try:
        output = base64.b64decode(str(answer.get("output") or ""), validate=True)
    except (ValueError, binascii.Error):
        return Reply(name, problem="its answer is damaged")
    if len(output) > MAX_ANSWER:
        return Reply(name, problem="its answer is too long")
    is_status = isinstance(status, int) and not isinstance(status, bool) and 0 <= status <= 255
    if not is_status:
        problem = stderr or "it does not know how the program ended"
        return Reply(name, output=output, problem=problem)
    return Reply(name, status, output, stderr)


def delivery_of(name: str, finished: Finished) -> Delivery:
    """The result of a delivery to a node."""
    row = finished.rows.get(name)
    if row is None:
        return Delivery(name, problem=_why_silent(finished))
    answer = row.get("answer")
    path = answer.get("path") if isinstance(answer, dict) else None
    if row["kind"] != "ok" or not isinstance(path, str) or not path.startswith("/"):
        return Delivery(name, problem=_message_of(row))
    return Delivery(name, path)


def refuse_odd_names(names: Iterable[str]) -> None:
    """Raise EngineFailed for a host whose name has control characters."""
    for name in names:
        if not name.isprintable():
            raise EngineFailed(f"the inventory has a host with the name {name!r}")


def plain(text: str) -> str:
    """A machine's text without control characters, except line ends."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _python_of(row: Row) -> str:
    answer = row.get("answer")
    python = str(answer.get("python") or "") if isinstance(answer, dict) else ""
    return python if python.isprintable() else ""


def _message_of(row: Row) -> str:
    message = plain(str(row.get("said") or ""))[:MAX_MESSAGE]
    return message or "it did not say why"


def _why_silent(finished: Finished) -> str:
    why = f"Ansible ended with {finished.status} and without its answer"
    stderr = plain(finished.stderr)
    return f"{why}: {stderr}" if stderr else why


def _why_no_host(finished: Finished, inventory: Path) -> str:
    why = plain(finished.stderr) or "no host matches"
    return f"Ansible finds no host in {inventory}: {why}"
