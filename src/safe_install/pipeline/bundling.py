"""The plan of a bundle, and its files: as if nothing but torch were installed, for an environment
such as the one here, or for a machine elsewhere."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Pattern, Sequence, Tuple, Union

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate, PipFailed, Refused
from safe_install.index.catalog import bundled_catalog
from safe_install.models import (
    Environment,
    HealthReport,
    InstalledDistribution,
    Origin,
    Step,
)
from safe_install.pip_output import unmatched_requirement
from safe_install.pipeline.choice import IndexChooser, make_wishes
from safe_install.pipeline.delivery import begin_delivery, bring
from safe_install.pipeline.fetching import want_of_pip
from safe_install.pipeline.installer import PipInstaller
from safe_install.pipeline.selection import Selected, select
from safe_install.pipeline.session import (
    Session,
    environment_asked_for,
    make_folder,
    probe_environment,
)
from safe_install.ports import World
from safe_install.requirements import parse_requirement
from safe_install.resolve.bundle_request import BundleRequest
from safe_install.resolve.promises import is_promised
from safe_install.resolve.rounds import Failed, Planned
from safe_install.torch_family import TORCH
from safe_install.wheels.archive import Artifact
from safe_install.wheels.placeholder import make_placeholder

# A build number: of the files of one version pip takes this one, and not that of its index.
BEFORE_OTHERS = 999999


@dataclass(frozen=True)
class Machines:
    """For which environment a bundle is planned, and the one that plans it."""

    here: Environment
    target: Environment  # of the distributions that it has, torch alone counts
    is_elsewhere: bool

    def __str__(self) -> str:
        """`Python 3.11, linux_x86_64`."""
        interpreter = self.target.interpreter
        libc = f" ({' '.join(interpreter.libc)})" if interpreter.libc[0] else ""
        return f"Python {interpreter.version}, {interpreter.platform}{libc}"


def find_machines(request: BundleRequest, world: World) -> Machines:
    """Errors: UsageError."""
    own = request.install.own
    here = probe_environment(own, world)
    target = here
    if request.is_elsewhere:
        target = environment_asked_for(
            own,
            world,
            torch=request.torch,
            python_version=request.python_version,
            platform=request.platform,
            cxx11_abi=request.cxx11_abi,
            needs_torch=False,
        )
    return Machines(here, _with_torch_alone(target), request.is_elsewhere)


def _with_torch_alone(environment: Environment) -> Environment:
    """What else is installed may be missing where the bundle is used."""
    torch = environment.torch
    if torch is None:
        return dataclasses.replace(environment, installed={})
    site = environment.interpreter.scheme.purelib
    found = environment.installed.get(TORCH) or InstalledDistribution(
        TORCH, str(torch.version), site / "torch.dist-info", site
    )
    return dataclasses.replace(
        environment, installed={TORCH: dataclasses.replace(found, requires=())}
    )


class PlanningPip(PipInstaller):
    """pip, to which torch alone is installed, and which may plan for a machine elsewhere."""

    def __init__(self, session: Session, machines: Machines) -> None:
        super().__init__(dataclasses.replace(session, environment=machines.here))
        self._machines = machines
        self._torch_folder = make_folder(session.work / "torch-that-is-there")
        self._words: Tuple[str, ...] = ("--ignore-installed",)
        if machines.is_elsewhere:
            interpreter = machines.target.interpreter
            self.markers = interpreter.markers
            self._words = machine_words(machines.target, str(session.work / "target"))
        torch = machines.target.installed.get(TORCH)
        if torch is not None:
            version, tag = torch.version, machines.target.interpreter.tags[0]
            make_placeholder(
                self._torch_folder,
                TORCH,
                Version(version),
                filename=f"torch-{version}-{BEFORE_OTHERS}-{tag}.whl",
            )

    def _plan_known(self, constraints: Sequence[str]) -> Optional[Planned]:
        """What is installed here says nothing."""
        return None

    def _dry_run(
        self,
        arguments: Sequence[str],
        constraints: Sequence[str],
        find_links: Sequence[Path],
        *,
        without: Optional[Pattern[str]] = None,
    ) -> Union[Planned, Failed]:
        links = list(find_links)
        if TORCH in self._machines.target.installed:
            links.append(self._torch_folder)
        # behind the person's own, because the last word on wheels alone counts
        end = arguments.index("--") if "--" in arguments else len(arguments)
        words = [*arguments[:end], *self._words, *arguments[end:]]
        answer = super()._dry_run(words, constraints, links, without=without)
        if isinstance(answer, Failed) or TORCH not in self._machines.target.installed:
            return answer
        return Planned(_without_torch(answer.report))


def machine_words(target: Environment, folder: str) -> Tuple[str, ...]:
    """What makes pip choose files for another machine. It wants a folder for that; nothing is
    written there."""
    interpreter = target.interpreter
    words = ["--target", folder, "--only-binary", ":all:", "--implementation", "cp"]
    words += ["--python-version", interpreter.version]
    platforms = dict.fromkeys(tag.platform for tag in interpreter.tags if tag.platform != "any")
    for platform in platforms:
        words += ["--platform", platform]
    return tuple(words)


def _without_torch(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The torch that is there already was shown to pip as a file."""
    kept = [
        entry
        for entry in report.get("install", ())
        if canonicalize_name(entry["metadata"]["name"]) != TORCH
    ]
    return {**report, "install": kept}


