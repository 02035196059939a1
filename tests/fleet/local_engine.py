"""An engine whose nodes are environments of this machine: real processes of the real program, and
nodes that die, hang or babble where a test says so.

Its target is a JSON file: {"folder": ..., "nodes": {NAME: {"prefix": ..., "variables": {...},
"faults": {VERB: FAULT}}}}. What happened lies in the folder, so that several controllers see it.

    dies-before   the verb is not started, and the node does not answer any more
    dies-after    it is carried out, its answer is lost, and the node does not answer any more
    hangs         it does not end
    garbage       its answer is something else
    sick-after    it is carried out, and from then on the driver of the node is too old
    slow          it is started late
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

from safe_install.fleet.engine import Delivery, Node, Reply, SettleResult

GARBAGE = b'{"schema": 1, "command": "\x1b]0;owned\x07", "exit_code": 0}'
SECONDS_LATE = 3.0


def open_engine(target, options):
    return LocalEngine(Path(target))


class LocalEngine:
    name = "local"

    def __init__(self, target: Path) -> None:
        described = json.loads(target.read_text())
        self._folder = Path(described["folder"])
        self._nodes = described["nodes"]
        self._lock = threading.Lock()

    def nodes(self):
        return [
            Node(name, str(Path(node["prefix"]) / "bin" / "python"))
            for name, node in self._nodes.items()
        ]

    def deliver(self, file, nodes):
        return [self._deliver(file, name) for name in nodes]

    def _deliver(self, file, name):
        if self._is_dead(name):
            return Delivery(name, problem="no route to host")
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"{file.sha256[:16]}{file.path.suffix}"
        if not place.exists() or hashlib.sha256(place.read_bytes()).hexdigest() != file.sha256:
            self._note(name, f"sent {file.path.suffix}")
            shutil.copyfile(file.path, place)
        return Delivery(name, str(place))

    def call(self, calls, on_reply, *, timeout):
        replies = {}

        def work(call):
            reply = self._call(call, timeout)
            with self._lock:
                replies[call.node] = reply

        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for call in calls:
            on_reply(replies[call.node])
        return [replies[call.node] for call in calls]

    def _call(self, call, timeout):
        node, verb = self._nodes[call.node], call.words[0]
        fault = self._take_fault(call.node, verb)
        if self._is_dead(call.node) or fault == "dies-before":
            self._die(call.node)
            return Reply(call.node, problem="no route to host")
        python = str(Path(node["prefix"]) / "bin" / "python")
        command = [python, "-I", call.program, "--python", python, *call.words, "--json"]
        if fault == "hangs":
            command = [python, "-c", "import time; time.sleep(600)"]
        if fault == "slow":
            time.sleep(SECONDS_LATE)
        self._note(call.node, verb)
        try:
            done = subprocess.run(
                command,
                env=self._variables(call.node),
                cwd=self._folder / call.node,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return Reply(call.node, problem=f"it did not end within {timeout:.0f} s")
        if fault == "dies-after":
            self._die(call.node)
            return Reply(call.node, problem="connection lost")
        if fault == "sick-after":
            (self._folder / f"sick-{call.node}").touch()
        output = GARBAGE if fault == "garbage" else done.stdout
        return Reply(call.node, done.returncode, output, done.stderr.decode()[-2000:])

    def settle(self, changed):
        self._note("engine", f"settle {' '.join(changed)}")
        return SettleResult()

    def close(self):
        self._note("engine", "close")

    # --- what happened ---

    def _variables(self, name):
        variables = dict(self._nodes[name]["variables"])
        if (self._folder / f"sick-{name}").exists():
            variables["FAKE_DRIVER_CUDA"] = "8.0"
        return variables

    def _take_fault(self, name, verb):
        """Each fault happens once."""
        fault = self._nodes[name].get("faults", {}).get(verb)
        taken = self._folder / f"fault-{name}-{verb}"
        if fault is None or taken.exists():
            return None
        taken.touch()
        return fault

    def _is_dead(self, name):
        return (self._folder / f"dead-{name}").exists()

    def _die(self, name):
        (self._folder / f"dead-{name}").touch()

    def _note(self, name, what):
        with self._lock, (self._folder / "log").open("a") as log:
            log.write(f"{name} {what}\n")
