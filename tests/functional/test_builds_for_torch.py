"""An extension that no host has, built by its own backend for a torch that is about to come: a
stand-in torch, with real libraries against which the extension is linked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.functional.conftest import need_python
from tests.functional.test_founding_story import reach
from tests.lab.wheels import PACKAGES, Torch, build_torch, write_wheel
from tests.namespaces import need_mounts
from tests.unit.wheels.crafted import make_sdist
from tests.wheelhost import WheelHost

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")

CPU, NEWER = Torch("2.13.0+cpu", "2.13.0+cpu"), Torch("2.14.0+cpu", "2.14.0+cpu")
WORKS = (
    "import torch, torch_scatter; from torch_scatter import built; "
    "print(built.VERSION, torch_scatter.scatter(torch.tensor([1., 2., 3.]), torch.tensor([0, 0, "
    "1])).tolist())"
)
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
# Links against the libraries of the torch that it imports, which export a symbol with their
# version.
BACKEND = """
import base64, hashlib, os, pathlib, subprocess, sysconfig, zipfile
import torch
{before}
def compile(folder):
    libraries = pathlib.Path(torch.__file__).parent / "lib"
    name = "_ZN3c10_" + torch.__version__.split("+")[0].replace(".", "_")
    code = "extern int %s_cpu(void); int use(void) {{ return %s_cpu(); }}" % (name, name)
    command = ["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-x", "none", "-o", folder + "/_scatter_cpu.so", {flags}
               "-L", str(libraries), "-l:libtorch_cpu.so", "-l:libc10.so", "-Wl,--no-as-needed"]
    subprocess.run(command, input=code, text=True, check=True)
    return pathlib.Path(folder, "_scatter_cpu.so").read_bytes()
