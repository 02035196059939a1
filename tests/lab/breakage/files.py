"""Files that are gone, cut, or written over; metadata that is; what interrupted installers leave."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.breakage.recipe import CUDA, OLD, Lab, Recipe, copy_info, replace, rows, truncate
from tests.lab.wheels import write_wheel

NOT_THERE = ("torch-import", "torch-origin")


def pip_was_killed_while_it_replaced_torch(lab: Lab) -> None:
    info = lab.info("torch")
    lab.torch.rename(lab.site / "~orch")
    info.rename(lab.site / "~orch-2.13.0+cpu.dist-info")
    (lab.torch / "lib").mkdir(parents=True)
    (lab.torch / "lib" / "libc10.so").write_bytes(b"half")


def pip_left_a_folder_beside_a_whole_torch(lab: Lab) -> None:
    shutil.copytree(lab.torch, lab.site / "~orch")


def the_metadata_of_torch_has_no_METADATA(lab: Lab) -> None:
    (lab.info("torch") / "METADATA").unlink()


def the_metadata_of_torch_has_no_RECORD(lab: Lab) -> None:
    (lab.info("torch") / "RECORD").unlink()


def a_METADATA_of_zeros(lab: Lab) -> None:
    write(lab, "alpha", "1.0")
    (lab.info("alpha") / "METADATA").write_bytes(b"\0" * 512)


def two_metadata_folders_of_torch(lab: Lab) -> None:
    copy_info(lab.info("torch"), lab.site, "2.4.1")


def a_library_of_torch_is_gone(lab: Lab) -> None:
    (lab.torch / "lib" / "libc10.so").unlink()


def a_module_of_torch_is_gone(lab: Lab) -> None:
    (lab.torch / "_tensor.py").unlink()


def a_library_of_torch_is_cut(lab: Lab) -> None:
    truncate(lab.torch / "lib" / "libtorch_cpu.so")


def a_module_of_torch_is_empty(lab: Lab) -> None:
    replace(lab.torch / "_tensor.py", b"")


def the_bytecode_of_torch_is_cut(lab: Lab) -> None:
    """Beside a whole module: Python believes the bytecode."""
    module = lab.torch / "__init__.py"
    made = lab.environment.ask(f"import py_compile; print(py_compile.compile({str(module)!r}))")
    truncate(Path(made))


def all_files_of_torch_are_gone(lab: Lab) -> None:
    shutil.rmtree(lab.torch)


def the_metadata_of_torch_is_gone(lab: Lab) -> None:
    shutil.rmtree(lab.info("torch"))


def an_uninstall_left_a_folder_without_modules(lab: Lab) -> None:
    shutil.rmtree(lab.info("torch"))
    for path in [*lab.torch.rglob("*.py")]:
        path.unlink()


def torch_is_a_link_to_nowhere(lab: Lab) -> None:
    shutil.rmtree(lab.torch)
    lab.torch.symlink_to(lab.folder / "nowhere")


def files_of_another_torch_over_the_installed_one(lab: Lab) -> None:
    text = (lab.torch / "version.py").read_text()
    replace(lab.torch / "version.py", text.replace("2.13.0", "2.11.0").encode())


def an_ordinary_package_lost_its_modules(lab: Lab) -> None:
    write(lab, "alpha", "1.0")
    (lab.site / "alpha" / "__init__.py").unlink()


def another_nccl_over_the_one_of_torch(lab: Lab) -> None:
    lab.must_pip("nvidia-nccl-cu12")


def an_nccl_that_was_uninstalled_again(lab: Lab) -> None:
    lab.must_pip("nvidia-nccl-cu12")
    lab.environment.must_pip("uninstall", "-y", "nvidia-nccl-cu12")


def a_change_of_ours_was_killed(lab: Lab) -> None:
    wheel = write_wheel(lab.folder, "alpha", "1.0", {"alpha/__init__.py": ""})
    code = (
        "import os, sys; from safe_install.transaction import swap;"
        "swap.Transaction.commit = lambda *words: os.kill(os.getpid(), 9);"
        "from safe_install.cli.main import main; sys.exit(main())"
    )
    words = ["install", "--python", str(lab.environment.executable), str(wheel)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=lab.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr


def a_hundred_broken_metadata_folders(lab: Lab) -> None:
    for number in range(100):
        (lab.site / f"broken{number}-1.0.dist-info").mkdir()


def a_METADATA_that_waits_for_a_writer(lab: Lab) -> None:
    folder = lab.site / "waiting-1.0.dist-info"
    folder.mkdir()
    os.mkfifo(folder / "METADATA")


def a_RECORD_that_is_a_folder(lab: Lab) -> None:
    write(lab, "alpha", "1.0")
    (lab.info("alpha") / "RECORD").unlink()
    (lab.site / "alpha-1.0.dist-info" / "RECORD").mkdir()


def the_folder_of_an_editable_package_is_gone(lab: Lab) -> None:
    source = lab.folder / "source"
    write(lab, "alpha", "1.0")
    shutil.rmtree(lab.site / "alpha")
    (lab.info("alpha") / "direct_url.json").write_text(
        f'{{"url": "file://{source}", "dir_info": {{"editable": true}}}}'
    )
    (lab.site / "__editable__.alpha.pth").write_text(f"{source}\n")


def a_file_that_runs_at_every_start_fails(lab: Lab) -> None:
    (lab.site / "__editable___gone.pth").write_text("import __editable___gone_finder\n")


def what_torch_requires_was_deleted_by_hand(lab: Lab) -> None:
    (lab.site / "typing_extensions.py").unlink()


def half_of_numpy_is_left_and_not_recorded(lab: Lab) -> None:
    """As `rm` leaves it, or an uninstall that was killed."""
    lab.must_pip("numpy==2.0.0")
    shutil.rmtree(lab.info("numpy"))
    replace(lab.site / "numpy" / "__init__.py", b"from numpy import _core\n")


def numpy_was_deleted_by_hand(lab: Lab) -> None:
    lab.must_pip("numpy==2.0.0")
    (lab.site / "numpy" / "__init__.py").unlink()


def the_Python_of_the_environment_is_a_newer_one_now(lab: Lab) -> None:
    site = lab.site
    site.parent.rename(site.parent.with_name("python3.6"))
    site.mkdir(parents=True)


def write(lab: Lab, name: str, version: str) -> Path:
    wheel = write_wheel(lab.folder, name, version, {f"{name}/__init__.py": "value = 1\n"})
    lab.must_pip(str(wheel))
    return wheel


RECIPES = rows(
    Recipe(
        pip_was_killed_while_it_replaced_torch,
        "interrupted-pip",
        ("~orch", "safe-install recover"),
        severity="warning",
        follows=("torch-installed",),
    ),
    Recipe(
        pip_left_a_folder_beside_a_whole_torch,
        "interrupted-pip",
        ("~orch", "safe-install recover"),
        severity="warning",
    ),
    Recipe(
        the_metadata_of_torch_has_no_METADATA,
        "metadata",
        ("torch-2.13.0+cpu.dist-info", "--force-reinstall"),
        severity="warning",
        follows=("torch-installed",),
        mends=True,
    ),
    Recipe(
        the_metadata_of_torch_has_no_RECORD,
        "records",
        ("RECORD", "torch==2.13.0+cpu"),
        severity="warning",
        mends=True,
    ),
    Recipe(a_METADATA_of_zeros, "metadata", ("alpha-1.0.dist-info",), severity="warning"),
    Recipe(
        two_metadata_folders_of_torch,
        "metadata",
        ("2.13.0+cpu and 2.4.1",),
        follows=("torch-version",),
    ),
    Recipe(
        a_library_of_torch_is_gone,
        "records",
        ("torch/lib/libc10.so", "--force-reinstall --no-deps torch==2.13.0+cpu"),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        a_module_of_torch_is_gone,
        "records",
        ("torch/_tensor.py",),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        a_library_of_torch_is_cut,
        "records",
        ("torch/lib/libtorch_cpu.so",),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        a_module_of_torch_is_empty,
        "records",
        ("torch/_tensor.py",),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        all_files_of_torch_are_gone, "torch-installed", ("files are gone",), follows=("records",)
    ),
    Recipe(the_metadata_of_torch_is_gone, "torch-installed", ("without metadata",)),
    Recipe(
        an_uninstall_left_a_folder_without_modules,
        "torch-installed",
        ("has no attribute 'cuda'",),
    ),
    Recipe(torch_is_a_link_to_nowhere, "torch-installed", ("are gone",), follows=("records",)),
    Recipe(
        files_of_another_torch_over_the_installed_one,
        "torch-version",
        ("2.13.0+cpu", "2.11.0+cpu"),
        mends=True,
    ),
    Recipe(
        an_ordinary_package_lost_its_modules,
        "records",
        ("alpha/__init__.py", "alpha @ file:"),
        severity="warning",
    ),
    Recipe(
        another_nccl_over_the_one_of_torch,
        "records",
        ("overwritten by nvidia-nccl-cu12", "nvidia/nccl/lib/libnccl.so.2"),
        base=CUDA,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        an_nccl_that_was_uninstalled_again,
        "records",
        ("nvidia-nccl-cu13 2.30.7", "libnccl.so.2"),
        base=CUDA,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        a_change_of_ours_was_killed, "interrupted-change", ("safe-install recover",), mends=True
    ),
    Recipe(
        a_hundred_broken_metadata_folders,
        "metadata",
        ("broken0-1.0.dist-info",),
        severity="warning",
    ),
    Recipe(
        a_METADATA_that_waits_for_a_writer,
        "metadata",
        ("waiting-1.0.dist-info",),
        severity="warning",
    ),
    Recipe(a_RECORD_that_is_a_folder, "records", ("alpha",), severity="warning"),
    Recipe(
        the_folder_of_an_editable_package_is_gone,
        "records",
        ("alpha 1.0 is installed from", "source", "uninstall -y alpha"),
        severity="warning",
        mends=True,
    ),
    Recipe(
        a_file_that_runs_at_every_start_fails,
        "startup-files",
        ("__editable___gone.pth", "No module named '__editable___gone_finder'"),
        severity="warning",
    ),
    Recipe(
        the_bytecode_of_torch_is_cut,
        "torch-import",
        ("marshal data", "-name '*.pyc' -delete"),
        mends=True,
    ),
    Recipe(
        what_torch_requires_was_deleted_by_hand,
        "records",
        ("typing_extensions.py", "--force-reinstall --no-deps typing-extensions=="),
        base=OLD,
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        half_of_numpy_is_left_and_not_recorded,
        "torch-computes",
        ("numpy is not installed, and what is left of it is imported",),
    ),
    Recipe(
        numpy_was_deleted_by_hand,
        "records",
        ("numpy/__init__.py", "numpy==2.0.0"),
        follows=("torch-computes",),
        mends=True,
    ),
    Recipe(
        the_Python_of_the_environment_is_a_newer_one_now,
        "import-path",
        ("torch", "for Python 3.6", "it sees nothing of it"),
    ),
)
