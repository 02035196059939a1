"""Hosts are reached as pip reaches them: proxy, certificates, trusted hosts. Real TLS on
loopback."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from safe_install.models import NetworkSettings
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install, parse_network
from safe_install.system.http import HttpClient, PageStatus


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"<a href='x-1.0-py3-none-any.whl'>x</a>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(context: Optional[ssl.SSLContext] = None) -> Iterator[int]:
    """The port of a server on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a certificate for localhost that nobody vouches for, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    key, crt = folder / "key.pem", folder / "one.crt"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*words.split(), "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True
    )
    both = folder / "both.pem"
    both.write_text(key.read_text() + crt.read_text())
    return both


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificate))
    return context


def ask(url: str, **settings: object):
    return HttpClient(network=NetworkSettings(**settings)).get_page(url)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in (
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_certificate_that_nobody_vouches_for(certificate):
    with serving(server_context(certificate)) as port:
        answer = ask(f"https://localhost:{port}/")
    assert answer.status is PageStatus.DOWN
    assert "certificate is not trusted" in answer.detail
    assert "--cert" in answer.detail


def test_cert_names_a_bundle(certificate, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text("")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))  # what was written for pip wins
    with serving(server_context(certificate)) as port:
        assert (
            ask(f"https://localhost:{port}/", ca_bundle=str(certificate)).status
            is PageStatus.LISTED
        )


def test_the_certificates_of_the_machine_count(certificate, monkeypatch):
    """As with pip's truststore: a company's own authority is in the machine's store, and not in
    that of requests."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # where OpenSSL looks for the machine's
    with serving(server_context(certificate)) as port:
        assert ask(f"https://localhost:{port}/").status is PageStatus.LISTED


def test_a_bundle_that_is_not_there(certificate):
    with serving(server_context(certificate)) as port:
        answer = ask(f"https://localhost:{port}/", ca_bundle="/nowhere/bundle.pem")
    assert answer.status is PageStatus.DOWN
    assert "/nowhere/bundle.pem" in answer.detail


@pytest.mark.parametrize("host", ["localhost", "localhost:{port}", "LOCALHOST"])
def test_a_trusted_host_needs_no_certificate(certificate, host):
    with serving(server_context(certificate)) as port:
        answer = ask(f"https://localhost:{port}/", trusted_hosts=(host.format(port=port),))
    assert answer.status is PageStatus.LISTED


def test_trust_is_for_one_host_and_port(certificate):
    with serving(server_context(certificate)) as port:
        for other in ("localhost:1", "example.org"):
            assert (
                ask(f"https://localhost:{port}/", trusted_hosts=(other,)).status is PageStatus.DOWN
            )


def test_a_client_certificate_is_shown(certificate):
    context = server_context(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(str(certificate))
    with serving(context) as port:
        url = f"https://localhost:{port}/"
        without = ask(url, ca_bundle=str(certificate))
        shown = ask(url, ca_bundle=str(certificate), client_certificate=str(certificate))
    assert without.status is PageStatus.DOWN
    assert shown.status is PageStatus.LISTED


@contextlib.contextmanager
def proxy(lines: List[str]) -> Iterator[str]:
    """A proxy that writes down what it is asked for, and brings nobody anywhere."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                lines.append(connection.recv(65536).split(b"\r\n")[0].decode())
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    threading.Thread(target=work, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_all_goes_through_the_proxy(monkeypatch):
    lines: List[str] = []
    monkeypatch.setenv("NO_PROXY", "*")  # --proxy is for all, as with pip
    with proxy(lines) as address:
        answer = ask("https://no-such-host.invalid/simple/", proxy=address)
    assert lines[0].startswith("CONNECT no-such-host.invalid:443 ")
    assert answer.status is PageStatus.DOWN
    assert "proxy" in answer.detail


def test_plain_http_only_to_those_who_are_trusted():
    client = HttpClient(network=NetworkSettings(trusted_hosts=("trusted.invalid",)))
    assert "plain http" in client.get_page("http://other.invalid/").detail
    assert "cannot be resolved" in client.get_page("http://trusted.invalid/").detail


CONFIGURED = {
    "proxy": "http://conf:1",
    "cert": "/conf.pem",
    "client-cert": "/me.pem",
    "trusted-host": "one two:8080",
}


@pytest.mark.parametrize(
    ("words", "configuration", "expected"),
    [
        ([], {}, NetworkSettings()),
        (
            [],
            CONFIGURED,
            NetworkSettings("http://conf:1", "/conf.pem", "/me.pem", ("one", "two:8080")),
        ),
        (
            ["--proxy", "http://typed:2", "--cert=/typed.pem", "--trusted-host", "three"],
            CONFIGURED,
            NetworkSettings(
                "http://typed:2", "/typed.pem", "/me.pem", ("one", "two:8080", "three")
            ),
        ),
    ],
)
def test_what_pip_was_told(words, configuration, expected):
    assert parse_network(split_words(words), configuration) == expected
    request = parse_install(
        split_words(["x", *words]), environ={}, configuration=configuration, read=lambda _: ""
    )
    assert request.network == expected


def test_a_file_may_trust_hosts():
    request = parse_install(
        split_words(["-r", "requirements.txt"]),
        environ={},
        configuration={},
        read=lambda _: "--trusted-host mine\nx\n",
    )
    assert request.network.trusted_hosts == ("mine",)
