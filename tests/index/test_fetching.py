"""Several files of real hosts on loopback: at the same time, broken off, interrupted, killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest

from safe_install.errors import DownloadFailed, HashMismatch, Refused
from safe_install.events import Reporter, TaskOutcome
from safe_install.models import Action, Candidate, CandidateKind, Link, Origin, Step
from safe_install.pipeline import fetching
from safe_install.pipeline.fetching import Fetcher, WantedFile, wanted_file_of_step
from safe_install.ports import World
from safe_install.system.http import HttpClient
from safe_install.system.several import AT_ONCE, THREAD_NAME
from safe_install.transaction.room import Room
from safe_install.wheels import kept_downloads
from tests.wheelhost import WheelHost

SIZE = 300_000


class Said(Reporter):
    """What is said, and by which thread."""

    def __init__(self):
        self.lines, self.threads = [], set()

    def _say(self, *line):
        self.threads.add(threading.current_thread())
        self.lines.append(line)

    def note(self, text):
        self._say("note", text)

    def task_started(self, task, total=None, unit=""):
        self._say("started", task, unit)

    def task_advanced(self, task, done, text="", total=None):
        self._say("advanced", task, done, total)

    def task_ended(self, task, text="", outcome=TaskOutcome.DONE):
        self._say("ended", task, outcome)


@pytest.fixture
def host():
    with WheelHost() as running:
        yield running


@pytest.fixture(autouse=True)
def no_thread_is_left(host):
    """Of ours: those of the host wait for the next request of a connection that is kept."""
    yield
    deadline = time.monotonic() + 20
    while _own_threads() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _own_threads()


def _own_threads():
    return [one for one in threading.enumerate() if one.name == THREAD_NAME]


def content_of(name):
    return hashlib.sha256(name.encode()).digest() * (SIZE // 32)


def put(host, name, *, folder="files"):
    """A file of the host, as something that is wanted."""
    content = content_of(name)
    host.put(f"/{folder}/{name}", content)
    sha256 = hashlib.sha256(content).hexdigest()
    return WantedFile(Link(f"{host.url}/{folder}/{name}", name, sha256=sha256))


def wheels(host, count):
    return [put(host, f"demo{number}-1.0-py3-none-any.whl") for number in range(count)]


def make_fetcher(tmp_path, reporter=None, *, timeout=15.0, **options):
    world = World({}, reporter or Reporter(), tmp_path / "cache")
    options = {"pip_cache": str(tmp_path / "pip"), **options}
    return Fetcher(HttpClient(timeout=timeout), world, lambda candidate: (), **options)


def test_several_come_at_the_same_time_over_kept_connections(host, tmp_path):
    wanted = wheels(host, 10)
    host.misbehave("/files/", "slow")
    reporter = Said()
    found = make_fetcher(tmp_path, reporter).fetch_all(wanted)
    assert [path.name for path in found] == [one.link.filename for one in wanted]
    assert [path.read_bytes() for path in found] == [
        content_of(one.link.filename) for one in wanted
    ]
    assert host.most_slow == AT_ONCE
    assert host.connections <= AT_ONCE
    assert reporter.threads == {threading.main_thread()}
    assert reporter.lines[0] == ("started", "download 10 files", "bytes")
    assert reporter.lines[-2] == ("advanced", "download 10 files", 10 * SIZE, 10 * SIZE)
    assert reporter.lines[-1] == ("ended", "download 10 files", TaskOutcome.DONE)


def test_what_is_too_large_for_the_disk_is_refused_when_its_hosts_have_said_so(
    host, tmp_path, monkeypatch
):
    """Each of them would fit; together they do not. Nothing is waited for."""
    wanted = wheels(host, 9)
    host.misbehave("/files/", "stall")
    monkeypatch.setattr(fetching, "read_room", lambda folder: Room(str(folder), SIZE))
    reporter = Said()
    started = time.monotonic()
    with pytest.raises(Refused, match="cache has 0 MiB free and this needs about 1 MiB"):
        make_fetcher(tmp_path, reporter).fetch_all(wanted)
    assert time.monotonic() - started < 14, "the silent host was waited for"
    assert len(host.requests) == AT_ONCE
    assert reporter.lines[-1][2] is TaskOutcome.FAILED


def test_what_is_there_is_not_asked_for(host, tmp_path):
    wanted = wheels(host, 3)
    reporter = Said()
    make_fetcher(tmp_path).fetch_all(wanted)
    host.requests.clear()
    make_fetcher(tmp_path, reporter).fetch_all(wanted)
    assert (host.requests, reporter.lines) == ([], [])


def test_the_cache_is_kept_within_its_bound(host, tmp_path, monkeypatch):
    """Whenever something came to lie in it; and what is taken from it was used now."""
    pruned = []
    monkeypatch.setattr(kept_downloads, "prune_downloads", pruned.append)
    wanted = wheels(host, 2)
    fetcher = make_fetcher(tmp_path)
    fetcher.fetch_all(wanted, cache=tmp_path / "elsewhere")
    assert pruned == []
    for _ in range(2):  # the second time nothing comes
        fetcher.fetch_all(wanted)
        assert pruned == [tmp_path / "cache"]
        for folder in (tmp_path / "cache" / "downloads").iterdir():
            assert time.time() - folder.stat().st_mtime < 60
            os.utime(folder, (0, 0))


def test_a_slow_host_holds_back_no_other(host, tmp_path):
    with WheelHost() as slow:
        late = [put(slow, f"late{number}-1.0-py3-none-any.whl") for number in range(AT_ONCE + 1)]
        slow.misbehave("late", "stall")
        wanted = [*late, *wheels(host, 6)]
        fetcher = make_fetcher(tmp_path, timeout=4.0)
        with pytest.raises(DownloadFailed, match="late"):
            fetcher.fetch_all(wanted)
    assert len(host.asked("/files/")) == 6
    assert len(list((tmp_path / "cache").rglob("demo*.whl"))) == 6


def test_an_error_cancels_the_rest_and_names_the_file(host, tmp_path):
    wanted = wheels(host, 9)
    host.misbehave("demo8-", "404")
    host.misbehave("demo0-", "stall")
    reporter = Said()
    started = time.monotonic()
    with pytest.raises(DownloadFailed, match=r"demo8-1\.0.* 404"):
        make_fetcher(tmp_path, reporter).fetch_all(wanted)
    assert time.monotonic() - started < 14, "the silent host was waited for"
    assert reporter.lines[-1] == ("ended", "download 9 files", TaskOutcome.FAILED)
    # what had arrived is kept, and continued
    arrived = [f"bytes={size}-" for size in read_parts(tmp_path)]
    host.behave()
    host.requests.clear()
    make_fetcher(tmp_path).fetch_all(wanted)
    (asked,) = [headers.get("Range") for path, headers in host.requests if "demo0-" in path]
    assert asked in arrived


@pytest.mark.parametrize("fault", ["truncated", "close", "500", "429"])
def test_what_breaks_off_is_tried_again(host, tmp_path, fault):
    wanted = wheels(host, 2)
    host.misbehave("demo1-", fault, times=2)
    found = make_fetcher(tmp_path).fetch_all(wanted)
    assert found[1].read_bytes() == content_of("demo1-1.0-py3-none-any.whl")
    assert len(host.asked("demo1-")) == 3


def test_two_halves_of_two_files_are_not_taken_for_one(host, tmp_path):
    """The host names both alike: only the hash tells."""
    (one,) = wheels(host, 1)
    path = f"/files/{one.link.filename}"
    host.answers[path].headers["ETag"] = '"same"'
    true, host.answers[path].body = host.answers[path].body, bytes(SIZE)
    host.misbehave("demo0", "truncated")
    with pytest.raises(DownloadFailed):
        make_fetcher(tmp_path).fetch(one)
    (part,) = tmp_path.rglob("part.part")
    arrived = part.stat().st_size
    host.behave()
    host.requests.clear()
    host.answers[path].body = true
    reporter = Said()
    assert make_fetcher(tmp_path, reporter).fetch(one).read_bytes() == true
    assert [headers.get("Range") for _, headers in host.requests] == [f"bytes={arrived}-", None]
    assert any("from its beginning" in str(line) for line in reporter.lines)
    # a whole file that is another one is not tried again
    host.answers[path].body = bytes(SIZE)
    host.requests.clear()
    with pytest.raises(HashMismatch):
        make_fetcher(tmp_path / "other").fetch(one)
    assert len(host.requests) == 1


def test_a_cut_connection_is_not_the_end_of_a_file(host, tmp_path, monkeypatch):
    """A file without a length and without a promise would be remembered as what was first seen."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    content = bytes(SIZE)
    host.put("/files/a-1.0-py3-none-any.whl", content)
    host.misbehave("a-1.0", "drip")
    unpromised = WantedFile(
        Link(f"{host.url}/files/a-1.0-py3-none-any.whl", "a-1.0-py3-none-any.whl")
    )
    (other,) = wheels(host, 1)
    fetcher = make_fetcher(tmp_path)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetcher.fetch_all([unpromised, other])
    timer.join()
    assert not list((tmp_path / "data").rglob("*.json"))
    assert not list((tmp_path / "cache").rglob("a-1.0*.whl"))


