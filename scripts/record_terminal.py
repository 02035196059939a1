#!/usr/bin/env python3
"""Run commands in a real terminal and save the screen as SVG: docs/terminal.svg, the picture of the
README.

    python scripts/record_terminal.py .venv "safe-install torch-scatter" "safe-install undo" >
    docs/terminal.svg

The first argument is the virtual environment to activate; each other one is a command line, run in
turn by sh. What a command draws and takes away again (progress) is not in the picture. Needs pyte
and rich: pip install pyte rich
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any, Sequence

COLUMNS, LINES = 88, 60


def main(environment: str, commands: Sequence[str]) -> int:
    import pyte  # type: ignore[import-not-found, unused-ignore]

    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    for number, command in enumerate(commands):
        if number:
            stream.feed(b"\r\n")
        stream.feed(b"\x1b[1m$ " + command.encode() + b"\x1b[0m\r\n")
        run(command, Path(environment).resolve(), stream)
    sys.stdout.write(picture(screen))
    return 0


def run(command: str, environment: Path, stream: Any) -> None:
    """Run one command line in a terminal of COLUMNS by LINES and feed all that it writes to the
    stream."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "SAFE_INSTALL_PYTHON"))
    }
    variables.update(
        VIRTUAL_ENV=str(environment), TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(LINES)
    )
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables,
        start_new_session=True,
    )
    os.close(theirs)
    while True:
        try:
            written = os.read(ours, 65536)
        except OSError:  # Linux answers EIO when the last process has closed its end
            break
        if not written:
            break
        stream.feed(written)
    os.close(ours)
    process.wait()


def picture(screen: Any) -> str:
    """The screen as SVG, without the empty lines at its end."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI

    last = max(number for number, line in enumerate(screen.display) if line.strip())
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for number in range(last + 1):
        console.print(styled_line(screen.buffer[number]), overflow="ignore", no_wrap=True)
    svg = console.export_svg(title="safe-install", theme=MONOKAI, unique_id="safe-install")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def styled_line(cells: Any) -> Any:
    """One line of the screen as rich's text."""
    from rich.style import Style
    from rich.text import Text

    line = Text()
    row = [cells[column] for column in range(COLUMNS)]
    for (color, bold, italic), group in groupby(
        row, key=lambda cell: (cell.fg, cell.bold, cell.italics)
    ):
        line.append(
            "".join(cell.data for cell in group),
            Style(color=rich_color(color), bold=bold, italic=italic),
        )
    line.rstrip()
    return line


def rich_color(name: str) -> str:
    """pyte's name of a colour (`brown` for yellow, `brightred`, six hex digits) as rich spells
    it."""
    if name == "brown":
        return "yellow"
    if name.startswith("bright"):
        return name.replace("bright", "bright_").replace("brown", "yellow")
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return f"#{name}"
    return name


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
