"""Another torch, another Python, another library that comes first."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from tests.lab.breakage.recipe import CUDA, Lab, Recipe, copy_info, prepend, rows


def a_folder_torch_in_the_working_folder(lab: Lab) -> None:
    (lab.folder / "torch").mkdir()
    (lab.folder / "torch" / "__init__.py").write_text("")


def a_script_torch_in_the_working_folder(lab: Lab) -> None:
    (lab.folder / "torch.py").write_text("")


def another_torch_on_PYTHONPATH(lab: Lab) -> None:
    other = lab.copy_torch(lab.folder / "other", "2.4.1")
    lab.variables["PYTHONPATH"] = str(other)


def files_of_a_torch_on_PYTHONPATH(lab: Lab) -> None:
    other = lab.copy_torch(lab.folder / "other", "2.4.1", metadata=False)
    lab.variables["PYTHONPATH"] = str(other)


def another_torch_that_a_pth_file_puts_first(lab: Lab) -> None:
    other = lab.copy_torch(lab.folder / "other", "2.4.1")
    (lab.site / "first.pth").write_text(f"import sys; sys.path.insert(0, {str(other)!r})\n")


def another_numpy_on_PYTHONPATH(lab: Lab) -> None:
    lab.must_pip("numpy==2.0.0")
    other = lab.folder / "other"
    shutil.copytree(lab.site / "numpy", other / "numpy")
    copy_info(lab.info("numpy"), other, "1.26.4")
    lab.variables["PYTHONPATH"] = str(other)


def an_empty_libc10_on_LD_LIBRARY_PATH(lab: Lab) -> None:
    from tests.lab.wheels import _link

    _link(lab.folder / "libraries" / "libc10.so")
    prepend(lab.variables, "LD_LIBRARY_PATH", lab.folder / "libraries")


def the_same_libc10_on_LD_LIBRARY_PATH(lab: Lab) -> None:
    (lab.folder / "libraries").mkdir()
    shutil.copy(lab.torch / "lib" / "libc10.so", lab.folder / "libraries")
    prepend(lab.variables, "LD_LIBRARY_PATH", lab.folder / "libraries")


def an_old_nccl_on_LD_LIBRARY_PATH(lab: Lab) -> None:
    from tests.lab.wheels import _link

    _link(lab.folder / "cuda" / "libnccl.so.2", exports=["ncclInit"])
    prepend(lab.variables, "LD_LIBRARY_PATH", lab.folder / "cuda")


def pip_of_another_Python_is_first_on_PATH(lab: Lab) -> None:
    script = lab.folder / "bin" / "pip"
    script.parent.mkdir()
    write_program(script, "#!/usr/bin/python3\n")
    prepend(lab.variables, "PATH", script.parent)


def another_python_is_first_on_PATH(lab: Lab) -> None:
    folder = lab.folder / "bin"
    folder.mkdir()
    (folder / "python").symlink_to("/bin/true")
    prepend(lab.variables, "PATH", folder)


def the_environment_was_moved(lab: Lab) -> None:
    for script in lab.environment.prefix.glob("bin/pip*"):
        rest = script.read_text().split("\n", 1)[1]
        write_program(script, f"#!{lab.folder}/where-it-was/bin/python\n{rest}")


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


RECIPES = rows(
    Recipe(a_folder_torch_in_the_working_folder, "torch-origin", ("as torch", "Rename")),
    Recipe(a_script_torch_in_the_working_folder, "torch-origin", ("torch.py as torch", "Rename")),
    Recipe(
        another_torch_on_PYTHONPATH,
        "import-path",
        ("PYTHONPATH", "unset PYTHONPATH"),
        follows=("torch-origin",),
        mends=True,
    ),
    Recipe(files_of_a_torch_on_PYTHONPATH, "torch-origin", ("PYTHONPATH", "2.4.1")),
    Recipe(
        another_torch_that_a_pth_file_puts_first,
        "import-path",
        ("2.4.1",),
        follows=("torch-origin",),
    ),
    Recipe(
        another_numpy_on_PYTHONPATH, "import-path", ("numpy 2.0.0",), severity="warning", mends=True
    ),
    # A warning: the stand-in opens its libraries by their paths, and still works.
    Recipe(
        an_empty_libc10_on_LD_LIBRARY_PATH,
        "library-path",
        ("libc10.so", "LD_LIBRARY_PATH"),
        severity="warning",
        mends=True,
    ),
    Recipe(
        the_same_libc10_on_LD_LIBRARY_PATH,
        "library-path",
        ("libc10.so",),
        severity="warning",
        mends=True,
    ),
    Recipe(
        an_old_nccl_on_LD_LIBRARY_PATH,
        "library-path",
        ("libnccl.so.2",),
        base=CUDA,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        pip_of_another_Python_is_first_on_PATH,
        "programs",
        ("`pip`",),
        severity="warning",
        mends=True,
    ),
    Recipe(
        another_python_is_first_on_PATH, "programs", ("`python`",), severity="warning", mends=True
    ),
    Recipe(the_environment_was_moved, "programs", ("where-it-was",), severity="warning"),
)
