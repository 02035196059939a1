from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterable, List, Mapping, Optional

import pytest

from safe_install.transaction.moves import (
    Areas,
    Level,
    MovePlan,
    MoveRefusal,
    Staged,
    make_plan_without_exchange,
    plan_moves,
)

SITE = "/env/lib/python3.11/site-packages"
AREAS = Areas("/env", (SITE,), "/env/bin", ("/env/include/python3.11", "/env"))


class FakeTree:
    """A disk from a mapping path -> content; a value that begins with `-> ` is a symbolic link."""

    def __init__(
        self, files: Mapping[str, str], stage: Mapping[str, str], owners: Mapping[str, str]
    ) -> None:
        self.files, self.stage, self.owners = files, stage, owners

    def read_kind(self, path: str) -> Optional[str]:
        if path in self.files:
            return "l" if self.files[path].startswith("-> ") else "f"
        return (
            "d" if path == "/" or any(name.startswith(path + "/") for name in self.files) else None
        )

    def read_entries(self, directory: str) -> Mapping[str, str]:
        names = {
            name[len(directory) + 1 :].split("/")[0]
            for name in self.files
            if name.startswith(directory + "/")
        }
        return {name: self.read_kind(f"{directory}/{name}") or "" for name in names}

    def resolve(self, path: str) -> str:
        return self.files[path][3:] if path in self.files else path

    def has_same_content(self, first: str, second: str) -> bool:
        return self.stage[first[len("/stage") :]] == self.files[second]

    def find_owner(self, path: str) -> Optional[str]:
        return self.owners.get(path)


def make_stage(files: Mapping[str, str]) -> Staged:
    tree: Dict[str, Any] = {}
    for path in files:
        here = tree
        for part in path.strip("/").split("/")[:-1]:
            here = here.setdefault(part, {})
        here[path.rsplit("/", 1)[1]] = None
    return make_node("", "/stage", tree)


def make_node(name: str, slot: str, tree: Optional[Mapping[str, Any]]) -> Staged:
    if tree is None:
        return Staged(name, slot, "f")
    return Staged(
        name, slot, "d", tuple(make_node(n, f"{slot}/{n}", t) for n, t in sorted(tree.items()))
    )


def plan(disk, stage, old=(), owners=None, level=Level.DIRECTORY, closed=None):  # type: ignore[no-untyped-def]
    def full(path: str) -> str:
        return path if path.startswith("/") else f"{SITE}/{path}"

    base = {"/env/bin/python": "", f"{SITE}/other.py": ""}
    files = {full(path): content for path, content in {**base, **disk}.items()}
    staged = {full(path): content for path, content in stage.items()}
    areas = dataclasses.replace(AREAS, closed=closed or {})
    tree = FakeTree(files, staged, {full(path): owner for path, owner in (owners or {}).items()})
    return plan_moves(
        {full(path) for path in old}, make_stage(staged), tree=tree, areas=areas, level=level
    )


def find_left_out(moves: MovePlan, stage: Iterable[str]) -> List[str]:
    """The staged files that no rename carries: neither itself nor a folder of it."""
    carried = [slot for _, slot in moves.exchanges] + [slot for slot, _ in moves.ins]
    slots = {
        path: "/stage" + (path if path.startswith("/") else f"{SITE}/{path}") for path in stage
    }
    return [
        path
        for path, slot in slots.items()
        if not any(slot == one or slot.startswith(f"{one}/") for one in carried)
    ]


def short(moves: MovePlan, stage: Iterable[str] = ()) -> Dict[str, Any]:
    def cut(path: str) -> str:
        return path.replace("/stage" + SITE, "S:").replace(SITE, "").lstrip("/")

    found = {
        "exchange": [cut(target) for target, _ in moves.exchanges],
        "out": [cut(path) for path in moves.outs],
        "rmdir": [cut(path) for path in moves.rmdirs],
        "mkdir": [cut(path) for path in moves.mkdirs],
        "in": [cut(target) for _, target in moves.ins],
        "skip": find_left_out(moves, stage),
    }
    return {key: value for key, value in found.items() if value}


