"""What a bundle says of itself: one text for one content, hostile texts, and whom it fits."""

from __future__ import annotations

import json

import pytest
from packaging.version import Version

from safe_install.errors import BundleInvalid
from safe_install.models import Environment, TorchBuild
from safe_install.snapshot.manifest import (
    BundleTarget,
    describe_wheel,
    find_misfits,
    find_oldest_libc,
    parse_manifest,
    render_manifest,
    with_offsets,
)
from safe_install.tags import supported_tags
from tests.factories import make_interpreter
from tests.unit.snapshot.bundles import HASH, LINUX, MADE_FOR, manifest_of, wheel

SCATTER = wheel("torch_scatter-2.1.2+pt28cu126-cp311-cp311-linux_x86_64.whl")
NUMPY = wheel("numpy-2.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
PURE = wheel("idna-3.1-py3-none-any.whl")
END = 1000
MANY = ["py3"] * 99  # tags of a wheel multiply


def parse(text):
    return parse_manifest(text, place="FILE.zip", end=END)


def test_what_is_written_is_read():
    manifest = with_offsets(manifest_of(NUMPY, SCATTER), {NUMPY.filename: 7, SCATTER.filename: 900})
    assert [one.offset for one in manifest.wheels] == [7, 900]
    assert parse(render_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], 2),
        (["format"], None),
        (["requirements"], ["--index-url=https://evil.example"]),
        (["requirements"], ["/etc"]),
        (["requirements"], ["x @ https://evil.example/x-1.0-py3-none-any.whl"]),
        (["requirements"], "torch"),
        (["requirements"], [1]),
        (["made_for", "python"], "3.11; rm"),
        (["made_for", "libc"], ["glibc"]),
        (["made_for", "libc"], ["glibc", "new"]),
        (["wheels"], {}),
        (["wheels", 0, "filename"], "../numpy-2.0.0-py3-none-any.whl"),
        (["wheels", 0, "filename"], "/tmp/numpy-2.0.0-py3-none-any.whl"),
        (["wheels", 0, "filename"], ".numpy-2.0.0-py3-none-any.whl"),
        (["wheels", 0, "filename"], "numpy-2.0.0-py3-none-any.whl\n"),
        (["wheels", 0, "filename"], "numpy-2.0.0.tar.gz"),
        (["wheels", 0, "filename"], "numpy.whl"),
        (["wheels", 0, "filename"], f"numpy-2.0.0-{'.'.join(MANY)}-none-any.whl"),
        (["wheels", 0, "version"], "new"),
        (["wheels", 0, "version"], "2.0.0\n--index-url=https://evil.example"),
        (["wheels", 0, "name"], "other"),
        (["wheels", 0, "sha256"], "0"),
        (["wheels", 0, "size"], -1),
        (["wheels", 0, "size"], True),
        (["wheels", 0, "size"], "10"),
        (["wheels", 0, "url"], "https://user:pass@h.example/x.whl"),
        (["wheels", 0, "url"], "file:///etc/passwd"),
        (["wheels", 0, "offset"], END),
        (["wheels", 0, "offset"], -1),
        (["wheels", 0, "offset"], True),
        (["wheels", 0, "offset"], END - 9),
        (["wheels", 0], []),
        (["lock"], None),
        (["program", "python"], "3"),
    ],
)
def test_what_cannot_be_is_refused(path, value):
    document = json.loads(render_manifest(manifest_of(NUMPY)))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    assert holder[path[-1]] != value
    holder[path[-1]] = value
    with pytest.raises(BundleInvalid) as found:
        parse(json.dumps(document))
    assert "FILE.zip" in found.value.message
    assert found.value.exit_status == 11


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', "\ud800", "[" * 100000])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(BundleInvalid):
        parse(text)


def test_a_wheel_that_is_named_alone():
    manifest = with_offsets(manifest_of(NUMPY, PURE), {NUMPY.filename: 7})
    assert [one.is_inside for one in manifest.wheels] == [True, False]
    assert manifest.size == NUMPY.size
    assert parse(render_manifest(manifest)) == manifest


@pytest.mark.parametrize("is_inside", [True, False])
def test_what_scripts_are_told_of_a_wheel(is_inside):
    (wheel,) = with_offsets(manifest_of(PURE), {PURE.filename: 7} if is_inside else {}).wheels
    assert describe_wheel(wheel) == {
        "name": "idna",
        "version": "3.1",
        "filename": PURE.filename,
        "sha256": HASH,
        "size": 10,
        "url": PURE.url,
        "is_listed": False,
        "is_inside": is_inside,
    }


def test_a_project_stands_in_it_once():
    with pytest.raises(BundleInvalid, match="twice"):
        parse(render_manifest(manifest_of(PURE, PURE)))


