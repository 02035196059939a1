"""Puts a newer wheel index into the person's data folder, whole or not at all.

The file is one JSON object: `schema`, `date`, and `documents`, each as it stands in `wheel_index/`.
It says what code is run in a smoke test and which hosts are believed: so it is taken only with the
sha256 that the person gives, and only when every document in it is valid.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict

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


def read_bundle(text: str, where: str) -> Dict[str, Any]:
    """The file as an object with `date` and `documents`, every document checked. Raises
    IndexInvalid."""
    value = parse_json(text, where)
    if (
        not isinstance(value, dict)
        or set(value) != {"schema", "date", "documents"}
        or value["schema"] != SCHEMA
    ):
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
    return value


def put_in_place(text: str, *, url: str) -> Path:
    """Write a checked file below the data folder; the pointer to it is moved last. Raises
    IndexInvalid."""
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
