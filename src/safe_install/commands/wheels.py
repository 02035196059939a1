"""`safe-install wheels`: the wheel index as tables; `--check` asks the hosts, `--update` fetches a
newer index."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple, TypedDict
from urllib.parse import urldefrag

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.errors import HashMismatch, Refused, UsageError
from safe_install.index import bundled, catalog
from safe_install.index.candidates import torch_of, untagged_accelerator
from safe_install.index.catalog import bundled_catalog, known_projects, load_project
from safe_install.index.facts import Project, TorchMatch, canonical_url
from safe_install.index.finder import Finder
from safe_install.index.matrix import Cell, Matrix, make_matrix, newest_version
from safe_install.index.update import MAX_SIZE, install_update, read_bundle
from safe_install.models import (
    BuiltFor,
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    HostAnswer,
    HostAnswerKind,
    InstallResult,
    Link,
    Outcome,
    Plan,
    Severity,
)
from safe_install.pipeline.choice_text import describe_torch
from safe_install.pipeline.client import make_client
from safe_install.pipeline.session import environment_asked_for
from safe_install.ports import Timings, World
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.resolve.own_options import OwnOptions
from safe_install.tags import container_of_version
from safe_install.wheels.archive import hash_file
from safe_install.wheels.fetch import find_local_path

FAILED = frozenset({HostAnswerKind.DOWN, HostAnswerKind.PAGE_EMPTY, HostAnswerKind.PAGE_MISSING})


class _Table(TypedDict):
    """A table, as JSON values."""

    title: str
    columns: List[str]
    rows: List[List[str]]


def show_wheels(
    world: World, names: Sequence[str], own: OwnOptions, *, machine: Mapping[str, Any]
) -> InstallResult:
    """The matrix of each named project, or all projects with what fits here. No host is asked.

    `machine`: torch, python_version, platform of another machine, as for `explain`. Errors:
    UsageError.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment = environment_asked_for(own, world, **machine)
    projects = [load_project(name) for name in _known(names)]
    message: List[str] = []
    tables: List[_Table] = []
    if projects:
        for project in projects:
            matrix = make_matrix(
                project, platform=environment.interpreter.platform, third_party=own.third_party
            )
            tables.append(_matrix_table(project, matrix, environment))
            message += _describe_notes(project)
    else:
        tables.append(_projects_table(environment))
    marked = "* fits" if environment.torch is not None else "no torch here to fit"
    message.append(f"{marked}: {describe_torch(environment)}; facts of {catalog.index_date()}")
    return InstallResult(
        "wheels",
        Outcome.LISTED,
        0,
        environment,
        timings=timings.total(),
        message="\n".join(message),
        details={"index": _origin(), "tables": tables, "doubts": _doubts(projects)},
    )


def _known(names: Iterable[str]) -> List[NormalizedName]:
    wanted = [canonicalize_name(name) for name in names]
    unknown = [name for name in wanted if name not in known_projects()]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: not in the wheel index",
            hint="`safe-install wheels` lists the projects that are; pip chooses the others.",
        )
    return wanted


def _origin() -> Dict[str, str]:
    update = catalog.current_update()
    return {"date": catalog.index_date(), "from": update.url if update else "the program"}


def _matrix_table(project: Project, matrix: Matrix, environment: Environment) -> _Table:
    rows = []
    for torch in matrix.torches:
        row = [torch]
        for accelerator in matrix.accelerators:
            cell = matrix.find(torch, accelerator)
            mark = "*" if cell is not None and _fits(project, cell, environment) else ""
            row.append(f"{mark}{cell.version}" if cell is not None else "")
        rows.append(row)
    return {"title": str(project.name), "columns": ["torch", *matrix.accelerators], "rows": rows}


def _fits(project: Project, cell: Cell, environment: Environment) -> bool:
    """Would a wheel of this cell be chosen here? Judged by the rules of the choice."""
    torch = environment.torch
    version = torch.runtime_version if torch is not None else ""
    own = (bundled.minor_of(version), f"nv{container_of_version(version)}")
    if (
        cell.build is not None
        and project.torch_match is not TorchMatch.ANY
        and bundled.minor_of(cell.torch) not in own
    ):
        return False  # it would be rejected as well, but later
    context = Context(project, environment, bundled_catalog())
    return any(
        check_candidate(candidate, context) is None
        for candidate in _wheels_of(project, cell, environment)
    )


