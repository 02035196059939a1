"""Environments with a real CUDA torch from the package index, made once and kept: the stacks of the
CUDA lab.

    python -m tests.lab.stacks [STACK]      makes one, or all, in the cache; prints where they are

A template is never changed. A test gets a copy of hard links (`copy_environment`), and nothing may
write through one. Where the NVIDIA libraries are stand-ins, they are installed as distributions
with the names, versions and files that torch's metadata and run paths expect: pip sees nothing
unusual, and 2.5 GB are not downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import platformdirs
from filelock import FileLock

from tests.lab.stub_libraries import missing_libraries, read_wanted, write_stub
from tests.lab.wheels import write_wheel

CACHE_VARIABLE = "SAFE_INSTALL_LAB_CACHE"
READY_VARIABLE = "SAFE_INSTALL_LAB_ENVIRONMENTS"
FIND_LINKS_VARIABLE = "SAFE_INSTALL_LAB_FIND_LINKS"
A_DAY = 24 * 3600
KNOWN_FOLDERS = ("/opt/wheels", "/opt/pypi/files", "/opt/pypi-more/files")


class NotPossible(Exception):
    """A stack cannot be made here; the text says why."""


@dataclass(frozen=True)
class Stack:
    """A torch of the package index and the Pythons that its wheels are for, the preferred one
    first."""

    torch: str  # torch.__version__
    pythons: Tuple[str, ...]
    requirements: Tuple[str, ...]
    gigabytes: float  # free disk that making it needs
    stand_ins: bool = False

    def name(self, python: str) -> str:
        """The folder's name: "torch2.12.1+cu130-py311"."""
        kind = "-standins" if self.stand_ins else ""
        return f"torch{self.torch}-py{python.replace('.', '')}{kind}"


TOOLS = ("setuptools==80.9.0", "wheel")
RUNNING = "{}.{}".format(*sys.version_info[:2])
MODERN = ("3.11", "3.12", "3.13", "3.10", "3.14")  # the Pythons of torch 2.14.1's wheels
# The one of every CI run: made for the Python that runs the tests, when there is a wheel for it.
SMALL = Stack(
    "2.14.1+cu130",
    tuple(sorted(MODERN, key=lambda version: version != RUNNING)),
    ("torch==2.14.1", "numpy", *TOOLS),
    gigabytes=4,
    stand_ins=True,
)
CPU = Stack("2.13.0+cpu", SMALL.pythons, ("torch==2.13.0+cpu", "numpy"), gigabytes=2)
# The long suite: the founding story's torch, the last with a static libcudart, and two of the
# present.
STACKS = {
    stack.torch: stack
    for stack in (
        Stack("1.8.1+cu102", ("3.8",), ("torch==1.8.1", "numpy<1.25"), gigabytes=6),
        Stack(
            "1.13.1+cu117",
            ("3.10",),
            ("torch==1.13.1", "numpy<2", "setuptools==69.5.1", "wheel"),
            gigabytes=8,
        ),
        Stack(
            "2.9.1+cu128",
            ("3.11", "3.12", "3.13", "3.10"),
            ("torch==2.9.1", "numpy", *TOOLS),
            gigabytes=14,
        ),
        Stack(
            "2.12.1+cu130",
            ("3.11", "3.12", "3.13", "3.10"),
            ("torch==2.12.1", "numpy", *TOOLS),
            gigabytes=10,
        ),
    )
}


# --- where ----------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """What is kept from one run of the tests to the next: templates, and wheels that were built."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_cache_dir("safe-install-lab"))


def find_links() -> List[str]:
    """Folders with wheels that need no download, where this machine has any."""
    named = os.environ.get(FIND_LINKS_VARIABLE)
    folders = named.split() if named is not None else KNOWN_FOLDERS
    return [folder for folder in folders if Path(folder).is_dir()]


def find_uv() -> str:
    """uv, of the extra `test` or on PATH."""
    own = Path(sys.executable).parent / "uv"
    found = str(own) if own.is_file() else shutil.which("uv")
    if found is None:
        raise NotPossible("uv was not found (pip install uv)")
    return found


def find_python(versions: Sequence[str]) -> Tuple[str, str]:
    """The first of these versions that is here, and its interpreter."""
    for version in versions:
        if version == RUNNING:
            return version, base_python()
        pyenv = sorted(
            Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}")
        )
        for candidate in (*map(str, reversed(pyenv)), shutil.which(f"python{version}")):
            if candidate and _version_of(candidate) == version:
                return version, candidate
    raise NotPossible(f"no Python {' or '.join(versions)} was found")


