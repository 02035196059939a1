#!/usr/bin/env python3
"""Writes the wheel finder: one HTML file that says which wheel fits a torch, and which torch has
all that is needed.

It needs no server and asks nothing over the network.

    scripts/build_wheel_page.py [FILE]

FILE is dist/wheels.html unless given. The page holds the wheel index as tables: every address is
made here by the program's own `make_candidate`, and what needs Python's rules (wheel tags,
specifiers of torch) is computed here for all the choices there are. The page's script only selects
and orders. `scripts/wheel_page.html` is its template.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

# A clone is enough: the package need not be installed, and of its dependencies this script needs
# two.
# ruff: noqa: E402 - its imports come after
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
if not (find_spec("packaging") and find_spec("platformdirs")):
    own = ROOT / ".venv-test" / "bin" / "python"  # of scripts/test
    if own.exists() and Path(sys.prefix) != own.parents[1]:
        os.execv(own, [str(own), *sys.argv])
    sys.exit(
        "build_wheel_page.py needs packaging and platformdirs: "
        "apt-get install python3-packaging python3-platformdirs, or pip install packaging "
        "platformdirs"
    )

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.index.bundled import bundled_files, make_candidate
from safe_install.index.candidates import torch_of
from safe_install.index.catalog import (
    bundled_catalog,
    index_date,
    known_projects,
    load_project,
    torch_table,
)
from safe_install.index.facts import Build, HostEntry, Project
from safe_install.index.filename import python_tags
from safe_install.models import BuiltFor, Candidate, CandidateKind, Environment, Link
from safe_install.resolve.compatibility import Context, reject_python, reject_torch_version
from safe_install.resolve.ranking import host_rank
from safe_install.resolve.target import environment_for, parse_platform
from safe_install.tags import (
    container_of_name,
    parse_accelerator,
    supported_platforms,
)
from wheel_page_addresses import fill, generalize, template_values
from wheel_page_table import Table, embed
from wheel_page_torches import (
    accelerator_order,
    accelerators_of,
    code_number,
    label_of,
    pythons,
    releases,
    tabulate_torches,
)

TEMPLATE = Path(__file__).resolve().with_name("wheel_page.html")
OUTPUT = ROOT / "dist" / "wheels.html"

# What a person can choose: the key in the address, what it is called, and the platform that the
# program is asked for.
PLATFORMS: Tuple[Tuple[str, str, str], ...] = (
    ("linux_x86_64", "Linux x86_64", "manylinux_2_36_x86_64"),
    ("linux_aarch64", "Linux aarch64", "manylinux_2_36_aarch64"),
    ("win_amd64", "Windows", "win_amd64"),
    ("macos_arm64", "macOS (Apple silicon)", "macosx_14_0_arm64"),
    ("macos_x86_64", "macOS (Intel)", "macosx_14_0_x86_64"),
)


# --- tables ---------------------------------------------------------------------------------------


class Page:
    """The data of the page, as it grows project by project."""

    def __init__(self) -> None:
        self.texts = Table()  # versions, platforms, lists of accelerators and of wheel tags
        # [address, torch, accelerator, C++ ABI] of a cell: 0 where the row says it
        self.shapes = Table()
        self.codes = Table()  # of GPUs: [as text, the compute capabilities on which it runs]
        # "cp38-cp38" -> Python -> rank, where that Python takes it
        self.pairs: Dict[str, Dict[str, int]] = {}
        # wheel platform -> rank for each of PLATFORMS
        self.platforms: Dict[str, List[Optional[int]]] = {}
        # kind of match -> torch of a wheel -> releases it serves
        self.fits: Dict[str, Dict[str, List[int]]] = {}
        self._releases = releases()
        self._environments = [
            environment_for(
                torch=f"{release.version}+cpu",
                python_version="3.11",
                platform="linux_x86_64",
                torch_table=torch_table(),
            )
            for release in self._releases
        ]
        self._pair_orders = {python: _pair_order(python) for python in pythons()}
        self._platform_orders = [
            supported_platforms(*parse_platform(tag)) for _, _, tag in PLATFORMS
        ]

    def pairs_number(self, pairs: Sequence[str]) -> int:
        """The number of a list of `python-abi`, each with its rank."""
        for pair in pairs:
            if pair not in self.pairs:
                python, abi = pair.split("-")
                ranks = {}
                for version, order in self._pair_orders.items():
                    own = [
                        order[one]
                        for p in python.split(".")
                        for a in abi.split(".")
                        for one in [(p, a)]
                        if one in order
                    ]
                    if own:
                        ranks[version] = min(own)
                self.pairs[pair] = ranks
        return self.texts.number(" ".join(pairs))

    def platform_number(self, platform: str) -> int:
        """The number of a wheel's platform, with its ranks."""
        if platform not in self.platforms:
            ranks: List[Optional[int]] = []
            for order in self._platform_orders:
                own = [order.index(tag) for tag in platform.split(".") if tag in order]
                ranks.append(0 if platform == "any" else min(own) if own else None)
            self.platforms[platform] = ranks
        return self.texts.number(platform)

    def learn_torch(self, project: Project, torch: Optional[str]) -> None:
        """For which releases the program's own rule takes a wheel that was built for `torch`."""
        known = self.fits.setdefault(_match_key(project), {})
        if (torch or "") in known:
            return
        link = Link("https://wheels.example/x.whl", "x.whl")
        candidate = Candidate(
            name=project.name,
            version=Version("1"),
            kind=CandidateKind.WHEEL,
            link=link,
            built_for=BuiltFor(torch),
            requires=project.requires,
        )
        known[torch or ""] = [
            number
            for number, environment in enumerate(self._environments)
            if reject_torch_version(candidate, Context(project, environment, bundled_catalog()))
            is None
        ]

    def data(self, projects: Sequence[Project], date: str) -> Dict[str, Any]:
        """All of it."""
        documents = {project.name: self.project(project, projects) for project in projects}
        table = torch_table()
        accelerators = self._accelerators(projects)
        return {
            "date": date,
            "releases": [
                {
                    "torch": release.version,
                    "accelerators": accelerators_of(release),
                    "untagged": release.untagged,
                    "python": sorted(release.python, key=Version),
                    "companions": dict(release.companions),
                }
                for release in self._releases
            ],
            "abi": [
                [rule.since, rule.cxx11_abi, rule.accelerators, rule.architectures]
                for rule in table.abi_rules
            ],
            "accelerators": accelerators,
            "torch": tabulate_torches(
                {key: tag for key, _, tag in PLATFORMS},
                [release.version for release in self._releases],
                needing_drivers=accelerators,
                asked_for=sorted(self._accelerators_of_torch(), key=accelerator_order),
                texts=self.texts,
                codes=self.codes,
            ),
            "choices": [[key, label, parse_platform(tag)[0]] for key, label, tag in PLATFORMS],
            "texts": self.texts.values,
            "shapes": self.shapes.values,
            "codes": self.codes.values,
            "pairs": self.pairs,
            "platforms": self.platforms,
            "fits": self.fits,
            "projects": documents,
        }

    def _accelerators_of_torch(self) -> Set[str]:
        return {name for release in self._releases for name in accelerators_of(release)}

    def _accelerators(self, projects: Sequence[Project]) -> Dict[str, List[Any]]:
        """Kind, CUDA major and label of every accelerator that is named anywhere."""
        names = self._accelerators_of_torch()
        names |= {
            name for project in projects for build in project.builds for name in build.accelerators
        }
        names |= {project.accelerator for project in projects if project.accelerator}
        names |= {shape[2] for shape in self.shapes.values if shape[2]}
        names |= {
            alias.base_accelerator
            for project in projects
            for alias in project.aliases
            if alias.base_accelerator
        }
        known = {}
        for name in sorted(names):
            parsed = parse_accelerator(name)
            if parsed is not None:
                major = parsed.version[0] if parsed.kind == "cuda" else 0
                known[name] = [parsed.kind, major, int(parsed.major_only), label_of(name)]
        return known

    # --- one project ---

    def project(self, project: Project, projects: Sequence[Project]) -> Dict[str, Any]:
        """One project; keys that say nothing are left out."""
        self.learn_torch(project, None)
        files = list(bundled_files(project, torch_table()))
        versions = {Version(build.version).public for build in project.builds}
        versions |= {candidate.version.public for candidate in files}
        order = sorted(versions, key=Version)
        entry: Dict[str, Any] = {
            "match": _match_key(project),
            "accelerators": project.accelerator_match.value,
            "versions": order,
            "prereleases": [
                number for number, version in enumerate(order) if Version(version).is_prerelease
            ],
            "pinned": [number for number, version in enumerate(order) if version in project.pins],
            "hosts": [self._host(host, project) for host in project.hosts],
            "aliases": [
                [a.torch, a.base, a.accelerator or 0, a.base_accelerator or 0]
                for a in project.aliases
            ],
            "rows": self._rows(project, order),
            "files": [
                self._file(project, candidate, order.index(candidate.version.public))
                for candidate in files
            ],
            "sha256": dict(project.sha256),
            "gpu_code": self._gpu_code(project, order),
            "requires": list(_requires(project, projects)),
            **_facts(project),
        }
        return {key: value for key, value in entry.items() if value not in (None, "", [], {})}

    def _rows(self, project: Project, order: Sequence[str]) -> List[List[Any]]:
        rows = []
        for build in project.builds:
            if container_of_name(build.torch) is None:  # the page asks for a release of torch
                rows.append(self._row(project, build, order.index(Version(build.version).public)))
        return rows

    def _gpu_code(self, project: Project, order: Sequence[str]) -> List[List[Any]]:
        """[versions, accelerators, code] of each row; the first that applies is the one."""
        rows = []
        for row in project.gpu_code:
            versions = [
                number
                for number, text in enumerate(order)
                if row.versions.contains(text, prereleases=True)
            ]
            rows.append([versions, list(row.accelerators), code_number(row, self.codes)])
        return rows

    def _host(self, host: HostEntry, project: Project) -> Dict[str, Any]:
        entry = {
            "name": host.host,
            "layout": host.layout.value,
            "pages": list(host.pages),
            "made": int(host.wheel is not None),
            "rank": _host_rank(host, project),
            "repository": host.repository,
            "tag": host.tag if host.repository else None,
            "torch": list(host.torch),
            "kinds": list(host.kinds),
            "optional": host.optional,
            "complete_to": host.complete_to,
            "note": host.note,
        }
        return {key: value for key, value in entry.items() if value not in (None, "", [])}

    def _row(self, project: Project, build: Build, version: int) -> List[Any]:
        """[host, torch, version, platform, tags, accelerators, shapes, tag, note]; the last two may
        be missing."""
        number = next(n for n, host in enumerate(project.hosts) if host.host == build.host)
        host = project.hosts[number]
        pairs = ["-".join(python_tags(python, build.abi)) for python in build.python]
        torch = torch_of(project, Version(build.version), build.torch) or build.torch
        self.learn_torch(project, torch)
        shapes: Any = [-1, 0 if torch == build.torch else torch]
        if host.wheel is not None and build.platform != "macos":
            shapes = self._shapes(project, host, build)
        row: List[Any] = [
            number,
            self.texts.number(build.torch),
            version,
            self.platform_number(build.platform),
            self.pairs_number(pairs),
            self.texts.number(" ".join(build.accelerators)),
            shapes,
            build.tag or 0,
            build.note or 0,
        ]
        while not row[-1] and len(row) > 7:
            row.pop()
        return row

    def _shapes(self, project: Project, host: HostEntry, build: Build) -> Any:
        """The number of the one shape of all cells, or that of each in the program's order."""
        found = []
        for accelerator in build.accelerators:
            for python in build.python:
                for abi in build.cxx11_abi or (None,):
                    candidate = make_candidate(
                        project, host, build, accelerator=accelerator, python=python, cxx11_abi=abi
                    )
                    found.append(self._shape(project, build, candidate, accelerator, python))
        return found[0] if len(set(found)) == 1 and len(build.cxx11_abi) < 2 else found

    def _shape(
        self, project: Project, build: Build, candidate: Candidate, accelerator: str, python: str
    ) -> int:
        values = template_values(build, accelerator, "-".join(python_tags(python, build.abi)))
        template = generalize(candidate.link.url, values)
        if fill(template, values) != candidate.link.url:
            template = candidate.link.url
        built = candidate.built_for
        self.learn_torch(project, built.torch)
        abi = None if built.cxx11_abi is None else int(built.cxx11_abi)
        torch = 0 if built.torch == build.torch else built.torch
        return self.shapes.number(
            [template, torch, 0 if built.accelerator == accelerator else built.accelerator, abi]
        )

    def _file(self, project: Project, candidate: Candidate, version: int) -> List[Any]:
        """[url, version, platform, tags, torch, accelerator, C++ ABI, Pythons, rank, sha256] of a
        known address."""
        name = re.sub(r"\.whl$", "", candidate.link.filename).split("-")
        python, abi, platform = name[-3:]
        built = candidate.built_for
        self.learn_torch(project, built.torch)
        untagged = replace(candidate, tags=frozenset())
        fitting = [
            version
            for version in pythons()
            if reject_python(
                untagged, Context(project, _environment_with(version), bundled_catalog())
            )
            is None
        ]
        return [
            candidate.link.url,
            version,
            self.platform_number(platform),
            self.pairs_number([f"{python}-{abi}"]),
            built.torch,
            built.accelerator,
            None if built.cxx11_abi is None else int(built.cxx11_abi),
            0 if fitting == pythons() else fitting,
            host_rank(candidate, project),
            candidate.link.sha256,
        ]


