"""Candidates from the bundled facts: for when no host can be asked."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safe_install.index.candidates import torch_of, wheel_candidate, with_known_hash
from safe_install.index.facts import (
    Build,
    Holds,
    HostEntry,
    Layout,
    Project,
    TorchTable,
    parse_release,
)
from safe_install.index.filename import build_filename, fields_of, parse_filename
from safe_install.index.location import expand_template, read_built_for
from safe_install.index.matrix import is_for_platform
from safe_install.models import BuiltFor, Candidate, CandidateKind, Environment, Link, TorchBuild
from safe_install.tags import (
    container_of_name,
    container_of_version,
    is_same_major,
    parse_accelerator,
)

FOUND_IN = "bundled facts"
_ANY_VERSION = SpecifierSet()
_LOWER_BOUNDS = ("==", "===", "~=", ">=", ">")


def bundled_wheels(
    project: Project, environment: Environment, *, hosts: Sequence[str], only_near: bool = False
) -> Iterator[Candidate]:
    """The wheels of `hosts` that the index knows near the installed torch.

    That is: every wheel for this torch and accelerator, for any Python and platform; for the other
    accelerators of this torch the newest version for this Python and platform; and where nothing is
    known
    for this torch, the same of the torch nearest to it. The rest of the matrix would say nothing
    but
    "another torch".
    """
    torch = environment.torch
    if torch is None:
        return
    release = torch.runtime_version.partition("+")[0]
    base, accelerator = project.base_of(release, torch.accelerator)
    entries = {host.host: host for host in project.hosts}
    addressed = {name for name in hosts if name in entries and entries[name].wheel is not None}
    rows = [build for build in project.builds if build.host in addressed]
    container = container_of_version(torch.runtime_version)
    same = [
        build
        for build in rows
        if build.torch in (base, release, minor_of(release), f"nv{container}")
    ]
    of_releases = [build for build in rows if container_of_name(build.torch) is None]
    if not same and of_releases:
        nearest = nearest_torch(of_releases, base)
        same = [build for build in rows if build.torch == nearest]
    for build in sorted(same, key=lambda build: Version(build.version), reverse=True):
        if only_near and not is_for_platform(build, environment.interpreter.platform):
            continue
        yield from _cells(
            project, entries[build.host], build, environment, accelerator, only_near=only_near
        )


def has_builds_for(project: Project, torch: TorchBuild) -> bool:
    """Do the facts know builds of it for a release of torch, for whatever Python, machine and
    accelerator?"""
    release = torch.runtime_version.partition("+")[0]
    base, _ = project.base_of(release, torch.accelerator)
    if any(build.torch in (base, release, minor_of(release)) for build in project.builds):
        return True
    return any(
        SpecifierSet(pin).contains(release, prereleases=True) for pin in project.pins.values()
    )


def minor_of(release: str) -> str:
    """`2.8.1` -> `2.8`: how some hosts name a torch."""
    return ".".join(release.split(".")[:2])


def nearest_torch(rows: Sequence[Build], wanted: str) -> str:
    """The torch among the rows that comes closest before `wanted`, or the oldest."""
    known = sorted({Version(build.torch) for build in rows})
    try:
        before = [version for version in known if version <= Version(wanted)]
    except ValueError:
        before = []
    return str(before[-1] if before else known[0])


def _cells(
    project: Project,
    host: HostEntry,
    build: Build,
    environment: Environment,
    accelerator: str,
    *,
    only_near: bool,
) -> Iterator[Candidate]:
    if build.platform == "macos":
        return  # the file name is only on the live page
    python = ".".join(environment.interpreter.version.split(".")[:2])
    platform = environment.interpreter.platform

    def is_here(own: str) -> bool:
        return own == accelerator or (is_major_only(own) and is_same_major(own, accelerator))

    # That of torch first: where one file serves several, it is listed once, as what it is first
    # said to be.
    for own in sorted(build.accelerators, key=is_here, reverse=True):
        here = is_here(own)
        same_machine = is_for_platform(build, platform)
        if not here and not (same_machine and build.version == _newest(project, build, own)):
            continue
        is_listed_whole = build.abi is not None or (here and not only_near)
        pythons = build.python if is_listed_whole else [p for p in build.python if p == python]
        for one in pythons:
            for abi in build.cxx11_abi or (None,):
                yield make_candidate(
                    project, host, build, accelerator=own, python=one, cxx11_abi=abi
                )


def is_major_only(accelerator: str) -> bool:
    """Does `cu12` stand for every CUDA 12?"""
    parsed = parse_accelerator(accelerator)
    return parsed is not None and parsed.major_only


def _newest(project: Project, build: Build, accelerator: str) -> str:
    versions = [
        other.version
        for other in project.builds
        if other.host == build.host
        and other.torch == build.torch
        and other.platform == build.platform
        and accelerator in other.accelerators
    ]
    return max(versions, key=Version)


def make_candidate(
    project: Project,
    host: HostEntry,
    build: Build,
    *,
    accelerator: str,
    python: str,
    cxx11_abi: Optional[bool] = None,
) -> Candidate:
    """One cell of a row of the wheel index; the host has a template for its files."""
    filename = build_filename(
        project.name, build, host, accelerator=accelerator, python=python, cxx11_abi=cxx11_abi
    )
    name = parse_filename(filename)
    assert name is not None  # noqa: S101 - made by our own grammar; a test makes every row
    values = fields_of(build.torch, accelerator, cxx11_abi=cxx11_abi)
    values.update(
        base=build.torch,
        python="".join(python.split(".")[:2]),
        project=project.name,
        version=build.version,
        tag=build.tag or host.tag.format(version=build.version),
        file=filename,
    )
    url = expand_template(host.wheel or "", **values)
    version = name.parsed_version
    built = read_built_for(project, host, name, url)
    return Candidate(
        name=project.name,
        version=version,
        kind=CandidateKind.WHEEL,
        link=with_known_hash(project, Link(url, filename, found_in=FOUND_IN)),
        tags=name.tags,
        built_for=BuiltFor(
            torch_of(project, version, built.torch or build.torch),
            built.accelerator or accelerator,
            built.cxx11_abi,
        ),
        requires=project.requires,
    )


def bundled_sdists(project: Project) -> Iterator[Candidate]:
    """The source distributions that the index knows, newest first."""
    for sdist in reversed(project.sdists):
        filename = sdist.url.rsplit("/", 1)[-1]
        yield Candidate(
            name=project.name,
            version=Version(sdist.version),
            kind=CandidateKind.SDIST,
            link=with_known_hash(
                project,
                Link(sdist.url, filename, found_in=FOUND_IN, requires_python=sdist.requires_python),
            ),
            requires_python=sdist.requires_python,
            requires=project.requires,
        )


def bundled_files(project: Project, torch_table: TorchTable) -> Iterator[Candidate]:
    """The wheels that the index knows by their address."""
    index = HostEntry("", Layout.PYPI, "pytorch")
    for known in project.wheels:
        filename = unquote(urlsplit(known.url).path.rsplit("/", 1)[-1])
        link = Link(
            known.url,
            filename,
            known.sha256,
            found_in=FOUND_IN,
            requires_python=known.requires_python,
        )
        candidate = wheel_candidate(project, index, link, torch_table)
        if candidate is not None:
            yield candidate


def known_elsewhere(
    project: Project,
    environment: Environment,
    host: HostEntry,
    *,
    specifier: SpecifierSet = _ANY_VERSION,
) -> Tuple[str, ...]:
    """Versions that a host has for this torch, Python and machine, with file names that only its
    page knows."""
    torch = environment.torch
    if torch is None or host.layout is Layout.PYPI:
        return ()
    minor = minor_of(torch.runtime_version)
    found = {
        build.version
        for build in project.builds
        if build.host == host.host
        and (host.wheel is None or build.platform == "macos")
        and minor_of(build.torch) == minor
        and _is_for(build, environment)
        and specifier.contains(build.version, prereleases=True)
    }
    return tuple(sorted(found, key=Version))


def _is_for(build: Build, environment: Environment) -> bool:
    """Is a row for this machine, Python and accelerator?"""
    torch, interpreter = environment.torch, environment.interpreter
    if not is_for_platform(build, interpreter.platform):
        return False
    if build.abi is None and minor_of(interpreter.version) not in build.python:
        return False
    if torch is None or interpreter.platform.startswith("macosx"):
        return True
    accelerators = build.accelerators
    return any(
        own == torch.accelerator or (is_major_only(own) and is_same_major(own, torch.accelerator))
        for own in accelerators
    )


def gap_in_facts(
    project: Project,
    environment: Environment,
    host: HostEntry,
    *,
    specifier: SpecifierSet = _ANY_VERSION,
) -> str:
    """Why the bundled facts do not settle what a host has for this question; "" where they do.

    They settle it where all of this holds:
    - the host's rows are complete for this torch (`HostEntry.complete_to`), or the project has no
      wheels on the package index;
    - no row for this torch, Python and machine lacks its file name;
    - no version is asked for that is newer than all of the rows.
    """
    if host.layout is Layout.PYPI:
        return (
            ""
            if project.package_index.holds is not Holds.WHEELS
            else "it may have files that are not known here"
        )
    elsewhere = known_elsewhere(project, environment, host, specifier=specifier)
    if elsewhere:
        return f"it has {', '.join(elsewhere)} for this torch, its address is only on the live page"
    torch = (
        parse_release(environment.torch.runtime_version) if environment.torch is not None else None
    )
    last = parse_release(host.complete_to or "")
    if torch is None or last is None or torch.release[:2] > last.release[:2]:
        return (
            f"its files{f' for torch {torch}' if torch is not None else ''} are known in part only"
        )
    newest = max(
        (Version(build.version) for build in project.builds if build.host == host.host),
        default=Version("0"),
    )
    return (
        f"versions after {newest} are not known here" if _asks_for_newer(specifier, newest) else ""
    )


def _asks_for_newer(specifier: SpecifierSet, newest: Version) -> bool:
    bounds = [
        parse_release(part.version.replace(".*", ""))
        for part in specifier
        if part.operator in _LOWER_BOUNDS
    ]
    return any(bound is not None and bound > newest for bound in bounds)
