"""The wheel index: one JSON document per project, read by name, refused as a whole when a key is not known.

The documents are data of the package `safe_install.wheel_index` (the folder `wheel_index/` of the
repository); they are read through `pkgutil`, so that they are found in a zipapp too. Their form is
described in `wheel_index/README.md` and in `wheel_index/schema.json`.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import json
import pkgutil
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from types import ModuleType
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.errors import IndexInvalid
from safe_install.tags import parse_accelerator

SCHEMA = 1
PACKAGE = "safe_install.wheel_index"
# Documents of the folder that are not projects.
_TABLES = ("torch", "cuda", "schema")


class TorchMatch(enum.Enum):
    """How near the torch that a wheel was built for must be to the installed one."""

    EXACT = "exact"  # X.Y.Z
    MINOR = "minor"  # X.Y
    ANY = "any"  # the binary does not depend on torch


class AcceleratorMatch(enum.Enum):
    """How near the accelerator of a wheel must be to torch's."""

    EXACT = "exact"  # cu126 for cu126; a major-only cu12 fits every 12.x
    MAJOR = "major"  # any 12.x for 12.x
    ANY = "any"  # the binary has no accelerator code


class Layout(enum.Enum):
    """How the pages of a host read."""

    FIND_LINKS = "find-links"  # one HTML page of anchors for several projects
    SIMPLE = "simple"  # PEP 503 HTML or PEP 691 JSON, one page per project
    PYPI = "pypi"  # the user's package index (pypi.org unless told otherwise)


@dataclass(frozen=True)
class HostEntry:
    """A place where wheels lie. In the templates stand {torch}, {base}, {accelerator}, {project}."""

    host: str  # short name for messages, "data.pyg.org"
    layout: Layout
    filename: str  # grammar of the file names, a key of index.filename.GRAMMARS
    pages: Tuple[str, ...] = ()  # URL templates, asked in order until one is there
    wheel: Optional[str] = None  # URL template of a file, with {file} too; None where only the page knows
    redirects: Tuple[str, ...] = ()  # hosts that a page or file of this one may redirect to
    torch: Tuple[str, ...] = ()  # asked for these releases of torch only; empty: for every one
    note: str = ""


@dataclass(frozen=True)
class Alias:
    """A torch version or accelerator whose page lists the wheels of another."""

    torch: str  # "1.8.1"
    base: str  # "1.8.0"
    accelerator: Optional[str] = None  # the alias holds for this accelerator only
    base_accelerator: Optional[str] = None  # whose wheels serve it


@dataclass(frozen=True)
class Build:
    """Wheels of one version that one host has for one torch."""

    host: str
    torch: str  # the host's directory, "1.8.0"
    version: str  # public version, "2.0.8"
    accelerators: Tuple[str, ...]
    platform: str  # wheel platform tag, "linux_x86_64"; "macos" or "*" where the exact tag is not known
    python: Tuple[str, ...]  # "3.8"
    filename: Optional[str] = None  # grammar, where it differs from the host's
    abi: Optional[str] = None  # "abi3" or "none" where one wheel serves the Pythons from the first named on
    note: str = ""


@dataclass(frozen=True)
class Sdist:
    """A source distribution on PyPI."""

    version: str
    url: str
    sha256: str
    requires_python: Optional[str] = None


@dataclass(frozen=True)
class Recipe:
    """How a source distribution becomes a wheel against the installed torch."""

    sdist: str  # distribution name on the package index
    requires: Tuple[str, ...]  # build tools, put into an overlay and not into the environment
    env: Mapping[str, str] = field(default_factory=dict)
    force_cuda: bool = False  # setup.py builds for the CPU where it sees no GPU unless FORCE_CUDA=1
    extension: bool = True  # compiles against torch's headers


@dataclass(frozen=True)
class Doubt:
    """Something that is claimed somewhere and not confirmed; never offered from the bundled facts."""

    subject: str
    why: str


