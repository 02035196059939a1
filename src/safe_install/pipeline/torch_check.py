"""Will the coming torch run here, and is it the build that was asked for?"""

from __future__ import annotations

from typing import Callable, List, Optional, Tuple

from safe_install.errors import NoCandidate, Refused
from safe_install.index.facts import Catalog, TorchTable
from safe_install.index.local_pages import is_local
from safe_install.index.torch_files import Listing
from safe_install.models import (
    Finding,
    Interpreter,
    Plan,
    Severity,
    TorchBuild,
)
from safe_install.pipeline.baseline import check_torch_here
from safe_install.pipeline.session import Session
from safe_install.resolve.carried import check_kept
from safe_install.resolve.decisions import Selection, Wanted, make_wanted, names_asked_for
from safe_install.resolve.no_torch import no_torch
from safe_install.resolve.permission import check_torch_asked_for
from safe_install.resolve.request import PIP_INDEX
from safe_install.resolve.torch_choice import name_open_question
from safe_install.resolve.torch_places import Places
from safe_install.resolve.torch_rounds import is_listed_by_page_alone
from safe_install.torch_family import TORCH


class TorchCheck:
    """Checks each torch once against the declared driver, or against that of this machine.

    A declared driver that is too old is an error. One of this machine is only a warning on a new
    torch.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._checked: List[TorchBuild] = []
        self._announced: Optional[TorchBuild] = None
        self.findings: Tuple[Finding, ...] = ()  # warnings

    def check(self, torch: Optional[TorchBuild]) -> None:
        """Check a torch, unless it was checked before. Errors: Refused."""
        if torch is None or torch in self._checked:
            return
        self._checked.append(torch)
        here = self._session.environment
        is_declared = here.driver is not None and here.driver.declared
        if torch != here.torch or is_declared:
            self._judge(check_torch_here(here, torch))

    def refuse_unpublished(
        self, wanted: Wanted, list_torch: Callable[[str, Interpreter], Listing], table: TorchTable
    ) -> None:
        """Refuse an accelerator for which no host has a torch, before pip is asked. Of those that
        the bundled facts list it is known which there are. Errors: NoCandidate."""
        here = self._session.environment
        is_pip_needed = _may_pip_know_more(wanted.torch.places)
        if is_pip_needed or not is_listed_by_page_alone(wanted, here, table):
            return
        listing = list_torch(wanted.torch.accelerator, here.interpreter)
        if listing.problem is not None and not listing.links:
            raise no_torch(Selection(here, here), (), wanted, listing)

    def may_keep(self, torch: Optional[TorchBuild]) -> bool:
        """Would --keep-extensions be permitted beside a torch, as far as is known?"""
        from safe_install.pipeline.breakage import may_all_stay  # reads binaries: late

        if torch is None:
            return False
        request, here = self._session.request, self._session.environment
        moving = names_asked_for(make_wanted(request, here), here)
        return may_all_stay(here, torch, self._session.world.environ, moving=moving)

    def announce(self, selection: Selection) -> None:
        """Say which torch will be installed, once, after nothing has refused it."""
        torch = selection.coming_torch
        if torch is None or torch == self._announced:
            return
        self._announced = torch
        why = ": extensions are chosen for it" if selection.extensions else ""
        reporter = self._session.world.reporter
        reporter.note(f"torch {torch.runtime_version} will be installed{why}")

    def judge_plan(
        self,
        plan: Plan,
        selection: Selection,
        coming: Optional[TorchBuild],
        catalog: Catalog,
    ) -> None:
        """Is the torch of a plan the requested one, does it run, and do the extensions that stay
        fit it? Errors: Refused."""
        request, here = self._session.request, self._session.environment
        moved = check_torch_asked_for(plan, request, here, coming)
        self._judge(name_open_question(moved, selection.torch_choice, coming))
        self.check(coming)
        if request.own.keep_extensions:
            self._judge(check_kept(plan, selection.bound, here, selection.planned, catalog))

    def _judge(self, findings: Tuple[Finding, ...]) -> None:
        """Refuse for an error; report and remember the other findings. Errors: Refused."""
        if any(finding.severity is Severity.ERROR for finding in findings):
            raise Refused.by(findings)
        self.findings += findings
        for finding in findings:
            self._session.world.reporter.found(finding)


def _may_pip_know_more(places: Places) -> bool:
    """Does pip look on a host of the user's own, which it may reach where we do not?"""
    own = [one for one in places.indexes if one.rstrip("/") != PIP_INDEX]
    return not all(map(is_local, (*own, *places.pages)))


def refuse_other_accelerator(plan: Plan, torch: Optional[TorchBuild], accelerator: str) -> None:
    """Refuse a torch for another accelerator than the requested one; a lock file or a URL may name
    it. Errors: NoCandidate."""
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
