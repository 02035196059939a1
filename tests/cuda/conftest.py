"""One real CUDA torch of the package index beside the stub driver, and an extension that was built
for it with nvcc.

The template and the built wheel are kept in the lab's cache (tests/lab/stacks.py); a test gets a
copy of hard links. torch, pip, the loader, the compiler and the extension are real. Staged are the
driver's answers and, to save gigabytes, the NVIDIA libraries that an import does not call. Nothing
can be computed on the stub's GPU: what is asked of it there fails, and the tests say so where they
meet it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

import safe_install
from tests import lab
from tests.functional.conftest import (
    CLOSED,
    Environment,
    clean_variables,
    copied,
    read_document,
    run_process,
)
from tests.functional.conftest import driver as driver
from tests.functional.conftest import lab_wheels as lab_wheels
from tests.functional.conftest import shared as shared
from tests.lab import stacks
from tests.lab.wheels import write_wheel
from tests.wheelhost import HOSTS

# a machine on which the suite must run sets it: a reason not to is a failure
REQUIRED = "SAFE_INSTALL_CUDA_REQUIRED"
TORCH = stacks.SMALL.torch
GPU = {
    "FAKE_GPU_COUNT": "1",
    "FAKE_GPU_NAME": "NVIDIA A100-SXM4-40GB",
    "FAKE_GPU_CC": "8.0",
    "FAKE_DRIVER": "580.65.06",
    "FAKE_DRIVER_CUDA": "13.0",
}
ARCHITECTURE = "8.0"
# The package index and nothing else: what a wheel host has today or tomorrow must not change what
# is tested.
NO_WHEEL_HOST = " ".join(
    f"{start}={CLOSED}" for start, kind in HOSTS.items() if kind not in ("pypi", "files")
)


def cannot_run(reason: str) -> None:
    """Skip, or fail where the suite is required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"the CUDA suite must run here and cannot: {reason}", pytrace=False)
    pytest.skip(f"the CUDA suite cannot run here: {reason}")


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """What the stub driver and the stand-ins are made with."""
    for program in ("cc", "g++", "readelf"):
        if shutil.which(program) is None:
            cannot_run(f"{program} was not found")


def find_template(stack: stacks.Stack) -> Path:
    """The stack's template; without it nothing of this folder can run."""
    try:
        return stacks.find_template(stack)
    except stacks.NotPossible as reason:
        cannot_run(str(reason))
        raise


@pytest.fixture(scope="session")
def template(tools: None) -> Path:
    """The environment with the CUDA torch. Never changed."""
    return find_template(stacks.SMALL)


@pytest.fixture(scope="session")
def python_version(template: Path) -> str:
    """The Python of the template: "3.11"."""
    (library,) = template.glob("lib/python3*")
    return library.name[len("python") :]


@pytest.fixture(scope="session")
def gpu(driver: Dict[str, str]) -> Dict[str, str]:
    """The variables in which a process meets a driver and one GPU; a real torch needs the preloaded
    library, too."""
    folder = driver["LD_LIBRARY_PATH"].split(os.pathsep)[0]
    return {**driver, **GPU, "LD_PRELOAD": str(Path(folder) / "libfakecudart.so")}


@pytest.fixture(scope="session")
def index(shared: Path, lab_wheels: Callable[..., Any], python_version: str) -> Path:
    """A package index as a folder: a torch without CUDA, and a package that requires it."""
    folder = lab_wheels(python_version).index
    with FileLock(str(shared / "cuda-index.lock")):
        if not list(folder.glob("older_torch_tools-*")):
            write_wheel(
                folder,
                "older-torch-tools",
                "1.0",
                {"older_torch_tools.py": ""},
                requires=["torch==2.13.0"],
            )
            write_wheel(folder, "harmless-tools", "1.0", {"harmless_tools.py": ""})
    return Path(folder)


@pytest.fixture
def tmp_path(on_disk: Path) -> Path:
    """Where the templates are: copies of hard links cost nothing there."""
    return on_disk


