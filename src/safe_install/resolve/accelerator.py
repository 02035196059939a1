"""The requested accelerator: does torch have builds for it, and do options and requirements agree?
Pure."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence
from urllib.parse import unquote

from packaging.requirements import Requirement

from safe_install.errors import UsageError
from safe_install.index.facts import TorchRelease, TorchTable
from safe_install.index.torch_files import Listing
from safe_install.models import TorchBuild
from safe_install.resolve.own_options import UV_VARIABLE, OwnOptions
from safe_install.tags import accelerator_of_version, parse_accelerator

OPTION = "--accelerator"


def accelerator_asked_for(own: OwnOptions, table: TorchTable) -> str:
    """The accelerator of --accelerator or its variable, else that of uv's variable; "" where none
    is set: the driver decides.

    uv's variable has values of uv's own; one that is not known here is passed over. Kinds that
    torch.json does not list (ROCm, XPU) are accepted: only the pages of download.pytorch.org know
    their builds. Errors: UsageError for an accelerator that no release of torch is built for.
    """
    accelerator = own.accelerator
    if accelerator is None:
        return ""
    known = known_accelerators(table)
    if accelerator in known or not is_listed_kind(accelerator, table):
        return accelerator
    if own.accelerator_origin == UV_VARIABLE:
        return ""
    raise UsageError(
        f"{own.accelerator_origin} {accelerator}: no release of torch is known for it",
        hint=f"Write auto, or one of {', '.join(known)}, rocm6.4, xpu. "
        "A newer index may know more: see --update in safe-install wheels --help.",
    )


def describe_unknown_backend(own: OwnOptions, table: TorchTable) -> List[str]:
    """A sentence on the accelerator of uv's variable, where no release of torch is known for it."""
    if own.accelerator_origin != UV_VARIABLE or accelerator_asked_for(own, table):
        return []
    return [
        f"{UV_VARIABLE}={own.accelerator}: no release of torch is known for it, and it is passed "
        "over"
    ]


def with_known_accelerator(own: OwnOptions, table: TorchTable) -> OwnOptions:
    """The options with the accelerator of `accelerator_asked_for`. Errors: UsageError."""
    return dataclasses.replace(own, accelerator=accelerator_asked_for(own, table) or None)


def known_accelerators(table: TorchTable) -> List[str]:
    """The accelerators of all releases, oldest CUDA first."""
    names = {name for release in table.releases.values() for name in release.accelerators}
    names |= {release.untagged for release in table.releases.values() if release.untagged}
    return sorted(names, key=_order)


def _order(name: str) -> List[int]:
    accelerator = parse_accelerator(name)
    return list(accelerator.version) if accelerator is not None else []


def is_listed_kind(accelerator: str, table: TorchTable) -> bool:
    """Does torch.json list the builds of this kind (cpu, cuda)? It lists no others."""
    asked = parse_accelerator(accelerator)
    kinds = {
        parsed.kind
        for parsed in map(parse_accelerator, known_accelerators(table))
        if parsed is not None
    }
    return asked is not None and asked.kind in kinds


# --- together with requirements -------------------------------------------------------------------


def choose_accelerator(
    own: OwnOptions, pinned: Sequence[Requirement], installed: Optional[TorchBuild]
) -> str:
    """The accelerator that the new torch must be for; "": the driver decides.

    A requirement or constraint on a whole build (`torch==2.13.0+cu126`) names one, too, and has
    precedence over a variable. uv's variable is ignored where a torch for another accelerator is
    installed: only the command line, or our own variable, changes that. `pinned`: requirements and
    constraints on torch.
    Errors: UsageError where the command line contradicts itself.
    """
    asked = own.accelerator or ""
    for requirement in pinned:
        named = accelerator_of_requirement(requirement)
        if not named:
            continue
        if asked and asked != named and own.accelerator_origin == OPTION:
            raise UsageError(
                f"{OPTION} {asked} and {requirement} contradict each other: that is a build for "
                f"{named}",
                hint=f"Leave out {OPTION}, or write torch=={_release_of(requirement)}.",
            )
        return named
    is_of_uv = own.accelerator_origin == UV_VARIABLE
    if is_of_uv and installed is not None and installed.accelerator not in ("", asked):
        return ""
    return asked


def accelerator_of_requirement(requirement: Requirement) -> str:
    """`cu126` for `torch==2.13.0+cu126` or for the URL of such a file; "" where it names no
    build."""
    if requirement.url:
        filename = unquote(requirement.url.partition("#")[0].rpartition("/")[2])
        version = filename.split("-")[1] if filename.count("-") > 1 else ""
        return accelerator_of_version(version) or ""
    for specifier in requirement.specifier:
        if specifier.operator in ("==", "==="):
            return accelerator_of_version(specifier.version) or ""
    return ""


def _release_of(requirement: Requirement) -> str:
    for specifier in requirement.specifier:
        return specifier.version.partition("+")[0]
    return "X.Y.Z"


def with_listing(table: TorchTable, accelerator: str, listing: Listing, python: str) -> TorchTable:
    """The table of torch, with the builds for an accelerator that its page lists. `python`:
    "3.11"."""
    releases = dict(table.releases)
    for version in listing.releases(accelerator):
        known = releases.get(version) or TorchRelease(version, (), None, {}, ())
        accelerators = dict.fromkeys((*known.accelerators, accelerator))
        on_aarch64 = known.accelerators_aarch64
        if on_aarch64 is not None:
            on_aarch64 = tuple(dict.fromkeys((*on_aarch64, accelerator)))
        pythons = dict.fromkeys((*known.python, python))
        releases[version] = dataclasses.replace(
            known,
            accelerators=tuple(accelerators),
            accelerators_aarch64=on_aarch64,
            python=tuple(pythons),
        )
    return dataclasses.replace(table, releases=releases)
