"""The text of a plan and of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from safe_install.cli.terminal import one_line, printable
from safe_install.models import Action, Environment, Plan, Step


def render_steps(plan: Plan) -> List[str]:
    """The plan as a table, one line for each step."""
    lines = []
    for step in plan.steps:
        if step.action is Action.REMOVE:
            change = f"- {step.name} {step.from_version}"
        elif step.action is Action.REPLACE:
            change = f"~ {step.name} {step.from_version} -> {step.version or '?'}"
        else:
            change = f"+ {step.name} {step.version or ''}".rstrip()
        origin = f"  [{_origin(step)}] {step.url}" if step.url else ""
        why = f"  ({step.because})" if step.because else ""
        lines.append(one_line(f"  {change}{why}{origin}"))
    return lines


def _origin(step: Step) -> str:
    """`sdist, or built here before`: only the coming torch's files tell whether the kept build
    fits."""
    may_be_kept = step.candidate is not None and step.candidate.may_be_kept
    return f"{step.origin.value}, or built here before" if may_be_kept else step.origin.value


def listed_names(plan: Plan) -> str:
    """The names of the steps in their metadata's spelling, as pip lists them."""
    found = sorted(
        (step.written_name or step.name, step.version) for step in plan.steps if step.version
    )
    return " ".join(f"{name}-{version}" for name, version in found)


def counted_line(plan: Plan, environment: Optional[Environment]) -> str:
    """`Would add 2, replace 1, remove 3 in ./env (Python 3.11.7).`"""
    counts = dict.fromkeys(Action, 0)
    for step in plan.steps:
        counts[step.action] += 1
    parts = [f"{action.value} {count}" for action, count in counts.items() if count]
    place = "" if environment is None else f" in {render_environment(environment)}"
    return f"Would {', '.join(parts)}{place}."


def render_environment(environment: Environment, torch_version: Optional[str] = None) -> str:
    """`./env (Python 3.11.7, torch 2.13.0+cpu)`. `torch_version`: the version after a change, where
    it is known; "" where torch was removed."""
    interpreter = environment.interpreter
    if torch_version is None and environment.torch is not None:
        torch_version = environment.torch.runtime_version
    torch = f", torch {torch_version}" if torch_version else ""
    if torch_version == "":
        torch = ", without torch now"
    return printable(f"{_short_path(interpreter.prefix)} (Python {interpreter.version}{torch})")


def _short_path(path: Path) -> str:
    """`./env` below the working folder, else the whole path."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except (ValueError, OSError):
        return str(path)