@dataclass(frozen=True)
class Project:
    """All that is known about one project."""

    name: NormalizedName
    imports: Tuple[str, ...]
    native: Tuple[str, ...]  # patterns of shared objects below site-packages
    operation: Optional[str]  # Python source of a small operation; `device` is defined where it runs
    torch_match: TorchMatch
    accelerator_match: AcceleratorMatch
    pins_torch: bool  # its metadata wants one torch
    requires: Tuple[str, ...]  # requirements that its metadata hides
    hosts: Tuple[HostEntry, ...]
    aliases: Tuple[Alias, ...]
    pins: Mapping[str, str]  # public version -> specifier of the torch that it belongs to
    recipe: Optional[Recipe]
    builds: Tuple[Build, ...]
    sdists: Tuple[Sdist, ...]
    sha256: Mapping[str, str]  # URL -> hash, where one was published
    doubts: Tuple[Doubt, ...]
    checked: str  # date of the facts, ISO 8601
    sources: Tuple[str, ...]

    def base_of(self, torch: str, accelerator: str) -> Tuple[str, str]:
        """Torch and accelerator under which the hosts keep the wheels for `torch` ("1.8.1") and `accelerator`.

        An alias rule where there is one, else the X.Y.0 of the minor for projects that match by minor.
        """
        for alias in self.aliases:
            if alias.torch == torch and alias.accelerator == accelerator:
                return alias.base, alias.base_accelerator or accelerator
        for alias in self.aliases:
            if alias.torch == torch and alias.accelerator is None:
                return alias.base, accelerator
        if self.torch_match is TorchMatch.MINOR:
            return ".".join([*torch.split(".")[:2], "0"]), accelerator
        return torch, accelerator

    def pin_of(self, version: Version) -> Optional[SpecifierSet]:
        """The torch that a public version belongs to, None where it is not known here."""
        pin = self.pins.get(version.public)
        return SpecifierSet(pin) if pin else None


@dataclass(frozen=True)
class TorchRelease:
    """One release of torch."""

    version: str
    accelerators: Tuple[str, ...]  # of the Linux builds on download.pytorch.org
    untagged: Optional[str]  # accelerator of the Linux x86_64 wheel on PyPI, whose name has no local version
    companions: Mapping[str, str]  # project -> version that was released with it
    python: Tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class AbiRule:
    """Builds of torch for Linux from a version on (until the next rule), and their _GLIBCXX_USE_CXX11_ABI."""

    since: str
    cxx11_abi: bool
    accelerators: Tuple[str, ...] = ()  # empty: every one
    architectures: Tuple[str, ...] = ()  # empty: every one


@dataclass(frozen=True)
class TorchTable:
    """What is known about torch itself."""

    releases: Mapping[str, TorchRelease]
    abi_rules: Tuple[AbiRule, ...]

    def cxx11_abi_of(self, torch: str, accelerator: str, *, platform: str) -> Optional[bool]:
        """The C++ ABI of a public build; None where the question has no meaning (not Linux) or no answer."""
        if "linux" not in platform:
            return None
        version = parse_release(torch)
        if version is None:
            return None
        answer: Optional[bool] = None
        for rule in self.abi_rules:
            fits = (not rule.accelerators or any(_is_kind(accelerator, a) for a in rule.accelerators)) and (
                not rule.architectures or platform.endswith(rule.architectures)
            )
            if version >= Version(rule.since) and fits:
                answer = rule.cxx11_abi
        return answer

    def first_release_with(self, project: str, version: str) -> Optional[TorchRelease]:
        """The oldest torch that a companion's version was released with."""
        found = [r for r in self.releases.values() if r.companions.get(project) == version]
        return min(found, key=lambda release: Version(release.version)) if found else None


