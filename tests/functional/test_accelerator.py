"""Which build of torch comes: the one for the driver, or for the accelerator that was asked for; from a host with the
pages of download.pytorch.org, where pip's own index has one build for each release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.conftest import need_python
from tests.functional.test_founding_story import reach
from tests.functional.test_joint_plan import pip_runs, put
from tests.lab.wheels import write_wheel
from tests.wheelhost import WheelHost

TAG = "cp311-cp311-manylinux_2_28_x86_64"
WHL = "https://download.pytorch.org/whl"
ON_INDEX = {"2.14.1": "0.29.1"}  # torch, and the torchvision for it
ELSEWHERE = {
    "cpu": {"2.14.1": "0.29.1", "2.13.0": "0.28.0"},
    "cu118": {"2.7.1": "0.22.1"},
    "cu126": {"2.14.1": "0.29.1", "2.13.0": "0.28.0"},
}


def put_torch(host, folder: Path) -> None:
    """torch and torchvision on the package index and on the pages for each accelerator."""
    library = write_wheel(folder, "nvidia-nccl-cu13", "2.30.7", {"nvidia/nccl.txt": ""})
    triton = write_wheel(folder, "triton", "3.8.0", {"triton/__init__.py": ""})
    put(host, library, triton)
    for release in ON_INDEX:
        requires = ["triton==3.8.0", "nvidia-nccl-cu13==2.30.7"]
        put(host, write_wheel(folder, "torch", release, {"torch/version.py": ""}, requires=requires, tag=TAG))
        if release in VISION:
            put(host, vision(folder, release, ""))
    for accelerator, releases in ELSEWHERE.items():
        torches = {}
        for release in releases:
            local = f"{release}+{accelerator}"
            torch = write_wheel(folder, "torch", local, {"torch/version.py": ""}, requires=["filelock"], tag=TAG)
            torches[torch.name] = torch.read_bytes()
        host.add_pytorch_page(accelerator, "torch", torches, metadata_of_each=True)
        visions = [vision(folder, release, f"+{accelerator}") for release in releases]
        host.add_pytorch_page(accelerator, "torchvision", {one.name: one.read_bytes() for one in visions})
    put(host, write_wheel(folder, "filelock", "3.0", {"filelock.py": ""}))


def vision(folder, release, local):
    requires = [f"torch=={release}"]
    version = f"{VISION[release]}{local}"
    return write_wheel(folder, "torchvision", version, {"torchvision/__init__.py": ""}, requires=requires, tag=TAG)


@pytest.fixture
def host(tmp_path):
    with WheelHost() as host:
        put_torch(host, tmp_path / "wheels")
        yield host


@pytest.fixture
def environment(make_environment, host):
    need_python("3.11")
    variables = {"PIP_INDEX_URL": host.index_url, "PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}
    return make_environment("3.11", **{**reach(host), **variables})


def steps_of(document):
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    return {step["name"]: step for step in document["plan"]["steps"]}


BY_DRIVER = [
    ("450.80.02", "2.7.1+cu118"),
    ("470.57.02", "2.7.1+cu118"),
    ("525.60.13", "2.14.1+cu126"),
    ("535.104.05", "2.14.1+cu126"),
    ("560.35", "2.14.1+cu126"),
    ("580.65.06", "2.15.0"),
]


@pytest.mark.parametrize(("declared", "version"), BY_DRIVER)
def test_the_declared_driver_decides(environment, host, declared, version):
    document = environment.document("--dry-run", f"--target-driver={declared}", "torch", "torchvision")
    steps = steps_of(document)
    assert steps["torch"]["version"] == version
    release, plus, accelerator = version.partition("+")
    assert steps["torchvision"]["version"] == VISION[release] + plus + accelerator
    if plus:
        assert steps["torch"]["url"].startswith(f"{WHL}/{accelerator}/torch-")
        assert len(steps["torch"]["sha256"]) == 64
    assert pip_runs(host) == (2 if plus else 1)
    assert not host.asked("/torch-2.14.1%2Bcu126-cp311") or not [
        path for path in host.asked("/pytorch/whl/") if path.endswith(".whl") and "/torch-" in path
    ]
