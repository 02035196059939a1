"""Chooses extensions together, for a given torch. The only importer of resolvelib."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from resolvelib import (
    AbstractProvider,
    BaseReporter,
    ResolutionImpossible,
    ResolutionTooDeep,
    Resolver,
)

from safe_install.errors import NoCandidate, Refused
from safe_install.index.bundled import gap_in_facts
from safe_install.index.facts import Catalog, Project
from safe_install.index.filename import parse_local
from safe_install.models import (
    Candidate,
    Environment,
    HostAnswer,
    HostAnswerKind,
    Rejection,
    Rule,
)
from safe_install.requirements import applies
from safe_install.resolve.companions import installed_candidate
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.resolve.hints import Asked, choose_hint, silent_hosts
from safe_install.resolve.no_candidate import describe_failure, is_undecided, where_else
from safe_install.resolve.pip_settings import Formats
from safe_install.resolve.ranking import explain_loser, order_rejections, rank_fitting
from safe_install.tags import is_same_major

if TYPE_CHECKING:
    from safe_install.index.finder import Found  # the type only: this module uses no network

TORCH = canonicalize_name("torch")
MAX_ROUNDS = 500
Find = Callable[..., "Found"]


@dataclass(frozen=True)
class Resolution:
    """One candidate for each project, and why the others were not chosen."""

    # in the order of the request, then by name; installed ones are included
    pins: Tuple[Candidate, ...]
    rejections: Tuple[Rejection, ...]
    answers: Tuple[HostAnswer, ...]


class _Wish(NamedTuple):
    """A requirement and the candidate that has it; without one, the user's own."""

    requirement: Requirement
    parent: Optional[Candidate] = None

    @property
    def name(self) -> NormalizedName:
        return canonicalize_name(self.requirement.name)

    @property
    def source(self) -> str:
        return (
            str(self.requirement)
            if self.parent is None
            else f"{self.parent.name} {self.parent.version}"
        )


def resolve(
    requirements: Sequence[Requirement],
    environment: Environment,
    *,
    find: Find,
    catalog: Catalog,
    constraints: Sequence[Requirement] = (),
    pre: bool = False,
    allow_build: bool = True,
    is_elsewhere: bool = False,
    trusts_facts: bool = False,
    formats: Optional[Formats] = None,
    upgrade: Collection[str] = (),
    keep_version: Collection[str] = (),
) -> Resolution:
    """Choose one candidate for each project of the wheel index that the requirements name or depend
    on.

    Requirements on other distributions and URLs are ignored, because pip handles them. torch is the
    one of `environment`. `find(name, environment, wanted=...)` is `Finder.find`. `formats`:
    --only-binary and --no-binary. `is_elsewhere`: for a machine, or a torch, that is not here, so
    that nothing can be built for it. `trusts_facts`: a wheel of the bundled facts counts although its
    host does not answer. `upgrade`: projects whose installed version need not stay.
    `keep_version`: projects of which another build of the installed version is preferred to a newer
    version.
    Errors: Refused where torch itself would have to change; NoCandidate with every rejection and
    every host's answer.
    """
    wishes = [
        _Wish(requirement) for requirement in requirements if _applies(requirement, environment)
    ]
    _check_torch(wishes, environment)
    provider = _Provider(
        environment,
        find=find,
        catalog=catalog,
        constraints=[c for c in constraints if _applies(c, environment)],
        pre=pre,
        allow_build=allow_build,
        is_elsewhere=is_elsewhere,
        trusts_facts=trusts_facts,
        formats=formats or Formats(),
        upgrade=frozenset(map(canonicalize_name, upgrade)),
        keep_version=frozenset(map(canonicalize_name, keep_version)),
        wishes=wishes,
    )
    wanted = [wish for wish in wishes if wish.name in catalog.projects]
    provider.prefetch()
    try:
        result = Resolver(provider, BaseReporter()).resolve(wanted, max_rounds=MAX_ROUNDS)
    except (ResolutionImpossible, ResolutionTooDeep) as error:
        raise provider.failure(getattr(error, "causes", ())) from error
    return provider.resolution(result.mapping)


