"""A changing command in a Slurm step: one of the ranks that share an environment makes the change;
the others wait for it, then check their own node."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from packaging.utils import NormalizedName

from safe_install.environment.interpreter import find_interpreter, read_environment
from safe_install.environment.tree_hash import hash_installed
from safe_install.errors import (
    EnvironmentLocked,
    LeaderFailed,
    RollBackFailed,
    SafeInstallError,
)
from safe_install.models import Environment, InstallResult, Outcome, Severity
from safe_install.pipeline.session import defaults_to_user_site, user_environment
from safe_install.redaction import redact
from safe_install.resolve.own_options import parse_limit
from safe_install.resolve.pip_settings import is_true
from safe_install.torch_family import TORCH
from safe_install.transaction import unfinished
from safe_install.transaction.lock import lock_environment
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
from safe_install.transaction.rendezvous import Rendezvous

if TYPE_CHECKING:
    from safe_install.cli.invocation import Answer, Invocation, Run
    from safe_install.events import Reporter

LIMIT_VARIABLE = "SAFE_INSTALL_RANK_TIMEOUT"
_LIMIT = 3600.0  # seconds; a build from source takes minutes
# A file server's client may show outdated folders for a minute.
_SEEING_LIMIT = 90.0
_ELSEWHERE = ("target", "root", "prefix")


def run_in_step(
    command: str,
    run: Run,
    invocation: Invocation,
    reporter: Reporter,
    run_line: Callable[[Sequence[str]], Answer],
) -> Answer:
    """The result for this rank. Without Slurm, and for commands that change nothing, that of `run`.
    `run_line`: runs another command of ours on the same environment.

    Errors: those of `run`; LeaderFailed; EnvironmentLocked after a too long wait.
    """
    rank = parse_rank(invocation.environ)
    if rank is None or not _changes(command, invocation):
        return run(invocation, reporter)
    environment = _find_place(invocation)
    if environment is None:
        return run(invocation, reporter)
    limit = _parse_limit(invocation.environ.get(LIMIT_VARIABLE))
    prefix = environment.interpreter.prefix
    meeting = Rendezvous(prefix, hash_of_command(rank, invocation.line.argv))
    with contextlib.ExitStack() as stack:
        stack.callback(meeting.release_lock)
        return _RankRun(rank, command, invocation, reporter, meeting, limit).run(run, run_line)


def _changes(command: str, invocation: Invocation) -> bool:
    """Is it a command that changes the environment for all ranks? An invalid command line is not:
    the command itself refuses it."""
    words, environ = invocation.line.words, invocation.environ
    if command == "undo" and any(word.argument for word in words.all):
        return False  # called by a fleet engine, node by node
    if words.problem is not None or words.has("--dry-run") or words.has("--check"):
        return False
    if is_true(environ.get("SAFE_INSTALL_DRY_RUN")) or is_true(environ.get("PIP_DRY_RUN")):
        return False
    return not any(word.key in _ELSEWHERE for word in words.all)


def _find_place(invocation: Invocation) -> Optional[Environment]:
    """The environment that the ranks share. None: it is the operating system's, and will be
    refused."""
    environment = _read(invocation)
    keys = {word.key for word in invocation.line.words.all}
    may_break = "break-system-packages" in keys or is_true(
        invocation.environ.get("PIP_BREAK_SYSTEM_PACKAGES")
    )
    if environment.interpreter.externally_managed is not None and not may_break:
        return None
    if "user" in keys or defaults_to_user_site(environment):
        return user_environment(environment)
    return environment


def _read(invocation: Invocation) -> Environment:
    executable = find_interpreter(invocation.python, invocation.environ)
    return read_environment(executable, None)


def _parse_limit(text: Optional[str]) -> Optional[float]:
    """A duration in seconds; None: no limit. Errors: UsageError."""
    if not text:
        return _LIMIT
    return parse_limit(
        text, written=f"{LIMIT_VARIABLE} {text}", hint="Write seconds, or 90m or 2h (0: no limit)."
    )


class _RankRun:
    """One rank's run of a command."""

    def __init__(
        self,
        rank: Rank,
        command: str,
        invocation: Invocation,
        reporter: Reporter,
        meeting: Rendezvous,
        limit: Optional[float],
    ) -> None:
        self._rank, self._command = rank, command
        self._invocation, self._reporter = invocation, reporter
        self._meeting, self._limit = meeting, limit
        self._host = os.uname().nodename
        self._role, self._leader = "follower", rank.number

    def run(self, run: Run, run_line: Callable[[Sequence[str]], Answer]) -> Answer:
        """The result for this rank. Errors: see `run_in_step`."""
        try:
            record = self._wait_for_word()
            if record is None:
                return self._with_rank(self._lead(run))
            return self._with_rank(self._follow(record, run_line))
        except SafeInstallError as error:
            error.details = {**error.details, "rank": self._describe()}
            raise

    def _describe(self) -> Mapping[str, object]:
        rank = self._rank
        return {
            "number": rank.number,
            "of": rank.count,
            "node": rank.node,
            "step": rank.name,
            "role": self._role,
            "leader": self._leader,
        }

    def _with_rank(self, answer: Answer) -> Answer:
        if isinstance(answer, int):
            return answer
        return dataclasses.replace(answer, details={**answer.details, "rank": self._describe()})

    # --- which rank leads -------------------------------------------------------------------------

    def _wait_for_word(self) -> Optional[Record]:
        """The leader's record of its change; None: this rank leads and has the lock. Errors:
        LeaderFailed, EnvironmentLocked."""
        watch, started, has_told = Watch(), time.monotonic(), False
        while True:
            record, sign = self._meeting.read()
            has_lock = _would_use_lock(self._rank, record) and self._meeting.take_lock()
            if has_lock:
                record, sign = self._meeting.read()
            turn = decide(self._rank.number, record, has_lock=has_lock)
            if turn is Turn.LEAD:
                self._role = "leader"
                return None
            if record is not None:
                self._leader = record.leader
            if turn is Turn.FIND_DEAD and record is not None:
                raise self._found_dead(record)
            self._meeting.release_lock()
            if turn is Turn.FAIL and record is not None:
                raise self._failed_for_all(record)
            if turn is Turn.FOLLOW:
                return record
            now = time.monotonic()
            if record is not None and watch.is_silent((record, sign), now):
                raise self._lost(record)
            if self._limit is not None and now - started >= self._limit:
                raise self._waited_too_long(record, now - started)
            if not has_told:
                self._reporter.note(f"waiting for {self._who(record)} ...")
                has_told = True
            time.sleep(poll_interval(self._rank.count))

    def _who(self, record: Optional[Record]) -> str:
        prefix = self._meeting.prefix
        if record is not None and record.leader != self._rank.number:
            return f"{record.leader_name}, which changes {prefix} for all"
        return f"another rank or step{self._meeting.describe_holder()}, which changes {prefix}"

    def _failed_for_all(self, record: Record) -> LeaderFailed:
        error = LeaderFailed(
            f"{record.leader_name} did not change {self._meeting.prefix}: {record.message}",
            hint="Its own output says more.",
        )
        error.exit_status = record.status or 1
        return error

    def _found_dead(self, record: Record) -> SafeInstallError:
        """The leader has ended without a report: recover its change, and tell the others."""
        message = "it ended without a word (killed?)"
        try:
            with lock_environment(self._meeting.prefix):
                unfinished.recover(self._meeting.prefix)
        except RollBackFailed as error:
            return error
        except SafeInstallError as error:
            message = (
                f"it ended without a word, and what it had begun is not undone: {error.message}"
            )
        ended = dataclasses.replace(record, status=1, message=message)
        self._write_end(ended)
        return self._failed_for_all(ended)

    def _lost(self, record: Record) -> LeaderFailed:
        return LeaderFailed(
            f"{record.leader_name} gives no sign of life any more; it was changing "
            f"{self._meeting.prefix}",
            hint="When it has ended: safe-install recover puts the environment right.",
        )

    def _waited_too_long(self, record: Optional[Record], seconds: float) -> EnvironmentLocked:
        return EnvironmentLocked(
            f"waited {seconds:.0f} s for {self._who(record)}",
            hint=f"To wait longer: {LIMIT_VARIABLE}=3h.",
        )

    # --- the leader -------------------------------------------------------------------------------

    def _lead(self, run: Run) -> Answer:
        """Run the command as leader. Errors: those of `run`, which the others get, too."""
        record = Record(self._rank.number, self._host)
        self._meeting.remove_old_records()
        self._meeting.write(record)
        try:
            with self._meeting.sending_heartbeats():
                answer = run(self._invocation, self._reporter)
        except BaseException as error:
            status = getattr(error, "exit_status", 130 if _is_ctrl_c(error) else 1)
            message = getattr(error, "message", "") or str(error) or type(error).__name__
            self._write_end(dataclasses.replace(record, status=status, message=redact(message)))
            raise
        self._write_end(self._record_of(record, answer))
        return answer

    def _record_of(self, record: Record, answer: Answer) -> Record:
        status = answer if isinstance(answer, int) else answer.exit_status
        if status:
            return dataclasses.replace(record, status=status, message=_why(answer))
        names = [TORCH]
        if not isinstance(answer, int) and answer.plan is not None:
            names += [step.name for step in answer.plan.steps]
        seen: Mapping[str, Optional[str]] = {}
        with contextlib.suppress(
            SafeInstallError
        ):  # the change is committed, whatever else it reports
            seen = _see(_read(self._invocation), names)
        return dataclasses.replace(record, status=0, seen=seen)

    def _write_end(self, record: Record) -> None:
        """Write the outcome. The change itself is done, so a failure here is only a warning."""
        try:
            self._meeting.write(record)
        except SafeInstallError as error:
            self._reporter.warn(f"the other ranks could not be told: {error.message}")

    # --- the others -------------------------------------------------------------------------------

    def _follow(self, record: Record, run_line: Callable[[Sequence[str]], Answer]) -> Answer:
        """Check this node, with the environment as the leader left it. Errors: LeaderFailed, where
        this node does not see the change."""
        environment = self._wait_until_seen(record)
        told = f"{record.leader_name} made the change in {self._meeting.prefix}"
        if environment.torch is None:
            return InstallResult(
                self._command,
                Outcome.HEALTHY,
                0,
                environment,
                message=f"{told}; there is no torch to ask on {self._host}.",
            )
        answer = run_line(["verify", *self._words_of_check()])
        if isinstance(answer, int):
            return answer
        message = f"{told}; {self._host} is healthy with it."
        if answer.exit_status:
            message = f"{told}; {self._host} is not healthy with it."
        return dataclasses.replace(answer, command=self._command, message=message)

    def _words_of_check(self) -> List[str]:
        words = self._invocation.line.words
        found = ["--require-cuda"] if words.has("--require-cuda") else []
        timeout = words.value("--check-timeout")
        return [*found, "--check-timeout", timeout] if timeout else found

    def _wait_until_seen(self, record: Record) -> Environment:
        started, has_told = time.monotonic(), False
        while True:
            environment = _read(self._invocation)
            now_seen = _see(environment, record.seen)
            if now_seen == record.seen:
                return environment
            if time.monotonic() - started >= _SEEING_LIMIT:
                raise self._sees_another(record, now_seen)
            if not has_told:
                self._reporter.note(f"{self._host} does not see the change yet ...")
                has_told = True
            time.sleep(1.0)

    def _sees_another(self, record: Record, now_seen: Mapping[str, Optional[str]]) -> LeaderFailed:
        names = [name for name in record.seen if record.seen[name] != now_seen[name]]
        return LeaderFailed(
            f"{self._host} does not see {', '.join(names)} as {record.leader_name} left it in "
            f"{self._meeting.prefix}",
            hint="Something else changed it since, or this host shows an old state of the file "
            "server: safe-install verify, later.",
        )


def _would_use_lock(rank: Rank, record: Optional[Record]) -> bool:
    return decide(rank.number, record, has_lock=True) in (Turn.LEAD, Turn.FIND_DEAD)


def _is_ctrl_c(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt)


def _why(answer: Answer) -> str:
    """Why a command failed, as a sentence."""
    if isinstance(answer, int):
        return f"exit status {answer}"
    reasons = [one.detail for one in answer.findings if one.severity is Severity.ERROR]
    return reasons[0] if reasons else answer.message or answer.outcome.value


def _see(environment: Environment, names: Iterable[str]) -> Mapping[str, Optional[str]]:
    """A stamp of each of these distributions; None for one that is not installed."""
    wanted = sorted(set(names))
    present = {
        NormalizedName(name): environment.installed[NormalizedName(name)]
        for name in wanted
        if name in environment.installed
    }
    seen: Dict[str, Optional[str]] = dict.fromkeys(wanted)
    for one in hash_installed(present):
        seen[one.name] = one.sha256
    return seen
