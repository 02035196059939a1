"""Wheels of the cache by their hashes: fetched ones and built ones, as those write them."""

from __future__ import annotations

import hashlib
import os

import pytest

from safe_install.events import Reporter
from safe_install.models import Link
from safe_install.wheels import kept_wheels
from safe_install.wheels.fetch import fetch
from safe_install.wheels.kept_wheels import find_kept_wheels, name_kept_wheels, take_kept_wheel
from safe_install.wheels.store import WheelStore
from tests.unit.wheels.test_store import keep, make_env

YEARS = 10**8  # seconds


class Http:
    """A host that serves this."""

    def __init__(self, content):
        self.content = content

    def download(self, url, destination, **_):
        destination.write_bytes(self.content)
        return hash_of(self.content)


def hash_of(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def fetched(tmp_path):
    """Fetch a file of that name with that content, last used so long ago."""

    def bring(name, content, age=0):
        link = Link(f"https://h.example/{name}", name, sha256=hash_of(content))
        cache, seen = tmp_path / "cache", tmp_path / "seen"
        path = fetch(link, http=Http(content), cache=cache, reporter=Reporter(), first_seen=seen)
        moment = YEARS - age
        os.utime(path.parents[1], (moment, moment))
        return path

    return bring


def test_those_that_were_used_last_come_first(tmp_path, fetched):
    cache = tmp_path / "cache"
    assert find_kept_wheels(cache) == {}
    old = fetched("old-1-py3-none-any.whl", b"old", 20)
    new = fetched("new-1-py3-none-any.whl", b"new", 10)
    fetched("sdist-1.tar.gz", b"source")
    built = keep(WheelStore(cache), tmp_path / "made", make_env())
    found = find_kept_wheels(cache)
    assert [one.path for one in found.values()] == [built, new, old]
    assert [hash_of(one.path.read_bytes()) for one in found.values()] == list(found)
    assert name_kept_wheels(cache) == list(found)


def test_so_many_are_named(tmp_path, fetched, monkeypatch):
    monkeypatch.setattr(kept_wheels, "MAX_NAMED", 2)
    for number in range(4):
        fetched(f"a-{number}-py3-none-any.whl", b"%d" % number, number)
    assert name_kept_wheels(tmp_path / "cache") == [hash_of(b"0"), hash_of(b"1")]
    assert len(find_kept_wheels(tmp_path / "cache")) == 4


def test_one_of_two_addresses_is_one(tmp_path, fetched):
    fetched("a-1-py3-none-any.whl", b"a", 5)
    second = fetched("a-1-1-py3-none-any.whl", b"a")
    (found,) = find_kept_wheels(tmp_path / "cache").values()
    assert found.path == second


def test_what_lies_there_by_another_name_is_none(tmp_path, fetched):
    path = fetched("a-1-py3-none-any.whl", b"a")
    path.parent.rename(path.parent.with_name("not-a-hash"))
    assert find_kept_wheels(tmp_path / "cache") == {}


def test_one_is_taken_and_was_used(tmp_path, fetched):
    fetched("a-1-py3-none-any.whl", b"a")
    (kept,) = find_kept_wheels(tmp_path / "cache").values()
    assert take_kept_wheel(kept, tmp_path / "taken.whl")
    assert (tmp_path / "taken.whl").read_bytes() == b"a"
    assert kept.folder.stat().st_mtime > YEARS


def test_one_with_other_bytes_is_not_taken_and_not_named_again(tmp_path, fetched):
    fetched("a-1-py3-none-any.whl", b"a").write_bytes(b"b")
    (kept,) = find_kept_wheels(tmp_path / "cache").values()
    assert not take_kept_wheel(kept, tmp_path / "taken.whl")
    assert not (tmp_path / "taken.whl").exists()
    assert name_kept_wheels(tmp_path / "cache") == []
