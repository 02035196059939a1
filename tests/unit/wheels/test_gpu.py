"""The GPU code of a wheel and the CUDA that it was built for: which files count, and what is said
of them."""

from __future__ import annotations

import pytest

from safe_install.index.catalog import cuda_table
from safe_install.index.native import needed_files
from safe_install.models import Device, Driver, Severity
from safe_install.tags import parse_capability
from safe_install.wheels.abi import LoadOutcome, ObjectFacts, ObjectVerdict
from safe_install.wheels.fatbin import DeviceCode
from safe_install.wheels.gpu import (
    BuiltForCuda,
    check_cuda_major,
    check_driver,
    check_gpu_code,
    cuda_in_name,
    find_counting_files,
    find_cuda,
    is_cuda_library,
)
from safe_install.wheels.inspection import (
    check_gpu_files,
    gpu_code_of_torch,
    read_gpu_files,
    requires_torch,
)
from safe_install.wheels.libraries import DiskFiles
from safe_install.wheels.loader import Problems
from tests.unit.wheels.elffiles import cubin, make_elf, make_fatbin, ptx
from tests.unit.wheels.test_abi import build

ERROR, WARNING = Severity.ERROR, Severity.WARNING
CU126, CU128, CU130, CU132, CPU = (
    "2.9.1+cu126",
    "2.9.1+cu128",
    "2.13.0+cu130",
    "2.13.0+cu132",
    "2.13.0+cpu",
)
NO_CODE, NO_KERNEL, TOO_OLD = "no-gpu-code", "no-kernel-image", "driver-too-old"


def file(
    member, *cubins, ptx=(), is_complete=True, ptx_version=(0, 0), needed=(), uses_torch=False
):
    code = DeviceCode(
        frozenset(parse_capability(text) for text in cubins),
        frozenset(parse_capability(f"{text}+PTX") for text in ptx),
        is_complete,
        ptx_version,
    )
    return ObjectVerdict(
        ObjectFacts(member, Problems(), uses_torch, code=code, needed=tuple(needed)),
        LoadOutcome.FITS,
    )


def for_torch(*cubins, member="a.so", **fields):
    return file(member, *cubins, uses_torch=True, **fields)


def driver(*capabilities, declared=False, version="550.54.14", cuda="12.4"):
    return Driver(
        version, cuda, tuple(Device("GPU", one) for one in capabilities), declared=declared
    )


def declared(*capabilities, **fields):
    return driver(*capabilities, declared=True, **fields)


def told(findings):
    return [(one.check, one.severity) for one in findings]


# As bitsandbytes 0.49.0 has them (cuobjdump).
OLD, MIDDLE, NEW = (
    ("6.0", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0"),
    ("7.0", "7.5", "12.0"),
    ("7.5", "8.0", "12.0"),
)
BITSANDBYTES = [
    file("bitsandbytes/libbitsandbytes_cpu.so"),
    file(
        "bitsandbytes/libbitsandbytes_cuda118.so",
        *OLD,
        needed=["libcudart.so.11.0", "libcusparse.so.11"],
    ),
    file(
        "bitsandbytes/libbitsandbytes_cuda126.so",
        *OLD,
        needed=["libcudart.so.12", "libcusparse.so.12"],
    ),
    file(
        "bitsandbytes/libbitsandbytes_cuda128.so",
        *MIDDLE,
        needed=["libcudart.so.12", "libcusparse.so.12"],
    ),
    file(
        "bitsandbytes/libbitsandbytes_cuda130.so",
        *NEW,
        needed=["libcudart.so.13", "libcusparse.so.12"],
    ),
    file("bitsandbytes/libbitsandbytes_rocm63.so"),
]
LMDEPLOY = [
    file(
        "lmdeploy/lib/_turbomind.so",
        "7.0",
        "7.5",
        "8.0",
        "8.6",
        "8.9",
        "9.0a",
        needed=["libcudart.so.12"],
    )
]
TORCHVISION = [
    file("torchvision.libs/libnvjpeg.8dd2b5e6.so.12", "5.0", "6.1", "9.0", ptx=["12.0"]),
    for_torch("7.0", "8.0", "9.0", member="torchvision/_C.so"),
]
XFORMERS = [
    for_torch("7.5", "8.0", member="xformers/_C.so"),
    for_torch("9.0a", member="xformers/flash_attn_3/_C.so"),
]


# --- which files count ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("torch", "names"),
    [
        (CU126, ["cuda126"]),
        (CU128, ["cuda128"]),
        (CU130, ["cuda130"]),
        (CU132, ["cuda130"]),  # there is none for 13.2: those for its major version
        ("2.5.1+cu124", ["cuda126", "cuda128"]),
        ("1.8.1+cu102", []),
    ],
)
def test_of_alternatives_the_one_for_this_cuda_counts(torch, names):
    found = find_counting_files(BITSANDBYTES, build(torch)).with_gpu_code()
    assert [one.facts.member for one in found.files] == [
        f"bitsandbytes/libbitsandbytes_{name}.so" for name in names
    ]
    assert len(found.left_out) == (0 if names else 4)


