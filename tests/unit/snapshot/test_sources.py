"""From what is known of a distribution, its one source."""

from __future__ import annotations

import pytest
from packaging.tags import parse_tag
from packaging.version import Version

from safe_install.models import BuiltFor, Candidate, CandidateKind, Link, Origin
from safe_install.snapshot.sources import (
    InstalledFiles,
    PastFile,
    find_known,
    find_listed,
    find_past,
    find_same,
    index_of,
    is_hidden,
    may_be_named,
    read_past_file,
    source_of_direct_url,
    source_of_past,
    unknown_because,
)
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    UnknownSource,
    UrlSource,
)
from tests.factories import SITE, make_distribution
from tests.unit.snapshot.snapshots import COMMIT, HASH

WHEEL = "a-1.0-cp311-cp311-linux_x86_64.whl"
TAGS = frozenset(parse_tag("cp311-cp311-linux_x86_64"))


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (
            {"url": f"https://h/{WHEEL}", "archive_info": {"hashes": {"sha256": HASH}}},
            UrlSource(f"https://h/{WHEEL}", WHEEL, HASH),
        ),
        (  # as pip before 22.3 wrote it
            {"url": f"https://h/{WHEEL}", "archive_info": {"hash": f"sha256={HASH}"}},
            UrlSource(f"https://h/{WHEEL}", WHEEL, HASH),
        ),
        (  # as uv writes it
            {"url": "https://h/a%2Bb.zip#sha256=x", "archive_info": {}, "subdirectory": "s"},
            UrlSource("https://h/a%2Bb.zip", "a+b.zip", None, None, "s"),
        ),
        (
            {"url": f"https://me:pw@h/{WHEEL}", "archive_info": {"hashes": {"sha256": HASH}}},
            UrlSource(f"https://h/{WHEEL}", WHEEL, HASH),
        ),
        (
            {"url": f"file:///my%20wheels/{WHEEL}", "archive_info": {"hashes": {"sha256": HASH}}},
            FileSource(f"/my wheels/{WHEEL}", WHEEL, HASH),
        ),
        (
            {
                "url": "file:///a.zip",
                "archive_info": {"hashes": {"sha256": HASH}},
                "subdirectory": "s",
            },
            FileSource("/a.zip", "a.zip", HASH, subdirectory="s"),
        ),
        (
            {"url": "file:///a.zip", "archive_info": {}},
            UnknownSource("it came from /a.zip, and no hash of that is known"),
        ),
        (
            {"url": "file:///home/me/x", "dir_info": {"editable": True}},
            DirectorySource("/home/me/x", is_editable=True),
        ),
        ({"url": "file:///home/me/x", "dir_info": {}}, DirectorySource("/home/me/x")),
        (
            {
                "url": "ssh://git@h/x.git",
                "vcs_info": {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"},
                "subdirectory": "s",
            },
            RepositorySource("git", "ssh://git@h/x.git", COMMIT, "main", "s"),
        ),
        (
            {
                "url": "https://${USER}:${TOKEN}@h/x.git",
                "vcs_info": {"vcs": "git", "commit_id": "c"},
            },
            RepositorySource("git", "https://${USER}:${TOKEN}@h/x.git", "c"),
        ),
        ({"url": 3}, UnknownSource("its direct_url.json names no address")),
        (
            {"url": "file:///my src", "dir_info": {}, "subdirectory": "s"},
            DirectorySource("/my src", subdirectory="s"),
        ),
        (
            {"url": f"https://h/{WHEEL}", "archive_info": {"hashes": {"sha256": "0\n--pre"}}},
            UrlSource(f"https://h/{WHEEL}", WHEEL, None),
        ),
        (
            {"url": "https://h/a.zip", "archive_info": 7},
            UrlSource("https://h/a.zip", "a.zip", None),
        ),
    ],
)
def test_what_a_distribution_says_itself(direct_url, source):
    assert source_of_direct_url(direct_url) == source


def test_a_secret_parameter_is_hidden_and_noticed():
    source = source_of_direct_url(
        {"url": "https://h/a.zip?token=abc", "archive_info": {"hashes": {"sha256": HASH}}}
    )
    assert source.url == "https://h/a.zip?token=****"
    assert is_hidden(source)
    assert not is_hidden(UrlSource("https://h/a.zip", "a.zip", HASH))


