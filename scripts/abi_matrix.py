"""What does the check of shared objects say, and what does the loader really do? Real wheels beside real torches.

    scripts/abi_matrix.py [--cache FOLDER] [--torch VERSION ...] [--keep] [--write | --report]

For each torch a virtual environment is made of unpacked wheels: torch, the libraries that its metadata names, and a few
packages without which nothing imports. One process there imports torch and forks a child for each shared object, which
loads it: as an extension module where the file is one, else by dlopen with RTLD_NOW; a child that dies is an answer
too. The same files are judged by safe_install.wheels.inspection, from a stage, before they are there. Nothing is
compiled, nothing needs a GPU.

What was measured is kept in FOLDER, also the wheels (about 20 GB); an environment is deleted when it is done, unless
--keep. --write puts the tables into docs/abi.md, --report prints them from what FOLDER has, without measuring. The
Python that runs this must be 3.11 and have safe_install; pip must find torch 2.13.0+cpu (PIP_EXTRA_INDEX_URL=
https://download.pytorch.org/whl/cpu), which is not on PyPI.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
import venv
import zipfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.environment.interpreter import read_environment
from safe_install.health.examination import Examination
from safe_install.index.catalog import known_projects, load_project
from safe_install.index.native import needed_files
from safe_install.models import Environment, TorchBuild
from safe_install.wheels.abi import LoadOutcome, ObjectVerdict, judge_wheel
from safe_install.wheels.inspection import Inspector, demangle, needs_of

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "abi.md"
START, END = "<!-- made by scripts/abi_matrix.py -->", "<!-- end -->"

TORCHES = ("2.1.2", "2.3.1", "2.5.1", "2.8.0", "2.9.1", "2.11.0", "2.13.0+cpu")
MAX_WHEEL = 150 * 1024 * 1024  # bytes: larger extension wheels are left out
PLATFORMS = (
    "manylinux1_x86_64",
    "manylinux2014_x86_64",
    *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 36)),
    "linux_x86_64",
)
# Without these, torch or most extensions do not import.
BASE = (
    "numpy==1.26.4",
    *("typing_extensions==4.15.0", "sympy==1.13.1", "mpmath==1.3.0", "networkx==3.4.2", "jinja2==3.1.6"),
    *("markupsafe==3.0.2", "fsspec==2025.3.0", "filelock==3.18.0", "packaging==25.0", "pillow==11.3.0"),
    *("requests==2.32.5", "urllib3==2.5.0", "idna==3.10", "certifi==2025.8.3", "charset-normalizer==3.4.3"),
    *("tqdm==4.67.1", "psutil==7.0.0", "scipy==1.15.3", "pyyaml==6.0.2", "cloudpickle==3.1.1", "optree==0.17.0"),
    *("importlib_metadata==8.7.0", "zipp==3.23.0", "orjson==3.11.3", "graphviz==0.21", "setuptools==80.9.0"),
    *("pandas==2.2.3", "pytz==2025.2", "python-dateutil==2.9.0.post0", "six==1.17.0", "tzdata==2025.2"),
)


@dataclass(frozen=True)
class Wheel:
    """An extension wheel of the matrix."""

    spec: str
    imports: str = ""  # the module that proves that it is there; the project's name where empty
    companions: Tuple[str, ...] = ()  # other wheels that it needs

    @property
    def project(self) -> str:
        return canonicalize_name(self.spec.partition("==")[0])

    @property
    def module(self) -> str:
        return self.imports or self.project.replace("-", "_")


def _many(project: str, versions: str, imports: str = "", *companions: str) -> List[Wheel]:
    return [Wheel(f"{project}=={version}", imports, companions) for version in versions.split()]


WHEELS: Tuple[Wheel, ...] = (
    *_many("torchvision", "0.16.2 0.18.1 0.20.1 0.23.0 0.24.1 0.26.0 0.28.0"),
    *_many("torchaudio", "2.1.2 2.3.1 2.5.1 2.8.0 2.9.1 2.11.0"),
    *_many("torchtext", "0.16.2 0.18.0", "", "torchdata==0.7.1"),
    *_many("torchcodec", "0.1.1 0.5 0.7.0 0.13.0"),
    *_many("torchao", "0.7.0 0.12.0 0.15.0 0.18.0"),
    *_many("xformers", "0.0.28.post3 0.0.32.post1 0.0.35"),
    Wheel("torchrl==0.4.0", companions=("tensordict==0.4.0",)),
    Wheel("torchrl==0.6.0", companions=("tensordict==0.6.2",)),
    Wheel("torchrl==0.10.0", companions=("tensordict==0.10.0", "pyvers==0.1.0")),
    Wheel("torchrl==0.14.1", companions=("tensordict==0.10.0", "pyvers==0.1.0")),
    Wheel("tensordict==0.4.0"),
    Wheel("tensordict==0.10.0", companions=("pyvers==0.1.0",)),
    Wheel("torchopt==0.7.3"),
    *_many("fbgemm-gpu-cpu", "1.0.0 1.2.0 1.4.2", "fbgemm_gpu"),
    Wheel("dgl==2.1.0", companions=("torchdata==0.7.1",)),
    Wheel("metatensor-torch==0.10.8", "metatensor.torch", ("metatensor-core==0.2.6", "ctypes-dlpack==0.1.1")),
    Wheel(
        "metatomic-torch==0.1.19",
        "metatomic.torch",
        ("metatensor-torch==0.10.8", "metatensor-core==0.2.6", "ctypes-dlpack==0.1.1", "vesin"),
    ),
    Wheel("sphericart-torch==2.0.4", "sphericart.torch", ("sphericart==2.0.4",)),
    Wheel("vesin-torch==0.6.2", "vesin.torch", ("vesin",)),
    Wheel("torch-c-dlpack-ext==0.1.5"),
    Wheel("torch-harmonics==0.9.3"),
    Wheel("torch-ans==0.4.0"),
    Wheel("torch-bessel==0.0.8"),
    Wheel("fairseq2n==0.8.1"),
    Wheel("executorch==1.5.1"),
    Wheel("autoawq-kernels==0.0.9", "awq_ext"),
    Wheel("bitsandbytes==0.50.2"),
)

# --- what really happens ---------------------------------------------------------------------------

# Runs in the environment of one torch; answers a line of JSON for each line that it gets.
SERVER = r"""
import ctypes, importlib, importlib.machinery, importlib.util, json, os, re, select, signal, sys, time
import torch