def _is_kind(accelerator: str, wanted: str) -> bool:
    """`rocm` stands for every ROCm."""
    parsed = parse_accelerator(accelerator)
    return accelerator == wanted or (parsed is not None and parsed.kind == wanted)


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit and the driver that came with it; drivers of at least that version serve it fully."""

    cuda: str
    linux: Optional[str]
    windows: Optional[str]


@dataclass(frozen=True)
class CudaTable:
    """What is known about CUDA and its drivers."""

    floors: Mapping[str, Tuple[Optional[str], Optional[str]]]  # accelerator -> (Linux, Windows)
    majors: Mapping[str, Tuple[Optional[str], Optional[str]]]  # CUDA major from 11 on -> (Linux, Windows)
    toolkits: Tuple[Toolkit, ...]  # newest first

    def driver_floor(self, accelerator: str, *, system: str = "linux") -> Optional[str]:
        """The oldest driver on which a build for `accelerator` starts; None when none is needed or known."""
        parsed = parse_accelerator(accelerator)
        if parsed is None or parsed.kind != "cuda":
            return None
        floors = self.floors.get(accelerator) or self.majors.get(str(parsed.version[0])) or (None, None)
        return floors[0] if system == "linux" else floors[1]

    def cuda_of_driver(self, driver: str, *, system: str = "linux") -> Optional[str]:
        """The newest CUDA that a driver serves fully: "535.104.05" -> "12.2"; None when it is older than all."""
        version = parse_release(driver)
        for toolkit in self.toolkits:
            own = parse_release((toolkit.linux if system == "linux" else toolkit.windows) or "")
            if version is not None and own is not None and version >= own:
                return toolkit.cuda
        return None


def parse_release(text: str) -> Optional[Version]:
    """A version without its local part, or None for what is none (distribution and vendor strings)."""
    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return None


# --- loading ---------------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def known_projects() -> FrozenSet[NormalizedName]:
    """The names of all projects in the index: the names of its files."""
    return frozenset(canonicalize_name(name) for name in _document_names() if name not in _TABLES)


@lru_cache(maxsize=None)
def load_project(name: str) -> Project:
    """One project by its name. Raises IndexInvalid when it is not known or its document is not valid."""
    canonical = canonicalize_name(name)
    if canonical not in known_projects():
        raise IndexInvalid(
            f"{name} is not in the wheel index", hint="the folder wheel_index lists the projects that are"
        )
    project = parse_project(_read_json(canonical), f"{canonical}.json")
    if project.name != canonical:
        raise IndexInvalid(f"{canonical}.json: its name is {project.name}", hint="name the file after the project")
    return project


@lru_cache(maxsize=None)
def torch_table() -> TorchTable:
    """What is known about torch."""
    return parse_torch_table(_read_json("torch"), "torch.json")


@lru_cache(maxsize=None)
def cuda_table() -> CudaTable:
    """What is known about CUDA."""
    return parse_cuda_table(_read_json("cuda"), "cuda.json")


def _document_names() -> List[str]:
    package = _data_package()
    if hasattr(resources, "files"):
        names = [entry.name for entry in resources.files(package).iterdir()]
    else:  # Python 3.8
        names = list(resources.contents(package))
    return sorted(name[: -len(".json")] for name in names if name.endswith(".json"))


@lru_cache(maxsize=None)
def _data_package() -> ModuleType:
    """The package that holds the documents; in a checkout that is not installed, the folder at its top."""
    try:
        return importlib.import_module(PACKAGE)
    except ModuleNotFoundError:
        parent = importlib.import_module(PACKAGE.rpartition(".")[0])
        path = f"{(parent.__file__ or '').rpartition('/src/')[0]}/wheel_index/__init__.py"
        spec = importlib.util.spec_from_file_location(PACKAGE, path, submodule_search_locations=[path[:-12]])
        if spec is None or spec.loader is None:
            raise
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = module
        spec.loader.exec_module(module)
        return module


def _read_json(name: str) -> Any:
    _data_package()
    data = pkgutil.get_data(PACKAGE, f"{name}.json")
    if data is None:
        raise IndexInvalid(f"{name}.json cannot be read", hint="reinstall torch-safe-install")
    return parse_json(data.decode("utf-8"), f"{name}.json")


def parse_json(text: str, where: str) -> Any:
    """JSON, with the document's name in the error."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise IndexInvalid(f"{where} is not JSON: {error}", hint="`scripts/test` checks every document") from error


