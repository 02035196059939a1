"""Which build of torch comes: the one for the driver, or for the accelerator that was asked for;
from a host with the pages of download.pytorch.org, where pip's own index has one build for each
release.

torch is a stand-in (tests/lab), once the real one for the CPU; pip, the environments and the
processes are real.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.pipeline.choice import ChoiceOptions, IndexChooser
from safe_install.ports import World
from tests.functional.test_joint_plan import put
from tests.lab.wheels import Torch, build_torch, write_wheel
from tests.unit.pipeline.test_selection import Notes
from tests.unit.pipeline.test_torch_build import BY_DRIVER, PackageIndex, choose, machine, torch_of

TAG = "cp311-cp311-manylinux_2_28_x86_64"
WHL = "https://download.pytorch.org/whl"
REAL = Path("/opt/wheels/torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
ELSEWHERE = {
    "cpu": {"2.14.1": "0.29.1", "2.13.0": "0.28.0"},
    "cu118": {"2.7.1": "0.22.1"},
    "cu126": {"2.14.1": "0.29.1", "2.13.0": "0.28.0"},
}


@pytest.fixture
def environment(environment_without_torch):
    return environment_without_torch


def make_vision(folder, version, torch):
    return write_wheel(
        folder, "torchvision", version, {"torchvision/__init__.py": ""}, requires=[torch], tag=TAG
    )


def put_pages(host, folder):
    """torch and torchvision for each accelerator, as download.pytorch.org has them; torch needs one
    more project."""
    for accelerator, pairs in ELSEWHERE.items():
        torches, visions = {}, {}
        for release, version in pairs.items():
            local = f"{release}+{accelerator}"
            torch = write_wheel(
                folder, "torch", local, {"torch/version.py": ""}, requires=["filelock"], tag=TAG
            )
            torches[torch.name] = torch.read_bytes()
            vision = make_vision(folder, f"{version}+{accelerator}", f"torch=={release}")
            visions[vision.name] = vision.read_bytes()
        host.add_pytorch_page(accelerator, "torch", torches, own_metadata=True)
        host.add_pytorch_page(accelerator, "torchvision", visions)
    put(host, write_wheel(folder, "filelock", "3.0", {"filelock.py": ""}))


def put_index(host, folder):
    """The newest torch and torchvision on the package index, for CUDA 13."""
    library = write_wheel(folder, "nvidia-nccl-cu13", "2.30.7", {"nvidia/nccl.txt": ""})
    triton = write_wheel(folder, "triton", "3.8.0", {"triton/__init__.py": ""})
    requires = ["triton==3.8.0", "nvidia-nccl-cu13==2.30.7"]
    torch = write_wheel(
        folder, "torch", "2.14.1", {"torch/version.py": ""}, requires=requires, tag=TAG
    )
    put(host, library, triton, torch, make_vision(folder, "0.29.1", "torch==2.14.1"))


def fetched(host):
    """The wheels of torch that download.pytorch.org was asked for."""
    return [
        path for path in host.asked("/pytorch/whl/") if "/torch-" in path and path.endswith(".whl")
    ]


# --- the pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "gpu", "version"), BY_DRIVER)
def test_the_pages_of_the_host_by_declared_driver(host, tmp_path, declared, gpu, version):
    """By real HTTP, through the mirror that the person named; pip is a few lines."""
    put_pages(host, tmp_path / "wheels")
    world = World({"SAFE_INSTALL_MIRRORS": host.mirrors}, Notes(), tmp_path / "cache")
    here = machine(driver=declared, gpu=gpu, declared=True)
    selected, *_ = choose(
        tmp_path,
        "torch",
        here=here,
        chooser=IndexChooser(ChoiceOptions(), world),
        installer=PackageIndex(),
    )
    assert torch_of(selected) == version
    (step,) = [step for step in selected.plan.steps if step.name == "torch"]
    if "+" in version:
        accelerator = version.partition("+")[2]
        assert (step.url or "").startswith(
            f"{WHL}/{accelerator}/torch-{version.replace('+', '%2B')}-cp311"
        )
        assert len(step.sha256 or "") == 64
    assert fetched(host) == [], "only METADATA was read"


def test_torch_and_its_companion_in_two_runs_of_pip(environment, host, tmp_path):
    put_index(host, tmp_path / "index")
    put_pages(host, tmp_path / "pages")
    document = environment.document(
        "--dry-run", "--target-driver=535.104.05", "torch", "torchvision"
    )
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {step["name"]: step for step in document["plan"]["steps"]}
    versions = {name: step["version"] for name, step in steps.items()}
    assert versions == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126", "filelock": "3.0"}
    assert steps["torch"]["url"].startswith(f"{WHL}/cu126/torch-2.14.1%2Bcu126")
    assert fetched(host) == []
    assert len(host.asked("/pypi/simple/filelock/")) == 1, (
        "pip was asked once under the chosen torch"
    )
    (note,) = [finding for finding in document["findings"] if finding["check"] == "other-build"]
    assert note["severity"] == "note" and "declared is 535.104.05" in note["detail"]


# --- for real -------------------------------------------------------------------------------------


@pytest.fixture
def builds(host, tmp_path, environment):
    """torch 2.14.1 for CUDA 13 on the package index; for CUDA 12.6 and for the CPU on the other
    host. The driver that is here serves CUDA 12.2."""
    environment.variables.update(
        {"FAKE_DRIVER": "535.104.05", "FAKE_DRIVER_CUDA": "12.2", "FAKE_GPU_CC": "8.0"}
    )
    for version, cuda in (("2.14.1", "13.0"), ("2.14.1+cu126", "12.6"), ("2.14.1+cpu", None)):
        folder = tmp_path / version
        runtime = version if "+" in version else f"{version}+cu130"
        torch = build_torch(folder, "3.11", Torch(runtime, version, cuda))
        if "+" in version:
            page = {torch.name: torch.read_bytes()}
            host.add_pytorch_page(version.partition("+")[2], "torch", page, own_metadata=True)
        else:
            put(host, torch)


def test_the_driver_that_is_here_gets_the_torch_that_it_runs(environment, host, builds):
    before = environment.tree()
    done = environment.safe_install("torch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch 2.14.1+cu130 needs driver 580.65.06 or newer, here is 535.104.05" in done.stderr
    assert environment.cuda() == "2.14.1+cu126 True"
    assert len(fetched(host)) == 1
    cache = Path(environment.variables["SAFE_INSTALL_CACHE_DIR"])
    assert not list(cache.rglob("torch-*.whl")), "PIP_NO_CACHE_DIR holds for a file of this size"
    # Another one by name, and back again.
    changed = environment.document("--accelerator", "cpu", "torch")
    assert (changed["exit_code"], changed["outcome"]) == (0, "installed"), changed
    assert environment.cuda() == "2.14.1+cpu False"
    for _ in range(2):
        undone = environment.document("undo")
        assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone
    assert environment.tree() == before


@pytest.fixture
def folder_beside(host, tmp_path, environment):
    """A folder with a torch for the CPU, whose version pip takes before that of the index."""
    environment.variables.update(
        {"FAKE_DRIVER": "580.65.06", "FAKE_DRIVER_CUDA": "13.0", "FAKE_GPU_CC": "9.0"}
    )
    for release in ("2.13.0", "2.14.1"):
        torch = Torch(f"{release}+cu130", release, "13.0")
        put(host, build_torch(tmp_path / release, "3.11", torch))
    wheels = tmp_path / "wheels"
    build_torch(wheels, "3.11", Torch("2.14.1+cpu", "2.14.1+cpu", None))
    return str(wheels)


@pytest.mark.long
def test_a_folder_does_not_hide_the_torch_for_the_gpu(environment, host, folder_beside):
    places = ("--find-links", folder_beside)
    assert "torch-2.14.1+cpu" in environment.pip("install", "--dry-run", *places, "torch").stdout
    before = environment.tree()
    done = environment.safe_install(*places, "torch==2.13.0")
    assert done.returncode == 0, done.stdout + done.stderr
    installed = environment.tree()
    done = environment.safe_install(*places, "-U", "torch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert environment.cuda() == "2.14.1+cu130 True"
    said = "torch 2.14.1+cpu is a build for cpu, and the installed one is for cu130; 2.14.1+cu130"
    assert f"{said} is taken" in done.stderr
    assert not host.asked("/pytorch/")
    # The one in the folder, by its accelerator, and back again.
    changed = environment.document("--accelerator", "cpu", *places, "torch")
    assert (changed["exit_code"], changed["outcome"]) == (0, "installed"), changed
    assert environment.cuda() == "2.14.1+cpu False"
    for tree in (None, installed, before):
        undone = environment.document("undo")
        assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone
        assert tree is None or environment.tree() == tree


@pytest.mark.long
@pytest.mark.parametrize("is_down", [False, True])
def test_a_place_of_the_person_has_the_torch_for_another_accelerator(
    environment, host, folder_beside, tmp_path, is_down
):
    """Its release is not the newest of the package index, so that pip takes it by its name alone."""
    assert environment.safe_install("torch==2.13.0").returncode == 0
    before = environment.tree()
    build_torch(tmp_path / "mine", "3.11", Torch("2.14.0+cpu", "2.14.0+cpu", None))
    if is_down:
        host.misbehave("/pytorch/", "500")
    words = ("--accelerator", "cpu", "-U", "torch")
    variables = {"PIP_FIND_LINKS": str(tmp_path / "mine")}
    document = environment.document(*words, **variables)
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    assert environment.cuda() == "2.14.0+cpu False"
    assert environment.document("undo")["outcome"] == "undone"
    assert environment.tree() == before
    assert environment.document(*words)["exit_code"] in (10, 11), "without that place there is none"


def test_a_silent_host_and_a_build_of_ones_own(environment, host, tmp_path):
    """The build for the accelerator that was asked for comes from the person's own place."""
    put_index(host, tmp_path / "index")
    build_torch(tmp_path / "mine", "3.11", Torch("2.14.0+cpu", "2.14.0+cpu", None))
    host.misbehave("/pytorch/", "500")
    places = ("--find-links", str(tmp_path / "mine"))
    document = environment.document("--dry-run", "--accelerator", "cpu", *places, "torch")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    (step,) = [step for step in document["plan"]["steps"] if step["name"] == "torch"]
    assert step["version"] == "2.14.0+cpu"
    (note,) = [one for one in document["findings"] if one["check"] == "older-torch"]
    assert note["detail"].endswith("; 2.14.0+cpu is taken") and "not answer" in note["detail"]
    assert "SAFE_INSTALL_MIRRORS" in note["hint"]


