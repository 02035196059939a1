"""Data: one JSON file per project that lives on a host of its own. See README.md in this folder."""

DATE = "2026-11-28"  # of the newest facts; an index that `wheels --update` brought serves while it is newer
