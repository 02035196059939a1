"""`safe-install uninstall`: as `pip uninstall`, with the checks of an install; and `stage
--remove`, which stages the same change.

pip removes whatever RECORD names, even files that another distribution owns. Here files are moved
out by journalled renames, and those that another distribution lists stay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import List, Optional, Set, Tuple

from packaging.utils import NormalizedName

from safe_install.environment.interpreter import Probe
from safe_install.environment.record import read_record
from safe_install.errors import Refused, UsageError
from safe_install.health.requirements import make_finding
from safe_install.models import (
    Action,
    Environment,
    Finding,
    InstalledDistribution,
    InstallResult,
    Outcome,
    Plan,
    Severity,
    Step,
)
from safe_install.pipeline.baseline import BaselineCheck
from safe_install.pipeline.health_gate import Expectation, apply_and_verify, make_result, summarize
from safe_install.pipeline.session import (
    error_context,
    is_own,
    probe_environment,
    prune_history,
    read_again,
    refuse_externally_managed,
    user_environment,
)
from safe_install.ports import Timings, World
from safe_install.resolve.pip_words import found_line, removed_lines, uninstalling_line
from safe_install.resolve.plan import kept_names, needed_by_torch, newly_unmet
from safe_install.resolve.request import UninstallRequest
from safe_install.torch_family import TORCH, is_guarded
from safe_install.transaction import swap, unfinished
from safe_install.transaction.eggs import find_missing_path_file
from safe_install.transaction.lock import lock_environment


def uninstall(
    request: UninstallRequest,
    world: World,
    probe: Optional[Probe] = None,
    *,
    stages: bool = False,
) -> InstallResult:
    """Remove distributions, and put them back where what remains got worse. `probe`: a probe of the
    managed interpreter that was started before. `stages`: stage the change, to be committed
    later."""
    command = "stage" if stages else "uninstall"
    timings = Timings()
    for text in request.ignored:
        world.reporter.pip_warning(
            f"WARNING: Invalid requirement: {text!r} ignored - the uninstall command expects named "
            "requirements."
        )
    with timings.stage("probe"):
        environment = probe_environment(request.own, world, probe)
    if _all_in_user_site(request, environment):
        environment = user_environment(environment)
    refuse_externally_managed(environment, break_system_packages=request.break_system_packages)
    with error_context(environment), lock_environment(environment.interpreter.prefix):
        if unfinished.recover(environment.interpreter.prefix):
            environment = read_again(environment)
        plan = _plan(request, environment, world)
        _refuse_dependency_of_torch(request, plan, environment)
        if not stages:
            plan = _confirmed(request, plan, environment, world)
        if not plan.steps:
            return InstallResult(command, Outcome.ALREADY_SATISFIED, 0, environment, plan)
        if stages:
            return _set_aside(request, plan, environment, timings, world)
        return _remove(request, plan, environment, timings, world)


def _all_in_user_site(request: UninstallRequest, environment: Environment) -> bool:
    found = [environment.installed[name] for name in request.names if name in environment.installed]
    user_site = environment.interpreter.user_site
    return (
        bool(found) and user_site is not None and all(item.location == user_site for item in found)
    )


def _plan(request: UninstallRequest, environment: Environment, world: World) -> Plan:
    steps: List[Step] = []
    seen: Set[NormalizedName] = set()
    for name in request.names:
        distribution = environment.installed.get(name)
        if distribution is None:
            world.reporter.pip_warning(f"WARNING: Skipping {name} as it is not installed.")
        elif not is_own(distribution, environment):
            world.reporter.error_output(
                f"Not uninstalling {name} at {distribution.location}, "
                f"outside environment {environment.interpreter.prefix}"
            )
        elif name not in seen:
            seen.add(name)
            steps.append(
                Step(
                    Action.REMOVE,
                    name,
                    None,
                    from_version=distribution.version,
                    requested=True,
                    because="requested",
                )
            )
    return Plan(tuple(steps))


def _refuse_dependency_of_torch(
    request: UninstallRequest, plan: Plan, environment: Environment
) -> None:
    """Refuse to remove a direct or indirect requirement of torch, unless torch is removed, too, or
    that is permitted. Errors: Refused."""
    is_permitted = request.own.allow_torch_change or request.own.no_rollback
    if is_permitted or plan.find(TORCH) is not None:
        return
    needing = needed_by_torch(environment)
    for unmet in newly_unmet(plan, environment):
        if unmet.name not in needing and not is_guarded(unmet.name):
            continue
        together = " ".join(["safe-install uninstall", *(step.name for step in plan.steps), TORCH])
        finding = Finding(
            "requirement-unmet",
            Severity.ERROR,
            unmet.name,
            f"after this torch misses what it needs: {unmet}",
            f"Remove torch with it ({together}), or permit it: --allow-torch-change lets the check "
            "decide, "
            "--no-rollback keeps it whatever the check says.",
        )
        raise Refused.by([finding])


def _confirmed(
    request: UninstallRequest, plan: Plan, environment: Environment, world: World
) -> Plan:
    """The plan with the removals that the user confirms, one after the other, as in pip."""
    steps: List[Step] = []
    if request.yes:
        return plan
    for step in plan.steps:
        distribution = environment.installed[step.name]
        world.reporter.announce(found_line(distribution))
        world.reporter.announce(uninstalling_line(distribution))
        for line in removal_listing(distribution):
            world.reporter.announce(f"  {line}")
        if _agrees(world):
            steps.append(step)
    return dataclasses.replace(plan, steps=tuple(steps))


def _agrees(world: World) -> bool:
    while True:
        answer = world.reporter.ask("Proceed (Y/n)? ")
        if answer is None:
            raise UsageError(
                "uninstall asks before it removes, and stdin is not a terminal", hint="Add -y."
            )
        answer = answer.strip().lower()
        if answer in ("", "y", "n"):
            return answer != "n"
        world.reporter.output(
            f"Your response ({answer!r}) was not one of the expected responses: y, n, "
        )


def removal_listing(distribution: InstalledDistribution) -> List[str]:
    """What pip lists before a removal: the packages and metadata in RECORD, by folder."""
    try:
        names = [entry.path for entry in read_record(distribution.metadata_path)]
    except OSError:
        return []
    paths = (
        os.path.normpath(distribution.location / name)
        for name in names
        if not name.endswith(".pyc")
    )
    files = {Path(path) for path in paths}
    folders = {
        path.parent
        for path in files
        if path.name == "__init__.py" or ".dist-info" in str(path.parent)
    }
    listed = {folder / "*" for folder in folders if not folders.intersection(folder.parents)}
    listed |= {path for path in files if not folders.intersection(path.parents)}
    return ["Would remove:", *(f"  {path}" for path in sorted(listed))]


def _remove(
    request: UninstallRequest, plan: Plan, environment: Environment, timings: Timings, world: World
) -> InstallResult:
    kept = kept_names(plan, environment)
    removes_torch = plan.find(TORCH) is not None
    before = BaselineCheck(environment, check_timeout=request.own.check_timeout)
    # Without torch extensions cannot be checked, and its removal was requested.
    staying = [one for one in before.subjects if plan.find(one.name) is None]
    with contextlib.ExitStack() as stack:
        stack.callback(before.stop)
        if not removes_torch:
            before.prepare_report_after(world.environ)
        transaction = stack.enter_context(_begin(environment, world))
        leaving = [environment.installed[step.name] for step in plan.steps]
        remaining = [environment.installed[name] for name in sorted(kept)]
        transaction.plan(remove=leaving, keep=remaining)
        verdict = apply_and_verify(
            transaction,
            before,
            [] if removes_torch else staying,
            expectation=_expect(request, plan),
            summary=summarize(plan.steps, world.command),
            timings=timings,
            world=world,
            outcome=Outcome.UNINSTALLED,
        )
    done = verdict.outcome is Outcome.UNINSTALLED
    if done:
        _announce(plan, environment, world, was_asked=not request.yes)
        prune_history(environment.interpreter.prefix, world)
    result = make_result("uninstall", verdict, transaction, environment, plan, timings)
    return dataclasses.replace(result, findings=(*verdict.findings, *_unmet(plan, environment)))


def _begin(environment: Environment, world: World) -> swap.Transaction:
    interpreter = environment.interpreter
    return swap.begin(interpreter.prefix, command=world.command, scheme=interpreter.scheme)


def _set_aside(
    request: UninstallRequest, plan: Plan, environment: Environment, timings: Timings, world: World
) -> InstallResult:
    from safe_install.pipeline.commit import PreparedChange
    from safe_install.pipeline.staging import set_removal_aside

    before = BaselineCheck(environment, check_timeout=request.own.check_timeout)
    change = PreparedChange(
        plan,
        tuple(world.command),
        expectation=_expect(request, plan),
        findings=_unmet(plan, environment),
    )
    try:
        return set_removal_aside(change, before, request.own.ttl, timings)
    finally:
        before.stop()


def _expect(request: UninstallRequest, plan: Plan) -> Expectation:
    """What the removal may do to torch."""
    removes_torch = plan.find(TORCH) is not None
    return Expectation(
        torch_requested=removes_torch,
        cuda_loss_requested=removes_torch,
        no_rollback=request.own.no_rollback,
    )


def _announce(plan: Plan, environment: Environment, world: World, *, was_asked: bool) -> None:
    """pip's lines on each removal; after a confirmation only the last one, because the question has
    shown the others."""
    for step in plan.steps:
        distribution = environment.installed[step.name]
        lines = removed_lines(distribution)
        for line in lines[-1:] if was_asked else lines:
            world.reporter.announce(line)
        missing = find_missing_path_file(distribution)
        if missing is not None:
            world.reporter.pip_warning(
                f"WARNING: Cannot remove entries from nonexistent file {missing}"
            )


def _unmet(plan: Plan, environment: Environment) -> Tuple[Finding, ...]:
    """Warnings on distributions that require something that was removed; no reason to roll back."""
    return tuple(make_finding(unmet, Severity.WARNING) for unmet in newly_unmet(plan, environment))