def _facts(project: Project) -> Dict[str, Any]:
    """What the document of a project has beside its wheels."""
    source = project.source
    return {
        "accelerator": project.accelerator,
        "family": list(project.family),
        "holds": project.package_index.holds.value,
        "holds_note": project.package_index.note,
        "recipe": project.recipe.sdist if project.recipe else None,
        "cuda_only": project.recipe.cuda_only if project.recipe else None,
        "cpu_fits_all": project.cpu_fits_all or None,
        "sdist": [project.sdists[-1].version, project.sdists[-1].url] if project.sdists else None,
        "doubts": [[doubt.subject, doubt.why] for doubt in project.doubts],
        "checked": project.checked,
        "sources": list(project.sources),
        "source": source
        and {"repository": source.repository, "install": source.install, "note": source.note},
    }


@functools.lru_cache(maxsize=None)
def _environment_with(python: str, platform: str = "linux_x86_64") -> Environment:
    return environment_for(
        torch=None, python_version=python, platform=platform, torch_table=torch_table()
    )


def _match_key(project: Project) -> str:
    """Projects with the same key take the same torches."""
    torch = [text for text in project.requires if text.lower().startswith("torch")]
    return " ".join([project.torch_match.value, *torch])


def _pair_order(python: str) -> Dict[Tuple[str, str], int]:
    environment = _environment_with(python, PLATFORMS[0][2])
    pairs = dict.fromkeys((tag.interpreter, tag.abi) for tag in environment.interpreter.tags)
    return {pair: number for number, pair in enumerate(pairs)}