def bring(path, name):
    if not name:
        return ctypes.CDLL(path, mode=os.RTLD_NOW)
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module

def bring_with_siblings(job, path, name, before):
    while True:
        try:
            return bring(path, name)
        except (ImportError, OSError) as error:
            missing = re.match(r"([^\s:]+): cannot open shared object", str(error))
            sibling = job["siblings"].get(missing.group(1)) if missing else None
            if sibling is None or sibling in before or sibling == path:
                raise
            before.append(sibling)
            bring_with_siblings(job, sibling, "", before)

def act(job):
    before = []
    try:
        importlib.invalidate_caches()
        if job["do"] == "load":
            bring_with_siblings(job, job["path"], job["name"], before)
        else:
            importlib.import_module(job["module"])
            if job["operation"]:
                try:
                    exec(job["operation"], {"device": "cpu"})
                except BaseException as error:
                    return {"is": "operation", "words": type(error).__name__ + ": " + str(error), "before": before}
    except BaseException as error:
        if "attempted relative import" in str(error):  # it is in memory, and asks for the package around it
            return {"is": "loads", "words": "", "before": before}
        return {"is": "fails", "words": type(error).__name__ + ": " + str(error), "before": before}
    return {"is": "loads", "words": "", "before": before}

def fork(job):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.write(writing, json.dumps(act(job)).encode()[:60000])
        os._exit(0)
    os.close(writing)
    data, end = b"", time.time() + job["seconds"]
    while True:
        ready, _, _ = select.select([reading], [], [], max(0, end - time.time()))
        chunk = os.read(reading, 65536) if ready else None
        if not chunk:
            break
        data += chunk
    if chunk is None:
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if data:
        return json.loads(data.decode())
    if chunk is None:
        return {"is": "hangs", "words": "", "before": []}
    if os.WIFSIGNALED(status):
        return {"is": "crashes", "words": signal.Signals(os.WTERMSIG(status)).name, "before": []}
    return {"is": "crashes", "words": "exit status %d" % os.WEXITSTATUS(status), "before": []}

