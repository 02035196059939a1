"""The probe in real interpreters: facts, distributions of every shape, torch read from its
files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safe_install.environment import interpreter
from safe_install.environment.interpreter import read_environment, start_script
from safe_install.errors import ProbeFailed
from tests.functional.conftest import find_python

NEW = b"\x7fELF..._ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE..."
OLD = b"\x7fELF..._ZN3c105ErrorC2ENS_14SourceLocationESs..."
METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n{}\nName: not-this\n"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(params=["current", "3.8", pytest.param("3.13", marks=pytest.mark.long)])
def python(request):
    found = sys.executable if request.param == "current" else find_python(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} here")
    return Path(found)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of distributions before all others."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read_raw(python):
    """The script's own answer."""
    answer = (
        start_script(python, "safe_install.environment", words=["0123456789abcdef"]).wait(60).stdout
    )
    return json.loads(answer.partition("0123456789abcdef ")[2])


def ask(python, *words):
    return subprocess.run(
        [str(python), *words], capture_output=True, text=True, check=True
    ).stdout.strip()


# --- the interpreter ------------------------------------------------------------------------------


def test_facts_of_the_interpreter(python):
    found = read_environment(python, None).interpreter
    code = (
        "import platform, sys, sysconfig; print(platform.python_version(), sys.prefix, "
        "sysconfig.get_path('purelib'))"
    )
    version, prefix, purelib = ask(python, "-c", code).split()
    assert (found.version, str(found.prefix), str(found.scheme.purelib)) == (
        version,
        prefix,
        purelib,
    )
    assert found.executable == python
    assert found.markers["python_full_version"] == version
    assert found.platform.startswith("linux_")
    major, minor = version.split(".")[:2]
    assert found.python_tag == f"cp{major}{minor}"
    assert found.tags[0].interpreter == found.python_tag
    assert {"py3-none-any"} <= {str(tag) for tag in found.tags}


def test_the_probe_is_fast(python):
    def seconds():
        """Of the processor, in this process and in those that it started: others on the machine do
        not count."""
        before = os.times()
        read_environment(python, None)
        return sum(os.times()[:4]) - sum(before[:4])

    assert min(seconds() for _ in range(3)) < 0.5  # usually 0.1


def test_a_virtual_environment_without_pip(python, tmp_path):
    folder = tmp_path / "venv"
    ask(python, "-m", "venv", "--without-pip", str(folder))
    environment = read_environment(folder / "bin" / "python", None)
    found = environment.interpreter
    assert (found.prefix, found.is_virtual, found.pip_version) == (folder, True, None)
    assert found.scheme.purelib.is_relative_to(folder) if sys.version_info >= (3, 9) else True
    assert environment.torch is None
    assert environment.driver is None
    wheel = found.ensurepip_wheel
    assert wheel is None or (wheel.is_file() and wheel.name.startswith("pip-"))


