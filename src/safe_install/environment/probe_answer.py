"""Makes an Environment of the answer of the probe script. Pure, except that links are resolved."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install import tags
from safe_install.models import (
    Driver,
    Environment,
    InstalledDistribution,
    Interpreter,
    Scheme,
    TorchBuild,
    TorchPlace,
)


def parse_environment(
    raw: Mapping[str, Any], executable: Path, driver: Optional[Driver]
) -> Environment:
    """The environment that a probe of `executable` found. Errors: KeyError, ValueError, TypeError,
    AttributeError, IndexError, if the answer has another form."""
    installed = {}
    for key, value in raw["installed"].items():
        name = canonicalize_name(key)
        installed[name] = parse_distribution(name, value)
    interpreter = _interpreter(raw, executable, installed)
    places = tuple(_torch_place(place) for place in raw["torch_places"])
    distribution = _torch_distribution(raw["torch"], installed, places)
    torch = parse_torch_build(raw["torch"], distribution, interpreter)
    return Environment(
        interpreter=interpreter,
        torch=torch,
        driver=driver,
        installed=installed,
        torch_places=places,
    )


def _torch_distribution(
    raw: Optional[Mapping[str, Any]],
    installed: Mapping[NormalizedName, InstalledDistribution],
    places: Sequence[TorchPlace],
) -> Optional[InstalledDistribution]:
    """The distribution of the torch that is imported. None: it has no metadata, or it is not the
    installed one. `raw`: what its files say."""
    distribution = installed.get(canonicalize_name("torch"))
    if distribution is None or raw is None:
        return distribution
    folder = Path(os.path.realpath(raw["folder"]))
    here = [place for place in places if place.torch == folder]
    if not here:
        return distribution if distribution.editable else None
    location = Path(os.path.realpath(distribution.location))
    if any(place.location == location for place in here) or _is_source_of(distribution, folder):
        return distribution
    return None


def _is_source_of(distribution: InstalledDistribution, folder: Path) -> bool:
    """Is it an editable install of the sources that contain the folder?"""
    if not distribution.editable:
        return False
    url = str((distribution.direct_url or {}).get("url", ""))
    if not url.startswith("file:"):
        return True  # a link of setuptools, which has no address
    source = Path(os.path.realpath(unquote(urlsplit(url).path)))
    return source in folder.parents


def _interpreter(
    raw: Mapping[str, Any],
    executable: Path,
    installed: Mapping[NormalizedName, InstalledDistribution],
) -> Interpreter:
    platform = raw["platform"].replace("-", "_").replace(".", "_")
    libc = (raw["libc"][0], raw["libc"][1])
    pip = installed.get(canonicalize_name("pip"))
    return Interpreter(
        # The Python that a shim (pyenv, asdf, mise) starts depends on the working folder: keep the
        # one that it started here.
        executable=Path(raw["executable"]) if executable.parent.name == "shims" else executable,
        version=raw["version"],
        implementation=raw["implementation"],
        tags=tags.supported_tags(
            raw["version"], raw["implementation"], platform, libc, raw["abiflags"]
        ),
        platform=platform,
        libc=libc,
        prefix=Path(raw["prefix"]),
        base_prefix=Path(raw["base_prefix"]),
        scheme=_scheme(raw["scheme"]),
        pip_version=pip.version if pip else None,
        ensurepip_wheel=_optional_path(raw["ensurepip_wheel"]),
        externally_managed=raw["externally_managed"],
        conda=raw["conda"],
        user_site=_optional_path(raw["user_site"]),
        user_base=_optional_path(raw["user_base"]),
        user_scheme=_scheme(raw["user_scheme"]) if raw["user_scheme"] else None,
        paths=tuple(Path(path) for path in raw["paths"]),
        markers=raw["markers"],
        abiflags=raw["abiflags"],
    )


def _optional_path(text: Optional[str]) -> Optional[Path]:
    return Path(text) if text else None


def _scheme(raw: Mapping[str, str]) -> Scheme:
    return Scheme(
        purelib=Path(raw["purelib"]),
        platlib=Path(raw["platlib"]),
        scripts=Path(raw["scripts"]),
        data=Path(raw["data"]),
        include=Path(raw["include"]),
    )


def parse_distribution(name: NormalizedName, raw: Mapping[str, Any]) -> InstalledDistribution:
    """One installed distribution, from the answer of the script. Errors: KeyError, TypeError."""
    return InstalledDistribution(
        name=name,
        version=raw["version"],
        metadata_path=Path(raw["metadata_path"]),
        location=Path(raw["location"]),
        installer=raw["installer"],
        direct_url=raw["direct_url"],
        editable=raw["editable"],
        has_record=raw["has_record"],
        requested=raw["requested"],
        requires=tuple(raw["requires"]),
        written_name=raw["name"],
    )


def _torch_place(raw: Mapping[str, Any]) -> TorchPlace:
    return TorchPlace(
        location=Path(raw["location"]),
        torch=Path(raw["torch"]),
        files=raw["files"],
        version=raw["version"],
        editable=raw["editable"],
    )


def parse_torch_build(
    raw: Optional[Mapping[str, Any]],
    distribution: Optional[InstalledDistribution],
    interpreter: Interpreter,
) -> Optional[TorchBuild]:
    """The torch with these files. None: there are none, or they have no version that can be read.

    `raw`: what the files say. `distribution`: its metadata, if it has any.
    """
    if raw is None or not isinstance(raw.get("version"), str):
        return None
    runtime = raw["version"]
    version = _parse_torch_version(distribution.version if distribution else runtime)
    if version is None:
        return None
    cuda, hip = raw.get("cuda"), raw.get("hip")
    return TorchBuild(
        version=version,
        runtime_version=runtime,
        accelerator=accelerator_of_torch(runtime, cuda, hip),
        cuda=cuda,
        hip=hip,
        cxx11_abi=raw.get("cxx11_abi"),
        git_version=raw.get("git_version"),
        lib_dir=_optional_path(raw.get("lib_dir")),
        folder=Path(os.path.realpath(raw["folder"])) if raw.get("folder") else None,
        vendor=_vendor(runtime, distribution, interpreter),
        has_metadata=distribution is not None,
    )


def _parse_torch_version(text: str) -> Optional[Version]:
    """The version of a torch. Of an own build with an invalid version only the release is used:
    "2.9.0-mine" -> 2.9.0."""
    release = re.match(r"\d+(\.\d+)*", text)
    for candidate in (text, release.group() if release else ""):
        try:
            return Version(candidate)
        except InvalidVersion:
            continue
    return None


def accelerator_of_torch(runtime_version: str, cuda: Optional[str], hip: Optional[str]) -> str:
    """The accelerator of a build. `cuda` and `hip` of torch/version.py count first, then the local
    version identifier."""
    if cuda:
        return "cu" + "".join(cuda.split(".")[:2])
    if hip:
        return "rocm" + ".".join(hip.split(".")[:2])
    local = runtime_version.partition("+")[2]
    return local if local.startswith(("cu", "rocm", "xpu")) else "cpu"


def _vendor(
    runtime_version: str, distribution: Optional[InstalledDistribution], interpreter: Interpreter
) -> Optional[str]:
    """Who built a torch that is on no public host; None for the builds of PyPI and pytorch.org."""
    local = runtime_version.partition("+")[2]
    if "nv" in local:
        return "NVIDIA"
    if distribution is None:
        return "unknown"
    if distribution.installer == "conda" or (interpreter.conda and not distribution.has_record):
        return "conda"
    parts = distribution.location.parts
    if "dist-packages" in parts and "local" not in parts:
        return "distribution"
    if "a0" in runtime_version or "git" in local:
        return "own build"
    return None
