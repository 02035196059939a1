"""Fills the stage of a transaction with editable installs, which pip builds there."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from safe_install.events import Reporter
from safe_install.models import Step
from safe_install.system.pip import PipRunner
from safe_install.system.process import LineReader


def stage_editables(
    pip: PipRunner,
    stage: Path,
    steps: Sequence[Step],
    *,
    options: Sequence[str],
    reporter: Reporter,
    readers: Callable[[str], Mapping[str, LineReader]],
) -> None:
    """Build each editable install below `stage`. `readers`: returns the readers of pip's output,
    for a task."""
    for step in steps:
        task = f"editable install of {step.name}"
        with reporter.task(task):
            pip.stage_editable(_path_of(step), root=stage, options=options, **readers(task))


def _path_of(step: Step) -> str:
    path = str((step.download_info or {}).get("url", ""))
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    return path
