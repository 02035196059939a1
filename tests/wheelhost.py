"""A wheel host on loopback that speaks as the real ones do, and misbehaves on request.

    with WheelHost() as host:
        host.add_pyg_page("1.8.1", "cu111", {"torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl":
        wheel}, base="1.8.0") os.environ["SAFE_INSTALL_MIRRORS"] = host.mirrors

Page formats: data.pyg.org (find-links, `%2B` in href and `+` in the text, relative or absolute),
download.pytorch.org (PEP 503, root-relative, sha256 fragment), the Astral indexes and pypi.org (PEP
691 JSON), releases on GitHub (REST
API, the piece of HTML with assets, the feed), and plain pages of anchors for all others.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote, unquote, urlsplit

HOSTS = {
    "https://data.pyg.org": "pyg",
    "https://download.pytorch.org": "pytorch",
    "https://wheels.astral.sh": "astral",
    "https://pypi.org": "pypi",
    "https://files.pythonhosted.org": "files",
    "https://api.github.com": "github-api",
    "https://github.com": "github",
    "https://raw.githubusercontent.com": "github-raw",
    "https://release-assets.githubusercontent.com": "github-assets",
    "https://download.openmmlab.com": "openmmlab",
    "https://data.dgl.ai": "dgl",
    "https://dl.fbaipublicfiles.com": "facebook",
    "https://whl.natten.org": "natten",
    "https://nvidia-kaolin.s3.us-east-2.amazonaws.com": "kaolin",
    "https://nerfacc-bucket.s3.us-west-2.amazonaws.com": "nerfacc",
    "https://docs.gsplat.studio": "gsplat",
    "https://k2-fsa.github.io": "k2",
    "https://huggingface.co": "huggingface",
}


def read_metadata(wheel: bytes) -> str:
    """The METADATA in a wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


@dataclass
class Answer:
    """What is sent for one path."""

    body: bytes
    content_type: str = "text/html"
    status: int = 200
    headers: Dict[str, str] = field(default_factory=dict)


