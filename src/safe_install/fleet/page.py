"""Renders the result of a run as one HTML page without scripts and links. Pure."""

from __future__ import annotations

from html import escape
from typing import Any, List, Mapping, Sequence

from safe_install.fleet.report import AlikeRow, KindRow, NodeRow

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1c1e21; background: #fff; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .3rem .8rem; vertical-align: top; }
tr { border-bottom: 1px solid #d8dce2; } code { font-size: 13px; }
.changed, .healthy, .same { color: #14712f; } .refused, .unknown, .unhealthy { color: #a61b1b; font-weight: 600; }
.undone, .abandoned { color: #8a5a00; }
@media (prefers-color-scheme: dark) { body { color: #e4e6eb; background: #18191a; } tr { border-color: #3a3b3c; }
.changed, .healthy, .same { color: #6fd08c; } .refused, .unknown, .unhealthy { color: #ff8f8f; }
.undone, .abandoned { color: #f0c068; } }
"""


def render_page(sentence: str, outcome: str, details: Mapping[str, Any]) -> str:
    """The page as HTML. `details`: of the JSON document. All texts are escaped."""
    title = f"safe-install fleet {details.get('verb', '')}"
    body: List[str] = [f"<h1>{escape(title)}</h1>", f"<p>{escape(sentence)}</p>"]
    if details.get("run"):
        body.append(f"<p>Run <code>{escape(str(details['run']))}</code>, {escape(outcome)}.</p>")
    if "nodes" in details:
        body += _render_nodes(details["nodes"])
    if "alike" in details:
        body += _render_alike(details["alike"])
    if details.get("groups"):
        body += _render_groups(details["groups"])
    if details.get("notes"):
        items = "".join(f"<li>{escape(note)}</li>" for note in details["notes"])
        body += ["<h2>Not done by the engine</h2>", f"<ul>{items}</ul>"]
    if details.get("joined"):
        body += [
            f"<p>Not part of the run, joined since: {escape(', '.join(details['joined']))}</p>"
        ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _render_nodes(rows: Sequence[NodeRow]) -> List[str]:
    cells = []
    for row in rows:
        torch, changes = row.get("torch") or "", _changes_of(row)
        cells.append([row["name"], torch, row["outcome"], changes, row["reason"]])
    return _table(("node", "torch", "outcome", "change", "why"), cells, state=2)


def _changes_of(row: NodeRow) -> str:
    before, after = row.get("before") or {}, row.get("after") or {}
    changes = [
        f"{name} {before.get(name) or 'none'} -> {after.get(name) or 'none'}"
        for name in sorted({*before, *after})
    ]
    return ", ".join(changes)


def _render_alike(rows: Sequence[AlikeRow]) -> List[str]:
    cells = []
    for row in rows:
        differs = [
            f"{one['subject']} {one['here']} (most: {one['most']})" for one in row["differs"]
        ]
        difference = row["reason"] or "; ".join(differs) or "as most"
        cells.append([f"{len(row['nodes'])}", ", ".join(row["nodes"]), difference])
    return _table(("count", "nodes", "what differs"), cells)


def _render_groups(rows: Sequence[KindRow]) -> List[str]:
    cells = []
    for row in rows:
        wheels = ", ".join(row.get("wheels") or ()) or row.get("problem") or "nothing"
        cells.append([row["kind"], f"{len(row['nodes'])}", wheels])
    return ["<h2>Kinds of nodes</h2>", *_table(("kind", "nodes", "wheels"), cells)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, state: int = -1) -> List[str]:
    """`state`: the number of the column whose text is also its CSS class."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = ["<table>", f"<tr>{head}</tr>"]
    for row in rows:
        cells = []
        for number, cell in enumerate(row):
            colour = f' class="{escape(cell)}"' if number == state else ""
            cells.append(f"<td{colour}>{escape(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return [*lines, "</table>"]
