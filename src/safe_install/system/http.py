"""An HTTP client: pages with a cache, files with a hash.

Only https, except to loopback and to hosts that the user named (a mirror, a trusted host).
Redirects are followed to the same host and to hosts that the caller allows, never from https to
http, and never with the credentials of another host.
"""

from __future__ import annotations

import enum
import ipaddress
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import (
    Any,
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
    validators,
)
from safe_install.system.partial_file import (
    FileRefused,
    PartialFile,
    ProgressReader,
    check_answer,
)
from safe_install.system.several import Stop

MAX_REDIRECTS = 5
ANY_HOST = "*"  # among hosts to which a redirect is followed
# seconds: for one answer, for one page, and for one CHUNK of a file, which is its least speed
PATIENCE = 60.0
ATTEMPTS = 3  # of a download that breaks off
_PAGE_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

_T = TypeVar("_T")


class PageStatus(enum.Enum):
    """How a host answered the request for a page."""

    LISTED = "listed"
    DOWN = "host-down"  # no connection, time-out, 5xx, broken off, a redirect that is not followed
    MISSING = "page-missing"  # 404, 410, and 403 as object stores say it
    EMPTY = "page-empty"  # an answer without content
    NOT_ASKED = "not-asked"  # offline


@dataclass(frozen=True)
class PageAnswer:
    """A page, or why there is none. `url`: the requested one, not a mirror's."""

    url: str
    status: PageStatus
    text: str = ""
    content_type: str = ""
    detail: str = ""
    from_cache: bool = False
    base: str = ""  # where relative links start, where that is not `url`
    asked: str = ""  # where it was asked: a mirror's address, where there is one
    is_unread: bool = False  # DOWN, although the host sent a page: it is too large, for one


class PageSource(Protocol):
    """What a reader of pages needs of HTTP; implemented by `HttpClient`."""

    def get_page(
        self, url: str, *, allowed_hosts: Collection[str] = (), accept: str = ""
    ) -> PageAnswer:
        """The page at `url`, or why there is none. Never raises for a host's behaviour."""


class UrlRefused(Exception):
    """A URL or redirect that is not followed; the text says why."""


