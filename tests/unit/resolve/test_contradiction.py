"""Requirements on torch that exclude each other are named with their places before pip is asked."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from safe_install.errors import NoCandidate
from safe_install.index.catalog import bundled_catalog
from safe_install.resolve.contradiction import (
    MAX_REASONS,
    explain_failure,
    find_contradiction,
    refuse_contradiction,
)
from safe_install.resolve.requirements_file import Entry
from tests.factories import environment_for

CATALOG = bundled_catalog()
TABLE = CATALOG.torch
HERE = environment_for(torch="2.13.0+cpu", python_version="3.11", platform="linux_x86_64")


def excluding(*texts):
    """The texts among these that exclude each other."""
    found = find_contradiction([(Requirement(text), "") for text in texts], TABLE)
    return None if found is None else [str(requirement) for requirement, _ in found]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["torch==2.12.0", "torch==2.13.0"], ["torch==2.12.0", "torch==2.13.0"]),
        (["torch", "torch==2.12.0", "torch>=2.13"], ["torch==2.12.0", "torch>=2.13"]),
        (["torch<2.12", "torch>=2.12"], ["torch<2.12", "torch>=2.12"]),
        (["torch==2.12.*", "torch==2.13.*"], ["torch==2.12.*", "torch==2.13.*"]),
        (["torch~=2.12.0", "torch==2.13.0"], ["torch~=2.12.0", "torch==2.13.0"]),
        (
            ["torch==2.13.0+cpu", "torch==2.13.0+cu126"],
            ["torch==2.13.0+cpu", "torch==2.13.0+cu126"],
        ),
        (["torch<2.12,>2.13"], ["torch<2.12,>2.13"]),
        (
            ["torch>=2.12,<2.14", "torch!=2.12.*", "torch!=2.13.*"],
            ["torch<2.14,>=2.12", "torch!=2.12.*", "torch!=2.13.*"],
        ),
    ],
)
def test_which_exclude_each_other(texts, expected):
    assert excluding(*texts) == expected


@pytest.mark.parametrize(
    "texts",
    [
        ["torch"],
        ["torch==2.13.0", "torch==2.13.0+cpu"],
        ["torch==2.13.0", "torch>=2.12", "torch<2.14"],
        ["torch==2.13", "torch==2.13.0"],
        ["torch>2.13.0", "torch<2.14"],
        # newer than what is known here: only an index can tell
        ["torch==99.1"],
        ["torch>98", "torch<99"],
        ["torch>98.1", "torch<98.2"],
        ["torch>=98,!=98.0", "torch<99"],
        # pre-releases are not known here
        ["torch>=2.16.0a0", "torch<2.16.0"],
        [],
    ],
)
def test_what_a_torch_could_meet(texts):
    assert excluding(*texts) is None


def test_both_are_named_with_where_they_stand():
    entries = [
        Entry("numpy==1"),
        Entry("torch==2.12.0"),
        Entry("torch==2.14.0; python_version < '3.9'"),
        Entry("torch==2.13.0", file="requirements.txt", line=3),
        Entry("Torch==2.13.0", constraint=True, file="constraints.txt", line=1),
        Entry("torch @ https://h/torch-2.11.0-cp311-cp311-linux_x86_64.whl"),
    ]
    with pytest.raises(NoCandidate) as caught:
        refuse_contradiction(entries, HERE, CATALOG)
    assert caught.value.message == (
        "torch==2.12.0 (on the command line) and torch==2.13.0 (requirements.txt, line 3) "
        "contradict each other: no torch can meet both"
    )
    refuse_contradiction(entries[:1] + entries[3:], HERE, CATALOG)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["torch==2.12.0", "torchvision==0.28.0"],
            "torch==2.12.0 (on the command line) and torch==2.13.0 (required by torchvision "
            "0.28.0) contradict each other: no torch can meet both",
        ),
        (
            ["torchvision==0.28.0+cpu", "torchaudio==2.9.1"],
            "torch==2.13.0 (required by torchvision 0.28.0) and torch==2.9.1 (required by "
            "torchaudio 2.9.1) contradict each other: no torch can meet both",
        ),
        (
            ["torch>=2.9,<2.12", "TorchVision==0.27.0"],
            "torch<2.12,>=2.9 (on the command line) and torch==2.12.0 (required by torchvision "
            "0.27.0) contradict each other: no torch can meet both",
        ),
    ],
)
def test_the_torch_that_a_companion_requires_is_one_of_them(texts, message):
    with pytest.raises(NoCandidate) as caught:
        refuse_contradiction([Entry(text) for text in texts], HERE, CATALOG)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("torch==2.13.0+cpu"), Entry("torchvision==0.28.0")],
        [Entry("torchvision==0.28.0")],
        # which versions an index has is not known here
        [Entry("torch==2.12.0"), Entry("torchvision>=0.28")],
        [Entry("torch==2.12.0"), Entry("torchvision==0.28.*")],
        [Entry("torch==2.12.0"), Entry("torchvision==99.0")],
        # it requires a torch or any newer one
        [Entry("torch==2.15.0"), Entry("torchaudio==2.11.0")],
        [Entry("torch==2.13.0"), Entry("torchtext==0.18.0")],
        # it need not come
        [Entry("torch==2.12.0"), Entry("torchvision==0.28.0", constraint=True)],
        [Entry("torch==2.12.0"), Entry("torchvision==0.28.0; python_version < '3'")],
        [Entry("torch==2.12.0"), Entry("torchvision @ https://h/torchvision-0.28.0.tar.gz")],
    ],
)
def test_what_a_companion_leaves_open(entries):
    refuse_contradiction(entries, HERE, CATALOG)


def test_without_dependencies_a_companion_requires_nothing():
    entries = [Entry("torch==2.12.0"), Entry("torchvision==0.28.0")]
    refuse_contradiction(entries, HERE, CATALOG, no_deps=True)


# --- ranges: which versions they hold, pip has seen on its index ----------------------------------

RANGES = [Entry("torch>=2.9,<2.12"), Entry("TorchVision>=0.28", file="requirements.txt", line=2)]
# As pip says it: each version that it has tried.
FAILURE = """ERROR: Cannot install torch<2.12 and >=2.9, torchvision==0.28.0 and torchvision==0.29.1

