"""Which files of a wheel does a project need? The wheel index and the stand-alone script read
patterns alike."""

from __future__ import annotations

import ast
import glob
import os
import pkgutil
import re

import pytest

from safe_install.index.catalog import load_project
from safe_install.index.native import PATTERN, exact_pattern, expand, needed_files

TWINS = "scatter/_*{_cuda,_cpu,}.so"
NEEDED = {
    "no star": (["ext/_C.so"], ["ext/_C.so", "ext/_C2.so"], ["ext/_C.so"]),
    "a star is no slash": (
        ["ext/_C*.so"],
        ["ext/_C.abi3.so", "ext/_C/deep.so"],
        ["ext/_C.abi3.so"],
    ),
    "not in another folder": (["ext/_C.so"], ["more/ext/_C.so", "ext/_C.so.1"], []),
    "a point is a point": (["ext/_C.so"], ["ext/_Cxso"], []),
    "every file of a pattern": (["ext/*.so"], ["ext/a.so", "ext/b.so"], ["ext/a.so", "ext/b.so"]),
    "twins: the first that is there": (
        [TWINS],
        ["scatter/_x_cpu.so", "scatter/_x_cuda.so"],
        ["scatter/_x_cuda.so"],
    ),
    "twins: only the second": ([TWINS], ["scatter/_x_cpu.so"], ["scatter/_x_cpu.so"]),
    "twins: the oldest form": (
        [TWINS],
        ["scatter/_x.so", "scatter/_y.so"],
        ["scatter/_x.so", "scatter/_y.so"],
    ),
    "twins: each for itself": (
        [TWINS],
        ["scatter/_x_cpu.so", "scatter/_x_cuda.so", "scatter/_y_cpu.so"],
        ["scatter/_x_cuda.so", "scatter/_y_cpu.so"],
    ),
    "twins with two stars": (
        ["m/_*{_cuda,_cpu}*.so"],
        ["m/_a_cpu.cp38.so", "m/_a_cpu.cp39.so", "m/_a_cuda.cp38.so"],
        ["m/_a_cuda.cp38.so", "m/_a_cpu.cp39.so"],
    ),
    "nothing": ([], ["a.so"], []),
}


@pytest.mark.parametrize(("patterns", "members", "needed"), NEEDED.values(), ids=NEEDED.keys())
def test_needed_files(patterns, members, needed):
    assert needed_files(patterns, reversed(members)) == set(needed)


def name_of(node):
    """What a statement of a module defines."""
    targets = getattr(node, "targets", [])
    return getattr(targets[0], "id", None) if targets else getattr(node, "name", None)


def script_functions():
    """The functions of the script that read patterns; the rest of it must not run here."""
    tree = ast.parse(pkgutil.get_data("safe_install.health", "script.py"))
    wanted = {"expand", "text_of_stars", "find_alternatives", "BRACES"}
    tree.body = [node for node in tree.body if name_of(node) in wanted]
    found = {"glob": glob, "os": os, "re": re}
    exec(compile(tree, "script.py", "exec"), found)
    return found


@pytest.mark.parametrize(("patterns", "members", "needed"), NEEDED.values(), ids=NEEDED.keys())
def test_the_script_finds_the_same(patterns, members, needed, tmp_path):
    for member in members:
        (tmp_path / member).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / member).touch()
    find = script_functions()["find_alternatives"]
    found = [files[0] for pattern in patterns for files in find(pattern, str(tmp_path))]
    assert {os.path.relpath(path, tmp_path) for path in found} == set(needed)


def test_without_braces_names_that_differ_in_numbers_stand_for_each_other(tmp_path):
    for name in ("libcore4.so", "libcore5.so", "libops4.so"):
        (tmp_path / name).touch()
    found = script_functions()["find_alternatives"]("lib*.so", str(tmp_path))
    assert [[os.path.basename(path) for path in files] for files in found] == [
        ["libcore4.so", "libcore5.so"],
        ["libops4.so"],
    ]


@pytest.mark.parametrize("member", ["a/_C.so", "a/x[1].so", "a/x{b,c}.so", "a/x*?.so"])
def test_an_exact_pattern_names_one_file(member, tmp_path):
    (tmp_path / "a").mkdir()
    for name in (member, "a/x1.so", "a/xb.so", "a/xyz.so"):
        (tmp_path / name).touch()
    found = script_functions()["find_alternatives"](exact_pattern(member), str(tmp_path))
    assert found == [[str(tmp_path / member)]]


def test_expand():
    assert expand("a/_*{_cuda,_cpu,}.so") == ("a/_*_cuda.so", "a/_*_cpu.so", "a/_*.so")
    assert expand("a/_C*.so") == ("a/_C*.so",)


GOOD = [
    "a*b*{_x,_y}*.so",
    "_k2*.so",
    "torchvision/_C*.so",
    "triton/_C/libtriton.so",
    TWINS,
    "a/lib{a,b}.cp-311.so",
    "c++/x.so",
]
BAD = [
    "",
    "/lib/x.so",
    "../x.so",
    "a/../x.so",
    "a/x{b}.so",
    "a/x{b,c}{d,e}.so",
    "a/{b/c,d}.so",
    "a/[ab].so",
    "a{b,c",
    "a*b*{c,d}*e*.so",
    "*" * 30,
]


