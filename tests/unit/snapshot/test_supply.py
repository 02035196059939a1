"""A bundle as what an install is made from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

from safe_install.errors import BundleInvalid, Refused, SystemFailed
from safe_install.events import Reporter
from safe_install.models import Action, Plan, Step
from safe_install.snapshot import supply as supply_module
from safe_install.snapshot.supply import BundleSupply
from tests.factories import make_environment
from tests.unit.snapshot.bundles import HASH, manifest_of, wheel

TORCH = wheel("torch-2.8.0+cpu-cp311-cp311-linux_x86_64.whl")
IDNA = wheel("idna-3.1-py3-none-any.whl")


def supply(tmp_path, *wheels):
    bundle = SimpleNamespace(manifest=manifest_of(*wheels), path=tmp_path / "FILE.zip")
    return BundleSupply(bundle, tmp_path, tmp_path / "cache")


def test_the_torch_of_a_bundle_is_the_one_that_comes(tmp_path):
    assert supply(tmp_path, IDNA, TORCH).write_constraints().read_text() == "torch==2.8.0+cpu\n"
    assert supply(tmp_path, IDNA).write_constraints().read_text() == ""


def test_another_environment_is_refused(tmp_path):
    with pytest.raises(Refused, match="was made for torch"):
        supply(tmp_path, IDNA).check(make_environment())


@pytest.mark.parametrize(
    ("known", "anew", "unpacked"),
    [
        ({}, False, ["idna", "torch"]),
        ({"idna": "1" * 64}, False, ["idna", "torch"]),  # another file of that version
        ({"idna": HASH}, False, ["torch"]),
        ({"idna": HASH, "torch": HASH}, False, []),
        ({"idna": HASH, "torch": HASH}, True, ["idna", "torch"]),
    ],
)
def test_what_is_there_from_the_same_file_is_not_unpacked(
    tmp_path, monkeypatch, known, anew, unpacked
):
    found = []
    monkeypatch.setattr(supply_module, "read_installed_wheels", lambda environment: known)
    monkeypatch.setattr(
        supply_module,
        "unpack_wheels",
        lambda bundle, wheels, *others: found.extend(wheel.name for wheel in wheels),
    )
    made = supply(tmp_path, IDNA, TORCH)
    made.bring(make_environment(), Reporter(), anew=anew)
    assert found == unpacked
    assert unpacked or made.folder.is_dir()  # pip is told to look there


@pytest.fixture
def kept(tmp_path):
    """A wheel that is named, and lies in the cache."""
    digest = hashlib.sha256(b"torch").hexdigest()
    path = tmp_path / "cache/downloads/address" / digest / "another-name-1-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torch")
    return path, replace(TORCH, sha256=digest, offset=None)


def test_what_is_not_in_it_is_taken_from_the_cache(tmp_path, kept):
    path, named = kept
    made = supply(tmp_path, named)
    made.bring(make_environment(), Reporter(), anew=False)
    assert (made.folder / TORCH.filename).read_bytes() == b"torch"
    assert path.read_bytes() == b"torch"


@pytest.mark.parametrize("bytes_there", [b"other", None])
def test_what_is_in_neither_is_refused(tmp_path, kept, bytes_there):
    path, named = kept
    if bytes_there is None:
        path.unlink()
    else:
        path.write_bytes(bytes_there)
    with pytest.raises(BundleInvalid, match="does not hold torch") as found:
        supply(tmp_path, named).bring(make_environment(), Reporter(), anew=False)
    assert (found.value.exit_status, "again" in found.value.hint) == (11, True)


def test_a_cache_that_cannot_be_copied_from_is_told(tmp_path, kept, monkeypatch):
    _, named = kept

    def fail(wheel, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supply_module, "take_kept_wheel", fail)
    with pytest.raises(SystemFailed, match="No space left on device"):
        supply(tmp_path, named).bring(make_environment(), Reporter(), anew=False)


@pytest.mark.parametrize(
    ("url", "is_listed", "records", "expected"),
    [
        ("https://h.example/a.whl", True, True, ("https://h.example/a.whl", False, False)),
        ("https://h.example/a.whl", False, True, ("https://h.example/a.whl", True, True)),
        ("https://h.example/a.whl", False, False, ("https://h.example/a.whl", True, False)),
        ("", False, True, (None, False, False)),
    ],
)
def test_a_step_says_where_its_file_came_from(tmp_path, url, is_listed, records, expected):
    step = Step(Action.ADD, "idna", "3.1", url="file:///tmp/x/idna.whl", sha256=HASH)
    other = replace(step, name="other", sha256="1" * 64)
    made = supply(tmp_path, replace(IDNA, url=url, is_listed=is_listed))
    plan = made.name_origins(Plan((step, other)), records_address=records)
    named = plan.steps[0]
    assert (named.url, named.is_hosted, named.records_address) == expected
    assert plan.steps[1] == other
