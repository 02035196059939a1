"""The scripts of entry points, as the versions of pip write them."""

from __future__ import annotations

import pytest
from packaging.version import Version

from safe_install.wheels.entry_scripts import (
    console_commands,
    first_lines_of,
    is_wrapper,
    name_interpreter,
    render_script,
)

OLD = b"""\
#!/env/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from a.b import Main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(Main.run())
"""
ENDS_WITH = b"""\
#!/env/bin/python
import sys
from a.b import Main
if __name__ == '__main__':
    if sys.argv[0].endswith('.exe'):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit(Main.run())
"""
REMOVES = b"""\
#!/env/bin/python
import sys
from a.b import Main
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(Main.run())
"""


@pytest.mark.parametrize(
    ("pip", "python", "script"),
    [
        ("23.0", (3, 11), OLD),
        ("25.1.1", (3, 11), OLD),
        ("25.2", (3, 11), ENDS_WITH),
        ("25.3", (3, 13), ENDS_WITH),
        ("26.0", (3, 11), REMOVES),
        ("26.3", (3, 13), REMOVES),
        (None, (3, 11), REMOVES),
        # str.removesuffix came with Python 3.9
        (None, (3, 8), OLD),
    ],
)
def test_each_pip_has_its_text(pip, python, script):
    version = Version(pip) if pip else None
    assert render_script("a.b:Main.run", b"#!/env/bin/python\n", version, python) == script
    assert render_script("a.b:Main.run [x]", b"#!/env/bin/python\n", version, python) == script


def test_what_names_no_function_has_no_script():
    assert render_script("a.b", b"", None, (3, 11)) is None


@pytest.mark.parametrize(
    ("executable", "is_script", "lines"),
    [
        ("/env/bin/python", False, b"#!/env/bin/python\n"),
        ("/env/bin/python", True, b"#!/bin/sh\n'''exec' /env/bin/python \"$0\" \"$@\"\n' '''\n"),
        ("/an env/python", False, b"#!/bin/sh\n'''exec' \"/an env/python\" \"$0\" \"$@\"\n' '''\n"),
        ("/" + "e" * 123, False, b"#!/" + b"e" * 123 + b"\n"),
        (
            "/" + "e" * 124,
            False,
            b"#!/bin/sh\n'''exec' /" + b"e" * 124 + b" \"$0\" \"$@\"\n' '''\n",
        ),
    ],
)
def test_the_first_lines_start_the_interpreter(executable, is_script, lines):
    assert first_lines_of(executable, is_script=is_script) == lines


@pytest.mark.parametrize(
    ("points", "names"),
    [
        ({"tool": "a:b"}, ["tool"]),
        ({"pip": "a:b", "pip3": "a:b", "pip3.9": "a:b", "piper": "c:d"}, ["pip", "pip3", "pip3.12", "piper"]),
        ({"pip3": "a:b"}, ["pip3"]),
        ({"easy_install": "a:b", "easy_install-3.4": "a:b"}, ["easy_install", "easy_install-3.12"]),
    ],
)  # fmt: skip
def test_pip_names_its_own_commands_anew(points, names):
    assert [name for name, _ in console_commands(points, (3, 12))] == names


@pytest.mark.parametrize(
    ("script", "changed"),
    [
        (b"#!python\nx", b"#!/env/python\nx"),
        (b"#!pythonw -E\r\nx", b"#!/env/python\nx"),
        (b"#!python", b"#!/env/python\n"),
        (b"#!/usr/bin/python\nx", None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_a_script_of_the_wheel_is_started_by_the_environment(script, changed):
    assert name_interpreter(script, "/env/python") == changed


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("tool", True),
        ("tool.exe", True),
        ("tool-script.py", True),
        ("tool.pya", True),
        ("other", False),
        ("tool.py", False),
    ],
)
def test_wrappers_of_setuptools_are_known(name, is_one):
    assert is_wrapper(name, ["tool"]) is is_one