@pytest.mark.parametrize("pattern", GOOD)
def test_a_pattern(pattern):
    assert PATTERN.fullmatch(pattern)


@pytest.mark.parametrize("pattern", BAD)
def test_no_pattern(pattern):
    assert not PATTERN.fullmatch(pattern)


PYG = {
    "torch-scatter": ("torch_scatter", ("version", "scatter", "segment_csr", "segment_coo")),
    "torch-sparse": (
        "torch_sparse",
        ("version", "convert", "diag", "spmm", "metis", "sample", "hgt_sample"),
    ),
    "torch-cluster": (
        "torch_cluster",
        ("version", "grid", "graclus", "fps", "rw", "knn", "radius", "nearest"),
    ),
    "torch-spline-conv": ("torch_spline_conv", ("version", "basis", "weighting")),
}


@pytest.mark.parametrize(
    ("name", "module", "libraries"), [(name, *row) for name, row in PYG.items()], ids=PYG.keys()
)
@pytest.mark.parametrize("suffixes", [["cpu"], ["cpu", "cuda"]], ids=["cpu", "cuda"])
def test_of_the_twins_of_the_pyg_family_one_is_needed(name, module, libraries, suffixes):
    members = [f"{module}/_{library}_{suffix}.so" for library in libraries for suffix in suffixes]
    needed = needed_files(load_project(name).native, members)
    assert needed == {f"{module}/_{library}_{suffixes[-1]}.so" for library in libraries}


# Shared objects of real wheels on PyPI, names read on 2026-11-28, and those that the project cannot
# do without.
WHEELS = {
    "torchvision 0.24.1": ("torchvision/_C.so torchvision/image.so", "torchvision/_C.so"),
    "torchaudio 2.1.0": (
        "torchaudio/lib/libtorchaudio.so torchaudio/lib/_torchaudio_ffmpeg4.so "
        "torchaudio/lib/libtorchaudio_ffmpeg5.so "
        "torchaudio/lib/_torchaudio.so torchaudio/lib/libtorchaudio_sox.so "
        "torchaudio/lib/_torchaudio_sox.so",
        "torchaudio/lib/libtorchaudio.so torchaudio/lib/_torchaudio.so",
    ),
    "torchtext 0.18.0": ("torchtext/lib/libtorchtext.so torchtext/_torchtext.so",) * 2,
    "torchcodec 0.14.0": (
        "torchcodec/libtorchcodec_core4.so torchcodec/libtorchcodec_core8.so",
        "",
    ),
    "bitsandbytes 0.50.2": (
        "bitsandbytes/libbitsandbytes_cpu.so bitsandbytes/libbitsandbytes_cuda130.so",
        "",
    ),
    "xformers 0.0.25": ("xformers/_C.so xformers/_C_flashattention.so",) * 2,
    "xformers 0.0.31": ("xformers/_C.so xformers/flash_attn_3/_C.so", "xformers/_C.so"),
    "fbgemm-gpu 1.1.0": (
        "fbgemm_gpu/asmjit.so fbgemm_gpu/fbgemm_gpu_config.so fbgemm_gpu/fbgemm_gpu_py.so "
        "fbgemm_gpu/fbgemm.so "
        "fbgemm_gpu/experimental/gen_ai/fbgemm_gpu_experimental_gen_ai.so",
        "fbgemm_gpu/fbgemm_gpu_config.so fbgemm_gpu/fbgemm_gpu_py.so",
    ),
    "dgl 2.1.0": (
        "dgl/libdgl.so dgl/graphbolt/libgraphbolt_pytorch_2.0.0.so "
        "dgl/graphbolt/libgraphbolt_pytorch_2.2.1.so "
        "dgl/tensoradapter/pytorch/libtensoradapter_pytorch_2.0.0.so",
        "dgl/libdgl.so",
    ),
    "natten 0.14.1": ("natten/_C.cpython-39-x86_64-linux-gnu.so",) * 2,
    "spconv-cu126 2.3.8": (
        "spconv/core_cc.cpython-39-x86_64-linux-gnu.so "
        "spconv_cu126.libs/libcudart-53d54daa.so.12.6.68",
        "spconv/core_cc.cpython-39-x86_64-linux-gnu.so",
    ),
    "torchao 0.18.0": (
        "torchao/_C_cutlass_90a.abi3.so torchao/_C_mxfp8.cpython-310-x86_64-linux-gnu.so",
        "",
    ),
    "vllm 0.9.2": ("vllm/_C.abi3.so vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so", ""),
    "triton 3.9.0": ("triton/_C/libproton.so triton/_C/libtriton.so", "triton/_C/libtriton.so"),
}


@pytest.mark.parametrize(
    ("wheel", "members", "needed"),
    [(name, *row) for name, row in WHEELS.items()],
    ids=WHEELS.keys(),
)
def test_what_real_wheels_need(wheel, members, needed):
    assert needed_files(load_project(wheel.split()[0]).native, members.split()) == set(
        needed.split()
    )


def test_a_library_is_loaded_before_what_links_it():
    """The light check loads in the order of the patterns, as torchaudio's own code does: no run
    path leads there."""
    patterns = load_project("torchaudio").native
    assert patterns.index("torchaudio/lib/libtorchaudio.so") < patterns.index(
        "torchaudio/lib/_torchaudio.so"
    )