def test_the_marker_of_pep_668_counts_outside_of_virtual_environments_only(python, site, tmp_path):
    base = Path(ask(python, "-c", "import os, sys; print(os.path.realpath(sys.executable))"))
    write(tmp_path / "stdlib", {"EXTERNALLY-MANAGED": "[externally-managed]\nError=Use apt.\n"})
    code = (
        "import sysconfig\nreal = sysconfig.get_path\n"
        f"sysconfig.get_path = lambda name, *a, **k: {str(tmp_path / 'stdlib')!r} if name == "
        "'stdlib' "
        "else real(name, *a, **k)\n"
    )
    write(site, {"sitecustomize.py": code})
    assert "Use apt." in read_environment(base, None).interpreter.externally_managed
    ask(base, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    assert (
        read_environment(tmp_path / "venv" / "bin" / "python", None).interpreter.externally_managed
        is None
    )


# --- distributions --------------------------------------------------------------------------------

EDITABLE = {"url": "file:///src/editable", "dir_info": {"editable": True}}


def write_distributions(site, source):
    write(
        source,
        {
            "linked.egg-info/PKG-INFO": METADATA.format("linked", "4.0", ""),
            "linked.egg-info/requires.txt": "numpy\n",
        },
    )
    write(
        site,
        {
            "Plain_Name-1.0.dist-info/METADATA": METADATA.format(
                "Plain_Name",
                "1.0",
                "Requires-Dist: numpy (>=1)\nRequires-Dist: torch ; extra == 'x'\n",
            ),
            "Plain_Name-1.0.dist-info/INSTALLER": "pip\n",
            "Plain_Name-1.0.dist-info/RECORD": "",
            "Plain_Name-1.0.dist-info/REQUESTED": "",
            "editable-0.1.dist-info/METADATA": METADATA.format("editable", "0.1", "").replace(
                "\n", "\r\n"
            ),
            "editable-0.1.dist-info/direct_url.json": json.dumps(EDITABLE),
            "odd_url-1.dist-info/METADATA": METADATA.format("odd-url", "1", ""),
            "odd_url-1.dist-info/direct_url.json": '{"dir_info": ["editable"]}',
            "bad_url-1.dist-info/METADATA": METADATA.format("bad-url", "1", ""),
            "bad_url-1.dist-info/direct_url.json": "{",
            "latin-1.dist-info/METADATA": METADATA.format(
                "latin", "1", "Author: Gr\xf6\xdfe"
            ).encode("latin-1"),
            "no_record-2.0.dist-info/METADATA": METADATA.format("no.record", "2.0", ""),
            "folder-3.0.egg-info/PKG-INFO": METADATA.format("folder", "3.0", ""),
            "folder-3.0.egg-info/requires.txt": "numpy>=1\nscipy\n\n[extra]\ntorch\n",
            "file-3.1.egg-info": METADATA.format("file", "3.1", ""),
            "linked.egg-link": f"{source}\n.",
            "gone.egg-link": "/no/such/folder\n.",
            "nameless-1.dist-info/METADATA": "Metadata-Version: 2.1\nVersion: 1\n",
            "versionless-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: versionless\nVersion:\n",
            "empty-1.dist-info/RECORD": "",
            "~orch-1.0.dist-info/METADATA": METADATA.format("torch", "1.0", ""),
            "unversioned-x.dist-info/METADATA": METADATA.format("unversioned", "not a version", ""),
        },
    )


def test_distributions_of_every_shape(python, site, tmp_path):
    source = tmp_path / "source"
    write_distributions(site, source)
    installed = read_environment(python, None).installed
    here = {name: found for name, found in installed.items() if found.location == site}
    assert {name: found.version for name, found in here.items()} == {
        "plain-name": "1.0",
        "editable": "0.1",
        "odd-url": "1",
        "bad-url": "1",
        "latin": "1",
        "no-record": "2.0",
        "folder": "3.0",
        "file": "3.1",
        "linked": "4.0",
        "unversioned": "not a version",
    }
    plain = here["plain-name"]
    assert (plain.installer, plain.has_record, plain.requested, plain.editable) == (
        "pip",
        True,
        True,
        False,
    )
    assert plain.requires == ("numpy (>=1)", "torch ; extra == 'x'")
    assert plain.metadata_path == site / "Plain_Name-1.0.dist-info"
    assert {name for name, found in here.items() if found.editable} == {"editable", "linked"}
    assert here["editable"].direct_url == EDITABLE
    assert (
        here["bad-url"].direct_url,
        here["no-record"].has_record,
        here["no-record"].installer,
    ) == (
        None,
        False,
        None,
    )
    assert here["folder"].requires == ("numpy>=1", "scipy")
    assert here["linked"].metadata_path == source / "linked.egg-info"
    assert here["linked"].requires == ("numpy",)


def test_what_cannot_be_read_is_named_as_broken(python, site, tmp_path):
    write_distributions(site, tmp_path / "source")
    broken = [Path(path).name for path in read_raw(python)["broken"] if Path(path).parent == site]
    assert sorted(broken) == [
        "empty-1.dist-info",
        "gone.egg-link",
        "nameless-1.dist-info",
        "versionless-1.dist-info",
        "~orch-1.0.dist-info",
    ]


def test_the_first_on_the_path_is_the_one_that_counts(python, site, tmp_path, monkeypatch):
    second = tmp_path / "second"
    write(site, {"a-2.dist-info/METADATA": METADATA.format("a", "2", "")})
    write(second, {"A-1.dist-info/METADATA": METADATA.format("A", "1", "")})
    monkeypatch.setenv("PYTHONPATH", f"{site}:{second}")
    assert read_environment(python, None).installed["a"].version == "2"


# --- torch ----------------------------------------------------------------------------------------

TYPED = """from typing import Optional
__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = {!r}
debug = False
cuda: Optional[str] = {!r}
git_version = 'abc123'
hip: Optional[str] = {!r}
odd = {{[]: 1}}
"""


@pytest.mark.parametrize(
    ("metadata", "text", "expected"),
    [
        (
            "1.8.1+cu111",
            "__version__ = '1.8.1+cu111'\ncuda = '11.1'\nhip = None\n",
            ("1.8.1+cu111", "cu111", "11.1"),
        ),
        ("2.15.0", TYPED.format("2.15.0+cu132", "13.2", None), ("2.15.0+cu132", "cu132", "13.2")),
        ("2.13.0+cpu", TYPED.format("2.13.0+cpu", None, None), ("2.13.0+cpu", "cpu", None)),
        ("2.5.1", TYPED.format("2.5.1", "12.4", None), ("2.5.1", "cu124", "12.4")),  # conda's
        ("2.5.1", TYPED.format("2.5.1", None, None), ("2.5.1", "cpu", None)),
        (
            "2.5.1+rocm6.2",
            TYPED.format("2.5.1+rocm6.2", None, "6.2.41133-dd7f95766"),
            ("2.5.1+rocm6.2", "rocm6.2", None),
        ),
        ("1.0", "__version__ = '1.0+cu92'\nimport os\n", ("1.0+cu92", "cu92", None)),
        (None, "__version__ = '1.8.1'\n", ("1.8.1", "cpu", None)),
        ("1.0", "", None),
        ("1.0", "__version__ = 1\n", None),
        ("1.0", "__version__ = '1.0'\nthis is no Python\n", None),
        ("1.0", "__version__ = '1.0'\n\0", None),
        ("not a version", "__version__ = '1.0'\n", None),
    ],
)
def test_torch_is_read_from_its_files(metadata, text, expected, python, site):
    write(site, {"torch/version.py": text, "torch/__init__.py": "raise SystemExit('imported')"})
    if metadata is not None:
        write(site, {"torch-x.dist-info/METADATA": METADATA.format("torch", metadata, "")})
    torch = read_environment(python, None).torch
    assert (torch and (torch.runtime_version, torch.accelerator, torch.cuda)) == expected
    if torch is not None and metadata is not None:
        assert str(torch.version) == metadata


@pytest.mark.parametrize(
    ("content", "abi"), [(NEW, True), (OLD, False), (b"\x7fELF", None), (None, None)]
)
def test_the_cxx11_abi_is_read_from_libc10(content, abi, python, site):
    write(site, {"torch/version.py": "__version__ = '1.8.1+cu111'\n"})
    if content is not None:
        write(site, {"torch/lib/libc10.so": content})
    torch = read_environment(python, None).torch
    assert torch.cxx11_abi is abi
    assert torch.lib_dir == (site / "torch" / "lib" if content is not None else None)


# --- what cannot be probed ------------------------------------------------------------------------


def make_program(folder, text):
    path = folder / "python"
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("#!/bin/sh\necho some words\n", "exit status 0"),
        ("#!/bin/sh\necho '{}'\n", "exit status 0"),
        ("#!/bin/sh\necho '[1]'\n", "exit status 0"),
        ('#!/bin/sh\necho \'{"result": "failure"}\'\n', "exit status 0"),
        ("#!/bin/sh\necho it is broken >&2\nexit 1\n", "it is broken"),
        ("#!/bin/sh\nkill -SEGV $$\n", "SIGSEGV"),
        ("#!/no/such/interpreter\n", "No such file"),
        ("neither program nor script\n", "format"),
    ],
)
def test_what_is_no_python(text, said, tmp_path):
    path = tmp_path / "python" if text is None else make_program(tmp_path, text)
    with pytest.raises(ProbeFailed) as caught:
        read_environment(path, None)
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert "--python" in caught.value.hint
    assert caught.value.exit_status == 15


