"""Reads the shared objects of a change from its stage, and finds what would not load. Nothing is
executed."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import pkgutil
import re
from functools import lru_cache
from pathlib import Path
from typing import (
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.utils import NormalizedName

from safe_install.environment.record import parse_rows, read_record_text, split_rows
from safe_install.index.catalog import cuda_table, known_projects, load_project
from safe_install.index.facts import AcceleratorMatch, Project
from safe_install.index.native import needed_files
from safe_install.models import (
    Driver,
    Environment,
    Finding,
    InstalledDistribution,
    Severity,
    TorchBuild,
)
from safe_install.wheels.abi import (
    LoadOutcome,
    Needs,
    ObjectFacts,
    ObjectVerdict,
    TorchContext,
    findings_of,
    infer_from_siblings,
    is_torch_library,
    is_torch_symbol,
    judge_object,
)
from safe_install.wheels.elf import SharedObject
from safe_install.wheels.fatbin import DeviceCode, read_fatbin, union
from safe_install.wheels.fingerprint import (
    Fingerprint,
    Table,
    find_assertion_lines,
    find_assertions,
    identify_torch,
    known_minors,
    share_in_headers,
)
from safe_install.wheels.gpu import (
    BuiltForCuda,
    check_cuda_major,
    check_driver,
    check_gpu_code,
    cuda_in_name,
    find_cuda,
)
from safe_install.wheels.libraries import DiskFiles, search_folders
from safe_install.wheels.loader import Loaded, Problems, Scope, check_object, load, make_scope

MAX_OBJECTS = 500  # of one wheel
_TORCH_KERNELS = ("libtorch_cuda.so", "libtorch_cuda_cu.so")
MAX_RODATA = 256 * 1024 * 1024  # bytes that are searched for assertions


class Inspector:
    """The loader's view of an environment after a change."""

    def __init__(
        self,
        environment: Environment,
        torch: TorchBuild,
        *,
        stage: Optional[Path] = None,
        removed: FrozenSet[str] = frozenset(),
        coming: Iterable[str] = (),
        variables: Mapping[str, str],
        torch_dir: Optional[Path] = None,
        preloaded: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`stage`: the folder with the change's files, below their absolute paths; `removed`: files
        that the change removes; `coming`: the shared objects in the stage, as final paths;
        `torch_dir`: the folder of an unpacked torch; `preloaded`: returns the libraries that a
        process with torch imported has in memory; called at most once, where a library is
        missing."""
        self.environment = environment
        self._torch_dir = torch_dir or environment.interpreter.scheme.platlib / "torch"
        self.files = DiskFiles(stage=stage, is_removed=lambda path: path in removed)
        self._coming = tuple(coming)
        self._search = search_folders(dict(variables))
        self._scope: Optional[Scope] = None
        self.context = TorchContext(
            torch,
            known_minors(headers_table()),
            self._library_names(),
            " ".join(part for part in environment.interpreter.libc if part),
            environment.interpreter.python_tag,
        )
        self._preloaded = preloaded

    @property
    def scope(self) -> Scope:
        """The libraries that `import torch` loads, by the loader model."""
        if self._scope is None:
            program = os.path.realpath(str(self.environment.interpreter.executable))
            folder = self._torch_dir
            self._scope = make_scope(
                self.files,
                program=program,
                shared=[str(folder / "lib" / "libtorch_global_deps.so")],
                others=[
                    *self._extension_modules(folder),
                    str(folder / "lib" / "libtorch_python.so"),
                ],
                search=self._search,
                glibc=self._glibc,
            )
        return self._scope

    @property
    def _glibc(self) -> Tuple[int, ...]:
        name, version = self.environment.interpreter.libc
        return (
            tuple(int(part) for part in re.findall(r"\d+", version)[:2]) if name == "glibc" else ()
        )

    def _extension_modules(self, folder: Path) -> List[str]:
        wanted = f"{folder}/_C."
        staged = [path for path in self._coming if path.startswith(wanted)]
        return staged or sorted(str(path) for path in folder.glob("_C.*.so"))

    def _library_names(self) -> FrozenSet[str]:
        """The names of all libraries that Python code might load before, from the folders that have
        such files."""
        names: Set[str] = {os.path.basename(path) for path in self._coming}
        for site in {
            self.environment.interpreter.scheme.platlib,
            self.environment.interpreter.scheme.purelib,
        }:
            for pattern in (
                "*.libs/*",
                "*/lib/*.so*",
                "*/lib64/*.so*",
                "nvidia/*/lib/*.so*",
                "*/*.so*",
            ):
                names.update(path.name for path in site.glob(pattern))
        return frozenset(names)

    def is_for_torch(self, members: Mapping[str, str]) -> bool:
        """Does one of the wheel's objects need a library of torch? Other wheels are not checked."""
        objects = (self.files.read(path) for path in list(members.values())[:MAX_OBJECTS])
        return any(
            is_torch_library(name) for one in objects if one is not None for name in one.needed
        )

    def inspect(
        self, members: Mapping[str, str], *, demangle: Callable[[str], str]
    ) -> List[ObjectVerdict]:
        """The verdict on each shared object of a wheel. `members`: path in the wheel -> final
        path."""
        verdicts = []
        for member, path in list(members.items())[:MAX_OBJECTS]:
            facts = self._read_facts(member, path, list(members.values()))
            verdicts.append(judge_object(facts, self.context, demangle=demangle))
        return infer_from_siblings(verdicts, self.context)

    def _read_facts(self, member: str, path: str, siblings: Sequence[str]) -> ObjectFacts:
        found = self.files.read(path)
        if found is None:
            return _unreadable(member, "no shared object of this machine")
        if not self.environment.interpreter.platform.endswith(found.machine):
            return _of_another_machine(member, found)
        try:
            return self._find_facts(member, path, found, siblings)
        except (ValueError, IndexError, OverflowError, ArithmeticError) as error:
            return _unreadable(member, f"damaged ({error})")

    def _find_facts(
        self, member: str, path: str, found: SharedObject, siblings: Sequence[str]
    ) -> ObjectFacts:
        own = load(path, self.files, self.scope, siblings=siblings).own
        uses_torch = any(is_torch_library(name) for one in own for name in one.object.needed)
        problems = self._check(path, siblings)
        if problems.missing and self._add_preloaded():
            problems = self._check(path, siblings)
        fingerprint, share = Fingerprint(0), None
        assertions = self._assertions(found) if uses_torch else frozenset()
        if assertions:
            fingerprint = identify_torch(assertions, headers_table())
            share = self._find_share(assertions)
        return ObjectFacts(
            member,
            problems,
            uses_torch,
            tuple(one.name for one in found.wanted()),
            fingerprint,
            share,
            gpu_code(found),
            needed=tuple(found.needed),
            module_for=module_for(member, found),
        )

    def _find_share(self, assertions: FrozenSet[Tuple[str, int]]) -> Optional[float]:
        """The share of the assertions that are in the headers of this torch; None where the table
        has its minor."""
        if self.context.minor in self.context.known_minors:
            return None
        headers = {header for header, _ in assertions}
        return share_in_headers(assertions, self._header_lines(headers))

    def _check(self, path: str, siblings: Sequence[str]) -> Problems:
        return check_object(
            path, self.files, self.scope, siblings=siblings, is_of_known=is_torch_symbol
        )

    def _add_preloaded(self) -> bool:
        """Add what torch's Python code loads itself (nvrtc), from a process that imported torch.
        Was anything added?"""
        asked, self._preloaded = self._preloaded, tuple
        known = {one.path for one in (*self.scope.shared, *self.scope.others)}
        before = len(self.scope.others)
        for path in asked():
            found = self.files.read(path) if path not in known else None
            if found is not None:
                self.scope.others.append(Loaded(path, found))
        return len(self.scope.others) > before

    def _assertions(self, found: SharedObject) -> FrozenSet[Tuple[str, int]]:
        rodata = found.section(".rodata")
        if rodata is None or len(rodata) > MAX_RODATA:
            return frozenset()
        return find_assertions(rodata)

    def _header_lines(self, headers: Iterable[str]) -> Dict[str, FrozenSet[int]]:
        lines = {}
        for header in headers:
            place = self.files.place_of(str(self._torch_dir / "include" / header))
            if place is not None:
                lines[header] = find_assertion_lines(Path(place).read_text("utf-8", "replace"))
        return lines

    def inspect_torch(self, *, demangle: Callable[[str], str]) -> List[ObjectVerdict]:
        """The verdicts on torch's own libraries: does each find what it needs after the change?"""
        # not in every torch before 1.5
        shared = str(self._torch_dir / "lib" / "libtorch_global_deps.so")
        roots = [
            path
            for path in (shared, *self._extension_modules(self._torch_dir))
            if self.files.exists(path)
        ]
        program = os.path.realpath(str(self.environment.interpreter.executable))
        bare = make_scope(
            self.files,
            program=program,
            shared=[],
            others=[],
            search=self._search,
            glibc=self._glibc,
        )
        verdicts = []
        for root in roots:
            problems = check_object(root, self.files, bare)
            facts = ObjectFacts(
                os.path.relpath(root, self._torch_dir.parent), problems, uses_torch=False
            )
            verdicts.append(judge_object(facts, self.context, demangle=demangle))
        return verdicts


def gpu_code(found: SharedObject) -> DeviceCode:
    """The GPU code of an object. The code of `nvcc -rdc=true` without a device link is in another
    section."""
    linked = read_fatbin(found.section(".nv_fatbin"))
    return (
        linked if linked or not linked.is_complete else read_fatbin(found.section("__nv_relfatbin"))
    )


_SOABI = re.compile(r"\.cpython-(\d+)")


def module_for(member: str, found: SharedObject) -> Optional[str]:
    """`cp310` for `_C.cpython-310-x86_64-linux-gnu.so`, if it is an extension module."""
    name = os.path.basename(member)
    said = _SOABI.search(name)
    if said is None or not found.defines(f"PyInit_{name.partition('.')[0]}"):
        return None
    return f"cp{said.group(1)}"


def recorded_objects(distributions: Iterable[InstalledDistribution]) -> FrozenSet[str]:
    """The paths of the shared objects in the RECORDs of these distributions."""
    found: Set[str] = set()
    for distribution in distributions:
        try:
            text = read_record_text(distribution.metadata_path) or ""
        except OSError:
            continue
        rows = (row for row in split_rows(text) if ".so" in row)
        for entry in parse_rows(rows):
            found.add(os.path.normpath(os.path.join(str(distribution.location), entry.path)))
    return frozenset(found)


def find_compiled(
    environment: Environment, names: Iterable[NormalizedName]
) -> FrozenSet[NormalizedName]:
    """The installed distributions that contain machine code. Editable ones are included, because
    their RECORD does not tell."""
    found = set()
    for name in names:
        distribution = environment.installed[name]
        if distribution.editable or not distribution.has_record or recorded_objects([distribution]):
            found.add(name)
    return frozenset(found)


def needs_of(name: NormalizedName, verdicts: Sequence[ObjectVerdict]) -> Optional[Needs]:
    """The test whether a member is a file that its project needs; None for a project that is not in
    the wheel index."""
    if name not in known_projects():
        return None
    return needed_files(
        load_project(name).native, [one.facts.member for one in verdicts]
    ).__contains__


def check_objects(
    name: NormalizedName,
    verdicts: Sequence[ObjectVerdict],
    torch: TorchBuild,
    driver: Optional[Driver],
    *,
    version: str = "",
    requires: Sequence[str] = (),
    is_asked_for: bool = False,
) -> Tuple[Finding, ...]:
    """The findings on a wheel's files: will they load, and do they support the driver and GPUs?

    `version`, `requires`: from its metadata. `is_asked_for`: the user named this exact file.
    """
    found = findings_of(name, verdicts, needs_of(name, verdicts), is_asked_for=is_asked_for)
    of_gpu = check_gpu_files(name, verdicts, torch, driver, version=version, requires=requires)
    if any(finding.severity is Severity.ERROR for finding in found):
        # The finding on a file that does not load names its CUDA already.
        of_gpu = tuple(finding for finding in of_gpu if finding.check != "built-for-another-cuda")
    return (*found, *of_gpu)


def check_gpu_files(
    name: NormalizedName,
    verdicts: Sequence[ObjectVerdict],
    torch: TorchBuild,
    driver: Optional[Driver],
    *,
    version: str = "",
    requires: Sequence[str] = (),
) -> Tuple[Finding, ...]:
    """The findings on whether a wheel's files support the driver and GPUs that were declared, or
    those of this machine."""
    project = load_project(name) if name in known_projects() else None
    has_gpu_code = project is not None and project.accelerator_match is not AcceleratorMatch.ANY
    is_extension = (
        project is not None
        or any(one.facts.uses_torch for one in verdicts)
        or requires_torch(requires)
    )
    built = find_cuda(verdicts, torch, _claimed_cuda(version, project))
    return (
        *(check_cuda_major(name, built, torch=torch) if is_extension else ()),
        *check_driver(
            name, built, torch=torch, driver=driver, table=cuda_table(), is_extension=is_extension
        ),
        *check_gpu_code(
            name,
            verdicts,
            torch=torch,
            driver=driver,
            has_gpu_code=has_gpu_code,
            needs=needs_of(name, verdicts),
            is_extension=is_extension,
        ),
    )


def requires_torch(requires: Iterable[str]) -> bool:
    """Does one of these requirements name torch, except for an extra?"""
    return any(re.match(r"torch(?![\w.-])(?!.*\bextra\b)", text) for text in requires)


def _unreadable(member: str, reason: str) -> ObjectFacts:
    return ObjectFacts(member, Problems(), uses_torch=False, unreadable=reason)


def _of_another_machine(member: str, found: SharedObject) -> ObjectFacts:
    """The facts on an object for another machine, which a wheel may contain; one that needs torch
    is for this machine."""
    if not any(is_torch_library(name) for name in found.needed):
        return _unreadable(member, f"for {found.machine}")
    return ObjectFacts(member, Problems(), uses_torch=True, other_machine=found.machine)


def _claimed_cuda(version: str, project: Optional[Project]) -> Optional[BuiltForCuda]:
    local = version.partition("+")[2]
    cuda = cuda_in_name(local)
    if cuda is not None:
        return BuiltForCuda("cu" + "".join(map(str, cuda)), f"its version says +{local}")
    if project is not None and project.accelerator is not None:
        return BuiltForCuda(project.accelerator, f"its name is {project.name}")
    return None


def read_gpu_files(files: DiskFiles, members: Mapping[str, str]) -> List[ObjectVerdict]:
    """The wheel's objects for `check_gpu_files` only: their GPU code and needed libraries, without
    the loader model."""
    found = []
    for member, path in list(members.items())[:MAX_OBJECTS]:
        one = files.read(path)
        if one is None:
            continue
        try:
            facts = ObjectFacts(
                member, Problems(), uses_torch=False, code=gpu_code(one), needed=tuple(one.needed)
            )
        except (ValueError, IndexError, OverflowError, ArithmeticError):
            continue
        found.append(ObjectVerdict(facts, LoadOutcome.FITS))
    return found


def gpu_code_of_torch(files: DiskFiles, members: Mapping[str, str]) -> Optional[DeviceCode]:
    """The code of torch's own kernels, from its files `members`; None where there is none, or where
    not all of it can be read.

    It is in libtorch_cuda.so, and in 1.10 to 1.13 in libtorch_cuda_cu.so. MAGMA in
    libtorch_cuda_linalg.so has code for GPUs that torch has none for. It takes 0.1 to 0.3 s: a
    gigabyte is mapped.
    """
    own = {name: path for name, path in members.items() if os.path.basename(path) in _TORCH_KERNELS}
    code = union([one.facts.code for one in read_gpu_files(files, own)])
    return code if code and code.is_complete else None


@lru_cache(maxsize=None)
def headers_table() -> Table:
    """The lines of assertions in the headers of known versions of torch."""
    data = pkgutil.get_data("safe_install.wheels", "torch_headers.json.gz")
    return dict(json.loads(gzip.decompress(data))) if data else {}


def demangle(name: str) -> str:
    """A C++ name in readable form, by the C++ library that torch needs; the mangled name where that
    is missing."""
    try:
        library = _cxx_library()
        status = ctypes.c_int()
        pointer = library.__cxa_demangle(name.encode(), None, None, ctypes.byref(status))
        if not pointer:
            return name
        text = ctypes.string_at(pointer).decode("utf-8", "replace")
        ctypes.CDLL(None).free(ctypes.c_void_p(pointer))
    except (OSError, AttributeError, UnicodeEncodeError):
        return name
    return text if len(text) <= 160 else text[:157] + "..."


@lru_cache(maxsize=None)
def _cxx_library() -> ctypes.CDLL:
    library = ctypes.CDLL("libstdc++.so.6")
    library.__cxa_demangle.restype = ctypes.c_void_p
    return library