PROGRAM = """
import sys
from pathlib import Path
from safe_install.events import Reporter
from safe_install.models import Link
from safe_install.pipeline import fetching
from safe_install.pipeline.fetching import Fetcher, WantedFile
from safe_install.ports import World
from safe_install.system.http import HttpClient

cache, *files = sys.argv[1:]

class Lines(Reporter):
    def note(self, text):
        print("note:", text, flush=True)

world = World({}, Lines(), Path(cache))
fetcher = Fetcher(HttpClient(), world, lambda candidate: (), pip_cache="/nowhere")
wanted = []
for text in files:
    url, sha256 = text.split("#")
    wanted.append(WantedFile(Link(url, url.rpartition("/")[2], sha256=sha256)))
for path in fetcher.fetch_all(wanted):
    print(path, flush=True)
"""


def start(tmp_path, wanted):
    files = [f"{one.link.url}#{one.link.sha256}" for one in wanted]
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "cache"), *files]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_parts(folder):
    """The sizes of what has arrived of each file."""
    sizes = [path.stat().st_size for path in folder.rglob("part.part")]
    return [size for size in sizes if size]


def wait_until(is_so):
    deadline = time.monotonic() + 60
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_so()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_second_run_goes_on_where_the_first_was_ended(host, tmp_path, number):
    wanted = wheels(host, 3)
    host.misbehave("/files/", "stall")
    process = start(tmp_path, wanted)
    wait_until(lambda: len(read_parts(tmp_path)) == 3)
    process.send_signal(number)
    started = time.monotonic()
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 14, "the silent host was waited for"
    assert process.returncode != 0 and output == ""
    assert ("KeyboardInterrupt" in errors) == (number is signal.SIGINT)
    expected = sorted(f"bytes={size}-" for size in read_parts(tmp_path))
    host.behave()
    host.requests.clear()
    found = make_fetcher(tmp_path).fetch_all(wanted)
    assert sorted(str(headers.get("Range")) for _, headers in host.requests) == expected
    assert [path.read_bytes() for path in found] == [
        content_of(one.link.filename) for one in wanted
    ]


