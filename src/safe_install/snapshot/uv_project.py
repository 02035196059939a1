"""A snapshot as a pyproject.toml for `uv lock` and `uv sync`
(docs.astral.sh/uv/concepts/projects/dependencies). Pure.

A distribution is a dependency where it was requested, where no other one requires it, or where it
is not on the package index; uv reads sources for dependencies only. All others are constraints.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence

from safe_install.snapshot.requirements_text import HEAD, Named, find_named, unknown_lines
from safe_install.snapshot.sources import PYPI
from safe_install.snapshot.toml_text import Value, render_key, render_text, render_value
from safe_install.snapshot.values import (
    FileSource,
    IndexSource,
    KnownSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    UrlSource,
)


def render_uv_project(snapshot: Snapshot) -> str:
    """The text of a pyproject.toml."""
    known = find_named(snapshot)
    dependencies = [(one, source) for one, source in known if _is_dependency(one)]
    constraints = [one for one, _ in known if not _is_dependency(one)]
    lines = [HEAD.format(python=snapshot.python, platform=snapshot.platform)]
    lines += unknown_lines(snapshot)
    lines += ["[project]", 'name = "environment"', 'version = "0"']
    if snapshot.requires_python:
        lines.append(f"requires-python = {render_text(snapshot.requires_python)}")
    lines += _list("dependencies", [_requirement(one) for one, _ in dependencies])
    lines += ["", "[tool.uv]", "package = false"]
    lines += _list("environments", list(snapshot.environments))
    lines += _list("constraint-dependencies", [_pinned(one) for one in constraints])
    own = [(one, source) for one, source in dependencies if has_own_source(one)]
    lines += _source_lines(own)
    return "\n".join(lines) + "\n"


def _source_lines(dependencies: Sequence[Named]) -> List[str]:
    if not dependencies:
        return []
    pairs = [f"{render_key(one.name)} = {_table(_source(source))}" for one, source in dependencies]
    return ["", "[tool.uv.sources]", *pairs]


def _is_dependency(one: RecordedDistribution) -> bool:
    return one.is_requested or one.is_unrequired or has_own_source(one)


def has_own_source(one: RecordedDistribution) -> bool:
    """Does it need a source, because the package index does not have its version?"""
    return not (isinstance(one.source, IndexSource) and one.source.index == PYPI)


def _requirement(one: RecordedDistribution) -> str:
    """The requirement; without a version where its source has it."""
    return one.name if has_own_source(one) else _pinned(one)


def _pinned(one: RecordedDistribution) -> str:
    return f"{one.name}=={one.version}"


def _source(source: KnownSource) -> Mapping[str, Value]:
    if isinstance(source, (IndexSource, UrlSource)):
        table: Dict[str, Value] = {"url": source.url}
        if isinstance(source, UrlSource) and source.subdirectory:
            table["subdirectory"] = source.subdirectory
        return table
    if isinstance(source, FileSource):
        return {"path": source.path}
    if isinstance(source, RepositorySource):
        return _repository(source)
    return {"path": source.path, "editable": source.is_editable}


def _repository(source: RepositorySource) -> Mapping[str, Value]:
    """The source of a repository; uv supports git only."""
    table: Dict[str, Value] = {source.vcs: source.url, "rev": source.commit}
    if source.subdirectory:
        table["subdirectory"] = source.subdirectory
    return table


def _list(key: str, texts: List[str]) -> List[str]:
    if not texts:
        return [f"{key} = []"]
    return [f"{key} = [", *[f"  {render_text(text)}," for text in texts], "]"]


def _table(pairs: Mapping[str, Value]) -> str:
    rendered = [f"{key} = {render_value(value)}" for key, value in pairs.items()]
    return f"{{ {', '.join(rendered)} }}"