class WheelHost:
    """All hosts at once, each below a folder of its own."""

    def __init__(self) -> None:
        self.answers: Dict[str, Answer] = {}
        self.faults: List[Tuple[str, str]] = []
        self.requests: List[Tuple[str, Mapping[str, str]]] = []
        self.connections = 0  # that were accepted
        self.most_slow = 0  # requests that were answered slowly at the same time
        self._slow = 0
        self._left: Dict[Tuple[str, str], int] = {}
        self._guard = threading.Lock()
        self._releases: Dict[str, List[Dict[str, Any]]] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.host = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> WheelHost:
        self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """No connection is accepted from now on: the host is down."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def mirrors(self) -> str:
        """The value for SAFE_INSTALL_MIRRORS that brings every known host here."""
        return " ".join(f"{start}={self.url}/{folder}" for start, folder in HOSTS.items())

    @property
    def index_url(self) -> str:
        """The package index, for `--index-url`."""
        return f"{self.url}/pypi/simple/"

    def asked(self, part: str) -> List[str]:
        """The paths that were asked for and contain `part`."""
        return [path for path, _ in self.requests if part in path]

    def misbehave(self, part: str, fault: str, *, times: int = 1_000_000) -> None:
        """Every path with `part` (a space at its end is the end of the path).

        "404", "500", "empty", "truncated", "unannounced" (no length),
        "slow", "hang", "close", "limit" (GitHub's: no request left for an hour), "redirect URL"
        ({path} stands for its own), "drip" (a byte now and then), "drip-headers", "endless",
        "overrun" (more than announced), "other-range" (206 from another place), "unasked-range"
        (206 without a question for one), "strange-length", "steer" (escape codes), "stall" (silent
        after a half of the file). `times`: requests until it behaves again.
        """
        self.faults.insert(0, (part, fault))
        self._left[part, fault] = times

    def take_fault(self, path: str) -> str:
        """What goes wrong with this request."""
        with self._guard:
            for part, fault in self.faults:
                if part in f"{path} " and self._left[part, fault] > 0:
                    self._left[part, fault] -= 1
                    return fault
        return ""

    def answer_slowly(self) -> None:
        """Half a second; how many requests share it is counted."""
        with self._guard:
            self._slow += 1
            self.most_slow = max(self.most_slow, self._slow)
        time.sleep(0.5)
        with self._guard:
            self._slow -= 1

    def behave(self) -> None:
        """All faults are gone."""
        self.faults.clear()

    def put(
        self,
        path: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        **headers: str,
    ) -> None:
        """A file at `path` (decoded)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = Answer(body, content_type, headers=named)

    def path_of(self, url: str) -> str:
        """Where an address of a real host lies here, decoded."""
        start = next(
            start for start in sorted(HOSTS, key=len, reverse=True) if url.startswith(start)
        )
        return unquote(f"/{HOSTS[start]}{url[len(start) :]}")

    def put_file(self, url: str, content: bytes) -> None:
        """A file at an address of a real host."""
        self.put(self.path_of(url), content)

    # --- pages ---

    def add_anchors(
        self, url: str, hrefs: Sequence[str], *, line: str = '<a href="{href}">{text}</a><br>'
    ) -> None:
        """A page of anchors as buckets and static sites have them; `line` is how the host writes
        one."""
        lines = [line.format(href=href, text=unquote(href.rsplit("/", 1)[-1])) for href in hrefs]
        self.put(self.path_of(url), "\n".join(lines).encode(), content_type="text/html")

    def add_release(
        self, repository: str, tag: str, files: Mapping[str, bytes], *, digests: bool = True
    ) -> None:
        """A release on GitHub: the API's list and its own page, the web page's assets, the feed,
        and the files.

        Names keep their `+` on GitHub's side and stand as `%2B` in addresses; downloads are
        redirected to another host.
        """
        assets = []
        for name, content in files.items():
            url = f"https://github.com/{repository}/releases/download/{quote(tag)}/{quote(name)}"
            digest = hashlib.sha256(content).hexdigest()
            where = f"https://release-assets.githubusercontent.com/{digest[:12]}/{quote(name)}"
            self.put_file(where, content)
            self.answers[self.path_of(url)] = Answer(b"", "text/plain", 302, {"Location": where})
            assets.append(
                {
                    "name": name,
                    "browser_download_url": url,
                    "size": len(content),
                    "state": "uploaded",
                    "digest": f"sha256:{digest}" if digests else None,
                }
            )
        release = {"tag_name": tag, "draft": False, "prerelease": False, "assets": assets}
        own = self._releases.setdefault(repository, [])
        own.insert(0, release)
        api = f"https://api.github.com/repos/{repository}/releases"
        content_type = "application/json; charset=utf-8"
        self.put(self.path_of(api), json.dumps(own).encode(), content_type=content_type)
        self.put(
            self.path_of(f"{api}/tags/{quote(tag)}"),
            json.dumps(release).encode(),
            content_type=content_type,
        )
        start = f"/{repository}/releases"
        rows = [
            f'<li><a href="{start}/download/{tag}/{quote(a["name"])}" rel="nofollow">{a["name"]}</a></li>'
            for a in assets
        ]
        self.put(
            self.path_of(f"https://github.com{start}/expanded_assets/{quote(tag)}"),
            "\n".join(rows).encode(),
            content_type="text/html; charset=utf-8",
        )
        entries = "".join(
            f'<entry><link rel="alternate" href="https://github.com{start}/tag/{quote(r["tag_name"])}"/></entry>'
            for r in own[:10]
        )
        self.put(
            self.path_of(f"https://github.com{start}.atom"),
            f'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>'.encode(),
            content_type="application/atom+xml",
        )

    def add_pyg_page(
        self,
        torch: str,
        accelerator: str,
        wheels: Mapping[str, bytes],
        *,
        base: Optional[str] = None,
        href: str = "relative",
    ) -> None:
        """`whl/torch-{torch}+{accelerator}.html`; the files lie in the folder of `base`."""
        folder = f"torch-{base or torch}+{accelerator}"
        prefix = "https://data.pyg.org/whl/" if href == "absolute" else ""
        lines = []
        for name, content in wheels.items():
            self.put(f"/pyg/whl/{folder}/{name}", content)
            lines.append(f'<a href="{prefix}{quote(folder)}/{quote(name)}">{name}</a><br/>')
        body = "<!DOCTYPE html>\n<html>\n<body>\n" + "\n".join(lines) + "\n</body>\n</html>\n"
        path = f"/pyg/whl/torch-{torch}+{accelerator}.html"
        self.put(path, body.encode(), content_type="text/html", Cache_Control="max-age=300")

    def add_pytorch_page(
        self,
        accelerator: str,
        project: str,
        wheels: Mapping[str, bytes],
        *,
        hashes: bool = True,
        metadata: str = "",
        own_metadata: bool = False,
    ) -> None:
        """`whl/{accelerator}/{project}/`; `metadata`: the text of METADATA that lies beside each
        file (PEP 658), or
        its own beside each."""
        lines = []
        for name, content in wheels.items():
            metadata = read_metadata(content) if own_metadata else metadata
            self.put(f"/pytorch/whl/{accelerator}/{name}", content)
            fragment = f"#sha256={hashlib.sha256(content).hexdigest()}" if hashes else ""
            promised = f"sha256={hashlib.sha256(metadata.encode()).hexdigest()}"
            extra = (
                f' data-dist-info-metadata="{promised}" data-core-metadata="{promised}"'
                if metadata
                else ""
            )
            if metadata:
                self.put(f"/pytorch/whl/{accelerator}/{name}.metadata", metadata.encode())
            lines.append(
                f'    <a href="/whl/{accelerator}/{quote(name)}{fragment}"{extra}>{name}</a><br/>'
            )
        body = (
            f"<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Links for {project}</h1>\n"
            + "\n".join(lines)
            + "\n  </body>\n</html>\n<!--TIMESTAMP 1795000000-->"
        )
        self.put(f"/pytorch/whl/{accelerator}/{project}/", body.encode(), content_type="text/html")

    def add_astral_page(self, accelerator: str, project: str, wheels: Mapping[str, bytes]) -> None:
        """`simple/{accelerator}/{project}/`, JSON whatever is accepted; files addressed by their
        hash."""
        files = []
        for name, content in wheels.items():
            digest = hashlib.sha256(content).hexdigest()
            self.put(f"/astral/artifacts/{digest}/{name}", content)
            files.append(
                {
                    "filename": name,
                    "url": f"https://wheels.astral.sh/artifacts/{digest}/{quote(name)}",
                    "hashes": {"sha256": digest},
                    "size": len(content),
                    "upload-time": "2026-08-19T00:00:00Z",
                    "requires-python": ">=3.9",
                    "core-metadata": False,
                }
            )
        self._put_json(f"/astral/simple/{accelerator}/{project}/", project, files)

    def add_pypi_page(self, project: str, files: Mapping[str, bytes], **extra: Any) -> None:
        """`simple/{project}/` as pypi.org serves it; `extra` (`yanked`, ...) goes into every file
        entry."""
        entries = []
        for name, content in files.items():
            digest = hashlib.sha256(content).hexdigest()
            self.put(f"/files/packages/{digest[:8]}/{name}", content)
            entry = {
                "filename": name,
                "url": f"https://files.pythonhosted.org/packages/{digest[:8]}/{quote(name)}",
                "hashes": {"sha256": digest},
                "size": len(content),
                "requires-python": None,
                "yanked": False,
            }
            entry.update({key.replace("_", "-"): value for key, value in extra.items()})
            entries.append(entry)
        self._put_json(f"/pypi/simple/{project}/", project, entries)

    def _put_json(self, path: str, project: str, files: List[Dict[str, Any]]) -> None:
        document = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
        self.put(
            path, json.dumps(document).encode(), content_type="application/vnd.pypi.simple.v1+json"
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    host: WheelHost

    def process_request(self, request: Any, client_address: Any) -> None:
        self.host.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is part of the game


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()  # uv asks so for the size of a file; `_send` leaves the body out

    def do_GET(self) -> None:
        host = self.server.host
        path = unquote(urlsplit(self.path).path)
        host.requests.append((path, dict(self.headers.items())))
        fault = host.take_fault(path)
        if fault and self._fail(fault, path):
            return
        answer = host.answers.get(path)
        if answer is None:
            self._send(404, b"not found", "text/plain", {})
            return
        headers = dict(answer.headers)
        etag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"'
        headers.setdefault("ETag", etag)
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self._send(304, b"", answer.content_type, headers)
            return
        if fault in ("drip", "drip-headers", "endless"):
            self._send_without_end(fault, answer.content_type)
            return
        body, status = answer.body, answer.status
        if fault == "unasked-range":
            headers["Content-Range"] = f"bytes 0-{len(body) - 1}/{len(body)}"
            status = 206
        wanted = self.headers.get("Range", "")
        if (
            wanted.startswith("bytes=")
            and self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
        ):
            start = int(wanted[len("bytes=") :].split("-")[0])
            if start >= len(body):
                self._send(416, b"", "text/plain", {})
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            if fault == "other-range":
                start = start // 2
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        self._send(status, body, answer.content_type, headers, fault=fault)

    def _fail(self, fault: str, path: str) -> bool:
        """True when the request was answered (or not) here."""
        if fault == "slow":
            self.server.host.answer_slowly()
            return False
        if (
            fault
            in ("truncated", "unannounced", "drip", "drip-headers", "endless", "overrun", "stall")
            or "-" in fault[:10]
        ):
            return False
        if fault == "hang":
            time.sleep(5)
        elif fault.startswith("redirect "):
            target = fault.split(" ", 1)[1].replace("{path}", path)
            self._send(302, b"", "text/plain", {"Location": target})
            return True
        elif fault == "limit":
            reset = str(int(time.time()) + 3600)
            headers = {
                "X-RateLimit-Limit": "60",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": reset,
            }
            self._send(403, b'{"message": "API rate limit exceeded"}', "application/json", headers)
            return True
        elif fault == "steer":
            self.wfile.write(
                "HTTP/1.1 500 \x1b[2J\x9b31m\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
            )
            return True
        elif fault == "empty":
            self._send(200, b"", "text/html", {})
            return True
        elif fault.isdigit():
            self._send(int(fault), b"fault", "text/plain", {})
            return True
        self.close_connection = True  # "close", and what is left of "hang"
        return True

    def _send(
        self,
        status: int,
        body: bytes,
        content_type: str,
        headers: Mapping[str, str],
        *,
        fault: str = "",
    ) -> None:
        self.send_response(status)
        if status != 304:
            self.send_header("Content-Type", content_type)
            if fault == "unannounced":
                self.close_connection = True
            elif fault == "strange-length":
                self.close_connection = True
                self.send_header("Content-Length", "\u00b2")
            else:
                self.send_header(
                    "Content-Length", str(len(body) // 2 if fault == "overrun" else len(body))
                )
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if fault in ("truncated", "stall") else body)
        if fault == "stall":
            self.connection.settimeout(30)
            self.rfile.read(1)  # until whoever asked goes away
        if fault in ("truncated", "overrun", "stall"):
            self.close_connection = True

    def _send_without_end(self, fault: str, content_type: str) -> None:
        """Until whoever asked goes away, or the test is over."""
        self.close_connection = True
        piece, pause = (b"0" * 65536, 0.0) if fault == "endless" else (b"0", 0.02)
        if fault == "drip-headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
        stop = time.monotonic() + 30
        while time.monotonic() < stop:
            try:
                self.wfile.write(piece)
                self.wfile.flush()
            except OSError:
                return
            time.sleep(pause)
