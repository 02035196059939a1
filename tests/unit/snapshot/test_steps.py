"""What differs from a lock as steps, and what speaks against them."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.tags import Tag

from safe_install.models import Action, Origin
from safe_install.snapshot.difference import Deviation, Difference
from safe_install.snapshot.locked import NO_NAME, LockedDistribution
from safe_install.snapshot.steps import (
    describe_steps,
    find_folders,
    find_unfit_wheels,
    make_step,
    needs_pip,
    pip_line,
    refuse_lost_torch,
)
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    UrlSource,
)
from tests.factories import make_distribution, make_environment, make_interpreter

SHA = "a" * 64
FILENAME = "six-1.0-py3-none-any.whl"
URL = f"https://h/{FILENAME}"


def locked(source=None, hashes=(f"sha256:{SHA}",), version="1.0", name="six"):
    return LockedDistribution(name, version, source, tuple(hashes), line="six==1.0")


def step(source=None, installed=None, **fields):
    return make_step(Deviation(locked(source, **fields), installed, "not installed"), "r.txt")


def test_a_file_of_an_index_is_not_direct():
    found = step(IndexSource("https://pypi.org/simple", URL, FILENAME, SHA))
    assert (found.action, found.version, found.url, found.sha256) == (Action.ADD, "1.0", URL, SHA)
    assert (found.is_direct, found.is_locked, found.origin) == (False, True, Origin.WHEEL)
    assert found.download_info == {
        "url": URL,
        "archive_info": {"hash": f"sha256={SHA}", "hashes": {"sha256": SHA}},
    }


def test_a_file_without_a_hash_is_not_locked():
    found = step(UrlSource(URL, FILENAME, None), hashes=())
    assert (found.sha256, found.is_locked) == (None, False)
    assert found.download_info == {"url": URL, "archive_info": {}}


def test_a_file_at_an_address_is_direct():
    assert step(UrlSource(URL, FILENAME, SHA)).is_direct
    assert step(FileSource(f"/w/{FILENAME}", FILENAME, SHA)).url == f"file:///w/{FILENAME}"


def test_what_was_requested_stays_so():
    installed = make_distribution("six", "0.9", requested=True)
    found = make_step(Deviation(locked(), installed, "0.9 is installed"), "r.txt")
    assert (found.action, found.from_version) == (Action.REPLACE, "0.9")
    assert found.keeps_requested
    assert found.because == "as r.txt says: 0.9 is installed"


@pytest.mark.parametrize(
    ("source", "hashes", "is_needed"),
    [
        (None, (f"sha256:{SHA}",), True),
        (IndexSource("", URL, FILENAME, SHA), (f"sha256:{SHA}",), False),
        (UrlSource(URL, FILENAME, None), (), True),
        (UrlSource(URL, FILENAME, None), ("sha256:aa", "sha256:bb"), True),
        (FileSource(f"/w/{FILENAME}", FILENAME, ""), (), False),
        (UrlSource("https://h/six-1.0.tar.gz", "six-1.0.tar.gz", SHA), (f"sha256:{SHA}",), True),
        (DirectorySource("/src"), (), True),
        (RepositorySource("git", "https://h/six", "0" * 40), (), True),
    ],
)
def test_what_pip_has_to_say(source, hashes, is_needed):
    assert needs_pip(locked(source, hashes)) == is_needed


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        (DirectorySource("/src"), Origin.SDIST),
        (DirectorySource("/src", True), Origin.EDITABLE),
        (RepositorySource("git", "https://h/six", "0" * 40), Origin.REPOSITORY),
        (RepositorySource("git", "https://h/six", "0" * 40, is_editable=True), Origin.EDITABLE),
        (UrlSource("https://h/six-1.0.tar.gz", "six-1.0.tar.gz", SHA), Origin.SDIST),
    ],
)
def test_origins(source, origin):
    assert step(source).origin is origin


def test_the_line_for_pip_has_the_hashes():
    assert pip_line(locked(hashes=["sha256:aa", "sha512:bb"])) == (
        "six==1.0 --hash=sha256:aa --hash=sha512:bb"
    )


def test_all_steps_for_people():
    nameless = LockedDistribution(NO_NAME, "", DirectorySource("/src"), line="./src")
    difference = Difference(
        (Deviation(locked(), None, "not installed"), Deviation(nameless, None, "not installed")),
        (make_distribution("old", "2.0"),),
    )
    found = describe_steps(difference, "r.txt")
    assert [(one.action, one.name, one.version, one.from_version) for one in found] == [
        (Action.ADD, "six", "1.0", None),
        (Action.ADD, "./src", None, None),
        (Action.REMOVE, "old", None, "2.0"),
    ]
    assert found[-1].because == "not in r.txt"


def test_wheels_for_others_are_all_named():
    environment = make_environment(interpreter=make_interpreter(tags=(Tag("py3", "none", "any"),)))
    names = ["a-1.0-cp38-cp38-linux_x86_64.whl", FILENAME, "b-1.0-py3-none-win32.whl", "odd.whl"]
    deviations = [
        Deviation(locked(UrlSource(f"https://h/{name}", name, SHA), name=name[0]), None, "")
        for name in names
    ]
    found = find_unfit_wheels(deviations, environment)
    assert [one.subject for one in found] == ["a", "b"]
    assert found[0].detail == f"{names[0]} is not for Python 3.11.7 on linux_x86_64"


def test_torch_is_not_removed_without_a_word():
    others = [make_distribution("six", "1.0"), make_distribution("torchvision", "1.0")]
    assert refuse_lost_torch(others, "r.txt") == []
    (finding,) = refuse_lost_torch([*others, make_distribution("torch", "2.1.0")], "r.txt")
    assert finding.check == "torch-removed"
    assert finding.detail == "r.txt does not name torch, and torch 2.1.0 is installed"


def test_the_folders_of_sources_are_named():
    deviations = [
        Deviation(locked(source), None, "not installed")
        for source in (DirectorySource("/src/one"), None, DirectorySource("/src/two", True))
    ]
    assert find_folders(Difference(tuple(deviations), ())) == (Path("/src/one"), Path("/src/two"))


@pytest.mark.parametrize(
    ("filename", "is_refused"),
    [
        (FILENAME, False),
        (f"six-1.0-{'x' * 300}-none-any.whl", True),
        ("six.whl", False),  # what is wrong with it is said when it is opened
        ("six-1.0.tar.gz", False),
    ],
)
def test_a_name_of_a_file_that_says_nothing(filename, is_refused):
    source = UrlSource(f"https://h/{filename}", filename, SHA)
    environment = make_environment(interpreter=make_interpreter(tags=(Tag("py3", "none", "any"),)))
    found = find_unfit_wheels([Deviation(locked(source), None, "not installed")], environment)
    assert bool(found) is is_refused
