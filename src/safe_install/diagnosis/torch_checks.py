"""Checks of torch, its companions, libraries and compiler, and of extensions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.diagnosis.environment_checks import check_found, open_to_all
from safe_install.diagnosis.facts import Facts, environment_of, imports_torch, torch_of
from safe_install.diagnosis.put_back import recorded_requirement
from safe_install.diagnosis.record_checks import check_records
from safe_install.diagnosis.run import Answer, CannotTell, NotHere
from safe_install.health.comparison import first_line, hint_for
from safe_install.health.origin import check_missing, is_whole
from safe_install.models import Environment, Finding, HealthReport, Severity
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.tags import split_local
from safe_install.torch_family import COMPANIONS, COMPILERS, TORCH

# The first torch that was built against numpy 2 (release notes of torch 2.3).
FIRST_WITH_NUMPY_2 = Version("2.3")
# Python's error also for a folder without modules, which imports as an empty module.
EMPTY_MODULE = re.compile(r"module '(\w+)' has no attribute")
# Python's errors for a .pyc file that was cut, or has zeros in it.
CUT_BYTECODE = re.compile(r"marshal data too short|bad marshal data")
NUMPY = NormalizedName("numpy")
ARRAYS = "torch.from_numpy"  # the name of the operation in the health report
REQUIRES_TORCH = re.compile(r" requires torch\b[^-_.]")
LIBRARY_PREFIXES = ("nvidia-", "cuda-")


def check_installed(facts: Facts) -> Answer:
    """Is torch installed completely, with metadata?"""
    environment = environment_of(facts)
    places = environment.torch_places
    if environment.torch is not None and is_whole(places):
        return ()
    closed = [path for path in facts.closed if path.name.partition("-")[0] == TORCH]
    if closed:
        return (_closed_folder_finding(closed[0]),)
    if not places and not _is_required(facts):
        return NotHere("there is no torch, and nothing here requires one")
    return (check_missing(places, environment.interpreter.executable),)


def _closed_folder_finding(folder: Path) -> Finding:
    """The finding on an unreadable folder: torch's own, or its dist-info."""
    detail = f"{folder} cannot be read by this user: torch counts as not installed"
    if folder.name == TORCH:
        detail = f"{folder} cannot be read by this user: Python finds no torch in it"
    hint = open_to_all(folder.parent)
    return Finding("torch-unreadable", Severity.ERROR, TORCH, detail, hint)


def _is_required(facts: Facts) -> bool:
    """Does an installed distribution require torch?"""
    unmet = facts.found.get("requirements", ())
    return any(REQUIRES_TORCH.search(finding.detail) for finding in unmet)


def check_requirements(facts: Facts) -> Answer:
    """Has what is installed what it requires? Beside a torch that is whole, its libraries and its
    companions have checks of their own."""
    unmet = facts.found.get("requirements", ())
    if check_installed(facts):
        return unmet
    return [one for one in unmet if not _is_of_library(one) and not _is_of_companion(one)]


def check_version(facts: Facts) -> Answer:
    """Do torch's files and its metadata name the same version?"""
    torch = torch_of(facts)
    recorded = str(torch.version)
    of_files = torch.runtime_version
    if split_local(recorded)[0] == split_local(of_files)[0] or not torch.has_metadata:
        return ()
    return (
        Finding(
            "torch-half-replaced",
            Severity.ERROR,
            TORCH,
            f"the metadata of torch says {recorded}, its files are of {of_files} "
            f"({torch.folder}): one installer wrote over another",
            _reinstall_command(facts),
        ),
    )


def check_companions(facts: Facts) -> Answer:
    """Were torchvision, torchaudio and torchtext built for this torch and its accelerator?"""
    environment, torch = environment_of(facts), torch_of(facts)
    findings: List[Finding] = []
    for name in sorted(COMPANIONS & set(environment.installed)):
        version = environment.installed[name].version
        findings += _check_companion_build(name, version, torch.runtime_version)
    for unmet in facts.found.get("requirements", ()):
        if _is_of_companion(unmet):
            findings.append(
                Finding(
                    "companion-of-another-torch",
                    Severity.ERROR,
                    unmet.subject,
                    unmet.detail.rstrip("."),
                    f"safe-install install --force-reinstall {unmet.subject}",
                )
            )
    return findings


