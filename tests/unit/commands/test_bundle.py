"""What a bundle says of where its wheels came from, and where it is written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from safe_install.commands.bundle import find_output, megabytes, public_address
from safe_install.errors import UsageError


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
