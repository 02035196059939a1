"""Engines: how the nodes of a cluster are reached. What is run there, the phases decide."""