# --- reading a document ----------------------------------------------------------------------------


class _Reader:
    """Takes the keys of one JSON object one by one; what is left over at the end is an error."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _invalid(where, "must be an object")
        self._left: Dict[str, Any] = dict(value)
        self._where = where

    def text(self, key: str, default: Optional[str] = None) -> str:
        found = self._take(key, default)
        if not isinstance(found, str):
            raise _invalid(f"{self._where}.{key}", "must be a text")
        return found

    def optional_text(self, key: str) -> Optional[str]:
        return self.text(key) if self._left.get(key) is not None else self._left.pop(key, None)

    def flag(self, key: str, default: Optional[bool] = None) -> bool:
        found = self._take(key, default)
        if not isinstance(found, bool):
            raise _invalid(f"{self._where}.{key}", "must be true or false")
        return found

    def texts(self, key: str, default: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
        found = self._take(key, default)
        if isinstance(found, str) or not all(isinstance(item, str) for item in found):
            raise _invalid(f"{self._where}.{key}", "must be a list of texts")
        return tuple(found)

    def mapping(self, key: str, default: Optional[Mapping[str, Any]] = None) -> Mapping[str, Any]:
        found = self._take(key, default)
        if not isinstance(found, dict):
            raise _invalid(f"{self._where}.{key}", "must be an object")
        return found

    def text_mapping(self, key: str) -> Mapping[str, str]:
        found = self.mapping(key, {})
        for name, value in found.items():
            if not isinstance(value, str):
                raise _invalid(f"{self._where}.{key}.{name}", "must be a text")
        return found

    def objects(self, key: str) -> List[_Reader]:
        found = self._take(key, [])
        if not isinstance(found, list):
            raise _invalid(f"{self._where}.{key}", "must be a list")
        return [_Reader(item, f"{self._where}.{key}[{number}]") for number, item in enumerate(found)]

    def choice(self, key: str, make: Callable[[str], Any]) -> Any:
        text = self.text(key)
        try:
            return make(text)
        except ValueError as error:
            raise _invalid(f"{self._where}.{key}", f"{text!r} is not one of the allowed values") from error

    def url(self, key: str) -> str:
        found = self.text(key)
        check_url(found, f"{self._where}.{key}")
        return found

    def urls(self, key: str) -> Tuple[str, ...]:
        found = self.texts(key, ())
        for url in found:
            check_url(url, f"{self._where}.{key}")
        return found

    def has(self, key: str) -> bool:
        return self._left.get(key) is not None

    def sub(self, key: str) -> _Reader:
        return _Reader(self._take(key, None), f"{self._where}.{key}")

    def end(self) -> None:
        if self._left:
            raise _invalid(self._where, f"unknown key {sorted(self._left)[0]!r}")

    @property
    def where(self) -> str:
        return self._where

    def _take(self, key: str, default: Any) -> Any:
        if key not in self._left:
            if default is None:
                raise _invalid(self._where, f"the key {key!r} is missing")
            return default
        return self._left.pop(key)


def _invalid(where: str, what: str) -> IndexInvalid:
    return IndexInvalid(f"wheel index: {where}: {what}", hint="wheel_index/README.md describes the documents")


def check_url(url: str, where: str) -> None:
    """Only https, and no credentials in it; raises IndexInvalid."""
    if not re.match(r"https://[^/@\s]+(/|$)", url):
        raise _invalid(where, f"{url!r} does not begin with https://host/")


def parse_project(value: Any, where: str) -> Project:
    """A project document as a value; IndexInvalid for unknown or missing keys and anything but https."""
    reader = _Reader(value, where)
    _check_schema(reader)
    match = reader.sub("match")
    project = Project(
        name=canonicalize_name(reader.text("name")),
        imports=reader.texts("imports"),
        native=reader.texts("native"),
        operation=reader.optional_text("operation"),
        torch_match=match.choice("torch", TorchMatch),
        accelerator_match=match.choice("accelerator", AcceleratorMatch),
        pins_torch=reader.flag("pins_torch"),
        requires=reader.texts("requires"),
        hosts=tuple(_read_host(item) for item in reader.objects("hosts")),
        aliases=tuple(_read_alias(item) for item in reader.objects("aliases")),
        pins=_check_pins(reader.text_mapping("pins"), where),
        recipe=_read_recipe(reader.sub("recipe")) if reader.has("recipe") else None,
        builds=tuple(_read_build(item) for item in reader.objects("builds")),
        sdists=tuple(_read_sdist(item) for item in reader.objects("sdists")),
        sha256=_check_hashes(reader.text_mapping("sha256"), where),
        doubts=tuple(_read_doubt(item) for item in reader.objects("doubts")),
        checked=reader.text("checked"),
        sources=reader.texts("sources"),
    )
    match.end()
    reader.end()
    hosts = {host.host for host in project.hosts}
    for build in project.builds:
        if build.host not in hosts:
            raise _invalid(f"{where}.builds", f"host {build.host!r} is not among the hosts")
    return project


def _check_schema(reader: _Reader) -> None:
    reader.text("$schema", "")
    found = reader._take("schema", None)
    if found != SCHEMA:
        raise _invalid(reader.where, f"schema {found!r}, this program reads {SCHEMA}")


def _read_host(reader: _Reader) -> HostEntry:
    layout = reader.choice("layout", Layout)
    host = HostEntry(
        host=reader.text("host"),
        layout=layout,
        filename=reader.text("filename"),
        pages=reader.urls("pages"),
        wheel=reader.url("wheel") if reader.has("wheel") else None,
        redirects=reader.texts("redirects", ()),
        torch=reader.texts("torch", ()),
        note=reader.text("note", ""),
    )
    reader.end()
    return host


def _read_alias(reader: _Reader) -> Alias:
    alias = Alias(
        torch=reader.text("torch"),
        base=reader.text("base"),
        accelerator=reader.optional_text("accelerator"),
        base_accelerator=reader.optional_text("base_accelerator"),
    )
    reader.end()
    return alias


def _read_build(reader: _Reader) -> Build:
    build = Build(
        host=reader.text("host"),
        torch=reader.text("torch"),
        version=reader.text("version"),
        accelerators=reader.texts("accelerators"),
        platform=reader.text("platform"),
        python=reader.texts("python"),
        filename=reader.optional_text("filename"),
        abi=reader.optional_text("abi"),
        note=reader.text("note", ""),
    )
    reader.end()
    return build


def _read_sdist(reader: _Reader) -> Sdist:
    sdist = Sdist(
        version=reader.text("version"),
        url=reader.url("url"),
        sha256=reader.text("sha256"),
        requires_python=reader.optional_text("requires_python"),
    )
    reader.end()
    return sdist


def _read_recipe(reader: _Reader) -> Recipe:
    recipe = Recipe(
        sdist=reader.text("sdist"),
        requires=reader.texts("requires"),
        env=reader.text_mapping("env"),
        force_cuda=reader.flag("force_cuda", False),
        extension=reader.flag("extension", True),
    )
    reader.end()
    return recipe


def _read_doubt(reader: _Reader) -> Doubt:
    doubt = Doubt(subject=reader.text("subject"), why=reader.text("why"))
    reader.end()
    return doubt


def _check_pins(pins: Mapping[str, str], where: str) -> Mapping[str, str]:
    for version, pin in pins.items():
        try:
            Version(version)
            SpecifierSet(pin)
        except (InvalidVersion, InvalidSpecifier) as error:
            raise _invalid(f"{where}.pins.{version}", str(error)) from error
    return pins


def _check_hashes(hashes: Mapping[str, str], where: str) -> Mapping[str, str]:
    for url, value in hashes.items():
        check_url(url, f"{where}.sha256")
        if not re.match(r"[0-9a-f]{64}$", value):
            raise _invalid(f"{where}.sha256.{url}", "is not 64 lower-case hex digits")
    return hashes


def parse_torch_table(value: Any, where: str) -> TorchTable:
    """torch.json as a value; raises IndexInvalid."""
    reader = _Reader(value, where)
    _check_schema(reader)
    releases = {}
    for item in reader.objects("releases"):
        release = TorchRelease(
            version=item.text("torch"),
            accelerators=item.texts("accelerators"),
            untagged=item.optional_text("untagged"),
            companions=item.text_mapping("companions"),
            python=item.texts("python"),
            note=item.text("note", ""),
        )
        item.end()
        releases[release.version] = release
    rules = []
    for item in reader.objects("cxx11_abi"):
        rules.append(
            AbiRule(
                since=item.text("since"),
                cxx11_abi=item.flag("value"),
                accelerators=item.texts("accelerators", ()),
                architectures=item.texts("architectures", ()),
            )
        )
        item.end()
    for key in ("checked",):
        reader.text(key)
    reader.texts("sources")
    [_read_doubt(item) for item in reader.objects("doubts")]
    reader.end()
    return TorchTable(releases, tuple(rules))


def parse_cuda_table(value: Any, where: str) -> CudaTable:
    """cuda.json as a value; raises IndexInvalid."""
    reader = _Reader(value, where)
    _check_schema(reader)
    floors = {}
    majors = {}
    toolkits = []
    for item in reader.objects("floors"):
        floors[item.text("accelerator")] = (item.optional_text("linux"), item.optional_text("windows"))
        item.end()
    for item in reader.objects("majors"):
        majors[item.text("cuda")] = (item.optional_text("linux"), item.optional_text("windows"))
        item.end()
    for item in reader.objects("toolkits"):
        toolkits.append(Toolkit(item.text("cuda"), item.optional_text("linux"), item.optional_text("windows")))
        item.end()
    reader.text("checked")
    reader.texts("sources")
    [_read_doubt(item) for item in reader.objects("doubts")]
    reader.end()
    return CudaTable(floors, majors, tuple(toolkits))


# --- writing a document ----------------------------------------------------------------------------

_ROW_KEYS = ("aliases", "builds", "cxx11_abi", "doubts", "floors", "majors", "releases", "sdists", "toolkits")


def render_document(document: Mapping[str, Any]) -> str:
    """The canonical text of a document: one row or entry per line, so that a changed fact is one line."""
    blocks = []
    for key, value in document.items():
        blocks.append(f"  {_dump(key)}: {_render_block(key, value)}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _render_block(key: str, value: Any) -> str:
    if isinstance(value, list) and value and (key in _ROW_KEYS or isinstance(value[0], dict) or len(value) > 4):
        return "[\n" + ",\n".join(f"    {_dump(item)}" for item in value) + "\n  ]"
    if isinstance(value, dict) and len(value) > 3:
        return "{\n" + ",\n".join(f"    {_dump(name)}: {_dump(item)}" for name, item in value.items()) + "\n  }"
    return _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def build_order(build: Build) -> Tuple[Any, ...]:
    """Where a row of `builds` stands in a canonical document."""
    python = tuple(int(part) for part in build.python[0].split(".")) if build.python else ()
    return (
        build.host,
        Version(build.torch),
        Version(build.version),
        build.platform,
        python,
        build.accelerators,
    )
