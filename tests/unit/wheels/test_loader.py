"""The model of the dynamic loader over files in memory, and the files on disk that it is asked
about."""

from __future__ import annotations

import struct

import pytest

from safe_install.wheels.elf import SharedObject
from safe_install.wheels.libraries import DiskFiles, read_loader_cache, search_folders
from safe_install.wheels.loader import DRIVER_LIBRARIES, Scope, check_object, load, make_scope
from tests.unit.wheels.elffiles import AARCH64, is_clean, make_elf, want


class Memory:
    """`Files` over built files: by path their fields, in the loader's cache by name."""

    def __init__(self, files, cache=()):
        self.files = {
            path: SharedObject(make_elf(**fields)) if fields is not None else None
            for path, fields in files.items()
        }
        self.cache = dict(cache)
        self.asked = []

    def read(self, path):
        return self.files.get(path)

    def exists(self, path):
        self.asked.append(path)
        return path in self.files

    def find_in_system(self, name):
        self.asked.append(name)
        return self.cache.get(name)


def check(files, *, cache=(), shared=(), others=(), search=(), siblings=(), path="/w/ext.so"):
    """The problems of /w/ext.so, beside a program that defines `exit`."""
    memory = Memory({"/bin/python": {"defines": ["exit"]}, **files}, cache)
    scope = make_scope(memory, program="/bin/python", shared=shared, others=others, search=search)
    return check_object(path, memory, scope, siblings=siblings)


def told(problems):
    """What is missing, undefined, of a missing version; by names."""
    versions = [one.need.version for one in problems.versions]
    names = [one.symbol.name for one in problems.undefined]
    return [one.library for one in problems.missing], names, versions


CLEAN = ([], [], [])

# --- what is loaded -------------------------------------------------------------------------------


def test_breadth_first():
    files = Memory(
        {
            "/w/ext.so": {"needed": ["a.so", "b.so"], "rpath": "/w"},
            "/w/a.so": {"needed": ["c.so"]},
            "/w/b.so": {"needed": ["d.so", "c.so"]},
            "/w/c.so": {"needed": ["gone.so"]},
            "/w/d.so": {},
        }
    )
    own, new, missing, driver = load("/w/ext.so", files, Scope())
    assert [one.path for one in own] == ["/w/ext.so", "/w/a.so", "/w/b.so", "/w/c.so", "/w/d.so"]
    assert own == new
    assert [(one.library, one.needed_by) for one in missing] == [("gone.so", "/w/c.so")]
    assert driver == []


def test_cycles_end():
    files = {
        "/w/ext.so": {"needed": ["a.so"], "rpath": "/w"},
        "/w/a.so": {"needed": ["b.so", "ext.so"], "defines": ["a"], "wants": ["b"]},
        "/w/b.so": {"needed": ["a.so", "b.so"], "defines": ["b"], "wants": ["a", "c"]},
    }
    assert told(check(files)) == ([], ["c"], [])


def test_what_is_loaded_is_not_loaded_again():
    c10 = {"needed": ["x.so"], "rpath": "/t", "soname": "libc10.so"}
    files = Memory({"/w/ext.so": {"needed": ["libc10.so"]}, "/t/libc10.so": c10})
    files.files["/t/x.so"] = SharedObject(make_elf())
    scope = make_scope(files, program="/bin/python", shared=[], others=["/t/libc10.so"])
    own, new, _, _ = load("/w/ext.so", files, scope)
    assert [one.path for one in own] == ["/w/ext.so", "/t/libc10.so", "/t/x.so"]
    assert [one.path for one in new] == ["/w/ext.so"]


def test_a_file_that_is_not_there_or_not_readable_is_missing():
    assert told(check({})) == (["ext.so"], [], [])
    assert told(check({"/w/ext.so": None})) == (["ext.so"], [], [])


# --- where a library is sought --------------------------------------------------------------------

LIB = {"defines": ["f"]}


