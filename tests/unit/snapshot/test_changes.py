"""What differs between two snapshots, in the order in which it matters."""

from __future__ import annotations

import pytest

from safe_install.snapshot.changes import Topic, compare_snapshots
from safe_install.snapshot.described import (
    NOT_RECORDED,
    describe_environment,
    describe_lock,
    describe_manifest,
    describe_past,
    is_transaction,
    read_source,
)
from safe_install.snapshot.locked import LockedDistribution, LockedEnvironment
from safe_install.snapshot.manifest import BundleTarget
from safe_install.snapshot.past import Change
from safe_install.snapshot.values import (
    DirectorySource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    TorchFacts,
    UnknownSource,
    UrlSource,
)
from tests.factories import make_distribution, make_environment
from tests.unit.snapshot.bundles import manifest_of, wheel

NOT_KNOWN = UnknownSource("")
EXTENSIONS = frozenset({"torch-scatter"})


def snapshot(python="3.11.7", facts=None, **versions):
    found = []
    for name, version in versions.items():
        source = NOT_KNOWN
        if not isinstance(version, str):
            version, source = version
        found.append(RecordedDistribution(name.replace("_", "-"), version, source))
    return Snapshot(python, "", ("", ""), tuple(sorted(found, key=lambda one: one.name)), facts)


def compare(old, new):
    return [
        (one.topic.value, one.name, one.old, one.new)
        for one in compare_snapshots(old, new, EXTENSIONS)
    ]


def test_what_matters_comes_first():
    old = snapshot(
        "3.10.1",
        TorchFacts("2.1.0+cu121", "cu121", "12.1"),
        torch="2.1.0",
        torchvision="0.16.0",
        torch_scatter="2.1.2+pt21cu121",
        nvidia_nccl_cu12="2.18",
        attrs="1.0",
        zlib_ng="1.0",
    )
    new = snapshot(
        "3.11.7",
        TorchFacts("2.2.0+cpu", "cpu", ""),
        torch="2.2.0+cpu",
        torchvision="0.17.0",
        attrs="2.0",
        six="1.0",
        zlib_ng="1.0.0",
    )
    assert compare(old, new) == [
        ("torch", "torch", "2.1.0", "2.2.0+cpu"),
        ("cuda", "torch's CUDA", "12.1", ""),
        ("python", "Python", "3.10.1", "3.11.7"),
        ("companion", "torchvision", "0.16.0", "0.17.0"),
        ("extension", "torch-scatter", "2.1.2+pt21cu121", ""),
        ("library", "nvidia-nccl-cu12", "2.18", ""),
        ("other", "attrs", "1.0", "2.0"),
        ("other", "six", "", "1.0"),
    ]


def test_each_subject_has_a_place():
    assert [one.value for one in Topic][:5] == [
        "torch",
        "cuda",
        "python",
        "companion",
        "extension",
    ]


def test_two_builds_of_torch_with_one_version_in_their_metadata():
    old = snapshot(facts=TorchFacts("2.15.0+cu130", "cu130", "13.0"))
    new = snapshot(facts=TorchFacts("2.15.0+cu132", "cu132", "13.2"))
    same = (RecordedDistribution("torch", "2.15.0", NOT_KNOWN),)
    old, new = (Snapshot(one.python, "", ("", ""), same, one.torch) for one in (old, new))
    assert compare(old, new) == [
        ("torch", "torch.__version__", "2.15.0+cu130", "2.15.0+cu132"),
        ("cuda", "torch's CUDA", "13.0", "13.2"),
    ]


def test_what_one_side_does_not_say_is_no_difference():
    assert compare(snapshot("", six="1.0"), snapshot("3.11.7", six="1.0")) == []
    assert compare(snapshot(six=("", NOT_KNOWN)), snapshot(six="1.0")) == []


