"""Mirrors: which URLs are requested from another host. Pure; `system.http` makes the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from safe_install.errors import UsageError


@dataclass(frozen=True)
class MirrorRule:
    """URLs that begin with `start` are requested below `replacement`."""

    start: str  # without the slash at its end
    replacement: str
    flat: bool = False  # the mirror has no pages of projects: what they list lies on the page above


def parse_mirrors(
    text: str, named: Optional[Mapping[str, Sequence[MirrorRule]]] = None
) -> Tuple[MirrorRule, ...]:
    """`SAFE_INSTALL_MIRRORS`: names ("sjtu") and pairs
    (`https://data.pyg.org=https://mirror.example/pyg`), by spaces.

    What was written first wins among equals, else the longest start. Raises UsageError for anything
    else.
    """
    known = named or {}
    rules: List[MirrorRule] = []
    for item in text.split():
        if item in known:
            rules += known[item]
            continue
        # The address of a mirror may hold a "=" of its own; the first one parts the pair.
        start, equals, replacement = item.partition("=")
        if not equals or not all(
            part.startswith(("https://", "http://")) for part in (start, replacement)
        ):
            names = f", or a name: {', '.join(sorted(known))}" if known else ""
            raise UsageError(
                f"SAFE_INSTALL_MIRRORS: {item!r} is not URL=URL",
                hint=f'Write it as "https://data.pyg.org=https://mirror.example/pyg"{names}',
            )
        rules.append(MirrorRule(start.rstrip("/"), replacement.rstrip("/")))
    return tuple(sorted(rules, key=lambda rule: -len(rule.start)))


def find_rule(url: str, rules: Sequence[MirrorRule]) -> Optional[MirrorRule]:
    """The rule for a URL; its start has to end at a path segment. None where there is none."""
    for rule in rules:
        if url == rule.start or (url.startswith(rule.start) and url[len(rule.start)] in "/?#"):
            return rule
    return None


def apply_mirrors(url: str, rules: Sequence[MirrorRule]) -> str:
    """The URL to request."""
    rule = find_rule(url, rules)
    if rule is None:
        return url
    return rule.replacement + page_base(url, rules)[len(rule.start) :]


def page_base(url: str, rules: Sequence[MirrorRule]) -> str:
    """The address from which relative links of the page at `url` start, whoever gave the page.

    On a flat mirror the page of `.../whl/cu121/torchvision/` is that of `.../whl/cu121/`.
    """
    rule = find_rule(url, rules)
    if rule is None or not rule.flat or not url.endswith("/"):
        return url
    above, _, _ = url.rstrip("/").rpartition("/")
    return f"{above}/" if len(above) > len(rule.start) else url


def mirror_hosts(rules: Sequence[MirrorRule]) -> Tuple[str, ...]:
    """The hosts of these mirrors."""
    hosts = [urlsplit(rule.replacement).hostname for rule in rules]
    return tuple(dict.fromkeys(host for host in hosts if host))
