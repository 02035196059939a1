"""The functions of `recovery.disk`, replaced in each module that imported them."""

from __future__ import annotations

import sys
from typing import Any, Callable

from safe_install.transaction.recovery import disk

PACKAGE = "safe_install.transaction"


def replace_everywhere(
    replace: Callable[[Any, str, Any], None], name: str, function: Callable[..., Any]
) -> None:
    """`replace(module, name, function)` for each module that calls `disk.NAME`."""
    original = getattr(disk, name)
    for key, module in sorted(sys.modules.items()):
        if key.startswith(PACKAGE) and getattr(module, name, None) is original:
            replace(module, name, function)
