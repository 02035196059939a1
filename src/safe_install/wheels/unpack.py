"""Unpacks verified wheels below a folder, as pip would install them at the paths behind it.

pip is the model, to the byte: which file goes where, modes, scripts, INSTALLER, REQUESTED,
direct_url.json, RECORD, bytecode (tests/functional/test_unpack_as_pip.py compares). pip itself is
not started for it, which would take longer than all the rest. What RECORD says wrongly of a file is
put right. A file that is not what RECORD promises ends it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import (
    Callable,
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from packaging.version import Version

from safe_install.environment.record import RecordEntry, make_entry, parse_record, render_record
from safe_install.errors import WheelInvalid
from safe_install.models import Interpreter, Scheme, Step
from safe_install.redaction import redact
from safe_install.wheels.archive import Artifact
from safe_install.wheels.bytecode import Compilation
from safe_install.wheels.entry_scripts import (
    NAMED_BY_PIP,
    console_commands,
    first_lines_of,
    is_wrapper,
    name_interpreter,
    render_script,
)
from safe_install.wheels.members import Members

MAX_THREADS = 4
SIGNATURES = ("RECORD", "RECORD.jws", "RECORD.p7s")  # of these RECORD has no hash


class Destination(NamedTuple):
    """Where wheels are unpacked, and for which interpreter."""

    root: Path  # the absolute paths of the scheme lie below it
    interpreter: Interpreter
    find_pip_version: Callable[[], Optional[Version]]  # asked where a script is made

    @property
    def python_version(self) -> Tuple[int, int]:
        """(3, 11)."""
        major, minor = self.interpreter.version.split(".")[:2]
        return int(major), int(minor)

    def below_root(self, path: str) -> str:
        """Where a file lies now that will lie at `path`."""
        return f"{self.root}{path}"

    def first_lines(self) -> bytes:
        """How a script begins."""
        executable = self.interpreter.executable
        with executable.open("rb") as stream:
            is_script = stream.read(2) == b"#!"
        return first_lines_of(str(executable), is_script=is_script)


class Unpacking:
    """Wheels on their way below a folder: their files are written when the object is made, their
    bytecode and their RECORDs when its context ends. Where it ends with an error, neither."""

    def __init__(
        self,
        wheels: Sequence[Tuple[Step, Artifact]],
        destination: Destination,
        *,
        compile_bytecode: bool,
    ) -> None:
        """Errors: WheelInvalid, OSError."""
        self._destination = destination
        self._wheels = [_Wheel(step, artifact, destination) for step, artifact in wheels]
        self._compilation: Optional[Compilation] = None
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            try:
                self._write(pool, compile_bytecode=compile_bytecode)
            except BaseException:
                for wheel in self._wheels:
                    wheel.cancel()
                self.stop()
                raise

    def _write(self, pool: Executor, *, compile_bytecode: bool) -> None:
        # Large files take longest, and one of them is no work for two processors. Where another
        # wheel writes to the same path, each wheel waits for its turn: the last one counts.
        if not self._overwrites_large_files():
            for wheel in self._wheels:
                wheel.start_large_files(pool)
        # The sources first: they are compiled while the rest is unpacked.
        for wheel in self._wheels:
            wheel.write_sources()
        if compile_bytecode:
            self._compilation = self._start_compiling()
        for wheel in self._wheels:
            wheel.start_large_files(pool)
            wheel.write_rest()
            wheel.write_scripts()
            wheel.write_metadata()

    def _overwrites_large_files(self) -> bool:
        """Is a large file of one wheel also a file of another?"""
        written = Counter(path for wheel in self._wheels for path in wheel.paths())
        return any(written[path] > 1 for wheel in self._wheels for path in wheel.large_paths())

    def _start_compiling(self) -> Compilation:
        modules = sorted({one for wheel in self._wheels for one in wheel.modules()})
        executable = self._destination.interpreter.executable
        return Compilation(executable, self._destination.root, modules)

    def finish(self) -> None:
        """Wait for the bytecode; write each RECORD."""
        compiled = self._compilation.wait() if self._compilation is not None else frozenset()
        for wheel in self._wheels:
            wheel.write_record(compiled)

    def stop(self) -> None:
        """Nobody needs it any more."""
        if self._compilation is not None:
            self._compilation.stop()

    def __enter__(self) -> Unpacking:
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], traceback: object) -> None:
        if error is None:
            self.finish()
        else:
            self.stop()


class _Wheel:
    """One wheel, and what was written of it."""

    def __init__(self, step: Step, artifact: Artifact, destination: Destination) -> None:
        self._step, self._artifact, self._destination = step, artifact, destination
        scheme = destination.interpreter.scheme
        self._site = str(scheme.purelib if artifact.root_is_purelib else scheme.platlib)
        self._dist_info = f"{self._site}/{artifact.dist_info}"
        console = _entry_points(artifact, "console_scripts")
        gui = _entry_points(artifact, "gui_scripts")
        self._commands = [*console_commands(console, destination.python_version), *gui.items()]
        folders = _scheme_folders(scheme, destination.interpreter, step)
        # final paths, by the names in the archive
        self._paths = find_paths(artifact, self._site, folders, [*console, *gui])
        self._archived = Members(artifact)
        # of two members for one path the last one counts
        self._members = {path: member for member, path in self._paths.items()}
        self._sources: Dict[str, str] = {}  # members, by paths
        self._large: Dict[str, str] = {}  # written in threads
        self._small: Dict[str, str] = {}
        self._sort_members()
        self._on_their_way: Optional[List[Future[None]]] = None  # the large ones
        self._changed: Dict[str, bytes] = {}  # files of the wheel that are written with a change
        self._added: Dict[str, bytes] = {}  # files that do not come out of the wheel

    def _sort_members(self) -> None:
        for path, member in self._members.items():
            if _is_source(path):
                self._sources[path] = member
            elif self._archived.is_large(member):
                self._large[path] = member
            else:
                self._small[path] = member

    def modules(self) -> List[str]:
        """The modules that are compiled, relative to the root."""
        return [path.lstrip("/") for path in self._paths.values() if _is_source(path)]

    def paths(self) -> Collection[str]:
        """The absolute paths of its files."""
        return self._members

    def large_paths(self) -> Collection[str]:
        """Those of them that are written in threads."""
        return self._large

    def start_large_files(self, pool: Executor) -> None:
        """Write large files in the threads of the pool, unless that was begun."""
        if self._on_their_way is None:
            self._on_their_way = self._archived.start(self._below_root(self._large), pool)

    def cancel(self) -> None:
        """Begin with no further file."""
        for future in self._on_their_way or ():
            future.cancel()

    def write_sources(self) -> None:
        """Write the Python sources; scripts among them are compiled with their first line."""
        self._archived.write(self._below_root(self._sources))
        self._name_interpreters(self._sources)

    def write_rest(self) -> None:
        """Write what is no source; wait for the large files."""
        self._archived.write(self._below_root(self._small))
        for future in self._on_their_way or ():
            future.result()
        self._name_interpreters({**self._large, **self._small})
        # What is not written has to be what RECORD says, too.
        self._archived.compare(sorted(set(self._artifact.files) - set(self._members.values())))

    def _below_root(self, members: Mapping[str, str]) -> Dict[str, str]:
        """The members, by the paths that they are written to."""
        return {self._destination.below_root(path): member for path, member in members.items()}

    def _name_interpreters(self, members: Mapping[str, str]) -> None:
        scripts = f"{_data_folder(self._artifact)}scripts/"
        for path, member in members.items():
            if member.startswith(scripts):
                self._name_interpreter(path, Path(self._destination.below_root(path)))

    def _name_interpreter(self, final: str, path: Path) -> None:
        # A program of many megabytes may lie among the scripts.
        with path.open("rb") as stream:
            if stream.read(len(NAMED_BY_PIP)) != NAMED_BY_PIP:
                return
        content = path.read_bytes()
        changed = name_interpreter(content, str(self._destination.interpreter.executable))
        if changed is not None:
            path.write_bytes(changed)
            self._changed[final] = changed

    def write_scripts(self) -> None:
        """Write the scripts of the entry points."""
        if not self._commands:
            return
        destination = self._destination
        first_lines = destination.first_lines()
        pip, folder = destination.find_pip_version(), destination.interpreter.scheme.scripts
        for name, reference in self._commands:
            script = render_script(reference, first_lines, pip, destination.python_version)
            if script is None:
                raise WheelInvalid(
                    f"{self._artifact.path.name}: its command {name!r} calls {reference!r}, which "
                    "names no function",
                    hint="Nothing was installed from it; tell the project.",
                )
            self._add(f"{folder}/{name}", script, is_executable=True)

    def write_metadata(self) -> None:
        """What the dist-info says of the installation."""
        step = self._step
        self._add(f"{self._dist_info}/INSTALLER", b"pip\n")
        info = step.download_info if step.is_direct else None
        if step.records_address:
            info = make_download_info(str(step.url), self._artifact.sha256)
        if info is not None:
            self._add(f"{self._dist_info}/direct_url.json", render_direct_url(info))
        if step.requested or step.keeps_requested:
            self._add(f"{self._dist_info}/REQUESTED", b"")

    def _add(self, final: str, content: bytes, *, is_executable: bool = False) -> None:
        path = Path(self._destination.below_root(final))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.unlink()
        path.write_bytes(content)
        if is_executable:
            path.chmod(path.stat().st_mode & 0o7777 | 0o555)
        self._added[final] = content

    def write_record(self, compiled: FrozenSet[str]) -> None:
        """Write RECORD. `compiled`: the bytecode of all wheels, relative to the root."""
        path = Path(self._destination.below_root(f"{self._dist_info}/RECORD"))
        entries = {entry.path: entry for entry in self._rows_of_wheel(path.read_bytes())}
        for final, content in {**self._changed, **self._added}.items():
            entry = make_entry(self._record_path(final), content)
            entries[entry.path] = entry
        for final in find_bytecode(self._paths.values(), compiled):
            entries[self._record_path(final)] = RecordEntry(self._record_path(final), "", "")
        rows = list(entries.values())
        if self._artifact.record_notes:
            rows = self._true_rows(rows)
        # pip writes another file in the place of the wheel's own
        path.unlink()
        path.write_bytes(render_record(sorted(rows)))

    def _rows_of_wheel(self, text: bytes) -> List[RecordEntry]:
        """The rows of the wheel with the paths that its files have now, and one for each file that
        has none."""
        rows, named = [], set()
        for entry in parse_record(text.decode("utf-8", "surrogateescape")):
            final = self._paths.get(entry.path)
            named.add(entry.path)
            rows.append(entry if final is None else entry._replace(path=self._record_path(final)))
        for member, final in self._paths.items():
            if member not in named:
                rows.append(RecordEntry(self._record_path(final), "", ""))
        return rows

    def _record_path(self, final: str) -> str:
        if final.startswith(f"{self._site}/"):
            return final[len(self._site) + 1 :]
        return os.path.relpath(final, self._site)

    def _true_rows(self, rows: Sequence[RecordEntry]) -> List[RecordEntry]:
        """pip copies the rows of the wheel, and adds one without a hash for each file that they
        leave out.

        Here a row without a file goes, and each file has its hash: uninstalling removes nothing
        outside of site-packages that a row without a hash names. RECORD itself, signatures and
        bytecode have none.
        """
        noted = {note.path for note in self._artifact.record_notes}
        missing = noted - set(self._artifact.files)
        kept: List[RecordEntry] = []
        for entry in rows:
            path = Path(
                os.path.normpath(f"{self._destination.below_root(self._site)}/{entry.path}")
            )
            is_inside = self._destination.root in path.parents
            if entry.path in missing or not is_inside or not path.is_file():
                continue
            is_signature = entry.path in [
                f"{self._artifact.dist_info}/{name}" for name in SIGNATURES
            ]
            has_hash = not is_signature and path.suffix != ".pyc"
            if has_hash and (entry.path in noted or not entry.hash):
                entry = make_entry(entry.path, path.read_bytes())
            kept.append(entry)
        return kept


def _is_source(path: str) -> bool:
    return path.endswith(".py")


# --- where files go -------------------------------------------------------------------------------


def _entry_points(artifact: Artifact, group: str) -> Dict[str, str]:
    return {point.name: point.value for point in artifact.entry_points if point.group == group}


def _data_folder(artifact: Artifact) -> str:
    return f"{artifact.dist_info[: -len('.dist-info')]}.data/"


def _scheme_folders(scheme: Scheme, interpreter: Interpreter, step: Step) -> Mapping[str, str]:
    """The folder of each key of .data. pip puts headers of a virtual environment where its Python
    does not look for them."""
    include = scheme.include
    if interpreter.is_virtual:
        version = ".".join(interpreter.version.split(".")[:2])
        include = scheme.data / "include" / "site" / f"python{version}"
    return {
        "purelib": str(scheme.purelib),
        "platlib": str(scheme.platlib),
        "headers": str(include / step.name),
        "scripts": str(scheme.scripts),
        "data": str(scheme.data),
    }


def find_paths(
    artifact: Artifact, site: str, folders: Mapping[str, str], commands: Sequence[str]
) -> Dict[str, str]:
    """The absolute path of each file of a wheel that is installed; of two for one path the last
    counts, in pip's order.

    `folders`: of the keys of .data; `commands`: names of entry points, whose scripts are made anew.
    """
    root: Dict[str, str] = {}
    data: Dict[str, str] = {}
    scripts: Dict[str, str] = {}
    for member in artifact.files:
        top, _, rest = member.partition("/")
        if not top.endswith(".data"):
            root[member] = f"{site}/{member}"
            continue
        key, _, inner = rest.partition("/")
        if key != "scripts":
            data[member] = f"{folders[key]}/{inner}"
        elif not is_wrapper(inner.rpartition("/")[2], commands):
            scripts[member] = f"{folders[key]}/{inner}"
    return {**root, **data, **scripts}


def find_bytecode(paths: Iterable[str], compiled: FrozenSet[str]) -> List[str]:
    """Those of the compiled files that belong to these modules; absolute paths."""
    modules = {path[: -len(".py")] for path in paths if path.endswith(".py")}
    found = []
    for one in compiled:
        folder, _, name = f"/{one}".rpartition("/__pycache__/")
        if f"{folder}/{name[: -len('.pyc')].rpartition('.')[0]}" in modules:
            found.append(f"/{one}")
    return found


def make_download_info(url: str, sha256: str) -> Mapping[str, object]:
    """A file at an address as direct_url.json has it; older readers know `hash` alone."""
    hashes = {"hash": f"sha256={sha256}", "hashes": {"sha256": sha256}}
    return {"url": url, "archive_info": hashes}


def render_direct_url(download_info: Mapping[str, object]) -> bytes:
    """direct_url.json (PEP 610), without secrets: pip takes out passwords, and leaves `?token=`."""
    kept = {
        key: value
        for key, value in download_info.items()
        if key in ("url", "archive_info", "dir_info", "vcs_info", "subdirectory")
    }
    if isinstance(kept.get("url"), str):
        kept["url"] = redact(str(kept["url"]))
    return json.dumps(kept, sort_keys=True).encode()
