"""The lines that pip prints for a change, which scripts search for: names in pip's spelling, in
pip's order."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.models import Environment, InstalledDistribution, Origin, Step
from safe_install.requirements import applies

# a project, or a project with its extras "name[extra]" -> what it requires
Graph = Dict[str, Set[str]]
MAX_VISITS = 5  # of one node of a cycle, as in pip


def spell_names(
    steps: Sequence[Step], requested: Sequence[Requirement], environment: Environment
) -> Mapping[NormalizedName, str]:
    """The name of each step in pip's spelling: as the user wrote it, else as in the first
    requirement on it.

    `requested`: the requirements of the command line and of files, in order.
    """
    spelled: Dict[NormalizedName, str] = {}
    required = [requirement for step in steps for requirement in _requirements(step.requires)]
    for distribution in environment.installed.values():
        required += _requirements(distribution.requires)
    for requirement in requested:
        spelled.setdefault(canonicalize_name(requirement.name), requirement.name)
    for step in steps:
        if step.is_direct and step.requested:
            # With the URL of a file, the name is the file's; a folder's is in its metadata.
            is_file = step.origin is Origin.WHEEL
            spelled.setdefault(step.name, step.name if is_file else step.written_name or step.name)
    for requirement in required:
        spelled.setdefault(canonicalize_name(requirement.name), requirement.name)
    return {step.name: spelled.get(step.name, step.written_name or step.name) for step in steps}


def order_steps(
    steps: Sequence[Step], requested: Sequence[Requirement], environment: Environment
) -> Tuple[Step, ...]:
    """The steps in the order in which pip installs: dependencies first, names from z to a.

    Source: `get_topological_weights` in pip/_internal/resolution/resolvelib/resolver.py, pip 23.2
    to 26.2.
    """
    graph = _make_graph(steps, requested, environment)
    weights = _weigh(graph, {step.name for step in steps})
    return tuple(
        sorted(steps, key=lambda step: (weights.get(step.name, 0), step.name), reverse=True)
    )


def _make_graph(
    steps: Sequence[Step], requested: Sequence[Requirement], environment: Environment
) -> Graph:
    """Everything that the requirements reach. The root "" stands for the request."""
    markers = environment.interpreter.markers
    requires: Dict[NormalizedName, Sequence[str]] = {
        name: distribution.requires for name, distribution in environment.installed.items()
    }
    requires.update({step.name: step.requires for step in steps})
    asked_by_file = [step.name for step in steps if step.requested]
    graph: Graph = {"": {*map(_node, requested), *asked_by_file}}
    waiting = sorted(graph[""])
    while waiting:
        node = waiting.pop()
        if node in graph:
            continue
        name, extras = _split_node(node)
        graph[node] = {name} if extras else set()
        for requirement in _requirements(requires.get(name, ())):
            if applies(requirement, markers, extras):
                graph[node].add(_node(requirement))
        graph[node].discard(node)
        waiting += sorted(graph[node])
    return graph


def _node(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    extras = sorted(canonicalize_name(extra) for extra in requirement.extras)
    return f"{name}[{','.join(extras)}]" if extras else name


def _split_node(node: str) -> Tuple[NormalizedName, Tuple[str, ...]]:
    name, _, extras = node.partition("[")
    return NormalizedName(name), tuple(extras.rstrip("]").split(",")) if extras else ()


def _weigh(graph: Graph, wanted: Set[NormalizedName]) -> Mapping[str, int]:
    weights: Dict[str, List[int]] = {}
    while True:
        leaves = {node for node, children in graph.items() if node and not children}
        if not leaves:
            break
        weight = len(graph) - 1
        for leaf in leaves:
            weights[leaf] = [weight]
            del graph[leaf]
        for children in graph.values():
            children -= leaves
    _visit("", graph, wanted, [], weights)
    return {node: max(found) for node, found in weights.items() if found}


def _visit(
    node: str,
    graph: Graph,
    wanted: Set[NormalizedName],
    path: List[str],
    weights: Dict[str, List[int]],
) -> None:
    """The weights in a part of the graph with cycles: the length of the longest path from the
    root."""
    found = weights.get(node, [])
    if node in path or len(found) >= MAX_VISITS:
        return
    path.append(node)
    for child in sorted(graph.get(node, ())):
        _visit(child, graph, wanted, path, weights)
    path.pop()
    if node in wanted:
        weights[node] = [*found, len(path)]


def _requirements(texts: Iterable[str]) -> List[Requirement]:
    """The texts as requirements, without those that are none: a path, or an invalid line."""
    found = []
    for text in texts:
        try:
            found.append(Requirement(text))
        except InvalidRequirement:
            continue
    return found


# --- sentences ------------------------------------------------------------------------------------


class PipWords:
    """pip's lines at the beginning and at the end of an install."""

    def __init__(
        self, steps: Sequence[Step], entries: Iterable[str], environment: Environment
    ) -> None:
        """`entries`: the texts of the command line and of the files, in order."""
        requested = _requirements(entries)
        self._steps = order_steps(steps, requested, environment)
        self._names = spell_names(steps, requested, environment)

    def name_of(self, step: Step) -> str:
        """The step's name in pip's spelling."""
        return self._names[step.name]

    def installing(self) -> str:
        """The line before anything is changed."""
        return f"Installing collected packages: {', '.join(self._names[step.name] for step in self._steps)}"

    def replaced(self, olds: Iterable[InstalledDistribution]) -> List[str]:
        """The lines on distributions that another version replaced."""
        by_name = {old.name: old for old in olds}
        lines: List[str] = []
        for step in self._steps:
            if step.name in by_name:
                lines.append(f"  Attempting uninstall: {self._names[step.name]}")
                lines += [f"    {line}" for line in removed_lines(by_name[step.name])]
        return lines

    def installed(self) -> str:
        """The last line."""
        items = sorted(
            (self._names[step.name], step.version) for step in self._steps if step.version
        )
        return f"Successfully installed {' '.join(f'{name}-{version}' for name, version in items)}"


def removed_lines(old: InstalledDistribution) -> List[str]:
    """The lines on a removed distribution."""
    return [found_line(old), uninstalling_line(old), f"  {uninstalled_line(old)}"]


def found_line(old: InstalledDistribution) -> str:
    """`Found existing installation: Mixed.Case 1.0`."""
    return f"Found existing installation: {old.written_name or old.name} {old.version}"


def uninstalling_line(old: InstalledDistribution) -> str:
    """`Uninstalling Mixed.Case-1.0:`."""
    return f"Uninstalling {old.written_name or old.name}-{old.version}:"


def uninstalled_line(old: InstalledDistribution) -> str:
    """`Successfully uninstalled Mixed.Case-1.0`."""
    return f"Successfully uninstalled {old.written_name or old.name}-{old.version}"


def path_warning(scripts: Sequence[str], folder: str) -> List[str]:
    """pip's warning on scripts in a folder that is not on PATH."""
    names = sorted(scripts)
    listed = " and ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])
    sentence = f"scripts {listed} are" if len(names) > 1 else f"script {listed} is"
    return [
        f"  WARNING: The {sentence} installed in '{folder}' which is not on PATH.",
        "  Consider adding this directory to PATH or, if you prefer to suppress this warning, "
        "use --no-warn-script-location.",
    ]
