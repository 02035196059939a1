"""Recipes for the real torch, where a stand-in would prove little: its loader, its own start, what it
imports. The files of the environment are hard links: they are replaced, and never written to."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab.breakage import files, paths
from tests.lab.breakage.recipe import Lab, Recipe, prepend, replace, rows, truncate
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
