"""Takes a stamp of an environment. Two stamps show whether another program has changed it.

A stamp is cheap. It has the names directly in site-packages and in the folder of commands, size and
time of the files among them, METADATA and RECORD of every distribution, and every file of torch.
It does not have bytecode, which every program writes, nor other files deeper in packages: an
installer that changes these also changes a RECORD.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from safe_install.models import Environment

METADATA_FILES = ("METADATA", "RECORD", "PKG-INFO")
METADATA_FOLDERS = (".dist-info", ".egg-info")
OWN_FOLDER = ".safe-install"
BYTECODE_FOLDER = "__pycache__"

State = Tuple[int, int]  # size in bytes, time of the last change in ns; (-1, -1): a folder


@dataclass(frozen=True)
class Stamp:
    """The state of each path of an environment."""

    states: Mapping[str, State] = field(default_factory=dict)

    def changed(self, later: Stamp) -> Tuple[str, ...]:
        """The paths that were added, removed or changed in `later`, sorted."""
        if self.states == later.states:
            return ()
        paths = self.states.keys() | later.states.keys()
        changed = [path for path in paths if self.states.get(path) != later.states.get(path)]
        return tuple(sorted(changed))

    def below(self, folder: Path) -> Mapping[str, State]:
        """The states of the paths below a folder."""
        start = f"{folder}/"
        return {path: state for path, state in self.states.items() if path.startswith(start)}


def take_stamp(sites: Iterable[Path], scripts: Optional[Path], torch: Optional[Path]) -> Stamp:
    """The stamp of an environment. Never raises: what cannot be read is left out.

    `sites`: the site-packages folders. `scripts`: the folder of commands; None: left out. `torch`:
    its own folder; None: left out.
    """
    states: Dict[str, State] = {}
    folders = [*sites] if scripts is None else [*sites, scripts]
    for folder in dict.fromkeys(folders):
        for entry in _entries(str(folder)):
            states[entry.path] = _state(entry)
            if entry.name.endswith(METADATA_FOLDERS) and _is_folder(entry):
                _add_metadata(states, entry.path)
    if torch is not None:
        _add_files_below(states, str(torch))
    return Stamp(states)


def _entries(folder: Union[str, int]) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder without bytecode. `folder`: its path, or a descriptor; then the
    entries have no path."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_bytecode = entry.name == BYTECODE_FOLDER or entry.name.endswith(".pyc")
                if not is_bytecode and entry.name != OWN_FOLDER:
                    yield entry
    except OSError:
        return  # it does not exist or cannot be read, which is the same in both stamps


def _add_files_below(states: Dict[str, State], folder: str) -> None:
    """Add all files below a folder. Each is read through the descriptor of its folder: torch has
    12,000 files, and a path from the root for each would be slow."""
    pending = [folder]
    while pending:
        path = pending.pop()
        try:
            opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            pending += _add_files_in(states, path, opened)
        finally:
            os.close(opened)


def _add_files_in(states: Dict[str, State], path: str, opened: int) -> List[str]:
    """Add the files in an open folder. The result: the paths of its sub-folders."""
    folders = []
    for entry in _entries(opened):
        entry_path = f"{path}/{entry.name}"
        if _is_folder(entry):
            folders.append(entry_path)
        else:
            states[entry_path] = _state_of_file(entry)
    return folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _state(entry: os.DirEntry[str]) -> State:
    return (-1, -1) if _is_folder(entry) else _state_of_file(entry)


def _state_of_file(entry: os.DirEntry[str]) -> State:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


def _add_metadata(states: Dict[str, State], folder: str) -> None:
    """Add the files of a distribution's metadata that exist."""
    for name in METADATA_FILES:
        path = f"{folder}/{name}"
        try:
            found = os.lstat(path)
        except OSError:
            continue
        states[path] = (found.st_size, found.st_mtime_ns)


PATHS_SHOWN = 5


def stamp_of(
    environment: Environment, sources: Sequence[Path] = (), *, seen: Optional[Stamp] = None
) -> Stamp:
    """The stamp of an environment now. It has torch's folder, even if torch is not yet installed.

    `sources` (real paths): folders that are built where they are. A torch in one of them is left
    out. `seen`: an earlier stamp with the files of torch, which are then not read again.
    """
    scheme = environment.interpreter.scheme
    torch: Optional[Path] = folder_of_torch(environment)
    if seen is not None or _is_torch_built(environment, sources):
        torch = None
    stamp = take_stamp((scheme.purelib, scheme.platlib), _own_scripts(environment), torch)
    if seen is None:
        return stamp
    return Stamp({**stamp.states, **seen.below(folder_of_torch(environment))})


def _own_scripts(environment: Environment) -> Optional[Path]:
    """The folder of commands in a virtual environment. Otherwise None: in /usr/local/bin or
    ~/.local/bin the files of other programs change, too."""
    return environment.interpreter.scheme.scripts if environment.interpreter.is_virtual else None


def watched_folders(environment: Environment, sources: Sequence[Path] = ()) -> Tuple[Path, ...]:
    """The folders of a stamp, which a build must not change. Folders that contain one of the
    `sources` (real paths, built where they are) are left out, and so is a torch in a source."""
    scheme = environment.interpreter.scheme
    scripts = _own_scripts(environment)
    folders = [scheme.purelib, scheme.platlib, *environment.ahead]
    if not _is_torch_built(environment, sources):
        folders.append(folder_of_torch(environment))
    if scripts is not None:
        folders.append(scripts)
    watched = []
    for folder in dict.fromkeys(folders):
        if not any(_contains(folder, source) for source in sources):
            watched.append(folder)
    return tuple(watched)


def _is_torch_built(environment: Environment, sources: Sequence[Path]) -> bool:
    """Is torch in one of the sources? Not if the source contains the whole environment, such as
    `.venv` in a project."""
    torch = Path(os.path.realpath(folder_of_torch(environment)))
    scheme = environment.interpreter.scheme
    holding = [source for source in sources if source in torch.parents]
    for site in (scheme.purelib, scheme.platlib):
        real = Path(os.path.realpath(site))
        if real in torch.parents:
            holding = [source for source in holding if real in source.parents]
    return bool(holding)


def _contains(folder: Path, source: Path) -> bool:
    real = Path(os.path.realpath(folder))
    return real == source or real in source.parents


def folder_of_torch(environment: Environment) -> Path:
    """The folder of torch, or the one that it would have."""
    if environment.torch is not None and environment.torch.folder is not None:
        return environment.torch.folder
    return environment.interpreter.scheme.platlib / "torch"


def describe_paths(paths: Sequence[str], environment: Environment) -> str:
    """`lib/python3.11/site-packages/six.py, ... and 12 more`, relative to the environment's
    folder."""
    prefix = str(environment.interpreter.prefix)
    first = [os.path.relpath(path, prefix) for path in paths[:PATHS_SHOWN]]
    more = f" and {len(paths) - PATHS_SHOWN} more" if len(paths) > PATHS_SHOWN else ""
    return ", ".join(first) + more
