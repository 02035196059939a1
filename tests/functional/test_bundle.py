"""A bundle from its making to its undo: made with hosts on loopback, installed in a network namespace
that has no interface.

torch and its extension are stand-ins (tests/lab); pip, the environments, the loader and the
processes are real.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.functional.conftest import (
    Environment,
    answering,
    any_python,
    find_python,
    read_document,
    run_process,
)
from tests.functional.round_trips import WITHOUT_NETWORK
from tests.functional.test_joint_plan import make_sdist
from tests.lab.wheels import Torch, build_torch_and_scatter, write_wheel
from tests.treehash import read_tree
from tests.wheelhost import WheelHost, read_metadata

TORCH = "torch==1.8.1+cu111"
GOOD = "1.8.1+cu111 True"
MACHINE = platform.machine()
PLATFORM = f"manylinux_2_17_{MACHINE}"
ELSEWHERE = ("--torch", "1.8.1+cu111", "--python-version", any_python(), "--platform", PLATFORM)


@pytest.fixture(scope="module", autouse=True)
def _need_namespaces():
    done = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no network namespaces here")


def without_hosts(made: Environment, cache: Path) -> Environment:
    """On the machine without network no host is known."""
    for name in list(made.variables):
        if name.startswith(("PIP_", "SAFE_INSTALL_")):
            del made.variables[name]
    made.variables["SAFE_INSTALL_CACHE_DIR"] = str(cache)
    return made


@pytest.fixture
def there(make_environment, node_cache):
    """The environment on the machine without network: it has torch."""
    return without_hosts(make_environment("3.11", TORCH, name="there"), node_cache)


@pytest.fixture(scope="module")
def unchanged(place_environment, tmp_path_factory, node_cache):
    """One such as `there`, which nobody changes."""
    folder = tmp_path_factory.mktemp("unchanged")
    found = without_hosts(place_environment(folder, "3.11", TORCH, name="there"), node_cache)
    before = found.tree()
    yield found
    assert found.tree() == before


@pytest.fixture(scope="module")
def host():
    """One for all: no test takes away what another one needs."""
    with WheelHost() as host:
        yield host


@pytest.fixture(scope="module")
def here(place_environment, host, lab_wheels, tmp_path_factory):
    """The environment in which bundles are made: hosts answer, and torch is not installed."""
    index = lab_wheels("3.11").index
    for project in ("numpy", "typing-extensions", "scatter-user"):
        serve(host, *index.glob(f"{project.replace('-', '_')}-*.whl"))
    (scatter,) = (lab_wheels("3.11").extensions / "1.8.1+cu111").iterdir()
    host.add_pyg_page("1.8.1", "cu111", {scatter.name: scatter.read_bytes()}, base="1.8.0")
    folder = tmp_path_factory.mktemp("here")
    return place_environment(folder, "3.11", name="here", **answering(host))


@pytest.fixture(scope="module")
def bundled(here):
    """The bundle of these words for `there`, made once; nobody changes it."""
    made = {}

    def get(*words):
        if words not in made:
            bundle(here, *words, *ELSEWHERE)
            path = here.prefix.parent / "FILE.zip"
            made[words] = path.rename(path.with_name(f"bundle-{len(made)}.zip"))
        return made[words]

    return get


@pytest.fixture(scope="module")
def by_zipapp(here, zipapp):
    """The same by the zipapp, which runs on every Python, for a machine elsewhere."""

    def make(*words):
        python = find_python("3.8") or sys.executable
        command = [python, str(zipapp), "bundle", "-o", "FILE.zip", *words]
        done = run_process(command, here.variables, cwd=here.prefix.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        return here.prefix.parent / "FILE.zip"

    return make


@pytest.fixture(scope="module")
def of_zipapp(by_zipapp):
    path = by_zipapp("scatter-user", "numpy<2", *ELSEWHERE)
    return path.rename(path.with_name("zipapp.zip"))


def serve(host, *wheels):
    """The files of one project on the package index, with their hashes and sizes."""
    files = []
    for wheel in wheels:
        content = wheel.read_bytes()
        host.put(f"/served/{wheel.name}", content)
        digest = hashlib.sha256(content).hexdigest()
        url = f"{host.url}/served/{wheel.name}"
        row = {"filename": wheel.name, "url": url, "size": len(content)}
        if wheel.suffix == ".whl":  # pip plans without the file
            host.put(f"/served/{wheel.name}.metadata", read_metadata(content).encode())
            row["core-metadata"] = True
        files.append({**row, "hashes": {"sha256": digest}})
    name = wheels[0].name.split("-")[0].replace("_", "-")
    page = {"meta": {"api-version": "1.0"}, "name": name, "files": files}
    content_type = "application/vnd.pypi.simple.v1+json"
    host.put(f"/pypi/simple/{name}/", json.dumps(page).encode(), content_type=content_type)


def bundle(here, *words, **variables):
    """Make one; what --json says of it."""
    made = here.document("bundle", "-o", "FILE.zip", *words, **variables)
    assert made["exit_code"] == 0, made["error"]
    return made["details"]["bundle"]


def start(there, path, *words, python=None, **variables):
    """Run a bundle where there is no network."""
    command = [*WITHOUT_NETWORK, str(python or there.executable), str(path), *words]
    return run_process(command, {**there.variables, **variables}, cwd=there.prefix.parent)


def install(there, path, *words, **options):
    """What `install` says with --json."""
    return read_document(
        start(there, path, "--python", str(there.prefix), "install", "--json", *words, **options)
    )


# --- from one machine to another ------------------------------------------------------------------


def test_what_is_made_here_is_installed_there(here, there):
    path = here.prefix.parent / "FILE.zip"
    made = bundle(here, "scatter-user", "numpy<2", *ELSEWHERE)
    assert made["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made["size"] == path.stat().st_size
    assert made["made_for"] == {
        "python": any_python(),
        "platform": f"linux_{MACHINE}",
        "libc": ["glibc", "2.17"],
        "torch": "1.8.1+cu111",
    }
    names = [wheel["name"] for wheel in made["wheels"]]
    assert names == ["numpy", "scatter-user", "torch-scatter"]

    before = there.tree()
    planned = install(there, path, "--dry-run")
    assert planned["outcome"] == "planned"
    assert there.tree() == before
    done = install(there, path)
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done["error"]
    assert done["before"]["torch_version"] == done["after"]["torch_version"] == "1.8.1+cu111"
    assert done["after"]["imports"]["torch_scatter"]["ok"]
    assert there.cuda() == GOOD
    assert there.ask("import numpy, scatter_user; print(numpy.__version__)") == "1.26.4"

    # What is there from this bundle is not unpacked again: nobody sees that it was damaged.
    damage(path, "numpy")
    again = install(there, path)
    assert (again["exit_code"], again["outcome"]) == (0, "already-satisfied")
    anew = install(there, path, "--force-reinstall")
    assert anew["exit_code"] == 11
    assert "numpy-1.26.4-py3-none-any.whl is not what its list says" in anew["error"]["message"]
    undone = start(there, path, "--python", str(there.prefix), "undo")
    assert undone.returncode == 0, undone.stderr
    assert there.tree() == before


def damage(path, name):
    """One byte of the wheel of a project."""
    content = bytearray(path.read_bytes())
    listed = json.loads(zipfile.ZipFile(path).read("safe_install_bundle.json"))
    (wheel,) = (wheel for wheel in listed["wheels"] if wheel["name"] == name)
    content[wheel["offset"] + wheel["size"] // 2] ^= 1
    path.write_bytes(bytes(content))
    return wheel["filename"]


@pytest.mark.long
@pytest.mark.parametrize("running", ["3.8", "3.13"])
def test_any_python_runs_one_from_the_zipapp(there, of_zipapp, running):
    python = find_python(running)
    if python is None:
        pytest.skip(f"no Python {running} here")
    before = there.tree()
    done = install(there, of_zipapp, python=python)
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done["error"]
    assert done["after"]["imports"]["torch_scatter"]["ok"]
    assert there.ask("import numpy, scatter_user; print(numpy.__version__)") == "1.26.4"
    words = ("--python", str(there.prefix))
    assert start(there, of_zipapp, *words, "verify", python=python).returncode == 0
    again = install(there, of_zipapp, python=python)
    assert (again["exit_code"], again["outcome"]) == (0, "already-satisfied")
    undone = start(there, of_zipapp, *words, "undo", python=python)
    assert undone.returncode == 0, undone.stderr
    assert there.tree() == before


@pytest.mark.long
def test_where_the_files_came_from_is_remembered(bundled, there, host):
    """In the history, and in direct_url.json of what no package index has: not the folder of the
    run. No host is asked."""
    path = bundled("numpy<2", "torch-scatter")
    asked = len(host.requests)
    assert asked
    done = install(there, path, **answering(host))
    assert done["outcome"] == "installed"
    assert len(host.requests) == asked
    urls = {step["name"]: step["url"] for step in done["plan"]["steps"]}
    pyg = "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/"
    assert urls["torch-scatter"].startswith(pyg)
    assert urls["numpy"].endswith("/served/numpy-1.26.4-py3-none-any.whl")
    (written,) = there.site.glob("torch_scatter-*.dist-info/direct_url.json")
    assert json.loads(written.read_text())["url"].startswith(pyg)
    assert not list(there.site.glob("numpy-*.dist-info/direct_url.json"))
    exported = there.safe_install("export", "--format", "requirements", "--offline")
    assert f"torch-scatter @ {pyg}" in exported.stdout, exported.stdout + exported.stderr
    assert "/tmp/safe-install-" not in exported.stdout


@pytest.mark.long
def test_what_is_there_already_stays(here, there, lab_wheels):
    there.must_pip(
        "install", "--no-index", "--find-links", str(lab_wheels("3.11").index), "numpy==2.0.0"
    )
    bundle(here, "numpy", "scatter-user", *ELSEWHERE, "-c", write(here, "c.txt", "numpy<2"))
    done = install(there, here.prefix.parent / "FILE.zip")
    assert [step["name"] for step in done["plan"]["steps"]] == ["scatter-user", "torch-scatter"]
    assert "numpy==2.0.0" in there.versions()


@pytest.mark.long
def test_a_part_of_it(of_zipapp, there):
    """What is named is taken from the bundle, and nothing else is there to be had."""
    newer = write_wheel(there.prefix.parent / "newer", "numpy", "1.99", {"numpy.py": ""})
    variables = {  # what pip is told there says nothing
        "PIP_FIND_LINKS": str(newer.parent),
        "PIP_CONFIG_FILE": write(there, "pip.conf", f"[global]\nfind-links = {newer.parent}\n"),
        "PIP_REQUIRE_HASHES": "1",
    }
    done = install(there, of_zipapp, "numpy", **variables)
    assert [step["name"] for step in done["plan"]["steps"]] == ["numpy"]
    assert there.ask("import numpy; print(numpy.__version__)") == "1.26.4"
    before = there.tree()
    refused = install(there, of_zipapp, "requests")
    assert refused["exit_code"] == 10
    assert refused["error"]["message"] == "no requests is in the bundle"
    assert "numpy, scatter-user, torch-scatter" in refused["error"]["hint"]
    assert there.tree() == before


def write(environment, name, text):
    path = environment.prefix.parent / name
    path.write_text(text)
    return str(path)


# --- torch comes along ----------------------------------------------------------------------------


@pytest.mark.long
def test_torch_is_in_it_where_there_is_none(make_environment, host, lab_wheels, here, tmp_path):
    wheels = tmp_path / "torch"
    build_torch_and_scatter(
        wheels, any_python(), Torch("2.4.1+cu121", "2.4.1", "12.1", cxx11_abi=False), "2.1.2+pt24cu121"
    )  # fmt: skip
    (torch,) = wheels.glob("torch-*.whl")
    (scatter,) = wheels.glob("torch_scatter-*.whl")
    serve(host, torch)
    host.add_pyg_page("2.4.0", "cu121", {scatter.name: scatter.read_bytes()})
    host.add_pyg_page("2.4.1", "cu121", {scatter.name: scatter.read_bytes()}, base="2.4.0")
    made = bundle(
        here, "torch", "torch-scatter", "--python-version", any_python(),
        "--platform", f"linux_{MACHINE}", FAKE_DRIVER_CUDA="12.1",
    )  # fmt: skip
    assert [wheel["name"] for wheel in made["wheels"]] == ["torch", "torch-scatter"]
    assert made["made_for"]["torch"] == ""
    there = make_environment("3.11", name="empty", FAKE_DRIVER_CUDA="12.1")
    before = there.tree()
    path = here.prefix.parent / "FILE.zip"
    done = install(there, path)
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done["error"]
    assert there.cuda() == "2.4.1+cu121 True"
    assert there.ask("import torch_scatter") == ""
    assert start(there, path, "--python", str(there.prefix), "undo").returncode == 0
    assert there.tree() == before


@pytest.mark.long
def test_the_environment_here_is_meant_where_nothing_is_said(
    make_environment, host, there, here, lab_wheels
):
    """Another one such as this: torch is there, and its numpy may be missing."""
    there.must_pip(
        "install", "--no-index", "--find-links", str(lab_wheels("3.11").index), "numpy==2.0.0"
    )
    like = make_environment("3.11", TORCH, name="like", **answering(host))
    made = bundle(like, "torch-scatter", "numpy")
    assert [wheel["name"] for wheel in made["wheels"]] == ["numpy", "torch-scatter"]
    assert made["made_for"]["torch"] == "1.8.1+cu111"
    assert install(there, like.prefix.parent / "FILE.zip")["outcome"] == "installed"
    made = bundle(like, "numpy")
    assert made["made_for"]["torch"] == ""


# --- refused there --------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--torch", "1.8.1+cu111", "--python-version", "3.9"], "Python 3.9"),
        (["--torch", "1.8.1+cpu"], "torch 1.8.1+cpu"),
    ],
)
def test_another_machine_is_refused_before_anything_is_touched(by_zipapp, unchanged, words, named):
    path = by_zipapp("numpy<2", "--platform", PLATFORM, *words)
    done = start(unchanged, path, "--python", str(unchanged.prefix), "install")
    assert done.returncode == 11
    assert named in done.stderr
    assert "the bundle" in done.stderr
    assert not (unchanged.prefix / ".safe-install").exists()


@pytest.mark.long
def test_what_has_nothing_to_do_with_torch_is_for_any_torch(by_zipapp, there):
    path = by_zipapp("numpy<2", "--platform", PLATFORM, "--python-version", any_python())
    assert install(there, path)["outcome"] == "installed"


@pytest.mark.parametrize(
    "words", [["-i", "https://h.example/simple"], ["--find-links", "."], ["--target", "x"]]
)
def test_it_is_installed_from_its_own_wheels(bundled, unchanged, words):
    done = start(
        unchanged, bundled("numpy<2"), "--python", str(unchanged.prefix), "install", *words
    )
    assert done.returncode == 2
    assert "a bundle is installed" in done.stderr


# --- refused here ---------------------------------------------------------------------------------


def test_what_has_to_be_built_is_refused_with_its_name(here, host, tmp_path):
    archive = tmp_path / "source-1.0.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("source-1.0/setup.py", "raise SystemExit('it was run')")
    serve(host, archive)
    done = here.safe_install("bundle", "-oNEW.zip", "numpy", "source", *ELSEWHERE)
    assert done.returncode == 10
    assert "no wheel of source was found for Python" in done.stderr
    assert "make the bundle there" in done.stderr
    assert "it was run" not in done.stderr
    assert not (here.prefix.parent / "NEW.zip").exists()


@pytest.mark.long
def test_what_is_built_here_is_bundled_for_here(here, there, host, tmp_path):
    """The wheel; its source stays here."""
    serve(host, make_sdist(tmp_path))
    made = bundle(here, "source", "--python", str(there.prefix))
    (wheel,) = made["wheels"]
    assert (wheel["filename"], wheel["url"]) == ("source-1.0-py3-none-any.whl", "")
    assert install(there, here.prefix.parent / "FILE.zip")["outcome"] == "installed"
    assert there.ask("import source; print(source.VALUE)") == "3"


@pytest.mark.long
def test_markers_are_those_of_the_other_machine(here, host, tmp_path):
    """pip's own options leave them as they are here."""
    old, new = ("old-python; python_version < '3.9'", "new-python; python_version >= '3.9'")
    for name, requires in (("needs", [old, new]), ("old-python", []), ("new-python", [])):
        made = write_wheel(tmp_path / "w", name, "1.0", {f"{name}.py": ""}, requires=requires)
        serve(host, made)
    for version, name in (("3.8", "old-python"), ("3.12", "new-python")):
        words = ["--dry-run", "--python-version", version, "--platform", PLATFORM]
        planned = here.document("bundle", "needs", *words)
        found = [wheel["name"] for wheel in planned["details"]["bundle"]["wheels"]]
        assert found == ["needs", name]