def _host_rank(host: HostEntry, project: Project) -> int:
    link = Link(re.sub(r"{.*", "x", host.wheel or "https://wheels.example/"), "x.whl")
    return host_rank(Candidate(project.name, Version("1"), CandidateKind.WHEEL, link), project)


def _requires(project: Project, projects: Sequence[Project]) -> Iterator[List[Any]]:
    """[project, versions or 0, choices where it applies or 0] of what the project's metadata
    hides."""
    known = {other.name: other for other in projects}
    for text in project.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        other = known.get(canonicalize_name(requirement.name))
        if other is None or requirement.url:
            continue
        versions: Any = 0
        if requirement.specifier:
            there = {Version(build.version) for build in other.builds} | {
                c.version for c in bundled_files(other, torch_table())
            }
            versions = sorted(
                {v.public for v in there if requirement.specifier.contains(v, prereleases=True)}
            )
        where: Any = 0
        if requirement.marker is not None:
            where = []
            for key, _, tag in PLATFORMS:
                for python in pythons():
                    markers = _environment_with(python, tag).interpreter.markers
                    if requirement.marker.evaluate({**markers, "extra": ""}):
                        where.append(f"{key} {python}")
        yield [other.name, versions, where]


# --- the page -------------------------------------------------------------------------------------


def build_page(projects: Iterable[Project], date: str) -> str:
    """The whole file."""
    template = TEMPLATE.read_text("utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in scripts
    )
    data = embed(Page().data(sorted(projects, key=lambda project: project.name), date))
    return template.replace("__SCRIPT_HASHES__", hashes, 1).replace("__DATA__", data, 1)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(arguments[0]) if arguments else OUTPUT
    text = build_page(map(load_project, known_projects()), index_date())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    print(f"{path}: {len(text.encode('utf-8')):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
