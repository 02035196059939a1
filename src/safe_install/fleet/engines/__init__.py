"""Engines: Ansible, Dask, Ray. Each is imported where it is named, and not before."""
