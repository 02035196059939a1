"""From a full stage to a changed environment: plan the moves, swap, verify, then commit or roll
back. It runs in the process that filled the stage, or in a later one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Collection, Dict, Mapping, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.health.answers import Subject
from safe_install.models import Environment, Finding, InstallResult, Outcome, Plan
from safe_install.pipeline.baseline import BaselineCheck, with_subjects
from safe_install.pipeline.health_gate import (
    Expectation,
    UnpackedFile,
    Verdict,
    apply_and_verify,
    make_result,
    summarize,
)
from safe_install.pipeline.session import find_leaving, find_staying_beside, prune_history
from safe_install.ports import Timings, World
from safe_install.resolve.guard import torch_without_metadata
from safe_install.resolve.pip_words import PipWords, uninstalled_line
from safe_install.resolve.plan import coming_steps, kept_names, removed_names
from safe_install.torch_family import TORCH

if TYPE_CHECKING:
    from safe_install.transaction.swap import Transaction


@dataclass(frozen=True)
class PreparedChange:
    """A change with a full, checked stage, and all that is needed to commit it."""

    plan: Plan
    command: Tuple[str, ...]  # for the history
    requested: Tuple[str, ...] = ()  # requirements as written, for the lines that pip would print
    coming: Tuple[Subject, ...] = ()  # what the health check asks about its new distributions
    files: Mapping[NormalizedName, UnpackedFile] = field(default_factory=dict)  # for the history
    # `expectation.kept` is set when the change is committed
    expectation: Expectation = field(default_factory=Expectation)
    path_warnings: Tuple[str, ...] = ()  # pip's lines on scripts in a folder that is not on PATH
    findings: Tuple[Finding, ...] = ()  # notes and warnings on its files


class Commit:
    """The commit of one prepared change. Call `plan_moves`, then `swap` inside `with transaction`,
    and `conclude` after it."""

    def __init__(
        self,
        change: PreparedChange,
        transaction: Transaction,
        before: BaselineCheck,
        world: World,
        timings: Timings,
    ) -> None:
        self._change, self._transaction, self._before = change, transaction, before
        self._world, self._timings = world, timings
        self._environment = before.environment
        self._kept = kept_names(change.plan, self._environment)
        self._leaving = find_leaving(change.plan, self._environment)
        self._coming, self._removed = coming_steps(change.plan), removed_names(change.plan)
        self._words = PipWords(self._coming, change.requested, self._environment)

    def plan_moves(self, sources: Sequence[Path] = ()) -> None:
        """Decide which files move out and which move in. `sources`: clones that are replaced as
        whole folders. Errors: Refused, where a file may not be moved."""
        plan, environment = self._change.plan, self._environment
        if self._coming:
            self._world.reporter.announce(self._words.installing())
        with self._timings.stage("moves"):
            self._transaction.plan(
                remove=self._leaving,
                keep=[environment.installed[name] for name in sorted(self._kept)],
                beside=find_staying_beside(plan, environment),
                closed=_folders_without_metadata(plan, environment),
                sources=sources,
            )

    def swap(self) -> Verdict:
        """Swap, check in a fresh process, commit or roll back. Errors: those of
        `apply_and_verify`."""
        change = self._change
        return apply_and_verify(
            self._transaction,
            self._before,
            subjects_after(self._before.subjects, change.coming, self._removed),
            expectation=replace(change.expectation, kept=frozenset(self._kept)),
            summary=summarize(change.plan.steps, change.command, change.files),
            timings=self._timings,
            world=self._world,
        )

    def conclude(self, verdict: Verdict) -> InstallResult:
        """The result. Old transactions are pruned, and pip's own lines on the change are
        printed."""
        environment = self._environment
        if verdict.outcome is not Outcome.ROLLED_BACK:
            prune_history(environment.interpreter.prefix, self._world)
        if verdict.outcome is Outcome.INSTALLED:
            self._announce()
        result = make_result(
            "install", verdict, self._transaction, environment, self._change.plan, self._timings
        )
        return replace(result, findings=(*self._change.findings, *verdict.findings))

    def _announce(self) -> None:
        reporter = self._world.reporter
        for line in self._words.replaced(self._leaving):
            reporter.announce(line)
        for distribution in self._leaving:
            if distribution.name in self._removed:
                reporter.announce(uninstalled_line(distribution))
        for line in self._change.path_warnings:
            reporter.pip_warning(line)
        if self._coming:
            reporter.announce(self._words.installed())


def subjects_after(
    before: Sequence[Subject], coming: Sequence[Subject], removed: Collection[NormalizedName]
) -> Tuple[Subject, ...]:
    """What the health check asks about each extension that is there after a change; nothing where
    torch is removed."""
    if TORCH in removed:
        return ()
    return tuple(one for one in with_subjects(before, coming) if one.name not in removed)


def _folders_without_metadata(plan: Plan, environment: Environment) -> Dict[Path, str]:
    """The folders of an installed torch that has no metadata, and that the plan leaves alone: no
    file may be written into them.

    A folder `torch` in site-packages would hide a torch that is found through a .pth file.
    """
    torch = torch_without_metadata(environment)
    if torch is None or torch.folder is None or plan.find(TORCH) is not None:
        return {}
    scheme = environment.interpreter.scheme
    return {
        folder: str(TORCH)
        for folder in (torch.folder, scheme.purelib / "torch", scheme.platlib / "torch")
    }
