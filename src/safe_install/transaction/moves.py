"""Plans the renames that turn one environment into another. Pure: the disk is read through `Tree`.

Rules: a directory is renamed as a whole where all its files are replaced. A file that no replaced
distribution owns is never overwritten or moved. A file that a remaining distribution also lists
stays. Interpreters and activation scripts belong to no distribution.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import (
    AbstractSet,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Set,
    Tuple,
    Union,
)

from safe_install.torch_family import COMPILERS

_INTERPRETER = re.compile(r"(python|pypy)w?(\d+(\.\d+)*t?)?(\.exe)?")
_ACTIVATION = re.compile(r"(activate(_this\.py|\.[a-z]+)?|Activate\.ps1|deactivate\.[a-z]+)")
_STATE_DIRECTORY = ".safe-install"
_BYTECODE_FOLDER = "__pycache__"
_OF_THE_PREFIX = frozenset({_STATE_DIRECTORY, "pyvenv.cfg", ".lock", "conda-meta"})
# Names that no wheel may install outside of site-packages, at any depth (docs/security.md).
_NEVER_FROM_A_WHEEL = (
    (re.compile(r"pyvenv\.cfg"), "decides which Python the interpreters near it are"),
    (
        re.compile(r".*\._pth|pybuilddir\.txt"),
        "decides where the interpreter beside it looks for its modules",
    ),
    (re.compile(r"pip\.(conf|ini)"), "is read by every run of pip"),
    (re.compile(r"\.?(conda|mamba)rc(\.d)?"), "is read by every run of conda"),
    (re.compile(r"(python|pypy)\d+t?\.zip"), "stands on sys.path before the standard library"),
    (
        re.compile(r"lib(cuda|cudadebugger|nvidia-[\w-]+|nvcuvid|nvoptix)\.so(\.[\d.]+)?"),
        "takes the place of the NVIDIA driver's library",
    ),
    (
        re.compile(
            r"(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|python[\d.]+t?)|ld-linux[\w-]*)\.so(\.[\d.]+)?"
        ),
        "takes the place of a library that Python itself needs",
    ),
)
# Distribution -> folders to which no other distribution may add a file: torch and triton load files
# from their own folders, so an added file would run inside of them.
CLOSED_PACKAGES: Mapping[str, Tuple[str, ...]] = {
    "torch": ("torch", "torchgen", "functorch"),
    **dict.fromkeys(COMPILERS, ("triton",)),
}
# The folder of a script is first on its sys.path: a module of this name beside it would be imported
# instead of torch.
_SHADOWING_COMMAND = re.compile(r"(torch|torchgen)(\.(py|pyc|[\w.-]*so))?")


class Tree(Protocol):
    """The questions of the planner about the disk. Paths are absolute, and their parents have no
    symbolic links."""

    def read_kind(self, path: str) -> Optional[str]:
        """`f`, `d`, `l` (symbolic link), `o` (other); None if nothing exists."""

    def read_entries(self, directory: str) -> Mapping[str, str]:
        """Name -> kind of everything in a directory."""

    def resolve(self, path: str) -> str:
        """The path without symbolic links."""

    def has_same_content(self, first: str, second: str) -> bool:
        """Do two files have the same bytes?"""

    def find_owner(self, path: str) -> Optional[str]:
        """The remaining distribution whose RECORD lists this path."""


class Level(enum.Enum):
    """What a single rename moves."""

    DIRECTORY = "directory"
    FILE = "file"  # where directories cannot be renamed (a lower layer of overlayfs)


class Staged(NamedTuple):
    """A file or directory in the stage."""

    name: str
    slot: str  # its present path
    kind: str  # as in `Tree.read_kind`
    children: Tuple[Staged, ...] = ()


@dataclass(frozen=True)
class Areas:
    """The directories of one environment, all absolute and without symbolic links."""

    prefix: str
    sites: Tuple[str, ...]  # purelib and platlib
    scripts: str
    others: Tuple[str, ...] = ()  # include and data
    closed: Mapping[str, str] = field(default_factory=dict)  # folders to add nothing to -> owner
    sources: Tuple[str, ...] = ()  # folders of clones
    # the directories themselves and their parents up to the prefix, which are never moved
    structure: AbstractSet[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        structure = {self.prefix}
        for directory in (*self.sites, self.scripts, *self.others):
            while is_within(directory, self.prefix):
                structure.add(directory)
                directory = _parent(directory)
        object.__setattr__(self, "structure", structure)

    def find_objection(self, path: str) -> Optional[str]:
        """Why no distribution may own `path`; None if one may."""
        if not is_within_any(path, (*self.sites, self.scripts, *self.others)):
            return f"is outside of the environment's directories in {self.prefix}"
        if is_within_any(path, self.sites):
            return None
        is_in_prefix = is_within(path, self.prefix)
        if is_in_prefix and path[len(self.prefix) :].split("/")[1] in _OF_THE_PREFIX:
            return "belongs to the environment itself"
        name = path.rsplit("/", 1)[1]
        is_own_script = _INTERPRETER.fullmatch(name) or _ACTIVATION.fullmatch(name)
        if _parent(path) == self.scripts and is_own_script:
            return "is the environment's interpreter or an activation script"
        if is_within_any(path, filter(_is_library, map(_parent, self.sites))):
            return "is in Python's standard library"
        return None

    def find_arrival_objection(self, path: str) -> Optional[str]:
        """Why nothing new may be put at `path`; None if it may."""
        objection = self.find_objection(path)
        if objection is not None:
            return objection
        for folder, owner in self.closed.items():
            if is_within(path, folder):
                return f"would be loaded by {owner}, which does not bring it"
        if is_within_any(path, (*self.sites, *self.sources)):
            return None
        if is_within(path, self.scripts):
            name = path[len(self.scripts) + 1 :].split("/")[0]
            if _SHADOWING_COMMAND.fullmatch(name):
                return "would be imported in the place of torch by the commands beside it"
        for name in self._names_below(path):
            for pattern, what in _NEVER_FROM_A_WHEEL:
                if pattern.fullmatch(name.lower()):
                    return what
        return None

    def _names_below(self, path: str) -> List[str]:
        """The components of a path below the prefix, or below another of these directories (on
        Debian /usr/local)."""
        roots = (self.prefix, self.scripts, *self.others)
        root = next(directory for directory in roots if is_within(path, directory))
        return path[len(root) + 1 :].split("/")


class MovePlan(NamedTuple):
    """The renames of one change; absolute paths."""

    level: Level = Level.DIRECTORY
    exchanges: Tuple[Tuple[str, str], ...] = ()  # (target, slot in the stage)
    outs: Tuple[str, ...] = ()
    rmdirs: Tuple[str, ...] = ()  # deepest first
    mkdirs: Tuple[str, ...] = ()  # parents first
    ins: Tuple[Tuple[str, str], ...] = ()  # (slot in the stage, target)


class MoveRefusal(NamedTuple):
    """Why the change must not be made."""

    path: str
    reason: str
    hint: str = ""


def is_within(path: str, directory: str) -> bool:
    """Is `path` strictly below `directory`, compared by component?"""
    return path.startswith(directory.rstrip("/") + "/")


def is_within_any(path: str, directories: Iterable[str]) -> bool:
    """Is `path` strictly below one of these directories?"""
    return any(is_within(path, directory) for directory in directories)


def plan_moves(
    old: AbstractSet[str],
    stage: Staged,
    *,
    tree: Tree,
    areas: Areas,
    level: Level = Level.DIRECTORY,
) -> Union[MovePlan, MoveRefusal]:
    """Plan the change that moves `old` out and the stage in.

    `old`: the existing files of the distributions that are replaced. `stage`: the root of the
    stage, which stands for `/`.
    """
    removal = _Removal(old, tree, areas, level)
    arrival = _Arrival(removal, tree, areas, level)
    arrival.place(stage, "/")
    if arrival.refusal is not None:
        return arrival.refusal
    slots = {target: slot for slot, target in arrival.ins}
    # A path that is both moved out and moved in is exchanged.
    exchanges = [(target, slots[target]) for target in removal.outs if target in slots]
    exchanged = {target for target, _ in exchanges}
    outs = [target for target in removal.outs if target not in exchanged]
    ins = [move for move in arrival.ins if move[1] not in exchanged]
    rmdirs = [folder for folder in removal.directories if folder not in arrival.reused]
    return MovePlan(
        level=level,
        exchanges=tuple(exchanges),
        outs=tuple(outs),
        rmdirs=tuple(rmdirs),
        mkdirs=tuple(arrival.mkdirs),
        ins=tuple(ins),
    )


@dataclass
class _Part:
    """The moves that were found below one directory."""

    is_pure: bool = True  # all files in it are moved out
    outs: List[str] = field(default_factory=list)
    directories: List[str] = field(default_factory=list)

    def add(self, other: _Part) -> None:
        """Add the moves of a directory below. The caller sets `is_pure`."""
        self.outs += other.outs
        self.directories += other.directories


class _Removal:
    """The moves out, in as few renames as the level allows."""

    def __init__(self, old: AbstractSet[str], tree: Tree, areas: Areas, level: Level) -> None:
        self._old, self._tree, self._level = old, tree, level
        self._packages = (*areas.sites, *areas.sources)
        self._children = _make_children(old, areas.structure)
        self.outs: List[str] = []
        self.directories: List[str] = []
        for directory in sorted(areas.structure & self._children.keys()):
            for name in sorted(self._children[directory]):
                part = self._visit(_join(directory, name))
                self.outs += part.outs
                self.directories += part.directories

    def _visit(self, path: str) -> _Part:
        if path in self._old:
            return _Part(outs=[path])
        old_names: AbstractSet[str] = self._children.get(path, frozenset())
        entries = self._tree.read_entries(path)
        if not entries and not is_within_any(path, self._packages):
            # An empty include/python3.11, which `python -m venv` makes, stays.
            return _Part(is_pure=False)
        whole = _Part()  # the moves if everything below is moved out
        owned = _Part(is_pure=False)  # the moves if something below stays
        for name, kind in sorted(entries.items()):
            part = _Part(is_pure=False)
            if name in old_names or kind == "d":
                part = self._visit(_join(path, name))
            whole.is_pure = whole.is_pure and part.is_pure
            whole.add(part)
            if name in old_names:
                owned.add(part)
        if not whole.is_pure:
            return owned
        if self._level is Level.DIRECTORY:
            return _Part(outs=[path])
        whole.directories.append(path)
        return whole


def _make_children(old: AbstractSet[str], structure: AbstractSet[str]) -> Dict[str, Set[str]]:
    children: Dict[str, Set[str]] = {}
    for path in old:
        while path not in structure and path != "/":
            parent, _, name = path.rpartition("/")
            siblings = children.setdefault(parent or "/", set())
            if name in siblings:
                break
            siblings.add(name)
            path = parent or "/"
    return children


class _Arrival:
    """The moves in."""

    def __init__(self, removal: _Removal, tree: Tree, areas: Areas, level: Level) -> None:
        self._gone = set(removal.outs)
        self._emptied = set(removal.directories)
        self._tree, self._areas, self._level = tree, areas, level
        self._claimed: Set[str] = set()
        self.ins: List[Tuple[str, str]] = []
        self.mkdirs: List[str] = []
        self.reused: Set[str] = set()
        self.refusal: Optional[MoveRefusal] = None

    def place(self, node: Staged, target: str) -> None:
        """Plan the moves of a staged file or directory. The first refusal ends the planning."""
        if self.refusal is not None:
            return
        kind = self._kind_of(target)
        if kind == "l" and node.kind == "d":
            target = self._tree.resolve(target)
            kind = self._kind_of(target)
        if node.kind == "d":
            self._place_directory(node, target, kind)
        else:
            self._place_file(node, target, kind)

    def _kind_of(self, target: str) -> Optional[str]:
        """The kind of what stays at `target`; None if nothing does."""
        if target in self._gone or target in self._claimed:
            return None
        return self._tree.read_kind(target)

    def _place_directory(self, node: Staged, target: str, kind: Optional[str]) -> None:
        if target in self._claimed or kind == "d":
            if target in self._emptied:
                self.reused.add(target)
            self._place_children(node, target)
        elif kind is not None:
            self._refuse(
                target, "is a file that nothing replaced here owns, and would become a directory"
            )
        elif self._is_objected(target) or self._is_shadowing(target, node):
            return
        elif self._level is Level.DIRECTORY and not self._has_left_out(node, target):
            self._claimed.add(target)
            self.ins.append((node.slot, target))
        else:
            self._claimed.add(target)
            self.mkdirs.append(target)
            self._place_children(node, target)

    def _has_left_out(self, node: Staged, target: str) -> bool:
        """Are there files below that may not be installed? Then the directory cannot be moved as a
        whole."""
        if node.name == _BYTECODE_FOLDER:
            paths = [_join(target, child.name) for child in node.children]
            return any(self._is_bytecode_of_another(path) for path in paths)
        return self._has_objection_below(node, target)

    def _has_objection_below(self, node: Staged, target: str) -> bool:
        for child in node.children:
            path = _join(target, child.name)
            if child.kind == "d":
                is_objected = self._has_objection_below(child, path)
            else:
                is_objected = self._areas.find_arrival_objection(path) is not None
            if is_objected:
                return True
        return False

    def _is_bytecode_of_another(self, target: str) -> bool:
        """Is it bytecode of a source file that stays? Python would run it instead of that source,
        so it is left out."""
        if not _is_bytecode(target):
            return False
        return self._kind_of(_source_of_bytecode(target)) is not None

    def _place_children(self, node: Staged, target: str) -> None:
        # Sources first: their bytecode depends on them.
        for child in sorted(node.children, key=lambda child: child.name == _BYTECODE_FOLDER):
            self.place(child, _join(target, child.name))

    def _place_file(self, node: Staged, target: str, kind: Optional[str]) -> None:
        if self._is_objected(target):
            return
        if target in self._claimed:
            self._refuse(target, "would come from two of the distributions to be installed")
        elif self._is_bytecode_of_another(target):
            return  # left out: Python compiles the source again
        elif self._is_shadowing(target, node):
            return
        elif kind is None or (kind == "d" and target in self._emptied):
            self._claimed.add(target)
            self.ins.append((node.slot, target))
        elif kind == "d":
            self._refuse(target, "is a directory with files that nothing replaced here owns")
        elif not _is_bytecode(target) and not self._tree.has_same_content(node.slot, target):
            # A file with the same content stays, and the staged one is left out.
            owner = self._tree.find_owner(target)
            whose = "belongs to no distribution that is replaced here"
            if owner:
                whose = f"belongs to {owner}"
            self._refuse(target, f"is there with other content and {whose}")

    def _is_shadowing(self, target: str, node: Staged) -> bool:
        """Would Python import it instead of an existing module? Then it is refused.

        In one folder Python prefers a package to an extension module (`.so`), and that to a source
        file.
        """
        if not is_within_any(target, self._areas.sites):
            return False
        folder, _, name = target.rpartition("/")
        stem = name.split(".", 1)[0]
        is_library = node.kind == "f" and name.endswith(".so")
        if not is_library and not _is_package(node):
            return False
        source = _join(folder, f"{stem}.py")
        if self._kind_of(source) != "f":
            return False
        owner = self._tree.find_owner(source) or "no distribution that is replaced here"
        self._refuse(
            target,
            f"would be imported in the place of {stem}.py beside it, which belongs to {owner}",
        )
        return True

    def _is_objected(self, target: str) -> bool:
        objection = self._areas.find_arrival_objection(target)
        if objection is not None:
            self._refuse(
                target,
                objection,
                "Take another version or another project: no wheel may bring that file.",
            )
        return objection is not None

    def _refuse(self, target: str, reason: str, hint: str = "") -> None:
        hint = hint or "Move that file away, or uninstall what it belongs to, if it is not needed."
        self.refusal = self.refusal or MoveRefusal(target, reason, hint)


def _is_package(node: Staged) -> bool:
    if node.kind != "d":
        return False
    return any(child.name.split(".", 1)[0] == "__init__" for child in node.children)


def make_plan_without_exchange(plan: MovePlan) -> MovePlan:
    """The same change for file systems without exchange: old paths are moved out, then new ones
    in."""
    outs = [target for target, _ in plan.exchanges]
    ins = [(slot, target) for target, slot in plan.exchanges]
    return MovePlan(
        level=plan.level,
        outs=(*outs, *plan.outs),
        rmdirs=plan.rmdirs,
        mkdirs=plan.mkdirs,
        ins=(*ins, *plan.ins),
    )


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _is_library(directory: str) -> bool:
    return re.match(r"(python|pypy)\d", directory.rsplit("/", 1)[1]) is not None


def _is_bytecode(path: str) -> bool:
    return path.endswith(".pyc") and _parent(path).endswith("/" + _BYTECODE_FOLDER)


def _source_of_bytecode(path: str) -> str:
    """`a/__pycache__/b.cpython-311.pyc` -> `a/b.py` (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return _join(_parent(folder), f"{name.split('.')[0]}.py")
