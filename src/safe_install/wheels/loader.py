"""The dynamic loader, modelled: what would not resolve if a shared object were loaded beside torch.

As ld.so(8) and dlopen(3) of the GNU C library say it: DT_NEEDED breadth first, satisfied by the
name of anything that is loaded already, else searched by RPATH (of the file and of what loaded it,
where there is no RUNPATH), LD_LIBRARY_PATH, RUNPATH, the cache and the default folders; a symbol is
sought in the global scope, then among what the object itself needs. Torch's own libraries are
loaded and not global, save those of libtorch_global_deps.so.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Set,
    Tuple,
)

from safe_install.wheels.elf import SharedObject, VersionNeed, WantedSymbol

# Libraries of the driver: missing where an image is built, there where it runs.
DRIVER_LIBRARIES = frozenset(
    {"libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1", "libnvcuvid.so.1"}
)
_OF_DRIVER = re.compile(r"cu[A-Z]|nvml[A-Z]|cuvid|nvPTX")
MAX_LIBRARIES = 2000  # of one closure
# measured: glibc 2.36 (Debian 12) ends the process, 2.41 (Debian 13) does not
TAKES_UNVERSIONED = (2, 41)


class Files(Protocol):
    """The disk after the change; implemented by `wheels.libraries`."""

    def read(self, path: str) -> Optional[SharedObject]:
        """The shared object at a path, None where there is none that can be read."""

    def exists(self, path: str) -> bool:
        """Is there a file?"""

    def find_in_system(self, name: str) -> Optional[str]:
        """Where the loader's cache or the default folders have a library."""


class Loaded(NamedTuple):
    """An object in memory."""

    path: str
    object: SharedObject
    parent: Optional[Loaded] = None  # what needed it first

    @property
    def names(self) -> Tuple[str, ...]:
        """The names that a DT_NEEDED finds it by: its SONAME, and the name that it was searched by.

        An object that was opened by path is not found by its file name: torch and others both have
        a `_C`.
        """
        found = (posixpath.basename(self.path),) if self.parent is not None else ()
        return (*((self.object.soname,) if self.object.soname else ()), *found)


class Missing(NamedTuple):
    """A library that was not found."""

    library: str
    needed_by: str


class Undefined(NamedTuple):
    """A symbol that no object defines."""

    symbol: WantedSymbol
    wanted_by: str


class MissingVersion(NamedTuple):
    """A version that a library does not define: libstdc++.so.6 without GLIBCXX_3.4.32."""

    need: VersionNeed
    wanted_by: str


class Problems(NamedTuple):
    """Why an object would not load."""

    missing: Tuple[Missing, ...] = ()
    undefined: Tuple[Undefined, ...] = ()
    versions: Tuple[MissingVersion, ...] = ()
    # missing libraries of the driver, needed only at run time: no fault
    driver: Tuple[str, ...] = ()


@dataclass
class Scope:
    """The objects that are loaded before the one in question."""

    shared: List[Loaded] = field(default_factory=list)  # the global scope
    others: List[Loaded] = field(default_factory=list)  # loaded, but not global: found by name only
    search: Tuple[str, ...] = ()  # LD_LIBRARY_PATH
    program: Optional[Loaded] = None
    glibc: Tuple[int, ...] = ()  # of the machine; (): not known

    def by_name(self) -> Dict[str, Loaded]:
        """Every loaded object by the names that a DT_NEEDED may write."""
        found: Dict[str, Loaded] = {}
        for one in (*self.shared, *self.others):
            for name in one.names:
                found.setdefault(name, one)
        return found


class Closure(NamedTuple):
    """An object with everything that it needs."""

    own: List[Loaded]  # all objects of its own scope
    new: List[Loaded]  # those of them that were not loaded before
    missing: List[Missing]
    driver: List[str]  # libraries of the driver that are missing

    def add_missing(self, library: str, needed_by: str) -> None:
        """Add a library that was not found."""
        if library not in DRIVER_LIBRARIES:
            self.missing.append(Missing(library, needed_by))
        elif library not in self.driver:
            self.driver.append(library)


def load(
    path: str,
    files: Files,
    scope: Scope,
    *,
    siblings: Iterable[str] = (),
) -> Closure:
    """Model loading `path`.

    `siblings`: files that its own Python code loads by path before it, where something needs them
    by name.
    """
    loaded = scope.by_name()
    paths = tuple(siblings)
    root = files.read(path)
    if root is None:
        return Closure([], [], [Missing(posixpath.basename(path), path)], [])
    first = Loaded(path, root)
    closure = Closure([first], [first], [], [])
    seen: Set[str] = {path}
    position = 0
    while position < len(closure.own) < MAX_LIBRARIES:
        current = closure.own[position]
        position += 1
        for name in current.object.needed:
            found = loaded.get(name) or _search(name, current, files, scope, paths)
            if found is None:
                closure.add_missing(name, current.path)
            elif found.path not in seen:
                seen.add(found.path)
                closure.own.append(found)
                if name not in loaded:
                    closure.new.append(found)
                    for alias in found.names:
                        loaded.setdefault(alias, found)
    return closure