def test_the_torch_that_is_there_is_not_that_of_the_index(here, host, tmp_path):
    """Of the same version: it would bring what it requires."""
    tag = "cp{0}-cp{0}-{1}".format(any_python().replace(".", ""), PLATFORM)
    serve(host, write_wheel(tmp_path, "library", "1.0", {"library.py": ""}))
    torch = write_wheel(tmp_path, "torch", "2.4.1", {"t.py": ""}, requires=["library"], tag=tag)
    serve(host, torch)
    serve(host, write_wheel(tmp_path, "needs", "1.0", {"needs.py": ""}, requires=["torch"]))
    words = ["--torch", "2.4.1", "--python-version", any_python(), "--platform", PLATFORM]
    planned = here.document("bundle", "--dry-run", "needs", *words)
    assert [wheel["name"] for wheel in planned["details"]["bundle"]["wheels"]] == ["needs"]


def test_a_dry_run_says_what_would_be_in_it(here, host):
    words = ("numpy<2", "torch-scatter", "-oNEW.zip", *ELSEWHERE)
    done = here.safe_install("bundle", "--dry-run", *words)
    assert done.returncode == 0, done.stderr
    assert not (here.prefix.parent / "NEW.zip").exists()
    assert "numpy 1.26.4" in done.stdout
    assert (
        f"Would bundle 2 wheels for Python {any_python()}, linux_{MACHINE} (glibc 2.17)"
        in done.stdout
    )
    assert "not known" not in done.stdout


