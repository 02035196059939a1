"""SIGKILL before every system call of a change, each call failing; `python -m tests.crash.every_step
STORY FOLDER [ACTION]`.

Thousands of children are forked: of a process of its own, which is small, and not of the one that
runs the tests. What was counted is printed; a broken promise ends it by an assertion.
"""

from __future__ import annotations

import argparse
import ctypes  # noqa: F401 - for the children, each of which would import it
import json
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, Mapping

from tests.crash.victim import ACTIONS, ERRORS, Trial, fail

Counts = Dict[str, int]


def kill_once(trial: Trial, action: str) -> Counts:
    """Kill, recover, compare; at each step, until the action lives to its end."""
    step = 0
    while True:
        step += 1
        trial.begin(action)
        if trial.run(action, die_at=step) is None:
            return {"kills": step - 1}
        assert trial.run("recover") is None
        assert trial.is_exact(action), f"{action} killed at {step}"


def leave_unrecovered(trial: Trial, action: str) -> Counts:
    """Kill, and compare without a recovery."""
    mixed = 0
    for step in range(1, 100):
        trial.begin(action)
        if trial.run(action, die_at=step) is None:
            break
        mixed += not trial.is_exact(action)
    return {"mixed": mixed}


def kill_twice(trial: Trial, action: str) -> Counts:
    """Every third step of the action, and for each every step of the recovery."""
    step, pairs = 0, 0
    while True:
        step += 3
        again, killed = 0, None
        while True:
            again += 1
            trial.begin(action)
            killed = trial.run(action, die_at=step)
            if killed is None or trial.run("recover", die_at=again) is None:
                break
            assert trial.run("recover") is None
            assert trial.is_exact(action), f"killed at {step}, the recovery at {again}"
            pairs += 1
        if killed is None:
            return {"pairs": pairs}


def fail_each(trial: Trial, action: str) -> Counts:
    """Every other one alone, those between with all that follow; full.py does both for each, with
    every error. Counted by exit status, -1 where there are fewer calls."""
    statuses: Counter[str] = Counter()
    at = 0
    while statuses["-1"] < 2:
        at += 1
        code = ERRORS[at // 2 % len(ERRORS)]
        statuses[str(fail(trial, action, at, code, sticky=at % 2 == 0))] += 1
    return dict(statuses)


STORIES: Mapping[str, Callable[[Trial, str], Counts]] = {
    "kill-once": kill_once,
    "leave-unrecovered": leave_unrecovered,
    "kill-twice": kill_twice,
    "fail-each": fail_each,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("story", choices=STORIES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--by-file", action="store_true")
    options = parser.parse_args()
    trial = Trial(options.folder / "env", by_file=options.by_file)
    print(json.dumps(STORIES[options.story](trial, options.action)))


if __name__ == "__main__":
    main()
