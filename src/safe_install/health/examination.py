"""Checks in fresh processes of the managed interpreter whether torch and its extensions work.

A crash, a hang or a signal of such a process is an answer: its step failed, and another process is
asked the remaining questions.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from safe_install.environment.interpreter import child_environment, make_words, start_script
from safe_install.environment.waiting import WaitingInterpreter
from safe_install.health.answers import (
    NO_ANSWER,
    Event,
    Subject,
    answered_steps,
    crash_event,
    explain_crashes,
    make_report,
    missing_answers,
    parse_answers,
    replace_undecided,
    undecided_files,
)
from safe_install.health.crash import describe_end
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    HealthReport,
    JsonValue,
    TorchBuild,
    UnmetRequirement,
)
from safe_install.system.process import Completed, Running, Tick, ending_orphans

EXAMINATION_LIMIT = 8_000_000  # characters of output of one process
MAX_CRASHES = 8  # crashed steps, after which no more is asked
# Steps of every process, since later steps depend on them.
REPEATED = frozenset({"import torch", "cuda available", "operation torch on cuda"})


class Examination:
    """One check. It starts fresh processes, one after the other, until every step has an answer.

    The constructor starts the first process, which runs beside the caller. `result()` waits for it.
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
        """`torch`: the installed one; None: it is not checked. `asked`: "import", or "loader" for
        the light check. `timeout`: seconds for all processes together, counted from the call of
        `result()`; None: no limit. `waiting`: an interpreter that was started before, for the first
        process. Errors: ProbeFailed, if no process can be started."""
        self._executable = executable
        self._torch = torch
        self._subjects = tuple(subjects)
        self._asked = asked
        self._timeout = timeout
        self._limit: Optional[float] = None  # the end of `timeout`, in monotonic time
        self._started = time.monotonic()
        self._running, self._words = self._start(self._questions(), waiting)

    def _questions(self) -> Dict[str, JsonValue]:
        """The request that the script reads: see health/script.py."""
        lib_dir = self._torch.lib_dir if self._torch is not None else None
        return {
            "asked": self._asked,
            "torch": self._torch is not None,
            "lib_dir": str(lib_dir) if lib_dir else None,
            "subjects": [subject.as_json() for subject in self._subjects],
            "skip": [],
        }

    def _start(
        self, questions: Mapping[str, JsonValue], waiting: Optional[WaitingInterpreter] = None
    ) -> Tuple[Running, List[str]]:
        """Start a process, or use `waiting`. The result: the process, and the words for its
        answers."""
        words = make_words(self._max_answers())
        arguments = [json.dumps(questions)]
        if waiting is not None:
            running = waiting.run("safe_install.health", arguments, words)
            if running is not None:
                return running, words
        running = start_script(
            self._executable,
            "safe_install.health",
            arguments,
            words=words,
            stdout_limit=EXAMINATION_LIMIT,
            env=child_environment(),
        )
        return running, words

    def _max_answers(self) -> int:
        """The largest number of answers of the script: two for each step, and those on torch."""
        return 64 + sum(2 * len(subject.imports) + 8 for subject in self._subjects)

    def result(
        self,
        unmet: Sequence[UnmetRequirement] = (),
        *,
        torch: Optional[TorchBuild] = None,
        on_tick: Optional[Tick] = None,
    ) -> HealthReport:
        """Wait for the answers. Processes that the checked ones leave behind are ended.

        `unmet`: put into the report as it is. `torch`: the installed torch, if a probe has read it
        since the start. `on_tick`: called while this waits; it may raise to end the check.
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
        self, questions: Dict[str, JsonValue], on_tick: Optional[Tick], end_orphans: Tick
    ) -> Tuple[List[Event], Optional[str]]:
        """The events of the running process and of those that follow it. The second value: why not
        all could be asked, or None."""
        events: List[Event] = []
        crashes: Set[str] = set()
        skip: Set[str] = set()
        while True:
            silence = self._max_silence()
            completed = self._running.wait(
                self._seconds_left(), silence=silence, on_tick=on_tick, on_end=end_orphans
            )
            answers = parse_answers(completed.stdout.split("\n"), self._words)
            events.extend(answers.events)
            expected = self._expected(questions, skip)
            if answers.done:
                return [*events, *missing_answers(expected, events, NO_ANSWER)], None
            crashed = self._describe_crash(completed, silence)
            is_cut_off = completed.timed_out and (answers.unfinished is None or self._is_over())
            if len(crashes) >= MAX_CRASHES or (answers.unfinished is None and not is_cut_off):
                # It died between two steps, so another process would probably die there, too.
                return events, crashed
            if answers.unfinished == "import torch" and not completed.timed_out and not crashes:
                return [*events, crash_event("import torch", crashed)], None
            if is_cut_off or answers.unfinished in (None, "import torch"):
                # The time is over, or torch needs more of it: the remaining steps may work.
                return [*events, *missing_answers(expected, events, crashed, unknown=True)], None
            events.append(crash_event(answers.unfinished, crashed))
            crashes.add(answers.unfinished)
            skip = self._ask_the_rest(questions, events, crashes)

    def _ask_the_rest(
        self, questions: Mapping[str, JsonValue], events: Sequence[Event], crashes: Set[str]
    ) -> Set[str]:
        """Start a process for the steps without an answer. The result: the steps that it skips."""
        skip = (answered_steps(events) - REPEATED) | crashes
        for crashed_step in crashes:
            skip |= self._steps_after(crashed_step)
        self._running, self._words = self._start({**questions, "skip": sorted(skip)})
        return skip

    def _seconds_left(self) -> Optional[float]:
        """The seconds until the limit, counted from the start of the running process, as
        `Running.wait` counts them."""
        return None if self._limit is None else max(0.0, self._limit - self._running.started)

    def _max_silence(self) -> Optional[float]:
        """The seconds for one step: half of the remaining time, which leaves some for the other
        steps."""
        return None if self._limit is None else max(0.0, self._limit - time.monotonic()) / 2

    def _is_over(self) -> bool:
        """Is too little time left for another process?"""
        if self._limit is None or self._timeout is None:
            return False
        return self._limit - time.monotonic() < self._timeout / 20

    def _expected(self, questions: Mapping[str, JsonValue], skip: Set[str]) -> List[str]:
        """The steps that must have an answer. Those for native files are not among them: they
        depend on the files that exist."""
        if questions["asked"] != "import":
            return []
        steps = ["import torch"] if questions["torch"] else []
        for subject in self._subjects:
            steps += [f"import {module}" for module in subject.imports]
            if subject.operation:
                steps.append(f"operation {subject.name} on cpu")
        return [step for step in steps if step not in skip]

    def _describe_crash(self, completed: Completed, silence: Optional[float]) -> str:
        """Why the process ended before its last answer."""
        if completed.timed_out:
            waited = silence if completed.fell_silent and silence is not None else completed.seconds
            return f"no answer within {waited:.1f} s (--check-timeout is {self._timeout:g})"
        if completed.overflowed:
            return "it wrote more than an answer can have"
        ending = completed.ended_by or f"exit status {completed.returncode}"
        return describe_end(ending, completed.stderr)

    def _steps_after(self, crashed: str) -> Set[str]:
        """The steps of a project whose import crashed: they would import it again, and each would
        end another process."""
        steps: Set[str] = set()
        for subject in self._subjects:
            if crashed not in [f"import {module}" for module in subject.imports]:
                continue
            steps.add(f"native {subject.name}")
            for device in ("cpu", "cuda"):
                steps.add(f"operation {subject.name} on {device}")
        return steps

    def stop(self) -> None:
        """End the process, if it still runs. Its answers are not needed."""
        if not self._running.has_ended:
            self._running.kill()


def _without_repeats(events: Sequence[Event]) -> List[Event]:
    """Of the steps that several processes did, the first answer."""
    seen = set()
    kept = []
    for event in events:
        key = (event.get("event"), event.get("kind"), event.get("name"), event.get("text"))
        if key in seen:
            continue
        seen.add(key)
        kept.append(event)
    return kept