COMMIT = RepositorySource("git", "https://h/six", "0" * 40)


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        (UrlSource("https://h/a", "a", "a" * 64), UrlSource("https://h/b", "b", "a" * 64), ""),
        (UrlSource("https://h/a", "a", None), UrlSource("https://h/b", "b", "a" * 64), ""),
        (UrlSource("https://h/a", "a", "a" * 64), UrlSource("https://h/a", "a", "b" * 64),
         "another file: sha256 aaaaaaaaaaaa... and bbbbbbbbbbbb..."),
        (NOT_KNOWN, COMMIT, ""),
        (COMMIT, COMMIT, ""),
        (COMMIT, RepositorySource("git", "https://h/six", "1" * 40),
         f"from https://h/six@{'0' * 40}, and from https://h/six@{'1' * 40}"),
        (DirectorySource("/src"), COMMIT, f"from /src, and from https://h/six@{'0' * 40}"),
        (COMMIT, UrlSource("https://h/a", "a", None),
         f"from https://h/six@{'0' * 40}, and from a file"),
        (DirectorySource("/src"), DirectorySource("/src", True),
         "from /src, and from /src (editable)"),
        (DirectorySource("/src"), UrlSource("https://h/a", "a", None),
         "from /src, and from a file"),
    ],
)  # fmt: skip
def test_one_version_of_two_sources(old, new, detail):
    changes = compare_snapshots(snapshot(six=("1.0", old)), snapshot(six=("1.0", new)), ())
    assert [one.detail for one in changes] == ([detail] if detail else [])


def test_a_folder_without_a_name_is_what_was_installed_from_it():
    """`-e /src` of a requirements file."""
    line = LockedDistribution("", "", DirectorySource("/src", True), line="-e /src")
    file = describe_lock(LockedEnvironment((line,)))
    mine = snapshot(mine=("1.0", DirectorySource("/src", True)))
    assert compare_snapshots(file, mine, ()) == compare_snapshots(mine, file, ()) == ()
    other = snapshot(mine=("1.0", DirectorySource("/other", True)))
    assert {one.name for one in compare_snapshots(file, other, ())} == {"-e /src", "mine"}


def test_an_environment():
    environment = make_environment(
        make_distribution("six", "1.0", direct_url={"url": "file:///src", "dir_info": {}}),
        torch="2.1.0+cu121",
    )
    found = describe_environment(environment)
    assert found.python == "3.11.7"
    assert found.torch == TorchFacts("2.1.0+cu121", "cu121", "12.1")
    assert found.find("six").source == DirectorySource("/src")


def test_an_environment_and_a_bundle_without_torch():
    assert describe_environment(make_environment()).torch is None
    pure = manifest_of(wheel("idna-3.1-py3-none-any.whl"), made_for=BundleTarget("3.11", "any"))
    bundle = describe_manifest(pure)
    assert [one.name for one in bundle.distributions] == ["idna"]
    assert bundle.torch is None


@pytest.mark.parametrize(
    ("record", "source"),
    [
        (None, UnknownSource("nothing is recorded of its source")),
        ({"url": "https://h/six-1.0.tar.gz", "archive_info": {"hash": f"sha256={'a' * 64}"},
          "subdirectory": "py"},
         UrlSource("https://h/six-1.0.tar.gz", "six-1.0.tar.gz", "a" * 64, subdirectory="py")),
        ({"url": "https://h/six", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}, COMMIT),
    ],
)  # fmt: skip
def test_recorded_sources(record, source):
    assert read_source(record, is_editable=False) == source


def test_a_lock_says_nothing_of_a_machine():
    found = describe_lock(LockedEnvironment((LockedDistribution("six", "1.0"),)))
    assert (found.python, found.torch) == ("", None)
    assert compare(found, snapshot(six="1.0")) == []


