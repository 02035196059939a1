"""Notes and warnings on a choice of extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Iterable, List, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.index.catalog import load_project
from safe_install.index.facts import Catalog
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    HostAnswer,
    HostAnswerKind,
    Plan,
    Severity,
)
from safe_install.resolve.compatibility import is_cpu_fallback
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.torch_choice import note_choice
from safe_install.torch_family import TORCH

if TYPE_CHECKING:
    from safe_install.resolve.provider import Resolution

BUILT_BEFORE = "built here before"


def describe_torch(environment: Environment) -> str:
    """`torch 1.8.1+cu111, cp38, linux_x86_64`."""
    torch, interpreter = environment.torch, environment.interpreter
    version = torch.runtime_version if torch else "not installed"
    return f"torch {version}, {interpreter.python_tag}, {interpreter.platform}"


def cpu_fallback_notes(
    pins: Sequence[Candidate], answers: Sequence[HostAnswer], environment: Environment
) -> Tuple[Finding, ...]:
    """A note on each CPU build chosen beside a torch for a GPU, with the host that may have a
    better one."""
    torch = environment.torch
    notes = []
    for pin in pins:
        is_new = pin.kind in (CandidateKind.WHEEL, CandidateKind.BUILT)
        if (
            torch is None
            or not is_new
            or not is_cpu_fallback(pin.built_for.accelerator, torch, load_project(pin.name))
        ):
            continue
        silent = [
            a.host for a in answers if a.project == pin.name and a.kind is HostAnswerKind.DOWN
        ]
        hint = (
            f"Run `safe-install -U {pin.name}` when {silent[0]} answers: it may have one."
            if silent
            else ""
        )
        detail = (
            f"{pin.name} {pin.version} is a CPU build beside torch {torch.runtime_version}: it "
            "works, but not on the "
            f"GPU; no build for {torch.accelerator} was found"
        )
        notes.append(Finding("cpu-build", Severity.NOTE, pin.name, detail, hint))
    return tuple(notes)


def describe_silent_hosts(pins: Sequence[Candidate], answers: Sequence[HostAnswer]) -> List[str]:
    """Warnings, one sentence each, on hosts that did not answer or were not asked, where a project
    is therefore built from source."""
    built = {pin.name for pin in pins if pin.kind is CandidateKind.SDIST}
    sentences = []
    for answer in answers:
        if answer.project not in built:
            continue
        if answer.kind is HostAnswerKind.DOWN:
            sentences.append(f"{answer.project}: {answer.host} does not answer ({answer.detail})")
        elif answer.gap:
            sentences.append(f"{answer.project}: {answer.host} was not asked, and {answer.gap}")
    return sentences


def describe_pins(resolution: Resolution) -> List[str]:
    """One sentence for each chosen file."""
    sentences: Dict[str, str] = {}
    for pin in resolution.pins:
        if pin.kind is CandidateKind.INSTALLED:
            continue
        origin = {"built": BUILT_BEFORE, "sdist": "from source"}.get(pin.kind.value, pin.link.url)
        if pin.may_be_kept:
            origin = (
                "from source, unless the wheel that was built here before is for this very torch"
            )
        sentences[pin.name] = f"{pin.name} {pin.version}: {origin}"
    return list(sentences.values())


def describe_satisfied(requirements: Iterable[Requirement], selection: Selection) -> List[str]:
    """pip's own lines on requirements that are installed already."""
    lines = []
    for requirement in requirements:
        found = selection.here.installed.get(canonicalize_name(requirement.name))
        if found is not None and found.name not in selection.pins:
            where = f"{found.location} ({found.version})"
            lines.append(f"Requirement already satisfied: {requirement} in {where}")
    return lines


def note_torch(
    selection: Selection, plan: Plan, wanted: Wanted, catalog: Catalog
) -> Tuple[Finding, ...]:
    """Why a newer torch is not installed: it was passed over, or something in the plan requires an
    older one."""
    choice, taken = selection.torch_choice, selection.planned.torch
    passed = note_choice(choice, taken, selection.extensions, carried=selection.carried)
    if passed or plan.find(TORCH) is None:
        return passed
    from safe_install.resolve.torch_options import note_newer

    return note_newer(selection, plan, wanted, catalog)
