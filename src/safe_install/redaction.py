"""Secrets out of texts: what an address may carry beside the place. Decisions only.

Every text that is shown, raised or kept goes through `redact`; what is sent to a host does not.
"""

from __future__ import annotations

import re

_USER = re.compile(r"(://)([^\s/?#]*)@")
_PARAMETER = re.compile(
    r"([?&;][\w.%-]*(?:token|secret|passw(?:or)?d|signature|credential|auth|sig|key)=)[^&\s\"'#]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """The text without user names and passwords of addresses, and without the parameters that stand for them."""
    if "@" in text:
        text = _USER.sub(lambda found: found.group() if found.group(2) in ("git", "****") else "://****@", text)
    return _PARAMETER.sub(r"\1****", text) if "=" in text else text
