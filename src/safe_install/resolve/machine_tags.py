"""Which wheel tags a machine supports, by its interpreter, its platform and its libc. Pure."""

from __future__ import annotations

from typing import FrozenSet, List, NamedTuple, Tuple

from packaging.tags import Tag

from safe_install.models import Environment

_LAST_SUPPORTED: List[SupportedTags] = []  # of the interpreter that was asked about last


class SupportedTags(NamedTuple):
    """The wheel tags of an interpreter as sets. They are cached: to build them for each candidate
    would take longer than all rules."""

    source: Tuple[Tag, ...]
    tags: FrozenSet[Tag]
    pythons: FrozenSet[Tuple[str, str]]  # (interpreter, abi)


def supported_tags(environment: Environment) -> SupportedTags:
    """The wheel tags of the environment's interpreter."""
    source = environment.interpreter.tags
    last = _LAST_SUPPORTED[0] if _LAST_SUPPORTED else None
    if last is None or last.source is not source:
        pythons = frozenset((tag.interpreter, tag.abi) for tag in source)
        last = SupportedTags(source, frozenset(source), pythons)
        _LAST_SUPPORTED[:] = [last]
    return last


def same_machine(platform: str, here: str) -> bool:
    """Do two platforms have the same system and architecture? The libc is ignored."""
    system, architecture = machine_of(platform), machine_of(here)
    return system == architecture


def machine_of(platform: str) -> Tuple[str, str]:
    """The system and architecture of a platform tag: ("linux", "x86_64")."""
    for architecture in ("x86_64", "aarch64", "i686", "arm64", "amd64", "win32", "universal2"):
        if platform.endswith(architecture):
            system = (
                "win"
                if platform.startswith("win")
                else "mac"
                if platform.startswith("macosx")
                else "linux"
            )
            return system, architecture
    return platform, ""
