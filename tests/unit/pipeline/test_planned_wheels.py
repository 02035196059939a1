"""The wheels of one run of pip for its next one."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from safe_install.models import Link
from safe_install.pipeline.planned_wheels import BUILD_TAG, PlannedWheels, with_build_tag

URL = "https://example.org/files/demo-1.0-py3-none-any.whl"
TAGGED = f"demo-1.0-{BUILD_TAG}-py3-none-any.whl"


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("demo-1.0-py3-none-any.whl", TAGGED),
        ("demo-1.0-2-py3-none-any.whl", TAGGED),
        ("demo-1.0-2b-py3-none-any.whl", TAGGED),
        (
            "a_b-1!1.0+cu130-cp311-cp311-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
            f"a_b-1!1.0+cu130-{BUILD_TAG}-cp311-cp311-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
        ),
        ("demo-1.0.tar.gz", None),
        ("demo.whl", None),
        ("demo-1.0-1-2-py3-none-any.whl", None),
        ("", None),
    ],
)
def test_the_build_tag_is_that_of_no_other_file(filename, expected):
    assert with_build_tag(filename) == expected


def entry(url=URL, content=b"wheel", **fields):
    archive = {"hashes": {"sha256": hashlib.sha256(content).hexdigest()}}
    return {"download_info": {"url": url, "archive_info": archive}, "is_direct": False, **fields}


def report(*entries):
    return {"version": "1", "install": list(entries)}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "planned"
    path.mkdir()
    return path


@pytest.fixture
def wheels(folder, tmp_path):
    """pip downloaded demo twice: half of it, and the whole."""
    half, whole = tmp_path / "half.whl", tmp_path / "whole.whl"
    half.write_bytes(b"whe")
    whole.write_bytes(b"wheel")
    files = {"demo-1.0-py3-none-any.whl": [half, whole], "half-1.0-py3-none-any.whl": [half]}
    return PlannedWheels(SimpleNamespace(find=lambda name: files.get(name, [])), folder)


def test_a_downloaded_wheel_is_given_to_the_next_run(wheels, folder):
    assert wheels.find_links() == ()
    wheels.add(report(entry()))
    assert wheels.find_links() == (folder,)
    assert [path.name for path in folder.iterdir()] == [TAGGED]
    assert (folder / TAGGED).read_bytes() == b"wheel"


def test_the_hash_of_an_older_pip_counts_too(wheels, folder):
    archive = {"hash": "sha256=" + hashlib.sha256(b"wheel").hexdigest()}
    wheels.add(report({"download_info": {"url": URL, "archive_info": archive}}))
    assert wheels.find_links() == (folder,)


def test_what_the_next_run_takes_has_the_url_of_the_first(wheels, folder):
    wheels.add(report(entry()))
    wheels.find_links()
    local = entry(url=(folder / TAGGED).as_uri(), metadata={"name": "demo"})
    other = entry(url="https://example.org/other-1.0-py3-none-any.whl")
    found = wheels.with_origins(report(local, other, {"metadata": {"name": "folder"}}))
    assert found == report(
        entry(metadata={"name": "demo"}), other, {"metadata": {"name": "folder"}}
    )
    wheels.add(found)
    assert wheels.find_links() == (folder,)
    assert [path.name for path in folder.iterdir()] == [TAGGED]


def test_lines_name_the_file_on_the_index(wheels, folder):
    wheels.add(report(entry()))
    wheels.find_links()
    line = wheels.with_filenames(f"Processing {folder / TAGGED} (from user)")
    assert line == "Processing demo-1.0-py3-none-any.whl (from user)"
    assert wheels.with_filenames("Collecting other") == "Collecting other"


@pytest.mark.parametrize(
    "planned",
    [
        pytest.param(entry(is_direct=True), id="named-by-url"),
        pytest.param(entry(content=b"another"), id="not-the-promised-file"),
        pytest.param(entry(url="https://example.org/half-1.0-py3-none-any.whl"), id="half"),
        pytest.param(
            entry(url="https://example.org/new-1.0-py3-none-any.whl"), id="not-downloaded"
        ),
        pytest.param(entry(url="https://example.org/demo-1.0.tar.gz"), id="source"),
        pytest.param({"download_info": {"url": URL}}, id="no-hash"),
        pytest.param({"download_info": {"url": "file:///a/folder", "dir_info": {}}}, id="folder"),
        pytest.param({}, id="nothing-known"),
    ],
)
def test_what_is_not_given(wheels, folder, planned):
    wheels.add(report(planned))
    assert wheels.find_links() == ()
    assert list(folder.iterdir()) == []


# --- after a run without a plan -------------------------------------------------------------------


@pytest.fixture
def failed(folder, tmp_path):
    """pip downloaded half of demo, and the whole; then it found no plan."""
    half, whole, other = tmp_path / "0", tmp_path / "1", tmp_path / "2"
    files = []
    for place, name, content in (
        (half, "demo-1.0-py3-none-any.whl", b"whe"),
        (whole, "demo-1.0-py3-none-any.whl", b"wheel"),
        (other, "unlisted-1.0-py3-none-any.whl", b"wheel"),
        (other, "source-1.0.tar.gz", b"source"),
    ):
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
        files.append(place / name)
    asked = []

    def read_index(name):
        asked.append(name)
        sha256 = hashlib.sha256(b"wheel").hexdigest()
        url = URL.replace("https://", "https://user:secret@")
        return [Link(url, "demo-1.0-py3-none-any.whl", sha256=sha256)]

    downloads = SimpleNamespace(
        all=lambda: files, find=lambda name: [one for one in files if one.name == name]
    )
    return PlannedWheels(downloads, folder, read_index), asked


def test_wheels_of_a_run_without_a_plan_are_given_where_the_index_lists_them(failed, folder):
    wheels, asked = failed
    wheels.add_downloads()
    assert asked == [], "the index is asked only if there is another run"
    assert wheels.find_links() == (folder,)
    assert [path.name for path in folder.iterdir()] == [TAGGED]
    assert (folder / TAGGED).read_bytes() == b"wheel"
    found = wheels.with_origins(report(entry(url=(folder / TAGGED).as_uri())))
    assert found["install"][0]["download_info"]["url"] == URL, "without the password"
    before = list(asked)
    assert wheels.find_links() == (folder,)
    assert asked == before, "each run is looked through once"


def test_without_an_index_nothing_of_a_run_without_a_plan_is_given(failed, folder):
    wheels = PlannedWheels(failed[0]._downloads, folder)
    wheels.add_downloads()
    assert wheels.find_links() == ()
