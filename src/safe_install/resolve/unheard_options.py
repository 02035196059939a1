"""Refuses options that a command does not have and would pass over. Pure."""

from __future__ import annotations

from typing import Collection, Optional, Sequence

from safe_install.errors import UsageError
from safe_install.resolve.command_line import Word
from safe_install.resolve.options_table import BY_COMMAND
from safe_install.resolve.pip_options import OPTIONS, PLACE_KEYS

# pip's options, by their keys, for the commands that do not take all of `pip install`.
OF_EXPLAIN = frozenset(
    (
        *PLACE_KEYS,
        "no-index",
        "pre",
        "quiet",
        "verbose",
        "trusted-host",
        "proxy",
        "cert",
        "client-cert",
        "no-input",
    )
)
OF_UNINSTALL = frozenset({"requirement", "yes", "root-user-action", "break-system-packages"}).union(
    option.key for option in OPTIONS if option.group in ("general", "help")
)


def refuse_unheard(
    command: str, words: Sequence[Word], *, of_pip: Optional[Collection[str]] = None
) -> None:
    """Refuse options of our other commands, and those of pip but these. `of_pip`: None: all of
    pip's are heard. Errors: UsageError."""
    own = {option.name for option in BY_COMMAND[command].options}
    for word in words:
        if word.argument or word.text == ("--",):
            continue
        is_heard = word.name in own if word.name else of_pip is None or word.key in of_pip
        if not is_heard:
            raise UsageError(
                f"{command} has no option {word.text[0].partition('=')[0]}",
                hint=f"safe-install {command} --help lists its options.",
            )
