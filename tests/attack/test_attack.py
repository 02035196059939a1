"""The generator of attacks: `python -m pytest -s tests/attack --attack-seconds 1200`.

Each batch of sequences has a seed, which is printed: `--attack-seed N` runs that batch first.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.attack.ground import Ground
from tests.attack.machine import Attack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD of the GNU C library"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]
SEQUENCES = 6  # of a batch
STEPS = 12  # of a sequence


def test_attack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> None:
    machine = type("Attack", (Attack,), {"counts": Counter(), "features": Counter()})
    machine.ground = Ground(Path(os.path.realpath(tmp_path_factory.mktemp("attack"))))
    machine.deadline = time.monotonic() + pytestconfig.getoption("--attack-seconds")
    given = pytestconfig.getoption("--attack-seed")
    chosen = random.randrange(10**9) if given is None else given
    try:
        while time.monotonic() < machine.deadline:
            print(f"\n--attack-seed {chosen}", flush=True)
            run_batch(machine, chosen)
            chosen = random.randrange(10**9)
    except BaseException:
        print(f"\nTo run this batch again: --attack-seed {chosen}", flush=True)
        raise
    finally:
        print(f"{dict(machine.counts.most_common())}\n{len(machine.features)} kinds of features", flush=True)
    assert machine.counts["steps"] > 3


def run_batch(machine: type, chosen: int) -> None:
    """Some sequences. Not shrunk: each trial starts a dozen processes."""
    profile = settings(
        max_examples=SEQUENCES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(seed(chosen)(machine), settings=profile)
