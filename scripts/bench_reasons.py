"""Which rows of the table miss their target, and why, in numbers of the same table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence

ONE_IMPORT = "one import of torch, and a sum"
# Seconds, when nothing slows that machine (a virtual one has neighbours).
IMPORT_AT_BEST = 1.08


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    seconds: float
    ratio: str  # against the row that it is compared with; empty without one
    target: str


def parse_rows(lines: Sequence[str]) -> List[Row]:
    """The rows of a table as `bench_table.row` writes them."""
    rows = []
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and _is_number(cells[1]):
            name, seconds, _, ratio, target = cells
            rows.append(Row(name, float(seconds), ratio, target))
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def find_misses(rows: Sequence[Row]) -> List[Row]:
    """Those whose ratio, or time, is above their target."""
    missed = []
    for row in rows:
        words = row.target.split()
        if not words:
            continue
        limit, is_seconds = words[0], words[1:] == ["s"]
        if limit == "with":  # swap in, "with roll back 0.005 s"
            limit, is_seconds = words[-2], True
        value = row.seconds if is_seconds else float(row.ratio or 0)
        if value > float(limit):
            missed.append(row)
    return missed


def render_reasons(lines: Sequence[str]) -> List[str]:
    """The section below the table; nothing where each target is met."""
    rows = parse_rows(lines)
    missed = find_misses(rows)
    if not missed:
        return []
    seconds = {row.name: row.seconds for row in rows}
    section = ["", "## Targets that are missed", ""]
    for row in missed:
        target = row.target.partition(" (")[0]
        reached = row.ratio or f"{row.seconds:.3f} s"
        section.append(f"- {row.name}: {reached}, target {target}. {_explain(row, seconds)}")
    return section


def _explain(row: Row, seconds: Dict[str, float]) -> str:
    one_import = seconds[ONE_IMPORT]
    what = row.name.rpartition(":")[0]
    if row.name.startswith("torch-scatter by"):
        by_hand = seconds[f"{what}: check; pip; check"]
        return (
            f"The import after the change, which is always made, is {one_import / by_hand:.2f} of "
            f"that; all the rest is {row.seconds - one_import:.2f} s."
        )
    if "beside torch" in row.name:
        rest = row.seconds - seconds[f"{what}: pip"] - one_import
        return f"That is pip and one import of torch, and {rest * 1000:.0f} ms more."
    if "no torch" in row.name:
        rest = row.seconds - seconds[f"{what}: pip"]
        return (
            "pip is asked which versions are to be installed, which takes it nearly as long as "
            f"the whole; our start, the transaction and the check after are {rest:.2f} s."
        )
    if row.name == "torch: stage":
        inflated = seconds["torch: its members inflated, CPU seconds"]
        return (
            f"Inflating its members takes a core {inflated:.1f} s, and the largest of them cannot "
            f"be shared between cores; the rest of {row.seconds:.1f} s hashes and makes the files."
        )
    if row.name.startswith("torch: swap in"):
        without_disk = seconds["torch: swap in, if nothing waited for the disk"]
        waiting = row.seconds - without_disk
        return (
            f"{waiting * 1000:.1f} ms of it wait for the disk: the stage, the journal and the "
            f"renames are on it, one after the other. In most of the other {without_disk * 1000:.1f} "
            "ms each folder that goes is asked, before the renames and after them, whether it "
            "changed, so that files which another program put there meanwhile are seen."
        )
    if row.name.startswith("tiny wheel"):
        more = row.seconds - seconds["tiny wheel, beside 0 others"]
        return f"The metadata of those others is read, {more * 1000:.0f} ms."
    if row.target.endswith(" s") and one_import > IMPORT_AT_BEST:
        scaled = row.seconds * IMPORT_AT_BEST / one_import
        return (
            f"The machine was slow: one import of torch took {one_import:.2f} s, and takes "
            f"{IMPORT_AT_BEST:.2f} s at best; by that measure this is {scaled:.3f} s."
        )
    return ""
