"""Compiles the stub driver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

SOURCES = Path(__file__).parent
LIBRARIES = {
    "libnvidia-ml.so.1": "nvml.c",
    "libcuda.so.1": "cuda.c",
    "libfakecudart.so": "cudart_shim.c",
    "libfakec10.so": "c10_shim.c",
}


def build_driver(out: Path) -> Dict[str, str]:
    """Build into `out`; the variables that bring a process this driver. A real torch 2.x needs
    LD_PRELOAD, too."""
    out.mkdir(parents=True, exist_ok=True)
    for library, source in LIBRARIES.items():
        compile_library(out / library, [str(SOURCES / source), *_options(source)])
    shutil.copy(SOURCES / "nvidia-smi", out / "nvidia-smi")
    return {
        "LD_LIBRARY_PATH": _in_front(out, "LD_LIBRARY_PATH"),
        "PATH": _in_front(out, "PATH"),
        "LD_PRELOAD": str(out / "libfakecudart.so"),
    }


def compile_library(target: Path, arguments: List[str]) -> None:
    """One shared object with the name of `target` as its soname."""
    command = [
        os.environ.get("CC", "cc"),
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        f"-Wl,-soname,{target.name}",
    ]
    subprocess.run([*command, "-o", str(target), *arguments, "-ldl"], check=True)


def _in_front(folder: Path, variable: str) -> str:
    rest = os.environ.get(variable)
    return f"{folder}{os.pathsep}{rest}" if rest else str(folder)


def _options(source: str) -> List[str]:
    """Device properties need NVIDIA's headers: without them that one question stays unanswered."""
    include = Path(os.environ.get("CUDA_INCLUDE", "/usr/local/cuda/include"))
    header = include / "cuda_runtime_api.h"
    if source != "cudart_shim.c" or not header.is_file():
        return []
    found = re.search(r"^#define CUDART_VERSION *(\d+)\d{3}", header.read_text(), re.M)
    return [f"-DFAKE_PROP={found.group(1)}", f"-I{include}"] if found else []
