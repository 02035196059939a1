"""Makes a session of requests with pip's settings for proxy, certificates and trusted hosts."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Any, Dict, Type, TypedDict, Union
from weakref import WeakSet

import requests
import urllib3
from requests.adapters import HTTPAdapter

from safe_install import __version__
from safe_install.models import NetworkSettings

KEPT_CONNECTIONS = 16  # to one host; at most so many threads use it at the same time


Response = requests.Response  # for the annotations of modules that do not import requests


class RequestOptions(TypedDict, total=False):
    """Options of requests for one request."""

    proxies: Dict[str, str]
    verify: Union[bool, str]
    cert: str


class Connections:
    """The open connections. A thread can close those for which other threads wait."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._guard = threading.Lock()

    def add(self, connected: object) -> None:
        """Add the socket of a connection. Other kinds (TLS in TLS) are left out: they cannot be
        cut."""
        if isinstance(connected, socket.socket):
            with self._guard:
                self._sockets.add(connected)

    def cut(self) -> None:
        """End all connections. A thread that reads from one sees its end."""
        with self._guard:
            sockets = list(self._sockets)
        for connected in sockets:
            with suppress(OSError):
                # Not SSLSocket.shutdown, after which a reader would get the encrypted bytes.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def watch(self, manager: urllib3.PoolManager) -> None:
        """Add each connection that this manager opens from now on."""
        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: _watched(pool_class, self) for scheme, pool_class in classes.items()
        }


def _watched(pool_class: Type[Any], connections: Connections) -> Type[Any]:
    class Connection(pool_class.ConnectionCls):  # type: ignore[misc,name-defined]
        def connect(self) -> None:
            super().connect()
            connections.add(self.sock)

    return type(pool_class.__name__, (pool_class,), {"ConnectionCls": Connection})


def make_session(network: NetworkSettings, connections: Connections) -> requests.Session:
    """A session for several threads, which is possible since it is not changed later.

    Errors: OSError, ssl.SSLError, if the certificates of the machine cannot be read.
    """
    session = requests.Session()
    session.headers["User-Agent"] = f"torch-safe-install/{__version__}"
    session.mount("http://", _Adapter(connections))
    session.mount("https://", _SystemCertificates(connections))
    if network.trusted_hosts:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for host in network.trusted_hosts:
        # An adapter of their own: all connections of an adapter share the certificates.
        session.mount(f"https://{host}/", _Adapter(connections))
        if ":" not in host:
            session.mount(f"https://{host}:", _Adapter(connections))
    return session


def request_options(url: str, network: NetworkSettings) -> RequestOptions:
    """The options of requests for one request. Given with a request, they come before
    REQUESTS_CA_BUNDLE, HTTPS_PROXY and NO_PROXY."""
    options: RequestOptions = {}
    if network.proxy:
        options["proxies"] = {"http": network.proxy, "https": network.proxy}
    if network.ca_bundle:
        options["verify"] = network.ca_bundle
    if network.client_certificate:
        options["cert"] = network.client_certificate
    if network.is_trusted(url):
        options["verify"] = False
    return options


class _Adapter(HTTPAdapter):
    """An adapter whose connections are kept for the next request, and can be cut."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        super().__init__(pool_maxsize=KEPT_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._connections.watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._connections.watch(manager)
        return manager


class _SystemCertificates(_Adapter):
    """An adapter that also trusts the machine's certificates, such as that of a company's proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **kwargs)