TABLE = {
    "a new package is one rename": ({}, {"p/a.py": "", "p/b/c.py": ""}, (), {"in": ["p"]}),
    "a package of its own trades places": (
        {"p/a.py": "1", "p/b/c.py": "1"},
        {"p/a.py": "2"},
        ("p/a.py", "p/b/c.py"),
        {"exchange": ["p"]},
    ),
    "removed as one": ({"p/a.py": "1", "p/b.py": ""}, {}, ("p/a.py", "p/b.py"), {"out": ["p"]}),
    "a user's file keeps its directory": (
        {"p/a.py": "1", "p/b/c.py": "", "p/mine.txt": "x"},
        {"p/a.py": "2", "p/b/c.py": ""},
        ("p/a.py", "p/b/c.py"),
        {"exchange": ["p/a.py", "p/b"]},
    ),
    "a namespace package is shared": (
        {"ns/x/a.py": "", "ns/y/b.py": ""},
        {"ns/x/a.py": "2"},
        ("ns/x/a.py",),
        {"exchange": ["ns/x"]},
    ),
    "a directory becomes a file": ({"p/a.py": ""}, {"p": ""}, ("p/a.py",), {"exchange": ["p"]}),
    "a file becomes a directory": ({"p": ""}, {"p/a.py": ""}, ("p",), {"exchange": ["p"]}),
    "another name": (
        {"p-1.dist-info/RECORD": ""},
        {"p-2.dist-info/RECORD": ""},
        ("p-1.dist-info/RECORD",),
        {"out": ["p-1.dist-info"], "in": ["p-2.dist-info"]},
    ),
    "the same bytes of somebody else stay": (
        {"ns/__init__.py": "same"},
        {"ns/__init__.py": "same", "ns/new.py": ""},
        (),
        {"in": ["ns/new.py"], "skip": ["ns/__init__.py"]},
    ),
    "bytecode that is there stays": (
        {"ns/__init__.py": "same", "ns/__pycache__/__init__.cpython-311.pyc": "1"},
        {"ns/__init__.py": "same", "ns/__pycache__/__init__.cpython-311.pyc": "2"},
        (),
        {"skip": ["ns/__init__.py", "ns/__pycache__/__init__.cpython-311.pyc"]},
    ),
    "bytecode of somebody else's module does not come": (
        {"ns/__init__.py": "same"},
        {"ns/__init__.py": "same", "ns/__pycache__/__init__.cpython-311.pyc": "evil"},
        (),
        {
            "skip": ["ns/__init__.py", "ns/__pycache__/__init__.cpython-311.pyc"],
            "mkdir": ["ns/__pycache__"],
        },
    ),
    "bytecode without its source in the wheel neither": (
        {"ns/a.py": "theirs"},
        {
            "ns/b.py": "",
            "ns/__pycache__/a.cpython-311.pyc": "evil",
            "ns/__pycache__/b.cpython-311.pyc": "",
        },
        (),
        {
            "in": ["ns/b.py", "ns/__pycache__/b.cpython-311.pyc"],
            "skip": ["ns/__pycache__/a.cpython-311.pyc"],
            "mkdir": ["ns/__pycache__"],
        },
    ),
    "bytecode of one's own modules comes as a folder": (
        {"ns/a.py": "theirs"},
        {"ns/b.py": "", "ns/__pycache__/b.cpython-311.pyc": ""},
        (),
        {"in": ["ns/b.py", "ns/__pycache__"]},
    ),
    "bytecode of a module that is replaced comes": (
        {"a.py": "1", "__pycache__/a.cpython-311.pyc": "1"},
        {"a.py": "2", "__pycache__/a.cpython-311.pyc": "2"},
        ("a.py", "__pycache__/a.cpython-311.pyc"),
        {"exchange": ["__pycache__", "a.py"]},
    ),
    "scripts and data": (
        {"/env/bin/tool": "1", "/env/share/man/tool.1": "1"},
        {"/env/bin/tool": "2", "/env/share/man/tool.1": "2", "/env/etc/tool.conf": ""},
        ("/env/bin/tool", "/env/share/man/tool.1"),
        {"exchange": ["env/share", "env/bin/tool"], "in": ["env/etc"]},
    ),
    "through lib64": (
        {"/env/lib64": "-> /env/lib", "p/a.py": "1"},
        {"/env/lib64/python3.11/site-packages/p/a.py": "2"},
        ("p/a.py",),
        {"exchange": ["p"]},
    ),
    "a module of one's own becomes a package": (
        {"a.py": "1"},
        {"a/__init__.py": "2", "a.so": ""},
        ("a.py",),
        {"in": ["a", "a.so"], "out": ["a.py"]},
    ),
    "a folder of data beside a module of that name": (
        {"a.py": "theirs"},
        {"a/data.txt": ""},
        (),
        {"in": ["a"]},
    ),
    "two halves of a namespace from two folders": (
        {"/env/lib64": "-> /env/lib"},
        {"ns/a.py": "", "/env/lib64/python3.11/site-packages/ns/b.so": ""},
        (),
        {"in": ["ns", "ns/b.so"]},
    ),
}


@pytest.mark.parametrize(("disk", "stage", "old", "expected"), TABLE.values(), ids=TABLE.keys())
def test_by_directory(disk, stage, old, expected):  # type: ignore[no-untyped-def]
    moves = plan(disk, stage, old)
    assert isinstance(moves, MovePlan), moves
    assert short(moves, stage) == expected