def _wheels_of(project: Project, cell: Cell, environment: Environment) -> Iterator[Candidate]:
    build, interpreter = cell.build, environment.interpreter
    if build is None:
        version = Version(cell.version)
        accelerator = untagged_accelerator(
            project, version, interpreter.platform, bundled_catalog().torch
        )
        built_for = BuiltFor(torch_of(project, version, None), accelerator)
        link = Link("", cell.version)
        yield Candidate(
            project.name,
            version,
            CandidateKind.WHEEL,
            link,
            frozenset(interpreter.tags[:1]),
            built_for,
        )
    elif build.platform != "macos":
        host = next(host for host in project.hosts if host.host == build.host)
        for python in build.python:
            for abi in build.cxx11_abi or (None,):
                yield bundled.make_candidate(
                    project, host, build, accelerator=cell.accelerator, python=python, cxx11_abi=abi
                )


def _describe_notes(project: Project) -> List[str]:
    """Notes that do not fit into a table."""
    lines = (
        [f"{project.name}: asked in this order: " + ", ".join(_host_names(project))]
        if project.hosts
        else []
    )
    if project.package_index.note:
        lines.append(f"{project.name}: {project.package_index.note}")
    if project.source is not None:
        lines.append(f"{project.name}: source: {project.source.install}")
    if project.family:
        lines.append(f"{project.name}: also called {', '.join(project.family)}")
    return lines


def _doubts(projects: Iterable[Project]) -> Dict[str, List[Dict[str, str]]]:
    """The uncertain facts, for --json: they are about the index, not about this environment."""
    found: Dict[str, List[Dict[str, str]]] = {}
    for project in projects:
        found[str(project.name)] = [
            {"subject": doubt.subject, "why": doubt.why} for doubt in project.doubts
        ]
    return found


def _host_names(project: Project) -> List[str]:
    return [
        f"{host.host} (only when named)" if host.optional else host.host for host in project.hosts
    ]


def _projects_table(environment: Environment) -> _Table:
    rows = []
    for name in sorted(known_projects()):
        project = load_project(name)
        matrix = make_matrix(project, platform=environment.interpreter.platform)
        fitting = [cell.version for cell in matrix.cells if _fits(project, cell, environment)]
        fitting += [
            str(candidate.version)
            for candidate in bundled.bundled_files(project, bundled_catalog().torch)
            if check_candidate(candidate, Context(project, environment, bundled_catalog())) is None
        ]
        best = max(fitting, key=Version, default="")
        hosts = ", ".join(host.host for host in project.hosts if not host.optional)
        rows.append(
            [str(name), newest_version(project) or "", f"*{best}" if best else "", hosts or "-"]
        )
    return {
        "title": "projects",
        "columns": ["project", "newest known", "fits here", "hosts"],
        "rows": rows,
    }


# --- asking the hosts -----------------------------------------------------------------------------


