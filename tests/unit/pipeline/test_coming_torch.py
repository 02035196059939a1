"""The torch that is unpacked for a build: is it the one that would be imported, and is there room
for it?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from safe_install.errors import Refused
from safe_install.models import Action, Step
from safe_install.pipeline import coming_torch
from safe_install.transaction import room as room_module
from safe_install.transaction.room import Room
from tests.factories import make_distribution, make_environment

SITE = Path("/work/unpacked/site-packages")
STEPS = (Step(Action.ADD, "torch", "2.14.1"), Step(Action.ADD, "sympy", "1.14"))


def found(*, folder=SITE / "torch", version="2.14.1", has_torch=True):
    """What a probe answers."""
    environment = make_environment(make_distribution("torch", version), torch=version)
    torch = replace(environment.torch, folder=folder) if has_torch else None
    return replace(environment, torch=torch)


def test_the_unpacked_torch_is_taken():
    assert coming_torch._check_torch(found(), (SITE,), STEPS).folder == SITE / "torch"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            found(folder=Path("/env/site-packages/torch")),
            "in /env/site-packages/torch is imported in its place",
        ),
        (found(folder=SITE / "other/torch"), "is imported in its place"),
        (found(version="2.13.0"), "torch 2.13.0"),
        (found(has_torch=False), "no torch is imported"),
    ],
)
def test_another_torch_is_not_built_for(answer, words):
    with pytest.raises(
        Refused, match=r"nothing can be built for torch 2\.14\.1 before it is installed"
    ) as raised:
        coming_torch._check_torch(answer, (SITE,), STEPS)
    assert words in raised.value.message


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (Room("/tmp", 50 * 2**20), "/tmp has 50 MiB free and this needs about 10"),
        (Room("/tmp", 2**40, 20), "takes 20 more files"),
        (Room("/tmp", 2**40), ""),
    ],
)
def test_is_there_room(monkeypatch, room, words):
    monkeypatch.setattr(room_module, "read_room", lambda folder: room)
    artifacts = {"torch": SimpleNamespace(sizes=(("torch/lib/libtorch.so", 100 * 2**20),))}
    if not words:
        coming_torch._check_room(Path("/tmp/x"), artifacts)
        return
    with pytest.raises(Refused) as raised:
        coming_torch._check_room(Path("/tmp/x"), artifacts)
    assert words in raised.value.message and "TMPDIR" in raised.value.hint
