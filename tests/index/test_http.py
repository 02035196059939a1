"""The HTTP owner against a real server on loopback."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from safe_install.errors import DownloadFailed, HashMismatch, UsageError
from safe_install.system import http_body
from safe_install.system.http import HttpClient, PageStatus
from safe_install.system.mirrors import apply_mirrors, parse_mirrors
from tests.wheelhost import WheelHost

PAGE = "https://data.pyg.org/whl/torch-1.8.1%2Bcu111.html"
WHEEL = "torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
FILE = f"https://data.pyg.org/whl/torch-1.8.0%2Bcu111/{WHEEL}"
BYTES = bytes(range(256)) * 4096
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def host():
    with WheelHost() as running:
        running.add_pyg_page("1.8.1", "cu111", {WHEEL: BYTES}, base="1.8.0")
        yield running


def client(host, **options):
    return HttpClient(mirrors=parse_mirrors(host.mirrors), timeout=1.0, **options)


# --- mirrors ---


def test_mirrors_replace_the_start_of_a_url():
    mirrors = parse_mirrors(
        "https://a.org=https://m/a  https://a.org/whl=http://n/\nhttps://b.org/=https://m/b/"
    )
    assert apply_mirrors("https://a.org/x?y", mirrors) == "https://m/a/x?y"
    assert apply_mirrors("https://a.org/whl/x", mirrors) == "http://n/x"
    assert apply_mirrors("https://a.org", mirrors) == "https://m/a"
    assert apply_mirrors("https://a.organic/x", mirrors) == "https://a.organic/x"
    assert apply_mirrors("https://b.org/x", mirrors) == "https://m/b/x"


@pytest.mark.parametrize(
    "text", ["https://a.org", "a=b", "https://a.org=/tmp/x", "https://a.org=ftp://x"]
)
def test_a_mirror_that_is_none(text):
    with pytest.raises(UsageError, match="SAFE_INSTALL_MIRRORS"):
        parse_mirrors(text)


# --- pages ---


def test_a_page(host):
    answer = client(host).get_page(PAGE)
    assert answer.status is PageStatus.LISTED
    assert answer.url == PAGE
    assert WHEEL in answer.text
    assert answer.content_type == "text/html"


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("404", PageStatus.MISSING, "404"),
        ("410", PageStatus.MISSING, "410"),
        ("403", PageStatus.MISSING, "403"),
        ("500", PageStatus.DOWN, "500"),
        ("503", PageStatus.DOWN, "503"),
        ("429", PageStatus.DOWN, "429"),
        ("401", PageStatus.DOWN, "401"),
        ("empty", PageStatus.EMPTY, "content"),
        ("truncated", PageStatus.DOWN, ""),
        ("hang", PageStatus.DOWN, "in time"),
        ("close", PageStatus.DOWN, ""),
        ("redirect https://elsewhere.example/", PageStatus.DOWN, "elsewhere.example"),
        ("redirect ftp://127.0.0.1/x", PageStatus.DOWN, "only https"),
        ("redirect http://[bad/", PageStatus.DOWN, "no URL"),
        ("redirect {path}", PageStatus.DOWN, "more than 5"),
    ],
)
def test_what_a_host_can_do(host, fault, status, said):
    host.misbehave("/pyg/", fault)
    answer = client(host).get_page(PAGE)
    assert (answer.status, answer.text) == (status, "")
    assert said in answer.detail
    assert answer.detail


def test_a_slow_page_is_waited_for(host):
    host.misbehave("/pyg/", "slow")
    assert client(host).get_page(PAGE).status is PageStatus.LISTED


def test_a_host_that_is_down(host):
    host.stop()
    answer = client(host).get_page(PAGE)
    assert (answer.status, answer.detail) == (PageStatus.DOWN, "connection refused")


def test_offline_asks_nothing(host):
    answer = client(host, offline=True).get_page(PAGE)
    assert answer.status is PageStatus.NOT_ASKED
    assert host.requests == []


def test_a_page_is_asked_once_even_from_several_threads(host):
    http = client(host)
    threads = [threading.Thread(target=http.get_page, args=(PAGE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(host.requests) == 1


def test_a_fresh_page_comes_from_the_disk(host, tmp_path):
    client(host, cache_dir=tmp_path).get_page(PAGE)
    answer = client(host, cache_dir=tmp_path).get_page(PAGE)
    assert answer.from_cache
    assert WHEEL in answer.text
    assert len(host.requests) == 1


def test_an_old_page_is_asked_for_with_its_etag(host, tmp_path):
    path = "/pyg/whl/torch-1.8.1+cu111.html"
    host.answers[path].headers["Cache-Control"] = "max-age=0"
    client(host, cache_dir=tmp_path).get_page(PAGE)
    assert client(host, cache_dir=tmp_path).get_page(PAGE).from_cache
    assert "If-None-Match" in host.requests[1][1]
    host.answers[path].body = b"<a href=new-1-py3-none-any.whl>"
    answer = client(host, cache_dir=tmp_path).get_page(PAGE)
    assert (answer.from_cache, "new-1" in answer.text) == (False, True)


def test_a_damaged_cache_is_no_obstacle(host, tmp_path):
    client(host, cache_dir=tmp_path).get_page(PAGE)
    for entry in tmp_path.iterdir():
        entry.write_text("{")
    assert client(host, cache_dir=tmp_path).get_page(PAGE).status is PageStatus.LISTED


def test_a_redirect_to_an_allowed_host_is_followed(host):
    host.put("/moved", b"<a href=x-1-py3-none-any.whl>", content_type="text/html")
    host.misbehave("/pyg/", f"redirect {host.url.replace('127.0.0.1', 'localhost')}/moved")
    assert client(host).get_page(PAGE).status is PageStatus.DOWN
    answer = client(host, trusted_hosts=["localhost"]).get_page(PAGE)
    assert answer.status is PageStatus.LISTED
    answer = client(host).get_page(PAGE, allowed_hosts=["localhost"])
    assert answer.status is PageStatus.LISTED


def test_credentials_stay_with_their_host(host):
    host.put("/moved", b"page", content_type="text/html")
    start = host.url.replace("//", "//user:secret@")
    host.misbehave("/private/", f"redirect {host.url.replace('127.0.0.1', 'localhost')}/moved")
    http = HttpClient(trusted_hosts=["localhost"], timeout=1.0)
    assert http.get_page(f"{start}/private/x").status is PageStatus.LISTED
    (first, first_headers), (second, second_headers) = host.requests
    assert (first, second) == ("/private/x", "/moved")
    assert first_headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in second_headers


@pytest.mark.parametrize(
    "url",
    ["http://data.pyg.org/x.html", "ftp://data.pyg.org/x", "file:///etc/passwd", "https:///x", "x"],
)
def test_only_https_is_asked(url):
    answer = HttpClient(timeout=0.5).get_page(url)
    assert answer.status is PageStatus.DOWN
    assert "only https" in answer.detail


def test_a_connection_serves_several_questions(host, target, tmp_path):
    """What is missing, what has moved, and what has not changed are short answers, read away."""
    path = "/pyg/whl/torch-1.8.1+cu111.html"
    host.answers[path].headers["Cache-Control"] = "max-age=0"
    client(host, cache_dir=tmp_path).get_page(PAGE)
    before = host.connections
    host.misbehave("/pyg/moved", f"redirect {host.url}{path}")
    http = HttpClient(mirrors=parse_mirrors(host.mirrors), cache_dir=tmp_path)
    assert http.get_page("https://data.pyg.org/missing.html").status is PageStatus.MISSING
    assert http.get_page("https://data.pyg.org/moved.html").status is PageStatus.LISTED
    assert http.get_page(PAGE).from_cache
    http.download(FILE, target, sha256=SHA)
    assert len(host.requests) == 6
    assert host.connections - before == 1


# --- files ---


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / WHEEL


def test_a_file(host, target):
    seen = []
    found = client(host).download(
        FILE, target, sha256=SHA, on_progress=lambda done, total: seen.append((done, total))
    )
    assert found == SHA
    assert target.read_bytes() == BYTES
    assert seen[-1] == (len(BYTES), len(BYTES))
    assert [entry.name for entry in target.parent.iterdir()] == [WHEEL]


def test_other_bytes_are_refused(host, target):
    with pytest.raises(HashMismatch, match=SHA):
        client(host).download(FILE, target, sha256="0" * 64)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    "fault", ["404", "403", "500", "close", "redirect https://elsewhere.example/x"]
)
def test_a_file_that_does_not_come(host, target, fault):
    host.misbehave(WHEEL, fault)
    with pytest.raises(DownloadFailed) as caught:
        client(host).download(FILE, target)
    assert FILE in caught.value.message
    assert caught.value.hint
    assert not target.exists()


def test_a_file_that_breaks_off_is_continued(host, target):
    host.misbehave(WHEEL, "truncated")
    with pytest.raises(DownloadFailed, match="broke off"):
        client(host).download(FILE, target)
    assert not target.exists()
    arrived = target.with_name(target.name + ".part").stat().st_size
    assert 0 < arrived < len(BYTES)
    host.behave()
    host.requests.clear()
    assert client(host).download(FILE, target, sha256=SHA) == SHA
    assert host.requests[0][1]["Range"] == f"bytes={arrived}-"
    assert target.read_bytes() == BYTES


def test_a_file_that_changed_meanwhile_starts_anew(host, target):
    host.misbehave(WHEEL, "truncated")
    with pytest.raises(DownloadFailed):
        client(host).download(FILE, target)
    host.behave()
    host.answers[f"/pyg/whl/torch-1.8.0+cu111/{WHEEL}"].body = BYTES[::-1]
    client(host).download(FILE, target)
    assert target.read_bytes() == BYTES[::-1]


def test_a_part_that_is_too_long_starts_anew(host, target):
    target.parent.mkdir()
    target.with_name(target.name + ".part").write_bytes(BYTES * 2)
    etag = f'"{SHA[:16]}"'
    target.with_name(target.name + ".part.json").write_text(json.dumps({"validator": etag}))
    assert client(host).download(FILE, target, sha256=SHA) == SHA


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_too_large(host, target, announced):
    if not announced:
        host.misbehave(WHEEL, "unannounced")
    with pytest.raises(DownloadFailed, match="limit of 1000"):
        client(host).download(FILE, target, size_limit=1000)
    assert not target.exists()
    assert not target.with_name(target.name + ".part").exists()


def test_offline_downloads_nothing(host, target):
    with pytest.raises(DownloadFailed, match="offline"):
        client(host, offline=True).download(FILE, target)


def test_credentials_are_not_shown(target):
    with pytest.raises(DownloadFailed) as caught:
        HttpClient(timeout=0.5).download("http://user:secret@data.pyg.org/x.whl", target)
    assert "secret" not in caught.value.message + caught.value.hint


def test_a_server_that_never_answers_is_not_waited_for(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        answer = HttpClient(timeout=0.5).get_page(f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        assert (answer.status, answer.detail) == (PageStatus.DOWN, "no answer in time")
        assert time.monotonic() - started < 30  # 60 is the patience


# --- hosts that keep us waiting, or send too much ---


@pytest.mark.parametrize(
    ("fault", "told"),
    [("drip-headers", "no answer in time"), ("drip", "the page took more than 0 s")],
)
def test_a_page_that_comes_byte_by_byte_is_not_waited_for(host, fault, told):
    host.misbehave("/pyg/", fault)
    started = time.monotonic()
    answer = client(host, patience=0.4).get_page(PAGE)
    assert (answer.status, answer.detail) == (PageStatus.DOWN, told)
    assert time.monotonic() - started < 20  # the host goes on for 30
    host.behave()
    assert client(host).get_page(PAGE).status is PageStatus.LISTED


@pytest.mark.parametrize("fault", ["drip", "drip-headers"])
def test_a_file_that_comes_too_slowly_is_given_up(host, target, fault):
    host.misbehave(WHEEL, fault)
    started = time.monotonic()
    with pytest.raises(
        DownloadFailed,
        match="no answer in time" if fault == "drip-headers" else "slower than 64 KiB",
    ):
        client(host, patience=0.4).download(FILE, target)
    assert time.monotonic() - started < 20  # the host goes on for 30
    assert not target.exists()


def test_a_pause_of_whoever_reads_is_not_the_hosts(host, target):
    def dawdle(done, total):
        time.sleep(0.1)

    assert client(host, patience=0.3).download(FILE, target, sha256=SHA, on_progress=dawdle) == SHA


def test_a_response_without_end_is_cut_at_the_limit(host, target):
    host.misbehave(WHEEL, "endless")
    with pytest.raises(DownloadFailed, match="more than the limit of 1000000 bytes"):
        client(host).download(FILE, target, size_limit=1_000_000)
    assert list(target.parent.iterdir()) == []


def test_a_page_without_end_is_cut_at_the_limit(host, monkeypatch):
    monkeypatch.setattr(http_body, "MAX_PAGE_SIZE", 2**20)
    host.misbehave("/pyg/", "endless")
    answer = client(host).get_page(PAGE)
    assert (answer.status, answer.detail) == (PageStatus.DOWN, "the page is larger than 1 MiB")
    assert answer.is_unread


def test_a_packed_page_is_unpacked(host):
    packed = gzip.compress(b"<a href='x.whl'>x</a>")
    host.put("/pyg/packed.html", packed, content_type="text/html", Content_Encoding="gzip")
    assert client(host).get_page("https://data.pyg.org/packed.html").text == "<a href='x.whl'>x</a>"


@pytest.mark.parametrize(
    ("encoding", "body", "told"),
    [
        ("gzip", gzip.compress(bytes(100 * 2**20), 1), "larger than 64 MiB"),
        ("gzip", gzip.compress(b"page")[:-4], "broke off before its end"),
        ("gzip", b"page", "cannot be unpacked"),
        (
            "gzip, gzip",
            gzip.compress(gzip.compress(b"page")),
            "packed in a way that was not asked for",
        ),
        ("br", b"page", "packed in a way that was not asked for"),
    ],
    ids=["bomb", "cut off", "not packed", "twice", "another"],
)
def test_a_page_that_is_packed_with_malice(host, encoding, body, told):
    host.put("/pyg/packed.html", body, content_type="text/html", Content_Encoding=encoding)
    answer = client(host).get_page("https://data.pyg.org/packed.html")
    assert answer.status is PageStatus.DOWN
    assert told in answer.detail


def test_a_packed_file_stays_packed(host, target):
    """As with pip: the bytes that the hash is of are those that were sent."""
    host.put("/pyg/x.whl", gzip.compress(b"wheel"), Content_Encoding="gzip")
    client(host).download("https://data.pyg.org/x.whl", target)
    assert gzip.decompress(target.read_bytes()) == b"wheel"


@pytest.mark.parametrize("fault", ["other-range", "unasked-range"])
def test_a_part_from_another_place_is_not_taken(host, target, fault):
    if fault == "other-range":
        host.misbehave(WHEEL, "truncated")
        with pytest.raises(DownloadFailed):
            client(host).download(FILE, target)
        host.behave()
    host.misbehave(WHEEL, fault)
    if fault == "other-range":  # what was wrong is thrown away, and the whole is asked for
        assert client(host).download(FILE, target, sha256=SHA) == SHA
    else:
        with pytest.raises(DownloadFailed, match="another part of the file"):
            client(host).download(FILE, target)


def test_a_body_that_is_longer_than_announced_is_cut(host, target):
    host.misbehave(WHEEL, "overrun")
    with pytest.raises(HashMismatch):
        client(host).download(FILE, target, sha256=SHA)


def test_a_length_that_is_no_number_is_no_length(host, target):
    host.misbehave(WHEEL, "strange-length")
    assert client(host).download(FILE, target, sha256=SHA) == SHA


def test_redirects_in_a_circle_end(host, target):
    host.misbehave(WHEEL, "redirect {path}")
    with pytest.raises(DownloadFailed, match="more than 5 redirects"):
        client(host).download(FILE, target)


def test_requests_is_imported_only_when_something_is_asked():
    code = (
        "import sys; from safe_install.system.http import HttpClient; "
        "HttpClient(offline=True).get_page('https://x/');"
        "assert 'requests' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
