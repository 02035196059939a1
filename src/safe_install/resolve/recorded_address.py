"""For which files is the URL written into direct_url.json? Pure.

pip writes it for requirements with a URL. We also write it for wheels of wheel hosts, and for those
with a local version that an index or page of this one command had: pypi.org has neither, so without
the URL nobody could install them again from the output of `pip freeze`
("torch-scatter==2.1.2+pt21cu121", "torch==2.13.0+cpu").
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from safe_install.index.facts import canonical_url
from safe_install.models import Candidate, CandidateKind, Origin, Plan, Step
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
    """Is it a wheel that the user's package index does not have?

    A wheel that was built here has no URL elsewhere; the package index has its source.
    """
    address = urlsplit(step.url or "")
    if address.scheme not in ("https", "http") or address.hostname == FILES_OF_PIP_INDEX:
        return False
    if step.candidate is None:
        return _is_of_this_command(step, request)
    return _is_of_wheel_host(step.candidate, request)


def _is_of_wheel_host(candidate: Candidate, request: InstallRequest) -> bool:
    if candidate.kind is not CandidateKind.WHEEL:
        return False
    index = request.index_url or PIP_INDEX
    return not canonical_url(candidate.link.found_in).startswith(canonical_url(index))


def _is_of_this_command(step: Step, request: InstallRequest) -> bool:
    """Did pip find a local version where it does not look by itself? The indexes that are
    configured find it again by its version."""
    if step.origin is not Origin.WHEEL or step.is_direct or not _is_local(step.version or ""):
        return False
    hosts = [_host_of(index) for index in request.configured_indexes]
    return _host_of(step.url or "") not in hosts


def _host_of(url: str) -> str:
    """With its port, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_local(version: str) -> bool:
    try:
        return Version(version).local is not None
    except InvalidVersion:
        return False
