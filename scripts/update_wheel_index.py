#!/usr/bin/env python3
"""Renews the documents of the wheel index from the live hosts. For maintainers.

    scripts/update_wheel_index.py [--write] [--host NAME] [--folder DIR] [PROJECT...]

Asks the hosts of the projects (all of them without names), prints how the documents would change,
and changes them only with --write. Exit status: 0 no difference, 1 there is one (or it was
written), 2 usage. What every host answered is printed on stderr: rows are replaced only where the
page that would list them was read. A host that is down, a page that is missing, empty or no page of
files takes nothing away. Mirrors: SAFE_INSTALL_MIRRORS, as in the program.

torch is one of the names, and comes first: what is read of its releases counts for the projects of
the same run. wheel_index_update/torch_merging.py has the rules.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from packaging.utils import canonicalize_name

from safe_install.errors import IndexInvalid, UsageError
from safe_install.events import Reporter
from safe_install.index.catalog import TABLES, bundled_date, torch_table
from safe_install.index.document import (
    parse_json,
    parse_project,
    parse_torch_table,
    render_document,
)
from safe_install.index.facts import Project, TorchTable
from safe_install.pipeline.client import make_client, named_mirrors
from safe_install.ports import World
from safe_install.system.mirrors import parse_mirrors
from wheel_index_update.asking import Asker, hosts_of
from wheel_index_update.cells import Json
from wheel_index_update.notes import Notes, escape
from wheel_index_update.remote_wheel import RemoteWheels
from wheel_index_update.renewal import renew
from wheel_index_update.torch_renewal import TORCH, Sources, hosts_of_torch, renew_torch

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "wheel_index"


def read_documents(folder: Path, names: Sequence[str]) -> Dict[Path, str]:
    """The texts of the documents, that of torch first. Errors: UsageError for a name that has
    none."""
    wanted = [canonicalize_name(name) for name in names]
    paths = [folder / f"{name}.json" for name in wanted] or sorted(folder.glob("*.json"))
    paths = [path for path in dict.fromkeys(paths) if path.stem not in TABLES - {TORCH}]
    paths.sort(key=lambda path: path.stem != TORCH)
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise UsageError(
            f"{missing[0] if missing else folder} is no document of a project",
            hint="see wheel_index/",
        )
    return {path: path.read_text("utf-8") for path in paths}


def read_torch(folder: Path) -> TorchTable:
    path = folder / "torch.json"
    if not path.is_file():
        return torch_table()
    return parse_torch_table(parse_json(path.read_text("utf-8"), path.name), path.name)


def run(options: argparse.Namespace, today: str, cache: Path) -> int:
    """Renew the chosen documents one after the other; 1 when any differs."""
    texts = read_documents(options.folder, options.project)
    documents = {path: parse_object(text, path.name) for path, text in texts.items()}
    table = read_torch(options.folder)
    asked = [
        path
        for path, document in documents.items()
        if is_asked(path, document, table, options.host)
    ]
    if options.host and not asked:
        raise UsageError(
            f"none of the projects has a host {options.host!r}",
            hint="its name is `host` in the document",
        )
    world = World(environ=os.environ, reporter=Reporter(), cache_dir=cache)
    sources = Sources(
        Asker(make_client(world)), make_wheel_reader(world), read_companions(options.folder)
    )
    differs = False
    for path in asked:
        text, table = renew_text(path, texts[path], table, sources, options.host, today)
        if text != texts[path]:
            differs = True
            print_difference(path.name, texts[path], text)
            if options.write:
                path.write_bytes(text.encode("utf-8"))
    if differs and options.write and today > bundled_date():
        print(
            f"wheel_index/__init__.py: DATE is {bundled_date()}, older than what was written",
            file=sys.stderr,
        )
    return int(differs)


def parse_object(text: str, where: str) -> Json:
    """The JSON object of a document. Errors: IndexInvalid."""
    document = parse_json(text, where)
    if not isinstance(document, dict):
        raise IndexInvalid(f"{where} must be an object", hint="Write it as the others are.")
    return document


def is_asked(path: Path, document: Json, table: TorchTable, host: str) -> bool:
    """Has the document the host that is named, or one that is asked without a name?"""
    if path.stem == TORCH:
        return bool(hosts_of_torch(table, host))
    return bool(hosts_of(parse_project(document, path.name), host))


def renew_text(
    path: Path, old: str, table: TorchTable, sources: Sources, host: str, today: str
) -> Tuple[str, TorchTable]:
    """The document after its hosts were asked, as a text, and what is known of torch then."""
    notes = Notes()
    document = parse_object(old, path.name)
    try:
        if path.stem == TORCH:
            new = renew_torch(document, table, sources, notes, wanted=host, today=today)
            table = parse_torch_table(new, path.name)
        else:
            new = renew(document, table, sources.asker, notes, wanted=host, today=today)
        text = render_document(new)
    except IndexInvalid as error:
        notes.add(f"what the hosts say makes no document, it stays as it is: {escape(str(error))}")
        text = old
    for line in notes.lines:
        print(f"{path.stem}: {line}", file=sys.stderr)
    return text, table


def make_wheel_reader(world: World) -> RemoteWheels:
    mirrors = parse_mirrors(world.environ.get("SAFE_INSTALL_MIRRORS", ""), named_mirrors())
    return RemoteWheels(mirrors, world.network)


def read_companions(folder: Path) -> List[Project]:
    """What is released with torch, as far as the folder has it."""
    paths = [folder / f"{name}.json" for name in ("torchvision", "torchaudio")]
    return [
        parse_project(parse_json(path.read_text("utf-8"), path.name), path.name)
        for path in paths
        if path.is_file()
    ]


def print_difference(name: str, old: str, new: str) -> None:
    """As a unified diff."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    sys.stdout.writelines(lines)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="update_wheel_index.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "project", nargs="*", metavar="PROJECT", help="names of projects; all of them without one"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="change the documents; without it they are only compared",
    )
    parser.add_argument(
        "--host",
        default="",
        metavar="NAME",
        help="ask only this host (optional hosts must be named)",
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, metavar="DIR", help="the folder with the documents"
    )
    options = parser.parse_args(arguments)
    # Pages are asked anew every time: what a cache remembers would hide that a host is down.
    with tempfile.TemporaryDirectory() as cache:
        try:
            return run(options, datetime.date.today().isoformat(), Path(cache))
        except (UsageError, IndexInvalid) as error:
            print(f"update_wheel_index.py: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
