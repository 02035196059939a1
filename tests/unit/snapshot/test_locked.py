"""Lines of requirements files as what they name exactly, and lines that leave a choice."""

from __future__ import annotations

import pytest

from safe_install.errors import InputError
from safe_install.resolve.requirements_file import parse_file
from safe_install.snapshot.locked import (
    NO_NAME,
    LockedEnvironment,
    entry_of,
    is_commit,
    lock_of_entries,
    lock_recorded,
    parse_filename,
)
from safe_install.snapshot.steps import pip_line
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RecordedDistribution,
    RepositorySource,
    UnknownSource,
    UrlSource,
)
from tests.factories import MARKERS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA = "a" * 64


def lock(*lines: str) -> LockedEnvironment:
    text = "\n".join(lines)
    parsed = parse_file("locked.txt", read=lambda name: text, environ={})
    return lock_of_entries(parsed.entries, MARKERS, folder="/work")


def one(*lines: str):
    found = lock(*lines)
    assert found.problems == ()
    (locked,) = found.distributions
    return locked


@pytest.mark.parametrize(
    ("line", "name", "version"),
    [
        ("numpy==2.1.0", "numpy", "2.1.0"),
        ("Torch_Scatter == 2.1.2+pt21cu121", "torch-scatter", "2.1.2+pt21cu121"),
        ("requests[socks]==2.32.0", "requests", "2.32.0"),
        ("numpy===2.1.0", "numpy", "2.1.0"),
        ("numpy==2.1.0 ; python_version >= '3.8'", "numpy", "2.1.0"),
        ("numpy==2.1.0 --config-settings=a=b", "numpy", "2.1.0"),
    ],
)
def test_an_exact_version(line, name, version):
    locked = one(line)
    assert (locked.name, locked.version, locked.source) == (name, version, None)


def test_hashes_are_alternatives():
    locked = one(f"numpy==2.1.0 --hash=sha256:{SHA.upper()} \\", "    --hash=sha256:bb")
    assert locked.hashes == (f"sha256:{SHA}", "sha256:bb")
    assert locked.line == "numpy==2.1.0"


@pytest.mark.parametrize(
    "line",
    ["numpy", "numpy>=2", "numpy==2.*", "numpy==2,<3", "numpy~=2.1", "https://host/page", "!!"],
)
def test_a_choice_is_a_problem(line):
    found = lock("six==1.16.0", line)
    assert [finding.check for finding in found.problems] == ["not-exact"]
    assert found.problems[0].detail.startswith("locked.txt, line 2: ")


def test_all_problems_are_named():
    found = lock("a>1", "b", "c==1.0")
    assert [finding.subject for finding in found.problems] == ["a>1", "b"]


def test_a_marker_that_is_not_true_leaves_a_line_out():
    found = lock("pywin32>=1 ; sys_platform == 'win32'", "six==1.16.0")
    assert [str(one) for one in found.distributions] == ["six 1.16.0"]
    assert found.problems == ()


def test_the_same_pin_twice_is_one():
    assert str(one("six==1.16.0", "Six==1.16.0")) == "six 1.16.0"


def test_two_versions_of_one_project():
    found = lock("six==1.16.0", "six==1.15.0")
    assert [finding.detail for finding in found.problems] == [
        "locked.txt, line 2: six==1.15.0: six is named twice"
    ]


def test_constraints_name_nothing():
    parsed = parse_file(
        "locked.txt",
        read=lambda name: "-c more.txt\nsix==1.16.0" if name == "locked.txt" else "numpy<2",
        environ={},
    )
    found = lock_of_entries(parsed.entries, MARKERS, folder="/work")
    assert [str(one) for one in found.distributions] == ["six 1.16.0"]


