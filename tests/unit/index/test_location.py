from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safe_install.index.catalog import load_project
from safe_install.index.facts import HostEntry, Layout, TorchMatch, canonical_url
from safe_install.index.filename import parse_filename
from safe_install.index.location import (
    expand_template,
    find_addresses,
    read_built_for,
    read_location,
    read_template,
    read_wheel_url,
)
from safe_install.models import BuiltFor

PYG = "https://data.pyg.org/whl/torch-{base}+{accelerator}/{file}"
MMCV = "https://download.openmmlab.com/mmcv/dist/{accelerator}/torch{base}/{file}"
OLD_MMCV = "https://download.openmmlab.com/mmcv/dist/{version}/torch{torch}/{accelerator}/{file}"
PYTORCH3D = "https://dl.example/wheels/py{python}_{accelerator}_pyt{digits3}/{file}"
DGL = "https://data.dgl.ai/wheels/torch-{minor}/{accelerator}/{file}"
PYTORCH = "https://download.pytorch.org/whl/{accelerator}/{file}"


def host(wheel=None, *, pages=(), **fields):
    values = {
        "host": "h",
        "layout": Layout.FIND_LINKS,
        "filename": "plain",
        "wheel": wheel,
        "pages": tuple(pages),
    }
    return HostEntry(**{**values, **fields})


@pytest.mark.parametrize(
    ("template", "url", "built_for"),
    [
        (PYG, "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/x-1.whl", BuiltFor("1.8.0", "cu111")),
        (PYG, "https://data.pyg.org/whl/torch-1.8.0+cpu/x-1.whl", BuiltFor("1.8.0", "cpu")),
        (PYG, "https://data.pyg.org/whl/torch-1.8.0+cpu/deeper/x-1.whl", None),
        (PYG, "https://elsewhere.example/whl/torch-1.8.0+cpu/x-1.whl", None),
        (
            MMCV,
            "https://download.openmmlab.com/mmcv/dist/cu121/torch2.1.0/x-1.whl",
            BuiltFor("2.1.0", "cu121"),
        ),
        (
            OLD_MMCV,
            "https://download.openmmlab.com/mmcv/dist/1.3.1/torch1.6.0/cu101/x.whl",
            BuiltFor("1.6.0", "cu101"),
        ),
        (
            PYTORCH3D,
            "https://dl.example/wheels/py310_cu118_pyt201/x.whl",
            BuiltFor("2.0.1", "cu118"),
        ),
        (
            PYTORCH3D,
            "https://dl.example/wheels/py312_cu128_pyt2100/x.whl",
            BuiltFor("2.10.0", "cu128"),
        ),
        (DGL, "https://data.dgl.ai/wheels/torch-2.4/cu124/x.whl", BuiltFor("2.4", "cu124")),
        (PYTORCH, "https://download.pytorch.org/whl/cu121/x-1.whl", BuiltFor(None, "cu121")),
        (PYTORCH, "https://download.pytorch.org/whl/rocm6.2/x-1.whl", BuiltFor(None, "rocm6.2")),
        (PYTORCH, "https://download.pytorch.org/whl/x-1.whl", None),
    ],
)
def test_folders_are_read(template, url, built_for):
    assert read_location(host(template), url) == built_for


def test_the_page_says_what_the_files_folder_does_not():
    page = "https://kaolin.example/torch-{torch}_{accelerator}.html"
    found_in = "https://kaolin.example/torch-2.4.0_cu121.html"
    file = "https://files.example/kaolin-0.16.0-cp310-cp310-linux_x86_64.whl"
    assert read_location(host(pages=[page]), file, found_in=found_in) == BuiltFor("2.4.0", "cu121")
    assert read_location(host(pages=[page]), file) is None
    cpu_page = "https://data.dgl.ai/wheels/torch-{minor}/repo.html"
    cpu = host(pages=[cpu_page], kinds=("cpu",))
    assert read_location(
        cpu, file, found_in="https://data.dgl.ai/wheels/torch-2.4/repo.html"
    ) == BuiltFor("2.4", "cpu")


@pytest.mark.parametrize("match", [None, TorchMatch.MINOR, TorchMatch.EXACT])
def test_a_wheel_is_bound_to_torch_as_its_host_binds_it(match):
    project = load_project("torch-scatter")
    name = parse_filename("torch_scatter-2.1.2-cp311-cp311-linux_x86_64.whl")
    own = host(DGL, torch_match=match)
    exact = host(PYG, torch_match=match)
    short = read_built_for(
        project, own, name, "https://data.dgl.ai/wheels/torch-2.4/cu124/" + name.filename
    )
    full = read_built_for(
        project, exact, name, "https://data.pyg.org/whl/torch-2.4.1+cu124/" + name.filename
    )
    assert short.torch == ("2.4.0" if match is TorchMatch.EXACT else "2.4")
    assert full.torch == ("2.4" if match is TorchMatch.MINOR else "2.4.1")


