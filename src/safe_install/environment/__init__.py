"""Reads the environment: interpreter, distributions, torch, driver."""
