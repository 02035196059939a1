"""Files that act by lying where they lie, by every way in which a wheel can put them there."""

from __future__ import annotations

import pytest

from safe_install.errors import WheelInvalid
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.startup import (
    find_activation_files,
    find_prefix_libraries,
    find_start_files,
    runs_at_start,
)
from tests.unit.wheels.crafted import make_wheel

INFO, DATA = "demo-1.0.dist-info", "demo-1.0.data"
SITE = "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("a.pth", True),
        ("distutils-precedence.pth", True),
        ("a.start", True),  # PEP 829
        ("sitecustomize.py", True),
        ("sitecustomize.pyc", True),
        ("sitecustomize.abi3.so", True),
        ("sitecustomize/__init__.py", True),
        ("sitecustomize/__init__.pyc", True),
        ("usercustomize.cpython-311-x86_64-linux-gnu.so", True),
        ("usercustomize", True),  # as a name in site-packages
        ("demo/weights.pth", False),
        ("demo/sitecustomize.py", False),
        ("sitecustomize_docs.py", False),
        ("sitecustomize-1.0.dist-info/METADATA", False),
    ],
)
def test_what_every_start_runs(name, runs):
    assert runs_at_start(name) is runs
    for path in (
        name,
        f"{DATA}/purelib/{name}",
        f"{DATA}/platlib/{name}",
        f"{DATA}/data/{SITE}/{name}",
    ):
        assert find_start_files([path], INFO) == ((path,) if runs else ())
    for path in (
        f"{DATA}/data/lib64/pypy3.10/site-packages/{name}",
        f"{DATA}/data/local/{SITE}/{name}",
    ):
        assert bool(find_start_files([path], INFO)) is runs
    assert (
        find_start_files(
            [f"{DATA}/data/share/{name}", f"{DATA}/headers/{name}", f"{DATA}/scripts/{name}"], INFO
        )
        == ()
    )


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("data/etc/conda/activate.d/a.sh", True),
        ("data/etc/conda/deactivate.d/a.sh", True),
        ("data/etc/conda/env_vars.d/a.json", True),
        ("data/etc/profile.d/a.sh", True),
        ("data/etc/conda/other/a.sh", False),
        ("purelib/etc/conda/activate.d/a.sh", False),
    ],
)
def test_what_the_shell_of_an_activation_reads(path, is_read):
    assert bool(find_activation_files([f"{DATA}/{path}"], INFO)) is is_read


@pytest.mark.parametrize(
    ("path", "is_found"),
    [
        (f"{DATA}/data/lib/libtbb.so.12", True),
        (f"{DATA}/data/lib64/libmkl_core.so", True),
        (f"{DATA}/data/lib/intel/libtbb.so", False),
        (f"{DATA}/platlib/lib/libtbb.so", False),
        ("demo.libs/libtbb.so", False),
    ],
)
def test_libraries_where_others_are_looked_for(path, is_found):
    assert bool(find_prefix_libraries([path], INFO)) is is_found


@pytest.mark.parametrize(
    "folder",
    [f"{DATA}/purelib", f"{DATA}/data/{SITE}", f"{DATA}/data/lib64/python3.11/site-packages"],
)
@pytest.mark.parametrize(
    "name", ["torch-9.dist-info/METADATA", "other.egg-info", "demo-1.0.dist-info/RECORD"]
)
def test_no_way_leads_to_the_record_of_another_distribution(tmp_path, folder, name):
    with pytest.raises(WheelInvalid, match="would be the record of another distribution"):
        open_wheel(make_wheel(tmp_path, {"demo/a.py": "", f"{folder}/{name}": ""}))
