"""Real virtual environments with stand-in wheels, and the tool run in them as people run it, as a
process.

An environment is copied from a template that is made once for all workers. Nothing here reaches the
network: the package index is a folder, and every wheel host is a closed port unless a test starts
one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
)

import pytest
from filelock import FileLock

from tests.lab import LabWheels, build_driver, build_wheels, stacks
from tests.lab.warm import SERVERS
from tests.treehash import Row, read_tree
from tests.wheelhost import HOSTS, WheelHost

CLOSED = "http://127.0.0.1:9"  # nobody listens there
ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "src" / "safe_install" / "result.schema.json"
FOREIGN = (
    "PIP_",
    "SAFE_INSTALL_",
    "UV_",
    "CONDA_",
    "VIRTUAL_ENV",
    "PYTHON",
    "TORCH_",
    "CUDA_",
    "FAKE_",
    "NV_",
    "SLURM_",
    "XDG_",
)


@functools.lru_cache(maxsize=None)
def find_python(version: str) -> Optional[str]:
    """A CPython of this version: $PYTHON38, pyenv's, uv's, one on PATH that really starts, or the
    one that runs us."""
    named = os.environ.get(f"PYTHON{version.replace('.', '')}")
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}"))
    uv = [
        path
        for folder in uv_pythons()
        for path in sorted(folder.glob(f"cpython-{version}.*/bin/python{version}"))
    ]
    for candidate in (
        named,
        *map(str, pyenv),
        *map(str, uv),
        shutil.which(f"python{version}"),
        base_python(),
    ):
        if candidate and _version_of(candidate) == version:
            return candidate
    return None


def uv_pythons() -> List[Path]:
    """Where `uv python install` puts interpreters: for scripts/test, and by itself."""
    folders = [os.environ.get("SAFE_INSTALL_TEST_PYTHONS"), "~/.local/share/uv/python"]
    return [Path(folder).expanduser() for folder in folders if folder]


def base_python() -> str:
    """The interpreter that the running virtual environment was made with."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def any_python() -> str:
    """The version of the environments for tests that any Python serves: SAFE_INSTALL_TEST_PYTHON,
    else 3.11, or the running one where there is no 3.11."""
    named = os.environ.get("SAFE_INSTALL_TEST_PYTHON")
    if named:
        return named
    running = "{}.{}".format(*sys.version_info[:2])
    return "3.11" if find_python("3.11") else running


def serving(python: str) -> str:
    """The version that serves a test: where it says 3.11, any Python does (see `need_python` for
    those it does not)."""
    return any_python() if python == "3.11" else python


def need_python(version: str) -> None:
    """For tests whose files are for exactly this version."""
    if find_python(version) is None:
        skip_without_python(version)


def skip_without_python(version: str) -> NoReturn:
    """Skip: the same words everywhere, so that the summary counts them in one line."""
    pytest.skip(f"no Python {version} here")


def _version_of(executable: str) -> str:
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [executable, "-c", question], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return answer.stdout.strip()


