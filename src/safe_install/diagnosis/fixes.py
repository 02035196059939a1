"""The plan of `doctor --fix`: findings -> distributions to remove and to install.

Faults outside of the environment (the driver, variables, conda's packages) are only reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Dict, List, Optional, Sequence, Set, Tuple, TypedDict

from packaging.utils import NormalizedName

from safe_install.diagnosis.environment_checks import version_of_files
from safe_install.diagnosis.facts import Facts
from safe_install.diagnosis.put_back import recorded_requirement
from safe_install.diagnosis.run import CheckResult
from safe_install.diagnosis.torch_checks import split_compilers
from safe_install.health.requirements import unmet_requirements
from safe_install.models import Environment, Finding, Severity
from safe_install.requirements import requirement_name
from safe_install.torch_family import COMPANIONS, TORCH

# Findings after which the recorded version of the distribution is installed again.
REINSTALLED = frozenset(
    {
        "files-missing",
        "files-overwritten",
        "files-changed",
        "torch-files-missing",
        "torch-half-replaced",
        "wheel-of-another-machine",
    }
)
# Findings after which a version is chosen again, so that it fits torch.
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
# Findings that `safe-install recover` fixes.
RECOVERED = frozenset({"interrupted-pip", "interrupted-change"})


class FixRow(TypedDict):
    """What `doctor --fix` would do, as JSON values."""

    recovers: bool
    removed: List[str]
    installed: List[str]


@dataclass(frozen=True)
class FixPlan:
    """What `doctor --fix` does, and what it only reports."""

    recovers: bool = False  # interrupted changes are recovered first
    removed: Tuple[str, ...] = ()  # distributions
    installed: Tuple[str, ...] = ()  # requirements
    outside: Tuple[Finding, ...] = ()  # errors that no install fixes

    def document(self) -> FixRow:
        """The plan for the JSON document."""
        return {
            "recovers": self.recovers,
            "removed": list(self.removed),
            "installed": list(self.installed),
        }


def plan_fixes(
    results: Sequence[CheckResult],
    facts: Facts,
    *,
    known: AbstractSet[NormalizedName],
    checks: AbstractSet[str] = frozenset(),
) -> FixPlan:
    """The plan for the findings of these checks.

    `known`: the projects of the wheel index. `checks`: the names of the checks whose findings are
    fixed; empty for all. Errors are always fixed, warnings only where their check is named.
    """
    environment = facts.environment
    if environment is None:
        return FixPlan(outside=tuple(_list_findings(results, frozenset())))
    recovers = False
    removed: Dict[str, None] = {}
    installed: Dict[Optional[NormalizedName], str] = {}  # one requirement for each project
    outside: List[Finding] = []
    for finding in _list_findings(results, checks):
        if finding.check in RECOVERED:
            recovers = True
            continue
        if finding.severity is not Severity.ERROR and not checks:
            continue
        requirements = _requirements_for(finding, facts, environment, known)
        if requirements is None:
            outside.append(finding)
            continue
        for text in requirements:
            name = requirement_name(text)
            # A version that is chosen again fits torch; a recorded version may not.
            if name not in installed or finding.check not in REINSTALLED:
                installed[name] = text
        removed.update(dict.fromkeys(_names_to_remove(finding, facts, environment)))
    # A distribution that fails may work after it is installed again.
    outside = [one for one in outside if requirement_name(one.subject) not in installed]
    return FixPlan(recovers, tuple(removed), tuple(installed.values()), tuple(outside))


def _list_findings(results: Sequence[CheckResult], checks: AbstractSet[str]) -> List[Finding]:
    """The findings of these checks; of all where `checks` is empty."""
    findings: List[Finding] = []
    for result in results:
        if not checks or result.name in checks:
            findings += result.findings
    return findings


def _requirements_for(
    finding: Finding,
    facts: Facts,
    environment: Environment,
    known: AbstractSet[NormalizedName],
) -> Optional[Sequence[str]]:
    """The requirements to install for a finding; None if no install fixes it."""
    name = requirement_name(finding.subject)  # also of "torch-scatter native part"
    if name is None:
        return None
    distribution = environment.installed.get(name)
    if finding.check in REINSTALLED and distribution is not None:
        return [recorded_requirement(distribution, facts)]
    if finding.check == "recorded-twice" and distribution is not None and environment.torch:
        records = [one for one in facts.metadata if one.name == name and one.is_readable]
        return [f"{name}=={version_of_files(records, facts)}"]
    if finding.check in CHOSEN_AGAIN and (name in known or name in COMPANIONS) and name != TORCH:
        return [name]
    is_requirement = finding.check == "requirement-unmet" and name == TORCH
    if finding.check == "torch-libraries-missing" or is_requirement:
        return _unmet_by_torch(environment)
    if finding.check == "numpy-too-new":
        return ["numpy<2"]
    if finding.check == "two-compilers":
        return split_compilers(environment)[1]
    return None


def _unmet_by_torch(environment: Environment) -> List[str]:
    """The unmet requirements of torch."""
    return [
        one.requirement
        for one in unmet_requirements(environment.installed, environment.interpreter.markers)
        if one.name == TORCH
    ]


def _names_to_remove(finding: Finding, facts: Facts, environment: Environment) -> List[str]:
    """The distributions to remove first: compilers that torch does not require, and distributions
    that overwrote files of torch's libraries."""
    if finding.check == "two-compilers":
        return split_compilers(environment)[0]
    if finding.check != "files-overwritten":
        return []
    owners: Set[NormalizedName] = set()
    for state in facts.records:
        if state.name == finding.subject:
            for file in state.changed:
                owners.update(file.others)
    torch = environment.installed.get(TORCH)
    required = {requirement_name(text) for text in (torch.requires if torch is not None else ())}
    return sorted(owners - required)


def is_better(before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Are there fewer errors, and no new ones? Without errors before: are there none?"""
    errors_before, errors_after = _errors(before), _errors(after)
    if not errors_before:
        return not errors_after
    return errors_after < errors_before


def _errors(findings: Sequence[Finding]) -> Set[Tuple[str, str]]:
    return {(one.check, one.subject) for one in findings if one.severity is Severity.ERROR}
