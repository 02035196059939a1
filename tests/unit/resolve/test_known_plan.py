"""pip's plan where nothing has to be looked for, and what only pip can tell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from packaging.tags import parse_tag

from safe_install.resolve.command_line import split_words
from safe_install.resolve.known_plan import LocalWheel, plan_known
from safe_install.resolve.request import parse_install
from tests.factories import SITE, make_distribution, make_environment, make_interpreter

WHEEL = "./alpha-1.0-py3-none-any.whl"
HERE = make_environment(
    make_distribution("torch", "2.13.0+cpu", requires=["sympy>=1.13", "Jinja2", "six<2"]),
    make_distribution("sympy", "1.14", requires=["mpmath<1.4,>=1.1", "pytest; extra == 'test'"]),
    make_distribution("jinja2", "3.1", requires=["six", "colorama; sys_platform == 'win32'"]),
    make_distribution("mpmath", "1.3"),
    make_distribution("six", "1.17"),
    make_distribution("holds-a-hole", "1", requires=["absent"]),
    make_distribution("wants-more", "1", requires=["requests[socks]"]),
    make_distribution("requests", "2"),
    make_distribution("old-six", "1", requires=["six<1"]),
    interpreter=make_interpreter(tags=tuple(parse_tag("py3-none-any"))),
)
FILES = {"r.txt": "six==1.17\n\nmpmath>=1  # enough\n", "c.txt": "six<1\n", "i.txt": "-i x\nsix\n"}


def plan(*argv, wheel=None, constraints=("torch==2.13.0+cpu",), configuration=None):
    request = parse_install(
        split_words(argv),
        environ={},
        configuration=configuration or {},
        read=lambda name: FILES[name],
    )
    wheels = {} if wheel is None else {WHEEL: wheel}
    return plan_known(request, HERE, wheels=wheels, constraints=constraints, folder="/env")


def make_local(**fields):
    values = {
        "url": "file:///files/alpha-1.0-py3-none-any.whl",
        "shown_path": WHEEL,
        "sha256": "aa",
        "name": "Alpha",
        "version": "1.0",
        "tags": parse_tag("py3-none-any"),
        "requires": ("six>=1", "torch"),
        "requires_python": ">=3.8",
    }
    return LocalWheel(**{**values, **fields})


def satisfied(*rows):
    place = f"./{SITE.relative_to(Path('/env'))}"
    return tuple(
        f"Requirement already satisfied: {requirement} in {place}{f' (from {parent})' if parent else ''} ({version})"
        for requirement, parent, version in rows
    )


def test_everything_is_installed():
    """The order is pip's: what has an upper bound before what has none."""
    found = plan("torch", "six")
    assert found.report == {"install": []}
    assert found.lines == satisfied(
        ("torch", "", "2.13.0+cpu"),
        ("six", "", "1.17"),
        ("sympy>=1.13", "torch", "1.14"),
        ("Jinja2", "torch", "3.1"),
        ("mpmath<1.4,>=1.1", "sympy>=1.13->torch", "1.3"),
    )


def test_a_requirements_file_is_named():
    assert plan("-r", "r.txt").lines == satisfied(
        ("six==1.17", "-r r.txt (line 1)", "1.17"), ("mpmath>=1", "-r r.txt (line 3)", "1.3")
    )


def test_a_wheel_and_what_it_requires():
    found = plan("mpmath", WHEEL, wheel=make_local(requires=("six>=1",)))
    hashes = {"hash": "sha256=aa", "hashes": {"sha256": "aa"}}
    assert found.report == {
        "install": [
            {
                "download_info": {
                    "url": "file:///files/alpha-1.0-py3-none-any.whl",
                    "archive_info": hashes,
                },
                "is_direct": True,
                "requested": True,
                "metadata": {"name": "Alpha", "version": "1.0", "requires_dist": ["six>=1"]},
            }
        ]
    }
    assert found.lines == (
        f"Processing {WHEEL}",
        *satisfied(("mpmath", "", "1.3"), ("six>=1", "alpha==1.0", "1.17")),
    )


def test_where_pip_looks_is_said_though_it_does_not_look():
    configuration = {"extra-index-url": "file:///more", "find-links": "/wheels"}
    found = plan("six", configuration=configuration)
    assert found.lines[:2] == (
        "Looking in indexes: https://pypi.org/simple, file:///more",
        "Looking in links: /wheels",
    )
    assert plan("six", "--no-index", configuration=configuration).lines[:1] == found.lines[1:2]


def test_without_dependencies_nobody_asks_for_them():
    assert plan("--no-deps", "holds-a-hole").report == {"install": []}


@pytest.mark.parametrize(
    "words",
    [
        ("absent",),
        ("six>2",),
        ("six<1", "six"),
        ("requests[socks]",),
        ("wants-more",),
        ("holds-a-hole",),
        ("old-six",),
        ("six @ file:///six.whl",),
        ("six; python_version < '3'",),
        ("./folder",),
        ("-e", "./folder"),
        ("-U", "six"),
        ("--force-reinstall", "six"),
        ("-I", "six"),
        ("-v", "six"),
        ("--require-hashes", "six"),
        ("--report", "-", "six"),
        ("--target", "t", "six"),
        ("--user", "six"),
        ("--use-deprecated", "legacy-resolver", "six"),
        ("--ignore-requires-python", "six"),
        ("-c", "c.txt", "six"),
        ("-r", "i.txt"),
        ("-i", "https://name:word@host/", "six"),
        ("-f", "~/wheels", "six"),
    ],
)
def test_what_only_pip_can_tell(words):
    assert plan(*words) is None


def test_a_setting_that_is_not_known_is_pips():
    assert plan("six", configuration={"require-virtualenv": "1"}) is None


def test_an_address_among_the_constraints_is_pips():
    assert plan("six", constraints=["torch-scatter @ file:///x.whl"]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "six"},  # installed: pip compares versions
        {"tags": parse_tag("cp38-cp38-win32")},
        {"requires_python": "<3.8"},
        {"requires_python": "nonsense"},
        {"requires": ("absent",)},
        {"requires": ("not a requirement",)},
    ],
)
def test_a_wheel_that_is_pips_to_judge(fields):
    assert plan(WHEEL, wheel=dataclasses.replace(make_local(), **fields)) is None


def test_a_wheel_is_needed_by_another_requirement():
    assert plan(WHEEL, "alpha>=1", wheel=make_local()).report["install"]
    assert plan(WHEEL, "alpha>=2", wheel=make_local()) is None
    assert plan(WHEEL, wheel=make_local(), constraints=["alpha<2"]) is None