print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(fork(json.loads(line))), flush=True)
"""


class Loader:
    """A process that has imported torch."""

    def __init__(self, python: Path) -> None:
        variables = {name: value for name, value in os.environ.items() if name in ("HOME", "PATH", "LANG")}
        self._process = subprocess.Popen(
            [str(python), "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**variables, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        )
        first = self._stream(self._process.stdout).readline()
        if not first:
            raise SystemExit(f"import torch fails: {self._stream(self._process.stderr).read().strip()[-2000:]}")
        self.torch = str(json.loads(first)["torch"])

    @staticmethod
    def _stream(stream: Optional[IO[str]]) -> IO[str]:
        assert stream is not None
        return stream

    def _ask(self, job: Mapping[str, Any]) -> Tuple[str, str, List[str]]:
        stdin = self._stream(self._process.stdin)
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        answer = json.loads(self._stream(self._process.stdout).readline())
        return answer["is"], answer["words"], answer["before"]

    def load(self, path: Path, siblings: Mapping[str, str]) -> Tuple[str, str, List[str]]:
        stem = path.name.partition(".")[0]
        name = stem if f"\0PyInit_{stem}\0".encode() in path.read_bytes() else ""
        return self._ask({"do": "load", "path": str(path), "name": name, "siblings": siblings, "seconds": 60})

    def import_(self, module: str, operation: Optional[str]) -> Tuple[str, str, List[str]]:
        return self._ask({"do": "import", "module": module, "operation": operation, "seconds": 120})

    def close(self) -> None:
        self._stream(self._process.stdin).close()
        self._process.wait(60)


# --- what was seen ---------------------------------------------------------------------------------


@dataclass
class Object:
    """One shared object beside one torch."""

    member: str
    uses_torch: bool
    verdict: str
    reason: str
    expected: str  # kind of problem that the model sees: see kind_of
    real: str  # "loads", "fails", "crashes", "needs the driver", "hangs"
    words: str  # the loader's
    is_named: bool  # what the loader names is among the problems that the model sees
    with_siblings: bool  # it loads, or fails otherwise, after other files of its wheel


@dataclass
class Pair:
    """One wheel beside one torch."""

    wheel: str
    pins: str  # the torch that its metadata wants
    verdict: str
    reasons: List[str]
    real: str
    imports: str  # "imports", "works" (and does its operation), "import fails", "operation fails", "not tried", ...
    words: str
    scope_ms: float  # what torch brings
    first_ms: float  # all its objects
    warm_ms: float
    objects: List[Object] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        return self.verdict in (LoadOutcome.DOES_NOT_LOAD.value, LoadOutcome.ANOTHER_TORCH.value)


@dataclass
class Build:
    """One torch."""

    torch: str
    python: str
    libc: str
    own: str  # verdict on its own libraries
    pairs: List[Pair] = field(default_factory=list)


def kind_of(words: str) -> str:
    """Of the loader's words: what was wrong."""
    if "cannot open shared object file" in words:
        return "missing library"
    if "undefined symbol" in words:
        return "undefined symbol"
    if re.search(r"version `?[\w.]+'? not (found|defined)", words):
        return "version"
    return "other"


def expected_kind(verdict: ObjectVerdict) -> str:
    problems = verdict.facts.problems
    if verdict.facts.module_for and "is a module for" in verdict.reason:
        return "another Python"
    if problems.missing:
        return "missing library"
    if problems.versions:
        return "version"
    if problems.undefined:
        return "undefined symbol"
    return "driver" if problems.driver else ""


def names_the_same(verdict: ObjectVerdict, words: str) -> bool:
    """Is what the loader complains of first among the problems of the model?"""
    problems = verdict.facts.problems
    named = [one.library for one in problems.missing] + list(problems.driver)
    named += [one.symbol.name for one in problems.undefined] + [one.need.version for one in problems.versions]
    return any(re.search(rf"(^|[\s'`/]){re.escape(name)}($|[\s:,'])", words) for name in named)


# --- wheels ----------------------------------------------------------------------------------------


