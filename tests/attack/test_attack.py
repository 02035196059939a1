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
from tests.attack.machine import FEWEST_STEPS, Attack
from tests.crash.conftest import wheels as wheels
from tests.functional.conftest import driver as driver
from tests.functional.conftest import lab_wheels as lab_wheels
from tests.functional.conftest import shared as shared
from tests.functional.conftest import torch_template as torch_template
from tests.lab import LabWheels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="LD_PRELOAD of the GNU C library"
    ),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]
SEQUENCES = 6  # of a batch
STEPS = 12  # of a sequence


REAL_TORCH_SHARE = 0.5  # of the time


def test_attack(tmp_path: Path, wheels: LabWheels, pytestconfig: pytest.Config) -> None:
    ground = Ground(Path(os.path.realpath(tmp_path)), wheels)
    counts = attack(ground, pytestconfig, seconds=pytestconfig.getoption("--attack-seconds"))
    assert counts["steps"] >= FEWEST_STEPS


@pytest.mark.long
@pytest.mark.torch
def test_attack_on_a_real_torch(
    on_disk: Path, wheels: LabWheels, torch_template: Path, pytestconfig: pytest.Config
) -> None:
    folder = Path(os.path.realpath(on_disk))
    seconds = REAL_TORCH_SHARE * pytestconfig.getoption("--attack-seconds")
    counts = attack(
        Ground(folder, wheels, torch_template), pytestconfig, seconds=seconds, has_real_torch=True
    )
    assert counts["steps"] >= FEWEST_STEPS


def attack(
    ground: Ground, config: pytest.Config, *, seconds: float, **attributes: object
) -> Counter[str]:
    """Batch after batch until the time is up; what was done, counted."""
    machine = type(
        "Attack",
        (Attack,),
        {"counts": Counter(), "features": Counter(), "ground": ground, **attributes},
    )
    machine.deadline = time.monotonic() + seconds
    given = config.getoption("--attack-seed")
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
        print(
            f"{dict(machine.counts.most_common())}\n{len(machine.features)} kinds of features",
            flush=True,
        )
    return machine.counts


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
