"""pip's plan, computed without pip, where nothing has to be searched for: every requirement is a
local wheel, or is installed.

pip needs half a second for it. Its report and its output are produced here only where they are
certain; everything else is left to pip. Facts: pip/_internal/resolution/resolvelib, pip 23.0 to
26.3. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import (
    AbstractSet,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.models import Environment
from safe_install.pip_output import ArchiveInfo, InstallationReport, ReportEntry
from safe_install.requirements import accepts, applies, parse_requirement
from safe_install.resolve.request import PIP_INDEX, InstallRequest
from safe_install.resolve.requirements_file import Entry

# Options that change nothing of a plan like these.
PLAIN_KEYS: AbstractSet[str] = frozenset(
    [
        "cache-dir",
        "cert",
        "client-cert",
        "compile",
        "config-file",
        "disable-pip-version-check",
        "find-links",
        "extra-index-url",
        "index-url",
        "no-cache-dir",
        "no-color",
        "no-compile",
        "no-deps",
        "no-index",
        "no-input",
        "no-warn-conflicts",
        "no-warn-script-location",
        "progress-bar",
        "quiet",
        "requirement",
        "constraint",
        "retries",
        "root-user-action",
        "default-timeout",
        "timeout",
        "trusted-host",
        "proxy",
    ]
)


@dataclass(frozen=True)
class LocalWheel:
    """A wheel that the command line names by its path."""

    url: str
    shown_path: str  # as pip shows it
    sha256: str
    name: str  # of METADATA
    version: str
    tags: FrozenSet[Tag]
    requires: Tuple[str, ...]
    requires_python: Optional[str]


class KnownPlan(NamedTuple):
    """What pip would answer."""

    report: InstallationReport  # its installation report, less what nobody reads
    lines: Tuple[str, ...]  # of its stdout


@dataclass
class _Known:
    """A project of the plan, and the requirements on it."""

    parent: str  # how its own requirements name it: "torch-scatter==2.1.2", "requests"
    requires: Sequence[str]
    order: float  # among what the person named
    requirements: List[Requirement] = field(default_factory=list)
    is_direct: bool = False

    def preference(self, name: str) -> Tuple[object, ...]:
        """The sort key of pip's resolver, which takes the smallest first."""
        operators = [
            (one.operator, one.version) for known in self.requirements for one in known.specifier
        ]
        is_pinned = any(op.startswith("==") and "*" not in version for op, version in operators)
        is_bounded = any(
            op in ("<", "<=", "~=") or (op == "==" and "*" in version) for op, version in operators
        )
        return not self.is_direct, not is_pinned, not is_bounded, self.order, not operators, name


def plan_known(
    request: InstallRequest,
    here: Environment,
    *,
    wheels: Mapping[str, LocalWheel],
    constraints: Sequence[str],
    folder: str,
) -> Optional[KnownPlan]:
    """pip's plan; None where only pip can tell. `wheels`: by the texts of the entries.
    `constraints`: ours. `folder`: the working folder; pip shows paths below it with `./`."""
    if not may_be_known(request):
        return None
    limits = _parse_limits((*constraints, *(entry.text for entry in request.constraints)))
    if limits is None:
        return None
    planner = _Planner(here, limits, folder, has_dependencies=not request.no_deps)
    found = [(entry, wheels.get(entry.text)) for entry in request.entries]
    # pip opens all files before it looks at the names
    for number, (_, wheel) in enumerate(found):
        if wheel is not None and not planner.add_wheel(wheel, number):
            return None
    for number, (entry, wheel) in enumerate(found):
        if wheel is None and not planner.add_entry(entry, number):
            return None
    if not planner.follow():
        return None
    report: InstallationReport = {
        "install": [_report_entry(wheel) for _, wheel in found if wheel is not None]
    }
    return KnownPlan(report, (*_name_places(request), *planner.lines))


def may_be_known(request: InstallRequest) -> bool:
    """Is there no option or requirement that changes how pip plans?"""
    has_more = request.editables or request.has_pip_inputs or request.require_hashes
    changes = request.upgrade or request.force_reinstall or request.ignore_installed
    says_more = request.verbose or request.report_file is not None
    if has_more or changes or says_more or not request.setting_keys <= PLAIN_KEYS:
        return False
    # "@": perhaps a password, of which pip shows a part; "~": pip shows the home
    places = (*request.find_links, *request.searched_indexes)
    is_plain = not any("@" in place or place.startswith("~") for place in places)
    return is_plain and request.place is None and bool(request.entries)


def _name_places(request: InstallRequest) -> List[str]:
    """The lines in which pip names its indexes and pages, which it prints even if it asks none."""
    lines = []
    if request.searched_indexes and request.searched_indexes != (PIP_INDEX,):
        lines.append(f"Looking in indexes: {', '.join(request.searched_indexes)}")
    if request.find_links:
        lines.append(f"Looking in links: {', '.join(request.find_links)}")
    return lines