def test_by_file_keeps_directories_that_are_needed_again() -> None:
    moves = plan(
        {"p/a.py": "1", "p/gone/b.py": "1"},
        {"p/a.py": "2", "p/new/c.py": "2"},
        ("p/a.py", "p/gone/b.py"),
        level=Level.FILE,
    )
    assert short(moves) == {
        "exchange": ["p/a.py"],
        "out": ["p/gone/b.py"],
        "rmdir": ["p/gone"],
        "mkdir": ["p/new"],
        "in": ["p/new/c.py"],
    }


@pytest.mark.parametrize(
    ("disk", "stage", "old", "expected"),
    [
        ({"p/a.py": ""}, {"p": ""}, ("p/a.py",), {"out": ["p/a.py"], "rmdir": ["p"], "in": ["p"]}),
        ({"p": ""}, {"p/a.py": ""}, ("p",), {"out": ["p"], "mkdir": ["p"], "in": ["p/a.py"]}),
        ({"p/q/a.py": ""}, {}, ("p/q/a.py",), {"out": ["p/q/a.py"], "rmdir": ["p/q", "p"]}),
    ],
    ids=["directory to file", "file to directory", "deepest first"],
)
def test_by_file(disk, stage, old, expected):  # type: ignore[no-untyped-def]
    assert short(plan(disk, stage, old, level=Level.FILE), stage) == expected


@pytest.mark.parametrize(
    ("disk", "stage", "owners", "path", "words"),
    [
        ({"six.py": "theirs"}, {"six.py": "ours"}, {"six.py": "six"}, "six.py", "belongs to six"),
        ({"six.py": "mine"}, {"six.py": "ours"}, {}, "six.py", "no distribution"),
        ({"p": "mine"}, {"p/a.py": ""}, {}, "p", "would become a directory"),
        ({"p/a.py": "mine"}, {"p": ""}, {}, "p", "is a directory with files"),
        ({}, {"/env/bin/python": "evil"}, {}, "/env/bin/python", "interpreter"),
        ({}, {"/env/bin/python3.11": "evil"}, {}, "/env/bin/python3.11", "interpreter"),
        ({}, {"/env/bin/activate.fish": "evil"}, {}, "/env/bin/activate.fish", "activation"),
        ({}, {"/env/pyvenv.cfg": "evil"}, {}, "/env/pyvenv.cfg", "environment itself"),
        (
            {},
            {"/env/lib/python3.11/os.py": "evil"},
            {},
            "/env/lib/python3.11/os.py",
            "standard library",
        ),
        ({}, {"/etc/passwd": "evil"}, {}, "/etc", "outside"),
        ({}, {"/env-sibling/x": "evil"}, {}, "/env-sibling", "outside"),
        ({}, {"/env/pip.conf": "evil"}, {}, "/env/pip.conf", "run of pip"),
        ({}, {"/env/bin/pyvenv.cfg": "evil"}, {}, "/env/bin/pyvenv.cfg", "which Python"),
        ({}, {"/env/lib/python311.zip": "evil"}, {}, "/env/lib/python311.zip", "standard library"),
        ({}, {"/env/lib/libcuda.so.1": "evil"}, {}, "/env/lib/libcuda.so.1", "NVIDIA driver"),
        (
            {},
            {"/env/x/y/libnvidia-ml.so.1": "evil"},
            {},
            "/env/x/y/libnvidia-ml.so.1",
            "NVIDIA driver",
        ),
        (
            {},
            {"/env/include/site/python3.11/demo/pyvenv.cfg": ""},
            {},
            "demo/pyvenv.cfg",
            "which Python",
        ),
        (
            {"/env/lib64": "-> /env/lib"},
            {"/env/lib64/pip.conf": ""},
            {},
            "/env/lib/pip.conf",
            "run of pip",
        ),
        ({}, {"/env/etc/PIP.CONF": "evil"}, {}, "/env/etc/PIP.CONF", "run of pip"),
        ({}, {"/env/.condarc": "evil"}, {}, "/env/.condarc", "run of conda"),
        ({}, {"/env/condarc.d/a.yml": "evil"}, {}, "/env/condarc.d", "run of conda"),
        ({}, {"/env/bin/python._pth": "evil"}, {}, "/env/bin/python._pth", "looks for its modules"),
        (
            {},
            {"/env/bin/pybuilddir.txt": "evil"},
            {},
            "/env/bin/pybuilddir.txt",
            "looks for its modules",
        ),
        (
            {},
            {"/env/lib/python311.zip/os.py": "evil"},
            {},
            "/env/lib/python311.zip",
            "standard library",
        ),
        (
            {},
            {"/env/lib/libstdc++.so.6": "evil"},
            {},
            "/env/lib/libstdc++.so.6",
            "Python itself needs",
        ),
        (
            {},
            {"/env/lib/libpython3.11.so.1.0": "evil"},
            {},
            "libpython3.11.so.1.0",
            "Python itself needs",
        ),
        ({}, {"/env/bin/torch.py": "evil"}, {}, "/env/bin/torch.py", "in the place of torch"),
        ({}, {"/env/bin/torch/__init__.py": "evil"}, {}, "/env/bin/torch", "in the place of torch"),
        (
            {"six.py": ""},
            {"six.cpython-311-x86_64-linux-gnu.so": ""},
            {"six.py": "six"},
            "gnu.so",
            "belongs to six",
        ),
        (
            {"six.py": ""},
            {"six/__init__.py": "evil"},
            {"six.py": "six"},
            "/six",
            "in the place of six.py",
        ),
        ({"p/a.py": ""}, {"p/a/__init__.pyc": "evil"}, {"p/a.py": "p"}, "p/a", "belongs to p"),
        ({"torch/__init__.py": ""}, {"torch/hook.py": "evil"}, {}, "torch/hook.py", "by torch"),
        (
            {"torch/lib/x.so": ""},
            {"torch/lib/libstdc++.so.6": "evil"},
            {},
            "torch/lib/libstdc++.so.6",
            "by torch",
        ),
        ({"torch/__init__.py": ""}, {"torch/new/a.py": "evil"}, {}, "torch/new", "by torch"),
        (
            {"torch/a.py": ""},
            {"torch/__pycache__/a.cpython-311.pyc": "evil"},
            {},
            "torch/__pycache__",
            "by torch",
        ),
        (
            {},
            {"/env/.safe-install/recover.py": "evil"},
            {},
            "/env/.safe-install",
            "environment itself",
        ),
    ],
)
def test_refused(disk, stage, owners, path, words):  # type: ignore[no-untyped-def]
    refusal = plan(disk, stage, (), owners, closed={f"{SITE}/torch": "torch"})
    assert isinstance(refusal, MoveRefusal), refusal
    assert refusal.path.endswith(path)
    assert words in refusal.reason


