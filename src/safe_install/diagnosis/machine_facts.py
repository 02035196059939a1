"""Programs on PATH, and the ways to the hosts, as the checks of `doctor` look at them."""

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
from safe_install.environment.interpreter import child_environment
from safe_install.environment.record import read_plain_file
from safe_install.folders import expand_home
from safe_install.models import Interpreter
from safe_install.system import process

NAMES = ("python", "python3", "pip", "pip3", "nvcc")
ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")  # the environment that is active in the shell
START_TIMEOUT = 60.0  # seconds
FIRST_LINE = 512  # bytes: the kernel reads 256 of a script's first line


def find_broken(
    python: Optional[str], variables: Mapping[str, str]
) -> Optional[Tuple[Path, ProbeProblem]]:
    """The interpreter that is meant, where it is a link to nowhere or may not be looked at; None
    otherwise.

    Such an environment is not passed over for another one, as by commands that change it.
    """
    variable = next((name for name in ACTIVE if variables.get(name)), None)
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
        if not candidate.is_symlink() or candidate.exists():
            return None
        target = os.path.realpath(candidate)
    except OSError as error:
        hint = "Run as the user that owns it, or name another one with --python."
        return path, ProbeProblem(f"{path} may not be looked at: {error.strerror or error}", hint)
    prefix = candidate.parent.parent
    return candidate, ProbeProblem(
        f"{candidate} is a link to {target}, which is not there: the Python that this environment "
        "was made with was removed or replaced",
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
    """A virtual environment without pyvenv.cfg: its Python does not know that it is one."""
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


# Everything is asked without these.
NOT_ASKED_WITH = ("PYTHONHOME", "PYTHONIOENCODING")


def find_fatal_variable(
    executable: Path, variables: Mapping[str, str], names: Iterable[str] = NOT_ASKED_WITH
) -> Optional[ProbeProblem]:
    """The first of these variables with which the interpreter does not start, and would without."""
    set_here = [name for name in names if variables.get(name)]
    if not set_here:
        return None
    clean = {name: "" for name in variables if name.startswith("PYTHON")}
    if _start_error(executable, clean) != "":
        return None
    for name in set_here:
        said = _start_error(executable, {**clean, name: variables[name]})
        if said:
            return ProbeProblem(
                f"{name} is {variables[name]}, and {executable} does not start with it: {said}",
                f"unset {name}",
            )
    return None


def find_fatal_variable_of_all(
    executable: Path, variables: Mapping[str, str]
) -> Optional[ProbeProblem]:
    """The same among all variables of Python, where it does not answer. That PYTHONPATH is to blame
    is found with the file that it leads to."""
    names = sorted(name for name in variables if name.startswith("PYTHON"))
    return find_fatal_variable(
        executable, variables, [name for name in names if name != "PYTHONPATH"]
    )


def _start_error(executable: Path, variables: Mapping[str, str]) -> Optional[str]:
    """What the interpreter says when it does not start; "": it starts; None: nobody knows."""
    command = [str(executable), "-B", "-c", "import os, re"]
    environ = child_environment(variables)
    try:
        done = process.start(command, env=environ, cwd=Path(os.sep)).wait(START_TIMEOUT)
    except OSError:
        return None
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    said = [line for line in lines if "Error" in line or line.startswith("Fatal")]
    return said[-1] if said else "it ends"


def find_unreadable_settings(executable: Path) -> Optional[ProbeProblem]:
    """A pyvenv.cfg that is no text: with it Python ends at its start, or does not come to it."""
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
    """ "python3.11", as pyvenv.cfg says."""
    try:
        text = (read_plain_file(prefix / "pyvenv.cfg") or b"").decode("utf-8", "replace")
    except OSError:
        return "python3"
    found = re.search(r"(?m)^version(?:_info)?\s*=\s*(\d+\.\d+)", text)
    return f"python{found.group(1)}" if found else "python3"


def find_working_folder() -> Optional[Path]:
    """Resolved; None where it was removed meanwhile."""
    try:
        return Path(os.path.realpath(os.curdir))
    except OSError:
        return None


def find_programs(variables: Mapping[str, str]) -> Tuple[Program, ...]:
    """What these names start in the person's shell."""
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
    """What a script names in its first line; of pip's and distlib's long form (#!/bin/sh, then
    exec) what stands there."""
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


# --- the ways to the hosts ------------------------------------------------------------------------

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
ADDRESS_SETTINGS = ("proxy", "index-url", "extra-index-url", "find-links")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONNECT_TIMEOUT = 0.5  # seconds; on this machine the answer comes at once


def find_closed_ports(
    variables: Mapping[str, str], settings: Mapping[str, str]
) -> Tuple[ClosedPort, ...]:
    """The proxies and indexes on this machine at which nothing listens. No other machine is
    asked."""
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
    """The variables that name certificates which are not there, with what they name."""
    return {
        name: variables[name]
        for name in CERTIFICATE_VARIABLES
        if variables.get(name) and not os.path.exists(variables[name])
    }
