"""Wheel file names of every host, read and written.

A name carries the project, its version and the wheel tags (PEP 427); the torch and the accelerator stand in
the local version identifier, in the host's directory, or nowhere. What each host does is a grammar; the
wheel index says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Callable, FrozenSet, Mapping, Optional, Tuple
from urllib.parse import quote, unquote, urlsplit

from packaging.tags import Tag, parse_tag
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.index.document import Build, HostEntry
from safe_install.models import BuiltFor
from safe_install.tags import cuda_of_accelerator, parse_accelerator

MAX_NAME = 512  # characters; the longest real one has 140


@dataclass(frozen=True)
class WheelName:
    """What a wheel's file name says."""

    distribution: str  # as written, "torch_scatter"
    version: str  # as written, "2.1.2+pt113cu117"
    build: str  # build tag, "" where there is none
    python: str  # "cp38" or "py2.py3"
    abi: str  # "cp38"
    platform: str  # "linux_x86_64" or several joined by dots
    built_for: BuiltFor = field(default_factory=BuiltFor)

    @property
    def project(self) -> NormalizedName:
        """The canonical name."""
        return canonicalize_name(self.distribution)

    @property
    def parsed_version(self) -> Version:
        """The version as a value."""
        return _version(self.version)

    @property
    def tags(self) -> FrozenSet[Tag]:
        """The wheel tags."""
        return _tags(f"{self.python}-{self.abi}-{self.platform}")

    @property
    def filename(self) -> str:
        """The file name that says exactly this."""
        build = f"-{self.build}" if self.build else ""
        return f"{self.distribution}-{self.version}{build}-{self.python}-{self.abi}-{self.platform}.whl"


@lru_cache(maxsize=4096)
def _version(text: str) -> Version:
    return Version(text)


@lru_cache(maxsize=1024)
def _tags(text: str) -> FrozenSet[Tag]:
    return frozenset(parse_tag(text))


_NAME = re.compile(
    r"(?P<distribution>[A-Za-z0-9](?:[\w.]*[A-Za-z0-9])?)-(?P<version>[^-\s/]+)(?:-(?P<build>\d[^-]*))?"
    r"-(?P<python>[\w.]+)-(?P<abi>[\w.]+)-(?P<platform>[\w.]+)\.whl$",
    re.ASCII,
)


def parse_filename(filename: str) -> Optional[WheelName]:
    """A wheel's file name, percent-encoded or not; None for what is no wheel name with a PEP 440 version."""
    if len(filename) > MAX_NAME:
        return None
    found = _NAME.match(unquote(filename))
    if found is None:
        return None
    try:
        version = _version(found.group("version"))
    except InvalidVersion:
        return None
    return WheelName(
        distribution=found.group("distribution"),
        version=found.group("version"),
        build=found.group("build") or "",
        python=found.group("python"),
        abi=found.group("abi"),
        platform=found.group("platform"),
        built_for=parse_local(version.local or ""),
    )


# --- local version identifiers ---------------------------------------------------------------------

_PYG_LOCAL = re.compile(r"pt(\d)(\d{1,2})(cu\d{2,4}|cpu|rocm[\d.]+)?$")
_ASTRAL_LOCAL = re.compile(r"(?:cu\.(\d+\.\d+)|(cpu))\.torch\.(\d+\.\d+)$")
_CXX11_SUFFIX = ".cxx11.abi"


def parse_local(local: str) -> BuiltFor:
    """What a local version identifier says about torch: `pt113cu117`, `cu.12.8.torch.2.11`, `cu121`."""
    found = _PYG_LOCAL.match(local)
    if found:
        return BuiltFor(torch=f"{found.group(1)}.{found.group(2)}", accelerator=found.group(3))
    found = _ASTRAL_LOCAL.match(local)
    if found:
        accelerator = f"cu{found.group(1).replace('.', '')}" if found.group(1) else found.group(2)
        return BuiltFor(torch=found.group(3), accelerator=accelerator)
    abi = True if local.endswith(_CXX11_SUFFIX) else None
    accelerator_text = local[: -len(_CXX11_SUFFIX)] if abi else local
    parsed = parse_accelerator(accelerator_text) if accelerator_text else None
    return BuiltFor(accelerator=str(parsed) if parsed else None, cxx11_abi=abi)


_PYG_DIRECTORY = re.compile(r"/torch-(\d+\.\d+\.\d+)(?:\+([a-z0-9.]+))?/[^/]+$")
_PYTORCH_DIRECTORY = re.compile(r"/whl/(?:nightly/|test/|lts/[\d.]+/)?([a-z]+[\d.]*)/(?:[\w-]+/)?[^/]+$")


