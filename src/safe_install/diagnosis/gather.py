"""Gathers the facts for the checks of `doctor`."""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from packaging.utils import NormalizedName

from safe_install.diagnosis.disk_facts import (
    find_cached_wheels,
    find_closed,
    find_foreign_wheels,
    find_lock_files,
    find_lost_archives,
    find_lost_sources,
    find_metadata,
    find_other_pythons,
    find_shadowing,
    find_unreadable,
    find_unwritable,
    path_of_address,
    read_conda,
    read_rooms,
)
from safe_install.diagnosis.facts import Facts, FoundToolkit, ProbeProblem, SearchPlaces
from safe_install.diagnosis.machine_facts import (
    find_broken,
    find_closed_ports,
    find_fatal_variable,
    find_fatal_variable_of_all,
    find_lost_certificates,
    find_lost_settings,
    find_programs,
    find_unreadable_settings,
)
from safe_install.diagnosis.record_facts import read_records
from safe_install.environment.interpreter import ACTIVE_VARIABLES, find_interpreter
from safe_install.environment.programs import find_running
from safe_install.errors import ProbeFailed
from safe_install.folders import expand_home
from safe_install.health.comparison import hint_for
from safe_install.health.requirements import make_finding, unmet_requirements
from safe_install.models import (
    Environment,
    Finding,
    HealthReport,
    Interpreter,
    Severity,
    UnmetRequirement,
)
from safe_install.pipeline.session import probe_named
from safe_install.ports import Timings, World
from safe_install.requirements import requirement_name
from safe_install.system.pip_configuration import find_broken_files, read_configuration
from safe_install.torch_family import TORCH, is_guarded
from safe_install.transaction.asides import check_leftovers
from safe_install.transaction.recovery.rows import STATE_DIRECTORY

# These modules are imported late: with --quick their import would take half of the time.
if TYPE_CHECKING:
    from safe_install.health.examination import Examination
    from safe_install.pipeline.breakage import Judged
    from safe_install.wheels.toolkit_choice import Toolkit, Unusable

NO_MODULE = "ModuleNotFoundError"
# The checks that read the machine code of extensions.
BINARY_CHECKS = ("extension-files", "extension-gpu-code", "jit-builds")
PATH_SETTINGS = ("index-url", "extra-index-url", "find-links", "cert")


def gather_facts(
    world: World,
    *,
    python: Optional[str],
    quick: bool,
    deep: bool,
    check_timeout: Optional[float],
    timings: Timings,
) -> Facts:
    """All facts about an environment; fewer where its interpreter does not answer.

    `python`: --python; `quick`: nothing is imported; `deep`: every file is hashed; `check_timeout`:
    seconds for the import in a fresh process. Errors: UsageError if there is no such
    interpreter.
    """
    broken = find_broken(python, world.environ)
    if broken is not None:
        return _without_interpreter(broken[0], broken[1], world)
    executable = find_interpreter(python, world.environ)
    try:
        with timings.stage("probe"):
            environment = probe_named(world, python)
    except ProbeFailed as error:
        return _without_interpreter(executable, _explain_failure(executable, error, world), world)
    problem = find_lost_settings(executable, environment.interpreter)
    problem = problem or find_fatal_variable(executable, world.environ)
    if problem is not None:
        return _without_interpreter(executable, problem, world)
    examination = None if quick else _start_examination(environment, check_timeout)
    try:
        # Files are read while the other process imports.
        with timings.stage("files"):
            facts = _read_files(world, environment, executable, deep=deep)
        with timings.stage("toolkit"):
            facts = _with_toolkit(facts, environment, world)
        with timings.stage("health"):
            facts = _with_health(facts, environment, world, examination)
        if quick:
            return facts
        facts = _with_trials(facts, environment, world, check_timeout)
        return facts if deep else _with_hashes(facts, environment)
    finally:
        if examination is not None:
            examination.stop()


def _explain_failure(executable: Path, error: ProbeFailed, world: World) -> ProbeProblem:
    """Why the probe failed: a variable, pyvenv.cfg, or else its own error."""
    problem = find_fatal_variable_of_all(executable, world.environ)
    problem = problem or find_unreadable_settings(executable)
    return problem or ProbeProblem(error.message, error.hint)


