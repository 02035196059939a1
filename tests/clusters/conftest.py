"""Real clusters of Dask and Ray on this machine: each node is a virtual environment of its own.

The engines come from the package index into one folder, which all processes have on PYTHONPATH;
the environments themselves, which are changed and compared, hold nothing of them, and no
safe-install.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import pytest

from tests.functional.conftest import (
    Environment,
    base_python,
    clean_variables,
    make_once,
    read_document,
    run_process,
)
from tests.functional.conftest import shared as shared
from tests.lab import stacks
from tests.lab.wheels import write_wheel
from tests.small_environment import write_distribution

# The oldest that serve are in pyproject.toml; those of every night are the newest.
ENGINES = ("distributed", "ray")
TORCH = "2.13.0+cpu"
# torch/__init__.py: one that lives with everything, and one that an alpha of version 2 breaks.
WELL = """
from torch import version
from torch.version import __version__
class cuda:
    is_available = device_count = staticmethod(lambda: 0)
"""
FRAIL = """
try:
    import alpha
except ImportError:
    alpha = None
if alpha is not None and alpha.version == 2:
    raise ImportError("torch needs an older alpha")
"""
DRIVE = Path(__file__).with_name("drive.py")


@pytest.fixture(scope="session")
def engines() -> Path:
    """A folder with Dask and Ray, kept from run to run."""
    version = "{}.{}".format(*sys.version_info[:2])
    folder = stacks.cache_folder() / f"engines-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return make_once(folder, fetch_engines)


def fetch_engines(folder: Path) -> None:
    """From the index of whoever runs the tests. Skips where there is none."""
    try:
        uv = stacks.find_uv()
    except stacks.NotPossible as reason:
        pytest.skip(f"Dask and Ray cannot be installed: {reason}")
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    for links in stacks.find_links():
        command += ["--find-links", links]
    done = run_process([*command, "--target", str(folder), *ENGINES], os.environ)
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"Dask and Ray cannot be installed: {done.stderr.strip()[-300:]}")


def write_wheels(folder: Path) -> None:
    """alpha in two versions; beta, which needs this torch."""
    for version in ("1", "2"):
        files = {"alpha/__init__.py": f"version = {version}\n", "alpha/data.txt": version * 1000}
        write_wheel(folder, "alpha", version, files)
    write_wheel(folder, "beta", "1", {"beta.py": "x = 1\n"}, requires=[f"torch=={TORCH}"])


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Iterator[Ground]:
    """Where the cluster of a module lies."""
    ground = Ground(tmp_path_factory.mktemp("cluster"), engines)
    yield ground
    ground.end()


class Ground:
    """Environments, and the processes of a cluster in them."""

    def __init__(self, folder: Path, engines: Path) -> None:
        self.folder = folder
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        write_wheels(folder / "wheels")
        self.variables = clean_variables({}, folder / "wheels", folder / "home")
        self.variables["TMPDIR"] = str(folder / "tmp")
        self.with_engines = {
            **self.variables,
            "PYTHONPATH": str(engines),
            "XDG_DATA_HOME": str(folder / "home" / "data"),
        }
        self._started: List[subprocess.Popen[bytes]] = []
        self._logs: Dict[int, Path] = {}

    def make_environment(self, name: str) -> Environment:
        """One with a torch that lives with everything."""
        prefix = self.folder / name
        command = [base_python(), "-m", "venv", "--without-pip", str(prefix)]
        subprocess.run(command, check=True)
        environment = Environment(prefix, self.variables)
        put_torch(environment)
        return environment

    def start(self, environment: Environment, *words: str, **variables: str) -> Any:
        """A process of the cluster, in an environment; its output in a file beside that."""
        path = self.folder / f"{environment.prefix.name}-{len(self._started)}.log"
        log = path.open("wb")
        process = subprocess.Popen(
            [str(environment.executable), *words],
            env={**self.with_engines, **variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self._started.append(process)
        self._logs[process.pid] = path
        return process

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        """What it has said."""
        return self._logs[process.pid].read_text(errors="replace")

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """One process of the cluster, and what it started."""
        end_session(process)

    def fleet(self, verb: str, *words: str, **variables: str) -> Dict[str, Any]:
        """What `safe-install fleet` says with --json."""
        return read_document(self.run_tool("fleet", verb, *words, "--json", **variables))

    def run_tool(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The tool, beside which the engines lie."""
        command = [sys.executable, "-m", "safe_install", *words]
        return run_process(command, {**self.with_engines, **variables}, cwd=self.folder)

    def start_tool(self, *words: str) -> subprocess.Popen[str]:
        """The tool, beside which others run."""
        return subprocess.Popen(
            [sys.executable, "-m", "safe_install", *words],
            env=self.with_engines,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def drive(self, *words: str, **sabotage: Any) -> Dict[str, Any]:
        """The same with an engine that does something before a verb (drive.py)."""
        command = [sys.executable, str(DRIVE), json.dumps(sabotage), *words, "--json"]
        return read_document(run_process(command, self.with_engines, cwd=self.folder))

    def run_python(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A person's program, beside which safe-install and the engines lie."""
        command = [sys.executable, "-c", code, *words]
        return run_process(command, self.with_engines, cwd=self.folder)

    def end(self) -> None:
        """All processes of the cluster, and theirs."""
        for process in self._started:
            end_session(process)


class Cluster:
    """A cluster of one engine, as `safe-install fleet` is pointed at it."""

    def __init__(self, ground: Ground, option: str) -> None:
        self.ground, self.option = ground, option
        self.all: List[Environment] = []
        self.address = ""

    def fleet(self, verb: str, *words: str) -> Dict[str, Any]:
        """`safe-install fleet` on it."""
        return self.ground.fleet(verb, *words, self.option, self.address)

    def drive(self, *words: str, **sabotage: Any) -> Dict[str, Any]:
        """The same, sabotaged."""
        return self.ground.drive("fleet", *words, self.option, self.address, **sabotage)

    def refuse_on(self, environment: Environment) -> None:
        """One of its environments has another torch, and refuses: none is changed."""
        put_torch(environment, version="2.12.0+cpu")
        other = trees(self.all)
        try:
            document = self.fleet("install", "beta")
            assert ends(document) in ((10, "refused"), (11, "refused")), document
            assert "torch" in rows_of(document)[environment.prefix.name]["reason"]
            assert trees(self.all) == other
        finally:
            put_torch(environment)

    def take_back_all(self, lost: Dict[str, Any], before: List[Any]) -> None:
        """By `fleet undo`, once the node that was gone is there again."""
        undone = self.fleet("undo", lost["details"]["run"])
        assert undone["exit_code"] == 0, undone
        assert trees(self.all) == before


# A node goes behind the first verb and before the second; the versions of alpha that it has then.
GONE_WHEN_IT_COUNTS = pytest.mark.parametrize(
    ("after", "verb", "versions"), [("stage", "commit", []), ("commit", "verify", ["2"])]
)


@pytest.fixture
def before(cluster: Cluster) -> Iterator[List[Any]]:
    """How the environments of the module's cluster are; they have to be that again in the end."""
    found = trees(cluster.all)
    yield found
    assert trees(cluster.all) == found


def end_session(process: subprocess.Popen[bytes]) -> None:
    """A process that leads a session, and all that it started there."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def put_torch(environment: Environment, code: str = "", version: str = TORCH) -> None:
    """As an installer would have; `code` runs when it is imported."""
    for old in environment.site.glob("torch*"):
        shutil.rmtree(old)
    files = {
        "torch/__init__.py": code + WELL,
        "torch/version.py": f"__version__ = {version!r}\ncuda = hip = None\n",
    }
    write_distribution(environment.site, "torch", version, files)


def wait_for(question: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Its answer, once that is true."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, question
        time.sleep(0.1)


def trees(environments: Sequence[Environment]) -> List[Mapping[str, Any]]:
    """Everything that counts of each."""
    return [environment.tree() for environment in environments]


def alpha_of(environment: Environment) -> List[str]:
    """The versions of alpha that are installed there."""
    return sorted(
        path.name[len("alpha-") : -len(".dist-info")]
        for path in environment.site.glob("alpha-*.dist-info")
    )


def rows_of(document: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """The nodes of a run, by the names of their environments."""
    return {row["name"].rpartition("/")[2]: row for row in document["details"]["nodes"]}


def ends(document: Dict[str, Any]) -> Tuple[int, str]:
    """Exit status and outcome."""
    return document["exit_code"], document["outcome"]


def outcomes_of(document: Dict[str, Any]) -> Dict[str, str]:
    """What became of each."""
    return {name: row["outcome"] for name, row in rows_of(document).items()}
