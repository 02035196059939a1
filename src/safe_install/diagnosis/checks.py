"""The table of checks of `doctor`. A check comes after those it needs. docs/doctor.md has a section
for each."""

from __future__ import annotations

from functools import partial
from typing import Mapping, Tuple

from safe_install.diagnosis import (
    environment_checks,
    machine_checks,
    record_checks,
    shell_checks,
    torch_checks,
)
from safe_install.diagnosis.run import Check

STARTS = "interpreter"
TORCH_THERE = "torch-installed"
TORCH_IMPORTS = "torch-import"

CHECKS: Tuple[Check, ...] = (
    Check(
        STARTS,
        "the interpreter starts, and what runs at its start does not end it",
        environment_checks.check_interpreter,
    ),
    Check(
        "programs",
        "python and pip on PATH are those of the active environment",
        environment_checks.check_programs,
        (STARTS,),
    ),
    Check(
        "import-path",
        "PYTHONPATH, the user site and other folders hide nothing that is installed here",
        environment_checks.check_import_path,
        (STARTS,),
    ),
    Check(
        "startup-files",
        "no .pth file and no sitecustomize fails at every start of this Python",
        environment_checks.check_startup_files,
        (STARTS,),
        asks_import=True,
    ),
    Check(
        "metadata",
        "each distribution is recorded once, and can be read",
        environment_checks.check_metadata,
        (STARTS,),
    ),
    Check(
        "interrupted-pip",
        "no pip was interrupted while it replaced something (~orch)",
        partial(environment_checks.check_found, "interrupted-pip"),
        (STARTS,),
    ),
    Check(
        "interrupted-change",
        "no change of safe-install was killed in the middle",
        environment_checks.check_interrupted_change,
        (STARTS,),
    ),
    Check(
        "records",
        "recorded files are there, and as they were installed",
        record_checks.check_records,
        (STARTS,),
    ),
    Check(
        "wheel-tags",
        "installed wheels were made for this Python and this machine",
        record_checks.check_wheel_tags,
        (STARTS,),
    ),
    Check(
        "requirements",
        "what is installed has what it requires",
        torch_checks.check_requirements,
        (STARTS,),
    ),
    Check(
        "managed",
        "this user may install into this Python (PEP 668, folders that can be written)",
        environment_checks.check_managed,
        (STARTS,),
    ),
    Check(
        TORCH_THERE,
        "torch is installed, whole",
        torch_checks.check_installed,
        (STARTS,),
    ),
    Check(
        "torch-version",
        "torch's files and its metadata are of the same version",
        torch_checks.check_version,
        (TORCH_THERE,),
    ),
    Check(
        "torch-origin",
        "the torch that is imported is the installed one, in every folder",
        partial(environment_checks.check_found, "torch-origin"),
        (TORCH_THERE,),
        asks_import=True,
    ),
    Check(
        "companions",
        "torchvision, torchaudio and torchtext are of torch's build",
        torch_checks.check_companions,
        (TORCH_THERE,),
    ),
    Check(
        "compiler",
        "there is one triton",
        torch_checks.check_compiler,
        (TORCH_THERE,),
    ),
    Check(
        "libraries",
        "the CUDA libraries that torch requires are there, in its versions",
        torch_checks.check_libraries,
        (TORCH_THERE,),
    ),
    Check(
        "library-path",
        "LD_LIBRARY_PATH puts nothing in front of torch's own libraries",
        torch_checks.check_library_path,
        (TORCH_THERE,),
    ),
    Check(
        "numpy",
        "torch can use the numpy that is here",
        torch_checks.check_numpy,
        (TORCH_THERE,),
    ),
    Check(
        "conda",
        "conda and pip did not write over each other",
        machine_checks.check_conda,
        (STARTS,),
    ),
    Check(
        "variables",
        "no variable of the shell keeps torch from importing",
        shell_checks.check_variables,
        (TORCH_THERE,),
        asks_import=True,
    ),
    Check(
        "working-folder",
        "no file of the working folder hides a module that torch imports",
        shell_checks.check_working_folder,
        (TORCH_THERE,),
        asks_import=True,
    ),
    Check(
        TORCH_IMPORTS,
        "`import torch` works in a fresh process",
        torch_checks.check_imports,
        (TORCH_THERE,),
        asks_import=True,
    ),
    Check(
        "torch-computes",
        "torch computes, and takes arrays of numpy",
        torch_checks.check_computes,
        (TORCH_IMPORTS, "numpy"),
        asks_import=True,
    ),
    Check(
        "cuda",
        "torch can use the driver and the GPUs that are here",
        partial(environment_checks.check_found, "cuda"),
        (TORCH_IMPORTS,),
        asks_import=True,
    ),
    Check(
        "extension-files",
        "the files of installed extensions fit this torch (read, not loaded)",
        torch_checks.check_extension_files,
        (TORCH_THERE,),
    ),
    Check(
        "extension-imports",
        "installed extensions import and compute",
        torch_checks.check_extensions,
        (TORCH_IMPORTS,),
        asks_import=True,
    ),
    Check(
        "extension-gpu-code",
        "installed extensions have code for CUDA and for the GPUs that are here",
        partial(environment_checks.check_found, "extension-gpu-code"),
        (TORCH_THERE,),
    ),
    Check(
        "jit-builds",
        "what torch.utils.cpp_extension has compiled and keeps fits this torch, and is not locked",
        partial(environment_checks.check_found, "jit-builds"),
        (TORCH_THERE,),
    ),
    Check(
        "toolkit",
        "the CUDA toolkit here is of torch's CUDA",
        machine_checks.check_toolkit,
        (TORCH_THERE,),
    ),
    Check(
        "pip-settings",
        "pip's settings bring no other torch, and name nothing that is gone",
        machine_checks.check_pip_settings,
        (STARTS,),
    ),
    Check(
        "network",
        "proxies, indexes and certificates that the settings name are there",
        shell_checks.check_network,
        (STARTS,),
    ),
    Check(
        "pip-cache",
        "pip's cache holds no extension that was built for some torch",
        machine_checks.check_pip_cache,
        (STARTS,),
    ),
    Check(
        "lock-file",
        "no other tool keeps this environment by a lock file",
        machine_checks.check_lock_file,
        (STARTS,),
    ),
    Check("disk", "there is room for an install", machine_checks.check_room),
    Check(
        "running",
        "no running program has replaced files in memory",
        environment_checks.check_running,
        (STARTS,),
    ),
)
BY_NAME: Mapping[str, Check] = {check.name: check for check in CHECKS}
