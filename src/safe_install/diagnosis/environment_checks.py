"""Checks of the interpreter, of what lies on its path and of what runs with it."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence

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
    """Do python and pip on PATH belong to the environment that is active?"""
    environment, places = environment_of(facts), _places(facts)
    scripts = places.scripts
    if places.prefix not in places.active:
        return ()
    findings: List[Finding] = []
    for program in facts.programs:
        if program.name == "nvcc" or program.folder in (None, scripts):
            continue
        # uv makes environments without pip: nobody there expects pip to be theirs
        if program.name.startswith("pip") and environment.interpreter.pip_version is None:
            continue
        if program.own_folder == scripts:
            findings.append(_moved(program, environment))
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


def _moved(program: Program, environment: Environment) -> Finding:
    return Finding(
        "program-of-another-folder",
        Severity.WARNING,
        program.name,
        f"{program.path} starts {program.interpreter}, which is not the Python of "
        f"{environment.interpreter.prefix}: the environment was moved or copied",
        f"{environment.interpreter.executable} -m pip install --force-reinstall --no-deps pip",
    )


def check_import_path(facts: Facts) -> Answer:
    """Does another folder on sys.path hide what is installed in this environment?"""
    places = _places(facts)
    first: Dict[NormalizedName, MetadataFolder] = {}
    findings = [_unlisted(folder) for folder in facts.unreadable]
    findings += _of_other_pythons(facts)
    for folder in facts.metadata:
        before = first.setdefault(folder.name, folder)
        if before.site == folder.site or before.version == folder.version:
            continue
        if folder.site in places.sites:
            findings.append(_hidden(before, folder, places))
    return findings


def _unlisted(folder: Path) -> Finding:
    return Finding(
        "folder-unreadable",
        Severity.ERROR,
        str(folder),
        f"{folder} is on sys.path and cannot be read by this user: what is installed there is not "
        "found",
        open_to_all(folder),
    )


# What every virtual environment holds from the beginning.
FROM_THE_BEGINNING = frozenset(["pip", "setuptools", "wheel"])


def _of_other_pythons(facts: Facts) -> List[Finding]:
    """Packages of the Python that was here before: the one that is here does not see them."""
    environment = environment_of(facts)
    if environment.torch is not None or set(environment.installed) - FROM_THE_BEGINNING:
        return []
    return [
        _of_another_python(other, environment)
        for other in facts.other_pythons
        if set(other.names) - FROM_THE_BEGINNING
    ]


def _of_another_python(other: OtherPython, environment: Environment) -> Finding:
    interpreter = environment.interpreter
    names = sorted(set(other.names) - FROM_THE_BEGINNING, key=lambda name: (name != TORCH, name))
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
    """Does a file fail at every start of the interpreter, which goes on without it?"""
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


def _hidden(first: MetadataFolder, hidden: MetadataFolder, places: SearchPlaces) -> Finding:
    source, way_out = _source_of(first.site, places)
    severity = Severity.ERROR if is_guarded(first.name) else Severity.WARNING
    return Finding(
        "hidden-by-another-folder",
        severity,
        first.name,
        f"{first.name} {hidden.version} is installed here, and Python imports {first.version} "
        f"from {first.site} ({source})",
        way_out,
    )


def _source_of(folder: Path, places: SearchPlaces) -> Sequence[str]:
    if folder in places.pythonpath:
        return ("PYTHONPATH", "unset PYTHONPATH")
    if folder == places.user_site:
        return ("the user site", "export PYTHONNOUSERSITE=1")
    return ("another folder on sys.path", f"Remove it there, or keep {folder} off sys.path.")


def check_metadata(facts: Facts) -> Answer:
    """Is each distribution recorded once, and can its record be read?"""
    by_place: Dict[object, List[MetadataFolder]] = {}
    findings: List[Finding] = []
    for folder in facts.metadata:
        by_place.setdefault((folder.site, folder.name), []).append(folder)
    findings += [_closed(path) for path in facts.closed if path.name != TORCH]
    broken = [
        folder
        for folder in facts.metadata
        if not folder.is_readable and folder.path not in facts.closed
    ]
    if len(broken) > SHOWN:
        findings.append(_many_unreadable(broken))
    else:
        findings += [_unreadable(folder) for folder in broken]
    for folders in by_place.values():
        readable = [folder for folder in folders if folder.is_readable]
        if len(readable) > 1:
            findings.append(_recorded_twice(readable, facts))
    return findings


def _closed(folder: Path) -> Finding:
    return Finding(
        "metadata-closed",
        Severity.WARNING,
        folder.name,
        f"{folder} cannot be read by this user: what it is of counts as not installed",
        open_to_all(folder.parent),
    )


def open_to_all(folder: Path) -> str:
    """What lets everybody read a folder with all that is in it, or a file."""
    return f"As its owner, or as root: chmod -R u+rwX,go+rX {folder}"


def _unreadable(folder: MetadataFolder) -> Finding:
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
    """The version of the files that lie there, of several records of one distribution. torch says
    it itself; of others it is most likely the newest, which was installed last."""
    newest_first = sorted((folder.version for folder in folders), key=Version, reverse=True)
    torch = facts.environment.torch if facts.environment is not None else None
    if folders[0].name == TORCH and torch is not None:
        of_files = split_local(torch.runtime_version)[0]
        newest_first.sort(key=lambda version: split_local(version)[0] != of_files)
    return newest_first[0]


def list_some(paths: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(paths[:SHOWN])
    return shown if len(paths) <= SHOWN else f"{shown} and {len(paths) - SHOWN} more"


def check_interrupted_change(facts: Facts) -> Answer:
    """Was a change of ours killed in the middle?"""
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
    """Does the operating system, or another user, keep this Python to itself?"""
    interpreter = environment_of(facts).interpreter
    findings = [_unwritable(folder) for folder in facts.unwritable]
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


def _unwritable(folder: Path) -> Finding:
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
    """What another part of the program has found."""
    if name in facts.unknown:
        return CannotTell(facts.unknown[name])
    return facts.found.get(name, ())


def _places(facts: Facts) -> SearchPlaces:
    if facts.places is None:
        raise ValueError("the interpreter did not answer")
    return facts.places
