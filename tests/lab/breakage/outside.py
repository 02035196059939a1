"""The driver, the interpreter, the disk, running programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import List

import pytest

from tests.lab.breakage.recipe import CUDA, Lab, Recipe, rows


def the_driver_is_too_old(lab: Lab) -> None:
    lab.variables.update(FAKE_DRIVER_CUDA="12.2", FAKE_DRIVER="535.104.05")


def the_GPU_is_hidden(lab: Lab) -> None:
    lab.variables["CUDA_VISIBLE_DEVICES"] = ""


def a_GPU_is_named_that_is_not_there(lab: Lab) -> None:
    lab.variables["CUDA_VISIBLE_DEVICES"] = "4"


def a_MIG_instance_is_named_that_is_not_there(lab: Lab) -> None:
    lab.variables["CUDA_VISIBLE_DEVICES"] = "MIG-41b35b80-1d6f-5bb4-8b1d-3a0b1c5f0e2d"


def a_GPU_is_named_by_the_number_of_another_machine(lab: Lab) -> None:
    lab.variables["CUDA_VISIBLE_DEVICES"] = "GPU-00000000-0000-4000-8000-000000000000"


def libcuda_is_the_stub_of_a_toolkit(lab: Lab) -> None:
    lab.variables["FAKE_CUINIT_RC"] = "34"


def the_driver_was_updated_without_a_restart(lab: Lab) -> None:
    lab.variables.update(FAKE_CUINIT_RC="803", FAKE_NVML_RC="18")


def the_container_has_no_GPU(lab: Lab) -> None:
    lab.variables["FAKE_GPU_COUNT"] = "0"


def the_compatibility_library_does_not_serve_this_GPU(lab: Lab) -> None:
    lab.variables["FAKE_CUINIT_RC"] = "804"


def a_torch_without_CUDA_on_a_machine_with_a_GPU(lab: Lab) -> None:
    lab.variables["LD_LIBRARY_PATH"] = lab.variables["DRIVER_OF_THE_LAB"]
    lab.variables["FAKE_DRIVER_CUDA"] = "13.0"


def the_operating_system_keeps_this_Python_to_itself(lab: Lab) -> None:
    move_to_plain_python(lab)
    library = lab.site.parent
    (library / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=Ask apt.\n")


def move_to_plain_python(lab: Lab) -> None:
    """The same torch in a Python that is no virtual environment."""
    from tests.functional.conftest import Environment
    from tests.shapes.conftest import make_plain_python, need_plain_layout

    need_plain_layout()
    environment = Environment(make_plain_python(lab.folder / "plain"), lab.variables)
    environment.variables.pop("VIRTUAL_ENV")
    move_torch(lab.site, environment.site)
    lab.environment = environment


def move_torch(site: Path, target: Path) -> None:
    """torch, with its metadata."""
    target.mkdir(parents=True, exist_ok=True)
    for path in site.glob("torch*"):
        shutil.move(str(path), str(target / path.name))


def a_file_that_runs_at_every_start_ends_the_interpreter(lab: Lab) -> None:
    # Not sitecustomize: Debian has its own, which comes first.
    (lab.site / "ending.pth").write_text("import os; os._exit(3)\n")


def a_pth_file_of_another_encoding(lab: Lab) -> None:
    """The module site does not go on after it."""
    (lab.site / "latin.pth").write_bytes("/opt/caf\u00e9\n".encode("latin-1"))


def a_pth_file_hangs(lab: Lab) -> None:
    (lab.site / "hanging.pth").write_text("import os; os.kill(os.getpid(), 9)\n")


def the_interpreter_is_a_link_to_nowhere(lab: Lab) -> None:
    for path in lab.environment.prefix.glob("bin/python*"):
        path.unlink()
    lab.environment.executable.symlink_to(lab.folder / "gone" / "bin" / "python3")


def the_interpreter_is_no_program(lab: Lab) -> None:
    lab.environment.executable.unlink()
    lab.environment.executable.write_text("#!/nowhere/python\n")
    lab.environment.executable.chmod(0o755)


def the_disk_is_full(lab: Lab) -> None:
    cache = lab.folder / "small"
    cache.mkdir()
    mount(lab, cache, "size=1m")
    lab.variables["SAFE_INSTALL_CACHE_DIR"] = str(cache)


def mount(lab: Lab, folder: Path, options: str) -> None:
    """A small disk, until the end of the test."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    lab.stack.callback(subprocess.run, ["umount", str(folder)], check=True)


