"""Checks of recorded files: do they exist, are they unchanged, do they fit this machine?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import List, Sequence, Set

from packaging.utils import NormalizedName

from safe_install.diagnosis.environment_checks import list_some, open_to_all
from safe_install.diagnosis.facts import (
    Facts,
    LostSource,
    RecordState,
    environment_of,
    imports_torch,
)
from safe_install.diagnosis.put_back import recorded_requirement
from safe_install.diagnosis.run import Answer
from safe_install.models import Finding, HealthReport, Severity
from safe_install.requirements import requirement_name
from safe_install.torch_family import TORCH, is_guarded, is_library_of_torch


def check_records(facts: Facts) -> List[Finding]:
    """Does every recorded file exist, with the recorded size?"""
    findings = [_lost_source_finding(source) for source in facts.lost_sources]
    for state in facts.records:
        if state.problem:
            findings.append(_record_unreadable(state, facts))
        if state.closed:
            findings.append(_files_closed(state, facts))
        if state.missing:
            findings.append(_files_missing(state, facts))
        if state.changed:
            findings.append(_files_changed(state, facts))
    return findings


def _record_unreadable(state: RecordState, facts: Facts) -> Finding:
    recorded = _recorded_requirement(state.name, state.version, facts)
    return Finding(
        "record-unreadable",
        Severity.WARNING,
        state.name,
        f"nobody knows which files are of {state.name} {state.version}: {state.problem}",
        # pip cannot uninstall, and so not replace, a distribution without a RECORD.
        f"safe-install install --ignore-installed --no-deps {recorded}",
    )


def _lost_source_finding(source: LostSource) -> Finding:
    return Finding(
        "source-missing",
        Severity.WARNING,
        source.name,
        f"{source.name} {source.version} is installed from {source.folder}, and this folder is not "
        "there",
        f"safe-install uninstall -y {source.name}",
    )


def _files_closed(state: RecordState, facts: Facts) -> Finding:
    code = sorted((path for path in state.closed if _is_code(path)), key=_is_module)
    is_cause = _affects_torch(state.name, facts) and not imports_torch(facts)
    is_missed = is_cause or _is_missed_by_torch(state.name, facts)
    return Finding(
        "files-unreadable",
        Severity.ERROR if code and is_missed else Severity.WARNING,
        state.name,
        f"{_count(len(state.closed), 'file')} of {state.name} {state.version} cannot be read by "
        f"this user: {list_some(code or state.closed)}",
        way_to_closed(state, facts),
    )


def way_to_closed(state: RecordState, facts: Facts) -> str:
    """A hint: the command that lets everybody read the unreadable files of a distribution."""
    location = environment_of(facts).installed[state.name].location
    common: List[str] = []
    for names in zip(*((location / path).parts for path in state.closed)):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return open_to_all(Path(*common))


def _files_missing(state: RecordState, facts: Facts) -> Finding:
    code = sorted((path for path in state.missing if _is_code(path)), key=_is_module)
    affects_torch = bool(code) and (
        _affects_torch(state.name, facts) or _is_missed_by_torch(state.name, facts)
    )
    return Finding(
        "files-missing",
        Severity.ERROR if affects_torch else Severity.WARNING,
        state.name,
        f"{_count(len(state.missing), 'file')} of {state.name} {state.version} "
        f"{'is' if len(state.missing) == 1 else 'are'} gone: {list_some(code or state.missing)}",
        _reinstall_command(state, facts),
    )


def _files_changed(state: RecordState, facts: Facts) -> Finding:
    others: Set[NormalizedName] = set()
    for file in state.changed:
        others.update(file.others)
    if others:
        return _files_overwritten(state, sorted(others), facts)
    # A changed file need not be broken (somebody edited or stripped it): it is an error only where
    # torch fails. Only code counts, because the first line of a script may differ.
    paths = [file.path for file in state.changed]
    affects_torch = _affects_torch(state.name, facts) and facts.health is not None
    is_cause = affects_torch and not imports_torch(facts)
    is_missed = is_cause or _is_missed_by_torch(state.name, facts)
    has_code = any(_is_code(path) for path in paths)
    return Finding(
        "files-changed",
        Severity.ERROR if is_missed and has_code else Severity.WARNING,
        state.name,
        f"{_count(len(paths), 'file')} of {state.name} {state.version} "
        f"{'is' if len(paths) == 1 else 'are'} not as installed: {list_some(paths)}",
        _reinstall_command(state, facts),
    )


def _files_overwritten(
    state: RecordState, others: Sequence[NormalizedName], facts: Facts
) -> Finding:
    paths = [file.path for file in state.changed]
    return Finding(
        "files-overwritten",
        Severity.ERROR if _affects_torch(state.name, facts) else Severity.WARNING,
        state.name,
        f"{_count(len(paths), 'file')} of {state.name} {state.version} "
        f"{'was' if len(paths) == 1 else 'were'} overwritten by {' and '.join(others)}: "
        f"{list_some(paths)}",
        f"safe-install uninstall -y {' '.join(others)} && {_reinstall_command(state, facts)}",
    )


def _affects_torch(name: NormalizedName, facts: Facts) -> bool:
    """Is it torch, a library that torch requires, or a companion of torch?"""
    if not is_guarded(name):
        return False
    if name == TORCH or not is_library_of_torch(name):
        return True
    torch = environment_of(facts).installed.get(TORCH)
    if torch is None:
        return False
    # "nvidia-cudnn-cu13==9.15.1.9; platform_system == 'Linux'"
    required = [requirement_name(text) or "" for text in torch.requires]
    return name in required or any(one.startswith("cuda-toolkit") for one in required)


def _is_missed_by_torch(name: NormalizedName, facts: Facts) -> bool:
    """Does torch require it, and fail? torch does not require numpy, but takes its arrays."""
    torch = environment_of(facts).installed.get(TORCH)
    if torch is None or facts.health is None:
        return False
    if name == "numpy":
        arrays = facts.health.operations.get("torch.from_numpy")
        return (arrays is not None and not arrays.ok) or _is_killed(facts.health)
    required = [requirement_name(text) for text in torch.requires]
    return name in required and not imports_torch(facts)


def _is_killed(health: HealthReport) -> bool:
    """Does a signal end `import torch`? An exception in numpy does not make the import fail."""
    answer = health.imports.get(TORCH)
    return answer is not None and not answer.ok and (answer.error or "").startswith("signal ")


def _is_code(path: str) -> bool:
    """Is it a module or a library? Headers and tests do not count: small images leave them out."""
    is_test = "/test/" in path or "/tests/" in path
    return (_is_module(path) or ".so" in path) and not is_test


def _is_module(path: str) -> bool:
    return path.endswith(".py")


def _reinstall_command(state: RecordState, facts: Facts) -> str:
    recorded = _recorded_requirement(state.name, state.version, facts)
    return f"safe-install install --force-reinstall --no-deps {recorded}"


def _recorded_requirement(name: NormalizedName, version: str, facts: Facts) -> str:
    distribution = environment_of(facts).installed.get(name)
    if distribution is None or distribution.version != version:
        return f"{name}=={version}"
    return shlex.quote(recorded_requirement(distribution, facts))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_wheel_tags(facts: Facts) -> Answer:
    """Were the installed wheels made for this Python and this kind of machine?"""
    interpreter = environment_of(facts).interpreter
    is_broken = facts.health is not None and not imports_torch(facts)
    return [
        Finding(
            "wheel-of-another-machine",
            Severity.ERROR if is_broken and _affects_torch(wheel.name, facts) else Severity.WARNING,
            wheel.name,
            f"the files of {wheel.name} {wheel.version} were made for {wheel.made_for}, and here is "
            f"Python {interpreter.version} on {interpreter.platform}: they were copied from another "
            "environment",
            f"safe-install install --force-reinstall --no-deps "
            f"{_recorded_requirement(wheel.name, wheel.version, facts)}",
        )
        for wheel in facts.foreign_wheels
    ]
