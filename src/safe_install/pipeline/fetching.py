"""Fetches files from hosts: several at the same time, shown as one task."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Callable, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import unquote, urldefrag, urlsplit, urlunsplit

from safe_install.errors import Interrupted, Refused
from safe_install.events import Reporter, TaskOutcome
from safe_install.models import Candidate, Link, Origin, Step
from safe_install.ports import World
from safe_install.system.http import ANY_HOST, HttpClient
from safe_install.system.partial_file import FileRefused
from safe_install.system.pip_cache import find_body, find_pip_cache
from safe_install.system.several import Call, Stop, call_several
from safe_install.transaction.room import find_shortage, read_room

SHOWN = 3  # names of running downloads
MAKE_ROOM = (
    "Make room there, or name another folder: SAFE_INSTALL_CACHE_DIR (with --no-cache-dir: TMPDIR)."
)


class WantedFile(NamedTuple):
    """A file that is to be fetched."""

    link: Link
    allowed_hosts: Tuple[str, ...] = ()  # hosts that its host may redirect to
    is_promised: bool = False  # a hash was given for it, which the caller compares
    pip_can_fetch: bool = False  # pip can fetch it, too, and may be able to log in where we cannot


def wanted_file_of_step(step: Step) -> Optional[WantedFile]:
    """The wheel of a step, where pip's report has its URL and hash, so that we can fetch it without
    pip; None for others. As with pip, its host may redirect to any other."""
    if step.origin is not Origin.WHEEL or step.candidate is not None or step.sha256 is None:
        return None
    url = str((step.download_info or {}).get("url", step.url or ""))
    parts = urlsplit(urldefrag(url)[0])
    if parts.scheme not in ("http", "https"):
        return None
    if "****" in parts.netloc:  # pip hides the password, which the index address has
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    filename = unquote(parts.path.rpartition("/")[2])
    link = Link(urlunsplit(parts), filename, sha256=step.sha256, found_in="its index")
    return WantedFile(link, (ANY_HOST,), pip_can_fetch=True)


class Fetcher:
    """Fetches files into a cache. Hashes of files that were seen for the first time can be
    forgotten."""

    def __init__(
        self,
        http: HttpClient,
        world: World,
        redirects_of: Callable[[Candidate], Tuple[str, ...]],
        *,
        require_hashes: bool = False,
        pip_cache: Optional[str] = None,
    ) -> None:
        """`redirects_of`: the hosts that a candidate's host may redirect to. `pip_cache`: the
        folder of pip's cache."""
        self._http, self._world = http, world
        self._redirects_of = redirects_of
        self._require_hashes = require_hashes
        self._pip_cache = pip_cache
        self._newly_seen: List[str] = []  # URLs

    def want(self, candidate: Candidate, *, is_promised: bool = False) -> WantedFile:
        """The file of a candidate."""
        return WantedFile(candidate.link, self._redirects_of(candidate), is_promised)

    def fetch(self, wanted: WantedFile, *, cache: Optional[Path] = None) -> Path:
        """The file on this machine, with its hash compared. `cache`: the folder for it; None: the
        usual cache. Errors: DownloadFailed, HashMismatch."""
        return self._fetch(wanted, cache, self._world.reporter)

    def fetch_all(
        self, wanted: Sequence[WantedFile], *, cache: Optional[Path] = None
    ) -> List[Optional[Path]]:
        """The same for several files, in their order; None for a file that its host refuses to us
        and that pip can fetch. The first error, or a signal, stops all downloads. Errors: those of
        `fetch`; Refused, as soon as the sizes that the hosts report exceed the room on the disk."""
        shown = _CombinedTask(self._world.reporter, wanted, cache or self._world.cache_dir)

        def make_call(one: WantedFile) -> Call[Optional[Path]]:
            def bring(stop: Stop) -> Optional[Path]:
                try:
                    return self._fetch(one, cache, shown, stop)
                except FileRefused:
                    if one.pip_can_fetch:
                        return None
                    raise

            return Call(_host_of(one.link.url), bring)

        with shown:
            calls = [make_call(one) for one in wanted]
            found = call_several(calls, cut=self._http.cut, on_tick=shown.check_room)
        if cache is None and shown.is_shown:
            from safe_install.wheels.kept_downloads import prune_downloads

            prune_downloads(self._world.cache_dir)
        return found

    def _fetch(
        self,
        wanted: WantedFile,
        cache: Optional[Path],
        reporter: Reporter,
        stop: Optional[Stop] = None,
    ) -> Path:
        from safe_install.wheels.fetch import Trust, fetch  # late: `explain` brings no files

        is_strict = self._require_hashes and not wanted.is_promised
        return fetch(
            wanted.link,
            http=self._http,
            cache=cache or self._world.cache_dir,
            reporter=reporter,
            allowed_hosts=wanted.allowed_hosts,
            trust=Trust.PROMISED if is_strict else Trust.FIRST_SIGHT,
            newly_seen=self._newly_seen,
            find_copy=self._find_copy,
            stop=stop,
        )

    def is_here(self, link: Link) -> bool:
        """Is the file of a link on this machine already?"""
        from safe_install.wheels.fetch import is_fetched

        return is_fetched(link, self._world.cache_dir) or self._find_copy(link.url) is not None

    def _find_copy(self, url: str) -> Optional[Path]:
        return find_body(url, find_pip_cache(self._pip_cache))

    def forget_first_seen(self) -> None:
        """Forget the hashes that were recorded at first sight in this run."""
        from safe_install.wheels.fetch import forget_first_seen

        for url in self._newly_seen:
            forget_first_seen(url)


