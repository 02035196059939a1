#!/usr/bin/env python3
"""What this machine lacks for scripts/demo or scripts/test: everything at once, with one line to
copy.

    python3 scripts/check_machine.py demo | build | test | ci

demo is the demo without a compilation, build the demo with one (`--build`), test the test suite, ci
the same where a test that cannot run is a failure. It looks at the interpreter that runs it and at
the folder it is run in.
Exit status: 0 go on, 1 something needed is missing, 2 usage. Standard library only, Python 3.6
syntax: it runs before anything has been installed.
"""

import configparser
import os
import shutil
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

GIGABYTE = 1000 * 1000 * 1000
PURPOSES = ("demo", "build", "test", "ci")
PYPI = "https://pypi.org/simple"
PYTORCH = "https://download.pytorch.org/whl/cpu/"
TIMEOUT = 10  # seconds for a host to answer

# Oldest Python, and gigabytes in the folder of the clone and in the folder for temporary files.
# .demo takes 1.1 GB; the test suite's temporary folder was seen with 7 GB.
DEMO_PYTHON = (3, 10)
TEST_PYTHON = (3, 8)
DEMO_DISK = (2.5, 1.0)
TEST_DISK = (3.0, 9.0)


class Facts(NamedTuple):
    """What was found here."""

    python: Tuple[int, ...]  # (3, 11)
    system: bool  # the interpreter is the distribution's own, in /usr/bin
    venv: bool  # it can make virtual environments with pip
    headers: bool  # Python.h is there
    compiler: bool  # g++ can be called
    git: bool
    root: bool
    free: int  # bytes in this folder
    temporary: int  # bytes in the folder for temporary files
    same_disk: bool  # both folders are on one file system
    package_index: str  # why the package index cannot be reached, "" where it answers
    pytorch: str  # the same of the host of torch's CPU builds
    managers: List[str]  # of apt, dnf, conda: those that can be called


class Problem(NamedTuple):
    """Something that is missing."""

    needed: bool  # without it the script ends
    text: str
    packages: Dict[str, str]  # what each package manager calls it, {} where none has it


def find_problems(purpose: str, facts: Facts) -> List[Problem]:
    """Everything that is missing for a purpose, as Problems; what is needed comes first."""
    found = [
        _check_python(purpose, facts),
        _check_venv(facts),
        _check_compiler(purpose, facts),
        _check_headers(purpose, facts),
        _check_git(purpose, facts),
        _check_index(facts),
        _check_pytorch(purpose, facts),
    ]
    found.extend(_check_disk(purpose, facts))
    problems = [problem for problem in found if problem is not None]
    return sorted(problems, key=lambda problem: not problem.needed)


def _check_python(purpose: str, facts: Facts) -> Optional[Problem]:
    oldest = DEMO_PYTHON if purpose in ("demo", "build") else TEST_PYTHON
    if facts.python >= oldest:
        return None
    text = "Python {}.{} or newer: this is {}.{}; name another with PYTHON=python3.X".format(
        *(oldest + facts.python)
    )
    return Problem(True, text, {})


def _check_venv(facts: Facts) -> Optional[Problem]:
    if facts.venv:
        return None
    packages = {"apt": _python_package(facts, "venv"), "dnf": "python3", "conda": "python"}
    return Problem(
        True, "the modules venv and ensurepip, which make virtual environments", packages
    )


def _check_compiler(purpose: str, facts: Facts) -> Optional[Problem]:
    if facts.compiler or purpose == "demo":
        return None
    packages = {"apt": "g++", "dnf": "gcc-c++", "conda": "cxx-compiler"}
    text = "a C++ compiler (g++)"
    if purpose == "test":
        text += ": the tests that compile are skipped without it"
    return Problem(purpose != "test", text, packages)


def _check_headers(purpose: str, facts: Facts) -> Optional[Problem]:
    if facts.headers or purpose == "demo":
        return None
    packages = {"apt": _python_package(facts, "dev"), "dnf": "python3-devel", "conda": "python"}
    text = "Python.h, the headers of this Python"
    if purpose == "test":
        text += ": the tests that compile are skipped without it"
    return Problem(purpose != "test", text, packages)


def _check_git(purpose: str, facts: Facts) -> Optional[Problem]:
    if facts.git or purpose in ("demo", "build"):
        return None
    text = "git: tests that clone are skipped without it"
    return Problem(purpose == "ci", text, {"apt": "git", "dnf": "git", "conda": "git"})


def _check_index(facts: Facts) -> Optional[Problem]:
    if not facts.package_index:
        return None
    return Problem(
        True, f"the package index: {facts.package_index}; PIP_INDEX_URL names another", {}
    )


def _check_pytorch(purpose: str, facts: Facts) -> Optional[Problem]:
    if not facts.pytorch or purpose not in ("demo", "build"):
        return None
    text = f"the host of torch's CPU builds: {facts.pytorch}; your package index must have one then"
    return Problem(False, text, {})


