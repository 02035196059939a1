"""Candidates from the bundled facts: for when no host can be asked."""

from __future__ import annotations

from typing import Iterator, List, Optional, Sequence, Set, Tuple

from packaging.version import Version

from safe_install.index.document import Build, HostEntry, Layout, Project, torch_table
from safe_install.index.filename import build_filename, expand_template, parse_filename
from safe_install.models import BuiltFor, Candidate, CandidateKind, Environment, Link
from safe_install.tags import parse_accelerator

FOUND_IN = "bundled facts"


def bundled_wheels(project: Project, environment: Environment, *, hosts: Sequence[str]) -> Iterator[Candidate]:
    """The wheels of `hosts` that the index knows near the installed torch.

    That is: every wheel for this torch and accelerator, for any Python and platform; for the other
    accelerators of this torch the newest version for this Python and platform; and where nothing is known
    for this torch, the same of the torch nearest to it. The rest of the matrix would say nothing but
    "another torch".
    """
    torch = environment.torch
    if torch is None:
        return
    release = torch.runtime_version.partition("+")[0]
    base, accelerator = project.base_of(release, torch.accelerator)
    entries = {host.host: host for host in project.hosts}
    addressed = {name for name in hosts if entries[name].wheel is not None}
    rows = [build for build in project.builds if build.host in addressed]
    same = [build for build in rows if build.torch == base or build.torch == release]
    if not same and rows:
        nearest = nearest_torch(rows, base)
        same = [build for build in rows if build.torch == nearest]
    for build in sorted(same, key=lambda build: Version(build.version), reverse=True):
        yield from _cells(project, entries[build.host], build, environment, accelerator)


def nearest_torch(rows: Sequence[Build], wanted: str) -> str:
    """The torch among the rows that comes closest before `wanted`, or the oldest."""
    known = sorted({Version(build.torch) for build in rows})
    try:
        before = [version for version in known if version <= Version(wanted)]
    except ValueError:
        before = []
    return str(before[-1] if before else known[0])


def _cells(
    project: Project, host: HostEntry, build: Build, environment: Environment, accelerator: str
) -> Iterator[Candidate]:
    if build.platform == "macos":
        return  # the file name is only on the live page
    python = ".".join(environment.interpreter.version.split(".")[:2])
    platform = environment.interpreter.platform
    for own in build.accelerators:
        here = own == accelerator
        same_machine = build.platform.endswith(platform.replace("linux_", ""))
        if not here and not (same_machine and build.version == _newest(project, build, own)):
            continue
        pythons = build.python if here or build.abi else [p for p in build.python if p == python]
        for one in pythons:
            yield _candidate(project, host, build, own, one)


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


def _candidate(project: Project, host: HostEntry, build: Build, accelerator: str, python: str) -> Candidate:
    filename = build_filename(project.name, build, host, accelerator=accelerator, python=python)
    url = expand_template(
        host.wheel or "", base=build.torch, accelerator=accelerator, project=project.name, file=filename
    )
    name = parse_filename(filename)
    assert name is not None  # noqa: S101 - made by our own grammar; a test makes every row
    version = name.parsed_version
    return Candidate(
        name=project.name,
        version=version,
        kind=CandidateKind.WHEEL,
        link=Link(url, filename, project.sha256.get(url), found_in=FOUND_IN),
        tags=name.tags,
        built_for=BuiltFor(torch_of(project, version, build.torch), accelerator),
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
            link=Link(sdist.url, filename, sdist.sha256, found_in=FOUND_IN, requires_python=sdist.requires_python),
            requires_python=sdist.requires_python,
            requires=project.requires,
        )


def untagged_accelerator(project: Project, version: Version, platform: str) -> Optional[str]:
    """What a wheel on the package index without a local version was built for; None when it is not known.

    A version that serves every later torch (stable ABI) is only bound to the CUDA major.
    """
    if platform.startswith(("win", "macosx")):
        return "cpu"
    if not platform.endswith("x86_64"):
        return None
    release = torch_table().first_release_with(project.name, version.public)
    if release is None or release.untagged is None:
        return None
    accelerator = parse_accelerator(release.untagged)
    pin = project.pins.get(version.public, "")
    if accelerator is not None and accelerator.kind == "cuda" and pin.startswith(">="):
        return f"cu{accelerator.version[0]}"
    return release.untagged


def torch_of(project: Project, version: Version, found: Optional[str]) -> Optional[str]:
    """The torch that a wheel belongs to: its pin where the project pins, else what name and directory say."""
    pin = project.pins.get(version.public)
    if pin is None:
        return found
    return pin[2:] if pin.startswith("==") and "*" not in pin else pin


def known_elsewhere(project: Project, environment: Environment, host: HostEntry) -> Tuple[str, ...]:
    """Versions that a host has for this torch and accelerator, with addresses that only its page knows."""
    torch = environment.torch
    if torch is None or host.layout is Layout.PYPI:
        return ()
    minor = torch.runtime_version.split(".")[:2]
    found: Set[str] = {
        build.version
        for build in project.builds
        if build.host == host.host
        and build.torch.split(".")[:2] == minor
        and torch.accelerator in build.accelerators
        and environment.interpreter.platform.split("_")[-1] in build.platform
    }
    versions: List[str] = sorted(found, key=Version)
    return tuple(versions)
