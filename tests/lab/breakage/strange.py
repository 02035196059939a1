"""What nobody expects in an environment: something else in the place of a file, records that an
editor or a transfer has changed, settings that are none."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.lab.breakage.outside import forbid, without_privileges
from tests.lab.breakage.recipe import Lab, Recipe, replace, rows
from tests.lab.breakage.shell import BY_ANOTHER_PYTHON

AGAIN = "--force-reinstall --no-deps torch==2.13.0+cpu"


def a_folder_in_the_place_of_a_library(lab: Lab) -> None:
    put_folder(lab.torch / "lib" / "libc10.so")


def a_folder_in_the_place_of_a_module(lab: Lab) -> None:
    put_folder(lab.torch / "__init__.py")


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_page_of_a_host_in_the_place_of_a_library(lab: Lab) -> None:
    """As a download by hand leaves it."""
    replace(lab.torch / "lib" / "libc10.so", b"<!DOCTYPE html><title>404</title>" * 20)


def a_library_that_is_a_link_to_nowhere(lab: Lab) -> None:
    """As a copy leaves it that follows no links, of a tree that is made of them."""
    path = lab.torch / "lib" / "libc10.so"
    path.unlink()
    path.symlink_to("/nowhere/libc10.so")


def the_version_of_torch_is_no_Python(lab: Lab) -> None:
    replace(lab.torch / "version.py", b"__version__ = '2.13.0+cpu\n")


def bytecode_that_is_never_compared(lab: Lab) -> None:
    """As images have it (PEP 552, unchecked-hash): a module was edited, and its bytecode stays."""
    source = lab.folder / "old.py"
    source.write_text("raise ImportError('of the day before')\n")
    (lab.torch / "__pycache__").mkdir(exist_ok=True)
    made = lab.environment.ask(
        f"import importlib.util as u; print(u.cache_from_source({str(lab.torch / '__init__.py')!r}))"
    )
    lab.environment.ask(
        "import py_compile as p;"
        f"p.compile({str(source)!r}, cfile={made!r},"
        " invalidation_mode=p.PycInvalidationMode.UNCHECKED_HASH)"
    )


# --- metadata -------------------------------------------------------------------------------------


def edit(path: Path, pattern: str, text: str) -> None:
    replace(path, re.sub(pattern, text, path.read_text()).encode())


def an_empty_RECORD(lab: Lab) -> None:
    """As a disk that was full leaves it."""
    replace(lab.info("torch") / "RECORD", b"")


def a_RECORD_of_two_columns(lab: Lab) -> None:
    edit(lab.info("torch") / "RECORD", "(?m),[^,]*$", "")


def a_RECORD_of_another_place(lab: Lab) -> None:
    """As an installer writes it that records whole paths, in an environment that was moved."""
    edit(lab.info("torch") / "RECORD", "(?m)^(?=.)", "/where/it/was/")


def a_RECORD_with_a_size_that_is_no_number(lab: Lab) -> None:
    edit(lab.info("torch") / "RECORD", r"(?m)^(torch/version.py,[^,]*),.*$", rf"\1,{'9' * 6000}")


def a_METADATA_with_a_version_that_is_none(lab: Lab) -> None:
    edit(lab.info("torch") / "METADATA", "(?m)^Version:.*$", "Version: latest and greatest")


def a_METADATA_of_another_name(lab: Lab) -> None:
    edit(lab.info("torch") / "METADATA", "(?m)^Name:.*$", "Name: touch")


def metadata_once_more_in_capital_letters(lab: Lab) -> None:
    """As a copy from a disk leaves it that takes both for the same name."""
    info = lab.info("torch")
    shutil.copytree(info, info.with_name(info.name.replace("torch", "Torch")))


def METADATA_of_torch_cannot_be_read(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.info("torch") / "METADATA", 0o600)


# --- the interpreter ------------------------------------------------------------------------------


def the_interpreter_may_not_be_executed(lab: Lab) -> None:
    """As a copy to a disk without rights and back leaves it."""
    executable = lab.environment.executable
    content = Path(os.path.realpath(executable)).read_bytes()
    executable.unlink()
    executable.write_bytes(content)
    executable.chmod(0o644)


def the_folder_of_the_interpreter_cannot_be_read(lab: Lab) -> None:
    lab.prefix_words += without_privileges()
    forbid(lab.environment.prefix / "bin", 0o700)


def a_pyvenv_cfg_that_is_no_text(lab: Lab) -> None:
    (lab.environment.prefix / "pyvenv.cfg").write_bytes(b"\xff\xfeh\0o\0m\0e\0")


def PYTHONHASHSEED_that_is_no_number(lab: Lab) -> None:
    lab.variables["PYTHONHASHSEED"] = "random-seed"
    lab.prefix_words += BY_ANOTHER_PYTHON


def PYTHONIOENCODING_that_nobody_knows(lab: Lab) -> None:
    lab.variables["PYTHONIOENCODING"] = "utf-eight"
    lab.prefix_words += BY_ANOTHER_PYTHON


RECIPES = rows(
    Recipe(
        a_folder_in_the_place_of_a_library,
        "records",
        ("not as installed: torch/lib/libc10.so", AGAIN),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        a_folder_in_the_place_of_a_module,
        "records",
        ("not as installed: torch/__init__.py", AGAIN),
        follows=("torch-import", "torch-origin"),
        mends=True,
    ),
    Recipe(
        a_page_of_a_host_in_the_place_of_a_library,
        "records",
        ("not as installed: torch/lib/libc10.so", AGAIN),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        a_library_that_is_a_link_to_nowhere,
        "records",
        ("is gone: torch/lib/libc10.so", AGAIN),
        follows=("torch-import",),
        mends=True,
    ),
    Recipe(
        the_version_of_torch_is_no_Python,
        "torch-installed",
        ("version.py", "--force-reinstall torch==2.13.0+cpu"),
    ),
    Recipe(
        bytecode_that_is_never_compared,
        "torch-import",
        ("of the day before", AGAIN),
        mends=True,
    ),
    Recipe(
        an_empty_RECORD,
        "records",
        ("RECORD lists no file", "torch==2.13.0+cpu"),
        severity="warning",
        mends=True,
    ),
    Recipe(
        a_RECORD_of_two_columns,
        "records",
        ("RECORD lists no file", "torch==2.13.0+cpu"),
        severity="warning",
        mends=True,
    ),
    Recipe(a_RECORD_of_another_place, "records", ("/where/it/was/torch", AGAIN), mends=True),
    Recipe(
        a_RECORD_with_a_size_that_is_no_number,
        "records",
        ("torch/version.py", AGAIN),
        severity="warning",
        mends=True,
    ),
    Recipe(
        a_METADATA_with_a_version_that_is_none,
        "metadata",
        ("a valid version", "rm -r /", AGAIN),
        severity="warning",
        follows=("torch-installed",),
        mends=True,
    ),
    Recipe(
        a_METADATA_of_another_name,
        "torch-installed",
        ("without metadata",),
    ),
    Recipe(
        METADATA_of_torch_cannot_be_read,
        "torch-installed",
        ("cannot be read by this user: torch counts as not installed", "chmod"),
    ),
    Recipe(
        the_interpreter_may_not_be_executed,
        "interpreter",
        ("it may not be executed", "chmod +x /"),
        mends=True,
    ),
    Recipe(
        the_folder_of_the_interpreter_cannot_be_read,
        "interpreter",
        ("may not be looked at", "Run as the user that owns it"),
    ),
    Recipe(
        a_pyvenv_cfg_that_is_no_text,
        "interpreter",
        ("pyvenv.cfg is no text", "-m venv --without-pip"),
        mends=True,
    ),
    Recipe(
        PYTHONHASHSEED_that_is_no_number,
        "interpreter",
        ("PYTHONHASHSEED is random-seed", "unset PYTHONHASHSEED"),
        mends=True,
    ),
    Recipe(
        PYTHONIOENCODING_that_nobody_knows,
        "interpreter",
        ("PYTHONIOENCODING is utf-eight", "unset PYTHONIOENCODING"),
        mends=True,
    ),
    Recipe(
        metadata_once_more_in_capital_letters,
        "metadata",
        ("recorded twice", "2.13.0+cpu and 2.13.0+cpu"),
    ),
)
