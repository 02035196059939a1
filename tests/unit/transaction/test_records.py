"""The hashes of a RECORD, as a recovery and an undo compare them."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from safe_install.transaction.recovery.records import has_hash


def encoded(algorithm: str) -> str:
    digest = hashlib.new(algorithm, b"content").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (f"sha256={encoded('sha256')}", True),
        (f"sha512={encoded('sha512')}", True),
        (f"sha256={encoded('sha256')}=", False),
        (f"sha512={encoded('sha256')}", False),
        ("no_such_hash=AAAA", False),
        ("shake_128=AAAA", False),  # a hash of any length: digest() wants to be told which
        ("sha256", False),
        ("", False),
    ],
)
def test_has_hash(tmp_path: Path, written: str, expected: bool) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert has_hash(str(tmp_path / "file"), written) is expected


def test_what_is_no_file_has_no_hash_and_is_not_waited_for(tmp_path: Path) -> None:
    empty = f"sha256={base64.urlsafe_b64encode(hashlib.sha256().digest()).rstrip(b'=').decode()}"
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    assert has_hash(str(tmp_path / "file"), empty)
    for name in ("fifo", "link", "missing", "."):
        assert not has_hash(str(tmp_path / name), empty), name