@pytest.fixture(scope="module")
def shared_environment(template: Path) -> Iterator[Path]:
    """A copy of the template for all tests of a file."""
    with copied(template) as folder:
        yield folder


@pytest.fixture
def make_environment(
    template: Path, shared_environment: Path, gpu: Dict[str, str], index: Path, tmp_path: Path
) -> Callable[..., Environment]:
    """A copy of a template, as it was before the other tests: `make_environment()` on a machine with
    a GPU, `driver=False` as in an image build."""

    def make(
        *, driver: bool = True, source: Optional[Path] = None, **variables: str
    ) -> Environment:
        if not driver and has_driver():
            pytest.skip("this machine has an NVIDIA driver: it is no image build")
        if source is None:
            prefix = shared_environment
            stacks.restore_environment(template, prefix)
        else:
            prefix = stacks.copy_environment(source, tmp_path / "env")
        (tmp_path / "home").mkdir(exist_ok=True)
        clean = clean_variables(gpu if driver else {}, index, tmp_path / "home")
        if not driver:
            for name in GPU:
                clean.pop(name, None)
        return Environment(prefix, {**clean, **(GPU if driver else {}), **variables})

    return make


def has_driver() -> bool:
    """Is there a real one, which every process would find?"""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    """On a machine with a driver for CUDA 13.0 and one A100."""
    return make_environment()


# --- the extensions -------------------------------------------------------------------------------

BUILD_SOURCES = (
    "build.py",
    "machine.py",
    "recipe.py",
    "script.py",
    "store.py",
    "toolkit.py",
    "toolkit_choice.py",
)


@dataclass(frozen=True)
class Extension:
    """A project whose CUDA code our source build compiles, and what shows that it works."""

    name: str
    requirement: str
    module: str
    libraries: int  # files _x_cuda.so
    twins: str  # the pattern of one of them and its twin
    use: str  # a program, and what it prints
    printed: str
    source: Optional[Path] = None  # without one the package index has it


# A stand-in of ours (tests/lab/small_gsplat): nvcc is done with it in seconds.
SMALL_GSPLAT = Extension(
    "gsplat",
    "gsplat==0.0.1+small",
    "gsplat",
    libraries=1,
    twins="csrc_*.so",
    use="import torch, gsplat\n"
    "numbers = torch.tensor([1.0, 2.5])\n"
    "print(torch.ops.gsplat.cuda_version(), gsplat.doubled(numbers).tolist())",
    printed="13000 [2.0, 5.0]",
    source=Path(lab.__file__).with_name("small_gsplat"),
)
# The one that people install, which takes minutes. A linear spline over 5 knots: 0.3125 lies a quarter of the way from
# knot 1 to knot 2 (0.3125 * 4 = 1.25).
SPLINE = Extension(
    "torch-spline-conv",
    "torch-spline-conv",
    "torch_spline_conv",
    libraries=3,
    twins="_basis_*.so",
    use="import torch, torch_spline_conv\n"
    "pseudo, size = torch.tensor([[0.3125]]), torch.tensor([5])\n"
    "is_open = torch.tensor([1], dtype=torch.uint8)\n"
    "basis, index = torch.ops.torch_spline_conv.spline_basis(pseudo, size, is_open, 1)\n"
    "print(torch.ops.torch_spline_conv.cuda_version(), basis.tolist(), index.tolist())",
    printed="13000 [[0.75, 0.25]] [[1, 2]]",
)


EXTENSIONS = [
    pytest.param(SMALL_GSPLAT, id="gsplat"),
    pytest.param(SPLINE, id="torch-spline-conv", marks=pytest.mark.long),
]


@pytest.fixture(scope="session", params=EXTENSIONS)
def extension(request: pytest.FixtureRequest) -> Extension:
    """Each of them."""
    chosen: Extension = request.param
    return chosen