def test_files_that_differ_in_other_numbers_all_count():
    files = [file("a/_sm80.so", "8.0"), file("a/_sm90.so", "9.0")]
    assert list(find_counting_files(files, build(CU130)).files) == files


@pytest.mark.parametrize(
    ("member", "is_one"),
    [
        ("torchvision.libs/libnvjpeg.8dd2b5e6.so.12", True),
        ("torchvision.libs/libcudart.e8e8b82a.so.12", True),
        ("nvidia/cublas/lib/libcublasLt.so.12", True),
        ("x/libcudart-6d56b6d6.so.11.0", True),
        ("x/libcudnn_ops_infer.so.8", True),
        ("x/libnccl.so.2", True),
        ("x/libcugraph.so", False),
        ("x/libcuda_kernels.so", False),
        ("x/libcutlass.so", False),
        ("x/libnvblox.so", False),
    ],
)
def test_libraries_of_cuda_by_name(member, is_one):
    assert is_cuda_library(member) is is_one


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("libbitsandbytes_cuda128.so", (12, 8)),
        ("pt24cu121", (12, 1)),
        ("cu12torch2.8cxx11abitrue", (12,)),
        ("cu92", (9, 2)),
        ("_C_cu13.so", (13,)),
        ("flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so", None),
        ("focu126", None),
        ("cpu", None),
        ("", None),
    ],
)
def test_cuda_in_a_name(text, version):
    assert cuda_in_name(text) == version


# --- GPUs -----------------------------------------------------------------------------------------

GPU = {
    "code for the device": ([for_torch("8.0")], CU130, driver("8.6"), True, []),
    "PTX for the device": ([for_torch("7.0", ptx=["7.0"])], CU130, driver("9.0"), True, []),
    "no code for the device": (
        [for_torch("7.0", "9.0a")],
        CU130,
        driver("8.6"),
        True,
        [(NO_KERNEL, ERROR)],
    ),
    "no code for one of two": (
        [for_torch("8.0")],
        CU130,
        driver("8.6", "9.0"),
        True,
        [(NO_KERNEL, WARNING)],
    ),
    "no code for one of two that are declared": (
        [for_torch("8.0")],
        CU130,
        declared("8.6", "9.0"),
        True,
        [(NO_KERNEL, ERROR)],
    ),
    "no code for the declared one": (
        [for_torch("8.0")],
        CU130,
        declared("9.0"),
        True,
        [(NO_KERNEL, ERROR)],
    ),
    "no device": ([for_torch("8.0")], CU130, driver(), True, []),
    "no driver": ([for_torch("8.0")], CU130, None, True, []),
    "code in another file": (
        [for_torch("7.0"), for_torch("9.0", member="b.so")],
        CU130,
        driver("9.0"),
        True,
        [],
    ),
    "not all could be read": (
        [for_torch("7.0", is_complete=False)],
        CU130,
        driver("9.0"),
        True,
        [],
    ),
    "CPU only, as the index says": ([for_torch()], CU130, driver("9.0"), False, []),
    "CPU only, against the index": (
        [for_torch()],
        CU130,
        driver("9.0"),
        True,
        [(NO_CODE, WARNING)],
    ),
    "CPU only, without a device": ([for_torch()], CU130, None, True, [(NO_CODE, WARNING)]),
    "perhaps CPU only": ([for_torch(is_complete=False)], CU130, driver("9.0"), True, []),
    "no file that uses torch": ([file("a.so")], CU130, driver("9.0"), True, []),
    "beside a CPU torch": ([for_torch("7.0")], CPU, driver("9.0"), True, []),
    "does not link torch": ([file("a.so", "9.0")], CU130, driver("9.0"), False, []),
    "does not link torch, no code": (
        LMDEPLOY,
        CU128,
        declared("12.0"),
        False,
        [(NO_KERNEL, ERROR)],
    ),
    "does not link torch, too new": (LMDEPLOY, CU128, declared("6.1"), False, [(NO_KERNEL, ERROR)]),
    "does not link torch, has it": (LMDEPLOY, CU128, declared("9.0"), False, []),
    "alternative for 12.6": (BITSANDBYTES, CU126, declared("6.1"), False, []),
    "alternative for 12.8": (BITSANDBYTES, CU128, declared("6.1"), False, [(NO_KERNEL, ERROR)]),
    "alternative for 13.0": (BITSANDBYTES, CU130, declared("7.0"), False, [(NO_KERNEL, ERROR)]),
    "no alternative": (BITSANDBYTES, "1.8.1+cu102", declared("7.0"), False, [(NO_CODE, WARNING)]),
    "bundled library of CUDA": (TORCHVISION, CU128, declared("6.1"), True, [(NO_KERNEL, ERROR)]),
    "PTX that the driver does not read": (
        [for_torch("7.0", ptx=["8.0"], ptx_version=(8, 7))],
        CU128,
        declared("12.0"),
        True,
        [(NO_KERNEL, ERROR)],
    ),
    "PTX that the driver reads": (
        [for_torch("7.0", ptx=["8.0"], ptx_version=(8, 4))],
        CU128,
        declared("12.0"),
        True,
        [],
    ),
}


