"""Reads the facts of a report that the checks do not need: the machine, the origin of extensions,
and the last changes."""

from __future__ import annotations

import datetime
import getpass
import os
import platform
import re
import shutil
import socket
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from safe_install.diagnosis.facts import Facts, imports_torch
from safe_install.diagnosis.report import Extension, MachineDescription
from safe_install.diagnosis.torch_checks import failed_extensions
from safe_install.environment.record import read_plain_file
from safe_install.errors import SafeInstallError
from safe_install.index.catalog import known_projects
from safe_install.models import InstalledDistribution
from safe_install.system import process
from safe_install.torch_family import COMPANIONS
from safe_install.transaction.history import HistoryEntry, read_history
from safe_install.transaction.summary import describe_changes

PROGRAM_TIMEOUT = 5.0  # seconds
CHANGES_SHOWN = 5


def describe_machine(facts: Facts) -> MachineDescription:
    """All facts of a report that the checks do not need."""
    changes = _read_changes(facts)
    return MachineDescription(
        system=_system(),
        platform=platform.platform(),
        gcc=_version_of(facts.variables, "gcc", r"gcc (.*)"),
        clang=_version_of(facts.variables, "clang", r"clang version (.*)"),
        cmake=_version_of(facts.variables, "cmake", r"cmake (.*)"),
        nvcc=_version_of(facts.variables, "nvcc", r"release .+ V(.*)"),
        cudnn=_cudnn(facts.variables),
        python=_python(facts),
        is_debug_build=_debug_build(facts),
        has_conda=_find_conda(facts.variables) is not None,
        processor=_ask_program(facts.variables, "lscpu") or _processor(),
        home=facts.variables.get("HOME", ""),
        user=_user(),
        host=socket.gethostname(),
        changes=tuple(_change_line(entry) for entry in changes[:CHANGES_SHOWN]),
        extensions=_extensions(facts, changes),
    )


def _system() -> str:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return f"{value.strip().strip(chr(34))} ({platform.machine()})"
    return ""


def _version_of(variables: Mapping[str, str], program: str, pattern: str) -> str:
    """The version that a program prints, in collect_env's form; "" if there is none."""
    match = re.search(pattern, _ask_program(variables, program, "--version"))
    return match.group(1).strip() if match is not None else ""


def _ask_program(variables: Mapping[str, str], program: str, *words: str) -> str:
    """The stdout of a program on PATH; "" if there is none, or it fails."""
    path = shutil.which(program, path=variables.get("PATH", os.defpath))
    if path is None:
        return ""
    try:
        answer = process.run([path, *words], timeout=PROGRAM_TIMEOUT)
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _cudnn(variables: Mapping[str, str]) -> str:
    """The cuDNN files that the loader knows, in collect_env's form. Those of pip's packages are not
    among them."""
    files = set()
    for line in _ask_program(variables, "ldconfig", "-p").splitlines():
        path = os.path.realpath(line.split(" ")[-1])
        if "libcudnn" in line and os.path.isfile(path):
            files.add(path)
    if len(files) > 1:
        return "\n".join(["Probably one of the following:", *sorted(files)])
    return "".join(files)


def _python(facts: Facts) -> str:
    """The version of the managed interpreter, as it prints it; "" if it does not answer."""
    if facts.environment is None:
        return ""
    code = "import sys; print(sys.version.replace(chr(10), ' '), sys.maxsize.bit_length() + 1)"
    try:
        answer = process.run([str(facts.executable), "-IS", "-c", code], timeout=PROGRAM_TIMEOUT)
    except OSError:
        return ""
    version, _, bits = answer.stdout.strip().rpartition(" ")
    return f"{version} ({bits}-bit runtime)" if answer.returncode == 0 and version else ""


def _debug_build(facts: Facts) -> str:
    """`debug` in torch/version.py: "True", "False", or "" if it is not known."""
    torch = facts.environment.torch if facts.environment is not None else None
    if torch is None or torch.folder is None:
        return ""
    try:
        content = read_plain_file(torch.folder / "version.py") or b""
    except OSError:
        return ""
    text = content.decode("utf-8", "replace")
    match = re.search(r"(?m)^debug\s*=\s*(True|False)", text)
    return match.group(1) if match is not None else ""


def _find_conda(variables: Mapping[str, str]) -> Optional[str]:
    name = variables.get("CONDA_EXE", "conda")
    return shutil.which(name, path=variables.get("PATH", os.defpath))


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return f"{value.strip()}, {os.cpu_count()} logical"
    return f"{platform.machine()}, {os.cpu_count()} logical"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # a user ID without a name, in a container


# --- where extensions came from -------------------------------------------------------------------


def _read_changes(facts: Facts) -> Tuple[HistoryEntry, ...]:
    if facts.environment is None:
        return ()
    try:
        return read_history(facts.environment.interpreter.prefix)
    except (SafeInstallError, OSError):
        return ()


def _change_line(entry: HistoryEntry) -> str:
    when = datetime.datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d")
    undone = ", undone" if entry.undone_by else ""
    return f"{when} {describe_changes(entry.steps)}{undone}"


def _extensions(facts: Facts, changes: Tuple[HistoryEntry, ...]) -> Tuple[Extension, ...]:
    if facts.environment is None:
        return ()
    installed = facts.environment.installed
    names = sorted(name for name in {*known_projects(), *COMPANIONS} if name in installed)
    sources = _sources(changes)
    verdicts = _verdicts(facts)
    has_torch = facts.environment.torch is not None
    otherwise = "fits" if has_torch else "cannot tell: there is no torch"
    return tuple(
        Extension(
            name,
            installed[name].version,
            sources.get((name, installed[name].version)) or _direct_url(installed[name]),
            verdicts.get(name, otherwise),
        )
        for name in names
        if name != "torch"
    )


def _sources(changes: Tuple[HistoryEntry, ...]) -> Dict[Tuple[str, str], str]:
    """(project, version) -> origin, by the changes of safe-install; the newest change counts."""
    found: Dict[Tuple[str, str], str] = {}
    for entry in changes:
        for row in entry.steps:
            key = (str(row["name"]), str(row["version"]))
            kind = str(row.get("kind") or "")
            source = "built here" if kind == "built" else str(row.get("url") or "")
            found.setdefault(key, source)
    return found


def _direct_url(distribution: InstalledDistribution) -> str:
    value = distribution.direct_url or {}
    return str(value.get("url", ""))


def _verdicts(facts: Facts) -> Dict[str, str]:
    """What is wrong with an extension, by its project: with its import, else with its files."""
    verdicts: Dict[str, str] = {}
    if facts.health is not None and imports_torch(facts):
        owners = {module: name for name, modules in facts.modules.items() for module in modules}
        for finding in failed_extensions(facts.health, facts):
            asked = finding.subject.partition(" ")[0]  # of "torch-scatter on cpu"
            verdicts.setdefault(owners.get(asked, asked), finding.detail)
    for check in ("extension-files", "extension-gpu-code"):
        for finding in facts.found.get(check, ()):
            verdicts.setdefault(finding.subject, finding.detail)
    return verdicts
