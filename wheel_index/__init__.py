"""Data: one JSON file per project that lives on a host of its own. See README.md in this folder."""
