"""The HTTP client: fetches pages with a cache, and files with a hash.

It uses https only, except to loopback and to hosts that the user named (mirrors, trusted hosts). It
follows redirects to the same host and to hosts that the caller allows, but never from https to
http. Credentials of one host are never sent to another one.
"""

from __future__ import annotations

import enum
import ipaddress
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Collection,
    Dict,
    Mapping,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
)
from urllib.parse import urldefrag, urljoin, urlsplit

from safe_install.errors import DownloadFailed
from safe_install.models import DEFAULT_NETWORK, NetworkSettings
from safe_install.redaction import redact
from safe_install.system.credentials import Credentials
from safe_install.system.http_body import (
    ConnectionBroken,
    PageNotRead,
    ReaderLeftBehind,
    call_within,
    closing,
    read_page_bytes,
    reason_of,
    skip_body,
    stream_file,
)
from safe_install.system.mirrors import MirrorRule, apply_mirrors, mirror_hosts, page_base
from safe_install.system.page_cache import (
    CachedPage,
    PageCache,
    RateLimits,
    limit_detail,
    limited_until,
    make_cached_page,
)
from safe_install.system.partial_file import (
    FileRefused,
    PartialFile,
    ProgressReader,
    check_answer,
)
from safe_install.system.several import Stop

if TYPE_CHECKING:
    import requests

    from safe_install.system.network import Connections

MAX_REDIRECTS = 5
ANY_HOST = "*"  # among the allowed hosts: redirects to all hosts are followed
# seconds for one answer, one page, or one CHUNK of a file (a download that is slower is broken off)
PATIENCE = 60.0
ATTEMPTS = 3  # for a download that breaks off
_PAGE_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

_T = TypeVar("_T")


class PageStatus(enum.Enum):
    """The answer of a host to the request for a page."""

    LISTED = "listed"
    DOWN = "host-down"  # no connection, time-out, 5xx, broken off, a redirect that is not followed
    MISSING = "page-missing"  # 404, 410, or 403, with which object stores answer
    EMPTY = "page-empty"  # an answer without content
    NOT_ASKED = "not-asked"  # offline


@dataclass(frozen=True)
class PageAnswer:
    """A page, or why there is none."""

    url: str  # the requested address, not that of a mirror
    status: PageStatus
    text: str = ""
    content_type: str = ""
    detail: str = ""  # why there is no page
    from_cache: bool = False
    base: str = ""  # the address from which relative links start; "": `url`
    asked: str = ""  # the address that was asked, which may be that of a mirror
    is_unread: bool = False  # DOWN, but the host sent a page that was not read (it is too large)


class PageSource(Protocol):
    """Fetches pages. `HttpClient` implements it."""

    def get_page(
        self, url: str, *, allowed_hosts: Collection[str] = (), accept: str = ""
    ) -> PageAnswer:
        """The page at `url`, or why there is none. Never raises, whatever the host does."""


class UrlRefused(Exception):
    """A URL or redirect that is not followed. The text says why."""


