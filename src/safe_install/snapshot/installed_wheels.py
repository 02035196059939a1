"""Reads the hashes of installed wheels from our history."""

from __future__ import annotations

from typing import List, Mapping

from packaging.utils import NormalizedName

from safe_install.models import Environment
from safe_install.snapshot.difference import installed_files
from safe_install.transaction.history import read_history
from safe_install.transaction.kept_sources import read_kept_sources


def read_installed_wheels(environment: Environment) -> Mapping[NormalizedName, str]:
    """Distribution -> the SHA-256 of its wheel, as far as our history has it."""
    prefix = environment.interpreter.prefix
    rows: List[Mapping[str, object]] = []
    for entry in read_history(prefix):
        rows += entry.steps
    rows += read_kept_sources(prefix)
    return installed_files(rows, environment.installed)