# --- how it is written ----------------------------------------------------------------------------


@pytest.mark.long
def test_the_same_contents_have_the_same_bytes(here, bundled):
    first = hashlib.sha256(bundled("numpy<2", "torch-scatter").read_bytes()).hexdigest()
    time.sleep(2.1)  # what an archive could tell
    assert bundle(here, "numpy<2", "torch-scatter", *ELSEWHERE)["sha256"] == first


def test_no_secret_is_in_it(here, host):
    url = host.index_url.replace("http://", "http://somebody:hunter2@")
    bundle(
        here, "numpy<2", *ELSEWHERE, PIP_INDEX_URL=url, PIP_EXTRA_INDEX_URL=f"{url}?token=s3cr3t"
    )
    path = here.prefix.parent / "FILE.zip"
    with zipfile.ZipFile(path) as archive:
        content = b"".join(
            archive.read(name) for name in ("pylock.toml", "safe_install_bundle.json")
        )
    for secret in (b"somebody", b"hunter2", b"s3cr3t"):
        assert secret not in content
        assert secret not in path.read_bytes()
    assert b"numpy-1.26.4" in content


@pytest.mark.long
def test_an_interrupted_download_goes_on_and_leaves_no_file(here, host, tmp_path):
    """With the pip of these tests, which plans without the files."""
    content = os.urandom(3_000_000)
    large = write_wheel(tmp_path / "w", "large-thing", "1.0", {"large.bin": content})
    serve(host, large)
    host.misbehave(f"{large.name} ", "stall", times=1)
    words = ["large-thing", "--python", sys.executable, *ELSEWHERE]
    process = subprocess.Popen(
        [sys.executable, "-m", "safe_install", "bundle", "-oNEW.zip", *words],
        env=here.variables,
        cwd=here.prefix.parent,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while f"/served/{large.name}" not in host.asked(large.name):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2.0)  # half of it arrives
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not (here.prefix.parent / "NEW.zip").exists()
    assert list(here.prefix.parent.glob(".*.tmp")) == []
    bundle(here, *words)
    path = f"/served/{large.name}"
    requests = [headers for asked, headers in host.requests if asked == path]
    assert [bool(headers.get("Range")) for headers in requests] == [False, True]


