"""Requirements, and their markers for the values of an interpreter."""

from __future__ import annotations

import ast

import pytest
from packaging.requirements import Requirement

from safe_install.requirements import applies
from tests.unit.test_layers import MODULES, relative

MARKERS = {"python_version": "3.8", "sys_platform": "linux", "platform_machine": "x86_64"}


@pytest.mark.parametrize(
    ("text", "extras", "expected"),
    [
        ("numpy", (), True),
        ("numpy; python_version < '3.9'", (), True),
        ("numpy; python_version >= '3.9'", (), False),
        ("numpy; sys_platform == 'win32'", (), False),
        ("numpy; extra == 'gpu'", (), False),
        ("numpy; extra == 'gpu'", ("gpu",), True),
        ("numpy; extra == 'gpu'", ("cpu", "gpu"), True),
        ("numpy; extra == 'gpu' and python_version >= '3.9'", ("gpu",), False),
        ("numpy; extra != 'gpu'", ("gpu",), True),  # asked for with the extra, and without
    ],
)
def test_a_requirement_applies_where_its_marker_is_true(text, extras, expected):
    assert applies(Requirement(text), MARKERS, extras) is expected


def test_no_other_module_evaluates_markers():
    evaluating = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "evaluate":
                evaluating.add(relative(path))
    assert evaluating == {"requirements.py"}