def _parse_limits(texts: Sequence[str]) -> Optional[Dict[NormalizedName, List[Requirement]]]:
    limits: Dict[NormalizedName, List[Requirement]] = {}
    for text in texts:
        requirement = parse_requirement(text)
        if requirement is None or requirement.extras or requirement.url:
            return None
        limits.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return limits


class _Planner:
    """Collects the requirements in pip's order. Each step returns False where only pip can go
    on."""

    def __init__(
        self,
        here: Environment,
        limits: Mapping[NormalizedName, Sequence[Requirement]],
        folder: str,
        *,
        has_dependencies: bool,
    ) -> None:
        self._here, self._limits, self._folder = here, limits, folder
        self._has_dependencies = has_dependencies
        self._known: Dict[NormalizedName, _Known] = {}
        self._coming: Dict[NormalizedName, LocalWheel] = {}
        self.lines: List[str] = []

    def add_wheel(self, wheel: LocalWheel, number: int) -> bool:
        """Add a file that will be installed."""
        name, interpreter = canonicalize_name(wheel.name), self._here.interpreter
        is_new = name not in self._here.installed and name not in self._coming
        if not is_new or name in self._limits or not wheel.tags & set(interpreter.tags):
            return False
        if not _is_for_python(wheel.requires_python, interpreter.version):
            return False
        self._coming[name] = wheel
        self._known[name] = _Known(
            f"{name}=={wheel.version}", wheel.requires, number, is_direct=True
        )
        self.lines.append(f"Processing {wheel.shown_path}")
        return True

    def add_entry(self, entry: Entry, number: int) -> bool:
        """Add a requirement that is installed."""
        requirement = parse_requirement(entry.text)
        if requirement is None or not applies(requirement, self._here.interpreter.markers):
            return False
        origin = f"-r {entry.file} (line {entry.line})" if entry.file else ""
        return self._add(requirement, origin, number)

    def follow(self) -> bool:
        """Add everything that these require."""
        pending = set(self._known)
        while pending:
            name = min(pending, key=lambda one: self._known[one].preference(one))
            pending.remove(name)
            known = self._known[name]
            before = set(self._known)
            for text in known.requires if self._has_dependencies else ():
                if not self._add_required(text, known.parent):
                    return False
            pending |= set(self._known) - before
        return True

    def _add_required(self, text: str, parent: str) -> bool:
        if "extra ==" in text or "extra==" in text:
            return True
        requirement = parse_requirement(text)
        if requirement is None:
            return False
        if not applies(requirement, self._here.interpreter.markers):
            return True
        return self._add(requirement, parent, math.inf)

    def _add(self, requirement: Requirement, origin: str, order: float) -> bool:
        if requirement.extras or requirement.url:
            return False
        name = canonicalize_name(requirement.name)
        version = self._version_of(name)
        if version is None or not self._fits(requirement, name, version):
            return False
        known = self._known.get(name)
        if known is None:
            text = f"{requirement.name}{requirement.specifier}"
            parent = f"{text}->{origin}" if origin else text
            known = _Known(parent, self._here.installed[name].requires, order)
            self._known[name] = known
            self.lines.append(self._satisfied(text, name, origin))
        known.order = min(known.order, order)
        known.requirements.append(requirement)
        return True

    def _version_of(self, name: NormalizedName) -> Optional[str]:
        if name in self._coming:
            return self._coming[name].version
        found = self._here.installed.get(name)
        return None if found is None else found.version

    def _fits(self, requirement: Requirement, name: NormalizedName, version: str) -> bool:
        return all(accepts(one, version) for one in (requirement, *self._limits.get(name, ())))

    def _satisfied(self, text: str, name: NormalizedName, origin: str) -> str:
        found = self._here.installed[name]
        place = show_path(str(found.location), self._folder)
        source = f" (from {origin})" if origin else ""
        return f"Requirement already satisfied: {text} in {place}{source} ({found.version})"


def show_path(path: str, folder: str) -> str:
    """A path as pip prints it: below the working folder with `./`."""
    return f".{path[len(folder) :]}" if path.startswith(f"{folder}/") else path


def _is_for_python(requires_python: Optional[str], version: str) -> bool:
    try:
        return requires_python is None or SpecifierSet(requires_python).contains(
            version, prereleases=True
        )
    except InvalidSpecifier:
        return False


def _report_entry(wheel: LocalWheel) -> ReportEntry:
    hashes: ArchiveInfo = {"hash": f"sha256={wheel.sha256}", "hashes": {"sha256": wheel.sha256}}
    return {
        "download_info": {"url": wheel.url, "archive_info": hashes},
        "is_direct": True,
        "requested": True,
        "metadata": {
            "name": wheel.name,
            "version": wheel.version,
            "requires_dist": list(wheel.requires),
        },
    }
