"""An interpreter that is started before a change and used after it, which saves its start."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from safe_install.environment.interpreter import READ_AND_RUN, child_environment, read_script
from safe_install.models import Interpreter
from safe_install.system import process

# As READ_AND_RUN, but it first imports modules of the standard library and waits for a line. It
# runs with -S, so that the files of the environment (.pth files, sitecustomize) run after the line
# has come. If they put a folder before the standard library (as easy-install.pth does), a fresh
# start might import other modules than those that are loaded, so the process starts again.
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
site.main()  # as at a start: before the working folder is put on the path
if sys.path[: len(standard)] != standard:
    os.execv(sys.executable, [sys.executable, "-B", "-c", {READ_AND_RUN!r}, *sys.argv[1:]])
sys.path[:0] = folder
{READ_AND_RUN}"""
# The modules of the standard library that torch imports. Not those that read sys.prefix when they
# are imported, such as sysconfig: in a virtual environment `site` sets it later.
PRELOADED = """\
argparse asyncio concurrent.futures.thread csv ctypes dataclasses datetime email.parser glob hashlib http.client
importlib.metadata importlib.resources importlib.util inspect ipaddress json logging multiprocessing.connection
multiprocessing.resource_sharer multiprocessing.util pickle pickletools platform pprint random select shutil socket
ssl subprocess tarfile tempfile timeit typing unittest.mock urllib.request uuid warnings zipfile
"""


class WaitingInterpreter:
    """A process of the managed interpreter that is started before a change. Until `run` is called
    it imports nothing of the environment."""

    def __init__(self, executable: Path, **options: Any) -> None:
        """Start the process. `options`: see process.Running. Errors: OSError."""
        command = [str(executable), "-B", "-S", "-c", _WAIT_AND_RUN, PRELOADED]
        self._running = process.start(
            command, env=child_environment(), cwd=Path(os.sep), is_fed_later=True, **options
        )

    def run(
        self, package: str, arguments: Sequence[str], words: Sequence[str]
    ) -> Optional[process.Running]:
        """Run a stand-alone script, as `start_script` does; None if the process has ended."""
        if self._running.has_ended:
            return None
        source = read_script(package)
        header = json.dumps([str(len(source.encode())), *arguments])
        self._running.feed(header + "\n" + source + "".join(words))
        return self._running

    def stop(self) -> None:
        """End the process. It is not needed."""
        self._running.kill()
        self._running.wait()


def can_wait(interpreter: Interpreter, environ: Mapping[str, str]) -> bool:
    """Can an interpreter be started before a change and used after it?

    Not if modules or libraries of the standard library may come from the environment: PYTHONPATH
    comes before it, and conda's Python searches libraries in the prefix first.
    """
    return not interpreter.conda and not environ.get("PYTHONPATH")
