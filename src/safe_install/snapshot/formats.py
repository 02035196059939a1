"""The formats of a snapshot, by name and by file name. Pure."""

from __future__ import annotations

import enum
import re
from typing import Callable, Mapping, Optional, Sequence

from safe_install.redaction import redact
from safe_install.snapshot.conda_file import ChannelPackage, render_conda_file
from safe_install.snapshot.dockerfile import render_dockerfile
from safe_install.snapshot.markdown import render_markdown
from safe_install.snapshot.pylock import render_pylock
from safe_install.snapshot.requirements_text import render_requirements
from safe_install.snapshot.uv_project import render_uv_project
from safe_install.snapshot.values import Snapshot


class Format(enum.Enum):
    """A format of export. The value is the argument of `--format`."""

    PYLOCK = "pylock"
    REQUIREMENTS = "requirements"
    CONDA = "environment.yml"
    UV = "uv"
    DOCKERFILE = "dockerfile"
    MARKDOWN = "markdown"


NAMES = tuple(one.value for one in Format)

# The format of a file is the first one whose pattern its name matches.
_BY_FILENAME = (
    (r"pylock(\.[^.]+)?\.toml", Format.PYLOCK),
    (r"pyproject\.toml", Format.UV),
    (r".*\.toml", Format.PYLOCK),
    (r".*\.(txt|in)", Format.REQUIREMENTS),
    (r".*\.ya?ml", Format.CONDA),
    (r"(dockerfile|containerfile)(\..*)?|.*\.(dockerfile|containerfile)", Format.DOCKERFILE),
    (r".*\.(md|markdown)", Format.MARKDOWN),
)


def format_of_filename(filename: str) -> Optional[Format]:
    """The format of a file by its name; None if the name fits none."""
    for pattern, found in _BY_FILENAME:
        if re.fullmatch(pattern, filename.lower()):
            return found
    return None


def format_of_name(name: str) -> Optional[Format]:
    """The format with this name; None if there is none."""
    wanted = name.strip().lower()
    return next((one for one in Format if one.value == wanted), None)


_RENDERERS: Mapping[Format, Callable[[Snapshot], str]] = {
    Format.PYLOCK: render_pylock,
    Format.REQUIREMENTS: render_requirements,
    Format.UV: render_uv_project,
    Format.DOCKERFILE: render_dockerfile,
    Format.MARKDOWN: render_markdown,
}


def render_snapshot(
    snapshot: Snapshot, wanted: Format, conda_packages: Sequence[ChannelPackage] = ()
) -> str:
    """The text of a snapshot in one format, without secrets."""
    if wanted is Format.CONDA:
        return render_conda_file(snapshot, conda_packages)
    return redact(_RENDERERS[wanted](snapshot))
