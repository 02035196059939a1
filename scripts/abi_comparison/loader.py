"""A process that has imported torch and loads shared objects, each in a child."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any, List, Mapping, Optional, Tuple

SERVER = Path(__file__).with_name("server.py")  # runs in the environment of one torch


class Loader:
    """A process that has imported torch."""

    def __init__(self, python: Path) -> None:
        variables = {
            name: value for name, value in os.environ.items() if name in ("HOME", "PATH", "LANG")
        }
        self._process = subprocess.Popen(
            # Not as a file: its folder would be searched for modules.
            [str(python), "-c", SERVER.read_text("utf-8")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**variables, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        )
        first = self._stream(self._process.stdout).readline()
        if not first:
            raise SystemExit(
                f"import torch fails: {self._stream(self._process.stderr).read().strip()[-2000:]}"
            )
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
        return self._ask(
            {"do": "load", "path": str(path), "name": name, "siblings": siblings, "seconds": 60}
        )

    def import_(self, module: str, operation: Optional[str]) -> Tuple[str, str, List[str]]:
        return self._ask({"do": "import", "module": module, "operation": operation, "seconds": 120})

    def close(self) -> None:
        self._stream(self._process.stdin).close()
        self._process.wait(60)
