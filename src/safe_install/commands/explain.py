"""`safe-install explain REQ...`: which file would be chosen, from where, and which rule rejected
each other file.

Where torch is installed, or named with --torch: the files for that torch. Else: the torch that has
all extensions, and its files.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Iterator, Mapping, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.errors import NoCandidate, UsageError
from safe_install.index.catalog import bundled_catalog, known_projects
from safe_install.index.facts import Catalog
from safe_install.index.local_pages import is_local
from safe_install.models import (
    Environment,
    Finding,
    HostAnswerKind,
    InstallResult,
    Origin,
    Outcome,
    Plan,
    Severity,
    Step,
)
from safe_install.pipeline.choice import ChoiceOptions, IndexChooser, make_choice_options
from safe_install.pipeline.choice_text import cpu_fallback_notes
from safe_install.pipeline.joint_answer import (
    Question,
    answer_jointly,
    describe_answer,
    on_pypi,
    step_of_torch,
)
from safe_install.pipeline.session import environment_asked_for, error_context
from safe_install.ports import Timings, World
from safe_install.redaction import redact
from safe_install.resolve.accelerator import choose_accelerator, with_known_accelerator
from safe_install.resolve.explain_request import ExplainRequest
from safe_install.resolve.hints import silent_hosts
from safe_install.resolve.plan import applies, explained, steps_of_pins
from safe_install.resolve.provider import Resolution
from safe_install.resolve.request import PIP_INDEX, InstallRequest
from safe_install.resolve.spelling import refuse_misspelled
from safe_install.resolve.target import notes_for
from safe_install.resolve.torch_fit import (
    check_torch,
    known_code,
    missed_devices,
    toolkit_limits,
)
from safe_install.system.credentials import Credentials
from safe_install.tags import parse_device_capabilities
from safe_install.torch_family import TORCH


@dataclass(frozen=True)
class _Chosen:
    """The result of the choice."""

    beside: Environment  # with the torch that the files are for
    resolution: Resolution
    steps: Tuple[Step, ...]
    details: Mapping[str, object] = field(default_factory=dict)
    findings: Tuple[Finding, ...] = ()
    silent_hosts: Tuple[str, ...] = ()  # because of which it is that of the bundled facts


def explain(request: ExplainRequest, world: World) -> InstallResult:
    """The choice for this environment, or for another machine. Nothing is changed and no wheel is
    downloaded.

    Errors: NoCandidate (exit 10) with every rejection and what each host answered, or with the
    requirements that exclude each other; UsageError for an unknown project.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment = environment_asked_for(
            request.own,
            world,
            torch=request.torch,
            python_version=request.python_version,
            platform=request.platform,
            cxx11_abi=request.cxx11_abi,
            needs_torch=False,
        )
    question = _make_question(request, environment)
    _refuse_unknown(question.extensions)
    # Nothing is downloaded: what is known of a silent host is an answer, too.
    options = dataclasses.replace(make_choice_options(request.install), trusts_facts=True)
    chooser = IndexChooser(options, world, Credentials(request.install.index_urls))
    with error_context(environment), timings.stage("resolve"):
        if _torch_is_given(question, request, environment):
            chosen = _choose_beside(environment, question, request, chooser)
        else:
            chosen = _choose_torch_or_by_facts(environment, question, options, chooser, world)
    plan = Plan(chosen.steps, chosen.resolution.rejections, chosen.resolution.answers)
    findings = cpu_fallback_notes(chosen.resolution.pins, chosen.resolution.answers, chosen.beside)
    findings += (*chosen.findings, *_unknown_wheels(plan))
    findings += tuple(_note_silent(chosen.silent_hosts or silent_hosts(plan.answers)))
    return InstallResult(
        "explain",
        Outcome.EXPLAINED,
        0,
        environment,
        plan,
        findings=findings,
        timings=timings.total(),
        details=chosen.details,
    )


