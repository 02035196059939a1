"""The text of `explain`: the chosen torch, the file of each extension, and why each other one was
not chosen."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from safe_install.cli.terminal import one_line, printable
from safe_install.models import Origin, Plan, Rejection, Step
from safe_install.torch_family import TORCH

FEW_VERSIONS = 3


def render_rejections(rejections: Sequence[Rejection], limit: Optional[int] = None) -> List[str]:
    """A line for each rejected candidate with its rule, in the given order. Past `limit`: a count
    for each rule."""
    shown = rejections if limit is None else rejections[:limit]
    lines = [
        one_line(f"  {item.candidate.link.filename}: {item.rule.value}: {item.detail}")
        for item in shown
    ]
    rest = rejections[len(shown) :]
    if rest:
        counts: Dict[str, int] = {}
        for item in rest:
            counts[item.rule.value] = counts.get(item.rule.value, 0) + 1
        told = ", ".join(f"{count} by {rule}" for rule, count in sorted(counts.items()))
        lines.append(f"  and {len(rest)} more: {told} (all with --json)")
    return lines


def explained_lines(plan: Plan, details: Mapping[str, Any], *, verbose: bool = False) -> List[str]:
    """Each file, and why each other one was not chosen. Where torch is chosen, too, the rejected
    files are shown only with `verbose`."""
    is_short = "torch" in details and not verbose
    lines: List[str] = []
    for step in plan.steps:
        if step.name == TORCH:
            lines += _torch_lines(step, details, verbose=verbose)
        else:
            lines += _extension_lines(step, plan)
        if not is_short:
            lines += _rejection_lines(step, plan, verbose=verbose)
    if details.get("command"):
        lines.append(printable(f"Install with: {details['command']}"))
    if is_short or not plan.answers:
        return lines
    lines.append("hosts:")
    lines += [
        printable(
            f"  {item.project}: {item.host}: "
            f"{item.kind.value}{f' ({item.detail})' if item.detail else ''}"
        )
        for item in plan.answers
    ]
    return lines


def _extension_lines(step: Step, plan: Plan) -> List[str]:
    lines = [f"{step.name} {step.version} ({step.because})", printable(f"  {step.url}")]
    is_open = any(answer.gap for answer in plan.answers if answer.project == step.name)
    from_source = (
        "from source: no wheel that fits is known here" if is_open else "from source: no wheel fits"
    )
    if step.candidate is not None and step.candidate.may_be_kept:
        from_source = f"{from_source}; or what was built here before, for this very torch"
    origin = {
        Origin.SDIST: from_source,
        Origin.REPOSITORY: from_source,
        Origin.BUILT: "built here before",
    }.get(step.origin)
    if origin:
        lines.append(f"  {origin}")
    if step.candidate is not None and step.candidate.link.found_in:
        lines.append(printable(f"  found in {step.candidate.link.found_in}"))
    return lines


def _rejection_lines(step: Step, plan: Plan, *, verbose: bool) -> List[str]:
    rejected = [item for item in plan.rejections if item.candidate.name == step.name]
    if not rejected:
        return []
    return [
        "  not taken:",
        *[f"  {line}" for line in render_rejections(rejected, None if verbose else 12)],
    ]


def _torch_lines(step: Step, details: Mapping[str, Any], *, verbose: bool) -> List[str]:
    """The chosen torch, and why no better-ranked one was chosen: by release, with `verbose` by
    build."""
    torch = details["torch"]
    lines = [f"torch {torch['version']} ({step.because})", f"  {torch['page']}"]
    if verbose:
        reasons = [f"{row['torch']}: {row['reason']}" for row in details["not_taken"]]
    else:
        reasons = [
            f"{_listed_versions(row['torch'])}: {row['reason']}"
            for row in details["not_taken_releases"]
        ]
    if reasons:
        lines.append("  not taken:")
    # Builds that were never made are named by their release, each the same.
    lines += [one_line(f"    {reason}") for reason in dict.fromkeys(reasons)]
    return lines


def _listed_versions(versions: Sequence[str]) -> str:
    """All of a few versions, else the first and the last."""
    if len(versions) <= FEW_VERSIONS:
        return ", ".join(versions)
    return f"{versions[0]} to {versions[-1]} ({len(versions)} releases)"