TORCH = RecordedDistribution("torch", "2.8.0", NOT_KNOWN)
SCATTER = "torch_scatter-2.1.2+pt28cu126-cp311-cp311-linux_x86_64.whl"
BUILT = "numpy-2.0.0-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("facts", "differs"),
    [
        (TorchFacts("2.8.0+cu126", "cu126", "12.6"), []),
        (TorchFacts("2.8.0+cu128", "cu128", "12.8"),
         [("torch", "torch.__version__", "2.8.0+cu126", "2.8.0+cu128"),
          ("cuda", "torch's CUDA", "12.6", "12.8")]),
    ],
)  # fmt: skip
def test_a_bundle_and_the_torch_beside_which_it_is_installed(facts, differs):
    """torch's metadata may leave out what torch says of itself; a bundle is for each Python 3.11."""
    bundle = describe_manifest(manifest_of(wheel(SCATTER), wheel(BUILT, url="")))
    there = snapshot("3.11.9", torch_scatter="2.1.2+pt28cu126", numpy="2.0.0")
    there = Snapshot("3.11.9", "", ("", ""), (*there.distributions, TORCH), facts)
    assert compare(bundle, there) == differs
    assert ("python", "Python", "3.11", "3.12.1") in compare(bundle, snapshot("3.12.1"))


@pytest.mark.parametrize(
    ("version", "differs"),
    [
        ("2.8.0", []),
        ("2.8.0+cu126", []),
        ("2.8.0+cpu", [("torch", "torch.__version__", "2.8.0+cu126", "2.8.0+cpu")]),
        ("1.8.1", [("torch", "torch.__version__", "2.8.0+cu126", "1.8.1")]),
        ("", []),
    ],
)
def test_a_bundle_and_the_torch_of_a_file(version, differs):
    bundle = describe_manifest(manifest_of())
    lines = (LockedDistribution("torch", version), LockedDistribution("six", "1.0"))
    found = compare(bundle, describe_lock(LockedEnvironment(lines)))
    assert found == [*differs, ("other", "six", "", "1.0")]


def test_two_bundles_with_other_files_of_one_version():
    first, second = (
        describe_manifest(manifest_of(wheel(SCATTER), wheel(BUILT, url="", sha256=digit * 64)))
        for digit in "ab"
    )
    (change,) = compare_snapshots(first, second, EXTENSIONS)
    assert (change.name, change.detail) == (
        "numpy",
        "another file: sha256 aaaaaaaaaaaa... and bbbbbbbbbbbb...",
    )


def step(name, old, new):
    return {"action": "", "name": name, "from_version": old, "version": new}


def test_the_past():
    facts = TorchFacts("2.1.0", "cpu")
    now = snapshot(facts=facts, six=("3.0", COMMIT), attrs="1.0", idna=("3.1", COMMIT))
    later = [
        Change("3", (step("six", "2.0", "3.0"), step("attrs", None, "1.0"))),
        Change("2", (step("six", "1.0", "2.0"), step("Old.Name", "5.0", None))),
        Change("1", ()),
    ]
    found = describe_past(now, later)
    assert {one.name: (one.version, one.source) for one in found.distributions} == {
        "six": ("1.0", NOT_RECORDED),
        "idna": ("3.1", COMMIT),
        "old-name": ("5.0", NOT_RECORDED),
    }
    assert found.torch == now.torch


def test_the_past_of_another_torch():
    facts = TorchFacts("2.1.0", "cpu")
    now = Snapshot(
        "3.11.7", "", ("", ""), (RecordedDistribution("torch", "2.1.0", NOT_KNOWN),), facts
    )
    assert describe_past(now, [Change("1", (step("torch", "2.0.0", "2.1.0"),))]).torch is None


def test_ids():
    assert is_transaction("20261123T101112Z-1f43f2")
    assert not is_transaction("pylock.toml")


@pytest.mark.parametrize(("new", "differs"), [("1-2-x", False), ("1-2-y", True)])
def test_versions_that_are_none(new, differs):
    assert bool(compare(snapshot(six="1-2-x"), snapshot(six=new))) == differs
