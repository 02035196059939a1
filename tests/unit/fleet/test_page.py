"""The page of a run: whatever a node is called, it is text."""

from __future__ import annotations

from html.parser import HTMLParser

from safe_install.fleet.page import render_page

EVIL = "<script>alert(1)</script>\" onmouseover='x' &amp;"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    tags = Tags()
    tags.feed(page)
    return tags


def test_all_is_escaped():
    row = {
        "name": EVIL,
        "torch": EVIL,
        "outcome": EVIL,
        "before": {EVIL: None},
        "after": {EVIL: EVIL},
        "reason": EVIL,
    }
    group = {"kind": EVIL, "nodes": [EVIL], "wheels": [EVIL]}
    alike = {
        "nodes": [EVIL],
        "differs": [{"subject": EVIL, "here": EVIL, "most": EVIL}],
        "reason": "",
    }
    details = {"verb": EVIL, "run": EVIL, "nodes": [row], "groups": [group], "alike": [alike]}
    details.update(notes=[EVIL], joined=[EVIL])
    tags = read(render_page(EVIL, EVIL, details))
    assert "script" not in tags.tags
    assert set(tags.attributes) <= {"lang", "charset", "name", "content", "http-equiv", "class"}
    assert "".join(tags.text).count("alert(1)") >= 16


def test_what_the_engine_left_is_on_it():
    details = {"verb": "install", "nodes": [], "notes": ["n1: start it again"], "joined": ["n9"]}
    text = " ".join(read(render_page("Done.", "installed", details)).text)
    assert "n1: start it again" in text
    assert "joined since: n9" in text


def test_it_needs_nothing_else():
    page = render_page("Done.", "installed", {"verb": "install", "nodes": []})
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_a_run_is_named_where_there_is_one():
    details = {"verb": "install", "run": "20261130T010203Z-abcdef"}
    page = render_page("Done.", "installed", details)
    assert "<p>Run <code>20261130T010203Z-abcdef</code>, installed.</p>" in page
    assert "<p>Run " not in render_page("Done.", "healthy", {"verb": "verify"})