@pytest.mark.parametrize(
    "name", ["python-argcomplete-check", "activate-global-python-argcomplete", "pythonfoo"]
)
def test_names_that_only_look_protected(name: str) -> None:
    assert AREAS.find_objection(f"/env/bin/{name}") is None


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/tool/pyvenv.cfg",
        f"{SITE}/torch_scatter/_C.so",
        f"{SITE}/nvidia/lib/libcudart.so.13",
        "/env/lib/libtbb.so.12",
        "/env/lib/libcompiler.so",
        "/env/etc/pip.conf.d",
        "/env/bin/torchrun",
        "/env/bin/torch-model-archiver",
    ],
)
def test_what_a_wheel_may_bring(path: str) -> None:
    assert (
        dataclasses.replace(AREAS, closed={f"{SITE}/torch": "torch"}).find_arrival_objection(path)
        is None
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/opt/data/pip.conf", "is read by every run of pip"),
        ("/opt/data/share/pip/pip.conf", "is read by every run of pip"),
        ("/opt/data/share/tool/tool.conf", None),
        ("/opt/scripts/python311.zip", "stands on sys.path"),
    ],
)
def test_directories_outside_of_the_prefix_are_watched_too(path, words) -> None:  # type: ignore[no-untyped-def]
    areas = Areas("/env", (SITE,), "/opt/scripts", ("/env/include/python3.11", "/opt/data"))
    objection = areas.find_arrival_objection(path)
    assert objection is None if words is None else words in objection


def test_the_same_file_from_two_folders_of_the_stage() -> None:
    disk = {"/env/lib64": "-> /env/lib"}
    refusal = plan(disk, {"a.py": "1", "/env/lib64/python3.11/site-packages/a.py": "2"})
    assert isinstance(refusal, MoveRefusal)
    assert "two of the distributions" in refusal.reason


def test_without_exchange_the_old_goes_before_the_new_comes() -> None:
    moves = make_plan_without_exchange(plan({"p/a.py": "1"}, {"p/a.py": "2"}, ("p/a.py",)))
    assert short(moves) == {"out": ["p"], "in": ["p"]}


def test_an_empty_directory_outside_of_site_packages_is_nobodys_and_stays() -> None:
    class Tree(FakeTree):
        def read_entries(self, directory: str) -> Mapping[str, str]:
            empty = {"empty": "d"} if directory == "/env/include/python3.11/demo" else {}
            return {**super().read_entries(directory), **empty}

    header = "/env/include/python3.11/demo/a.h"
    moves = plan_moves(
        {header},
        make_stage({}),
        tree=Tree({header: ""}, {}, {}),
        areas=AREAS,
        level=Level.DIRECTORY,
    )
    assert isinstance(moves, MovePlan)
    assert list(moves.outs) == [header]
