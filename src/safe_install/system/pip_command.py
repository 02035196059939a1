"""Selects the pip for an interpreter, its command line and its environment variables."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pkgutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from packaging.version import InvalidVersion, Version

from safe_install.models import Interpreter
from safe_install.system import process

OLDEST_PIP = Version("23.0")  # older ones were not tested
OLDEST_FOREIGN_PIP = Version("23.1")  # the first whose option --python works as today
# the first that builds a setup.py in isolation if `wheel` is missing
FIRST_TO_ISOLATE_LEGACY = Version("23.1")
# the first that constrains build requirements by --build-constraint only
FIRST_WITHOUT_CONSTRAINED_BUILDS = Version("26.2")
# the variables that name requirements
NAMING_VARIABLES = ("PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_GROUP", "PIP_REQUIREMENTS_FROM_SCRIPT")


class PipCommand(NamedTuple):
    """The command line of pip for one managed interpreter."""

    command: Tuple[str, ...]
    version: Version
    origin: str  # "environment", "ensurepip", "ours"


def select_pip(interpreter: Interpreter, own: Optional[PipCommand]) -> Optional[PipCommand]:
    """The pip for an interpreter: its own one if it is new enough, else the wheel bundled with its
    Python (ensurepip), else `own`."""
    executable = str(interpreter.executable)
    version = _parse(interpreter.pip_version)
    if version is not None and version >= OLDEST_PIP:
        return PipCommand((executable, "-m", "pip"), version, "environment")
    wheel = interpreter.ensurepip_wheel
    if wheel is not None:
        version = _parse(wheel.name.split("-")[1])
        if version is not None and version >= OLDEST_PIP:
            return PipCommand((executable, str(wheel / "pip")), version, "ensurepip")
    return own


def find_pip_version(interpreter: Interpreter) -> Optional[Version]:
    """The version of the pip for an interpreter; None if there is none."""
    found = select_pip(interpreter, None) or find_own_pip(interpreter)
    return found.version if found is not None else None


def build_options(version: Version, *, has_wheel: bool) -> Tuple[str, ...]:
    """The options for building a source distribution that has a setup.py and no pyproject.toml.

    A wheel is needed. Without the project `wheel`, pip 23.0 runs `setup.py install`, which makes
    none. Newer pips build in isolation then (PEP 517), so pip 23.0 must do it, too.
    """
    return () if has_wheel or version >= FIRST_TO_ISOLATE_LEGACY else ("--use-pep517",)


def unpack(pip: PipCommand, interpreter: Interpreter, cache_dir: Path) -> PipCommand:
    """The command for a bundled wheel of pip, after unpacking it into our cache. Others are
    returned as they are.

    It is unpacked and compiled once for each Python. Run from the wheel, pip would be compiled at
    each start (measured: 1.1 s instead of 0.4 s).
    """
    if pip.origin != "ensurepip":
        return pip
    wheel = Path(pip.command[1]).parent
    folder = cache_dir / "pip" / f"{wheel.name[: -len('.whl')]}-{interpreter.python_tag}"
    if not _is_unpacked(wheel, folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(folder.parent)) as made:
            unpacked = Path(made) / "unpacked"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
            _compile(interpreter, unpacked)
            with contextlib.suppress(OSError):
                folder.rename(Path(made) / "damaged")  # removed with the temporary folder
            try:
                unpacked.rename(folder)
            except OSError:
                pass  # another safe-install was faster
    return PipCommand((pip.command[0], str(folder / "pip")), pip.version, pip.origin)


def _compile(interpreter: Interpreter, folder: Path) -> None:
    command = [str(interpreter.executable), "-m", "compileall", "-q", "-j", "0", str(folder)]
    process.run(command, env=isolated_environment())


def _is_unpacked(wheel: Path, folder: Path) -> bool:
    """Are all files of the wheel in the folder, with the right sizes? Programs that clean caches
    remove some of them."""
    if not folder.is_dir():
        return False
    with zipfile.ZipFile(wheel) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
    try:
        return all((folder / file.filename).stat().st_size == file.file_size for file in files)
    except OSError:
        return False


def find_own_pip(interpreter: Interpreter) -> Optional[PipCommand]:
    """The pip of our own Python, run for `interpreter`: the installed one, else the bundled wheel.
    None if both are missing or too old."""
    foreign = ("--python", str(interpreter.executable))
    if importlib.util.find_spec("pip") is not None:
        from importlib import metadata

        version = _parse(metadata.version("pip"))
        if version is not None and version >= OLDEST_FOREIGN_PIP:
            return PipCommand((sys.executable, "-m", "pip", *foreign), version, "ours")
    bundled = sorted((Path(os.__file__).parent / "ensurepip" / "_bundled").glob("pip-*.whl"))
    if bundled:
        version = _parse(bundled[-1].name.split("-")[1])
        if version is not None and version >= OLDEST_FOREIGN_PIP:
            return PipCommand((sys.executable, str(bundled[-1] / "pip"), *foreign), version, "ours")
    return None


def command_for_markers(pip: PipCommand, markers: Mapping[str, str]) -> Tuple[str, ...]:
    """The command that runs this pip with the environment markers of another machine. Only for
    plans."""
    script = (pkgutil.get_data("safe_install.system", "pip_script.py") or b"").decode("utf-8")
    is_module = pip.command[1] == "-m"
    place = "" if is_module else str(Path(pip.command[1]).parent)
    return (pip.command[0], "-c", script, json.dumps(dict(markers), sort_keys=True), place)


def _parse(text: Optional[str]) -> Optional[Version]:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None


# the variables that would install elsewhere, or change what pip prints
_OVERRIDDEN_VARIABLES = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_DRY_RUN",
    "PIP_REPORT",
    "FORCE_COLOR",
)


def pip_environment(pip_version: Version, *, named_only: bool = False) -> Dict[str, str]:
    """The variables for a pip with the user's settings (PIP_*), without those that would install
    elsewhere.

    `named_only`: also without those that add requirements. For a pip that must only handle the
    requirements of its command line.
    """
    variables = process.inherited_variables()
    for name in _OVERRIDDEN_VARIABLES:
        variables.pop(name, None)
    if named_only:
        for name in (*NAMING_VARIABLES, "PIP_REQUIRE_HASHES", "PIP_PYTHON"):
            variables.pop(name, None)
        if variables.get("PIP_USE_DEPRECATED") == "legacy-resolver":
            del variables["PIP_USE_DEPRECATED"]
        if pip_version >= FIRST_WITHOUT_CONSTRAINED_BUILDS:
            variables.pop("PIP_CONSTRAINT", None)
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    variables["PYTHONUNBUFFERED"] = "1"
    return variables


def isolated_environment() -> Dict[str, str]:
    """The variables for a pip without the user's settings and configuration files."""
    inherited = process.inherited_variables()
    variables = {name: value for name, value in inherited.items() if not name.startswith("PIP_")}
    variables["PIP_CONFIG_FILE"] = os.devnull
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    variables["PIP_ROOT_USER_ACTION"] = "ignore"
    variables["PIP_BREAK_SYSTEM_PACKAGES"] = "1"  # PEP 668 was checked before
    return variables
