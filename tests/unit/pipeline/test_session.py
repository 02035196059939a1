"""Which machine a command is about, which of its folders it may change, and what is said where it
may not."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from safe_install.errors import ExternallyManaged, PipFailed, Refused, UsageError
from safe_install.events import Reporter
from safe_install.models import Action, Driver, Plan, Scheme, Step
from safe_install.pipeline import session
from safe_install.ports import World
from safe_install.resolve.own_options import OwnOptions
from safe_install.transaction import history
from tests.factories import SITE, make_distribution, make_environment, make_interpreter

HERE = make_environment(torch="2.13.0+cpu")
ELSEWHERE = {"python_version": "3.8", "platform": "linux_x86_64"}


class Warned(Reporter):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def make_world(reporter=None):
    return World({}, reporter or Reporter(), Path("/cache"))


@pytest.fixture
def probed(monkeypatch):
    """The environment that is here, and with which driver it was read."""
    drivers = []

    def read(executable, driver):
        drivers.append(driver)
        return dataclasses.replace(HERE, driver=driver)

    monkeypatch.setattr(session, "find_interpreter", lambda named, environ: Path("/env/bin/python"))
    monkeypatch.setattr(session, "read_environment", read)
    monkeypatch.setattr(session, "read_driver", lambda: Driver("535.104", "12.2"))
    return drivers


# --- the machine ----------------------------------------------------------------------------------


def test_without_a_word_it_is_the_one_that_is_here(probed):
    found = session.environment_asked_for(OwnOptions(), make_world())
    assert (found.torch, found.driver) == (HERE.torch, Driver("535.104", "12.2"))


def test_what_was_declared_wins_over_the_driver_here(probed):
    own = OwnOptions(target_driver="580.65.06", target_gpu=("8.0",))
    session.environment_asked_for(own, make_world())
    (driver,) = probed
    assert (driver.version, driver.cuda, driver.declared) == ("580.65.06", "13.0", True)
    assert [device.compute_capability for device in driver.devices] == ["8.0"]


@pytest.mark.parametrize(
    ("words", "python", "platform", "glibc"),
    [
        ({"torch": "1.8.1+cu111", **ELSEWHERE}, "3.8", "linux_x86_64", ""),
        # what was not said is as it is here
        ({"torch": "1.8.1+cu111", "python_version": "3.8"}, "3.8", "linux_x86_64", "2.36"),
        ({"torch": "1.8.1+cu111", "platform": "win_amd64"}, "3.11.7", "win_amd64", ""),
        ({"torch": "1.8.1+cu111"}, "3.11.7", "linux_x86_64", "2.36"),
    ],
)
def test_a_machine_elsewhere(words, python, platform, glibc, probed):
    found = session.environment_asked_for(OwnOptions(target_gpu=("8.0",)), make_world(), **words)
    assert found.torch.runtime_version == "1.8.1+cu111"
    assert found.interpreter.version == python
    assert (found.interpreter.platform, found.interpreter.libc[1]) == (platform, glibc)
    assert found.driver.declared
    assert not found.installed


def test_a_machine_whose_torch_is_the_question(probed):
    found = session.environment_asked_for(
        OwnOptions(), make_world(), needs_torch=False, **ELSEWHERE
    )
    assert found.torch is None
    assert found.interpreter.platform == "linux_x86_64"


@pytest.mark.parametrize("platform", ["macosx_14_0_arm64", "linux_x86_64"])
def test_a_platform_without_a_glibc_is_taken_as_it_is(platform, probed, monkeypatch):
    interpreter = make_interpreter(platform=platform, libc=("", ""))
    here = dataclasses.replace(HERE, interpreter=interpreter)
    monkeypatch.setattr(session, "read_environment", lambda executable, driver: here)
    found = session.environment_asked_for(OwnOptions(), make_world(), torch="2.13.0")
    assert found.interpreter.platform == platform


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({**ELSEWHERE}, "its torch is missing"),
        ({"cxx11_abi": True}, "its torch is missing"),
        ({"cxx11_abi": True, "needs_torch": False, **ELSEWHERE}, "none was named"),
    ],
)
def test_what_makes_no_machine(words, message, probed):
    with pytest.raises(UsageError, match=message) as caught:
        session.environment_asked_for(OwnOptions(), make_world(), **words)
    assert caught.value.hint == "Add --torch 1.8.1+cu111."


def test_an_error_says_where_it_happened():
    with pytest.raises(Refused) as caught, session.error_context(HERE):
        raise Refused("no", hint="H")
    assert caught.value.environment is HERE


# --- may it be changed? ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("managed", "permitted", "refused"),
    [("by Debian", False, True), ("by Debian", True, False), (None, False, False)],
)
def test_an_environment_of_the_operating_system(managed, permitted, refused):
    here = make_environment(interpreter=make_interpreter(externally_managed=managed))
    if not refused:
        session.refuse_externally_managed(here, break_system_packages=permitted)
        return
    with pytest.raises(ExternallyManaged) as caught:
        session.refuse_externally_managed(here, break_system_packages=permitted)
    assert caught.value.exit_status == 1
    assert "--break-system-packages" in caught.value.hint


USER = Path("/home/me/.local")
USER_SCHEME = Scheme(USER / "site", USER / "site", USER / "bin", USER, USER / "include")


def with_user_site(**fields):
    return make_interpreter(user_base=USER, user_scheme=USER_SCHEME, **fields)


def test_the_user_site_is_a_prefix_of_its_own(probed, monkeypatch):
    here = make_environment(interpreter=with_user_site())
    changed = session.user_environment(here)
    assert changed.interpreter.prefix == USER
    assert changed.interpreter.scheme == USER_SCHEME
    monkeypatch.setattr(session, "read_environment", lambda executable, driver: here)
    # probed after the change, it is the same prefix again
    assert session.read_again(changed).interpreter.prefix == USER
    assert session.read_again(here).interpreter.prefix == here.interpreter.prefix
    named = session.probe_named(make_world(), None, user=True)
    assert named.interpreter.prefix == USER


@pytest.mark.parametrize(
    ("is_virtual", "message"),
    [(True, "not visible in this virtualenv"), (False, "are disabled for this Python")],
)
def test_an_interpreter_without_a_user_site(is_virtual, message):
    base = Path("/usr") if is_virtual else Path("/env")
    here = make_environment(interpreter=make_interpreter(base_prefix=base))
    with pytest.raises(PipFailed, match=message) as caught:
        session.user_environment(here)
    assert caught.value.hint.startswith("Leave --user out")


@pytest.mark.parametrize(
    ("has_user_site", "writable", "meant"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_where_nothing_can_be_written_the_user_site_is_meant(
    has_user_site, writable, meant, tmp_path, monkeypatch
):
    """As pip does. A folder that is not there yet is asked of the one above it."""
    site = tmp_path / "lib" / "site-packages"
    scheme = Scheme(site, site, tmp_path, tmp_path, tmp_path)
    interpreter = with_user_site(scheme=scheme) if has_user_site else make_interpreter()
    asked = []

    def access(path, mode):
        asked.append(path)
        return writable

    monkeypatch.setattr(os, "access", access)
    assert session.defaults_to_user_site(make_environment(interpreter=interpreter)) is meant
    assert set(asked) <= {tmp_path}


# --- what goes, and what stays --------------------------------------------------------------------

OWN = make_distribution("own", "1")
OF_THE_SYSTEM = make_distribution("system", "1", location=Path("/usr/lib/python3/dist-packages"))


def test_only_what_lies_in_the_environment_goes():
    here = make_environment(OWN, OF_THE_SYSTEM)
    steps = [Step(Action.REPLACE, one.name, "2", from_version="1") for one in (OWN, OF_THE_SYSTEM)]
    added = [Step(Action.ADD, one.name, "2") for one in (OWN, OF_THE_SYSTEM)]
    new = Step(Action.ADD, "new", "1")
    removed = [Step(Action.REMOVE, one.name, None, "1") for one in (OWN, OF_THE_SYSTEM)]
    assert session.find_leaving(Plan((*steps, new)), here) == [OWN]
    assert session.find_leaving(Plan((*removed, new)), here) == [OWN]
    assert session.find_staying_beside(Plan((*steps, new)), here) == []
    assert session.find_staying_beside(Plan((*added, new)), here) == [OWN]


def test_a_folder_below_site_packages_is_inside_of_it():
    below = make_distribution("egg", "1", location=SITE / "egg-1.egg")
    assert session.is_own(below, HERE)


# --- old changes are removed ----------------------------------------------------------------------


def test_old_changes_that_cannot_be_let_go_are_a_warning(monkeypatch):
    reporter = Warned()
    found = [history.Pruned("txn-a", 1), history.Pruned("txn-b", 1, "Permission denied")]
    monkeypatch.setattr(history, "prune", lambda prefix, **limits: iter(found))
    session.prune_history(Path("/env"), make_world(reporter))

    def fail(prefix, **limits):
        raise OSError("Input/output error")

    monkeypatch.setattr(history, "prune", fail)
    session.prune_history(Path("/env"), make_world(reporter))
    assert reporter.warnings == [
        "the files of transaction txn-b could not be removed: Permission denied",
        "old transactions could not be removed: Input/output error",
    ]