@pytest.mark.parametrize(
    ("files", "torch", "here", "has_gpu_code", "expected"), GPU.values(), ids=GPU.keys()
)
def test_gpu_code(files, torch, here, has_gpu_code, expected):
    found = check_gpu_code(
        "demo", files, torch=build(torch), driver=here, has_gpu_code=has_gpu_code
    )
    assert told(found) == expected


@pytest.mark.parametrize(
    ("pattern", "device", "expected"),
    [
        ("xformers/_C*.so", "8.0", []),  # a part for Hopper alone takes nothing away
        # nor does it stand for what the project cannot do without
        ("xformers/_C*.so", "9.0", [(NO_KERNEL, ERROR)]),
        ("xformers/_C.so xformers/*/_C.so", "8.0", [(NO_KERNEL, ERROR)]),
        (None, "8.0", []),
        (None, "9.0", []),
    ],
)
def test_what_a_project_needs_must_have_the_code(pattern, device, expected):
    members = [one.facts.member for one in XFORMERS]
    needs = needed_files(pattern.split(), members).__contains__ if pattern else None
    found = check_gpu_code(
        "xformers",
        XFORMERS,
        torch=build(CU128),
        driver=declared(device),
        has_gpu_code=True,
        needs=needs,
    )
    assert told(found) == expected


def test_what_does_not_belong_to_torch_is_only_warned_of():
    found = check_gpu_code(
        "xgboost",
        LMDEPLOY,
        torch=build(CU128),
        driver=declared("12.0"),
        has_gpu_code=False,
        is_extension=False,
    )
    assert told(found) == [(NO_KERNEL, WARNING)]


