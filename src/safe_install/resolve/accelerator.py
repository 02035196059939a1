"""The accelerator that the person asked for: is it one for which torch is built? Pure."""

from __future__ import annotations

from typing import List

from safe_install.errors import UsageError
from safe_install.index.facts import TorchTable
from safe_install.resolve.own_options import UV_VARIABLE, OwnOptions
from safe_install.tags import parse_accelerator


def accelerator_asked_for(own: OwnOptions, table: TorchTable) -> str:
    """The accelerator of --accelerator or its variable, else of uv's; "": none was named, the driver decides.

    Errors: UsageError for one that no release of torch is built for. uv's variable has values of uv's own: one that is
    not known here says nothing. Of a kind that torch.json does not list (ROCm, XPU) only the pages of
    download.pytorch.org know.
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
        "A newer index may know more: safe-install wheels --update.",
    )


def known_accelerators(table: TorchTable) -> List[str]:
    """Those of all releases, oldest CUDA first."""
    names = {name for release in table.releases.values() for name in release.accelerators}
    names |= {release.untagged for release in table.releases.values() if release.untagged}
    return sorted(names, key=_order)


def _order(name: str) -> List[int]:
    accelerator = parse_accelerator(name)
    return list(accelerator.version) if accelerator is not None else []


def is_listed_kind(accelerator: str, table: TorchTable) -> bool:
    """Does torch.json list the builds of this kind (cpu, cuda)? Of another one it says nothing."""
    asked = parse_accelerator(accelerator)
    kinds = {parsed.kind for parsed in map(parse_accelerator, known_accelerators(table)) if parsed is not None}
    return asked is not None and asked.kind in kinds
