"""What belongs to torch and does not fit it: companions, compilers, libraries, numpy, extensions."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.lab.breakage.files import write
from tests.lab.breakage.recipe import (
    AARCH64,
    CUDA,
    ELF_MACHINE,
    OLD,
    Lab,
    Recipe,
    prepend,
    replace,
    rows,
)
from tests.lab.wheels import _link, write_wheel

FOREIGN = "import ctypes, os; ctypes.CDLL(os.path.join(os.path.dirname(__file__), '_C.so'))\n"


def torchvision_without_CUDA_beside_a_CUDA_torch(lab: Lab) -> None:
    write(lab, "torchvision", "0.29.1+cpu")


def torchaudio_of_another_CUDA(lab: Lab) -> None:
    write(lab, "torchaudio", "2.14.1+cu126")


def torchvision_that_requires_another_torch(lab: Lab) -> None:
    wheel = write_wheel(
        lab.folder,
        "torchvision",
        "0.20.1",
        {"torchvision/__init__.py": ""},
        requires=["torch==2.5.1"],
    )
    lab.must_pip(str(wheel))


def two_tritons(lab: Lab) -> None:
    for name in ("triton", "pytorch-triton"):
        wheel = write_wheel(lab.folder, name, "3.4.0", {"triton/__init__.py": ""})
        lab.must_pip(str(wheel))


def an_nvidia_library_is_not_there(lab: Lab) -> None:
    lab.environment.must_pip("uninstall", "-y", "nvidia-nccl-cu13")


def an_nvidia_library_of_another_version(lab: Lab) -> None:
    files = {
        path: (lab.site / path).read_bytes()
        for path in ("nvidia/nccl/lib/libnccl.so.2", "nvidia/nccl/__init__.py")
    }
    lab.must_pip(str(write_wheel(lab.folder, "nvidia-nccl-cu13", "2.18.1", files)))


def numpy_2_beside_an_old_torch(lab: Lab) -> None:
    lab.must_pip("numpy==2.0.0")


def typing_extensions_that_is_too_old(lab: Lab) -> None:
    lab.must_pip("typing-extensions==3.6.6")


def an_extension_of_another_torch(lab: Lab) -> None:
    (wheel,) = lab.foreign.glob("*.whl")
    lab.must_pip(str(wheel))


def torch_moved_after_the_extension_was_installed(lab: Lab) -> None:
    (wheel,) = (lab.extensions / "1.8.1+cu111").glob("*.whl")
    lab.must_pip(str(wheel))
    lab.must_pip("torch==2.4.1")


def an_extension_lost_its_native_part(lab: Lab) -> None:
    (wheel,) = (lab.extensions / "1.8.1+cu111").glob("*.whl")
    lab.must_pip(str(wheel))
    for path in (lab.site / "torch_scatter").glob("*.so"):
        path.unlink()


def an_extension_that_was_installed_without_its_native_part(lab: Lab) -> None:
    code = "import torch\nfrom torch_scatter import _scatter_cpu\n"
    wheel = write_wheel(lab.folder, "torch-scatter", "2.1.2", {"torch_scatter/__init__.py": code})
    lab.must_pip(str(wheel))


def an_extension_without_CUDA_beside_a_CUDA_torch(lab: Lab) -> None:
    (wheel,) = (lab.extensions / "1.8.1+cu111").glob("*.whl")
    lab.must_pip(str(wheel))
    record = lab.info("torch_scatter") / "RECORD"
    kept = [line for line in record.read_text().splitlines() if "_scatter_cuda" not in line]
    record.write_text("\n".join(kept) + "\n")
    (lab.site / "torch_scatter" / "_scatter_cuda.so").unlink()


def an_extension_that_needs_a_newer_glibc(lab: Lab) -> None:
    made = lab.folder / "made"
    made.mkdir()
    (made / "versions").write_text("GLIBC_2.99 { global: of_tomorrow; };\n")
    build = ["cc", "-shared", "-fPIC", "-nostdlib", "-w", "-x", "c", "-", "-x", "none"]
    script = [f"-Wl,--version-script={made}/versions", "-Wl,-soname,libc.so.6"]
    future = made / "libc.so.6"
    compile_c([*build, *script, "-o", str(future)], "int of_tomorrow(void) { return 1; }")
    code = "int of_tomorrow(void); int start(void) { return of_tomorrow(); }"
    torch = str(lab.torch / "lib" / "libc10.so")
    needs = ["-Wl,--no-as-needed", torch, str(future)]
    compile_c([*build, *needs, "-o", str(made / "_scatter_cpu.so")], code)
    pack_scatter(lab, made / "_scatter_cpu.so")


def an_extension_that_needs_a_CUDA_library_that_is_not_there(lab: Lab) -> None:
    made = lab.folder / "made"
    runtime = _link(made / "libcudart.so.11.0", exports=["cudaMalloc"])
    needs = [runtime, lab.torch / "lib" / "libc10.so"]
    pack_scatter(lab, _link(made / "_scatter_cpu.so", wants=["cudaMalloc"], needs=needs))


def an_extension_of_the_other_ABI(lab: Lab) -> None:
    symbol = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
    made = lab.folder / "made"
    library = _link(
        made / "_scatter_cpu.so", wants=[symbol], needs=[lab.torch / "lib" / "libc10.so"]
    )
    pack_scatter(lab, library)


def an_extension_for_another_machine(lab: Lab) -> None:
    """A wheel that was named by hand, or files that were copied."""
    needs = [lab.torch / "lib" / "libc10.so"]
    library = _link(lab.folder / "made" / "_scatter_cpu.so", needs=needs)
    content = bytearray(library.read_bytes())
    content[ELF_MACHINE] = AARCH64
    replace(library, bytes(content))
    pack_scatter(lab, library)


def a_build_by_torch_was_killed(lab: Lab) -> None:
    lock = build_folder(lab) / "lock"
    lock.touch()
    yesterday = time.time() - 24 * 3600
    os.utime(lock, (yesterday, yesterday))


def a_build_by_torch_is_of_another_torch(lab: Lab) -> None:
    symbol = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
    needs = [lab.torch / "lib" / "libc10.so"]
    _link(build_folder(lab) / "fused.so", wants=[symbol], needs=needs)


def build_folder(lab: Lab) -> Path:
    """Where torch.utils.cpp_extension puts an extension of the name `fused`."""
    cache = Path(lab.variables["HOME"]) / ".cache" / "torch_extensions"
    python = lab.site.parent.name.replace("python", "py").replace(".", "")  # python3.11: py311
    folder = cache / f"{python}_cpu" / "fused"
    folder.mkdir(parents=True)
    return folder


def an_extension_that_needs_pkg_resources(lab: Lab) -> None:
    shutil.rmtree(lab.site / "pkg_resources", ignore_errors=True)
    for info in lab.site.glob("setuptools-*.dist-info"):
        shutil.rmtree(info)
    write(lab, "setuptools", "82.0.0")
    code = "import torch\nimport pkg_resources\n"
    wheel = write_wheel(lab.folder, "torch-scatter", "2.1.2", {"torch_scatter/__init__.py": code})
    lab.must_pip(str(wheel))


def an_extension_that_dies_when_it_is_imported(lab: Lab) -> None:
    code = "import torch, os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    wheel = write_wheel(lab.folder, "torch-scatter", "2.1.2", {"torch_scatter/__init__.py": code})
    lab.must_pip(str(wheel))


def triton_of_another_version(lab: Lab) -> None:
    files = {"triton/__init__.py": "def cdiv(one, other):\n    return -(-one // other)\n"}
    lab.must_pip(str(write_wheel(lab.folder, "triton", "3.3.0", files)))
    with (lab.info("torch") / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: triton==3.4.0\n")


# As dgl/graphbolt/__init__.py does it.
GRAPHBOLT = """\
import os
import torch