def _check_companion_build(name: NormalizedName, version: str, torch_version: str) -> List[Finding]:
    """A finding if the local version identifiers of a companion and of torch differ."""
    build, torch_build = split_local(version)[1], split_local(torch_version)[1]
    if not build or not torch_build or build == torch_build:
        return []
    return [
        Finding(
            "companion-of-another-build",
            Severity.ERROR,
            name,
            f"{name} {version} was built for {build}, torch {torch_version} for {torch_build}",
            f"safe-install install --force-reinstall {name}",
        )
    ]


def _is_of_companion(unmet: Finding) -> bool:
    """ "torchvision 0.20.1 requires torch==2.5.1, but torch 2.13.0 is installed." """
    return unmet.subject in COMPANIONS and REQUIRES_TORCH.search(unmet.detail) is not None


def check_compiler(facts: Facts) -> Answer:
    """Is there at most one compiler of torch (triton)?"""
    environment = environment_of(facts)
    present = sorted(COMPILERS & set(environment.installed))
    if len(present) < 2:
        return ()
    names = " and ".join(f"{name} {environment.installed[name].version}" for name in present)
    return (
        Finding(
            "two-compilers",
            Severity.ERROR,
            present[0],
            f"{names} are installed, and all of them are the module `triton`: they overwrite each "
            "other",
            _one_compiler(environment),
        ),
    )


def _one_compiler(environment: Environment) -> str:
    """A hint: the command that keeps one compiler. The compiler that torch requires is reinstalled
    afterwards, because removing the others removes shared files."""
    others, wanted = split_compilers(environment)
    line = f"safe-install uninstall -y {' '.join(others)}"
    if not wanted:
        return line
    return f"{line} && safe-install install --force-reinstall --no-deps {' '.join(wanted)}"


def split_compilers(environment: Environment) -> Tuple[List[str], List[str]]:
    """The installed compilers that torch does not require, by name, and those that it requires, as
    requirements: "triton==3.7.1"."""
    torch = environment.installed.get(TORCH)
    wanted: Dict[str, str] = {}
    for text in torch.requires if torch is not None else ():
        requirement = parse_requirement(text)
        name = requirement_name(text)
        if requirement is not None and name in COMPILERS:
            wanted[name] = f"{requirement.name}{requirement.specifier}"
    present = sorted(COMPILERS & set(environment.installed))
    others = [str(name) for name in present if name not in wanted]
    return others, [wanted[name] for name in present if name in wanted]


def check_libraries(facts: Facts) -> Sequence[Finding]:
    """Are the libraries that torch requires installed, in the required versions?"""
    unmet = facts.found.get("requirements", ())
    torch_lines = [finding for finding in unmet if _is_of_library(finding)]
    if not torch_lines:
        return ()
    details = "; ".join(finding.detail.rstrip(".") for finding in torch_lines[:3])
    more = f" and {len(torch_lines) - 3} more" if len(torch_lines) > 3 else ""
    return (
        Finding(
            "torch-libraries-missing",
            Severity.ERROR,
            TORCH,
            f"{details}{more}",
            f"safe-install install torch=={torch_of(facts).version}",
        ),
    )


def _is_of_library(unmet: Finding) -> bool:
    """ "torch 2.14.1 requires nvidia-nccl-cu13==2.30.7, which is not installed." """
    match = re.search(r" requires ([A-Za-z0-9_.-]+)", unmet.detail)
    if unmet.subject != TORCH or match is None:
        return False
    name = match.group(1).replace("_", "-").replace(".", "-").lower()
    return name in COMPILERS or name.startswith(LIBRARY_PREFIXES)


def check_library_path(facts: Facts) -> Answer:
    """Does LD_LIBRARY_PATH put other libraries in front of torch's own?"""
    if not facts.shadowing:
        return ()
    folders = sorted({str(library.path.parent) for library in facts.shadowing})
    names = ", ".join(library.name for library in facts.shadowing[:3])
    more = f" and {len(facts.shadowing) - 3} more" if len(facts.shadowing) > 3 else ""
    # It is an error only where `import torch` fails.
    is_broken = facts.health is not None and not imports_torch(facts)
    return (
        Finding(
            "library-path",
            Severity.ERROR if is_broken else Severity.WARNING,
            "LD_LIBRARY_PATH",
            f"LD_LIBRARY_PATH puts {', '.join(folders)} in front of torch's own libraries: {names}"
            f"{more} {'is' if len(facts.shadowing) == 1 else 'are'} taken from there",
            _unset_command(folders, facts),
        ),
    )