def row(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "%s,sha256=%s,%d\\n" % (name, digest, len(data))
def build_wheel(directory, config_settings=None, metadata_directory=None):
    print("IMPORTED", torch.__file__, torch.__version__)
    info, tag = "torch_scatter-2.1.3.dist-info", "py3-none-" + sysconfig.get_platform().replace("-", "_")
    files = {{
        "torch_scatter/__init__.py": pathlib.Path("torch_scatter.py").read_bytes(),
        "torch_scatter/_scatter_cpu.so": compile(os.environ["TMPDIR"]),
        "torch_scatter/built.py": ("VERSION = %r" % torch.__version__).encode(),
        info + "/METADATA": b"Metadata-Version: 2.1\\nName: torch-scatter\\nVersion: 2.1.3\\n{requires}",
        info + "/WHEEL": ("Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: %s\\n" % tag).encode(),
    }}
    name = "torch_scatter-2.1.3-%s.whl" % tag
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr(info + "/RECORD", "".join(row(*item) for item in files.items()) + info + "/RECORD,,\\n")
    return name
"""


@pytest.fixture
def host():
    with WheelHost() as host:
        yield host


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The folder that pip looks into: two torches, and the tools of a build, which this backend
    does not use."""
    folder = tmp_path_factory.mktemp("index")
    for torch in (CPU, NEWER):
        wheel = build_torch(folder / torch.version, "3.11", torch)
        wheel.rename(folder / wheel.name)
    for name, version in (("setuptools", "80.9.0"), ("wheel", "0.45"), ("ninja", "1.13")):
        write_wheel(folder, name, version, {f"{name}/__init__.py": ""})
    write_wheel(folder, "scipy", "1.17", {"scipy.py": ""})
    return folder


@pytest.fixture
def make(make_environment, host, index, tmp_path):
    """An environment whose only hosts are the index folder and a package index with the source of
    torch-scatter."""
    need_python("3.11")

    def make(*installed, before="", flags="", requires=""):
        backend = BACKEND.format(before=before, flags=flags, requires=requires)
        source = (PACKAGES / "torch_scatter" / "__init__.py").read_text()
        files = {"pyproject.toml": PROJECT, "backend.py": backend, "torch_scatter.py": source}
        sdist = make_sdist(tmp_path, files, name="torch_scatter-2.1.3")
        host.add_pypi_page("torch-scatter", {sdist.name: sdist.read_bytes()})
        (tmp_path / "temporary").mkdir()
        variables = {"PIP_FIND_LINKS": str(index), "TMPDIR": str(tmp_path / "temporary")}
        variables["LD_LIBRARY_PATH"] = ""  # no driver: torch is one for the CPU
        return make_environment("3.11", *installed, **{**reach(host), **variables})

    return make


def logs(environment):
    """What the builds printed."""
    folder = Path(environment.variables["SAFE_INSTALL_CACHE_DIR"]) / "logs"
    return [path.read_text() for path in sorted(folder.glob("*.log"))]


def left_over(environment):
    """What lies in the folder for temporary files."""
    return sorted(os.listdir(environment.variables["TMPDIR"]))


def test_torch_and_an_extension_that_no_host_has(make, host):
    environment = make()
    before = environment.tree()
    dry = environment.document("--dry-run", "torch==2.13.0", "torch-scatter")
    assert {step["name"]: step["kind"] for step in dry["plan"]["steps"]} == {
        "torch": "wheel",
        "torch-scatter": "sdist",
    }
    assert logs(environment) == []
    document = environment.document("torch==2.13.0", "torch-scatter")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    (step,) = [step for step in document["plan"]["steps"] if step["name"] == "torch-scatter"]
    assert (step["kind"], step["version"]) == ("built", "2.1.3")
    (log,) = logs(environment)
    imported = log.partition("IMPORTED ")[2].split()[0]
    assert imported.startswith(environment.variables["TMPDIR"]), (
        "the torch that was unpacked for the build"
    )
    assert environment.ask(WORKS) == "2.13.0+cpu [3.0, 3.0]"
    assert document["after"]["operations"]["torch-scatter on cpu"]["ok"]
    assert environment.document("verify")["outcome"] == "healthy"
    assert left_over(environment) == []
    assert environment.document("undo")["outcome"] == "undone"
    assert environment.tree() == before
    dry = environment.document("--dry-run", "torch==2.13.0", "torch-scatter")
    assert [step["kind"] for step in dry["plan"]["steps"] if step["name"] == "torch-scatter"] == [
        "built"
    ]
    again = environment.document("torch==2.13.0", "torch-scatter")
    assert (again["exit_code"], again["outcome"]) == (0, "installed"), again
    assert len(logs(environment)) == 1, "the wheel that was built is taken"


@pytest.mark.long
def test_a_wheel_that_was_built_here_is_put_beside_an_export(make, host, tmp_path):
    environment = make()
    assert environment.document("torch==2.13.0", "torch-scatter")["outcome"] == "installed"
    wheels = tmp_path / "wheels"
    words = ("export", "--offline", "--wheels", str(wheels), "-o", str(tmp_path / "pylock.toml"))

    def exported():
        rows = environment.document(*words)["details"]["distributions"]
        (row,) = [row for row in rows if row["name"] == "torch-scatter"]
        return row

    row = exported()
    (wheel,) = wheels.glob("torch_scatter-*.whl")
    assert (row["path"], row["is_built_here"]) == (f"wheels/{wheel.name}", True)
    assert row["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    # without a history the store knows it, by the content of the installed files
    assert environment.safe_install("history", "--prune", "--keep", "0").returncode == 0
    shutil.rmtree(wheels)
    assert exported() == row
    (kept,) = Path(environment.variables["SAFE_INSTALL_CACHE_DIR"]).glob("built/*/*/*/*.whl")
    kept.unlink()
    assert "path" not in exported()


@pytest.mark.long
def test_an_installed_extension_is_built_again_for_a_newer_torch(make):
    """And not against the installed one."""
    environment = make("torch==2.13.0")
    assert environment.document("torch-scatter")["exit_code"] == 0
    assert environment.ask(WORKS) == "2.13.0+cpu [3.0, 3.0]"
    before = environment.tree()
    held_back = environment.document("-U", "--no-build", "torch")
    assert (held_back["exit_code"], held_back["outcome"]) == (0, "already-satisfied"), held_back
    dry = environment.document("--dry-run", "-U", "torch")
    kinds = {step["name"]: step["kind"] for step in dry["plan"]["steps"]}
    assert kinds == {"torch": "wheel", "torch-scatter": "sdist"}
    assert environment.tree() == before
    said = environment.safe_install("--dry-run", "-U", "torch")
    assert "~ torch-scatter 2.1.3 -> 2.1.3" in said.stdout
    assert "already installed with the same version" not in said.stdout + said.stderr, "pip's words"
    document = environment.document("-U", "torch")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    (step,) = [step for step in document["plan"]["steps"] if step["name"] == "torch-scatter"]
    assert (step["kind"], step["requested"]) == ("built", False)
    assert step["because"] == "built for torch 2.13.0+cpu"
    assert environment.ask(WORKS) == "2.14.0+cpu [3.0, 3.0]"
    assert environment.document("undo")["outcome"] == "undone"
    assert environment.tree() == before


@pytest.mark.long
def test_what_the_built_wheel_requires_comes_too(make):
    environment = make(requires="Requires-Dist: scipy>=1.10\\n")
    document = environment.document("torch", "torch-scatter")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    assert environment.ask(WORKS) == "2.14.0+cpu [3.0, 3.0]"
    assert {"torch", "torch-scatter", "scipy"} == {
        step["name"] for step in document["plan"]["steps"]
    }
    assert len(logs(environment)) == 1


@pytest.mark.parametrize(
    ("before", "status", "words"),
    [
        pytest.param(
            "raise RuntimeError('cannot be built')", 1, "RuntimeError: cannot be built", id="fails"
        ),
        pytest.param(
            "open(torch.__file__, 'a').write('x = 1')",
            1,
            "Read-only file system",
            id="changes torch",
        ),
        pytest.param(
            "open(torch.__path__[0] + '/../a.py', 'w')",
            1,
            "Read-only file system",
            id="writes beside it",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "open(sysconfig.get_paths()['purelib'] + '/a.py', 'w')",
            11,
            "a.py",
            id="writes into the environment",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_build_that_fails_changes_nothing(make, before, status, words):
    environment = make("torch==2.13.0", before=before)
    need_mounts(environment.site)
    tree = environment.tree()
    document = environment.document("torch==2.14.0", "torch-scatter")
    assert document["exit_code"] == status, document
    assert words in str(document["error"])
    assert environment.tree() == tree
    assert left_over(environment) == []


def test_a_run_that_is_ended_leaves_nothing(make):
    wait = "open(os.path.expanduser('~/started'), 'w').close(); __import__('time').sleep(300)"
    environment = make(before=wait)
    before, started = environment.tree(), Path(environment.variables["HOME"], "started")
    command = [sys.executable, "-m", "safe_install", "torch==2.13.0", "torch-scatter"]
    with subprocess.Popen(
        command, env=environment.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        run.terminate()
        said, _ = run.communicate(timeout=60)
    assert (started.exists(), run.returncode) == (True, 143), said
    assert (environment.tree(), left_over(environment)) == (before, [])


@pytest.mark.long
def test_a_wheel_of_torch_that_a_build_changes_is_not_installed(make):
    """It is not among the folders that a build may not change: it is hashed again before it is
    unpacked."""
    attack = (
        "import glob\n"
        "folder = os.path.dirname(os.environ['TMPDIR'])\n"
        "for path in glob.glob(folder + '/*/coming/**/torch-*.whl', recursive=True):\n"
        "    open(path, 'ab').write(b'x')\n"
        "    print('CHANGED', path)\n"
    )
    environment = make(before=attack)
    tree = environment.tree()
    document = environment.document("torch==2.13.0", "torch-scatter")
    assert "CHANGED" in logs(environment)[0]
    assert (document["exit_code"], document["error"]["code"]) == (11, "hash-mismatch"), document
    assert environment.tree() == tree


@pytest.mark.long
def test_a_library_that_would_be_looked_for_in_the_unpacked_torch_is_refused(make):
    environment = make(flags='"-Wl,-rpath," + str(libraries),')
    tree = environment.tree()
    document = environment.document("torch==2.13.0", "torch-scatter")
    assert document["exit_code"] == 1, document
    assert "_scatter_cpu.so" in document["error"]["message"]
    assert environment.tree() == tree


@pytest.mark.long
def test_what_was_built_beside_an_installed_torch_is_taken_for_the_same_one(make):
    """And it is said before; which build of torch comes, only its files tell."""
    environment = make("torch==2.13.0")
    assert environment.document("torch-scatter")["exit_code"] == 0
    assert environment.safe_install("uninstall", "-y", "torch-scatter", "torch").returncode == 0
    dry = environment.safe_install("--dry-run", "torch==2.13.0", "torch-scatter")
    assert dry.returncode == 0, dry.stderr
    unless = "torch-scatter 2.1.3: from source, unless the wheel that was built here before is for"
    assert unless in dry.stderr
    assert "[sdist, or built here before]" in dry.stdout
    again = environment.safe_install("torch==2.13.0", "torch-scatter")
    assert again.returncode == 0, again.stderr
    assert "torch-scatter 2.1.3: built here before" in again.stderr
    assert "building" not in again.stderr
    assert len(logs(environment)) == 1
    assert environment.ask(WORKS) == "2.13.0+cpu [3.0, 3.0]"


@pytest.mark.long
def test_what_was_built_before_needs_no_compiler(make):
    environment = make("torch==2.13.0")
    assert environment.document("torch-scatter")["exit_code"] == 0
    assert environment.safe_install("uninstall", "-y", "torch-scatter", "torch").returncode == 0
    without = {"PATH": str(environment.prefix / "bin"), "CXX": "no-compiler", "CC": "no-compiler"}
    document = environment.document("torch==2.13.0", "torch-scatter", **without)
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
