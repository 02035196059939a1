"""`srun safe-install ...` with a real Slurm of two nodes, and the job of docs/slurm.md as it is
written there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.functional.conftest import ROOT, Environment
from tests.functional.slurm_lab import Slurm, why_not
from tests.lab.wheels import write_wheel

TORCH = "torch==1.8.1+cu111"
PROGRAM = [sys.executable, "-m", "safe_install"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with Slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def environment(make_environment: Callable[..., Environment], tmp_path: Path) -> Environment:
    made = make_environment("3.11", TORCH)
    projects = tmp_path / "projects"
    projects.mkdir()
    write_wheel(projects, "alpha", "1", {"alpha.py": "x = 1\n"})
    made.variables["PIP_FIND_LINKS"] += f" {projects}"
    return made


def run(slurm: Slurm, environment: Environment, *words: str, tasks: int = 2) -> int:
    """Two nodes with so many tasks each; the exit status of srun. What each task said lies in
    out-N.json."""
    folder = environment.prefix.parent
    command = ["srun", "-N2", f"--ntasks-per-node={tasks}"]
    command += ["--output", "out-%t.json", "--error", "err-%t"]
    completed = slurm.run([*command, *words], environment.variables, folder)
    return completed.returncode


def documents(environment: Environment) -> List[Dict[str, Any]]:
    folder = environment.prefix.parent
    return [json.loads(path.read_text()) for path in sorted(folder.glob("out-*.json"))]


def test_one_rank_of_two_nodes_changes_what_they_share(
    slurm: Slurm, environment: Environment
) -> None:
    assert run(slurm, environment, *PROGRAM, "install", "alpha", "--json") == 0
    found = [document["details"]["rank"] for document in documents(environment)]
    assert [rank["number"] for rank in found] == [0, 1, 2, 3]
    assert sorted(rank["node"] for rank in found) == [0, 0, 1, 1]
    assert sorted(rank["role"] for rank in found) == ["follower"] * 3 + ["leader"]
    assert len({rank["leader"] for rank in found}) == 1
    assert len({rank["step"] for rank in found}) == 1
    assert environment.ask("import alpha; print(alpha.x)") == "1"
    history = environment.document("history")["details"]["history"]
    assert len(history) == 1

    # A step later: the same words are another work.
    assert run(slurm, environment, *PROGRAM, "install", "alpha", "--json") == 0
    outcomes = sorted(document["outcome"] for document in documents(environment))
    assert outcomes == ["already-satisfied", "healthy", "healthy", "healthy"]


@pytest.mark.long
def test_each_node_changes_its_own(
    slurm: Slurm, environment: Environment, make_environment: Callable[..., Environment]
) -> None:
    folder = environment.prefix.parent
    for node in ("node0", "node1"):
        make_environment("3.11", TORCH, name=node)
    line = f'exec "$@" --python "{folder}/$(hostname)" install alpha --json'
    assert run(slurm, environment, "sh", "-c", line, "sh", *PROGRAM) == 0
    found = [document["details"]["rank"] for document in documents(environment)]
    for node in (0, 1):
        roles = [rank["role"] for rank in found if rank["node"] == node]
        assert sorted(roles) == ["follower", "leader"]


def test_what_is_rolled_back_ends_the_step_with_12(slurm: Slurm, environment: Environment) -> None:
    before = environment.tree()
    assert run(slurm, environment, *PROGRAM, "install", "torch==2.4.1", "--json") == 12
    assert [document["exit_code"] for document in documents(environment)] == [12] * 4
    assert environment.tree() == before


@pytest.mark.long
def test_the_job_of_the_documentation(
    slurm: Slurm, environment: Environment, lab_wheels: Callable[..., Any]
) -> None:
    extensions = lab_wheels("3.11").extensions / "1.8.1+cu111"
    environment.variables["PIP_FIND_LINKS"] += f" {extensions}"
    text = (ROOT / "docs" / "slurm.md").read_text()
    found = re.search(r"^```sh\n(#!/bin/sh\n#SBATCH.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    job = found.group(1)
    folder = environment.prefix.parent
    (folder / "bin").mkdir()
    program = folder / "bin" / "safe-install"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safe_install "$@"\n')
    program.chmod(0o755)
    (folder / "train.py").write_text("import torch_scatter; print('trained')\n")
    for old, new in {
        "--nodes=4": "--nodes=2",
        "--ntasks-per-node=8": "--ntasks-per-node=2",
        " --gpus-per-node=8": "",
        "/shared/venv": str(environment.prefix),
    }.items():
        assert old in job
        job = job.replace(old, new)
    (folder / "job.sh").write_text(job)
    # It names the environment of which this one is a copy.
    activate = environment.prefix / "bin" / "activate"
    line = f'VIRTUAL_ENV="{environment.prefix}"'
    activate.write_text(re.sub("^VIRTUAL_ENV=.*$", line, activate.read_text(), flags=re.MULTILINE))
    environment.variables["PATH"] = f"{folder / 'bin'}:{environment.variables['PATH']}"
    command = ["sbatch", "--wait", "--output", "job.out", "job.sh"]
    completed = slurm.run(command, environment.variables, folder)
    told = (folder / "job.out").read_text()
    assert completed.returncode == 0, told
    assert told.count("trained") == 4
    assert told.count("made the change in") == 3
