"""safe-install installs PyTorch extensions without breaking the environment that they extend.

In a program: `from safe_install import check_running`. In a notebook: `%load_ext safe_install`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `check_running` when a program asks for it, so that the command line starts faster."""
    if name == "check_running":
        return import_module("safe_install.running").check_running
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext safe_install`; adds the magic `%safe_install ARGS`."""
    import_module("safe_install.notebook").register(shell)