def _unset_command(folders: Sequence[str], facts: Facts) -> str:
    """A hint: the command that removes these folders from LD_LIBRARY_PATH."""
    listed = facts.variables.get("LD_LIBRARY_PATH", "").split(":")
    rest = ":".join(folder for folder in listed if folder.rstrip("/") not in folders and folder)
    return f"export LD_LIBRARY_PATH={rest}" if rest else "unset LD_LIBRARY_PATH"


def check_imports(facts: Facts) -> Answer:
    """Does `import torch` work in a fresh process?"""
    health = facts.health
    if health is None:
        return CannotTell("torch was not imported")
    if health.crashed:
        return (
            Finding(
                "check-crashed", Severity.ERROR, TORCH, health.crashed, _reinstall_command(facts)
            ),
        )
    answer = health.imports.get(TORCH)
    if answer is None:
        return CannotTell("no answer about torch")
    if answer.unknown:
        return CannotTell(first_line(answer.error))
    if answer.ok:
        return ()
    hint = hint_for(TORCH, health.torch_version, answer.error)
    hint = hint or _hint_for_leftover(facts, answer.error or "")
    hint = hint or _hint_for_bytecode(facts, answer.error or "")
    hint = hint or _hint_by_facts(facts)
    detail = f"torch fails: {first_line(answer.error)}"
    return (Finding("import-failed", Severity.ERROR, TORCH, detail, hint),)


def _hint_for_leftover(facts: Facts, error: str) -> str:
    """A hint where the folder of a removed distribution is imported as an empty module; else ""."""
    found = EMPTY_MODULE.search(error)
    if found is None:
        return ""
    environment, name = environment_of(facts), found.group(1)
    torch = environment.installed.get(TORCH)
    used = {requirement_name(text) for text in (torch.requires if torch is not None else ())}
    is_used = name == NUMPY or canonicalize_name(name) in used
    if not is_used or canonicalize_name(name) in environment.installed:
        return ""
    return _remove_leftover(name, facts)


def _remove_leftover(name: str, facts: Facts) -> str:
    folder = environment_of(facts).interpreter.scheme.purelib / name
    return (
        f"{name} is not installed, and what is left of it is imported: remove {folder}, or install "
        f"{name}."
    )


def _hint_for_bytecode(facts: Facts, error: str) -> str:
    """A hint where Python uses bytecode that a full disk has cut; else ""."""
    if not CUT_BYTECODE.search(error):
        return ""
    site = environment_of(facts).interpreter.scheme.purelib
    return f"find {shlex.quote(str(site))} -name '*.pyc' -delete"


def _hint_by_facts(facts: Facts) -> str:
    """A hint from other facts: unset variables, make files readable, install what is missing; else
    reinstall torch."""
    if facts.without:
        return f"unset {' '.join(trial.subject for trial in facts.without)}"
    unmet = facts.found.get("requirements", ())
    for cause in (*check_records(facts), *check_libraries(facts), *unmet):
        if cause.severity is Severity.ERROR:
            return cause.hint
    return _reinstall_command(facts)


def _reinstall_command(facts: Facts) -> str:
    distribution = environment_of(facts).installed.get(TORCH)
    if distribution is None:
        requirement = f"torch=={torch_of(facts).version}"
    else:
        requirement = shlex.quote(recorded_requirement(distribution, facts))
    return f"safe-install install --force-reinstall --no-deps {requirement}"


def check_numpy(facts: Facts) -> Answer:
    """Can this torch use the numpy that is here?"""
    environment, torch = environment_of(facts), torch_of(facts)
    numpy = environment.installed.get(NUMPY)
    if numpy is None:
        return ()
    try:
        is_old = Version(split_local(torch.runtime_version)[0]) < FIRST_WITH_NUMPY_2
        is_new_numpy = Version(numpy.version) >= Version("2")
    except InvalidVersion:
        return CannotTell(f"{numpy.version} is no version")
    if not (is_old and is_new_numpy):
        return ()
    return (
        Finding(
            "numpy-too-new",
            Severity.ERROR,
            NUMPY,
            f"torch {torch.runtime_version} was built against numpy 1, and numpy {numpy.version} "
            "is installed: torch.from_numpy fails",
            "safe-install install 'numpy<2'",
        ),
    )


