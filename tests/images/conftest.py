"""Real images: built by buildah on a Debian of debootstrap, with stand-in wheels and a stub driver
(tests/lab).

`debian:12` is the plain system. `python:3.11-slim` is the same with `python` and without
EXTERNALLY-MANAGED, which is how the image of that name differs for us. Both are local names:
nothing is pulled.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List

import pytest
from filelock import FileLock

from tests.functional.conftest import shared as shared
from tests.functional.conftest import zipapp as zipapp
from tests.images.buildah import PROGRAMS, Buildah
from tests.lab import build_driver, build_wheels, stacks
from tests.lab.wheels import LabWheels, Torch, build_torch_and_scatter
from tests.wheelhost import WheelHost

ROOT = Path(__file__).resolve().parents[2]
# a machine on which these must run sets it: a reason not to is a failure
REQUIRED = "SAFE_INSTALL_IMAGES_REQUIRED"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv")
# What no test reads, and each import of the archive would copy.
LEFT_OUT = (
    "./dev/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
)
PYTHON = "3.11"  # of Debian 12

DOCUMENTS = ("README.md", "docs/images.md")
README_TORCH = re.compile(
    r'"?torch==([\d.]+)"?.*--index-url https://download\.pytorch\.org/whl/(cu\d+)'
)
GPU = {
    "LD_LIBRARY_PATH": "/usr/local/nvidia",
    "FAKE_GPU_COUNT": "1",
    "FAKE_GPU_NAME": "NVIDIA A100-SXM4-40GB",
    "FAKE_GPU_CC": "8.0",
    "FAKE_DRIVER": "560.35.03",
    "FAKE_DRIVER_CUDA": "12.6",
}


def cannot_run(reason: str) -> None:
    """Skip, or fail where the images are required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"the images must be built here and cannot be: {reason}", pytrace=False)
    pytest.skip(f"images cannot be built here: {reason}")


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """Everything that a build needs."""
    missing = [program for program in (*PROGRAMS, "cc") if shutil.which(program) is None]
    if missing:
        cannot_run(f"{', '.join(missing)} not found (apt-get install {' '.join(missing)})")
    if os.geteuid() != 0:
        cannot_run("only root can")


@pytest.fixture(scope="session")
def base_archive(tools: None) -> Path:
    """A minimal Debian as a tar file, kept in the lab's cache: debootstrap takes a minute or
    three."""
    key = hashlib.sha256(" ".join((SUITE, *PACKAGES, *LEFT_OUT)).encode()).hexdigest()[:12]
    folder = stacks.cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{SUITE}-{key}.tar"
    with FileLock(f"{archive}.lock"):
        if not archive.exists():
            make_base(archive)
    return archive


def make_base(archive: Path) -> None:
    """debootstrap, into a tar file that appears when it is complete."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        root = Path(folder) / "root"
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            SUITE,
            str(root),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            cannot_run(f"debootstrap: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        made = Path(folder) / "base.tar"
        options = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        subprocess.run(
            ["tar", "-C", str(root), *options, "--numeric-owner", "-cf", str(made), "."], check=True
        )
        made.rename(archive)


@pytest.fixture(scope="session")
def buildah(base_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """A storage with the two base images, on the disk, removed at the end."""
    storage = Buildah(Path(tempfile.mkdtemp(prefix="images-")))
    try:
        storage.import_archive(base_archive, "docker.io/library/debian:12")
        context = tmp_path_factory.mktemp("slim")
        (context / "Dockerfile").write_text(
            "FROM debian:12\nRUN ln -s python3 /usr/bin/python && rm "
            "/usr/lib/python3*/EXTERNALLY-MANAGED\n"
        )
        storage.must(*storage.build_words("docker.io/library/python:3.11-slim", context))
        yield storage
    finally:
        storage.remove_all()


@pytest.fixture(scope="session")
def wheels(tools: None, tmp_path_factory: pytest.TempPathFactory) -> LabWheels:
    """The stand-in wheels for the Python of the images."""
    return build_wheels(tmp_path_factory.mktemp("wheels"), PYTHON)


@pytest.fixture(scope="session")
def driver(tools: None, tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """The volume that brings a container the stub driver, as `--gpus all` brings the real one."""
    folder = tmp_path_factory.mktemp("driver")
    build_driver(folder)
    return [f"{folder}:/usr/local/nvidia:ro"]


@pytest.fixture(scope="session")
def host(wheels: LabWheels) -> Iterator[WheelHost]:
    """All wheel hosts, on loopback: the commands in an image share this machine's network."""
    with WheelHost() as served:
        (scatter,) = (wheels.extensions / "2.4.1+cu121").glob("torch_scatter-*.whl")
        served.add_pyg_page("2.4.1", "cu121", {scatter.name: scatter.read_bytes()}, base="2.4.0")
        served.add_pyg_page("2.4.0", "cu121", {scatter.name: scatter.read_bytes()})
        yield served


# --- the Dockerfile of the documentation ----------------------------------------------------------


def read_dockerfile() -> str:
    """The block of README.md, or of docs/images.md once it has moved there."""
    for document in DOCUMENTS:
        path = ROOT / document
        found = (
            re.search(r"```dockerfile\n(.*?)```", path.read_text("utf-8"), re.S)
            if path.exists()
            else None
        )
        if found:
            return found.group(1)
    raise AssertionError(f"no ```dockerfile block in {' or '.join(DOCUMENTS)}")


def serve_torch(text: str, host: WheelHost, folder: Path) -> None:
    """A stand-in of the torch that the Dockerfile names, and a torch-scatter for it, where the real
    ones are."""
    named = README_TORCH.search(text)
    assert named, (
        "the Dockerfile installs torch==X.Y.Z --index-url https://download.pytorch.org/whl/cuNNN"
    )
    version, accelerator = named.groups()
    cuda = f"{accelerator[2:-1]}.{accelerator[-1]}"
    full = f"{version}+{accelerator}"
    short = "".join(version.split(".")[:2])
    build_torch_and_scatter(
        folder, PYTHON, Torch(full, full, cuda), f"2.1.2+pt{short}{accelerator}"
    )
    (torch,) = folder.glob("torch-*.whl")
    (scatter,) = folder.glob("torch_scatter-*.whl")
    host.add_pytorch_page(accelerator, "torch", {torch.name: torch.read_bytes()})
    # The page is root-relative, as the real one is, and pip is sent there without a mirror.
    host.put(f"/whl/{accelerator}/{torch.name}", torch.read_bytes())
    host.add_pyg_page(version, accelerator, {scatter.name: scatter.read_bytes()})


def for_the_lab(text: str, host: WheelHost) -> str:
    """The Dockerfile with the two replacements that a machine without these hosts needs."""
    text = text.replace("https://download.pytorch.org/whl/", f"{host.url}/pytorch/whl/")
    return re.sub(r"^(FROM .*)$", r"\1\nARG SAFE_INSTALL_MIRRORS", text, flags=re.M)


def lab_arguments(host: WheelHost) -> Dict[str, str]:
    """What the Dockerfiles of the tests are told with --build-arg."""
    return {"SAFE_INSTALL_MIRRORS": host.mirrors}