class HttpClient:
    """Fetches pages and files. It can be used from several threads; requests is imported at the
    first request."""

    def __init__(
        self,
        *,
        mirrors: Sequence[MirrorRule] = (),
        offline: bool = False,
        cache_dir: Optional[Path] = None,
        timeout: float = 15.0,
        trusted_hosts: Collection[str] = (),
        tokens: Optional[Mapping[str, str]] = None,
        ask_again: bool = False,
        patience: float = PATIENCE,
        credentials: Optional[Credentials] = None,
        network: NetworkSettings = DEFAULT_NETWORK,
    ) -> None:
        """`timeout`: seconds to connect and of silence; `trusted_hosts`: may be asked over plain
        http.

        `patience`: seconds for an answer or a page to be complete, and for the next CHUNK bytes of
        a file to come:
        a host that sends a byte now and then is never silent.
        `tokens`: by host; each is sent to its own host alone (and to a stand-in of it on loopback).
        `ask_again`: a page that is still fresh in the cache is asked for all the same (whether it
        has changed).
        `credentials`: of the person's indexes; each pair is sent to its own host and port alone.
        `network`: proxy, certificates and trusted hosts, as pip was given them.
        """
        self._mirrors = tuple(mirrors)
        self._offline = offline
        self._timeout = timeout
        self._named_hosts = frozenset({*mirror_hosts(mirrors), *trusted_hosts})
        self._tokens = dict(tokens or {})
        self._ask_again = ask_again
        self._patience = patience
        self._credentials = credentials or Credentials()
        self._network = network
        self._session: Any = None  # of requests
        self._connections: Any = None
        self._answers: Dict[str, PageAnswer] = {}
        self._locks: Dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        folder = None if cache_dir is None else Path(cache_dir)
        self._pages = PageCache(folder, self._mirrors)
        self._limits = RateLimits(folder)

    @property
    def offline(self) -> bool:
        """Is no host asked?"""
        return self._offline

    # --- pages ---

    def get_page(
        self, url: str, *, allowed_hosts: Collection[str] = (), accept: str = ""
    ) -> PageAnswer:
        """The page at `url`, requested at most once per client; the disk cache uses ETag and
        max-age.

        `allowed_hosts`: other hosts that it may redirect to; `accept`: the media type, for other
        pages than those of an index. Never raises for a host's behaviour.
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
        if cached is not None and cached.fresh_until > time.time() and not self._ask_again:
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
                    self._let_go(response)
                return answer
        except (UrlRefused, ConnectionBroken) as error:
            is_unread = isinstance(error, PageNotRead)
            return PageAnswer(url, PageStatus.DOWN, detail=str(error), is_unread=is_unread)

    def _read_page(self, url: str, response: Any, cached: Optional[CachedPage]) -> PageAnswer:
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
        page = CachedPage(text, content_type, *validators(response.headers))
        self._pages.write(url, page)
        return PageAnswer(url, PageStatus.LISTED, text, content_type)

    def _read_text(self, response: Any) -> str:
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
        """Write the file behind `url` to `destination` and return its sha256.

        A part left by a broken attempt (`<destination>.part`) is continued where the host still has
        the
        same file. Bytes appear at `destination` whole or not at all. `on_progress(done, total or
        None)` in
        bytes. Raises DownloadFailed (offline, host, size), FileRefused among them, and OtherBytes;
        nothing is left at `destination` then. Stopped, some time after `stop` was said and the
        connections were cut.
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
                stop.check()  # a connection that was cut looks like the end of the file
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
            have,
            response.headers,
            size_limit,
            total,
            on_progress,
            url,
        )

    # --- asking ---

    def _request(self, url: str, headers: Mapping[str, str], allowed_hosts: Collection[str]) -> Any:
        """The response after its redirects. Raises UrlRefused or ConnectionBroken."""
        target = apply_mirrors(urldefrag(url)[0], self._mirrors)
        allowed = frozenset(allowed_hosts) | {_host(target), _host(url)}
        previous = ""
        for _ in range(MAX_REDIRECTS + 1):
            self._check_url(target, previous)
            response = self._get(target, {**headers, **self._authorization(url, target)})
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            location = response.headers.get("Location", "")
            self._let_go(response)
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
            raise UrlRefused("is no URL") from error
        if parts.scheme == "https" and host:
            return
        if previous.startswith("https:"):
            raise UrlRefused(f"redirects from https to {parts.scheme}, which is not followed")
        if parts.scheme != "http" or not host:
            raise UrlRefused(f"{parts.scheme or 'no'} scheme: only https is asked")
        if (
            host not in self._named_hosts
            and not self._network.is_trusted(url)
            and not _is_loopback(host)
        ):
            raise UrlRefused(
                f"plain http to {host}: only https is asked, or hosts named as mirror or trusted"
            )

    def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        # requests costs 0.1 s, and most commands ask nothing.
        import requests

        from safe_install.system.network import request_options

        session = self._open_session()
        options = request_options(url, self._network)
        # A page may come packed, in the one way that we unpack with a limit.
        headers = {"Accept-Encoding": "gzip", **headers}

        def ask(pair: Optional[Tuple[str, str]]) -> Any:
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
            sent = self._credentials.of_url(url)
            response = self._within(lambda: ask(sent), "no answer in time")
            if response.status_code != 401:
                return response
            with self._guard:  # the user is asked one question at a time
                pair = self._credentials.after_refusal(url, sent)
            if pair is None:
                return response
            self._let_go(response)
            return self._within(lambda: ask(pair), "no answer in time")
        except requests.exceptions.RequestException as error:
            raise ConnectionBroken(reason_of(error)) from error
        except ValueError as error:
            # requests looks at the redirect although it is not to follow it.
            raise UrlRefused("redirects to what is no URL") from error
        except OSError as error:
            # A bundle of certificates that is not there.
            raise UrlRefused(str(error)) from error

    def _open_session(self) -> Any:
        """One session for all threads; each request takes a connection out of its pool."""
        from safe_install.system.network import Connections, make_session

        with self._guard:
            if self._session is None:
                self._connections = Connections()
                self._session = make_session(self._network, self._connections)
            return self._session

    def cut(self) -> None:
        """Close every connection, so that no thread waits for a host any longer."""
        if self._connections is not None:
            self._connections.cut()

    def _let_go(self, response: Any) -> None:
        """Close a response without using it; a short body is read first, so that its connection can
        be reused."""
        try:
            self._within(lambda: skip_body(response), "the answer does not end")
        except ReaderLeftBehind:
            return
        except ConnectionBroken:
            pass
        response.close()

    def _within(self, call: Callable[[], _T], late: str) -> _T:
        """The result of `call`, within `patience` seconds."""
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
