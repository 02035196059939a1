"""Fetching through a fake host: what is cached, what is refused, what is said."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from safe_install.errors import DownloadFailed, HashMismatch
from safe_install.events import Reporter
from safe_install.folders import NOWHERE
from safe_install.models import Link
from safe_install.system.partial_file import OtherBytes
from safe_install.wheels.fetch import FirstSeenFile, Trust, fetch, find_local_path

URL = "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/demo-1.0-py3-none-any.whl"
NAME = "demo-1.0-py3-none-any.whl"


class Host:
    """Serves bytes by URL and counts how often it was asked."""

    def __init__(self, **contents):
        self.contents = {URL: b"first", **contents}
        self.asked = []
        self.is_continued = False  # what it sends was put together from two answers

    def download(
        self,
        url,
        destination,
        *,
        sha256=None,
        size_limit=None,
        on_progress=None,
        allowed_hosts=None,
        stop=None,
    ):
        self.asked.append((url, size_limit, allowed_hosts))
        content = self.contents[url]
        if on_progress is not None:
            on_progress(len(content), None)
        found = hashlib.sha256(content).hexdigest()
        if sha256 is not None and found != sha256:
            raise OtherBytes("other bytes", hint="", found=found, is_continued=self.is_continued)
        destination.write_bytes(content)
        return found


class Notes(Reporter):
    def __init__(self):
        self.notes, self.warnings, self.tasks = [], [], []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def task_started(self, task, total=None, unit=""):
        self.tasks.append((task, total, unit))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def take(tmp_path):
    def run(link, host, reporter=None, **options):
        options = {"cache": tmp_path / "cache", "first_seen": tmp_path / "sightings", **options}
        return fetch(link, http=host, reporter=reporter or Reporter(), **options)

    return run


def test_a_promised_file_is_fetched_once(take):
    host, reporter = Host(), Notes()
    link = Link(URL, NAME, sha256=sha256(b"first").upper(), size=5)
    path = take(link, host, reporter, allowed_hosts=("data.pyg.org",))
    assert (path.name, path.read_bytes()) == (NAME, b"first")
    assert take(link, host) == path
    assert host.asked == [(URL, 5, ("data.pyg.org",))]
    assert reporter.tasks == [(f"download {NAME}", 5, "bytes")]
    assert not reporter.notes


def test_a_fragment_is_not_sent(take):
    host = Host()
    take(Link(URL + "#sha256=abc", NAME), host)
    assert host.asked[0][0] == URL


def test_other_bytes_than_promised_are_refused_and_not_kept(take, tmp_path):
    with pytest.raises(HashMismatch) as caught:
        take(Link(URL, NAME, sha256=sha256(b"other"), found_in="bundled facts"), Host())
    assert sha256(b"first") in caught.value.message
    assert sha256(b"other") in caught.value.message
    assert "bundled facts" in caught.value.message
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.name != ".lock"] == []


def test_the_same_name_elsewhere_is_another_file(take):
    mirror = "https://mirror.example/demo-1.0-py3-none-any.whl"
    host = Host(**{mirror: b"mirrored"})
    first, second = take(Link(URL, NAME), host), take(Link(mirror, NAME), host)
    assert (first.read_bytes(), second.read_bytes()) == (b"first", b"mirrored")


def test_a_file_without_promise_is_remembered_at_first_sight(take, tmp_path):
    host, reporter = Host(), Notes()
    path = take(Link(URL, NAME), host, reporter)
    assert sha256(b"first") in reporter.notes[0]
    pinned = FirstSeenFile(tmp_path / "sightings", URL).read()
    assert (pinned.sha256, pinned.size, pinned.url) == (sha256(b"first"), 5, URL)
    host.contents[URL] = b"changed"
    assert take(Link(URL, NAME), host) == path  # the cached file is still the one that was seen
    assert len(host.asked) == 1


def test_a_changed_file_is_refused_until_the_record_is_removed(take):
    host = Host()
    take(Link(URL, NAME), host).unlink()
    host.contents[URL] = b"changed"
    with pytest.raises(HashMismatch) as caught:
        take(Link(URL, NAME), host)
    assert sha256(b"first") in caught.value.message and sha256(b"changed") in caught.value.message
    record = next(word for word in caught.value.hint.split() if word.endswith(".json"))
    Path(record).unlink()
    assert take(Link(URL, NAME), host).read_bytes() == b"changed"


def test_a_damaged_record_is_not_taken_for_never_seen(take, tmp_path):
    host = Host()
    take(Link(URL, NAME), host)
    (record,) = (tmp_path / "sightings").iterdir()
    record.write_text("{")
    with pytest.raises(HashMismatch, match="cannot be read"):
        take(Link(URL, NAME), host)


def test_a_cached_file_that_was_damaged_is_fetched_again(take):
    host, reporter = Host(), Notes()
    link = Link(URL, NAME, sha256=sha256(b"first"))
    path = take(link, host)
    path.write_bytes(b"rotten")
    assert take(link, host, reporter).read_bytes() == b"first"
    assert "damaged" in reporter.warnings[0]


def test_hashes_can_be_required(take):
    host = Host()
    with pytest.raises(HashMismatch, match="no sha256 is known") as caught:
        take(Link(URL, NAME), host, trust=Trust.PROMISED)
    # pip wants both, and one --hash in a file requires them without the option
    assert "with == and give it a --hash" in caught.value.hint
    assert "and every --hash" in caught.value.hint
    assert host.asked == []


def test_another_size_than_listed_is_refused(take):
    with pytest.raises(DownloadFailed, match="sent 5 bytes, promised were 4"):
        take(Link(URL, NAME, size=4), Host())


@pytest.mark.parametrize(
    "name", ["", "..", "a/b.whl", "a\\b.whl", "..%2fb.whl", "x\0.whl", "x" * 256]
)
def test_names_that_are_no_plain_file_names_are_refused(take, name):
    host = Host()
    with pytest.raises(DownloadFailed, match="not a plain file name"):
        take(Link(URL, name), host)
    assert host.asked == []


@pytest.mark.parametrize("form", ["url", "path"])
def test_local_files_are_used_where_they_are(take, tmp_path, form):
    path = tmp_path / "with space+.whl"
    path.write_bytes(b"local")
    link = Link(path.as_uri() if form == "url" else str(path), NAME, sha256=sha256(b"local"))
    assert take(link, Host()) == path


def test_local_files_are_hashed_and_must_exist(take, tmp_path):
    path = tmp_path / NAME
    path.write_bytes(b"local")
    with pytest.raises(HashMismatch, match=sha256(b"local")):
        take(Link(path.as_uri(), NAME, sha256=sha256(b"other")), Host())
    with pytest.raises(DownloadFailed, match="is not a file"):
        take(Link(str(tmp_path / "gone.whl"), NAME), Host())
    with pytest.raises(DownloadFailed, match="more than the limit"):
        take(Link(path.as_uri(), NAME), Host(), size_limit=4)


def test_a_file_url_of_another_machine_is_refused():
    with pytest.raises(DownloadFailed, match="another machine"):
        find_local_path("file://server/share/x.whl")


def test_credentials_are_not_part_of_the_key(take):
    secret = URL.replace("https://", "https://user:secret@")
    host = Host(**{secret: b"first"})
    assert take(Link(secret, NAME), host) == take(Link(URL, NAME), host)


def test_the_memory_outlives_the_cache(take, tmp_path):
    host = Host()
    take(Link(URL, NAME), host)
    host.contents[URL] = b"changed"
    with pytest.raises(HashMismatch, match="when it was first seen"):
        take(Link(URL, NAME), host, cache=tmp_path / "another cache")


def test_a_page_that_states_another_hash_than_was_seen_is_not_believed(take):
    """Whoever changes the file can change the page."""
    host = Host()
    take(Link(URL, NAME), host)
    host.contents[URL] = b"changed"
    with pytest.raises(HashMismatch) as caught:
        take(Link(URL, NAME, sha256=sha256(b"changed"), found_in="its page"), host)
    assert sha256(b"first") in caught.value.message and sha256(b"changed") in caught.value.message
    assert len(host.asked) == 1


def test_what_the_wheel_index_knows_comes_before_what_was_seen(take):
    host = Host()
    take(Link(URL, NAME), host)
    host.contents[URL] = b"changed"
    link = Link(URL, NAME, sha256=sha256(b"changed"), hash_from_index=True)
    assert take(link, host).read_bytes() == b"changed"


def test_a_page_that_contradicts_the_wheel_index_is_refused_unasked(take):
    host = Host()
    with pytest.raises(HashMismatch) as caught:
        take(
            Link(
                URL,
                NAME,
                sha256="1" * 64,
                found_in="its page",
                hash_from_index=True,
                conflicting_hash="2" * 64,
            ),
            host,
        )
    assert "1" * 64 in caught.value.message and "2" * 64 in caught.value.message
    assert host.asked == []


def test_a_memory_that_cannot_be_written_is_said(take, tmp_path):
    (tmp_path / "a file").write_text("")
    reporter = Notes()
    assert (
        take(
            Link(URL, NAME), Host(), reporter, first_seen=tmp_path / "a file" / "below"
        ).read_bytes()
        == b"first"
    )
    assert "could not be remembered" in reporter.warnings[0]


def test_no_secret_of_an_address_is_remembered(take, tmp_path):
    secret = "https://user:hunter2@data.pyg.org/x.whl?token=hunter3"
    take(Link(secret, "x.whl"), Host(**{secret: b"first"}))
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if b"hunter" in path.read_bytes() or "hunter" in path.name] == []


def test_a_memory_in_the_home_of_somebody_else_is_none(tmp_path, monkeypatch):
    # root may read everything: the answers are those that another user gets of HOME=/root.
    def refuse(path, *words, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert FirstSeenFile(tmp_path / "root", URL).read() is None
    (tmp_path / "own").mkdir()
    record = tmp_path / "own" / f"{sha256(URL.encode())[:32]}.json"
    record.touch()
    with pytest.raises(HashMismatch, match="cannot be read"):
        FirstSeenFile(tmp_path / "own", URL).read()


def test_a_user_without_a_home_remembers_nothing(take):
    reporter = Notes()
    for _ in range(2):
        assert (
            take(Link(URL, NAME), Host(), reporter, first_seen=NOWHERE / "sightings").read_bytes()
            == b"first"
        )
    assert "could not be remembered (HOME is not set" in reporter.warnings[0]


def test_the_path_of_a_file_address_is_unquoted():
    assert find_local_path("file:///a%20b/x%2By.whl") == Path("/a b/x+y.whl")
    assert find_local_path("file://localhost/x.whl") == Path("/x.whl")