@pytest.mark.parametrize(
    ("ext", "search", "found"),
    [
        ({"rpath": "/r"}, (), True),
        ({"runpath": "/r"}, (), True),
        ({"rpath": "/none:/r"}, (), True),
        ({}, ("/r",), True),
        ({}, (), False),
        ({"rpath": "/none"}, (), False),
        ({"rpath": "/r", "runpath": "/none"}, (), False),  # RUNPATH silences RPATH
        ({"runpath": "$ORIGIN/../r"}, (), True),
        ({"runpath": "${ORIGIN}/../r"}, (), True),
        ({"rpath": "$ORIGIN/../r"}, (), True),
        ({"rpath": "$ORIGIN/r"}, (), False),
    ],
)
def test_folders(ext, search, found):
    files = {"/w/ext.so": {"needed": ["lib.so"], "wants": ["f"], **ext}, "/r/lib.so": LIB}
    assert is_clean(check(files, search=search)) is found


ORDER = [
    "/rpath/lib.so",
    "/environment/lib.so",
    "/runpath/lib.so",
    "/cache/lib.so",
    "/beside/lib.so",
]


@pytest.mark.parametrize(
    ("ext", "there", "taken"),
    [
        ({"rpath": "/rpath"}, ORDER, "/rpath/lib.so"),
        ({"rpath": "/rpath"}, ORDER[1:], "/environment/lib.so"),
        ({"runpath": "/runpath"}, ORDER, "/environment/lib.so"),
        ({"runpath": "/runpath"}, ORDER[2:], "/runpath/lib.so"),
        ({"runpath": "/runpath"}, ORDER[3:], "/cache/lib.so"),
        ({}, ORDER[3:], "/cache/lib.so"),
        ({}, ORDER[4:], "/beside/lib.so"),
    ],
)
def test_the_order_of_the_folders(ext, there, taken):
    files = Memory({"/w/ext.so": {"needed": ["lib.so"], **ext}, **{path: {} for path in there}})
    files.cache = {"lib.so": "/cache/lib.so"}
    own, _, _, _ = load(
        "/w/ext.so", files, Scope(search=("/environment",)), siblings=["/beside/lib.so"]
    )
    assert own[1].path == taken


INHERITED = {
    "from the loader": ({"rpath": "/r"}, {}, {}, True),
    "from the loader's loader": ({"rpath": "/w:/r"}, {"rpath": "/w"}, {}, True),
    "RUNPATH is for its own file": ({"runpath": "/w:/r"}, {}, {}, False),
    "not where the file has a RUNPATH": ({"rpath": "/w:/r"}, {}, {"runpath": "/none"}, False),
    "past a loader that has a RUNPATH": ({"rpath": "/w:/r"}, {"runpath": "/w"}, {}, True),
    "not the RPATH beside a RUNPATH": (
        {"rpath": "/w"},
        {"runpath": "/w", "rpath": "/r"},
        {},
        False,
    ),
}


@pytest.mark.parametrize(
    ("first", "second", "third", "found"), INHERITED.values(), ids=INHERITED.keys()
)
def test_paths_of_what_loaded_it(first, second, third, found):
    files = {
        "/w/ext.so": {
            "needed": ["a.so"],
            **first,
            "rpath": f"/w:{first['rpath']}" if "rpath" in first else None,
        },
        "/w/a.so": {"needed": ["b.so"], **second},
        "/w/b.so": {"needed": ["lib.so"], **third},
        "/r/lib.so": {},
    }
    cache = {"a.so": "/w/a.so", "b.so": "/w/b.so"}
    assert is_clean(check(files, cache=cache)) is found


def test_a_name_with_a_slash_is_a_path():
    files = {
        "/w/ext.so": {
            "needed": ["/abs/a.so", "$ORIGIN/sub/b.so", "sub/c.so"],
            "rpath": "/w",
            "wants": ["a", "b"],
        },
        "/abs/a.so": {"defines": ["a"]},
        "/w/sub/b.so": {"defines": ["b"]},
        "/w/sub/c.so": {},
    }
    # A relative one begins in the working directory of the process, whatever that is.
    assert told(check(files)) == (["sub/c.so"], [], [])


def test_the_rpath_of_the_program():
    files = {
        "/bin/python": {"rpath": "$ORIGIN/../lib"},
        "/w/ext.so": {"needed": ["lib.so"]},
        "/lib/lib.so": {},
    }
    assert is_clean(check(files))