def test_a_file_that_is_there_is_replaced_only_by_a_whole_one(here, host):
    path = here.prefix.parent / "FILE.zip"
    path.write_bytes(b"as it was")
    assert here.safe_install("bundle", "-oFILE.zip", "not-there", *ELSEWHERE).returncode != 0
    assert path.read_bytes() == b"as it was"
    done = here.safe_install("bundle", "-o", "nowhere/FILE.zip", "numpy", *ELSEWHERE)
    assert done.returncode == 2
    assert "nowhere" in done.stderr


# --- damaged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.8", "3.11", "3.13"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.99])
def test_a_bundle_without_its_end_says_so(bundled, python, part, tmp_path):
    found = find_python(python)
    if found is None:
        pytest.skip(f"no Python {python} here")
    cut = tmp_path / "FILE.zip"
    content = bundled("numpy<2").read_bytes()
    cut.write_bytes(content[: int(len(content) * part)])
    done = run_process([found, str(cut), "install"], dict(os.environ))
    assert done.returncode == 1
    assert "This bundle is damaged or incomplete: copy it again" in done.stderr


@pytest.mark.parametrize("python", ["3.8", "3.11", "3.13"])
def test_a_bundle_that_breaks_off_behind_a_small_wheel(bundled, unchanged, python, tmp_path):
    """The end of the wheel, which is an archive, too, passes for none of the bundle."""
    found = find_python(python)
    if found is None:
        pytest.skip(f"no Python {python} here")
    whole = bundled("numpy<2")
    with zipfile.ZipFile(whole) as archive:
        (wheel,) = json.loads(archive.read("safe_install_bundle.json"))["wheels"]
    cut = tmp_path / "FILE.zip"
    behind = wheel["offset"] + wheel["size"]
    cut.write_bytes(whole.read_bytes()[: behind + 5_000])
    done = run_process([found, str(cut), "install"], dict(os.environ))
    assert done.returncode == 1
    assert "This bundle is damaged or incomplete: copy it again" in done.stderr
    cut.write_bytes(whole.read_bytes()[:behind])
    for words in (("check-bundle", str(cut)), ("stage", "--bundle", str(cut))):
        done = unchanged.safe_install(*words)
        assert done.returncode == 11, done.stdout + done.stderr
        assert "is damaged, or its end is missing" in " ".join(done.stderr.split())


