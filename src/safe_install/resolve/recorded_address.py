"""For which files is the URL written into direct_url.json? Pure.

pip writes it for requirements with a URL. We also write it for wheels of wheel hosts: no package
index has them, so without the URL nobody could install them again from the output of `pip freeze`
("torch-scatter==2.1.2+pt21cu121").
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from safe_install.index.facts import canonical_url
from safe_install.models import CandidateKind, Plan, Step
from safe_install.resolve.request import PIP_INDEX, InstallRequest

FILES_OF_PIP_INDEX = "files.pythonhosted.org"


def with_addresses(plan: Plan, request: InstallRequest) -> Plan:
    """The plan, where each step says whether its URL is recorded."""
    steps = tuple(_with_address(step, request) for step in plan.steps)
    return replace(plan, steps=steps)


def _with_address(step: Step, request: InstallRequest) -> Step:
    if not is_hosted(step, request):
        return step
    return replace(step, is_hosted=True, records_address=not request.own.no_direct_url)


def is_hosted(step: Step, request: InstallRequest) -> bool:
    """Is it a wheel of a wheel host that the user's package index does not have?

    A wheel that was built here has no URL elsewhere; the package index has its source.
    """
    candidate = step.candidate
    if candidate is None or candidate.kind is not CandidateKind.WHEEL:
        return False
    link = candidate.link
    address = urlsplit(link.url)
    if address.scheme not in ("https", "http") or address.hostname == FILES_OF_PIP_INDEX:
        return False
    index = request.index_url or PIP_INDEX
    return not canonical_url(link.found_in).startswith(canonical_url(index))
