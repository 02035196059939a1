"""Does this machine let a process make a folder read-only to itself?"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from safe_install.system import read_only


def need_mounts(folder: Path) -> None:
    """Skip where it does not: root needs its capabilities, others need user namespaces."""
    functions = read_only._read_script().rpartition("if __name__")[0]
    order = {"folders": [str(folder)], "in_user_namespace": True}
    code = f"{functions}\nsys.exit(not can_protect({order!r}))"
    if subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode != 0:
        pytest.skip("no mount namespaces here")


LIKE_DOCKER = Path(__file__).with_name("like_docker.py")


def need_landlock() -> None:
    """Skip where the kernel has none, or one that is too old for these tests."""
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("like_docker.py knows the system calls of x86-64 and aarch64 only")
    if (
        ctypes.CDLL(None).syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1))
        < 3
    ):
        pytest.skip("no Landlock here that knows truncate (Linux 6.2)")