path = os.path.join(
    os.path.dirname(__file__), "libgraphbolt_pytorch_%s.so" % torch.__version__.split("+")[0]
)
if not os.path.exists(path):
    raise FileNotFoundError("Cannot find DGL C++ graphbolt library at %s" % path)
"""


def an_extension_that_has_no_library_for_this_torch(lab: Lab) -> None:
    files = {"dgl/__init__.py": GRAPHBOLT, "dgl/libgraphbolt_pytorch_2.2.1.so": b"\x7fELF"}
    lab.must_pip(str(write_wheel(lab.folder, "dgl", "2.1.0", files)))


def an_extension_that_was_compiled_with_another_CUDA(lab: Lab) -> None:
    words = "PyTorch and torch_scatter were compiled with different CUDA versions"
    files = {"torch_scatter/__init__.py": f"raise RuntimeError('Detected that {words}.')\n"}
    lab.must_pip(str(write_wheel(lab.folder, "torch-scatter", "2.1.2", files)))


def an_extension_that_needs_the_driver_where_none_is(lab: Lab) -> None:
    made = lab.folder / "made"
    driver = _link(made / "libcuda.so.1", exports=["cuInit"])
    needs = [driver, lab.torch / "lib" / "libc10.so"]
    pack_scatter(lab, _link(made / "_scatter_cpu.so", wants=["cuInit"], needs=needs))


def another_project_of_the_same_name(lab: Lab) -> None:
    """The package index's `apex` is a toolkit for web sites."""
    code = "from pyramid.session import UnencryptedCookieSessionFactoryConfig\n"
    lab.must_pip(str(write_wheel(lab.folder, "apex", "0.9.10.dev0", {"apex/__init__.py": code})))


