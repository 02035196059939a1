"""The wishes that exclude each other, and what gives way: a table over which torch meets which
wishes."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from safe_install.resolve.torch_change import AskedOfTorch
from safe_install.resolve.torch_conflict import (
    Conflict,
    TorchRow,
    TorchWish,
    WayOut,
    WishKind,
    describe_conflict,
    describe_ways,
    find_conflict,
    make_record,
    met_by_torch,
    wish_for,
    wishes_of,
    without_wishes,
)
from safe_install.resolve.torch_ranking import TorchTerms
from tests.factories import planned_torch

MACHINE = "Python 3.11, linux_x86_64"
TORCH, ACCELERATOR, EXTENSION = WishKind.TORCH, WishKind.ACCELERATOR, WishKind.EXTENSION


def extensions_of(*texts):
    return tuple(TorchWish(EXTENSION, text) for text in texts)


def rows(**table):
    """`new="a b"`: the torch of that name meets a and b; `?c`: only a host can tell."""
    found = []
    for version, text in table.items():
        words = text.split()
        unknown = frozenset(word[1:] for word in words if word.startswith("?"))
        found.append(
            TorchRow(version, frozenset(words) - {f"?{name}" for name in unknown}, unknown)
        )
    return found


@pytest.mark.parametrize(
    ("wishes", "table", "smallest", "ways", "is_open"),
    [
        ("", {"new": ""}, None, (), False),
        ("a", {"new": "", "old": "a"}, None, (), False),
        ("a b", {"new": "a", "old": "a b"}, None, (), False),
        ("a", {"new": "", "old": ""}, "a", (("a", "new"),), False),
        ("a", {"new": "", "old": "?a"}, "a", (("a", "new"),), True),
        ("a b", {"new": "a", "old": "b"}, "a b", (("b", "new"), ("a", "old")), False),
        ("a b", {"new": "b", "old": "a"}, "a b", (("a", "new"), ("b", "old")), False),
        ("a b", {"new": "a ?b", "old": "b"}, "a b", (("b", "new"), ("a", "old")), True),
        # one that nothing meets is smaller than a pair
        ("a b c", {"new": "a", "old": "b"}, "c", (("b c", "new"), ("a c", "old")), False),
        # the pair, and not the third that goes with both
        ("a b c", {"new": "a c", "old": "b c"}, "a b", (("b", "new"), ("a", "old")), False),
        (
            "a b c",
            {"1": "a b", "2": "b c", "3": "a c"},
            "a b c",
            (("c", "1"), ("a", "2"), ("b", "3")),
            False,
        ),
        # the fewest give way, whatever torch is newer; of equal sets the newest torch
        ("a b c", {"1": "a", "2": "b c", "3": "b c"}, "a b", (("a", "2"),), False),
        # nothing for this machine
        ("a", {}, "", (), False),
    ],
)
def test_what_excludes_each_other(wishes, table, smallest, ways, is_open):
    found = find_conflict(wishes.split(), rows(**table))
    if smallest is None:
        assert found is None
        return
    expected = tuple(WayOut(tuple(without.split()), torch) for without, torch in ways)
    assert found == Conflict(tuple(smallest.split()), expected, is_open)


def test_of_many_wishes_the_pair_is_found_at_once():
    names = [f"p{number}" for number in range(20)]
    table = [TorchRow(name, frozenset(names) - {name}) for name in names[:2]]
    found = find_conflict(names, table)
    assert found.wishes == ("p0", "p1")
    assert [way.without for way in found.ways] == [("p0",), ("p1",)]


TERMS = TorchTerms(
    (Requirement("torch"), Requirement("torch>=2.9")),
    (Requirement("torch<2.14"),),
    asked=AskedOfTorch(("torch", "torch>=2.9")),
    accelerator="cu126",
)


def test_the_wishes_are_what_the_person_wrote():
    extensions = [Requirement("torch-scatter>=2"), Requirement("flash-attn")]
    found = wishes_of(TERMS, extensions)
    assert [wish.kind for wish in found] == [TORCH, TORCH, ACCELERATOR, EXTENSION, EXTENSION]
    assert tuple(map(str, found)) == (
        "torch>=2.9",
        "torch<2.14",
        "--accelerator cu126",
        "torch-scatter>=2",
        "flash-attn",
    )


@pytest.mark.parametrize(
    ("version", "met"),
    [
        ("2.13.0+cu126", {"torch", "torch>=2.9", "torch<2.14", "--accelerator cu126"}),
        ("2.13.0+cpu", {"torch", "torch>=2.9", "torch<2.14"}),
        ("2.14.1+cu126", {"torch", "torch>=2.9", "--accelerator cu126"}),
        ("2.8.0+cu126", {"torch", "torch<2.14", "--accelerator cu126"}),
    ],
)
def test_what_a_torch_meets(version, met):
    found = met_by_torch(planned_torch(version, "linux_x86_64"), TERMS)
    assert set(map(str, found)) == met


@pytest.mark.parametrize(
    ("installed", "terms", "version", "is_met"),
    [
        ("2.13.0+cu130", TorchTerms(), "2.14.1", True),
        ("2.13.0+cu130", TorchTerms(), "2.12.0", False),
        ("2.13.0+cu130", TorchTerms(), "2.14.1+cpu", False),
        ("2.13.0+cu130", TorchTerms(asked=AskedOfTorch(("torch<2.13",))), "2.12.0", True),
        (
            "2.13.0+cu130",
            TorchTerms(asked=AskedOfTorch(("torch==2.14.1+cpu",))),
            "2.14.1+cpu",
            True,
        ),
        ("2.13.0+cu130", TorchTerms(asked=AskedOfTorch(allow_change=True)), "2.12.0+cpu", True),
    ],
)
def test_an_installed_torch_is_a_wish(installed, terms, version, is_met):
    there = planned_torch(installed, "linux_x86_64")
    wish = TorchWish(WishKind.INSTALLED, installed)
    assert str(wish) == f"the installed torch {installed}"
    assert wishes_of(terms, [], there) == (wish,)
    assert (wish in met_by_torch(planned_torch(version, "linux_x86_64"), terms, there)) == is_met


def test_an_address_is_met_by_no_release():
    terms = TorchTerms(
        (Requirement("torch @ https://h/torch-2.13.0-cp311-cp311-linux_x86_64.whl"),)
    )
    assert met_by_torch(planned_torch("2.13.0", "linux_x86_64"), terms) == frozenset()


def test_what_is_left_without_wishes():
    freed = without_wishes(TERMS, accelerator="cpu")
    assert (freed.requirements, freed.constraints, freed.accelerator) == ((), (), "cpu")
    assert freed.asked.allow_change, "an installed torch is no wish"


@pytest.mark.parametrize(
    ("conflict", "sentence"),
    [
        (Conflict(()), f"there is no torch for {MACHINE}"),
        (
            Conflict(extensions_of("flash-attn")),
            f"no torch for {MACHINE} has a wheel of flash-attn",
        ),
        (
            Conflict(extensions_of("flash-attn"), is_open=True),
            f"whether a torch for {MACHINE} has a wheel of flash-attn is not known here",
        ),
        (
            Conflict((TorchWish(TORCH, "torch==9.9"),)),
            f"there is no torch==9.9 for {MACHINE}",
        ),
        (
            Conflict((TorchWish(ACCELERATOR, "cu92"),)),
            f"there is no torch for cu92, {MACHINE}",
        ),
        # by what a wish is, and not by how it begins
        (
            Conflict(extensions_of("torch @ https://h/x.whl")),
            f"no torch for {MACHINE} has a wheel of torch @ https://h/x.whl",
        ),
        (
            Conflict(extensions_of("a", "b")),
            f"a and b exclude each other: no torch for {MACHINE} meets both",
        ),
        (
            Conflict(extensions_of("a", "b", "c")),
            f"a, b and c exclude each other: no torch for {MACHINE} meets all of them",
        ),
    ],
)
def test_the_sentence(conflict, sentence):
    assert describe_conflict(conflict, MACHINE) == sentence


@pytest.mark.parametrize(
    ("ways", "text"),
    [
        ((), ""),
        ((WayOut(extensions_of("b"), "2.13.0+cu130"),), "Without b: torch 2.13.0+cu130 has a."),
        (
            (WayOut((TorchWish(TORCH, "torch==1.0"),), "2.13.0"),),
            "Without torch==1.0: torch 2.13.0 has all of a, b.",
        ),
        ((WayOut(extensions_of("a", "b"), "2.13.0"),), "Without a and b: torch 2.13.0 may come."),
        (
            (WayOut(extensions_of("a", "b", "c"), "2.13.0"),),
            "Without a, b and c: torch 2.13.0 may come.",
        ),
        (
            tuple(WayOut(extensions_of(name), name) for name in "pqrs"),
            "Without p: torch p has all of a, b. Without q: torch q has all of a, b. "
            "Without r: torch r has all of a, b.",
        ),
    ],
)
def test_the_ways_out(ways, text):
    conflict = Conflict(extensions_of("a", "b"), ways)
    assert describe_ways(conflict, [Requirement("a"), Requirement("b")]) == text


def test_a_project_that_was_asked_for_twice_is_named_once():
    asked = [Requirement("a"), Requirement("a>=2"), Requirement("b")]
    way = WayOut((TorchWish(TORCH, "torch<2"),), "2.13.0")
    conflict = Conflict((), (way,))
    assert describe_ways(conflict, asked) == "Without torch<2: torch 2.13.0 has all of a>=2, b."


def test_the_record():
    accelerator = TorchWish(ACCELERATOR, "cu92")
    wishes = (wish_for(Requirement("a")), accelerator)
    conflict = Conflict(wishes, (WayOut((accelerator,), "2.13.0"),), is_open=True)
    assert make_record(conflict) == {
        "wishes": ["a", "--accelerator cu92"],
        "ways": [{"without": ["--accelerator cu92"], "torch": "2.13.0"}],
        "is_open": True,
    }