def _start_examination(environment: Environment, timeout: Optional[float]) -> Optional[Examination]:
    if environment.torch is None:
        return None
    from safe_install.health.examination import Examination
    from safe_install.pipeline.baseline import installed_subjects

    return Examination(
        environment.interpreter.executable,
        environment.torch,
        installed_subjects(environment),
        timeout=timeout,
    )


def _without_interpreter(executable: Path, problem: ProbeProblem, world: World) -> Facts:
    return Facts(
        executable,
        problem=problem,
        variables=world.environ,
        programs=find_programs(world.environ),
        rooms=read_rooms([executable.parent.parent, world.cache_dir]),
    )


def _read_files(world: World, environment: Environment, executable: Path, *, deep: bool) -> Facts:
    variables = world.environ
    interpreter = environment.interpreter
    settings = read_configuration(interpreter.prefix, variables, "install")
    return Facts(
        executable,
        environment,
        places=_resolve_places(interpreter, variables),
        variables=variables,
        programs=find_programs(variables),
        metadata=find_metadata(interpreter.paths),
        records=read_records(environment, deep=deep),
        lost_sources=find_lost_sources(environment.installed.values()),
        lost_archives=find_lost_archives(environment.installed.values()),
        hosted=_names_on_hosts(environment),
        unreadable=find_unreadable(interpreter.paths),
        closed=find_closed(interpreter.paths),
        lock_files=find_lock_files(interpreter.prefix),
        shadowing=find_shadowing(environment, variables),
        interrupted_changes=_interrupted_changes(interpreter.prefix),
        rooms=read_rooms([interpreter.prefix, world.cache_dir]),
        other_pythons=find_other_pythons(interpreter),
        foreign_wheels=find_foreign_wheels(environment.installed.values(), interpreter),
        unwritable=find_unwritable(interpreter.scheme),
        closed_ports=find_closed_ports(variables, settings),
        lost_certificates=find_lost_certificates(variables),
        running=find_running(interpreter.prefix),
        pip_settings=settings,
        missing_folders=_missing_folders(settings),
        broken_settings=find_broken_files(interpreter.prefix, variables),
        cached_wheels=find_cached_wheels(variables, settings),
        conda=read_conda(interpreter.prefix) if interpreter.conda else (),
    )


def _resolve_places(interpreter: Interpreter, variables: Mapping[str, str]) -> SearchPlaces:
    active = [variables.get(name, "") for name in ACTIVE_VARIABLES]
    scheme = interpreter.scheme
    return SearchPlaces(
        prefix=_real(interpreter.prefix),
        scripts=_real(scheme.scripts),
        sites=frozenset({_real(scheme.purelib), _real(scheme.platlib)}),
        user_site=_real(interpreter.user_site) if interpreter.user_site is not None else None,
        pythonpath=_resolve_all(variables.get("PYTHONPATH", "").split(os.pathsep)),
        active=_resolve_all(active),
    )


