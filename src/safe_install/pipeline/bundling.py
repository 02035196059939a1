"""The plan of a bundle and its files. It is planned for an environment that has only torch, on this
machine or on another one."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, NoReturn, Optional, Pattern, Sequence, Tuple, Union

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
from safe_install.pip_output import InstallationReport, unmatched_requirement
from safe_install.pipeline.choice import IndexChooser, make_choice_options
from safe_install.pipeline.delivery import begin_delivery, fetch_files
from safe_install.pipeline.fetching import wanted_file_of_step
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

# A build number so high that pip prefers this file to the index's files of the same version.
BEFORE_OTHERS = 999999


@dataclass(frozen=True)
class Machines:
    """The environment that a bundle is planned for, and the one that plans it."""

    here: Environment
    target: Environment  # of its distributions only torch is kept
    is_elsewhere: bool

    def __str__(self) -> str:
        """`Python 3.11, linux_x86_64`."""
        interpreter = self.target.interpreter
        libc = f" ({' '.join(interpreter.libc)})" if interpreter.libc[0] else ""
        return f"Python {interpreter.version}, {interpreter.platform}{libc}"


def find_machines(request: BundleRequest, world: World) -> Machines:
    """The environments of a request. Errors: UsageError."""
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
    """The environment with no other distribution than torch: the others may be missing where the
    bundle is used."""
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
    """pip, which sees torch as the only installed distribution and may plan for another machine."""

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
        """Always None: the plan must not depend on what is installed here."""
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
        # After the options of the command line: of several --only-binary the last one counts.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        words = [*arguments[:end], *self._words, *arguments[end:]]
        answer = super()._dry_run(words, constraints, links, without=without)
        if isinstance(answer, Failed) or TORCH not in self._machines.target.installed:
            return answer
        return Planned(_without_torch(answer.report))


def machine_words(target: Environment, folder: str) -> Tuple[str, ...]:
    """The options that make pip choose files for another machine. pip requires --target with them;
    a dry run writes nothing there."""
    interpreter = target.interpreter
    words = ["--target", folder, "--only-binary", ":all:", "--implementation", "cp"]
    words += ["--python-version", interpreter.version]
    platforms = dict.fromkeys(tag.platform for tag in interpreter.tags if tag.platform != "any")
    for platform in platforms:
        words += ["--platform", platform]
    return tuple(words)


def _without_torch(report: InstallationReport) -> InstallationReport:
    """pip's report without the installed torch, which pip was given as a file."""
    kept = [
        entry
        for entry in report.get("install", ())
        if canonicalize_name(entry["metadata"]["name"]) != TORCH
    ]
    return {**report, "install": kept}


@dataclass(frozen=True)
class PlannedBundle:
    """The content of a bundle."""

    session: Session  # its environment is the target
    machines: Machines
    selected: Selected
    installer: PlanningPip
    chooser: IndexChooser

    @property
    def steps(self) -> Tuple[Step, ...]:
        """One step for each wheel."""
        return self.selected.plan.steps


def plan_bundle(request: BundleRequest, machines: Machines, session: Session) -> PlannedBundle:
    """The content of a bundle. Errors: NoCandidate, PipFailed, Refused, UsageError."""
    install = session.request
    installer = PlanningPip(session, machines)
    chooser = IndexChooser(
        make_choice_options(install),
        session.world,
        installer.credentials,
        pip=lambda: installer.pip,
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
    """Refuse a source distribution for another machine: it would be built for this one. Errors:
    NoCandidate."""
    for step in steps:
        if machines.is_elsewhere and step.origin is not Origin.WHEEL:
            raise _no_wheel(f"{step.name}=={step.version}", machines)


def find_sizes(planned: PlannedBundle) -> Dict[NormalizedName, int]:
    """The sizes of the wheels in bytes, for those whose size is known before they are fetched."""
    sizes: Dict[NormalizedName, int] = {}
    for step in planned.steps:
        artifact = planned.selected.artifacts.get(step.name)
        size: Optional[int] = None
        if artifact is not None:
            size = artifact.path.stat().st_size
        elif step.candidate is not None:
            size = step.candidate.link.size
        elif step.sha256 is not None:
            links = planned.chooser.read_index(step.name)
            size = next((link.size for link in links if link.sha256 == step.sha256), None)
        if size is not None:
            sizes[step.name] = size
    return sizes


def find_missing(planned: PlannedBundle) -> int:
    """How many bytes have to be fetched, as far as the sizes are known."""
    sizes = find_sizes(planned)
    missing = 0
    for step in planned.steps:
        if step.name in planned.selected.artifacts:
            continue
        of_pip = wanted_file_of_step(step)
        link = of_pip.link if of_pip is not None else None
        if step.candidate is not None:
            link = step.candidate.link
        if link is not None and not planned.chooser.fetcher.is_here(link):
            missing += sizes.get(step.name, 0)
    return missing


def fetch_wheels(planned: PlannedBundle) -> Mapping[NormalizedName, Artifact]:
    """Every wheel as a file on this machine, with its hash compared. Errors: those of a
    download."""
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
    return fetch_files(delivery, planned.selected.plan, planned.selected.artifacts)


def list_requirements(request: BundleRequest, steps: Sequence[Step]) -> Tuple[str, ...]:
    """The requirements to install from the bundle: those of the command line; a folder, file or URL
    is replaced by `name==version`."""
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
