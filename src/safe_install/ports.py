"""What a command uses of the outside world, as one value, which tests can replace."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, Mapping, Sequence

from safe_install.events import Reporter
from safe_install.models import DEFAULT_NETWORK, NetworkSettings


@dataclass(frozen=True)
class World:
    """Everything that a command may use, except the managed environment."""

    environ: Mapping[str, str]
    reporter: Reporter
    cache_dir: Path  # our cache: pages, wheels, builds, logs
    command: Sequence[str] = ()  # argv as typed, for the history
    network: NetworkSettings = DEFAULT_NETWORK


@dataclass
class Timings:
    """Stage -> seconds, in the order in which the stages were entered."""

    seconds: Dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of the context. The times of a stage that is entered twice are added."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def total(self) -> Mapping[str, float]:
        """The stages, and `total`: the seconds since the beginning."""
        return {**self.seconds, "total": time.monotonic() - self.started}
