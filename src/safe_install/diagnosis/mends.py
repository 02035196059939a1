"""What `doctor --fix` would carry out: findings -> command lines of ours.

What lies outside of the environment (a driver, a shell's variables, conda's packages) is only said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Dict, List, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.diagnosis.facts import Facts
from safe_install.diagnosis.run import CheckResult
from safe_install.health.requirements import unmet_requirements
from safe_install.models import Environment, Finding, Severity
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.torch_family import COMPANIONS, COMPILERS, TORCH

# Checks of findings whose distribution is put back as it was: the version that is recorded.
PUT_BACK = frozenset(
    {
        "files-missing",
        "files-overwritten",
        "files-changed",
        "torch-files-missing",
        "torch-half-replaced",
    }
)
# ... whose distribution is chosen again, so that it fits torch.
CHOSEN_AGAIN = frozenset(
    {
        "companion-of-another-build",
        "companion-of-another-torch",
        "does-not-load",
        "built-for-another-torch",
        "built-for-another-cuda",
        "import-failed",
        "operation-failed",
        "no-gpu-code",
        "no-kernel-image",
    }
)
RECOVERED = frozenset({"interrupted-pip", "interrupted-change"})
INSTALL = ("install", "--force-reinstall", "--no-deps")


@dataclass(frozen=True)
class Mends:
    """What would be carried out, in this order, and what is only said."""

    recovers: bool = False
    removed: Tuple[str, ...] = ()  # distributions
    installed: Tuple[str, ...] = ()  # requirements
    outside: Tuple[Finding, ...] = ()  # errors that no install puts right

    @property
    def lines(self) -> Tuple[Tuple[str, ...], ...]:
        """The command lines, without the program."""
        lines: List[Tuple[str, ...]] = []
        if self.recovers:
            lines.append(("recover",))
        if self.removed:
            lines.append(("uninstall", "-y", *self.removed))
        if self.installed:
            lines.append((*INSTALL, *self.installed))
        return tuple(lines)


def plan_mends(
    results: Sequence[CheckResult],
    facts: Facts,
    *,
    known: AbstractSet[NormalizedName],
    checks: AbstractSet[str] = frozenset(),
) -> Mends:
    """`known`: the projects of the wheel index. `checks`: only these, by name; empty: all.

    Warnings are put right only where they were named; errors always.
    """
    environment = facts.environment
    if environment is None:
        return Mends(outside=tuple(f for result in results for f in result.findings))
    recovers = False
    removed: Dict[str, None] = {}
    installed: Dict[str, None] = {}
    outside: List[Finding] = []
    for result in results:
        if checks and result.name not in checks:
            continue
        for finding in result.findings:
            if finding.check in RECOVERED:
                recovers = True
                continue
            if finding.severity is not Severity.ERROR and not checks:
                continue
            requirements = _requirements_for(finding, environment, known)
            if requirements is None:
                outside.append(finding)
                continue
            installed.update(dict.fromkeys(requirements))
            removed.update(dict.fromkeys(_removed_for(finding, environment)))
    # What does not import may do so once its files are back.
    names = {requirement_name(text) for text in installed}
    outside = [one for one in outside if requirement_name(one.subject) not in names]
    return Mends(recovers, tuple(removed), tuple(installed), tuple(outside))


def _requirements_for(
    finding: Finding, environment: Environment, known: AbstractSet[NormalizedName]
) -> Optional[Sequence[str]]:
    """What to install for this finding; None where no install puts it right."""
    name = requirement_name(finding.subject)  # of "torch-scatter native part", too
    if name is None:
        return None
    distribution = environment.installed.get(name)
    if finding.check in PUT_BACK and distribution is not None:
        return [f"{name}=={distribution.version}"]
    if finding.check in CHOSEN_AGAIN and (name in known or name in COMPANIONS) and name != TORCH:
        return [name]
    if finding.check == "torch-libraries-missing":
        return _libraries_of_torch(environment)
    if finding.check == "numpy-too-new":
        return ["numpy<2"]
    if finding.check == "two-compilers":
        compiler = _required_compiler(environment)
        return [compiler] if compiler is not None else None
    return None


def _libraries_of_torch(environment: Environment) -> List[str]:
    """What torch requires, and is not there in that version."""
    return [
        one.requirement
        for one in unmet_requirements(environment.installed, environment.interpreter.markers)
        if one.name == TORCH
    ]


def _required_compiler(environment: Environment) -> Optional[str]:
    """The compiler that torch requires: "triton==3.7.1"."""
    torch = environment.installed.get(TORCH)
    for text in torch.requires if torch is not None else ():
        requirement = parse_requirement(text)
        if requirement is None or canonicalize_name(requirement.name) not in COMPILERS:
            continue
        return f"{requirement.name}{requirement.specifier}"
    return None


def _removed_for(finding: Finding, environment: Environment) -> List[str]:
    """What goes before: all compilers where there are two of them."""
    if finding.check != "two-compilers":
        return []
    return sorted(name for name in environment.installed if name in COMPILERS)


def is_better(before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Are there fewer errors, and none that was not there before?"""
    errors_before = {(f.check, f.subject) for f in before if f.severity is Severity.ERROR}
    errors_after = {(f.check, f.subject) for f in after if f.severity is Severity.ERROR}
    if not errors_before:
        return not errors_after
    return errors_after < errors_before
