"""What pip's sentences say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from safe_install.pip_output import (
    PASSWORD_QUESTION,
    SAVE_QUESTION,
    failure_line,
    find_constraint_conflict,
    has_no_match,
    is_about_same_version,
    is_disk_full,
    is_of_build,
    is_of_getpass,
    is_of_search,
    is_summary_of_dry_run,
    lacks_module,
    name_at_work,
    names_in_failure,
    other_version,
    place_in_question,
    requirement_in_failure,
    unmatched_requirement,
    user_question,
    wishes_in_conflict,
)

# What pip 23.2.1 and 26.3 really printed for these requests beside torch 2.13.0+cpu.
CONFLICT = """
ERROR: Cannot install harmful-tools==1.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    harmful-tools 1.0 depends on torch==2.4.1
    The user requested (constraint) torch==1.8.1+cu111

To fix this you could try to:
"""


def test_a_conflict_with_the_guard_names_the_requirement():
    reason = str(find_constraint_conflict(CONFLICT, ["torch==1.8.1+cu111"]))
    assert reason == "harmful-tools 1.0 requires torch==2.4.1, but torch==1.8.1+cu111 is installed"


INCONSISTENT = (
    "Discarding http://h/torch-2.13.0-py3-none-any.whl (from http://h/simple/torch/): Requested "
    "torch{} from http://h/torch-2.13.0-py3-none-any.whl has inconsistent version: expected "
    "'2.13.0', but metadata has '2.12.0'\n"
)


@pytest.mark.parametrize("specifier", ["", "==2.13.0", ">=2"])
def test_a_file_that_is_put_aside_for_its_metadata(specifier):
    output = INCONSISTENT.format(specifier)
    assert other_version(output, "torch", "2.13.0") == "2.12.0"
    assert other_version(output, "torch", "2.14.1") is None
    assert other_version(output, "torchvision", "2.13.0") is None
    assert (
        other_version("ERROR: No matching distribution found for torch", "torch", "2.13.0") is None
    )


def test_two_specifiers_are_joined_as_a_requirement_has_them():
    text = CONFLICT.replace("torch==2.4.1", "torch<2.1 and >=2.0")
    reason = str(find_constraint_conflict(text, ["torch==1.8.1+cu111"]))
    assert (
        reason == "harmful-tools 1.0 requires torch<2.1,>=2.0, but torch==1.8.1+cu111 is installed"
    )


def test_only_what_excludes_the_installed_version_is_the_reason():
    """pip names every party, also a wider requirement of the same project."""
    text = """
The conflict is caused by:
    project 0.1 depends on torch>=2.13
    project[new] 0.1 depends on torch>=2.14; extra == "new"
    The user requested (constraint) torch==2.13.0+cpu
