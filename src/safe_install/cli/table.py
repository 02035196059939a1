"""Tables as lines of text, with columns as wide as their content."""

from __future__ import annotations

import sys
from typing import Iterator, List, Sequence, Tuple

from safe_install.cli.terminal import WIDE, can_write, count_columns, find_width, printable
from safe_install.cli.translation.speech import say

RULE = "\u2500"  # the ruling of a table, where the encoding has this character


def render_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """A table as lines of text. On a narrow terminal its columns are split into several tables."""
    width = find_width(sys.stdout) or WIDE
    columns = [say(column) for column in columns]
    rows = [list(map(say, row)) for row in rows]
    sizes = []
    for n, column in enumerate(columns):
        cells = [column, *(row[n] for row in rows)]
        sizes.append(max(1, *map(count_columns, cells)) + 4)
    lines: List[str] = []
    for start, stop in _split_columns(sizes, width):
        part = [[row[0], *row[start:stop]] for row in rows]
        if start > 1 or stop < len(columns):
            # in a part of a wide table, only the rows with content
            part = [row for row in part if any(row[1:])]
        lines += _draw_table(title, [columns[0], *columns[start:stop]], part, width=width)
        title = ""
    return lines


def _split_columns(sizes: Sequence[int], width: int) -> Iterator[Tuple[int, int]]:
    """The columns that fit beside the first one, part by part: from, and up to."""
    start = 1
    while start < len(sizes):
        stop, used = start, sizes[0]
        while stop < len(sizes) and (stop == start or used + sizes[stop] <= width):
            used += sizes[stop]
            stop += 1
        yield start, stop
        start = stop


def _draw_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int
) -> List[str]:
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*[Text(printable(cell)) for cell in row])
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False)
    console.print(table)
    lines = [title] if title else []
    lines += [line.rstrip() for line in out.getvalue().splitlines()]
    return [line if can_write(line, sys.stdout) else line.replace(RULE, "-") for line in lines]