@pytest.fixture(scope="session")
def built_wheel(template: Path, gpu: Dict[str, str], extension: Extension) -> Path:
    """The extension, built by the tool's own source build for one GPU architecture with a CUDA 13
    toolkit.

    Built again whenever the code that builds it, the torch or the architecture changes.
    """
    folder = (
        stacks.cache_folder() / "wheels" / f"{extension.name}-{_build_key(template, extension)}"
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "built.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _build(extension, template, gpu, Path(tempfile.mkdtemp(prefix="build-")), folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _build_key(template: Path, extension: Extension) -> str:
    package = Path(safe_install.__file__).parent
    sources = [package / "wheels" / name for name in BUILD_SOURCES]
    if extension.source is not None:
        sources += sorted(extension.source.rglob("*.*"))
    texts = [source.read_text() for source in sources]
    stack = template.name.rpartition("-")[0]  # how it was made changes no wheel
    return hashlib.sha256("\n".join([stack, ARCHITECTURE, *texts]).encode()).hexdigest()[:12]


def _build(
    extension: Extension, template: Path, gpu: Dict[str, str], work: Path, folder: Path
) -> None:
    """With the package index and the pip configuration of whoever runs the tests: the toolkit comes
    from there."""
    prefix = stacks.copy_environment(template, work / "env")
    foreign = (
        "SAFE_INSTALL_",
        "CUDA_",
        "TORCH_",
        "FAKE_",
        "PYTHON",
        "VIRTUAL_ENV",
        "CONDA_",
        "FORCE_",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    variables = {
        **kept,
        **gpu,
        # The build compiles and does not ask for a GPU; a preloaded library would reach every
        # compiler.
        "LD_PRELOAD": "",
        "SAFE_INSTALL_CACHE_DIR": str(work / "cache"),
        "SAFE_INSTALL_MIRRORS": NO_WHEEL_HOST,
        "TORCH_CUDA_ARCH_LIST": ARCHITECTURE,
        # Half of the work: _x_cuda.so alone, without _x_cpu.so.
        "FORCE_ONLY_CUDA": "1",
    }
    words = ["--python", str(prefix / "bin" / "python"), "install", extension.requirement]
    if extension.source is not None:
        words += ["--find-links", str(_make_sdist(extension, work / "sdists"))]
    words += ["--json"]
    started = time.monotonic()
    done = run_process([sys.executable, "-m", "safe_install", *words], variables)
    answer = read_document(done)
    assert done.returncode == 0, f"{answer['error']}\n{done.stderr[-3000:]}"
    (step,) = answer["plan"]["steps"]
    assert step["kind"] == "built"
    built = Path(unquote(urlsplit(step["url"]).path))
    folder.mkdir(parents=True)
    shutil.copy(built, folder / built.name)
    # The toolkit and the build's tools are gigabytes.
    shutil.rmtree(work, ignore_errors=True)
    report = {
        "seconds": round(time.monotonic() - started),
        "architecture": ARCHITECTURE,
        "torch": TORCH,
    }
    (folder / "built.json").write_text(json.dumps(report))


def _make_sdist(extension: Extension, folder: Path) -> Path:
    """The extension's source as the archive that an index has; the folder with it."""
    named = extension.requirement.replace("==", "-")
    shutil.copytree(extension.source, folder / "unpacked" / named)
    shutil.make_archive(str(folder / named), "gztar", folder / "unpacked", named)
    return folder


# --- what a document says -------------------------------------------------------------------------


def errors_of(document: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The findings that made a command fail."""
    return [finding for finding in document["findings"] if finding["severity"] == "error"]


def other_than_computing(document: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """Errors that are not the stub's fault: on its GPU nothing can be computed, and a check that
    tries says so."""
    for finding in errors_of(document):
        if finding["check"] != "operation-failed" or not finding["subject"].endswith(" on cuda"):
            yield finding


def text_of(completed: subprocess.CompletedProcess[str]) -> str:
    """Everything that a person sees."""
    return completed.stdout + completed.stderr
