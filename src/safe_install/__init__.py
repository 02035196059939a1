"""safe-install: installs PyTorch extensions without breaking the environment that they extend.

For programs: `from safe_install import check_running`. In a notebook: `%load_ext safe_install`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What programs ask for, imported when they do: the command line starts without it."""
    if name == "check_running":
        return import_module("safe_install.running").check_running
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext safe_install`: the magic `%safe_install ARGS` from then on."""
    import_module("safe_install.notebook").register(shell)
