"""The clones of `-e git+URL`: made beside the environment, and moved into pip's place by the
journal.

pip clones into its source folder (`--src`; in a virtual environment `<prefix>/src`) while it plans,
even in a dry run, and checks out another revision in an existing clone. So pip gets a temporary
folder with copies of the existing clones.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from pathlib import Path
from typing import AbstractSet, Iterable, Iterator, List, Optional, Tuple
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.record import make_entry, read_record, render_record
from safe_install.errors import Refused, hint_for_oserror
from safe_install.system import process

LARGEST_TEXT = 16 * 2**20  # bytes; larger files are not searched for paths
METADATA_OF_CLONES = frozenset({".git", ".hg", ".svn", ".bzr"})


class Clones:
    """The clones of one command. Paths are absolute; `work` is empty at first."""

    def __init__(self, work: Path, place: Path, prefix: Path) -> None:
        """`place`: pip's source folder; `prefix`: the folder that a transaction covers."""
        self.work = Path(os.path.realpath(work))
        self.place = place
        real_place, real_prefix = Path(os.path.realpath(place)), Path(os.path.realpath(prefix))
        self._is_covered = real_prefix in real_place.parents
        self._placed: List[Path] = []

    def copy_present(self, names: Iterable[NormalizedName]) -> None:
        """Copy the existing clones of these projects: pip updates a clone that it finds."""
        wanted = set(names)
        for name in _list_folders(self.place):
            if canonicalize_name(name) in wanted and not (self.work / name).exists():
                with _raising_refused("copied"):
                    shutil.copytree(str(self.place / name), str(self.work / name), symlinks=True)

    def names(self) -> List[str]:
        """The names of the clones; they are the same below `work` and `place`."""
        return _list_folders(self.work)

    def final_text(self, text: str) -> str:
        """A text of pip with the final URLs and paths of the clones in place of the temporary
        ones."""
        for old, new in self._spellings():
            text = text.replace(old, new)
        return text

    def source_of(self, url: str) -> Optional[Path]:
        """The present folder of the sources with this final URL; None for a URL of another
        place."""
        path = Path(unquote(urlsplit(url).path))
        if self.place not in path.parents:
            return None
        now = self.work / path.relative_to(self.place)
        if not now.is_dir():
            return None
        # An existing clone outside of the environment has the wanted commit (`refuse_uncovered`),
        # and is built in its place.
        return path if path.is_dir() and not self._is_covered else now

    # --- once the editable installs are staged ----------------------------------------------------

    def rewrite(self, stage: Path) -> None:
        """Replace the paths of `work` by final ones, in the staged files and in the clones."""
        changed = {path for path in _files_below(stage) if self._rewrite_file(path)}
        for path in changed:
            _remove_bytecode(path)
        if changed:
            _rewrite_records(stage, changed)
        for name in self.names():
            for path in _files_below(self.work / name):
                self._rewrite_file(path)

    def _rewrite_file(self, path: str) -> bool:
        """Replace the paths in a file; was there one? Only files of this run can have them: the
        folder's name is random."""
        if os.path.islink(path):
            return self._rewrite_link(path)
        if os.path.getsize(path) > LARGEST_TEXT:
            return False
        with open(path, "rb") as stream:
            content = stream.read()
        new = content
        for old_text, new_text in self._spellings():
            new = new.replace(os.fsencode(old_text), os.fsencode(new_text))
        if new == content or b"\0" in content:
            return False
        with open(path, "wb") as stream:
            stream.write(new)
        return True

    def _rewrite_link(self, path: str) -> bool:
        target = os.readlink(path)
        new = self.final_text(target)
        if new != target:
            os.unlink(path)
            os.symlink(new, path)
        return new != target

    def _spellings(self) -> Tuple[Tuple[str, str], ...]:
        """(path of `work`, path of `place`), plain and as in a URL."""
        plain = (f"{self.work}{os.sep}", f"{self.place}{os.sep}")
        return plain, (quote(plain[0]), quote(plain[1]))

    def move_into(self, stage: Path) -> Tuple[Path, ...]:
        """Move the clones into the stage; the folders that the change replaces as a whole. Empty
        if pip's source folder is outside of the prefix: see `place_uncovered`."""
        if not self._is_covered:
            return ()
        moved = []
        for name in self.names():
            target = Path(os.path.realpath(self.place)) / name
            with _raising_refused("moved"):
                staged = stage / str(target).lstrip("/")
                staged.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(str(self.work / name), str(staged))
            moved.append(target)
        return tuple(moved)

    def refuse_uncovered(self) -> None:
        """Raise Refused if an existing clone outside of the environment would get another
        revision."""
        if self._is_covered:
            return
        for name in self.names():
            there = self.place / name
            if os.path.lexists(there) and _read_commit(there) != _read_commit(self.work / name):
                raise Refused(
                    f"{there} would be moved to another revision, and lies outside of the "
                    "environment: that could not be taken back",
                    hint=f"Move it yourself and install it from there (-e {there}), or name another folder: --src DIR.",
                )

    def place_uncovered(self) -> None:
        """Put new clones in place if pip's source folder is outside of the prefix. `take_away`
        removes them again, until `keep` is called."""
        if self._is_covered:
            return
        for name in self.names():
            target = self.place / name
            if os.path.lexists(target):
                continue
            with _raising_refused("moved"):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(str(self.work / name), str(target))
            self._placed.append(target)

    def take_away(self) -> None:
        """Remove what `place_uncovered` put in place, after a failed change."""
        for target in self._placed:
            shutil.rmtree(str(target), ignore_errors=True)
        self.keep()

    def keep(self) -> None:
        """Keep what `place_uncovered` put in place, after a commit."""
        self._placed.clear()


