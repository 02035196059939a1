"""Reads and writes the wheel file names of every host.

A name has the project, its version and the wheel tags (PEP 427). The torch and the accelerator are
in the local version identifier, in the host's folder (`index.location`), or nowhere. A grammar says
how a local version identifier gives them: a template, used for reading and writing. The wheel index
names the grammar of each host.
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
    """The parts of a wheel's file name."""

    distribution: str  # as written, "torch_scatter"
    version: str  # as written, "2.1.2+pt113cu117"
    build: str  # build tag, or ""
    python: str  # "cp38" or "py2.py3"
    abi: str  # "cp38"
    platform: str  # "linux_x86_64", or several joined by dots
    built_for: BuiltFor = field(default_factory=BuiltFor)

    @property
    def project(self) -> NormalizedName:
        """The canonical name of the project."""
        return canonicalize_name(self.distribution)

    @property
    def parsed_version(self) -> Version:
        """The version as a value. A second `+`, which PEP 440 does not allow, is read as a dot."""
        return _version(_replace_second_plus(self.version))

    @property
    def tags(self) -> FrozenSet[Tag]:
        """The wheel tags."""
        return _tags(f"{self.python}-{self.abi}-{self.platform}")

    def with_built_for(self, built_for: BuiltFor) -> WheelName:
        """The same name with other facts about what the wheel was built for."""
        return replace(self, built_for=built_for)

    def with_version(self, version: str) -> WheelName:
        """The same wheel under another version."""
        return replace(self, version=version)

    @property
    def filename(self) -> str:
        """The file name with these parts."""
        build = f"-{self.build}" if self.build else ""
        tags = f"{self.python}-{self.abi}-{self.platform}"
        return f"{self.distribution}-{self.version}{build}-{tags}.whl"


@lru_cache(maxsize=4096)
def _version(text: str) -> Version:
    return Version(text)


def _replace_second_plus(version: str) -> str:
    """`1.3.1+torch1.6.0+cu101` -> `1.3.1+torch1.6.0.cu101`. download.openmmlab.com used such names
    in 2020 and 2021."""
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
    """The parts of a wheel's file name, which may be percent-encoded. None: it is not the name of a
    wheel, or its version does not follow PEP 440."""
    if len(filename) > MAX_NAME:
        return None
    found = _NAME.match(unquote(filename))
    if found is None:
        return None
    try:
        version = _version(_replace_second_plus(found.group("version")))
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
    """How the local version identifiers of a host give what a wheel was built for.

    Fields of a template: {torch} 2.8.0, {minor} 2.8, {digits} 28 or 210, {digits3} 280 or 2100,
    {accelerator} cu126, {cuda} 12.6, {abi} TRUE or FALSE, {container} 25.04 for NVIDIA's container,
    {commit} hex digits.
    """

    template: str  # with its "+"; empty: the names have no local version identifier
    macos: Optional[str] = None  # the template for macOS, if it is another one
    cpu: Optional[str] = None  # the template for CPU builds, if it is another one


