"""Would the torch that will be there run, and is it the build that was asked for?"""

from __future__ import annotations

from typing import List, Optional, Tuple

from safe_install.errors import NoCandidate, Refused
from safe_install.models import (
    Finding,
    Plan,
    Severity,
    TorchBuild,
)
from safe_install.pipeline.baseline import check_torch_here
from safe_install.pipeline.session import Session
from safe_install.torch_family import TORCH


class TorchCheck:
    """Would the torch that will be there run with the declared driver, or with the one here? Each
    is asked once.

    What was declared must fit. A driver here that is too old refuses nothing: it is said of a torch
    that comes.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._checked: List[TorchBuild] = []
        self.findings: Tuple[Finding, ...] = ()  # warnings

    def check(self, torch: Optional[TorchBuild]) -> None:
        """Errors: Refused."""
        if torch is None or torch in self._checked:
            return
        self._checked.append(torch)
        here = self._session.environment
        is_declared = here.driver is not None and here.driver.declared
        if torch != here.torch or is_declared:
            self.judge(check_torch_here(here, torch))

    def judge(self, findings: Tuple[Finding, ...]) -> None:
        """Refuse for an error, and remember the rest. Errors: Refused."""
        if any(finding.severity is Severity.ERROR for finding in findings):
            raise Refused.by(findings)
        self.findings += findings
        if self._session.request.own.dry_run:
            return  # its result says it at once
        for finding in findings:
            self._session.world.reporter.warn(finding.detail)


def refuse_other_accelerator(plan: Plan, torch: Optional[TorchBuild], accelerator: str) -> None:
    """A lock file, or the very file of torch, is not the build that was asked for. Errors:
    NoCandidate."""
    if (
        not accelerator
        or torch is None
        or plan.find(TORCH) is None
        or torch.accelerator == accelerator
    ):
        return
    kind = (
        f"a build for {torch.accelerator}"
        if torch.accelerator
        else "not known to be a build for it"
    )
    raise NoCandidate(
        f"torch {torch.runtime_version} is {kind}, and {accelerator} was asked for",
        hint="Leave out --accelerator (SAFE_INSTALL_ACCELERATOR), or name another torch.",
    )
