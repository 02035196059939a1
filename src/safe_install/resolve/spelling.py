"""Detects words that are nearly a command or nearly a project of the wheel index: pip would install
whatever project has that name."""

from __future__ import annotations

from typing import Collection, Iterable, Mapping, Optional

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.errors import UsageError

# Planned commands, and words for what our commands do: never taken as the project of that name.
# The value is the command line that does it today, where there is one.
RESERVED: Mapping[str, Optional[str]] = {
    "version": "safe-install --version",
    "update": "safe-install -U REQ",
    "rollback": "safe-install undo",
    "repair": "safe-install recover",
    "plan": "safe-install --dry-run REQ",
}

# Projects on the package index whose names are one edit from a command, among the 10,000 most
# downloaded in 2026-11.
NEIGHBOURS_OF_COMMANDS = frozenset(
    """
    cachy daff dash dictor diffq donfig fcache flet hist lit mock pdiff plac usearch zconfig
    """.split()  # noqa: SIM905 - one name a line would be a page
)

# Real projects, in use, whose names are one edit from a name in the wheel index (package index,
# 2026-11).
NEIGHBOURS_OF_PROJECTS = frozenset(
    """
    atorch borch briton btorch ctorch cupy-cuda110 cupy-cuda111 cupy-cuda112 cupy-cuda113 cupy-cuda114
    cupy-cuda115 cupy-cuda116 cupy-cuda117 cytorch dtorch fbgemm-npu forch gpytorch gsplot jtorch kaalin
    ktorch mamba3-ssm morch msplat mtorch norch ntorch orch pyglib pyqtorch pytouch pyvtorch qpytorch qtorch
    s2conv spdconv splat svconv torc torcha torchac torchax torchio torchq torchx torchy touch tritony
    tryton vtorch xtorch zorch
    """.split()  # noqa: SIM905 - one name a line would be a page
)

SHORTEST_PROJECT = 5  # letters: below that, every name is a neighbour of others


def is_one_edit(one: str, other: str) -> bool:
    """Is it one letter too many, too few or wrong, or two adjacent ones exchanged
    (Damerau-Levenshtein distance 1)?"""
    if one == other:
        return False
    if len(one) == len(other):
        return _is_replaced(one, other)
    longer, shorter = sorted((one, other), key=len, reverse=True)
    return any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))


def _is_replaced(one: str, other: str) -> bool:
    different = [place for place, letter in enumerate(one) if letter != other[place]]
    if len(different) == 1:
        return True
    if len(different) != 2:
        return False
    first, second = different
    is_neighbour = second == first + 1
    return is_neighbour and one[first] == other[second] and one[second] == other[first]


def nearest_command(
    word: str, commands: Iterable[str], *, takes_any: bool = False
) -> Optional[str]:
    """The command that an unknown word is probably meant to be; None where there is none.
    `takes_any`: even for a word that is also a popular project."""
    if len(word) < 4 or (word in NEIGHBOURS_OF_COMMANDS and not takes_any):
        return None
    for command in sorted({*commands, *RESERVED}):
        if is_one_edit(word, command):
            return command
    return None


def nearest_option(name: str, options: Iterable[str]) -> Optional[str]:
    """The long option that an unknown one is probably meant to be: one edit away, or with other
    hyphens."""
    for option in sorted(options):
        if option.startswith("--") and (
            is_one_edit(name, option) or _letters(name) == _letters(option)
        ):
            return option
    return None


def _letters(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def nearest_project(name: str, known: Collection[str]) -> Optional[str]:
    """The project of the wheel index that a normalized name is probably meant to be; None where
    there is none.

    Names that differ only in a digit (cupy-cuda112, dgl-cu111, flash-attn-4) are versions of one
    project.
    """
    if name in known or name == "torch" or name in NEIGHBOURS_OF_PROJECTS:
        return None
    letters = _without_digits(name)
    for project in sorted({*known, "torch"}):
        if len(project) < SHORTEST_PROJECT or _without_digits(project) == letters:
            continue
        if is_one_edit(name, project):
            return project
    return None


def _without_digits(name: str) -> str:
    return "".join(letter for letter in name if not letter.isdigit())


def refuse_misspelled(
    requirements: Iterable[Requirement], *, known: Collection[str], installed: Collection[str]
) -> None:
    """Refuse a name that is one edit from a project of the wheel index, before any host is asked
    and any code runs.

    An exact version, a URL, or an installed project of that name shows that it is meant. Errors:
    UsageError.
    """
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if requirement.url or name in installed or _is_pinned(requirement):
            continue
        project = nearest_project(name, known)
        if project is not None:
            raise UsageError(
                f"{requirement.name} is no project of the wheel index, and one letter away from "
                f"{project}",
                hint=f"Did you mean: {project}? To install {requirement.name}, name its version: "
                f"{requirement.name}==VERSION.",
            )


def _is_pinned(requirement: Requirement) -> bool:
    for specifier in requirement.specifier:
        if specifier.operator in ("==", "===") and "*" not in specifier.version:
            return True
    return False
