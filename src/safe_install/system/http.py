"""Pages, cached and asked again cheaply; files, their bytes checked.

Only https, except to loopback and to hosts that the person named (a mirror, a trusted host). A redirect is
followed to the same host and to hosts that the caller allows, never from https to http, and never with
credentials of another host.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import json
import queue
import re
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, cast
from urllib.parse import urldefrag, urljoin, urlsplit

from safe_install.errors import DownloadFailed, HashMismatch
from safe_install.events import Reporter
from safe_install.models import DEFAULT_NETWORK, NetworkSettings
from safe_install.redaction import redact
from safe_install.system.atomic_write import write_atomically
from safe_install.system.credentials import Credentials
from safe_install.system.mirrors import MirrorRule, apply_mirrors, mirror_hosts, page_base

MAX_REDIRECTS = 5
MAX_PAGE_SIZE = 64 * 1024 * 1024  # bytes, unpacked
CHUNK = 64 * 1024  # bytes
PATIENCE = 60.0  # seconds: for one answer, for one page, and for one CHUNK of a file, which is its least speed
MAX_LIMIT = 2 * 3600  # seconds that a host may keep us from asking again
ATTEMPTS = 3  # of a download that breaks off
_PAGE_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

ProgressReader = Callable[[int, Optional[int]], None]
_T = TypeVar("_T")


class PageStatus(enum.Enum):
    """How a host answered the question for a page."""

    LISTED = "listed"
    DOWN = "host-down"  # no connection, time-out, 5xx, broken off, a redirect that is not followed
    MISSING = "page-missing"  # 404, 410, and 403 as object stores say it
    EMPTY = "page-empty"  # an answer without content
    NOT_ASKED = "not-asked"  # offline


@dataclass(frozen=True)
class PageAnswer:
    """One page, or why there is none. `url` is the one that was asked for, not a mirror's."""

    url: str
    status: PageStatus
    text: str = ""
    content_type: str = ""
    detail: str = ""
    from_cache: bool = False
    base: str = ""  # where relative links start, where that is not `url`
    asked: str = ""  # where it was asked: a mirror's address, where there is one


class _Refusal(Exception):
    """A URL or a redirect that is not followed; the text says why."""


class _Broken(Exception):
    """The connection broke off or was silent for too long."""


class _LeftBehind(_Broken):
    """It took too long, and a thread still reads it: closing it would wait for that thread."""