The conflict is caused by:
    The user requested torch<2.12 and >=2.9
    torchvision 0.29.1 depends on torch==2.14.1
    The user requested torch<2.12 and >=2.9
    torchvision 0.28.0 depends on torch==2.13.0
"""


def explained(entries, output=FAILURE):
    error = explain_failure(output, entries, HERE, TABLE)
    return error and error.message


def test_both_ranges_are_named_with_what_pip_has_seen():
    assert explained(RANGES) == (
        "torch<2.12,>=2.9 (on the command line) and TorchVision>=0.28 (requirements.txt, line 2) "
        "contradict each other: torchvision 0.29.1 requires torch==2.14.1; torchvision 0.28.0 "
        "requires torch==2.13.0"
    )
    assert explain_failure(FAILURE, RANGES, HERE, TABLE).exit_status == 10


def test_a_constraint_on_torch_is_named_too():
    entries = [Entry("torch<2.12", constraint=True, file="c.txt", line=1), RANGES[1]]
    assert explained(entries).startswith("torch<2.12 (c.txt, line 1) and TorchVision>=0.28")


def test_a_few_of_many_versions_are_shown():
    more = [f"    torchvision 0.28.{patch} depends on torch==2.13.{patch}" for patch in range(9)]
    told = explained(RANGES, FAILURE + "\n".join(more))
    assert told.count("requires torch==") == MAX_REASONS
    assert told.endswith("; and 7 more")


@pytest.mark.parametrize(
    ("entries", "output"),
    [
        # torch may come for one of them: pip failed on something else
        ([Entry("torch<2.14"), RANGES[1]], FAILURE),
        ([RANGES[1]], FAILURE),
        # nobody named it
        ([RANGES[0]], FAILURE),
        ([RANGES[0], Entry("torchvision>=0.28", constraint=True)], FAILURE),
        ([RANGES[0], Entry("torchvision>=0.28; python_version < '3'")], FAILURE),
        # two others that need not go together
        (RANGES, FAILURE + "    torchaudio 2.13.0 depends on torch==2.13.0\n"),
        (RANGES, "ERROR: No matching distribution found for torchvision>=0.28"),
        (RANGES, ""),
        # a requirement that cannot be parsed
        (RANGES, FAILURE + "    torchvision 0.27.0 depends on torch (damaged\n"),
    ],
)
def test_what_pip_fails_on_otherwise_stays_its_own(entries, output):
    assert explained(entries, output) is None
