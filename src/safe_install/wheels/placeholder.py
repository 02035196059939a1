"""A wheel without content: what a dry run shows pip in place of one that is still to be built."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Sequence

from packaging.utils import NormalizedName
from packaging.version import Version


def make_placeholder(folder: Path, name: NormalizedName, version: Version, *, requires: Sequence[str]) -> Path:
    """Write NAME-VERSION-py3-none-any.whl with these requirements; it is never installed."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {text}" for text in requires]
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", "\n".join([*metadata, ""]))
        archive.writestr(
            f"{stem}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: safe-install\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path