class HttpClient:
    """Pages and files. Safe to use from several threads; requests is imported at the first question."""

    def __init__(
        self,
        *,
        mirrors: Sequence[MirrorRule] = (),
        offline: bool = False,
        cache_dir: Optional[Path] = None,
        timeout: float = 15.0,
        reporter: Optional[Reporter] = None,
        trusted_hosts: Collection[str] = (),
        tokens: Optional[Mapping[str, str]] = None,
        ask_again: bool = False,
        patience: float = PATIENCE,
        credentials: Optional[Credentials] = None,
        network: NetworkSettings = DEFAULT_NETWORK,
    ) -> None:
        """`timeout`: seconds to connect and of silence; `trusted_hosts`: may be asked over plain http.

        `patience`: seconds for an answer or a page to be complete, and for the next CHUNK bytes of a file to come:
        a host that sends a byte now and then is never silent.
        `tokens`: by host; each is sent to its own host alone (and to a stand-in of it on loopback). `ask_again`: a page
        that is still fresh in the cache is asked for all the same (whether it has changed).
        `credentials`: of the person's indexes; each pair is sent to its own host and port alone.
        `network`: proxy, certificates and trusted hosts, as pip was given them.
        """
        self._mirrors = tuple(mirrors)
        self._offline = offline
        self._cache = None if cache_dir is None else Path(cache_dir)
        self._timeout = timeout
        self._reporter = reporter or Reporter()
        self._named_hosts = frozenset({*mirror_hosts(mirrors), *trusted_hosts})
        self._tokens = dict(tokens or {})
        self._ask_again = ask_again
        self._patience = patience
        self._credentials = credentials or Credentials()
        self._network = network
        self._local = threading.local()
        self._answers: Dict[str, PageAnswer] = {}
        self._locks: Dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._known_limits: Optional[Mapping[str, float]] = None

    @property
    def offline(self) -> bool:
        """True when nothing is asked."""
        return self._offline

    # --- pages ---

    def get_page(self, url: str, *, allowed_hosts: Collection[str] = (), accept: str = "") -> PageAnswer:
        """The page at `url`, asked at most once per client; the disk cache is asked with ETag and max-age.

        `allowed_hosts`: other hosts that it may redirect to; `accept`: media type, where it is no page of an index.
        Never raises for what a host does.
        """
        if self._offline:
            return PageAnswer(url, PageStatus.NOT_ASKED, detail="offline")
        with self._guard:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            if url not in self._answers:
                answer = self._ask_page(url, frozenset(allowed_hosts), accept or _PAGE_ACCEPT)
                self._answers[url] = replace(
                    answer, base=page_base(url, self._mirrors), asked=apply_mirrors(url, self._mirrors)
                )
            return self._answers[url]

    def _ask_page(self, url: str, allowed_hosts: Collection[str], accept: str) -> PageAnswer:
        cached = self._read_cached(url)
        if cached is not None and cached.fresh_until > time.time() and not self._ask_again:
            return cached.answer(url)
        limited_until = self._read_limit(url)
        if limited_until is not None:
            return PageAnswer(url, PageStatus.DOWN, detail=_limit_detail(limited_until))
        headers = {"Accept": accept}
        if cached is not None:
            headers.update(cached.conditions())
        try:
            with _closing(self._request(url, headers, allowed_hosts)) as response:
                return self._read_page(url, response, cached)
        except (_Refusal, _Broken) as error:
            return PageAnswer(url, PageStatus.DOWN, detail=str(error))

    def _read_page(self, url: str, response: Any, cached: Optional[_CachedPage]) -> PageAnswer:
        code = response.status_code
        reason = f"{code} {response.reason or ''}".strip()
        if code == 304 and cached is not None:
            renewed = cached.renewed(response.headers)
            self._write_cached(url, renewed)
            return renewed.answer(url)
        if code in (404, 410):
            return PageAnswer(url, PageStatus.MISSING, detail=reason)
        limited_until = _limited_until(code, response.headers)
        if limited_until is not None:
            self._write_limit(url, limited_until)
            return PageAnswer(url, PageStatus.DOWN, detail=f"{reason}: {_limit_detail(limited_until)}")
        if code == 403:
            return PageAnswer(url, PageStatus.MISSING, detail=f"{reason}: missing or not public")
        if code != 200:
            return PageAnswer(url, PageStatus.DOWN, detail=reason)
        text = self._read_text(response)
        content_type = response.headers.get("Content-Type", "")
        if not text.strip():
            return PageAnswer(url, PageStatus.EMPTY, detail="an answer without content")
        page = _CachedPage(text, content_type, *_validators(response.headers))
        self._write_cached(url, page)
        return PageAnswer(url, PageStatus.LISTED, text, content_type)

    def _read_text(self, response: Any) -> str:
        content = self._within(lambda: _read_whole(response), f"the page took more than {self._patience:.0f} s")
        return content.decode("utf-8", "replace")

    # --- files ---

    def download(
        self,
        url: str,
        destination: Path,
        *,
        sha256: Optional[str] = None,
        size_limit: Optional[int] = None,
        on_progress: Optional[ProgressReader] = None,
        allowed_hosts: Optional[Collection[str]] = None,
    ) -> str:
        """Write the file behind `url` to `destination` and return its sha256.

        A part left by a broken attempt (`<destination>.part`) is continued where the host still has the
        same file. Bytes appear at `destination` whole or not at all. `on_progress(done, total or None)` in
        bytes. Raises DownloadFailed (offline, host, size) and HashMismatch; nothing is left at
        `destination` then.
        """
        if self._offline:
            raise DownloadFailed(f"{redact(url)} is needed, and --offline was given", hint="leave --offline out")
        part = _Part(destination)
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(0.2 * 4 ** (attempt - 1))
            try:
                self._download_once(url, part, size_limit, on_progress, frozenset(allowed_hosts or ()))
                return part.finish(sha256, url)
            except _Broken as error:
                problem = str(error)
        raise DownloadFailed(
            f"{redact(url)} could not be fetched: {problem}",
            hint="try again (what has arrived is kept), or name a mirror with SAFE_INSTALL_MIRRORS",
        )

    def _download_once(
        self,
        url: str,
        part: _Part,
        size_limit: Optional[int],
        on_progress: Optional[ProgressReader],
        allowed_hosts: Collection[str],
    ) -> None:
        have = part.size()
        headers = {"Accept-Encoding": "identity"}
        validator = part.validator()
        if have and validator:
            headers.update({"Range": f"bytes={have}-", "If-Range": validator})
        try:
            response = self._request(url, headers, allowed_hosts)
        except _Refusal as error:
            raise DownloadFailed(f"{redact(url)}: {error}", hint="nothing was fetched") from error
        try:
            have, total = _check_answer(response, url, have, part, size_limit)
        except BaseException:
            response.close()
            raise
        part.write(_arriving(response, self._patience), have, response.headers, size_limit, total, on_progress, url)

    # --- asking ---

    def _request(self, url: str, headers: Mapping[str, str], allowed_hosts: Collection[str]) -> Any:
        """The response after its redirects. Raises _Refusal or _Broken."""
        target = apply_mirrors(urldefrag(url)[0], self._mirrors)
        allowed = frozenset(allowed_hosts) | {_host(target), _host(url)}
        previous = ""
        for _ in range(MAX_REDIRECTS + 1):
            self._check_url(target, previous)
            response = self._get(target, {**headers, **self._authorization(url, target)})
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            location = response.headers.get("Location", "")
            response.close()
            previous = target
            try:
                target = apply_mirrors(urljoin(target, location), self._mirrors)
                host = _host(target)
            except ValueError as error:
                raise _Refusal("redirects to what is no URL") from error
            if not location:
                raise _Refusal("redirects to nowhere")
            if host not in allowed and host not in self._named_hosts:
                raise _Refusal(f"redirects to {host}, which is not followed")
        raise _Refusal(f"more than {MAX_REDIRECTS} redirects")

    def _authorization(self, url: str, target: str) -> Mapping[str, str]:
        token = self._tokens.get(_host(url), "")
        is_own = target.startswith("https://") and _host(target) == _host(url)
        if not token or not (is_own or _is_loopback(_host(target))):
            return {}
        return {"Authorization": f"Bearer {token}"}

    def _check_url(self, url: str, previous: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError as error:
            raise _Refusal("is no URL") from error
        if parts.scheme == "https" and host:
            return
        if previous.startswith("https:"):
            raise _Refusal(f"redirects from https to {parts.scheme}, which is not followed")
        if parts.scheme != "http" or not host:
            raise _Refusal(f"{parts.scheme or 'no'} scheme: only https is asked")
        if host not in self._named_hosts and not self._network.is_trusted(url) and not _is_loopback(host):
            raise _Refusal(f"plain http to {host}: only https is asked, or hosts named as mirror or trusted")

    def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        # requests costs 0.1 s, and most commands ask nothing.
        import requests

        from safe_install.system.network import make_session, request_options

        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = make_session(self._network)
        options = request_options(url, self._network)
        # A page may come packed, in the one way that we unpack with a limit.
        headers = {"Accept-Encoding": "gzip", **headers}
        asking = session

        def ask(pair: Optional[Tuple[str, str]]) -> Any:
            return asking.get(
                url,
                headers=headers,
                auth=pair,
                stream=True,
                allow_redirects=False,
                timeout=(min(self._timeout, 10.0), self._timeout),
                **options,
            )

        try:
            sent = self._credentials.of_url(url)
            response = self._within(lambda: ask(sent), "no answer in time")
            if response.status_code != 401:
                return response
            with self._guard:  # a person is asked one question at a time
                pair = self._credentials.after_refusal(url, sent)
            if pair is None:
                return response
            response.close()
            return self._within(lambda: ask(pair), "no answer in time")
        except requests.exceptions.RequestException as error:
            raise _Broken(_reason_of(error)) from error
        except ValueError as error:
            # requests looks at the redirect although it is not to follow it.
            raise _Refusal("redirects to what is no URL") from error
        except OSError as error:
            # A bundle of certificates that is not there.
            raise _Refusal(str(error)) from error

    def _within(self, call: Callable[[], _T], told: str) -> _T:
        """What `call` returns, in `patience` seconds. Raises _Broken.

        The limit of a socket is one on silence, and a header or a page may come byte by byte for ever. The thread that
        reads it is left behind then, with its connection; it ends with the process, or with the host.
        """
        outcome: List[Tuple[Optional[_T], Optional[BaseException]]] = []

        def work() -> None:
            try:
                outcome.append((call(), None))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                outcome.append((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._patience)
        if not outcome:
            self._local.session = None
            raise _LeftBehind(told)
        value, error = outcome[0]
        if error is not None:
            raise error
        return cast(_T, value)

    # --- hosts that count our questions ---

    def _read_limit(self, url: str) -> Optional[float]:
        """Until when the host of `url` will refuse us, None when it will not."""
        until = self._limits().get(_host(url), 0.0)
        return until if until > time.time() else None

    def _write_limit(self, url: str, until: float) -> None:
        limits = {**self._limits(), _host(url): until}
        self._known_limits = limits
        if self._cache is not None:
            _write_json(self._cache, "limits.json", limits)

    def _limits(self) -> Mapping[str, float]:
        if self._known_limits is None:
            self._known_limits = {}
            if self._cache is not None:
                try:
                    found = json.loads((self._cache / "limits.json").read_text("utf-8"))
                    self._known_limits = {str(host): float(until) for host, until in found.items()}
                except (OSError, ValueError, AttributeError, TypeError):
                    pass  # not there, or damaged: asked anew
        return self._known_limits

    # --- the page cache ---

    def _read_cached(self, url: str) -> Optional[_CachedPage]:
        if self._cache is None:
            return None
        try:
            raw = json.loads((self._cache / _cache_name(url, self._mirrors)).read_text("utf-8"))
            return _CachedPage(
                str(raw["text"]),
                str(raw["content_type"]),
                str(raw["etag"]),
                str(raw["modified"]),
                float(raw["fresh_until"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or damaged: asked anew

    def _write_cached(self, url: str, page: _CachedPage) -> None:
        if self._cache is None or not (page.etag or page.modified or page.fresh_until):
            return
        _write_json(self._cache, _cache_name(url, self._mirrors), page.__dict__)


def _write_json(folder: Path, name: str, value: Any) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, json.dumps(value).encode("utf-8"), mode=0o600, is_durable=False)
    except OSError:
        pass  # a cache that cannot be written costs time and nothing else


def _limited_until(code: int, headers: Mapping[str, str]) -> Optional[float]:
    """Until when a host that counts questions refuses them (seconds since the epoch), None when that is not why.

    Headers: docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api; RFC 9110, 10.2.3.
    """
    if code not in (403, 429):
        return None
    after, left, reset = (
        headers.get(name, "") for name in ("Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    )
    now = time.time()
    seconds, until = _read_number(after), _read_number(reset)
    if seconds is not None:
        return now + min(seconds, MAX_LIMIT)
    if left == "0" or code == 429:
        return now + 60 if until is None else min(float(until), now + MAX_LIMIT)
    return None


def _limit_detail(until: float) -> str:
    return f"its limit of requests is reached until {time.strftime('%H:%M', time.localtime(until))}"


@dataclass(frozen=True)
class _CachedPage:
    """A page on disk, with what asks again cheaply."""

    text: str
    content_type: str
    etag: str
    modified: str
    fresh_until: float  # seconds since the epoch

    def answer(self, url: str) -> PageAnswer:
        return PageAnswer(url, PageStatus.LISTED, self.text, self.content_type, from_cache=True)

    def conditions(self) -> Mapping[str, str]:
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.modified} if self.modified else {}

    def renewed(self, headers: Mapping[str, str]) -> _CachedPage:
        return _CachedPage(
            self.text,
            self.content_type,
            self.etag,
            self.modified,
            _validators(headers)[2] or self.fresh_until,
        )


def _validators(headers: Mapping[str, str]) -> Tuple[str, str, float]:
    """ETag, Last-Modified, and until when the page need not be asked for again (at most an hour)."""
    fresh_until = 0.0
    directives = [part.strip().lower() for part in headers.get("Cache-Control", "").split(",")]
    if not {"no-store", "no-cache"} & set(directives):
        for directive in directives:
            name, _, value = directive.partition("=")
            age = _read_number(value)
            if name == "max-age" and age is not None:
                fresh_until = time.time() + min(age, 3600)
    return headers.get("ETag", ""), headers.get("Last-Modified", ""), fresh_until


def _cache_name(url: str, mirrors: Sequence[MirrorRule]) -> str:
    # A mirror's page is another page.
    return hashlib.sha256(apply_mirrors(url, mirrors).encode()).hexdigest()[:40] + ".json"


class _Part:
    """A file that is arriving: its bytes so far, and the host's name for its state (ETag or date)."""

    def __init__(self, destination: Path) -> None:
        self._destination = Path(destination)
        self._bytes = self._destination.with_name(self._destination.name + ".part")
        self._state = self._destination.with_name(self._destination.name + ".part.json")

    def size(self) -> int:
        try:
            return self._bytes.stat().st_size
        except OSError:
            return 0

    def validator(self) -> str:
        try:
            found = json.loads(self._state.read_text("utf-8")).get("validator", "")
            return found if isinstance(found, str) else ""
        except (OSError, ValueError, AttributeError):
            return ""

    def remove(self) -> None:
        for path in (self._bytes, self._state):
            try:
                path.unlink()
            except OSError:
                pass  # not there

    def write(
        self,
        chunks: Iterator[bytes],
        have: int,
        headers: Mapping[str, str],
        size_limit: Optional[int],
        total: Optional[int],
        on_progress: Optional[ProgressReader],
        url: str,
    ) -> None:
        self._destination.parent.mkdir(parents=True, exist_ok=True)
        etag = headers.get("ETag", "")
        # A weak ETag does not promise the same bytes (RFC 9110, 13.1.5).
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        self._state.write_text(json.dumps({"validator": validator}), "utf-8")
        done = have
        with self._bytes.open("ab" if have else "wb") as stream:
            for chunk in chunks:
                done += len(chunk)
                if size_limit is not None and done > size_limit:
                    stream.close()
                    self.remove()
                    raise DownloadFailed(
                        f"{redact(url)} sends more than the limit of {size_limit} bytes",
                        hint="the host serves another file than its index lists",
                    )
                stream.write(chunk)
                if on_progress is not None:
                    on_progress(done, total)
        if total is not None and done != total:
            raise _Broken(f"broke off after {done} of {total} bytes")

    def finish(self, sha256: Optional[str], url: str) -> str:
        digest = hashlib.sha256()
        with self._bytes.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1024 * 1024), b""):
                digest.update(chunk)
        found = digest.hexdigest()
        if sha256 is not None and found != sha256.lower():
            self.remove()
            raise HashMismatch(
                f"{redact(url)} has sha256 {found}, promised was {sha256.lower()}",
                hint="it was changed after it was listed, or damaged on its way; try again or another host",
            )
        self._bytes.replace(self._destination)
        self.remove()
        return found


@contextmanager
def _closing(response: Any) -> Iterator[Any]:
    try:
        yield response
    except _LeftBehind:
        raise
    except BaseException:
        response.close()
        raise
    response.close()


def _check_answer(
    response: Any, url: str, have: int, part: _Part, size_limit: Optional[int]
) -> Tuple[int, Optional[int]]:
    """How many bytes are there already, and how many it will be. Raises _Broken, DownloadFailed."""
    if response.status_code == 416:
        part.remove()  # the host has another file than the part that is here
    _check_file_status(response, url)
    if response.status_code == 206:
        _check_range(response, have, part)
    else:
        have = 0
    length = _read_number(response.headers.get("Content-Length", ""))
    total = None if length is None else have + length
    if size_limit is not None and total is not None and total > size_limit:
        part.remove()
        raise DownloadFailed(
            f"{redact(url)} has {total} bytes, more than the limit of {size_limit}",
            hint="the host serves another file than its index lists",
        )
    return have, total


def _check_file_status(response: Any, url: str) -> None:
    code = response.status_code
    if code in (200, 206):
        return
    if code >= 500 or code == 429:
        raise _Broken(f"{code} {response.reason or ''}".strip())
    if code == 416:
        raise _Broken("the host's file is not the one that began to arrive")
    raise DownloadFailed(
        f"{redact(url)} cannot be fetched: {code} {response.reason or ''}".strip(),
        hint="the host does not give a file that it lists or should have; another version may fit",
    )


def _check_range(response: Any, have: int, part: _Part) -> None:
    """The part that is sent must begin where ours ends. Raises _Broken."""
    found = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    if not have or found is None or int(found.group(1)) != have:
        part.remove()
        raise _Broken("the host answers with another part of the file than was asked for")


def _read_whole(response: Any) -> bytes:
    """The body, unpacked with a limit: urllib3 unpacks each piece whole, whatever becomes of it. Raises _Broken."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise _Broken(f"the page is packed in a way that was not asked for ({encoding[:40]})")
    inflater = None if encoding == "identity" else zlib.decompressobj(31)
    parts = []
    size = 0
    for chunk in _read_chunks(response):
        try:
            content = chunk if inflater is None else inflater.decompress(chunk, MAX_PAGE_SIZE + 1 - size)
        except zlib.error as error:
            raise _Broken("the page cannot be unpacked") from error
        size += len(content)
        if size > MAX_PAGE_SIZE:
            raise _Broken(f"the page is larger than {MAX_PAGE_SIZE // 2**20} MiB")
        parts.append(content)
    if inflater is not None and not inflater.eof:
        raise _Broken("the page broke off before its end")
    return b"".join(parts)


def _read_chunks(response: Any) -> Iterator[bytes]:
    """The body as it is sent, checked against its announced length. Raises _Broken."""
    import urllib3  # late: see HttpClient._get

    length = _read_number(response.headers.get("Content-Length", ""))
    got = 0
    try:
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            got += len(chunk)
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _Broken(_reason_of(error)) from error
    # Older urllib3 takes a connection that closes early for the end of the body.
    if length is not None and got != length:
        raise _Broken(f"broke off after {got} of {length} bytes")


def _arriving(response: Any, patience: float) -> Iterator[bytes]:
    """The body of a file, read beside us: CHUNK bytes must come in `patience` seconds of waiting. Raises _Broken."""
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
                raise _Broken(f"slower than {CHUNK // 1024} KiB in {patience:.0f} s") from None
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


def _read_number(text: str) -> Optional[int]:
    """A number of a header, None for what is none."""
    return int(text) if re.match(r"^[0-9]{1,18}$", text) else None


def _reason_of(error: BaseException) -> str:
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


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
