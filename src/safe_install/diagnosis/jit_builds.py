"""Findings on builds that torch.utils.cpp_extension keeps: killed builds, and builds for another
torch.

Facts, from torch/utils/cpp_extension.py: each extension has a folder with its name. While it is
compiled, the folder has a file `lock`, and other programs wait until that file is removed. An
extension is compiled again where its sources or its command line changed, but not where torch did.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Callable, List, Mapping, Sequence, Tuple

from safe_install.folders import find_home
from safe_install.models import Environment, Finding, Severity, TorchBuild
from safe_install.wheels.abi import LoadOutcome
from safe_install.wheels.inspection import Inspector, demangle

FOLDER_VARIABLE = "TORCH_EXTENSIONS_DIR"
HOUR = 3600  # seconds
LONG = 2 * HOUR  # no compiler takes so long
MAX_BUILDS = 50
FAULTS = (LoadOutcome.DOES_NOT_LOAD, LoadOutcome.ANOTHER_TORCH)


def find_jit_builds(
    environment: Environment,
    variables: Mapping[str, str],
    *,
    preloaded: Callable[[], Sequence[str]],
) -> Tuple[Finding, ...]:
    """Warnings on locked builds, and on builds that do not fit the installed torch. `preloaded`:
    the libraries that `import torch` loads. Errors: OSError."""
    torch = environment.torch
    if torch is None:
        return ()
    builds = _list_builds(environment, torch, variables)
    if not builds:
        return ()
    inspector = Inspector(environment, torch, variables=variables, preloaded=preloaded)
    findings: List[Finding] = []
    for build in builds:
        findings += _check_lock(build)
        findings += _check_library(build, inspector)
    return tuple(findings)


def _list_builds(
    environment: Environment, torch: TorchBuild, variables: Mapping[str, str]
) -> List[Path]:
    """The folders of the builds that programs of this environment use, at most MAX_BUILDS."""
    chosen = variables.get(FOLDER_VARIABLE)
    if chosen:
        roots = [Path(chosen)]
    else:
        home = find_home(variables)
        cache = Path(variables.get("XDG_CACHE_HOME") or home / ".cache") / "torch_extensions"
        # py311_cpu, py313t_cu130
        python = environment.interpreter.python_tag.replace("cp", "py")
        pattern = f"{python}*_{torch.accelerator}"
        is_there = os.path.isdir(cache)  # noqa: PTH112 - Path raises where it may not look
        roots = sorted(cache.glob(pattern)) if is_there else []
    builds: List[Path] = []
    for root in roots:
        builds += [folder for folder in sorted(root.glob("*")) if folder.is_dir()]
    return builds[:MAX_BUILDS]


def _check_lock(build: Path) -> List[Finding]:
    lock = build / "lock"
    try:
        age = time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return []
    if age < LONG:
        return []
    return [
        Finding(
            "build-locked",
            Severity.WARNING,
            build.name,
            f"{lock} is {age / HOUR:.0f} hours old: a build by torch.utils.cpp_extension that was "
            f"killed leaves it, and what asks for {build.name} waits until it is gone",
            f"Where no such build runs: rm {shlex.quote(str(lock))}",
        )
    ]


def _check_library(build: Path, inspector: Inspector) -> List[Finding]:
    library = build / f"{build.name}.so"
    if not library.is_file():
        return []
    (verdict,) = inspector.inspect({library.name: str(library)}, demangle=demangle)
    if verdict.outcome not in FAULTS:
        return []
    return [
        Finding(
            "build-of-another-torch",
            Severity.WARNING,
            build.name,
            f"{build} is kept by torch.utils.cpp_extension, which does not compile it again: "
            f"{verdict.reason}",
            f"rm -r {shlex.quote(str(build))}",
        )
    ]
