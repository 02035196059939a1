"""`srun safe-install ...`: several processes with the variables that Slurm gives them, in real
environments. With a real Slurm: tests/slurm."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.functional.conftest import Environment, read_document
from tests.lab.wheels import write_wheel

TORCH = "torch==1.8.1+cu111"


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alpha")
    write_wheel(folder, "alpha", "1", {"alpha.py": "x = 1\n"})
    return folder


@pytest.fixture
def environment(make_environment: Callable[..., Environment], alpha: Path) -> Environment:
    return known(make_environment("3.11", TORCH), alpha)


def known(environment: Environment, alpha: Path) -> Environment:
    links = f"{environment.variables['PIP_FIND_LINKS']} {alpha}"
    environment.variables["PIP_FIND_LINKS"] = links
    return environment


def start(
    environment: Environment, number: int, *words: str, of: int = 4, **variables: str
) -> subprocess.Popen[str]:
    """A rank; two of them on each node."""
    slurm = {
        "SLURM_JOB_ID": "42",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(number),
        "SLURM_NTASKS": str(of),
        "SLURM_NODEID": str(number // 2),
        "SLURM_LOCALID": str(number % 2),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "safe_install", *words, "--json"],
        env={**environment.variables, **slurm, **variables},
        cwd=environment.prefix.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> Dict[str, Any]:
    """Its document, when it has ended."""
    told, errors = process.communicate(timeout=300)
    return read_document(
        subprocess.CompletedProcess(process.args, process.returncode, told, errors)
    )


def run_all(environment: Environment, *words: str, **variables: str) -> List[Dict[str, Any]]:
    return [end(one) for one in [start(environment, n, *words, **variables) for n in range(4)]]


def roles(documents: List[Dict[str, Any]]) -> List[str]:
    return sorted(document["details"]["rank"]["role"] for document in documents)


def history(environment: Environment) -> List[Any]:
    return list(environment.document("history")["details"]["history"])


def test_of_four_ranks_one_changes_a_shared_environment(environment: Environment) -> None:
    documents = run_all(environment, "install", "alpha")
    assert [document["exit_code"] for document in documents] == [0] * 4
    assert roles(documents) == ["follower", "follower", "follower", "leader"]
    outcomes = {one["details"]["rank"]["role"]: one["outcome"] for one in documents}
    assert outcomes == {"leader": "installed", "follower": "healthy"}
    assert all(document["after"]["cuda_available"] is True for document in documents)
    assert len(history(environment)) == 1
    assert (environment.site / "alpha.py").is_file()

    late = end(start(environment, 3, "install", "alpha", of=5))
    assert late["exit_code"] == 0
    removed = run_all(environment, "uninstall", "-y", "alpha")
    assert [document["exit_code"] for document in removed] == [0] * 4
    assert roles(removed).count("leader") == 1
    assert not (environment.site / "alpha.py").exists()


def test_a_change_that_breaks_torch_fails_for_all(environment: Environment) -> None:
    before = environment.tree()
    documents = run_all(environment, "install", "torch==2.4.1")
    assert [document["exit_code"] for document in documents] == [12] * 4
    assert roles(documents).count("leader") == 1
    codes = [one["error"]["code"] for one in documents if one["error"] is not None]
    assert codes == ["leader-failed"] * 3
    assert environment.tree() == before


def test_an_environment_of_its_own_on_each_node(
    make_environment: Callable[..., Environment], alpha: Path
) -> None:
    nodes = [known(make_environment("3.11", TORCH, name=f"node{n}"), alpha) for n in range(2)]
    started = [start(nodes[number // 2], number, "install", "alpha") for number in range(4)]
    documents = [end(one) for one in started]
    assert [document["exit_code"] for document in documents] == [0] * 4
    for number in range(2):
        assert roles(documents[2 * number : 2 * number + 2]) == ["follower", "leader"]
        assert len(history(nodes[number])) == 1


def test_a_node_without_its_driver_is_not_healthy(environment: Environment, tmp_path: Path) -> None:
    """The leader's is; the exit status of each rank is that of its node."""
    words = ("install", "alpha", "--require-cuda")
    assert end(start(environment, 0, *words))["exit_code"] == 0
    here, elsewhere = (
        end(start(environment, number, *words, **variables))
        for number, variables in ((1, {}), (2, {"FAKE_CUINIT_RC": "100"}))
    )
    assert (here["exit_code"], here["outcome"]) == (0, "healthy")
    assert (elsewhere["exit_code"], elsewhere["outcome"]) == (1, "unhealthy"), elsewhere


@pytest.fixture
def silent_host() -> Iterator[str]:
    """An address that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.long
def test_a_leader_that_is_killed(environment: Environment, silent_host: str) -> None:
    before = environment.tree()
    words = ("install", "alpha")
    leader = start(environment, 0, *words, PIP_FIND_LINKS=silent_host)
    deadline = time.monotonic() + 60
    while not list(environment.prefix.glob(".safe-install/step-*.json")):
        assert time.monotonic() < deadline, leader.poll()
        time.sleep(0.05)
    followers = [start(environment, number, *words) for number in (1, 2)]
    time.sleep(1.5)
    assert [one.poll() for one in followers] == [None, None]
    leader.kill()
    leader.communicate()
    documents = [end(one) for one in followers]
    assert [document["exit_code"] for document in documents] == [1, 1]
    for document in documents:
        assert "ended without a word (killed?)" in document["error"]["message"]
    assert environment.tree() == before
    again = [start(environment, number, *words) for number in (0, 1)]
    # The leader was started once more: of the others each follows it, or has heard the old word.
    assert end(again[0])["exit_code"] == 0
    end(again[1])


@pytest.mark.long
def test_the_scripts_of_a_job_and_dry_runs_are_as_ever(environment: Environment) -> None:
    for document in run_all(environment, "install", "--dry-run", "alpha"):
        assert (document["exit_code"], document["outcome"]) == (0, "planned")
        assert "rank" not in document["details"]
    alone = end(start(environment, 0, "install", "alpha", of=1))
    assert (alone["exit_code"], alone["outcome"]) == (0, "installed")
    assert "rank" not in alone["details"]
    names = os.listdir(environment.prefix / ".safe-install")
    assert not [name for name in names if name.startswith("step")]
