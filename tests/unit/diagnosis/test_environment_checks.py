"""Each exit of the checks of the interpreter, of its path and of what installers recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from safe_install.diagnosis import environment_checks, machine_checks
from safe_install.diagnosis.facts import (
    Facts,
    FreeSpace,
    MetadataFolder,
    OtherPython,
    ProbeProblem,
    Program,
    SearchPlaces,
    StartProblem,
)
from safe_install.diagnosis.run import CannotTell
from safe_install.models import Finding, RunningProgram, Severity
from tests.factories import (
    SITE,
    make_distribution,
    make_environment,
    make_interpreter,
)

PYTHON = Path("/env/bin/python")
BIN = Path("/env/bin")
PLACES = SearchPlaces(
    prefix=Path("/env"),
    scripts=BIN,
    sites=frozenset({SITE}),
    user_site=Path("/home/me/.local"),
    pythonpath=frozenset({Path("/other")}),
    active=frozenset({Path("/env")}),
)


def facts(environment=None, **fields):
    fields.setdefault("places", PLACES)
    with_pip = make_environment(
        torch="2.13.0+cpu", interpreter=make_interpreter(pip_version="26.0")
    )
    return Facts(PYTHON, environment or with_pip, **fields)


def told(findings):
    return [(one.check, one.severity, one.subject) for one in findings]


def test_an_interpreter_that_answers_and_one_that_does_not():
    assert not environment_checks.check_interpreter(facts())
    (one,) = environment_checks.check_interpreter(
        Facts(PYTHON, problem=ProbeProblem("it ends", "Repair it."))
    )
    assert told([one]) == [("interpreter-broken", Severity.ERROR, str(PYTHON))]
    assert (one.detail, one.hint) == ("it ends", "Repair it.")


def test_nothing_is_decided_without_an_answer_of_the_interpreter():
    for check in (environment_checks.check_import_path, environment_checks.check_managed):
        with pytest.raises(ValueError, match="did not answer"):
            check(Facts(PYTHON))


# --- programs -------------------------------------------------------------------------------------

OTHER_PIP = Program("pip", Path("/usr/bin/pip"), Path("/usr/bin/python3"), Path("/usr/bin"))


@pytest.mark.parametrize(
    "program",
    [
        Program("python", BIN / "python", None, BIN, BIN),
        Program("pip", BIN / "pip", BIN / "python", BIN, BIN),
        Program("pip", Path("/opt/pip")),
        Program("nvcc", Path("/usr/bin/nvcc"), None, Path("/usr/bin")),
    ],
    ids=["its python", "its pip", "no script", "nvcc"],
)
def test_programs_of_the_active_environment(program):
    assert not environment_checks.check_programs(facts(programs=(program,)))


def test_programs_are_not_judged_where_the_environment_is_not_active():
    places = dataclasses.replace(PLACES, active=frozenset())
    assert not environment_checks.check_programs(facts(programs=(OTHER_PIP,), places=places))


def test_pip_is_not_judged_where_the_environment_has_none():
    assert not environment_checks.check_programs(facts(make_environment(), programs=(OTHER_PIP,)))


def test_a_program_of_another_Python():
    (one,) = environment_checks.check_programs(facts(programs=(OTHER_PIP,)))
    assert told([one]) == [("another-program-first", Severity.WARNING, "pip")]
    assert "/usr/bin/pip" in one.detail
    assert one.hint == "export PATH=/env/bin:$PATH"


def test_a_program_of_an_environment_that_was_moved():
    pip = Program("pip", BIN / "pip", Path("/old/bin/python"), Path("/old/bin"), BIN)
    (one,) = environment_checks.check_programs(facts(programs=(pip,)))
    assert told([one]) == [("program-of-another-folder", Severity.WARNING, "pip")]
    assert "/env/bin/pip starts /old/bin/python" in one.detail
    assert one.hint.startswith("/env/bin/python -m pip install")


# --- sys.path -------------------------------------------------------------------------------------


def metadata(site, name, version, *, is_readable=True):
    folder = Path(site) / f"{name}-{version}.dist-info"
    return MetadataFolder(folder, Path(site), name, version, is_readable)


@pytest.mark.parametrize(
    "folders",
    [
        [metadata(SITE, "torch", "2.13.0"), metadata("/other", "torch", "2.4.1")],
        [metadata("/other", "torch", "2.13.0"), metadata(SITE, "torch", "2.13.0")],
        [metadata(SITE, "torch", "2.13.0"), metadata(SITE, "torch", "2.4.1")],
        [metadata("/other", "torch", "2.4.1"), metadata("/third", "torch", "2.13.0")],
    ],
    ids=["ours first", "the same version", "one folder", "neither is ours"],
)
def test_folders_that_hide_nothing(folders):
    assert environment_checks.check_import_path(facts(metadata=tuple(folders))) == []


@pytest.mark.parametrize(
    ("site", "source", "hint"),
    [
        ("/other", "PYTHONPATH", "unset PYTHONPATH"),
        ("/home/me/.local", "the user site", "PYTHONNOUSERSITE=1"),
        ("/third", "another folder on sys.path", "keep /third off sys.path"),
    ],
)
@pytest.mark.parametrize(
    ("name", "severity"), [("torch", Severity.ERROR), ("numpy", Severity.WARNING)]
)
def test_folders_that_hide_what_is_installed_here(site, source, hint, name, severity):
    folders = (metadata(site, name, "1.0"), metadata(SITE, name, "2.0"))
    (one,) = environment_checks.check_import_path(facts(metadata=folders))
    assert told([one]) == [("hidden-by-another-folder", severity, name)]
    assert f"imports 1.0 from {site} ({source})" in one.detail
    assert hint in one.hint


def test_a_folder_that_cannot_be_read():
    (one,) = environment_checks.check_import_path(facts(unreadable=(SITE,)))
    assert told([one]) == [("folder-unreadable", Severity.ERROR, str(SITE))]
    assert str(SITE) in one.hint


# --- metadata -------------------------------------------------------------------------------------


def test_metadata_in_order():
    folders = (metadata(SITE, "torch", "2.13.0"), metadata("/other", "torch", "2.4.1"))
    assert environment_checks.check_metadata(facts(metadata=folders)) == []


@pytest.mark.parametrize(
    ("name", "severity"), [("torch", Severity.ERROR), ("numpy", Severity.WARNING)]
)
def test_two_records_in_one_folder(name, severity):
    folders = (metadata(SITE, name, "1.0"), metadata(SITE, name, "2.0"))
    (one,) = environment_checks.check_metadata(facts(metadata=folders))
    assert told([one]) == [("recorded-twice", severity, name)]
    assert "1.0 and 2.0" in one.detail
    assert one.hint.endswith(f"--no-deps {name}==2.0")


def test_of_two_records_of_torch_the_one_of_its_files_is_installed_again():
    folders = (metadata(SITE, "torch", "2.13.0+cpu"), metadata(SITE, "torch", "2.14.1"))
    (one,) = environment_checks.check_metadata(facts(metadata=folders))
    assert one.hint.endswith("--no-deps torch==2.13.0+cpu")


@pytest.mark.parametrize("count", [1, 3])
def test_broken_metadata_one_by_one(count):
    folders = [metadata(SITE, f"p{i}", "1.0", is_readable=False) for i in range(count)]
    found = environment_checks.check_metadata(facts(metadata=tuple(folders)))
    assert told(found) == [("metadata-unreadable", Severity.WARNING, f"p{i}") for i in range(count)]
    assert found[0].hint == (
        f"rm -r {SITE}/p0-1.0.dist-info && safe-install install --force-reinstall --no-deps p0==1.0"
    )


def test_much_broken_metadata_in_one_sentence():
    folders = [metadata(SITE, f"p{i}", "1.0", is_readable=False) for i in range(100)]
    (one,) = environment_checks.check_metadata(facts(metadata=tuple(folders)))
    assert one.detail.startswith("100 dist-info folders have no METADATA")
    assert "and 97 more" in one.detail


# --- recorded files -------------------------------------------------------------------------------


# --- the rest -------------------------------------------------------------------------------------


def test_a_change_that_was_killed():
    assert environment_checks.check_interrupted_change(facts()) == []
    (one,) = environment_checks.check_interrupted_change(facts(interrupted_changes=("txn-1",)))
    assert told([one]) == [("interrupted-change", Severity.ERROR, "txn-1")]
    assert one.hint == "safe-install recover"


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (5 << 30, []),
        ((5 << 30) - 1, [("disk-space", Severity.NOTE, "/env")]),
        (1 << 28, [("disk-space", Severity.NOTE, "/env")]),
        ((1 << 28) - 1, [("disk-full", Severity.ERROR, "/env")]),
    ],
)
def test_room(free, expected):
    assert (
        told(machine_checks.check_room(facts(rooms=(FreeSpace(Path("/env"), free),)))) == expected
    )


@pytest.mark.parametrize(("files", "count"), [(None, 0), (1000, 0), (999, 1), (0, 1)])
def test_a_disk_that_takes_few_more_files(files, count):
    room = FreeSpace(Path("/env"), 100 << 30, files)
    found = machine_checks.check_room(facts(rooms=(room,)))
    assert told(found) == [("disk-full", Severity.ERROR, "/env")] * count
    assert all(f"takes {files} more files" in one.detail for one in found)


def test_a_Python_of_the_operating_system():
    assert not environment_checks.check_managed(facts())
    managed = make_environment(interpreter=make_interpreter(externally_managed="Use apt."))
    (one,) = environment_checks.check_managed(facts(managed))
    assert told([one]) == [("externally-managed", Severity.NOTE, str(PYTHON))]


def test_metadata_that_this_user_may_not_read_is_not_broken():
    """Nobody is told to remove it."""
    folder = MetadataFolder(SITE / "alpha-1.0.dist-info", SITE, "alpha", "1.0", is_readable=False)
    (one,) = environment_checks.check_metadata(facts(metadata=(folder,), closed=(folder.path,)))
    assert told([one]) == [("metadata-closed", Severity.WARNING, "alpha-1.0.dist-info")]
    assert one.hint == f"As its owner, or as root: chmod -R u+rwX,go+rX {SITE}"


def test_folders_that_cannot_be_written():
    (one,) = environment_checks.check_managed(facts(unwritable=(SITE,)))
    assert told([one]) == [("folder-unwritable", Severity.NOTE, str(SITE))]


def test_running_programs():
    assert environment_checks.check_running(facts()) == []
    program = RunningProgram(7, "python train.py", ("/env/a.so", "/env/b.so"))
    (one,) = environment_checks.check_running(facts(running=(program,)))
    assert told([one]) == [("running-with-old-files", Severity.WARNING, "7")]
    assert "process 7 (python train.py)" in one.detail
    assert one.hint.endswith("kill 7")


def test_what_another_part_found():
    finding = Finding("interrupted-pip", Severity.WARNING, "~orch", "it was interrupted")
    one = facts(found={"a": (finding,)}, unknown={"b": "nobody may read it"})
    assert environment_checks.check_found("a", one) == (finding,)
    assert environment_checks.check_found("b", one) == CannotTell("nobody may read it")
    assert not environment_checks.check_found("c", one)


# --- another Python, what fails at every start, what torch misses ---------------------------------

BEFORE = OtherPython(
    Path("/env/lib/python3.10/site-packages"), "3.10", ("numpy", "pip", "torch", "zlib", "zstd")
)
ONLY_PIP = dataclasses.replace(BEFORE, names=("pip", "setuptools"))


def test_packages_of_the_Python_that_was_here_before():
    bare = make_environment(make_distribution("pip", "24.0"))
    (one,) = environment_checks.check_import_path(facts(bare, other_pythons=(BEFORE, ONLY_PIP)))
    assert told([one]) == [("packages-of-another-python", Severity.ERROR, "torch")]
    assert one.detail.startswith(
        "torch, numpy, zlib and 1 more are installed in /env/lib/python3.10"
    )
    assert "python3.10 -m venv --clear /env" in one.hint


@pytest.mark.parametrize(
    "environment",
    [None, make_environment(make_distribution("alpha", "1.0"))],
    ids=["torch", "alpha"],
)
def test_an_environment_that_has_packages_of_its_own(environment):
    assert not environment_checks.check_import_path(facts(environment, other_pythons=(BEFORE,)))


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (
            StartProblem("/env/a.pth", "ImportError: no"),
            "/env/a.pth fails at every start of this Py",
        ),
        (StartProblem("sitecustomize", ""), "no reason given"),
    ],
)
def test_a_file_that_fails_at_every_start(problem, words):
    (one,) = environment_checks.check_startup_files(facts(start_problems=(problem,)))
    assert words in one.detail
    assert one.severity is Severity.WARNING