def test_the_rpath_of_the_program_is_not_for_files_with_a_runpath():
    files = {
        "/bin/python": {"rpath": "/lib"},
        "/w/ext.so": {"needed": ["lib.so"], "runpath": "/w"},
        "/lib/lib.so": {},
    }
    assert not is_clean(check(files))


@pytest.mark.parametrize(
    "other", [None, {"machine": AARCH64}], ids=["not readable", "another machine"]
)
def test_a_file_that_does_not_fit_is_passed_over(other):
    files = {
        "/w/ext.so": {"needed": ["lib.so"], "rpath": "/a:/b"},
        "/a/lib.so": other,
        "/b/lib.so": {},
    }
    assert is_clean(check(files))


@pytest.mark.parametrize(
    ("loaded", "found"),
    [({"soname": "lib.so.1"}, True), ({}, False), ({"soname": "other.so"}, False), (None, False)],
)
def test_a_soname_that_is_loaded_satisfies(loaded, found):
    files = {"/w/ext.so": {"needed": ["lib.so.1"], "wants": ["f"]}}
    if loaded is not None:
        files["/t/lib-abc.so"] = {"defines": ["f"], **loaded}
    assert is_clean(check(files, others=["/t/lib-abc.so"])) is found


def test_a_sibling_satisfies_last():
    files = {"/w/ext.so": {"needed": ["libw.so"], "wants": ["f"]}, "/w/deep/libw.so": LIB}
    assert is_clean(check(files, siblings=["/w/ext.so", "/w/deep/libw.so"]))
    assert told(check(files))[0] == ["libw.so"]


def test_what_a_sibling_lacks_is_told():
    files = {
        "/w/ext.so": {"needed": ["libw.so"]},
        "/w/libw.so": {"needed": ["gone.so"], "wants": ["g"]},
    }
    assert told(check(files, siblings=["/w/libw.so"]))[0] == ["gone.so"]


def test_a_sibling_is_known_by_its_soname():
    files = {
        "/w/ext.so": {"needed": ["libw.so.1"], "wants": ["f"]},
        "/w/libw.so": {"soname": "libw.so.1", **LIB},
    }
    assert is_clean(check(files, siblings=["/w/libw.so"]))


# --- what the driver brings -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DRIVER_LIBRARIES))
def test_libraries_of_the_driver_are_no_fault(name):
    problems = check(
        {"/w/ext.so": {"needed": [name, "a.so"], "rpath": "/w"}, "/w/a.so": {"needed": [name]}}
    )
    assert is_clean(problems) and problems.driver == (name,)


def test_a_driver_that_is_here_is_looked_into():
    files = {
        "/w/ext.so": {"needed": ["libcuda.so.1"], "wants": ["cuInit"]},
        "/d/libcuda.so.1": {"defines": ["cuInit"]},
    }
    problems = check(files, cache={"libcuda.so.1": "/d/libcuda.so.1"})
    assert is_clean(problems) and problems.driver == ()


def test_symbols_of_the_driver_are_no_fault():
    files = {"/w/ext.so": {"needed": ["libcuda.so.1"], "wants": ["cuInit", "cuLaunchKernel"]}}
    assert is_clean(check(files))


# --- symbols --------------------------------------------------------------------------------------

TORCH = {
    "/t/global.so": {"needed": ["deps.so"], "rpath": "/t", "defines": ["in_global"]},
    "/t/deps.so": {"defines": ["in_deps"]},
    "/t/_C.so": {"needed": ["libtorch_python.so"], "rpath": "/t", "defines": ["in_module"]},
    "/t/libtorch_python.so": {"defines": ["in_python"], "soname": "libtorch_python.so"},
}


@pytest.mark.parametrize(
    ("needed", "wants", "undefined"),
    [
        ([], ["exit", "in_global", "in_deps"], []),
        ([], ["in_python"], ["in_python"]),  # loaded, and neither global nor needed
        ([], ["in_module"], ["in_module"]),
        (["libtorch_python.so"], ["in_python"], []),
        (["libtorch_python.so"], ["in_module"], ["in_module"]),
        ([], ["nowhere"], ["nowhere"]),
        ([], [want("nowhere", weak=True)], []),
        ([], [want("nowhere", used=False)], []),
        ([], ["own"], []),
        ([], ["b", "exit", "a"], ["b", "a"]),
    ],
)
def test_where_a_symbol_is_sought(needed, wants, undefined):
    wants = [one for one in wants if one != "own"]
    files = {**TORCH, "/w/ext.so": {"needed": needed, "wants": wants, "defines": ["own"]}}
    problems = check(files, shared=["/t/global.so"], others=["/t/_C.so"])
    assert told(problems) == ([], undefined, [])
    assert {one.wanted_by for one in problems.undefined} == ({"/w/ext.so"} if undefined else set())


