"""The scripts that pip makes from the entry points of a wheel: their names and their bytes.

Sources: `get_console_script_specs` and `PipScriptMaker` in
pip/_internal/operations/install/wheel.py, and pip's copy of distlib's scripts.py, versions 23.0 to
26.3.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from packaging.version import Version

NAMED_BY_PIP = b"#!python"  # how a script of a wheel begins for which the interpreter is filled in
MAX_SHEBANG = 127  # bytes with `#!` and the end of the line; Linux reads no more of it
# The text below the first line, by the oldest pip that writes it.
_TEXTS: Sequence[Tuple[Version, str]] = (
    (
        Version("26.0"),
        """\
import sys
from {module} import {imported}
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit({function}())
""",
    ),
    (
        Version("25.2"),
        """\
import sys
from {module} import {imported}
if __name__ == '__main__':
    if sys.argv[0].endswith('.exe'):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({function}())
""",
    ),
)
_OLDEST_TEXT = """\
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {imported}
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""
FIRST_PYTHON_WITH_REMOVESUFFIX = (3, 9)
# Projects whose script names have the Python that built the wheel: pip renames them.
_VERSIONED = {
    "pip": (("pip", "pip{major}", "pip{major}.{minor}"), re.compile(r"pip(\d+(\.\d+)?)?$")),
    "easy_install": (
        ("easy_install", "easy_install-{major}.{minor}"),
        re.compile(r"easy_install(-\d+\.\d+)?$"),
    ),
}


def console_commands(
    points: Mapping[str, str], python_version: Tuple[int, int]
) -> List[Tuple[str, str]]:
    """(name, object reference) of each script that pip makes from `console_scripts`."""
    left: Dict[str, str] = dict(points)
    commands: List[Tuple[str, str]] = []
    major, minor = python_version
    for name, (names, pattern) in _VERSIONED.items():
        reference = left.pop(name, None)
        if reference is None:
            continue
        for form in names:
            commands.append((form.format(major=major, minor=minor), reference))
        left = {other: value for other, value in left.items() if not pattern.match(other)}
    return [*commands, *left.items()]


def render_script(
    reference: str, first_lines: bytes, pip: Optional[Version], python_version: Tuple[int, int]
) -> Optional[bytes]:
    """The script that calls an object reference (`package.module:function [extra]`).

    `pip`: the version whose text is used; None: the newest. The result is None for a reference
    without a function: no script can be made of it.
    """
    module, _, function = reference.partition("[")[0].strip().partition(":")
    if not function:
        return None
    imported = function.partition(".")[0]
    text = _text_of(pip, python_version)
    script = text.format(module=module, imported=imported, function=function)
    return first_lines + script.encode("utf-8")


def _text_of(pip: Optional[Version], python_version: Tuple[int, int]) -> str:
    if python_version < FIRST_PYTHON_WITH_REMOVESUFFIX:
        return _OLDEST_TEXT
    for oldest, text in _TEXTS:
        if pip is None or pip >= oldest:
            return text
    return _OLDEST_TEXT


def first_lines_of(executable: str, *, is_script: bool) -> bytes:
    """The `#!` line for an interpreter; three lines for /bin/sh where the kernel could not start
    the interpreter from a `#!` line.

    `is_script`: the interpreter is itself a file with a `#!` line.
    """
    quoted = f'"{executable}"' if " " in executable else executable
    name = quoted.encode("utf-8", "surrogateescape")
    if b" " not in name and len(name) + 3 <= MAX_SHEBANG and not is_script:
        return b"#!" + name + b"\n"
    return b"#!/bin/sh\n'''exec' " + name + b' "$0" "$@"\n' + b"' '''\n"


def name_interpreter(script: bytes, executable: str) -> Optional[bytes]:
    """A script of the wheel (.data/scripts) with the interpreter in place of `#!python`; None where
    it does not begin so."""
    if not script.startswith(NAMED_BY_PIP):
        return None
    _, _, rest = script.partition(b"\n")
    return b"#!" + executable.encode("utf-8", "surrogateescape") + b"\n" + rest


def is_wrapper(filename: str, commands: Sequence[str]) -> bool:
    """Is it a script that setuptools made for an entry point? pip replaces it by its own."""
    lowered = filename.lower()
    if lowered.endswith("-script.py"):
        return filename[: -len("-script.py")] in commands
    if lowered.endswith((".exe", ".pya")):
        return filename[:-4] in commands
    return filename in commands
