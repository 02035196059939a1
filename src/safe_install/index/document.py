"""Reads and writes the documents of the wheel index. A document with an unknown key, or an address
that is not https, is refused.

`wheel_index/README.md` and `wheel_index/schema.json` describe the documents.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Mapping, NamedTuple, Optional, Sequence, Tuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.errors import IndexInvalid
from safe_install.index.facts import (
    AbiRule,
    AcceleratorMatch,
    Alias,
    Build,
    CudaRelease,
    CudaTable,
    Doubt,
    GpuCode,
    Holds,
    HostEntry,
    KnownWheel,
    Layout,
    PackageIndexEntry,
    Project,
    Recipe,
    Sdist,
    Source,
    TorchMatch,
    TorchRelease,
    TorchTable,
)
from safe_install.index.filename import is_grammar
from safe_install.index.json_object import JsonObject, check_url, invalid_document
from safe_install.index.native import PATTERN
from safe_install.tags import (
    ComputeCapability,
    container_of_name,
    parse_accelerator,
    parse_capability,
)

SCHEMA = 1
BuildOrder = Tuple[str, bool, Version, Version, str, Tuple[int, ...], Tuple[str, ...]]


def parse_json(text: str, where: str) -> object:
    """The value of a JSON text. Errors: IndexInvalid, which names the document `where`."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise IndexInvalid(
            f"{where} is not JSON: {error}", hint="`scripts/test` checks every document"
        ) from error
    return value


# --- reading a document ---------------------------------------------------------------------------


