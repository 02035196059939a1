"""Checks of the interpreter, the folders on its sys.path, and running programs."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.diagnosis.facts import (
    Facts,
    MetadataFolder,
    OtherPython,
    Program,
    SearchPlaces,
    environment_of,
)
from safe_install.diagnosis.run import Answer, CannotTell
from safe_install.health.running import note_running
from safe_install.models import Environment, Finding, Severity
from safe_install.tags import split_local
from safe_install.torch_family import TORCH, is_guarded

SHOWN = 3  # files that a finding names


def check_interpreter(facts: Facts) -> Answer:
    """Does the interpreter start and answer?"""
    if facts.problem is None:
        return ()
    return (
        Finding(
            "interpreter-broken",
            Severity.ERROR,
            str(facts.executable),
            facts.problem.message,
            facts.problem.hint,
        ),
    )


def check_programs(facts: Facts) -> Answer:
    """Do python and pip on PATH belong to the active environment?"""
    environment, places = environment_of(facts), _search_places(facts)
    scripts = places.scripts
    if places.prefix not in places.active:
        return ()
    findings: List[Finding] = []
    for program in facts.programs:
        if program.name == "nvcc" or program.folder in (None, scripts):
            continue
        # In an environment without pip (uv makes such), nobody expects pip to belong to it.
        if program.name.startswith("pip") and environment.interpreter.pip_version is None:
            continue
        if program.own_folder == scripts:
            findings.append(_moved_program_finding(program, environment))
            continue
        findings.append(
            Finding(
                "another-program-first",
                Severity.WARNING,
                program.name,
                f"{environment.interpreter.prefix} is active, and `{program.name}` on PATH is "
                f"{program.path}, which belongs to another Python",
                f"export PATH={scripts}:$PATH",
            )
        )
    return findings


def _moved_program_finding(program: Program, environment: Environment) -> Finding:
    return Finding(
        "program-of-another-folder",
        Severity.WARNING,
        program.name,
        f"{program.path} starts {program.interpreter}, which is not the Python of "
        f"{environment.interpreter.prefix}: the environment was moved or copied",
        f"{environment.interpreter.executable} -m pip install --force-reinstall --no-deps pip",
    )


def check_import_path(facts: Facts) -> Answer:
    """Does another folder on sys.path hide distributions of this environment?"""
    places = _search_places(facts)
    first: Dict[NormalizedName, MetadataFolder] = {}
    findings = [_unlisted_folder_finding(folder) for folder in facts.unreadable]
    findings += _of_other_pythons(facts)
    for folder in facts.metadata:
        before = first.setdefault(folder.name, folder)
        if before.site == folder.site or before.version == folder.version:
            continue
        if folder.site in places.sites:
            findings.append(_hidden_metadata_finding(before, folder, places))
    return findings


def _unlisted_folder_finding(folder: Path) -> Finding:
    return Finding(
        "folder-unreadable",
        Severity.ERROR,
        str(folder),
        f"{folder} is on sys.path and cannot be read by this user: what is installed there is not "
        "found",
        open_to_all(folder),
    )


# What a new virtual environment may have.
PREINSTALLED = frozenset(["pip", "setuptools", "wheel"])


def _of_other_pythons(facts: Facts) -> List[Finding]:
    """Findings on packages of a former Python, which the present Python does not see. Only where
    the environment has no other packages."""
    environment = environment_of(facts)
    if environment.torch is not None or set(environment.installed) - PREINSTALLED:
        return []
    return [
        _of_another_python(other, environment)
        for other in facts.other_pythons
        if set(other.names) - PREINSTALLED
    ]


def _of_another_python(other: OtherPython, environment: Environment) -> Finding:
    interpreter = environment.interpreter
    names = sorted(set(other.names) - PREINSTALLED, key=lambda name: (name != TORCH, name))
    return Finding(
        "packages-of-another-python",
        Severity.ERROR,
        str(names[0]),
        f"{list_some(names)} {'is' if len(names) == 1 else 'are'} installed in {other.folder}, for "
        f"Python {other.version}, and the Python of this environment is {interpreter.version} now: "
        "it sees nothing of it",
        f"Make the environment again with Python {other.version}, or install all of it again: "
        f"python{other.version} -m venv --clear {interpreter.prefix}.",
    )


def check_startup_files(facts: Facts) -> Answer:
    """Does a startup file (.pth, sitecustomize) fail at every start of the interpreter?"""
    return [
        Finding(
            "startup-file-fails",
            Severity.WARNING,
            problem.file.rpartition("/")[2],
            f"{problem.file} fails at every start of this Python: {problem.error or 'no reason given'}",
            f"Remove {problem.file}, or install again what it belongs to.",
        )
        for problem in facts.start_problems
    ]


def _hidden_metadata_finding(
    first: MetadataFolder, hidden: MetadataFolder, places: SearchPlaces
) -> Finding:
    source, hint = _source_of(first.site, places)
    severity = Severity.ERROR if is_guarded(first.name) else Severity.WARNING
    return Finding(
        "hidden-by-another-folder",
        severity,
        first.name,
        f"{first.name} {hidden.version} is installed here, and Python imports {first.version} "
        f"from {first.site} ({source})",
        hint,
    )


def _source_of(folder: Path, places: SearchPlaces) -> Tuple[str, str]:
    """Why a folder is on sys.path, and a hint how to take it off."""
    if folder in places.pythonpath:
        return ("PYTHONPATH", "unset PYTHONPATH")
    if folder == places.user_site:
        return ("the user site", "export PYTHONNOUSERSITE=1")
    return ("another folder on sys.path", f"Remove it there, or keep {folder} off sys.path.")


def check_metadata(facts: Facts) -> Answer:
    """Is each distribution recorded once, and can its record be read?"""
    closed = [_closed_folder_finding(path) for path in facts.closed if path.name != TORCH]
    return [*closed, *_find_unreadable(facts), *_find_recorded_twice(facts)]


def _find_unreadable(facts: Facts) -> List[Finding]:
    broken = [
        folder
        for folder in facts.metadata
        if not folder.is_readable and folder.path not in facts.closed
    ]
    if len(broken) > SHOWN:
        return [_many_unreadable(broken)]
    return [_unreadable_metadata_finding(folder) for folder in broken]


def _find_recorded_twice(facts: Facts) -> List[Finding]:
    readable: Dict[object, List[MetadataFolder]] = {}
    for folder in facts.metadata:
        if folder.is_readable:
            readable.setdefault((folder.site, folder.name), []).append(folder)
    return [_recorded_twice(same, facts) for same in readable.values() if len(same) > 1]


def _closed_folder_finding(folder: Path) -> Finding:
    return Finding(
        "metadata-closed",
        Severity.WARNING,
        folder.name,
        f"{folder} cannot be read by this user: what it is of counts as not installed",
        open_to_all(folder.parent),
    )


def open_to_all(folder: Path) -> str:
    """A hint: the command that lets everybody read a folder with all its files, or a file."""
    return f"As its owner, or as root: chmod -R u+rwX,go+rX {folder}"


def _unreadable_metadata_finding(folder: MetadataFolder) -> Finding:
    return Finding(
        "metadata-unreadable",
        Severity.WARNING,
        folder.name,
        f"{folder.path} has no METADATA with a name and a valid version: pip does not know what it is "
        "of",
        f"rm -r {folder.path} && safe-install install --force-reinstall --no-deps "
        f"{folder.name}=={folder.version}",
    )


def _many_unreadable(folders: Sequence[MetadataFolder]) -> Finding:
    names = " ".join(f"{folder.name}=={folder.version}" for folder in folders[:SHOWN])
    return Finding(
        "metadata-unreadable",
        Severity.WARNING,
        folders[0].name,
        f"{len(folders)} dist-info folders have no METADATA with a name and a valid version: "
        f"{list_some([str(folder.path) for folder in folders])}; pip does not know what they are of",
        f"Remove each, and install what is still needed: safe-install install --force-reinstall "
        f"--no-deps {names} ...",
    )


def _recorded_twice(folders: Sequence[MetadataFolder], facts: Facts) -> Finding:
    name = folders[0].name
    versions = " and ".join(folder.version for folder in folders)
    return Finding(
        "recorded-twice",
        Severity.ERROR if is_guarded(name) else Severity.WARNING,
        name,
        f"{name} is recorded twice in {folders[0].site}: {versions}; an install was "
        "interrupted, or two installers wrote over each other",
        "Install one again; both records go then: safe-install install --force-reinstall --no-deps "
        f"{name}=={version_of_files(folders, facts)}",
    )


def version_of_files(folders: Sequence[MetadataFolder], facts: Facts) -> str:
    """Which of several records of one distribution describes its files. torch's files say their
    version; for others it is most likely the newest one, which was installed last."""
    newest_first = sorted((folder.version for folder in folders), key=Version, reverse=True)
    torch = facts.environment.torch if facts.environment is not None else None
    if folders[0].name == TORCH and torch is not None:
        of_files = split_local(torch.runtime_version)[0]
        newest_first.sort(key=lambda version: split_local(version)[0] != of_files)
    return newest_first[0]


def list_some(paths: Sequence[str]) -> str:
    """The first SHOWN texts, and how many more there are."""
    shown = ", ".join(paths[:SHOWN])
    return shown if len(paths) <= SHOWN else f"{shown} and {len(paths) - SHOWN} more"


def check_interrupted_change(facts: Facts) -> Answer:
    """Was a change of safe-install killed before it ended?"""
    return [
        Finding(
            "interrupted-change",
            Severity.ERROR,
            identifier,
            f"the change {identifier} was killed before it ended",
            "safe-install recover",
        )
        for identifier in facts.interrupted_changes
    ]


def check_managed(facts: Facts) -> Answer:
    """Does this Python belong to the operating system (PEP 668), or its folders to another user?"""
    interpreter = environment_of(facts).interpreter
    findings = [_unwritable_folder_finding(folder) for folder in facts.unwritable]
    if interpreter.externally_managed is not None:
        findings.append(
            Finding(
                "externally-managed",
                Severity.NOTE,
                str(interpreter.executable),
                f"{interpreter.executable} belongs to the operating system: pip refuses to install "
                "into it (PEP 668)",
                "Work in a virtual environment: python3 -m venv .venv.",
            )
        )
    return findings


def _unwritable_folder_finding(folder: Path) -> Finding:
    return Finding(
        "folder-unwritable",
        Severity.NOTE,
        str(folder),
        f"{folder} cannot be written by this user: nothing can be installed or put right there",
        "Run as the user that owns it, or work in a virtual environment of your own.",
    )


def check_running(facts: Facts) -> Answer:
    """Which running programs still have files in memory that were replaced?"""
    return list(note_running(facts.running))


def check_found(name: str, facts: Facts) -> Answer:
    """The findings that another part of the program has made for this check."""
    if name in facts.unknown:
        return CannotTell(facts.unknown[name])
    return facts.found.get(name, ())


def _search_places(facts: Facts) -> SearchPlaces:
    if facts.places is None:
        raise ValueError("the interpreter did not answer")
    return facts.places
