"""Finds the shared objects of a wheel that its project needs, by the patterns of the wheel index.

A pattern is a path below site-packages. `*` stands for any text without a slash. Braces hold
alternatives, in the order in which the project's own code tries them:
`torch_scatter/_*{_cuda,_cpu,}.so`. Files with the same text in place of the stars are alternatives
of each other: a process loads only one of them. `health/script.py` reads patterns in the same way.
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterable, Set, Tuple

# At most one pair of braces; no way out of site-packages; at most three stars, since each of them
# multiplies the time of a match. `wheel_index/schema.json` has the same rule.
PATTERN = re.compile(r"(?!/|.*\.\.|([^*]*\*){4})[\w.*/+-]+(\{[\w.*+-]*(,[\w.*+-]*)+\}[\w.*/+-]*)?")
_BRACES = re.compile(r"\{([^{}]*)\}")


def expand(pattern: str) -> Tuple[str, ...]:
    """The alternatives of a pattern as patterns without braces, in its order."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return (pattern,)
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return tuple(before + word + after for word in braces.group(1).split(","))


def exact_pattern(member: str) -> str:
    """The pattern that matches this file alone, for `glob` in `health/script.py`."""
    return re.sub(r"([*?\[{])", r"[\1]", member)


def needed_files(patterns: Iterable[str], members: Iterable[str]) -> FrozenSet[str]:
    """The members that match the patterns. Of the alternatives in braces only the first one that
    exists."""
    names = sorted(members)
    needed: Set[str] = set()
    for pattern in patterns:
        needed.update(_needed_by(pattern, names))
    return frozenset(needed)


def _needed_by(pattern: str, names: Iterable[str]) -> Iterable[str]:
    alternatives = expand(pattern)
    seen = set()
    first: Dict[Tuple[str, ...], str] = {}
    for alternative in alternatives:
        # `_*.so` also matches `_x_cuda.so`: a file belongs to the first alternative that matches.
        for name in names:
            found = _regex(alternative).fullmatch(name)
            if found is None or name in seen:
                continue
            seen.add(name)
            first.setdefault(found.groups() if len(alternatives) > 1 else (name,), name)
    return first.values()


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("([^/]*)".join(re.escape(part) for part in pattern.split("*")))