def test_variables_in_the_place_of_a_password_stay():
    url = "https://${NAME}:${TOKEN}@h/x"
    table = {"url": url, "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    assert source_of_direct_url(table) == RepositorySource("git", url, COMMIT)


@pytest.mark.parametrize(
    "direct_url",
    [
        {"url": "https://h/x.whl\n--index-url https://evil.example", "archive_info": {}},
        {"url": "https://h/x.whl --pre", "archive_info": {}},
        {"url": "https://evil.example/${SECRET}/x.whl", "archive_info": {}},
        {"url": "https://h/x.zip", "archive_info": {}, "subdirectory": "s\n--pre"},
        {"url": "file:///x", "dir_info": {}, "subdirectory": "s\n--pre"},
        {"url": "file:///x\n--pre", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
        {"url": "https://h/x", "vcs_info": {"vcs": "git\n--pre", "commit_id": COMMIT}},
        {"url": "https://h/x", "vcs_info": {"vcs": "git", "commit_id": "1\n--pre"}},
        {"url": "https://h/x", "vcs_info": {"vcs": "git"}},
    ],
)
def test_what_a_wheel_brought_adds_nothing_to_a_line(direct_url):
    source = source_of_direct_url(direct_url)
    assert isinstance(source, UnknownSource)
    assert source.reason.startswith("its direct_url.json names no ")


# --- history --------------------------------------------------------------------------------------


def row(**fields):
    values = {"version": "1.0", "url": f"https://h/{WHEEL}", "sha256": HASH, "kind": "wheel"}
    values.update(fields)
    return values


INDEX_URL = f"https://files.pythonhosted.org/x/{WHEEL}"


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({}, UrlSource(f"https://h/{WHEEL}", WHEEL, HASH)),
        ({"size": 7, "direct": True}, UrlSource(f"https://h/{WHEEL}", WHEEL, HASH, 7)),
        (
            {"url": INDEX_URL, "listed": True},
            IndexSource("https://pypi.org/simple", INDEX_URL, WHEEL, HASH),
        ),
        (
            {"url": f"https://own.example/f/{WHEEL}", "listed": True},
            IndexSource(
                "https://own.example/simple", f"https://own.example/f/{WHEEL}", WHEEL, HASH
            ),
        ),
        (
            {"url": f"https://me:pw@h/{WHEEL}", "listed": True},
            IndexSource("", f"https://h/{WHEEL}", WHEEL, HASH),
        ),
        (
            {"url": f"file:///store/{WHEEL}", "kind": "built"},
            FileSource(f"/store/{WHEEL}", WHEEL, HASH, is_built_here=True),
        ),
        ({"url": f"file:///w/{WHEEL}"}, FileSource(f"/w/{WHEEL}", WHEEL, HASH)),
        ({"kind": "repository"}, None),
        ({"kind": "editable"}, None),
        ({"sha256": None}, None),
    ],
)
def test_a_row_of_our_history(fields, source):
    past = read_past_file(row(**fields))
    assert source_of_past(past, ["https://own.example/simple/"]) == source


@pytest.mark.parametrize(
    "fields", [{"url": None}, {"version": None}, {"kind": "?"}, {"kind": 3}, {"url": 1}]
)
def test_a_row_that_names_no_file(fields):
    assert read_past_file(row(**fields)) is None


def test_the_newest_file_of_the_installed_version_counts_unless_another_installer_was_there():
    first = PastFile("1.0", "u1", HASH, None, Origin.WHEEL, False, True)
    newer = PastFile("1.0", "u2", HASH, None, Origin.WHEEL, False, True)
    direct = PastFile("1.0", "u3", HASH, None, Origin.WHEEL, True, False)
    other = PastFile("2.0", "u4", HASH, None, Origin.WHEEL, False, True)
    plain = make_distribution("a", "1.0")
    named = make_distribution("a", "1.0", direct_url={"url": "u3"})
    assert find_past([other, newer, first], plain) == newer
    assert find_past([direct, first], plain) == first
    assert find_past([first, direct], named) == direct
    assert find_past([direct], plain) is None


def test_the_index_of_a_file():
    assert index_of(INDEX_URL, []) == "https://pypi.org/simple"
    assert index_of("https://own/x.whl", ["https://other/s", "https://own/s/"]) == "https://own/s"
    assert index_of("https://own/x.whl", []) == ""


# --- lists ----------------------------------------------------------------------------------------


def link(filename, *, metadata=None, sha256=HASH, host="https://files.pythonhosted.org"):
    return Link(f"{host}/{filename}", filename, sha256, 5, metadata=metadata)


SDIST = link("a-1.0.tar.gz")
MINE = InstalledFiles(TAGS, "m" * 64)


def listed(links, files=MINE, version="1.0"):
    return find_listed("a", version, files, links, "https://i/simple")


def test_the_listed_file_has_the_tags_and_the_metadata_of_the_installed_one():
    same = link(WHEEL, metadata="m" * 64)
    other = link("a-1.0-1-cp311-cp311-linux_x86_64.whl", metadata="n" * 64)
    foreign = link("a-1.0-cp310-cp310-linux_x86_64.whl", metadata="m" * 64)
    found = listed([foreign, other, SDIST, same])
    assert found.is_compared
    assert found.source == IndexSource("https://i/simple", same.url, WHEEL, HASH, 5)


def test_without_a_hash_of_the_metadata_name_version_and_tags_count():
    for links in ([link(WHEEL)], [link(WHEEL, metadata="")]):
        found = listed([SDIST, *links])
        assert found.source.filename == WHEEL
        assert not found.is_compared


def test_what_was_built_of_a_source_is_named_by_the_source():
    found = listed([SDIST, link(WHEEL, metadata="n" * 64)])
    assert (found.source.filename, found.is_compared) == ("a-1.0.tar.gz", False)


