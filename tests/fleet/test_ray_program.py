"""Ctrl-C in a program that installs on a Ray cluster."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from safe_install.fleet import ray

# What `safe-install fleet` does at Ctrl-C.
CODE = """
import json, pathlib, signal, sys, time
def end(*_):
    print(json.dumps({"error": None, "outcome": "rolled-back", "details": {}}))
    sys.exit(130)
signal.signal(signal.SIGINT, end)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def test_it_is_handed_on_and_the_end_is_waited_for(monkeypatch, tmp_path):
    ready = tmp_path / "ready"

    def interrupt():
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ray, "command_of", lambda words: [sys.executable, "-c", CODE, str(ready)])
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="rolled-back"):
        ray.install(["alpha"], address="auto")
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
