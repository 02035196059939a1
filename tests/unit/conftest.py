"""A unit test starts no process and opens no connection: a test that does lies in the wrong
folder."""

from __future__ import annotations

import socket
import subprocess

import pytest


@pytest.fixture(autouse=True)
def _nothing_real(request, monkeypatch):
    if request.node.get_closest_marker("real_process"):
        return

    def refuse(*arguments, **options):
        raise AssertionError(
            f"a unit test reached outside: {arguments!r}; see tests/unit/conftest.py"
        )

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
