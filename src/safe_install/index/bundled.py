"""Candidates from the facts of the wheel index, for hosts that cannot be asked."""

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
    parse_release,
)

FOUND_IN = "bundled facts"
_ANY_VERSION = SpecifierSet()
_LOWER_BOUNDS = ("==", "===", "~=", ">=", ">")


def bundled_wheels(
    project: Project, environment: Environment, *, hosts: Sequence[str], only_near: bool = False
) -> Iterator[Candidate]:
    """The known wheels of `hosts` near the installed torch, newest first.

    - For this torch and accelerator: the wheels for every Python and platform.
    - For this torch and another accelerator: the newest version for this Python and platform.
    - If no wheel is known for this torch: the same for the nearest torch.

    All others would only be rejected for "another torch". `only_near`: only the wheels for this
    Python and platform.
    """
    torch = environment.torch
    if torch is None:
        return
    release = torch.runtime_version.partition("+")[0]
    base, accelerator = project.base_of(release, torch.accelerator)
    entries = {}
    for host in project.hosts:
        if host.host in hosts and host.wheel is not None:
            entries[host.host] = host
    rows = [build for build in project.builds if build.host in entries]
    near = _rows_near(rows, base, torch)
    for build in sorted(near, key=lambda build: Version(build.version), reverse=True):
        if only_near and not is_for_platform(build, environment.interpreter.platform):
            continue
        yield from _candidates_of_row(
            project, entries[build.host], build, environment, accelerator, only_near=only_near
        )


def _rows_near(rows: Sequence[Build], base: str, torch: TorchBuild) -> Sequence[Build]:
    """The rows for this torch; if there are none, those for the release nearest to `base`."""
    release = torch.runtime_version.partition("+")[0]
    container = container_of_version(torch.runtime_version)
    names = (base, release, minor_of(release), f"nv{container}")
    same = [build for build in rows if build.torch in names]
    if same:
        return same
    of_releases = [build for build in rows if container_of_name(build.torch) is None]
    if not of_releases:
        return ()
    nearest = nearest_torch(of_releases, base)
    return [build for build in rows if build.torch == nearest]


def has_builds_for(project: Project, torch: TorchBuild, specifier: SpecifierSet) -> bool:
    """Are any builds of these versions known for this release of torch? Python, machine and
    accelerator do not matter."""
    release = torch.runtime_version.partition("+")[0]
    base, _ = project.base_of(release, torch.accelerator)
    meant = (base, release, minor_of(release))
    versions = [build.version for build in project.builds if build.torch in meant]
    for version, pin in project.pins.items():
        if SpecifierSet(pin).contains(release, prereleases=True):
            versions.append(version)
    # The rows have no local versions, so these cannot be compared.
    has_local = "+" in str(specifier)
    return any(has_local or specifier.contains(one, prereleases=True) for one in versions)


def minor_of(release: str) -> str:
    """`2.8.1` -> `2.8`, the form in which some hosts name a torch."""
    return ".".join(release.split(".")[:2])


def nearest_torch(rows: Sequence[Build], wanted: str) -> str:
    """The newest torch among the rows that is not newer than `wanted`; if there is none, the oldest
    one."""
    known = sorted({Version(build.torch) for build in rows})
    try:
        before = [version for version in known if version <= Version(wanted)]
    except ValueError:
        before = []
    return str(before[-1] if before else known[0])


def _candidates_of_row(
    project: Project,
    host: HostEntry,
    build: Build,
    environment: Environment,
    accelerator: str,
    *,
    only_near: bool,
) -> Iterator[Candidate]:
    """The candidates of one row of the index. `accelerator`: that of the installed torch."""
    if build.platform == "macos":
        return  # the file name is only on the live page
    here = minor_of(environment.interpreter.version)
    is_same_machine = is_for_platform(build, environment.interpreter.platform)
    # torch's own accelerator comes first: a file that serves several is listed once, for the first.
    for own in sorted(build.accelerators, key=lambda own: _serves(own, accelerator), reverse=True):
        is_ours = _serves(own, accelerator)
        is_listed = is_ours or (is_same_machine and build.version == _newest(project, build, own))
        if not is_listed:
            continue
        pythons = build.python
        if build.abi is None and (only_near or not is_ours):
            pythons = tuple(python for python in pythons if python == here)
        for python in pythons:
            for abi in build.cxx11_abi or (None,):
                yield make_candidate(
                    project, host, build, accelerator=own, python=python, cxx11_abi=abi
                )


