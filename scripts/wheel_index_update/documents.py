"""A document with other values; what is unchanged keeps its text and its place."""

from __future__ import annotations

from typing import Any, Iterable, List, Sequence

from safe_install.index.facts import Build, Project
from wheel_index_update.cells import Json, row_json
from wheel_index_update.merging import Merged
from wheel_index_update.package_index import versions_in

# What stands behind a key that a document does not have yet.
_AFTER = {
    "pins": ("recipe", "builds", "sdists", "wheels", "sha256", "doubts"),
    "builds": ("sdists", "wheels", "sha256", "doubts"),
    "sdists": ("wheels", "sha256", "doubts"),
    "wheels": ("sha256", "doubts"),
    "sha256": ("doubts",),
}


def with_value(document: Json, key: str, value: Any) -> Json:
    """The document with another value; a new key takes its usual place."""
    if key in document or not value:
        return {**document, key: value} if key in document else dict(document)
    new: Json = {}
    for name, old in document.items():
        if key not in new and name in _AFTER[key]:
            new[key] = value
        new[name] = old
    return new


def with_rows(document: Json, project: Project, rows: Sequence[Build]) -> Json:
    """The document with other builds; a row that stays keeps its text."""
    if tuple(rows) == project.builds:
        return dict(document)
    text = dict(zip(project.builds, document.get("builds", [])))
    return with_value(document, "builds", [text.get(row) or row_json(row) for row in rows])


def answered_doubts(project: Project, merged: Sequence[Merged], pins: Iterable[str]) -> List[str]:
    """The doubts that a row or a pin may answer now; a person decides."""
    found = []
    new_pins = set(pins)
    added = [cell for one in merged for cell in one.added]
    has_macos = any(cell.platform == "macos" for one in merged for cell in one.removed)
    all_read = any(one.checked and not one.unchecked for one in merged)
    for doubt in project.doubts:
        named = versions_in(doubt.subject)
        by_row = any(
            cell.version in named and ("torch" not in doubt.subject or cell.torch in named)
            for cell in added
        )
        words = doubt.subject.lower()
        if (
            by_row
            or new_pins & named
            or (has_macos and words == "macos")
            or (all_read and words.endswith("builds"))
        ):
            found.append(
                f"the doubt about {doubt.subject!r} may be answered now; it stays until a person "
                "removes it"
            )
    return found
