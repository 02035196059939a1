"""Which bytes are promised, by hashes and URLs that the user gave or by the package index. Pure."""

from __future__ import annotations

from typing import Callable, Tuple
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.models import Environment, Step
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve import plan as planning
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.requirements_file import Entry


def entries_with_hashes(
    name: NormalizedName, request: InstallRequest, environment: Environment
) -> Tuple[Entry, ...]:
    """The lines of requirements files that give hashes for a project and apply to this
    interpreter."""
    return tuple(
        entry for entry in request.entries if entry.hashes and _is_of(entry, name, environment)
    )


def _is_of(entry: Entry, name: NormalizedName, environment: Environment) -> bool:
    requirement = parse_requirement(entry.text)
    if requirement is None:
        return requirement_name(entry.text) == name
    return canonicalize_name(requirement.name) == name and planning.applies(
        requirement, environment
    )


def own_hashes(
    name: NormalizedName, request: InstallRequest, environment: Environment
) -> Tuple[str, ...]:
    """The sha256 values (hex) that were given for a project; none where another kind of hash is
    among them."""
    entries = entries_with_hashes(name, request, environment)
    given = [text.lower() for entry in entries for text in entry.hashes]
    if not all(text.startswith("sha256:") for text in given):
        return ()
    return tuple(dict.fromkeys(text.partition(":")[2] for text in given))


def is_promised(
    step: Step,
    request: InstallRequest,
    environment: Environment,
    *,
    is_on_index: Callable[[str, str, str], bool],
) -> bool:
    """Are the bytes of a step's file promised by the user or by the package index?

    pip's report does not tell: it has a sha256 for every file, and computes it where nobody
    promised one. A local file is promised where the user named its path, or a folder or page that
    lists it; not where only a wheel's metadata names it.
    `is_on_index` (project, file name, sha256): does the project's page on the package index list
    it?
    """
    if step.is_locked or entries_with_hashes(step.name, request, environment):
        return True  # pip has compared them
    is_local = str(step.url).startswith("file:")
    if step.is_direct:
        is_meant = step.requested or _is_constrained_to(step, request)
        return _is_named_with_hash(step, request) or (is_local and is_meant)
    if is_local or step.sha256 is None:
        return is_local
    filename = unquote(urlsplit(step.url or "").path.rpartition("/")[2])
    return is_on_index(step.name, filename, step.sha256)


def _is_named_with_hash(step: Step, request: InstallRequest) -> bool:
    """Did the user give the file's URL with `#sha256=`?"""
    promise = f"sha256={step.sha256}"
    return any(promise in entry.text and str(step.url) in entry.text for entry in request.entries)


def _is_constrained_to(step: Step, request: InstallRequest) -> bool:
    """Did the user give the file's URL in a constraint?"""
    return any(str(step.url) in entry.text for entry in request.constraints)