def run_safe_install(
    argv: Sequence[str], env: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """The tool as a process of its own. A JSON document that it writes is held against the
    schema."""
    completed = SERVERS.run(argv, env, **options)
    if "--json" in argv:
        read_document(completed)
    return completed


def run_process(
    argv: Sequence[str], env: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Any child process, its words kept."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    return subprocess.run(
        list(argv), env=dict(env), capture_output=True, text=True, check=False, **options
    )


@functools.lru_cache(maxsize=None)
def _validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def read_document(completed: subprocess.CompletedProcess[str]) -> Dict[str, Any]:
    """The one JSON document on stdout, valid by the schema and of one mind with the exit status."""
    try:
        document = json.loads(completed.stdout)
    except ValueError as error:
        raise AssertionError(
            f"no JSON document: {completed.stdout!r} {completed.stderr}"
        ) from error
    problems = [
        f"{list(problem.path)}: {problem.message}" for problem in _validator().iter_errors(document)
    ]
    assert not problems, problems
    assert document["exit_code"] == completed.returncode
    return document


class Environment:
    """A virtual environment and the variables in which everything about it is run."""

    def __init__(self, prefix: Path, variables: Mapping[str, str]) -> None:
        self.prefix = prefix
        self.executable = prefix / "bin" / "python"
        self.variables = {**variables, "VIRTUAL_ENV": str(prefix)}

    @property
    def site(self) -> Path:
        """site-packages."""
        (found,) = self.prefix.glob("lib/python3*/site-packages")
        return found

    def safe_install(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The tool."""
        return run_safe_install(words, {**self.variables, **variables}, cwd=self.prefix.parent)

    def document(self, *words: str, **variables: str) -> Dict[str, Any]:
        """What the tool says with --json."""
        return read_document(self.safe_install(*words, "--json", **variables))

    def pip(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Plain pip."""
        command = [str(self.executable), "-m", "pip", *words]
        return run_process(command, {**self.variables, **variables}, cwd=self.prefix.parent)

    def must_pip(self, *words: str) -> None:
        """Plain pip, which has to succeed."""
        completed = self.pip(*words)
        assert completed.returncode == 0, completed.stdout + completed.stderr

    def ask(self, code: str) -> str:
        """What a fresh process of this interpreter prints; when it fails its last line of stderr,
        or its status where it said nothing."""
        completed = run_process([str(self.executable), "-B", "-c", code], self.variables)
        if completed.returncode == 0:
            return completed.stdout.strip()
        lines = completed.stderr.strip().splitlines()
        return lines[-1].strip() if lines else f"exit status {completed.returncode}"

    def cuda(self) -> str:
        """torch's version and whether it has CUDA: "1.8.1+cu111 True"; or why it does not
        import."""
        return self.ask("import torch; print(torch.__version__, torch.cuda.is_available())")

    def freeze(self) -> List[str]:
        """`pip freeze`."""
        return self.pip("freeze", "--all").stdout.splitlines()

    def versions(self) -> List[str]:
        """`name==version` of everything by its metadata, as `pip list` has it."""
        folders = sorted(self.site.glob("*.dist-info"))
        found = [metadata.Distribution.at(folder) for folder in folders]
        return [f"{one.metadata['Name']}=={one.version}" for one in found]

    def tree(self) -> Dict[str, Row]:
        """Everything below the prefix that counts."""
        return read_tree(self.prefix)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of this run; of scripts/test, for the tests on all Pythons."""
    named = os.environ.get("SAFE_INSTALL_TEST_SHARED")
    if named:
        return Path(named)
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by whichever worker comes first."""
    with FileLock(f"{folder}.lock"):
        done = folder.parent / f"{folder.name}.done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def driver(shared: Path) -> Dict[str, str]:
    """The variables of the stub driver."""
    if shutil.which("cc") is None:
        pytest.skip("the stub driver needs a C compiler")
    folder = make_once(shared / "driver", lambda out: build_driver(out) and None)
    rest = {name: os.environ.get(name) for name in ("LD_LIBRARY_PATH", "PATH")}
    return {
        name: f"{folder}{os.pathsep}{value}" if value else str(folder)
        for name, value in rest.items()
    }


@pytest.fixture(scope="session")
def lab_wheels(shared: Path, driver: Dict[str, str]) -> Callable[[str], LabWheels]:
    """The stand-in wheels for a Python version."""

    def get(python: str) -> LabWheels:
        python = serving(python)
        folder = make_once(
            shared / f"wheels-{python}", lambda out: build_wheels(out, python) and None
        )
        return LabWheels.at(folder)

    return get


@pytest.fixture(scope="session")
def make_template(
    shared: Path, lab_wheels: Callable[[str], LabWheels], driver: Dict[str, str]
) -> Callable[..., Path]:
    """A virtual environment by the real `python -m venv`, with what plain pip put into it."""

    def get(python: str, requirements: Tuple[str, ...], *, with_pip: bool = True) -> Path:
        python = serving(python)
        interpreter = find_python(python)
        if interpreter is None:
            skip_without_python(python)
        index = lab_wheels(python).index
        variables = clean_variables(driver, index, shared / "home")

        def make(folder: Path) -> None:
            if requirements:
                shutil.copytree(get(python, (), with_pip=with_pip), folder, symlinks=True)
            else:
                options = [] if with_pip else ["--without-pip"]
                check([interpreter, "-m", "venv", *options, str(folder)], variables)
            for words in requirements:
                check(
                    [str(folder / "bin" / "python"), "-m", "pip", "install", *words.split()],
                    variables,
                )

        name = "-".join([python, *requirements, "with-pip" if with_pip else "bare"])
        (shared / "templates").mkdir(exist_ok=True)
        return make_once(shared / "templates" / name.replace("/", "_").replace(" ", "_"), make)

    return get


def check(command: Sequence[str], variables: Mapping[str, str]) -> None:
    """A process that has to succeed."""
    completed = run_process(command, variables)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def clean_variables(driver: Mapping[str, str], index: Path, home: Path) -> Dict[str, str]:
    """Nothing of whoever runs the tests: no configuration of pip, no other environment, no
    network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **kept,
        **driver,
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "SAFE_INSTALL_CACHE_DIR": str(home / "cache"),
        "SAFE_INSTALL_MIRRORS": " ".join(f"{start}={CLOSED}" for start in HOSTS),
        "SAFE_INSTALL_LANGUAGE": "en",
        "FAKE_DRIVER_CUDA": "11.1",
    }


@pytest.fixture(scope="session")
def place_environment(
    make_template: Callable[..., Path],
    lab_wheels: Callable[[str], LabWheels],
    driver: Dict[str, str],
) -> Callable[..., Environment]:
    """An environment in a folder; its home is beside it. Else as `make_environment`."""

    def make(
        folder: Path,
        python: str,
        *requirements: str,
        name: str = "env",
        with_pip: bool = True,
        **variables: str,
    ) -> Environment:
        template = make_template(python, requirements, with_pip=with_pip)
        prefix = folder / name
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(prefix)], check=True)
        (folder / "home").mkdir(exist_ok=True)
        clean = clean_variables(driver, lab_wheels(python).index, folder / "home")
        return Environment(prefix, {**clean, **variables})

    return make


@pytest.fixture
def make_environment(
    tmp_path: Path, place_environment: Callable[..., Environment]
) -> Callable[..., Environment]:
    """An environment of one test's own: `make_environment("3.8", "torch==1.8.1+cu111",
    FAKE_DRIVER_CUDA="11.1")`.

    Each of `requirements` is one `pip install` command, in this order.
    """
    return functools.partial(place_environment, tmp_path)


@pytest.fixture
def host() -> Iterator[WheelHost]:
    """All wheel hosts and a package index, on loopback."""
    with WheelHost() as host:
        yield host


@pytest.fixture
def environment_without_torch(
    make_environment: Callable[..., Environment], host: WheelHost
) -> Environment:
    """Python 3.11; the package index is that of `host`, and of all other hosts it alone answers."""
    need_python("3.11")
    return make_environment("3.11", **answering(host), PIP_NO_CACHE_DIR="1")


def answering(host: WheelHost) -> Dict[str, str]:
    """The variables with which a host is the package index, and all wheel hosts."""
    return {
        "SAFE_INSTALL_MIRRORS": host.mirrors,
        "PIP_INDEX_URL": host.index_url,
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
    }


@pytest.fixture(params=[pytest.param("3.8", marks=pytest.mark.long), "3.11"])
def python(request: pytest.FixtureRequest) -> str:
    """The oldest supported Python, and the one that most people have."""
    return str(request.param)


@pytest.fixture(scope="session")
def node_cache(shared: Path) -> Path:
    """The cache of all machines that start the program as one file: there it unpacks itself once,
    and Python compiles it once."""
    folder = shared / "node-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def zipapp(shared: Path) -> Path:
    """safe-install as one file."""
    return make_once(shared / "zipapp", make_zipapp) / "safe-install.pyz"


def make_zipapp(folder: Path) -> None:
    """As on a bare Debian: by a Python that has no pip of its own."""
    without_pip = folder / "without-pip"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(without_pip)], check=True)
    command = [str(ROOT / "scripts" / "build_zipapp"), str(folder / "safe-install.pyz")]
    check(command, {**os.environ, "PYTHON": str(without_pip / "bin" / "python")})


@pytest.fixture(scope="session")
def torch_template() -> Path:
    """A virtual environment with the real torch 2.13.0+cpu for the Python that runs us, kept in the
    lab's cache. Never changed."""
    try:
        if stacks.RUNNING not in stacks.CPU.pythons:
            raise stacks.NotPossible(f"it is not made for Python {stacks.RUNNING}")
        return stacks.find_template(stacks.CPU)
    except stacks.NotPossible as reason:
        pytest.skip(f"torch 2.13.0+cpu cannot be installed here: {reason}")


@contextlib.contextmanager
def copied(template: Path) -> Iterator[Path]:
    """A copy for several tests, each of which begins with `restore_environment`: so the files are
    linked once, and what is compared is read once. Hard links, because nothing may write through
    one."""
    with tempfile.TemporaryDirectory(prefix="real-torch-") as folder:
        yield stacks.copy_environment(template, Path(folder) / "env")


@pytest.fixture(scope="module")
def shared_environment(torch_template: Path) -> Iterator[Path]:
    """A copy of the template for all tests of a file."""
    with copied(torch_template) as folder:
        yield folder


@pytest.fixture
def environment(shared_environment: Path, torch_template: Path) -> Path:
    """That copy as it was before the other tests."""
    stacks.restore_environment(torch_template, shared_environment)
    return shared_environment
