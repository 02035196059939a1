"""An environment held against a lock: what is there as it is named, what is not, what is too
much."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.snapshot.difference import (
    compare_with_lock,
    describe_mismatch,
    find_kept,
    find_required,
    installed_files,
)
from safe_install.snapshot.locked import NO_NAME, LockedDistribution, LockedEnvironment
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    UrlSource,
)
from tests.factories import make_distribution, make_environment

COMMIT, OTHER_COMMIT = "0" * 40, "1" * 40
SHA, OTHER_SHA = "a" * 64, "b" * 64
URL = "https://host/six-1.0-py3-none-any.whl"
FILENAME = "six-1.0-py3-none-any.whl"
AT_URL = UrlSource(URL, FILENAME, SHA)
ON_INDEX = IndexSource("https://pypi.org/simple", URL, FILENAME, SHA)


def archive(url=URL, sha256=SHA, *, is_old=False):
    """A direct_url.json of a file."""
    info = {"hash": f"sha256={sha256}"} if is_old else {"hashes": {"sha256": sha256}}
    return {"url": url, "archive_info": info if sha256 else {}}


def repository(commit=COMMIT, **more):
    info = {"vcs": "git", "commit_id": commit, **more}
    return {"url": "https://host/six.git", "vcs_info": info}


def locked(version="1.0", source=None, hashes=(), name="six"):
    return LockedDistribution(name, version, source, tuple(hashes), line="six==1.0")


def installed(version="1.0", direct_url=None, **fields):
    return make_distribution("six", version, direct_url=direct_url, **fields)


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        (locked(), installed()),
        (locked("1.0"), installed("1.0.0")),
        (locked("2.13.0"), installed("2.13.0+cpu")),
        (locked("odd-version"), installed("odd-version")),
        (locked(source=ON_INDEX, hashes=[f"sha256:{SHA}"]), installed()),
        (locked(source=ON_INDEX, hashes=[f"sha256:{SHA}"]), installed("1.0", archive())),
        (locked(source=AT_URL, hashes=[f"sha256:{SHA}"]), installed("1.0", archive(is_old=True))),
        (locked(source=AT_URL, hashes=[f"sha256:{SHA}"]),
         installed("1.0", archive("file:///wheels/" + FILENAME))),
        (locked(source=UrlSource(URL, FILENAME, None)), installed("1.0", archive(sha256=""))),
        (locked(hashes=[f"sha256:{OTHER_SHA}", f"sha256:{SHA}"]), installed("1.0", archive())),
        (locked(hashes=["sha512:00"]), installed("1.0", archive())),
        (locked("", RepositorySource("git", "https://host/six.git", COMMIT)),
         installed("1.0", repository())),
        (locked("", RepositorySource("git", "https://host/six.git", "", "v1")),
         installed("1.0", repository(requested_revision="v1"))),
        (locked("", RepositorySource("git", "https://host/six.git", COMMIT, is_editable=True)),
         installed("1.0", {"url": "file:///env/src/six", "dir_info": {"editable": True}},
                   editable=True)),
        (locked("", DirectorySource("/src/a b")),
         installed("1.0", {"url": "file:///src/a%20b", "dir_info": {}})),
        (locked("", DirectorySource("/src/six", is_editable=True)),
         installed("1.0", {"url": "file:///src/six/", "dir_info": {"editable": True}},
                   editable=True)),
    ],
)  # fmt: skip
def test_the_same(wanted, present):
    assert describe_mismatch(wanted, present) == ""


@pytest.mark.parametrize(
    ("wanted", "present", "because"),
    [
        (locked(), None, "not installed"),
        (locked("1.1"), installed(), "1.0 is installed"),
        (locked("2.13.0+cpu"), installed("2.13.0"), "2.13.0 is installed"),
        (locked("2.13.0+cpu"), installed("2.13.0+cu130"), "2.13.0+cu130 is installed"),
        # the name of a file has all of its version
        (locked("2.13.0", ON_INDEX), installed("2.13.0+cpu"), "2.13.0+cpu is installed"),
        (locked(source=AT_URL, hashes=[f"sha256:{SHA}"]), installed("1.0", archive(sha256=OTHER_SHA)),
         "another file of this version is installed"),
        (locked(source=FileSource("/w/six-1.0-1-py3-none-any.whl", "six-1.0-1-py3-none-any.whl", "")),
         installed("1.0", archive(sha256="")), f"it was installed from {URL}"),
        (locked(), installed("1.0", {"url": "file:///src", "dir_info": {}}),
         "it was built from file:///src"),
        (locked(source=ON_INDEX), installed("1.0", repository()),
         "it was built from https://host/six.git"),
        (locked(), installed("1.0", {"url": "file:///src", "dir_info": {"editable": True}},
                             editable=True), "it is editable"),
        (locked("", RepositorySource("git", "https://host/six.git", COMMIT)), installed(),
         "it was not installed from https://host/six.git"),
        (locked("", RepositorySource("git", "https://host/six.git", OTHER_COMMIT)),
         installed("1.0", repository()), f"it is of commit {COMMIT}"),
        (locked("", RepositorySource("git", "https://host/six.git", "", "v2")),
         installed("1.0", repository(requested_revision="v1")), "it is of revision v1"),
        (locked("", RepositorySource("git", "https://host/six.git", COMMIT, subdirectory="py")),
         installed("1.0", repository()), "it is of the folder ."),
        (locked("", RepositorySource("git", "https://other/six.git", COMMIT)),
         installed("1.0", repository()), "it was installed from https://host/six.git"),
        (locked("", DirectorySource("/src")), installed(), "it was not installed from /src"),
        (locked("", DirectorySource("/src")),
         installed("1.0", {"url": "file:///src", "dir_info": {"editable": True}}, editable=True),
         "it is editable"),
        (locked("", DirectorySource("/src", True)),
         installed("1.0", {"url": "file:///src", "dir_info": {}}), "it is not editable"),
    ],
)  # fmt: skip
def test_another(wanted, present, because):
    assert describe_mismatch(wanted, present) == because


def test_a_folder_without_a_name_is_found_by_its_path():
    nameless = LockedDistribution(NO_NAME, "", DirectorySource("/src"), line="./src")
    there = installed("1.0", {"url": "file:///src", "dir_info": {}})
    assert (
        compare_with_lock(LockedEnvironment((nameless,)), make_environment(there), {}, {}).extra
        == ()
    )
    elsewhere = make_environment(make_distribution("other", "1.0"))
    difference = compare_with_lock(LockedEnvironment((nameless,)), elsewhere, {}, {})
    assert [one.because for one in difference.deviations] == ["not installed"]
    assert [one.name for one in difference.extra] == ["other"]


def test_what_is_not_named_goes_unless_it_is_kept():
    environment = make_environment(
        make_distribution("six", "1.0"),
        make_distribution("old", "1.0"),
        make_distribution("pip", "26.0"),
        make_distribution("mkl", "2024"),
    )
    lock = LockedEnvironment((locked(),), others=frozenset({"mkl"}))
    difference = compare_with_lock(
        lock, environment, {"pip": "environments are changed with it"}, {}
    )
    assert [one.name for one in difference.extra] == ["old"]
    assert difference.kept == {"pip": "environments are changed with it"}
    assert difference.deviations == ()


def test_what_is_named_is_compared_though_it_would_be_kept():
    environment = make_environment(make_distribution("pip", "26.0"))
    lock = LockedEnvironment((LockedDistribution("pip", "26.1", line="pip==26.1"),))
    difference = compare_with_lock(
        lock, environment, {"pip": "environments are changed with it"}, {}
    )
    assert [one.because for one in difference.deviations] == ["26.0 is installed"]


@pytest.mark.parametrize(
    ("record", "files", "because"),
    [
        (None, {}, ""),
        (None, {"six": SHA}, ""),
        (None, {"six": OTHER_SHA}, "another file of this version is installed"),
        # what lies beside the distribution is younger
        (archive(), {"six": OTHER_SHA}, ""),
    ],
)
def test_what_the_history_knows_of_a_file(record, files, because):
    lock = LockedEnvironment((locked(source=ON_INDEX, hashes=[f"sha256:{SHA}"]),))
    difference = compare_with_lock(lock, make_environment(installed("1.0", record)), {}, files)
    assert [one.because for one in difference.deviations] == ([because] if because else [])


def test_files_of_the_history():
    def row(name, version, sha256, kind="wheel"):
        return {"name": name, "version": version, "sha256": sha256, "kind": kind}

    rows = [
        row("Six", "1.0", SHA),
        row("moved", "1.0", SHA),
        row("built", "1.0", SHA, "sdist"),
        row("six", "1.0", OTHER_SHA),
        row("gone", "1.0", SHA),
        {"name": "old", "version": "1.0"},
    ]
    present = [make_distribution(name, "1.0") for name in ("six", "built", "old")]
    environment = make_environment(*present, make_distribution("moved", "2.0"))
    assert installed_files(rows, environment.installed) == {"six": SHA}


def test_what_is_kept():
    environment = make_environment(
        make_distribution(
            "torch-safe-install", "1.0", requires=["typer>=0.9", "tomli; python_version < '3'"]
        ),
        make_distribution("typer", "0.20", requires=["click"]),
        make_distribution("click", "8.0"),
        make_distribution("tomli", "2.0"),
        make_distribution("pip", "26.0"),
        make_distribution("numpy", "2.0", installer="conda"),
        make_distribution("dnf", "4.0", location=Path("/usr/lib/python3/dist-packages")),
        make_distribution("six", "1.0", installer="uv"),
    )
    own = set(environment.installed) - {"dnf"}
    assert find_kept(environment, own) == {
        "torch-safe-install": "safe-install needs it",
        "typer": "safe-install needs it",
        "click": "safe-install needs it",
        "pip": "environments are changed with it",
        "numpy": "conda installed it",
        "dnf": "it lies outside of the environment, in /usr/lib/python3/dist-packages",
    }


def test_what_a_tool_that_stays_requires_stays_with_it():
    """As `uv venv --seed` puts them there."""
    wheel = make_distribution("wheel", "0.48.0", requires=["packaging>=24"])
    there = [wheel, make_distribution("packaging", "26.0"), make_distribution("six", "1.0")]
    environment = make_environment(*there)
    kept = find_kept(environment, environment.installed)
    difference = compare_with_lock(LockedEnvironment(()), environment, kept, {})
    assert dict(difference.kept) == {
        "packaging": "wheel needs it",
        "wheel": "environments are changed with it",
    }
    assert [one.name for one in difference.extra] == ["six"]
    # a wheel that the file names needs what the file names
    lock = LockedEnvironment((LockedDistribution("wheel", "0.48.0"),))
    difference = compare_with_lock(lock, environment, kept, {})
    assert [one.name for one in difference.extra] == ["packaging", "six"]


def test_what_some_require_themselves_or_through_others():
    named = {
        "a": ["b", "not a requirement!", "e; python_version ~= 'x'"],
        "b": ["c; extra == 'more'", "d; sys_platform == 'linux'", "a", "missing"],
        "c": [],
        "d": [],
        "e": [],
    }
    installed = {name: make_distribution(name, "1", requires=text) for name, text in named.items()}
    markers = {"sys_platform": "linux", "python_version": "3.11"}
    assert set(find_required(["a", "z"], installed, markers)) == {"a", "b", "d"}