def test_a_torch_for_the_cpu_comes_with_a_warning_where_there_is_a_gpu(environment, folder_beside):
    places = ("--no-index", "--find-links", folder_beside)
    document = environment.document("--dry-run", *places, "torch")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    (warning,) = [finding for finding in document["findings"] if finding["check"] == "unused-gpu"]
    assert (warning["severity"], warning["detail"]) == (
        "warning",
        "torch 2.14.1+cpu is a build for the CPU, and there is a GPU",
    )
    meant = environment.document("--dry-run", "--accelerator", "cpu", *places, "torch")
    assert meant["exit_code"] == 0 and meant["findings"] == [], meant
    without = environment.document("--dry-run", *places, "torch", FAKE_NVML_RC="9")
    assert without["exit_code"] == 0 and without["findings"] == [], without


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.torch
def test_the_real_torch_for_the_cpu(environment, host, tmp_path):
    if not REAL.is_file():
        pytest.skip(f"no {REAL}")
    put_index(host, tmp_path)
    host.add_pytorch_page("cpu", "torch", {REAL.name: REAL.read_bytes()}, own_metadata=True)
    environment.variables["PIP_EXTRA_INDEX_URL"] = "file:///opt/pypi/simple"
    done = environment.document(
        "--accelerator", "cpu", "--no-compile", "torch<2.14", FAKE_NVML_RC="9"
    )
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done
    (torch,) = [step for step in done["plan"]["steps"] if step["name"] == "torch"]
    assert (torch["version"], torch["url"][: len(WHL) + 4]) == ("2.13.0+cpu", f"{WHL}/cpu")
    assert (
        environment.ask("import torch; print(torch.ones(2).sum().item(), torch.__version__)")
        == "2.0 2.13.0+cpu"
    )