def is_known(
    requirement: Requirement,
    environment: Environment,
    *,
    find: Find,
    catalog: Catalog,
    constraints: Sequence[Requirement] = (),
    pre: bool = False,
) -> Optional[bool]:
    """Does `find` return a fitting wheel, and one for everything that it requires? None: a host
    that was not asked may have one.

    The answer of `resolve` without reasons, for questions about many torches.
    """
    wish = _Wish(requirement)
    if not _applies(requirement, environment) or wish.name not in catalog.projects:
        return True
    provider = _Provider(
        environment,
        find=find,
        catalog=catalog,
        constraints=[c for c in constraints if _applies(c, environment)],
        pre=pre,
        allow_build=False,
        is_elsewhere=False,
        trusts_facts=False,
        formats=Formats(),
        upgrade=(),
        keep_version=(),
        wishes=(wish,),
    )
    return provider.is_known(wish)


def _applies(requirement: Requirement, environment: Environment) -> bool:
    if requirement.url:
        return False
    markers = environment.interpreter.markers
    return not markers or applies(requirement, markers)


def _check_torch(wishes: Iterable[_Wish], environment: Environment) -> None:
    for wish in wishes:
        torch = environment.torch
        if wish.name != TORCH or torch is None:
            continue
        if not wish.requirement.specifier.contains(torch.version, prereleases=True):
            raise Refused(
                f"{wish.requirement} would change torch, installed is {torch.version}",
                hint="Name torch alone, or give --allow-torch-change.",
            )


