"""A snapshot as conda's environment.yml: Python from conda, everything else from pip in its `pip:`
section. Pure.

Source: docs.conda.io, "Creating an environment file manually". conda writes the lines of that
section into a requirements file beside the environment.yml.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from safe_install.redaction import redact
from safe_install.snapshot.requirements_text import HEAD, requirement_lines, unknown_lines
from safe_install.snapshot.values import Snapshot

DEFAULT_CHANNEL = "conda-forge"
NAME = "environment"  # without a name in the file, conda needs -n NAME
BY_CONDA = "(conda installed it)"  # the reason that `sources.unknown_because` gives


@dataclass(frozen=True)
class ChannelPackage:
    """A package that conda installed from a channel."""

    name: str
    version: str
    build: str
    channel: str  # "conda-forge", or a URL


def render_conda_file(snapshot: Snapshot, packages: Sequence[ChannelPackage] = ()) -> str:
    """The text of an environment.yml, without secrets. `packages`: conda's packages if conda
    made the environment."""
    lines = [HEAD.format(python=snapshot.python, platform=snapshot.platform)]
    lines += [redact(line) for line in unknown_lines(snapshot) if BY_CONDA not in line]
    lines.append(f"name: {_scalar(NAME)}")
    lines.append("channels:")
    lines += [f"  - {_scalar(redact(channel))}" for channel in _channels(packages)]
    lines.append("dependencies:")
    lines += [f"  - {_scalar(text)}" for text in _dependencies(snapshot, packages)]
    by_pip = requirement_lines(snapshot)
    if by_pip:
        lines.append("  - pip:")
        lines += [f"      - {_scalar(redact(line))}" for line in by_pip]
    return "\n".join(lines) + "\n"


def _channels(packages: Sequence[ChannelPackage]) -> List[str]:
    found = sorted({package.channel for package in packages if package.channel})
    return [*(found or [DEFAULT_CHANNEL]), "nodefaults"]


def _dependencies(snapshot: Snapshot, packages: Sequence[ChannelPackage]) -> Tuple[str, ...]:
    if packages:
        ordered = sorted(packages, key=lambda package: package.name)
        return tuple(f"{one.name}={one.version}={one.build}" for one in ordered)
    return (f"python={snapshot.python}", "pip")


def _scalar(text: str) -> str:
    """A text as YAML in double quotes, with the escapes of JSON."""
    return json.dumps(text)
