"""Recipes for the real torch, where a stand-in would prove little: its loader, its own start, what it
imports. The files of the environment are hard links: they are replaced, and never written to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.lab.breakage import files, paths
from tests.lab.breakage.recipe import Lab, Recipe, copy_info, prepend, replace, rows, truncate
from tests.lab.wheels import _link, write_wheel

MEBIBYTE = 1 << 20
LITTLE_MEMORY = 450 * MEBIBYTE  # less than the libraries of torch take of an address space


def libtorch_cpu_is_cut(lab: Lab) -> None:
    library = lab.torch / "lib" / "libtorch_cpu.so"
    with library.open("rb") as file:
        head = file.read(MEBIBYTE)
    replace(library, head)


def libc10_is_cut(lab: Lab) -> None:
    truncate(lab.torch / "lib" / "libc10.so")


def libc10_is_gone(lab: Lab) -> None:
    files.a_library_of_torch_is_gone(lab)


def a_module_is_empty(lab: Lab) -> None:
    replace(lab.torch / "_tensor.py", b"")


def what_torch_requires_is_gone(lab: Lab) -> None:
    (lab.site / "typing_extensions.py").unlink()


def files_of_another_torch_on_PYTHONPATH(lab: Lab) -> None:
    other = lab.folder / "other" / "torch"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("__version__ = '2.4.1'\n")
    lab.variables["PYTHONPATH"] = str(other.parent)


def an_empty_libc10_on_LD_LIBRARY_PATH(lab: Lab) -> None:
    _link(lab.folder / "libraries" / "libc10.so")
    prepend(lab.variables, "LD_LIBRARY_PATH", lab.folder / "libraries")


def an_empty_libgomp_on_LD_LIBRARY_PATH(lab: Lab) -> None:
    _link(lab.folder / "libraries" / "libgomp.so.1")
    prepend(lab.variables, "LD_LIBRARY_PATH", lab.folder / "libraries")


def the_libgomp_of_the_system_on_LD_LIBRARY_PATH(lab: Lab) -> None:
    (lab.folder / "libraries").mkdir()
    shutil.copy(lab.torch / "lib" / "libgomp.so.1", lab.folder / "libraries")
    prepend(lab.variables, "LD_LIBRARY_PATH", lab.folder / "libraries")


def an_empty_libc10_on_LD_PRELOAD(lab: Lab) -> None:
    lab.variables["LD_PRELOAD"] = str(_link(lab.folder / "libraries" / "libc10.so"))


def TORCH_LOGS_that_says_nothing(lab: Lab) -> None:
    lab.variables["TORCH_LOGS"] = "everything,please"


def a_backend_that_does_not_load(lab: Lab) -> None:
    """As torch_npu and others are found: by an entry point that `import torch` runs."""
    wheel = write_wheel(lab.folder, "other-backend", "1.0", {"other_backend.py": "import gone\n"})
    lab.must_pip(str(wheel))
    entry_points = "[torch.backends]\nother = other_backend:start\n"
    (lab.info("other_backend") / "entry_points.txt").write_text(entry_points)


def typing_extensions_of_long_ago(lab: Lab) -> None:
    """As a package brings it that pins an old one."""
    contents = {"typing_extensions.py": "from typing import *\n"}
    wheel = write_wheel(lab.folder, "typing_extensions", "4.0.0", contents)
    lab.must_pip("--force-reinstall", str(wheel))


def a_library_of_numpy_is_cut(lab: Lab) -> None:
    (library,) = (lab.site / "numpy" / "_core").glob("_multiarray_umath*.so")
    truncate(library)


def a_pth_file_puts_another_torch_first(lab: Lab) -> None:
    other = lab.folder / "other"
    (other / "torch").mkdir(parents=True)
    (other / "torch" / "__init__.py").write_text("__version__ = '2.4.1'\n")
    code = f"import sys; sys.path.insert(0, {str(other)!r})\n"
    (lab.site / "first.pth").write_text(code)


def the_METADATA_of_torch_has_no_version(lab: Lab) -> None:
    path = lab.info("torch") / "METADATA"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("Version: ")]
    replace(path, "".join(kept).encode())


def the_version_of_torch_is_gone(lab: Lab) -> None:
    (lab.torch / "version.py").unlink()


def numpy_is_recorded_twice(lab: Lab) -> None:
    copy_info(lab.info("numpy"), lab.site, "1.26.4")


def an_empty_folder_is_left_of_numpy(lab: Lab) -> None:
    lab.environment.must_pip("uninstall", "-y", "numpy")
    (lab.site / "numpy" / "_core" / "__pycache__").mkdir(parents=True)


def a_sitecustomize_fails(lab: Lab) -> None:
    found = "import importlib.util as u; print(u.find_spec('sitecustomize') is not None)"
    if lab.environment.ask(found) == "True":
        pytest.skip("this Python has a sitecustomize of its own, which comes first")
    (lab.site / "sitecustomize.py").write_text("raise RuntimeError('no such proxy')\n")


def sympy_was_uninstalled(lab: Lab) -> None:
    lab.environment.must_pip("uninstall", "-y", "sympy")


def jinja2_was_uninstalled(lab: Lab) -> None:
    lab.environment.must_pip("uninstall", "-y", "jinja2")


# As torchvision does it, without its native part.
VISION = """\
import torch

