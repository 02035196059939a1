"""Finds the file that keeps an interpreter from starting, among those that run at every start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Mapping, Optional

from safe_install.system import process

LIMIT = 5.0  # seconds: a start takes 0.1

# Runs `site`, and writes a line before and after each file that it runs. With -S nothing of it has
# run before. The import system finds the paths of sitecustomize and usercustomize. Python 3.6
# syntax.
_TRACE = """\
import importlib.util, os, site, sys
answers = os.dup(2)

def say(text, write=os.write, mark=sys.argv.pop(1)):
    write(answers, (chr(10) + mark + text + chr(10)).encode("utf-8", "surrogateescape"))

def traced(run, place):
    def call(*words):
        say("begin " + place(*words))
        value = run(*words)
        say("end")
        return value
    return call

def of_module(name):
    def place():
        found = importlib.util.find_spec(name)
        return found.origin or name if found else name
    return place

site.addpackage = traced(site.addpackage, lambda folder, name, known: os.path.join(folder, name))
site.execsitecustomize = traced(site.execsitecustomize, of_module("sitecustomize"))
site.execusercustomize = traced(site.execusercustomize, of_module("usercustomize"))
site.main()
os._exit(0)
"""


def find_culprit(
    executable: Path, variables: Mapping[str, str], on_tick: Optional[process.Tick] = None
) -> Optional[str]:
    """The .pth file, sitecustomize or usercustomize that ends this interpreter at its start, or
    hangs; None if there is none. All of these files are run, as at every start.

    A file that only raises an exception is not found: Python reports it and continues.
    """
    mark = os.urandom(8).hex()
    try:
        child = process.start(
            [str(executable), "-S", "-B", "-c", _TRACE, mark],
            env=variables,
            cwd=Path(os.sep),
            stdout_limit=1_000_000,
        )
    except OSError:
        return None
    begun: Optional[str] = None
    for line in child.wait(LIMIT, on_tick=on_tick).stderr.split("\n"):
        if line.startswith(f"{mark}begin "):
            begun = line[len(mark) + len("begin ") :]
        elif line == f"{mark}end":
            begun = None
    return begun
