"""Finds the managed interpreter, and runs the stand-alone scripts in fresh processes of it."""

from __future__ import annotations

import errno
import importlib
import json
import os
import pkgutil
import re
import shutil
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import canonicalize_name

from safe_install.environment.probe_answer import (
    parse_distribution,
    parse_environment,
    parse_torch_build,
)
from safe_install.environment.startup import find_culprit
from safe_install.errors import ProbeFailed, UsageError, hint_for_oserror
from safe_install.folders import expand_home
from safe_install.models import (
    Driver,
    Environment,
    InstalledDistribution,
    Interpreter,
    TorchBuild,
)
from safe_install.system import process

# They name the active environment; the first one counts. cli/completion repeats them: it imports little.
ACTIVE_VARIABLES = ("VIRTUAL_ENV", "CONDA_PREFIX")
VARIABLE = "SAFE_INSTALL_PYTHON"  # of --python
START_TIMEOUT = 10.0  # seconds; a start takes 0.1
PROBE_TIMEOUT = 60.0  # seconds; a probe takes 0.1, but tens on a cold network file system
REASON_SHOWN = 400  # characters
PROBE_LIMIT = 32_000_000  # characters; the answer on 1000 distributions has 1 million


def find_interpreter(
    python: Optional[str], environ: Mapping[str, str], *, own_prefix: Optional[Path] = None
) -> Path:
    """The managed interpreter: `--python`, else $VIRTUAL_ENV, else $CONDA_PREFIX, else our own.

    `python`: an interpreter, the folder of an environment, or a name on PATH. `own_prefix`: our own
    environment; None: the running one. If pipx or uv made it for this program, it is never used,
    and the last choice is the python3 on PATH. Errors: UsageError, if there is none.
    """
    if python:
        return _named_interpreter(python, environ)
    prefix = Path(sys.prefix) if own_prefix is None else own_prefix
    own = prefix if is_tool_environment(prefix) else None
    for variable in ACTIVE_VARIABLES:
        active = environ.get(variable)
        if active and not _is_same_folder(Path(active), own):
            found = _interpreter_in(Path(active))
            if found is not None:
                return found
    if own is None:
        return Path(sys.executable)
    return _interpreter_on_path(environ, own)


def is_tool_environment(prefix: Path) -> bool:
    """Did pipx or `uv tool` make this environment for one program?"""
    # The environment of `uv tool run` (uvx) has no receipt. It is in uv's cache: archive-v0/ID.
    if re.match(r"archive-v\d+$", prefix.parent.name) and (prefix / "pyvenv.cfg").is_file():
        return True
    return any((prefix / name).is_file() for name in ("pipx_metadata.json", "uv-receipt.toml"))


def _is_same_folder(one: Path, other: Optional[Path]) -> bool:
    return other is not None and os.path.realpath(one) == os.path.realpath(other)


def _interpreter_on_path(environ: Mapping[str, str], own: Path) -> Path:
    """The `python3` or `python` that the user's shell starts, without those of our own
    environment. Errors: UsageError."""
    for name in ("python3", "python"):
        for folder in environ.get("PATH", os.defpath).split(os.pathsep):
            if not folder or _is_same_folder(Path(folder).parent, own):
                continue
            found = shutil.which(name, path=folder)
            if found is not None:
                return Path(os.path.abspath(found))  # noqa: PTH100
    raise UsageError(
        f"no environment is active, there is no python3 on PATH, and {own} is safe-install's own",
        hint="Activate an environment, or name it: --python .venv.",
    )


def _named_interpreter(python: str, environ: Mapping[str, str]) -> Path:
    path = expand_home(python)
    origin = VARIABLE if environ.get(VARIABLE) == python else "--python"
    if path.is_dir():
        found = _interpreter_in(path)
        if found is not None:
            return found
        raise UsageError(
            f"{origin} {python}: this folder holds no bin/python",
            hint="Name an interpreter (.../bin/python) or the folder of a virtual environment.",
        )
    on_path = shutil.which(python, path=environ.get("PATH"))
    if on_path is None:
        raise UsageError(
            f"{origin} {python}: no such interpreter",
            hint="Name an interpreter (.../bin/python) or the folder of a virtual environment.",
        )
    # Links are not resolved: the interpreter of a virtual environment is a link to another one.
    return Path(os.path.abspath(on_path))  # noqa: PTH100 - Path.absolute keeps ".."


def _interpreter_in(prefix: Path) -> Optional[Path]:
    for relative in ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe"):
        candidate = prefix / relative
        if candidate.exists():
            return Path(os.path.abspath(candidate))  # noqa: PTH100
    return None


