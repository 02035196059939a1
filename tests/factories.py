"""Values for tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Mapping, Optional

from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog
from safe_install.index.facts import Project
from safe_install.models import (
    Driver,
    Environment,
    HealthReport,
    ImportResult,
    InstalledDistribution,
    Interpreter,
    Scheme,
    TorchBuild,
)
from safe_install.resolve import target

SITE = Path("/env/lib/python3.11/site-packages")
MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.7",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_release": "6.1",
    "platform_system": "Linux",
    "platform_version": "1",
    "python_full_version": "3.11.7",
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "sys_platform": "linux",
}


class FakeCatalog:
    """A Catalog of these projects, beside the real facts about torch and CUDA."""

    def __init__(self, *projects: Project) -> None:
        self._projects = {project.name: project for project in projects}
        self.projects = frozenset(self._projects)
        self.torch = bundled_catalog().torch
        self.cuda = bundled_catalog().cuda

    def project(self, name: str) -> Project:
        return self._projects[canonicalize_name(name)]


def environment_for(**fields: Any) -> Environment:
    """A machine elsewhere, with the torch that the wheel index knows."""
    return target.environment_for(torch_table=bundled_catalog().torch, **fields)


def planned_torch(version: str, platform: str) -> TorchBuild:
    return target.planned_torch(version, platform, bundled_catalog().torch)


def make_interpreter(**fields: Any) -> Interpreter:
    values = {
        "executable": Path("/env/bin/python"),
        "version": "3.11.7",
        "implementation": "cpython",
        "tags": (),
        "platform": "linux_x86_64",
        "libc": ("glibc", "2.36"),
        "prefix": Path("/env"),
        "base_prefix": Path("/usr"),
        "scheme": Scheme(SITE, SITE, Path("/env/bin"), Path("/env"), Path("/env/include")),
        "markers": MARKERS,
    }
    values.update(fields)
    return Interpreter(**values)


def make_distribution(
    name: str, version: str, *, requires: Iterable[str] = (), **fields: Any
) -> InstalledDistribution:
    normalized = canonicalize_name(name)
    folder = SITE / f"{normalized.replace('-', '_')}-{version}.dist-info"
    return InstalledDistribution(
        name=normalized,
        version=version,
        metadata_path=fields.pop("metadata_path", folder),
        location=fields.pop("location", SITE),
        requires=tuple(requires),
        **fields,
    )


def make_environment(
    *distributions: InstalledDistribution,
    torch: Optional[str] = None,
    driver: Optional[Driver] = None,
    interpreter: Optional[Interpreter] = None,
) -> Environment:
    """An environment; `torch="2.13.0+cpu"` adds that torch as build and as distribution."""
    installed = {distribution.name: distribution for distribution in distributions}
    build = None
    if torch is not None:
        local = torch.partition("+")[2]
        cuda = f"{local[2:-1]}.{local[-1]}" if local.startswith("cu") else None
        build = TorchBuild(Version(torch), torch, local or "cpu", cuda)
        installed.setdefault(canonicalize_name("torch"), make_distribution("torch", torch))
    return Environment(interpreter or make_interpreter(), build, driver, installed)


def make_health(
    *,
    torch: Optional[str] = "1.8.1+cu111",
    cuda: Optional[str] = "11.1",
    available: Optional[bool] = True,
    devices: int = 1,
    imports: Optional[Mapping[str, Optional[str]]] = None,
    operations: Optional[Mapping[str, Optional[str]]] = None,
    **fields: Any,
) -> HealthReport:
    """A report; `imports` and `operations` map names to an error text, or None for "works"."""
    return HealthReport(
        torch_version=torch,
        torch_cuda=cuda,
        cuda_available=available,
        device_count=devices,
        imports={
            name: ImportResult(error is None, 0.1, error)
            for name, error in (imports or {"torch": None}).items()
        },
        operations={
            name: ImportResult(error is None, 0.1, error)
            for name, error in (operations or {}).items()
        },
        **fields,
    )