NO_KERNEL = """

def _refuse(self, values, device="cpu"):
    if device == "cuda":
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
    _take(self, values, device)


_take, Tensor.__init__ = Tensor.__init__, _refuse
"""


def a_GPU_that_torch_has_no_code_for(lab: Lab) -> None:
    lab.variables["FAKE_GPU_CC"] = "12.0"
    extend_torch(lab, "torch/_tensor.py", after=NO_KERNEL)


def extend_torch(lab: Lab, path: str, *, before: str = "", after: str = "") -> None:
    """The same torch, with more code in one of its modules, as its wheel brought it."""
    info = lab.info("torch")
    metadata = (info / "METADATA").read_text()
    requires = [line.partition(": ")[2] for line in metadata.splitlines() if "Requires-" in line]
    files = {
        file.relative_to(lab.site).as_posix(): file.read_bytes()
        for file in lab.torch.rglob("*")
        if file.suffix in (".py", ".so")
    }
    files[path] = before.encode() + files[path] + after.encode()
    version = info.name[len("torch-") : -len(".dist-info")]
    wheel = write_wheel(lab.folder, "torch", version, files, requires=requires)
    lab.must_pip("--force-reinstall", str(wheel))


def torch_dies_when_it_is_imported(lab: Lab) -> None:
    put_torch(lab, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")


def torch_hangs_when_it_is_imported(lab: Lab) -> None:
    put_torch(lab, "import time; time.sleep(60)\n")
    lab.words += ["--check-timeout", "2"]


def torch_exits_when_it_is_imported(lab: Lab) -> None:
    put_torch(lab, "import os; os._exit(0)\n")


def put_torch(lab: Lab, code: str) -> None:
    """A torch of the same version whose import runs `code`."""
    version = (lab.torch / "version.py").read_text()
    files = {"torch/__init__.py": code, "torch/version.py": version}
    wheel = write_wheel(lab.folder, "torch", "2.13.0+cpu", files)
    lab.must_pip("--force-reinstall", str(wheel))


def pack_scatter(lab: Lab, library: Path) -> None:
    code = (Path(__file__).parents[1] / "packages" / "torch_scatter" / "__init__.py").read_text()
    files = {
        "torch_scatter/__init__.py": code,
        f"torch_scatter/{library.name}": library.read_bytes(),
    }
    lab.must_pip(str(write_wheel(lab.folder, "torch-scatter", "2.1.2", files)))


def compile_c(command: list, code: str) -> None:
    subprocess.run(command, input=code, text=True, check=True)


def a_toolkit_of_another_CUDA(lab: Lab) -> None:
    write_toolkit(lab, "11.8", "V11.8.89")


def write_toolkit(lab: Lab, release: str, version: str) -> Path:
    home = lab.folder / f"cuda-{release}"
    (home / "bin").mkdir(parents=True)
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, {version}'\n")
    nvcc.chmod(0o755)
    lab.variables["CUDA_HOME"] = str(home)
    prepend(lab.variables, "PATH", home / "bin")
    return home


def nvcc_refuses_the_compiler_that_is_here(lab: Lab) -> None:
    home = write_toolkit(lab, "13.0", "V13.0.88")
    for name in ("cuda_runtime.h", "crt/host_config.h"):
        path = home / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HOST_CONFIG)


# As crt/host_config.h says it.
HOST_CONFIG = """\
#if __GNUC__ > 4
#error -- unsupported GNU version! gcc versions later than 4 are not supported!
#endif
"""


def CUDA_HOME_is_gone(lab: Lab) -> None:
    lab.variables["CUDA_HOME"] = str(lab.folder / "cuda-12.1")


