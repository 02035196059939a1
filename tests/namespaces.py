"""Does this machine let a process make a folder read-only to itself?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safe_install.system import read_only


def need_mounts(folder: Path) -> None:
    """Skip where it does not: root needs its capabilities, others need user namespaces."""
    functions = read_only._read_script().rpartition("if __name__")[0]
    order = {"folders": [str(folder)], "in_user_namespace": True}
    code = f"{functions}\nsys.exit(not is_possible({order!r}))"
    if subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode != 0:
        pytest.skip("no mount namespaces here")
