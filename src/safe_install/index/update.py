"""Installs a newer wheel index into the user's data folder, completely or not at all.

The index is one file, a JSON object with `schema`, `date` and `documents`, the documents of
`wheel_index/` by name. It has code that is run in smoke tests, and the hosts that are trusted.
Therefore it is only used with the sha256 that the user gives, and only if every document is valid.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Dict, TypedDict

from safe_install.errors import IndexInvalid
from safe_install.index.catalog import POINTER, TABLES, update_folder
from safe_install.index.document import (
    SCHEMA,
    parse_cuda_table,
    parse_json,
    parse_mirrors_table,
    parse_project,
    parse_torch_table,
    render_document,
)
from safe_install.system.atomic_write import write_atomically

MAX_SIZE = 64 * 1024 * 1024  # bytes
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PARSERS = {"torch": parse_torch_table, "cuda": parse_cuda_table, "mirrors": parse_mirrors_table}


class IndexFile(TypedDict):
    """The content of an index file."""

    schema: int
    date: str  # "2026-11-30"
    documents: Dict[str, Dict[str, object]]  # by their names


def read_bundle(text: str, where: str) -> IndexFile:
    """The content of an index file. All documents are checked. Errors:
    IndexInvalid, which names the file `where`."""
    value = parse_json(text, where)
    keys = {"schema", "date", "documents"}
    if not isinstance(value, dict) or set(value) != keys or value["schema"] != SCHEMA:
        raise IndexInvalid(
            f"{where} is no wheel index of schema {SCHEMA}",
            hint="A newer index may need a newer torch-safe-install.",
        )
    if not isinstance(value["date"], str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value["date"]):
        raise IndexInvalid(
            f"{where}: its date is no date", hint="scripts/build_wheel_index makes such a file"
        )
    documents = value["documents"]
    if not isinstance(documents, dict) or not set(_PARSERS) <= set(documents):
        raise IndexInvalid(
            f"{where}: tables are missing", hint="scripts/build_wheel_index makes such a file"
        )
    for name, document in documents.items():
        _check_document(name, document, where)
    return {"schema": value["schema"], "date": value["date"], "documents": documents}


def _check_document(name: str, document: object, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise IndexInvalid(
            f"{where}: {name!r} is no name of a document", hint="Lower case and dashes."
        )
    if name in _PARSERS:
        _PARSERS[name](document, f"{name}.json")
    elif name not in TABLES and parse_project(document, f"{name}.json").name != name:
        raise IndexInvalid(
            f"{where}: {name} holds another project", hint="Name a document after its project."
        )


def install_update(text: str, *, url: str) -> Path:
    """Check the text of an index file and write it below the data folder. The result: the folder of
    its documents. Errors: IndexInvalid.

    `url`: where it comes from. The pointer is replaced last, so an interrupted update has no
    effect.
    """
    bundle = read_bundle(text, url)
    parent = update_folder()
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{bundle['date']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    hashes = {}
    for name, document in bundle["documents"].items():
        data = render_document(document).encode("utf-8")
        hashes[name] = hashlib.sha256(data).hexdigest()
        write_atomically(folder / f"{name}.json", data)
    pointer = {"date": bundle["date"], "folder": folder.name, "sha256": hashes, "url": url}
    write_atomically(parent / POINTER, json.dumps(pointer, indent=1).encode())
    for other in parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder
