"""torch works, one innocent install, torch is blind: with plain pip, and with safe-install.

torch, its libraries and the packages are stand-ins (tests/lab); pip, the virtual environments, the
loader and the processes are real. The driver serves CUDA 11.1, so torch 2.4.1, built for 12.1,
cannot use it.
"""

from __future__ import annotations

import ctypes
import fcntl
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.choice import long_unless
from tests.functional.conftest import Environment, read_document
from tests.unit.wheels.crafted import make_wheel
from tests.wheelhost import WheelHost

TORCH = "torch==1.8.1+cu111"
GOOD = "1.8.1+cu111 True"
BLIND = "2.4.1+cu121 False"
SIGNALS = [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long), (signal.SIGINT, 130)]


@pytest.fixture(params=["3.8", pytest.param("3.11", marks=pytest.mark.long)])
def python(request) -> str:
    """The story is one of Python 3.8."""
    return str(request.param)


@pytest.fixture
def environment(make_environment, python) -> Environment:
    made = make_environment(python, TORCH)
    assert made.cuda() == GOOD
    return made


# --- a dependency that pulls another torch --------------------------------------------------------


def test_plain_pip_succeeds_and_torch_is_blind(environment):
    assert environment.pip("install", "harmful-tools").returncode == 0
    assert environment.pip("check").returncode == 0
    assert environment.cuda() == BLIND


@pytest.mark.parametrize("project", ["harmful-tools", "deep-tools"])
def test_what_moves_torch_is_refused(environment, project):
    before = environment.tree()
    document = environment.document("install", project)
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert "harmful-tools 1.0" in document["error"]["message"]
    assert "torch==2.4.1" in document["error"]["message"]
    assert environment.tree() == before
    assert environment.cuda() == GOOD


@pytest.mark.parametrize(
    "words",
    [
        ("--allow-torch-change", "harmful-tools"),
        ("torch==2.4.1",),
        pytest.param(("torch==2.4.1", "deep-tools"), marks=pytest.mark.long),
    ],
)
def test_a_permitted_change_that_loses_cuda_is_rolled_back(environment, words):
    before = environment.tree()
    document = environment.document("install", *words)
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    assert "cuda-lost" in [finding["check"] for finding in document["findings"]]
    assert document["before"]["cuda_available"] is True
    assert document["after"]["cuda_available"] is False
    assert environment.tree() == before
    assert environment.cuda() == GOOD


def test_no_rollback_keeps_the_change_and_undo_takes_it_back(environment):
    before = environment.tree()
    document = environment.document("install", "--no-rollback", "torch==2.4.1")
    assert (document["exit_code"], document["outcome"]) == (12, "unhealthy")
    assert environment.cuda() == BLIND
    undone = environment.document("undo")
    assert (undone["exit_code"], undone["outcome"]) == (0, "undone")
    assert environment.tree() == before
    assert environment.cuda() == GOOD


def test_an_undo_that_breaks_torch_again_is_rolled_back_and_says_how_to_insist(environment):
    environment.document("install", "--no-rollback", "torch==2.4.1")
    mended = environment.document("undo")["transaction"]
    healthy = environment.tree()
    document = environment.document("undo", mended)
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    assert environment.tree() == healthy
    hint = document["findings"][-1]["hint"]
    _, line = hint.split("safe-install ")
    assert environment.safe_install(*line.split()).returncode == 12
    assert environment.cuda() == BLIND


def test_the_text_names_who_wanted_torch_moved(environment):
    completed = environment.safe_install("install", "deep-tools")
    assert completed.returncode == 11
    assert "harmful-tools 1.0 requires torch==2.4.1" in completed.stderr
    assert "--allow-torch-change" in completed.stderr


# --- what nothing but an import can see -----------------------------------------------------------


def test_a_dependency_that_breaks_the_import_is_found_afterwards(environment):
    before = environment.tree()
    document = environment.document("install", "sneaky-tools")
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    (finding,) = [
        finding for finding in document["findings"] if finding["check"] == "import-failed"
    ]
    assert finding["subject"] == "torch"
    assert "Literal" in finding["detail"]
    assert environment.tree() == before
    assert environment.cuda() == GOOD


@pytest.mark.long
def test_plain_pip_does_not_see_it(environment):
    environment.must_pip("install", "sneaky-tools")
    environment.must_pip("check")
    assert environment.cuda().startswith("ImportError")


def test_an_extension_of_another_torch_is_refused(environment, lab_wheels, python):
    (wheel,) = lab_wheels(python).foreign.glob("*.whl")
    before = environment.tree()
    document = environment.document("install", str(wheel))
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    errors = [finding for finding in document["findings"] if finding["severity"] == "error"]
    assert [(finding["check"], finding["subject"]) for finding in errors] == [
        ("does-not-load", "torch-scatter")
    ]
    assert "_scatter_cuda.so needs 2 symbols that nothing here defines" in errors[0]["detail"]
    assert environment.tree() == before


def test_an_environment_that_was_broken_before_is_not_blamed_on_the_install(environment):
    environment.must_pip("install", "sneaky-tools")
    document = environment.document("install", "nvidia-nccl-cu12")
    assert (document["exit_code"], document["outcome"]) == (0, "installed")
    assert "nvidia-nccl-cu12==2.18.1" in environment.versions()


def test_a_driver_that_was_always_too_old_is_not_blamed_on_the_install(make_environment, python):
    environment = make_environment(python, "torch==2.4.1", FAKE_DRIVER_CUDA="11.1")
    assert environment.cuda() == BLIND
    document = environment.document("install", "nvidia-nccl-cu12")
    assert (document["exit_code"], document["outcome"]) == (0, "installed")


# --- the extension that fits ----------------------------------------------------------------------


def reach(host: WheelHost) -> dict:
    """The variables that let a command ask this host, and no other."""
    return {
        "SAFE_INSTALL_MIRRORS": host.mirrors,
        "PIP_NO_INDEX": "",
        "PIP_INDEX_URL": host.index_url,
    }


# Python, torch as pip names it, as hosts name it, their base, accelerator, driver, version
HOSTED = [
    ("3.8", "1.8.1+cu111", "1.8.1+cu111", "1.8.0", "cu111", "11.1", "2.0.8"),
    ("3.11", "2.4.1", "2.4.1+cu121", "2.4.0", "cu121", "12.1", "2.1.2+pt24cu121"),
]


@pytest.fixture(params=long_unless(HOSTED[0].__eq__, HOSTED), ids=[row[0] for row in HOSTED])
def hosted(request, make_environment, lab_wheels):
    """An environment, a host with the page of the base version, and the version to be chosen
    there."""
    python, torch, runtime, base, accelerator, cuda, version = request.param
    (wheel,) = (lab_wheels(python).extensions / runtime).glob("*.whl")
    with WheelHost() as host:
        host.add_pyg_page(base, accelerator, {wheel.name: wheel.read_bytes()})
        environment = make_environment(
            python, f"torch=={torch}", FAKE_DRIVER_CUDA=cuda, **reach(host)
        )
        yield environment, host, version, f"torch-{base}+{accelerator}/{wheel.name}"


def test_the_hosts_wheel_for_this_torch_is_chosen_installed_and_tried(hosted):
    environment, host, version, path = hosted
    before = environment.tree()
    document = environment.document("torch-scatter")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    (step,) = document["plan"]["steps"]
    assert (step["name"], step["version"], step["kind"]) == ("torch-scatter", version, "wheel")
    assert host.asked(path)
    operations = document["after"]["operations"]
    assert operations["torch-scatter on cuda"]["ok"] and operations["torch-scatter on cpu"]["ok"]
    code = (
        "import torch, torch_scatter as s; print(s.scatter(torch.tensor([1, 2, 3]), "
        "torch.tensor([0, 0, 1])).tolist())"
    )
    assert environment.ask(code) == "[3.0, 3.0]"
    assert environment.safe_install("undo", document["transaction"]).returncode == 0
    assert environment.tree() == before


def test_an_extension_deep_in_the_tree_is_the_one_that_fits(hosted):
    environment, _, version, _ = hosted
    document = environment.document("install", "scatter-user")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    assert {step["name"]: step["version"] for step in document["plan"]["steps"]} == {
        "scatter-user": "1.0",
        "torch-scatter": version,
    }


def test_a_second_time_there_is_nothing_to_do(hosted):
    environment, *_ = hosted
    assert environment.safe_install("torch-scatter").returncode == 0
    after = environment.tree()
    document = environment.document("torch-scatter")
    assert (document["exit_code"], document["outcome"]) == (0, "already-satisfied")
    assert environment.tree() == after


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        pytest.param({}, "its page is empty", id="empty"),
        pytest.param(None, "has no page for this torch", id="missing", marks=pytest.mark.long),
        pytest.param("stop", "does not answer", id="down", marks=pytest.mark.long),
    ],
)
def test_no_fitting_wheel_is_exit_10_and_the_host_says_why(make_environment, page, answer):
    with WheelHost() as host:
        if page == {}:
            host.add_pyg_page("1.8.0", "cu111", page)
        environment = make_environment("3.8", TORCH, **reach(host))
        before = environment.tree()
        if page == "stop":
            host.stop()
        document = environment.document("install", "--no-build", "torch-scatter")
    assert document["exit_code"] == 10
    assert f"data.pyg.org: {answer}" in document["error"]["message"]
    assert environment.tree() == before


# --- files of two owners --------------------------------------------------------------------------


@pytest.fixture
def nccl_environment(make_environment, python) -> Environment:
    """torch 2.14.1 with the CUDA library that it loads from another distribution."""
    made = make_environment(python, "torch==2.14.1", FAKE_DRIVER_CUDA="13.0")
    assert made.cuda() == "2.14.1+cu130 True"
    return made


@pytest.mark.parametrize("project", ["nvidia-nccl-cu12", "xgboost"])
def test_a_library_that_another_distribution_owns_is_not_overwritten(nccl_environment, project):
    before = nccl_environment.tree()
    document = nccl_environment.document("install", project)
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert "nvidia-nccl-cu13" in str(document["error"]) + str(document["findings"])
    assert nccl_environment.tree() == before
    assert nccl_environment.cuda() == "2.14.1+cu130 True"


@pytest.mark.long
def test_plain_pip_overwrites_it(nccl_environment):
    nccl_environment.must_pip("install", "xgboost")
    assert "ncclCommResume" in nccl_environment.cuda()


@pytest.fixture
def shared_environment(make_environment, python) -> Environment:
    """Both distributions, installed in the order in which torch works."""
    made = make_environment(python, "nvidia-nccl-cu12", "torch==2.14.1", FAKE_DRIVER_CUDA="13.0")
    assert made.cuda() == "2.14.1+cu130 True"
    return made


@pytest.mark.long
def test_plain_pip_uninstalls_a_library_that_torch_loads(shared_environment):
    shared_environment.must_pip("uninstall", "-y", "nvidia-nccl-cu12")
    assert "libnccl.so.2" in shared_environment.cuda()


def test_uninstall_leaves_what_another_distribution_owns(shared_environment):
    before = shared_environment.tree()
    document = shared_environment.document("uninstall", "-y", "nvidia-nccl-cu12")
    assert (document["exit_code"], document["outcome"]) == (0, "uninstalled")
    assert not [line for line in shared_environment.versions() if "cu12" in line]
    assert shared_environment.cuda() == "2.14.1+cu130 True"
    assert shared_environment.document("undo")["exit_code"] == 0
    assert shared_environment.tree() == before


def test_uninstalling_what_torch_needs_is_refused_and_where_permitted_rolled_back(nccl_environment):
    before = nccl_environment.tree()
    document = nccl_environment.document("uninstall", "-y", "nvidia-nccl-cu13")
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    document = nccl_environment.document(
        "uninstall", "-y", "--allow-torch-change", "nvidia-nccl-cu13"
    )
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    assert nccl_environment.tree() == before


# --- torch goes and comes back --------------------------------------------------------------------


def test_plain_uninstall_of_torch_beside_a_file_of_ones_own_leaves_a_ruin(environment):
    (environment.site / "torch" / "my_notes.txt").write_text("mine\n")
    environment.must_pip("uninstall", "-y", "torch")
    assert "has no attribute" in environment.cuda()


def test_undo_brings_torch_back_beside_a_file_of_ones_own(environment):
    (environment.site / "torch" / "my_notes.txt").write_text("mine\n")
    before = environment.tree()
    document = environment.document("uninstall", "-y", "torch")
    assert (document["exit_code"], document["outcome"]) == (0, "uninstalled")
    assert (environment.site / "torch" / "my_notes.txt").read_text() == "mine\n"
    assert environment.document("undo")["outcome"] == "undone"
    assert environment.tree() == before
    assert environment.cuda() == GOOD


def test_a_vendors_torch_is_kept(make_environment, lab_wheels, python):
    (wheel,) = lab_wheels(python).vendor.glob("*.whl")
    environment = make_environment(python, str(wheel), FAKE_DRIVER_CUDA="12.9")
    assert environment.cuda() == "2.8.0a0+5228986c39.nv25.05 True"
    before = environment.tree()
    document = environment.document("install", "harmful-tools")
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert environment.tree() == before
    assert environment.document("install", "-U", "nvidia-nccl-cu12")["exit_code"] == 0
    assert environment.cuda() == "2.8.0a0+5228986c39.nv25.05 True"


# --- history --------------------------------------------------------------------------------------


def test_history_and_undo_walk_back_to_the_first_tree(environment):
    trees = [environment.tree()]
    for project in ("nvidia-nccl-cu12", "nvidia-nccl-cu13==2.30.7", "typing-extensions"):
        environment.safe_install("install", project)
        trees.append(environment.tree())
    entries = environment.document("history")["details"]["history"]
    assert [entry["steps"][0]["name"] for entry in entries] == ["nvidia-nccl-cu12"]
    assert trees[3] == trees[1], "a file of two owners was refused, and typing-extensions was there"
    undone = environment.document("undo", entries[0]["id"])
    assert undone["exit_code"] == 0
    assert environment.tree() == trees[0]
    entries = environment.document("history")["details"]["history"]
    assert [entry["undone_by"] for entry in entries if entry["undoes"] is None] == [
        undone["transaction"]
    ]


def make_simple_wheel(folder, name, requires=""):
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    return make_wheel(
        folder,
        {f"{name}.py": "x = 1\n"},
        filename=f"{name}-1.0-py3-none-any.whl",
        metadata=f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requirement}",
        wheel="Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        dist_info=f"{name}-1.0.dist-info",
    )


@pytest.mark.parametrize("by_pip", [False, True])
def test_undo_of_what_a_later_package_needs_is_refused(make_environment, tmp_path, by_pip):
    environment = make_environment("3.8", TORCH)
    needed = make_simple_wheel(tmp_path, "needed")
    needs = make_simple_wheel(tmp_path, "needs", "needed>=1")
    first = environment.document("install", str(needed))["transaction"]
    if by_pip:
        environment.must_pip("install", str(needs))
    else:
        environment.safe_install("install", str(needs))
    before = environment.tree()
    refused = environment.document("undo", first)
    assert (refused["exit_code"], refused["outcome"]) == (11, "refused")
    assert "needs 1.0 requires needed>=1" in refused["error"]["message"]
    assert "--force" in refused["error"]["hint"]
    assert environment.tree() == before
    forced = environment.document("undo", "--force", first)
    assert forced["exit_code"] == 0
    assert [(one["severity"], one["detail"]) for one in forced["findings"]] == [
        ("warning", "needs 1.0 requires needed>=1, which is not installed.")
    ]
    assert "needed==1.0" not in environment.versions()


def test_undo_brings_back_a_requirement_that_was_unmet_before(make_environment, tmp_path):
    environment = make_environment("3.8", TORCH)
    environment.must_pip(
        "install", "--no-deps", str(make_simple_wheel(tmp_path, "needs", "needed>=1"))
    )
    before = environment.tree()
    environment.document("install", str(make_simple_wheel(tmp_path, "needed")))
    assert environment.document("undo")["exit_code"] == 0
    assert environment.tree() == before


