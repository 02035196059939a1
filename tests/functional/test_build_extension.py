"""Real builds of tiny C extensions: the overlay, parallel compilation, the log, interruption. No
torch needed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.environment.interpreter import read_environment
from safe_install.errors import BuildFailed, Refused
from safe_install.events import Reporter, TaskOutcome
from safe_install.models import BuildTimeout, TorchBuild
from safe_install.wheels.archive import extract_members, open_wheel
from safe_install.wheels.build import build_wheel
from safe_install.wheels.machine import read_machine
from safe_install.wheels.recipe import BuildRecipe
from safe_install.wheels.store import WheelStore
from tests.namespaces import need_mounts
from tests.unit.wheels.crafted import make_sdist

RECIPE = BuildRecipe("demo", Version("1.0"), build_requires=("setuptools<81", "wheel"))
TORCH = TorchBuild(Version("2.13.0+cpu"), "2.13.0+cpu", "cpu", None, None, True, "cf30153c")
SETUP = """
    from setuptools import Extension, setup
    names = ["one", "two", "three"]
    setup(
        name="demo", version="1.0", packages=["demo"],
        ext_modules=[
            Extension("demo._" + n, ["csrc/shared.c", "csrc/%s.c" % n], define_macros=[("NAME", n)]) for n in names
        ],
    )
"""
# The same source in every extension, compiled to something else each time: one folder for all
# objects would mix them.
SHARED = "#define TEXT2(x) #x\n#define TEXT(x) TEXT2(x)\nconst char *shared(void) { return TEXT(NAME); }\n"
MODULE = """
    #include <Python.h>
    extern const char *shared(void);
    static PyObject *name(PyObject *self, PyObject *args) {{ return PyUnicode_FromString(shared()); }}
    static PyMethodDef methods[] = {{{{"name", name, METH_NOARGS, ""}}, {{NULL, NULL, 0, NULL}}}};
    static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "_{0}", NULL, -1, methods}};
    PyMODINIT_FUNC PyInit__{0}(void) {{ return PyModule_Create(&module); }}
"""
FILES = {
    "setup.py": textwrap.dedent(SETUP),
    "demo/__init__.py": "",
    "csrc/shared.c": SHARED,
    **{f"csrc/{name}.c": textwrap.dedent(MODULE).format(name) for name in ("one", "two", "three")},
}

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
HEADERS = (
    "import os, sysconfig; print(os.path.exists(sysconfig.get_paths()['include'] + '/Python.h'))"
)


def find_python(version):
    """An interpreter of this version: the one that runs us, or one of pyenv's, or one on PATH."""
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        return Path(sys.executable)
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    return found[-1] if found else (Path(on_path) if on_path else None)


def make_installer(environment):
    """Fills overlays with the pip of that interpreter: the tools must be for its Python, not for
    ours."""

    def install_tools(requirements, target):
        command = [
            str(environment.interpreter.executable),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(target),
        ]
        subprocess.run([*command, "--disable-pip-version-check", *requirements], check=True)

    return install_tools


class Lines(Reporter):
    def __init__(self):
        self.notes, self.texts, self.outcomes = [], [], []

    def note(self, text):
        self.notes.append(text)

    def task_advanced(self, task, done, text="", total=None):
        self.texts.append((done, total, text))

    def task_ended(self, task, text="", outcome=TaskOutcome.DONE):
        self.outcomes.append(outcome)


@pytest.fixture
def store(tmp_path):
    return WheelStore(tmp_path / "cache")


@pytest.fixture(scope="module")
def environments():
    """Environments that claim a CPU torch: nothing here includes its headers."""
    known = {}

    def get(version=None):
        version = version or "{}.{}".format(*sys.version_info[:2])
        python = find_python(version)
        if python is None:
            pytest.skip(f"no Python {version} here")
        if subprocess.check_output([str(python), "-c", HEADERS], text=True).strip() != "True":
            pytest.skip(f"no Python.h of Python {version} here")
        if version not in known:
            known[version] = dataclasses.replace(read_environment(python, None), torch=TORCH)
        return known[version]

    return get


