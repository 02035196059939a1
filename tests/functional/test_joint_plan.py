"""torch and what belongs to it in one command, where there is no torch; how often pip and its index
are asked."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tests.lab.wheels import Torch, build_torch_and_scatter, write_wheel

TAG = "cp311-cp311-manylinux_2_28_x86_64"
PYTORCH = "https://download.pytorch.org/whl"
VISION = """
class Kept:
    def tolist(self):
        return [0]
class ops:
    nms = staticmethod(lambda *values: Kept())
"""
BACKEND = """
import base64, hashlib, os, zipfile
INFO = "source-1.0.dist-info"
FILES = {
    "source.py": "VALUE = 3",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: source\\nVersion: 1.0\\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}
def row(name, text):
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text)}\\n"
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(directory, "source-1.0-py3-none-any.whl"), "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
        archive.writestr(f"{INFO}/RECORD", "".join(row(*item) for item in FILES.items()) + f"{INFO}/RECORD,,\\n")
    return "source-1.0-py3-none-any.whl"
"""


@pytest.fixture
def environment(environment_without_torch):
    return environment_without_torch


def put(host, *wheels: Path):
    """Pages as a plain index has them: no metadata beside the files, no header that permits a
    cache."""
    for wheel in wheels:
        body = wheel.read_bytes()
        host.put(f"/served/{wheel.name}", body)
        page = f"/pypi/simple/{wheel.name.split('-')[0].replace('_', '-')}/"
        before = host.answers[page].body if page in host.answers else b""
        line = f'<a href="{host.url}/served/{wheel.name}#sha256={hashlib.sha256(body).hexdigest()}">{wheel.name}</a>\n'
        host.put(page, before + line.encode(), content_type="text/html")


def pip_runs(host):
    """By the page of torch, which pip reads once each time."""
    by_pip = [
        path
        for path, headers in host.requests
        if "/pypi/simple/torch/" in path and headers.get("User-Agent", "").startswith("pip/")
    ]
    return len(by_pip)


@pytest.fixture
def torch(host, tmp_path):
    """The build on the package index, with what its metadata names."""
    library = write_wheel(tmp_path, "nvidia-nccl-cu13", "2.30.7", {"nvidia/nccl.txt": ""})
    triton = write_wheel(tmp_path, "triton", "3.8.0", {"triton/__init__.py": ""}, tag=TAG)
    requires = [
        'triton==3.8.0; platform_system == "Linux"',
        'nvidia-nccl-cu13==2.30.7; platform_system == "Linux"',
    ]
    torch = write_wheel(
        tmp_path, "torch", "2.14.1", {"torch/version.py": ""}, requires=requires, tag=TAG
    )
    put(host, library, triton, torch)


def vision(folder, version, requires=("torch",)):
    """With what its check after a change asks of it."""
    files = {"torchvision/__init__.py": VISION}
    return write_wheel(folder, "torchvision", version, files, requires=requires, tag=TAG)


@pytest.mark.parametrize("more", [(), ("torch-scatter",)])
def test_ranges_that_exclude_each_other_are_named(environment, host, torch, tmp_path, more):
    """Which versions they hold, only the index knows: pip has seen them, also where it is asked for
    torch first."""
    for version, release in (("0.29.1", "2.14.1"), ("0.28.0", "2.13.0")):
        put(host, vision(tmp_path, version, requires=[f"torch=={release}"]))
    put(host, write_wheel(tmp_path, "torch", "2.11.0", {"torch/version.py": ""}, tag=TAG))
    before = environment.tree()
    document = environment.document("torch>=2.9,<2.12", "torchvision>=0.28", *more)
    assert (document["exit_code"], document["error"]["code"]) == (10, "no-candidate"), document
    message = document["error"]["message"]
    assert "torch<2.12,>=2.9 (on the command line) and torchvision>=0.28" in message
    assert "torchvision 0.28.0 requires torch==2.13.0" in message
    assert environment.tree() == before


@pytest.mark.parametrize(
    "words", [("torch", "torchvision"), ("torch==2.14.1", "torchvision"), ("user-of-both",)]
)
def test_what_pip_planned_together_is_taken(environment, host, torch, tmp_path, words):
    put(host, vision(tmp_path, "0.29.1", requires=["torch>=2.14.0"]))
    put(
        host,
        write_wheel(
            tmp_path, "user-of-both", "1.0", {"user.py": ""}, requires=["torch", "torchvision"]
        ),
    )
    document = environment.document("--dry-run", *words)
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {
        step["name"]: step["version"]
        for step in document["plan"]["steps"]
        if step["name"] != "user-of-both"
    }
    assert steps == {
        "torch": "2.14.1",
        "torchvision": "0.29.1",
        "triton": "3.8.0",
        "nvidia-nccl-cu13": "2.30.7",
    }
    assert pip_runs(host) == 1


def test_a_torch_that_cannot_compute_is_taken_back(environment, host, tmp_path):
    """There was none before, and it imports: still it is what was asked for."""
    version = "__version__ = '2.14.1+cu130'\ncuda = '13.0'\n"
    files = {"torch/version.py": version, "torch/__init__.py": "from torch.version import *\n"}
    put(host, write_wheel(tmp_path, "torch", "2.14.1", files, tag=TAG))
    before = environment.tree()
    done = environment.safe_install("torch")
    assert done.returncode == 12, done.stdout + done.stderr
    assert "torch on cpu fails" in done.stderr
    assert environment.tree() == before


def test_what_does_not_fit_is_chosen_again(environment, host, torch, tmp_path):
    """The metadata of the newest one on pip's index names no torch; the wheel index knows that it
    is for 2.13."""
    put(host, vision(tmp_path, "0.28.0"))
    other = vision(tmp_path, "0.29.1+cu130", requires=["torch==2.14.1"])
    host.add_pytorch_page("cu130", "torchvision", {other.name: other.read_bytes()})
    document = environment.document("--dry-run", "torch", "torchvision")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {step["name"]: step for step in document["plan"]["steps"]}
    assert steps["torchvision"]["version"] == "0.29.1+cu130"
    assert steps["torchvision"]["url"].startswith(PYTORCH)
    assert set(steps) == {"torch", "torchvision", "triton", "nvidia-nccl-cu13"}
    assert pip_runs(host) == 2


@pytest.mark.long
def test_an_extra_of_what_is_chosen_comes_too(environment, host, torch, tmp_path):
    put(host, vision(tmp_path, "0.28.0"), write_wheel(tmp_path, "needed", "1.0", {"needed.py": ""}))
    other = write_wheel(
        tmp_path,
        "torchvision",
        "0.29.1+cu130",
        {"torchvision/__init__.py": VISION},
        requires=["torch==2.14.1", 'needed; extra == "more"'],
        metadata="Provides-Extra: more",
        tag=TAG,
    )
    host.add_pytorch_page("cu130", "torchvision", {other.name: other.read_bytes()})
    document = environment.document("--dry-run", "torch", "torchvision[more]")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {step["name"]: step["version"] for step in document["plan"]["steps"]}
    assert (steps["torchvision"], steps["needed"]) == ("0.29.1+cu130", "1.0")


@pytest.mark.long
def test_nothing_that_fits_is_a_refusal_and_no_loop(environment, host, torch, tmp_path):
    """pip is asked once more: under the torch that this torchvision belongs to, which is not
    there."""
    put(host, vision(tmp_path, "0.28.0"))
    document = environment.document("--dry-run", "torch", "torchvision")
    assert document["exit_code"] == 10, document
    assert document["error"]["message"].startswith("no torchvision fits torch 2.14.1+cu130"), (
        document
    )
    assert document["error"]["hint"] == (
        "Name an index that has torch 2.13.0, which has torchvision: the package index has no such "
        "torch."
    )
    assert pip_runs(host) == 2


@pytest.mark.long
def test_an_extension_that_only_we_can_choose_costs_one_more_run(
    environment, host, torch, tmp_path
):
    files = {"torch_scatter/__init__.py": ""}
    scatter = write_wheel(
        tmp_path, "torch-scatter", "2.1.2+pt214cu130", files, tag="cp311-cp311-linux_x86_64"
    )
    host.add_pyg_page("2.14.0", "cu130", {scatter.name: scatter.read_bytes()})
    put(host, vision(tmp_path, "0.29.1", requires=["torch>=2.14.0"]))
    document = environment.document("--dry-run", "torch", "torchvision", "torch-scatter")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    assert {"torch", "torchvision", "torch-scatter"} <= {
        step["name"] for step in document["plan"]["steps"]
    }
    assert pip_runs(host) == 2


# --- the newest torch that has every extension ----------------------------------------------------


@pytest.fixture
def two_torches(host, tmp_path, environment):
    """torch 2.14.1 and 2.13.0 on the package index, and torch-scatter for 2.13.0 alone."""
    environment.variables["FAKE_DRIVER_CUDA"] = "13.0"
    for release in ("2.13.0", "2.14.1"):
        torch = Torch(f"{release}+cu130", release, "13.0")
        build_torch_and_scatter(
            tmp_path / release, "3.11", torch, f"2.1.2+pt{release[:-2].replace('.', '')}cu130"
        )
        put(host, *(tmp_path / release).glob("torch-*.whl"))
    (scatter,) = (tmp_path / "2.13.0").glob("torch_scatter-*.whl")
    host.add_pyg_page("2.13.0", "cu130", {scatter.name: scatter.read_bytes()})


LINE = "torch 2.14.1: no torch-scatter was built for it; 2.13.0 has torch-scatter"


def test_the_first_command_of_the_readme(environment, host, two_torches, tmp_path):
    put(host, vision(tmp_path, "0.28.0", requires=["torch==2.13.0"]))
    put(host, vision(tmp_path, "0.29.1", requires=["torch==2.14.1"]))
    command = "safe-install torch torchvision torch-scatter"
    done = environment.safe_install(*command.split()[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    frozen = environment.versions()
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= set(frozen), frozen
    assert environment.ask("import torch_scatter, torchvision; print('loads')") == "loads"
    host.requests.clear()
    again = environment.document(*command.split()[1:])
    assert again["outcome"] == "already-satisfied", again
    assert host.requests == [], "a script that runs again waits for no host"


def test_an_older_torch_comes_that_has_the_extension(environment, host, two_torches):
    before = environment.tree()
    done = environment.safe_install("torch", "torch-scatter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(LINE) == 1
    assert "torch 2.13.0+cu130 will be installed: extensions are chosen for it" in done.stderr
    frozen = environment.versions()
    assert "torch==2.13.0" in frozen and any(
        line.startswith("torch_scatter==2.1.2") for line in frozen
    ), frozen
    assert environment.cuda() == "2.13.0+cu130 True"
    assert environment.ask("import torch_scatter; print('loads')") == "loads"
    assert pip_runs(host) == 2
    verified = environment.document("verify")
    assert (verified["exit_code"], verified["outcome"]) == (0, "healthy"), verified
    undone = environment.document("undo")
    assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone["findings"]
    assert environment.tree() == before


@pytest.mark.long
def test_a_dry_run_shows_the_same_choice(environment, two_torches):
    document = environment.document("--dry-run", "torch>=2.9", "torch-scatter")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {step["name"]: step["version"] for step in document["plan"]["steps"]}
    assert (steps["torch"], steps["torch-scatter"][:5]) == ("2.13.0", "2.1.2")
    assert [
        finding["detail"] for finding in document["findings"] if finding["check"] == "older-torch"
    ] == [LINE]


@pytest.mark.long
def test_an_extension_that_something_else_brings_counts_too(
    environment, host, two_torches, tmp_path
):
    """pip's own choice: the newest torch, and the torch-scatter that its index has, which is for
    another one."""
    (scatter,) = (tmp_path / "2.13.0").glob("torch_scatter-*.whl")
    user = write_wheel(
        tmp_path, "user", "1.0", {"user.py": ""}, requires=["torch>=2.9", "torch-scatter"]
    )
    put(host, scatter, user)
    document = environment.document("--dry-run", "user")
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {step["name"]: step["version"] for step in document["plan"]["steps"]}
    assert (steps["user"], steps["torch"], steps["torch-scatter"]) == (
        "1.0",
        "2.13.0",
        "2.1.2+pt213cu130",
    )
    assert LINE in [finding["detail"] for finding in document["findings"]]
    assert pip_runs(host) == 2


@pytest.mark.parametrize(
    ("has_source", "requires"),
    [
        pytest.param(True, ["torch>=2.9", "torch-scatter"], id="source"),
        pytest.param(False, ["torch-scatter"], id="nothing", marks=pytest.mark.long),
    ],
)
def test_an_extension_that_pip_cannot_bring_counts_too(
    environment, host, two_torches, tmp_path, has_source, requires
):
    """Its source asks for the torch that is not there."""
    if has_source:
        put(host, make_sdist(tmp_path, "torch_scatter", backend="import torch\n"))
    put(host, write_wheel(tmp_path, "user", "1.0", {"user.py": ""}, requires=requires))
    done = environment.safe_install("user")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"torch==2.13.0", "torch_scatter==2.1.2+pt213cu130"} <= set(environment.versions())
    assert environment.ask("import torch_scatter; print('loads')") == "loads"
    assert pip_runs(host) <= 2


@pytest.mark.long
def test_upgrade_keeps_the_installed_torch_where_no_newer_one_has_the_extension(
    environment, two_torches
):
    environment.must_pip("install", "torch==2.13.0")
    done = environment.safe_install("-U", "torch", "torch-scatter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch 2.14.1: no torch-scatter was built for it; 2.13.0 stays" in done.stderr
    assert {"torch==2.13.0", "torch_scatter==2.1.2+pt213cu130"} <= set(environment.versions())


@pytest.mark.parametrize("how", ["requirement", pytest.param("constraint", marks=pytest.mark.long)])
def test_a_torch_that_is_pinned_is_refused_with_the_one_that_fits(
    environment, two_torches, tmp_path, how
):
    (tmp_path / "c.txt").write_text("torch==2.14.1\n")
    words = ("torch==2.14.1",) if how == "requirement" else ("torch", "-c", str(tmp_path / "c.txt"))
    document = environment.document("--dry-run", *words, "torch-scatter")
    assert (document["exit_code"], document["error"]["code"]) == (10, "no-candidate"), document
    assert document["error"]["message"].startswith("no torch-scatter fits torch 2.14.1+cu130")
    hint = "Ask for torch 2.13.0, which has torch-scatter: safe-install torch==2.13.0 torch-scatter"
    if how == "constraint":
        hint = "Permit torch 2.13.0, which has torch-scatter: torch 2.13.0 is excluded by torch==2.14.1."
    assert document["error"]["hint"] == hint


# --- nothing is fetched twice ---------------------------------------------------------------------


def test_a_wheel_is_fetched_once(environment, host, tmp_path):
    needed = write_wheel(tmp_path, "needed", "1.0", {"needed.py": ""})
    put(host, needed, write_wheel(tmp_path, "demo", "1.0", {"demo.py": ""}, requires=["needed"]))
    document = environment.document("demo")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    for name in ("demo", "needed"):
        assert len(host.asked(f"/served/{name}-")) == 1
        assert len(host.asked(f"/pypi/simple/{name}/")) == 1


@pytest.mark.parametrize(
    "words", [pytest.param((), marks=pytest.mark.long), ("--dry-run",)], ids=["install", "dry-run"]
)
def test_a_wheel_is_fetched_once_though_pip_is_asked_again(
    environment, host, two_torches, tmp_path, words
):
    """No metadata beside the files, and no header by which pip's own cache could keep them."""
    needed = write_wheel(
        tmp_path, "needed", "1.0", {"needed.py": ""}, metadata="Provides-Extra: all\n"
    )
    requires = ["needed[all]", "torchvision"]
    user = write_wheel(tmp_path, "user", "1.0", {"user.py": ""}, requires=requires)
    put(host, needed, user, vision(tmp_path, "0.27.0"))
    other = vision(tmp_path, "0.29.1+cu130", requires=["torch==2.14.1"])
    host.add_pytorch_page("cu130", "torchvision", {other.name: other.read_bytes()})
    environment.variables["PIP_NO_COLOR"] = "1"
    done = environment.safe_install(*words, "user")
    assert done.returncode == 0, done.stdout + done.stderr
    assert pip_runs(host) == 2
    for name in ("user", "needed", "torch"):
        assert len(host.asked(f"/served/{name}-")) == 1
    # what pip says is what it would say without us
    assert "Processing needed-1.0-py3-none-any.whl (from user)" in done.stdout
    assert "999" not in done.stdout + done.stderr
    if not words:
        frozen = environment.versions()
        assert {"user==1.0", "needed==1.0", "torch==2.14.1"} <= set(frozen), frozen


