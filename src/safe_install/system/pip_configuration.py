"""Reads pip's settings from its configuration files and its variables."""

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
    """pip's settings for a command by option ("no-deps"), from its configuration files and its
    PIP_* variables. A variable overrides a file.

    Source for the files and their order: pip.pypa.io/en/stable/topics/configuration.
    """
    sections: Dict[str, Dict[str, str]] = {"global": {}, command: {}}
    for path in _configuration_files(prefix, environ):
        parser = configparser.RawConfigParser()
        if _read_into(parser, path):
            continue  # pip itself will report the error
        for section, values in sections.items():
            if parser.has_section(section):
                values.update((_option_key(key), value) for key, value in parser.items(section))
    variables = {}
    for name, value in environ.items():
        if name.startswith("PIP_"):
            variables[_option_key(name[4:])] = value
    # The command's section overrides [global], even if that is in a later file. Empty values do not
    # count.
    found: Dict[str, str] = {}
    for values in (sections["global"], sections[command], variables):
        for key, value in values.items():
            if value and key not in ("config-file", "version"):
                found[key] = value
    return found


def find_broken_files(prefix: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The configuration files that cannot be parsed, with the error of each. pip does not start
    with them."""
    found: Dict[str, str] = {}
    for path in _configuration_files(prefix, environ):
        error = _read_into(configparser.RawConfigParser(), path)
        if error:
            found[str(path)] = error
    return found


def _read_into(parser: configparser.RawConfigParser, path: Path) -> str:
    """Read a file into a parser. The result: the error as one line, or "". A missing file is
    empty."""
    reason = _why_endless(path)
    if reason:
        return reason
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
    """ "NO_DEPS" -> "no-deps"."""
    key = name.lower().replace("_", "-")
    return key[2:] if key.startswith("--") else key


def _configuration_files(prefix: Path, environ: Mapping[str, str]) -> List[Path]:
    """The files that pip reads. A later one overrides those before it."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    home = find_home(environ)
    folders = environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    files = [Path(folder, "pip", "pip.conf") for folder in folders if folder]
    files.append(SYSTEM_FILE)
    # A chosen file replaces the user's. Path.exists raises where it may not look.
    if not chosen or not os.path.exists(chosen):  # noqa: PTH110
        files.append(home / ".pip" / "pip.conf")
        files.append(Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf"))
    files.append(prefix / "pip.conf")
    if chosen:
        files.append(Path(chosen))
    return files