def parse_project(value: object, where: str) -> Project:
    """The document of a project as a value. Errors: IndexInvalid for an unknown or missing key and
    for an address that is not https."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    project = replace(
        _read_project(reader),
        accelerator=reader.optional_text("accelerator"),
        family=tuple(canonicalize_name(name) for name in reader.texts("family", ())),
        package_index=_read_package_index(reader),
        source=reader.optional("source", _read_source),
        gpu_code=reader.each("gpu_code", _read_gpu_code),
        untagged=reader.text_mapping("untagged"),
        untagged_aarch64=reader.text_mapping("untagged_aarch64"),
        cpu_fits_all=reader.flag("cpu_fits_all", default=False),
    )
    reader.refuse_unknown_keys()
    _check_hosts(project, where)
    return project


def _read_project(reader: JsonObject) -> Project:
    """The project with the keys that every document has."""
    match = reader.sub("match")
    project = Project(
        name=canonicalize_name(reader.text("name")),
        imports=reader.texts("imports"),
        native=_check_native(reader.texts("native"), reader.where),
        operation=reader.optional_text("operation"),
        torch_match=match.choice("torch", TorchMatch),
        accelerator_match=match.choice("accelerator", AcceleratorMatch),
        pins_torch=reader.flag("pins_torch"),
        requires=reader.texts("requires"),
        hosts=reader.each("hosts", _read_host),
        aliases=reader.each("aliases", _read_alias),
        pins=_check_pins(reader.text_mapping("pins"), reader.where),
        recipe=reader.optional("recipe", _read_recipe),
        builds=reader.each("builds", _read_build),
        sdists=reader.each("sdists", _read_sdist),
        wheels=reader.each("wheels", _read_known_wheel),
        sha256=_check_hashes(reader.text_mapping("sha256"), reader.where),
        doubts=reader.each("doubts", _read_doubt),
        checked=reader.text("checked"),
        sources=reader.texts("sources"),
    )
    match.refuse_unknown_keys()
    return project


def _check_hosts(project: Project, where: str) -> None:
    """Host names must be unique, and every build must name one of them."""
    names = [host.host for host in project.hosts]
    for name in names:
        if names.count(name) > 1:
            raise invalid_document(f"{where}.hosts", f"two hosts are called {name!r}")
    for build in project.builds:
        if build.host not in names:
            raise invalid_document(f"{where}.builds", f"host {build.host!r} is not among the hosts")


def _check_schema(reader: JsonObject) -> None:
    reader.text("$schema", "")
    found = reader.value("schema")
    if found != SCHEMA:
        raise invalid_document(reader.where, f"schema {found!r}, this program reads {SCHEMA}")


def _read_host(reader: JsonObject) -> HostEntry:
    layout = reader.choice("layout", Layout)
    host = HostEntry(
        host=reader.text("host"),
        layout=layout,
        filename=reader.text("filename"),
        pages=reader.urls("pages"),
        wheel=reader.optional_url("wheel"),
        repository=reader.optional_text("repository"),
        tag=reader.text("tag", "v{version}"),
        redirects=reader.texts("redirects", ()),
        torch=reader.texts("torch", ()),
        kinds=reader.texts("kinds", ()),
        torch_match=reader.choice("torch_match", TorchMatch) if reader.has("torch_match") else None,
        optional=reader.text("optional", ""),
        complete_to=reader.optional_text("complete_to"),
        note=reader.text("note", ""),
    )
    if not is_grammar(host.filename):
        raise invalid_document(reader.where, f"{host.filename!r} is no grammar of file names")
    is_github = layout is Layout.GITHUB_RELEASES
    if is_github != bool(host.repository and re.match(r"[\w.-]+/[\w.-]+$", host.repository)):
        raise invalid_document(
            reader.where, "releases on GitHub, and nothing else, have a repository: owner/name"
        )
    if bool(host.pages) != (layout in (Layout.FIND_LINKS, Layout.SIMPLE)):
        raise invalid_document(reader.where, "a find-links or simple host, and no other, has pages")
    return host


def _read_package_index(reader: JsonObject) -> PackageIndexEntry:
    entry = reader.optional("package_index", _read_package_index_entry)
    return entry or PackageIndexEntry(Holds.WHEELS)


def _read_package_index_entry(reader: JsonObject) -> PackageIndexEntry:
    return PackageIndexEntry(holds=reader.choice("holds", Holds), note=reader.text("note", ""))


def _read_source(reader: JsonObject) -> Source:
    return Source(
        repository=reader.url("repository"),
        install=reader.text("install"),
        note=reader.text("note", ""),
    )


def _read_gpu_code(reader: JsonObject) -> GpuCode:
    capabilities = [_read_capability(reader, text) for text in reader.texts("capabilities")]
    ptx = [_read_capability(reader, text) for text in reader.texts("ptx", ())]
    return GpuCode(
        versions=reader.choice("versions", SpecifierSet),
        capabilities=tuple(capabilities),
        ptx=tuple(replace(one, ptx=True) for one in ptx),
        accelerators=reader.texts("accelerators", ()),
    )


def _read_capability(reader: JsonObject, text: str) -> ComputeCapability:
    capability = parse_capability(text)
    if capability is None or str(capability) != text or capability.ptx:
        raise invalid_document(reader.where, f"{text!r} is no compute capability")
    return capability


def _read_known_wheel(reader: JsonObject) -> KnownWheel:
    return KnownWheel(
        url=reader.url("url"),
        sha256=reader.text("sha256"),
        requires_python=reader.optional_text("requires_python"),
    )


def _read_alias(reader: JsonObject) -> Alias:
    return Alias(
        torch=reader.text("torch"),
        base=reader.text("base"),
        accelerator=reader.optional_text("accelerator"),
        base_accelerator=reader.optional_text("base_accelerator"),
    )


def _read_build(reader: JsonObject) -> Build:
    build = Build(
        host=reader.text("host"),
        torch=reader.text("torch"),
        version=reader.text("version"),
        accelerators=reader.texts("accelerators"),
        platform=reader.text("platform"),
        python=reader.texts("python"),
        filename=reader.optional_text("filename"),
        abi=reader.optional_text("abi"),
        cxx11_abi=reader.flags("cxx11_abi"),
        tag=reader.optional_text("tag"),
        note=reader.text("note", ""),
    )
    if build.filename is not None and not is_grammar(build.filename):
        raise invalid_document(reader.where, f"{build.filename!r} is no grammar of file names")
    return build


def _read_sdist(reader: JsonObject) -> Sdist:
    return Sdist(
        version=reader.text("version"),
        url=reader.url("url"),
        sha256=reader.text("sha256"),
        requires_python=reader.optional_text("requires_python"),
    )


def _read_recipe(reader: JsonObject) -> Recipe:
    return Recipe(
        sdist=reader.text("sdist"),
        requires=reader.texts("requires"),
        env=reader.text_mapping("env"),
        force_cuda=reader.flag("force_cuda", False),
        extension=reader.flag("extension", True),
        cuda_only=reader.flag("cuda_only", False),
    )


def _read_doubt(reader: JsonObject) -> Doubt:
    return Doubt(subject=reader.text("subject"), why=reader.text("why"))


def _check_native(patterns: Tuple[str, ...], where: str) -> Tuple[str, ...]:
    for pattern in patterns:
        if not PATTERN.fullmatch(pattern):
            raise invalid_document(
                f"{where}.native", f"{pattern!r} is no pattern below site-packages"
            )
    return patterns


def _check_pins(pins: Mapping[str, str], where: str) -> Mapping[str, str]:
    for version, pin in pins.items():
        try:
            Version(version)
            SpecifierSet(pin)
        except (InvalidVersion, InvalidSpecifier) as error:
            raise invalid_document(f"{where}.pins.{version}", str(error)) from error
    return pins


def _check_hashes(hashes: Mapping[str, str], where: str) -> Mapping[str, str]:
    for url, value in hashes.items():
        check_url(url, f"{where}.sha256")
        if not re.match(r"[0-9a-f]{64}$", value):
            raise invalid_document(f"{where}.sha256.{url}", "is not 64 lower-case hex digits")
    return hashes


def parse_torch_table(value: object, where: str) -> TorchTable:
    """torch.json as a value. Errors: IndexInvalid."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    releases = reader.each("releases", _read_torch_release)
    _check_releases([release.version for release in releases], where)
    table = TorchTable(
        {release.version: release for release in releases},
        reader.each("cxx11_abi", _read_abi_rule),
        reader.each("hosts", _read_host),
        gpu_code=reader.each("gpu_code", _read_gpu_code),
    )
    _end_table(reader)
    return table


