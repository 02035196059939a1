"""Wheels without content, given to pip in place of ones that are still to be built or fetched."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Sequence

from packaging.utils import NormalizedName
from packaging.version import Version


def make_placeholder(
    folder: Path,
    name: NormalizedName,
    version: Version,
    *,
    requires: Sequence[str] = (),
    metadata: str = "",
    filename: str = "",
) -> Path:
    """Write NAME-VERSION-py3-none-any.whl, or `filename`, with these requirements or this METADATA.
    The result: its path. It is never installed."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    path = folder / (filename or f"{stem}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", metadata or "\n".join([*lines, ""]))
        archive.writestr(
            f"{stem}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: safe-install\nRoot-Is-Purelib: true\nTag: "
            "py3-none-any\n",
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path