def _resolve_all(paths: Iterable[str]) -> FrozenSet[Path]:
    return frozenset(_real(Path(path)) for path in paths if path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _with_health(
    facts: Facts,
    environment: Environment,
    world: World,
    examination: Optional[Examination],
) -> Facts:
    unmet = unmet_requirements(environment.installed, environment.interpreter.markers)

    @lru_cache(maxsize=None)
    def answers() -> HealthReport:
        return examination.result(unmet) if examination is not None else HealthReport()

    found = dict(facts.found)
    unknown: Dict[str, str] = {}
    # Where this user may not read something, the check says so, and the others go on.
    try:
        found["interrupted-pip"] = check_leftovers(environment.interpreter.scheme)
    except OSError as error:
        unknown["interrupted-pip"] = str(error)
    try:
        found.update(_judge_files(environment, world, preloaded=lambda: answers().libraries))
    except OSError as error:
        unknown.update(dict.fromkeys(BINARY_CHECKS, str(error)))
    found["requirements"] = _unmet_findings(unmet, answers())
    if examination is None:
        return dataclasses.replace(facts, found=found, unknown=unknown)
    from safe_install.diagnosis.health_findings import check_cuda, check_torch_folder
    from safe_install.pipeline.baseline import installed_subjects

    health = answers()
    modules = {subject.name: subject.imports for subject in installed_subjects(environment)}
    origin = check_torch_folder(environment, health, world.environ)
    # Notes are dropped: a torch in the user site, or in the base environment, is no fault.
    found["torch-origin"] = tuple(one for one in origin if one.severity is not Severity.NOTE)
    found["cuda"] = check_cuda(environment, health, world.environ, require_cuda=False)
    return dataclasses.replace(facts, health=health, modules=modules, found=found, unknown=unknown)


def _unmet_findings(unmet: Sequence[UnmetRequirement], health: HealthReport) -> Tuple[Finding, ...]:
    """Findings on unmet requirements: errors where they make `import torch` fail, else warnings."""
    answer = health.imports.get(TORCH)
    error = (answer.error or "") if answer is not None else ""
    findings = []
    for one in unmet:
        is_cause = one.name == TORCH and _causes(one, error)
        severity = Severity.ERROR if is_cause else Severity.WARNING
        hint = f"safe-install install '{one.requirement}'"
        findings.append(make_finding(one, severity, hint=hint))
    return tuple(findings)


def _causes(unmet: UnmetRequirement, error: str) -> bool:
    """Does an unmet requirement of torch explain the error of the import? An installed distribution
    with the wrong version explains it where the error names its module."""
    if not unmet.present:
        return NO_MODULE in error
    module = (requirement_name(unmet.requirement) or "").replace("-", "_")
    return f"'{module}'" in error or f"/{module}.py" in error or f"/{module}/" in error


def _judge_files(
    environment: Environment, world: World, *, preloaded: Callable[[], Sequence[str]]
) -> Mapping[str, Tuple[Finding, ...]]:
    """Check -> findings on the binary files of installed extensions. Errors: OSError."""
    if environment.torch is None:
        return {}
    from safe_install.diagnosis.jit_builds import find_jit_builds
    from safe_install.pipeline.breakage import broken_among, judge_installed

    judged = judge_installed(environment, world.environ, preloaded=preloaded)
    return {
        "extension-files": broken_among(judged),
        "extension-gpu-code": _gpu_findings(judged, environment),
        "jit-builds": find_jit_builds(environment, world.environ, preloaded=preloaded),
    }


def _gpu_findings(judged: Sequence[Judged], environment: Environment) -> Tuple[Finding, ...]:
    """Findings on extensions without code for torch's CUDA or for the GPUs of this machine."""
    torch = environment.torch
    if torch is None or torch.cuda is None:
        return ()
    from safe_install.wheels.inspection import check_gpu_files

    findings: List[Finding] = []
    for distribution, verdicts in judged:
        findings += check_gpu_files(
            distribution.name,
            verdicts,
            torch,
            environment.driver,
            version=distribution.version,
            requires=distribution.requires,
        )
    return tuple(findings)


def _names_on_hosts(environment: Environment) -> FrozenSet[NormalizedName]:
    """The distributions whose recorded URL is on a wheel host of their project."""
    recorded = [one for one in environment.installed.values() if one.direct_url]
    if not recorded:
        return frozenset()
    from safe_install.index.catalog import known_projects, load_project
    from safe_install.resolve.carried import is_of_host

    found = [one.name for one in recorded if one.name in known_projects()]
    return frozenset(
        name for name in found if is_of_host(environment.installed[name], load_project(name))
    )


def _interrupted_changes(prefix: Path) -> Tuple[str, ...]:
    if not os.path.lexists(prefix / STATE_DIRECTORY):
        return ()
    from safe_install.transaction.recovery.transactions import list_transactions

    try:
        transactions = list_transactions(str(prefix))
    except OSError:
        return ()  # another user's
    return tuple(name for name, state in transactions if state == "journal")


def _with_toolkit(facts: Facts, environment: Environment, world: World) -> Facts:
    """Add the CUDA toolkit that CUDA_HOME or nvcc on PATH names, and findings on it."""
    if environment.torch is None or environment.torch.cuda is None:
        return facts
    from safe_install.wheels import toolkit as toolkits
    from safe_install.wheels import toolkit_choice

    findings: List[Finding] = []
    for place in toolkits.find_places(environment, world.environ, world.cache_dir):
        if isinstance(place, toolkit_choice.Unusable):
            if place.origin in toolkit_choice.NAMED_BY_PERSON:
                findings.append(_unusable_toolkit(place))
            continue
        if place.origin in (*toolkit_choice.NAMED_BY_PERSON, toolkit_choice.NVCC_ON_PATH):
            findings += _host_compiler(place, world.environ)
            facts = dataclasses.replace(facts, toolkit=FoundToolkit(place.home, place.version))
            break
    return dataclasses.replace(facts, found={"toolkit": tuple(findings)})


def _unusable_toolkit(place: Unusable) -> Finding:
    return Finding(
        "toolkit-missing",
        Severity.NOTE,
        place.origin,
        f"{place.origin} is {place.path}: {place.reason}; extensions are not compiled with it",
        f"Wheels need no toolkit. To compile: correct it, or unset {place.origin}",
    )


def _host_compiler(toolkit: Toolkit, variables: Mapping[str, str]) -> List[Finding]:
    """A note if the toolkit's nvcc refuses the installed gcc."""
    from safe_install.wheels.recipe import check_host_compiler
    from safe_install.wheels.toolkit import find_gcc, find_other_gccs

    others = find_other_gccs(variables)
    refusal = check_host_compiler(toolkit, find_gcc(variables), others, variables)
    if refusal is None:
        return []
    detail = f"{refusal.detail}: extensions are not compiled with it"
    return [Finding(refusal.check, Severity.NOTE, "gcc", detail, refusal.hint)]


def _with_hashes(facts: Facts, environment: Environment) -> Facts:
    """Hash the files of torch and its libraries if torch fails and nothing explains it: after a
    power cut files may have their sizes but zeros in them."""
    health = facts.health
    if health is None or _is_explained(facts):
        return facts
    answer = health.imports.get(TORCH)
    error = answer.error if answer is not None and not answer.ok else health.crashed
    if not error or NO_MODULE in error or hint_for(TORCH, health.torch_version, error):
        return facts
    found = read_records(environment, deep=True, only=is_guarded)
    return dataclasses.replace(facts, records=(*facts.records, *found))


def _is_explained(facts: Facts) -> bool:
    """Is there a fact that explains why torch fails?"""
    unmet = facts.found.get("requirements", ())
    is_unmet = any(one.severity is Severity.ERROR for one in unmet)
    is_damaged = any(is_guarded(state.name) for state in facts.records)
    return bool(facts.shadowing or facts.without or is_unmet or is_damaged)


def _with_trials(
    facts: Facts, environment: Environment, world: World, timeout: Optional[float]
) -> Facts:
    """Add the variables and files that break the import, found by importing again."""
    from safe_install.diagnosis.trials import find_start_problems, try_as_typed, try_without

    facts = dataclasses.replace(
        facts, start_problems=find_start_problems(environment.interpreter.executable)
    )
    answer = facts.health.imports.get(TORCH) if facts.health is not None else None
    if answer is None or answer.unknown:
        return facts
    if answer.ok:
        return dataclasses.replace(facts, typed=try_as_typed(environment, world.environ, timeout))
    if facts.shadowing:
        return facts  # LD_LIBRARY_PATH is the cause
    return dataclasses.replace(
        facts, without=try_without(environment.interpreter.executable, timeout)
    )


def _missing_folders(settings: Mapping[str, str]) -> Tuple[str, ...]:
    """The paths in pip's settings that do not exist."""
    missing: List[str] = []
    for key in PATH_SETTINGS:
        value = settings.get(key, "")
        # The other settings are lists of addresses; `cert` is one path, which may have spaces.
        for word in [value] if key == "cert" and value else value.split():
            path = _path_of(word)
            # Path.exists raises where it may not look.
            if path is not None and not os.path.exists(path):  # noqa: PTH110
                missing.append(word)
    return tuple(missing)


def _path_of(word: str) -> Optional[Path]:
    if word.startswith("file:"):
        return path_of_address(word)
    # Like pip: "~" is expanded where it is a home folder.
    return expand_home(word) if "://" not in word else None