# --- the host of the other builds does not answer -------------------------------------------------


@pytest.mark.long
def test_the_command_of_a_hint_works(environment, host, tmp_path):
    """A torch for the CPU is installed; the package index has the newer one for CUDA 13."""
    put_index(host, tmp_path / "index")
    files = {"torch/version.py": "__version__ = '2.13.0+cpu'\ncuda = None\n"}
    installed = write_wheel(tmp_path, "torch", "2.13.0+cpu", files, tag=TAG)
    environment.must_pip("install", "--no-deps", str(installed))
    host.misbehave("/pytorch/", "500")
    upgrade = environment.document("--dry-run", "-U", "torch")
    assert upgrade["exit_code"] == 11, upgrade
    assert "download.pytorch.org does not answer (500" in upgrade["error"]["message"]
    assert "--accelerator cu130" in upgrade["error"]["hint"]
    by_name = environment.document("--dry-run", "torch==2.14.1+cu130")
    assert by_name["exit_code"] == 10, by_name
    start, _, command = by_name["error"]["hint"].partition(": safe-install ")
    assert start == "The package index has that build"
    done = environment.document("--dry-run", *command.split())
    assert (done["exit_code"], done["outcome"]) == (0, "planned"), done
    assert {step["name"]: step["version"] for step in done["plan"]["steps"]}["torch"] == "2.14.1"