def test_the_name_outweighs_the_folder():
    url = "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/torch_scatter-2.1.2%2Bpt20cpu-cp310-cp310-linux_x86_64.whl"
    assert read_wheel_url(url, load_project("torch-scatter")).built_for == BuiltFor("2.0", "cpu")


def test_a_copy_on_another_host_is_read_by_its_folders():
    url = "https://mirror.example/pyg/whl/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
    project = load_project("torch-scatter")
    name = parse_filename(url.rsplit("/", 1)[-1])
    assert read_built_for(project, host(), name, url) == BuiltFor("1.8.0", "cu111")
    assert (
        read_built_for(project, host(), name, "https://mirror.example/flat/" + name.filename)
        == BuiltFor()
    )


def test_templates_are_percent_encoded_in_the_path_only():
    url = expand_template(
        "https://h/whl/torch-{torch}+{accelerator}.html", torch="1.8.1", accelerator="cu111"
    )
    assert url == "https://h/whl/torch-1.8.1%2Bcu111.html"


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://h/v1/x-1+cu12-py3.whl", "https://h/v1/x-1%2Bcu12-py3.whl"),
        ("https://h/v1/x-1%2Bcu12-py3.whl", "https://h/v1/x-1%2Bcu12-py3.whl"),
        ("https://h/v1/x-1%2bcu12-py3.whl", "https://h/v1/x-1%2Bcu12-py3.whl"),
    ],
)
def test_one_spelling_for_an_address(url, canonical):
    assert canonical_url(url) == canonical


def test_a_field_that_stands_twice_says_the_same_twice():
    template = "https://h/v{version}/{project}/{version}/{file}"
    assert read_template(template, "https://h/v1.0/a/1.0/f") == {
        "version": "1.0",
        "project": "a",
        "file": "f",
    }
    assert read_template(template, "https://h/v1.0/a/1.1/f") is None


@given(st.text(max_size=300), st.sampled_from([PYG, MMCV, OLD_MMCV, PYTORCH3D, DGL, PYTORCH]))
def test_reading_never_raises(text, template):
    scatter = load_project("torch-scatter")
    for url in (
        text,
        f"https://data.pyg.org/whl/{text}",
        f"https://data.pyg.org/{text}/a-1.0-py3-none-any.whl",
    ):
        read_location(host(template), url, found_in=text)
        read_location(host(template), url, anywhere=True)
        read_wheel_url(url, scatter)
        canonical_url(url)


TORCH = st.tuples(st.integers(1, 3), st.integers(0, 20), st.integers(0, 2)).map(
    lambda t: ".".join(map(str, t))
)
ACCELERATOR = st.sampled_from(["cpu", "cu92", "cu102", "cu111", "cu128", "cu130", "rocm6.2"])


@given(TORCH, ACCELERATOR, st.sampled_from([PYG, MMCV, PYTORCH3D, DGL, PYTORCH]))
def test_what_is_written_is_read(torch, accelerator, template):
    parts = torch.split(".")
    values = {
        "torch": torch,
        "base": torch,
        "minor": ".".join(parts[:2]),
        "digits3": "".join(parts),
        "accelerator": accelerator,
        "python": "311",
        "file": "x-1-cp311-cp311-linux_x86_64.whl",
    }
    read = read_location(host(template), expand_template(template, **values))
    assert read.accelerator == accelerator
    assert read.torch == (
        None if template == PYTORCH else values["minor"] if template == DGL else torch
    )


def test_addresses_come_from_what_a_wheel_is():
    project = load_project("torch-scatter")
    url = "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
    addresses = list(find_addresses(project, read_wheel_url(url, project)))
    assert url in [address.url for address in addresses if not address.is_page]
    pages = [address.url for address in addresses if address.is_page]
    assert "https://data.pyg.org/whl/torch-1.8.0%2Bcu111.html" in pages
    assert "https://wheels.astral.sh/simple/cu111/torch-scatter/" in pages


def test_an_address_without_end_is_not_read():
    template = "https://wheels.example/{base}/{file}"
    url = "https://wheels.example/2.0.0/torch_scatter-2.1.2-cp311-cp311-linux_x86_64.whl"
    assert read_template(template, url)["base"] == "2.0.0"
    assert read_template(template, f"{url}?{'x' * 10_000}") is None


def test_what_is_no_address_names_no_wheel():
    assert read_wheel_url("https://[bad/torch-2.0-cp38-cp38-linux_x86_64.whl") is None
