"""The running program as one file, which every node runs whatever is installed there."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Sequence

from safe_install.environment.interpreter import read_environment
from safe_install.errors import PipFailed, ProbeFailed, Refused
from safe_install.fleet.engine import File
from safe_install.ports import World
from safe_install.snapshot.bundle_file import render_program
from safe_install.snapshot.program import OLDEST_PYTHON, Fetch, ProgramFiles, read_program
from safe_install.system.atomic_write import write_atomically
from safe_install.system.pip import PipRunner


def prepare_program(cache: Path, fetch: Fetch) -> File:
    """The program, written into the cache once. `fetch`: brings what it needs on old Pythons, where
    what is installed beside it does not run there; asked once, too.

    Where that cannot be had, it needs a Python as new as the one that runs us. Errors: OSError.
    """
    folder = cache / "fleet"
    folder.mkdir(parents=True, exist_ok=True)
    program = _read(folder, fetch)
    content = render_program(program.files, program.python)
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"safe-install-{sha256[:16]}.pyz"
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
    return File(path, sha256)


def fetch_with_pip(world: World) -> Fetch:
    """Brings wheels with the pip of the Python that runs us."""

    def fetch(lines: Sequence[str]) -> Path:
        folder = world.cache_dir / "fleet"
        try:
            environment = read_environment(Path(sys.executable), None)
            pip = PipRunner(environment.interpreter, cache_dir=world.cache_dir)
        except ProbeFailed as error:
            raise PipFailed(error.message, hint=error.hint) from error
        fresh = Path(tempfile.mkdtemp(prefix="fetched-", dir=folder))
        try:
            options = ("--only-binary", ":all:")
            pip.fetch(lines, fresh, options=options, on_line=lambda line: None)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return fresh

    return fetch


def _read(folder: Path, fetch: Fetch) -> ProgramFiles:
    try:
        return read_program(OLDEST_PYTHON, _once(folder, fetch))
    except Refused:
        return read_program("{}.{}".format(*sys.version_info[:2]), fetch)


def _once(folder: Path, fetch: Fetch) -> Fetch:
    """What was fetched is kept, by the lines that name it with their hashes."""

    def fetch_once(lines: Sequence[str]) -> Path:
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        kept = folder / f"needed-{digest[:16]}"
        if not kept.is_dir():
            fresh = fetch(lines)
            shutil.move(str(fresh), str(kept))
        return kept

    return fetch_once