class HttpClient:
    """Fetches pages and files. Several threads may use it."""

    def __init__(
        self,
        *,
        mirrors: Sequence[MirrorRule] = (),
        offline: bool = False,
        cache_dir: Optional[Path] = None,
        timeout: float = 15.0,
        trusted_hosts: Collection[str] = (),
        tokens: Optional[Mapping[str, str]] = None,
        revalidate: bool = False,
        patience: float = PATIENCE,
        credentials: Optional[Credentials] = None,
        network: NetworkSettings = DEFAULT_NETWORK,
    ) -> None:
        """`timeout`: seconds to connect, and seconds of silence. `patience`: seconds for a whole
        answer or page, and for the next CHUNK bytes of a file; needed since a host that sends a
        byte now and then is never silent.

        `trusted_hosts`: may be asked over plain http. `tokens`: by host; each is sent to its own
        host only, or to loopback in its place. `revalidate`: ask whether a page has changed, even
        if it is still fresh in the cache. `credentials`: for the user's indexes; each pair is sent
        to its own host and port only. `network`: proxy, certificates and trusted hosts of pip's
        options.
        """
        self._mirrors = tuple(mirrors)
        self._offline = offline
        self._timeout = timeout
        self._named_hosts = frozenset({*mirror_hosts(mirrors), *trusted_hosts})
        self._tokens = dict(tokens or {})
        self._revalidate = revalidate
        self._patience = patience
        self._credentials = credentials or Credentials()
        self._network = network
        self._session: Optional[requests.Session] = None
        self._connections: Optional[Connections] = None
        self._answers: Dict[str, PageAnswer] = {}
        self._locks: Dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        folder = None if cache_dir is None else Path(cache_dir)
        self._pages = PageCache(folder, self._mirrors)
        self._limits = RateLimits(folder)

    @property
    def offline(self) -> bool:
        """Is it forbidden to ask hosts?"""
        return self._offline

    # --- pages ---

    def get_page(
        self, url: str, *, allowed_hosts: Collection[str] = (), accept: str = ""
    ) -> PageAnswer:
        """The page at `url`, or why there is none. Never raises, whatever the host does.

        A client requests each page once. The cache on disk uses ETag and max-age. `allowed_hosts`:
        other hosts to which the page may redirect. `accept`: the media type; "": that of the pages
        of an index.
        """
        if self._offline:
            return PageAnswer(url, PageStatus.NOT_ASKED, detail="offline")
        with self._guard:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            if url not in self._answers:
                answer = self._ask_page(url, frozenset(allowed_hosts), accept or _PAGE_ACCEPT)
                self._answers[url] = replace(
                    answer,
                    base=page_base(url, self._mirrors),
                    asked=apply_mirrors(url, self._mirrors),
                )
            return self._answers[url]

    def _ask_page(self, url: str, allowed_hosts: Collection[str], accept: str) -> PageAnswer:
        cached = self._pages.read(url)
        if cached is not None and cached.fresh_until > time.time() and not self._revalidate:
            return _from_cache(url, cached)
        until = self._limits.read(_host(url))
        if until is not None:
            return PageAnswer(url, PageStatus.DOWN, detail=limit_detail(until))
        headers = {"Accept": accept}
        if cached is not None:
            headers.update(cached.conditions())
        try:
            with closing(self._request(url, headers, allowed_hosts)) as response:
                answer = self._read_page(url, response, cached)
                if response.status_code != 200:
                    self._discard(response)
                return answer
        except (UrlRefused, ConnectionBroken) as error:
            is_unread = isinstance(error, PageNotRead)
            return PageAnswer(url, PageStatus.DOWN, detail=str(error), is_unread=is_unread)

    def _read_page(
        self, url: str, response: requests.Response, cached: Optional[CachedPage]
    ) -> PageAnswer:
        """The answer for a response. It is put into the cache. `cached`: the page that the request
        asked about."""
        code = response.status_code
        reason = f"{code} {response.reason or ''}".strip()
        if code == 304 and cached is not None:
            renewed = cached.renewed(response.headers)
            self._pages.write(url, renewed)
            return _from_cache(url, renewed)
        if code in (404, 410):
            return PageAnswer(url, PageStatus.MISSING, detail=reason)
        until = limited_until(code, response.headers)
        if until is not None:
            self._limits.write(_host(url), until)
            return PageAnswer(url, PageStatus.DOWN, detail=f"{reason}: {limit_detail(until)}")
        if code == 403:
            return PageAnswer(url, PageStatus.MISSING, detail=f"{reason}: missing or not public")
        if code != 200:
            return PageAnswer(url, PageStatus.DOWN, detail=reason)
        text = self._read_text(response)
        content_type = response.headers.get("Content-Type", "")
        if not text.strip():
            return PageAnswer(url, PageStatus.EMPTY, detail="an answer without content")
        page = make_cached_page(text, content_type, response.headers)
        self._pages.write(url, page)
        return PageAnswer(url, PageStatus.LISTED, text, content_type)

    def _read_text(self, response: requests.Response) -> str:
        content = self._within(
            lambda: read_page_bytes(response), f"the page took more than {self._patience:.0f} s"
        )
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
        stop: Optional[Stop] = None,
    ) -> str:
        """Write the file at `url` to `destination`. The result: its sha256.

        `destination` is written completely or not at all. A part of an earlier attempt
        (`<destination>.part`) is continued, if the host still has the same file. `sha256`: the
        expected one. `size_limit`: in bytes. `on_progress(done, total or None)`: in bytes.
        `allowed_hosts`: other hosts to which it may redirect. `stop`: ends the download, together
        with `cut`.

        Errors: DownloadFailed (offline, host, size), FileRefused, OtherBytes, Stopped.
        """
        if self._offline:
            raise DownloadFailed(
                f"{redact(url)} is needed, and --offline was given", hint="Leave --offline out."
            )
        part = PartialFile(destination)
        stop = stop or Stop()
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                stop.sleep(0.2 * 4 ** (attempt - 1))
            try:
                self._download_once(
                    url, part, size_limit, on_progress, frozenset(allowed_hosts or ())
                )
                stop.check()  # a cut connection looks like the end of the file
                return part.finish(sha256, url)
            except ConnectionBroken as error:
                stop.check()
                problem = str(error)
        raise DownloadFailed(
            f"{redact(url)} could not be fetched: {problem}",
            hint="Try again (what has arrived is kept), or name a mirror with SAFE_INSTALL_MIRRORS.",
        )

    def _download_once(
        self,
        url: str,
        part: PartialFile,
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
        except UrlRefused as error:
            raise FileRefused(f"{redact(url)}: {error}", hint="Nothing was fetched.") from error
        try:
            have, total = check_answer(response, url, have, part, size_limit)
        except BaseException:
            response.close()
            raise
        part.write(
            stream_file(response, self._patience),
            have=have,
            headers=response.headers,
            size_limit=size_limit,
            total=total,
            on_progress=on_progress,
            url=url,
        )

    # --- requests ---

    def _request(
        self, url: str, headers: Mapping[str, str], allowed_hosts: Collection[str]
    ) -> requests.Response:
        """The response after redirects. Errors: UrlRefused, ConnectionBroken."""
        target = apply_mirrors(urldefrag(url)[0], self._mirrors)
        allowed = frozenset(allowed_hosts) | {_host(target), _host(url)}
        previous = ""
        for _ in range(MAX_REDIRECTS + 1):
            self._check_url(target, previous)
            response = self._get(target, {**headers, **self._authorization(url, target)})
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            location = response.headers.get("Location", "")
            self._discard(response)
            previous = target
            try:
                target = apply_mirrors(urljoin(target, location), self._mirrors)
                host = _host(target)
            except ValueError as error:
                raise UrlRefused("redirects to what is no URL") from error
            if not location:
                raise UrlRefused("redirects to nowhere")
            if not allowed & {host, ANY_HOST} and host not in self._named_hosts:
                raise UrlRefused(f"redirects to {host}, which is not followed")
        raise UrlRefused(f"more than {MAX_REDIRECTS} redirects")

    def _authorization(self, url: str, target: str) -> Mapping[str, str]:
        """The header with the token of the host of `url`. It is only sent to this host, or to
        loopback."""
        token = self._tokens.get(_host(url), "")
        is_own = target.startswith("https://") and _host(target) == _host(url)
        if not token or not (is_own or _is_loopback(_host(target))):
            return {}
        return {"Authorization": f"Bearer {token}"}

    def _check_url(self, url: str, previous: str) -> None:
        """Errors: UrlRefused. `previous`: the address that redirected here, or ""."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError as error:
            raise UrlRefused("is no URL") from error
        if parts.scheme == "https" and host:
            return
        if previous.startswith("https:"):
            raise UrlRefused(f"redirects from https to {parts.scheme}, which is not followed")
        if parts.scheme != "http" or not host:
            raise UrlRefused(f"{parts.scheme or 'no'} scheme: only https is asked")
        if host in self._named_hosts or self._network.is_trusted(url) or _is_loopback(host):
            return
        raise UrlRefused(
            f"plain http to {host}: only https is asked, or hosts named as mirror or trusted"
        )

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """The response of one request, with credentials if the host wants them. Errors: UrlRefused,
        ConnectionBroken."""
        # late: the import takes 0.1 s, and most commands make no request
        import requests

        from safe_install.system.network import request_options

        session = self._open_session()
        options = request_options(url, self._network)
        # Only gzip, since it is unpacked here with a limit.
        headers = {"Accept-Encoding": "gzip", **headers}

        def ask(pair: Optional[Tuple[str, str]]) -> requests.Response:
            return session.get(
                url,
                headers=headers,
                auth=pair,
                stream=True,
                allow_redirects=False,
                timeout=(min(self._timeout, 10.0), self._timeout),
                **options,
            )

        try:
            sent = self._credentials.find(url)
            response = self._within(lambda: ask(sent), "no answer in time")
            if response.status_code != 401:
                return response
            with self._guard:  # the user is asked one question at a time
                pair = self._credentials.after_refusal(url, sent)
            if pair is None:
                return response
            self._discard(response)
            return self._within(lambda: ask(pair), "no answer in time")
        except requests.exceptions.RequestException as error:
            raise ConnectionBroken(reason_of(error)) from error
        except ValueError as error:
            # requests parses the address of a redirect, even if it does not follow it.
            raise UrlRefused("redirects to what is no URL") from error
        except OSError as error:
            # The file with the certificates does not exist.
            raise UrlRefused(str(error)) from error

    def _open_session(self) -> requests.Session:
        """The session of all threads. It has a pool of connections."""
        from safe_install.system.network import Connections, make_session

        with self._guard:
            if self._session is None:
                self._connections = Connections()
                self._session = make_session(self._network, self._connections)
            return self._session

    def cut(self) -> None:
        """Close all connections, so that no thread waits for a host any longer."""
        if self._connections is not None:
            self._connections.cut()

    def _discard(self, response: requests.Response) -> None:
        """Close a response whose body is not needed. A short body is read first, so that the
        connection can be used again."""
        try:
            self._within(lambda: skip_body(response), "the answer does not end")
        except ReaderLeftBehind:
            return
        except ConnectionBroken:
            pass
        response.close()

    def _within(self, call: Callable[[], _T], late: str) -> _T:
        """The result of `call`. Errors: ReaderLeftBehind with the message `late`, after `patience`
        seconds."""
        return call_within(call, self._patience, late)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_cache(url: str, page: CachedPage) -> PageAnswer:
    return PageAnswer(url, PageStatus.LISTED, page.text, page.content_type, from_cache=True)
