"""pip's words, as the pip of the differential test says them (tests/differential), by tables."""

from __future__ import annotations

import dataclasses

import pytest

from safe_install.models import Action, Origin, Step
from safe_install.resolve.pip_words import PipWords, path_warning, removed_lines
from tests.factories import make_distribution, make_environment


def step(name, version="1.0", *, requires=(), written="", **fields):
    return Step(Action.ADD, name, version, requires=tuple(requires), written_name=written, **fields)


def words(steps, entries, *installed):
    return PipWords(steps, entries, make_environment(*installed))


@pytest.mark.parametrize(
    ("entries", "steps", "order"),
    [
        (["a"], [step("a")], "a"),
        (["a"], [step("a", requires=["b"]), step("b")], "b, a"),
        (["a", "b", "c"], [step("a"), step("b"), step("c")], "c, b, a"),
        (["a"], [step("a", requires=["b", "c"]), step("b", requires=["c"]), step("c")], "c, b, a"),
        (["a", "x"], [step("a", requires=["b"]), step("b"), step("x")], "x, b, a"),
        # a marker that is false, and an extra that is not asked for
        (["a", "z"], [step("a", requires=["z; python_version < '3'"]), step("z")], "z, a"),
        (["z", "a"], [step("z", requires=["a; python_version < '3'"]), step("a")], "z, a"),
        (["a", "z"], [step("a", requires=["z; extra == 'more'"]), step("z")], "z, a"),
        (
            ["a[more]", "b"],
            [step("a", requires=["z; extra == 'more'"]), step("z"), step("b")],
            "z, b, a",
        ),
        # cycles end
        (["a"], [step("a", requires=["b"]), step("b", requires=["a", "c"]), step("c")], "c, b, a"),
        (["a"], [step("a", requires=["a", "b"]), step("b")], "b, a"),
        # what is no requirement: a path; what pip calls requested then
        (["./a.whl"], [step("a", requires=["b"], requested=True), step("b")], "b, a"),
    ],
)
def test_what_requires_nothing_comes_first(entries, steps, order):
    assert words(steps, entries).installing() == f"Installing collected packages: {order}"


def test_an_installed_distribution_carries_the_order():
    between = make_distribution("between", "1", requires=["z-last"])
    steps = [step("a", requires=["between"]), step("z-last", requires=["deep"]), step("deep")]
    assert words(steps, ["a"], between).installing().endswith(": deep, z-last, a")


@pytest.mark.parametrize(
    ("entries", "steps", "said"),
    [
        (["Torch_Scatter"], [step("torch-scatter", "2.1")], "Torch_Scatter-2.1"),
        (["b", "A"], [step("a"), step("b")], "A-1.0 b-1.0"),
        (["A.b", "a-B"], [step("a-b")], "A.b-1.0"),
        (["x"], [step("x", requires=["Beta"]), step("beta", written="BETA")], "Beta-1.0 x-1.0"),
        (["x", "beta"], [step("x", requires=["Beta"]), step("beta")], "beta-1.0 x-1.0"),
        (["./Mixed.Case-1.0-py3-none-any.whl"],
         [step("mixed-case", written="Mixed.Case", is_direct=True, requested=True)], "mixed-case-1.0"),
        (["./folder"],
         [step("mixed-case", written="Mixed.Case", is_direct=True, requested=True, origin=Origin.SDIST)],
         "Mixed.Case-1.0"),
        (["./folder"], [step("mixed-case", written="Mixed.Case")], "Mixed.Case-1.0"),
    ],
)  # fmt: skip
def test_names_are_spelled_as_whoever_asked_for_them_spells_them(entries, steps, said):
    assert words(steps, entries).installed() == f"Successfully installed {said}"


def test_what_is_replaced_and_removed():
    old = dataclasses.replace(make_distribution("mixed-case", "0.9"), written_name="Mixed.Case")
    removed = [
        "Found existing installation: Mixed.Case 0.9",
        "Uninstalling Mixed.Case-0.9:",
        "  Successfully uninstalled Mixed.Case-0.9",
    ]
    assert removed_lines(old) == removed
    replaced = words([step("mixed-case"), step("new")], ["mixed_Case", "new"], old).replaced([old])
    assert replaced == ["  Attempting uninstall: mixed_Case", *(f"    {line}" for line in removed)]


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        (["one"], "The script one is installed in '/home/x/bin' which is not on PATH."),
        (["two", "one"], "The scripts one and two are installed in"),
        (["c", "b", "a"], "The scripts a, b and c are installed in"),
    ],
)
def test_commands_that_no_shell_finds(scripts, said):
    first, second = path_warning(scripts, "/home/x/bin")
    assert first.startswith(f"  WARNING: {said}")
    assert second.startswith("  Consider adding this directory to PATH")


def test_the_name_of_one_step():
    steps = [step("local-extras", written="Local_Extras"), step("demo")]
    found = words(steps, ["demo"])
    assert [found.name_of(one) for one in steps] == ["Local_Extras", "demo"]
