"""Reads the bodies of HTTP responses within limits of size and time."""

from __future__ import annotations

import queue
import re
import threading
import time
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Tuple, TypeVar, cast

if TYPE_CHECKING:
    from safe_install.system.network import Response

MAX_PAGE_SIZE = 64 * 1024 * 1024  # bytes, unpacked
CHUNK = 64 * 1024  # bytes

_T = TypeVar("_T")


class ConnectionBroken(Exception):
    """The connection broke off, or was silent for too long."""


class PageNotRead(ConnectionBroken):
    """The page was not read: it is too large, or has another compression than gzip."""


class ReaderLeftBehind(ConnectionBroken):
    """Reading took too long, and a thread still reads the response. It must not be closed, which
    would wait for that thread."""


@contextmanager
def closing(response: Response) -> Iterator[Response]:
    """Close the response at the end, unless a thread still reads it."""
    try:
        yield response
    except ReaderLeftBehind:
        raise
    except BaseException:
        response.close()
        raise
    response.close()


def call_within(call: Callable[[], _T], seconds: float, late: str) -> _T:
    """The result of `call`. Errors: ReaderLeftBehind with the message `late`, and those of `call`.

    The time-out of a socket only limits silence, and a host may send a header or page byte by byte
    for ever. The thread that reads it is then left behind with its connection; it ends with the
    process, or when the host ends the connection.
    """
    outcome: List[Tuple[Optional[_T], Optional[BaseException]]] = []

    def work() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise ReaderLeftBehind(late)
    value, error = outcome[0]
    if error is not None:
        raise error
    return cast(_T, value)


def read_page_bytes(response: Response) -> bytes:
    """The body of a page, unpacked. Errors: ConnectionBroken, PageNotRead.

    It is unpacked here with a limit: urllib3 would unpack each piece to any size.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise PageNotRead(f"the page is packed in a way that was not asked for ({encoding[:40]})")
    inflater = None if encoding == "identity" else zlib.decompressobj(31)
    parts = []
    size = 0
    for chunk in _read_chunks(response):
        content = chunk
        if inflater is not None:
            try:
                content = inflater.decompress(chunk, MAX_PAGE_SIZE + 1 - size)
            except zlib.error as error:
                raise PageNotRead("the page cannot be unpacked") from error
        size += len(content)
        if size > MAX_PAGE_SIZE:
            raise PageNotRead(f"the page is larger than {MAX_PAGE_SIZE // 2**20} MiB")
        parts.append(content)
    if inflater is not None and not inflater.eof:
        raise ConnectionBroken("the page broke off before its end")
    return b"".join(parts)


def skip_body(response: Response) -> None:
    """Read a body that is not needed, if it is short, so that the connection can be used again.
    Errors: ConnectionBroken."""
    length = read_number(response.headers.get("Content-Length", ""))
    if response.status_code in (204, 304):
        length = 0
    if length is not None and length <= CHUNK:
        for _ in _read_chunks(response, length):
            pass


def _read_chunks(response: Response, length: Optional[int] = None) -> Iterator[bytes]:
    """The body as it is sent, still packed. Errors: ConnectionBroken, also if it is not as long as
    announced. `length`: in bytes; None: that of the header."""
    import urllib3  # late: see HttpClient._get

    if length is None:
        length = read_number(response.headers.get("Content-Length", ""))
    got = 0
    try:
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            got += len(chunk)
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise ConnectionBroken(reason_of(error)) from error
    # For older releases of urllib3, a connection that is closed early is the end of the body.
    if length is not None and got != length:
        raise ConnectionBroken(f"broke off after {got} of {length} bytes")


def stream_file(response: Response, patience: float) -> Iterator[bytes]:
    """The body of a file, read in a thread. Errors: ConnectionBroken, also if CHUNK bytes take more
    than `patience` seconds of waiting."""
    reader = _BodyReader(response)
    reader.start()
    received = 0
    waited = 0.0
    try:
        while True:
            started = time.monotonic()
            try:
                chunk = reader.next_chunk(max(0.0, patience - waited))
            except queue.Empty:
                raise ConnectionBroken(
                    f"slower than {CHUNK // 1024} KiB in {patience:.0f} s"
                ) from None
            waited += time.monotonic() - started
            if not chunk:
                return
            received += len(chunk)
            if received >= CHUNK:
                received = 0
                waited = 0.0
            yield chunk
    finally:
        reader.stop()


class _BodyReader:
    """Reads the body of a response in a thread, a few chunks ahead of the caller."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._chunks: queue.Queue[Tuple[bytes, Optional[BaseException]]] = queue.Queue(maxsize=8)
        self._is_over = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def stop(self) -> None:
        """End the thread: no more chunks are needed."""
        self._is_over.set()

    def next_chunk(self, seconds: float) -> bytes:
        """The next chunk; b"" at the end. Errors: queue.Empty, if none comes in time, and those of
        the thread."""
        chunk, error = self._chunks.get(timeout=seconds)
        if error is not None:
            raise error
        return chunk

    def _read(self) -> None:
        try:
            for chunk in _read_chunks(self._response):
                if chunk and not self._put(chunk, None):
                    return
            self._put(b"", None)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._put(b"", error)
        finally:
            self._response.close()  # in this thread, since closing waits for the reader

    def _put(self, chunk: bytes, error: Optional[BaseException]) -> bool:
        """Hand over a chunk or an error. False: the caller has stopped the reading."""
        while not self._is_over.is_set():
            try:
                self._chunks.put((chunk, error), timeout=1.0)
                return True
            except queue.Full:
                continue
        return False


def read_number(text: str) -> Optional[int]:
    """The number in a header; None if it is not a number."""
    return int(text) if re.match(r"^[0-9]{1,18}$", text) else None


def reason_of(error: BaseException) -> str:
    """Why a connection failed: "connection refused"."""
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
    # The address in it may be that of a redirect with a signature, which must stay secret.
    return re.sub(r"(?<=url: )\S+", "...", text)[:300]
