"""Opens an engine by its name. The engine's module is imported only then, because it needs an
extra."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Mapping

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import Engine, EngineOptions


@dataclass(frozen=True)
class _Row:
    """One engine."""

    module: str
    extra: str  # of torch-safe-install
    needs: str  # the module that the extra installs


ENGINES: Mapping[str, _Row] = {
    "ansible": _Row("safe_install.fleet.engines.ansible", "ansible", "ansible"),
    "dask": _Row("safe_install.fleet.engines.dask", "dask", "distributed"),
    "ray": _Row("safe_install.fleet.engines.ray", "ray", "ray"),
}


def open_engine(name: str, target: str, options: EngineOptions) -> Engine:
    """Open the engine `name`. `target`: an inventory or an address. Errors: EngineFailed."""
    row = ENGINES.get(name)
    if row is None:
        raise EngineFailed(f"{name}: no engine of that name", hint="Name the nodes again.")
    try:
        module = importlib.import_module(row.module)
    except ImportError as error:
        raise EngineFailed(
            f"{name} cannot be used here: {error}",
            hint=f"Install it beside safe-install: pip install 'torch-safe-install[{row.extra}]'",
        ) from error
    engine: Engine = module.open_engine(target, options)
    return engine
