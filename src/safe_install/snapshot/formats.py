"""The forms in which a snapshot is written, by their names and by those of files. Pure."""

from __future__ import annotations

import enum
import re
from typing import Callable, Mapping, Optional, Sequence

from safe_install.redaction import redact
from safe_install.snapshot.conda_file import CondaPackage, render_conda_file
from safe_install.snapshot.dockerfile import render_dockerfile
from safe_install.snapshot.markdown import render_markdown
from safe_install.snapshot.pylock import render_pylock
from safe_install.snapshot.requirements_text import render_requirements
from safe_install.snapshot.uv_project import render_uv_project
from safe_install.snapshot.values import Snapshot


class Format(enum.Enum):
    """The value is what `--format` takes."""

    PYLOCK = "pylock"
    REQUIREMENTS = "requirements"
    CONDA = "environment.yml"
    UV = "uv"
    DOCKERFILE = "dockerfile"
    MARKDOWN = "markdown"


NAMES = tuple(one.value for one in Format)

# The first that fits the name of a file says its format.
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
    """The format that a file of this name has; None where its name says nothing."""
    for pattern, found in _BY_FILENAME:
        if re.fullmatch(pattern, filename.lower()):
            return found
    return None


def format_of_name(name: str) -> Optional[Format]:
    """The format that is called so; None where none is."""
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
    snapshot: Snapshot, wanted: Format, conda_packages: Sequence[CondaPackage] = ()
) -> str:
    """The text in one format. No secret is in it: the addresses were cleaned, and this is looked
    at once more."""
    if wanted is Format.CONDA:
        return render_conda_file(snapshot, conda_packages)
    return redact(_RENDERERS[wanted](snapshot))
