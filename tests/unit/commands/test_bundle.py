"""What a bundle says of where its wheels came from, and where it is written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from safe_install.commands import bundle
from safe_install.commands.bundle import find_output, megabytes, public_address
from safe_install.errors import Refused, UsageError
from safe_install.transaction import room


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://h.example/a%2Bb.whl", "https://h.example/a%2Bb.whl"),
        ("https://h.example/a.whl#sha256=0", "https://h.example/a.whl"),
        ("https://me:pass@h.example:8080/a.whl", "https://h.example:8080/a.whl"),
        ("https://****@h.example/a.whl", "https://h.example/a.whl"),
        ("https://git@h.example/a.whl", "https://h.example/a.whl"),
        ("https://h.example/a.whl?token=secret", "https://h.example/a.whl"),
        ("https://h.example/a.whl?X-Amz-Signature=secret&x=1", "https://h.example/a.whl"),
        ("https://h.example/a.whl?version=2", "https://h.example/a.whl?version=2"),
    ],
)
def test_an_address_without_secrets(url, public):
    assert public_address(url) == public


def test_where_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_output(SimpleNamespace(output="FILE.zip")) == tmp_path / "FILE.zip"
    for wrong in (str(tmp_path), "nowhere/FILE.zip"):
        with pytest.raises(UsageError, match="-o "):
            find_output(SimpleNamespace(output=wrong))


def test_sizes():
    assert [megabytes(size) for size in (None, 0, 12_345_678)] == ["", "0.0 MB", "12.3 MB"]


def test_what_is_fetched_and_what_is_written_need_room_together(tmp_path, monkeypatch):
    """On one disk; what lies in the cache already is not fetched."""
    mib = 2**20
    monkeypatch.setattr(room, "read_room", lambda folder: room.Room(str(folder), 10 * mib))
    monkeypatch.setattr(bundle, "find_sizes", lambda planned: {"a": 4 * mib, "b": 2 * mib})
    world = SimpleNamespace(cache_dir=tmp_path / "cache")
    session = SimpleNamespace(request=SimpleNamespace(no_cache=False), world=world)
    planned = SimpleNamespace(session=session)
    monkeypatch.setattr(bundle, "find_missing", lambda planned: 4 * mib)
    bundle._refuse_shortage(planned, tmp_path / "FILE.zip")
    monkeypatch.setattr(bundle, "find_missing", lambda planned: 6 * mib)
    with pytest.raises(Refused, match="has 10 MiB free and this needs about 12 MiB"):
        bundle._refuse_shortage(planned, tmp_path / "FILE.zip")