def _make_question(request: ExplainRequest, environment: Environment) -> Question:
    """The question about torch and extensions. Errors: UsageError."""
    own = with_known_accelerator(request.own, bundled_catalog().torch)
    meant = [one for one in request.requirements if applies(one, environment)]
    on_torch = tuple(one for one in meant if canonicalize_name(one.name) == TORCH)
    for requirement in on_torch:
        if requirement.url:
            raise UsageError(
                f"{requirement}: names the file of torch, so that there is nothing to choose",
                hint="Name its version instead: torch==2.13.0+cu130.",
            )
    return Question(
        extensions=tuple(one for one in meant if canonicalize_name(one.name) != TORCH),
        torch=on_torch,
        accelerator=choose_accelerator(own, on_torch, environment.torch),
        pre=request.install.pre,
        no_build=own.no_build,
        forbidden_by=_option_against_hosts(request.install),
        index_url=request.install.index_url or PIP_INDEX,
        place_words=request.place_words,
    )


def _option_against_hosts(install: InstallRequest) -> str:
    """The option because of which no host is asked; "" where they are."""
    if install.own.offline:
        return "--offline"
    return "--no-index" if install.no_index else ""


def _torch_is_given(question: Question, request: ExplainRequest, environment: Environment) -> bool:
    """Does the installed torch, or that of --torch, meet the requirements on torch? As with pip, it
    then stays.

    Errors: UsageError where --torch does not meet them.
    """
    torch = environment.torch
    if torch is None:
        return False
    is_meant = not question.accelerator or question.accelerator == torch.accelerator
    excluding = [
        one for one in question.torch if not one.specifier.contains(torch.version, prereleases=True)
    ]
    if request.torch is None:
        return is_meant and not excluding
    if excluding or not is_meant:
        wish = str(excluding[0]) if excluding else f"--accelerator {question.accelerator}"
        raise UsageError(f"{wish}: --torch says {request.torch}", hint="Leave one of the two out.")
    return True


def _choose_beside(
    environment: Environment, question: Question, request: ExplainRequest, chooser: IndexChooser
) -> _Chosen:
    """The files for the installed torch, or for that of --torch."""
    # Installed extensions are ignored: the question is which file would be chosen.
    bare = dataclasses.replace(environment, installed={})
    resolution = chooser.choose(question.extensions, bare)
    findings: Tuple[Finding, ...] = ()
    if request.torch:
        findings = _assumed(environment)
    elif question.torch and environment.torch is not None:
        detail = f"torch {environment.torch.runtime_version} is installed, and stays"
        findings = (Finding("torch-stays", Severity.NOTE, TORCH, detail),)
    return _Chosen(bare, resolution, _steps_of(resolution, question, bare), findings=findings)


def _choose_torch_or_by_facts(
    environment: Environment,
    question: Question,
    options: ChoiceOptions,
    chooser: IndexChooser,
    world: World,
) -> _Chosen:
    """As _choose_torch; where that fails and hosts were silent, the answer of the bundled facts.
    Errors: NoCandidate of the first choice."""
    try:
        return _choose_torch(environment, question, chooser, options)
    except NoCandidate as error:
        if options.offline or not error.silent_hosts:
            raise
        offline = dataclasses.replace(options, offline=True)
        by_facts = dataclasses.replace(question, forbidden_by="--offline")
        try:
            chosen = _choose_torch(environment, by_facts, IndexChooser(offline, world), offline)
        except NoCandidate:
            raise error from None
        return dataclasses.replace(chosen, silent_hosts=error.silent_hosts)


