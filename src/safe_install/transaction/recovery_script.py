"""Makes the recovery into one file, which is stored as `recover.py` in every state folder.

It is one file because `python -I` does not look for modules beside a script, and because one rename
replaces it: a copy is never a mix of two versions. It is plain text, so that a user can read it,
and because Python starts it faster than a zip archive.
"""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

from safe_install.transaction.recovery.disk import write_durably

# In the order of their imports. No two of them define the same name.
_MODULES = (
    "__init__",
    "rows",
    "disk",
    "mounts",
    "lock_file",
    "records",
    "journal_file",
    "copies",
    "undo",
    "transactions",
    "main",
)
_IMPORT_OF_OURS = re.compile(
    rb"^from safe_install\.\S+ import (?:\([^)]*\)|[^(\n]*)\n", re.MULTILINE
)


def make_recovery_script() -> bytes:
    """The modules of `recovery` in one text, without their imports of each other. Errors:
    OSError."""
    package = f"{__package__}.recovery"
    sources = [pkgutil.get_data(package, f"{name}.py") or b"" for name in _MODULES]
    return b"\n\n".join(_IMPORT_OF_OURS.sub(b"", source) for source in sources)


def write_recovery_script(state: Path) -> None:
    """Write this program's script into the state folder, durably. Errors: OSError."""
    script = make_recovery_script()
    copy = state / "recover.py"
    if not copy.is_file() or copy.read_bytes() != script:
        write_durably(str(copy), script)