def _check_releases(versions: Sequence[str], where: str) -> None:
    """Refuse two rows for one release: they could contradict each other."""
    for version in versions:
        if versions.count(version) > 1:
            raise invalid_document(f"{where}.releases", f"two releases are {version!r}")


def _read_torch_release(reader: JsonObject) -> TorchRelease:
    release = TorchRelease(
        version=_read_version(reader, "torch"),
        accelerators=reader.texts("accelerators"),
        untagged=reader.optional_text("untagged"),
        untagged_aarch64=reader.optional_text("untagged_aarch64"),
        accelerators_aarch64=reader.optional_texts("accelerators_aarch64"),
        companions=reader.text_mapping("companions"),
        python=reader.texts("python"),
        note=reader.text("note", ""),
    )
    names = [*release.accelerators, *(release.accelerators_aarch64 or ())]
    names += filter(None, (release.untagged, release.untagged_aarch64))
    for name in names:
        if str(parse_accelerator(name)) != name:
            raise invalid_document(reader.where, f"{name!r} is no accelerator")
    for python in release.python:
        if not re.fullmatch(r"\d+\.\d+", python):
            raise invalid_document(reader.where, f"{python!r} is no Python version")
    return release


def _read_version(reader: JsonObject, key: str) -> str:
    """A version in its normal form, without a local part."""
    text = reader.text(key)
    try:
        is_plain = Version(text).public == text
    except InvalidVersion:
        is_plain = False
    if not is_plain:
        raise invalid_document(f"{reader.where}.{key}", f"{text!r} is no version of a release")
    return text