def test_a_damaged_wheel_changes_nothing(bundled, unchanged, here, tmp_path):
    path = tmp_path / "FILE.zip"
    shutil.copy(bundled("numpy<2"), path)
    filename = damage(path, "numpy")
    done = start(unchanged, path, "--python", str(unchanged.prefix), "install")
    assert done.returncode == 11
    assert f"is damaged: {filename} is not what its list says" in done.stderr
    shutil.rmtree(unchanged.prefix / ".safe-install", ignore_errors=True)  # its lock
    for command in (
        start(unchanged, path, "check-bundle"),
        here.safe_install("check-bundle", str(path)),
    ):
        assert command.returncode == 11
        assert "is damaged" in command.stderr


def test_what_it_says_of_itself(bundled, unchanged, here):
    bundle_file, there = bundled("numpy<2"), unchanged
    done = start(there, bundle_file)
    assert done.returncode == 0, done.stderr
    assert "numpy<2 for Python" in done.stdout
    assert "numpy 1.26.4" in done.stdout
    assert "--python ENV install" in done.stdout
    for command in (
        start(there, bundle_file, "check-bundle"),
        here.safe_install("check-bundle", str(bundle_file)),
    ):
        assert command.returncode == 0, command.stderr
        assert "is whole" in command.stdout
    assert start(there, bundle_file, "--version").stdout.startswith("safe-install ")
    assert (
        start(there, bundle_file, "wheels", "torch-scatter", "--torch", "2.4.1+cu121").returncode
        == 0
    )


