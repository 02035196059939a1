"""`safe-install inventory`: describes this machine and this environment, for comparison with
others. Changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional, TypedDict

from safe_install.environment.tree_hash import COVERS, hash_installed, hash_tree
from safe_install.index.catalog import known_projects
from safe_install.models import Driver, Environment, InstallResult, Outcome
from safe_install.pipeline.session import error_context, probe_named
from safe_install.ports import World
from safe_install.transaction.history import read_history
from safe_install.transaction.marker import read_marker
from safe_install.transaction.staged import StagedChanges
from safe_install.transaction.staged_states import State
from safe_install.wheels.kept_wheels import name_kept_wheels


class _Tree(TypedDict):
    sha256: str
    covers: str


class _History(TypedDict):
    head: Optional[str]  # the newest change
    count: int


class _Place(TypedDict):
    """Hosts with the same marker share the environment."""

    device: int
    inode: int
    marker: Optional[str]


class _Details(TypedDict):
    """What is said beside the environment."""

    host: str
    machine: str
    extensions: Dict[str, str]
    tree: _Tree
    distributions: List[Dict[str, str]]
    history: _History
    staged: List[str]
    wheels: List[str]  # in the cache, which need not be sent
    place: _Place


def inventory(world: World, *, python: Optional[str]) -> InstallResult:
    """Driver, GPUs, libc, Python and torch are in the result's environment; the rest is in its
    details."""
    environment = probe_named(world, python)
    with error_context(environment):
        details = _describe(environment, world.cache_dir)
    return InstallResult(
        "inventory",
        Outcome.LISTED,
        0,
        environment,
        message="\n".join(_lines(environment, details)),
        details=details,
    )


def _describe(environment: Environment, cache: Path) -> _Details:
    prefix, installed = environment.interpreter.prefix, environment.installed
    hashes = hash_installed(installed)
    extensions = sorted(known_projects() & set(installed))
    entries = read_history(prefix)
    changes = StagedChanges(prefix)
    staged = [one for one in changes.ids if changes.find(one).state is State.STAGED]
    rows = [{"name": one.name, "version": one.version, "sha256": one.sha256} for one in hashes]
    place, machine = prefix.stat(), os.uname()
    return {
        "host": machine.nodename,
        "machine": machine.machine,
        "extensions": {name: installed[name].version for name in extensions},
        "tree": {"sha256": hash_tree(hashes), "covers": COVERS},
        "distributions": rows,
        "history": {"head": entries[0].id if entries else None, "count": len(entries)},
        "staged": staged,
        "wheels": list(name_kept_wheels(cache)),
        "place": {
            "device": place.st_dev,
            "inode": place.st_ino,
            "marker": read_marker(prefix),
        },
    }


def _lines(environment: Environment, details: _Details) -> List[str]:
    """The text output."""
    interpreter, torch, driver = environment.interpreter, environment.torch, environment.driver
    libc = " ".join(interpreter.libc).strip()
    gpus = (
        ", ".join(f"{one.name} ({one.compute_capability})" for one in driver.devices)
        if driver
        else ""
    )
    extensions = ", ".join(f"{name} {version}" for name, version in details["extensions"].items())
    return [
        f"host        {details['host']} ({interpreter.platform}, {libc})",
        f"driver      {name_driver(driver)}",
        f"GPUs        {gpus or 'none'}",
        f"Python      {interpreter.version} in {interpreter.prefix}",
        f"torch       {torch.runtime_version if torch else 'none'}",
        f"extensions  {extensions or 'none'}",
        f"tree        {details['tree']['sha256']} ({len(details['distributions'])} distributions)",
        f"history     {details['history']['head'] or 'none'}",
    ]


def name_driver(driver: Optional[Driver]) -> str:
    """The driver's version, or the CUDA of a driver that is declared without one."""
    if driver is None:
        return "none"
    return driver.version or driver.cuda or "of an unknown version"