def _check_disk(purpose: str, facts: Facts) -> List[Problem]:
    here, temporary = DEMO_DISK if purpose in ("demo", "build") else TEST_DISK
    if facts.same_disk:
        places = [("disk space here", here + temporary, facts.free)]
    else:
        places = [
            ("disk space here", here, facts.free),
            (
                "disk space for temporary files (TMPDIR names another folder)",
                temporary,
                facts.temporary,
            ),
        ]
    problems = []
    for place, wanted, free in places:
        if free < wanted * GIGABYTE:
            text = f"{place}: {free / GIGABYTE:.1f} GB are free, {wanted:.1f} GB are needed"
            problems.append(Problem(True, text, {}))
    return problems


def _python_package(facts: Facts, part: str) -> str:
    """Debian's name of a part of this Python: python3.11-dev of the distribution's own, python3-dev
    for others."""
    if facts.system:
        return f"python{facts.python[0]}.{facts.python[1]}-{part}"
    return "python3-" + part


def make_lines(problems: Sequence[Problem], facts: Facts) -> List[str]:
    """One line to copy for each package manager that is here, for all three where none is."""
    commands = (
        ("apt", "apt-get install -y"),
        ("dnf", "dnf install -y"),
        ("conda", "conda install -y -c conda-forge"),
    )
    lines = []
    for manager, command in commands:
        if facts.managers and manager not in facts.managers:
            continue
        packages = []
        for problem in problems:
            package = problem.packages.get(manager)
            if package and package not in packages:
                packages.append(package)
        if not packages:
            continue
        sudo = "" if facts.root or manager == "conda" else "sudo "
        update = sudo + "apt-get update && " if manager == "apt" else ""
        lines.append("{}{}{} {}".format(update, sudo, command, " ".join(packages)))
    return lines


def describe(problems: Sequence[Problem], facts: Facts) -> List[str]:
    """The whole report as lines; none where nothing is missing."""
    lines = []
    needed = [problem for problem in problems if problem.needed]
    others = [problem for problem in problems if not problem.needed]
    if needed:
        lines.append("Missing on this machine:")
        lines.extend("  - " + problem.text for problem in needed)
    if others:
        lines.append("Not here, and not needed:")
        lines.extend("  - " + problem.text for problem in others)
    commands = make_lines(problems, facts)
    if commands:
        lines.append("To install it:")
        lines.extend("  " + command for command in commands)
    return lines


# --- the machine ----------------------------------------------------------------------------------


def read_facts(purpose: str) -> Facts:
    """Look at this machine. At most 20 seconds, where hosts do not answer."""
    temporary = tempfile.gettempdir()
    managers = []
    for name, program in (("apt", "apt-get"), ("dnf", "dnf"), ("conda", "conda")):
        if shutil.which(program):
            managers.append(name)
    return Facts(
        python=sys.version_info[:2],
        system=os.path.realpath(sys.executable).startswith("/usr/bin/"),
        venv=_has_venv(),
        headers=os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
        compiler=_starts("g++"),
        git=_starts("git"),
        root=os.geteuid() == 0 if hasattr(os, "geteuid") else False,
        free=shutil.disk_usage(".").free,
        temporary=shutil.disk_usage(temporary).free,
        same_disk=os.stat(".").st_dev == os.stat(temporary).st_dev,
        package_index=_ask_index(),
        pytorch=_ask(PYTORCH) if purpose in ("demo", "build") else "",
        managers=managers,
    )


def _has_venv() -> bool:
    try:
        import ensurepip
        import venv
    except ImportError:
        return False
    # Debian's python3-minimal has the package without the wheels.
    return bool(venv) and bool(ensurepip.version())


def _starts(program: str) -> bool:
    try:
        return (
            subprocess.call(
                [program, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            == 0
        )
    except OSError:
        return False


def _ask_index() -> str:
    """The problem of the package index that pip will use, or ""."""
    if os.environ.get("PIP_NO_INDEX"):
        return ""
    return _ask(os.environ.get("PIP_INDEX_URL") or _configured_index() or PYPI)


def _configured_index() -> Optional[str]:
    """index-url in a configuration file of pip, the first that pip would take; None where no file
    has one."""
    home = os.path.expanduser("~")
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    files = [
        os.environ.get("PIP_CONFIG_FILE", ""),
        os.path.join(configuration, "pip", "pip.conf"),
        os.path.join(home, ".pip", "pip.conf"),
        "/etc/pip.conf",
    ]
    for path in files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("install", "global"):
            for key in ("index-url", "index_url"):
                if parser.has_option(section, key):
                    return parser.get(section, key).strip()
    return None


def _ask(url: str) -> str:
    """Why a host cannot be reached, or "". Any answer of its web server counts, and so does a
    certificate that this Python does not know: pip has certificates of its own."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return ""
    host = parts.hostname or ""
    # Credentials in the address are not sent, and not shown.
    address = "{}://{}/".format(parts.scheme, parts.netloc.rpartition("@")[2])
    request = urllib.request.Request(address, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return ""
        return f"{host} does not answer ({error.reason})"
    except (OSError, socket.timeout, ValueError) as error:
        return f"{host} does not answer ({error})"
    return ""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in PURPOSES:
        sys.stderr.write("usage: check_machine.py {}\n".format(" | ".join(PURPOSES)))
        return 2
    facts = read_facts(arguments[0])
    problems = find_problems(arguments[0], facts)
    for line in describe(problems, facts):
        print(line)
    return 1 if any(problem.needed for problem in problems) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
