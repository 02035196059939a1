"""Runs in the environment of one torch; answers a line of JSON for each line that it gets. Imports
nothing of ours."""

import ctypes
import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import select
import signal
import sys
import time
from typing import Any, Dict, List

import torch  # type: ignore[import-not-found, unused-ignore]


def load(path: str, name: str) -> Any:
    if not name:
        return ctypes.CDLL(path, mode=os.RTLD_NOW)
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def load_with_siblings(job: Dict[str, Any], path: str, name: str, before: List[str]) -> Any:
    while True:
        try:
            return load(path, name)
        except (ImportError, OSError) as error:
            missing = re.match(r"([^\s:]+): cannot open shared object", str(error))
            sibling = job["siblings"].get(missing.group(1)) if missing else None
            if sibling is None or sibling in before or sibling == path:
                raise
            before.append(sibling)
            load_with_siblings(job, sibling, "", before)


def act(job: Dict[str, Any]) -> Dict[str, Any]:
    before: List[str] = []
    try:
        importlib.invalidate_caches()
        if job["do"] == "load":
            load_with_siblings(job, job["path"], job["name"], before)
        else:
            importlib.import_module(job["module"])
            if job["operation"]:
                try:
                    exec(job["operation"], {"device": "cpu"})
                except BaseException as error:  # noqa: BLE001 - whatever it raises is the answer
                    return {
                        "is": "operation",
                        "words": type(error).__name__ + ": " + str(error),
                        "before": before,
                    }
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the answer
        # it is in memory, and asks for the package around it
        if "attempted relative import" in str(error):
            return {"is": "loads", "words": "", "before": before}
        return {"is": "fails", "words": type(error).__name__ + ": " + str(error), "before": before}
    return {"is": "loads", "words": "", "before": before}


def fork(job: Dict[str, Any]) -> Any:
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
    return {"is": "crashes", "words": f"exit status {os.WEXITSTATUS(status)}", "before": []}


if __name__ == "__main__":
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)
