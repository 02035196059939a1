"""The links of a host -> cells, or why there is none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import List, Optional, Set, Tuple
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from safe_install.index.candidates import wheel_candidate
from safe_install.index.catalog import cuda_table, torch_table
from safe_install.index.facts import AcceleratorMatch, Build, HostEntry, Project, TorchTable
from safe_install.index.filename import (
    GRAMMARS,
    WheelName,
    grammar_of,
    parse_filename,
    python_tags,
    render_local,
)
from safe_install.index.location import read_built_for, read_template
from safe_install.models import BuiltFor, Link
from safe_install.tags import container_of_name, parse_accelerator
from wheel_index_update.cells import address_of, address_of_link
from wheel_index_update.pages import minor_of

_PLATFORM_TAG = (
    r"(?:manylinux\w+|musllinux_\d+_\d+_\w+|linux_\w+|macosx_\d+_\d+_\w+|win32|win_amd64|win_arm64)"
)
_PLATFORM = re.compile(rf"(?:any|{_PLATFORM_TAG}(?:\.{_PLATFORM_TAG}){{0,4}})$", re.ASCII)
_PYTHON = re.compile(r"cp(3)(\d{1,2})$", re.ASCII)
_PLAIN_TORCH = re.compile(r"\d+\.\d+(\.\d+)?$", re.ASCII)
_TAG = re.compile(r"[\w.+-]{1,64}$", re.ASCII)


class LinkReader:
    """Reads the links of one host as cells. What no row can say has a reason."""

    def __init__(self, project: Project, host: HostEntry, table: TorchTable) -> None:
        self._project = project
        self._host = host
        self._table = table
        self._rows = [build for build in project.builds if build.host == host.host]
        self._versions = {build.version for build in project.builds}
        pythons = [python for release in table.releases.values() for python in release.python]
        self._newest_python = max(int(python.split(".")[1]) for python in pythons)
        self._grammars = self._known_grammars()

    def _known_grammars(self) -> List[str]:
        """The host's own, then those of its rows, newest first: they know how its names changed."""
        newest_first = sorted(self._rows, key=lambda build: Version(build.version), reverse=True)
        rows = [build.filename for build in newest_first if build.filename]
        return list(dict.fromkeys([self._host.filename, *rows, *GRAMMARS]))

    def read(self, link: Link) -> Tuple[List[Build], str]:
        """The cells of a link (more than one where one file serves several releases of torch), or
        why there is none."""
        name = parse_filename(link.filename)
        if name is None or name.project != self._project.name:
            return [], ""
        problem = self._check_version(name) or self._check_place(link)
        if problem:
            return [], problem
        abi, python = self._python_of(name)
        if not python:
            return [], "wheel tags that no row says"
        built = self._built_for(link)
        accelerator, by_page_alone = self._accelerator_of(name, link, built)
        if accelerator is None:
            return [], "for which accelerator is not said"
        torches = self._torches_of(name, built.torch)
        if by_page_alone:
            torches = [torch for torch in torches if accelerator in self._accelerators_for(torch)]
        if not torches:
            return [], "for which release of torch is not known here"
        wanted = address_of_link(self._host, link)
        one = Build(
            host=self._host.host,
            torch="",
            version=name.parsed_version.public,
            accelerators=(accelerator,),
            platform=name.platform,
            python=(python,),
            abi=abi,
            cxx11_abi=() if built.cxx11_abi is None else (built.cxx11_abi,),
            tag=self._tag_of(name, link),
        )
        cells = [self._spell(replace(one, torch=torch), name, wanted) for torch in torches]
        found = [cell for cell in cells if cell is not None]
        return found, "" if found else "its address cannot be made from a row"

    def _built_for(self, link: Link) -> BuiltFor:
        """What the program makes of this link."""
        candidate = wheel_candidate(self._project, self._host, link, torch_table())
        return BuiltFor() if candidate is None else candidate.built_for

    def _check_version(self, name: WheelName) -> str:
        version = name.parsed_version
        if name.build:
            return "a build number, which no row says"
        if not can_be(version):
            return "no version that can be"
        if version.is_prerelease and version.public not in self._versions:
            return "a pre-release"
        return "" if _PLATFORM.match(name.platform) else "a platform that is not known"

    def _check_place(self, link: Link) -> str:
        """Where the template does not say where files lie, they lie on the page's host."""
        if self._host.wheel is not None:
            return ""
        known = {urlsplit(page).hostname for page in self._host.pages} | set(self._host.redirects)
        return "" if urlsplit(link.url).hostname in known else "it lies on another host"

    def _python_of(self, name: WheelName) -> Tuple[Optional[str], str]:
        """The row's `abi` and its Python, empty where wheel tags cannot be said by a row."""
        found = _PYTHON.match(name.python)
        if found and int(found.group(2)) <= self._newest_python + 1:
            python = f"3.{int(found.group(2))}"
            for abi in (None, "abi3"):
                if python_tags(python, abi) == (name.python, name.abi):
                    return abi, python
        if (name.python, name.abi) == ("py3", "none"):
            return "none", self._oldest_python()
        return None, ""

    def _oldest_python(self) -> str:
        rows = [build.python[0] for build in self._rows if build.abi == "none"]
        newest = list(self._table.releases.values())[-1]
        return rows[-1] if rows else newest.python[0]

    def _accelerator_of(
        self, name: WheelName, link: Link, built: BuiltFor
    ) -> Tuple[Optional[str], bool]:
        """What name, folder or page say, and whether the page alone says it; a guess is not written
        down."""
        accelerator = read_built_for(
            self._project, self._host, name, link.url, found_in=link.found_in
        ).accelerator
        by_file = read_built_for(self._project, self._host, name, link.url).accelerator
        if accelerator is None or not is_real_accelerator(accelerator, self._table):
            return None, False
        if (
            accelerator != built.accelerator
            and self._project.accelerator_match is not AcceleratorMatch.ANY
        ):
            return None, False
        return accelerator, by_file is None

    def _accelerators_for(self, torch: str) -> Set[str]:
        releases = [
            r for r in self._table.releases.values() if torch in (r.version, minor_of(r.version))
        ]
        return {a for r in releases for a in (*r.accelerators, r.untagged) if a}

    def _torches_of(self, name: WheelName, torch: Optional[str]) -> List[str]:
        """The releases of torch, as this host's rows write them; only those that torch.json
        knows."""
        if torch is None:
            return []
        if container_of_name(torch) is not None:
            return [torch]
        if not _PLAIN_TORCH.match(torch):
            return self._torches_of_pin(name.parsed_version.public, torch)
        if not any(torch in (version, minor_of(version)) for version in self._table.releases):
            return []
        spelled = {
            row.torch
            for row in self._rows
            if row.torch == torch or row.torch.startswith(torch + ".")
        }
        return [torch] if torch in spelled or len(spelled) != 1 else list(spelled)

    def _torches_of_pin(self, version: str, pin: str) -> List[str]:
        rows = list(dict.fromkeys(build.torch for build in self._rows if build.version == version))
        if rows:
            return rows
        series = re.match(r"==(\d+\.\d+)\.\*$", pin)
        if series:
            return (
                [series.group(1)]
                if any(minor_of(v) == series.group(1) for v in self._table.releases)
                else []
            )
        release = self._table.first_release_with(self._project.name, version)
        if release is not None:
            return [release.version]
        try:
            fitting = [v for v in self._table.releases if SpecifierSet(pin).contains(v)]
        except InvalidSpecifier:
            return []
        return [min(fitting, key=Version)] if fitting else []

    def _tag_of(self, name: WheelName, link: Link) -> Optional[str]:
        values = read_template(self._host.wheel or "", link.url) or {}
        tag = values.get("tag", "")
        usual = self._host.tag.format(version=name.parsed_version.public)
        return tag if _TAG.match(tag) and tag != usual else None

    def _spell(self, cell: Build, name: WheelName, wanted: str) -> Optional[Build]:
        """The cell with the grammar under which it makes exactly the address that was found."""
        local = name.version.partition("+")[2]
        abi = cell.cxx11_abi[0] if cell.cxx11_abi else None
        built = BuiltFor(cell.torch, cell.accelerators[0], abi)
        for grammar in self._grammars:
            if (
                render_local(grammar_of(grammar), built_for=built, platform=cell.platform).lstrip(
                    "+"
                )
                != local
            ):
                continue
            one = replace(cell, filename=None if grammar == self._host.filename else grammar)
            if address_of(self._project, self._host, one) == wanted:
                return one
        return None


def can_be(version: Version) -> bool:
    """Not what only a hostile or damaged page would list."""
    return len(str(version)) <= 64 and max(version.release) <= 9999 and not version.epoch


def is_real_accelerator(accelerator: str, table: TorchTable) -> bool:
    """One that torch was built for, or a CUDA whose driver is known: anything can stand in a
    name."""
    parsed = parse_accelerator(accelerator)
    if parsed is None or str(parsed) != accelerator:
        return False
    if any(
        accelerator in (*release.accelerators, release.untagged)
        for release in table.releases.values()
    ):
        return True
    if parsed.kind == "cuda":
        return (
            cuda_table().driver_floor(accelerator) is not None
            and max(parsed.version[1:], default=0) < 10
        )
    return all(part < 100 for part in parsed.version) and len(accelerator) < 12
