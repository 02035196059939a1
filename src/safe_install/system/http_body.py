"""The bodies of HTTP answers, read within limits of size and time."""

from __future__ import annotations

import queue
import re
import threading
import time
import zlib
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Tuple

MAX_PAGE_SIZE = 64 * 1024 * 1024  # bytes, unpacked
CHUNK = 64 * 1024  # bytes


class ConnectionBroken(Exception):
    """The connection broke off or was silent for too long."""


class ReaderLeftBehind(ConnectionBroken):
    """It took too long, and a thread still reads it: closing it would wait for that thread."""


@contextmanager
def closing(response: Any) -> Iterator[Any]:
    """The response, closed at the end unless a thread still reads it."""
    try:
        yield response
    except ReaderLeftBehind:
        raise
    except BaseException:
        response.close()
        raise
    response.close()


def read_page_bytes(response: Any) -> bytes:
    """The body of a page, unpacked with a limit. Raises ConnectionBroken.

    urllib3 would unpack each piece whole, whatever becomes of it.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise ConnectionBroken(f"the page is packed in a way that was not asked for ({encoding[:40]})")
    inflater = None if encoding == "identity" else zlib.decompressobj(31)
    parts = []
    size = 0
    for chunk in _read_chunks(response):
        try:
            content = chunk if inflater is None else inflater.decompress(chunk, MAX_PAGE_SIZE + 1 - size)
        except zlib.error as error:
            raise ConnectionBroken("the page cannot be unpacked") from error
        size += len(content)
        if size > MAX_PAGE_SIZE:
            raise ConnectionBroken(f"the page is larger than {MAX_PAGE_SIZE // 2**20} MiB")
        parts.append(content)
    if inflater is not None and not inflater.eof:
        raise ConnectionBroken("the page broke off before its end")
    return b"".join(parts)


def _read_chunks(response: Any) -> Iterator[bytes]:
    """The body as it is sent, checked against its announced length. Raises ConnectionBroken."""
    import urllib3  # late: see HttpClient._get

    length = read_number(response.headers.get("Content-Length", ""))
    got = 0
    try:
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            got += len(chunk)
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise ConnectionBroken(reason_of(error)) from error
    # Older urllib3 takes a connection that closes early for the end of the body.
    if length is not None and got != length:
        raise ConnectionBroken(f"broke off after {got} of {length} bytes")


def stream_file(response: Any, patience: float) -> Iterator[bytes]:
    """The body of a file, read in a thread: CHUNK bytes must come in `patience` seconds of waiting.

    Raises ConnectionBroken.
    """
    pieces: queue.Queue[Tuple[bytes, Optional[BaseException]]] = queue.Queue(maxsize=8)
    is_over = threading.Event()

    def put(piece: Tuple[bytes, Optional[BaseException]]) -> bool:
        while not is_over.is_set():
            try:
                pieces.put(piece, timeout=1.0)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            if all(put((chunk, None)) for chunk in _read_chunks(response) if chunk):
                put((b"", None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            put((b"", error))
        finally:
            response.close()  # only here: closing waits for whoever reads

    threading.Thread(target=read, daemon=True).start()
    got, waited = 0, 0.0
    try:
        while True:
            started = time.monotonic()
            try:
                chunk, error = pieces.get(timeout=max(0.0, patience - waited))
            except queue.Empty:
                raise ConnectionBroken(f"slower than {CHUNK // 1024} KiB in {patience:.0f} s") from None
            waited += time.monotonic() - started
            if error is not None:
                raise error
            if not chunk:
                return
            got += len(chunk)
            if got >= CHUNK:
                got, waited = 0, 0.0
            yield chunk
    finally:
        is_over.set()


def read_number(text: str) -> Optional[int]:
    """A number of a header, None for what is none."""
    return int(text) if re.match(r"^[0-9]{1,18}$", text) else None


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    text = f"{type(error).__name__}: {error}"
    if "timed out" in text.lower() or "timeout" in type(error).__name__.lower():
        return "no answer in time"
    if "ProxyError" in text:
        return "the proxy does not answer, or does not let us through"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted (that of a company's proxy? name its bundle with --cert or PIP_CERT)"
    if "refused" in text:
        return "connection refused"
    if "resolve" in text or "getaddrinfo" in text or "Name or service" in text:
        return "its name cannot be resolved"
    if "IncompleteRead" in text or "Connection broken" in text:
        return "the connection broke off before the end"
    if "RemoteDisconnected" in text or "Connection aborted" in text:
        return "the host closed the connection"
    # The address in it may be that of a redirect, with a signature that is as good as a password.
    return re.sub(r"(?<=url: )\S+", "...", text)[:300]
