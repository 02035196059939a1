"""Toolkits in folders, with an nvcc that answers as the real one does: what is found, and the home
made of it."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.environment.interpreter import read_environment
from safe_install.errors import PipFailed, Refused
from safe_install.events import Reporter
from safe_install.system.pip import PipRunner
from safe_install.tags import ComputeCapability
from safe_install.wheels import toolkit as toolkits
from safe_install.wheels.build import build_wheel
from safe_install.wheels.elf import SharedObject
from safe_install.wheels.inspection import gpu_code
from safe_install.wheels.recipe import BuildRecipe
from safe_install.wheels.store import WheelStore
from safe_install.wheels.toolkit import (
    bring_toolkit,
    find_brought,
    find_gcc,
    find_other_gccs,
    find_places,
    make_home,
)
from safe_install.wheels.toolkit_choice import REQUIRED_HEADERS, Toolkit, Unusable, list_obtainable
from tests.factories import make_distribution, make_interpreter
from tests.factories import make_environment as make_values
from tests.unit.wheels.crafted import make_sdist
from tests.wheelhost import WheelHost

ALL = tuple(header.path for header in REQUIRED_HEADERS)
LIBRARIES = ("cublas_v2.h", "cusparse.h", "cusolverDn.h")
HOST_CONFIG = "#error -- unsupported GNU version! gcc versions later than 15 are not supported!\n"
# `nvcc -v` looks from the folder of its name, whatever link leads there; with a `targets` folder it
# looks into that.
NVCC = """\
#!/bin/sh
here=$(dirname "$0"); target=
[ -d "$here/../targets/x86_64-linux" ] && target=targets/x86_64-linux
case "$1" in
--version) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
--list-gpu-arch) echo compute_80; echo compute_90 ;;
-v)
  echo "#\\$ _HERE_=$here" >&2; echo "#\\$ TOP=$here/.." >&2; echo "#\\$ CICC_PATH=$here/../nvvm/bin" >&2
  echo "#\\$ INCLUDES=\\"-I$here/../$target/include\\"" >&2
  echo "#\\$ LIBRARIES=\\"-L$here/../$target/lib/stubs\\" \\"-L$here/../$target/lib\\"" >&2
  echo "nvcc fatal   : Don't know what to do" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A machine whose /usr/local and /opt are ours."""
    monkeypatch.setattr(toolkits, "SYSTEM_FOLDERS", (tmp_path / "usr-local", tmp_path / "opt"))
    return tmp_path


def write(path, text="", mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def make_toolkit(home, release="13.0", headers=ALL, *, include="include", lib="lib64", nvcc=True):
    for header in headers:
        write(home / include / header, HOST_CONFIG if header.endswith("host_config.h") else "")
    if nvcc:
        write(home / "bin/nvcc", NVCC.format(release=release), 0o755)
        for name in ("nvcc.profile", "ptxas", "cudafe++"):
            write(home / "bin" / name)
        write(home / "nvvm/bin/cicc")
    write(home / lib / "libcudart.so.13")
    (home / lib / "libcudart.so").symlink_to("libcudart.so.13")
    return home


def make_packages(site, headers=LIBRARIES):
    """What the nvidia packages of a CUDA 13 torch put into an environment."""
    for header in headers:
        write(site / "nvidia/cu13/include" / header)
    write(site / "nvidia/cu13/lib/libcusparse.so.12")
    return site


def make_env(disk, *distributions, torch="2.14.1+cu130", **fields):
    site = disk / "site"
    scheme = dataclasses.replace(make_interpreter().scheme, purelib=site, platlib=site)
    interpreter = make_interpreter(scheme=scheme, **fields)
    environment = make_values(*distributions, torch=torch, interpreter=interpreter)
    moved = {
        name: dataclasses.replace(found, location=site)
        for name, found in environment.installed.items()
    }
    return dataclasses.replace(environment, installed=moved)


def look(disk, *distributions, variables=None, **fields):
    variables = {"PATH": "/nowhere", **(variables or {})}
    return find_places(make_env(disk, *distributions, **fields), variables, disk / "cache")


def told(places):
    """Origin, path and what is wrong, of each place."""
    return [
        (place.origin, place.home, place.missing)
        if isinstance(place, Toolkit)
        else (place.origin, place.path, place.reason)
        for place in places
    ]


def test_a_whole_toolkit_is_used_as_it_stands(disk):
    home = make_toolkit(disk / "usr-local/cuda-13.0")
    (found,) = look(disk)
    assert found == Toolkit(home, "13.0", ("80", "90"), "the system", newest_gcc=15)


def test_side_by_side_the_link_first_then_the_newest(disk):
    nine = make_toolkit(disk / "usr-local/cuda-12.9", "12.9")
    ten = make_toolkit(disk / "usr-local/cuda-12.10", "12.10")
    (disk / "usr-local/cuda").symlink_to(nine)
    other = make_toolkit(disk / "opt/cuda", "13.0")
    # nine once, though two names lead to it
    assert [place.home for place in look(disk)] == [nine, ten, other]


@pytest.mark.parametrize("kind", ["wrapper", "link"])
def test_the_toolkit_behind_a_wrapper_or_a_link_on_path(disk, kind):
    home = make_toolkit(disk / "somewhere/cuda")
    on_path = disk / "bin/nvcc"
    on_path.parent.mkdir()
    if kind == "link":
        on_path.symlink_to(home / "bin/nvcc")
    else:
        write(on_path, f'#!/bin/sh\nexec {home}/bin/nvcc "$@"\n', 0o755)
    (found,) = look(disk, variables={"PATH": f"{disk}/bin:/usr/bin:/bin"})
    assert (found.origin, found.home, found.missing) == ("nvcc on PATH", home, ())


def test_a_half_toolkit_names_what_it_lacks(disk):
    home = make_toolkit(disk / "usr-local/cuda-13.0", headers=ALL[:3])
    assert told(look(disk)) == [("the system", home, LIBRARIES)]


def test_the_environments_packages_complete_a_half_toolkit(disk):
    home = make_toolkit(disk / "usr-local/cuda-13.0", headers=ALL[:3])
    make_packages(disk / "site")
    (found,) = look(disk)
    assert (found.missing, found.completed) == ((), LIBRARIES)
    made = make_home(found.parts, disk / "home")
    assert all((made / "include" / header).is_file() for header in ALL)
    assert (made / "include/cuda_runtime.h").resolve() == home / "include/cuda_runtime.h"
    assert (made / "lib64/libcusparse.so").resolve().name == "libcusparse.so.12"
    assert (made / "lib/libcudart.so").is_file()
    assert (made / "nvvm/bin/cicc").is_file()


def test_the_headers_of_cuda_12_lie_in_a_folder_for_each_library(disk):
    make_toolkit(disk / "usr-local/cuda-12.8", "12.8", headers=ALL[1:3])
    for folder, header in zip(
        ("cuda_runtime", "cublas", "cusparse", "cusolver"), (ALL[0], *LIBRARIES)
    ):
        write(disk / "site/nvidia" / folder / "include" / header)
    write(disk / "site/nvidia/cu13/include/cusparse.h", "of another major")
    (found,) = look(disk, torch="2.9.1+cu128")
    assert (found.missing, found.completed) == ((), (ALL[0], *LIBRARIES))
    made = make_home(found.parts, disk / "home")
    assert (made / "include/cusparse.h").read_text() == ""


def test_condas_layout(disk):
    conda = disk / "conda"
    make_toolkit(conda, include="targets/x86_64-linux/include", lib="targets/x86_64-linux/lib")
    write(conda / "bin/python")
    write(conda / "include/zlib.h")
    write(conda / "lib/libstdc++.so.6")
    (found,) = look(disk, variables={"CONDA_PREFIX": str(conda)})
    assert (found.origin, found.missing) == ("conda", ())
    made = make_home(found.parts, disk / "home")
    # not conda's python
    assert sorted(os.listdir(made / "bin")) == ["cudafe++", "nvcc", "nvcc.profile", "ptxas"]
    assert not (made / "include/zlib.h").exists()
    assert not (made / "lib64/libstdc++.so.6").exists()
    assert (made / "lib64/libcudart.so").exists()


def test_condas_headers_without_its_compiler_are_worth_a_word(disk):
    conda = disk / "conda"
    make_toolkit(conda, include="targets/x86_64-linux/include", lib="lib", nvcc=False)
    variables = {"CONDA_PREFIX": str(conda)}
    assert told(look(disk, variables=variables)) == [("conda", conda, "headers, and no nvcc")]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda home: None, "no such folder"),
        (lambda home: home.mkdir(), "no nvcc"),
        (lambda home: write(home / "bin/nvcc", "no program"), "cannot be used (Permission denied)"),
        (lambda home: write(home / "bin/nvcc", "#!/bin/sh\nexit 3\n", 0o755), "nvcc --version ends with 3"),
        (lambda home: write(home / "bin/nvcc", "#!/bin/sh\nkill -9 $$\n", 0o755),
         "nvcc --version ends with signal SIGKILL"),
    ],
)  # fmt: skip
def test_a_named_home_without_a_toolkit_says_why(disk, make, reason):
    home = disk / "named"
    make(home)
    assert told(look(disk, variables={"CUDA_HOME": str(home)})) == [("CUDA_HOME", home, reason)]


def test_a_toolkit_in_the_environment(disk):
    home = make_toolkit(disk / "site/nvidia/cu13", lib="lib")
    (home / "lib/libcudart.so").unlink()  # as in NVIDIA's wheels
    (found,) = look(disk)
    assert (found.origin, found.missing) == ("the environment's nvidia packages", ())
    assert (make_home(found.parts, disk / "home") / "lib64/libcudart.so").exists()


def test_mixed_compiler_packages_in_the_environment_are_not_used(disk):
    make_toolkit(disk / "site/nvidia/cu13", lib="lib")
    mixed = (
        make_distribution("nvidia-cuda-nvcc", "13.0.88"),
        make_distribution("nvidia-nvvm", "13.5.37"),
    )
    (found,) = look(disk, *mixed)
    assert isinstance(found, Unusable)
    assert "nvidia-nvvm 13.5.37" in found.reason


def test_packages_of_torch_alone_are_no_place(disk):
    make_packages(disk / "site")
    assert look(disk) == ()


def test_a_made_home_serves_nvcc_itself(disk):
    """nvcc finds everything from the folder of its name: in a made home that must be the home, and
    not behind it."""
    make_toolkit(disk / "usr-local/cuda-13.0", headers=ALL[:3])
    make_packages(disk / "site")
    (found,) = look(disk)
    made = make_home(found.parts, disk / "home")
    answer = toolkits._ask_folders(made / "bin/nvcc")
    assert os.path.normpath(answer.top) == str(made)


# --- brought --------------------------------------------------------------------------------------


class Notes(Reporter):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def fill(requirements, target):
    make_toolkit(Path(target) / "nvidia/cu13", lib="lib")


def test_a_toolkit_is_brought_once_and_found_again(disk):
    environment, calls = make_env(disk), []
    requirement = "cuda-toolkit[cccl,crt,cublas,cudart,cusolver,cusparse,nvcc,nvvm]==13.0.*"

    def install(requirements, target):
        calls.append(tuple(requirements))
        fill(requirements, target)

    assert find_brought(environment, disk / "cache") is None
    for _ in range(2):
        folder = bring_toolkit((requirement,), environment, disk / "cache", install, Reporter())
    assert calls == [(requirement,)]
    assert find_brought(environment, disk / "cache") == folder
    (found,) = look(disk)
    assert (found.origin, found.missing) == ("the package index, kept in the cache", ())


@pytest.mark.parametrize("error", [PipFailed("no network"), KeyboardInterrupt()])
def test_a_toolkit_that_was_not_brought_whole_is_not_there(disk, error):
    def install(requirements, target):
        write(Path(target) / "nvidia/cu13/bin/nvcc")
        raise error

    with pytest.raises(type(error)):
        bring_toolkit(("x",), make_env(disk), disk / "cache", install, Reporter())
    assert [path.name for path in (disk / "cache/toolkits").iterdir() if path.is_dir()] == []


def test_an_index_without_the_toolkit_is_a_refusal(disk):
    def install(requirements, target):
        raise PipFailed(
            "pip failed", output="ERROR: No matching distribution found for cuda-toolkit==13.9.*"
        )

    with pytest.raises(Refused, match=r"has no CUDA toolkit for this torch \(cuda-toolkit==13\.9"):
        bring_toolkit(
            ("cuda-toolkit==13.9.*",), make_env(disk), disk / "cache", install, Reporter()
        )


def hold(path, ready, seconds):
    from filelock import FileLock

    with FileLock(path):
        ready.set()
        time.sleep(seconds)


def test_waiting_for_somebody_else_is_said(disk):
    environment, notes = make_env(disk), Notes()
    bring_toolkit(("x",), environment, disk / "cache", fill, Reporter())
    (lock,) = (disk / "cache/toolkits").glob("*.lock")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(str(lock), ready, 0.5))
    other.start()
    assert ready.wait(30)
    bring_toolkit(("x",), environment, disk / "cache", fill, notes)
    other.join()
    assert notes.lines == ["waiting for another build that fetches the CUDA toolkit ..."]


# --- gcc ------------------------------------------------------------------------------------------

FAKE_GCC = "#!/bin/sh\necho '#define __GNUC__ {major}'\necho '#define __X'\n{more}\n"


def make_gcc(path, major, more=""):
    return write(path, textwrap.dedent(FAKE_GCC.format(major=major, more=more)), 0o755)


def test_the_gcc_that_nvcc_calls(disk):
    make_gcc(disk / "bin/gcc", 15)
    make_gcc(disk / "bin/gcc-13", 13)
    make_gcc(disk / "bin/clang", 4, "echo '#define __clang__ 1'")
    path = {"PATH": f"{disk}/bin:/usr/bin:/bin"}
    assert find_gcc(path).major == 15
    assert find_gcc({**path, "CC": "ccache gcc-13"}).major == 13
    assert find_gcc({**path, "NVCC_PREPEND_FLAGS": f" -ccbin={disk}/bin/gcc-13"}).major == 13
    assert find_gcc({**path, "CC": "gcc", "NVCC_CCBIN": "gcc-13"}).major == 13
    assert find_gcc({**path, "CC": "clang"}) is None
    assert find_gcc({"PATH": "/nowhere"}) is None


def test_the_other_gccs_have_their_gxx(disk):
    for number in (9, 13):
        make_gcc(disk / f"bin/gcc-{number}", number)
    make_gcc(disk / "bin/g++-13", 13)
    write(disk / "bin/gcc-ar-13")
    assert [
        (Path(gcc.path).name, gcc.major) for gcc in find_other_gccs({"PATH": f"{disk}/bin"})
    ] == [("gcc-13", 13)]


def test_no_build_starts_with_a_toolkit_that_does_not_run(disk):
    """Without CUDA_HOME the build would take any other nvcc of the machine."""
    write(disk / "include/Python.h")
    environment = make_env(disk)
    scheme = dataclasses.replace(environment.interpreter.scheme, include=disk / "include")
    environment = dataclasses.replace(
        environment, interpreter=dataclasses.replace(environment.interpreter, scheme=scheme)
    )

    def install(requirements, target):
        fill(requirements, target)
        write(Path(target) / "nvidia/cu13/bin/nvcc", "#!/bin/sh\nexit 126\n", 0o755)

    with pytest.raises(Refused, match="cannot be used on this machine") as refused:
        build_wheel(
            disk / "demo-1.0.tar.gz",  # it is not opened
            recipe=BuildRecipe(canonicalize_name("demo"), Version("1.0")),
            environment=environment,
            store=WheelStore(disk / "cache"),
            install_tools=install,
            reporter=Reporter(),
            variables={
                "PATH": write(disk / "bin/g++", mode=0o755).parent.as_posix(),
                "TORCH_CUDA_ARCH_LIST": "8.0",
            },
        )
    assert "SAFE_INSTALL_CACHE_DIR" in refused.value.hint


# --- the whole way: a dry run refuses what the real run would refuse ------------------------------


@pytest.fixture
def scatter(make_environment):
    """A stand-in torch 2.4.1+cu121 with its GPU, and a package index that has torch-scatter's
    source alone."""
    environment = make_environment(
        "3.11", "torch==2.4.1", FAKE_DRIVER_CUDA="12.1", FAKE_GPU_CC="8.0"
    )
    with WheelHost() as host:
        sdist = make_sdist(environment.prefix.parent, {"setup.py": ""}, name="torch_scatter-2.1.2")
        host.add_pypi_page("torch-scatter", {sdist.name: sdist.read_bytes()})
        environment.variables.update(
            SAFE_INSTALL_MIRRORS=host.mirrors,
            PIP_NO_INDEX="",
            PIP_INDEX_URL=host.index_url,
            PATH=os.environ["PATH"],
        )
        yield environment, host


@pytest.mark.parametrize("words", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("g++", "there is no C++ compiler"),
        ("toolkit", "CUDA 11.8, torch needs CUDA 12"),
        ("gpu", "--target-gpu 8.0"),
    ],
)
def test_a_dry_run_refuses_what_the_real_run_would(scatter, tmp_path, words, missing, said):
    environment, host = scatter
    home = make_toolkit(tmp_path / "cuda", "11.8" if missing == "toolkit" else "12.1")
    variables = {"CUDA_HOME": str(home)}
    if missing == "g++":
        variables.update(PATH=str(tmp_path), CXX="")
    if missing == "gpu":
        variables["FAKE_GPU_COUNT"] = "0"
    answer = environment.safe_install("install", *words, "torch-scatter", **variables)
    assert answer.returncode == 11, answer.stderr
    assert said in answer.stderr
    assert host.asked(".tar.gz") == []


def test_a_dry_run_plans_the_build_that_can_be_done(scatter, tmp_path):
    environment, host = scatter
    home = make_toolkit(tmp_path / "cuda", "12.1")
    answer = environment.document("install", "--dry-run", "torch-scatter", CUDA_HOME=str(home))
    assert answer["exit_code"] == 0, answer["error"]
    assert [(step["name"], step["kind"]) for step in answer["plan"]["steps"]] == [
        ("torch-scatter", "sdist")
    ]
    assert host.asked(".tar.gz") == []


# --- the real one ---------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
def test_the_toolkit_of_the_package_index_compiles(disk, tmp_path):
    """110 MB from the package index; the libraries of torch's packages are stood in for by their
    headers."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    make_packages(disk / "site")
    environment = dataclasses.replace(make_env(disk), interpreter=real_interpreter(disk))
    pip = PipRunner(environment.interpreter, cache_dir=disk / "cache")
    (requirement,) = list_obtainable(environment, headers=LIBRARIES)
    install = functools.partial(pip.install_target, only_wheels=True)
    try:
        bring_toolkit((requirement,), environment, disk / "cache", install, Reporter())
    except PipFailed as error:
        pytest.skip(f"no package index here: {error.message}")
    (found,) = find_places(environment, {"PATH": "/usr/bin:/bin"}, disk / "cache")
    assert (found.version, found.missing, "80" in found.architectures) == ("13.0", (), True)
    made = make_home(found.parts, disk / "home")
    write(disk / "a.cu", KERNEL)
    command = [
        str(made / "bin/nvcc"),
        "-arch=sm_80",
        "-shared",
        "-Xcompiler",
        "-fPIC",
        "-lcudart",
        "-L",
        made / "lib64",
    ]
    answer = subprocess.run(
        [*map(str, command), "-o", str(disk / "a.so"), str(disk / "a.cu")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert gpu_code(SharedObject((disk / "a.so").read_bytes())).cubins == {ComputeCapability(8, 0)}


KERNEL = """
#include <thrust/complex.h>
#include <cuda_fp16.h>
__global__ void product(thrust::complex<float> *x) { x[0] = x[1] * x[2]; }
int launch() { product<<<1, 1>>>(nullptr); return cudaGetLastError(); }
"""


def real_interpreter(disk):
    found = read_environment(Path(sys.executable), None).interpreter
    scheme = dataclasses.replace(found.scheme, purelib=disk / "site", platlib=disk / "site")
    return dataclasses.replace(found, scheme=scheme)
