"""Nodes by kind, and what differs between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safe_install.fleet.answers import DriverFacts, NodeTorch
from safe_install.fleet.comparison import Deviation, compare_nodes
from safe_install.fleet.groups import make_groups, share_environments
from safe_install.fleet.state import FleetState, NodeState
from tests.unit.fleet.simulated import RUN, facts_of

TORCH = NodeTorch("2.8.0+cu126", "cu126", True)
OLD_DRIVER = DriverFacts("535.104.05", "12.2", ("A100",), ("8.0",))
NEW_DRIVER = DriverFacts("580.65", "13.0", ("H100",), ("9.0",))


def nodes(**facts):
    return [NodeState(name, "python", facts=one) for name, one in facts.items()]


def gpu(**values):
    return facts_of((1, 1), torch=TORCH, driver=OLD_DRIVER, **values)


@pytest.mark.parametrize(
    ("other", "count"),
    [
        ({}, 1),
        ({"python": "3.11.9"}, 1),
        ({"libc": ("glibc", "2.28")}, 1),
        ({"driver": NEW_DRIVER}, 1),
        ({"driver": None}, 1),
        ({"python": "3.12.1"}, 2),
        ({"platform": "linux_aarch64"}, 2),
        ({"libc": ("musl", "1.2")}, 2),
        ({"torch": NodeTorch("2.9.0+cu126", "cu126", True)}, 2),
        ({"torch": NodeTorch("2.8.0+cu126", "cu126", False)}, 2),
        ({"torch": None}, 2),
    ],
)
def test_the_kind_is_what_the_choice_depends_on(other, count):
    groups = make_groups(nodes(a=gpu(), b=replace(gpu(), **other), c=gpu()))
    assert len(groups) == count
    assert groups[0].nodes == (("a", "b", "c") if count == 1 else ("a", "c"))


def test_what_has_to_be_old_enough_is_the_oldest():
    newer = replace(gpu(), driver=NEW_DRIVER, libc=("glibc", "2.41"))
    (group,) = make_groups(nodes(a=newer, b=replace(gpu(), libc=("glibc", "2.9"))))
    assert group.words == (
        *("--python-version", "3.11", "--platform", "manylinux_2_9_x86_64"),
        *("--torch", "2.8.0+cu126", "--cxx11-abi", "true"),
        *("--target-driver", "535.104.05", "--target-gpu", "8.0,9.0"),
    )


def test_what_all_of_a_kind_have_is_what_is_the_same_everywhere():
    one = {"numpy": ("2.1", "a" * 64), "scipy": ("1.0", "b" * 64), "only": ("1", "c" * 64)}
    other = {"numpy": ("2.1", "a" * 64), "scipy": ("1.0", "d" * 64)}
    (group,) = make_groups(nodes(a=gpu(distributions=one), b=gpu(distributions=other)))
    assert group.installed == {"numpy": ("2.1", "a" * 64)}


def test_wheels_that_lie_in_every_cache_of_a_kind():
    one, other = gpu(wheels=("1" * 64, "2" * 64)), gpu(wheels=("2" * 64, "3" * 64))
    (group,) = make_groups(nodes(a=one, b=other))
    assert group.wheels == {"2" * 64}
    (group,) = make_groups(nodes(a=one, b=gpu()))
    assert group.wheels == frozenset()


def test_without_torch_the_driver_decides_which_one_comes():
    bare = facts_of((1, 1))
    groups = make_groups(nodes(a=bare, b=replace(bare, driver=OLD_DRIVER)))
    assert [group.nodes for group in groups] == [("a",), ("b",)]
    assert "--torch" not in groups[0].words
    assert "--target-driver" not in groups[0].words


def test_without_a_gpu_only_the_driver_is_named():
    bare = DriverFacts("535.104.05", "12.2", (), ())
    (group,) = make_groups(nodes(a=facts_of((1, 1), driver=bare)))
    assert group.words[4:] == ("--target-driver", "535.104.05")


def test_a_version_that_is_none_is_the_oldest():
    strange = replace(OLD_DRIVER, version="x")
    (group,) = make_groups(nodes(a=gpu(), b=replace(gpu(), driver=strange)))
    assert group.words[group.words.index("--target-driver") + 1] == "x"


@pytest.mark.parametrize(
    ("places", "leaders"),
    [
        ({"a": ((1, 2), ""), "b": ((1, 2), ""), "c": ((1, 3), "")}, ["", "a", ""]),
        ({"a": ((1, 2), "m"), "b": ((9, 9), "m"), "c": ((9, 9), "")}, ["", "a", "a"]),
        ({"a": ((1, 2), "m"), "b": ((1, 3), "k"), "c": ((1, 4), "")}, ["", "", ""]),
    ],
)
def test_who_shares_an_environment(places, leaders):
    found = {name: facts_of(place, marker=marker) for name, (place, marker) in places.items()}
    state = share_environments(FleetState(RUN, tuple(nodes(**found))))
    assert [node.leader for node in state.nodes] == leaders


def test_the_odd_ones_come_first():
    usual = facts_of((1, 1), torch=TORCH, distributions={"torch": ("2.8.0", "1" * 64)})
    other = replace(usual, distributions={"torch": ("2.8.0", "2" * 64), "numpy": ("2.0", "")})
    old = replace(usual, python="3.10.1")
    groups = compare_nodes({"a": usual, "b": other, "c": usual, "d": old, "e": usual})
    assert [group.nodes for group in groups] == [("d",), ("b",), ("a", "c", "e")]
    assert groups[1].deviations == (
        Deviation("torch", "2.8.0+cu126, with other files", "2.8.0+cu126"),
        Deviation("numpy", "2.0", "none"),
    )
    assert groups[0].deviations == (Deviation("Python", "3.10.1", "3.11.7"),)
    assert groups[2].deviations == ()
    assert compare_nodes({}) == ()


GPUS = ("L4", "A100", "A100")


@pytest.mark.parametrize(
    ("driver", "deviations"),
    [
        (DriverFacts("535.104.05", "12.2", GPUS, ()), ()),
        (DriverFacts("580.65", "13.0", GPUS, ()), (("driver", "580.65", "535.104.05"),)),
        (DriverFacts("", "12.2", GPUS, ()), (("driver", "12.2", "535.104.05"),)),
        (DriverFacts("", "", GPUS, ()), (("driver", "of an unknown version", "535.104.05"),)),
        (
            DriverFacts("535.104.05", "12.2", ("A100",), ()),
            (("GPUs", "1 x A100", "2 x A100, 1 x L4"),),
        ),
        (DriverFacts("535.104.05", "12.2", (), ()), (("GPUs", "none", "2 x A100, 1 x L4"),)),
        (None, (("driver", "none", "535.104.05"), ("GPUs", "none", "2 x A100, 1 x L4"))),
    ],
)
def test_another_driver_or_other_gpus(driver, deviations):
    usual = facts_of((1, 1), driver=DriverFacts("535.104.05", "12.2", ("A100", "L4", "A100"), ()))
    groups = compare_nodes({"a": usual, "b": replace(usual, driver=driver), "c": usual})
    assert groups[0].deviations == tuple(Deviation(*one) for one in deviations)


def test_a_torch_comes_or_goes():
    usual = facts_of((1, 1), torch=TORCH, distributions={"torch": ("2.8.0", "1" * 64)})
    without = facts_of((1, 1), distributions={})
    groups = compare_nodes({"a": usual, "b": without, "c": usual})
    assert groups[0].nodes == ("b",)
    assert groups[0].deviations == (Deviation("torch", "none", "2.8.0+cu126"),)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"platform": "macosx_14_0_arm64", "libc": ("", "")}, ("--platform", "macosx_14_0_arm64")),
        ({"libc": ("musl", "1.2.4")}, ("--platform", "musllinux_1_2_x86_64")),
        ({"libc": ("uclibc", "1.0")}, ("--platform", "linux_x86_64")),
    ],
)
def test_the_platform_of_a_kind(facts, words):
    (group,) = make_groups([*nodes(a=facts_of((1, 1), **facts)), NodeState("silent", "python")])
    assert group.nodes == ("a",)
    assert group.words[2:4] == words


@pytest.mark.parametrize(
    ("cxx11_abi", "words"),
    [(True, ("--cxx11-abi", "true")), (False, ("--cxx11-abi", "false")), (None, ())],
)
def test_the_abi_is_named_where_it_is_known(cxx11_abi, words):
    torch = replace(TORCH, cxx11_abi=cxx11_abi)
    (group,) = make_groups(nodes(a=facts_of((1, 1), torch=torch)))
    assert group.words[4:] == ("--torch", "2.8.0+cu126", *words)
