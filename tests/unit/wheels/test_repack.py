"""Installed files, packed again as the wheel that brings them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from safe_install.models import Scheme
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.repack import repack
from tests.factories import make_distribution

METADATA = "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"
POINTS = "[console_scripts]\nalpha = alpha:run\n[other]\nbeta = alpha:run\n"


@pytest.fixture
def scheme(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    return Scheme(site, site, tmp_path / "bin", tmp_path, tmp_path / "include")


def installed(scheme: Scheme, **contents):
    """A distribution with these files, and each row of its RECORD with the place of its content."""
    info = scheme.purelib / "alpha-1.0.dist-info"
    rows = {
        "alpha/__init__.py": "value = 1\n",
        "alpha-1.0.dist-info/METADATA": METADATA,
        "alpha-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n",
        "alpha-1.0.dist-info/entry_points.txt": POINTS,
        "../../../bin/alpha": "#!/env/bin/python\n",
        "../../../bin/alpha.sh": "#!/bin/sh\n",
        "../../../share/alpha/notes": "read me\n",
        **contents,
    }
    files = {}
    for row, text in rows.items():
        path = scheme.purelib / row
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        files[row] = path
    return make_distribution("alpha", "1.0", metadata_path=info, location=scheme.purelib), files


def test_the_wheel_is_one_that_is_verified(scheme, tmp_path):
    alpha, files = installed(scheme)
    path = repack(alpha, files, scheme, tmp_path)
    assert path is not None
    assert path.name == "alpha-1.0-py2.py3-none-any.whl"
    wheel = open_wheel(path, strict_records=True)
    assert (wheel.name, str(wheel.version)) == ("alpha", "1.0")
    assert sorted(wheel.files) == [
        "alpha-1.0.data/data/share/alpha/notes",
        "alpha-1.0.data/scripts/alpha.sh",
        "alpha-1.0.dist-info/METADATA",
        "alpha-1.0.dist-info/RECORD",
        "alpha-1.0.dist-info/WHEEL",
        "alpha-1.0.dist-info/entry_points.txt",
        "alpha/__init__.py",
    ], "an installer writes the command `alpha`"


def test_its_address_stays(scheme, tmp_path):
    alpha, files = installed(scheme)
    (alpha.metadata_path / "direct_url.json").write_text('{"url": "https://a/alpha.whl"}')
    by_address = dataclasses.replace(alpha, direct_url={"url": "https://a/alpha.whl"})
    for distribution, is_there in ((alpha, False), (by_address, True)):
        wheel = open_wheel(repack(distribution, files, scheme, tmp_path))
        names = [*wheel.files]
        assert ("alpha-1.0.dist-info/direct_url.json" in names) is is_there


def test_what_does_not_say_which_wheel_it_is(scheme, tmp_path):
    alpha, files = installed(scheme, **{"alpha-1.0.dist-info/WHEEL": "Tag: odd\n"})
    assert repack(alpha, files, scheme, tmp_path) is None
    del files["alpha-1.0.dist-info/WHEEL"]
    assert repack(alpha, files, scheme, tmp_path) is None
    egg = dataclasses.replace(alpha, metadata_path=Path("/env/alpha-1.0.egg-info"))
    assert repack(egg, files, scheme, tmp_path) is None


def test_a_file_outside_of_the_environment(scheme, tmp_path):
    alpha, files = installed(scheme)
    files["/etc/alpha.conf"] = tmp_path / "bin" / "alpha"
    with pytest.raises(ValueError, match=r"alpha\.conf"):
        repack(alpha, files, scheme, tmp_path)
