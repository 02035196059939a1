"""Fetches the file of a link: cached by URL and sha256, hashed again at every use.

The bytes that a URL served first are remembered in the user's data folder, not in the cache: after
the cache was cleared, other bytes would be trusted.
"""

from __future__ import annotations

import datetime
import enum
import json
import os
import shutil
from functools import partial
from hashlib import sha256 as make_sha256
from pathlib import Path
from typing import (
    Any,
    Callable,
    Collection,
    List,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Protocol,
    Union,
)
from urllib.parse import unquote, urldefrag, urlsplit, urlunsplit

from safe_install.errors import DownloadFailed, HashMismatch
from safe_install.events import Reporter
from safe_install.folders import NO_HOME, NOWHERE, find_data_folder
from safe_install.models import Candidate, Link
from safe_install.redaction import redact
from safe_install.system.atomic_write import write_atomically
from safe_install.system.partial_file import OtherBytes
from safe_install.system.several import Stop
from safe_install.wheels.archive import hash_file
from safe_install.wheels.kept_downloads import DOWNLOADS, LOCK, mark_used
from safe_install.wheels.lock import hold_lock

MAX_FILE_SIZE = 8 * 1024**3  # bytes; the largest torch wheel has 2.5 GB
ProgressReader = Callable[[int, Optional[int]], None]
FindCopy = Callable[[str], Optional[Path]]  # by the address of a file


class Downloader(Protocol):
    """What fetching needs of HTTP; implemented by `system.http.HttpClient`."""

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
        """Write the file of `url` to `destination`. The result: its sha256. Errors: DownloadFailed,
        OtherBytes."""


class Trust(enum.Enum):
    """Which promise a file needs before its bytes are used."""

    # a file without a promised hash is accepted the first time; later it must be the same
    FIRST_SIGHT = "first-sight"
    PROMISED = "promised"  # only files whose sha256 was promised (--require-hashes)


class FirstSeenHash(NamedTuple):
    """The bytes that a URL served first."""

    url: str
    sha256: str
    size: int  # bytes
    seen: str  # ISO 8601, UTC


def fetch(
    wanted: Union[Candidate, Link],
    *,
    http: Downloader,
    cache: Path,
    reporter: Reporter,
    first_seen: Optional[Path] = None,
    allowed_hosts: Optional[Collection[str]] = None,
    trust: Trust = Trust.FIRST_SIGHT,
    size_limit: Optional[int] = None,
    newly_seen: Optional[List[str]] = None,
    find_copy: FindCopy = lambda url: None,
    stop: Optional[Stop] = None,
) -> Path:
    """A file on disk with the bytes of the link: a local file itself, else one below `cache`.

    The cache is keyed by URL and sha256, because hosts serve different bytes under one file name.
    Where the host promises no hash, the first bytes are pinned: other bytes at that URL are refused
    later. `first_seen`: the folder of the pins, by default in the user's data folder; a new pin's
    URL is added to `newly_seen`. `find_copy`: returns a file that may be the same; its hash is
    compared.
    Errors: HashMismatch, DownloadFailed; Stopped, after `stop` was set.
    """
    link = wanted.link if isinstance(wanted, Candidate) else wanted
    _check_filename(link)
    _check_promise(link, trust)
    limit = size_limit or link.size or MAX_FILE_SIZE
    local = find_local_path(link.url)
    if local is not None:
        return _check_local(local, link, limit)
    folder = _folder_of(link.url, cache)
    folder.mkdir(parents=True, exist_ok=True)
    mark_used(folder)
    record_file = FirstSeenFile(first_seen or first_seen_folder(), link.url)
    with hold_lock(folder / LOCK, reporter, f"another download of {link.filename}", stop):
        was_seen = record_file.is_there()
        path = _fetch_cached(
            link,
            folder,
            record_file,
            http=http,
            reporter=reporter,
            allowed_hosts=allowed_hosts,
            limit=limit,
            find_copy=find_copy,
            stop=stop,
        )
        if newly_seen is not None and not was_seen and record_file.is_there():
            newly_seen.append(link.url)
    return path


def _check_promise(link: Link, trust: Trust) -> None:
    """Errors: HashMismatch where two hashes are stated, or one is required and none is known."""
    if link.conflicting_hash is not None:
        raise HashMismatch(
            f"{link.url}: {link.found_in} says that it has sha256 {link.conflicting_hash}, and the "
            "wheel index knows "
            f"{link.sha256}",
            hint="Nothing was fetched: the host serves another file than was published. Take another version, or, if "
            "its publisher announced the change, bring newer facts: see --update in safe-install wheels --help.",
        )
    if link.sha256 is None and trust is Trust.PROMISED:
        raise HashMismatch(
            f"{link.url}: no sha256 is known, and hashes are required",
            # one --hash in a file requires those of all
            hint="Pin the requirement with == and give it a --hash, or leave out --require-hashes and every --hash.",
        )


