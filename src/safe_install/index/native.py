"""Which shared objects of a wheel does its project need? Patterns of the wheel index, held against
names.

A pattern is a path below site-packages, in which `*` stands for any text without a slash. In braces
stand alternatives, in the order in which the project's own code takes them:
`torch_scatter/_*{_cuda,_cpu,}.so`. Files that the same text in place of the stars makes
alternatives are loaded by nobody together. `health/script.py` reads patterns in the same way.
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterable, Set, Tuple

# One pair of braces at most, nothing that leaves site-packages, and three stars at most: each
# multiplies the time that matching takes. `wheel_index/schema.json` says the same.
PATTERN = re.compile(r"(?!/|.*\.\.|([^*]*\*){4})[\w.*/+-]+(\{[\w.*+-]*(,[\w.*+-]*)+\}[\w.*/+-]*)?")
_BRACES = re.compile(r"\{([^{}]*)\}")


def expand(pattern: str) -> Tuple[str, ...]:
    """The patterns without braces that a pattern stands for, in its order."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return (pattern,)
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return tuple(before + word + after for word in braces.group(1).split(","))


def exact_pattern(member: str) -> str:
    """The pattern that names this very file, for `glob` in `health/script.py`: nothing in it stands
    for anything."""
    return re.sub(r"([*?\[{])", r"[\1]", member)


def needed_files(patterns: Iterable[str], members: Iterable[str]) -> FrozenSet[str]:
    """The members that patterns name; of the alternatives in braces the first that is there."""
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
        # `_*.so` matches `_x_cuda.so`, too: a file belongs to the first alternative that names it.
        for name in names:
            found = _regex(alternative).fullmatch(name)
            if found is None or name in seen:
                continue
            seen.add(name)
            first.setdefault(found.groups() if len(alternatives) > 1 else (name,), name)
    return first.values()


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("([^/]*)".join(re.escape(part) for part in pattern.split("*")))