def test_a_wheel_is_fetched_once_though_pip_finds_no_plan_at_first(
    environment, host, two_torches, tmp_path
):
    """pip's own index has no torch-scatter at all."""
    needed = write_wheel(tmp_path, "needed", "1.0", {"needed.py": ""})
    requires = ["needed", "torch", "torch-scatter"]
    put(host, needed, write_wheel(tmp_path, "user", "1.0", {"user.py": ""}, requires=requires))
    done = environment.safe_install("--dry-run", "user")
    assert done.returncode == 0, done.stdout + done.stderr
    assert pip_runs(host) > 1
    assert len(host.asked("/served/user-")) == 1
    assert len(host.asked("/served/needed-")) == 1
    assert "999" not in done.stdout + done.stderr


@pytest.mark.long
def test_a_source_distribution_is_fetched_once(environment, host, tmp_path):
    put(host, make_sdist(tmp_path))
    document = environment.document("source")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    assert len(host.asked("/served/source-")) == 1
    assert len(host.asked("/pypi/simple/source/")) == 1
    assert environment.ask("import source; print(source.VALUE)") == "3"


def make_sdist(folder, name="source", backend=BACKEND):
    """Built by a backend that it brings itself, so that the build asks no index."""
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
    }
    path = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{path.name[: -len('.tar.gz')]}/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def test_wheels_beside_the_requirements_file_that_names_them(environment, tmp_path):
    """As with pip, `--find-links wheels` in a file is a folder beside it, also where we choose."""
    environment.variables["FAKE_DRIVER_CUDA"] = "13.0"
    build = Torch("2.14.1+cu130", "2.14.1", "13.0")
    build_torch_and_scatter(tmp_path / "sub" / "wheels", "3.11", build, "2.1.2+pt214cu130")
    write_wheel(tmp_path / "sub" / "wheels", "plain", "1.0", {"plain.py": ""}, requires=["torch"])
    lines = "--no-index\n--find-links wheels\ntorch\ntorch-scatter\nplain\n"
    (tmp_path / "sub" / "requirements.txt").write_text(lines)
    document = environment.document("-r", "sub/requirements.txt")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    assert "torch_scatter==2.1.2+pt214cu130" in environment.versions()


def test_a_dependency_brings_extensions_that_the_newest_torch_does_not_have(
    environment, host, two_torches, tmp_path
):
    """pip fails for each of them in its turn: torch was chosen when the first one was known, and
    the range of the second one excludes it. All are met by an older torch."""
    (scatter,) = (tmp_path / "2.14.1").glob("torch_scatter-*.whl")
    host.add_pyg_page("2.14.0", "cu130", {scatter.name: scatter.read_bytes()})
    put(host, vision(tmp_path, "0.28.0", requires=["torch==2.13.0"]))
    put(host, vision(tmp_path, "0.29.1", requires=["torch==2.14.1"]))
    requires = ["torch>=2.13", "torch-scatter", "torchvision<0.29"]
    put(host, write_wheel(tmp_path, "user-of-all", "1.0", {"user.py": ""}, requires=requires))
    document = environment.document("--dry-run", "user-of-all")
    assert document["exit_code"] == 0, document["error"]
    steps = {step["name"]: step["version"] for step in document["plan"]["steps"]}
    assert (steps["torch"], steps["torchvision"]) == ("2.13.0", "0.28.0")
    assert steps["torch-scatter"] == "2.1.2+pt213cu130"
