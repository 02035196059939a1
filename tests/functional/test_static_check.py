"""The static check against the real thing: what ld.so loads, what pyelftools reads, what nvcc
writes."""

from __future__ import annotations

import glob
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection, GNUVerSymSection
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from safe_install.wheels.elf import SharedObject, WantedSymbol
from safe_install.wheels.fatbin import CUDA_OF_PTX, read_fatbin
from safe_install.wheels.inspection import demangle
from safe_install.wheels.libraries import DiskFiles
from safe_install.wheels.loader import TAKES_UNVERSIONED, check_object, make_scope
from tests.unit.wheels.elffiles import is_clean

GCC, NVCC = shutil.which("gcc"), shutil.which("nvcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="libraries are made with gcc, which is not here")


def run(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    return subprocess.run(
        [str(word) for word in command],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def must(*command: object, **variables: str) -> str:
    completed = run(*command, **variables)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


# --- ld.so ----------------------------------------------------------------------------------------

OLD, NEW = "-Wl,--disable-new-dtags", "-Wl,--enable-new-dtags"
HERE = "-Wl,-rpath,$ORIGIN"
SYSV = "-Wl,--hash-style=sysv"
F, CALLS_F = "int f(void) { return 1; }", "int f(void); int g(void) { return f(); }"
V1, V2 = "V1 { global: f; local: *; };", "V2 { global: f; local: *; };"
BOTH = (
    '__asm__(".symver f_1,f@V1"); __asm__(".symver f_2,f@@V2"); int f_1(void) { return 1; } '
    "int f_2(void) { return 2; }"
)
WEAKLY_F = "__attribute__((weak)) int f(void); int g(void) { return f ? f() : 0; }"
CHOSEN_F = "static int one(void) { return 1; } static int (*pick(void))(void) { return one; }"
CHOSEN_F += 'int f(void) __attribute__((ifunc("pick")));'
LIBC = "#include <stdlib.h>\nvoid *h(void) { return malloc(1); }\n"  # so that it needs a version


@dataclass(frozen=True)
class Library:
    """A library to compile: what it is linked against, where it lies, how it is called."""

    source: str
    links: Tuple[str, ...] = ()
    options: Tuple[str, ...] = ()
    script: str = ""
    soname: Optional[str] = None  # its file name, unless it is said


def lib(
    source: str, *options: str, links: str = "", script: str = "", soname: Optional[str] = None
) -> Library:
    return Library(source, tuple(links.split()), options, script, soname)


@dataclass(frozen=True)
class Situation:
    """Libraries in the order in which they are made; then some are replaced or removed, and ext.so
    is loaded."""

    made: Mapping[str, Library]
    replaced: Mapping[str, Optional[Library]]
    shared: Sequence[str] = ()
    others: Sequence[str] = ()
    search: str = ""
    loads: bool = True


def case(
    made: Mapping[str, Library],
    *,
    loads: bool = True,
    replaced: Optional[Mapping[str, Optional[Library]]] = None,
    **options: object,
) -> Situation:
    return Situation(made, replaced or {}, loads=loads, **options)  # type: ignore[arg-type]


def pair(ext: Library, library: Optional[Library] = None) -> Mapping[str, Library]:
    return {"libf.so": library or lib(F), "ext.so": ext}


CALLER = lib(CALLS_F, HERE, links="libf.so")
EMPTY = "int unused;"
NEWER_GLIBC_TAKES = "a library without any version table"

SITUATIONS = {
    "nothing needed": case({"ext.so": lib(F)}),
    "nothing asked for": case({"ext.so": lib(F, "-nostdlib")}),
    "no symbols": case({"ext.so": lib("", "-nostdlib")}),
    "the C library": case({"ext.so": lib(LIBC)}),
    "a program's symbol": case(
        {"ext.so": lib("int Py_IsInitialized(void); int g(void) { return Py_IsInitialized(); }")}
    ),
    "missing symbol": case({"ext.so": lib(CALLS_F)}, loads=False),
    "missing variable": case(
        {"ext.so": lib("extern int f; int *g(void) { return &f; }")}, loads=False
    ),
    "weak symbol": case({"ext.so": lib(WEAKLY_F)}),
    "declared and not used": case({"ext.so": lib("int f(void); int g(void) { return 0; }")}),
    "missing library": case(pair(CALLER), replaced={"libf.so": None}, loads=False),
    "library is a text": case(
        pair(CALLER), replaced={"libf.so": Library("INPUT(-lc)", soname="!")}, loads=False
    ),
    "library lost the symbol": case(pair(CALLER), replaced={"libf.so": lib(EMPTY)}, loads=False),
    "library hides the symbol": case(
        pair(CALLER), replaced={"libf.so": lib(F, "-fvisibility=hidden")}, loads=False
    ),
    "no path": case(pair(lib(CALLS_F, links="libf.so")), loads=False),
    "RUNPATH": case(pair(lib(CALLS_F, HERE, NEW, links="libf.so"))),
    "RPATH": case(pair(lib(CALLS_F, HERE, OLD, links="libf.so"))),
    "RPATH of a folder": case(
        {"deep/libf.so": lib(F), "ext.so": lib(CALLS_F, f"{HERE}/deep", links="deep/libf.so")}
    ),
    "another folder": case(
        {"deep/libf.so": lib(F), "ext.so": lib(CALLS_F, f"{HERE}/else", links="deep/libf.so")},
        loads=False,
    ),
    "LD_LIBRARY_PATH": case(
        {"deep/libf.so": lib(F), "ext.so": lib(CALLS_F, links="deep/libf.so")}, search="deep"
    ),
    "LD_LIBRARY_PATH before RUNPATH": case(
        {
            "libf.so": lib(F),
            "deep/libf.so": lib(EMPTY),
            "ext.so": lib(CALLS_F, HERE, NEW, links="libf.so"),
        },
        search="deep",
        loads=False,
    ),
    "RPATH before LD_LIBRARY_PATH": case(
        {
            "libf.so": lib(F),
            "deep/libf.so": lib(EMPTY),
            "ext.so": lib(CALLS_F, HERE, OLD, links="libf.so"),
        },
        search="deep",
    ),
    "RPATH is inherited": case(
        {
            "deep/libf.so": lib(F),
            "libm2.so": lib(CALLS_F, links="deep/libf.so"),
            "ext.so": lib(
                "int g(void); int e(void) { return g(); }",
                f"{HERE}:$ORIGIN/deep",
                OLD,
                links="libm2.so",
            ),
        }
    ),
    "RUNPATH is not inherited": case(
        {
            "deep/libf.so": lib(F),
            "libm2.so": lib(CALLS_F, links="deep/libf.so"),
            "ext.so": lib(
                "int g(void); int e(void) { return g(); }",
                f"{HERE}:$ORIGIN/deep",
                NEW,
                links="libm2.so",
            ),
        },
        loads=False,
    ),
    "RPATH is not inherited by a file with RUNPATH": case(
        {
            "deep/libf.so": lib(F),
            "libm2.so": lib(CALLS_F, "-Wl,-rpath,/nowhere", NEW, links="deep/libf.so"),
            "ext.so": lib(
                "int g(void); int e(void) { return g(); }",
                f"{HERE}:$ORIGIN/deep",
                OLD,
                links="libm2.so",
            ),
        },
        loads=False,
    ),
    "version": case(pair(CALLER, lib(F, script=V1))),
    "version is another one": case(
        pair(CALLER, lib(F, script=V1)), replaced={"libf.so": lib(F, script=V2)}, loads=False
    ),
    "version is an old one": case(
        pair(CALLER, lib(F, script=V1)),
        replaced={
            "libf.so": lib(BOTH, script="V1 { global: f; }; V2 { global: f; local: *; } V1;")
        },
    ),
    "versions where none were": case(pair(CALLER), replaced={"libf.so": lib(F, script=V1)}),
    NEWER_GLIBC_TAKES: case(
        pair(CALLER, lib(F, script=V1)), replaced={"libf.so": lib(F, "-nostdlib")}, loads=False
    ),
    "a library that defines no versions": case(
        pair(CALLER, lib(F, script=V1)), replaced={"libf.so": lib(f"{F}\n{LIBC}")}
    ),
    "weak symbol of a version that is not there": case(
        pair(lib(WEAKLY_F, HERE, links="libf.so"), lib(F, script=V1)),
        replaced={"libf.so": lib(F, script=V2)},
        loads=False,
    ),
    "cycle": case(
        {
            "libb.so": lib("int b(void) { return 1; }"),
            "liba.so": lib("int b(void); int a(void) { return b(); }", HERE, links="libb.so"),
            "ext.so": lib("int a(void); int e(void) { return a(); }", HERE, links="liba.so"),
        },
        replaced={
            "libb.so": lib("int a(void); int b(void) { return a != 0; }", HERE, links="liba.so")
        },
    ),
    "library of a library lacks a symbol": case(
        {
            "libf.so": lib(F),
            "liba.so": lib("int f(void); int a(void) { return f(); }", HERE, links="libf.so"),
            "ext.so": lib("int a(void); int e(void) { return a(); }", HERE, links="liba.so"),
        },
        replaced={"libf.so": lib(EMPTY)},
        loads=False,
    ),
    "symbol of a library of a library": case(
        {
            "libf.so": lib(F),
            "liba.so": lib("int f(void); int a(void) { return f(); }", HERE, links="libf.so"),
            "ext.so": lib("int f(void); int e(void) { return f(); }", HERE, links="liba.so"),
        }
    ),
    "loaded for everybody": case({"libf.so": lib(F), "ext.so": lib(CALLS_F)}, shared=["libf.so"]),
    "loaded, and not needed": case(
        {"libf.so": lib(F), "ext.so": lib(CALLS_F)}, others=["libf.so"], loads=False
    ),
    "loaded, and needed": case(pair(lib(CALLS_F, links="libf.so")), others=["libf.so"]),
    "loaded under its SONAME": case(
        {"lib-abc.so": lib(F, soname="libf.so.1"), "ext.so": lib(CALLS_F, links="lib-abc.so")},
        others=["lib-abc.so"],
    ),
    "not loaded under its SONAME": case(
        {
            "lib-abc.so": lib(F, soname="libf.so.1"),
            "ext.so": lib(CALLS_F, HERE, links="lib-abc.so"),
        },
        loads=False,
    ),
    "SysV hash": case(pair(lib(CALLS_F, HERE, SYSV, links="libf.so"), lib(F, SYSV))),
    "SysV hash, missing symbol": case({"ext.so": lib(CALLS_F, SYSV)}, loads=False),
    "thread-local": case(
        pair(
            lib("extern __thread int f; int *g(void) { return &f; }", HERE, links="libf.so"),
            lib("__thread int f;"),
        )
    ),
    "chosen when it is loaded": case(pair(CALLER, lib(CHOSEN_F))),
    "an absolute zero": case(
        pair(
            lib("extern char f; char *g(void) { return &f; }", HERE, links="libf.so"),
            lib("char f;"),
        ),
        replaced={"libf.so": lib(EMPTY, "-Wl,--defsym=f=0")},
    ),
    "stripped": case(pair(lib(CALLS_F, HERE, "-s", links="libf.so"), lib(F, "-s"))),
}


def compile_into(folder: Path, name: str, library: Library) -> None:
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    if library.soname == "!":
        target.write_text(library.source)
        return
    source = folder / "source.c"
    source.write_text(library.source)
    options = [f"-Wl,-soname,{library.soname or target.name}", *library.options]
    if library.script:
        (folder / "script.map").write_text(library.script)
        options.append(f"-Wl,--version-script={folder / 'script.map'}")
    links = [folder / one for one in library.links]
    options.append("-Wl,--allow-shlib-undefined")
    must(
        GCC, "-shared", "-fPIC", "-O1", "-o", target, source, "-Wl,--no-as-needed", *links, *options
    )


LOAD = """
import ctypes, os, sys
mode, *paths = sys.argv[1:]
for path in paths[:-1]:
    ctypes.CDLL(path.lstrip("+"), os.RTLD_NOW | (os.RTLD_GLOBAL if path.startswith("+") else 0))
ctypes.CDLL(paths[-1], os.RTLD_NOW)
"""


@needs_gcc
@pytest.mark.parametrize("name", SITUATIONS)
def test_the_model_says_what_the_loader_does(tmp_path, name):
    situation = SITUATIONS[name]
    folder = Path(os.path.realpath(tmp_path))
    for member, library in situation.made.items():
        compile_into(folder, member, library)
    for member, replacement in situation.replaced.items():
        (folder / member).unlink()
        if replacement is not None:
            compile_into(folder, member, replacement)
    shared, others = (
        [str(folder / one) for one in names] for names in (situation.shared, situation.others)
    )
    variables = {"LD_LIBRARY_PATH": str(folder / situation.search)} if situation.search else {}
    preload = [*(f"+{one}" for one in shared), *others]
    real = run(sys.executable, "-c", LOAD, "", *preload, folder / "ext.so", **variables)
    glibc = tuple(int(part) for part in platform.libc_ver()[1].split("."))
    loads = situation.loads or (name == NEWER_GLIBC_TAKES and glibc >= TAKES_UNVERSIONED)
    assert (real.returncode == 0) is loads, real.stderr

    files = DiskFiles()
    scope = make_scope(
        files,
        program=os.path.realpath(sys.executable),
        shared=shared,
        others=others,
        search=[str(folder / situation.search)] if situation.search else [],
        glibc=glibc,
    )
    problems = check_object(str(folder / "ext.so"), files, scope)
    assert is_clean(problems) is loads, (problems, real.stderr)


PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    void *found = dlopen(words[1], RTLD_NOW);
    if (!found) puts(dlerror());
    return !found;
}
"""


@needs_gcc
@pytest.mark.parametrize(
    ("tags", "loads"),
    [
        (OLD, True),
        (NEW, False),
    ],
    ids=["RPATH", "RUNPATH"],
)
def test_paths_of_the_program(tmp_path, tags, loads):
    folder = Path(os.path.realpath(tmp_path))
    compile_into(folder, "lib/libf.so", lib(F))
    compile_into(folder, "ext.so", lib(CALLS_F, links="lib/libf.so"))
    (folder / "program.c").write_text(PROGRAM)
    program = folder / "program"
    must(GCC, "-o", program, folder / "program.c", f"{HERE}/lib", tags, "-ldl")
    real = run(program, folder / "ext.so")
    assert (real.returncode == 0) is loads, real.stdout
    files = DiskFiles()
    scope = make_scope(files, program=str(program), shared=[], others=[])
    assert is_clean(check_object(str(folder / "ext.so"), files, scope)) is loads


LOAD_EACH = """
import ctypes, os, sys
for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            ctypes.CDLL(path, os.RTLD_NOW)
        except OSError:
            os._exit(1)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


def test_modules_of_this_python_load_as_the_model_says():
    files = DiskFiles()
    scope = make_scope(files, program=os.path.realpath(sys.executable), shared=[], others=[])
    real = must(sys.executable, "-c", LOAD_EACH, *MODULES).split()
    assert len(real) == len(MODULES)
    for path, status in zip(MODULES, real):
        problems = check_object(path, files, scope)
        assert is_clean(problems) is (status == "0"), (path, problems)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_ZN2at6TensorC1Ev", "at::Tensor::Tensor()"),
        ("malloc", "malloc"),
        ("_Znot mangled", "_Znot mangled"),
        ("\udcff", "\udcff"),
    ],
)
def test_names_as_people_write_them(name, text):
    assert demangle(name) in (text, name)