def build(sdist, environment, store, reporter=None, **options):
    return build_wheel(
        sdist,
        recipe=RECIPE,
        environment=environment,
        store=store,
        install_tools=options.pop("install_tools", None) or make_installer(environment),
        reporter=reporter or Reporter(),
        variables=options.pop("variables", os.environ),
        **options,
    )


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.8", "3.13"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_each_extension_gets_its_own_objects(environments, store, tmp_path, version, jobs):
    environment, reporter = environments(version), Lines()
    sdist = make_sdist(tmp_path, FILES)
    wheel = build(sdist, environment, store, reporter, jobs=jobs)
    artifact = open_wheel(wheel)
    assert len(artifact.native_objects) == 3
    extract_members(artifact, artifact.files, tmp_path / "site")
    question = "from demo import _one, _two, _three; print(_one.name(), _two.name(), _three.name())"
    answer = subprocess.run(
        [str(environment.interpreter.executable), "-c", question],
        cwd=tmp_path / "site",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["one", "two", "three"]
    assert (6.0, 6.0) in {(done, total) for done, total, _ in reporter.texts}
    assert "shared.c" in {text for _, _, text in reporter.texts}
    assert reporter.outcomes == [TaskOutcome.DONE]
    assert list((store.cache / "work").iterdir()) == []


@pytest.mark.long
def test_the_second_build_is_none(environments, store, tmp_path):
    def no_tools(requirements, target):
        raise AssertionError("the store has it")

    sdist = make_sdist(tmp_path, FILES)
    first = build(sdist, environments(), store)
    assert build(sdist, environments(), store, install_tools=no_tools) == first
    (candidate,) = store.find("demo", environments())
    assert candidate.link.url == first.as_uri()


@pytest.mark.long
def test_another_build_of_the_project_is_waited_for(environments, store, tmp_path):
    sdist, reporter = make_sdist(tmp_path, FILES), Lines()
    first = build(sdist, environments(), store)
    lock = str(store.lock_path("demo", environments()))
    code = (
        f"import filelock, time\nwith filelock.FileLock({lock!r}): print(flush=True); time.sleep(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert build(sdist, environments(), store, reporter) == first
    assert reporter.notes == ["waiting for another build of demo ..."]


@pytest.mark.parametrize("text", ["[build-system", "[build-system]\nrequires = 1\n", b"\xff"])
def test_a_pyproject_that_cannot_be_read_is_refused(environments, store, tmp_path, text):
    def no_tools(requirements, target):
        raise AssertionError("they are not needed")

    sdist = make_sdist(tmp_path, {**FILES, "pyproject.toml": text})
    with pytest.raises(Refused, match=r"pyproject\.toml of demo-1\.0 cannot be read"):
        build(sdist, environments(), store, install_tools=no_tools)
    assert list((store.cache / "work").iterdir()) == []


def test_a_failed_build_names_log_and_error(environments, store, tmp_path):
    sdist = make_sdist(tmp_path, {**FILES, "csrc/two.c": "int f(void) { return missing; }\n"})
    with pytest.raises(BuildFailed) as caught:
        build(sdist, environments(), store, jobs=2)
    (log,) = (store.cache / "logs").iterdir()
    assert str(log) in caught.value.message
    reasons = caught.value.message.splitlines()[1:]
    assert (
        len(reasons) == 1
        and reasons[0].startswith("  csrc/two.c:1:22: error:")
        and "missing" in reasons[0]
    )
    assert reasons[0].strip() in log.read_text()
    assert list(store.find("demo", environments())) == []
    assert list((store.cache / "work").iterdir()) == []


def test_the_build_sees_no_secrets(environments, store, tmp_path):
    spy = "import os\nprint('SEEN', sorted(os.environ))\n" + FILES["setup.py"]
    variables = {**os.environ, "MY_TOKEN": "x", "PIP_INDEX_URL": "https://u:p@h", "KEPT": "1"}
    build(
        make_sdist(tmp_path, {**FILES, "setup.py": spy}), environments(), store, variables=variables
    )
    (log,) = (store.cache / "logs").iterdir()
    (seen,) = [line for line in log.read_text().splitlines() if line.startswith("SEEN")][:1]
    assert "'KEPT'" in seen
    assert "MY_TOKEN" not in seen and "PIP_INDEX_URL" not in seen


@pytest.mark.long
def test_another_project_than_named_is_refused(environments, store, tmp_path):
    other = FILES["setup.py"].replace('name="demo"', 'name="other"')
    with pytest.raises(BuildFailed, match=r"built other 1\.0, asked was demo 1\.0"):
        build(make_sdist(tmp_path, {**FILES, "setup.py": other}), environments(), store)


def test_without_a_compiler_nothing_is_started(environments, store, tmp_path):
    with pytest.raises(Refused, match="no C\\+\\+ compiler"):
        build(make_sdist(tmp_path, FILES), environments(), store, variables={"PATH": str(tmp_path)})
    assert not (store.cache / "logs").exists()


@pytest.mark.long
def test_a_time_limit_ends_every_process(environments, store, tmp_path):
    sdist, reporter = (
        make_sdist(tmp_path, {**FILES, "setup.py": make_hanging_setup(tmp_path / "pid")}),
        Lines(),
    )
    with pytest.raises(BuildFailed, match="not finished after 2 s") as caught:
        build(sdist, environments(), store, reporter, timeout=BuildTimeout(2, None))
    assert_ended(int((tmp_path / "pid").read_text()))
    assert "--build-timeout" in caught.value.hint
    assert reporter.outcomes == [TaskOutcome.FAILED]


@pytest.mark.long
def test_silence_ends_every_process(environments, store, tmp_path):
    sdist = make_sdist(tmp_path, {**FILES, "setup.py": make_hanging_setup(tmp_path / "pid")})
    with pytest.raises(BuildFailed, match="no output for 2 s"):
        build(sdist, environments(), store, timeout=BuildTimeout(None, 2))
    assert_ended(int((tmp_path / "pid").read_text()))


@pytest.mark.long
def test_what_a_failed_build_leaves_behind_is_ended(environments, store, tmp_path):
    setup = make_hanging_setup(tmp_path / "pid").replace("child.wait()", "os._exit(3)")
    with pytest.raises(BuildFailed, match="exit status 3"):
        build(make_sdist(tmp_path, {**FILES, "setup.py": setup}), environments(), store)
    assert_ended(int((tmp_path / "pid").read_text()))


def test_an_interrupt_ends_every_process_and_leaves_no_file_of_a_compiler(
    environments, store, tmp_path, monkeypatch
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    sdist = make_sdist(tmp_path, {**FILES, "setup.py": make_hanging_setup(tmp_path / "pid")})

    def interrupt():
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    reporter = Lines()
    with pytest.raises(KeyboardInterrupt):
        build(sdist, environments(), store, reporter)
    thread.join()
    assert reporter.outcomes == [TaskOutcome.INTERRUPTED]
    assert_ended(int((tmp_path / "pid").read_text()))
    assert list((store.cache / "work").iterdir()) == []
    assert list(temporary.iterdir()) == []


def make_hanging_setup(pid_file):
    return (
        "import os, subprocess, tempfile\n"
        # as gcc does, which cannot remove it when it is killed
        "tempfile.mkstemp(prefix='cc', suffix='.s')\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"with open({str(pid_file) + '.tmp'!r}, 'w') as stream:\n"
        "    stream.write(str(child.pid))\n"
        f"os.rename({str(pid_file) + '.tmp'!r}, {str(pid_file)!r})\n"
        "child.wait()\n"
    )


def assert_ended(pid):
    for _ in range(100):
        try:
            # A killed grandchild may stay a zombie until somebody takes note of it: that is ended
            # too.
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")


def test_the_machine_is_read(environments, tmp_path):
    machine = read_machine(environments(), os.environ, tmp_path)
    assert machine.cores >= 1
    assert machine.memory > 0
    assert machine.compiler and Path(machine.compiler).is_file()
    assert machine.places == ()  # a CPU torch asks for none


@pytest.mark.long
def test_a_build_cannot_write_into_the_environment(tmp_path, environments, store):
    environment = environments()
    site = environment.interpreter.scheme.purelib
    need_mounts(site)
    target = site / "written_by_a_build_of_the_tests.py"
    setup = f"open({str(target)!r}, 'w').close()\n" + FILES["setup.py"]
    try:
        with pytest.raises(BuildFailed) as raised:
            build(make_sdist(tmp_path, {**FILES, "setup.py": setup}), environment, store)
        assert "read-only to it" in raised.value.hint
        assert not target.exists()
    finally:
        if target.exists():
            target.unlink()