# --- the oldest libc ------------------------------------------------------------------------------

HERE = ("glibc", "2.36")


@pytest.mark.parametrize(
    ("wheels", "named", "oldest"),
    [
        ([PURE], ("", ""), ("", "")),
        ([PURE, NUMPY], ("", ""), ("glibc", "2.17")),
        ([NUMPY, wheel(f"a-1-cp311-cp311-{LINUX}.whl")], ("", ""), ("glibc", "2.28")),
        ([wheel("a-1-cp311-cp311-manylinux_2_5_x86_64.manylinux1_x86_64.whl")], ("", ""), ("glibc", "2.5")),
        ([wheel("a-1-cp311-cp311-musllinux_1_2_x86_64.whl")], ("", ""), ("musl", "1.2")),
        ([NUMPY, SCATTER], ("", ""), HERE),  # it says linux, and no more
        ([PURE], ("glibc", "2.28"), ("glibc", "2.28")),
        ([SCATTER], ("glibc", "2.28"), ("glibc", "2.28")),
    ],
)  # fmt: skip
def test_the_oldest_libc(wheels, named, oldest):
    assert find_oldest_libc(wheels, named, HERE) == oldest


# --- whom it fits ---------------------------------------------------------------------------------


def machine(python="3.11.7", platform="linux_x86_64", libc=("glibc", "2.36"), torch="2.8.0+cu126"):
    interpreter = make_interpreter(
        version=python,
        platform=platform,
        libc=libc,
        tags=supported_tags(python, "cpython", platform, libc),
    )
    build = TorchBuild(Version(torch), torch, torch.partition("+")[2]) if torch else None
    return Environment(interpreter, build, None)


def test_the_machine_that_it_was_made_for():
    assert find_misfits(manifest_of(SCATTER, NUMPY), machine()) == ()
    assert find_misfits(manifest_of(SCATTER), machine(libc=("glibc", "2.28"))) == ()


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (machine(python="3.12.1"), ["Python 3.11", "Python 3.12.1"]),
        (machine(platform="linux_aarch64"), ["linux_x86_64", "linux_aarch64"]),
        (machine(libc=("glibc", "2.17")), ["glibc 2.28 or newer", "glibc 2.17"]),
        (machine(libc=("musl", "1.2")), ["glibc 2.28 or newer", "musl 1.2"]),
        (machine(torch="2.8.0+cpu"), ["torch 2.8.0+cu126", "torch 2.8.0+cpu"]),
        (machine(torch="2.8.1+cu126"), ["torch 2.8.0+cu126", "torch 2.8.1+cu126"]),
        (machine(torch=None), ["torch 2.8.0+cu126", "has no torch"]),
    ],
)
def test_what_does_not_fit_names_both_sides(there, named):
    (finding,) = find_misfits(manifest_of(SCATTER), there)
    assert [name for name in named if name not in finding.detail] == []
    assert "safe-install bundle torch-scatter" in finding.hint


def test_every_reason_is_told():
    there = machine(python="3.12.1", libc=("glibc", "2.17"), torch=None)
    assert len(find_misfits(manifest_of(SCATTER), there)) == 3


ANY_TORCH = BundleTarget("3.11", "linux_x86_64")
TORCH = wheel(f"torch-2.8.0+cpu-cp311-cp311-{LINUX}.whl")


def test_wheels_that_have_nothing_to_do_with_torch_fit_any():
    for torch in ("2.8.0+cpu", None):
        assert find_misfits(manifest_of(PURE, made_for=ANY_TORCH), machine(torch=torch)) == ()


@pytest.mark.parametrize(
    ("torch", "fits"), [(None, True), ("2.8.0+cpu", True), ("2.9.0+cpu", False)]
)
def test_a_torch_that_it_brings_replaces_no_other(torch, fits):
    found = find_misfits(manifest_of(TORCH, made_for=ANY_TORCH), machine(torch=torch))
    assert (found == ()) == fits
    if not fits:
        assert "brings torch 2.8.0+cpu" in found[0].detail
        assert "has torch 2.9.0+cpu" in found[0].detail


def test_a_wheel_whose_tags_do_not_fit_is_named():
    odd = wheel("a-1-cp311-cp311d-linux_x86_64.whl")
    (finding,) = find_misfits(manifest_of(PURE, odd, made_for=ANY_TORCH), machine())
    assert odd.filename in finding.detail


def test_for_whom_in_words():
    assert str(MADE_FOR) == (
        "Python 3.11, linux_x86_64, glibc 2.28 or newer, beside torch 2.8.0+cu126"
    )
    assert str(ANY_TORCH) == "Python 3.11, linux_x86_64"
