"""An interpreter that is started before a change, and asked after it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from safe_install.environment.interpreter import READ_AND_RUN, child_environment, read_script
from safe_install.models import Interpreter
from safe_install.system import process

# As READ_AND_RUN, in a process that waits for a line first, with modules of the standard library
# loaded and nothing of the environment: -S, so that what lies there acts (.pth files, sitecustomize)
# when the line has come, and not before. Where it puts a folder in front of the standard library
# (easy-install.pth does), the modules that are loaded may not be those that a fresh start would
# load: it starts afresh.
_WAIT_AND_RUN = f"""\
import os, sys
for name in sys.argv.pop(1).split():
    try:
        __import__(name)
    except ImportError:
        pass
header = b""
while not header.endswith(b"\\n"):
    chunk = os.read(0, 1)
    if not chunk:
        sys.exit(1)
    header += chunk
sys.argv[1:] = __import__("json").loads(header.decode())
folder = sys.path[:1] if sys.path[0] == "" else []
del sys.path[: len(folder)]
standard = list(sys.path)
import site
site.main()  # as it is at a start: before the working folder comes to the path
if sys.path[: len(standard)] != standard:
    os.execv(sys.executable, [sys.executable, "-B", "-c", {READ_AND_RUN!r}, *sys.argv[1:]])
sys.path[:0] = folder
{READ_AND_RUN}"""
# What torch imports of the standard library. None of these reads sys.prefix when it is imported, as
# sysconfig does: in a virtual environment `site` sets it.
PRELOADED = """\
argparse asyncio concurrent.futures.thread csv ctypes dataclasses datetime email.parser glob hashlib http.client
importlib.metadata importlib.resources importlib.util inspect ipaddress json logging multiprocessing.connection
multiprocessing.resource_sharer multiprocessing.util pickle pickletools platform pprint random select shutil socket
ssl subprocess tarfile tempfile timeit typing unittest.mock urllib.request uuid warnings zipfile
"""


class WaitingInterpreter:
    """A process of the managed interpreter that was started before a change, and has imported
    nothing of the environment when `run` tells it to begin."""

    def __init__(self, executable: Path, **options: Any) -> None:
        """`options`: of the process. Errors: OSError."""
        command = [str(executable), "-B", "-S", "-c", _WAIT_AND_RUN, PRELOADED]
        self._running = process.start(
            command, env=child_environment(), cwd=Path(os.sep), is_fed_later=True, **options
        )

    def run(
        self, package: str, arguments: Sequence[str], words: Sequence[str]
    ) -> Optional[process.Running]:
        """Run a stand-alone script as `start_script` does; None where the process is gone."""
        if self._running.has_ended:
            return None
        source = read_script(package)
        header = json.dumps([str(len(source.encode())), *arguments])
        self._running.feed(header + "\n" + source + "".join(words))
        return self._running

    def stop(self) -> None:
        """End it; nobody needs it."""
        self._running.kill()
        self._running.wait()


def can_wait(interpreter: Interpreter, environ: Mapping[str, str]) -> bool:
    """May an interpreter be started before a change, and asked after it?

    Not where modules or libraries of the standard library could come out of the environment:
    PYTHONPATH comes before it, and conda's Python finds libraries in the prefix first.
    """
    return not interpreter.conda and not environ.get("PYTHONPATH")
