"""What people do to an environment by hand: copies, moves, rights, options of pip."""

from __future__ import annotations

import re
import shutil

from tests.lab.breakage.outside import forbid, without_privileges
from tests.lab.breakage.recipe import AARCH64, CUDA, ELF_MACHINE, OLD, Lab, Recipe, replace, rows
from tests.lab.breakage.torch_parts import extend_torch

INIT = "torch/__init__.py"


def the_pyvenv_cfg_was_not_copied(lab: Lab) -> None:
    (lab.environment.prefix / "pyvenv.cfg").unlink()


def half_of_an_environment_was_copied(lab: Lab) -> None:
    """As a full disk, or Ctrl-C, ends `cp -r`: from some file on nothing came."""
    files = sorted(path for path in lab.torch.rglob("*") if path.suffix in (".py", ".so"))
    for path in files[len(files) // 2 :]:
        path.unlink()


def a_power_cut_left_zeros(lab: Lab) -> None:
    """The size was written, and the content was not."""
    library = lab.torch / "lib" / "libtorch_cpu.so"
    replace(library, b"\0" * library.stat().st_size)


def pip_install_target_into_site_packages(lab: Lab) -> None:
    lab.must_pip("--upgrade", "--target", str(lab.site), "torch==2.14.1")


def a_folder_of_nvidia_was_deleted(lab: Lab) -> None:
    shutil.rmtree(lab.site / "nvidia" / "nccl")


def another_user_owns_site_packages(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.site, 0o755)


def root_installed_torch_into_the_environment_of_a_user(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.torch, 0o755)


def root_installed_with_a_narrow_umask(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.torch, 0o700)
    forbid(lab.info("torch"), 0o700)


def what_torch_requires_was_uninstalled(lab: Lab) -> None:
    lab.environment.must_pip("uninstall", "-y", "typing-extensions")


def the_packages_of_another_Python_were_copied(lab: Lab) -> None:
    extend_torch(lab, INIT, before="import torch._C\n")
    library = lab.torch / "_C.cpython-310-x86_64-linux-gnu.so"
    shutil.copy(lab.torch / "lib" / "libtorch_python.so", library)
    write_tag(lab, "cp310-cp310-manylinux_2_28_x86_64")


def the_packages_of_another_machine_were_copied(lab: Lab) -> None:
    for library in (lab.torch / "lib").glob("*.so"):
        content = bytearray(library.read_bytes())
        content[ELF_MACHINE] = AARCH64
        replace(library, bytes(content))
    write_tag(lab, "cp311-cp311-manylinux_2_28_aarch64")


def write_tag(lab: Lab, tag: str) -> None:
    """The metadata of torch, as its wheel for that machine has it: there its files are as recorded."""
    path = lab.info("torch") / "WHEEL"
    text = re.sub("(?m)^Tag: .*", f"Tag: {tag}", path.read_text())
    replace(path, text.encode())
    record = path.with_name("RECORD")
    rows_of_others = re.sub(r"(?m)^(.*(?:/WHEEL|\.so)),.*,.*$", r"\1,,", record.read_text())
    replace(record, rows_of_others.encode())


RECIPES = rows(
    Recipe(
        the_pyvenv_cfg_was_not_copied,
        "interpreter",
        ("pyvenv.cfg is gone", "-m venv --without-pip"),
        mends=True,
    ),
    Recipe(
        half_of_an_environment_was_copied,
        "records",
        ("files of torch 2.13.0+cpu are gone",),
        follows=("torch-import", "torch-installed"),
        mends=True,
    ),
    Recipe(
        a_power_cut_left_zeros,
        "records",
        ("torch/lib/libtorch_cpu.so", "not as installed"),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        pip_install_target_into_site_packages,
        "metadata",
        ("2.13.0+cpu and 2.14.1",),
        follows=("records", "libraries", "torch-import", "torch-version"),
    ),
    Recipe(
        a_folder_of_nvidia_was_deleted,
        "records",
        ("nvidia/nccl/lib/libnccl.so.2", "--no-deps nvidia-nccl-cu13==2.30.7"),
        base=CUDA,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        another_user_owns_site_packages,
        "managed",
        ("cannot be written by this user",),
        severity="note",
    ),
    Recipe(
        root_installed_torch_into_the_environment_of_a_user,
        "managed",
        ("site-packages/torch cannot be written by this user",),
        severity="note",
    ),
    Recipe(
        root_installed_with_a_narrow_umask,
        "torch-installed",
        ("cannot be read by this user", "chmod"),
    ),
    Recipe(
        what_torch_requires_was_uninstalled,
        "requirements",
        ("requires typing-extensions, which is not installed", "install 'typing-extensions'"),
        base=OLD,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        the_packages_of_another_Python_were_copied,
        "wheel-tags",
        ("made for Python 3.10",),
        follows=("torch-import",),
    ),
    Recipe(
        the_packages_of_another_machine_were_copied,
        "wheel-tags",
        ("made for manylinux_2_28_aarch64", "--no-deps torch==2.13.0+cpu"),
        follows=("torch-import",),
        mends=True,
    ),
)
