"""The text of a wheel index document <-> values. Unknown keys and anything but https refuse the
whole document.

The form of a document is described in `wheel_index/README.md` and in `wheel_index/schema.json`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Mapping, Tuple

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
    Mirror,
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
from safe_install.tags import ComputeCapability, container_of_name, parse_capability

SCHEMA = 1


def parse_json(text: str, where: str) -> Any:
    """JSON, with the document's name in the error."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise IndexInvalid(
            f"{where} is not JSON: {error}", hint="`scripts/test` checks every document"
        ) from error


# --- reading a document ---------------------------------------------------------------------------


def parse_project(value: Any, where: str) -> Project:
    """A project document as a value; IndexInvalid for unknown or missing keys and anything but
    https."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    match = reader.sub("match")
    project = Project(
        name=canonicalize_name(reader.text("name")),
        imports=reader.texts("imports"),
        native=_check_native(reader.texts("native"), where),
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
        wheels=tuple(_read_known_wheel(item) for item in reader.objects("wheels")),
        sha256=_check_hashes(reader.text_mapping("sha256"), where),
        doubts=tuple(_read_doubt(item) for item in reader.objects("doubts")),
        checked=reader.text("checked"),
        sources=reader.texts("sources"),
        accelerator=reader.optional_text("accelerator"),
        family=tuple(canonicalize_name(name) for name in reader.texts("family", ())),
        package_index=_read_package_index(reader),
        source=_read_source(reader.sub("source")) if reader.has("source") else None,
        gpu_code=tuple(_read_gpu_code(item) for item in reader.objects("gpu_code")),
        untagged=reader.text_mapping("untagged"),
        untagged_aarch64=reader.text_mapping("untagged_aarch64"),
        cpu_fits_all=reader.flag("cpu_fits_all", default=False),
    )
    match.end()
    reader.end()
    _check_hosts(project, where)
    return project


def _check_hosts(project: Project, where: str) -> None:
    names = [host.host for host in project.hosts]
    for name in names:
        if names.count(name) > 1:
            raise invalid_document(f"{where}.hosts", f"two hosts are called {name!r}")
    for build in project.builds:
        if build.host not in names:
            raise invalid_document(f"{where}.builds", f"host {build.host!r} is not among the hosts")


def _check_schema(reader: JsonObject) -> None:
    reader.text("$schema", "")
    found = reader._take("schema", None)
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
    reader.end()
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
    if not reader.has("package_index"):
        return PackageIndexEntry(Holds.WHEELS)
    entry = reader.sub("package_index")
    found = PackageIndexEntry(holds=entry.choice("holds", Holds), note=entry.text("note", ""))
    entry.end()
    return found


def _read_source(reader: JsonObject) -> Source:
    source = Source(
        repository=reader.url("repository"),
        install=reader.text("install"),
        note=reader.text("note", ""),
    )
    reader.end()
    return source


def _read_gpu_code(reader: JsonObject) -> GpuCode:
    row = GpuCode(
        versions=reader.choice("versions", SpecifierSet),
        capabilities=tuple(_read_capability(reader, text) for text in reader.texts("capabilities")),
        ptx=tuple(
            replace(_read_capability(reader, text), ptx=True) for text in reader.texts("ptx", ())
        ),
        accelerators=reader.texts("accelerators", ()),
    )
    reader.end()
    return row


def _read_capability(reader: JsonObject, text: str) -> ComputeCapability:
    capability = parse_capability(text)
    if capability is None or str(capability) != text or capability.ptx:
        raise invalid_document(reader.where, f"{text!r} is no compute capability")
    return capability


def _read_known_wheel(reader: JsonObject) -> KnownWheel:
    wheel = KnownWheel(
        url=reader.url("url"),
        sha256=reader.text("sha256"),
        requires_python=reader.optional_text("requires_python"),
    )
    reader.end()
    return wheel


def _read_alias(reader: JsonObject) -> Alias:
    alias = Alias(
        torch=reader.text("torch"),
        base=reader.text("base"),
        accelerator=reader.optional_text("accelerator"),
        base_accelerator=reader.optional_text("base_accelerator"),
    )
    reader.end()
    return alias


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
    reader.end()
    if build.filename is not None and not is_grammar(build.filename):
        raise invalid_document(reader.where, f"{build.filename!r} is no grammar of file names")
    return build


def _read_sdist(reader: JsonObject) -> Sdist:
    sdist = Sdist(
        version=reader.text("version"),
        url=reader.url("url"),
        sha256=reader.text("sha256"),
        requires_python=reader.optional_text("requires_python"),
    )
    reader.end()
    return sdist


def _read_recipe(reader: JsonObject) -> Recipe:
    recipe = Recipe(
        sdist=reader.text("sdist"),
        requires=reader.texts("requires"),
        env=reader.text_mapping("env"),
        force_cuda=reader.flag("force_cuda", False),
        extension=reader.flag("extension", True),
        cuda_only=reader.flag("cuda_only", False),
    )
    reader.end()
    return recipe


def _read_doubt(reader: JsonObject) -> Doubt:
    doubt = Doubt(subject=reader.text("subject"), why=reader.text("why"))
    reader.end()
    return doubt


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


def parse_torch_table(value: Any, where: str) -> TorchTable:
    """torch.json as a value; raises IndexInvalid."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    releases = {}
    for item in reader.objects("releases"):
        release = TorchRelease(
            version=item.text("torch"),
            accelerators=item.texts("accelerators"),
            untagged=item.optional_text("untagged"),
            untagged_aarch64=item.optional_text("untagged_aarch64"),
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
    hosts = tuple(_read_host(item) for item in reader.objects("hosts"))
    gpu_code = tuple(_read_gpu_code(item) for item in reader.objects("gpu_code"))
    _end_table(reader)
    return TorchTable(releases, tuple(rules), hosts, gpu_code=gpu_code)


def parse_cuda_table(value: Any, where: str) -> CudaTable:
    """cuda.json as a value; raises IndexInvalid."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    floors = {}
    majors = {}
    releases = []
    for item in reader.objects("floors"):
        floors[item.text("accelerator")] = (
            item.optional_text("linux"),
            item.optional_text("windows"),
        )
        item.end()
    for item in reader.objects("majors"):
        majors[item.text("cuda")] = (item.optional_text("linux"), item.optional_text("windows"))
        item.end()
    for item in reader.objects("toolkits"):
        releases.append(
            CudaRelease(
                item.text("cuda"), item.optional_text("linux"), item.optional_text("windows")
            )
        )
        item.end()
    _end_table(reader)
    return CudaTable(floors, majors, tuple(releases))


def parse_mirrors_table(value: Any, where: str) -> Mapping[str, Mirror]:
    """mirrors.json as a value, by name; raises IndexInvalid."""
    reader = JsonObject(value, where)
    _check_schema(reader)
    mirrors = {}
    for item in reader.objects("mirrors"):
        pairs = []
        for pair in item.objects("replaces"):
            pairs.append((pair.url("start"), pair.url("by")))
            pair.end()
        mirror = Mirror(
            item.text("name"),
            tuple(pairs),
            flat=item.flag("flat", False),
            note=item.text("note", ""),
        )
        item.end()
        mirrors[mirror.name] = mirror
    _end_table(reader)
    return mirrors


def _end_table(reader: JsonObject) -> None:
    reader.text("checked")
    reader.texts("sources")
    [_read_doubt(item) for item in reader.objects("doubts")]
    reader.end()


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


def render_document(document: Mapping[str, Any]) -> str:
    """The canonical text of a document: one row or entry per line, so that a changed fact is one
    line."""
    blocks = []
    for key, value in document.items():
        blocks.append(f"  {_dump(key)}: {_render_block(key, value)}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _render_block(key: str, value: Any) -> str:
    if (
        isinstance(value, list)
        and value
        and (key in _ROW_KEYS or isinstance(value[0], dict) or len(value) > 4)
    ):
        return "[\n" + ",\n".join(f"    {_dump(item)}" for item in value) + "\n  ]"
    if isinstance(value, dict) and len(value) > 3:
        return (
            "{\n"
            + ",\n".join(f"    {_dump(name)}: {_dump(item)}" for name, item in value.items())
            + "\n  }"
        )
    return _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def build_order(build: Build) -> Tuple[Any, ...]:
    """Where a row of `builds` stands in a canonical document."""
    python = tuple(int(part) for part in build.python[0].split(".")) if build.python else ()
    container = container_of_name(build.torch)
    return (
        build.host,
        container is not None,  # those of NVIDIA's containers after those of releases
        Version(container or build.torch),
        Version(build.version),
        build.platform,
        python,
        build.accelerators,
    )