def test_libraries_that_come_along_are_checked_too():
    files = {
        "/w/ext.so": {"needed": ["a.so"], "rpath": "/w", "defines": ["of_ext"]},
        "/w/a.so": {"wants": ["of_ext", "of_none"]},
    }
    problems = check(files)
    assert [(one.symbol.name, one.wanted_by) for one in problems.undefined] == [
        ("of_none", "/w/a.so")
    ]


def test_libraries_that_were_loaded_before_are_not_checked():
    files = {
        "/t/old.so": {"wants": ["of_none"], "soname": "old.so"},
        "/w/ext.so": {"needed": ["old.so"]},
    }
    assert is_clean(check(files, others=["/t/old.so"]))


def test_a_file_that_was_opened_by_its_path_is_not_known_by_the_end_of_it():
    files = {"/t/_C.so": {"defines": ["f"]}, "/w/ext.so": {"needed": ["_C.so"], "wants": ["f"]}}
    assert told(check(files, others=["/t/_C.so"]))[0] == ["_C.so"]


def test_a_symbol_that_a_library_which_is_there_should_define_is_told_beside_a_missing_one():
    files = Memory({"/w/ext.so": {"needed": ["gone.so"], "wants": ["f", "g"]}})
    scope = make_scope(files, program="/bin/python", shared=[], others=[])
    problems = check_object("/w/ext.so", files, scope, is_of_known=lambda name: name == "g")
    assert told(problems)[:2] == (["gone.so"], ["g"])


# --- versions -------------------------------------------------------------------------------------

VERSIONS = {
    "the version": ({"defines": ["f@@V1"]}, ["f@lib.so:V1"], CLEAN),
    "a hidden version": ({"defines": ["f@V1", "f@@V2"]}, ["f@lib.so:V1"], CLEAN),
    "another version": ({"defines": ["f@@V2"]}, ["f@lib.so:V1"], ([], ["f"], ["V1"])),
    "the version without the symbol": ({"defines": ["g@@V1"]}, ["f@lib.so:V1"], ([], ["f"], [])),
    "no version asked": ({"defines": ["f@@V1"]}, ["f"], CLEAN),
    "weak symbol, no version": (
        {"defines": ["f@@V2"]},
        [want("f@lib.so:V1", weak=True)],
        ([], [], ["V1"]),
    ),
}


@pytest.mark.parametrize(("library", "wants", "expected"), VERSIONS.values(), ids=VERSIONS.keys())
def test_versioned_references(library, wants, expected):
    files = {
        "/w/ext.so": {"needed": ["lib.so"], "rpath": "/w", "wants": wants},
        "/w/lib.so": library,
    }
    assert told(check(files)) == expected


def test_a_weak_need_of_a_version_may_be_absent():
    ext = {"needed": ["lib.so"], "rpath": "/w"}
    library = {"defines": ["f@@V1"]}
    assert is_clean(
        check({"/w/ext.so": {**ext, "weak_version_needs": ["lib.so:V9"]}, "/w/lib.so": library})
    )
    problems = check({"/w/ext.so": {**ext, "version_needs": ["lib.so:V9"]}, "/w/lib.so": library})
    assert [(one.need.library, one.need.version) for one in problems.versions] == [("lib.so", "V9")]


def test_a_library_without_any_versions_ends_the_process():
    files = {
        "/w/ext.so": {"needed": ["lib.so"], "rpath": "/w", "wants": ["f@lib.so:V1"]},
        "/w/lib.so": {"defines": ["f"]},
    }
    assert told(check(files)) == ([], [], ["V1"])


