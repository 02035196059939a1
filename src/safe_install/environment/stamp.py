"""What an environment is made of, cheaply: taken twice and compared, it shows that somebody else
changed it.

Looked at: the names that lie directly in site-packages and in the folder of commands, the size and
time of those that are files, METADATA and RECORD of every distribution, and every file of torch.
Not looked at: bytecode, which every program writes, and what lies deeper in other packages, which
an installer cannot change without a new RECORD.
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

State = Tuple[int, int]  # size and time of the last change in nanoseconds; (-1, -1): a folder


@dataclass(frozen=True)
class Stamp:
    """Paths and what was seen of them."""

    states: Mapping[str, State] = field(default_factory=dict)

    def changed(self, later: Stamp) -> Tuple[str, ...]:
        """The paths that came, went or are another file in `later`, in order."""
        if self.states == later.states:
            return ()
        paths = self.states.keys() | later.states.keys()
        return tuple(
            sorted(path for path in paths if self.states.get(path) != later.states.get(path))
        )

    def below(self, folder: Path) -> Mapping[str, State]:
        """What was seen of the files in this folder."""
        start = f"{folder}/"
        return {path: state for path, state in self.states.items() if path.startswith(start)}


def take_stamp(sites: Iterable[Path], scripts: Optional[Path], torch: Optional[Path]) -> Stamp:
    """The stamp of an environment. `torch` is the folder of the package; None: not looked at. Never
    raises."""
    states: Dict[str, State] = {}
    folders = [*sites] if scripts is None else [*sites, scripts]
    for folder in dict.fromkeys(folders):
        for entry in _entries(str(folder)):
            states[entry.path] = _state(entry)
            if entry.name.endswith(METADATA_FOLDERS) and _is_folder(entry):
                for name in METADATA_FILES:
                    _add_file(states, f"{entry.path}/{name}")
    if torch is not None:
        _add_files_below(states, str(torch))
    return Stamp(states)


def _entries(folder: Union[str, int]) -> Iterator[os.DirEntry[str]]:
    """`folder`: a path, or an open folder, whose entries know no path."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in (BYTECODE_FOLDER, OWN_FOLDER) and not entry.name.endswith(
                    ".pyc"
                ):
                    yield entry
    except OSError:
        return  # it is not there, or may not be read: then it was not, before either


def _add_files_below(states: Dict[str, State], folder: str) -> None:
    """torch has 12,000 files: each is looked at from its folder, and not by a path from the root
    on."""
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
    """The folders in this one."""
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


def _add_file(states: Dict[str, State], path: str) -> None:
    try:
        found = os.lstat(path)
    except OSError:
        return
    states[path] = (found.st_size, found.st_mtime_ns)


PATHS_SHOWN = 5


def stamp_of(
    environment: Environment, sources: Sequence[Path] = (), *, seen: Optional[Stamp] = None
) -> Stamp:
    """What the environment is made of now; torch's folder also where a torch is about to come.

    `sources` (real paths): a torch that lies in one of these is about to be built there, and is not
    looked at. `seen`: what counts for torch, in place of a look at its files.
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
    """The folder of commands; elsewhere (/usr/local/bin, ~/.local/bin) other programs come and go,
    too."""
    return environment.interpreter.scheme.scripts if environment.interpreter.is_virtual else None


def watched_folders(environment: Environment, sources: Sequence[Path] = ()) -> Tuple[Path, ...]:
    """The folders of a stamp, which a build may not change. Not among them: one that holds one of
    the `sources` (real paths), which are built where they lie, and a torch that lies in one."""
    scheme = environment.interpreter.scheme
    scripts = _own_scripts(environment)
    folders = [scheme.purelib, scheme.platlib, *environment.ahead]
    if not _is_torch_built(environment, sources):
        folders.append(folder_of_torch(environment))
    if scripts is not None:
        folders.append(scripts)
    watched = []
    for folder in dict.fromkeys(folders):
        if not any(_holds(folder, source) for source in sources):
            watched.append(folder)
    return tuple(watched)


def _is_torch_built(environment: Environment, sources: Sequence[Path]) -> bool:
    """Does torch lie in one of the sources? Not where the sources hold the environment: `.venv` in
    a project."""
    torch = Path(os.path.realpath(folder_of_torch(environment)))
    scheme = environment.interpreter.scheme
    holding = [source for source in sources if source in torch.parents]
    for site in (scheme.purelib, scheme.platlib):
        real = Path(os.path.realpath(site))
        if real in torch.parents:
            holding = [source for source in holding if real in source.parents]
    return bool(holding)


def _holds(folder: Path, source: Path) -> bool:
    real = Path(os.path.realpath(folder))
    return real == source or real in source.parents


def folder_of_torch(environment: Environment) -> Path:
    """Where torch is, or would be."""
    if environment.torch is not None and environment.torch.folder is not None:
        return environment.torch.folder
    return environment.interpreter.scheme.platlib / "torch"


def describe_paths(paths: Sequence[str], environment: Environment) -> str:
    """`lib/python3.11/site-packages/six.py, ... and 12 more`, relative to the environment's
    folder."""
    first = [
        os.path.relpath(path, str(environment.interpreter.prefix)) for path in paths[:PATHS_SHOWN]
    ]
    more = f" and {len(paths) - PATHS_SHOWN} more" if len(paths) > PATHS_SHOWN else ""
    return ", ".join(first) + more
