"""A session of requests that reaches hosts as pip does: proxy, certificates, hosts that are trusted
without one."""

from __future__ import annotations

import ssl
from typing import Any, Dict

import requests
import urllib3
from requests.adapters import HTTPAdapter

from safe_install import __version__
from safe_install.models import NetworkSettings


def make_session(network: NetworkSettings) -> requests.Session:
    """Errors: OSError and ssl.SSLError where the machine's own certificates cannot be read."""
    session = requests.Session()
    session.headers["User-Agent"] = f"torch-safe-install/{__version__}"
    session.mount("https://", _SystemCertificates())
    if network.trusted_hosts:
        # they were named to be trusted
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for host in network.trusted_hosts:
        # The context with certificates is shared by an adapter's connections: these hosts need
        # another.
        session.mount(f"https://{host}/", HTTPAdapter())
        if ":" not in host:
            session.mount(f"https://{host}:", HTTPAdapter())
    return session


def request_options(url: str, network: NetworkSettings) -> Dict[str, Any]:
    """What requests is given with each question, so that it wins over REQUESTS_CA_BUNDLE,
    HTTPS_PROXY and NO_PROXY."""
    options: Dict[str, Any] = {}
    if network.proxy:
        options["proxies"] = {"http": network.proxy, "https": network.proxy}
    if network.ca_bundle:
        options["verify"] = network.ca_bundle
    if network.client_certificate:
        options["cert"] = network.client_certificate
    if network.is_trusted(url):
        options["verify"] = False
    return options


class _SystemCertificates(HTTPAdapter):
    """The machine's certificates count beside those that requests brings: a company's proxy has its
    own."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **kwargs)