# Variables of Python (docs.python.org, using/cmdline) that would hide what a check must find: they
# skip asserts, delay imports, make errors of warnings, or wait for input at the end. The others
# write between the lines that say why a process died. docs/security.md says which variables are
# kept, and why.
REMOVED_VARIABLES = (
    "FORCE_COLOR",
    "LD_DEBUG",
    "PYTHONBREAKPOINT",
    "PYTHONDEBUG",
    "PYTHONDUMPREFS",
    "PYTHONDUMPREFSFILE",
    "PYTHONINSPECT",
    "PYTHONMALLOCSTATS",
    "PYTHONOPTIMIZE",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONSTARTUP",
    "PYTHONTRACEMALLOC",
    "PYTHONVERBOSE",
    "PYTHONWARNINGS",
    "PYTHON_COLORS",
    "PYTHON_LAZY_IMPORTS",
)


def child_environment(extra: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """The variables for a process of the managed interpreter: the user's own ones, without those
    that would hide failures. No bytecode is written into the environment. `extra`: are set, too."""
    variables = process.inherited_variables()
    # Measured: with this variable is_available() is True although torch cannot use the driver.
    variables.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # The first two may be set for our own interpreter, and are wrong for another one.
    for name in ("PYTHONHOME", "__PYVENV_LAUNCHER__", *REMOVED_VARIABLES):
        variables.pop(name, None)
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    variables["PYTHONIOENCODING"] = "utf-8"
    variables.update(extra or {})
    return variables


# Reads a number of bytes from stdin and runs them as a script. Its namespace is not that of
# `__main__`, so an imported module cannot reach it. Python 3.6 syntax.
READ_AND_RUN = """\
import os, sys
left, source = int(sys.argv.pop(1)), b""
while left > len(source):
    chunk = os.read(0, left - len(source))
    if not chunk:
        sys.exit("something that runs at the start of this Python has read what was on stdin")
    source += chunk
exec(compile(source, "<safe-install>", "exec"), {"__name__": "__main__"})
"""
WORD_LENGTH = 16  # letters; the scripts have the same number


def make_words(count: int) -> List[str]:
    """Secret random words. A script begins each of its answers with one, which proves that the
    answer is its own."""
    # As `secrets.token_hex` makes them; `secrets` would import OpenSSL.
    return [os.urandom(WORD_LENGTH // 2).hex() for _ in range(count)]


def start_script(
    executable: Path,
    package: str,
    arguments: Sequence[str] = (),
    *,
    words: Sequence[str] = (),
    **options: Any,
) -> process.Running:
    """Start the stand-alone script of a package in a fresh process of `executable`.

    `words`: written to its stdin. `options`: see process.Running. Errors: ProbeFailed.
    """
    source = read_script(package)
    options.setdefault("env", child_environment())
    # Python imports from the working folder, and "/" has no packages.
    options.setdefault("cwd", Path(os.sep))
    options.setdefault("stdout_limit", PROBE_LIMIT)
    command = [str(executable), "-B", "-c", READ_AND_RUN, str(len(source.encode())), *arguments]
    try:
        return process.start(command, input_text=source + "".join(words), **options)
    except OSError as error:
        hint = "Name another interpreter with --python."
        raise ProbeFailed(
            f"{executable} cannot be started: {error.strerror or error}",
            hint=hint_for_oserror(error) if error.errno == errno.EAGAIN else hint,
        ) from error


@lru_cache(maxsize=None)
def read_script(package: str) -> str:
    """The stand-alone script of a package. It is read once, since a change may replace this very
    package."""
    source = pkgutil.get_data(package, "script.py")
    if source is None:  # pragma: no cover - a broken installation of ours
        raise ProbeFailed(
            f"{package}/script.py is missing", hint="Install torch-safe-install again."
        )
    return source.decode("utf-8")


class Probe:
    """A process that reads the facts of the managed interpreter and its distributions. It does not
    import torch, and runs beside the caller."""

    def __init__(self, executable: Path, *, ahead: Sequence[Path] = ()) -> None:
        """Start it. `ahead`: folders that come before its own packages on sys.path. Errors:
        ProbeFailed."""
        self.executable = executable
        paths = {"PYTHONPATH": os.pathsep.join(map(str, ahead))} if ahead else None
        (self._word,) = make_words(1)
        self._running = start_script(
            executable,
            "safe_install.environment",
            words=[self._word],
            env=child_environment(paths),
        )

    def result(
        self,
        driver: Optional[Driver],
        *,
        on_tick: Optional[process.Tick] = None,
        timeout: Optional[float] = None,
    ) -> Environment:
        """Wait for the answer.

        `driver`: taken over into the environment. `on_tick`: called while this waits; it may raise
        to end the process. `timeout`: seconds; None: PROBE_TIMEOUT. Errors: ProbeFailed.
        """
        limit = PROBE_TIMEOUT if timeout is None else timeout
        answer = self._running.wait(limit, on_tick=on_tick)
        try:
            raw = json.loads(_find_answer(self._word, answer.stdout))
            if raw["result"] != "success":
                raise ValueError(raw)
            return parse_environment(raw, self.executable, driver)
        except (
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise _probe_failed(self.executable, answer, on_tick) from error

    def stop(self) -> None:
        """End the process, if it still runs. Its answer is not needed."""
        if not self._running.has_ended:
            self._running.kill()


def read_environment(
    executable: Path,
    driver: Optional[Driver],
    *,
    on_tick: Optional[process.Tick] = None,
    timeout: Optional[float] = None,
    ahead: Sequence[Path] = (),
) -> Environment:
    """Probe the managed interpreter and wait for the answer; the arguments are those of Probe.
    Errors: ProbeFailed."""
    return Probe(executable, ahead=ahead).result(driver, on_tick=on_tick, timeout=timeout)


def _find_answer(word: str, stdout: str) -> str:
    """The text after `word` on the line that begins with it. Errors: ValueError, if there is
    none."""
    for line in stdout.split("\n"):
        if line.startswith(f"{word} "):
            return line[len(word) + 1 :]
    raise ValueError("no answer")


def _probe_failed(
    executable: Path, answer: process.Completed, on_tick: Optional[process.Tick]
) -> ProbeFailed:
    """The error for a probe without a usable answer. It names the cause, if a file that runs at
    every start of the interpreter is the cause, or PYTHONPATH."""
    reason = _describe_end(answer)
    variables = child_environment()
    culprit = find_culprit(executable, variables, on_tick)
    if culprit is not None:
        return ProbeFailed(
            f"{executable} could not be probed: {culprit}, which runs at every start of this "
            "Python, ends it or hangs "
            f"({reason})",
            hint="Repair that file or move it away; python -S starts without it.",
        )
    if "PYTHONPATH" in variables and _is_broken_by_pythonpath(executable, variables, on_tick):
        return ProbeFailed(
            f"{executable} starts, and with this PYTHONPATH it does not: {reason}",
            hint="unset PYTHONPATH",
        )
    return ProbeFailed(
        f"{executable} could not be probed: {reason}",
        hint="Run it by hand (python -c 'import sysconfig'); name another interpreter with --python.",
    )


def _describe_end(answer: process.Completed) -> str:
    """Why a process gave no answer."""
    if answer.timed_out:
        return f"no answer within {answer.seconds:.0f} s"
    if answer.ended_by:
        return answer.ended_by
    errors = answer.stderr.strip().splitlines()
    if errors:
        return errors[-1][:REASON_SHOWN]
    return f"exit status {answer.returncode}"


def _is_broken_by_pythonpath(
    executable: Path, variables: Mapping[str, str], on_tick: Optional[process.Tick]
) -> bool:
    """Do the imports of the probe work without PYTHONPATH, and fail with it?"""
    statuses = []
    for options in (["-E"], []):
        command = [str(executable), *options, "-B", "-c", "import os, enum, json, sysconfig"]
        try:
            child = process.start(command, env=variables, cwd=Path(os.sep))
            statuses.append(child.wait(START_TIMEOUT, on_tick=on_tick).returncode)
        except OSError:
            return False
    return statuses[0] == 0 and statuses[1] != 0


def _script() -> ModuleType:
    """The script of a probe as a module. It has no types, since it is written for Python 3.6."""
    return importlib.import_module("safe_install.environment.script")


def read_dist_info(folder: Path) -> Optional[InstalledDistribution]:
    """The distribution of a dist-info folder, which may have any path and name. None: the folder is
    not one."""
    raw = _script().dist_info(str(folder.parent), folder.name)
    return None if raw is None else parse_distribution(canonicalize_name(raw["name"]), raw)


def find_duplicates(distribution: InstalledDistribution) -> List[InstalledDistribution]:
    """The other records of the same project in the same folder. An interrupted install or `pip
    install --target` leaves them."""
    own = distribution.metadata_path
    beginning = own.name.partition("-")[0].lower()
    try:
        folders = sorted(distribution.location.iterdir())
    except OSError:
        return []
    found = []
    for folder in folders:
        is_near = folder.name.lower().startswith(f"{beginning}-") and folder.suffix == ".dist-info"
        if not is_near or folder.name == own.name:
            continue
        other = read_dist_info(folder)
        if other is not None and other.name == distribution.name:
            found.append(other)
    return found


def read_torch_dir(folder: Path, interpreter: Interpreter) -> Tuple[Path, TorchBuild]:
    """A torch that is unpacked but not installed: its folder, and what its files say.

    `folder`: torch's own folder, or the one that contains it. Errors: UsageError, if there is no
    torch.
    """
    locations = [folder, folder.parent] if folder.name == "torch" else [folder]
    for location in locations:
        raw = _script().torch_files([str(location.absolute())])
        torch = parse_torch_build(raw, None, interpreter)
        if torch is not None:
            return Path(raw["folder"]), torch
    raise UsageError(
        f"{folder} holds no torch",
        hint="Unpack a wheel of torch (python -m zipfile -e torch-*.whl DIR) and name that folder.",
    )
