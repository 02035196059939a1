"""A staged change on disk: read it for a commit, and compare it with the environment."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import FrozenSet, Optional, Sequence

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.stamp import Stamp
from safe_install.errors import UsageError
from safe_install.health.answers import Subject
from safe_install.index.catalog import known_projects, load_project
from safe_install.models import Environment
from safe_install.pipeline.baseline import subject_of
from safe_install.pipeline.staged_document import (
    Misfit,
    StagedDocument,
    find_misfit,
    parse_document,
)
from safe_install.transaction.staged import StagedChange, read_document
from safe_install.transaction.tree import hash_stage

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,8}")


def check_id(text: str) -> str:
    """The text, where it is the ID of a change. Errors: UsageError."""
    if _ID.fullmatch(text) is None:
        raise UsageError(
            f"{text[:100]!r} is not the ID of a change", hint="safe-install status lists them."
        )
    return text


def read_staged(change: StagedChange) -> StagedDocument:
    """The document of a staged change, validated. Errors: Refused."""
    return parse_document(read_document(change), _find_subject)


def _find_subject(name: NormalizedName) -> Optional[Subject]:
    return subject_of(load_project(name)) if name in known_projects() else None


def compare(
    document: StagedDocument, change: StagedChange, environment: Environment, stamp: Stamp
) -> Optional[Misfit]:
    """Why a staged change does not fit any more; None where it fits. `stamp`: that of the
    environment now."""
    interpreter = environment.interpreter
    scheme = interpreter.scheme
    return find_misfit(
        document,
        prefix=os.path.realpath(str(interpreter.prefix)),
        python=interpreter.version,
        installed=environment.installed,
        stamp=stamp,
        stage_hash=hash_stage(change.stage),
        in_stage=_find_in_stage(change.stage, (scheme.purelib, scheme.platlib)),
    )


def _find_in_stage(stage: Path, sites: Sequence[Path]) -> FrozenSet[NormalizedName]:
    """The distributions whose metadata is in a stage, for these site-packages folders."""
    found = set()
    for site in sites:
        folder = Path(f"{stage}{site}")
        names = [path.name for path in folder.glob("*.dist-info")] if folder.is_dir() else []
        found |= {canonicalize_name(name.partition("-")[0]) for name in names}
    return frozenset(found)


def as_text(moment: Optional[float]) -> Optional[str]:
    """Seconds since the epoch as `2026-11-29T22:54:33Z`; None stays None."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