@dataclass(frozen=True)
class PlannedBundle:
    """What will be in a bundle."""

    session: Session  # whose environment is the target
    machines: Machines
    selected: Selected
    installer: PlanningPip
    chooser: IndexChooser

    @property
    def steps(self) -> Tuple[Step, ...]:
        """One for each wheel."""
        return self.selected.plan.steps


def plan_bundle(request: BundleRequest, machines: Machines, session: Session) -> PlannedBundle:
    """Errors: NoCandidate, PipFailed, Refused, UsageError."""
    install = session.request
    installer = PlanningPip(session, machines)
    chooser = IndexChooser(
        make_wishes(install), session.world, installer.credentials, pip=lambda: installer.pip
    )
    try:
        selected = select(
            session,
            bundled_catalog(),
            chooser,
            chooser.torch_pages,
            installer,
            HealthReport,
            _refuse_build,
        )
    except PipFailed as error:
        missing = unmatched_requirement(error.output)
        if missing is None or not machines.is_elsewhere:
            raise
        raise _no_wheel(missing, machines) from error
    _refuse_sources(selected.plan.steps, machines)
    return PlannedBundle(session, machines, selected, installer, chooser)


def _refuse_build(selected: Selected) -> NoReturn:
    names = ", ".join(step.name for step in selected.plan.steps if step.origin is Origin.SDIST)
    raise Refused(
        f"{names or 'an extension'}: has to be built for a torch that is not installed here",
        hint="Install that torch here first, or name one for which there is a wheel.",
    )


def _no_wheel(requirement: str, machines: Machines) -> NoCandidate:
    return NoCandidate(
        f"no wheel of {requirement} was found for {machines}",
        hint="What has to be built is built on a machine such as that one: make the bundle there.",
    )


def _refuse_sources(steps: Sequence[Step], machines: Machines) -> None:
    """What is built here is for the machine here. Errors: Refused."""
    for step in steps:
        if machines.is_elsewhere and step.origin is not Origin.WHEEL:
            raise _no_wheel(f"{step.name}=={step.version}", machines)


def find_sizes(planned: PlannedBundle) -> Dict[NormalizedName, int]:
    """The bytes of the wheels, as far as they are known before they are fetched."""
    sizes: Dict[NormalizedName, int] = {}
    for step in planned.steps:
        artifact = planned.selected.artifacts.get(step.name)
        size: Optional[int] = None
        if artifact is not None:
            size = artifact.path.stat().st_size
        elif step.candidate is not None:
            size = step.candidate.link.size
        elif step.sha256 is not None:
            size = planned.chooser.find_size(step.name, step.sha256)
        if size is not None:
            sizes[step.name] = size
    return sizes


def find_missing(planned: PlannedBundle) -> int:
    """The bytes that have to be fetched, as far as they are known."""
    sizes = find_sizes(planned)
    missing = 0
    for step in planned.steps:
        if step.name in planned.selected.artifacts:
            continue
        of_pip = want_of_pip(step)
        link = of_pip.link if of_pip is not None else None
        if step.candidate is not None:
            link = step.candidate.link
        if link is not None and not planned.chooser.fetcher.is_here(link):
            missing += sizes.get(step.name, 0)
    return missing


def bring_wheels(planned: PlannedBundle) -> Mapping[NormalizedName, Artifact]:
    """Every wheel on this machine, compared with its hash. Errors: those of a download."""
    session = planned.session
    promise = functools.partial(
        is_promised,
        request=session.request,
        environment=session.environment,
        is_on_index=planned.chooser.is_on_index,
    )
    delivery = begin_delivery(
        session, planned.installer, promise, planned.chooser.fetcher, copies=False
    )
    return bring(delivery, planned.selected.plan, planned.selected.artifacts)


def list_requirements(request: BundleRequest, steps: Sequence[Step]) -> Tuple[str, ...]:
    """What the install there asks for: the person's words, and in place of a folder, a file or an
    address the version that it has."""
    found: List[str] = []
    named = set()
    for entry in request.install.entries:
        requirement = parse_requirement(entry.text)
        if requirement is not None and requirement.url is None:
            found.append(str(requirement))
            named.add(canonicalize_name(requirement.name))
    for step in steps:
        if step.requested and step.name not in named:
            found.append(f"{step.name}=={step.version}")
    return tuple(dict.fromkeys(found))