def _choose_torch(
    environment: Environment, question: Question, chooser: IndexChooser, options: ChoiceOptions
) -> _Chosen:
    """A torch that has all extensions, and its files. Errors: NoCandidate."""
    bare = dataclasses.replace(environment, installed={})
    catalog = bundled_catalog()
    pages = chooser.torch_pages
    why_absent = on_pypi if options.searches_pypi else pages.why_not_on_own_index
    answer = answer_jointly(question, bare, catalog, chooser, pages, why_absent=why_absent)
    beside = dataclasses.replace(bare, torch=answer.torch.build)
    steps = (
        step_of_torch(answer, question, environment),
        *_steps_of(answer.resolution, question, beside),
    )
    findings = check_torch(
        answer.torch.build, environment.driver, environment.interpreter, catalog=catalog
    )
    findings += (*_unknown_code(beside, catalog), *_assumed(beside), *_unasked_indexes(options))
    return _Chosen(beside, answer.resolution, steps, describe_answer(answer, question), findings)


def _steps_of(resolution: Resolution, question: Question, bare: Environment) -> Tuple[Step, ...]:
    named = {canonicalize_name(requirement.name) for requirement in question.extensions}
    return explained(steps_of_pins(resolution.pins, bare, requested=named), bare)


def _assumed(environment: Environment) -> Tuple[Finding, ...]:
    return tuple(
        Finding("assumed", Severity.NOTE, "environment", note) for note in notes_for(environment)
    )


def _unknown_code(environment: Environment, catalog: Catalog) -> Iterator[Finding]:
    """A note on the GPUs, declared or of this machine, for which the torch may have no code. What
    its CUDA toolkit cannot compile is known to be missing."""
    torch, driver = environment.torch, environment.driver
    if torch is None or torch.cuda is None or driver is None:
        return
    if known_code(torch.version, torch.accelerator, environment.interpreter, catalog.torch):
        return
    missed = missed_devices(toolkit_limits(torch.accelerator), driver)
    devices = parse_device_capabilities(device.compute_capability for device in driver.devices)
    names = ", ".join(str(device) for device in devices if device not in missed)
    if names:
        detail = f"whether torch {torch.runtime_version} has code for compute capability {names} is not known here"
        yield Finding("gpu-code-not-known", Severity.NOTE, TORCH, detail)


def _unasked_indexes(options: ChoiceOptions) -> Iterator[Finding]:
    """A note that pip's own index was not asked for torch."""
    far = [] if options.searches_pypi else [url for url in options.own_indexes if not is_local(url)]
    if options.offline and far:
        detail = f"torch: {redact(far[0])} was not asked (--offline): this is pypi.org's"
        hint = "Leave --offline out to ask it."
        yield Finding("index-not-asked", Severity.NOTE, TORCH, detail, hint)


def _refuse_unknown(requirements: Sequence[Requirement]) -> None:
    """Refuse a project that is not in the wheel index. Errors: UsageError."""
    refuse_misspelled(requirements, known=known_projects(), installed=())
    unknown = [
        one.name for one in requirements if canonicalize_name(one.name) not in known_projects()
    ]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: not in the wheel index, so pip chooses",
            hint="Known are: torch, " + ", ".join(sorted(known_projects())) + ".",
        )


def _unknown_wheels(plan: Plan) -> Iterator[Finding]:
    """Findings on source builds where a host that was not asked may have a wheel."""
    for step in plan.steps:
        if step.origin is not Origin.SDIST:
            continue
        for answer in plan.answers:
            if answer.project == step.name and answer.gap:
                was_down = answer.kind is HostAnswerKind.DOWN
                hint = (
                    f"Try again when {answer.host} answers."
                    if was_down
                    else "Leave --offline out to ask it."
                )
                detail = f"{step.name}: not known here whether {answer.host} has a wheel that fits: {answer.gap}"
                yield Finding("wheel-not-known", Severity.NOTE, step.name, detail, hint)


def _note_silent(hosts: Sequence[str]) -> Iterator[Finding]:
    """A note on each host that did not answer."""
    for host in hosts:
        detail = f"only what is known here of {host} counts: it does not answer"
        yield Finding("host-down", Severity.NOTE, host, detail, f"Try again when {host} answers.")
