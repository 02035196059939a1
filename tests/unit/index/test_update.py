"""A newer wheel index is taken whole or not at all, and what lies in its place is believed only as
it was brought."""

from __future__ import annotations

import json

import pytest

from safe_install.errors import IndexInvalid
from safe_install.index import catalog
from safe_install.index.document import SCHEMA
from safe_install.index.update import install_update, read_bundle

WHERE = "https://index.example/index.json"
LATER, LATEST = "2099-01-01", "2099-02-01"


def make_bundle(date=LATER, documents=None, **changes):
    """Of the documents that came with the program."""
    names = ("torch", "cuda", "mirrors", "torch-scatter")
    found = {name: catalog.read_document(name) for name in names}
    for name, document in (documents or {}).items():
        found[name] = document
        if document is None:
            del found[name]
    return {"schema": SCHEMA, "date": date, "documents": found, **changes}


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """Nobody's updates but the test's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    catalog.clear_caches()
    yield catalog.update_folder()
    monkeypatch.undo()
    catalog.clear_caches()


def test_what_is_in_order_is_taken():
    bundle = make_bundle()
    assert read_bundle(json.dumps(bundle), WHERE) == bundle


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "is no wheel index of schema"),
        ({"schema": SCHEMA}, "is no wheel index of schema"),
        (make_bundle(schema=SCHEMA + 1), "is no wheel index of schema"),
        (make_bundle(more=1), "is no wheel index of schema"),
        (make_bundle(date="tomorrow"), "its date is no date"),
        (make_bundle(date=20990101), "its date is no date"),
        (make_bundle(documents={"torch": None}), "tables are missing"),
        ({**make_bundle(), "documents": []}, "tables are missing"),
        (make_bundle(documents={"../torch": {}}), "is no name of a document"),
        (make_bundle(documents={"torch": {"schema": SCHEMA}}), "torch.json"),
        (make_bundle(documents={"my-project": {"schema": SCHEMA}}), "my-project.json"),
        (
            make_bundle(documents={"my-project": catalog.read_document("torch-scatter")}),
            "my-project holds another project",
        ),
    ],
)
def test_what_is_not_in_order_is_refused(value, words, data_folder):
    with pytest.raises(IndexInvalid, match=words) as raised:
        install_update(json.dumps(value), url=WHERE)
    assert raised.value.hint
    assert not data_folder.exists()


def test_the_newest_is_in_force_and_alone(data_folder):
    first = install_update(json.dumps(make_bundle()), url=WHERE)
    second = install_update(json.dumps(make_bundle(LATEST)), url=WHERE)
    catalog.clear_caches()
    assert catalog.index_date() == LATEST
    assert catalog.current_update().folder == second
    assert not first.exists()
    assert catalog.known_projects() == {"torch-scatter"}


def test_the_programs_own_facts_serve_where_they_are_newer(data_folder):
    install_update(json.dumps(make_bundle("2001-01-01")), url=WHERE)
    catalog.clear_caches()
    assert catalog.current_update() is None
    assert catalog.index_date() == catalog.bundled_date()
    assert "torch-sparse" in catalog.known_projects()


@pytest.mark.parametrize("text", ["{}", "[]", '{"date": "2099-01-01"}'])
def test_a_damaged_pointer_says_what_to_remove(text, data_folder):
    install_update(json.dumps(make_bundle()), url=WHERE)
    (data_folder / catalog.POINTER).write_text(text)
    catalog.clear_caches()
    with pytest.raises(IndexInvalid, match="is damaged") as raised:
        catalog.current_update()
    assert f"remove {data_folder}" in raised.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text("{}"), "is not the document that was fetched"),
    ],
)
def test_a_document_is_believed_only_as_it_was_brought(change, words, data_folder):
    folder = install_update(json.dumps(make_bundle()), url=WHERE)
    change(folder / "torch-scatter.json")
    catalog.clear_caches()
    with pytest.raises(IndexInvalid, match=words) as raised:
        catalog.load_project("torch-scatter")
    assert f"remove {data_folder}" in raised.value.hint
    assert catalog.torch_table()  # the others are what they were


@pytest.mark.parametrize("name", ["torch-nothing", "../torch"])
def test_a_project_that_is_not_in_the_index(name):
    with pytest.raises(IndexInvalid, match="is not in the wheel index"):
        catalog.load_project(name)