def _host_of(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


class _CombinedTask(Reporter):
    """Shows several downloads as one task. Their threads report to it; `show` prints, in the thread
    that waits for them."""

    def __init__(self, reporter: Reporter, wanted: Collection[WantedFile], folder: Path) -> None:
        """`folder`: where the files are written."""
        self._reporter = reporter
        self._files = len(wanted)
        self._folder = folder
        self._sizes_seen = 0
        names = [one.link.filename for one in wanted]
        self._task = f"download {names[0]}" if len(names) == 1 else f"download {len(names)} files"
        self._said: queue.SimpleQueue[Tuple[Callable[[str], None], str]] = queue.SimpleQueue()
        self._under_way: Dict[str, None] = {}
        self._done: Dict[str, float] = {}
        self._totals: Dict[str, Optional[float]] = {}
        self.is_shown = False  # has a download begun?

    # --- called in the threads of the downloads ---

    def note(self, text: str) -> None:
        """Print later."""
        self._said.put((self._reporter.note, text))

    def warn(self, text: str) -> None:
        """Print later."""
        self._said.put((self._reporter.warn, text))

    def task_started(self, task: str, total: Optional[float] = None, unit: str = "") -> None:
        """A download begins."""
        self._totals[task] = total
        self._under_way[task] = None

    def task_advanced(
        self, task: str, done: float, text: str = "", total: Optional[float] = None
    ) -> None:
        """A download has `done` bytes; `total` is what its host reported, if it did."""
        self._done[task] = done
        self._totals[task] = total or self._totals.get(task)

    def task_ended(
        self, task: str, text: str = "", outcome: TaskOutcome = TaskOutcome.DONE
    ) -> None:
        """A download has ended."""
        self._under_way.pop(task, None)

    # --- called in the thread that waits ---

    def show(self) -> None:
        """Print what was reported since the last call."""
        while not self._said.empty():
            say, text = self._said.get()
            say(text)
        totals = list(self._totals.values())
        if not totals:
            return
        known = [total for total in totals if total is not None]
        total = sum(known) if len(known) == self._files else None
        if not self.is_shown:
            self.is_shown = True
            self._reporter.task_started(self._task, total, "bytes")
        self._reporter.task_advanced(
            self._task, sum(list(self._done.values())), self._names(), total
        )

    def check_room(self) -> None:
        """Print, and check the room on the disk when another host has reported a size. It is not
        checked again, because later writes of other programs are not our concern. Errors:
        Refused."""
        self.show()
        missing, sizes = 0.0, 0
        for task, done in list(self._done.items()):
            total = self._totals.get(task)
            if total is not None:
                sizes += 1
                missing += max(total - done, 0)
        if sizes == self._sizes_seen:
            return
        self._sizes_seen = sizes
        shortage = find_shortage(read_room(self._folder), size=int(missing))
        if shortage is not None:
            raise Refused(shortage, hint=MAKE_ROOM)

    def _names(self) -> str:
        if self._files == 1:
            return ""
        tasks = list(self._under_way)[:SHOWN]
        return ", ".join(task.split()[-1].split("-")[0] for task in tasks)

    def __enter__(self) -> _CombinedTask:
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], traceback: object) -> None:
        outcome = TaskOutcome.DONE
        if error is not None:
            outcome = TaskOutcome.FAILED
            if isinstance(error, (KeyboardInterrupt, Interrupted)):
                outcome = TaskOutcome.INTERRUPTED
        if outcome is not TaskOutcome.INTERRUPTED:
            self.show()
        if self.is_shown:
            self._reporter.task_ended(self._task, outcome=outcome)