"""
    conflict = find_constraint_conflict(text, ["torch==2.13.0+cpu"])
    assert str(conflict) == (
        "project[new] 0.1 requires torch>=2.14, but torch==2.13.0+cpu is installed"
    )
    conflict = find_constraint_conflict(text, ["torch==2.14.1"])
    assert conflict is not None and "torch>=2.13; project[new]" in str(conflict), "none excludes it"


def test_a_conflict_of_others_is_not_ours():
    text = CONFLICT.replace("torch", "left-pad")
    assert find_constraint_conflict(text, ["torch==1.8.1+cu111"]) is None


def test_a_requirement_that_cannot_be_read_is_passed_over():
    assert requirement_in_failure("torch >2.* or torch >=2.1 is needed", "torch") == "torch>=2.1"
    assert requirement_in_failure("torch >2.* is needed", "torch") == "torch"


def test_no_version_left_names_the_requirement():
    text = "ERROR: Could not find a version that satisfies the requirement torch>=2 (from versions: 1.0)"
    conflict = find_constraint_conflict(text, ["torch==1.8.1"])
    assert conflict == ("torch>=2 was wanted", "torch==1.8.1", "torch>=2")
    assert str(conflict) == "torch>=2 was wanted, but torch==1.8.1 is installed"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ERROR: No matching distribution found for torch-scatter==2.1.2", ("torch-scatter",)),
        ("Collecting torch_sparse>=0.6 (from inner)", ("torch-sparse",)),
        ("ERROR: Failed building wheel for torch_scatter", ("torch-scatter",)),
        ("Looking in links: /home/me/pyg-lib/wheels", ()),
        ("ERROR: Could not open requirements file: /home/me/torch-scatter/r.txt", ()),
        ("ERROR: No matching distribution found for torch-scatter-lightning", ()),
        ("Requirement already satisfied: pyg-lib", ()),
    ],
)
def test_projects_of_the_index_are_found_in_a_failure(line, expected):
    text = f"Looking in indexes: https://pypi.org/simple\n{line}\nhint: see above\n"
    assert names_in_failure(text, {"torch-scatter", "torch-sparse", "pyg-lib"}) == expected


@pytest.mark.parametrize(
    ("line", "of_build", "of_search"),
    [
        ("  Building wheel for delta (pyproject.toml): started", True, False),
        ("  Created wheel for delta: filename=x", True, False),
        ("Successfully built delta", True, False),
        ("Collecting alpha", False, True),
        ("Saved ./x.whl", False, True),
        ("Installing collected packages: setuptools", False, True),
        ("  Running command Building wheel for delta (pyproject.toml)", False, False),
    ],
)
def test_lines_of_a_pip_that_fetches(line, of_build, of_search):
    assert (is_of_build(line), is_of_search(line)) == (of_build, of_search)


# --- what these pips really printed ---------------------------------------------------------------

LINES = json.loads((Path(__file__).parent / "pip_lines.json").read_text(encoding="utf-8"))
PIPS = [name for name in LINES if name != "how"]
GUARD = ["torch==1.8.1+cu111"]


def printed(version, case):
    return "\n".join(LINES[version][case]) + "\n"


@pytest.mark.parametrize("version", PIPS)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            "conflict",
            "harmful-tools 1.0 requires torch==2.4.1, but torch==1.8.1+cu111 is installed",
        ),
        ("two", "two-sided 1.0 requires torch<2.1,>=2.0, but torch==1.8.1+cu111 is installed"),
        ("direct", "torch>=2 was wanted, but torch==1.8.1+cu111 is installed"),
        ("missing", None),
        ("bad", None),
    ],
)
def test_who_wanted_another_torch(version, case, reason):
    conflict = find_constraint_conflict(printed(version, case), GUARD)
    assert (conflict and str(conflict)) == reason
    # what nobody's metadata requires is known apart from the sentence
    assert (conflict.asked if conflict else "") == ("torch>=2" if case == "direct" else "")


@pytest.mark.parametrize("version", PIPS)
def test_a_project_that_no_index_has(version):
    output = printed(version, "missing")
    assert has_no_match(output)
    assert unmatched_requirement(output) == "torch-scatter>=2"
    assert names_in_failure(output, {"torch-scatter", "torch-sparse"}) == ("torch-scatter",)
    assert requirement_in_failure(output, "torch-scatter") == "torch-scatter>=2"
    assert requirement_in_failure(output, "torch-sparse") == "torch-sparse"
    assert failure_line(output) == "ERROR: No matching distribution found for torch-scatter>=2"
    assert not has_no_match(printed(version, "bad"))


@pytest.mark.parametrize("version", PIPS)
def test_a_build_that_failed(version):
    output = printed(version, "bad")
    assert name_at_work(output) == "./src/bad"
    assert name_at_work(printed(version, "good")) == "delta"
    assert failure_line(output) == "hint: See above for details."


@pytest.mark.parametrize("version", PIPS)
def test_the_summary_of_a_dry_run(version):
    found = [line for line in LINES[version]["would"] if is_summary_of_dry_run(line)]
    assert found == ["Would install harmful-tools-1.0 torch-2.4.1"]


@pytest.mark.parametrize("version", PIPS)
def test_lines_of_a_build(version):
    lines = LINES[version]["good"]
    builds = [line.split()[0] for line in lines if is_of_build(line)]
    assert builds == ["Building", "Building", "Building", "Created", "Stored", "Successfully"]
    assert [line.split()[0] for line in lines if is_of_search(line)] == ["Looking", "Processing"]
    assert [line for line in LINES[version]["would"] if is_of_build(line)] == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            True,
        ),
        ("OSError: [Errno 122] Disk quota exceeded: '/home/me/x'", True),
        ("ERROR: No matching distribution found for x", False),
    ],
)
def test_a_full_disk(output, expected):
    assert is_disk_full(output) is expected


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ("WARNING: a\nERROR: one\nERROR: two\nnote: x\n", "ERROR: two"),
        ("  fatal: x\n\n", "  fatal: x"),
        ("\n \n", "no message"),
    ],
)
def test_the_line_that_says_why(errors, expected):
    assert failure_line(errors) == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Looking in indexes: https://h/simple\nUser for h:8080: ", "h:8080"),
        ("User for h: x", None),
        ("Password: ", None),
        ("", None),
    ],
)
def test_the_question_for_a_user(text, place):
    assert place_in_question(text) == place
    if place is not None:
        assert text.endswith(user_question(place))


@pytest.mark.parametrize("question", ["User for {netloc}: ", PASSWORD_QUESTION, SAVE_QUESTION])
def test_the_questions_are_those_of_the_pip_that_is_here(question):
    """pip/_internal/network/auth.py has them; pip is read here, and not run."""
    spec = importlib.util.find_spec("pip")
    if spec is None:
        pytest.skip("no pip here")
    source = Path(spec.origin).parent / "_internal" / "network" / "auth.py"
    assert f'"{question}"' in source.read_text(encoding="utf-8")


def test_warnings_of_getpass():
    assert is_of_getpass(
        "/usr/lib/python3.8/getpass.py:91: GetPassWarning: Can not control echo on the terminal."
    )
    assert is_of_getpass("Warning: Password input may be echoed.")
    assert not is_of_getpass("WARNING: Retrying")


def test_the_wishes_of_each_party_of_a_conflict():
    two = CONFLICT.replace(
        "    The user",
        "    middle 2.0 depends on torch<2.1 and >=2.0\n    middle 2.0 depends on six\n    The user",
    )
    assert wishes_in_conflict(two, "torch") == ("torch==2.4.1", "torch<2.1,>=2.0")
    assert wishes_in_conflict("", "torch") == ()


def test_a_build_that_needs_a_module():
    """As setuptools' backend ends in pip 23.2.1 and 26.3."""
    assert lacks_module("      ModuleNotFoundError: No module named 'torch'\n", "torch")
    assert not lacks_module(
        "      ModuleNotFoundError: No module named 'torch_geometric'\n", "torch"
    )


@pytest.mark.parametrize(
    ("line", "is_said"),
    [
        (
            "torch-scatter is already installed with the same version as the provided wheel. Use "
            "--force-reinstall to force an installation of the wheel.",
            True,
        ),
        ("torch_scatter is already installed with the same version as the provided wheel.", True),
        ("demo is already installed with the same version as the provided wheel.", False),
        ("Requirement already satisfied: torch-scatter in /env (2.1.2)", False),
    ],
)
def test_what_pip_says_of_a_wheel_that_replaces_the_same_version(line, is_said):
    assert is_about_same_version(line, {canonicalize_name("torch-scatter")}) is is_said
