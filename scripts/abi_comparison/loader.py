"""A process that has imported torch and loads shared objects, each in a child."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any, List, Mapping, Optional, Tuple

# Runs in the environment of one torch; answers a line of JSON for each line that it gets.
SERVER = r"""
import ctypes, importlib, importlib.machinery, importlib.util, json, os, re, select, signal, sys, time
import torch

def bring(path, name):
    if not name:
        return ctypes.CDLL(path, mode=os.RTLD_NOW)
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module

def bring_with_siblings(job, path, name, before):
    while True:
        try:
            return bring(path, name)
        except (ImportError, OSError) as error:
            missing = re.match(r"([^\s:]+): cannot open shared object", str(error))
            sibling = job["siblings"].get(missing.group(1)) if missing else None
            if sibling is None or sibling in before or sibling == path:
                raise
            before.append(sibling)
            bring_with_siblings(job, sibling, "", before)

def act(job):
    before = []
    try:
        importlib.invalidate_caches()
        if job["do"] == "load":
            bring_with_siblings(job, job["path"], job["name"], before)
        else:
            importlib.import_module(job["module"])
            if job["operation"]:
                try:
                    exec(job["operation"], {"device": "cpu"})
                except BaseException as error:
                    return {"is": "operation", "words": type(error).__name__ + ": " + str(error), "before": before}
    except BaseException as error:
        if "attempted relative import" in str(error):  # it is in memory, and asks for the package around it
            return {"is": "loads", "words": "", "before": before}
        return {"is": "fails", "words": type(error).__name__ + ": " + str(error), "before": before}
    return {"is": "loads", "words": "", "before": before}

def fork(job):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.write(writing, json.dumps(act(job)).encode()[:60000])
        os._exit(0)
    os.close(writing)
    data, end = b"", time.time() + job["seconds"]
    while True:
        ready, _, _ = select.select([reading], [], [], max(0, end - time.time()))
        chunk = os.read(reading, 65536) if ready else None
        if not chunk:
            break
        data += chunk
    if chunk is None:
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if data:
        return json.loads(data.decode())
    if chunk is None:
        return {"is": "hangs", "words": "", "before": []}
    if os.WIFSIGNALED(status):
        return {"is": "crashes", "words": signal.Signals(os.WTERMSIG(status)).name, "before": []}
    return {"is": "crashes", "words": "exit status %d" % os.WEXITSTATUS(status), "before": []}

print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(fork(json.loads(line))), flush=True)
"""


class Loader:
    """A process that has imported torch."""

    def __init__(self, python: Path) -> None:
        variables = {name: value for name, value in os.environ.items() if name in ("HOME", "PATH", "LANG")}
        self._process = subprocess.Popen(
            [str(python), "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**variables, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        )
        first = self._stream(self._process.stdout).readline()
        if not first:
            raise SystemExit(f"import torch fails: {self._stream(self._process.stderr).read().strip()[-2000:]}")
        self.torch = str(json.loads(first)["torch"])

    @staticmethod
    def _stream(stream: Optional[IO[str]]) -> IO[str]:
        assert stream is not None
        return stream

    def _ask(self, job: Mapping[str, Any]) -> Tuple[str, str, List[str]]:
        stdin = self._stream(self._process.stdin)
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        answer = json.loads(self._stream(self._process.stdout).readline())
        return answer["is"], answer["words"], answer["before"]

    def load(self, path: Path, siblings: Mapping[str, str]) -> Tuple[str, str, List[str]]:
        stem = path.name.partition(".")[0]
        name = stem if f"\0PyInit_{stem}\0".encode() in path.read_bytes() else ""
        return self._ask({"do": "load", "path": str(path), "name": name, "siblings": siblings, "seconds": 60})

    def import_(self, module: str, operation: Optional[str]) -> Tuple[str, str, List[str]]:
        return self._ask({"do": "import", "module": module, "operation": operation, "seconds": 120})

    def close(self) -> None:
        self._stream(self._process.stdin).close()
        self._process.wait(60)
