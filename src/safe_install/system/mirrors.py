"""Maps URLs to those of mirrors. Pure; `system.http` makes the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from safe_install.errors import UsageError


@dataclass(frozen=True)
class MirrorRule:
    """In URLs that begin with `start`, it is replaced by `replacement`."""

    start: str  # without a slash at its end
    replacement: str
    flat: bool = False  # the mirror has no pages of projects; the page above lists their files


def parse_mirrors(
    text: str, named: Optional[Mapping[str, Sequence[MirrorRule]]] = None
) -> Tuple[MirrorRule, ...]:
    """The rules of `SAFE_INSTALL_MIRRORS`, the one with the longest start first.

    `text`: names ("sjtu") and pairs (`https://data.pyg.org=https://mirror.example/pyg`), separated
    by spaces. `named`: the rules of each name. Errors: UsageError.
    """
    known = named or {}
    rules: List[MirrorRule] = []
    for item in text.split():
        if item in known:
            rules += known[item]
            continue
        # At the first "=": the address of the mirror may contain another one.
        start, _, replacement = item.partition("=")
        schemes = ("https://", "http://")
        if not start.startswith(schemes) or not replacement.startswith(schemes):
            names = f", or a name: {', '.join(sorted(known))}" if known else ""
            raise UsageError(
                f"SAFE_INSTALL_MIRRORS: {item!r} is not URL=URL",
                hint=f'Write it as "https://data.pyg.org=https://mirror.example/pyg"{names}',
            )
        rules.append(MirrorRule(start.rstrip("/"), replacement.rstrip("/")))
    return tuple(sorted(rules, key=lambda rule: -len(rule.start)))


def find_rule(url: str, rules: Sequence[MirrorRule]) -> Optional[MirrorRule]:
    """The rule for a URL; None if there is none. Its start must end at the end of a path
    segment."""
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
    """The address from which the relative links of the page at `url` start.

    It is the URL itself, except on a flat mirror: there the page of `.../whl/cu121/torchvision/` is
    that of `.../whl/cu121/`.
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
