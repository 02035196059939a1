"""The search for the wheels of one project: what was found, and what each host answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterable, List, Optional, Sequence, Set

from packaging.specifiers import SpecifierSet

from safe_install.index.facts import HostEntry, Project
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    HostAnswer,
    HostAnswerKind,
    Link,
    TorchBuild,
)
from safe_install.tags import container_of_name, container_of_version, parse_release

IsWanted = Callable[[Candidate, Project], bool]


class Search:
    """The search for one project so far."""

    def __init__(self, project: Project, environment: Environment, wanted: IsWanted) -> None:
        """`wanted`: would this wheel be installed? One such wheel satisfies the search."""
        self.project = project
        self.environment = environment
        self.candidates: List[Candidate] = []
        self.answers: List[HostAnswer] = []
        self.satisfied = False
        self._wanted = wanted
        self._urls: Set[str] = set()

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add candidates. A file whose address was added before is skipped."""
        for candidate in candidates:
            if candidate.link.url in self._urls:
                continue
            self._urls.add(candidate.link.url)
            self.candidates.append(candidate)
            if candidate.kind is not CandidateKind.SDIST and self._wanted(candidate, self.project):
                self.satisfied = True

    def add_answer(
        self,
        host: HostEntry,
        url: str,
        kind: HostAnswerKind,
        detail: str,
        *,
        is_offline: bool = False,
    ) -> None:
        """Record what a host answered, or why it was not asked. `is_offline`: no host may be asked."""
        answer = HostAnswer(self.project.name, host.host, url, kind, detail, is_offline=is_offline)
        self.answers.append(answer)

    def unanswered(self) -> List[str]:
        """The hosts that were not asked or did not answer."""
        missing = (HostAnswerKind.DOWN, HostAnswerKind.NOT_ASKED)
        return [answer.host for answer in self.answers if answer.kind in missing]


def assume_torch(candidate: Candidate, environment: Environment) -> Candidate:
    """A file from the user's own places. If its name has no torch, it is taken to be for the
    installed one.

    pip would install it, too, and the check after the change tries it.
    """
    built, torch = candidate.built_for, environment.torch
    if candidate.kind is CandidateKind.SDIST or torch is None or built.torch is not None:
        return candidate
    release = torch.runtime_version.partition("+")[0]
    assumed = replace(built, torch=release, accelerator=built.accelerator or torch.accelerator)
    return replace(candidate, built_for=assumed)


def tags_fit(environment: Environment) -> IsWanted:
    """A check whether a wheel is for this interpreter."""
    supported = frozenset(environment.interpreter.tags)
    return lambda candidate, project: bool(candidate.tags & supported)


def is_near(candidate: Candidate, search: Search) -> bool:
    """Is it for the minor version of the installed torch, as far as that is known?"""
    torch, built = search.environment.torch, candidate.built_for.torch
    if torch is None:
        return True
    if candidate.kind is CandidateKind.SDIST:
        return search.project.recipe is not None
    if built is None:
        return not search.project.pins_torch
    container = container_of_version(torch.runtime_version)
    built_container = container_of_name(built)
    if container is not None or built_container is not None:
        return container == built_container
    release = parse_release(torch.runtime_version)
    if built[:1] in "<>=!~":
        return release is not None and SpecifierSet(built).contains(release, prereleases=True)
    return built.split(".")[:2] == torch.runtime_version.split(".")[:2]


def describe_near_files(number: int, torch: Optional[TorchBuild]) -> str:
    """How many files of a page are near: of any Python, machine and accelerator, and also those of
    which the torch is not known."""
    if torch is None:
        return f"{number} files"
    release = parse_release(torch.runtime_version)
    if release is None:
        return f"{number} files that may be for this torch"
    return f"{number} files that may be for torch {release.major}.{release.minor}"


def describe_other_files(found: Sequence[Candidate], links: Sequence[Link]) -> str:
    """What a page has, if it has nothing for the installed torch: `it has files for torch 2.8`."""
    torches = sorted({c.built_for.torch for c in found if c.built_for.torch})
    if torches:
        return f"it has files for torch {', '.join(torches[-6:])}"
    return f"the page lists {len(links)} files, none of this project"
