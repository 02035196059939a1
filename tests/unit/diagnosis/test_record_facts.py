"""The files of distributions, compared with their RECORDs."""

from __future__ import annotations

import dataclasses
import os

import pytest

from safe_install.diagnosis.facts import ChangedFile, RecordState
from safe_install.diagnosis.record_facts import read_records
from tests.factories import make_environment
from tests.small_environment import SmallEnvironment


@pytest.fixture
def small(tmp_path):
    return SmallEnvironment(tmp_path / "env")


def test_files_as_they_were_installed(small):
    alpha = small.install("alpha", "1.0", {"alpha/__init__.py": "one", "../../../bin/alpha": ""})
    assert read_records(make_environment(alpha)) == ()


def test_what_everybody_rewrites_is_not_looked_at(small):
    rows = ["alpha/__pycache__/a.cpython-311.pyc,sha256=x,5", "alpha-1.0.dist-info/REQUESTED,,0"]
    alpha = small.install("alpha", "1.0", {"alpha/__init__.py": ""}, rows=rows)
    (small.site / "alpha-1.0.dist-info" / "INSTALLER").write_text("somebody else\n")
    assert read_records(make_environment(alpha)) == ()


def test_files_that_are_gone_or_of_another_size(small):
    files = {"alpha/__init__.py": "one", "alpha/a.py": "two", "alpha/b.py": "three"}
    alpha = small.install("alpha", "1.0", files)
    (small.site / "alpha" / "a.py").unlink()
    (small.site / "alpha" / "b.py").write_text("longer than before")
    assert read_records(make_environment(alpha)) == (
        RecordState("alpha", "1.0", ("alpha/a.py",), (ChangedFile("alpha/b.py"),)),
    )


def test_a_changed_file_of_the_same_size_is_seen_by_its_hash(small):
    alpha = small.install("alpha", "1.0", {"alpha/a.py": "one", "alpha/b.pem": "two"})
    (small.site / "alpha" / "a.py").write_text("One")
    (small.site / "alpha" / "b.pem").write_text("Two")
    environment = make_environment(alpha)
    assert read_records(environment) == ()
    changed = (ChangedFile("alpha/a.py"), ChangedFile("alpha/b.pem"))
    assert read_records(environment, deep=True) == (RecordState("alpha", "1.0", (), changed),)


@pytest.mark.parametrize("second", ["two!", "a longer one"], ids=["same size", "other size"])
def test_a_file_of_two_distributions_is_that_of_the_last(small, second):
    alpha = small.install("alpha", "1.0", {"shared/a.so": "one!", "shared/__init__.py": ""})
    beta = small.install("beta", "2.0", {"shared/a.so": second, "shared/__init__.py": ""})
    assert read_records(make_environment(alpha, beta)) == (
        RecordState("alpha", "1.0", (), (ChangedFile("shared/a.so", ("beta",)),)),
    )


def test_a_shared_file_whose_row_has_no_hash_is_judged_by_its_size(small):
    alpha = small.install("alpha", "1.0", {}, rows=["shared.so,,4"])
    beta = small.install("beta", "2.0", {"shared.so": "two!"})
    assert read_records(make_environment(alpha, beta)) == ()


def test_rows_in_quotes(small):
    alpha = small.install("alpha", "1.0", {}, rows=['"alpha/a, b.py",,3'])
    assert read_records(make_environment(alpha)) == (
        RecordState("alpha", "1.0", ("alpha/a, b.py",)),
    )


def test_an_absolute_path_and_rows_that_name_no_file(small):
    outside = small.prefix / "outside.txt"
    outside.write_text("one")
    rows = [
        f"{outside},,3",
        "",
        "too,many,cells,here",
        ",,",
        "nul\0,,1",
        "alpha/" + "x" * 5000 + ",,1",
    ]
    alpha = small.install("alpha", "1.0", {}, rows=rows)
    (state,) = read_records(make_environment(alpha))
    assert state.missing == ("alpha/" + "x" * 5000,)


@pytest.mark.parametrize(
    ("installer", "count"), [("pip", 1), ("uv", 1), (None, 1), ("conda", 0), ("debian", 0)]
)
def test_a_distribution_without_a_RECORD(small, installer, count):
    alpha = small.install("alpha", "1.0", {}, record=False)
    alpha = dataclasses.replace(alpha, has_record=False, installer=installer)
    states = read_records(make_environment(alpha))
    problem = f"{small.site}/alpha-1.0.dist-info has no RECORD"
    assert states == (RecordState("alpha", "1.0", problem=problem),) * count


def test_an_egg_has_no_RECORD_and_an_editable_install_promises_nothing(small):
    alpha = small.install("alpha", "1.0", {"alpha/__init__.py": ""})
    (small.site / "alpha" / "__init__.py").unlink()
    egg = dataclasses.replace(
        alpha, has_record=False, metadata_path=small.site / "alpha-1.0.egg-info"
    )
    assert read_records(make_environment(egg)) == ()
    assert read_records(make_environment(dataclasses.replace(alpha, editable=True))) == ()


def test_a_RECORD_that_may_not_be_read(small, monkeypatch):
    alpha = small.install("alpha", "1.0", {})

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("safe_install.diagnosis.record_facts.read_record_text", refuse)
    problem = "its RECORD cannot be read: Permission denied"
    assert read_records(make_environment(alpha)) == (RecordState("alpha", "1.0", problem=problem),)


def test_files_and_folders_that_this_user_may_not_read(small, monkeypatch):
    files = {"alpha/a.so": "one", "alpha/b.py": "two", "alpha/in/c.py": "", "alpha/h/d.h": ""}
    alpha = small.install("alpha", "1.0", files)
    (small.site / "alpha" / "a.so").chmod(0o600)
    (small.site / "alpha" / "b.py").chmod(0o640)
    real_stat, real_list = os.stat, os.listdir

    def stat(path, *words, **options):
        if str(path).endswith("c.py"):
            raise PermissionError(13, "Permission denied")
        return real_stat(path, *words, **options)

    def list_folder(path):
        if str(path).endswith("alpha/h"):
            raise PermissionError(13, "Permission denied")
        return real_list(path)

    # As for another user than root, who may read everything.
    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "listdir", list_folder)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path).endswith("b.py"))
    closed = ("alpha/a.so", "alpha/in/c.py", "alpha/h/d.h")
    assert read_records(make_environment(alpha)) == (RecordState("alpha", "1.0", closed=closed),)


def test_a_folder_that_is_gone_is_looked_for_once(small, monkeypatch):
    alpha = small.install("alpha", "1.0", {}, rows=["gone/a.h,,1", "gone/b.h,,1"])
    listed = []
    real_list = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real_list(path))
    assert read_records(make_environment(alpha)) == (
        RecordState("alpha", "1.0", ("gone/a.h", "gone/b.h")),
    )
    assert listed.count(str(small.site / "gone")) == 1