def test_a_python_that_is_too_old_for_its_program(bundled):
    """It was made by an installation, whose dependencies may need the Python of the environment."""
    python = find_python("3.8")
    if python is None or any_python() == "3.8":
        pytest.skip("no older Python here")
    done = run_process([python, str(bundled("numpy<2"))], dict(os.environ))
    assert done.returncode == 1
    assert f"needs Python {any_python()} or newer" in done.stderr


@pytest.mark.long
def test_a_bundle_makes_bundles(bundled, here, there):
    """Out of its own program."""
    bundle_file = bundled("numpy<2")
    command = [str(there.executable), str(bundle_file), "bundle", "-o", "second.zip", "numpy<2"]
    second = bundle_file.with_name("second.zip")
    done = run_process([*command, *ELSEWHERE, "--index-url", here.variables["PIP_INDEX_URL"]],
                       here.variables, cwd=bundle_file.parent)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert install(there, second)["outcome"] == "installed"
    with zipfile.ZipFile(bundle_file) as one, zipfile.ZipFile(second) as other:
        assert one.namelist() == other.namelist()


# --- compared with others -------------------------------------------------------------------------


@pytest.mark.long
def test_diff_with_bundles(bundled, of_zipapp, unchanged, tmp_path):
    """A bundle with another one, with an environment, and with a file; whatever its name is."""

    def compare(*words):
        document = unchanged.document("diff", *map(str, words))
        rows = document["details"]["changes"]
        return document["exit_code"], [(row["name"], row["old"], row["new"]) for row in rows]

    one, other = bundled("numpy<2"), tmp_path / "program"
    shutil.copy(of_zipapp, other)
    assert os.access(other, os.X_OK), "as an interpreter is"
    assert compare(one, one) == (0, [])
    added = [("torch-scatter", None, "2.0.8"), ("scatter-user", None, "1.0")]
    assert compare(bundled("numpy<2", "torch-scatter"), other) == (1, added[1:])
    status, rows = compare(other, unchanged.prefix)
    assert status == 1
    names = [name for name, _, _ in rows]
    assert "torch" not in names, "it is for that torch"
    assert set(rows) >= {("numpy", "1.26.4", None), ("torch-scatter", "2.0.8", None)}
    (tmp_path / "requirements.txt").write_text("numpy==2.0\ntorch==1.8.1+cu111\n")
    assert compare(tmp_path / "requirements.txt", one) == (1, [("numpy", "2.0", "1.26.4")])
    cut = tmp_path / "cut.zip"
    cut.write_bytes(other.read_bytes()[:500])
    done = unchanged.safe_install("diff", str(cut), "now")
    assert (done.returncode, "its end is missing" in " ".join(done.stderr.split())) == (2, True)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.torch
