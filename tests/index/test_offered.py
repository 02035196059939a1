"""Where no host can be asked: each real file is offered for the torch, Python and platform that it
is for, and fits."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

from packaging.specifiers import SpecifierSet

from safe_install.index.bundled import bundled_wheels
from safe_install.index.catalog import bundled_catalog, known_projects, load_project, torch_table
from safe_install.index.facts import AcceleratorMatch, canonical_url
from safe_install.index.filename import parse_filename
from safe_install.index.location import read_wheel_url
from safe_install.models import BuiltFor
from safe_install.resolve.compatibility import Context, check_candidate
from tests.factories import environment_for
from tests.index.test_real_urls import ROWS, report_hosts

# The start of the names of files that the bundled facts do not offer, though project and host are
# known, and why.
NOT_OFFERED = {
    "dgl_cu101-0.7.1": "which torch its wheels were built for is not said",
    "dgl_cu113-0.7.1": "which torch its wheels were built for is not said",
    "torchao-0.10.0": "which torch it belongs to was not measured",
    "torchao-0.11.0": "which torch it belongs to was not measured",
    "torchao-0.14.0": "which torch it belongs to was not measured",
    "torchvision-0.22.0-cp311-cp311-manylinux_2_28_aarch64": "on a host that is no more than a redirect",
    "triton-3.0.0-1": "no row can say a build number",
    "xformers-0.0.22.post2": "which torch it belongs to was not measured",
    "xformers-0.0.22.post4": "which torch it belongs to was not measured",
    "xformers-0.0.35-py39": "one for each CUDA under one name; its row is that of the package index",
}


def test_each_is_offered_for_its_machine_or_says_why_not():
    missed = {}
    for row in ROWS:
        url = canonical_url(report_hosts.unmirrored(row["url"]))
        name = parse_filename(url.rsplit("/", 1)[-1])
        project = load_project(name.project) if name.project in known_projects() else None
        host = (
            next((host for host in project.hosts if report_hosts.lies_on(host, url)), None)
            if project
            else None
        )
        if host is None:
            continue  # named in docs/hosts.md
        verdict = offer(project, host.host, name, url)
        if verdict is not None:
            missed[unquote(url.rsplit("/", 1)[-1])] = verdict
    unexplained = {
        file: why for file, why in missed.items() if not file.startswith(tuple(NOT_OFFERED))
    }
    assert not unexplained
    assert all(any(file.startswith(start) for file in missed) for start in NOT_OFFERED), (
        "one is offered by now"
    )


def offer(project, host, name, url):
    """None where the file is offered and fits, else what stands against it."""
    built = read_wheel_url(url, project).built_for
    if built.accelerator is None and project.accelerator_match is AcceleratorMatch.ANY:
        built = BuiltFor(built.torch, "cu", built.cxx11_abi)  # one file for every CUDA
    verdict = "for which torch is not known"
    for torch in torches_of(project, name, built):
        found = offered(project.name, host, torch, built.accelerator).get(url)
        verdict = (
            f"not offered for torch {torch}"
            if found is None
            else reject(project.name, torch, built, name, found)
        )
        if verdict is None:
            return None
    return verdict


def torches_of(project, name, built):
    pin = project.pins.get(name.parsed_version.public)
    if built.torch is not None:
        return [
            built.torch
            if built.torch.count(".") > 1 or built.torch.startswith("nv")
            else f"{built.torch}.0"
        ]
    return [
        release for release in torch_table().releases if pin and SpecifierSet(pin).contains(release)
    ]


@lru_cache(maxsize=None)
def offered(project, host, torch, accelerator):
    """What is offered for a torch is offered for every Python and platform: one machine stands for
    all."""
    machine = machine_of(torch, BuiltFor(torch, accelerator), "linux_x86_64", "3.11")
    found = {}
    for candidate in bundled_wheels(load_project(project), machine, hosts=[host]):
        # as the finder: the first one stands
        found.setdefault(canonical_url(candidate.link.url), candidate)
    return found


def reject(project, torch, built, name, candidate):
    """The rule that rejects the file on its machine; the Pythons of one platform differ in nothing
    but their tag."""
    found = re.match(r"cp(\d)(\d+)$", name.python)
    python = f"{found.group(1)}.{found.group(2)}" if found else "3.11"
    key = (project, candidate.version, torch, built, name.platform)
    if key not in _JUDGED:
        machine = machine_of(torch, built, name.platform.rpartition(".")[2], python)
        rejection = check_candidate(
            candidate, Context(load_project(project), machine, bundled_catalog(), pre=True)
        )
        _JUDGED[key] = None if rejection is None else f"{rejection.rule.value}: {rejection.detail}"
    return _JUDGED[key]


_JUDGED = {}


@lru_cache(maxsize=None)
def machine_of(torch, built, platform, python):
    accelerator = built.accelerator or "cpu"
    release = torch_table().releases.get(torch)
    known = [
        own for own in (release.accelerators if release else ()) if own.startswith(accelerator)
    ]
    text = f"{torch}+{known[-1] if known and len(accelerator) < 5 else accelerator}"
    if torch.startswith("nv"):
        text = f"2.9.0a0+145a3a7bda.{torch}"
    elif platform.startswith("macosx"):
        text = torch
    return environment_for(
        torch=text, python_version=python, platform=platform, cxx11_abi=built.cxx11_abi
    )
