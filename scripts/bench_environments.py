"""What bench.py measures with: environments, a host of wheels, wheels made for it."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from packaging.utils import canonicalize_name

from safe_install.models import Environment
from safe_install.wheels.store import find_cache

TORCH = os.environ.get("SAFE_INSTALL_BENCH_TORCH", "torch==2.13.0")


OURS = [sys.executable, "-m", "safe_install"]


def child_variables() -> Dict[str, str]:
    """The variables of what is measured: with the one that is left out, whatever is not compiled
    would be compiled again by every process."""
    variables = dict(os.environ)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def run(args: Sequence[Any], **variables: str) -> str:
    """Run to the end; a failure ends the benchmark, because a number for it would mean nothing."""
    done = subprocess.run(
        [str(arg) for arg in args],
        env={**child_variables(), **variables},
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


def compile_ourselves() -> None:
    """An installed program is compiled; a checkout may not be."""
    for package in ("safe_install", "typer", "rich", "requests", "packaging", "resolvelib"):
        found = importlib.util.find_spec(package)
        assert found is not None
        for folder in found.submodule_search_locations or ():
            run([sys.executable, "-m", "compileall", "-q", folder])


def copy_environment(prefix: Path, target: Path, *, links: bool = False) -> None:
    """The same environment at another place, which is emptied first. `links`: hard ones; no
    installer writes through one."""
    shutil.rmtree(target, ignore_errors=True)
    run(["cp", "-al" if links else "-a", prefix, target])
    # uv's lock, which would be the same file in both
    for lock in target.glob(".lock"):
        lock.unlink()


class Host:
    """A wheel host on loopback with the page layout of data.pyg.org; `wheel`: what it has for this
    torch, None for nothing."""

    def __init__(self, folder: Path, wheel: Optional[Path], torch: str) -> None:
        page = folder / "whl" / f"torch-{torch}.html"
        directory = folder / "whl" / f"torch-{torch}"
        directory.mkdir(parents=True)
        quoted = torch.replace("+", "%2B")
        link = ""
        if wheel is not None:
            shutil.copyfile(wheel, directory / wheel.name)
            link = f'<a href="torch-{quoted}/{wheel.name}">{wheel.name}</a><br/>'
        page.write_text(f"<!DOCTYPE html><html><body>\n{link}\n")
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
        copy_environment(python.parents[1], prefix, links=True)
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
    info = f"{name}-{version}.dist-info"
    purelib = "true" if tag == "py3-none-any" else "false"
    wheel = f"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: {purelib}\nTag: {tag}\n"
    files = {
        **(files or {f"{name}/__init__.py": b""}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": wheel.encode(),
    }
    rows = [
        f"{path},sha256={_encode(hashlib.sha256(data).digest())},{len(data)}"
        for path, data in files.items()
    ]
    files[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]) + "\n").encode()
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return path


def make_big_wheel(folder: Path, size: int) -> Path:
    """A wheel with one file of so many bytes, in pieces: it is never in memory."""
    path = folder / "big-1.0-py3-none-any.whl"
    block = os.urandom(1 << 20) * 16
    digest = hashlib.sha256()
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("big/data.bin", "w", force_zip64=True) as member:
            for _ in range(size // len(block)):
                member.write(block)
                digest.update(block)
        names = {
            "METADATA": "Metadata-Version: 2.1\nName: big\nVersion: 1.0\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        }
        rows = [f"big/data.bin,sha256={_encode(digest.digest())},{size // len(block) * len(block)}"]
        for name, text in names.items():
            archive.writestr(f"big-1.0.dist-info/{name}", text)
            sha256 = hashlib.sha256(text.encode()).digest()
            rows.append(f"big-1.0.dist-info/{name},sha256={_encode(sha256)},{len(text)}")
        rows.append("big-1.0.dist-info/RECORD,,")
        archive.writestr("big-1.0.dist-info/RECORD", "\n".join(rows) + "\n")
    return path


def _encode(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


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
