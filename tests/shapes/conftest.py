"""Real environments of every kind with tiny wheels; plain Pythons of one's own; uv; mounts that
nobody else sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import pytest

import safe_install
from safe_install.models import InstalledDistribution
from tests.functional.conftest import (
    Environment,
    any_python,
    clean_variables,
    find_python,
    make_once,
    read_document,
    run_process,
    skip_without_python,
)
from tests.functional.conftest import shared as shared
from tests.lab.wheels import write_wheel
from tests.small_environment import write_distribution

PYTHON = any_python()
# The very code that is tested, and no variable that an interpreter of the environment would
# inherit.
SOURCE = str(Path(safe_install.__file__).parents[1])
TOOL = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {SOURCE!r}); from safe_install.cli.main import main; "
    "sys.exit(main())",
]
SCRIPT = "[console_scripts]\nalpha = alpha:main\n"
MANY = 500  # files of the package `many`: enough for pip to be killed in the middle of them


# Imports like torch as long as alpha is older than 2: a replacement that has to be rolled back.
TORCH = """
import alpha
if alpha.version.startswith("2"):
    raise ImportError("torch needs an older alpha")
from torch import version
from torch.version import __version__
class cuda:
    is_available = device_count = staticmethod(lambda: 0)
"""


VERSION = "__version__ = '2.13.0+cpu'\ncuda = hip = None\n"


class Place(Environment):
    """An environment that is changed by the tool as it is in this source tree."""

    def safe_install(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The tool."""
        done = run_process([*TOOL, *words], {**self.variables, **variables}, cwd=self.prefix.parent)
        if "--json" in words:
            read_document(done)
        return done

    def must(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The tool, which has to succeed."""
        done = self.safe_install(*words, **variables)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done


def write_wheels(folder: Path) -> None:
    """alpha; a torch that needs an old alpha; two halves of a namespace; many."""
    for version in ("1.0", "1.5", "2.0"):
        files = {
            "alpha/__init__.py": f"version = {version!r}\ndef main(): print(version)\n",
            f"alpha/only_{version[0]}{version[2]}.py": "",
            f"alpha-{version}.data/data/share/alpha/about.txt": version,
            f"alpha-{version}.dist-info/entry_points.txt": SCRIPT,
        }
        write_wheel(folder, "alpha", version, files)
    write_wheel(
        folder, "torch", "2.13.0+cpu", {"torch/__init__.py": TORCH, "torch/version.py": VERSION}
    )
    for half in ("one", "two"):
        for version in ("1.0", "2.0"):
            write_wheel(folder, f"space-{half}", version, {f"space/{half}/__init__.py": version})
    for version in ("1.0", "2.0"):
        code = {f"many/m{number}.py": f"version = {version!r}\n" for number in range(MANY)}
        info = {
            f"many-{version}.dist-info/entry_points.txt": "[console_scripts]\nmany = many.m0:version\n"
        }
        write_wheel(
            folder,
            "many",
            version,
            {**code, **info, "many/__init__.py": f"version = {version!r}\n"},
        )


@pytest.fixture(scope="session")
def wheels(shared: Path) -> Path:
    """The folder with the wheels: the only index there is."""
    return make_once(shared / "shape-wheels", write_wheels)


@pytest.fixture(scope="session")
def template(shared: Path) -> Path:
    """A virtual environment by the real `python -m venv`, with pip."""
    return make_once(
        shared / "shape-template",
        lambda folder: run(need_python(), "-m", "venv", str(folder)) and None,
    )


@pytest.fixture
def tmp_path(on_disk: Path) -> Path:
    """A file system that can hold the upper layer of an overlay, and files that are immutable; and
    pip takes its time there, so that it can be killed in the middle."""
    return on_disk


@pytest.fixture
def variables(wheels: Path, shared: Path, tmp_path: Path) -> Dict[str, str]:
    """The variables for every process of a test: a home and a folder for temporary files of its
    own."""
    found = clean_variables({}, wheels, tmp_path / "home")
    found["SAFE_INSTALL_CACHE_DIR"] = str(shared / "shape-cache")
    found["TMPDIR"] = str(tmp_path / "tmp")
    for folder in ("home", "tmp"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return found


@pytest.fixture
def make_place(tmp_path: Path, template: Path, variables: Dict[str, str]) -> Callable[..., Place]:
    """A copy of the virtual environment, with what plain pip put into it:
    `make_place("alpha==1.0")`."""

    def make(*requirements: str, name: str = "env") -> Place:
        prefix = tmp_path / name
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(prefix)], check=True)
        environment = Place(prefix, variables)
        if requirements:
            environment.must_pip("install", "--no-compile", *requirements)
        return environment

    return make


def put(site: Path, version: str = "1.0", *, installer: str = "pip") -> InstalledDistribution:
    """alpha as another installer leaves it, without waiting for one."""
    files = {
        "alpha/__init__.py": f"version = {version!r}\n",
        f"alpha/only_{version.replace('.', '')}.py": "",
        "../../../share/alpha/about.txt": version,
    }
    return write_distribution(site, "alpha", version, files, installer=installer)


def put_torch(site: Path) -> None:
    """The torch that needs an alpha older than 2."""
    write_distribution(
        site, "torch", "2.13.0+cpu", {"torch/__init__.py": TORCH, "torch/version.py": VERSION}
    )


def need_python() -> str:
    """The interpreter of the environments here."""
    found = find_python(PYTHON)
    if found is None:
        skip_without_python(PYTHON)
    return found


def make_plain_python(prefix: Path) -> Path:
    """A Python that is no virtual environment, as in an image: its own binary and site-packages,
    and the standard library by links."""
    import json

    told = run(
        need_python(),
        "-c",
        "import json, os, sys; print(json.dumps([os.path.realpath(sys.executable), os.__file__]))",
    )
    binary, module = json.loads(told.stdout)
    library = prefix / "lib" / f"python{PYTHON}"
    for folder in (prefix / "bin", library / "site-packages"):
        folder.mkdir(parents=True)
    shutil.copy2(binary, prefix / "bin" / f"python{PYTHON}")
    (prefix / "bin" / "python").symlink_to(f"python{PYTHON}")
    # Without the mark that forbids pip to change it, which Debian's and uv's Pythons have.
    for entry in Path(module).parent.iterdir():
        if entry.name not in ("site-packages", "EXTERNALLY-MANAGED"):
            (library / entry.name).symlink_to(entry)
    return prefix


def need_plain_layout() -> None:
    """A Python whose own packages lie in site-packages: a copy of Debian's would look into
    dist-packages."""
    told = run(need_python(), "-c", "import site; print(site.getsitepackages())").stdout
    if "dist-packages" in told:
        pytest.skip("the only Python here is Debian's, with dist-packages")


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A process that has to succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def need_uv() -> str:
    """uv, from PATH or beside this Python."""
    found = shutil.which(
        "uv", path=os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    )
    if found is None:
        pytest.skip("no uv here: pip install uv")
    return found


def need_mounts() -> None:
    """Mounts that only our own process sees."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting needs root and unshare")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this container may not make mount namespaces")


def mounted(
    mounts: Sequence[str], words: Sequence[str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `words` where these lines of shell have mounted something; skip where the kernel does not
    let us."""
    script = " && ".join(["mount --make-rprivate /", *mounts, 'touch "$MOUNTED"', 'exec "$@"'])
    marker = options.pop("marker")
    marker.unlink(missing_ok=True)
    command: List[str] = ["unshare", "-m", "sh", "-c", script, "sh", *words]
    environment = {**options.pop("env"), "MOUNTED": str(marker)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **options
    )
    if not marker.exists():
        pytest.skip(f"cannot be mounted here: {done.stderr.strip()}")
    return done


def other_user() -> List[str]:
    """The start of a command line that runs it as nobody, who may read everything and write nothing
    of ours."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs root and setpriv")
    read = "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *read.split()]