WHEEL = "torch_scatter-2.1.2+pt21cpu-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("line", "name", "version", "source"),
    [
        (
            f"torch-scatter @ https://host/whl/torch_scatter-2.1.2%2Bpt21cpu-cp311-cp311-linux_x86_64.whl#sha256={SHA}",
            "torch-scatter",
            "2.1.2+pt21cpu",
            UrlSource(
                "https://host/whl/torch_scatter-2.1.2%2Bpt21cpu-cp311-cp311-linux_x86_64.whl",
                WHEEL,
                SHA,
            ),
        ),
        (
            f"https://host/{WHEEL}",
            "torch-scatter",
            "2.1.2+pt21cpu",
            UrlSource(f"https://host/{WHEEL}", WHEEL, None),
        ),
        (
            f"./wheels/{WHEEL} --hash=sha256:{SHA}",
            "torch-scatter",
            "2.1.2+pt21cpu",
            FileSource(f"/work/wheels/{WHEEL}", WHEEL, SHA),
        ),
        (
            "https://host/a%20b/proj-1.0.tar.gz#subdirectory=python",
            "proj",
            "1.0",
            UrlSource(
                "https://host/a%20b/proj-1.0.tar.gz",
                "proj-1.0.tar.gz",
                None,
                subdirectory="python",
            ),
        ),
        (
            f"file:./my%20files/main.zip#subdirectory=d --hash=sha256:{SHA}",
            NO_NAME,
            "",
            FileSource("/work/my files/main.zip", "main.zip", SHA, subdirectory="d"),
        ),
        ("./project", NO_NAME, "", DirectorySource("/work/project")),
        ("-e file:./a%20b#subdirectory=d", NO_NAME, "", DirectorySource("/work/a b", True, "d")),
        ("-e ./project[extra]", NO_NAME, "", DirectorySource("/work/project", True)),
        ("-e project", NO_NAME, "", DirectorySource("/work/project", True)),
        (
            "project @ file:///sources/a%20b",
            "project",
            "",
            DirectorySource("/sources/a b"),
        ),
        (
            f"proj @ git+https://host/o/proj.git@{COMMIT}#subdirectory=py",
            "proj",
            "",
            RepositorySource("git", "https://host/o/proj.git", COMMIT, COMMIT, "py"),
        ),
        (
            f"-e git+https://host/o/proj.git@{COMMIT}#egg=Proj",
            "proj",
            "",
            RepositorySource("git", "https://host/o/proj.git", COMMIT, COMMIT, is_editable=True),
        ),
        (
            "git+ssh://git@host/o/proj.git@feature/x#egg=proj",
            "proj",
            "",
            RepositorySource("git", "ssh://git@host/o/proj.git", "", "feature/x"),
        ),
        (
            "proj @ git+https://host/o/proj.git",
            "proj",
            "",
            RepositorySource("git", "https://host/o/proj.git", "", ""),
        ),
    ],
)
def test_an_address(line, name, version, source):
    locked = one(line)
    assert (locked.name, locked.version, locked.source) == (name, version, source)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (IndexSource("https://pypi.org/simple", "https://f/six-1.0.tar.gz", "six-1.0.tar.gz", SHA),
         "Six @ https://f/six-1.0.tar.gz"),
        (UnknownSource("no record"), "Six==1.0"),
        (DirectorySource("/src/a b"), "Six @ file:///src/a%20b"),
        (DirectorySource("/src/six", is_editable=True), "-e /src/six"),
        (RepositorySource("git", "https://h/six", COMMIT), f"Six @ git+https://h/six@{COMMIT}"),
        (RepositorySource("git", "https://h/six", COMMIT, subdirectory="d", is_editable=True),
         f"-e git+https://h/six@{COMMIT}#egg=Six&subdirectory=d"),
        (RepositorySource("git", "file:///r/six", COMMIT), f"git+file:///r/six@{COMMIT}#egg=Six"),
        (UrlSource("https://h/six.zip", "six.zip", None, subdirectory="d"),
         "Six @ https://h/six.zip#subdirectory=d"),
        (FileSource("/f/six.zip", "six.zip", SHA, subdirectory="d"),
         "Six @ file:///f/six.zip#subdirectory=d"),
    ],
)  # fmt: skip
def test_the_line_for_pip(source, line):
    assert lock_recorded(RecordedDistribution("six", "1.0", source, "Six")).line == line


@pytest.mark.parametrize(
    ("name", "version", "source"),
    [
        ("größe", "1.0", UnknownSource("")),
        ("a\n--pre", "1.0", UnknownSource("")),
        ("six", "1.0\n--pre", UnknownSource("")),
        ("six", "", UnknownSource("")),
        ("größe", "1.0", UrlSource("https://h/x.zip", "x.zip", SHA)),
    ],
)
def test_what_has_no_name_or_version_has_no_line_for_pip(name, version, source):
    locked = lock_recorded(RecordedDistribution(name, version, source))
    assert locked.line == ""
    with pytest.raises(InputError, match="no name and version of a project"):
        pip_line(locked)


def test_an_address_that_is_none_is_a_problem():
    (problem,) = lock("https://[x/six-1.0-py3-none-any.whl").problems
    assert "no address" in problem.detail


def test_a_repository_on_this_machine_as_old_pips_understand_it():
    line = f"proj @ git+file:///r/proj@{COMMIT}#subdirectory=py"
    assert one(line).line == f"git+file:///r/proj@{COMMIT}#egg=proj&subdirectory=py"


def test_a_source_that_nobody_knows_is_left_to_the_index():
    locked = lock_recorded(RecordedDistribution("six", "1.0", UnknownSource("no record")))
    assert locked.source is None and locked.hashes == ()


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        (WHEEL, ("torch-scatter", "2.1.2+pt21cpu")),
        ("proj-1.0.tar.gz", ("proj", "1.0")),
        ("main.zip", (NO_NAME, "")),
        ("odd.whl", (NO_NAME, "")),
    ],
)
def test_names_of_files(filename, expected):
    assert parse_filename(filename) == expected


def test_commits():
    assert is_commit(COMMIT) and not is_commit("main") and not is_commit(COMMIT[:12])


@pytest.mark.parametrize("line", ["-e ./project", "./project", "six==1.0"])
def test_a_line_is_an_entry_again(line):
    locked = one(line)
    entry = entry_of(locked)
    assert f"{'-e ' if entry.editable else ''}{entry.text}" == locked.line
    assert str(locked) == ("six 1.0" if line == "six==1.0" else locked.line)


def test_the_tags_of_a_very_long_name_are_not_multiplied():
    tags = ".".join(f"py{number}" for number in range(99))
    assert parse_filename(f"six-1.0-{tags}-none-any.whl") == (NO_NAME, "")
