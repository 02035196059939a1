"""On the machine with a network: everything is collected in one folder."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Mapping
from urllib.parse import unquote, urlsplit

from gpu_checking.harmful import write_harmful
from gpu_checking.processes import StepFailed, find_file, make_venv, must

SOURCE = Path(__file__).resolve().parents[2]


def prepare(folder: Path, options: argparse.Namespace) -> int:
    """Collect everything in `folder`."""
    started = time.monotonic()
    for name in ("wheels", "tool", "extension", "harmful"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    with tempfile.TemporaryDirectory() as work:
        tool = _collect_tool(folder, Path(work), env)
        torch_version = _collect_extension(folder, Path(work), tool, env, options)
    write_harmful(folder / "harmful")
    manifest = {
        "schema": 1,
        "python": platform.python_version(),
        "torch": torch_version,
        "carries_torch": not options.no_torch,
        "extension": options.extension,
        "gpu": options.gpu,
        "files": {
            str(path.relative_to(folder)): hash_file(path)
            for path in sorted(folder.glob("*/*.whl"))
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    print(
        f"{folder}: {len(manifest['files'])} wheels, {size:.0f} MiB, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 0


def hash_file(path: Path) -> str:
    """sha256; a torch is too large to be read at once."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while True:
            block = stream.read(1 << 20)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def _collect_tool(folder: Path, work: Path, env: Mapping[str, str]) -> Path:
    """safe-install, its dependencies and pip; an environment with them, for the build."""
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, source)
    for name in ("src", "wheel_index"):
        shutil.copytree(
            SOURCE / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    pip = [sys.executable, "-m", "pip"]
    must([*pip, "wheel", "--quiet", "--wheel-dir", folder / "tool", source], env=env)
    must([*pip, "download", "--quiet", "--no-deps", "--dest", folder / "tool", "pip"], env=env)
    executable = make_venv(
        sys.executable, work / "tool", find_file(folder / "tool", "pip-*.whl"), env
    )
    words = [
        "install",
        "--quiet",
        "--no-index",
        "--find-links",
        folder / "tool",
        "torch-safe-install",
    ]
    must([executable, "-m", "pip", *words], env=env)
    return executable


def _collect_extension(
    folder: Path, work: Path, tool: Path, env: Mapping[str, str], options: argparse.Namespace
) -> str:
    """The extension, compiled by safe-install for torch and the GPU; the version of that torch."""
    wheels = folder / "wheels" if not options.no_torch else work / "wheels"
    requirements = [f"torch=={options.torch}", "numpy", "setuptools<81", "wheel"]
    if not (options.no_torch and options.extension_wheel):
        print(
            f"collecting torch {options.torch} and its libraries for Python "
            f"{platform.python_version()}",
            flush=True,
        )
        must(
            [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, *requirements],
            env=env,
        )
    if options.extension_wheel:
        shutil.copy(options.extension_wheel, folder / "extension")
        return str(options.torch)
    python = make_venv(sys.executable, work / "env", find_file(folder / "tool", "pip-*.whl"), env)
    must(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--find-links",
            wheels,
            *requirements,
        ],
        env=env,
    )
    version = must([python, "-c", "import torch; print(torch.__version__)"], env=env).strip()
    print(f"compiling {options.extension} for torch {version} and GPU {options.gpu}", flush=True)
    shutil.copy(_build_extension(work, tool, python, env, options), folder / "extension")
    return version


def _build_extension(
    work: Path, tool: Path, python: Path, env: Mapping[str, str], options: argparse.Namespace
) -> str:
    """The wheel that safe-install builds of the extension. Raises StepFailed."""
    hosts = ("https://data.pyg.org", "https://wheels.astral.sh", "https://pypi.nvidia.com")
    variables = {
        **env,
        "TORCH_CUDA_ARCH_LIST": options.gpu,
        "SAFE_INSTALL_CACHE_DIR": str(work / "cache"),
        # A published wheel may be for other GPUs: nobody listens at this address.
        "SAFE_INSTALL_MIRRORS": " ".join(f"{host}=http://127.0.0.1:9" for host in hosts),
    }
    command = [
        str(tool),
        "-m",
        "safe_install",
        "--python",
        str(python),
        "install",
        options.extension,
        "--json",
    ]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    answer = json.loads(done.stdout)
    built = [step for step in answer["plan"]["steps"] if step["kind"] == "built"]
    if done.returncode != 0 or not built:
        raise StepFailed(f"{options.extension} was not built: {answer['error']}")
    return unquote(urlsplit(built[0]["url"]).path)
