"""The environment of a command: find it, probe it, check that it may be changed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from safe_install.environment.driver import declared_driver, read_driver
from safe_install.environment.interpreter import (
    Probe,
    find_duplicates,
    find_interpreter,
    read_environment,
)
from safe_install.errors import (
    ExternallyManaged,
    PipFailed,
    Refused,
    SafeInstallError,
    UsageError,
)
from safe_install.index.catalog import cuda_table, torch_table
from safe_install.models import Action, Environment, InstalledDistribution, Interpreter, Plan
from safe_install.ports import Timings, World
from safe_install.resolve.own_options import OwnOptions
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.target import environment_for


@dataclass(frozen=True)
class Session:
    """What the parts of an install command share."""

    request: InstallRequest
    environment: Environment  # as it was probed
    world: World
    timings: Timings
    work: Path  # a temporary folder of ours


def make_folder(path: Path) -> Path:
    """A new folder."""
    path.mkdir(parents=True)
    return path


def probe_environment(own: OwnOptions, world: World, probe: Optional[Probe] = None) -> Environment:
    """The managed environment. A declared driver replaces that of this machine. `probe`: a probe
    that was started before."""
    target = declared_driver(
        version=own.target_driver,
        cuda=own.target_cuda or cuda_of_driver(own.target_driver),
        capabilities=own.target_gpu,
    )
    executable = find_interpreter(own.python, world.environ)
    driver = target if target is not None else read_driver()
    if probe is not None and probe.executable == executable:
        return probe.result(driver)
    return read_environment(executable, driver)


def environment_asked_for(
    own: OwnOptions,
    world: World,
    *,
    torch: Optional[str] = None,
    python_version: Optional[str] = None,
    platform: Optional[str] = None,
    cxx11_abi: Optional[bool] = None,
    needs_torch: bool = True,
) -> Environment:
    """The managed environment, or that of another machine which the options describe. Errors:
    UsageError.

    `needs_torch`: another machine must be described with its torch; False: which torch it gets is
    the question.
    """
    if torch is None and cxx11_abi is not None and not needs_torch:
        raise UsageError(
            "--cxx11-abi is that of a torch, and none was named", hint="Add --torch 1.8.1+cu111."
        )
    is_elsewhere = bool(python_version or platform)
    if torch is None and (needs_torch or not is_elsewhere):
        if is_elsewhere or cxx11_abi is not None:
            raise UsageError(
                "--python-version, --platform and --cxx11-abi describe a machine elsewhere, and "
                "its torch is missing",
                hint="Add --torch 1.8.1+cu111.",
            )
        return probe_environment(own, world)
    driver = declared_driver(
        version=own.target_driver,
        cuda=own.target_cuda or cuda_of_driver(own.target_driver),
        capabilities=own.target_gpu,
    )
    if python_version is None or platform is None:
        here = probe_environment(own, world).interpreter
        python_version = python_version or here.version
        platform = platform or _platform_here(here.platform, here.libc)
    return environment_for(
        torch=torch,
        python_version=python_version,
        platform=platform,
        torch_table=torch_table(),
        cxx11_abi=cxx11_abi,
        driver=driver,
    )


def _platform_here(platform: str, libc: Tuple[str, str]) -> str:
    if platform.startswith("linux_") and libc[0] == "glibc":
        return f"manylinux_{libc[1].replace('.', '_')}_{platform[len('linux_') :]}"
    return platform


@contextmanager
def error_context(environment: Environment) -> Iterator[None]:
    """Set the environment on errors that are raised inside."""
    try:
        yield
    except SafeInstallError as error:
        error.environment = environment
        raise


def cuda_of_driver(driver_version: Optional[str]) -> Optional[str]:
    """The newest CUDA runtime that this driver supports; None where it is not known."""
    return cuda_table().cuda_of_driver(driver_version) if driver_version else None


def refuse_externally_managed(environment: Environment, *, break_system_packages: bool) -> None:
    """Refuse an environment of the operating system (PEP 668). pip's own check is skipped with
    --root, which we use. Errors: ExternallyManaged (exit 1, as pip)."""
    if environment.interpreter.externally_managed is None or break_system_packages:
        return
    raise ExternallyManaged(
        f"externally-managed-environment: {environment.interpreter.executable} belongs to the "
        "operating system",
        hint="Use a virtual environment (python3 -m venv .venv), or --break-system-packages if you "
        "know the risk.",
    )


def user_environment(environment: Environment) -> Environment:
    """The environment of the same interpreter with its user site as prefix (`--user`). Errors:
    PipFailed."""
    interpreter = environment.interpreter
    # A virtual environment with the system's site-packages sees those of the user, too.
    if interpreter.user_base is None or interpreter.user_scheme is None:
        raise _no_user_site(interpreter)
    changed = dataclasses.replace(
        interpreter, prefix=interpreter.user_base, scheme=interpreter.user_scheme
    )
    return dataclasses.replace(environment, interpreter=changed)


def _no_user_site(interpreter: Interpreter) -> PipFailed:
    if interpreter.is_virtual:
        return PipFailed(
            "Can not perform a '--user' install. User site-packages are not visible in this "
            "virtualenv.",
            hint="Leave --user out: a virtual environment is yours already.",
        )
    return PipFailed(
        "Can not perform a '--user' install. User site-packages are disabled for this Python.",
        hint="Leave --user out, or switch them on: unset PYTHONNOUSERSITE.",
    )


def defaults_to_user_site(environment: Environment) -> bool:
    """pip's rule: does it install into the user site because site-packages is not writable?"""
    interpreter = environment.interpreter
    if interpreter.user_base is None or interpreter.user_scheme is None:
        return False
    return not all(
        _is_writable(site) for site in (interpreter.scheme.purelib, interpreter.scheme.platlib)
    )