# --- pyelftools -----------------------------------------------------------------------------------

MODULES = sorted(glob.glob(os.path.join(sysconfig.get_config_var("DESTSHARED") or "", "*.so")))
FOLDERS = [
    f"/lib/{platform.machine()}-linux-gnu",
    f"/usr/lib/{platform.machine()}-linux-gnu",
    "/lib64",
    "/usr/lib64",
]
SYSTEM = [
    path
    for name in ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0")
    for path in [os.path.join(folder, name) for folder in FOLDERS]
    if os.path.exists(path)
]
OBJECTS = list({os.path.realpath(path): path for path in [*MODULES, *SYSTEM]}.values())


@dataclass(frozen=True)
class Oracle:
    """What pyelftools reads of a file."""

    tags: Mapping[str, Sequence[str]]
    wanted: frozenset
    defined: Sequence[Tuple[str, Optional[str], bool]]  # name, version, is it the default one


def ask_pyelftools(path: str) -> Oracle:
    with open(path, "rb") as stream:
        sections = list(ELFFile(stream).iter_sections())
        numbers, needed, own = read_versions(sections)
        used = {
            row["r_info_sym"]
            for section in of_kind(sections, RelocationSection)
            if section.name in (".rela.dyn", ".rela.plt")
            for row in section.iter_relocations()
        }
        wanted, defined = set(), []
        (table,) = [one for one in of_kind(sections, SymbolTableSection) if one.name == ".dynsym"]
        for index, symbol in enumerate(table.iter_symbols()):
            number = numbers.get(index, 1)
            number = {"VER_NDX_LOCAL": 0, "VER_NDX_GLOBAL": 1}.get(number, number)
            binding, kind = symbol.entry["st_info"]["bind"], symbol.entry["st_info"]["type"]
            if not symbol.name or binding == "STB_LOCAL":
                continue
            if symbol.entry["st_shndx"] != "SHN_UNDEF":
                if symbol.entry["st_value"] or kind == "STT_TLS":
                    defined.append((symbol.name, own.get(number & 0x7FFF), not number & 0x8000))
            elif index in used:
                wanted.add(
                    WantedSymbol(
                        symbol.name,
                        *needed.get(number & 0x7FFF, (None, None)),
                        binding == "STB_WEAK",
                    )
                )
        return Oracle(read_tags(sections), frozenset(wanted), defined)


