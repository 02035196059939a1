from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safe_install.index.filename import (
    GRAMMARS,
    grammar_of,
    is_grammar,
    parse_filename,
    parse_local,
    python_tags,
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
        (
            "flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
            "flash-attn",
            "2.8.3+cu12torch2.8cxx11abitrue",
            BuiltFor("2.8", "cu12", True),
        ),
        (
            "mmcv_full-1.3.1+torch1.6.0+cu101-cp36-cp36m-manylinux1_x86_64.whl",
            "mmcv-full",
            "1.3.1+torch1.6.0.cu101",
            BuiltFor("1.6.0", "cu101"),
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
        "../x-1.0-py3-none-any.whl",
        "x" * 600 + "-1.0-py3-none-any.whl",
    ],
)
def test_what_is_no_wheel_name(filename):
    assert parse_filename(filename) is None


@given(st.text(max_size=200))
def test_reading_never_raises(text):
    parse_filename(text)
    parse_local(text)
    parse_filename(f"{text}-1.0-py3-none-any.whl")
    parse_filename(f"a-{text}-py3-none-any.whl")
    parse_filename(f"a-1.0+{text}-py3-none-any.whl")


# As hosts write them; the spelling of each was seen in a public file
# (tests/index/wheel_urls.jsonl).
@pytest.mark.parametrize(
    ("local", "built_for"),
    [
        ("pt113cu117", BuiltFor("1.13", "cu117")),
        ("pt212cpu", BuiltFor("2.12", "cpu")),
        ("pt24", BuiltFor("2.4")),
        ("cu.12.8.torch.2.11", BuiltFor("2.11", "cu128")),
        ("cpu.torch.2.11", BuiltFor("2.11", "cpu")),
        ("cu12.8torch2.9.1cxx11abiTRUE", BuiltFor("2.9.1", "cu128", True)),
        ("cu122torch2.2cxx11abiFALSE", BuiltFor("2.2", "cu122", False)),
        # a container of NVIDIA's, not a release
        ("cu13torch25.08cxx11abiTRUE", BuiltFor("nv25.08", "cu13", True)),
        ("cu13torch26.01cxx11abiTRUE", BuiltFor("nv26.01", "cu13", True)),
        ("cu12torch2.5cxx11abiTRUE", BuiltFor("2.5", "cu12", True)),
        ("cu130torch2.11.0cxx11abiFALSEfullbackward", BuiltFor("2.11.0", "cu130", False)),
        ("cu124torch2.5", BuiltFor("2.5", "cu124")),
        ("cu130.torch210", BuiltFor("2.10", "cu130")),
        ("cu128.torch27", BuiltFor("2.7", "cu128")),
        ("cu128.torch270", BuiltFor("2.7.0", "cu128")),
        ("torch2100cu130", BuiltFor("2.10.0", "cu130")),
        ("torch200cu118", BuiltFor("2.0.0", "cu118")),
        ("cuda11.7.torch2.0.0", BuiltFor("2.0.0", "cu117")),
        ("cpu.torch2.1.0", BuiltFor("2.1.0", "cpu")),
        ("5043d15pt2.7.0cu128", BuiltFor("2.7.0", "cu128")),
        ("torch1.6.0+cu101", BuiltFor("1.6.0", "cu101")),
        ("cpu.cxx11.abi", BuiltFor(None, "cpu", True)),
        ("rocm6.2", BuiltFor(None, "rocm6.2")),
        ("cu121", BuiltFor(None, "cu121")),
        ("", BuiltFor()),
        ("ubuntu1", BuiltFor()),
    ],
)
def test_local_versions_are_read(local, built_for):
    assert parse_local(local) == built_for


def test_a_grammar_of_a_documents_own_is_read_first():
    own = "+for{accelerator}on{minor}"
    assert is_grammar(own)
    assert not is_grammar("+for{nothing}")
    assert not is_grammar("made-up")
    assert parse_local("forcu126on2.9", first=[own]) == BuiltFor("2.9", "cu126")
    assert parse_local("forcu126on2.9") == BuiltFor()


# torch 1.13 was followed by 2.0.
TORCH = st.one_of(
    st.integers(0, 13).map(lambda minor: f"1.{minor}.0"),
    st.integers(0, 30).map(lambda minor: f"2.{minor}.0"),
)
ACCELERATOR = st.sampled_from(["cpu", "cu92", "cu102", "cu111", "cu128", "cu130"])


ABI = st.booleans()
SAYS_TORCH = {
    name
    for name in GRAMMARS
    if any("{" + field in grammar_of(name).template for field in ("torch", "minor", "digits"))
}


@given(
    TORCH,
    ACCELERATOR,
    ABI,
    st.sampled_from(sorted(GRAMMARS)),
    st.sampled_from(["linux_x86_64", "win_amd64"]),
)
def test_what_is_written_is_read(torch, accelerator, abi, name, platform):
    grammar = grammar_of(name)
    if "{commit}" in grammar.template or "{container}" in grammar.template:
        return  # it cannot say this
    if "{cuda}" in grammar.template and accelerator == "cpu" and not grammar.cpu:
        return  # it cannot say this
    filename = render_filename(
        "torch-scatter",
        "2.1.2",
        grammar=name,
        built_for=BuiltFor(torch, accelerator, abi),
        tags=("cp38", "cp38", platform),
    )
    # Two digits and three: 2.10 and 2.1.0 look alike without their dots, so a name is read with its
    # host's grammar.
    built = parse_local(filename.split("-")[1].partition("+")[2], first=[name])
    minor = torch.rpartition(".")[0]
    if name in SAYS_TORCH:
        assert built.torch in (torch, minor)
    else:
        assert built.torch is None
    assert built.accelerator == (
        accelerator if grammar.template not in ("", "+pt{digits}") else None
    )
    assert built.cxx11_abi == (
        abi if "{abi}" in grammar.template else True if "cxx11" in name else None
    )
    assert parse_filename(filename).filename == filename


def test_the_name_of_the_platform_decides_where_macos_differs():
    for name, local in (("pyg-tagged", ""), ("pyg-macos", "+pt24"), ("pytorch", "")):
        filename = render_filename(
            "pyg-lib",
            "0.4.0",
            grammar=name,
            built_for=BuiltFor("2.4", "cpu"),
            tags=("cp310", "cp310", "macosx_14_0_universal2"),
        )
        assert filename == f"pyg_lib-0.4.0{local}-cp310-cp310-macosx_14_0_universal2.whl"


def test_the_same_wheel_under_another_version():
    name = parse_filename("torch_scatter-2.0.8+pt18cu111-cp38-cp38-linux_x86_64.whl")
    assert name.with_version("2.0.9").filename == "torch_scatter-2.0.9-cp38-cp38-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("python", "abi", "tags"),
    [
        ("3.7", None, ("cp37", "cp37m")),
        ("3.8", None, ("cp38", "cp38")),
        ("3.11", "abi3", ("cp311", "abi3")),
        ("3.11", "none", ("py3", "none")),
    ],
)
def test_the_tags_of_a_python(python, abi, tags):
    assert python_tags(python, abi) == tags
