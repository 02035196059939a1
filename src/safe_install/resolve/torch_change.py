"""A change of torch: what was asked for, and whether the new one is what was meant."""

from __future__ import annotations

import dataclasses
from typing import Mapping, Optional, Sequence, Tuple

from packaging.version import Version

from safe_install.models import Finding, Severity, Step, TorchBuild
from safe_install.redaction import redact
from safe_install.requirements import (
    applies,
    parse_requirement,
    requirement_name,
    without_marker,
)
from safe_install.resolve.requirements_file import Entry
from safe_install.resolve.torch_places import accelerators_of, is_written
from safe_install.tags import parse_accelerator
from safe_install.torch_family import TORCH


@dataclasses.dataclass(frozen=True)
class AskedOfTorch:
    """What the command line asks of torch.

    Requirements files, constraints and pip's configuration choose among what the command line
    permits; they permit nothing themselves.
    """

    texts: Tuple[str, ...] = ()  # requirements on torch
    places: Tuple[str, ...] = ()  # addresses of the indexes and pages that they named
    allow_change: bool = False  # --allow-torch-change
    accelerator: str = ""  # --accelerator, or its variable

    def names_another(self, installed: Version) -> bool:
        """Does it ask for another version than the installed one: `torch<2.13`, but not
        `torch>=2.0`?"""
        return any(_excludes(text, installed) for text in self.texts)

    def names(self, accelerator: str) -> bool:
        """Does it ask for this accelerator: `torch==2.12.0+cu130`, its index, `--accelerator`?"""
        return accelerator == self.accelerator or is_written(
            accelerator, (*self.texts, *self.places)
        )


def _excludes(text: str, version: Version) -> bool:
    """Does a requirement exclude this version? One with a URL or path does: it is another file."""
    requirement = parse_requirement(text)
    if requirement is None:
        return True
    return bool(requirement.url) or not requirement.specifier.contains(version, prereleases=True)


def who_excludes(
    torch: Version, steps: Sequence[Step], entries: Sequence[Entry], markers: Mapping[str, str]
) -> str:
    """Which requirement excludes this version of torch, as a sentence; "" where none does.
    `markers`: of the interpreter."""
    for step in steps:
        for text in step.requires:
            if _is_on_torch(text, markers) and _excludes(text, torch):
                return f"{step.name} {step.version} requires {without_marker(text)}"
    for entry in entries:
        if entry.origin and _is_on_torch(entry.text, markers) and _excludes(entry.text, torch):
            return f"{entry.origin}: {entry.text}"
    return ""


def _is_on_torch(text: str, markers: Mapping[str, str]) -> bool:
    """Does it require torch here? Requirements of extras are ignored, because the extra may not be
    installed."""
    if requirement_name(text) != TORCH:
        return False
    requirement = parse_requirement(text)
    return requirement is None or applies(requirement, markers)


def check_torch_change(
    installed: Optional[TorchBuild],
    coming: Optional[TorchBuild],
    asked: AskedOfTorch,
    *,
    because: str = "",
) -> Tuple[Finding, ...]:
    """Findings on a new torch with another accelerator, or of an older release.

    Errors where that was not asked for, warnings where it was. A request for torch alone, or with a
    specifier that the installed one meets, permits a newer release. A request for another release
    also permits another CUDA, because each release has its own on the package index. `because`:
    which requirement excludes the installed torch (`who_excludes`).
    """
    if installed is None or coming is None:
        return ()
    findings = []
    is_older = Version(coming.version.public) < Version(installed.version.public)
    if is_older and not asked.names_another(installed.version) and not asked.allow_change:
        detail = (
            f"torch {installed.runtime_version} would become the older {coming.runtime_version}"
        )
        detail += f": {because}" if because else ""
        hint = f"If that is what you want, name the version: torch=={coming.version}."
        findings.append(Finding("torch-moved", Severity.ERROR, TORCH, detail, hint))
    if installed.accelerator and coming.accelerator and installed.accelerator != coming.accelerator:
        findings.append(_judge_accelerator(installed, coming, asked))
    return tuple(findings)


def _judge_accelerator(installed: TorchBuild, coming: TorchBuild, asked: AskedOfTorch) -> Finding:
    detail = (
        f"torch {installed.runtime_version} is a build for {installed.accelerator}, and torch "
        f"{coming.runtime_version} "
        f"in its place is one for {coming.accelerator}"
    )
    is_near = asked.names_another(installed.version) and kind_of(coming) == kind_of(installed)
    if asked.allow_change or is_near or asked.names(coming.accelerator):
        return Finding("torch-accelerator", Severity.WARNING, TORCH, detail)
    same = f"{coming.version.public}+{installed.accelerator}"
    hint = (
        f"Ask for a build like the installed one: safe-install torch=={same}, "
        f"or for the other: --accelerator {coming.accelerator}."
    )
    return Finding("torch-accelerator", Severity.ERROR, TORCH, detail, hint)


def check_places(coming: TorchBuild, asked: AskedOfTorch) -> Tuple[Finding, ...]:
    """A warning where the user named an index for another accelerator, which did not have that
    torch."""
    if not coming.accelerator or asked.names(coming.accelerator):
        return ()
    for place in asked.places:
        for accelerator in accelerators_of(place):
            detail = (
                f"torch {coming.runtime_version} is a build for {coming.accelerator}, and "
                f"{redact(place)} is a place for {accelerator}"
            )
            hint = f"Ask for it by its name: --accelerator {accelerator}."
            return (Finding("torch-accelerator", Severity.WARNING, TORCH, detail, hint),)
    return ()


def kind_of(torch: TorchBuild) -> str:
    """`cpu`, `cuda`, `rocm`; the accelerator itself where its kind is not known."""
    accelerator = parse_accelerator(torch.accelerator)
    return accelerator.kind if accelerator is not None else torch.accelerator