def parse_location(url: str) -> BuiltFor:
    """What the directory of a file says: `.../torch-1.8.0%2Bcu111/...` or `.../whl/cu121/...`."""
    path = unquote(urlsplit(url).path) if len(url) < 4096 else ""
    found = _PYG_DIRECTORY.search(path)
    if found:
        parsed = parse_accelerator(found.group(2) or "")
        return BuiltFor(torch=found.group(1), accelerator=str(parsed) if parsed else None)
    found = _PYTORCH_DIRECTORY.search(path)
    if found:
        parsed = parse_accelerator(found.group(1))
        return BuiltFor(accelerator=str(parsed) if parsed else None)
    return BuiltFor()


def parse_wheel_url(url: str) -> Optional[WheelName]:
    """A wheel's URL: its name, completed by what its directory says. None for anything else."""
    try:
        filename = urlsplit(url).path.rsplit("/", 1)[-1]
        location = parse_location(url)
    except ValueError:
        return None
    name = parse_filename(filename)
    if name is None:
        return None
    own = name.built_for
    # The directory knows X.Y.Z where the name has X.Y; the name is nearer to the bytes where they differ.
    same_minor = own.torch is None or (location.torch or "").startswith(own.torch + ".")
    torch = location.torch if location.torch and same_minor else own.torch
    return replace(name, built_for=BuiltFor(torch, own.accelerator or location.accelerator, own.cxx11_abi))


# --- writing ---------------------------------------------------------------------------------------


def _pyg_tagged(torch: str, accelerator: str, platform: str) -> str:
    if platform.startswith("macosx"):
        return ""
    return "+pt" + "".join(torch.split(".")[:2]) + accelerator


def _astral(torch: str, accelerator: str, platform: str) -> str:
    del platform
    cuda = cuda_of_accelerator(accelerator)
    return (
        f"+cu.{cuda}.torch." + ".".join(torch.split(".")[:2])
        if cuda
        else (f"+{accelerator}.torch." + ".".join(torch.split(".")[:2]))
    )


def _pytorch(torch: str, accelerator: str, platform: str) -> str:
    del torch
    return "" if platform.startswith("macosx") else f"+{accelerator}"


def _plain(torch: str, accelerator: str, platform: str) -> str:
    del torch, accelerator, platform
    return ""


LocalWriter = Callable[[str, str, str], str]
# name of a grammar -> (torch, accelerator, platform) -> local version identifier with its "+"
GRAMMARS: Mapping[str, LocalWriter] = {
    "astral": _astral,
    "pyg-plain": _plain,
    "pyg-tagged": _pyg_tagged,
    "pytorch": _pytorch,
    "pytorch-untagged": _plain,
}


def render_filename(
    project: str,
    version: str,
    *,
    grammar: str,
    torch: str,
    accelerator: str,
    tags: Tuple[str, str, str],
) -> str:
    """The file name under a grammar; `version` is the public one, `tags` (python, abi, platform)."""
    distribution = canonicalize_name(project).replace("-", "_")
    local = GRAMMARS[grammar](torch, accelerator, tags[2])
    return f"{distribution}-{version}{local}-{'-'.join(tags)}.whl"


def grammar_of(name: WheelName) -> Optional[str]:
    """The grammar that a name was written in, None where none fits."""
    local = name.version.partition("+")[2]
    if not local:
        return "pyg-plain"
    if _PYG_LOCAL.match(local):
        return "pyg-tagged"
    if _ASTRAL_LOCAL.match(local):
        return "astral"
    return "pytorch" if parse_accelerator(local) else None


def python_tags(python: str, abi: Optional[str] = None) -> Tuple[str, str]:
    """`"3.7"` -> (`cp37`, `cp37m`), `"3.8"` -> (`cp38`, `cp38`); with `abi` "abi3" or "none" as given."""
    major, minor = python.split(".")[:2]
    tag = f"cp{major}{minor}"
    if abi == "none":
        return f"py{major}", "none"
    if abi is not None:
        return tag, abi
    return tag, tag + ("m" if (int(major), int(minor)) < (3, 8) else "")


def build_filename(project: str, build: Build, host: HostEntry, *, accelerator: str, python: str) -> str:
    """The file name of one cell of a row of the wheel index."""
    return render_filename(
        project,
        build.version,
        grammar=build.filename or host.filename,
        torch=build.torch,
        accelerator=accelerator,
        tags=(*python_tags(python, build.abi), build.platform),
    )


def expand_template(template: str, **values: str) -> str:
    """A URL template of the wheel index with its values; `+` and other reserved characters become %XX."""
    scheme, _, rest = template.partition("://")
    filled = rest.format(**values)
    host, slash, path = filled.partition("/")
    return f"{scheme}://{host}{slash}{quote(path, safe='/')}"


def parse_accelerator_page(url: str) -> Optional[str]:
    """The accelerator of a page such as `.../whl/cu121/torchaudio/`, None where the address has none."""
    for segment in reversed(urlsplit(url).path.split("/")):
        parsed = parse_accelerator(segment)
        if parsed is not None:
            return str(parsed)
    return None
