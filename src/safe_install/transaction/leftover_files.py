"""Finds the leftovers of an interrupted pip, and puts restored files into the stage of a
transaction."""

from __future__ import annotations

import glob
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import (
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.utils import canonicalize_name

from safe_install.environment.record import parse_record, read_record_text
from safe_install.errors import Refused
from safe_install.transaction.asides import find_asides
from safe_install.transaction.leftovers import (
    LeftoverDecision,
    Recorded,
    SetAsideFolder,
    is_name_aside,
)
from safe_install.transaction.moves import Areas, is_within
from safe_install.transaction.ownership import Resolver, read_hashes
from safe_install.transaction.recovery.disk import is_bytecode
from safe_install.transaction.recovery.records import has_hash
from safe_install.transaction.walk import walk_files

_HEADER = re.compile(r"^(Name|Version):[ \t]*(.+?)[ \t\r]*$", re.M)


def read_leftovers(areas: Areas) -> Tuple[Tuple[SetAsideFolder, ...], Tuple[Recorded, ...]]:
    """The renamed folders in this environment, and the distributions that they may belong to."""
    reader = _LeftoverReader(areas)
    return reader.asides(), reader.recorded()


def _read_files(folder: str) -> Iterator[str]:
    """The files below a folder, relative to it."""
    for path in walk_files(folder):
        yield os.path.relpath(path, folder)


def _read_header(folder: str) -> Optional[Tuple[str, str]]:
    """(name, version) in the METADATA of a dist-info folder; None if one is missing."""
    try:
        with open(os.path.join(folder, "METADATA"), encoding="utf-8", errors="replace") as file:
            text = file.read().split("\n\n", 1)[0]
    except OSError:
        return None
    header = dict(reversed(_HEADER.findall(text)))  # reversed: the first of two lines counts
    if not {"Name", "Version"} <= set(header):
        return None
    return header["Name"], header["Version"]


class _Record:
    """A dist-info folder, with the rows of its RECORD as real paths."""

    def __init__(
        self, name: str, version: str, folder: str, home: str, rows: Mapping[str, str]
    ) -> None:
        self.name, self.version, self.folder, self.home = name, version, folder, home
        self.rows = rows  # path -> hash as written, or ""
        self.directories = _find_directories(rows)

    @property
    def is_whole(self) -> bool:
        """Is the dist-info in place, and every file but bytecode?"""
        if self.folder != self.home:
            return False
        return all(os.path.lexists(path) for path in self.rows if not is_bytecode(path))


def _find_directories(rows: Iterable[str]) -> Set[str]:
    found: Set[str] = set()
    for path in rows:
        parent = os.path.dirname(path)
        while parent not in found and parent != "/":
            found.add(parent)
            parent = os.path.dirname(parent)
    return found


def _is_accounted_for(files: Iterable[str], home: str, record: _Record) -> bool:
    """Is each of these relative paths a row of this RECORD, below the folder `home`? Bytecode is
    ignored."""
    return all(os.path.join(home, file) in record.rows or is_bytecode(file) for file in files)


class _LeftoverReader:
    """Searches the site-packages folders, and the folders that pip moves single files to."""

    def __init__(self, areas: Areas) -> None:
        self._areas, self._resolver = areas, Resolver()
        pattern = os.path.join(glob.escape(tempfile.gettempdir()), "pip-uninstall-*")
        self._kept_by_pip = sorted(glob.glob(pattern))
        records: List[_Record] = []
        paths: Set[str] = set()
        for site in areas.sites:
            records += self._read_site(site)
            paths.update(find_asides(site))
        suspects = [record for record in records if not record.is_whole]
        for record in suspects:
            folders = [folder for folder in record.directories if self._may_move(folder)]
            for parent in {os.path.dirname(folder) for folder in folders}:
                paths.update(find_asides(parent))
        self._files = {path: set(_read_files(path)) for path in sorted(paths)}
        self._records = self._select(records, suspects)
        self._all = records

    def _may_move(self, folder: str) -> bool:
        return folder not in self._areas.structure and self._areas.find_objection(folder) is None

    def _select(self, records: Sequence[_Record], suspects: Sequence[_Record]) -> List[_Record]:
        names = {record.name for record in records if self._find_homes(record)}
        names.update(record.name for record in suspects if any(self._find_missing_kept(record)))
        return [record for record in records if record.name in names]

    def _read_site(self, site: str) -> Iterator[_Record]:
        for entry in sorted(os.listdir(site)) if os.path.isdir(site) else ():
            folder = os.path.join(site, entry)
            if not entry.endswith(".dist-info") or os.path.islink(folder):
                continue
            record = self._read_record(site, folder)
            if record is not None:
                yield record

    def _read_record(self, site: str, folder: str) -> Optional[_Record]:
        text = read_record_text(Path(folder))
        header = _read_header(folder)
        if text is None or header is None:
            return None
        rows: Dict[str, str] = {}
        home = folder
        for entry in parse_record(text):
            path = self._resolver.resolve(site, entry.path)
            if path is None or not self._may_move(path):
                continue
            rows[path] = entry.hash
            parent, name = os.path.split(path)
            if name == "RECORD" and os.path.dirname(parent) == site:
                home = parent
        folder_name = os.path.basename(folder)
        is_aside = folder_name.startswith("~")
        if is_aside and not is_name_aside(folder_name, os.path.basename(home)):
            return None
        project, version = str(canonicalize_name(header[0])), header[1]
        return _Record(project, version, folder, home if is_aside else folder, rows)

    def _find_homes(self, record: _Record) -> Dict[str, str]:
        """Renamed folder -> its original path, if all its files are rows of this RECORD."""
        claimed: Dict[str, str] = {}
        for path, files in self._files.items():
            homes = [folder for folder in record.directories if _is_renamed(path, folder)]
            fitting = [home for home in homes if _is_accounted_for(files, home, record)]
            if len(fitting) == 1:
                claimed[path] = fitting[0]
        return claimed

    def asides(self) -> Tuple[SetAsideFolder, ...]:
        """Every renamed folder that was found."""
        return tuple(self._make_aside(path) for path in self._files)

    def _make_aside(self, path: str) -> SetAsideFolder:
        with os.scandir(os.path.dirname(path)) as entries:
            folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        homes = [folder for folder in folders if _is_renamed(path, folder)]
        in_place = [record for record in self._all if record.folder == record.home]
        names: Set[str] = set()
        is_certain = True
        for home in homes:
            owners = [record for record in in_place if home in record.directories]
            names.update(record.name for record in owners)
            is_certain = is_certain and bool(owners) and all(record.is_whole for record in owners)
        return SetAsideFolder(path, tuple(homes), frozenset(names) if is_certain else frozenset())

    def recorded(self) -> Tuple[Recorded, ...]:
        """Every distribution to which a renamed folder may belong. Contents are compared with the
        hashes in RECORD."""
        return tuple(self._describe(record) for record in self._records)

    def _describe(self, record: _Record) -> Recorded:
        claimed = self._find_homes(record)
        if record.is_whole:
            return self._make(record, claimed, is_whole=True)
        needed: Set[str] = set()
        elsewhere: Dict[str, str] = {}
        lost: List[str] = []
        rest = {path: written for path, written in record.rows.items() if written}
        for aside, home in claimed.items():
            below = {path: rest.pop(path) for path in list(rest) if is_within(path, home)}
            if os.path.isdir(home) and _have_hashes(below):
                continue
            needed.add(aside)
            lost += _find_lost(below, home, aside)
        for path, written in rest.items():
            if has_hash(path, written):
                continue
            kept = self._find_kept(path, written)
            if kept is None:
                lost.append(path)
            else:
                elsewhere[path] = kept
        return self._make(
            record,
            claimed,
            needed=frozenset(needed),
            kept_elsewhere=elsewhere,
            lost=tuple(sorted(lost)),
        )

    def _make(
        self,
        record: _Record,
        claimed: Mapping[str, str],
        *,
        needed: FrozenSet[str] = frozenset(),
        kept_elsewhere: Optional[Mapping[str, str]] = None,
        is_whole: bool = False,
        lost: Tuple[str, ...] = (),
    ) -> Recorded:
        return Recorded(
            record.name,
            record.version,
            record.folder,
            record.home,
            claimed,
            needed=needed,
            kept_elsewhere=kept_elsewhere or {},
            is_whole=is_whole,
            lost=lost,
        )

    def _find_missing_kept(self, record: _Record) -> Iterator[str]:
        for path, written in record.rows.items():
            if written and not os.path.lexists(path) and self._find_kept(path, written) is not None:
                yield path

    def _find_kept(self, path: str, written: str) -> Optional[str]:
        """The file of this user in pip's temporary folder with this content; pip moves single files
        there."""
        parts = path.strip("/").split("/")
        for folder in self._kept_by_pip:
            for start in range(len(parts) - 1, 0, -1):
                candidate = os.path.join(folder, *parts[start:])
                if _is_own_file(candidate) and has_hash(candidate, written):
                    return candidate
        return None


def _is_renamed(path: str, folder: str) -> bool:
    """May pip have renamed `folder` to `path`?"""
    parent, name = os.path.split(path)
    return os.path.dirname(folder) == parent and is_name_aside(name, os.path.basename(folder))


def _have_hashes(hashes: Mapping[str, str]) -> bool:
    """Do these files have the hashes in RECORD?"""
    return all(has_hash(path, written) for path, written in hashes.items())


def _find_lost(hashes: Mapping[str, str], home: str, aside: str) -> List[str]:
    """The files of the folder `home` whose content is not in the renamed folder `aside`."""
    lost = []
    for path, written in hashes.items():
        moved_path = os.path.join(aside, os.path.relpath(path, home))
        if not has_hash(moved_path, written):
            lost.append(path)
    return lost


def _is_own_file(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def find_moved(decision: LeftoverDecision, areas: Areas) -> Set[str]:
    """The files that have to be moved out for a decision: those in the renamed folders, and those
    in their original places."""
    old: Set[str] = set()
    for path in decision.paths:
        old.update(_files_or_itself(path))
    for one in decision.recorded:
        for aside in one.needed:
            home = one.claimed[aside]
            if os.path.isdir(home) and not os.path.islink(home):
                old.update(_files_or_itself(home))
            elif os.path.lexists(home):
                old.add(home)
        for path in one.kept_elsewhere:
            if os.path.lexists(path) and not os.path.isdir(path):
                old.add(path)
        old.update(_find_unfinished(one, areas))
    return old


def _files_or_itself(directory: str) -> Set[str]:
    files = {os.path.join(directory, file) for file in _read_files(directory)}
    return files or {directory}


def _find_unfinished(one: Recorded, areas: Areas) -> Iterator[str]:
    """The files of the dist-info of another version that pip had begun to write. It has no RECORD,
    because pip writes that last."""
    for site in areas.sites:
        for entry in os.listdir(site):
            folder = os.path.join(site, entry)
            name = canonicalize_name(entry.split("-")[0])
            if not entry.endswith(".dist-info") or name != one.name:
                continue
            if folder in (one.folder, one.home):
                continue
            if not os.path.lexists(os.path.join(folder, "RECORD")):
                yield from _files_or_itself(folder)


def lay_out(one: Recorded, stage: Path) -> None:
    """Put the restored files into the stage. Errors: Refused if a file was changed since it was
    read."""
    for aside in sorted(one.needed):
        _link_tree(aside, f"{stage}{one.claimed[aside]}")
    recorded = read_hashes([one.folder]) if one.kept_elsewhere else {}
    for path, kept in one.kept_elsewhere.items():
        target = f"{stage}{path}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(kept, target, follow_symlinks=False)
        if not has_hash(target, recorded[path]):
            raise Refused(f"{kept} was changed while it was read", hint="Run the command again.")


def _link_tree(source: str, target: str) -> None:
    """Make a copy of a folder with hard links to its files; files are copied where the file system
    has no hard links."""
    for folder, names, files in os.walk(source):
        here = os.path.normpath(os.path.join(target, os.path.relpath(folder, source)))
        os.makedirs(here, exist_ok=True)
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            _link(os.path.join(folder, name), os.path.join(here, name), source)
        shutil.copystat(folder, here)


def _link(original: str, copy: str, source: str) -> None:
    try:
        os.link(original, copy, follow_symlinks=False)
    except FileExistsError:  # from another renamed folder; a copy would overwrite it
        hint = f"Remove the folder that is not needed: {source}"
        raise Refused(f"{original} was moved aside twice", hint=hint) from None
    except OSError:
        shutil.copy2(original, copy, follow_symlinks=False)