# --- what cannot be -------------------------------------------------------------------------------

BAD = [
    (["--accelerator", "cu999", "torch"], 2, ["--accelerator cu999", "cu126"]),
    (["--accelerator", "gpu", "torch"], 2, ["--accelerator gpu", "cu126"]),
    (
        ["--accelerator", "cpu", "torch==2.13.0+cu126"],
        2,
        ["--accelerator cpu", "torch==2.13.0+cu126"],
    ),
    (["--target-driver", "new", "torch"], 2, ["--target-driver new"]),
    (["--accelerator", "cu126", "torch==2.12.1"], 10, ["cu126", "2.12.1"]),
    (["torch==2.12.1", "torch==2.14.1"], 10, ["torch==2.12.1 (on the command line)", "2.14.1"]),
    (["-r", "asked.txt", "-c", "held.txt"], 10, ["asked.txt, line 2)", "(held.txt, line 1)"]),
    (["--dry-run", "torch>=2.13", "-c", "held.txt"], 10, ["torch>=2.13", "(held.txt, line 1)"]),
]


@pytest.mark.parametrize(("words", "status", "named"), BAD)
def test_bad_input_names_what_is_wrong_and_touches_nothing(
    environment, host, tmp_path, words, status, named
):
    put_index(host, tmp_path / "index")
    put(host, write_wheel(tmp_path, "torch", "2.12.1", {"torch/version.py": ""}, tag=TAG))
    put_pages(host, tmp_path / "pages")
    (environment.prefix.parent / "asked.txt").write_text("filelock\ntorch>2.12.1\n")
    (environment.prefix.parent / "held.txt").write_text("torch==2.12.1\n")
    before = environment.tree()
    document = environment.document(*words)
    assert document["exit_code"] == status, document
    said = f"{document['error']['message']} {document['error']['hint']}"
    assert all(name in said for name in named), said
    assert environment.tree() == before
