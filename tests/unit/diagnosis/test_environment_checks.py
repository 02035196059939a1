"""Each exit of the checks of the interpreter, of its path and of what installers recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from safe_install.diagnosis import environment_checks, machine_checks
from safe_install.diagnosis.facts import (
    ChangedFile,
    Facts,
    ForeignWheel,
    FreeSpace,
    LostSource,
    MetadataFolder,
    OtherPython,
    ProbeProblem,
    Program,
    RecordState,
    SearchPlaces,
    StartProblem,
)
from safe_install.diagnosis.run import CannotTell
from safe_install.models import Finding, RunningProgram, Severity
from tests.factories import (
    SITE,
    make_distribution,
    make_environment,
    make_health,
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


def records(*states, environment=None, **fields):
    return environment_checks.check_records(facts(environment, records=states, **fields))


def test_records_in_order():
    assert records() == []


def test_a_record_that_cannot_be_read():
    (one,) = records(RecordState("alpha", "1.0", problem="/env/alpha has no RECORD"))
    assert told([one]) == [("record-unreadable", Severity.WARNING, "alpha")]
    assert "/env/alpha has no RECORD" in one.detail
    assert one.hint == "safe-install install --ignore-installed --no-deps alpha==1.0"


def test_an_editable_install_without_its_folder():
    lost = LostSource("alpha", "1.0", Path("/gone"))
    (one,) = environment_checks.check_records(facts(lost_sources=(lost,)))
    assert told([one]) == [("source-missing", Severity.WARNING, "alpha")]
    assert "/gone" in one.detail


REQUIRES_NCCL = make_environment(
    make_distribution("torch", "2.13.0", requires=["nvidia_nccl.cu13==2.30.7; x"]),
    torch="2.13.0+cu130",
)
REQUIRES_TOOLKIT = make_environment(
    make_distribution("torch", "2.13.0", requires=["cuda-toolkit[nccl]==13"]),
    torch="2.13.0+cu130",
)
REQUIRES_NOTHING = make_environment(
    make_distribution("torch", "2.13.0", requires=["sympy"]), torch="2.13.0+cpu"
)


@pytest.mark.parametrize(
    ("name", "paths", "environment", "severity"),
    [
        ("torch", ["torch/a.py"], None, Severity.ERROR),
        ("torch", ["torch/lib/libc10.so"], None, Severity.ERROR),
        ("torchvision", ["torchvision/a.py"], None, Severity.ERROR),
        ("torch", ["torch/include/a.h"], None, Severity.WARNING),
        ("torch", ["torch/test/a.py", "torch/tests/b.py"], None, Severity.WARNING),
        ("numpy", ["numpy/a.py"], None, Severity.WARNING),
        ("nvidia-nccl-cu13", ["nvidia/libnccl.so.2"], REQUIRES_NCCL, Severity.ERROR),
        ("nvidia-nccl-cu13", ["nvidia/libnccl.so.2"], REQUIRES_TOOLKIT, Severity.ERROR),
        ("nvidia-nccl-cu12", ["nvidia/libnccl.so.2"], REQUIRES_NOTHING, Severity.WARNING),
        ("nvidia-nccl-cu12", ["nvidia/libnccl.so.2"], make_environment(), Severity.WARNING),
    ],
)
def test_files_that_are_gone(name, paths, environment, severity):
    (one,) = records(RecordState(name, "1.0", tuple(paths)), environment=environment)
    assert told([one]) == [("files-missing", severity, name)]
    assert ", ".join(paths) in one.detail
    assert one.hint == f"safe-install install --force-reinstall --no-deps {name}==1.0"


def test_libraries_are_named_before_modules_and_the_rest_is_counted():
    paths = ("torch/a.py", "torch/a.h", "torch/b.py", "torch/lib/libc10.so", "torch/c.py")
    (one,) = records(RecordState("torch", "1.0", paths))
    assert one.detail.startswith("5 files of torch 1.0 are gone: torch/lib/libc10.so, torch/a.py")


@pytest.mark.parametrize(
    ("name", "health", "severity"),
    [
        ("torch", None, Severity.WARNING),
        ("torch", make_health(), Severity.WARNING),
        ("torch", make_health(imports={"torch": "OSError: file too short"}), Severity.ERROR),
        ("numpy", make_health(imports={"torch": "OSError: file too short"}), Severity.WARNING),
    ],
)
def test_files_that_are_not_as_installed(name, health, severity):
    state = RecordState(name, "1.0", changed=(ChangedFile("a/b.so"), ChangedFile("a/c.so")))
    (one,) = records(state, health=health)
    assert told([one]) == [("files-changed", severity, name)]
    assert "2 files" in one.detail
    assert "are not as installed: a/b.so, a/c.so" in one.detail


def test_a_changed_script_is_no_reason_that_torch_fails():
    state = RecordState("torch", "1.0", changed=(ChangedFile("../../../bin/torchrun"),))
    (one,) = records(state, health=make_health(imports={"torch": "OSError: file too short"}))
    assert told([one]) == [("files-changed", Severity.WARNING, "torch")]


@pytest.mark.parametrize(
    ("environment", "severity"),
    [(REQUIRES_NCCL, Severity.ERROR), (REQUIRES_NOTHING, Severity.WARNING)],
)
def test_files_that_another_distribution_overwrote(environment, severity):
    changed = ChangedFile("nvidia/libnccl.so.2", ("nvidia-nccl-cu12",))
    state = RecordState("nvidia-nccl-cu13", "2.30.7", changed=(changed,))
    (one,) = records(state, environment=environment)
    assert told([one]) == [("files-overwritten", severity, "nvidia-nccl-cu13")]
    assert "was overwritten by nvidia-nccl-cu12" in one.detail
    assert one.hint == (
        "safe-install uninstall -y nvidia-nccl-cu12 && safe-install install --force-reinstall "
        "--no-deps nvidia-nccl-cu13==2.30.7"
    )


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


@pytest.mark.parametrize(
    ("name", "error", "severity"),
    [
        ("torch", "no module torch._C", Severity.ERROR),
        ("torch", None, Severity.WARNING),
        ("alpha", "no module torch._C", Severity.WARNING),
    ],
)
def test_wheels_of_another_machine(name, error, severity):
    wheel = ForeignWheel(name, "2.13.0+cpu", "Python 3.10")
    health = make_health(imports={"torch": error})
    (one,) = environment_checks.check_wheel_tags(facts(foreign_wheels=(wheel,), health=health))
    assert told([one]) == [("wheel-of-another-machine", severity, name)]
    assert "made for Python 3.10, and here is Python 3.11.7 on linux_x86_64" in one.detail
    assert one.hint.endswith(f"--no-deps {name}==2.13.0+cpu")


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


@pytest.mark.parametrize(
    ("name", "health", "severity"),
    [
        ("sympy", make_health(imports={"torch": "no sympy"}), Severity.ERROR),
        ("sympy", make_health(imports={"torch": None}), Severity.WARNING),
        ("sympy", None, Severity.WARNING),
        ("other", make_health(imports={"torch": "no sympy"}), Severity.WARNING),
        ("numpy", make_health(operations={"torch.from_numpy": "no ones"}), Severity.ERROR),
        ("numpy", make_health(operations={"torch.from_numpy": None}), Severity.WARNING),
        ("numpy", make_health(imports={"torch": "no sympy"}), Severity.WARNING),
        ("numpy", make_health(imports={"torch": "signal SIGBUS"}), Severity.ERROR),
    ],
)
def test_files_that_torch_misses_are_an_error(name, health, severity):
    torch = make_distribution("torch", "2.13.0+cpu", requires=["sympy>=1.13"])
    path = f"{name}/__init__.py"
    lost = RecordState(name, "1.0", missing=(path,))
    cut = RecordState(name, "1.0", changed=(ChangedFile(path),))
    environment = make_environment(torch, torch="2.13.0+cpu")
    for state in (lost, cut):
        asked = facts(environment, records=(state,), health=health)
        (one,) = environment_checks.check_records(asked)
        assert one.severity is severity, state


def test_files_of_what_came_from_an_address_come_back_from_there():
    url = "https://example.org/alpha.whl"
    alpha = make_distribution("alpha", "1.0", direct_url={"url": url, "archive_info": {}})
    lost = RecordState(alpha.name, "1.0", missing=("alpha.py",))
    (one,) = environment_checks.check_records(facts(make_environment(alpha), records=(lost,)))
    assert one.hint == f"safe-install install --force-reinstall --no-deps 'alpha @ {url}'"


WORKS = make_health()
FAILS = make_health(imports={"torch": "ImportError: libc10.so"})


@pytest.mark.parametrize(
    ("name", "paths", "health", "severity"),
    [
        ("torch", ("torch/lib/libc10.so",), FAILS, Severity.ERROR),
        ("torch", ("torch/lib/libc10.so",), None, Severity.ERROR),
        ("torch", ("torch/lib/libc10.so",), WORKS, Severity.WARNING),
        ("torch", ("torch/include/torch.h",), FAILS, Severity.WARNING),
        ("numpy", ("numpy/a.so",), FAILS, Severity.WARNING),
    ],
)
def test_files_that_this_user_may_not_read(name, paths, health, severity):
    distributions = [make_distribution("torch", "2.13.0"), make_distribution("numpy", "2.0")]
    environment = make_environment(*distributions, torch="2.13.0")
    state = RecordState(name, "2.13.0", closed=paths)
    (one,) = environment_checks.check_records(facts(environment, records=(state,), health=health))
    assert told([one]) == [("files-unreadable", severity, name)]
    assert one.hint == f"As its owner, or as root: chmod -R u+rwX,go+rX {SITE / paths[0]}"


def test_the_folder_of_all_files_that_this_user_may_not_read():
    environment = make_environment(make_distribution("torch", "2.13.0"), torch="2.13.0")
    state = RecordState("torch", "2.13.0", closed=("torch/lib/a.so", "torch/b.py"))
    (one,) = environment_checks.check_records(facts(environment, records=(state,)))
    assert one.detail == (
        "2 files of torch 2.13.0 cannot be read by this user: torch/lib/a.so, torch/b.py"
    )
    assert one.hint.endswith(f" {SITE / 'torch'}")
