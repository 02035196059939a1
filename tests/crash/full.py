"""The long form: every pair of crash points, each call failing with each error, then kills at
random moments.

python tests/crash/full.py [--kills 500] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.crash.victim import ACTIONS, ERRORS, Trial, fail  # noqa: E402


def kill_in_pairs(trial: Trial, action: str) -> Counter[str]:
    found: Counter[str] = Counter()
    step = 0
    while True:
        step += 1
        again, killed = 0, None
        while True:
            again += 1
            trial.begin(action)
            killed = trial.run(action, die_at=step)
            if killed is None or trial.run("recover", die_at=again) is None:
                break
            trial.run("recover")
            found[judge(trial, action, f"at {step}, then at {again}")] += 1
        if killed is None:
            return found


def fail_each_call(trial: Trial, action: str) -> Counter[str]:
    """Each call with each error, alone and with all that follow; counted by exit status."""
    found: Counter[str] = Counter()
    at = 0
    while found["no more calls"] < 2 * len(ERRORS):
        at += 1
        for code in ERRORS:
            for sticky in (False, True):
                try:
                    status = fail(trial, action, at, code, sticky=sticky)
                    found["no more calls" if status == -1 else str(status)] += 1
                except AssertionError as error:
                    print(error, flush=True)
                    found["neither"] += 1
    return found


def kill_at_random(trial: Trial, action: str, generator: random.Random) -> str:
    trial.begin(action)
    started = time.monotonic()
    trial.run(action)
    length = time.monotonic() - started
    trial.begin(action)
    kill_later(trial, action, generator.uniform(0, length))
    while generator.random() < 0.5:
        kill_later(trial, "recover", generator.uniform(0, length / 2))
    trial.run("recover")
    return judge(trial, action, "at a random moment")


def kill_later(trial: Trial, action: str, seconds: float) -> None:
    child = os.fork()
    if child == 0:
        try:
            if trial.by_file:
                from tests.exdev import refuse_renames_of_directories

                refuse_renames_of_directories(setattr)
            trial._act(action)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def judge(trial: Trial, action: str, where: str) -> str:
    if trial.hash() == trial.before:
        return "before"
    if trial.is_exact(action):
        return "after"
    print(f"NEITHER BEFORE NOR AFTER: {action} killed {where}, by_file={trial.by_file}", flush=True)
    return "neither"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="kills at random moments")
    parser.add_argument("--pairs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work: choose the file system to test")
    options = parser.parse_args()
    generator, failures = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for by_file in (False, True):
            for action in ACTIONS:
                trial = Trial(Path(name) / "env", by_file=by_file)
                found = kill_in_pairs(trial, action) if options.pairs else Counter()
                kinds = f"{action}, by {'file' if by_file else 'directory'}"
                print(f"{kinds}: pairs {dict(found)}", flush=True)
                failures += found["neither"]
                failed = fail_each_call(trial, action) if options.faults else Counter()
                print(f"{kinds}: calls that fail, by exit status {dict(failed)}", flush=True)
                failures += failed["neither"]
                share = options.kills // (2 * len(ACTIONS))
                chance = Counter(kill_at_random(trial, action, generator) for _ in range(share))
                print(f"{kinds}: random {dict(chance)}", flush=True)
                failures += chance["neither"]
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