def test_what_is_told_of_gpu_code():
    files = [for_torch("9.0a", "8.0", ptx=["9.0"])]
    (found,) = check_gpu_code(
        "demo", files, torch=build(CU130), driver=driver("7.5", "7.5", "7.0"), has_gpu_code=True
    )
    assert found.detail == "no kernel image for sm_75, sm_70: demo has 8.0, 9.0a, 9.0+PTX"
    (found,) = check_gpu_code(
        "demo", [for_torch()], torch=build(CU130), driver=None, has_gpu_code=True
    )
    assert (
        found.detail
        == "demo has no code for GPUs, and torch here is for CUDA 13.0: it would compute on the CPU"
    )
    assert found.hint
    (found,) = check_gpu_code(
        "bnb", BITSANDBYTES, torch=build(CU128), driver=declared("6.1"), has_gpu_code=False
    )
    assert (
        found.detail
        == "no kernel image for sm_61: bnb has 7.0, 7.5, 12.0 (libbitsandbytes_cuda128.so)"
    )
    (found,) = check_gpu_code(
        "bnb", BITSANDBYTES, torch=build("1.8.1+cu102"), driver=None, has_gpu_code=False
    )
    assert (
        found.detail
        == "bnb has GPU code for CUDA 11.8, 12.6, 12.8, 13.0, and torch here is for CUDA 10.2"
    )
    files = [for_torch("7.0", ptx=["8.0"], ptx_version=(8, 7))]
    (found,) = check_gpu_code(
        "demo", files, torch=build(CU128), driver=declared("12.0"), has_gpu_code=True
    )
    assert found.detail.endswith(
        "has 7.0, 8.0+PTX, and a driver for CUDA 12.4 does not compile PTX of CUDA 12.8"
    )


# --- drivers --------------------------------------------------------------------------------------

CLAIMED = BuiltForCuda("cu118", "its version says +cu118")


@pytest.mark.parametrize(
    ("files", "torch", "claimed", "accelerator"),
    [
        (BITSANDBYTES, CU128, None, "cu12"),
        (BITSANDBYTES, CU130, None, "cu13"),  # libcusparse.so.12 is of CUDA 13, too
        (LMDEPLOY, CU130, None, "cu12"),
        # one part is for this one
        ([*LMDEPLOY, file("b.so", needed=["libcublas.so.13"])], CU130, None, "cu13"),
        (LMDEPLOY, CU128, CLAIMED, "cu12"),  # what it links is more certain than what it says
        ([file("a.so", "8.0")], CU128, CLAIMED, "cu118"),
        ([file("a.so", ptx=["8.0"], ptx_version=(8, 7))], CU128, None, "cu128"),
        ([for_torch("8.0", needed=["libtorch_cuda.so", "libc10.so"])], CU128, None, "cu128"),
        (
            [
                file("x.libs/libcudart.e8e8b82a.so.12"),
                for_torch(needed=["libcudart.e8e8b82a.so.12"]),
            ],
            CU128,
            None,
            "cu12",
        ),
        ([for_torch("8.0", needed=["libtorch_cpu.so"])], CU128, None, None),
        ([file("a.so", "8.0")], CU128, None, None),
        ([], CU128, None, None),
    ],
)
def test_the_cuda_of_a_wheel(files, torch, claimed, accelerator):
    found = find_cuda(files, build(torch), claimed)
    assert (found.accelerator if found else None) == accelerator


@pytest.mark.parametrize(
    ("accelerator", "torch", "expected"),
    [
        ("cu12", CU130, [("built-for-another-cuda", WARNING)]),
        ("cu118", CU128, [("built-for-another-cuda", WARNING)]),
        ("cu12", CU128, []),
        ("cu126", CU128, []),
        ("cu12", CPU, []),
        (None, CU128, []),
    ],
)
def test_another_cuda(accelerator, torch, expected):
    built = BuiltForCuda(accelerator, "it needs libcudart.so.12") if accelerator else None
    assert told(check_cuda_major("demo", built, torch=build(torch))) == expected


DRIVERS = {
    "declared, too old": (
        "cu13",
        CU130,
        declared(version="535.104", cuda="12.2"),
        [(TOO_OLD, ERROR)],
    ),
    "declared, new enough": ("cu13", CU130, declared(version="580.65.06", cuda="13.0"), []),
    "declared, a branch alone": ("cu13", CU130, declared(version="580", cuda="12.9"), []),
    "declared, minor version compatibility": (
        "cu128",
        CU128,
        declared(version="535.104", cuda="12.2"),
        [],
    ),
    "declared, by its CUDA": (
        "cu13",
        CU130,
        declared(version=None, cuda="12.9"),
        [(TOO_OLD, ERROR)],
    ),
    "declared, by a CUDA that serves": ("cu12", CU128, declared(version=None, cuda="12.0"), []),
    "nothing but a GPU declared": ("cu13", CU130, declared("8.0", version=None, cuda=None), []),
    "here, too old for torch as well": ("cu13", CU130, driver(), []),
    "here, too old for the wheel alone": ("cu13", CU128, driver(), [(TOO_OLD, ERROR)]),
    "no driver": ("cu13", CU130, None, []),
    "beside a CPU torch": ("cu13", CPU, declared(), []),
    "not known": (None, CU130, declared(), []),
}