def _is_writable(directory: Path) -> bool:
    while not directory.is_dir():
        directory = directory.parent
    return os.access(directory, os.W_OK)


def lock_and_recover(
    environment: Environment, world: World, stack: contextlib.ExitStack
) -> Environment:
    """Lock the environment until `stack` is closed, and recover what an interrupted run left. The
    result is probed again where something was recovered."""
    from safe_install.transaction import unfinished
    from safe_install.transaction.lock import lock_environment

    prefix = environment.interpreter.prefix
    stack.enter_context(lock_environment(prefix))
    recovered = unfinished.recover(prefix)
    for item in recovered:
        world.reporter.warn(f"an interrupted run was put right: {item.transaction} {item.what}")
    return read_again(environment) if recovered else environment


def make_work_folder(stack: contextlib.ExitStack) -> Path:
    """A temporary folder that is removed when `stack` is closed. Errors: Refused."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safe-install-")))
    except OSError as error:
        raise Refused(
            f"no folder for temporary files can be used: {error.strerror or error}",
            hint="Name one with room: TMPDIR=/path/to/folder.",
        ) from error


def read_again(environment: Environment) -> Environment:
    """The same environment, probed again after a change."""
    fresh = read_environment(environment.interpreter.executable, environment.driver)
    if environment.interpreter.prefix != fresh.interpreter.prefix:
        fresh = user_environment(fresh)
    return fresh


def is_own(distribution: InstalledDistribution, environment: Environment) -> bool:
    """Is the distribution in a site-packages of this scheme? One of the system, hidden by the
    user's own, is not.

    The prefix alone does not tell: Debian's packages are in /usr/lib/python3, and pip's go to
    /usr/local.
    """
    scheme = environment.interpreter.scheme
    sites = {Path(os.path.realpath(site)) for site in (scheme.purelib, scheme.platlib)}
    location = Path(os.path.realpath(distribution.location))
    return bool(sites & {location, *location.parents})


@contextmanager
def progress_task(task: str, world: World) -> Iterator[None]:
    """Show a task to the user while the context is active."""
    with world.reporter.task(task):
        yield


def prune_history(prefix: Path, world: World) -> None:
    """Remove the files of old transactions. A failure is only a warning, because the change is
    committed already."""
    from safe_install.transaction import history

    try:
        for pruned in history.prune(
            prefix, keep=history.KEPT_TRANSACTIONS, limit_bytes=history.KEPT_BYTES
        ):
            if pruned.problem:
                world.reporter.warn(
                    f"the files of transaction {pruned.id} could not be removed: {pruned.problem}"
                )
    except OSError as error:
        world.reporter.warn(f"old transactions could not be removed: {error}")


def probe_named(world: World, python: Optional[str], *, user: bool = False) -> Environment:
    """The managed environment, for commands that take no requirements."""
    environment = read_environment(find_interpreter(python, world.environ), read_driver())
    return user_environment(environment) if user else environment


def find_leaving(plan: Plan, environment: Environment) -> List[InstalledDistribution]:
    """The distributions whose files are removed, each with its duplicates. One that the user site
    only hides is not among them."""
    found = [
        environment.installed[step.name]
        for step in plan.steps
        if step.action in (Action.REPLACE, Action.REMOVE)
    ]
    own = [distribution for distribution in found if is_own(distribution, environment)]
    return [*own, *(double for one in own for double in find_duplicates(one))]


def find_staying_beside(plan: Plan, environment: Environment) -> List[InstalledDistribution]:
    """The distributions that stay beside another version of themselves (--ignore-installed). Their
    files may be overwritten."""
    added = [
        step.name
        for step in plan.steps
        if step.action is Action.ADD and step.name in environment.installed
    ]
    found = [environment.installed[name] for name in added]
    return [distribution for distribution in found if is_own(distribution, environment)]
