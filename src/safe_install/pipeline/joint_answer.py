"""Which torch has all requested extensions? Answered for `explain`, without a plan of pip and
without any change."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple, TypedDict

from packaging.requirements import Requirement

from safe_install.errors import NoCandidate
from safe_install.index.facts import Catalog, Project
from safe_install.index.local_pages import project_page
from safe_install.index.torch_files import Absent
from safe_install.models import Action, Environment, Interpreter, Rule, Step, TorchBuild
from safe_install.pipeline.choice import Chooser, TorchSource
from safe_install.pipeline.joint_choice import JointChoice
from safe_install.redaction import redact, redact_words
from safe_install.resolve import decisions
from safe_install.resolve.accelerator import is_listed_kind
from safe_install.resolve.compatibility import Context
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.no_candidate import where_else
from safe_install.resolve.provider import Resolution
from safe_install.resolve.request import PIP_INDEX
from safe_install.resolve.torch_change import AskedOfTorch
from safe_install.resolve.torch_choice import TorchChoice, add_hint, passed_over_as_absent
from safe_install.resolve.torch_conflict import (
    Conflict,
    TorchRow,
    describe_conflict,
    describe_ways,
    find_conflict,
    make_record,
    met_by_torch,
    wish_for,
    wishes_of,
    without_wishes,
)
from safe_install.resolve.torch_options import with_passed_over
from safe_install.resolve.torch_ranking import TorchOption, TorchTerms, rank_torches
from safe_install.resolve.torches_not_taken import (
    group_reasons,
    list_not_taken,
    nearest_of_each_release,
)
from safe_install.torch_family import TORCH

PYTORCH = "https://download.pytorch.org/whl"
WhyAbsent = Callable[[TorchBuild, Interpreter], Optional[Absent]]


def on_pypi(build: TorchBuild, interpreter: Interpreter) -> Optional[Absent]:
    """A WhyAbsent where pip searches pypi.org itself."""
    return None


@dataclass(frozen=True)
class Question:
    """A request for torch and extensions, for this machine or another one."""

    extensions: Tuple[Requirement, ...]
    torch: Tuple[Requirement, ...] = ()  # requirements on torch
    accelerator: str = ""  # the requested one; "": the driver decides
    pre: bool = False
    no_build: bool = False
    # the option because of which no host is asked, --offline or --no-index; "": they are
    forbidden_by: str = ""
    index_url: str = PIP_INDEX  # where pip looks first
    place_words: Tuple[str, ...] = ()  # the options that say so on the command line


@dataclass(frozen=True)
class JointAnswer:
    """The chosen torch, and a file for each extension."""

    torch: TorchOption
    resolution: Resolution
    options: Tuple[TorchOption, ...]  # every build, in order of preference
    choice: TorchChoice  # why each other build was passed over


def answer_jointly(
    question: Question,
    here: Environment,
    catalog: Catalog,
    chooser: Chooser,
    torch_source: TorchSource,
    *,
    why_absent: WhyAbsent = on_pypi,
) -> JointAnswer:
    """The best torch that has every extension. Errors: NoCandidate with the requirements that
    exclude each other.

    `why_absent`: why a build of pypi.org is not on the index that pip searches instead."""
    _refuse_unlisted(question, catalog)
    wanted = Wanted((), no_build=question.no_build, torch=_terms_of(question))

    def resolve(selection: Selection, *, allow_build: bool = False) -> Resolution:
        extensions = tuple(selection.extensions.values())
        return chooser.choose(extensions, selection.planned, allow_build=allow_build)

    joint = JointChoice(
        wanted,
        catalog,
        chooser,
        torch_source,
        resolve=resolve,
        check_torch=lambda torch: None,
        finds_files=False,
        offline=bool(question.forbidden_by),
    )
    selection = decisions.add_extensions(Selection(here, here), question.extensions)
    selection = _without_absent(selection, joint.rank(selection), why_absent)
    try:
        chosen, resolution = joint.choose(selection)
    except NoCandidate as error:
        conflict = _find_conflict(joint, selection, wanted.torch, catalog)
        raise _with_conflict(error, conflict, selection, question, catalog) from error
    if not question.no_build:
        # Again with builds allowed: the same wheels, but "no build" is no reason any more.
        resolution = resolve(chosen, allow_build=True)
    options = joint.rank(selection)
    torch = chosen.planned.torch
    taken = next(option for option in options if option.build == torch)
    return JointAnswer(taken, resolution, options, chosen.torch_choice)


def _without_absent(
    selection: Selection, options: Sequence[TorchOption], why_absent: WhyAbsent
) -> Selection:
    """The selection without the builds that pip's index does not have. Errors: NoCandidate where it
    has none of them."""
    permitted = [option for option in options if option.excluded is None]
    absent: List[Tuple[TorchOption, Absent]] = []
    for option in permitted:
        found = why_absent(option.build, selection.here.interpreter) if option.is_on_index else None
        if found is not None:
            absent.append((option, found))
            selection = with_passed_over(selection, passed_over_as_absent(option.build, found))
    if permitted and len(absent) == len(permitted):
        option, found = next((pair for pair in absent if pair[1].remedy), absent[0])
        raise NoCandidate(f"torch {option.release}: {found.reason}", hint=found.remedy)
    return selection


def _find_conflict(
    joint: JointChoice, selection: Selection, terms: TorchTerms, catalog: Catalog
) -> Optional[Conflict]:
    """The wishes that exclude each other, by bundled facts and pages that were read; None where a
    torch meets them all. Requirements on torch are wishes, too."""
    options: Dict[str, TorchOption] = {}
    absent = {one.version for one in selection.torch_choice.passed_over}
    for accelerator in dict.fromkeys((terms.accelerator, "")):
        freed = without_wishes(terms, accelerator=accelerator)
        for option in rank_torches(None, freed, selection.here, catalog):
            if option.excluded is None and option.version not in absent:
                options.setdefault(option.version, option)
    rows = [_make_row(joint, selection, option, terms) for option in options.values()]
    wishes = wishes_of(terms, selection.extensions.values(), selection.here.torch)
    return find_conflict(wishes, rows)


def _make_row(
    joint: JointChoice, selection: Selection, option: TorchOption, terms: TorchTerms
) -> TorchRow:
    met = set(met_by_torch(option.build, terms, selection.here.torch))
    unknown = set()
    for name, is_known in joint.find_each(selection, option).items():
        wish = wish_for(selection.extensions[name])
        if is_known:
            met.add(wish)
        elif is_known is None:
            unknown.add(wish)
    return TorchRow(option.build.runtime_version, frozenset(met), frozenset(unknown))


def _refuse_unlisted(question: Question, catalog: Catalog) -> None:
    """Refuse an accelerator of a kind whose builds the bundled facts do not list (ROCm, XPU).
    Errors: NoCandidate."""
    if question.accelerator and not is_listed_kind(question.accelerator, catalog.torch):
        raise NoCandidate(
            f"which torch there is for {question.accelerator} is not known here",
            hint=f"If there is any, this page has it: {PYTORCH}/{question.accelerator}/torch/",
        )


def _terms_of(question: Question) -> TorchTerms:
    texts = tuple(str(requirement) for requirement in question.torch)
    asked = AskedOfTorch(texts, accelerator=question.accelerator)
    return TorchTerms(question.torch, (), question.pre, asked, question.accelerator)


# --- the answer as text and JSON ------------------------------------------------------------------


def step_of_torch(answer: JointAnswer, question: Question, environment: Environment) -> Step:
    """The step that would install torch. Which of its files it installs is pip's decision."""
    installed = environment.torch
    because = "requested" if question.torch else f"{question.extensions[0].name} needs one"
    return Step(
        Action.ADD if installed is None else Action.REPLACE,
        TORCH,
        answer.torch.version,
        from_version=None if installed is None else str(installed.version),
        requested=bool(question.torch),
        because=because,
    )


