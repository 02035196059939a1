from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safe_install.index import pages
from safe_install.index.pages import parse_page

SHA = "a" * 64
PYG = "https://data.pyg.org/whl/torch-1.8.1%2Bcu111.html"
FILE = "torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
WHERE = f"https://data.pyg.org/whl/torch-1.8.0%2Bcu111/{FILE}"


@pytest.mark.parametrize(
    "href",
    [
        f"torch-1.8.0%2Bcu111/{FILE}",
        f"./torch-1.8.0%2Bcu111/{FILE}",
        f"/whl/torch-1.8.0%2Bcu111/{FILE}",
        f"https://data.pyg.org/whl/torch-1.8.0%2Bcu111/{FILE}",
    ],
)
@pytest.mark.parametrize(
    "anchor", ['<a href="{}">x</a><br/>', "<A class=y HREF='{}' >x</A>", "<a\nhref={}>x"]
)
def test_every_way_to_write_a_link(anchor, href):
    (link,) = parse_page(anchor.format(href), PYG)
    assert (link.url, link.filename, link.sha256, link.found_in) == (WHERE, FILE, None, PYG)


def test_a_page_of_download_pytorch_org():
    page = (
        "<!DOCTYPE html><html><body><h1>Links for torchvision</h1>"
        f'<a href="/whl/cu121/torchvision-0.18.0%2Bcu121-cp38-cp38-linux_x86_64.whl#sha256={SHA}" '
        f'data-dist-info-metadata="sha256={SHA}" data-core-metadata="sha256={SHA}" '
        'data-requires-python="&gt;=3.8">torchvision-0.18.0+cu121-cp38-cp38-linux_x86_64.whl</a><br/>'
        "</body></html><!--TIMESTAMP 17-->"
    )
    (link,) = parse_page(page, "https://download.pytorch.org/whl/cu121/torchvision/")
    assert link.url == (
        "https://download.pytorch.org/whl/cu121/torchvision-0.18.0%2Bcu121-cp38-cp38-linux_x86_64.whl"
    )
    assert link.filename == "torchvision-0.18.0+cu121-cp38-cp38-linux_x86_64.whl"
    assert (link.sha256, link.requires_python, link.yanked) == (SHA, ">=3.8", None)


@pytest.mark.parametrize(
    ("written", "yanked"), [("", "yanked"), ('="broken &amp; bad"', "broken & bad")]
)
def test_yanked_in_html(written, yanked):
    (link,) = parse_page(f'<a href="{FILE}" data-yanked{written}>x</a>', PYG)
    assert link.yanked == yanked


def test_json():
    entry = {
        "filename": FILE,
        "url": f"https://wheels.astral.sh/artifacts/{SHA}/{FILE}",
        "hashes": {"sha256": SHA},
        "size": 12,
        "requires-python": ">=3.9",
        "yanked": "old",
    }
    text = json.dumps({"meta": {"api-version": "1.4"}, "files": [entry]})
    (link,) = parse_page(text, "https://wheels.astral.sh/simple/cu128/torch-scatter/")
    assert (link.sha256, link.size, link.requires_python, link.yanked) == (SHA, 12, ">=3.9", "old")


def test_a_page_of_more_links_than_are_read_is_cut(monkeypatch):
    monkeypatch.setattr(pages, "MAX_LINKS", 2)
    text = "".join(f'<a href="x-{number}-py3-none-any.whl">x</a>' for number in range(5))
    assert [link.filename for link in parse_page(text, PYG)] == [
        "x-0-py3-none-any.whl",
        "x-1-py3-none-any.whl",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        '{"files": 3}',
        '{"files": [3, null, {"url": 3}, {"url": "x.whl", "filename": "y.whl"}]}',
        "[" * 100_000,
        '{"files":' + "[" * 100_000,
        "<a href=>",
        '<a href="x.txt">',
        '<a href="http://[bad/x.whl">',
        "<a href='..%2F..%2Fetc%2Fx.whl'>",
        "<a href='..%5Cx.whl'>",
        "<a href='" + "x" * 5000 + ".whl'>",
        "<!-- <a href='x-1-py3-none-any.whl'> -->",
    ],
)
def test_junk_gives_no_links(text):
    assert parse_page(text, PYG) == ()


def test_a_hash_that_is_none_is_no_hash():
    (link,) = parse_page(f'<a href="{FILE}#sha256=abc">x</a>', PYG)
    assert link.sha256 is None


@given(st.text())
def test_never_raises(text):
    parse_page(text, PYG)
    parse_page("{" + text, PYG)
    parse_page(f"<a {text} href='{text}'>", PYG)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_never_raises_on_any_json(value):
    parse_page(json.dumps({"files": value}), PYG)
    parse_page(
        json.dumps({"files": [{"url": "a.whl", "hashes": value, "size": value, "yanked": value}]}),
        PYG,
    )


@pytest.mark.parametrize("piece", ['<a href="', "<a '", "<a ", "<!--", '<a x="y'])
def test_junk_costs_little(piece):
    started = time.process_time()
    parse_page(piece * (1_000_000 // len(piece)), PYG)
    assert time.process_time() - started < 3


def test_a_long_page_is_read_quickly():
    page = "\n".join(
        f'<a href="torch_scatter-2.0.{n}-cp38-cp38-linux_x86_64.whl">x</a><br/>'
        for n in range(20_000)
    )
    started = time.process_time()
    assert len(parse_page(page, PYG)) == 20_000
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "href",
    ["file:///tmp/{}", "FILE:/tmp/{}", "file:{}", "javascript:{}", "ftp://host/{}", "data:{}"],
)
@pytest.mark.parametrize("form", ["html", "json"])
def test_a_host_has_no_say_over_the_files_of_this_machine(href, form):
    href = href.format(FILE)
    text = (
        f'<a href="{href}">x</a>'
        if form == "html"
        else json.dumps({"files": [{"url": href, "filename": FILE}]})
    )
    assert parse_page(text, PYG) == ()
    assert parse_page(f'<base href="file:///tmp/"><a href="{FILE}">x</a>', PYG) == ()


def test_a_page_on_this_machine_may_list_its_files():
    (link,) = parse_page(f'<a href="file:///tmp/{FILE}">x</a>', "file:///srv/page.html")
    assert link.url == f"file:///tmp/{FILE}"


def test_a_number_of_a_million_digits_costs_nothing():
    text = json.dumps({"files": [{"url": f"https://h/{FILE}", "size": 5}]}).replace(
        ": 5", ": " + "9" * 1_000_000
    )
    started = time.process_time()
    (link,) = parse_page(text, PYG)
    assert link.size is None
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("metadata", "promised"),
    [({"sha256": SHA.upper()}, SHA), ({"md5": "0"}, ""), (True, ""), (False, None), ("yes", None)],
)
def test_the_metadata_that_a_json_page_announces(metadata, promised):
    text = json.dumps({"files": [{"url": f"https://h/{FILE}", "core-metadata": metadata}]})
    (link,) = parse_page(text, PYG)
    assert link.metadata == promised
