"""Files that only this machine has, put beside the document that names them."""

from __future__ import annotations

import hashlib

import pytest

from safe_install.errors import Refused
from safe_install.snapshot.local_files import copy_files_beside
from safe_install.snapshot.values import FileSource
from tests.unit.snapshot.snapshots import distribution, snapshot_of


def file_source(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return FileSource(str(path), path.name, hashlib.sha256(content).hexdigest())


def test_two_archives_of_one_name_do_not_replace_each_other(tmp_path):
    one = distribution("one", "1.0", file_source(tmp_path / "a/master.zip", b"1"))
    other = distribution("other", "1.0", file_source(tmp_path / "b/master.zip", b"2"))
    again = distribution("yet-another", "1.0", file_source(tmp_path / "c/master.zip", b"1"))
    beside = copy_files_beside(snapshot_of(one, other, again), tmp_path / "wheels", tmp_path)
    paths = [one.source.path for one in beside.distributions]
    contents = [(tmp_path / path).read_bytes() for path in paths]
    assert contents == [b"1", b"2", b"1"]
    assert paths[0] == paths[2] == "wheels/master.zip"


@pytest.mark.parametrize("folder", ["given", "wheels"])
def test_a_file_that_was_changed_since_is_refused_and_nothing_is_lost(tmp_path, folder):
    """Also where it lies in that folder itself, or an older copy of it does."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a.whl").write_bytes(b"of an earlier export")
    source = file_source(tmp_path / folder / "a.whl", b"installed")
    (tmp_path / folder / "a.whl").write_bytes(b"changed")
    before = (tmp_path / "wheels/a.whl").read_bytes()
    with pytest.raises(Refused, match="not the file that was installed"):
        copy_files_beside(
            snapshot_of(distribution("a", "1", source)), tmp_path / "wheels", tmp_path
        )
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["a.whl"]
    assert (tmp_path / "wheels/a.whl").read_bytes() == before
