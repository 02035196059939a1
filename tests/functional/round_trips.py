"""Environments made again from what was written down: by pip, by uv, by `sync`, and by a bundle where
there is no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import pytest

from safe_install.environment.record import read_record
from tests.functional.conftest import (
    Environment,
    find_python,
    run_process,
    run_safe_install,
)

# In a chroot no user may have another user namespace; root needs none.
WITHOUT_NETWORK = ("unshare", "--net", *(("--map-root-user",) if os.geteuid() else ()))
NOT_OF_THE_WHEEL = (
    "RECORD",
    "INSTALLER",
    "REQUESTED",
    "direct_url.json",
    "uv_cache.json",
    "uv_build.json",
)
# What makes an environment, and is in most before anything is installed.
TOOLS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack")

Contents = Mapping[Tuple[str, str], Mapping[str, str]]


def contents(site: Path) -> Contents:
    """{(distribution, version): {path: hash}} of what the wheels brought."""
    found = {}
    for folder in site.glob("*.dist-info"):
        name, _, version = folder.name[: -len(".dist-info")].rpartition("-")
        if name not in TOOLS:
            found[name, version] = _files_of(folder)
    return found


def _files_of(folder: Path) -> Dict[str, str]:
    """As RECORD has them, less bytecode, and scripts, which name their interpreter. RECORDs of old
    torches list another METADATA than they have; `safe-install` writes down what there is."""
    found = {}
    for entry in read_record(folder):
        is_written_anew = entry.path.rpartition("/")[2] in NOT_OF_THE_WHEEL
        is_of_this_place = entry.path.endswith(".pyc") or entry.path.startswith("..")
        if not is_written_anew and not is_of_this_place:
            found[entry.path] = entry.hash
    metadata = f"{folder.name}/METADATA"
    found[metadata] = hashlib.sha256((folder / "METADATA").read_bytes()).hexdigest()
    return found


def must(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """A process that has to succeed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def bare_environment(
    prefix: Path, variables: Mapping[str, str], python: str = "3.11"
) -> Environment:
    """A new one, without pip."""
    interpreter = find_python(python)
    if interpreter is None:
        pytest.skip(f"no Python {python} here")
    subprocess.run([interpreter, "-m", "venv", "--without-pip", str(prefix)], check=True)
    return Environment(prefix, variables)


PIP_NEEDS = (3, 10)  # the Python of the pips that read lock files


def our_pip() -> List[str]:
    """The pip beside the tests, which reads lock files from 26.1 on."""
    done = run_process([sys.executable, "-m", "pip", "--version"], os.environ)
    version = tuple(int(part) for part in done.stdout.split()[1].split(".")[:2])
    if version < (26, 1):
        pytest.skip("the pip beside the tests reads no lock files")
    return [sys.executable, "-m", "pip"]


def uv() -> List[str]:
    """The uv beside the tests, else one on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which("uv", path=path)
    if found is None:
        pytest.skip("no uv here")
    return [found]


def by_pip(environment: Environment, document: Path, *words: str) -> None:
    """`pip install -r`; of an old Python, that which comes with it."""
    python = str(environment.executable)
    if environment.ask(f"import sys; print(sys.version_info >= {PIP_NEEDS})") == "True":
        pip = [*our_pip(), "--python", python]
    else:
        must(run_process([python, "-m", "ensurepip"], environment.variables))
        pip = [python, "-m", "pip"]
    command = [*pip, "install", "-r", document.name, *words]
    must(run_process(command, environment.variables, cwd=document.parent))


def by_uv(environment: Environment, document: Path) -> None:
    """`uv pip sync`, `uv pip install -r`."""
    verb = ["sync"] if document.suffix == ".toml" else ["install", "-r"]
    # uv is handed the index by its own variable.
    variables = {**environment.variables, "UV_NO_CONFIG": "1"}
    if "PIP_INDEX_URL" in variables:
        variables["UV_DEFAULT_INDEX"] = variables["PIP_INDEX_URL"]
    command = [*uv(), "pip", *verb, document.name, "--python", str(environment.executable)]
    must(run_process(command, variables, cwd=document.parent))


def by_sync(environment: Environment, document: Path) -> None:
    """`safe-install sync`."""
    must(_safe_install(environment, ["sync", document.name], document.parent))


def by_bundle(environment: Environment, document: Path) -> None:
    """`safe-install bundle -r`, for an environment such as this; and its install without network."""
    path = document.parent / "FILE.zip"
    words = ["bundle", "-r", document.name, "-o", str(path)]
    must(_safe_install(environment, words, document.parent))
    command = [*WITHOUT_NETWORK, str(environment.executable), str(path)]
    command += ["--python", str(environment.executable), "install"]
    must(run_process(command, environment.variables, cwd=environment.prefix))


def _safe_install(
    environment: Environment, words: Sequence[str], folder: Path
) -> subprocess.CompletedProcess[str]:
    argv = ["--python", str(environment.executable), *words]
    return run_safe_install(argv, environment.variables, cwd=folder)


LOCK, REQUIREMENTS = "pylock.toml", "requirements.txt"
WAYS: Mapping[str, Tuple[str, Callable[[Environment, Path], None]]] = {
    "pylock-pip": (LOCK, by_pip),
    "pylock-uv": (LOCK, by_uv),
    "pylock-sync": (LOCK, by_sync),
    "requirements-pip": (REQUIREMENTS, by_pip),
    "requirements-uv": (REQUIREMENTS, by_uv),
    "requirements-sync": (REQUIREMENTS, by_sync),
    "requirements-bundle": (REQUIREMENTS, by_bundle),
}
