"""The manifest of a bundle: for which environment it is, its wheels and their offsets. Pure.

The manifest is a JSON document in the bundle. It is not trusted, because it may be damaged or
malicious: every value is checked, and each file is compared with its hash before it is used.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from safe_install.errors import BundleInvalid
from safe_install.models import Environment, Finding, Interpreter, JsonValue, Severity
from safe_install.requirements import parse_requirement
from safe_install.torch_family import TORCH

FORMAT = 1
COPY_AGAIN = "Copy it again, and compare its sha256 with the one that was shown when it was made."


@dataclass(frozen=True)
class BundleTarget:
    """The environment for which the wheels were chosen."""

    python: str  # "3.11"
    platform: str  # "linux_x86_64"
    libc: Tuple[str, str] = ("", "")  # the oldest that works: ("glibc", "2.28"); ("", "") for any
    torch: str = ""  # that has to be installed, "2.8.0+cu126"; "" if the wheels do not need it

    def __str__(self) -> str:
        """`Python 3.11, linux_x86_64, glibc 2.28 or newer, beside torch 2.8.0+cu126`."""
        parts = [f"Python {self.python}", self.platform]
        if self.libc[1]:
            parts.append(f"{' '.join(self.libc)} or newer")
        if self.torch:
            parts.append(f"beside torch {self.torch}")
        return ", ".join(parts)


@dataclass(frozen=True)
class BundledWheel:
    """One wheel of a bundle."""

    name: str  # normalized
    version: str
    filename: str
    sha256: str
    size: int  # bytes
    # of its first byte in the bundle; None: it is not in the bundle, but in the target's cache
    offset: Optional[int] = 0
    url: str = ""  # its origin; "" for a local file of the machine that made the bundle
    is_listed: bool = False  # a package index lists it

    @property
    def is_inside(self) -> bool:
        """Are its bytes in the bundle?"""
        return self.offset is not None

    @property
    def tags(self) -> FrozenSet[Tag]:
        """Its wheel tags."""
        return parse_wheel_filename(self.filename)[3]


@dataclass(frozen=True)
class Manifest:
    """The content of a bundle."""

    requirements: Tuple[str, ...]  # that `install` installs
    made_for: BundleTarget
    wheels: Tuple[BundledWheel, ...]  # sorted by name
    lock_sha256: str
    program_sha256: str  # of the hashes of its files
    program_version: str
    program_python: str  # the oldest Python that runs it, "3.8"
    facts: str  # the date of the wheel index

    @property
    def size(self) -> int:
        """The size of all wheels in the bundle, in bytes."""
        return sum(wheel.size for wheel in self.wheels if wheel.is_inside)


# --- the document ---------------------------------------------------------------------------------


def render_manifest(manifest: Manifest) -> str:
    """The manifest as JSON. The same manifest gives the same text."""
    document = {
        "format": FORMAT,
        "program": {
            "version": manifest.program_version,
            "python": manifest.program_python,
            "sha256": manifest.program_sha256,
        },
        "facts": manifest.facts,
        "requirements": list(manifest.requirements),
        "made_for": describe_target(manifest.made_for),
        "lock": {"sha256": manifest.lock_sha256},
        "wheels": [{**_describe_file(wheel), "offset": wheel.offset} for wheel in manifest.wheels],
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def describe_target(made_for: BundleTarget) -> Dict[str, JsonValue]:
    """The target as JSON values."""
    return {
        "python": made_for.python,
        "platform": made_for.platform,
        "libc": list(made_for.libc),
        "torch": made_for.torch,
    }


def describe_wheel(wheel: BundledWheel) -> Dict[str, JsonValue]:
    """The wheel as JSON values, without its offset."""
    return {**_describe_file(wheel), "is_inside": wheel.is_inside}


def _describe_file(wheel: BundledWheel) -> Dict[str, JsonValue]:
    return {
        "name": wheel.name,
        "version": wheel.version,
        "filename": wheel.filename,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "url": wheel.url,
        "is_listed": wheel.is_listed,
    }


def parse_manifest(text: str, *, place: str, end: int) -> Manifest:
    """Parse a manifest. `place`: the bundle's path in messages; `end`: the size of the bundle in
    bytes. Errors: BundleInvalid."""
    try:
        document = json.loads(text)
        number = document["format"]
        if number != FORMAT:
            raise BundleInvalid(
                f"{place} has format {number!r}, and this safe-install knows {FORMAT}",
                hint="Use the program in the bundle: python FILE.zip.",
            )
        return _read_manifest(document, end)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleInvalid(f"{place}: its list is damaged: {error}", hint=COPY_AGAIN) from error


def _read_manifest(document: Mapping[str, object], end: int) -> Manifest:
    """Errors: KeyError, TypeError, ValueError."""
    wheels = tuple(_read_wheel(_table(row), end) for row in _list(document["wheels"]))
    names = [wheel.name for wheel in wheels]
    if len(set(names)) != len(names):
        raise ValueError("a project stands in it twice")
    program, lock = _table(document["program"]), _table(document["lock"])
    return Manifest(
        tuple(_requirement(text) for text in _list(document["requirements"])),
        _read_target(_table(document["made_for"])),
        wheels,
        lock_sha256=_hash(lock["sha256"]),
        program_sha256=_hash(program["sha256"]),
        program_version=_text(program["version"]),
        program_python=_matching(r"\d+\.\d+", program["python"]),
        facts=_text(document["facts"]),
    )


def _read_target(row: Mapping[str, object]) -> BundleTarget:
    """Errors: KeyError, TypeError, ValueError."""
    family, oldest = (_text(part) for part in _list(row["libc"]))
    return BundleTarget(
        _matching(r"\d+\.\d+", row["python"]),
        _text(row["platform"]),
        (family, _matching(r"(\d+\.\d+)?", oldest)),
        _text(row["torch"]),
    )


def _read_wheel(row: Mapping[str, object], end: int) -> BundledWheel:
    """Errors: KeyError, TypeError, ValueError."""
    filename = _text(row["filename"])
    name = check_filename(filename)
    if name != row["name"]:
        raise ValueError(f"{filename} is no file of {row['name']!r}")
    size = _number(row["size"])
    offset = None if row["offset"] is None else _number(row["offset"])
    if offset is not None and offset + size > end:
        raise ValueError(f"{filename} would lie behind the end")
    version = _text(row["version"])
    Version(version)  # raises InvalidVersion, which is a ValueError
    url = _matching(r"(https?://[^@\s]+)?", row["url"])
    is_listed = row["is_listed"] is True
    return BundledWheel(name, version, filename, _hash(row["sha256"]), size, offset, url, is_listed)


def check_filename(filename: str) -> str:
    """The project in the file name of a wheel. Errors: ValueError, also for a name with a slash,
    which could lead to another folder."""
    if not re.fullmatch(r"[\w+!][\w.+!-]{1,250}\.whl", filename, re.ASCII):
        raise ValueError(f"{filename!r} is no name of a wheel")
    try:
        return parse_wheel_filename(filename)[0]
    except InvalidWheelFilename as error:
        raise ValueError(f"{filename!r} is no name of a wheel") from error


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return value


def _list(value: object) -> List[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is no size")
    return value


def _matching(pattern: str, value: object) -> str:
    if not re.fullmatch(pattern, _text(value)):
        raise ValueError(f"{value!r} is not what stands there")
    return str(value)


def _requirement(value: object) -> str:
    """A requirement without a URL, from which it would be fetched. Errors: ValueError."""
    requirement = parse_requirement(_text(value))
    if requirement is None or requirement.url is not None:
        raise ValueError(f"{value!r} is no name of a project")
    return str(value)


def _hash(value: object) -> str:
    return _matching(r"[0-9a-f]{64}", value)


def with_offsets(manifest: Manifest, offsets: Mapping[str, int]) -> Manifest:
    """The manifest with the offsets of the wheels. `offsets`: file name -> offset, of the wheels in
    the bundle."""
    placed = (replace(wheel, offset=offsets.get(wheel.filename)) for wheel in manifest.wheels)
    return replace(manifest, wheels=tuple(placed))


# --- the target environment -----------------------------------------------------------------------


def find_oldest_libc(
    wheels: Sequence[BundledWheel], named: Tuple[str, str], here: Tuple[str, str]
) -> Tuple[str, str]:
    """The oldest libc with which all wheels are known to work.

    `named`: the libc of the machine that the user described, or ("", ""). `here`: the libc of this
    machine; it counts where a wheel has a plain linux tag, because the wheel was built or tried
    here.
    """
    if named[1]:
        return named
    needed: List[Tuple[str, str]] = []
    for wheel in wheels:
        oldest = _oldest_libc_of(wheel)
        if oldest is None:
            return here
        needed.append(oldest)
    return max(needed, key=lambda libc: _release(libc[1]), default=("", ""))


LEGACY = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}


def _oldest_libc_of(wheel: BundledWheel) -> Optional[Tuple[str, str]]:
    """The oldest libc by the wheel's tags; ("", "") for a wheel without machine code; None for a
    plain linux tag."""
    found: List[Tuple[str, str]] = []
    for tag in wheel.tags:
        modern = re.match(r"(many|musl)linux_(\d+)_(\d+)_", tag.platform)
        legacy = re.match(r"manylinux(1|2010|2014)_", tag.platform)
        if modern:
            family = "glibc" if modern.group(1) == "many" else "musl"
            found.append((family, f"{modern.group(2)}.{modern.group(3)}"))
        elif legacy:
            found.append(("glibc", LEGACY[f"manylinux{legacy.group(1)}"]))
        elif tag.platform.startswith("linux"):
            return None
    return min(found, key=lambda libc: _release(libc[1]), default=("", ""))


def _release(version: str) -> Tuple[int, ...]:
    return Version(version).release if version else ()


def find_misfits(manifest: Manifest, environment: Environment) -> Tuple[Finding, ...]:
    """The reasons why the bundle cannot be installed into this environment, as findings."""
    misfits = _other_python(manifest.made_for, environment.interpreter)
    misfits += _other_libc(manifest.made_for, environment.interpreter.libc)
    misfits += _other_torch(manifest, environment)
    if not misfits:
        misfits = _other_tags(manifest, environment.interpreter)
    hint = f"Make one for this environment: safe-install bundle {' '.join(manifest.requirements)}"
    return tuple(
        Finding("bundle-does-not-fit", Severity.ERROR, "bundle", f"the bundle {misfit}", hint)
        for misfit in misfits
    )


def _other_python(made_for: BundleTarget, interpreter: Interpreter) -> List[str]:
    place = interpreter.executable
    misfits: List[str] = []
    python = ".".join(interpreter.version.split(".")[:2])
    if interpreter.implementation != "cpython" or python != made_for.python:
        here = f"{interpreter.implementation} {interpreter.version}".replace("cpython", "Python")
        misfits.append(f"is for Python {made_for.python}, and {place} is {here}")
    if interpreter.platform != made_for.platform:
        misfits.append(f"is for {made_for.platform}, and {place} is for {interpreter.platform}")
    return misfits


def _other_tags(manifest: Manifest, interpreter: Interpreter) -> List[str]:
    supported = frozenset(interpreter.tags)
    misfits: List[str] = []
    for wheel in manifest.wheels:
        if not wheel.tags & supported:
            place = interpreter.executable
            misfits.append(f"holds {wheel.filename}, which does not fit {place}")
    return misfits


def _other_libc(made_for: BundleTarget, here: Tuple[str, str]) -> List[str]:
    family, oldest = made_for.libc
    if not oldest:
        return []
    is_older = family == here[0] and _release(here[1]) < _release(oldest)
    if family == here[0] and not is_older:
        return []
    found = " ".join(here).strip() or "a libc that is not known"
    return [f"needs {family} {oldest} or newer, and this machine has {found}"]


def _other_torch(manifest: Manifest, environment: Environment) -> List[str]:
    """Is the installed torch another one than the torch for which the wheels were chosen, or than
    the torch in the bundle?"""
    here = environment.torch
    present = f"has torch {here.runtime_version}" if here is not None else "has no torch"
    place = environment.interpreter.executable
    wanted = manifest.made_for.torch
    if wanted:
        if here is not None and here.runtime_version == wanted:
            return []
        return [f"was made for torch {wanted}, and {place} {present}"]
    bundled = next((wheel for wheel in manifest.wheels if wheel.name == TORCH), None)
    if bundled is None or here is None or Version(bundled.version) == here.version:
        return []
    return [f"brings torch {bundled.version}, and {place} {present}"]
