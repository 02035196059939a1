"""The HTTP client: mirrors, tokens and certificates as the user set them."""

from __future__ import annotations

from pathlib import Path
from typing import (
    Mapping,
    Optional,
    Sequence,
    Tuple,
)
from urllib.parse import urlsplit

from safe_install.errors import InputError
from safe_install.index.catalog import known_mirrors
from safe_install.ports import World
from safe_install.system.credentials import Credentials
from safe_install.system.http import HttpClient
from safe_install.system.mirrors import MirrorRule, parse_mirrors


def _refuse_missing_certificates(world: World) -> None:
    """Refuse a certificate file that does not exist: without it every host would seem to be down.
    Errors: InputError, with pip's exit status."""
    network = world.network
    named = [
        ("--cert (PIP_CERT)", network.ca_bundle),
        ("--client-cert", network.client_certificate),
    ]
    if not network.ca_bundle:
        # requests reads the first of them that is set.
        variables = [
            (name, world.environ.get(name)) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        ]
        named += [pair for pair in variables if pair[1]][:1]
    for where, path in named:
        if path and not Path(path).exists():
            raise InputError(
                f"{where} names {path}, and no such file was found", hint="Correct the path."
            )


def make_client(
    world: World,
    *,
    offline: bool = False,
    trusted_hosts: Sequence[str] = (),
    revalidate: bool = False,
    credentials: Optional[Credentials] = None,
) -> HttpClient:
    """The HTTP client: mirrors, the token for GitHub's API, the cache. Errors: UsageError."""
    if not offline:
        _refuse_missing_certificates(world)
    text = world.environ.get("SAFE_INSTALL_MIRRORS", "")
    named = named_mirrors() if text else {}
    token = world.environ.get("GITHUB_TOKEN") or world.environ.get("GH_TOKEN") or ""
    return HttpClient(
        mirrors=parse_mirrors(text, named),
        offline=offline,
        cache_dir=world.cache_dir,
        trusted_hosts=trusted_hosts,
        tokens={"api.github.com": token} if token else {},
        revalidate=revalidate,
        credentials=credentials,
        network=world.network,
    )


def named_mirrors() -> Mapping[str, Tuple[MirrorRule, ...]]:
    """The mirrors of the wheel index, by name."""
    found = {}
    for name, mirror in known_mirrors().items():
        rules = [
            MirrorRule(start.rstrip("/"), by.rstrip("/"), mirror.flat) for start, by in mirror.pairs
        ]
        found[name] = tuple(rules)
    return found


def named_hosts(urls: Sequence[str]) -> Tuple[str, ...]:
    """The hosts of these URLs. They were written by the user, so plain http is allowed for them."""
    hosts = [urlsplit(url).hostname for url in urls]
    return tuple(host for host in hosts if host)
