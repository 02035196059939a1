"""Snapshots: the distributions of an environment, with the exact source of each file."""