@torch.library.register_fake("torchvision::nms")
def nms(boxes, scores, threshold):
    pass
"""


def a_torchvision_without_its_operators(lab: Lab) -> None:
    contents = {"torchvision/__init__.py": VISION}
    lab.must_pip(str(write_wheel(lab.folder, "torchvision", "0.28.0", contents)))


def typing_extensions_of_ROS_on_PYTHONPATH(lab: Lab) -> None:
    packages = lab.folder / "ros"
    packages.mkdir()
    (packages / "typing_extensions.py").write_text("from typing import *\n")
    lab.variables["PYTHONPATH"] = str(packages)


def little_memory(lab: Lab) -> None:
    lab.prefix_words += ["prlimit", f"--as={LITTLE_MEMORY}"]


def a_file_of_the_working_folder_hides_a_module_of_Python(lab: Lab) -> None:
    (lab.folder / "random.py").write_text("print('my numbers')\n")


# What an extension calls of a torch that is not this one. The libraries of this one it finds.
FOREIGN_CODE = """\
namespace c10 { class OperatorName; void from_another_torch(const OperatorName &); }
void start(const c10::OperatorName &name) { c10::from_another_torch(name); }
"""


def an_extension_of_another_torch(lab: Lab) -> None:
    from tests.lab.breakage.torch_parts import compile_c

    made = lab.folder / "_C.so"
    build = ["c++", "-shared", "-fPIC", "-x", "c++", "-", "-x", "none", "-o", str(made)]
    needs = ["-Wl,--no-as-needed", str(lab.torch / "lib" / "libc10.so")]
    compile_c([*build, *needs], FOREIGN_CODE)
    pack_extension(lab, made)


def pack_extension(lab: Lab, library: Path) -> None:
    """torch-scatter, as its project loads its native part."""
    code = (
        "import os, torch\n"
        "torch.ops.load_library(os.path.join(os.path.dirname(__file__), '_version_cpu.so'))\n"
    )
    contents = {
        "torch_scatter/__init__.py": code,
        "torch_scatter/_version_cpu.so": library.read_bytes(),
    }
    lab.must_pip(str(write_wheel(lab.folder, "torch-scatter", "2.1.2", contents)))


RECIPES = rows(
    Recipe(paths.a_folder_torch_in_the_working_folder, "torch-origin", ("as torch", "Rename")),
    Recipe(
        files_of_another_torch_on_PYTHONPATH,
        "torch-origin",
        ("PYTHONPATH", "2.4.1"),
        follows=("torch-computes",),
    ),
    Recipe(libc10_is_gone, "records", ("torch/lib/libc10.so",), follows=("torch-import",)),
    Recipe(libc10_is_cut, "records", ("torch/lib/libc10.so",), follows=("torch-import",)),
    Recipe(
        libtorch_cpu_is_cut, "records", ("torch/lib/libtorch_cpu.so",), follows=("torch-import",)
    ),
    Recipe(a_module_is_empty, "records", ("torch/_tensor.py",), follows=("torch-import",)),
    Recipe(
        what_torch_requires_is_gone,
        "records",
        ("typing_extensions.py", "--force-reinstall --no-deps typing-extensions=="),
        follows=("torch-import",),
    ),
    Recipe(
        an_empty_libc10_on_LD_LIBRARY_PATH,
        "library-path",
        ("libc10.so", "unset LD_LIBRARY_PATH"),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        an_empty_libgomp_on_LD_LIBRARY_PATH,
        "library-path",
        ("libgomp.so.1",),
        follows=("torch-import",),
    ),
    Recipe(
        the_libgomp_of_the_system_on_LD_LIBRARY_PATH,
        "library-path",
        ("libgomp.so.1",),
        severity="warning",
    ),
    Recipe(
        an_empty_libc10_on_LD_PRELOAD,
        "variables",
        ("LD_PRELOAD", "unset LD_PRELOAD"),
        follows=("torch-import",),
    ),
    Recipe(
        TORCH_LOGS_that_says_nothing,
        "variables",
        ('TORCH_LOGS is "everything,please"', "unset TORCH_LOGS"),
        follows=("torch-import",),
    ),
    Recipe(
        a_backend_that_does_not_load,
        "torch-import",
        ("Failed to load the backend extension", "TORCH_DEVICE_BACKEND_AUTOLOAD=0"),
    ),
    Recipe(
        typing_extensions_of_long_ago,
        "requirements",
        ("requires typing-extensions>=4.10", "typing-extensions 4.0.0", "install 'typing-ext"),
        follows=("torch-import",),
    ),
    Recipe(
        a_library_of_numpy_is_cut,
        "records",
        ("numpy/_core/_multiarray_umath", "--no-deps numpy=="),
        follows=("torch-import",),
    ),
    Recipe(
        a_pth_file_puts_another_torch_first,
        "torch-origin",
        ("2.4.1", "look for the .pth file"),
        follows=("torch-computes",),
    ),
    Recipe(
        the_METADATA_of_torch_has_no_version,
        "metadata",
        ("torch-2.13.0+cpu.dist-info", "--force-reinstall"),
        severity="warning",
        follows=("torch-installed",),
    ),
    Recipe(
        the_version_of_torch_is_gone,
        "records",
        ("torch/version.py",),
        follows=("torch-installed",),
    ),
    Recipe(numpy_is_recorded_twice, "metadata", ("1.26.4 and 2.",), severity="warning"),
    Recipe(
        an_empty_folder_is_left_of_numpy,
        "torch-import",
        ("numpy is not installed, and what is left of it is imported", "site-packages/numpy"),
    ),
    Recipe(
        a_sitecustomize_fails, "startup-files", ("RuntimeError: no such proxy",), severity="warning"
    ),
    Recipe(sympy_was_uninstalled, "requirements", ("requires sympy",), severity="warning"),
    Recipe(jinja2_was_uninstalled, "requirements", ("requires jinja2",), severity="warning"),
    Recipe(
        a_torchvision_without_its_operators,
        "extension-imports",
        ("operator torchvision::nms does not exist", "--no-deps torchvision"),
    ),
    Recipe(
        typing_extensions_of_ROS_on_PYTHONPATH,
        "variables",
        ("PYTHONPATH", "unset PYTHONPATH"),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(little_memory, "torch-import", ("ulimit -v",)),
    Recipe(
        a_file_of_the_working_folder_hides_a_module_of_Python,
        "working-folder",
        ("random.py as random", "Rename"),
    ),
    Recipe(
        an_extension_of_another_torch,
        "extension-files",
        ("torch-scatter", "from_another_torch"),
        severity="warning",
        follows=("extension-imports",),
    ),
)

# What neither keeps torch from importing nor hides another one is looked for in one environment.
SIDE_BY_SIDE = (
    numpy_is_recorded_twice,
    sympy_was_uninstalled,
    jinja2_was_uninstalled,
    a_torchvision_without_its_operators,
    an_extension_of_another_torch,
    the_libgomp_of_the_system_on_LD_LIBRARY_PATH,
    a_file_of_the_working_folder_hides_a_module_of_Python,
)
TOGETHER = tuple(recipe for recipe in RECIPES if recipe.breaks in SIDE_BY_SIDE)
ALONE = tuple(recipe for recipe in RECIPES if recipe.breaks not in SIDE_BY_SIDE)