class ChosenTorchRow(TypedDict):
    """The chosen torch, as JSON values."""

    version: str
    accelerator: str
    is_on_index: bool
    page: str
    warning: str


class NotTakenRow(TypedDict):
    """A build that was not taken, as JSON values."""

    torch: str
    reason: str


class NotTakenReleasesRow(TypedDict):
    """Consecutive releases that were not taken for the same reason, as JSON values."""

    torch: List[str]
    reason: str


class AnswerDetails(TypedDict):
    """The answer, as JSON values."""

    torch: ChosenTorchRow
    not_taken: List[NotTakenRow]
    not_taken_releases: List[NotTakenReleasesRow]
    command: str  # to type


def describe_answer(answer: JointAnswer, question: Question) -> AnswerDetails:
    """The chosen torch, why each better-ranked one was not chosen, and the command to type, as JSON
    values."""
    torch = answer.torch
    rows = list_not_taken(answer.options, answer.choice, torch)
    groups = group_reasons(nearest_of_each_release(answer.options, rows))
    releases: List[NotTakenReleasesRow] = []
    for versions, reason in groups:
        releases.append({"torch": list(versions), "reason": reason})
    return {
        "torch": {
            "version": torch.build.runtime_version,
            "accelerator": torch.build.accelerator,
            "is_on_index": torch.is_on_index,
            "page": _page_of(torch, question),
            "warning": torch.warning,
        },
        "not_taken": [{"torch": row.version, "reason": row.reason} for row in rows],
        "not_taken_releases": releases,
        "command": _command(torch, question),
    }


