"""Asks a fresh process of the managed interpreter whether torch and its extensions work.

A crash, a hang or a signal of that process is an answer: the step in which it happened failed, and the questions after
it are asked in another process.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from safe_install.environment.interpreter import child_environment, start_script
from safe_install.health.crash import describe_end
from safe_install.health.report import (
    Subject,
    crash_event,
    explain_deaths,
    make_report,
    parse_answers,
    replace_undecided,
    undecided_files,
)
from safe_install.models import HealthReport, TorchBuild
from safe_install.system.process import Completed, Running, Tick

TIMEOUT = 300.0  # seconds for one process: a cold torch on a slow disk takes up to a minute
MAX_CRASHES = 8  # after so many crashed steps the environment is judged as it stands
# Asked again by every process: the questions that follow depend on the answers.
REPEATED = frozenset({"import torch", "cuda available", "operation torch on cuda"})


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
        self._started = time.monotonic()
        self._running = self._start(self._questions())

    def _questions(self) -> Dict[str, Any]:
        return {
            "asked": self._asked,
            "torch": self._torch is not None,
            "lib_dir": str(self._torch.lib_dir) if self._torch and self._torch.lib_dir else None,
            "subjects": [subject.as_json() for subject in self._subjects],
            "skip": [],
        }

    def _start(self, questions: Mapping[str, Any]) -> Running:
        return start_script(self._executable, "safe_install.health", [json.dumps(questions)], env=child_environment())

    def result(
        self,
        unmet: Sequence[str] = (),
        *,
        torch: Optional[TorchBuild] = None,
        on_tick: Optional[Tick] = None,
    ) -> HealthReport:
        """Wait for the answers. `unmet` is taken over as it is; `torch` is what a probe made meanwhile says.

        `on_tick` is called while it waits, and ends the check by raising.
        """
        events, crashed = self._answers(self._questions(), on_tick)
        undecided = undecided_files(events)
        if undecided:
            subjects = [{"name": name, "files": files} for name, files in undecided.items()]
            questions = {**self._questions(), "asked": "files", "subjects": subjects}
            self._running = self._start(questions)
            events = replace_undecided(events, self._answers(questions, on_tick)[0])
        return make_report(
            explain_deaths(_without_repeats(events)),
            torch=torch or self._torch,
            asked=self._asked,
            seconds=time.monotonic() - self._started,
            unmet=unmet,
            crashed=crashed,
        )

    def _answers(
        self, questions: Dict[str, Any], on_tick: Optional[Tick]
    ) -> Tuple[List[Mapping[str, Any]], Optional[str]]:
        """The events of the process that runs, and of the ones that must follow it; why nothing more could be asked."""
        events: List[Mapping[str, Any]] = []
        crashes: Set[str] = set()
        while True:
            completed = self._running.wait(self._timeout, on_tick=on_tick)
            answers = parse_answers(completed.stdout.splitlines())
            events.extend(answers.events)
            if answers.done:
                return events, None
            crashed = _reason(completed, self._timeout)
            if answers.unfinished is None or len(crashes) >= MAX_CRASHES:
                # It died between two questions: nothing more can be asked this way.
                return events, crashed
            events.append(crash_event(answers.unfinished, crashed))
            crashes.add(answers.unfinished)
            if answers.unfinished == "import torch":
                return events, None
            done = {f"{e['kind']} {e['name']}" for e in events if e.get("event") == "end"}
            skip = (done - REPEATED) | crashes
            for crashed_step in crashes:
                skip |= self._steps_after(crashed_step)
            self._running = self._start({**questions, "skip": sorted(skip)})

    def _steps_after(self, crashed: str) -> Set[str]:
        """The steps that would import a module again whose import ended a process: each would cost one more."""
        steps: Set[str] = set()
        for subject in self._subjects:
            if crashed in [f"import {module}" for module in subject.imports]:
                steps |= {f"native {subject.name}"}
                steps |= {f"operation {subject.name} on {device}" for device in ("cpu", "cuda")}
        return steps

    def stop(self) -> None:
        """End the process; nobody needs its answer."""
        self._running.kill()


def _reason(completed: Completed, timeout: float) -> str:
    if completed.timed_out:
        return f"no answer within {timeout:.0f} s"
    ending = completed.ended_by or f"exit status {completed.returncode}"
    return describe_end(ending, completed.stderr)


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
