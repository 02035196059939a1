"""pip's settings and cache, conda, the operating system, lock files of other tools."""

from __future__ import annotations

import json

from tests.lab.breakage.recipe import Lab, Recipe, rows


def pip_is_told_of_a_folder_that_is_gone(lab: Lab) -> None:
    write_pip_settings(lab, f"find-links = {lab.folder}/gone\n")
    lab.variables.pop("PIP_FIND_LINKS")


def pip_cannot_read_its_settings(lab: Lab) -> None:
    """As a line is pasted into them."""
    write_pip_settings(lab, "index-url = one\nindex-url = two\n")


def pip_is_told_of_another_CUDA(lab: Lab) -> None:
    write_pip_settings(lab, "extra-index-url = https://download.pytorch.org/whl/cu126\n")


def pip_installs_elsewhere(lab: Lab) -> None:
    lab.variables["PIP_TARGET"] = str(lab.folder / "elsewhere")


def pip_has_a_wheel_that_was_built_for_some_torch(lab: Lab) -> None:
    folder = lab.folder / "home" / ".cache" / "pip" / "wheels" / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    (folder / "torch_scatter-2.1.2-cp311-cp311-linux_x86_64.whl").write_bytes(b"PK")


def write_pip_settings(lab: Lab, line: str) -> None:
    path = lab.folder / "pip.conf"
    path.write_text(f"[global]\n{line}")
    lab.variables["PIP_CONFIG_FILE"] = str(path)


def conda_has_an_MKL_that_is_too_new(lab: Lab) -> None:
    write_conda(lab, "pytorch", "2.3.0")
    write_conda(lab, "mkl", "2024.1.0")
    for path in (lab.torch / "version.py", lab.info("torch") / "METADATA"):
        path.write_text(path.read_text().replace("2.13.0+cpu", "2.3.0"))
    lab.info("torch").rename(lab.site / "torch-2.3.0.dist-info")


def pip_wrote_over_the_torch_of_conda(lab: Lab) -> None:
    write_conda(lab, "pytorch", "2.5.1")


def write_conda(lab: Lab, name: str, version: str) -> None:
    folder = lab.environment.prefix / "conda-meta"
    folder.mkdir(exist_ok=True)
    (folder / "history").write_text("")
    value = {"name": name, "version": version, "build": "py311_0", "files": []}
    (folder / f"{name}-{version}-py311_0.json").write_text(json.dumps(value))


def uv_keeps_the_environment_by_its_lock_file(lab: Lab) -> None:
    (lab.folder / "uv.lock").write_text("version = 1\n")
    (lab.folder / "pyproject.toml").write_text("[project]\nname = 'app'\nversion = '1'\n")
    lab.environment.prefix.rename(lab.folder / ".venv")
    lab.environment.prefix = lab.folder / ".venv"
    lab.environment.executable = lab.folder / ".venv" / "bin" / "python"
    lab.variables["VIRTUAL_ENV"] = str(lab.folder / ".venv")


def poetry_keeps_the_environment_by_its_lock_file(lab: Lab) -> None:
    uv_keeps_the_environment_by_its_lock_file(lab)
    (lab.folder / "uv.lock").rename(lab.folder / "poetry.lock")


RECIPES = rows(
    Recipe(pip_is_told_of_a_folder_that_is_gone, "pip-settings", ("/gone",), severity="warning"),
    Recipe(
        pip_cannot_read_its_settings,
        "pip-settings",
        ("pip does not start with its settings in", "already exists"),
        severity="warning",
    ),
    Recipe(pip_is_told_of_another_CUDA, "pip-settings", ("cu126",), severity="warning"),
    Recipe(pip_installs_elsewhere, "pip-settings", ("PIP_TARGET",), severity="warning"),
    Recipe(
        pip_has_a_wheel_that_was_built_for_some_torch,
        "pip-cache",
        ("torch-scatter 2.1.2", "pip cache remove"),
        severity="note",
    ),
    Recipe(conda_has_an_MKL_that_is_too_new, "conda", ("iJIT_NotifyEvent", "'mkl<2024.1'")),
    Recipe(pip_wrote_over_the_torch_of_conda, "conda", ("pytorch 2.5.1",)),
    Recipe(uv_keeps_the_environment_by_its_lock_file, "lock-file", ("uv.lock",), severity="note"),
    Recipe(
        poetry_keeps_the_environment_by_its_lock_file,
        "lock-file",
        ("poetry.lock",),
        severity="note",
    ),
)
