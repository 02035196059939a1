"""What `doctor --fix` would carry out: findings -> what goes and what comes, in one change.

What lies outside of the environment (a driver, a shell's variables, conda's packages) is only said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Dict, List, Optional, Sequence, Tuple, TypedDict

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

# Checks of findings whose distribution is put back as it was: the version that is recorded.
PUT_BACK = frozenset(
    {
        "files-missing",
        "files-overwritten",
        "files-changed",
        "torch-files-missing",
        "torch-half-replaced",
        "wheel-of-another-machine",
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


class MendsRow(TypedDict):
    """What would be carried out, as JSON values."""

    recovers: bool
    removed: List[str]
    installed: List[str]


@dataclass(frozen=True)
class Mends:
    """What would be carried out, and what is only said."""

    recovers: bool = False  # first what was interrupted is brought to its end
    removed: Tuple[str, ...] = ()  # distributions
    installed: Tuple[str, ...] = ()  # requirements
    outside: Tuple[Finding, ...] = ()  # errors that no install puts right

    def document(self) -> MendsRow:
        """For programs."""
        return {
            "recovers": self.recovers,
            "removed": list(self.removed),
            "installed": list(self.installed),
        }


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
    installed: Dict[Optional[NormalizedName], str] = {}  # one requirement for each project
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
            requirements = _requirements_for(finding, facts, environment, known)
            if requirements is None:
                outside.append(finding)
                continue
            for text in requirements:
                name = requirement_name(text)
                # What is chosen anew fits torch; what is put back need not.
                if name not in installed or finding.check not in PUT_BACK:
                    installed[name] = text
            removed.update(dict.fromkeys(_removed_for(finding, facts, environment)))
    # What does not import may do so once its files are back.
    outside = [one for one in outside if requirement_name(one.subject) not in installed]
    return Mends(recovers, tuple(removed), tuple(installed.values()), tuple(outside))


def _requirements_for(
    finding: Finding,
    facts: Facts,
    environment: Environment,
    known: AbstractSet[NormalizedName],
) -> Optional[Sequence[str]]:
    """What to install for this finding; None where no install puts it right."""
    name = requirement_name(finding.subject)  # of "torch-scatter native part", too
    if name is None:
        return None
    distribution = environment.installed.get(name)
    if finding.check in PUT_BACK and distribution is not None:
        return [recorded_requirement(distribution, facts)]
    if finding.check == "recorded-twice" and distribution is not None and environment.torch:
        records = [one for one in facts.metadata if one.name == name and one.is_readable]
        return [f"{name}=={version_of_files(records, facts)}"]
    if finding.check in CHOSEN_AGAIN and (name in known or name in COMPANIONS) and name != TORCH:
        return [name]
    is_requirement = finding.check == "requirement-unmet" and name == TORCH
    if finding.check == "torch-libraries-missing" or is_requirement:
        return _missed_by_torch(environment)
    if finding.check == "numpy-too-new":
        return ["numpy<2"]
    if finding.check == "two-compilers":
        return split_compilers(environment)[1]
    return None


def _missed_by_torch(environment: Environment) -> List[str]:
    """What torch requires, and is not there in that version."""
    return [
        one.requirement
        for one in unmet_requirements(environment.installed, environment.interpreter.markers)
        if one.name == TORCH
    ]


def _removed_for(finding: Finding, facts: Facts, environment: Environment) -> List[str]:
    """What goes before: compilers that torch does not require, and what wrote over files of torch's
    libraries, which no install may take from it."""
    if finding.check == "two-compilers":
        return split_compilers(environment)[0]
    if finding.check != "files-overwritten":
        return []
    owners = {
        other
        for state in facts.records
        for file in state.changed
        for other in file.others
        if state.name == finding.subject
    }
    torch = environment.installed.get(TORCH)
    required = {requirement_name(text) for text in (torch.requires if torch is not None else ())}
    return sorted(owners - required)


def is_better(before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Are there fewer errors, and none that was not there before?"""
    errors_before = {(f.check, f.subject) for f in before if f.severity is Severity.ERROR}
    errors_after = {(f.check, f.subject) for f in after if f.severity is Severity.ERROR}
    if not errors_before:
        return not errors_after
    return errors_after < errors_before
