"""Selects a pip for an interpreter, with its command line and environment variables."""

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

OLDEST_PIP = Version("23.0")  # the first whose --dry-run --report we were tried with
OLDEST_FOREIGN_PIP = Version("23.1")  # of our own pip: `pip --python` as it works today
# from here on pip builds a setup.py in isolation where `wheel` is missing
FIRST_TO_ISOLATE_LEGACY = Version("23.1")
# From here on pip takes constraints for what it builds with from --build-constraint alone.
FIRST_WITHOUT_CONSTRAINED_BUILDS = Version("26.2")
# Variables that name requirements.
NAMING_VARIABLES = ("PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_GROUP", "PIP_REQUIREMENTS_FROM_SCRIPT")


class PipCommand(NamedTuple):
    """The command line of pip for one managed interpreter."""

    command: Tuple[str, ...]
    version: Version
    origin: str  # "environment", "ensurepip", "ours"


def select_pip(interpreter: Interpreter, own: Optional[PipCommand]) -> Optional[PipCommand]:
    """The managed interpreter's own pip if it is new enough, else the wheel bundled with its Python
    (ensurepip), else `own`."""
    executable = str(interpreter.executable)
    version = _parse(interpreter.pip_version)
    if version is not None and version >= OLDEST_PIP:
        return PipCommand((executable, "-m", "pip"), version, "environment")
    wheel = interpreter.ensurepip_wheel
    if wheel is not None:
        carried = _parse(wheel.name.split("-")[1])
        if carried is not None and carried >= OLDEST_PIP:
            return PipCommand((executable, str(wheel / "pip")), carried, "ensurepip")
    return own


def find_pip_version(interpreter: Interpreter) -> Optional[Version]:
    """The version of the pip that would be used for an interpreter; None where there is none."""
    found = select_pip(interpreter, None) or own_pip(interpreter)
    return found.version if found is not None else None


def build_options(version: Version, *, has_wheel: bool) -> Tuple[str, ...]:
    """The options with which this pip builds a source distribution that has a setup.py and no
    pyproject.toml.

    Where `wheel` is not installed, pip 23.0 runs `setup.py install`, which needs no bdist_wheel,
    and builds no wheel. We need a wheel, and setuptools before 70.1 cannot make one by itself;
    newer pips build in isolation then (PEP 517).
    """
    return () if has_wheel or version >= FIRST_TO_ISOLATE_LEGACY else ("--use-pep517",)


def unpack(pip: PipCommand, interpreter: Interpreter, cache_dir: Path) -> PipCommand:
    """The pip of a wheel file, unpacked into our cache once for each Python: run from the wheel it
    compiles itself at each start (measured: 1.1 s instead of 0.4)."""
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
            command = [
                str(interpreter.executable),
                "-m",
                "compileall",
                "-q",
                "-j",
                "0",
                str(unpacked),
            ]
            process.run(command, env=sealed_environment())
            with contextlib.suppress(OSError):
                folder.rename(Path(made) / "damaged")  # removed with the temporary folder
            try:
                unpacked.rename(folder)
            except OSError:
                pass  # another safe-install was faster
    return PipCommand((pip.command[0], str(folder / "pip")), pip.version, pip.origin)


def _is_unpacked(wheel: Path, folder: Path) -> bool:
    """Are all files of the wheel in the folder, with their sizes? Programs that clean caches remove
    some of them."""
    if not folder.is_dir():
        return False
    with zipfile.ZipFile(wheel) as archive:
        expected = {
            info.filename: info.file_size for info in archive.infolist() if not info.is_dir()
        }
    try:
        return all((folder / name).stat().st_size == size for name, size in expected.items())
    except OSError:
        return False


def own_pip(interpreter: Interpreter) -> Optional[PipCommand]:
    """The pip installed beside this program, or the wheel bundled with our own Python, run for
    `interpreter`."""
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


def as_elsewhere(pip: PipCommand, markers: Mapping[str, str]) -> Tuple[str, ...]:
    """The command that runs this pip with the markers of another machine; for plans only."""
    script = (pkgutil.get_data("safe_install.system", "pip_script.py") or b"").decode("utf-8")
    is_module = pip.command[1] == "-m"
    place = "" if is_module else str(Path(pip.command[1]).parent)
    return (pip.command[0], "-c", script, json.dumps(dict(markers), sort_keys=True), place)


def _parse(text: Optional[str]) -> Optional[Version]:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None


def relayed_environment(pip_version: Version, *, named_only: bool = False) -> Dict[str, str]:
    """The person's own variables (PIP_* are pip's to honour), less those that would send pip's work
    elsewhere."""
    variables = process.inherited_variables()
    # Colours would reach the person as the characters that they are made of.
    for name in (
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_USER",
        "PIP_DRY_RUN",
        "PIP_REPORT",
        "FORCE_COLOR",
    ):
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


def sealed_environment() -> Dict[str, str]:
    """No configuration at all: what is staged was decided, and comes from our own folder only."""
    inherited = process.inherited_variables()
    variables = {name: value for name, value in inherited.items() if not name.startswith("PIP_")}
    variables["PIP_CONFIG_FILE"] = os.devnull
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    variables["PIP_ROOT_USER_ACTION"] = "ignore"
    variables["PIP_BREAK_SYSTEM_PACKAGES"] = "1"  # PEP 668 was checked before
    return variables
