"""The line of a requirements file that makes pip fetch exactly the file of a step."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Mapping

from safe_install.errors import Refused
from safe_install.models import Origin, Step


def requirement_line(step: Step) -> str:
    """The line for a step. Errors: Refused where it would be read as more than one line."""
    line = _written(step)
    if len(line.splitlines()) != 1 or re.search(
        r"\s", str((step.download_info or {}).get("url", ""))
    ):
        raise Refused(
            f"{step.name}: its address has white space in it: {step.url!r}",
            hint="Nothing was fetched.",
        )
    return line


def direct_requirement(step: Step) -> str:
    """The same for pip's command line, where the hash is in the URL."""
    line = requirement_line(replace(step, sha256=None, is_direct=True))
    if not step.sha256 or step.origin is Origin.REPOSITORY:
        return line
    return f"{line}{'&' if '#' in line else '#'}sha256={step.sha256}"


def _written(step: Step) -> str:
    info: Mapping[str, object] = step.download_info or {}
    name = step.written_name or step.name  # pip's lines repeat it
    url = str(info.get("url", step.url or ""))
    vcs = info.get("vcs_info")
    if isinstance(vcs, dict):
        address = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
        if url.startswith("file:"):
            # pip before 23.3 takes `name @ git+file:///...` for a path (pip's news of 23.3).
            subdirectory = (
                f"&subdirectory={info['subdirectory']}" if info.get("subdirectory") else ""
            )
            return f"{address}#egg={name}{subdirectory}"
        return f"{name} @ {address}{_fragment(info)}"
    # With the URL pip need not ask the index again. A URL with a password is hidden in its report.
    is_shown_whole = url.startswith(("http://", "https://")) and "****" not in url
    by_address = step.is_direct or step.is_locked or is_shown_whole
    line = f"{name} @ {url}{_fragment(info)}" if by_address else f"{name}=={step.version}"
    return f"{line} --hash=sha256:{step.sha256}" if step.sha256 else line


def _fragment(info: Mapping[str, object]) -> str:
    subdirectory = info.get("subdirectory")
    return f"#subdirectory={subdirectory}" if subdirectory else ""