class Store:
    """Wheels, and what was unpacked of them."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def wheel(self, spec: str) -> Optional[Path]:
        """The file, fetched once; None where pip has none."""
        folder = self.cache / "wheels" / re.sub(r"[^\w.+-]+", "_", spec)
        found = sorted(folder.glob("*.whl"))
        if found:
            return found[0]
        places = [argument for name in PLATFORMS for argument in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", "3.11", *places, "--dest", f"{folder}.part", spec]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{spec}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        Path(f"{folder}.part").rename(folder)
        return next(iter(sorted(folder.glob("*.whl"))))

    def tree(self, wheel: Path) -> Path:
        """An extension wheel, unpacked once as it would lie in site-packages."""
        folder = self.cache / "unpacked" / wheel.name[: -len(".whl")]
        if not folder.is_dir():
            part = Path(f"{folder}.part")
            shutil.rmtree(part, ignore_errors=True)
            unpack(wheel, part)
            part.rename(folder)
        return folder


def unpack(wheel: Path, site: Path, *, is_wanted: Callable[[str], bool] = lambda name: True) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith("/") or not is_wanted(name):
                continue
            head, _, tail = name.partition("/")
            if head.endswith(".data"):
                scheme, _, tail = tail.partition("/")
                if scheme not in ("purelib", "platlib"):
                    continue
                target = site / tail
            else:
                target = site / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as written:
                shutil.copyfileobj(source, written, 1024 * 1024)


def is_of_torch(name: str) -> bool:
    """Of torch's wheels: what `import torch` and the check read."""
    return not re.search(
        r"^torch/(bin/(?!torch_shm)|test/|testing/_internal/.*/data/|share/)|\.(a|lib|bc|hip|cu)$", name
    )


