"""`safe-install sync FILE`: makes an environment exactly what a file says, in one change.

Read the file, compare, ask pip for what the file leaves open (the file of a version, the sources in
a folder), fetch and verify, then continue as an install: stage, swap, verify, keep or roll back.
Nothing is resolved: only what the file names is installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from safe_install.environment.interpreter import Probe
from safe_install.errors import NoCandidate, Refused
from safe_install.models import (
    SOURCES,
    Environment,
    Finding,
    InstallResult,
    Outcome,
    Plan,
    Severity,
)
from safe_install.pipeline.session import (
    Session,
    error_context,
    is_own,
    lock_and_recover,
    make_work_folder,
    probe_environment,
    refuse_externally_managed,
    user_environment,
)
from safe_install.ports import Timings, World
from safe_install.resolve.request import InstallRequest
from safe_install.snapshot.difference import (
    Deviation,
    Difference,
    compare_with_lock,
    find_kept,
)
from safe_install.snapshot.forms import Form, form_of, parse_lock
from safe_install.snapshot.installed_wheels import read_installed_wheels
from safe_install.snapshot.locked import LockedEnvironment, entry_of
from safe_install.snapshot.steps import (
    describe_steps,
    find_folders,
    find_unfit_wheels,
    origin_of,
    refuse_lost_torch,
)
from safe_install.snapshot.sync_request import SyncRequest
from safe_install.snapshot.values import DirectorySource, FileSource

SHOWN = 5  # names in one sentence


def sync(request: SyncRequest, world: World, probe: Optional[Probe] = None) -> InstallResult:
    """Make the environment what the file says. Afterwards it is changed and verified, or as before.
    `probe`: a probe of the managed interpreter that was started before.

    Errors: every SafeInstallError. After an error the environment is unchanged, except after
    RollBackFailed.
    """
    timings = Timings()
    install = request.install
    with timings.stage("probe"):
        environment = probe_environment(install.own, world, probe)
    if install.place == "user":
        environment = user_environment(environment)
    with contextlib.ExitStack() as stack:
        stack.enter_context(error_context(environment))
        if not request.changes_nothing:
            refuse_externally_managed(
                environment, break_system_packages=install.break_system_packages
            )
            environment = lock_and_recover(environment, world, stack)
        lock = _read(request, environment, world)
        difference = _compare(lock, request, environment)
        if request.check:
            return _checked(request, lock, difference, environment, timings)
        if not difference.deviations and not difference.extra:
            return _nothing_to_do(request, lock, difference, environment, timings)
        _refuse_before(request, difference, environment)
        work = make_work_folder(stack)
        session = Session(_with_entries(request, lock), environment, world, timings, work)
        result = _change(request, lock, difference, session, stack)
    return dataclasses.replace(
        result,
        findings=(*lock.notes, *_note_kept(difference), *result.findings),
        details={**result.details, **_details(request, difference)},
    )


def _with_entries(request: SyncRequest, lock: LockedEnvironment) -> InstallRequest:
    """The install request with the requirements of the file; for a lock file it has none."""
    if form_of(request.location) is not Form.PYLOCK:
        return request.install
    entries = tuple(entry_of(one) for one in lock.distributions)
    return dataclasses.replace(request.install, entries=entries)


def _change(
    request: SyncRequest,
    lock: LockedEnvironment,
    difference: Difference,
    session: Session,
    stack: contextlib.ExitStack,
) -> InstallResult:
    # Imported here: it is not needed where nothing differs.
    from safe_install.pipeline.baseline import BaselineCheck
    from safe_install.snapshot.lock_change import LockChange

    before = BaselineCheck(
        session.environment,
        check_timeout=session.request.own.check_timeout,
        sources=find_folders(difference),
    )
    stack.callback(before.stop)
    return LockChange(request.location, session, before).run(lock, difference)


# --- the difference -------------------------------------------------------------------------------


def _read(request: SyncRequest, environment: Environment, world: World) -> LockedEnvironment:
    """The content of the file for this interpreter. Errors: InputError; Refused or NoCandidate,
    where it is for another interpreter, or names nothing."""
    lock = parse_lock(
        request.location,
        interpreter=environment.interpreter,
        read=request.read,
        environ=world.environ,
        folder=os.getcwd(),  # noqa: PTH109 - as pip has it
        wanted=request.wanted,
    )
    _refuse(lock.problems)
    if not lock.distributions and not request.allow_empty:
        raise Refused(
            f"{request.location} names no distribution: all that is installed would be removed",
            hint="If that is what you want: --allow-empty.",
        )
    return lock


def _refuse(problems: Sequence[Finding]) -> None:
    """Refuse all problems together. Errors: NoCandidate, where only files are missing; else
    Refused."""
    if not problems:
        return
    if any(finding.check != "no-file-here" for finding in problems):
        raise Refused.by(problems)
    raise NoCandidate(
        f"{len(problems)} of the distributions that the file names have no file for this "
        "interpreter"
        if len(problems) > 1
        else problems[0].detail,
        hint="Make the file again for this Python and this machine.",
        findings=problems,
    )


def _compare(lock: LockedEnvironment, request: SyncRequest, environment: Environment) -> Difference:
    own = [
        name
        for name, distribution in environment.installed.items()
        if is_own(distribution, environment)
    ]
    files = read_installed_wheels(environment)
    difference = compare_with_lock(lock, environment, find_kept(environment, own), files)
    if not request.keep_extra:
        return difference
    kept = {one.name: "--keep-extra" for one in difference.extra}
    return dataclasses.replace(difference, extra=(), kept={**difference.kept, **kept})


def _details(request: SyncRequest, difference: Difference) -> Mapping[str, object]:
    return {"file": request.location, "kept": dict(difference.kept)}


def _note_kept(difference: Difference) -> Tuple[Finding, ...]:
    """Notes on what is not in the file and stays, one for each reason, without pip and similar
    tools."""
    names_by_reason: Dict[str, List[str]] = {}
    for name, reason in difference.kept.items():
        names_by_reason.setdefault(reason, []).append(name)
    found = []
    for reason, names in names_by_reason.items():
        listed = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
        detail = f"not in the file, and left alone: {listed} ({reason})"
        found.append(Finding("left-alone", Severity.NOTE, names[0], detail))
    return tuple(found)


def _checked(
    request: SyncRequest,
    lock: LockedEnvironment,
    difference: Difference,
    environment: Environment,
    timings: Timings,
) -> InstallResult:
    """The result of --check: exit status 1 where there is a difference."""
    steps = describe_steps(difference, request.location)
    outcome = Outcome.DIFFERS if steps else Outcome.SAME
    message = f"The environment is what {request.location} says."
    return InstallResult(
        "sync",
        outcome,
        1 if steps else 0,
        environment,
        Plan(steps),
        findings=(*lock.notes, *_note_kept(difference)),
        timings=timings.total(),
        message="" if steps else message,
        details=_details(request, difference),
    )


def _nothing_to_do(
    request: SyncRequest,
    lock: LockedEnvironment,
    difference: Difference,
    environment: Environment,
    timings: Timings,
) -> InstallResult:
    return InstallResult(
        "sync",
        Outcome.ALREADY_SATISFIED,
        0,
        environment,
        Plan(),
        findings=(*lock.notes, *_note_kept(difference)),
        timings=timings.total(),
        message=f"Nothing to do: the environment is what {request.location} says.",
        details=_details(request, difference),
    )


def _refuse_before(request: SyncRequest, difference: Difference, environment: Environment) -> None:
    """Refuse what needs no question to pip or a host. Errors: NoCandidate, Refused."""
    _refuse(find_unfit_wheels(difference.deviations, environment))
    _refuse(_find_missing(difference.deviations, request.location))
    if not request.install.own.allow_torch_change:
        _refuse(refuse_lost_torch(difference.extra, request.location))
    if request.install.own.no_build:
        _refuse_builds(difference.deviations)


def _find_missing(deviations: Sequence[Deviation], location: str) -> Tuple[Finding, ...]:
    """Errors on local files and folders that the file names and that do not exist."""
    found = []
    for deviation in deviations:
        source = deviation.locked.source
        if not isinstance(source, (FileSource, DirectorySource)) or os.path.lexists(source.path):
            continue
        found.append(
            Finding(
                "file-missing",
                Severity.ERROR,
                deviation.locked.name or deviation.locked.line,
                f"{deviation.locked}: {location} names {source.path}, which is not there",
                "Copy it along with the file: for wheels, export --wheels makes a folder.",
            )
        )
    return tuple(found)


def _refuse_builds(deviations: Sequence[Deviation]) -> None:
    built = [str(one.locked) for one in deviations if origin_of(one.locked) in SOURCES]
    if built:
        raise Refused(
            f"{', '.join(built)}: built from source, and --no-build is set",
            hint="Leave --no-build out, or name wheels in the file.",
        )