def test_two_processes_share_what_both_want(host, tmp_path):
    wanted = wheels(host, 3)
    host.misbehave("/files/", "slow")
    processes = [start(tmp_path, wanted), start(tmp_path, wanted[::-1])]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    first, second = ([line for line in lines if not line.startswith("note:")] for lines in outputs)
    assert first == second[::-1]
    assert len(host.asked("/files/")) == 3, "each was asked for once"
    assert any("waiting for another download" in line for lines in outputs for line in lines)


def test_what_pip_has_in_its_cache_is_not_asked_for(host, tmp_path):
    """As pip 23.3 and later keep it: the body in a file of its own, named by its address."""
    one, other = wheels(host, 2)
    for wanted, content in ((one, content_of(one.link.filename)), (other, b"damaged")):
        name = hashlib.sha224(wanted.link.url.encode()).hexdigest()
        body = tmp_path.joinpath("pip", "http-v2", *name[:5], f"{name}.body")
        body.parent.mkdir(parents=True)
        body.write_bytes(content)
    found = make_fetcher(tmp_path).fetch_all([one, other])
    assert [path.read_bytes() for path in found] == [
        content_of(wanted.link.filename) for wanted in (one, other)
    ]
    assert [path for path, _ in host.requests] == [f"/files/{other.link.filename}"]