def check_wheels(
    world: World, names: Sequence[str], own: OwnOptions, *, machine: Mapping[str, Any]
) -> InstallResult:
    """Ask every host of the projects: does it answer, and does it still list the known files for
    this torch?

    Exit status 1 where one does not answer, or a known file is not listed any more. Errors:
    UsageError, Refused.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment = environment_asked_for(own, world, **machine)
    if environment.torch is None:
        raise Refused(
            "no torch is installed here, so the hosts cannot be asked about it",
            hint="Name one: safe-install wheels --check --torch 2.13.0+cpu.",
        )
    with timings.stage("ask"):
        answers, findings = _ask_hosts(
            _known(names) or sorted(known_projects()), environment, world, own
        )
    failed = [answer for answer in answers if answer.kind in FAILED]
    return InstallResult(
        "wheels",
        Outcome.LISTED,
        1 if failed or findings else 0,
        environment,
        Plan(answers=tuple(answers)),
        findings=tuple(findings),
        timings=timings.total(),
        message=f"{len(answers)} answers, {len(failed)} of them no page for {describe_torch(environment)}",
        details={"index": _origin(), "tables": [_answers_table(answers)]},
    )


def _answers_table(answers: Sequence[HostAnswer]) -> _Table:
    rows: List[List[str]] = []
    for answer in answers:
        rows.append([answer.project, answer.host, answer.kind.value, answer.detail])
    return {"title": "hosts", "columns": ["project", "host", "answer", ""], "rows": rows}


def _ask_hosts(
    names: Sequence[str], environment: Environment, world: World, own: OwnOptions
) -> Tuple[List[HostAnswer], List[Finding]]:
    """The answer of each host, and findings on known files that it does not list any more."""
    bare = dataclasses.replace(environment, installed={})
    http = make_client(world, offline=own.offline, revalidate=True)
    finder = Finder(
        http=http, catalog=bundled_catalog(), offline=own.offline, third_party=own.third_party
    )
    answers: List[HostAnswer] = []
    findings: List[Finding] = []
    for name in names:
        with world.reporter.task(f"ask the hosts of {name}"):
            found = finder.find(name, bare, wanted=lambda candidate, project: False)
        listed = {answer.host for answer in found.answers if answer.kind is HostAnswerKind.LISTED}
        answers += found.answers
        findings += _find_unlisted(found.project, bare, found.candidates, listed)
    return answers, findings


def _find_unlisted(
    project: Project, environment: Environment, found: Sequence[Candidate], listed: Iterable[str]
) -> Iterator[Finding]:
    """Findings on known files for this torch that their hosts answered without."""
    there = {
        canonical_url(candidate.link.url)
        for candidate in found
        if candidate.link.found_in != bundled.FOUND_IN
    }
    context = Context(project, environment, bundled_catalog())
    for candidate in bundled.bundled_wheels(project, environment, hosts=sorted(listed)):
        if candidate.link.url not in there and check_candidate(candidate, context) is None:
            yield Finding(
                "not-listed",
                Severity.WARNING,
                str(project.name),
                f"{candidate.link.url} is known here, and its host does not list it",
                "scripts/update_wheel_index.py renews the facts",
            )


# --- a newer index --------------------------------------------------------------------------------


def update_wheels(world: World, location: str, own: OwnOptions) -> InstallResult:
    """Fetch the index file at `location`, a URL or a path with `#sha256=HEX`, into the user's data
    folder.

    Errors: UsageError without a hash; HashMismatch, DownloadFailed, IndexInvalid: the current index
    is kept.
    """
    address, fragment = urldefrag(location)
    name, _, promised = fragment.partition("=")
    if (
        name != "sha256"
        or len(promised) != 64
        or not set(promised.lower()) <= set("0123456789abcdef")
    ):
        raise UsageError(
            f"--update {location}: its sha256 is missing",
            hint="The index says which hosts are believed: write the hash that its publisher gave, URL#sha256=HEX.",
        )
    text = _read_bundle_text(world, address, promised.lower(), own)
    bundle = read_bundle(text, address)
    before = catalog.index_date()
    if bundle["date"] <= before:
        message = (
            f"The index in force is of {before}; {address} is of {bundle['date']}: nothing to do."
        )
        return InstallResult(
            "wheels", Outcome.ALREADY_SATISFIED, 0, message=message, details={"index": _origin()}
        )
    install_update(text, url=address)
    catalog.clear_caches()
    message = (
        f"The wheel index is now of {catalog.index_date()} ({len(bundle['documents'])} "
        f"documents), it was of {before}."
    )
    return InstallResult(
        "wheels", Outcome.UPDATED, 0, message=message, details={"index": _origin()}
    )


def _read_bundle_text(world: World, address: str, promised: str, own: OwnOptions) -> str:
    path = find_local_path(address)
    with tempfile.TemporaryDirectory(prefix="safe-install-") as folder:
        if path is None:
            path = Path(folder) / "wheel-index.json"
            make_client(world, offline=own.offline).download(
                address, path, sha256=promised, size_limit=MAX_SIZE
            )
        try:
            if path.stat().st_size > MAX_SIZE:
                raise UsageError(
                    f"{path} is larger than {MAX_SIZE} bytes", hint="It is no wheel index."
                )
            found = hash_file(path)
            if found != promised:
                raise HashMismatch(
                    f"{path} has sha256 {found}, promised was {promised}",
                    hint="It is not the file whose hash was given; the index in force stays.",
                )
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", hint="Correct the path.") from error
