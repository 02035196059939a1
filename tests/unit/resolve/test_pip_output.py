"""What pip's sentences say."""

from __future__ import annotations

import pytest

from safe_install.resolve.pip_output import conflict_reason, names_in_failure

# What pip 23.2.1 and 26.3 really printed for these requests beside torch 2.13.0+cpu.
CONFLICT = """
ERROR: Cannot install harmful-tools==1.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    harmful-tools 1.0 depends on torch==2.4.1
    The user requested (constraint) torch==1.8.1+cu111

To fix this you could try to:
"""


def test_a_conflict_with_the_guard_names_the_requirement():
    reason = conflict_reason(CONFLICT, ["torch==1.8.1+cu111"])
    assert reason == "harmful-tools 1.0 requires torch==2.4.1, but torch==1.8.1+cu111 is installed"


def test_two_specifiers_are_joined_as_a_requirement_has_them():
    text = CONFLICT.replace("torch==2.4.1", "torch<2.1 and >=2.0")
    reason = conflict_reason(text, ["torch==1.8.1+cu111"])
    assert reason == "harmful-tools 1.0 requires torch<2.1,>=2.0, but torch==1.8.1+cu111 is installed"


def test_a_conflict_of_others_is_not_ours():
    text = CONFLICT.replace("torch", "left-pad")
    assert conflict_reason(text, ["torch==1.8.1+cu111"]) is None


def test_no_version_left_names_the_requirement():
    text = "ERROR: Could not find a version that satisfies the requirement torch>=2 (from versions: 1.0)"
    assert conflict_reason(text, ["torch==1.8.1"]) == "torch>=2 was wanted, but torch==1.8.1 is installed"


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
