"""One question to the hosts of a project: what was found so far, and what each of them said."""

from __future__ import annotations

from dataclasses import replace
from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    Sequence,
)

from packaging.specifiers import SpecifierSet

from safe_install.index.facts import (
    HostEntry,
    Project,
    parse_release,
)
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    HostAnswer,
    HostAnswerKind,
    Link,
)
from safe_install.tags import container_of_name, container_of_version

IsWanted = Callable[[Candidate, Project], bool]


class Search:
    """One project's search so far."""

    def __init__(self, project: Project, environment: Environment, wanted: IsWanted) -> None:
        self.project = project
        self.environment = environment
        self.candidates: List[Candidate] = []
        self.answers: List[HostAnswer] = []
        self.satisfied = False
        self._wanted = wanted
        self._urls: Dict[str, None] = {}

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Each file once, by its address."""
        for candidate in candidates:
            if candidate.link.url in self._urls:
                continue
            self._urls[candidate.link.url] = None
            self.candidates.append(candidate)
            if candidate.kind is not CandidateKind.SDIST and self._wanted(candidate, self.project):
                self.satisfied = True

    def answer(
        self,
        host: HostEntry,
        url: str,
        kind: HostAnswerKind,
        detail: str,
        *,
        is_offline: bool = False,
    ) -> None:
        """What a host said. `is_offline`: it was not asked, because no host may be."""
        answer = HostAnswer(self.project.name, host.host, url, kind, detail, is_offline=is_offline)
        self.answers.append(answer)

    def unanswered(self) -> List[str]:
        """The hosts that could not be asked."""
        missing = (HostAnswerKind.DOWN, HostAnswerKind.NOT_ASKED)
        return [answer.host for answer in self.answers if answer.kind in missing]


def _vouched_for(candidate: Candidate, environment: Environment) -> Candidate:
    """A file that the person points to and whose name does not say its torch is taken to be for
    theirs.

    pip would take it too; the check after the change has the last word.
    """
    built, torch = candidate.built_for, environment.torch
    if candidate.kind is CandidateKind.SDIST or torch is None or built.torch is not None:
        return candidate
    release = torch.runtime_version.partition("+")[0]
    assumed = replace(built, torch=release, accelerator=built.accelerator or torch.accelerator)
    return replace(candidate, built_for=assumed)


def tags_fit(environment: Environment) -> IsWanted:
    """Is it a file for this interpreter?"""
    supported = frozenset(environment.interpreter.tags)
    return lambda candidate, project: bool(candidate.tags & supported)


def is_near(candidate: Candidate, search: Search) -> bool:
    """For this torch's minor, as far as its host says for which torch it is."""
    torch, built = search.environment.torch, candidate.built_for.torch
    if torch is None:
        return True
    if candidate.kind is CandidateKind.SDIST:
        return search.project.recipe is not None
    if built is None:
        return not search.project.pins_torch
    container, built_container = (
        container_of_version(torch.runtime_version),
        container_of_name(built),
    )
    if container is not None or built_container is not None:
        return container == built_container
    release = parse_release(torch.runtime_version)
    if built[:1] in "<>=!~":
        return release is not None and SpecifierSet(built).contains(release, prereleases=True)
    return built.split(".")[:2] == torch.runtime_version.split(".")[:2]


def what_there_is(found: Sequence[Candidate], links: Sequence[Link]) -> str:
    """What a page has instead, in a few words."""
    torches = sorted({c.built_for.torch for c in found if c.built_for.torch})
    if torches:
        return f"it has files for torch {', '.join(torches[-6:])}"
    return f"the page lists {len(links)} files, none of this project"
