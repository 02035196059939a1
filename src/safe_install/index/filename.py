"""Wheel file names of every host, read and written.

A name carries the project, its version and the wheel tags (PEP 427); the torch and the accelerator
stand in
the local version identifier, in the host's directory (`index.location`), or nowhere. What a local
version identifier says is a grammar: a template with the same fields for reading and for writing;
the wheel index says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Dict, FrozenSet, Iterable, Mapping, NamedTuple, Optional, Pattern, Tuple
from urllib.parse import unquote

from packaging.tags import Tag, parse_tag
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.index.facts import Build, HostEntry
from safe_install.models import BuiltFor
from safe_install.tags import accelerator_of_cuda, container_of_name, cuda_of_accelerator

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
        """The version as a value; a second `+`, which no version may have, reads as a dot."""
        return _version(_one_plus(self.version))

    @property
    def tags(self) -> FrozenSet[Tag]:
        """The wheel tags."""
        return _tags(f"{self.python}-{self.abi}-{self.platform}")

    def with_built_for(self, built_for: BuiltFor) -> WheelName:
        """The same name, completed by where the file lies."""
        return replace(self, built_for=built_for)

    def with_version(self, version: str) -> WheelName:
        """The same wheel under another version."""
        return replace(self, version=version)

    @property
    def filename(self) -> str:
        """The file name that says exactly this."""
        build = f"-{self.build}" if self.build else ""
        return f"{self.distribution}-{self.version}{build}-{self.python}-{self.abi}-{self.platform}.whl"


@lru_cache(maxsize=4096)
def _version(text: str) -> Version:
    return Version(text)


def _one_plus(version: str) -> str:
    """`1.3.1+torch1.6.0+cu101` -> `1.3.1+torch1.6.0.cu101`: the names of 2020 and 2021 on
    download.openmmlab.com."""
    public, plus, local = version.partition("+")
    return f"{public}{plus}{local.replace('+', '.')}"


@lru_cache(maxsize=1024)
def _tags(text: str) -> FrozenSet[Tag]:
    return frozenset(parse_tag(text))


_NAME = re.compile(
    r"(?P<distribution>[A-Za-z0-9](?:[\w.]*[A-Za-z0-9])?)-(?P<version>[^-\s/]+)(?:-(?P<build>\d[^-]*))?"
    r"-(?P<python>[\w.]+)-(?P<abi>[\w.]+)-(?P<platform>[\w.]+)\.whl$",
    re.ASCII,
)


def parse_filename(filename: str) -> Optional[WheelName]:
    """A wheel's file name, percent-encoded or not; None for what is no wheel name with a PEP 440
    version."""
    if len(filename) > MAX_NAME:
        return None
    found = _NAME.match(unquote(filename))
    if found is None:
        return None
    try:
        version = _version(_one_plus(found.group("version")))
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


# --- local version identifiers --------------------------------------------------------------------


class LocalGrammar(NamedTuple):
    """How the local version identifiers of some host say what a wheel was built for.

    Fields of a template: {torch} 2.8.0, {minor} 2.8, {digits} 28 or 210, {digits3} 280 or 2100,
    {accelerator} cu126, {cuda} 12.6, {abi} TRUE or FALSE, {container} 25.04 for NVIDIA's container,
    {commit} hex digits.
    """

    template: str  # with its "+"; empty: names say nothing
    macos: Optional[str] = None  # where the names of macOS wheels differ
    cpu: Optional[str] = None  # where those of CPU builds differ


# The order matters for reading: the first template that fits, with a torch that can be, is
# believed.
GRAMMARS: Mapping[str, LocalGrammar] = {
    "plain": LocalGrammar(""),
    "pytorch-untagged": LocalGrammar(""),  # the same, of a version that serves every accelerator
    "pytorch": LocalGrammar("+{accelerator}", macos=""),
    "pytorch-cxx11": LocalGrammar("+{accelerator}.cxx11.abi"),
    "pyg-tagged": LocalGrammar("+pt{digits}{accelerator}", macos=""),
    "pyg-macos": LocalGrammar("+pt{digits}"),
    "astral": LocalGrammar("+cu.{cuda}.torch.{minor}", cpu="+cpu.torch.{minor}"),
    "astral-2025": LocalGrammar("+cu{cuda}torch{torch}cxx11abi{abi}"),
    # before "dao": 25.04 is no torch
    "dao-container": LocalGrammar("+{accelerator}torch{container}cxx11abi{abi}"),
    "dao": LocalGrammar("+{accelerator}torch{minor}cxx11abi{abi}"),
    "dao-patch": LocalGrammar("+{accelerator}torch{torch}cxx11abi{abi}"),
    "sdbds": LocalGrammar("+{accelerator}torch{torch}cxx11abi{abi}fullbackward"),
    "cuda-torch": LocalGrammar("+{accelerator}torch{minor}"),
    "cuda-torch-patch": LocalGrammar("+{accelerator}torch{torch}"),
    "cosmos": LocalGrammar("+{accelerator}.torch{digits}"),
    "petermg": LocalGrammar("+{accelerator}.torch{digits3}"),
    "natten": LocalGrammar("+torch{digits3}{accelerator}"),
    "k2": LocalGrammar("+cuda{cuda}.torch{torch}", cpu="+cpu.torch{torch}"),
    "mmcv-2020": LocalGrammar("+torch{torch}+{accelerator}"),
    "miropsota": LocalGrammar("+{commit}pt{torch}{accelerator}"),
}
FIELDS: Mapping[str, str] = {
    "torch": r"\d+\.\d+\.\d+",
    "minor": r"\d+\.\d+",
    "container": r"2\d\.(?:0[1-9]|1[0-2])",
    "digits": r"\d{2,3}",
    "digits3": r"\d{3,4}",
    "accelerator": r"cu\d{2,4}|cpu|xpu|rocm\d+(?:\.\d+)*",
    "cuda": r"\d+\.\d+",
    "abi": r"true|false",
    "commit": r"[0-9a-f]{7,40}",
}
_MAX_MINOR = {"1": 13}  # torch 1.13 was followed by 2.0


def grammar_of(filename: str) -> LocalGrammar:
    """The grammar that a host or a row names: a key of GRAMMARS, or a template of its own that
    begins with `+`."""
    return LocalGrammar(filename) if filename.startswith("+") else GRAMMARS[filename]


def is_grammar(filename: str) -> bool:
    """Is this the name of a grammar, or a template whose fields are known?"""
    if not filename.startswith("+"):
        return filename in GRAMMARS
    return set(re.findall(r"{(\w*)}", filename)) <= set(FIELDS)


def parse_local(local: str, *, first: Iterable[str] = ()) -> BuiltFor:
    """What a local version identifier says about torch: `pt113cu117`, `cu.12.8.torch.2.11`,
    `cu121`.

    `first`: grammars of the host, read before those of the others.
    """
    if not local:
        return BuiltFor()
    text = local.lower().replace("+", ".")
    # A container's release reads like a torch: `torch25.04`. It is told apart before a host's own
    # grammar is tried.
    for grammar in (GRAMMARS["dao-container"], *map(grammar_of, first), *GRAMMARS.values()):
        for template in filter(None, (grammar.template, grammar.cpu)):
            found = _pattern(template).fullmatch(text)
            built = _read_fields(found.groupdict(), template) if found else None
            if built is not None:
                return replace(built, accelerator="cpu") if template == grammar.cpu else built
    return BuiltFor()


@lru_cache(maxsize=256)
def _pattern(template: str) -> Pattern[str]:
    return compile_template(template.lstrip("+").replace("+", ".").lower(), FIELDS)


def compile_template(template: str, fields: Mapping[str, str]) -> Pattern[str]:
    """A template as the pattern that reads what it writes; a field that stands twice must say the
    same twice."""
    parts = []
    seen = set()
    for text in re.split(r"({\w+})", template):
        name = text[1:-1]
        if text[:1] != "{":
            parts.append(re.escape(text))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>{fields[name]})")
    return re.compile("".join(parts), re.ASCII)


def _read_fields(values: Mapping[str, str], template: str) -> Optional[BuiltFor]:
    torch = torch_of_fields(values)
    without_dots = values.get("digits") or values.get("digits3")
    if torch is not None and without_dots and not _can_be(torch):
        return None
    cuda = values.get("cuda")
    accelerator = values.get("accelerator") or (accelerator_of_cuda(cuda) if cuda else None)
    abi = values.get("abi")
    cxx11_abi = abi == "true" if abi else True if template.endswith(".cxx11.abi") else None
    return BuiltFor(torch, accelerator, cxx11_abi)


def torch_of_fields(values: Mapping[str, str]) -> Optional[str]:
    """The torch that the fields of a template name, as exactly as they do: `2.8.0`, `2.8`,
    `nv25.04`, or None."""
    if values.get("container"):
        return f"nv{values['container']}"
    for name in ("torch", "base", "minor"):
        if values.get(name):
            return values[name]
    if values.get("digits3"):
        digits = values["digits3"]
        return f"{digits[0]}.{int(digits[1:-1])}.{digits[-1]}"
    if values.get("digits"):
        digits = values["digits"]
        return f"{digits[0]}.{int(digits[1:])}"
    return None


def _can_be(torch: str) -> bool:
    """`torch270` is 2.7.0 and not 2.70."""
    major, minor = torch.split(".")[:2]
    return int(minor) <= _MAX_MINOR.get(major, 39)


def fields_of(torch: str, accelerator: str, *, cxx11_abi: Optional[bool] = None) -> Dict[str, str]:
    """The fields of templates for a torch (`2.8.0`, `2.8` where no more is known, `nv25.04`) and an
    accelerator."""
    container = container_of_name(torch) or ""
    torch = "" if container else torch
    parts = torch.split(".")
    return {
        "container": container,
        "torch": torch,
        "minor": ".".join(parts[:2]),
        "digits": "".join(parts[:2]),
        "digits3": "".join(parts if len(parts) != 2 else [*parts, "0"]),
        "accelerator": accelerator,
        "cuda": cuda_of_accelerator(accelerator) or "",
        "abi": "" if cxx11_abi is None else str(cxx11_abi).upper(),
    }


# --- writing --------------------------------------------------------------------------------------


def render_local(
    grammar: LocalGrammar, *, built_for: BuiltFor, platform: str, commit: str = ""
) -> str:
    """The local version identifier with its `+`, empty where names say nothing."""
    template = grammar.template
    if platform.startswith("macosx") and grammar.macos is not None:
        template = grammar.macos
    elif built_for.accelerator == "cpu" and grammar.cpu is not None:
        template = grammar.cpu
    fields = fields_of(
        built_for.torch or "", built_for.accelerator or "", cxx11_abi=built_for.cxx11_abi
    )
    return template.format(commit=commit, **fields)


def render_filename(
    project: str,
    version: str,
    *,
    grammar: str,
    built_for: BuiltFor,
    tags: Tuple[str, str, str],
    build: str = "",
) -> str:
    """The file name under a grammar; `version` is the public one, `tags` (python, abi,
    platform)."""
    distribution = canonicalize_name(project).replace("-", "_")
    local = render_local(grammar_of(grammar), built_for=built_for, platform=tags[2])
    return f"{distribution}-{version}{local}{f'-{build}' if build else ''}-{'-'.join(tags)}.whl"


def python_tags(python: str, abi: Optional[str] = None) -> Tuple[str, str]:
    """`"3.7"` -> (`cp37`, `cp37m`), `"3.8"` -> (`cp38`, `cp38`); with `abi` "abi3" or "none" as
    given."""
    major, minor = python.split(".")[:2]
    tag = f"cp{major}{minor}"
    if abi == "none":
        return f"py{major}", "none"
    if abi is not None:
        return tag, abi
    return tag, tag + ("m" if (int(major), int(minor)) < (3, 8) else "")


def build_filename(
    project: str,
    build: Build,
    host: HostEntry,
    *,
    accelerator: str,
    python: str,
    cxx11_abi: Optional[bool] = None,
) -> str:
    """The file name of one cell of a row of the wheel index."""
    return render_filename(
        project,
        build.version,
        grammar=build.filename or host.filename,
        built_for=BuiltFor(build.torch, accelerator, cxx11_abi),
        tags=(*python_tags(python, build.abi), build.platform),
    )
