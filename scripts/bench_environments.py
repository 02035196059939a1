"""What bench.py measures with: environments, a host of wheels, wheels made for it."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from packaging.utils import canonicalize_name

from safe_install.models import Environment
from safe_install.wheels.store import find_cache

TORCH = os.environ.get("SAFE_INSTALL_BENCH_TORCH", "torch==2.13.0")


OURS = [sys.executable, "-m", "safe_install"]


def run(args: Sequence[Any], **variables: str) -> str:
    """Run to the end; a failure ends the benchmark, because a number for it would mean nothing."""
    done = subprocess.run(
        [str(arg) for arg in args],
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(map(str, args))}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def make_environment(folder: Path, uv: Optional[str]) -> Path:
    """A virtual environment with torch, numpy and its own pip; returns its interpreter."""
    run([sys.executable, "-m", "venv", folder])
    python = folder / "bin" / "python"
    find_links = os.environ.get("PIP_FIND_LINKS", "")
    if uv:
        links = ["--find-links", find_links] if find_links else []
        run(
            [
                uv,
                "pip",
                "install",
                "-q",
                "--compile-bytecode",
                "-p",
                python,
                *links,
                f"{TORCH}+cpu" if find_links else TORCH,
                "numpy",
                "-U",
                "pip",
            ]
        )
    else:
        run([python, "-m", "pip", "install", "-q", "-U", "pip", TORCH, "numpy"])
    return python


class Host:
    """A wheel host on loopback with the page layout of data.pyg.org."""

    def __init__(self, folder: Path, wheel: Path, torch: str) -> None:
        page = folder / "whl" / f"torch-{torch}.html"
        directory = folder / "whl" / f"torch-{torch}"
        directory.mkdir(parents=True)
        shutil.copyfile(wheel, directory / wheel.name)
        quoted = torch.replace("+", "%2B")
        page.write_text(
            f'<!DOCTYPE html><html><body>\n<a href="torch-{quoted}/{wheel.name}">{wheel.name}</a><br/>\n'
        )
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.page = f"{self.url}/whl/torch-{quoted}.html"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing: the table is the output."""


def make_variants(python: Path, work: Path) -> Dict[str, Path]:
    """The same environment with an old pip (which this Python carries), a new one, and none; the
    interpreter of each."""
    variants = {}
    for label in ("old pip", "new pip", "no pip"):
        prefix = work / label.replace(" ", "-")
        variants[label] = prefix / "bin" / "python"
        if prefix.exists():
            continue
        # hard links: no installer writes through one
        run(["cp", "-al", python.parents[1], prefix])
        if label != "new pip":
            run([variants[label], "-m", "pip", "uninstall", "-q", "-y", "pip"])
        if label == "old pip":
            run([variants[label], "-m", "ensurepip"])
    return variants


def make_extension(folder: Path, name: str, environment: Environment) -> Path:
    """A wheel with a library that links torch and does nothing."""
    assert environment.torch is not None
    lib_dir, source = environment.torch.lib_dir, folder / "extension.c"
    source.write_text("int bench_extension(void) { return 1; }\n")
    library = folder / f"{name}.so"
    compile_it = ["cc", "-shared", "-fPIC", "-o", library, source, "-Wl,--no-as-needed"]
    run([*compile_it, f"-L{lib_dir}", "-ltorch_cpu", "-lc10"])
    code = (
        "import ctypes, os, torch\nctypes.CDLL(os.path.join(os.path.dirname(__file__), '_C.so'))\n"
    )
    interpreter = environment.interpreter
    tag = f"{interpreter.python_tag}-{interpreter.python_tag}-{interpreter.platform}"
    files = {f"{name}/__init__.py": code.encode(), f"{name}/_C.so": library.read_bytes()}
    return make_wheel(folder, name, "1.0", files=files, tag=tag)


def download_torch(python: Path, version: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("torch-*.whl")):
        run([python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"torch=={version}"])
    return next(folder.glob("torch-*.whl"))


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    files: Optional[Dict[str, bytes]] = None,
    tag: str = "py3-none-any",
) -> Path:
    import base64
    import hashlib
    import zipfile

    info = f"{name}-{version}.dist-info"
    purelib = "true" if tag == "py3-none-any" else "false"
    wheel = f"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: {purelib}\nTag: {tag}\n"
    files = {
        **(files or {f"{name}/__init__.py": b""}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": wheel.encode(),
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in files.items()
    ]
    files[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]) + "\n").encode()
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return path


def add_distribution(site: Path, name: str) -> None:
    """A distribution of 40 files with a RECORD."""
    package, info = site / name, site / f"{name}-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    rows = []
    for number in range(40):
        (package / f"m{number}.py").write_text("")
        rows.append(f"{name}/m{number}.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "\n".join(rows) + f"\n{name}-1.0.dist-info/METADATA,,\n{name}-1.0.dist-info/RECORD,,\n"
    )


def find_wheel(python: Path, environment: Environment, cache: Path) -> Path:
    """torch-scatter for this torch, built once into the user's own cache."""
    run([*OURS, "--python", python, "torch-scatter"])
    run([python, "-m", "pip", "uninstall", "-q", "-y", "torch-scatter"])
    from safe_install.wheels.store import WheelStore

    built = next(
        iter(
            WheelStore(find_cache(os.environ)).find(canonicalize_name("torch-scatter"), environment)
        )
    )
    target = cache / built.link.filename
    shutil.copyfile(built.link.url[len("file://") :].replace("%2B", "+"), target)
    return target