def _search(
    name: str, wanted_by: Loaded, files: Files, scope: Scope, siblings: Sequence[str]
) -> Optional[Loaded]:
    if "/" in name:
        return _open_path(name, wanted_by, files)
    for folder in _folders(wanted_by, scope):
        path = posixpath.normpath(posixpath.join(folder, name))
        candidate = files.read(path) if files.exists(path) else None
        if candidate is not None and candidate.machine == wanted_by.object.machine:
            return Loaded(path, candidate, wanted_by)
    known = files.find_in_system(name)
    candidate = files.read(known) if known is not None else None
    if known is not None and candidate is not None:
        return Loaded(known, candidate, wanted_by)
    return _sibling(name, wanted_by, files, siblings)


def _open_path(name: str, wanted_by: Loaded, files: Files) -> Optional[Loaded]:
    """The object of a name with a slash, which is a path and is not searched for. A relative one
    depends on the working folder of the process."""
    (path,) = _expanded(wanted_by, [name])
    found = files.read(posixpath.normpath(path)) if posixpath.isabs(path) else None
    return Loaded(posixpath.normpath(path), found, wanted_by) if found is not None else None


def _sibling(
    name: str, wanted_by: Loaded, files: Files, siblings: Sequence[str]
) -> Optional[Loaded]:
    by_name = [path for path in siblings if posixpath.basename(path) == name]
    for path in by_name or siblings:
        found = files.read(path)
        if found is not None and (by_name or found.soname == name):
            return Loaded(path, found, wanted_by)
    return None


def _folders(wanted_by: Loaded, scope: Scope) -> List[str]:
    search = scope.search
    if wanted_by.object.runpath:
        return [*search, *_expanded(wanted_by, wanted_by.object.runpath)]
    folders: List[str] = []
    one: Optional[Loaded] = wanted_by
    while one is not None:
        if not one.object.runpath:
            folders += _expanded(one, one.object.rpath)
        one = one.parent
    if scope.program is not None and not scope.program.object.runpath:
        # conda's python has $ORIGIN/../lib
        folders += _expanded(scope.program, scope.program.object.rpath)
    return [*folders, *search]


def _expanded(owner: Loaded, paths: Iterable[str]) -> List[str]:
    origin = posixpath.dirname(owner.path)
    return [path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for path in paths]


def make_scope(
    files: Files,
    *,
    program: str,
    shared: Sequence[str],
    others: Sequence[str],
    search: Sequence[str] = (),
    glibc: Tuple[int, ...] = (),
) -> Scope:
    """The scope of a process: a program, the objects that it loads globally, and the others.

    `shared` and `others` are paths, in order; each is loaded with what it needs.
    """
    scope = Scope(search=tuple(search), glibc=glibc)
    executable = files.read(program)
    scope.program = Loaded(program, executable) if executable is not None else None
    for path in (program, *shared):
        scope.shared += load(path, files, scope).new
    for path in others:
        scope.others += load(path, files, scope).new
    return scope


def check_object(
    path: str,
    files: Files,
    scope: Scope,
    *,
    siblings: Sequence[str] = (),
    is_of_known: Callable[[str], bool] = lambda name: False,
) -> Problems:
    """What would not resolve if `path` were loaded now with RTLD_NOW.

    The symbols of a missing library are unknown, so only the library is reported, and not each
    symbol; except for symbols of which `is_of_known` says that an existing library should define
    them.
    """
    closure = load(path, files, scope, siblings=siblings)
    providers = list({id(one.object): one for one in (*scope.shared, *closure.own)}.values())
    by_name = {name: one for one in reversed(providers) for name in one.names}
    undefined: List[Undefined] = []
    versions: List[MissingVersion] = []
    for one in closure.new:
        versions += _missing_versions(one, by_name, scope.glibc)
        for wanted in one.object.wanted():
            if wanted.weak or (closure.driver and _OF_DRIVER.match(wanted.name)):
                continue
            if closure.missing and not is_of_known(wanted.name):
                continue
            if not _is_defined(wanted, providers, by_name):
                undefined.append(Undefined(wanted, one.path))
    return Problems(
        tuple(closure.missing), tuple(undefined), tuple(versions), tuple(closure.driver)
    )


def _missing_versions(
    one: Loaded, by_name: Dict[str, Loaded], glibc: Tuple[int, ...]
) -> List[MissingVersion]:
    found = []
    for need in one.object.version_needs:
        provider = by_name.get(need.library)
        if provider is None or need.weak or need.version in provider.object.defined_versions:
            continue
        # A library without versions is accepted with "no version information available". With an
        # older glibc, one whose symbols have no versions at all ends the process
        # ("Inconsistency detected by ld.so").
        is_taken = provider.object.has_symbol_versions or glibc >= TAKES_UNVERSIONED
        if provider.object.defined_versions or not is_taken:
            found.append(MissingVersion(need, one.path))
    return found


def _is_defined(
    wanted: WantedSymbol, providers: Sequence[Loaded], by_name: Dict[str, Loaded]
) -> bool:
    if wanted.library is not None:
        named = by_name.get(wanted.library)
        if named is not None and named.object.defines(wanted.name, wanted.version):
            return True
    return any(one.object.defines(wanted.name, wanted.version) for one in providers)