def test_beside_the_real_torch(environment, host, tmp_path):
    """The real torch 2.13.0+cpu is asked before and after."""
    made = write_wheel(tmp_path / "w", "plain-thing", "1.0", {"plain_thing.py": "ANSWER = 42\n"})
    serve(host, made)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    kept["SAFE_INSTALL_CACHE_DIR"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "safe_install", "--python", str(environment)]
    done = run_process(
        [*command, "bundle", "-o", str(tmp_path / "FILE.zip"), "plain-thing"],
        {**kept, **answering(host)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before = read_tree(environment)
    python = str(environment / "bin" / "python")
    bundled = [*WITHOUT_NETWORK, python, str(tmp_path / "FILE.zip"), "--python", python]
    document = read_document(run_process([*bundled, "install", "--json"], kept))
    assert document["outcome"] == "installed", document["error"]
    assert document["after"]["torch_version"] == "2.13.0+cpu"
    assert document["after"]["operations"]["torch on cpu"]["ok"], document["after"]["operations"]
    code = "import plain_thing, torch; print(plain_thing.ANSWER, torch.__version__)"
    asked = run_process([*WITHOUT_NETWORK, python, "-B", "-c", code], kept)
    assert asked.stdout.strip() == "42 2.13.0+cpu"
    undone = run_process([*bundled, "undo"], kept)
    assert undone.returncode == 0, undone.stderr
    assert read_tree(environment) == before
