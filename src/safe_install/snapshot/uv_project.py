"""A snapshot as a pyproject.toml that `uv lock` and `uv sync` carry out
(docs.astral.sh/uv/concepts/projects/dependencies). Pure.

What was requested, what nothing else brings, and what no package index has, is a dependency; the
versions of all others are constraints. Sources count for dependencies alone.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from safe_install.snapshot.requirements_text import HEAD, is_named, unknown_lines
from safe_install.snapshot.sources import PYPI
from safe_install.snapshot.toml_text import render_key, render_text
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    UrlSource,
)


def render_uv_project(snapshot: Snapshot) -> str:
    """The text of a pyproject.toml."""
    known = [one for one in snapshot.distributions if is_named(one)]
    named = [one for one in known if _is_dependency(one)]
    rest = [one for one in known if one not in named]
    lines = [HEAD.format(python=snapshot.python, platform=snapshot.platform)]
    lines += unknown_lines(snapshot)
    lines += ["[project]", 'name = "environment"', 'version = "0"']
    if snapshot.requires_python:
        lines.append(f"requires-python = {render_text(snapshot.requires_python)}")
    lines += _list("dependencies", [_requirement(one) for one in named])
    lines += ["", "[tool.uv]", "package = false"]
    lines += _list("environments", list(snapshot.environments))
    lines += _list("constraint-dependencies", [_pinned(one) for one in rest])
    sources = {one.name: _source(one) for one in named if has_own_source(one)}
    if sources:
        lines += ["", "[tool.uv.sources]"]
        lines += [f"{render_key(name)} = {_table(sources[name])}" for name in sources]
    return "\n".join(lines) + "\n"


def _is_dependency(one: RecordedDistribution) -> bool:
    return one.is_requested or one.is_alone or has_own_source(one)


def has_own_source(one: RecordedDistribution) -> bool:
    """Does it need more than its version to be found?"""
    return not (isinstance(one.source, IndexSource) and one.source.index == PYPI)


def _requirement(one: RecordedDistribution) -> str:
    """The requirement; a file or commit has its version in its source."""
    return one.name if has_own_source(one) else _pinned(one)


def _pinned(one: RecordedDistribution) -> str:
    return f"{one.name}=={one.version}"


def _source(one: RecordedDistribution) -> Mapping[str, Any]:
    source = one.source
    if isinstance(source, (IndexSource, UrlSource)):
        table: Dict[str, Any] = {"url": source.url}
        if isinstance(source, UrlSource) and source.subdirectory:
            table["subdirectory"] = source.subdirectory
        return table
    if isinstance(source, FileSource):
        return {"path": source.path}
    if isinstance(source, RepositorySource):
        return _repository(source)
    if isinstance(source, DirectorySource):
        return {"path": source.path, "editable": source.is_editable}
    return {}


def _repository(source: RepositorySource) -> Mapping[str, Any]:
    """The source of a git repository; uv knows no others."""
    table: Dict[str, Any] = {source.vcs: source.url, "rev": source.commit}
    if source.subdirectory:
        table["subdirectory"] = source.subdirectory
    return table


def _list(key: str, texts: List[str]) -> List[str]:
    if not texts:
        return [f"{key} = []"]
    return [f"{key} = [", *[f"  {render_text(text)}," for text in texts], "]"]


def _table(pairs: Mapping[str, Any]) -> str:
    written: List[str] = []
    for key, value in pairs.items():
        if isinstance(value, bool):
            written.append(f"{key} = {'true' if value else 'false'}")
        else:
            written.append(f"{key} = {render_text(str(value))}")
    return f"{{ {', '.join(written)} }}"
