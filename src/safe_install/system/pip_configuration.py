"""pip's settings: its configuration files and its variables."""

from __future__ import annotations

import configparser
import os
import stat
from pathlib import Path
from typing import Dict, List, Mapping

from safe_install.folders import find_home

SYSTEM_FILE = Path("/etc/pip.conf")
LARGEST = 10_000_000  # bytes: what somebody wrote has some hundreds


def read_configuration(prefix: Path, environ: Mapping[str, str], command: str) -> Mapping[str, str]:
    """pip's settings for `command` by option key ("no-deps"): its configuration files, then its
    PIP_* variables.

    The places and their order are those of pip.pypa.io/en/stable/topics/configuration.
    """
    sections: Dict[str, Dict[str, str]] = {"global": {}, command: {}}
    for path in _configuration_files(prefix, environ):
        parser = configparser.RawConfigParser()
        if _fault_of(path, parser):
            continue  # pip will say what is wrong with it
        for section, values in sections.items():
            if parser.has_section(section):
                values.update((_option_key(key), value) for key, value in parser.items(section))
    # The command's own section wins over [global], whichever file either stands in; an empty value
    # says nothing.
    variables = {
        _option_key(name[4:]): value for name, value in environ.items() if name.startswith("PIP_")
    }
    found: Dict[str, str] = {}
    for values in (sections["global"], sections[command], variables):
        found.update(
            (key, value)
            for key, value in values.items()
            if value and key not in ("config-file", "version")
        )
    return found


def find_broken_files(prefix: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The configuration files with which pip does not start, and what is wrong with each."""
    found: Dict[str, str] = {}
    for path in _configuration_files(prefix, environ):
        fault = _fault_of(path, configparser.RawConfigParser())
        if fault:
            found[str(path)] = fault
    return found


def _fault_of(path: Path, parser: configparser.RawConfigParser) -> str:
    """Read into `parser`; why it cannot be, as one line. A file that is not there is none."""
    fault = _why_endless(path)
    if fault:
        return fault
    try:
        parser.read(str(path), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _why_endless(path: Path) -> str:
    """Why reading it would take all time or all memory; "" where it would not."""
    try:
        status = path.stat()
    except OSError:
        return ""
    if stat.S_ISFIFO(status.st_mode):
        return "it is a FIFO, and who reads it waits for a writer"
    if stat.S_ISCHR(status.st_mode) and not path.samefile(os.devnull):
        return "it is a device, which may have no end"
    if stat.S_ISREG(status.st_mode) and status.st_size > LARGEST:
        return f"it has {status.st_size} bytes"
    return ""


def _option_key(name: str) -> str:
    key = name.lower().replace("_", "-")
    return key[2:] if key.startswith("--") else key


def _configuration_files(prefix: Path, environ: Mapping[str, str]) -> List[Path]:
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    home = find_home(environ)
    folders = [
        Path(folder) for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if folder
    ]
    files = [folder / "pip" / "pip.conf" for folder in folders] + [SYSTEM_FILE]
    # A chosen file takes the place of the user's. Path.exists raises where it may not look.
    if chosen is None or not os.path.exists(chosen):  # noqa: PTH110
        files += [home / ".pip" / "pip.conf"]
        files += [Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"]
    return [*files, prefix / "pip.conf", *([Path(chosen)] if chosen else [])]
