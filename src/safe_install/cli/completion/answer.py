"""The answer to the completing shell: one word a line on stdout."""

from __future__ import annotations

import sys
from typing import Mapping, Sequence

from safe_install.cli.completion.names import NamesOnDisk
from safe_install.cli.completion.words import complete


def answer(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Answer `safe-install --complete WORD...`, where the last word is being written. Always exit
    status 0, never an error message."""
    before, current = list(words[:-1]), words[-1] if words else ""
    try:
        found = complete(before, current, NamesOnDisk(environ))
    except Exception:  # noqa: BLE001 - nothing may disturb the line that somebody is writing
        found = []
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return 0


def answer_as_pip(environ: Mapping[str, str]) -> int:
    """Answer the scripts of `pip completion`, where a file named pip is this program.

    COMP_WORDS is the line, words separated by spaces; COMP_CWORD the number of the word being
    written.
    """
    words = environ.get("COMP_WORDS", "").split()[1:]
    number = environ.get("COMP_CWORD", "")
    before = max(int(number) - 1, 0) if number.isdigit() else len(words)
    current = words[before] if before < len(words) else ""
    return answer([*words[:before], current], environ)
