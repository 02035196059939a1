"""A snapshot as Markdown tables, for example for the appendix of a paper. Pure."""

from __future__ import annotations

from typing import List, Sequence, Tuple

from safe_install.snapshot.requirements_text import repository_address
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    Snapshot,
    Source,
    UnknownSource,
    UrlSource,
)

SHORT = 12  # characters of a hash or a commit that are shown


def render_markdown(snapshot: Snapshot) -> str:
    """Two tables: the machine, and every distribution."""
    rows = [
        (one.name, one.version, _origin(one.source), _digest(one.source))
        for one in snapshot.distributions
    ]
    lines = [*_table(("", ""), _machine(snapshot)), ""]
    lines += _table(("distribution", "version", "source", "sha256 or commit"), rows)
    return "\n".join(lines) + "\n"


def _machine(snapshot: Snapshot) -> List[Tuple[str, str]]:
    libc = " ".join(snapshot.libc).strip()
    place = f"{snapshot.platform}, {libc}" if libc else snapshot.platform
    rows = [("Python", f"{snapshot.python} ({place})")]
    if snapshot.torch is not None:
        cuda = snapshot.torch.cuda or "none"
        rows += [("torch", snapshot.torch.version), ("CUDA of torch", cuda)]
    rows.append(("NVIDIA driver", snapshot.driver or "none"))
    rows.append(("GPU", ", ".join(snapshot.gpus) or "none"))
    return rows


def _origin(source: Source) -> str:
    if isinstance(source, IndexSource):
        return source.index or source.url
    if isinstance(source, UrlSource):
        return source.url
    if isinstance(source, FileSource):
        return "built here" if source.is_built_here else source.path
    if isinstance(source, RepositorySource):
        return repository_address(source)
    if isinstance(source, DirectorySource):
        return f"{source.path} (editable)" if source.is_editable else source.path
    return f"not known: {source.reason}"


def _digest(source: Source) -> str:
    if isinstance(source, RepositorySource):
        return source.commit[:SHORT]
    if isinstance(source, (UnknownSource, DirectorySource)):
        return ""
    return (source.sha256 or "")[:SHORT]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    lines = [_row(head), _row(["---"] * len(head))]
    return lines + [_row(row) for row in rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """A text with the characters escaped that would end a cell or begin markup."""
    plain = " ".join(text.split())
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
