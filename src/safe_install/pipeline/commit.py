"""From a full stage to a changed environment: plan the moves against the disk as it is, swap,
verify, keep or roll back. By the process that filled the stage, or by a later one."""

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
from safe_install.pipeline.session import leaving, prune_history, staying_beside
from safe_install.ports import Timings, World
from safe_install.resolve.guard import torch_without_metadata
from safe_install.resolve.pip_words import PipWords, uninstalled_line
from safe_install.resolve.plan import coming_steps, kept_names, removed_names
from safe_install.torch_family import TORCH

if TYPE_CHECKING:
    from safe_install.transaction.swap import Transaction


@dataclass(frozen=True)
class PreparedChange:
    """A change whose stage is full and checked: all that is needed to put it in place."""

    plan: Plan
    command: Tuple[str, ...]  # for the history
    requested: Tuple[str, ...] = ()  # requirements as they were written: pip's words name them so
    coming: Tuple[Subject, ...] = ()  # what of it has to do with torch
    files: Mapping[NormalizedName, UnpackedFile] = field(default_factory=dict)  # for the history
    # its `kept` is read from the environment as it is then
    expectation: Expectation = field(default_factory=Expectation)
    path_warnings: Tuple[str, ...] = ()  # pip's words on commands that no shell finds
    findings: Tuple[Finding, ...] = ()  # what a person should know of its files


class Commit:
    """One prepared change on its way into the environment. Used inside `with transaction`, in this
    order: `plan_moves`, `swap`; `conclude` afterwards."""

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
        self._leaving = leaving(change.plan, self._environment)
        self._coming, self._removed = coming_steps(change.plan), removed_names(change.plan)
        self._words = PipWords(self._coming, change.requested, self._environment)

    def plan_moves(self, sources: Sequence[Path] = ()) -> None:
        """Which files go and which come. `sources`: clones that are replaced whole. Errors:
        Refused, where they may not."""
        plan, environment = self._change.plan, self._environment
        if self._coming:
            self._world.reporter.announce(self._words.installing())
        with self._timings.stage("moves"):
            self._transaction.plan(
                remove=self._leaving,
                keep=[environment.installed[name] for name in sorted(self._kept)],
                beside=staying_beside(plan, environment),
                closed=_folders_without_metadata(plan, environment),
                sources=sources,
            )

    def swap(self) -> Verdict:
        """Put it in place, ask a fresh process, keep it or roll it back. Errors: as
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
        """Old transactions go, pip's own lines on a change that was made are said; the result."""
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
    """Every extension that is there after a change. Without torch nothing can be asked of them."""
    if TORCH in removed:
        return ()
    return tuple(one for one in with_subjects(before, coming) if one.name not in removed)


def _folders_without_metadata(plan: Plan, environment: Environment) -> Dict[Path, str]:
    """The folder of a torch that no distribution lists, and that stays: nothing comes into it, or
    over its files.

    A folder `torch` in site-packages would come before one to which a .pth file leads.
    """
    torch = torch_without_metadata(environment)
    if torch is None or torch.folder is None or plan.find(TORCH) is not None:
        return {}
    scheme = environment.interpreter.scheme
    return {
        folder: str(TORCH)
        for folder in (torch.folder, scheme.purelib / "torch", scheme.platlib / "torch")
    }
