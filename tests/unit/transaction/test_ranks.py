"""Which rank makes the change, and what the others do: a table over Slurm's variables and over what
lies in the environment."""

from __future__ import annotations

from typing import Dict, Optional

import pytest

from safe_install.transaction.ranks import (
    Rank,
    Record,
    Turn,
    Watch,
    decide,
    hash_of_command,
    parse_rank,
    poll_interval,
)

STEP = {
    "SLURM_CLUSTER_NAME": "c",
    "SLURM_JOB_ID": "42",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "8",
    "SLURM_NODEID": "1",
}


def test_a_rank_of_a_step() -> None:
    rank = parse_rank(STEP)
    assert rank is not None
    assert (rank.number, rank.count, rank.node, rank.name) == (3, 8, 1, "job 42, step 0")


@pytest.mark.parametrize(
    "change",
    [
        {"SLURM_PROCID": None},  # a login node, salloc's shell
        {"SLURM_NTASKS": None},
        {"SLURM_STEP_ID": None},  # the script of sbatch: one process
        {"SLURM_JOB_ID": None},
        {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun -n1 in a job of eight tasks
        {"SLURM_PROCID": "8"},
        {"SLURM_PROCID": "-1"},
        {"SLURM_PROCID": "x"},
        {"SLURM_PROCID": ""},
        {"SLURM_PROCID": "²"},
        {"SLURM_PROCID": "9" * 40},
        {"SLURM_NTASKS": "8.0"},
    ],
)
def test_what_is_no_rank(change: Dict[str, Optional[str]]) -> None:
    environ = {**STEP, **change}
    assert parse_rank({key: text for key, text in environ.items() if text is not None}) is None


def test_the_tasks_of_the_step_count_and_not_those_of_the_job() -> None:
    rank = parse_rank({**STEP, "SLURM_STEP_NUM_TASKS": "4"})
    assert rank is not None
    assert rank.count == 4


def work(words: str = "torch-scatter", **change: str) -> str:
    rank = parse_rank({**STEP, **change})
    assert rank is not None
    return hash_of_command(rank, words.split())


def test_the_ranks_of_one_step_meet_and_no_others() -> None:
    assert work() == work(SLURM_PROCID="0", SLURM_NODEID="0", SLURM_LOCALID="0")
    others = [
        work("torch-sparse"),
        work("torch scatter"),
        work(SLURM_JOB_ID="43"),
        work(SLURM_STEP_ID="1"),
        work(SLURM_RESTART_COUNT="1"),  # the job was queued again
        work(SLURM_CLUSTER_NAME="other"),
        work(SLURM_JOB_START_TIME="1700000000"),  # Slurm's counter was set back
    ]
    assert len({work(), *others}) == len(others) + 1


BEGUN = Record(0, "node0")
MADE = Record(0, "node0", status=0)
FAILED = Record(0, "node0", status=12, message="CUDA is lost")


@pytest.mark.parametrize(
    ("number", "record", "has_lock", "turn"),
    [
        (0, None, True, Turn.LEAD),
        (5, None, True, Turn.LEAD),  # whoever comes first
        (5, None, False, Turn.WAIT),  # somebody leads, and has not said so yet
        (5, BEGUN, False, Turn.WAIT),
        (5, BEGUN, True, Turn.FIND_DEAD),  # the lock is free, and nothing was said
        (5, MADE, False, Turn.FOLLOW),
        (5, MADE, True, Turn.FOLLOW),
        (5, FAILED, False, Turn.FAIL),
        (5, FAILED, True, Turn.FAIL),
        # the leader once more: the same words twice in one step
        (0, BEGUN, False, Turn.WAIT),
        (0, BEGUN, True, Turn.LEAD),
        (0, MADE, False, Turn.WAIT),
        (0, MADE, True, Turn.LEAD),
        (0, FAILED, True, Turn.LEAD),
    ],
)
def test_what_a_rank_does(
    number: int, record: Optional[Record], has_lock: bool, turn: Turn
) -> None:
    assert decide(number, record, has_lock=has_lock) is turn


def test_many_ranks_look_less_often() -> None:
    assert poll_interval(2) < 1.1
    assert poll_interval(100) == 2.0
    assert poll_interval(10_000) == 15.0


def test_a_leader_without_a_sign_of_life() -> None:
    watch = Watch(seconds=180, looks=12)
    assert not any(watch.is_silent("a", now) for now in range(0, 180, 15))
    assert watch.is_silent("a", 180)
    assert not watch.is_silent("b", 195)


def test_one_long_wait_for_the_file_server_is_no_silence() -> None:
    """Nor is a job that was suspended: both the leader and who waits for it stood still."""
    watch = Watch(seconds=180, looks=12)
    assert not watch.is_silent("a", 0)
    assert not watch.is_silent("a", 5000)
    assert not watch.is_silent("b", 5001)


def test_a_rank_is_a_value() -> None:
    assert parse_rank(STEP) == parse_rank(dict(STEP))
    assert isinstance(parse_rank(STEP), Rank)
