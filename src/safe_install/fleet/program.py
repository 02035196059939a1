"""Makes the running program into one file, which nodes run without installing anything."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Sequence

from safe_install.environment.interpreter import read_environment
from safe_install.errors import PipFailed, ProbeFailed, Refused
from safe_install.fleet.engine import File
from safe_install.ports import World
from safe_install.snapshot.bundle_file import render_program
from safe_install.snapshot.program import OLDEST_PYTHON, Fetch, ProgramFiles, read_program
from safe_install.system.atomic_write import write_atomically
from safe_install.system.pip import PipRunner

FAILURE_KEPT = 3600.0  # seconds after a failed fetch in which it is not tried again


def prepare_program(
    cache: Path, fetch: Fetch, tell: Callable[[str], None] = lambda sentence: None
) -> File:
    """The program as one file in the cache; it is written once.

    `fetch`: downloads the program's dependencies for old Pythons, where the installed ones do not
    run there; its result is cached, too. Where it fails, the program needs a Python as new as the
    running one, and `tell` is called with a sentence about that. Errors: OSError.
    """
    folder = cache / "fleet"
    folder.mkdir(parents=True, exist_ok=True)
    program = _read(folder, fetch, tell)
    content = render_program(program.files, program.python)
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"safe-install-{sha256[:16]}.pyz"
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
    return File(path, sha256)


def fetch_with_pip(world: World) -> Fetch:
    """A function that downloads wheels with the pip of the running Python."""

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


def _read(folder: Path, fetch: Fetch, tell: Callable[[str], None]) -> ProgramFiles:
    try:
        return read_program(OLDEST_PYTHON, _cached_fetch(folder, fetch))
    except Refused as error:
        version = "{}.{}".format(*sys.version_info[:2])
        why = str(error.__cause__ or error)
        tell(f"nodes need Python {version} or newer: what older ones need cannot be had: {why}")
        return read_program(version, fetch)


def _cached_fetch(folder: Path, fetch: Fetch) -> Fetch:
    """A function that caches what `fetch` downloads, by the requirement lines with their hashes. An
    error is cached, too, for FAILURE_KEPT seconds."""

    def fetch_once(lines: Sequence[str]) -> Path:
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        kept = folder / f"needed-{digest[:16]}"
        failure = folder / f"needed-{digest[:16]}.failure"
        if kept.is_dir():
            return kept
        _raise_kept(failure)
        try:
            fresh = fetch(lines)
        except PipFailed as error:
            write_atomically(failure, error.message.encode("utf-8"))
            raise
        shutil.move(str(fresh), str(kept))
        return kept

    return fetch_once


def _raise_kept(failure: Path) -> None:
    """Raise PipFailed where the same download failed less than FAILURE_KEPT seconds ago."""
    try:
        is_fresh = abs(time.time() - failure.stat().st_mtime) < FAILURE_KEPT
        why = failure.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    if is_fresh:
        raise PipFailed(why)
