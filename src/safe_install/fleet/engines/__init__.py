"""Engines for Ansible, Dask and Ray. A module is imported only when its engine is used."""
