"""Wheels of a package that would replace torch."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path
from typing import Mapping

HARMFUL = "older-torch-tools"
OTHER_TORCH = "1.0.0"


def write_harmful(folder: Path) -> None:
    """A package that requires another torch, and that torch: it imports, and has no CUDA."""
    write_wheel(
        folder, HARMFUL, "1.0", {"older_torch_tools.py": ""}, requires=f"torch=={OTHER_TORCH}"
    )
    cuda = "def is_available():\n    return False\n\n\ndef device_count():\n    return 0\n"
    files = {
        "torch/__init__.py": f"from torch import cuda, version\n__version__ = {OTHER_TORCH!r}\n",
        "torch/version.py": f"__version__ = {OTHER_TORCH!r}\ncuda = None\nhip = None\n",
        "torch/cuda/__init__.py": cuda,
    }
    write_wheel(folder, "torch", OTHER_TORCH, files)


def write_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], requires: str = ""
) -> None:
    """A pure wheel with METADATA, WHEEL and RECORD."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: gpu_check\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in content.items():
        digest = (
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        )
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    content[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