def test_a_library_that_needs_versions_and_defines_none_is_taken():
    files = {
        "/w/ext.so": {"needed": ["lib.so"], "rpath": "/w", "wants": ["f@lib.so:V1"]},
        "/w/lib.so": {"defines": ["f"], "needed": ["base.so"], "wants": ["g@base.so:B"]},
        "/w/base.so": {"defines": ["g@@B"]},
    }
    assert is_clean(check(files))


def test_a_missing_library_is_told_once_and_its_symbols_not():
    files = {
        "/w/ext.so": {
            "needed": ["gone.so", "a.so"],
            "rpath": "/w",
            "wants": ["f@gone.so:V1", "g@gone.so:V2"],
        },
        "/w/a.so": {"defines": ["a"]},
    }
    assert told(check(files)) == (["gone.so"], [], [])


def test_a_missing_library_is_told_once_and_its_symbols_without_versions_not():
    files = {"/w/ext.so": {"needed": ["gone.so"], "wants": ["f", "g"]}}
    assert told(check(files)) == (["gone.so"], [], [])


# --- on disk --------------------------------------------------------------------------------------


def test_files_of_the_change_come_first_and_removed_ones_are_gone(tmp_path):
    stage, site = tmp_path / "stage", tmp_path / "site"
    for folder in (site, stage / str(site).lstrip("/")):
        folder.mkdir(parents=True)
    (site / "old.so").write_bytes(make_elf(soname="old"))
    (site / "both.so").write_bytes(make_elf(soname="old"))
    (site / "gone.so").write_bytes(make_elf(soname="old"))
    (stage / str(site / "both.so").lstrip("/")).write_bytes(make_elf(soname="new"))
    removed = {str(site / "gone.so"), str(site / "both.so")}
    files = DiskFiles(stage=stage, is_removed=removed.__contains__)
    assert [files.read(str(site / name)).soname for name in ("old.so", "both.so")] == ["old", "new"]
    assert files.read(str(site / "gone.so")) is None and not files.exists(str(site / "gone.so"))


@pytest.mark.parametrize("content", [b"", b"INPUT(-lm)", b"\x7fELF" * 100, make_elf()[:300]])
def test_files_that_are_no_shared_objects_are_none(tmp_path, content):
    (tmp_path / "x.so").write_bytes(content)
    assert DiskFiles().read(str(tmp_path / "x.so")) is None
    assert DiskFiles().read(str(tmp_path)) is None


def make_cache(*entries, old=b""):
    """/etc/ld.so.cache; `old`: the format that may stand before."""
    strings, rows = b"", b""
    start = 48 + 24 * len(entries)
    for flags, name, path in entries:
        at = start + len(strings)
        strings += name.encode() + b"\0" + path.encode() + b"\0"
        rows += struct.pack("<iIIIQ", flags, at, at + len(name) + 1, 0, 0)
    return (
        old
        + b"glibc-ld.so.cache1.1"
        + struct.pack("<II20x", len(entries), len(strings))
        + rows
        + strings
    )


ROWS = [
    (0x303, "libm.so.6", "/lib64/libm.so.6"),
    (3, "libm.so.6", "/lib32/libm.so.6"),
    (0x302, "libx.so", "/libc5"),
]


@pytest.mark.parametrize("old", [b"", b"ld.so-1.7.0\0" + bytes(20)])
def test_the_loaders_cache(tmp_path, old):
    path = tmp_path / "cache"
    path.write_bytes(make_cache(*ROWS, old=old))
    assert read_loader_cache(str(path)) == {"libm.so.6": "/lib64/libm.so.6"}


def test_a_damaged_cache_never_raises(tmp_path):
    path, whole = tmp_path / "cache", make_cache(*ROWS)
    assert read_loader_cache(str(path)) == {}
    for content in [whole[:length] for length in range(len(whole))] + [
        whole[:at] + b"\xff" * 4 + whole[at + 4 :] for at in range(len(whole))
    ]:
        path.write_bytes(content)
        assert isinstance(read_loader_cache(str(path)), dict)


@pytest.mark.parametrize(
    ("text", "folders"),
    [(None, ()), ("", ()), ("/a", ("/a",)), ("/a::/b:", ("/a", "/b")), ("/a;/b", ("/a", "/b"))],
)
def test_the_variable(text, folders):
    assert search_folders({"LD_LIBRARY_PATH": text} if text is not None else {}) == folders
