"""What a person is told of a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.models import Severity
from safe_install.snapshot.notes import make_notes, note_filename, note_local, note_pip
from safe_install.snapshot.values import RepositorySource, UnknownSource, UrlSource
from tests.unit.snapshot.snapshots import (
    COMMIT,
    EVERY_SOURCE,
    HASH,
    distribution,
    index_wheel,
    snapshot_of,
)


def told(findings):
    return {finding.check: finding.detail for finding in findings}


def test_each_reason_is_one_sentence():
    lost = [distribution(f"a{n}", "1.0", UnknownSource("no answer")) for n in range(8)]
    other = distribution("b", "2.0", UnknownSource("conda installed it"))
    details = [finding.detail for finding in make_notes(snapshot_of(*lost, other))]
    names = ", ".join(f"a{n} 1.0" for n in range(6))
    assert details == [
        f"not known where from: {names} and 2 more (no answer)",
        "not known where from: b 2.0 (conda installed it)",
    ]


def test_doubts_are_told():
    leaky = distribution("c", "1", UrlSource("https://h/c.zip?token=****", "c.zip", HASH))
    found = told(make_notes(snapshot_of(leaky), by_name=["numpy"], foreign=["six"]))
    assert found["source-by-name"].endswith(": numpy")
    assert found["changed-by-others"].endswith(": six")
    assert found["source-hidden"].endswith(": c")
    assert told(make_notes(EVERY_SOURCE))["source-without-hash"].endswith(": no-hash")
    assert make_notes(snapshot_of(index_wheel("numpy", "1.0"))) == ()


def test_what_only_this_machine_has_is_told_with_the_way_out():
    found = note_local(EVERY_SOURCE)
    assert told(found) == {
        "source-is-local": "named by a path of this machine, which others do not have: given",
        "source-is-folder": "a folder of this machine is their source: mine, tree",
    }
    assert "--wheels" in found[0].hint
    assert [finding.severity for finding in found] == [Severity.WARNING, Severity.NOTE]


def test_a_repository_on_this_machine_is_a_folder_of_it():
    source = RepositorySource("git", "file:///srv/x.git", COMMIT)
    (found,) = note_local(snapshot_of(distribution("x", "1.0", source)))
    assert (found.check, found.subject) == ("source-is-folder", "x")


def test_a_lock_file_that_pip_refuses_is_told():
    assert told(note_pip(EVERY_SOURCE))["lock-not-for-pip"].endswith(": from-git, mine, tree")
    assert note_pip(snapshot_of(index_wheel("numpy", "1.0"))) == ()


def test_what_is_recorded_twice_is_told_with_the_way_out():
    (found,) = make_notes(snapshot_of(index_wheel("numpy", "1.0")), twice=["numpy", "six"])
    assert (found.check, found.severity, found.subject) == (
        "recorded-twice",
        Severity.WARNING,
        "numpy",
    )
    assert found.detail == "recorded twice, and named as one of the two: numpy, six"
    assert "safe-install doctor" in found.hint


def test_where_others_have_everything_nothing_is_told():
    assert note_local(snapshot_of(index_wheel("numpy", "1.0"))) == ()


def test_a_lock_file_that_others_take_for_none_is_told():
    """By the rule of packaging's own reader."""
    is_valid_pylock_path = pytest.importorskip("packaging.pylock").is_valid_pylock_path
    for name in ("pylock.toml", "pylock.gpu.toml"):
        assert is_valid_pylock_path(Path(name))
        assert note_filename(name) == ()
    for name in ("lock.toml", "pylock.a.b.toml", "pylock..toml", "pylock.txt"):
        assert not is_valid_pylock_path(Path(name))
        (finding,) = note_filename(name)
        assert finding.detail.endswith(f": {name}")