def the_disk_takes_no_more_files(lab: Lab) -> None:
    """A quota of files, as clusters have it: there is room."""
    cache = lab.folder / "small"
    cache.mkdir()
    mount(lab, cache, "size=20g,nr_inodes=2")
    (cache / "one").touch()
    lab.variables["SAFE_INSTALL_CACHE_DIR"] = str(cache)


def the_disk_of_torch_runs_no_programs(lab: Lab) -> None:
    folder = lab.torch / "lib"
    kept = lab.folder / "kept"
    folder.rename(kept)
    folder.mkdir()
    mount(lab, folder, "size=16m,noexec")
    for path in kept.iterdir():
        shutil.copy2(path, folder / path.name)


def site_packages_cannot_be_read(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.site, 0o700)


def files_of_torch_cannot_be_read(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    # Of a module the bytecode would do.
    forbid(lab.torch / "lib" / "libc10.so", 0o600)


def a_folder_of_torch_cannot_be_read(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.torch / "lib", 0o700)


def without_privileges() -> List[str]:
    """Root that may not read everything: only what is its own, or everybody's."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("files of another user need root and setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def forbid(path: Path, mode: int) -> None:
    """Another user's, and nobody else may read it."""
    os.chown(path, 65534, 65534)
    path.chmod(mode)


def a_program_runs_with_a_torch_that_was_replaced(lab: Lab) -> None:
    code = "import torch, sys; print('ready', flush=True); sys.stdin.read()"
    program = subprocess.Popen(
        [str(lab.environment.executable), "-B", "-c", code],
        env=lab.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lab.stack.callback(program.communicate)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    path = lab.torch / "lib" / "libc10.so"
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


RECIPES = rows(
    Recipe(the_driver_is_too_old, "cuda", ("535.104.05", "580"), base=CUDA),
    Recipe(the_GPU_is_hidden, "cuda", ('CUDA_VISIBLE_DEVICES is ""',), base=CUDA),
    Recipe(a_GPU_is_named_that_is_not_there, "cuda", ('is "4"',), base=CUDA),
    Recipe(
        a_MIG_instance_is_named_that_is_not_there,
        "cuda",
        ('is "MIG-41b35b80', "nvidia-smi -L"),
        base=CUDA,
    ),
    Recipe(
        a_GPU_is_named_by_the_number_of_another_machine, "cuda", ('is "GPU-00000000',), base=CUDA
    ),
    Recipe(libcuda_is_the_stub_of_a_toolkit, "cuda", ("libcuda.so.1 (error 34)",), base=CUDA),
    Recipe(the_driver_was_updated_without_a_restart, "cuda", ("of different versions",), base=CUDA),
    Recipe(the_container_has_no_GPU, "cuda", ("has no GPU",), base=CUDA),
    Recipe(the_compatibility_library_does_not_serve_this_GPU, "cuda", ("cuda-compat",), base=CUDA),
    Recipe(a_torch_without_CUDA_on_a_machine_with_a_GPU, "cuda", ("torch==2.13.0+cu130",)),
    Recipe(
        a_file_that_runs_at_every_start_ends_the_interpreter,
        "interpreter",
        ("ending.pth",),
    ),
    Recipe(a_pth_file_of_another_encoding, "interpreter", ("latin.pth",)),
    Recipe(a_pth_file_hangs, "interpreter", ("hanging.pth",)),
    Recipe(the_interpreter_is_a_link_to_nowhere, "interpreter", ("gone/bin/python3",)),
    Recipe(the_interpreter_is_no_program, "interpreter", ("cannot be started",)),
    Recipe(the_disk_is_full, "disk", ("small",)),
    Recipe(the_disk_takes_no_more_files, "disk", ("takes 0 more files",)),
    Recipe(the_disk_of_torch_runs_no_programs, "torch-import", ("noexec",)),
    Recipe(
        the_operating_system_keeps_this_Python_to_itself,
        "managed",
        ("PEP 668", "python3 -m venv"),
        severity="note",
    ),
    Recipe(
        site_packages_cannot_be_read,
        "import-path",
        ("site-packages",),
        follows=("torch-installed",),
    ),
    Recipe(
        files_of_torch_cannot_be_read,
        "records",
        ("cannot be read by this user: torch/lib/libc10.so", "chmod -R u+rwX,go+rX /"),
        follows=("torch-import",),
    ),
    Recipe(
        a_folder_of_torch_cannot_be_read,
        "records",
        ("cannot be read by this user: torch/lib/", "site-packages/torch/lib"),
        follows=("torch-import",),
    ),
    Recipe(
        a_program_runs_with_a_torch_that_was_replaced,
        "running",
        ("libc10.so", "kill "),
        severity="warning",
    ),
)
