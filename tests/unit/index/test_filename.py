from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safe_install.index.filename import (
    GRAMMARS,
    expand_template,
    parse_accelerator_page,
    parse_filename,
    parse_local,
    parse_location,
    parse_wheel_url,
    render_filename,
)
from safe_install.models import BuiltFor


@pytest.mark.parametrize(
    ("filename", "project", "version", "built_for"),
    [
        ("torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl", "torch-scatter", "2.0.8", BuiltFor()),
        (
            "torch_scatter-2.1.2+pt212cu130-cp314-cp314-linux_x86_64.whl",
            "torch-scatter",
            "2.1.2+pt212cu130",
            BuiltFor("2.12", "cu130"),
        ),
        (
            "torch_scatter-2.1.2%2Bpt20cpu-cp310-cp310-linux_x86_64.whl",
            "torch-scatter",
            "2.1.2+pt20cpu",
            BuiltFor("2.0", "cpu"),
        ),
        (
            "pyg_lib-0.4.0+pt24-cp310-cp310-macosx_14_0_universal2.whl",
            "pyg-lib",
            "0.4.0+pt24",
            BuiltFor("2.4"),
        ),
        (
            "torch_scatter-2.1.2+cu.12.8.torch.2.11-cp311-cp311-manylinux_2_24_x86_64.whl",
            "torch-scatter",
            "2.1.2+cu.12.8.torch.2.11",
            BuiltFor("2.11", "cu128"),
        ),
        (
            "torch-2.6.0+cpu.cxx11.abi-cp311-cp311-linux_x86_64.whl",
            "torch",
            "2.6.0+cpu.cxx11.abi",
            BuiltFor(None, "cpu", True),
        ),
        (
            "torchvision-0.9.1+cu111-cp38-cp38-linux_x86_64.whl",
            "torchvision",
            "0.9.1+cu111",
            BuiltFor(None, "cu111"),
        ),
        (
            "triton-3.0.0-1-cp38-cp38-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            "triton",
            "3.0.0",
            BuiltFor(),
        ),
    ],
)
def test_names_are_read(filename, project, version, built_for):
    name = parse_filename(filename)
    assert (name.project, str(name.parsed_version), name.built_for) == (project, version, built_for)
    assert name.filename == filename.replace("%2B", "+")


@pytest.mark.parametrize(
    "filename",
    [
        "",
        "torch_scatter-2.1.2.tar.gz",
        "torch_scatter.whl",
        "torch_scatter-latest-cp38-cp38-linux_x86_64.whl",
        "mmcv_full-1.0+torch1.5+cu101-cp38-cp38-linux_x86_64.whl",
        "../x-1.0-py3-none-any.whl",
        "x" * 600 + "-1.0-py3-none-any.whl",
    ],
)
def test_what_is_no_wheel_name(filename):
    assert parse_filename(filename) is None


@given(st.text(max_size=200))
def test_reading_never_raises(text):
    for read in (parse_filename, parse_local, parse_location, parse_wheel_url, parse_accelerator_page):
        read(text)
    parse_filename(f"{text}-1.0-py3-none-any.whl")
    parse_filename(f"a-{text}-py3-none-any.whl")
    parse_wheel_url(f"https://data.pyg.org/whl/{text}/a-1.0-py3-none-any.whl")


TORCH = st.tuples(st.integers(1, 3), st.integers(0, 20)).map(lambda pair: f"{pair[0]}.{pair[1]}.0")
ACCELERATOR = st.sampled_from(["cpu", "cu92", "cu102", "cu111", "cu128", "cu130"])


@given(TORCH, ACCELERATOR, st.sampled_from(sorted(GRAMMARS)), st.sampled_from(["linux_x86_64", "win_amd64"]))
def test_what_is_written_is_read(torch, accelerator, grammar, platform):
    filename = render_filename(
        "torch-scatter",
        "2.1.2",
        grammar=grammar,
        torch=torch,
        accelerator=accelerator,
        tags=("cp38", "cp38", platform),
    )
    built = parse_filename(filename).built_for
    says_torch = grammar in ("pyg-tagged", "astral")
    says_accelerator = says_torch or grammar == "pytorch"
    assert built.torch == (torch.rpartition(".")[0] if says_torch else None)
    assert built.accelerator == (accelerator if says_accelerator else None)


@pytest.mark.parametrize(
    ("url", "built_for"),
    [
        ("https://data.pyg.org/whl/torch-1.8.0%2Bcu111/x-1.whl", BuiltFor("1.8.0", "cu111")),
        ("https://data.pyg.org/whl/torch-1.8.0+cpu/x-1.whl", BuiltFor("1.8.0", "cpu")),
        ("https://download.pytorch.org/whl/cu121/x-1.whl", BuiltFor(None, "cu121")),
        ("https://download.pytorch.org/whl/lts/1.8/cu111/x-1.whl", BuiltFor(None, "cu111")),
        ("https://download.pytorch.org/whl/rocm6.2/x-1.whl", BuiltFor(None, "rocm6.2")),
        ("https://download.pytorch.org/whl/x-1.whl", BuiltFor()),
        ("https://files.pythonhosted.org/packages/aa/bb/x-1.whl", BuiltFor()),
    ],
)
def test_folders_are_read(url, built_for):
    assert parse_location(url) == built_for


def test_the_name_outweighs_the_folder():
    url = "https://h/whl/torch-1.8.0%2Bcu111/torch_scatter-2.1.2%2Bpt20cpu-cp310-cp310-linux_x86_64.whl"
    assert parse_wheel_url(url).built_for == BuiltFor("2.0", "cpu")


def test_templates_are_percent_encoded_in_the_path_only():
    url = expand_template("https://h/whl/torch-{torch}+{accelerator}.html", torch="1.8.1", accelerator="cu111")
    assert url == "https://h/whl/torch-1.8.1%2Bcu111.html"
