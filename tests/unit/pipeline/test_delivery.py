"""What is said about the files of a plan, and how pip is asked for them."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from packaging.version import Version

from safe_install.errors import HashMismatch, Refused, WheelInvalid
from safe_install.events import Reporter
from safe_install.models import Action, Candidate, CandidateKind, Link, Origin, Plan, Severity, Step
from safe_install.pipeline import delivery as delivery_module
from safe_install.pipeline.contents import contents_findings, find_changed_files, find_hidden
from safe_install.pipeline.delivery import (
    _copy_artifact,
    _open,
    _take_brought,
    _take_downloaded,
    begin_delivery,
    fetch_files,
)
from safe_install.pipeline.session import Session
from safe_install.ports import Timings, World
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install
from safe_install.resolve.step_lines import requirement_line
from safe_install.transaction import tree
from safe_install.wheels.archive import hash_file, open_wheel
from tests.factories import make_distribution, make_environment
from tests.unit.wheels.crafted import make_wheel


def make_delivery(tmp_path, find=lambda filename: [], words=("a",)):
    request = parse_install(split_words(words), environ={}, configuration={}, read=lambda name: "")
    world = World({}, Reporter(), tmp_path / "cache")
    session = Session(request, make_environment(), world, Timings(), tmp_path / "work")
    installer = SimpleNamespace(downloads=SimpleNamespace(find=find), clones=None)
    fetcher = SimpleNamespace()
    return begin_delivery(session, installer, lambda step: False, fetcher)


def found(tmp_path, files, *, folds=False, hidden=None, beside_torch=True, **options):
    artifact = open_wheel(make_wheel(tmp_path, files, **options))
    said = contents_findings(
        artifact, folds_case=folds, hidden=hidden or {}, beside_torch=beside_torch
    )
    return {one.check: one for one in said}


def test_nothing_is_said_of_an_ordinary_wheel(tmp_path):
    assert found(tmp_path, {"demo/__init__.py": ""}, folds=True, hidden={"demo": None}) == {}


@pytest.mark.parametrize(("folds", "severity"), [(False, Severity.NOTE), (True, Severity.ERROR)])
def test_names_that_differ_in_case_only(tmp_path, folds, severity):
    one = found(tmp_path, {"demo/x.h": "1", "demo/X.h": "2"}, folds=folds)["case-clash"]
    assert one.severity is severity
    assert "demo/x.h and demo/X.h" in one.detail


def test_files_that_are_read_at_every_start(tmp_path):
    one = found(tmp_path, {**{f"{n}.pth": "" for n in range(7)}, "demo/__init__.py": ""})[
        "runs-at-start"
    ]
    assert one.severity is Severity.NOTE
    assert "0.pth, 1.pth, 2.pth, 3.pth, 4.pth and 2 more: read at every start" in one.detail


@pytest.mark.parametrize(
    ("path", "content", "beside_torch", "severity"),
    [
        ("x.pth", "import x\n", True, Severity.WARNING),
        ("x.pth", "/folder\rimport\tx", True, Severity.WARNING),
        ("x.pth", "import x\n", False, Severity.NOTE),
        ("x.pth", "# import x\nimportant\n import x\n", True, Severity.NOTE),
        ("x.start", "x:main\n", True, Severity.WARNING),
        ("sitecustomize.py", "", True, Severity.WARNING),
        ("distutils-precedence.pth", "import os\n", True, Severity.WARNING),
    ],
)
def test_code_that_runs_at_every_start(tmp_path, path, content, beside_torch, severity):
    files = {path: content, "demo/__init__.py": ""}
    one = found(tmp_path, files, beside_torch=beside_torch)["runs-at-start"]
    assert (one.severity, path in one.detail) == (severity, True)


def test_the_start_file_that_nearly_every_environment_has(tmp_path):
    files = {"distutils-precedence.pth": "import os\n", "setuptools/__init__.py": ""}
    metadata = "Metadata-Version: 2.1\nName: setuptools\nVersion: 1.0\n"
    options = {
        "filename": "setuptools-1.0-py3-none-any.whl",
        "dist_info": "setuptools-1.0.dist-info",
    }
    one = found(tmp_path, files, metadata=metadata, **options)["runs-at-start"]
    assert one.severity is Severity.NOTE


@pytest.mark.parametrize(
    ("path", "check"),
    [
        ("sitecustomize/__init__.py", "runs-at-start"),
        ("demo-1.0.data/data/etc/conda/activate.d/demo.sh", "runs-at-activation"),
        ("demo-1.0.data/data/lib/libdemo.so.1", "library-in-prefix"),
    ],
)
def test_files_that_act_without_being_called(tmp_path, path, check):
    one = found(tmp_path, {path: "", "demo/__init__.py": ""})[check]
    assert one.severity is (Severity.WARNING if check == "runs-at-start" else Severity.NOTE)
    assert f"demo brings {path}: " in one.detail


def test_commands_that_hide_others(tmp_path):
    one = found(tmp_path, {"demo/__init__.py": ""}, hidden={"ls": "/bin/ls", "demo": None})[
        "hides-command"
    ]
    assert "ls (/bin/ls)" in one.detail and "demo (" not in one.detail


def test_a_command_that_is_there_already_hides_nothing_new(tmp_path):
    """An upgrade of pip in a virtual environment."""
    system, scripts = tmp_path / "system", tmp_path / "scripts"
    for folder, name in ((system, "pip"), (system, "ls"), (scripts, "pip")):
        folder.mkdir(exist_ok=True)
        (folder / name).touch(mode=0o755)
    hidden = find_hidden(["pip", "ls", "run"], scripts, str(system))
    assert hidden == {"ls": str(system / "ls"), "run": None}


def test_only_commands_of_a_terminal_are_looked_for_on_path(tmp_path):
    """As pip has it: files of .data/scripts and graphical commands are not warned of."""
    points = "[console_scripts]\nrun = demo:run\n[gui_scripts]\nshow = demo:show\n"
    files = {
        "demo-1.0.dist-info/entry_points.txt": points,
        "demo-1.0.data/scripts/old.py": "",
        "demo/__init__.py": "",
    }
    artifact = open_wheel(make_wheel(tmp_path, files))
    assert artifact.console_scripts == ("run",)
    assert artifact.scripts == ("old.py", "run", "show")


def test_where_case_is_folded(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    assert not tree.folds_case(folder)
    (tmp_path / "SITE-PACKAGES").symlink_to(folder)
    assert not tree.folds_case(folder), "a link is a name of its own"
    assert not tree.folds_case(tmp_path / "gone")
    real = os.lstat
    with monkeypatch.context() as patch:
        patch.setattr(tree.os, "lstat", lambda path: real(path.with_name(path.name.lower())))
        assert tree.folds_case(folder)


@pytest.mark.parametrize(
    "url",
    [
        "https://h/x.whl\nother @ https://evil/y.whl",
        "https://h/x.whl --index-url=https://evil",
        "a\x0bb",
    ],
)
def test_an_address_is_one_line_for_pip(url):
    step = Step(Action.ADD, "demo", "1.0", url=url, download_info={"url": url}, is_direct=True)
    with pytest.raises(Refused, match="white space"):
        requirement_line(step)


def test_a_line_for_pip():
    """By address, so that pip does not ask the index once more, unless the address lacks its
    password."""
    step = Step(Action.ADD, "demo", "1.0", url="https://h/x.whl", sha256="1" * 64)
    assert requirement_line(step) == f"demo @ https://h/x.whl --hash=sha256:{'1' * 64}"
    named = replace(step, name="local-extras", written_name="Local_Extras")
    assert requirement_line(named).startswith("Local_Extras @ "), "as pip's own lines spell it"
    for url in ("https://user:****@h/x.whl", "file:///folder/x.tar.gz", None):
        assert requirement_line(replace(step, url=url)) == f"demo==1.0 --hash=sha256:{'1' * 64}"


def test_of_two_downloads_of_one_name_each_is_its_own(tmp_path):
    """https://h/a/archive/main.zip and https://h/b/archive/main.zip: pip downloads both while it
    plans."""
    kept = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        kept[name] = tmp_path / name / "main.zip"
        kept[name].write_text(f"the sources of {name}")
    steps = [
        Step(
            Action.ADD,
            name,
            "1.0",
            url=f"https://h/{name}/archive/main.zip",
            sha256=hash_file(kept[name]),
            origin=Origin.SDIST,
        )
        for name in kept
    ]
    delivery = make_delivery(tmp_path, find=lambda filename: [kept["b"], kept["a"]])
    for step in steps:
        assert _take_downloaded(delivery, step) is None
    (taken,) = delivery.fetched.iterdir()
    assert taken.read_text() == "the sources of a"  # pip fetches the other one


@pytest.mark.parametrize(
    ("requires", "differing"),
    [(("torch>=1.8",), None), (("torch>=1.8", "evil"), "evil"), ((), "torch>=1.8")],
)
def test_a_wheel_that_pip_did_not_see_requires_what_its_page_said(tmp_path, requires, differing):
    wheel = make_wheel(tmp_path)
    link = Link("https://h/demo-1.0-py3-none-any.whl", wheel.name, sha256=hash_file(wheel))
    candidate = Candidate("demo", Version("1.0"), CandidateKind.WHEEL, link, requires=requires)
    step = Step(Action.ADD, "demo", "1.0", sha256=link.sha256, candidate=candidate)
    fetcher = SimpleNamespace(
        want=lambda candidate: candidate, fetch_all=lambda wanted, cache: [wheel]
    )
    delivery = replace(make_delivery(tmp_path), fetcher=fetcher)
    if differing is None:
        assert fetch_files(delivery, Plan((step,)), {})["demo"].sha256 == link.sha256
        return
    with pytest.raises(HashMismatch, match=rf"requires something else .*: {re.escape(differing)}"):
        fetch_files(delivery, Plan((step,)), {})


def make_lying_wheel(folder):
    """RECORD has another hash of one file."""

    def lie(text):
        return re.sub(r"(demo/_C.so,sha256=)\w{4}", r"\1AAAA", text)

    return make_wheel(folder, record=lie)


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("large", [True, False])
def test_members_are_hashed_when_they_are_unpacked(tmp_path, monkeypatch, promised, large):
    """Not those of a large file of which somebody promised the hash."""
    wheel = make_lying_wheel(tmp_path)
    monkeypatch.setattr(delivery_module, "LARGE_WHEEL", wheel.stat().st_size + (not large))
    step = Step(Action.ADD, "demo", "1.0", sha256=hash_file(wheel) if promised else None)
    artifact = _open(make_delivery(tmp_path), wheel, step)
    assert artifact.needs_hashing == (not (large and promised))


def test_a_dry_run_hashes_the_members(tmp_path):
    """It unpacks nothing, and refuses what the run would refuse."""
    delivery = make_delivery(tmp_path, words=("a", "--dry-run"))
    step = Step(Action.ADD, "demo", "1.0")
    assert not _open(delivery, make_wheel(tmp_path), step).needs_hashing
    lying = make_lying_wheel(tmp_path)
    with pytest.raises(WheelInvalid, match="do not have the hash"):
        _open(delivery, lying, step)


def test_an_extension_that_is_replaced_after_its_check_is_refused(tmp_path):
    """Its wheel lies in a find-links folder, our store or our cache."""
    links = tmp_path / "links"
    links.mkdir()
    artifact = open_wheel(make_wheel(links))
    delivery = make_delivery(tmp_path)
    copied = _copy_artifact(delivery, artifact)
    assert (
        delivery.session.work in copied.path.parents and hash_file(copied.path) == artifact.sha256
    )
    assert _copy_artifact(delivery, copied) == copied, "copied once"
    make_wheel(links, {"demo/__init__.py": "x = 2\n"})
    with pytest.raises(HashMismatch, match="replaced after it had been checked"):
        _copy_artifact(delivery, artifact)
    artifact.path.unlink()
    with pytest.raises(Refused, match="could not be copied"):
        _copy_artifact(delivery, artifact)


@pytest.mark.parametrize(
    ("installed", "changed"),
    [
        ({"demo/__init__.py": "x = 1\n", "demo/_C.so": b"\x7fELF"}, ()),
        ({"demo/__init__.py": "x = 2\n", "demo/_C.so": b"\x7fELF"}, ("demo/__init__.py",)),
        ({"demo/__init__.py": "x = 1\n"}, ("demo/_C.so",)),
        (
            {"demo/__init__.py": "x = 1\n", "demo/_C.so": b"\x7fELF", "demo/old.py": ""},
            ("demo/old.py",),
        ),
    ],
)
def test_the_files_of_the_same_version_are_compared(tmp_path, installed, changed):
    """What an installer adds (INSTALLER, commands, bytecode) is no difference."""
    site = tmp_path / "lib" / "site-packages"
    rows = (
        "../../bin/demo,sha256=abc,3\n",
        "demo/__pycache__/x.cpython-311.pyc,,\n",
        "demo-1.0.dist-info/uv_cache.json,sha256=a,3\n",
    )
    added = "".join(rows)
    old = make_wheel(
        tmp_path,
        installed,
        filename="demo-1.0-1-cp311-cp311-linux_x86_64.whl",
        record=lambda t: t + added,
    )
    with zipfile.ZipFile(old) as archive:
        archive.extractall(site)
    info = site / "demo-1.0.dist-info"
    there = make_distribution("demo", "1.0", metadata_path=info, location=site)
    assert find_changed_files(open_wheel(make_wheel(tmp_path)), there) == changed


def test_a_wheel_that_was_fetched_for_a_build_is_taken_if_it_is_the_file_of_the_plan(tmp_path):
    session = make_delivery(tmp_path).session
    artifact = open_wheel(make_wheel(session.work))
    step = Step(Action.ADD, "demo", "1.0", url="https://h/demo.whl", sha256=artifact.sha256)
    delivery = replace(make_delivery(tmp_path / "other"), brought={"demo": artifact})
    assert _take_brought(delivery, step) == artifact
    for other in (
        replace(step, sha256="0" * 64),
        replace(step, sha256=None),
        replace(step, name="demo2"),
    ):
        assert _take_brought(delivery, other) is None
    assert _take_brought(delivery, replace(step, origin=Origin.SDIST)) is None
    with artifact.path.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(HashMismatch, match="replaced after it had been checked"):
        _take_brought(delivery, step)
