"""The columns of the table of our commands and options (`options_table`)."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional, Tuple

FLEET_VERBS = ("install", "uninstall", "verify", "undo", "status", "diff")


class Kind(Enum):
    """What an option takes."""

    SWITCH = "switch"  # nothing
    TEXT = "text"
    NAMES = "names"  # a text, and the option may be repeated
    NUMBER = "number"  # 0 or more


class OptionRow(NamedTuple):
    """An option that pip does not have, or that means something else in pip."""

    # "--check-timeout"; long only, so that no cluster of pip's short options can hold one
    name: str
    help: str
    kind: Kind = Kind.SWITCH
    metavar: Optional[str] = None  # the value in the help
    has_variable: bool = False  # may SAFE_INSTALL_CHECK_TIMEOUT give it, too?
    default: Optional[int] = None  # of a number
    choices: Tuple[str, ...] = ()  # its values, or those that are written most
    # "-y", where pip has the same for the same; "-o", where pip has nothing of that name
    short: str = ""

    @property
    def takes_value(self) -> bool:
        """Is the next word its value?"""
        return self.kind is not Kind.SWITCH

    @property
    def variable(self) -> Optional[str]:
        """The environment variable that sets it; None where there is none."""
        return variable_of(self.name) if self.has_variable else None

    @property
    def field(self) -> str:
        """Its name in Python: `check_timeout`."""
        return self.name[2:].replace("-", "_")


class CommandRow(NamedTuple):
    """A command of ours."""

    name: str
    group: str  # the heading under which the overview has it
    summary: str  # its line there
    help: str  # the first lines of its own help
    options: Tuple[OptionRow, ...]  # in the order of its help
    argument: Optional[str] = None  # what stands behind it, in the help; None: nothing
    argument_field: str = ""  # the same for Python
    argument_help: Optional[str] = None
    argument_required: bool = False
    # the others heed -q, -v and --no-color alone, and before the command the network's
    takes_pip_options: bool = False


def variable_of(name: str) -> str:
    """`--check-timeout` -> `SAFE_INSTALL_CHECK_TIMEOUT`."""
    return "SAFE_INSTALL_" + name[2:].upper().replace("-", "_")
