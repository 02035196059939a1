"""Asks a fresh process of the managed interpreter whether torch and its extensions work.

A crash, a hang or a signal of that process is an answer: the step in which it happened failed, and the questions after
it are asked in another process.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence

from safe_install.environment.interpreter import child_environment, start_script
from safe_install.health.report import Subject, crash_event, make_report, parse_answers
from safe_install.models import HealthReport, TorchBuild
from safe_install.system.process import Completed, Running

TIMEOUT = 300.0  # seconds for one process: a cold torch on a slow disk takes up to a minute
MAX_CRASHES = 8  # after so many crashed steps the environment is judged as it stands


class Examination:
    """One set of questions, put to one fresh process after another until every step has an answer.

    The first process starts with the object, so that it works beside the caller; `result()` waits for it.
    """

    def __init__(
        self,
        executable: Path,
        torch: Optional[TorchBuild],
        subjects: Sequence[Subject],
        *,
        asked: str = "import",
        timeout: float = TIMEOUT,
    ) -> None:
        self._executable = executable
        self._torch = torch
        self._subjects = tuple(subjects)
        self._asked = asked
        self._timeout = timeout
        self._skip: List[str] = []
        self._started = time.monotonic()
        self._running = self._start()

    def _start(self) -> Running:
        request = {
            "asked": self._asked,
            "torch": self._torch is not None,
            "lib_dir": str(self._torch.lib_dir) if self._torch and self._torch.lib_dir else None,
            "subjects": [subject.as_json() for subject in self._subjects],
            "skip": self._skip,
        }
        return start_script(self._executable, "safe_install.health", [json.dumps(request)], env=child_environment())

    def result(self, unmet: Sequence[str] = (), *, torch: Optional[TorchBuild] = None) -> HealthReport:
        """Wait for the answers. `unmet` is taken over as it is; `torch` is what a probe made meanwhile says."""
        events: List[Mapping[str, Any]] = []
        crashed: Optional[str] = None
        while True:
            completed = self._running.wait(self._timeout)
            answers = parse_answers(completed.stdout.splitlines())
            events.extend(answers.events)
            if answers.done:
                break
            crashed = _reason(completed, self._timeout)
            if answers.unfinished is None or len(self._skip) >= MAX_CRASHES:
                # It died between two questions: nothing more can be asked this way.
                break
            events.append(crash_event(answers.unfinished, crashed))
            crashed = None
            done = {f"{e['kind']} {e['name']}" for e in events if e.get("event") == "end"}
            self._skip = sorted(done - {"import torch"} | {answers.unfinished})
            if answers.unfinished == "import torch":
                break
            self._running = self._start()
        return make_report(
            _without_repeats(events),
            torch=torch or self._torch,
            asked=self._asked,
            seconds=time.monotonic() - self._started,
            unmet=unmet,
            crashed=crashed,
        )

    def stop(self) -> None:
        """End the process; nobody needs its answer."""
        self._running.kill()


def _reason(completed: Completed, timeout: float) -> str:
    if completed.timed_out:
        return f"no answer within {timeout:.0f} s"
    told = [line for line in completed.stderr.splitlines() if line.strip()]
    tail = f" ({told[-1].strip()})" if told else ""
    return (completed.ended_by or f"exit status {completed.returncode}") + tail


def _without_repeats(events: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """A second process imports torch again: its first answer counts."""
    seen = set()
    kept = []
    for event in events:
        key = (event.get("event"), event.get("kind"), event.get("name"), event.get("text"))
        if key in seen:
            continue
        seen.add(key)
        kept.append(event)
    return kept
