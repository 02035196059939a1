"""Reads the shell and the machine for the checks of `doctor`: interpreters that do not start,
programs on PATH, proxies, indexes and certificates."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from safe_install.diagnosis.facts import ClosedPort, ProbeProblem, Program
from safe_install.environment.interpreter import ACTIVE_VARIABLES, child_environment
from safe_install.environment.record import read_plain_file
from safe_install.folders import expand_home
from safe_install.models import Interpreter
from safe_install.system import process

NAMES = ("python", "python3", "pip", "pip3", "nvcc")
START_TIMEOUT = 60.0  # seconds
FIRST_LINE = 512  # bytes; of a script's first line the kernel reads 256


def find_broken(
    python: Optional[str], variables: Mapping[str, str]
) -> Optional[Tuple[Path, ProbeProblem]]:
    """The interpreter that --python or the active environment names, and what is wrong with it,
    where it is missing, a dangling link, not executable or not accessible; None otherwise.

    Commands that change an environment take another one then; `doctor` diagnoses this one.
    """
    variable = next((name for name in ACTIVE_VARIABLES if variables.get(name)), None)
    named = python or (variables[variable] if variable is not None else "")
    if not named:
        return None
    path = expand_home(named)
    try:
        if not python and variable is not None and not path.exists():
            return path / "bin" / "python", _moved_away(variable, path)
        candidate = path / "bin" / "python" if path.is_dir() else path
        if candidate.is_file() and not os.access(candidate, os.X_OK):
            return candidate, _not_executable(candidate)
        if candidate.is_symlink() and not candidate.exists():
            return candidate, _dangling(candidate)
    except OSError as error:
        hint = "Run as the user that owns it, or name another one with --python."
        return path, ProbeProblem(f"{path} may not be looked at: {error.strerror or error}", hint)
    return None


def _dangling(link: Path) -> ProbeProblem:
    prefix = link.parent.parent
    return ProbeProblem(
        f"{link} is a link to {os.path.realpath(link)}, which is not there: the Python that this "
        "environment was made with was removed or replaced",
        f"Install that Python again; or link it to another one of the same version: "
        f"{_python_of(prefix)} -m venv --upgrade {prefix}",
    )


def _not_executable(path: Path) -> ProbeProblem:
    return ProbeProblem(f"{path} is no program: it may not be executed", f"chmod +x {path}")


def _moved_away(variable: str, folder: Path) -> ProbeProblem:
    return ProbeProblem(
        f"{variable} is {folder}, which is not there: the environment that is active in this shell "
        "was moved or removed",
        "Where it was moved, let its scripts be written anew (what is installed stays): python3 -m "
        f"venv NEW_FOLDER; where it was removed: unset {variable}.",
    )


def find_lost_settings(executable: Path, interpreter: Interpreter) -> Optional[ProbeProblem]:
    """The problem of a virtual environment without pyvenv.cfg: its Python does not know that it
    belongs to one."""
    folder = executable.parent.parent
    version = ".".join(interpreter.version.split(".")[:2])
    site = folder / "lib" / f"python{version}" / "site-packages"
    settings = folder / "pyvenv.cfg"
    if settings.is_file() or not (folder / "bin" / "activate").is_file():
        return None
    if not site.is_dir() or os.path.samefile(folder, interpreter.prefix):
        return None
    detail = (
        f"{settings} is gone: {executable} takes {interpreter.prefix} for its environment, and "
        f"sees nothing of {site}"
    )
    if settings.exists():
        detail = (
            f"{settings} is no file: {executable} takes {interpreter.prefix} for its environment, "
            f"and sees nothing of {site}"
        )
    return ProbeProblem(detail, _made_anew(executable, folder))


def _made_anew(executable: Path, folder: Path) -> str:
    """The line that writes pyvenv.cfg, whatever lies in its place."""
    line = f"{os.path.realpath(executable)} -m venv --without-pip {shlex.quote(str(folder))}"
    settings = folder / "pyvenv.cfg"
    if not settings.exists() or settings.is_file():
        return line
    return f"rm -r {shlex.quote(str(settings))} && {line}"


# The probe runs without these, so that it does not notice them.
NOT_PROBED = ("PYTHONHOME", "PYTHONIOENCODING")


def find_fatal_variable(
    executable: Path, variables: Mapping[str, str], names: Iterable[str] = NOT_PROBED
) -> Optional[ProbeProblem]:
    """The problem with the first of these variables that keeps the interpreter from starting."""
    candidates = [name for name in names if variables.get(name)]
    if not candidates:
        return None
    clean = {name: "" for name in variables if name.startswith("PYTHON")}
    if _start_error(executable, clean) != "":
        return None
    for name in candidates:
        error = _start_error(executable, {**clean, name: variables[name]})
        if error:
            return ProbeProblem(
                f"{name} is {variables[name]}, and {executable} does not start with it: {error}",
                f"unset {name}",
            )
    return None


def find_fatal_variable_of_all(
    executable: Path, variables: Mapping[str, str]
) -> Optional[ProbeProblem]:
    """The same with all PYTHON variables if the probe failed. PYTHONPATH is left out: its probe
    error names the file that is the cause."""
    names = sorted(name for name in variables if name.startswith("PYTHON"))
    return find_fatal_variable(
        executable, variables, [name for name in names if name != "PYTHONPATH"]
    )


def _start_error(executable: Path, variables: Mapping[str, str]) -> Optional[str]:
    """The error with which the interpreter does not start; "" if it starts; None if it could
    not be run."""
    command = [str(executable), "-B", "-c", "import os, re"]
    environ = child_environment(variables)
    try:
        done = process.start(command, env=environ, cwd=Path(os.sep)).wait(START_TIMEOUT)
    except OSError:
        return None
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    errors = [line for line in lines if "Error" in line or line.startswith("Fatal")]
    return errors[-1] if errors else "it ends"


def find_unreadable_settings(executable: Path) -> Optional[ProbeProblem]:
    """The problem of a pyvenv.cfg with which Python does not start: it is not UTF-8, or reading it
    does not end."""
    folder = executable.parent.parent
    settings = folder / "pyvenv.cfg"
    try:
        content = read_plain_file(settings)
        if content is None and settings.exists():
            error = "it is no file"
        else:
            (content or b"").decode("utf-8")
            return None
    except (OSError, UnicodeDecodeError) as problem:
        error = str(problem)
    return ProbeProblem(
        f"{settings} is no text, and {executable} does not start with it: {error}",
        _made_anew(executable, folder),
    )


def _python_of(prefix: Path) -> str:
    """ "python3.11", by pyvenv.cfg; else "python3"."""
    try:
        text = (read_plain_file(prefix / "pyvenv.cfg") or b"").decode("utf-8", "replace")
    except OSError:
        return "python3"
    found = re.search(r"(?m)^version(?:_info)?\s*=\s*(\d+\.\d+)", text)
    return f"python{found.group(1)}" if found else "python3"


def find_working_folder() -> Optional[Path]:
    """The working folder, resolved; None if it was removed."""
    try:
        return Path(os.path.realpath(os.curdir))
    except OSError:
        return None


def find_programs(variables: Mapping[str, str]) -> Tuple[Program, ...]:
    """The programs NAMES, as far as they are on PATH."""
    found: List[Program] = []
    for name in NAMES:
        path = shutil.which(name, path=variables.get("PATH", os.defpath))
        if path is not None:
            found.append(_describe_program(name, path))
    return tuple(found)


def _describe_program(name: str, path: str) -> Program:
    own_folder = Path(os.path.realpath(os.path.dirname(path)))
    if name.startswith("python"):
        return Program(name, Path(path), None, own_folder, own_folder)
    interpreter = _interpreter_of(Path(path))
    folder = Path(os.path.realpath(interpreter.parent)) if interpreter is not None else None
    return Program(name, Path(path), interpreter, folder, own_folder)


def _interpreter_of(path: Path) -> Optional[Path]:
    """The interpreter in the first line of a script; None if the file is no script. pip and
    distlib write long paths as `#!/bin/sh` and an `exec` line, which is read, too."""
    try:
        with open(path, "rb") as file:
            lines = file.read(FIRST_LINE).split(b"\n")
    except OSError:
        return None
    first = lines[0].decode("utf-8", "surrogateescape")
    if not first.startswith("#!"):
        return None
    words = first[2:].strip().split()
    if words and words[0] == "/bin/sh" and len(lines) > 1 and b"exec" in lines[1]:
        # '''exec' "/a folder/bin/python" "$0" "$@"
        try:
            words = shlex.split(lines[1].decode("utf-8", "surrogateescape"))[1:]
        except ValueError:
            return None
    if not words or words[0].endswith("/env"):
        return None
    return Path(words[0])


# --- network settings -----------------------------------------------------------------------------

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
ADDRESS_SETTINGS = ("proxy", "index-url", "extra-index-url", "find-links")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONNECT_TIMEOUT = 0.5  # seconds; this machine itself answers at once


def find_closed_ports(
    variables: Mapping[str, str], settings: Mapping[str, str]
) -> Tuple[ClosedPort, ...]:
    """The proxies and indexes of this machine at which nothing listens. Other machines are not
    contacted."""
    places = [(name, value) for name, value in variables.items() if name.lower() in PROXY_VARIABLES]
    for key in ADDRESS_SETTINGS:
        places += [(key, address) for address in settings.get(key, "").split()]
    answers: Dict[Tuple[str, int], bool] = {}
    found: List[ClosedPort] = []
    for setting, address in places:
        place = _place_of(address)
        if place is None:
            continue
        if place not in answers:
            answers[place] = _is_closed(place)
        if answers[place]:
            found.append(ClosedPort(setting, address))
    return tuple(found)


def _place_of(address: str) -> Optional[Tuple[str, int]]:
    """Host and port of an address on this machine, else None."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (host, port) if host in LOOPBACK and port else None


def _is_closed(place: Tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def find_lost_certificates(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Variable -> path, for the variables that name missing certificates."""
    return {
        name: variables[name]
        for name in CERTIFICATE_VARIABLES
        if variables.get(name) and not os.path.exists(variables[name])
    }
