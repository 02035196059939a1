"""Wheel files: fetched, opened, built."""