@pytest.mark.parametrize(
    ("accelerator", "torch", "here", "expected"), DRIVERS.values(), ids=DRIVERS.keys()
)
def test_drivers(accelerator, torch, here, expected):
    built = BuiltForCuda(accelerator, "it needs libcudart.so.13") if accelerator else None
    found = check_driver("demo", built, torch=build(torch), driver=here, table=cuda_table())
    assert told(found) == expected


def test_what_is_told_of_a_driver():
    here = declared(version="535.104", cuda="12.2")
    built = BuiltForCuda("cu13", "it needs libcudart.so.13")
    (found,) = check_driver("demo", built, torch=build(CU130), driver=here, table=cuda_table())
    assert found.detail == (
        "demo was built for CUDA 13 (it needs libcudart.so.13) and needs driver 580.65.06 or "
        "newer, "
        "declared is 535.104 (CUDA 12.2)"
    )
    (found,) = check_driver(
        "demo", built, torch=build(CU130), driver=here, table=cuda_table(), is_extension=False
    )
    assert found.severity is WARNING


# --- real bytes -----------------------------------------------------------------------------------


def test_code_in_files_that_nothing_links(tmp_path):
    content = {
        "libdemo_cuda128.so": (["libcudart.so.12"], make_fatbin(cubin("8.0"))),
        "libdemo_cuda130.so": (
            ["libcudart.so.13"],
            make_fatbin(cubin("9.0"), ptx("9.0", version=(9, 0))),
        ),
    }
    members = {}
    for name, (needed, fatbin) in content.items():
        (tmp_path / name).write_bytes(make_elf(needed=needed, sections={".nv_fatbin": fatbin}))
        members[f"demo/{name}"] = str(tmp_path / name)
    (tmp_path / "libdemo.so.txt").write_text("no shared object")
    members["demo/libdemo.so"] = str(tmp_path / "libdemo.so.txt")
    verdicts = read_gpu_files(DiskFiles(), members)
    assert len(verdicts) == 2

    def check(torch, device, requires=("torch>=2.0",), **fields):
        return told(
            check_gpu_files(
                "demo", verdicts, build(torch), declared(device, **fields), requires=requires
            )
        )

    assert check(CU128, "8.0") == []
    assert check(CU128, "9.0") == [(NO_KERNEL, ERROR)]
    assert check(CU128, "9.0", requires=()) == [(NO_KERNEL, WARNING)]
    assert check(CU130, "9.0", version="580.65.06", cuda="13.0") == []
    assert check(CU130, "12.0", version="580.65.06", cuda="13.0") == []  # by PTX
    assert check(CU130, "9.0", version="535.104", cuda="12.2") == [(TOO_OLD, ERROR)]


@pytest.mark.parametrize(
    ("requires", "is_extension"),
    [
        (["numpy", "torch>=2.0"], True),
        (["torch (>=2.0)"], True),
        (["torch"], True),
        (["torchvision"], False),
        (["torch-geometric"], False),
        (['torch>=2; extra == "gpu"'], False),
        ([], False),
    ],
)
def test_who_requires_torch(requires, is_extension):
    assert requires_torch(requires) is is_extension


def test_the_kernels_of_torch_are_not_those_of_magma(tmp_path):
    for name, code in (
        ("libtorch_cuda.so", "7.0"),
        ("libtorch_cuda_linalg.so", "6.0"),
        ("libtorch_nvshmem.so", "5.0"),
    ):
        (tmp_path / name).write_bytes(make_elf(sections={".nv_fatbin": make_fatbin(cubin(code))}))
    members = {path.name: str(path) for path in tmp_path.iterdir()}
    assert str(gpu_code_of_torch(DiskFiles(), members)) == "7.0"
    (tmp_path / "libtorch_cuda.so").write_bytes(make_elf(sections={".nv_fatbin": b"damaged!" * 8}))
    assert gpu_code_of_torch(DiskFiles(), members) is None
    assert gpu_code_of_torch(DiskFiles(), {}) is None
