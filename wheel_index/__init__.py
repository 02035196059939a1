"""Data: one JSON file per project that lives on a host of its own. See README.md in this folder."""

# of the newest facts; an index that `wheels --update` brought serves while it is newer
DATE = "2026-11-29"
