"""What pip would write by another door: refused where it leads into the environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from safe_install.commands import install
from safe_install.commands.install import find_destination, refuse_place
from safe_install.errors import Refused
from safe_install.models import Action, Plan, Step
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install
from tests.factories import planned_torch


def request(*argv, **configuration):
    return parse_install(
        split_words(("a", *argv)), environ={}, configuration=configuration, read=lambda name: ""
    )


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to("env")
    return tmp_path / "env"


@pytest.mark.parametrize(
    "argv",
    [
        ["--root=/"],
        ["--target={env}"],
        ["--target={env}/lib/python3.11/site-packages"],
        ["--target={base}/link"],
        ["--prefix={env}"],
        ["--prefix={base}/elsewhere/../env"],
        ["--root={base}", "--prefix=/env"],
        ["--root={base}", "--prefix=/link/share"],
        ["--root=/", "--user"],
    ],
)
def test_a_place_in_the_environment_is_refused(environment, argv):
    words = [word.format(env=environment, base=environment.parent) for word in argv]
    with pytest.raises(Refused) as caught:
        refuse_place(request(*words), environment / "bin" / "python")
    option = words[0].partition("=")[0]
    assert caught.value.hint == f"Leave {option} out: then the install is guarded."


def test_the_configuration_counts(environment):
    with pytest.raises(Refused):
        refuse_place(request(root="/"), environment / "bin" / "python")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--user"],
        ["--target={base}/elsewhere"],
        ["--target={env}-2"],
        ["--root={base}/image"],
        ["--root={base}", "--prefix=/rest"],
        ["--root=/", "--prefix={base}/rest"],
    ],
)
def test_a_place_elsewhere_is_pips(environment, argv):
    words = [word.format(env=environment, base=environment.parent) for word in argv]
    refuse_place(request(*words), environment / "bin" / "python")


@pytest.mark.parametrize(
    ("configuration", "argv", "destination"),
    [
        ({}, [], None),
        ({}, ["--user"], None),
        ({}, ["--target=/t"], Path("/t")),
        ({}, ["--target=~/t"], Path("/home/me/t")),
        ({}, ["--prefix=/p"], Path("/p")),
        ({}, ["--prefix=rest"], Path("/rest")),
        ({}, ["--root=/r"], Path("/r/env")),
        ({}, ["--root=/"], Path("/env")),
        ({}, ["--root=/tmp", "--prefix=/p"], Path("/tmp/p")),
        ({}, ["--root=/", "--prefix=/env"], Path("/env")),
        ({}, ["--root=/env", "--prefix=/p/.."], Path("/env")),
        ({"root": "/"}, [], Path("/env")),
        ({"root": "/"}, ["--prefix=/p"], Path("/p")),
        ({"root": "/", "target": "/t"}, [], Path("/t")),
    ],
)
def test_where_pip_would_write(monkeypatch, configuration, argv, destination):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/")
    assert find_destination(request(*argv, **configuration), Path("/env")) == destination


# --- what a plan is refused for -------------------------------------------------------------------

TORCH_STEP = Step(Action.REPLACE, "torch", "2.14.1", from_version="2.13.0")
BUILT = Step(Action.ADD, "torch-scatter", "2.1.2")


def selected(*steps, torch="2.14.1"):
    return SimpleNamespace(plan=Plan(steps), torch_after=planned_torch(torch, "linux_x86_64"))


@pytest.mark.parametrize(
    ("again", "looks"),
    [
        (selected(TORCH_STEP, BUILT), 1),
        # the wheel in place of what stood for it
        (selected(TORCH_STEP, dataclasses.replace(BUILT, sha256="1" * 64)), 1),
        (selected(TORCH_STEP, BUILT, Step(Action.ADD, "scipy", "1.17")), 2),
        (selected(TORCH_STEP, dataclasses.replace(BUILT, action=Action.REPLACE)), 2),
        (selected(TORCH_STEP, BUILT, torch="2.14.1+cpu"), 2),
    ],
)
def test_a_plan_is_looked_at_once_unless_a_build_changed_it(monkeypatch, again, looks):
    seen = []
    monkeypatch.setattr(install, "_find_breakage", lambda session, one: seen.append(one) or ["x"])
    monkeypatch.setattr(install, "_check_before", lambda session, plan, before: seen.append(plan))
    check = install._PlanCheck(None, None)
    first = selected(TORCH_STEP, BUILT)
    assert (check.refuse(first), check.refuse(again)) == (["x"], ["x"])
    assert len(seen) == 2 * looks
