"""Requirements, and their markers for the values of an interpreter."""

from __future__ import annotations

import ast

import pytest
from packaging.requirements import Requirement

from safe_install.requirements import accepts, applies
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


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        ("numpy<2", "1.26.4", True),
        ("numpy<2", "2.0", False),
        ("numpy", "2.0", True),
        ("torch==2.13.0", "2.13.0+cpu", True),
        ("torch==2.13.0+cpu", "2.13.0", False),
        ("numpy>=1", "2.0rc1", True),  # what is installed is meant, whatever it is
        ("numpy>=1", "unknown", False),
        ("numpy", "unknown", False),
    ],
)
def test_which_installed_versions_a_requirement_accepts(text, version, expected):
    assert accepts(Requirement(text), version) is expected


@pytest.mark.any_python
def test_no_other_module_evaluates_markers():
    evaluating = set()
    texts = {path: path.read_text(encoding="utf-8") for path in MODULES}
    for path in (path for path, text in texts.items() if "evaluate" in text):
        for node in ast.walk(ast.parse(texts[path])):
            if isinstance(node, ast.Attribute) and node.attr == "evaluate":
                evaluating.add(relative(path))
    assert evaluating == {"requirements.py"}