def of_kind(sections, kind):
    return [section for section in sections if isinstance(section, kind)]


def read_tags(sections):
    tags = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RPATH": [], "DT_RUNPATH": []}
    for tag in [
        tag for section in of_kind(sections, DynamicSection) for tag in section.iter_tags()
    ]:
        if tag.entry.d_tag in tags:
            tags[tag.entry.d_tag].append(getattr(tag, tag.entry.d_tag[3:].lower()))
    return tags


def read_versions(sections):
    numbers, needed, own = {}, {}, {}
    for section in of_kind(sections, GNUVerSymSection):
        numbers = {index: one.entry["ndx"] for index, one in enumerate(section.iter_symbols())}
    for section in of_kind(sections, GNUVerNeedSection):
        for library, rows in section.iter_versions():
            needed.update(
                {row.entry["vna_other"] & 0x7FFF: (row.name, library.name) for row in rows}
            )
    for section in of_kind(sections, GNUVerDefSection):
        for version, rows in section.iter_versions():
            if not version.entry["vd_flags"] & 1:
                own[version.entry["vd_ndx"] & 0x7FFF] = next(rows).name
    return numbers, needed, own


@pytest.mark.parametrize("path", OBJECTS, ids=[os.path.basename(path) for path in OBJECTS])
def test_what_pyelftools_reads_is_read(path):
    oracle, found = ask_pyelftools(path), SharedObject(Path(path).read_bytes())
    assert list(found.needed) == oracle.tags["DT_NEEDED"]
    assert found.soname == next(iter(oracle.tags["DT_SONAME"]), None)
    for tag, paths in (("DT_RPATH", found.rpath), ("DT_RUNPATH", found.runpath)):
        assert ":".join(paths) == next(iter(oracle.tags[tag]), "")
    assert len(found.wanted()) == len(oracle.wanted) and set(found.wanted()) == oracle.wanted
    names = {name for name, _, _ in oracle.defined}
    for name, version, is_default in oracle.defined:
        assert found.defines(name, version) or (version is None and not is_default), (name, version)
        if is_default:
            assert found.defines(name), name
        assert version is None or not found.defines(name, "NO_SUCH_VERSION")
    strangers = random.Random(1).sample(sorted(names), min(len(names), 200))
    for name in [*(f"{one}_" for one in strangers), *(one.name for one in oracle.wanted)]:
        assert found.defines(name) is (name in names), name
    assert found.defined_versions >= {version for _, version, _ in oracle.defined if version}


def test_there_are_objects_to_compare():
    assert MODULES and len(SYSTEM) >= 2, "the oracle has nothing to say"


# --- nvcc -----------------------------------------------------------------------------------------


@pytest.mark.skipif(NVCC is None, reason="GPU code is made with nvcc, which is not here")
@pytest.mark.parametrize(
    "options",
    [(), ("-rdc=true",), ("-Xfatbin", "-compress-all")],
    ids=["plain", "linked", "compressed"],
)
def test_code_that_nvcc_writes(tmp_path, options):
    known = must(NVCC, "--help").replace("'", " ").replace(",", " ").split()
    codes = [code for code in ("80", "90a", "100f") if f"sm_{code}" in known]
    ptx = [code for code in ("90",) if f"compute_{code}" in known and options != ("-rdc=true",)]
    assert codes
    source = tmp_path / "kernel.cu"
    source.write_text("__global__ void kernel(float *x) { x[threadIdx.x] *= 2; }\n")
    wanted = [f"-gencode=arch=compute_{code},code=sm_{code}" for code in codes]
    wanted += [f"-gencode=arch=compute_{code},code=compute_{code}" for code in ptx]
    target = tmp_path / "kernel.so"
    must(NVCC, "-shared", "-Xcompiler", "-fPIC", "-o", target, source, *wanted, *options)
    found = read_fatbin(SharedObject(target.read_bytes()).section(".nv_fatbin"))
    assert found.is_complete
    assert {str(code) for code in found.cubins} == {dotted(code) for code in codes}
    assert {str(code) for code in found.ptx} == {f"{dotted(code)}+PTX" for code in ptx}
    if ptx:
        release = re.search(r"release (\d+)\.(\d+)", must(NVCC, "--version"))
        assert CUDA_OF_PTX[found.ptx_version] <= (int(release.group(1)), int(release.group(2)))


def dotted(code: str) -> str:
    digits = code.rstrip("af")
    return f"{digits[:-1]}.{digits[-1]}{code[len(digits) :]}"
