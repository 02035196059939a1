"""Asks a fresh process of the managed interpreter whether torch and its extensions work.

A crash, a hang or a signal of that process is an answer: the step in which it happened failed, and
the questions after it are asked in another process.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from safe_install.environment.interpreter import child_environment, make_words, start_script
from safe_install.environment.waiting import WaitingInterpreter
from safe_install.health.answers import (
    NO_ANSWER,
    Subject,
    crash_event,
    explain_crashes,
    make_report,
    missing_answers,
    parse_answers,
    replace_undecided,
    undecided_files,
)
from safe_install.health.crash import describe_end
from safe_install.models import DEFAULT_CHECK_TIMEOUT, HealthReport, TorchBuild, UnmetRequirement
from safe_install.system.process import Completed, Running, Tick, ending_orphans

EXAMINATION_LIMIT = 8_000_000  # characters of one process
MAX_CRASHES = 8  # after so many crashed steps the environment is judged as it stands
# Asked again by every process: the questions that follow depend on the answers.
REPEATED = frozenset({"import torch", "cuda available", "operation torch on cuda"})


class Examination:
    """One set of questions, put to one fresh process after another until every step has an answer.

    The first process starts with the object, so that it works beside the caller; `result()` waits
    for it.
    """

    def __init__(
        self,
        executable: Path,
        torch: Optional[TorchBuild],
        subjects: Sequence[Subject],
        *,
        asked: str = "import",
        timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
        waiting: Optional[WaitingInterpreter] = None,
    ) -> None:
        """`timeout`: seconds for all the processes together, from when somebody waits for them;
        None: no limit. `waiting`: the first of them, if it was started before."""
        self._executable = executable
        self._torch = torch
        self._subjects = tuple(subjects)
        self._asked = asked
        self._timeout = timeout
        self._limit: Optional[float] = None  # the monotonic time at which `timeout` is over
        self._started = time.monotonic()
        self._running, self._words = self._start(self._questions(), waiting)

    def _questions(self) -> Dict[str, Any]:
        return {
            "asked": self._asked,
            "torch": self._torch is not None,
            "lib_dir": str(self._torch.lib_dir) if self._torch and self._torch.lib_dir else None,
            "subjects": [subject.as_json() for subject in self._subjects],
            "skip": [],
        }

    def _start(
        self, questions: Mapping[str, Any], waiting: Optional[WaitingInterpreter] = None
    ) -> Tuple[Running, List[str]]:
        words = make_words(self._most_answers())
        running = None
        if waiting is not None:
            running = waiting.run("safe_install.health", [json.dumps(questions)], words)
        running = running or start_script(
            self._executable,
            "safe_install.health",
            [json.dumps(questions)],
            words=words,
            stdout_limit=EXAMINATION_LIMIT,
            env=child_environment(),
        )
        return running, words

    def _most_answers(self) -> int:
        """How many lines the script may write: two for each step, and what it says of torch."""
        return 64 + sum(2 * len(subject.imports) + 8 for subject in self._subjects)

    def result(
        self,
        unmet: Sequence[UnmetRequirement] = (),
        *,
        torch: Optional[TorchBuild] = None,
        on_tick: Optional[Tick] = None,
    ) -> HealthReport:
        """Wait for the answers. `unmet` is taken over as it is; `torch` is what a probe made
        meanwhile says.

        `on_tick` is called while it waits, and ends the check by raising. What the processes leave
        behind is ended.
        """
        if self._timeout is not None:
            self._limit = time.monotonic() + self._timeout
        with ending_orphans() as end_orphans:
            events, crashed = self._answers(self._questions(), on_tick, end_orphans)
            undecided = undecided_files(events)
            if undecided:
                subjects = [{"name": name, "files": files} for name, files in undecided.items()]
                questions = {**self._questions(), "asked": "files", "subjects": subjects}
                self._running, self._words = self._start(questions)
                events = replace_undecided(
                    events, self._answers(questions, on_tick, end_orphans)[0]
                )
        return make_report(
            explain_crashes(_without_repeats(events)),
            torch=torch or self._torch,
            asked=self._asked,
            seconds=time.monotonic() - self._started,
            unmet=unmet,
            crashed=crashed,
        )

    def _answers(
        self, questions: Dict[str, Any], on_tick: Optional[Tick], end_orphans: Tick
    ) -> Tuple[List[Mapping[str, Any]], Optional[str]]:
        """The events of the process that runs, and of the ones that must follow it; why nothing
        more could be asked."""
        events: List[Mapping[str, Any]] = []
        crashes: Set[str] = set()
        skip: Set[str] = set()
        while True:
            silence = self._silence()
            completed = self._running.wait(
                self._seconds_left(), silence=silence, on_tick=on_tick, on_end=end_orphans
            )
            answers = parse_answers(completed.stdout.split("\n"), self._words)
            events.extend(answers.events)
            if answers.done:
                return [
                    *events,
                    *missing_answers(self._expected(questions, skip), events, NO_ANSWER),
                ], None
            crashed = self._reason(completed, silence)
            is_cut_off = completed.timed_out and (answers.unfinished is None or self._is_over())
            if len(crashes) >= MAX_CRASHES or (answers.unfinished is None and not is_cut_off):
                # It died between two questions: nothing more can be asked this way.
                return events, crashed
            if answers.unfinished == "import torch" and not completed.timed_out and not crashes:
                return [*events, crash_event("import torch", crashed)], None
            if is_cut_off or answers.unfinished in (None, "import torch"):
                # Nobody knows whether these work, nor whether torch would have come with more time.
                asked = self._expected(questions, skip)
                return [*events, *missing_answers(asked, events, crashed, unknown=True)], None
            events.append(crash_event(answers.unfinished, crashed))
            crashes.add(answers.unfinished)
            skip = self._ask_the_rest(questions, events, crashes)

    def _ask_the_rest(
        self, questions: Mapping[str, Any], events: Sequence[Mapping[str, Any]], crashes: Set[str]
    ) -> Set[str]:
        """Start a process for what has no answer yet; returns the steps that it leaves out."""
        done = {f"{e['kind']} {e['name']}" for e in events if e.get("event") == "end"}
        skip = (done - REPEATED) | crashes
        for crashed_step in crashes:
            skip |= self._steps_after(crashed_step)
        self._running, self._words = self._start({**questions, "skip": sorted(skip)})
        return skip

    def _seconds_left(self) -> Optional[float]:
        """Until the limit, counted from the start of the process that runs, as `Running.wait`
        counts."""
        return None if self._limit is None else max(0.0, self._limit - self._running.started)

    def _silence(self) -> Optional[float]:
        """So long may one step take: half of what is left, so that the others are asked, too."""
        return None if self._limit is None else max(0.0, self._limit - time.monotonic()) / 2

    def _is_over(self) -> bool:
        """Is too little time left for another process?"""
        if self._limit is None or self._timeout is None:
            return False
        return self._limit - time.monotonic() < self._timeout / 20

    def _expected(self, questions: Mapping[str, Any], skip: Set[str]) -> List[str]:
        """The steps that must have an answer; whether native files are looked at depends on what is
        there."""
        if questions["asked"] != "import":
            return []
        steps = ["import torch"] if questions["torch"] else []
        for subject in self._subjects:
            steps += [f"import {module}" for module in subject.imports]
            if subject.operation:
                steps.append(f"operation {subject.name} on cpu")
        return [step for step in steps if step not in skip]

    def _reason(self, completed: Completed, silence: Optional[float]) -> str:
        if completed.timed_out:
            waited = silence if completed.fell_silent and silence is not None else completed.seconds
            return f"no answer within {waited:.1f} s (--check-timeout is {self._timeout:g})"
        if completed.overflowed:
            return "it wrote more than an answer can have"
        ending = completed.ended_by or f"exit status {completed.returncode}"
        return describe_end(ending, completed.stderr)

    def _steps_after(self, crashed: str) -> Set[str]:
        """The steps that would import a module again whose import ended a process: each would cost
        one more."""
        steps: Set[str] = set()
        for subject in self._subjects:
            if crashed in [f"import {module}" for module in subject.imports]:
                steps |= {f"native {subject.name}"}
                steps |= {f"operation {subject.name} on {device}" for device in ("cpu", "cuda")}
        return steps

    def stop(self) -> None:
        """End the process, if it still runs; nobody needs its answer."""
        if not self._running.has_ended:
            self._running.kill()


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
