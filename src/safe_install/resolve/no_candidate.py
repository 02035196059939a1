"""The message where nothing fits: the rejections, and which host may have more. Pure."""

from __future__ import annotations

from typing import (
    Dict,
    Sequence,
)

from safe_install.models import (
    HostAnswer,
    HostAnswerKind,
    Rejection,
    Rule,
)
from safe_install.resolve.compatibility import Context, name_for
from safe_install.resolve.hints import is_settled

_ANSWER_TEXT = {
    HostAnswerKind.LISTED: "has none that fits",
    HostAnswerKind.DOWN: "does not answer",
    HostAnswerKind.PAGE_MISSING: "has no page for this torch",
    HostAnswerKind.PAGE_EMPTY: "its page is empty",
    HostAnswerKind.NO_WHEEL_FOR_TORCH: "has no wheel for this torch",
    HostAnswerKind.NOT_ASKED: "was not asked",
    HostAnswerKind.LEFT_OUT: "was not asked",
}


def where_else(contexts: Sequence[Context]) -> str:
    """A hint where the requested name itself is wrong: the name for this CUDA, or the right
    source."""
    sentences = []
    for context in contexts:
        project, torch = context.project, context.environment.torch
        other = name_for(project, torch, context.catalog) if torch is not None else None
        if other is not None and other != project.name:
            sentences.append(f"{other} is the name of it for {torch.accelerator if torch else ''}")
        elif project.source is not None:
            note = f" ({project.source.note})" if project.source.note else ""
            # A build from a repository must use the installed torch, not one of its own.
            flag = "--no-build-isolation " if "@" in project.source.install else ""
            sentences.append(
                f"Install what was meant: safe-install {flag}'{project.source.install}'{note}"
            )
    return "; ".join(sentences)


def is_undecided(context: Context, answers: Sequence[HostAnswer]) -> bool:
    """Might a host have a fitting file, that did not answer or was not asked?"""
    return any(answer.gap for answer in answers) and not is_settled(context)


def render_answer(answer: HostAnswer) -> str:
    """What a host answered, where nothing fits."""
    detail = f" ({answer.detail})" if answer.detail else ""
    return f"{_ANSWER_TEXT[answer.kind]}{detail}"


def describe_failure(
    name: str, context: Context, answers: Sequence[HostAnswer], rejections: Sequence[Rejection]
) -> str:
    """One paragraph: what was requested, what each host answered, and which rules rejected the
    files."""
    torch, interpreter = context.environment.torch, context.environment.interpreter
    here = f"torch {torch.runtime_version}" if torch else "no torch"
    what = f"{name}{context.specifier}"
    machine = f"{here}, Python {interpreter.version}, {interpreter.platform}"
    silent = next((one for one in rejections if one.rule is Rule.HOST_DOWN), None)
    if silent is not None:
        lines = [f"{name} {silent.candidate.version} fits {machine}, and {silent.detail}"]
    elif is_undecided(context, answers):
        lines = [f"no {what} that fits {machine} is known here"]
    else:
        lines = [f"no {what} fits {machine}"]
    if context.project.package_index.note:
        lines.append(f"  {context.project.package_index.note}")
    left_out = [answer.host for answer in answers if answer.kind is HostAnswerKind.LEFT_OUT]
    for answer in answers:
        if answer.kind is HostAnswerKind.LEFT_OUT:
            continue
        lines.append(f"  {answer.host}: {render_answer(answer)}")
    if left_out:
        lines.append(f"  asked only with --third-party HOST: {', '.join(left_out)}")
    counts: Dict[Rule, int] = {}
    for rejection in rejections:
        counts[rejection.rule] = counts.get(rejection.rule, 0) + 1
    if counts:
        known = ", ".join(f"{count} by {rule.value}" for rule, count in counts.items())
        lines.append(f"  rejected: {known}")
    return "\n".join(lines)
