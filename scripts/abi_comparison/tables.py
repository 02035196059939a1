"""The tables of docs/abi.md."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from typing import List, Sequence, Tuple

from packaging.version import Version

from abi_comparison.results import Build, Object, Pair, is_disagreement, kind_of
from safe_install.wheels.abi import LoadOutcome

REALS = ("loads", "fails", "crashes", "needs the driver", "hangs")


def confusion(rows: Sequence[Tuple[str, str]]) -> List[str]:
    counts = Counter(rows)
    reals = [
        real
        for real in REALS
        if real in ("loads", "fails", "crashes") or any(r == real for _, r in rows)
    ]
    lines = [f"| the check says | {' | '.join(reals)} |", f"|---|{'---|' * len(reals)}"]
    for verdict in LoadOutcome:
        lines.append(
            f"| {verdict.value} | {' | '.join(str(counts[verdict.value, real]) for real in reals)} "
            "|"
        )
    return lines


def share(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def minor_of(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2])


def pinned_minor(specifier: str) -> str:
    """`2.8`, where metadata wants one torch; else nothing."""
    found = re.fullmatch(r"={2,3}(\d+\.\d+)(\.\d+)?(\.\*)?(\+\w+)?", specifier)
    return found.group(1) if found else ""


def report(builds: Sequence[Build]) -> str:
    pairs = [(build, pair) for build in builds for pair in build.pairs]
    objects = [(build, pair, one) for build, pair in pairs for one in pair.objects]
    lines = [
        f"{len({pair.wheel for _, pair in pairs})} wheels, {len(builds)} builds of torch: "
        f"{len(pairs)} pairs of wheel "
        f"and torch, {len(objects)} of shared object and torch "
        f"({sum(one.uses_torch for _, _, one in objects)} of them use torch).",
        f"CPython {builds[0].python}, {builds[0].libc}, x86-64, no GPU and no driver.",
        "",
        "Per shared object that uses torch:",
        "",
        *confusion([(one.verdict, one.real) for _, _, one in objects if one.uses_torch]),
        "",
        "Per shared object that does not (bundled libraries, other modules):",
        "",
        *confusion([(one.verdict, one.real) for _, _, one in objects if not one.uses_torch]),
        "",
        "Per wheel:",
        "",
        *confusion([(pair.verdict, pair.real) for _, pair in pairs]),
        "",
        *_by_import(pairs),
        *_by_reason(objects),
        *_headline(pairs, objects),
        *_disagreements(pairs, objects),
        *_times(pairs),
        *_grid(builds),
    ]
    return "\n".join(lines)


def _by_import(pairs: Sequence[Tuple[Build, Pair]]) -> List[str]:
    columns = ("works", "imports", "operation fails", "import fails", "crashes", "not tried")
    lines = [
        "Per wheel, and what Python says of it (`works`: it also did the small operation that the "
        "wheel index has; "
        "`imports` proves less, many projects go on without their native code; not tried where the "
        "native code does "
        "not load and the check refuses):",
        "",
        f"| the check says | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    counts = Counter(
        (pair.verdict, "crashes" if pair.imports == "hangs" else pair.imports) for _, pair in pairs
    )
    for verdict in LoadOutcome:
        lines.append(
            f"| {verdict.value} | "
            f"{' | '.join(str(counts[verdict.value, column]) for column in columns)} |"
        )
    return [*lines, ""]


def _by_reason(objects: Sequence[Tuple[Build, Pair, Object]]) -> List[str]:
    kinds = ("missing library", "undefined symbol", "version", "other")
    lines = [
        "Why it does not load, where both say so:",
        "",
        f"| the check says | {' | '.join(f'loader: {kind}' for kind in kinds)} | what the loader "
        "names is foreseen |",
        f"|---|{'---|' * (len(kinds) + 1)}",
    ]
    both = [
        one
        for _, _, one in objects
        if one.verdict == LoadOutcome.DOES_NOT_LOAD.value and one.real == "fails"
    ]
    for expected in kinds[:-1]:
        rows = [one for one in both if one.expected == expected]
        counts = Counter(kind_of(one.words) for one in rows)
        named = sum(one.is_named for one in rows)
        lines.append(
            f"| {expected} | {' | '.join(str(counts[kind]) for kind in kinds)} | {named} of "
            f"{len(rows)} |"
        )
    return [*lines, ""]


def _headline(
    pairs: Sequence[Tuple[Build, Pair]], objects: Sequence[Tuple[Build, Pair, Object]]
) -> List[str]:
    good = [
        (build, pair)
        for build, pair in pairs
        if pair.real == "loads" and pair.imports in ("works", "imports")
    ]
    lost = sum(pair.verdict == LoadOutcome.DOES_NOT_LOAD.value for _, pair in good)
    old = [(build, pair) for build, pair in good if pair.verdict == LoadOutcome.ANOTHER_TORCH.value]
    own = [
        (build, pair) for build, pair in pairs if pinned_minor(pair.pins) == minor_of(build.torch)
    ]
    refused = [pair for _, pair in own if pair.is_refused]
    failing = [one for _, _, one in objects if one.real in ("fails", "crashes", "hangs")]
    missed = sum(one.verdict == LoadOutcome.FITS.value for one in failing)
    open_ = sum(one.verdict == LoadOutcome.UNKNOWN.value for one in failing)
    bad = [
        pair
        for _, pair in pairs
        if pair.real in ("fails", "crashes", "hangs") or pair.imports == "operation fails"
    ]
    return [
        f"- Wheels that load and import: {len(good)}. Refused as `does-not-load`: {lost}. Refused "
        "as built for another "
        f"torch: {len(old)}; for {sum(_is_pinned_elsewhere(b, p) for b, p in old)} of these the "
        "metadata pins another "
        "torch too.",
        f"- Wheels whose metadata pins this very minor of torch: {len(own)}. Refused: "
        f"{len(refused)}, of which load: "
        f"{sum(pair.real == 'loads' for pair in refused)}.",
        f"- Wheels that do not load, crash, or fail in their operation: {len(bad)}. Let through as "
        "`fits`: "
        f"{sum(pair.verdict == LoadOutcome.FITS.value for pair in bad)}, as `unknown`: "
        f"{sum(pair.verdict == LoadOutcome.UNKNOWN.value for pair in bad)}.",
        f"- Shared objects that do not load or crash: {len(failing)}. Not foreseen: {missed}; left "
        "open as `unknown`: "
        f"{open_}.",
        "",
    ]


def _is_pinned_elsewhere(build: Build, pair: Pair) -> bool:
    return pinned_minor(pair.pins) not in ("", minor_of(build.torch))


def _short(wheel: str) -> str:
    return "-".join(wheel.split("-")[:2])


def _cell(text: str, limit: int = 220) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _disagreements(
    pairs: Sequence[Tuple[Build, Pair]], objects: Sequence[Tuple[Build, Pair, Object]]
) -> List[str]:
    found = [(build, pair, one) for build, pair, one in objects if is_disagreement(one)]
    lines = [f"Disagreements: {len(found)} objects.", ""]
    if found:
        lines += [
            "| wheel, object | torch | the check says | really | the loader's words |",
            "|---|---|---|---|---|",
        ]
    for build, pair, one in found:
        says = f"{one.verdict}{f' ({one.reason})' if one.reason else ''}"
        where = f"{_short(pair.wheel)}: `{one.member}`"
        lines.append(
            f"| {where} | {build.torch} | {_cell(says)} | {one.real} | {_cell(one.words)} |"
        )
    broken = [
        (build, pair)
        for build, pair in pairs
        if pair.imports in ("operation fails", "import fails", "crashes", "hangs")
        and pair.verdict == LoadOutcome.FITS.value
        and pair.real == "loads"
    ]
    lines += ["", f"Wheels that fit and load, and that Python does not take: {len(broken)}.", ""]
    if broken:
        lines += ["| wheel | torch | | Python's words |", "|---|---|---|---|"]
        lines += [
            f"| {_short(p.wheel)} | {b.torch} | {p.imports} | {_cell(p.words)} |" for b, p in broken
        ]
        lines.append("")
    return lines


def _times(pairs: Sequence[Tuple[Build, Pair]]) -> List[str]:
    lines = ["| time, ms | median | 95 % below | most |", "|---|---|---|---|"]
    some = [pair for _, pair in pairs if pair.objects]
    for name, values in (
        ("what torch loads, once a change", [pair.scope_ms for pair in some]),
        (
            "an object, files not read before (mean of its wheel)",
            [pair.first_ms / len(pair.objects) for pair in some],
        ),
        (
            "an object, warm (mean of its wheel)",
            [pair.warm_ms / len(pair.objects) for pair in some],
        ),
        ("a wheel, warm", [pair.warm_ms for pair in some]),
    ):
        middle = statistics.median(values) if values else 0.0
        lines.append(
            f"| {name} | {middle:.0f} | {share(values, 95):.0f} | {max(values, default=0.0):.0f} |"
        )
    return [*lines, ""]


_LETTERS = {"fits": "fits", "another-torch": "another", "unknown": "unknown", "does-not-load": "no"}


def _grid(builds: Sequence[Build]) -> List[str]:
    lines = [
        "Each wheel beside each torch: the check's word (`no`: does not load, `another`: built for "
        "another torch), "
        "then what really happened to its native code and, after a comma, to its import or "
        "operation.",
        "",
        f"| wheel | its metadata wants torch | {' | '.join(build.torch for build in builds)} |",
        f"|---|---|{'---|' * len(builds)}",
    ]
    names = sorted({pair.wheel for build in builds for pair in build.pairs}, key=_order)
    for name in names:
        cells, pins = [], ""
        for build in builds:
            pair = next((one for one in build.pairs if one.wheel == name), None)
            if pair is None:
                cells.append("")
                continue
            pins = pair.pins or pins
            cells.append(f"{_LETTERS[pair.verdict]}: {pair.real}, {pair.imports}")
        lines.append(f"| {_short(name)} | {_cell(pins)} | {' | '.join(cells)} |")
    own = [f"torch {build.torch}: {build.own}" for build in builds]
    return [*lines, "", f"torch's own libraries, all of which import: {'; '.join(own)}."]


def _order(wheel: str) -> Tuple[str, Version]:
    project, version = wheel.split("-")[:2]
    return project.lower(), Version(version)