def base_python() -> str:
    """The interpreter that the running virtual environment was made with: a template is the same
    for every checkout."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _version_of(executable: str) -> str:
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([executable, "-c", question], capture_output=True, text=True, check=False)
    return done.stdout.strip()


# --- a template -----------------------------------------------------------------------------------


def find_template(stack: Stack) -> Path:
    """The stack's environment: a ready one that a variable names, the cache's, or a new one.
    Errors: NotPossible."""
    version, python = find_python(stack.pythons)
    ready = os.environ.get(READY_VARIABLE)
    if ready and not stack.stand_ins:
        folder = Path(ready) / stack.name(version)
        if folder.is_dir():
            return folder
    folder = cache_folder() / "environments" / f"{stack.name(version)}-{_key(stack, python)}"
    done = folder.with_name(f"{folder.name}.done")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            _make_room(folder, stack)
            _make_template(stack, version, python, folder)
            done.touch()
    return folder


def _key(stack: Stack, python: str) -> str:
    """Changes with the interpreter and with how the template is made."""
    recipe = [Path(__file__), Path(__file__).with_name("stub_libraries.py")]
    parts = [
        python,
        sys.version if python == base_python() else "",
        repr(stack),
        *(one.read_text() for one in recipe),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _make_room(folder: Path, stack: Stack) -> None:
    """Removes what an interrupted run left, and templates of older recipes, then looks at the
    disk."""
    shutil.rmtree(folder, ignore_errors=True)
    older = re.compile(re.escape(folder.name.rsplit("-", 1)[0]) + r"-[0-9a-f]{8}\.done")
    for done in folder.parent.glob("*.done"):
        # Another checkout may have a use for a young one.
        if older.fullmatch(done.name) and time.time() - done.stat().st_mtime > A_DAY:
            done.unlink()
            shutil.rmtree(done.with_suffix(""), ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < stack.gigabytes:
        raise NotPossible(
            f"{folder.parent} has {free:.0f} GB free, torch {stack.torch} needs "
            f"{stack.gigabytes:.0f}"
        )


def _make_template(stack: Stack, version: str, python: str, folder: Path) -> None:
    uv = find_uv()
    _run([uv, "venv", "--quiet", "--seed", "--python", python, str(folder)])
    links = [word for path in find_links() for word in ("--find-links", path)]
    if stack.torch.endswith("+cpu"):
        links += (
            ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
            if not _has_wheel(stack)
            else []
        )
    install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *links]
    if stack.stand_ins:
        _install_with_stand_ins(stack, version, folder, install, links)
    else:
        _run([*install, *stack.requirements])
    # Bytecode of what an import loads is written once, here, and shared by all copies: without it
    # an import takes more than twice as long.
    imports = [
        str(folder / "bin" / "python"),
        "-c",
        "import numpy, torch; print(torch.__version__)",
    ]
    found = _run(imports).strip()
    if found != stack.torch:
        raise NotPossible(f"the package index gave torch {found}, not {stack.torch}")
    if not list(folder.glob("lib/python3*/site-packages/torch/__pycache__/*.pyc")):
        raise NotPossible(f"{folder} has no bytecode of torch")


def _has_wheel(stack: Stack) -> bool:
    version = stack.torch.replace("+", "%2B"), stack.torch
    return any(
        list(Path(folder).glob(f"torch-{spelled}-*.whl"))
        for folder in find_links()
        for spelled in version
    )


def _run(command: Sequence[str], **options: object) -> str:
    """A step of the making; what it printed. Variables of another environment do not reach it, nor
    one that keeps the bytecode from being written."""
    foreign = ("VIRTUAL_ENV", "CONDA_PREFIX", "LD_PRELOAD")
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and not name.startswith("PYTHON")
    }
    done = subprocess.run(
        list(command), env=env, capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["no output"]
        raise NotPossible(
            f"{Path(command[0]).name} {command[1]} failed: {' / '.join(lines[-4:])[-400:]}"
        )
    return str(done.stdout)


# --- NVIDIA's libraries as stand-ins --------------------------------------------------------------

# The start of a library's name -> the distribution that has it, and the folder of torch's run path.
CUDA13_LIBRARIES: Mapping[str, Tuple[str, str]] = {
    "libcublas": ("nvidia-cublas", "nvidia/cu13/lib"),
    "libcudnn": ("nvidia-cudnn-cu13", "nvidia/cudnn/lib"),
    "libcufft": ("nvidia-cufft", "nvidia/cu13/lib"),
    "libcurand": ("nvidia-curand", "nvidia/cu13/lib"),
    "libcusolver": ("nvidia-cusolver", "nvidia/cu13/lib"),
    "libcusparse.": ("nvidia-cusparse", "nvidia/cu13/lib"),
    "libcusparseLt": ("nvidia-cusparselt-cu13", "nvidia/cusparselt/lib"),
    "libnccl": ("nvidia-nccl-cu13", "nvidia/nccl/lib"),
    "libnvrtc": ("nvidia-cuda-nvrtc", "nvidia/cu13/lib"),
    "libnvJitLink": ("nvidia-nvjitlink", "nvidia/cu13/lib"),
    "libnvshmem": ("nvidia-nvshmem-cu13", "nvidia/nvshmem/lib"),
}
# What the check asks of triton, and nothing else.
TRITON = "def cdiv(x, y):\n    return (x + y - 1) // y\n"
# Large, and not needed by an import. Small ones (libcudart, CUPTI, cuFile, NVTX) are the real ones.
LARGE = {distribution for distribution, _ in CUDA13_LIBRARIES.values()} | {"triton"}


def _install_with_stand_ins(
    stack: Stack, version: str, folder: Path, install: Sequence[str], links: Sequence[str]
) -> None:
    pins = _resolve(stack, version, links)
    real = [f"{name}=={pin}" for name, pin in pins.items() if name not in LARGE]
    _run([*install, "--no-deps", *real])
    (site,) = folder.glob("lib/python3*/site-packages")
    with tempfile.TemporaryDirectory() as made:
        wheels = write_stand_ins(
            site, {name: pins[name] for name in LARGE if name in pins}, Path(made)
        )
        _run([*install, "--no-deps", "--no-index", *map(str, wheels)])


def _resolve(stack: Stack, version: str, links: Sequence[str]) -> Dict[str, str]:
    """What a full installation would bring: normalized name -> version."""
    command = [
        find_uv(),
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--python-version",
        version,
    ]
    text = _run([*command, *links, "-"], input="\n".join(stack.requirements))
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)$", text, re.MULTILINE)
    return dict(pins)


def write_stand_ins(site: Path, pins: Mapping[str, str], out: Path) -> List[Path]:
    """Wheels of the named distributions, whose libraries hold the symbols that torch's libraries
    want."""
    libraries = [*(site / "torch" / "lib").glob("*.so*"), *(site / "torch").glob("_C*.so")]
    wanted = read_wanted(libraries)
    present = {path.name for path in libraries} | {
        path.name for path in site.glob("nvidia/cu13/lib/*.so*")
    }
    files: Dict[str, Dict[str, Union[str, bytes]]] = {name: {} for name in pins}
    if "triton" in pins:
        files["triton"]["triton/__init__.py"] = f"__version__ = {pins['triton']!r}\n{TRITON}"
    for library in missing_libraries(wanted, present):
        home = _home_of(library)
        if home is None or home[0] not in pins:
            raise NotPossible(f"no distribution is known for {library}")
        write_stub(library, wanted, out)
        files[home[0]][f"{home[1]}/{library}"] = (out / library).read_bytes()
    tag = "py3-none-manylinux_2_17_x86_64"
    return [write_wheel(out, name, pins[name], content, tag=tag) for name, content in files.items()]


def _home_of(library: str) -> Optional[Tuple[str, str]]:
    for start, home in CUDA13_LIBRARIES.items():
        if library.startswith(start):
            return home
    return None


def copy_environment(template: Path, folder: Path) -> Path:
    """A copy of hard links where the file system allows it: under a second, and no disk."""
    _link(template, folder)
    # uv's lock: as a hard link it would be one lock for all copies.
    lock = folder / ".lock"
    if lock.exists():
        lock.unlink()
    return folder


def restore_environment(template: Path, folder: Path) -> None:
    """Puts back what a test changed in a copy of hard links. Bytecode stays: to compile a torch anew
    takes three times as long as to import it."""
    wanted = {entry.name: entry for entry in os.scandir(template)}
    if "pyvenv.cfg" in wanted:
        wanted.pop(".lock", None)  # as `copy_environment` leaves it out
    present = {entry.name: entry for entry in os.scandir(folder)}
    for name, entry in present.items():
        if name not in wanted and name != "__pycache__":
            _remove(Path(entry.path))
    for name, entry in wanted.items():
        path, own = folder / name, present.get(name)
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and own is not None and own.is_dir(follow_symlinks=False):
            if name != "__pycache__":
                restore_environment(Path(entry.path), path)
        elif own is None or is_folder or own.inode() != entry.inode():
            _remove(path)
            _link(Path(entry.path), path)


def _link(source: Path, target: Path) -> None:
    words = [str(source), str(target)]
    linked = subprocess.run(["cp", "-al", *words], capture_output=True, check=False)
    if linked.returncode != 0:
        _remove(target)
        subprocess.run(["cp", "-a", "--reflink=auto", *words], check=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def main(names: Sequence[str]) -> None:
    """Make them in the cache."""
    known = {SMALL.torch: SMALL, **STACKS}
    for name in names or known:
        print(find_template(known[name]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
