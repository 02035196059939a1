"""A snapshot as a lock file, read back by us and by the packaging library; and the lock files of
others."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings

from safe_install.errors import InputError
from safe_install.snapshot.pylock import render_pylock
from safe_install.snapshot.pylock_reader import Machine, RequestedGroups, parse_pylock
from safe_install.snapshot.toml_text import parse_toml, render_text
from safe_install.snapshot.values import IndexSource, UnknownSource, UrlSource
from safe_install.tags import supported_tags
from tests.factories import MARKERS
from tests.unit.snapshot.snapshots import (
    EVERY_SOURCE,
    HASH,
    TEXTS,
    distribution,
    snapshot_of,
    snapshots,
)

HERE = Machine(
    "3.11.7", MARKERS, supported_tags("3.11", "cpython", "linux_x86_64", ("glibc", "2.36"))
)


def read_by_packaging(text):
    pylock = pytest.importorskip("packaging.pylock")
    return pylock.Pylock.from_dict(parse_toml(text))


@pytest.mark.parametrize("snapshot", [EVERY_SOURCE, snapshot_of()], ids=["all", "empty"])
def test_what_is_written_is_read_again(snapshot):
    text = render_pylock(snapshot)
    assert parse_pylock(text) == snapshot
    assert parse_pylock(text, machine=HERE) == snapshot
    read_by_packaging(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_any_snapshot_is_written_valid_and_read_again(snapshot):
    text = render_pylock(snapshot)
    assert parse_pylock(text) == snapshot
    backwards = dataclasses.replace(snapshot, distributions=tuple(reversed(snapshot.distributions)))
    assert render_pylock(backwards) == text
    read_by_packaging(text)


@given(TEXTS)
def test_any_text_is_one_line_of_toml(text):
    rendered = render_text(text)
    assert len(rendered.split("\n")) == 1
    assert parse_toml(f"key = {rendered}") == {"key": text}


def test_each_source_has_the_table_that_the_specification_has_for_it():
    lock = read_by_packaging(render_pylock(EVERY_SOURCE))
    found = {package.name: package for package in lock.packages}
    assert str(lock.lock_version) == "1.0"
    assert lock.created_by == "safe-install"
    assert str(lock.requires_python) == "==3.11.*"
    assert len(lock.environments) == 1
    numpy = found["numpy"]
    assert numpy.index == "https://pypi.org/simple"
    assert (numpy.wheels[0].size, numpy.wheels[0].hashes) == (1234, {"sha256": HASH})
    assert found["antlr4-python3-runtime"].sdist.filename.endswith("-4.9.3.tar.gz")
    # what came from a host by its address is named so that an installer writes the address down
    assert found["torch-scatter"].archive.url.startswith("https://data.pyg.org/")
    assert str(found["torch-scatter"].version) == "2.1.2+pt21cu121"
    assert found["flash-attn"].archive.hashes == {"sha256": HASH}
    assert found["torch-sparse"].wheels[0].path.startswith("wheels/")
    assert found["given"].archive.path.startswith("/data/")
    assert found["mine"].directory.editable
    assert found["tree"].directory.editable is None
    assert found["from-git"].vcs.commit_id == "f" * 40
    # the specification forbids a version where it is known only when the source is built
    assert found["from-git"].version is None and found["mine"].version is None
    assert set(found) == {one.name for one in EVERY_SOURCE.distributions} - {
        "no-hash",
        "nobody-knows",
    }


# --- lock files of others -------------------------------------------------------------------------

WHEEL = '{{ name = "{name}", url = "https://h/{name}", hashes = {{ sha256 = "{hash}" }} }}'


def lock(*packages, head=""):
    body = "\n".join(f"[[packages]]\n{package}" for package in packages)
    return f'lock-version = "1.0"\ncreated-by = "uv"\n{head}\n{body}'


def wheels(*names):
    rows = ",\n  ".join(WHEEL.format(name=name, hash=HASH) for name in names)
    return f"wheels = [\n  {rows}\n]"


SEVERAL = wheels(
    "a-1.0-cp310-cp310-manylinux_2_17_x86_64.whl",
    "a-1.0-py3-none-any.whl",
    "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
    "a-1.0-cp311-cp311-macosx_11_0_arm64.whl",
)
SDIST = f'sdist = {{ name = "a-1.0.tar.gz", url = "https://h/a-1.0.tar.gz", hashes = {{ sha256 = "{HASH}" }} }}'


def source_of(text, machine=HERE):
    (one,) = parse_pylock(text, machine=machine).distributions
    return one.source


def test_of_several_wheels_the_machines_best_is_taken():
    text = lock(f'name = "a"\nversion = "1.0"\n{SEVERAL}\n{SDIST}')
    assert source_of(text).filename == "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    assert source_of(text, None).filename == "a-1.0-cp310-cp310-manylinux_2_17_x86_64.whl"


def test_without_a_wheel_for_the_machine_the_source_is_taken_or_it_is_said():
    foreign = wheels("a-1.0-cp310-cp310-win_amd64.whl")
    assert source_of(lock(f'name = "a"\n{foreign}\n{SDIST}')).filename == "a-1.0.tar.gz"
    assert isinstance(source_of(lock(f'name = "a"\n{foreign}')), UnknownSource)


def test_an_archive_is_an_address_and_a_listed_file_is_of_an_index():
    archive = (
        f'name = "a"\narchive = {{ url = "https://h/a%2B1.zip", hashes = {{ sha256 = "{HASH}" }} }}'
    )
    assert source_of(lock(archive)) == UrlSource("https://h/a%2B1.zip", "a+1.zip", HASH)
    listed = f'name = "a"\nindex = "https://i/simple"\n{SDIST}'
    assert source_of(lock(listed)) == IndexSource(
        "https://i/simple", "https://h/a-1.0.tar.gz", "a-1.0.tar.gz", HASH
    )


def test_packages_for_other_machines_are_left_out():
    text = lock(
        f'name = "a"\nmarker = "sys_platform == \'win32\'"\n{SEVERAL}',
        f'name = "a"\nmarker = "sys_platform == \'linux\'"\nversion = "1.0"\n{SEVERAL}',
    )
    assert [one.version for one in parse_pylock(text, machine=HERE).distributions] == ["1.0"]
    assert len(parse_pylock(text).distributions) == 2


def optional(name, marker):
    return f'name = "{name}"\nmarker = "{marker}"\n' + wheels(f"{name}-1.0-py3-none-any.whl")


OPTIONAL = lock(
    optional("gpu", "'gpu' in extras"),
    optional("dev", "'dev' in dependency_groups"),
    optional("doc", "'doc' in dependency_groups or 'gpu' in extras"),
    head='extras = ["gpu", "big-one"]\ndependency-groups = ["dev", "doc"]\ndefault-groups = ["doc"]',
)
CHOICES = [
    ("", "", "doc"),
    ("gpu", "", "doc gpu"),
    ("", "dev", "dev doc"),
    ("gpu big-one", "dev doc", "dev doc gpu"),
]


@pytest.mark.parametrize(("extras", "groups", "names"), CHOICES)
def test_extras_and_groups_are_those_that_are_wanted(extras, groups, names):
    wanted = RequestedGroups(frozenset(extras.split()), frozenset(groups.split()))
    found = parse_pylock(OPTIONAL, machine=HERE, wanted=wanted).distributions
    assert [one.name for one in found] == names.split()


@pytest.mark.parametrize(("extras", "groups", "names"), CHOICES)
def test_the_packaging_library_takes_the_same(extras, groups, names):
    lock = read_by_packaging(OPTIONAL)
    if not hasattr(lock, "select"):
        pytest.skip("this packaging selects nothing")
    taken = lock.select(extras=extras.split(), dependency_groups={*groups.split(), "doc"})
    assert sorted(package.name for package, _ in taken) == names.split()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (RequestedGroups(frozenset(["cpu", "gpu"])), "extra cpu: .* has none"),
        (RequestedGroups(groups=frozenset(["docs"])), "dependency group docs: .* has none"),
    ],
)
def test_what_is_wanted_and_not_in_it_is_said(wanted, said):
    with pytest.raises(InputError, match=said):
        parse_pylock(OPTIONAL, machine=HERE, wanted=wanted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not = [toml", "is no TOML"),
        ('created-by = "x"', "its lock-version is missing"),
        ('lock-version = "2.0"\npackages = []', "its lock-version is 2.0"),
        ('lock-version = "1.0"', "it has no packages"),
        ('lock-version = "1.0"\npackages = [1]', "packages is no list of tables"),
        (lock('version = "1"'), "a package has no name"),
        (lock('name = "a"'), "the package a has no source"),
        (lock("name = 1"), "name is not of the right type"),
        (lock(head="extras = [1]\npackages = []"), "extras is no list of texts"),
        (lock('name = "a"\narchive = { url = "https://h/a.zip" }'), "a.zip has no sha256"),
        (
            lock(f'name = "a"\narchive = {{ hashes = {{ sha256 = "{HASH}" }} }}'),
            "neither an address",
        ),
        (lock('name = "a"\ndirectory = { editable = true }'), "a directory has no path"),
        (lock('name = "a"\nvcs = { type = "git", url = "https://h" }'), "no commit-id"),
        (lock(f'name = "a"\n{wheels("a.whl")}'), "Invalid wheel filename"),
        (lock(f'name = "a"\nmarker = "x =="\n{SEVERAL}'), "is not understood"),
        (lock(f'name = "a"\n{SEVERAL}', f'name = "A"\n{SEVERAL}'), "a is listed more than once"),
        (lock(head='requires-python = "==3.12.*"\npackages = []'), "is for Python ==3.12.*"),
        (lock(head='requires-python = "new"\npackages = []'), "is no version specifier"),
        (
            lock(head="environments = [\"sys_platform == 'win32'\"]\npackages = []"),
            "is for machines with sys_platform == 'win32'",
        ),
    ],
)
def test_what_is_wrong_is_said(text, said):
    with pytest.raises(InputError) as raised:
        parse_pylock(text, machine=HERE)
    assert said in raised.value.message


def archive(url, more=""):
    hashes = f'hashes = {{ sha256 = "{HASH}" }}'
    return lock(f'name = "a"\narchive = {{ url = "{url}", {more}{hashes} }}')


def repository(url="https://h/x", commit="0" * 40, kind="git", subdirectory="x"):
    fields = {"url": url, "commit-id": commit, "type": kind, "subdirectory": subdirectory}
    pairs = ", ".join(f'{key} = "{value}"' for key, value in fields.items())
    return lock(f'name = "a"\nvcs = {{ {pairs} }}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # a name becomes a folder, and the beginning of a line for pip
        (lock(f'name = "/tmp/there"\n{SEVERAL}'), "is no name of a project"),
        (lock(f'name = "a/../../b"\n{SEVERAL}'), "is no name of a project"),
        (lock(f'name = "a\\n--pre"\n{SEVERAL}'), "is no name of a project"),
        (lock(f'name = "größe"\n{SEVERAL}'), "is no name of a project"),
        (lock(f'name = "a"\nversion = "1.0\\n--pre"\n{SEVERAL}'), "is no version"),
        # an address becomes the rest of that line, in which pip replaces variables
        (archive("https://h/a.zip\\n--pre"), "is no address"),
        (archive("https://h/a.zip --config-settings=a=b"), "is no address"),
        (archive("https://h/${GITHUB_TOKEN}/a.zip"), "is no address"),
        (archive("https://["), "is no address"),
        (archive("https://[x]y/a.zip"), "is no address"),
        (archive("https://h/" + "a" * 256), "too long"),
        (
            lock(f'name = "a"\n{wheels("a-1-" + ".".join(["py3"] * 99) + "-none-any.whl")}'),
            "too long",
        ),
        (archive("https://h/a.zip", 'subdirectory = "../.."\t, '), "is no folder in an archive"),
        (archive("https://h/a.zip", 'subdirectory = "/etc", '), "is no folder in an archive"),
        (archive("https://h/a.zip", 'subdirectory = "x&egg=b", '), "is no folder in an archive"),
        (repository(subdirectory="x/../../y"), "is no folder in an archive"),
        (repository(commit="--upload-pack=x"), "is no commit"),
        (repository(commit="main"), "is no commit"),
        (repository(commit="-r5", kind="hg"), "is no commit"),
        (repository(kind="ext::sh"), "is no commit"),
        (repository(url="https://h/${HOME}"), "is no address"),
        (lock(f'name = "a"\nmarker = "{"(" * 9999}"\n{SEVERAL}'), "is not understood"),
        ("a = " + "[" * 9999, "is no TOML"),
    ],
)
def test_what_is_hostile_is_refused(text, said):
    with pytest.raises(InputError) as raised:
        parse_pylock(text, machine=HERE)
    assert said in raised.value.message
    assert len(raised.value.message) < 1000


def test_a_name_that_is_another_is_not_what_is_written():
    text = f'name = "a"\n{SDIST}\n[packages.tool.safe-install]\nwritten-name = "-r x"'
    (one,) = parse_pylock(lock(text)).distributions
    assert one.written_name == ""


def test_a_version_that_is_none_stands_where_no_other_program_looks():
    source = UrlSource("https://h/odd.zip", "odd.zip", HASH)
    snapshot = snapshot_of(distribution("odd", "1-2-x", source))
    text = render_pylock(snapshot)
    assert read_by_packaging(text).packages[0].version is None
    assert parse_pylock(text) == snapshot


def test_the_hash_of_a_file_that_nobody_has_is_kept():
    snapshot = snapshot_of(distribution("gone", "1.0", UnknownSource("it is gone", HASH)))
    assert parse_pylock(render_pylock(snapshot)) == snapshot


def test_half_of_a_character_is_no_toml():
    assert render_text("a\udcff") == '"a\ufffd"'