def requirements_of(wheel: Path) -> List[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        message = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    return [Requirement(text) for text in message.get_all("Requires-Dist", [])]


def libraries_of(wheel: Path, store: Store, extras: Iterable[str] = ("",)) -> List[Path]:
    """The wheels with NVIDIA's libraries that a wheel's metadata names, as far as they go."""
    found: List[Path] = []
    for one in requirements_of(wheel):
        name = canonicalize_name(one.name)
        if not name.startswith(("nvidia-", "cuda-toolkit")):
            continue
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        path = store.wheel(f"{name}{one.specifier}")
        if path is None:
            raise SystemExit(f"{wheel.name} needs {one}, which pip does not find")
        if path not in found:
            found += [path, *libraries_of(path, store, ("", *one.extras))]
    return list(dict.fromkeys(found))


def link_tree(tree: Path, root: Path) -> List[Path]:
    """The files of a folder once more below another, without their bytes; what was there already is left."""
    made = []
    for path in sorted(tree.rglob("*")):
        if path.is_dir():
            continue
        target = root / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(path, target)
            made.append(target)
    return made


def remove(files: Iterable[Path], root: Path) -> None:
    for path in files:
        path.unlink()
        folder = path.parent
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


# --- one torch -------------------------------------------------------------------------------------


def make_environment(version: str, store: Store) -> Path:
    folder = store.cache / "builds" / version
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    wheel = store.wheel(f"torch=={version}")
    if wheel is None:
        raise SystemExit(f"pip has no torch {version}")
    wheels = [wheel, *libraries_of(wheel, store)]
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = folder / "lib" / "python3.11" / "site-packages"
    for one in wheels:
        unpack(one, site, is_wanted=is_of_torch)
    for spec in BASE:
        found = store.wheel(spec)
        if found is not None:
            unpack(found, site)
    # Bytecode of what most extensions import, so that each child does not compile it anew.
    warm = "import torch, torch._dynamo, torch.distributed, torch.ao.quantization, torch.export, scipy.sparse, pandas"
    subprocess.run([str(folder / "bin" / "python"), "-c", warm], capture_output=True, check=False)
    (folder / "complete").touch()
    return folder


class Bench:
    """One torch, and what is tried beside it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.site = folder / "lib" / "python3.11" / "site-packages"
        self.environment: Environment = read_environment(folder / "bin" / "python", None)
        assert self.environment.torch is not None
        self.torch: TorchBuild = self.environment.torch
        self.loader = Loader(folder / "bin" / "python")
        self.preloaded = Examination(self.environment.interpreter.executable, self.torch, ()).result().libraries

    def own(self) -> str:
        """The check of torch's own libraries."""
        verdicts = Inspector(self.environment, self.torch, variables={}).inspect_torch(demangle=demangle)
        bad = [one for one in verdicts if one.outcome is not LoadOutcome.FITS]
        return "; ".join(f"{one.outcome.value}: {one.reason}" for one in bad) or LoadOutcome.FITS.value

    def try_(self, wheel: Wheel, path: Path) -> Pair:
        tree = self.store.tree(path)
        companions: List[Path] = []
        for spec in wheel.companions:
            companion = self.store.wheel(spec)
            if companion is not None:
                companions += link_tree(self.store.tree(companion), self.site)
        stage = self.folder / "stage"
        below = stage / str(self.site).lstrip("/")
        link_tree(tree, below)
        members = {
            str(file.relative_to(tree)): str(self.site / file.relative_to(tree))
            for file in sorted(tree.rglob("*"))
            if re.search(r"\.so(\.\d+)*$", file.name)
        }
        verdicts, scope_ms, first_ms = self._predict(stage, members)
        _, _, warm_ms = self._predict(stage, members)
        shutil.rmtree(stage)
        made = link_tree(tree, self.site)
        try:
            return self._measure(wheel, path, verdicts, members, (scope_ms, first_ms, warm_ms))
        finally:
            remove([*made, *companions], self.site)

    def _predict(self, stage: Path, members: Mapping[str, str]) -> Tuple[List[ObjectVerdict], float, float]:
        inspector = Inspector(
            self.environment,
            self.torch,
            stage=stage,
            coming=tuple(members.values()),
            variables={},
            preloaded=lambda: self.preloaded,
        )
        start = time.perf_counter()
        assert inspector.scope.shared
        middle = time.perf_counter()
        verdicts = inspector.inspect(members, demangle=demangle)
        return verdicts, (middle - start) * 1000, (time.perf_counter() - middle) * 1000

    def _measure(
        self,
        wheel: Wheel,
        path: Path,
        verdicts: Sequence[ObjectVerdict],
        members: Mapping[str, str],
        times: Tuple[float, float, float],
    ) -> Pair:
        project = load_project(wheel.project) if wheel.project in known_projects() else None
        siblings = {os.path.basename(final): final for final in members.values()}
        objects = []
        for one in verdicts:
            real, words, before = self.loader.load(Path(members[one.facts.member]), siblings)
            if real == "fails" and re.search(r"lib(cuda|nvidia-ml)\.so\.1: cannot open", words):
                real = "needs the driver"
            said = Object(
                *(one.facts.member, one.facts.uses_torch, one.outcome.value, one.reason, expected_kind(one), real),
                words=words.replace(f"{self.site}/", "")[:600],
                is_named=names_the_same(one, words),
                with_siblings=bool(before),
            )
            objects.append(said)
        outcome, deciding_objects = judge_wheel(verdicts, needs_of(canonicalize_name(wheel.project), verdicts))
        real = real_of_wheel(objects, patterns_of(wheel.project))
        came, words = "not tried", ""
        if real != "fails" or outcome in (LoadOutcome.FITS, LoadOutcome.UNKNOWN):
            came, words, _ = self.loader.import_(wheel.module, project.operation if project else None)
        did = {"loads": "works" if project and project.operation else "imports", "fails": "import fails"}
        did["operation"] = "operation fails"
        return Pair(
            path.name,
            next((str(r.specifier) for r in requirements_of(path) if canonicalize_name(r.name) == "torch"), ""),
            outcome.value,
            [one.reason for one in deciding_objects if one.reason],
            real,
            did.get(came, came),
            words.replace(f"{self.site}/", "")[:600],
            *times,
            objects=objects,
        )


def patterns_of(project: str) -> Sequence[str]:
    return load_project(project).native if project in known_projects() else ()


def real_of_wheel(objects: Sequence[Object], patterns: Sequence[str]) -> str:
    """Does its native code load? One file for each pattern that the wheel index names; where it names none, any that
    uses torch."""
    members = [one.member for one in objects]
    needed = [needed_files([pattern], members) for pattern in patterns]
    groups = [[one for one in objects if one.member in names] for names in needed]
    groups = [group for group in groups if group] or [[one for one in objects if one.uses_torch] or list(objects)]
    order = ("loads", "needs the driver", "crashes", "hangs", "fails")
    best = [min((one.real for one in group), key=order.index) for group in groups if group]
    return max(best, key=order.index) if best else "loads"


def measure(version: str, store: Store, *, keep: bool) -> Build:
    start = time.time()
    folder = make_environment(version, store)
    made = time.time()
    bench = Bench(folder, store)
    libc = " ".join(part for part in bench.environment.interpreter.libc if part)
    build = Build(bench.loader.torch, platform.python_version(), libc, bench.own())
    for wheel in WHEELS:
        path = store.wheel(wheel.spec)
        if path is None or path.stat().st_size > MAX_WHEEL:
            continue
        build.pairs.append(bench.try_(wheel, path))
    bench.loader.close()
    if not keep:
        shutil.rmtree(folder)
    told = Counter((pair.verdict, pair.real) for pair in build.pairs)
    print(
        f"torch {version}: made in {made - start:.0f} s, {len(build.pairs)} wheels tried in {time.time() - made:.0f} s"
    )
    print("   ", ", ".join(f"{verdict}/{real} {count}" for (verdict, real), count in sorted(told.items())), flush=True)
    return build


# --- the report ------------------------------------------------------------------------------------

REALS = ("loads", "fails", "crashes", "needs the driver", "hangs")


def confusion(rows: Sequence[Tuple[str, str]]) -> List[str]:
    counts = Counter(rows)
    reals = [real for real in REALS if real in ("loads", "fails", "crashes") or any(r == real for _, r in rows)]
    lines = [f"| the check says | {' | '.join(reals)} |", f"|---|{'---|' * len(reals)}"]
    for verdict in LoadOutcome:
        lines.append(f"| {verdict.value} | {' | '.join(str(counts[verdict.value, real]) for real in reals)} |")
    return lines


def share(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def minor_of(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2])


def pinned_minor(specifier: str) -> str:
    """`2.8`, where metadata wants one torch; else nothing."""
    found = re.fullmatch(r"={2,3}(\d+\.\d+)(\.\d+)?(\.\*)?(\+\w+)?", specifier)
    return found.group(1) if found else ""


def is_disagreement(one: Object) -> bool:
    """`another-torch` says that it would load and may crash; `unknown` says nothing."""
    if one.outcome == LoadOutcome.FITS.value:
        return one.real in ("fails", "crashes", "hangs") or (
            one.real == "needs the driver" and one.expected != "driver"
        )
    if one.outcome == LoadOutcome.DOES_NOT_LOAD.value:
        return one.real != "fails" and not (one.real == "needs the driver" and one.expected != "driver")
    return one.outcome == LoadOutcome.ANOTHER_TORCH.value and one.real == "fails"


def report(builds: Sequence[Build]) -> str:
    pairs = [(build, pair) for build in builds for pair in build.pairs]
    objects = [(build, pair, one) for build, pair in pairs for one in pair.objects]
    lines = [
        f"{len({pair.wheel for _, pair in pairs})} wheels, {len(builds)} builds of torch: {len(pairs)} pairs of wheel "
        f"and torch, {len(objects)} of shared object and torch "
        f"({sum(one.uses_torch for _, _, one in objects)} of them use torch).",
        f"CPython {builds[0].python}, {builds[0].libc}, x86-64, no GPU and no driver.",
        "",
        "Per shared object that uses torch:",
        "",
        *confusion([(one.outcome, one.real) for _, _, one in objects if one.uses_torch]),
        "",
        "Per shared object that does not (bundled libraries, other modules):",
        "",
        *confusion([(one.outcome, one.real) for _, _, one in objects if not one.uses_torch]),
        "",
        "Per wheel:",
        "",
        *confusion([(pair.verdict, pair.real) for _, pair in pairs]),
        "",
        *_by_import(pairs),
        *_by_reason(objects),
        *_headline(pairs, objects),
        *_disagreements(pairs, objects),
        *_times(pairs),
        *_grid(builds),
    ]
    return "\n".join(lines)


def _by_import(pairs: Sequence[Tuple[Build, Pair]]) -> List[str]:
    columns = ("works", "imports", "operation fails", "import fails", "crashes", "not tried")
    lines = [
        "Per wheel, and what Python says of it (`works`: it also did the small operation that the wheel index has; "
        "`imports` proves less, many projects go on without their native code; not tried where the native code does "
        "not load and the check refuses):",
        "",
        f"| the check says | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    counts = Counter((pair.verdict, "crashes" if pair.imports == "hangs" else pair.imports) for _, pair in pairs)
    for verdict in LoadOutcome:
        lines.append(f"| {verdict.value} | {' | '.join(str(counts[verdict.value, column]) for column in columns)} |")
    return [*lines, ""]


def _by_reason(objects: Sequence[Tuple[Build, Pair, Object]]) -> List[str]:
    kinds = ("missing library", "undefined symbol", "version", "other")
    lines = [
        "Why it does not load, where both say so:",
        "",
        f"| the check says | {' | '.join(f'loader: {kind}' for kind in kinds)} | what the loader names is foreseen |",
        f"|---|{'---|' * (len(kinds) + 1)}",
    ]
    both = [one for _, _, one in objects if one.outcome == LoadOutcome.DOES_NOT_LOAD.value and one.real == "fails"]
    for expected in kinds[:-1]:
        rows = [one for one in both if one.expected == expected]
        counts = Counter(kind_of(one.words) for one in rows)
        named = sum(one.is_named for one in rows)
        lines.append(f"| {expected} | {' | '.join(str(counts[kind]) for kind in kinds)} | {named} of {len(rows)} |")
    return [*lines, ""]


def _headline(pairs: Sequence[Tuple[Build, Pair]], objects: Sequence[Tuple[Build, Pair, Object]]) -> List[str]:
    good = [(build, pair) for build, pair in pairs if pair.real == "loads" and pair.imports in ("works", "imports")]
    lost = sum(pair.verdict == LoadOutcome.DOES_NOT_LOAD.value for _, pair in good)
    old = [(build, pair) for build, pair in good if pair.verdict == LoadOutcome.ANOTHER_TORCH.value]
    own = [(build, pair) for build, pair in pairs if pinned_minor(pair.pins) == minor_of(build.torch)]
    refused = [pair for _, pair in own if pair.is_refused]
    failing = [one for _, _, one in objects if one.real in ("fails", "crashes", "hangs")]
    missed = sum(one.outcome == LoadOutcome.FITS.value for one in failing)
    open_ = sum(one.outcome == LoadOutcome.UNKNOWN.value for one in failing)
    bad = [pair for _, pair in pairs if pair.real in ("fails", "crashes", "hangs") or pair.imports == "operation fails"]
    return [
        f"- Wheels that load and import: {len(good)}. Refused as `does-not-load`: {lost}. Refused as built for another "
        f"torch: {len(old)}; for {sum(_is_pinned_elsewhere(b, p) for b, p in old)} of these the metadata pins another "
        "torch too.",
        f"- Wheels whose metadata pins this very minor of torch: {len(own)}. Refused: {len(refused)}, of which load: "
        f"{sum(pair.real == 'loads' for pair in refused)}.",
        f"- Wheels that do not load, crash, or fail in their operation: {len(bad)}. Let through as `fits`: "
        f"{sum(pair.verdict == LoadOutcome.FITS.value for pair in bad)}, as `unknown`: "
        f"{sum(pair.verdict == LoadOutcome.UNKNOWN.value for pair in bad)}.",
        f"- Shared objects that do not load or crash: {len(failing)}. Not foreseen: {missed}; left open as `unknown`: "
        f"{open_}.",
        "",
    ]


def _is_pinned_elsewhere(build: Build, pair: Pair) -> bool:
    return pinned_minor(pair.pins) not in ("", minor_of(build.torch))


def _short(wheel: str) -> str:
    return "-".join(wheel.split("-")[:2])


def _cell(text: str, limit: int = 220) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _disagreements(pairs: Sequence[Tuple[Build, Pair]], objects: Sequence[Tuple[Build, Pair, Object]]) -> List[str]:
    found = [(build, pair, one) for build, pair, one in objects if is_disagreement(one)]
    lines = [f"Disagreements: {len(found)} objects.", ""]
    if found:
        lines += ["| wheel, object | torch | the check says | really | the loader's words |", "|---|---|---|---|---|"]
    for build, pair, one in found:
        says = f"{one.outcome}{f' ({one.reason})' if one.reason else ''}"
        where = f"{_short(pair.wheel)}: `{one.member}`"
        lines.append(f"| {where} | {build.torch} | {_cell(says)} | {one.real} | {_cell(one.words)} |")
    broken = [
        (build, pair)
        for build, pair in pairs
        if pair.imports in ("operation fails", "import fails", "crashes", "hangs")
        and pair.verdict == LoadOutcome.FITS.value
        and pair.real == "loads"
    ]
    lines += ["", f"Wheels that fit and load, and that Python does not take: {len(broken)}.", ""]
    if broken:
        lines += ["| wheel | torch | | Python's words |", "|---|---|---|---|"]
        lines += [f"| {_short(p.wheel)} | {b.torch} | {p.imports} | {_cell(p.words)} |" for b, p in broken]
        lines.append("")
    return lines


def _times(pairs: Sequence[Tuple[Build, Pair]]) -> List[str]:
    lines = ["| time, ms | median | 95 % below | most |", "|---|---|---|---|"]
    some = [pair for _, pair in pairs if pair.objects]
    for name, values in (
        ("what torch loads, once a change", [pair.scope_ms for pair in some]),
        ("an object, files not read before (mean of its wheel)", [pair.first_ms / len(pair.objects) for pair in some]),
        ("an object, warm (mean of its wheel)", [pair.warm_ms / len(pair.objects) for pair in some]),
        ("a wheel, warm", [pair.warm_ms for pair in some]),
    ):
        middle = statistics.median(values) if values else 0.0
        lines.append(f"| {name} | {middle:.0f} | {share(values, 95):.0f} | {max(values, default=0.0):.0f} |")
    return [*lines, ""]


_LETTERS = {"fits": "fits", "another-torch": "another", "unknown": "unknown", "does-not-load": "no"}


def _grid(builds: Sequence[Build]) -> List[str]:
    lines = [
        "Each wheel beside each torch: the check's word (`no`: does not load, `another`: built for another torch), "
        "then what really happened to its native code and, after a comma, to its import or operation.",
        "",
        f"| wheel | its metadata wants torch | {' | '.join(build.torch for build in builds)} |",
        f"|---|---|{'---|' * len(builds)}",
    ]
    names = sorted({pair.wheel for build in builds for pair in build.pairs}, key=_order)
    for name in names:
        cells, pins = [], ""
        for build in builds:
            pair = next((one for one in build.pairs if one.wheel == name), None)
            if pair is None:
                cells.append("")
                continue
            pins = pair.pins or pins
            cells.append(f"{_LETTERS[pair.verdict]}: {pair.real}, {pair.imports}")
        lines.append(f"| {_short(name)} | {_cell(pins)} | {' | '.join(cells)} |")
    own = [f"torch {build.torch}: {build.own}" for build in builds]
    return [*lines, "", f"torch's own libraries, all of which import: {'; '.join(own)}."]


def _order(wheel: str) -> Tuple[str, Version]:
    project, version = wheel.split("-")[:2]
    return project.lower(), Version(version)


def replaced(text: str, table: str) -> str:
    """The page with new tables between its two marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table}\n{END}{after}"


# --- what was measured before ----------------------------------------------------------------------


def results_of(cache: Path, versions: Iterable[str]) -> List[Build]:
    builds = []
    for version in versions:
        path = cache / "results" / f"{version}.json"
        if path.is_file():
            builds.append(read_build(json.loads(path.read_text("utf-8"))))
    return builds


def read_build(value: Dict[str, Any]) -> Build:
    pairs = []
    for raw in value.pop("pairs"):
        objects = [Object(**one) for one in raw["objects"]]
        real = real_of_wheel(objects, patterns_of(canonicalize_name(raw["wheel"].split("-")[0])))
        pairs.append(Pair(**{**raw, "objects": objects, "real": real}))
    return Build(**value, pairs=pairs)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "torch-safe-install" / "abi-matrix")
    parser.add_argument("--torch", action="append", choices=TORCHES, help="only this one, may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/abi.md")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    if sys.version_info[:2] != (3, 11):
        parser.error("run it with Python 3.11: the wheels are for it")
    cache: Path = options.cache.resolve()
    (cache / "results").mkdir(parents=True, exist_ok=True)
    if not options.report:
        store = Store(cache)
        for version in options.torch or TORCHES:
            build = measure(version, store, keep=options.keep)
            (cache / "results" / f"{version}.json").write_text(json.dumps(asdict(build), indent=1), "utf-8")
    builds = results_of(cache, TORCHES)
    if not builds:
        parser.error("nothing was measured yet")
    table = report(builds)
    if options.write:
        REPORT.write_text(replaced(REPORT.read_text("utf-8"), table), "utf-8")
    else:
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