# --- documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "outcome"),
    [
        (["verify"], 0, "healthy"),
        (["verify", "--require-cuda"], 0, "healthy"),
        (["explain", "--offline", "--no-build", "torch-scatter"], None, None),
        (["history"], 0, "listed"),
        (["recover"], 0, "recovered"),
        (["undo"], 11, "refused"),
        (["undo", "nonsense"], 11, "refused"),
        (["install", "--dry-run", "nvidia-nccl-cu12"], 0, "planned"),
        (["install", "typing-extensions"], 0, "already-satisfied"),
        (["install", "no-such-project-anywhere"], 1, "error"),
        (["install", "--python", "/nowhere", "x"], 2, "error"),
        (["install"], 1, "error"),
        (["uninstall", "-y", "no-such-project-anywhere"], 0, "already-satisfied"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_document_is_valid(make_environment, words, status, outcome):
    environment = make_environment("3.11", TORCH)
    document = environment.document(*words)  # held against the schema there
    if status is not None:
        assert (document["exit_code"], document["outcome"]) == (status, outcome), document["error"]


def test_a_driver_that_goes_away_is_not_healthy_when_cuda_is_required(environment):
    completed = environment.safe_install("verify", "--require-cuda", "--json", FAKE_CUINIT_RC="999")
    assert completed.returncode == 1
    completed = environment.safe_install(
        "install", "--require-cuda", "nvidia-nccl-cu12", FAKE_CUINIT_RC="999"
    )
    assert completed.returncode == 11
    assert "nvidia-nccl-cu12" not in " ".join(environment.versions())


def test_a_torch_folder_without_its_libraries_is_answered(environment):
    shutil.rmtree(environment.site / "torch" / "lib")
    assert environment.document("verify")["outcome"] == "unhealthy"


# --- exit statuses that are not verdicts ----------------------------------------------------------


def test_an_environment_that_another_one_holds_is_exit_14(environment):
    folder = environment.prefix / ".safe-install"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = environment.document("install", "nvidia-nccl-cu12")
    assert document["exit_code"] == 14
    assert document["error"]["code"] == "environment-locked"
    assert environment.document("install", "nvidia-nccl-cu12")["exit_code"] == 0


def test_an_interpreter_that_does_not_answer_is_exit_15(environment, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no encodings' >&2\nexit 3\n")
    broken.chmod(0o755)
    document = environment.document("install", "--python", str(broken), "nvidia-nccl-cu12")
    assert document["exit_code"] == 15
    assert "no encodings" in document["error"]["message"]


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_the_command_and_changes_nothing(make_environment, number, status):
    with WheelHost() as host:
        host.misbehave("torch-1.8", "hang")
        environment = make_environment("3.8", TORCH, **reach(host))
        before = environment.tree()
        command = [sys.executable, "-m", "safe_install", "install", "--json", "torch-scatter"]
        with subprocess.Popen(
            command,
            env=environment.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 30
            while not host.asked("torch-1.8") and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(number)
            output, words = process.communicate(timeout=30)
    document = read_document(
        subprocess.CompletedProcess(command, process.returncode, output, words)
    )
    assert (document["exit_code"], document["error"]["code"]) == (status, "interrupted")
    assert environment.tree() == before


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_while_an_import_hangs_is_acted_on_at_once(
    make_environment, tmp_path, number, status
):
    environment = make_environment("3.8", TORCH)
    marker = tmp_path / "imported"
    hangs = f"import time\nopen({str(marker)!r}, 'w').close()\ntime.sleep(600)\n"
    wheel = make_wheel(
        tmp_path,
        {"torchdata/__init__.py": hangs},
        filename="torchdata-0.3.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: torchdata\nVersion: 0.3.0\n",
        wheel="Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        dist_info="torchdata-0.3.0.dist-info",
    )
    before = environment.tree()
    command = [sys.executable, "-m", "safe_install", "install", "--json", str(wheel)]
    with subprocess.Popen(
        command,
        env=environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        sent = time.monotonic()
        process.send_signal(number)
        output, words = process.communicate(timeout=60)
    assert marker.exists(), output + words
    # A second where the machine is quiet; it used to be the time limit of the check, minutes.
    assert time.monotonic() - sent < 10
    document = read_document(
        subprocess.CompletedProcess(command, process.returncode, output, words)
    )
    assert (document["exit_code"], document["error"]["code"]) == (status, "interrupted")
    assert environment.tree() == before


# --- image builds ---------------------------------------------------------------------------------


def _system_has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(
    _system_has_driver(), reason="this machine has a real driver, which cannot be taken away"
)
def test_without_a_driver_nothing_is_claimed_about_cuda(make_environment, python):
    """An image build: the CUDA build stays, and what could not be asked is not called available."""
    environment = make_environment(python, TORCH, LD_LIBRARY_PATH="")
    document = environment.document("install", "nvidia-nccl-cu12")
    assert document["exit_code"] == 0
    assert document["before"]["cuda_available"] is None
    assert document["after"]["cuda_available"] is None
    assert environment.document("verify")["exit_code"] == 0
    assert environment.document("verify", "--require-cuda")["exit_code"] == 1
    assert environment.document("install", "harmful-tools")["exit_code"] == 11