class _Provider(AbstractProvider):  # type: ignore[type-arg,misc,unused-ignore]
    """The provider for resolvelib: answers its questions from the results of `find`."""

    def __init__(
        self,
        environment: Environment,
        *,
        find: Find,
        catalog: Catalog,
        constraints: Sequence[Requirement],
        pre: bool,
        allow_build: bool,
        is_elsewhere: bool,
        trusts_facts: bool,
        formats: Formats,
        upgrade: Collection[NormalizedName],
        keep_version: Collection[NormalizedName],
        wishes: Sequence[_Wish],
    ) -> None:
        self._environment = environment
        self._find = find
        self._catalog = catalog
        self._constraints = constraints
        self._pre = pre
        self._allow_build, self._is_elsewhere = allow_build, is_elsewhere
        self._trusts_facts = trusts_facts
        self._formats = formats
        self._upgrade = upgrade
        self._keep_version = keep_version
        self._roots = wishes
        self._found: Dict[Tuple[NormalizedName, str], Found] = {}
        self._last: Dict[NormalizedName, Tuple[Context, Found]] = {}

    # --- resolvelib's questions ---

    def identify(self, requirement_or_candidate: Any) -> NormalizedName:
        """The name of a requirement or candidate."""
        name: NormalizedName = requirement_or_candidate.name
        return name

    def get_preference(
        self, identifier: NormalizedName, *args: Any, **kwargs: Any
    ) -> Tuple[int, NormalizedName]:
        """The sort key: in the order of the request, then by name, so that the result is
        reproducible."""
        names = [wish.name for wish in self._roots]
        return (names.index(identifier) if identifier in names else len(names), identifier)

    def find_matches(
        self,
        identifier: NormalizedName,
        requirements: Mapping[Any, Iterator[_Wish]],
        incompatibilities: Any,
    ) -> Callable[[], Iterator[Candidate]]:
        """The candidates that fit, best first: what is installed, then those of the hosts, which
        are asked only if it cannot stay."""
        specifier = SpecifierSet()
        for wish in requirements[identifier]:
            specifier &= wish.requirement.specifier
        refused = {candidate.link.url for candidate in incompatibilities.get(identifier, ())}

        def matches() -> Iterator[Candidate]:
            installed = self._find_staying(identifier, specifier)
            if installed is not None and installed.link.url not in refused:
                yield installed
            for candidate in self._find_fitting(identifier, specifier):
                if candidate.link.url not in refused:
                    yield candidate

        return matches

    def _find_fitting(self, name: NormalizedName, specifier: SpecifierSet) -> List[Candidate]:
        context, found = self._look(name, specifier)
        keep_version = self._version_to_keep(name, context)
        return rank_fitting(found.candidates, context, keep_version=keep_version)

    def is_satisfied_by(self, requirement: _Wish, candidate: Candidate) -> bool:
        """Does the version fit? Everything else was checked when the candidate was found."""
        return bool(requirement.requirement.specifier.contains(candidate.version, prereleases=True))

    def get_dependencies(self, candidate: Candidate) -> List[_Wish]:
        """The candidate's requirements on projects of the wheel index that its metadata leaves out:
        torch-sparse needs torch-scatter."""
        found = []
        for text in candidate.requires:
            try:
                wish = _Wish(Requirement(text), candidate)
            except InvalidRequirement:
                continue
            if wish.name in self._catalog.projects and _applies(
                wish.requirement, self._environment
            ):
                found.append(wish)
        return found

    # --- facts ---

    def is_known(self, wish: _Wish) -> Optional[bool]:
        """Is there a wheel for the requirement, and for everything that it requires in turn? None:
        only a host can tell."""
        context, found = self._look(wish.name, wish.requirement.specifier)
        worst: Optional[bool] = None if is_undecided(context, found.answers) else False
        for candidate in found.candidates:
            if check_candidate(candidate, context) is not None:
                continue
            needed = [self.is_known(other) for other in self.get_dependencies(candidate)]
            if all(needed):
                return True
            if None in needed and False not in needed:
                worst = None
        return worst

    def prefetch(self) -> None:
        """Search for all requested projects that are not installed at the same time; the results
        are kept for later questions."""
        specifiers: Dict[NormalizedName, SpecifierSet] = {}
        for wish in self._roots:
            if wish.name in self._catalog.projects:
                specifiers[wish.name] = (
                    specifiers.get(wish.name, SpecifierSet()) & wish.requirement.specifier
                )
        asked = [
            (name, specifier)
            for name, specifier in specifiers.items()
            if self._find_staying(name, specifier) is None
        ]
        if len(asked) > 1:
            # Imported here because it takes 9 ms, and most requests name one project.
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(max_workers=min(8, len(asked))) as pool:
                list(pool.map(lambda item: self._look(*item), asked))

    def _constrained(self, name: NormalizedName, specifier: SpecifierSet) -> SpecifierSet:
        """The specifier together with those of the constraints."""
        for constraint in self._constraints:
            if canonicalize_name(constraint.name) == name:
                specifier = specifier & constraint.specifier
        return specifier

    def _look(self, name: NormalizedName, specifier: SpecifierSet) -> Tuple[Context, Found]:
        specifier = self._constrained(name, specifier)
        key = (name, str(specifier))
        if key not in self._found:

            def wanted(candidate: Candidate, project: Project) -> bool:
                return check_candidate(candidate, self._context(project, specifier)) is None

            self._found[key] = self._find(
                name, _as_asked_for(self._environment, specifier), wanted=wanted
            )
        found = self._found[key]
        found = replace(found, answers=self._with_gaps(found, specifier))
        self._last[name] = self._context(found.project, specifier, found.answers), found
        return self._last[name]

    def _with_gaps(self, found: Found, specifier: SpecifierSet) -> Tuple[HostAnswer, ...]:
        """The answers. For each host that was not asked or did not answer: what the bundled facts
        do not know about it."""
        hosts = {host.host: host for host in found.project.hosts}
        answers = []
        for answer in found.answers:
            is_open = answer.kind is HostAnswerKind.DOWN or answer.is_offline
            host = hosts.get(answer.host)
            if is_open and host is not None:
                gap = gap_in_facts(found.project, self._environment, host, specifier=specifier)
                answer = replace(answer, gap=gap)
            answers.append(answer)
        return tuple(answers)

    def _context(
        self, project: Project, specifier: SpecifierSet, answers: Sequence[HostAnswer] = ()
    ) -> Context:
        is_wheel_wanted = not self._formats.allows_source(project.name)
        down = {
            urlsplit(answer.url).hostname or ""
            for answer in answers
            if answer.kind is HostAnswerKind.DOWN and not self._trusts_facts
        }
        return Context(
            project,
            self._environment,
            self._catalog,
            specifier,
            pre=self._pre,
            allow_build=self._allow_build and not is_wheel_wanted,
            forbidden_by="--only-binary" if is_wheel_wanted else "--no-build",
            is_elsewhere=self._is_elsewhere,
            hosts_down=frozenset(down),
        )

    def _version_to_keep(self, name: NormalizedName, context: Context) -> Optional[str]:
        """The installed public version, where another build of it is preferred to a newer version;
        else None."""
        distribution = self._environment.installed.get(name)
        if distribution is None or name not in self._keep_version:
            return None
        candidate = installed_candidate(distribution, context.project, self._environment.torch)
        return candidate.version.public if candidate is not None else None

    def _find_staying(self, name: NormalizedName, specifier: SpecifierSet) -> Optional[Candidate]:
        """The installed version as a candidate, where it may stay and no rule rejects it; else
        None. No host is asked."""
        distribution = self._environment.installed.get(name)
        if distribution is None or name in self._upgrade:
            return None
        project = self._catalog.project(name)
        candidate = installed_candidate(distribution, project, self._environment.torch)
        context = self._context(project, self._constrained(name, specifier))
        if candidate is None or check_candidate(candidate, replace(context, pre=True)) is not None:
            return None
        return candidate

    # --- the result ---

    def resolution(self, mapping: Mapping[NormalizedName, Candidate]) -> Resolution:
        """The chosen candidates in the order of the request, and why the others were not chosen."""
        order = sorted(mapping, key=self.get_preference)
        pins = tuple(mapping[name] for name in order)
        rejections: List[Rejection] = []
        for pin in pins:
            if pin.name not in self._last:
                continue  # what is installed stays, and no host was asked
            context, found = self._last[pin.name]
            others = [c for c in found.candidates if c.link.url != pin.link.url]
            losers = [explain_loser(candidate, pin, context) for candidate in others]
            rejections += order_rejections(losers, self._environment)
        return Resolution(pins, tuple(rejections), self._answers(order))

    def _answers(self, names: Iterable[NormalizedName]) -> Tuple[HostAnswer, ...]:
        return tuple(
            answer for name in names if name in self._last for answer in self._last[name][1].answers
        )

    def failure(self, causes: Sequence[Any]) -> NoCandidate:
        """The error with the rejections and the hosts' answers for the projects in conflict."""
        wishes: List[_Wish] = [cause.requirement for cause in causes] or list(self._roots)
        names = list(dict.fromkeys(wish.name for wish in wishes if wish.name in self._last))
        asked = [self._ask_why(name) for name in names]
        rejections = [rejection for one in asked for rejection in one.rejections]
        lines = [
            describe_failure(name, one.context, one.answers, one.rejections)
            for name, one in zip(names, asked)
        ]
        sources = list(dict.fromkeys(wish.source for wish in wishes))
        message = "\n".join(lines) or f"no version satisfies {', '.join(sources)}"
        if len(sources) > 1:
            message += f"\nwanted by {', '.join(sources)}"
        error = NoCandidate(message, hint=self._find_hint(asked), rejections=rejections)
        error.projects = tuple(names)
        error.is_open = any(is_undecided(one.context, one.answers) for one in asked)
        error.silent_hosts = silent_hosts(answer for one in asked for answer in one.answers)
        return error

    def _find_hint(self, asked: Sequence[Asked]) -> str:
        if self._environment.torch is None:
            return "Install torch first: its extensions are built for one torch."
        return where_else([one.context for one in asked]) or choose_hint(asked)

    def _ask_why(self, name: NormalizedName) -> Asked:
        """The rejections of a project's files, and the hosts' answers."""
        context, found = self._last[name]
        rejected = []
        for candidate in found.candidates:
            rejection = check_candidate(candidate, context)
            if rejection is None:
                rejection = Rejection(candidate, Rule.CONFLICT, "excluded by another requirement")
            rejected.append(rejection)
        ordered = tuple(order_rejections(rejected, self._environment))
        return Asked(context, found.candidates, ordered, found.answers)


def _as_asked_for(environment: Environment, specifier: SpecifierSet) -> Environment:
    """The environment whose pages are searched. Where a whole build is requested
    (`==2.1.2+pt213cpu`), it has the accelerator of that build."""
    torch = environment.torch
    if torch is None:
        return environment
    for part in specifier:
        if part.operator in ("==", "===") and "+" in part.version:
            accelerator = parse_local(part.version.partition("+")[2]).accelerator
            if accelerator is not None and not is_same_major(accelerator, torch.accelerator):
                return replace(environment, torch=replace(torch, accelerator=accelerator))
    return environment