def test_what_a_host_refuses_is_left_to_pip(host, tmp_path):
    one, other = wheels(host, 2)
    host.misbehave("demo0", "401")
    pips = WantedFile(one.link, pip_can_fetch=True)
    found = make_fetcher(tmp_path).fetch_all([pips, other])
    assert found[0] is None and found[1].is_file()
    host.misbehave("demo0", "close")  # where pip would fare no better
    with pytest.raises(DownloadFailed, match="demo0"):
        make_fetcher(tmp_path).fetch_all([pips, other])


def test_a_file_of_pips_may_be_redirected_anywhere(host, tmp_path):
    """A company's index keeps its files in a store; the hash decides."""
    with WheelHost() as store:
        one = put(store, "demo-1.0-py3-none-any.whl")
        elsewhere = one.link.url.replace("127.0.0.1", "localhost")
        host.misbehave("/moved/", f"redirect {elsewhere}")
        url = f"{host.url}/moved/demo-1.0-py3-none-any.whl"
        step = Step(
            Action.ADD, "demo", "1.0", url=url, sha256=one.link.sha256, download_info={"url": url}
        )
        assert make_fetcher(tmp_path).fetch_all([wanted_file_of_step(step)])[0].is_file()
        ours = WantedFile(Link(url, "demo-1.0-py3-none-any.whl", sha256=one.link.sha256))
        with pytest.raises(DownloadFailed, match="not followed"):
            make_fetcher(tmp_path / "ours").fetch_all([ours])


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"url": "https://h/a%2B1-1.0.whl"}, "https://h/a%2B1-1.0.whl"),
        ({"url": "https://u:****@h/a%2B1-1.0.whl"}, "https://h/a%2B1-1.0.whl"),
        ({"url": "https://u:p@h/a%2B1-1.0.whl#egg=a"}, "https://u:p@h/a%2B1-1.0.whl"),
        ({"url": "file:///folder/a-1.0.whl"}, None),
        ({"url": "https://h/a-1.0.whl", "sha256": None}, None),
        ({"url": "https://h/a-1.0.tar.gz", "origin": Origin.SDIST}, None),
        ({"url": "https://h/a-1.0.whl", "candidate": SimpleNamespace()}, None),
    ],
)
def test_which_files_pip_need_not_bring(fields, url):
    step = Step(Action.ADD, "a", "1.0", **{"sha256": "1" * 64, **fields})
    wanted = wanted_file_of_step(step)
    assert (wanted and wanted.link.url) == url
    if wanted is not None:
        assert (wanted.link.filename, wanted.pip_can_fetch) == ("a+1-1.0.whl", True)


def test_the_hosts_to_which_a_candidate_may_be_redirected(tmp_path):
    world = World({}, Reporter(), tmp_path)
    fetcher = Fetcher(HttpClient(), world, lambda candidate: (f"store.{candidate.name}",))
    link = Link("https://h/a-1.0.whl", "a-1.0.whl")
    candidate = Candidate("a", "1.0", CandidateKind.WHEEL, link)
    assert fetcher.want(candidate, is_promised=True) == WantedFile(link, ("store.a",), True)