def _read_abi_rule(reader: JsonObject) -> AbiRule:
    return AbiRule(
        since=_read_version(reader, "since"),
        cxx11_abi=reader.flag("value"),
        accelerators=reader.texts("accelerators", ()),
        architectures=reader.texts("architectures", ()),
    )


def parse_cuda_table(value: object, where: str) -> CudaTable:
    """cuda.json as a value. Errors: IndexInvalid."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    floors = reader.each("floors", lambda row: (row.text("accelerator"), _read_drivers(row)))
    majors = reader.each("majors", lambda row: (row.text("cuda"), _read_drivers(row)))
    releases = reader.each(
        "toolkits", lambda row: CudaRelease(row.text("cuda"), *_read_drivers(row))
    )
    _end_table(reader)
    return CudaTable(dict(floors), dict(majors), releases)


def _read_drivers(reader: JsonObject) -> Tuple[Optional[str], Optional[str]]:
    """The oldest driver on Linux and on Windows."""
    return reader.optional_text("linux"), reader.optional_text("windows")


class Mirror(NamedTuple):
    """A mirror with a name that the user can give."""

    name: str  # "sjtu"
    pairs: Tuple[Tuple[str, str], ...]  # (start of an address, what replaces it)
    flat: bool = False  # it has no pages of projects: one page lists the wheels of all of them
    note: str = ""


def parse_mirrors_table(value: object, where: str) -> Mapping[str, Mirror]:
    """The mirrors of mirrors.json by name. Errors: IndexInvalid."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    mirrors = reader.each("mirrors", _read_mirror)
    _end_table(reader)
    return {mirror.name: mirror for mirror in mirrors}


def _read_mirror(reader: JsonObject) -> Mirror:
    return Mirror(
        reader.text("name"),
        reader.each("replaces", lambda pair: (pair.url("start"), pair.url("by"))),
        flat=reader.flag("flat", False),
        note=reader.text("note", ""),
    )


def _end_table(reader: JsonObject) -> None:
    """Take the keys that every table has and its value does not, and refuse all others."""
    reader.text("checked")
    reader.texts("sources")
    reader.each("doubts", _read_doubt)
    reader.refuse_unknown_keys()


# --- writing a document ---------------------------------------------------------------------------

_ROW_KEYS = (
    "aliases",
    "builds",
    "cxx11_abi",
    "doubts",
    "floors",
    "gpu_code",
    "majors",
    "mirrors",
    "releases",
    "sdists",
    "toolkits",
    "wheels",
)


def render_document(document: Mapping[str, object]) -> str:
    """The canonical text of a document. Each row or entry is one line, so a changed fact changes
    one line."""
    blocks = []
    for key, value in document.items():
        blocks.append(f"  {_dump(key)}: {_render_block(key, value)}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _render_block(key: str, value: object) -> str:
    if isinstance(value, list) and _is_rows(key, value):
        lines = [f"    {_dump(item)}" for item in value]
        return "[\n" + ",\n".join(lines) + "\n  ]"
    if isinstance(value, dict) and len(value) > 3:
        lines = [f"    {_dump(name)}: {_dump(item)}" for name, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n  }"
    return _dump(value)


def _is_rows(key: str, value: Sequence[object]) -> bool:
    """Is each item of a list written on a line of its own?"""
    if not value:
        return False
    return key in _ROW_KEYS or isinstance(value[0], dict) or len(value) > 4


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def build_order(build: Build) -> BuildOrder:
    """The sort key of a row of `builds` in a canonical document."""
    first_python = build.python[0] if build.python else ""
    python = tuple(int(part) for part in first_python.split(".") if part)
    container = container_of_name(build.torch)
    return (
        build.host,
        container is not None,  # NVIDIA's containers come after the releases
        Version(container or build.torch),
        Version(build.version),
        build.platform,
        python,
        build.accelerators,
    )