# The order matters for reading: the first template that matches and gives a plausible torch is
# used.
GRAMMARS: Mapping[str, LocalGrammar] = {
    "plain": LocalGrammar(""),
    "pytorch-untagged": LocalGrammar(""),  # as "plain"; the wheel is for every accelerator
    "pytorch": LocalGrammar("+{accelerator}", macos=""),
    "pytorch-cxx11": LocalGrammar("+{accelerator}.cxx11.abi"),
    "pyg-tagged": LocalGrammar("+pt{digits}{accelerator}", macos=""),
    "pyg-macos": LocalGrammar("+pt{digits}"),
    "astral": LocalGrammar("+cu.{cuda}.torch.{minor}", cpu="+cpu.torch.{minor}"),
    "astral-2025": LocalGrammar("+cu{cuda}torch{torch}cxx11abi{abi}"),
    # before "dao", which would read 25.04 as a torch
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
    """The grammar with a name of GRAMMARS, or of a template that begins with `+`."""
    return LocalGrammar(filename) if filename.startswith("+") else GRAMMARS[filename]


def is_grammar(filename: str) -> bool:
    """Is it the name of a grammar, or a template with known fields?"""
    if not filename.startswith("+"):
        return filename in GRAMMARS
    return set(re.findall(r"{(\w*)}", filename)) <= set(FIELDS)


def parse_local(local: str, *, first: Iterable[str] = ()) -> BuiltFor:
    """What a local version identifier says that a wheel was built for: `pt113cu117`,
    `cu.12.8.torch.2.11`, `cu121`.

    `first`: the names of grammars that are tried before all others: those of the host.
    """
    if not local:
        return BuiltFor()
    text = local.lower().replace("+", ".")
    # The release of a container looks like a torch (`torch25.04`), so its grammar is tried first.
    for grammar in (GRAMMARS["dao-container"], *map(grammar_of, first), *GRAMMARS.values()):
        for template in (grammar.template, grammar.cpu):
            if not template:
                continue
            found = _pattern(template).fullmatch(text)
            built = _read_fields(found.groupdict(), template) if found else None
            if built is not None:
                return replace(built, accelerator="cpu") if template == grammar.cpu else built
    return BuiltFor()


@lru_cache(maxsize=256)
def _pattern(template: str) -> Pattern[str]:
    return compile_template(template.lstrip("+").replace("+", ".").lower(), FIELDS)


def compile_template(template: str, fields: Mapping[str, str]) -> Pattern[str]:
    """The pattern that reads what a template writes. A field that occurs twice must have the same
    value twice. `fields`: the pattern of each field."""
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
    """What the fields of a local version identifier say; None for a torch that cannot exist."""
    torch = torch_of_fields(values)
    without_dots = values.get("digits") or values.get("digits3")
    if torch is not None and without_dots and not _is_plausible(torch):
        return None
    cuda = values.get("cuda")
    accelerator = values.get("accelerator")
    if not accelerator and cuda:
        accelerator = accelerator_of_cuda(cuda)
    abi = values.get("abi")
    cxx11_abi: Optional[bool] = None
    if abi:
        cxx11_abi = abi == "true"
    elif template.endswith(".cxx11.abi"):
        cxx11_abi = True
    return BuiltFor(torch, accelerator, cxx11_abi)


def torch_of_fields(values: Mapping[str, str]) -> Optional[str]:
    """The torch in the fields of a template, as exact as it is there: `2.8.0`, `2.8`, `nv25.04`.
    None: they have no torch."""
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


def _is_plausible(torch: str) -> bool:
    """Can there be a torch of this version? `torch270` is 2.7.0, not 2.70."""
    major, minor = torch.split(".")[:2]
    return int(minor) <= _MAX_MINOR.get(major, 39)


def fields_of(torch: str, accelerator: str, *, cxx11_abi: Optional[bool] = None) -> Dict[str, str]:
    """The fields of templates for a torch (`2.8.0`, `2.8` or `nv25.04`) and an accelerator. A field
    without a value is ""."""
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
    """The local version identifier with its `+`; "" if the grammar has none."""
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
    """A wheel's file name. `version`: the public version. `grammar`: see grammar_of. `tags`:
    (python, abi, platform). `build`: the build tag."""
    distribution = canonicalize_name(project).replace("-", "_")
    local = render_local(grammar_of(grammar), built_for=built_for, platform=tags[2])
    parts = [distribution, f"{version}{local}", *([build] if build else []), *tags]
    return f"{'-'.join(parts)}.whl"


def python_tags(python: str, abi: Optional[str] = None) -> Tuple[str, str]:
    """The python and ABI tags: "3.7" -> ("cp37", "cp37m"), "3.8" -> ("cp38", "cp38").

    `abi`: "abi3" -> ("cp38", "abi3"), "none" -> ("py3", "none").
    """
    major, minor = python.split(".")[:2]
    tag = f"cp{major}{minor}"
    if abi == "none":
        return f"py{major}", "none"
    if abi is not None:
        return tag, abi
    has_pymalloc_flag = (int(major), int(minor)) < (3, 8)
    return tag, f"{tag}m" if has_pymalloc_flag else tag


def build_filename(
    project: str,
    build: Build,
    host: HostEntry,
    *,
    accelerator: str,
    python: str,
    cxx11_abi: Optional[bool] = None,
) -> str:
    """The file name of a wheel of one row of the wheel index."""
    return render_filename(
        project,
        build.version,
        grammar=build.filename or host.filename,
        built_for=BuiltFor(build.torch, accelerator, cxx11_abi),
        tags=(*python_tags(python, build.abi), build.platform),
    )