@contextlib.contextmanager
def _raising_refused(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, shutil.Error) as error:
        hint = hint_for_oserror(error) if isinstance(error, OSError) and error.errno else ""
        raise Refused(f"a clone could not be {what}: {error}", hint=hint) from error


def _read_commit(clone: Path) -> Optional[str]:
    """The commit of a git clone; None for other folders."""
    if not (clone / ".git").exists():
        return None
    try:
        answer = process.run(["git", "-C", str(clone), "rev-parse", "HEAD"], timeout=60)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _list_folders(folder: Path) -> List[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _files_below(folder: Path) -> Iterator[str]:
    for parent, names, files in os.walk(folder):
        links = [name for name in names if os.path.islink(os.path.join(parent, name))]
        names[:] = [name for name in names if name not in METADATA_OF_CLONES]
        for name in [*files, *links]:
            path = os.path.join(parent, name)
            if os.path.islink(path) or os.path.isfile(path):
                yield path


def _remove_bytecode(path: str) -> None:
    """Remove the bytecode of a changed source."""
    folder, name = os.path.split(path)
    stem = name[: -len(".py")] if name.endswith(".py") else name
    start = os.path.join(folder, "__pycache__", stem)
    for bytecode in glob.glob(f"{glob.escape(start)}.*.pyc"):
        os.unlink(bytecode)


def _rewrite_records(stage: Path, changed: AbstractSet[str]) -> None:
    """Update the rows of changed files in RECORD, without the removed bytecode."""
    for record in [path for path in _files_below(stage) if path.endswith(".dist-info/RECORD")]:
        site = os.path.dirname(os.path.dirname(record))
        entries = []
        for entry in read_record(Path(record).parent):
            path = os.path.normpath(os.path.join(site, entry.path))
            if path in changed:
                entries.append(make_entry(entry.path, Path(path).read_bytes()))
            elif os.path.lexists(path) or not path.endswith(".pyc"):
                entries.append(entry)
        Path(record).write_bytes(render_record(entries))


def is_repository(text: str) -> bool:
    """Is the requirement a repository (`git+https://...`, `name @ git+ssh://...`), and not a file
    or folder?"""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and "+" in scheme