def test_an_interpreter_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter, "PROBE_TIMEOUT", 0.3)
    path = make_program(tmp_path, "#!/bin/sh\nsleep 60 & sleep 60\n")
    started = time.monotonic()
    with pytest.raises(ProbeFailed, match="no answer within"):
        read_environment(path, None)
    assert time.monotonic() - started < 10


def test_words_that_a_startup_file_prints_do_no_harm(python, site):
    write(site, {"sitecustomize.py": "print('welcome')\n"})
    assert read_environment(python, None).interpreter.executable == python


def test_every_torch_on_the_path_is_seen(python, site, monkeypatch):
    """Files, metadata, or both; in the order of sys.path."""
    write(
        site,
        {
            "torch/__init__.py": "",
            "torch/version.py": "__version__ = '2.9.1+cu128'\ncuda = '12.8'\n",
            "torch-2.9.1.dist-info/METADATA": METADATA.format("torch", "2.9.1", ""),
        },
    )
    for name, files in (
        ("file", {"torch.py": ""}),
        ("left", {"torch/lib/x": ""}),
        ("none", {"x.py": ""}),
    ):
        write(site / name, files)
    write(site / "info", {"torch-1.0.dist-info/METADATA": METADATA.format("torch", "1.0", "")})
    paths = [*(str(site / name) for name in ("file", "left", "none", "info")), str(site)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    environment = read_environment(python, None)
    found = [
        (place.location.name, place.files, place.version) for place in environment.torch_places[:4]
    ]
    left = [("file", "module", None), ("left", "namespace", None), ("info", "", "1.0")]
    assert found == [*left, ("site", "package", "2.9.1")]
    assert environment.torch_places[0].torch == site.resolve() / "file" / "torch.py"
    assert environment.torch.folder == site.resolve() / "torch"


TORCH_FILES = {
    "torch/__init__.py": "raise SystemExit('imported')",
    "torch/version.py": "__version__ = '2.9.0+cpu'\ncuda = None\n",
}
FINDER = """
import importlib.util, sys

class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torch":
            return importlib.util.spec_from_file_location(name, {source!r} + "/torch/__init__.py")

sys.meta_path.append(Finder)
"""


@pytest.mark.parametrize("metadata", [True, False])
def test_a_torch_that_a_finder_leads_to(python, site, tmp_path, metadata):
    """As setuptools makes an editable install: its folder is not on sys.path."""
    source = tmp_path / "source"
    write(source, TORCH_FILES)
    write(site, {"sitecustomize.py": FINDER.format(source=str(source))})
    if metadata:
        address = json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}})
        info = {"METADATA": METADATA.format("torch", "2.9.0+git1", ""), "direct_url.json": address}
        write(site, {f"torch-2.9.0.dist-info/{name}": text for name, text in info.items()})
    torch = read_environment(python, None).torch
    assert torch.folder == source.resolve() / "torch"
    assert (torch.has_metadata, str(torch.version)) == (
        (True, "2.9.0+git1") if metadata else (False, "2.9.0+cpu")
    )


def test_a_finder_that_is_broken_does_no_harm(python, site):
    code = FINDER.format(source="").replace(
        "            return", "            1 / 0\n            return"
    )
    write(site, {**TORCH_FILES, "sitecustomize.py": code})
    assert read_environment(python, None).torch.folder == site.resolve() / "torch"


def test_a_torch_that_hides_the_installed_one_has_no_metadata(python, site, tmp_path, monkeypatch):
    write(
        site,
        {**TORCH_FILES, "torch-2.9.0.dist-info/METADATA": METADATA.format("torch", "2.9.0", "")},
    )
    assert read_environment(python, None).torch.has_metadata
    write(tmp_path / "mine", {**TORCH_FILES, "torch/version.py": "__version__ = '2.5.0-mine'\n"})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "mine"), str(site)]))
    torch = read_environment(python, None).torch
    assert (torch.folder, torch.has_metadata) == ((tmp_path / "mine" / "torch").resolve(), False)
    # A version of one's own counts by its release.
    assert (torch.runtime_version, str(torch.version)) == ("2.5.0-mine", "2.5.0")