def _page_of(torch: TorchOption, question: Question) -> str:
    return (
        redact(project_page(question.index_url, TORCH))
        if torch.is_on_index
        else f"{PYTORCH}/{torch.build.accelerator}/torch/"
    )


def _command(torch: TorchOption, question: Question) -> str:
    """The command line that installs the answer."""
    words = ["safe-install"]
    if not torch.is_on_index or question.accelerator:
        words += ["--accelerator", torch.build.accelerator]
    if question.pre:
        words.append("--pre")
    words += redact_words(question.place_words)
    words.append(f"torch{_extras_of_torch(question)}=={torch.release}")
    words += [str(requirement) for requirement in question.extensions]
    return " ".join(shlex.quote(word) for word in words)


def _extras_of_torch(question: Question) -> str:
    """`[opt-einsum]`; "" for none."""
    extras = {extra for requirement in question.torch for extra in requirement.extras}
    return f"[{','.join(sorted(extras))}]" if extras else ""


def _with_conflict(
    error: NoCandidate,
    conflict: Optional[Conflict],
    selection: Selection,
    question: Question,
    catalog: Catalog,
) -> NoCandidate:
    """The error with the requirements that exclude each other, in place of what the first torch
    lacks.

    `conflict` None: the bundled facts know a torch that has them all, but its hosts did not answer.
    """
    # A source is no answer to a question for wheels, but builds are not forbidden either.
    rejections = [
        one for one in error.rejections if question.no_build or one.rule is not Rule.NO_BUILD
    ]
    if conflict is None:
        error.rejections = tuple(rejections)
        if not question.forbidden_by:
            known = "The bundled facts know a wheel that no page lists: --offline shows it."
            if error.is_open:
                known = add_hint(
                    _try_again(error.silent_hosts), "See what is known here with --offline."
                )
            error.hint = known
        return error
    # Without wishes no torch is built for this machine at all; the error's own hint says so.
    hints = [describe_ways(conflict, question.extensions) if conflict.wishes else error.hint]
    hints += _find_ways(conflict, selection.here, question, catalog, error.silent_hosts)
    message = describe_conflict(conflict, _describe_machine(selection.here))
    named = NoCandidate(message, hint=" ".join(filter(None, hints)), rejections=rejections)
    named.projects, named.is_open = error.projects, conflict.is_open
    named.details = {"conflict": make_record(conflict)}
    return named


def _find_ways(
    conflict: Conflict,
    here: Environment,
    question: Question,
    catalog: Catalog,
    silent_hosts: Sequence[str],
) -> List[str]:
    """Ways out other than leaving something out: another name, a build, the hosts."""
    names = [one.name for one in question.extensions if wish_for(one) in conflict.wishes]
    projects = [catalog.project(name) for name in names]
    hints = [where_else([Context(project, here, catalog) for project in projects])]
    if projects and not question.no_build and all(_can_be_built(one, question) for one in projects):
        hints.append(
            f"Or leave {' and '.join(names)} to safe-install, which builds from source where no "
            "wheel fits."
        )
    if conflict.is_open:
        ask = f"Leave {question.forbidden_by} out to ask the hosts."
        hints.append(ask if question.forbidden_by else _try_again(silent_hosts))
    return hints


def _try_again(silent_hosts: Sequence[str]) -> str:
    if not silent_hosts:
        return "Try again when its host answers."
    if len(silent_hosts) == 1:
        return f"Try again when {silent_hosts[0]} answers."
    return f"Try again when these hosts answer: {', '.join(silent_hosts)}."


def _can_be_built(project: Project, question: Question) -> bool:
    """Is there a recipe that does not need CUDA beside a torch for the CPU?"""
    recipe = project.recipe
    return recipe is not None and not (recipe.cuda_only and question.accelerator == "cpu")


def _describe_machine(environment: Environment) -> str:
    interpreter, driver = environment.interpreter, environment.driver
    python = ".".join(interpreter.version.split(".")[:2])
    parts = [f"Python {python}", interpreter.platform]
    if driver is not None and (driver.version or driver.cuda):
        parts.append(
            f"driver {driver.version}" if driver.version else f"a driver for CUDA {driver.cuda}"
        )
    if driver is not None:
        parts += [f"GPU {device.compute_capability}" for device in driver.devices]
    return ", ".join(dict.fromkeys(parts))