def _serves(own: str, accelerator: str) -> bool:
    """Is a wheel for `own` also for this accelerator? `cu12` is for every CUDA 12."""
    parsed = parse_accelerator(own)
    is_major_only = parsed is not None and parsed.major_only
    return own == accelerator or (is_major_only and is_same_major(own, accelerator))


def _newest(project: Project, build: Build, accelerator: str) -> str:
    """The newest version of the same host, torch and platform for an accelerator."""
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
    """The wheel of one row of the index for one accelerator, Python and C++ ABI. The host must have
    a template for its files."""
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
    """The known source distributions, newest first."""
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
    """The wheels that the index lists by their address."""
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


def versions_only_on_page(
    project: Project,
    environment: Environment,
    host: HostEntry,
    *,
    specifier: SpecifierSet = _ANY_VERSION,
) -> Tuple[str, ...]:
    """The versions that a host has for this torch, Python and machine, but whose file names are
    only on its page. Oldest first."""
    torch = environment.torch
    if torch is None or host.layout is Layout.PYPI:
        return ()
    minor = minor_of(torch.runtime_version)
    found = set()
    for build in project.builds:
        if build.host != host.host or minor_of(build.torch) != minor:
            continue
        if host.wheel is not None and build.platform != "macos":
            continue  # the template of the host makes the address
        if _fits(build, environment) and specifier.contains(build.version, prereleases=True):
            found.add(build.version)
    return tuple(sorted(found, key=Version))


def _fits(build: Build, environment: Environment) -> bool:
    """Is a row for this machine, Python and accelerator?"""
    torch, interpreter = environment.torch, environment.interpreter
    if not is_for_platform(build, interpreter.platform):
        return False
    if build.abi is None and minor_of(interpreter.version) not in build.python:
        return False
    if torch is None or interpreter.platform.startswith("macosx"):
        return True
    return any(_serves(own, torch.accelerator) for own in build.accelerators)


def gap_in_facts(
    project: Project,
    environment: Environment,
    host: HostEntry,
    *,
    specifier: SpecifierSet = _ANY_VERSION,
) -> str:
    """Why the facts cannot say what a host has for this torch and specifier; "" if they can.

    They can if all of this is true:
    - the host's rows are complete for this torch (`HostEntry.complete_to`), or the project has no
      wheels on the package index;
    - every row for this torch, Python and machine has its file name;
    - the specifier does not ask for a version newer than all rows.
    """
    if host.layout is Layout.PYPI:
        if project.package_index.holds is not Holds.WHEELS:
            return ""
        return "it may have files that are not known here"
    unlisted = versions_only_on_page(project, environment, host, specifier=specifier)
    if unlisted:
        return f"it has {', '.join(unlisted)} for this torch, its address is only on the live page"
    installed = environment.torch
    torch = None if installed is None else parse_release(installed.runtime_version)
    if torch is None:
        return "its files are known in part only"
    last = parse_release(host.complete_to or "")
    if last is None or torch.release[:2] > last.release[:2]:
        return f"its files for torch {torch} are known in part only"
    versions = [Version(build.version) for build in project.builds if build.host == host.host]
    newest = max(versions, default=Version("0"))
    if _asks_for_newer(specifier, newest):
        return f"versions after {newest} are not known here"
    return ""


def _asks_for_newer(specifier: SpecifierSet, newest: Version) -> bool:
    for part in specifier:
        if part.operator not in _LOWER_BOUNDS:
            continue
        bound = parse_release(part.version.replace(".*", ""))
        if bound is not None and bound > newest:
            return True
    return False