def _folder_of(url: str, cache: Path) -> Path:
    return cache / DOWNLOADS / make_sha256(_key(url).encode()).hexdigest()[:32]


def is_fetched(link: Link, cache: Path) -> bool:
    """Is the file of a link with a known hash in the cache, or another copy of it on this
    machine?"""
    if find_local_path(link.url) is not None:
        return True
    sha256 = (link.sha256 or "").lower()
    return bool(sha256) and (_folder_of(link.url, cache) / sha256 / link.filename).is_file()


def forget_first_seen(url: str) -> None:
    """Forget the first bytes of a URL, because they were refused: the next ones count as the
    first."""
    try:
        FirstSeenFile(first_seen_folder(), url).path.unlink()
    except OSError:
        pass  # it could not be remembered either


def first_seen_folder() -> Path:
    """The folder of the pins."""
    return find_data_folder() / "sightings"


def find_local_path(url: str) -> Optional[Path]:
    """The path of a `file:` URL or a plain path; None for a URL that has to be fetched."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise DownloadFailed(
                f"{url} names a file on another machine", hint="Use file:///path or https."
            )
        # as urllib.request.url2pathname, which would bring http.client and ssl, 20 ms
        return Path(unquote(parts.path))
    return None if parts.scheme and "://" in url else Path(url)


def _is_whole(cached: Path, expected: str, reporter: Reporter) -> bool:
    """Is a file in the cache as it was promised? A damaged one is removed."""
    if not cached.is_file():
        return False
    if hash_file(cached) == expected:
        return True
    reporter.warn(f"{cached} was damaged on this disk; it is fetched again")
    cached.unlink()
    return False


def _remember(
    link: Link, record_file: FirstSeenFile, sha256: str, size: int, reporter: Reporter
) -> None:
    """Remember the first bytes of a URL whose host promises no hash."""
    problem = record_file.write(sha256, size)
    reporter.note(
        f"{link.filename}: its host promises no hash; remembered: sha256 {sha256}, {size} bytes"
    )
    if problem:
        reporter.warn(
            f"that could not be remembered ({problem}): a change of the file would not be noticed"
        )


def _fetch_cached(
    link: Link,
    folder: Path,
    record_file: FirstSeenFile,
    *,
    http: Downloader,
    reporter: Reporter,
    allowed_hosts: Optional[Collection[str]],
    limit: int,
    find_copy: FindCopy,
    stop: Optional[Stop],
) -> Path:
    # Where the wheel index knows the hash, nothing else counts; a page's own word is no stronger
    # than its file.
    pinned = None if link.hash_from_index else record_file.read()
    if pinned is not None and link.sha256 not in (None, pinned.sha256):
        _refuse_other_bytes(
            link, pinned.sha256, str(link.sha256), record_file=record_file, pinned=pinned
        )
    expected = link.sha256.lower() if link.sha256 else (pinned.sha256 if pinned else None)
    if expected is not None:
        cached = folder / expected / link.filename
        if _is_whole(cached, expected, reporter):
            return cached
        if _take_copy(find_copy(link.url), cached, expected):
            return cached
    part = folder / "part"
    download = partial(
        _download,
        link,
        part,
        expected,
        http=http,
        reporter=reporter,
        allowed_hosts=allowed_hosts,
        limit=limit,
        stop=stop,
    )
    try:
        found = _download_whole(download, link, reporter)
    except OtherBytes as error:
        _refuse_other_bytes(
            link, str(expected), error.found, record_file=record_file, pinned=pinned
        )
    if expected is None:
        _remember(link, record_file, found, part.stat().st_size, reporter)
    target = folder / found / link.filename
    target.parent.mkdir(exist_ok=True)
    part.replace(target)
    return target


def _download_whole(download: Callable[[], str], link: Link, reporter: Reporter) -> str:
    """The sha256 of a complete download. It is restarted once where its parts came from two
    versions of the file. Errors: OtherBytes."""
    try:
        return download()
    except OtherBytes as error:
        if not error.is_continued:
            raise
    reporter.note(
        f"{link.filename} broke off, and what came later does not belong to what came first: it is "
        "fetched from its beginning"
    )
    return download()


def _take_copy(copy: Optional[Path], target: Path, sha256: str) -> bool:
    """Put a copy from this machine into our cache, if it has the promised hash; as a hard link
    where that is safe and possible. Was it possible?"""
    if copy is None:
        return False
    try:
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(copy, target)
        except OSError:
            shutil.copyfile(copy, target)
        if hash_file(target) == sha256:
            return True
        target.unlink()
    except OSError:
        pass  # it is fetched
    return False


def _download(
    link: Link,
    part: Path,
    expected: Optional[str],
    *,
    http: Downloader,
    reporter: Reporter,
    allowed_hosts: Optional[Collection[str]],
    limit: int,
    stop: Optional[Stop],
) -> str:
    """Download the file. The result: its sha256. Errors: DownloadFailed, OtherBytes."""
    task = f"download {link.filename}"

    def advance(done: int, total: Optional[int]) -> None:
        reporter.task_advanced(task, float(done), total=total)

    with reporter.task(task, total=link.size, unit="bytes"):
        found = http.download(
            urldefrag(link.url)[0],
            part,
            sha256=expected,
            size_limit=limit,
            on_progress=advance,
            allowed_hosts=allowed_hosts,
            stop=stop,
        )
    size = part.stat().st_size
    if size > limit or (link.size is not None and size != link.size):
        part.unlink()
        raise DownloadFailed(
            f"{link.url} sent {size} bytes, promised were {link.size or limit}",
            hint="Try again; if it stays so, the host serves another file than its index lists.",
        )
    return found


def _check_local(path: Path, link: Link, limit: int) -> Path:
    if not path.is_file():
        raise DownloadFailed(
            f"{path} is not a file", hint="Correct the path, or make the file first."
        )
    if path.stat().st_size > limit:
        raise DownloadFailed(
            f"{path} has {path.stat().st_size} bytes, more than the limit of {limit}"
        )
    if link.sha256 is not None:
        found = hash_file(path)
        if found != link.sha256.lower():
            raise HashMismatch(
                f"{path} has sha256 {found}, promised was {link.sha256.lower()}",
                hint=f"The file was changed or damaged after it was listed in {link.found_in or 'its index'}",
            )
    return path


def _refuse_other_bytes(
    link: Link,
    expected: str,
    found: str,
    *,
    record_file: FirstSeenFile,
    pinned: Optional[FirstSeenHash],
) -> NoReturn:
    if pinned is None:
        raise HashMismatch(
            f"{link.url} has sha256 {found}, promised by {link.found_in or 'its link'} was "
            f"{expected}",
            hint="Try again later or take another version; if it stays so, the host serves another file.",
        )
    raise HashMismatch(
        f"{link.url} has sha256 {found} now, and had {expected} when it was first seen "
        f"({pinned.seen})",
        hint=f"If its publisher announced the change, remove {record_file.path} and run the command again.",
    )


def _check_filename(link: Link) -> None:
    name = link.filename
    plain = name not in ("", ".", "..") and not any(
        c in name or c in unquote(name) for c in "/\\\0"
    )
    if not plain or len(name.encode("utf-8", "replace")) > 255:
        raise DownloadFailed(
            f"{name!r} from {link.url} is not a plain file name",
            hint="The page that lists it is broken or hostile; nothing was fetched.",
        )


def _key(url: str) -> str:
    """What identifies a file: its URL without fragment and without credentials."""
    parts = urlsplit(urldefrag(url)[0])
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class FirstSeenFile:
    """The pin of one URL: a file in the user's data folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self._url = _key(url)
        self.path = folder / f"{make_sha256(self._url.encode()).hexdigest()[:32]}.json"

    def read(self) -> Optional[FirstSeenHash]:
        """The pin; None where there is none. Errors: HashMismatch for one that cannot be read."""
        try:
            record: Mapping[str, Any] = json.loads(self.path.read_text("utf-8"))
            return FirstSeenHash(record["url"], record["sha256"], record["size"], record["seen"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, PermissionError) and not self.is_there():
                # another user's home, such as HOME=/root in an image with another USER
                return None
            # Taking a damaged record for "never seen" would forget the promise.
            raise HashMismatch(
                f"{self.path} cannot be read ({error})",
                hint=f"Remove {self.path} to trust the host anew.",
            ) from error

    def is_there(self) -> bool:
        """Does the file exist, as far as this user can see?"""
        return os.path.lexists(self.path)

    def write(self, sha256: str, size: int) -> str:
        """Write the pin. The result: why that was not possible, or ""."""
        if NOWHERE in self.path.parents:
            return NO_HOME
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        record = {"url": redact(self._url), "sha256": sha256, "size": size, "seen": now}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, json.dumps(record).encode("utf-8"), mode=0o600)
        except OSError as error:
            return str(error)
        return ""