RECIPES = rows(
    Recipe(
        torchvision_without_CUDA_beside_a_CUDA_torch,
        "companions",
        ("torchvision 0.29.1+cpu was built for cpu", "--force-reinstall torchvision"),
        base=CUDA,
        follows=("extension-imports",),
    ),
    Recipe(
        torchaudio_of_another_CUDA,
        "companions",
        ("cu126", "cu130"),
        base=CUDA,
        follows=("extension-imports",),
    ),
    Recipe(
        torchvision_that_requires_another_torch,
        "companions",
        ("torchvision 0.20.1 requires torch==2.5.1",),
        follows=("extension-imports",),
    ),
    Recipe(
        two_tritons,
        "compiler",
        ("pytorch-triton 3.4.0 and triton 3.4.0",),
        follows=("records", "extension-imports"),
    ),
    Recipe(
        an_nvidia_library_is_not_there,
        "libraries",
        ("nvidia-nccl-cu13==2.30.7",),
        base=CUDA,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        an_nvidia_library_of_another_version,
        "libraries",
        ("nvidia-nccl-cu13==2.30.7", "2.18.1"),
        base=CUDA,
        mends=True,
    ),
    Recipe(
        numpy_2_beside_an_old_torch, "numpy", ("numpy 2.0.0", "'numpy<2'"), base=OLD, mends=True
    ),
    Recipe(typing_extensions_that_is_too_old, "torch-import", ("Literal",), base=OLD),
    Recipe(
        an_extension_of_another_torch,
        "extension-files",
        ("torch-scatter 2.0.8",),
        severity="warning",
        base=OLD,
        follows=("extension-imports",),
    ),
    Recipe(
        torch_moved_after_the_extension_was_installed,
        "extension-files",
        ("torch-scatter",),
        severity="warning",
        base=OLD,
        follows=("extension-imports", "cuda"),
    ),
    Recipe(
        a_build_by_torch_was_killed,
        "jit-builds",
        ("fused/lock is 24 hours old", "rm /"),
        severity="warning",
    ),
    Recipe(
        a_build_by_torch_is_of_another_torch,
        "jit-builds",
        ("fused.so was built for another torch", "rm -r /"),
        severity="warning",
        mends=True,
    ),
    Recipe(
        an_extension_for_another_machine,
        "extension-files",
        ("torch_scatter/_scatter_cpu.so is for aarch64",),
        severity="warning",
        follows=("extension-imports",),
    ),
    Recipe(
        an_extension_lost_its_native_part,
        "records",
        ("torch_scatter/_scatter_cpu.so",),
        severity="warning",
        base=OLD,
    ),
    Recipe(
        an_extension_that_was_installed_without_its_native_part,
        "extension-imports",
        ("_scatter_cpu",),
    ),
    Recipe(
        an_extension_without_CUDA_beside_a_CUDA_torch,
        "extension-gpu-code",
        ("torch-scatter",),
        base=OLD,
        severity="warning",
    ),
    Recipe(
        an_extension_that_needs_a_newer_glibc,
        "extension-files",
        ("GLIBC_2.99",),
        severity="warning",
        follows=("extension-imports",),
    ),
    Recipe(
        an_extension_that_needs_a_CUDA_library_that_is_not_there,
        "extension-files",
        ("libcudart.so.11.0",),
        severity="warning",
        follows=("extension-imports",),
    ),
    Recipe(
        an_extension_of_the_other_ABI,
        "extension-files",
        ("torch-scatter",),
        severity="warning",
        follows=("extension-imports",),
    ),
    Recipe(
        an_extension_that_needs_pkg_resources,
        "extension-imports",
        ("pkg_resources", "setuptools<82"),
    ),
    Recipe(an_extension_that_dies_when_it_is_imported, "extension-imports", ("SIGSEGV",)),
    Recipe(torch_dies_when_it_is_imported, "torch-import", ("SIGSEGV",)),
    Recipe(torch_hangs_when_it_is_imported, "torch-import", (), status="cannot-tell"),
    Recipe(torch_exits_when_it_is_imported, "torch-import", ()),
    Recipe(a_toolkit_of_another_CUDA, "toolkit", ("11.8",), severity="note", base=CUDA),
    Recipe(
        nvcc_refuses_the_compiler_that_is_here,
        "toolkit",
        ("accepts gcc 4 at most", "CC=gcc-4"),
        severity="note",
        base=CUDA,
    ),
    Recipe(
        CUDA_HOME_is_gone, "toolkit", ("cuda-12.1", "no such folder"), severity="note", base=CUDA
    ),
    Recipe(triton_of_another_version, "libraries", ("triton==3.4.0", "you have triton 3.3.0")),
    Recipe(
        an_extension_that_has_no_library_for_this_torch,
        "extension-imports",
        ("libgraphbolt_pytorch_2.13.0.so",),
    ),
    Recipe(
        an_extension_that_was_compiled_with_another_CUDA,
        "extension-imports",
        ("compiled with different CUDA versions", "--force-reinstall --no-deps torch-scatter"),
    ),
    Recipe(
        an_extension_that_needs_the_driver_where_none_is,
        "extension-imports",
        ("libcuda.so.1",),
    ),
    Recipe(another_project_of_the_same_name, "extension-imports", ("apex", "pyramid")),
    Recipe(a_GPU_that_torch_has_no_code_for, "torch-computes", ("no kernel image",), base=CUDA),
)