@pytest.mark.parametrize(
    "platform", ["manylinux1", "manylinux_2_17", "manylinux_2_17.manylinux2014"]
)
def test_a_wheel_that_was_renamed_for_the_index(platform):
    """As those of torch 1.8.1: WHEEL has the tag of the build. Where there is a source, the wheel may
    have been built of that."""
    tags = ".".join(f"{one}_x86_64" for one in platform.split("."))
    renamed = link(f"a-1.0-cp311-cp311-{tags}.whl")
    elsewhere = link(f"a-1.0-cp310-cp310-{tags}.whl")
    arm = link(f"a-1.0-cp311-cp311-{tags.replace('x86_64', 'aarch64')}.whl")
    found = listed([arm, elsewhere, renamed])
    assert (found.source.filename, found.is_compared) == (renamed.filename, False)
    assert listed([renamed, SDIST]).source.filename == "a-1.0.tar.gz"
    assert listed([link(renamed.filename, metadata="n" * 64)]) is None
    assert listed([arm, elsewhere]) is None
    manylinux = InstalledFiles(parse_tag(f"cp311-cp311-{tags}"), "m" * 64)
    assert listed([link(WHEEL)], manylinux) is None


@pytest.mark.parametrize(
    "links",
    [
        [],
        [link("a-2.0-cp311-cp311-linux_x86_64.whl")],
        [link("b-1.0-cp311-cp311-linux_x86_64.whl")],
        [link(WHEEL, sha256=None)],
        [link("a-1.0.whl")],
    ],
)
def test_other_files_are_not_taken(links):
    assert listed(links) is None


def test_without_a_wheel_file_only_the_source_is_left():
    assert listed([link(WHEEL), SDIST], InstalledFiles()).source.filename == "a-1.0.tar.gz"
    assert listed([link(WHEEL)], InstalledFiles()) is None
    assert listed([link(WHEEL)], version="not a version") is None


def test_a_file_of_this_machine_that_an_index_lists_is_the_index_s():
    found = find_same(HASH, [link("other.whl", sha256="0" * 64), link(WHEEL)], "https://i/simple")
    assert found.source == IndexSource(
        "https://i/simple", f"https://files.pythonhosted.org/{WHEEL}", WHEEL, HASH, 5
    )
    assert find_same(HASH, [], "https://i/simple") is None


def test_an_index_that_is_a_folder_has_files_of_this_machine():
    found = listed([Link(f"file:///i/{WHEEL}", WHEEL, HASH, 5)])
    assert found.source == FileSource(f"/i/{WHEEL}", WHEEL, HASH, 5)


def candidate(version, tag, *, host="https://data.pyg.org", kind=CandidateKind.WHEEL, sha256=None):
    filename = f"a-{version}-{tag}.whl"
    return Candidate(
        "a", Version(version), kind, Link(f"{host}/{filename}", filename, sha256),
        frozenset(parse_tag(tag)), BuiltFor(),
    )  # fmt: skip


def test_the_wheel_index_knows_the_file_of_a_host():
    tag = "cp311-cp311-linux_x86_64"
    mine = candidate("1.0+pt21", tag)
    others = [candidate("1.0+pt20", tag), candidate("1.0+pt21", "cp310-cp310-linux_x86_64")]
    found = find_known("1.0+pt21", MINE, [*others, mine])
    assert found == UrlSource(mine.link.url, mine.link.filename, None)
    assert find_known("1.0+pt21", InstalledFiles(), [mine]) is None
    # one of two that were built for different torches: nobody knows which
    again = candidate("1.0+pt21", tag, host="https://data.pyg.org/other")
    assert find_known("1.0+pt21", MINE, [mine, again]) is None


# --- nobody knows ---------------------------------------------------------------------------------


EGG = SITE / "a-1.0.egg-info"


@pytest.mark.parametrize(
    ("fields", "silence", "reason"),
    [
        ({"installer": "conda"}, "x", "conda installed it"),
        ({"installer": "debian"}, "", "debian installed it"),
        ({"has_record": False}, "x", "x"),
        ({"metadata_path": EGG, "has_record": False}, "x",
         "it was installed without a list of its files"),
        ({"metadata_path": EGG}, "x", "x"),
        ({}, "pypi.org does not answer", "pypi.org does not answer"),
        ({}, "", "no package index that is used here lists a file like the installed one"),
    ],
)  # fmt: skip
def test_why_nobody_knows(fields, silence, reason):
    assert unknown_because(make_distribution("a", "1.0", **fields), silence).reason == reason


@pytest.mark.parametrize(
    ("name", "installer", "said"),
    [
        ("numpy", "conda", "conda installed it"),
        ("größe", "pip", "no project may have that name"),
    ],
)
def test_what_no_package_index_is_asked_for(name, installer, said):
    distribution = make_distribution(name, "1.0", installer=installer)
    assert not may_be_named(distribution)
    assert unknown_because(distribution, "").reason == said