def check_computes(facts: Facts) -> Answer:
    """Does torch compute, and take arrays of numpy?"""
    health = facts.health
    if health is None:
        return CannotTell("torch was not asked")
    return [
        Finding(
            "operation-failed",
            Severity.ERROR,
            name,
            f"{name} fails: {first_line(answer.error)}",
            hint_for(name, health.torch_version, answer.error) or _hint_to_compute(name, facts),
        )
        for name, answer in health.operations.items()
        if not answer.ok and not answer.unknown and is_of_torch(name)
    ]


def _hint_to_compute(operation: str, facts: Facts) -> str:
    """Reinstall numpy where only its arrays fail, else torch."""
    if operation != ARRAYS:
        return _reinstall_command(facts)
    numpy = environment_of(facts).installed.get(NUMPY)
    if numpy is None:
        return _remove_leftover(NUMPY, facts)
    recorded = shlex.quote(recorded_requirement(numpy, facts))
    return f"safe-install install --force-reinstall --no-deps {recorded}"


def is_of_torch(subject: str) -> bool:
    """Is it a test of torch itself ("torch on cpu", "torch.from_numpy"), not of an extension?"""
    return subject == TORCH or subject.startswith((f"{TORCH} ", f"{TORCH}."))


def check_extension_files(facts: Facts) -> Answer:
    """Do the files of extensions fit this torch? One that lacks a library fits nothing, and only
    this is said."""
    for state in facts.records:
        paths = (*state.missing, *[file.path for file in state.changed])
        if state.name == TORCH and any(".so" in path for path in paths):
            return NotHere("libraries of torch are not as they were installed")
    return check_found("extension-files", facts)


def check_extensions(facts: Facts) -> Answer:
    """Do the installed extensions import, and do those that import compute?"""
    if facts.health is None:
        return CannotTell("they were not imported")
    return failed_extensions(facts.health, facts)


def failed_extensions(health: HealthReport, facts: Facts) -> List[Finding]:
    """Those that do not import, and those that do and do not compute."""
    asked = [("import-failed", health.imports), ("operation-failed", health.operations)]
    findings: List[Finding] = []
    for check, answers in asked:
        for name, answer in answers.items():
            if answer.ok or answer.unknown or is_of_torch(name):
                continue
            if check == "operation-failed" and _is_told(name, health, facts):
                continue
            why = first_line(answer.error)
            hint = hint_for(name, health.torch_version, answer.error)
            hint = hint or _hint_for_extension(name, facts)
            findings.append(Finding(check, Severity.ERROR, name, f"{name} fails: {why}", hint))
    return findings


def _is_told(operation: str, health: HealthReport, facts: Facts) -> bool:
    """Does "torch-scatter on cuda" fail because the project does not import, or with the same error
    as "torch-scatter on cpu"?"""
    modules = facts.modules.get(canonicalize_name(operation.partition(" ")[0]), ())
    answers = [health.imports.get(module) for module in modules]
    if any(answer is not None and not answer.ok for answer in answers):
        return True
    if not operation.endswith(" on cuda"):
        return False
    on_cpu = health.operations.get(operation.replace(" on cuda", " on cpu"))
    return on_cpu is not None and on_cpu.error == health.operations[operation].error


def _hint_for_extension(subject: str, facts: Facts) -> str:
    """`subject`: a module ("torch_scatter"), or an operation ("torch-scatter on cuda")."""
    name = canonicalize_name(subject.partition(" ")[0])
    distribution = environment_of(facts).installed.get(name)
    if distribution is None:
        return f"See all that it says: python -c 'import {subject.partition(' ')[0]}'"
    requirement = str(name)
    if any(state.name == name and (state.missing or state.changed) for state in facts.records):
        # as the check of its files says it
        requirement = shlex.quote(recorded_requirement(distribution, facts))
    return f"safe-install install --force-reinstall --no-deps {requirement}"
