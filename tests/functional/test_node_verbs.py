"""stage, commit, abandon, undo, status, inventory: as an engine calls them, in real environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest

from tests.functional.conftest import Environment, need_python
from tests.lab.wheels import write_wheel
from tests.wheelhost import WheelHost

TORCH = "torch==1.8.1+cu111"
GOOD = "1.8.1+cu111 True"
UNDO = "python -m safe_install undo"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels: alpha in two versions, with a script and data, and beta."""
    folder = tmp_path_factory.mktemp("projects")
    for version in ("1", "2"):
        files = {f"alpha/part{number}.py": f"x = {version}\n" for number in range(3)}
        files["alpha/__init__.py"] = f"version = {version}\n"
        files[f"alpha-{version}.data/scripts/alpha"] = f"#!python\nprint({version})\n"
        files[f"alpha-{version}.data/data/share/alpha.txt"] = version
        write_wheel(folder, "alpha", version, files)
    write_wheel(folder, "beta", "1", {"beta.py": ""})
    return folder


@pytest.fixture
def environment(make_environment: Callable[..., Environment], projects: Path) -> Environment:
    return with_projects(make_environment("3.11", TORCH), projects)


def with_projects(environment: Environment, projects: Path) -> Environment:
    environment.variables["PIP_FIND_LINKS"] += f" {projects}"
    return environment


def stage(environment: Environment, *words: str) -> str:
    """What was asked for is staged, and nothing is changed; the ID."""
    before = environment.tree()
    document = environment.document("stage", *words)
    assert (document["exit_code"], document["outcome"]) == (0, "staged"), document
    assert document["command"] == "stage"
    assert environment.tree() == before
    return str(document["transaction"])


def row(environment: Environment, identifier: str) -> Dict[str, Any]:
    """What `status` says of one change."""
    document = environment.document("status", identifier)
    assert (document["exit_code"], document["outcome"]) == (0, "listed")
    (found,) = document["details"]["changes"]
    return dict(found)


def state(environment: Environment, identifier: str) -> str:
    return str(row(environment, identifier)["state"])


def ends(document: Dict[str, Any]) -> tuple[int, str]:
    return document["exit_code"], document["outcome"]


# --- the way there and back -----------------------------------------------------------------------


def test_staged_committed_undone(environment: Environment) -> None:
    before = environment.tree()
    environment.document("install", "alpha==2")
    installed = environment.tree()
    environment.document("undo")
    assert environment.tree() == before

    identifier = stage(environment, "alpha==2")
    found = row(environment, identifier)
    assert (found["state"], found["fits"], found["moved"]) == ("staged", True, [])
    assert found["bytes"] > 0
    assert found["steps"][0]["name"] == "alpha"
    assert found["command"][:3] == ["safe-install", "stage", "alpha==2"]

    committed = environment.document("commit", identifier)
    assert ends(committed) == (0, "installed"), committed
    assert (committed["transaction"], committed["command"]) == (identifier, "commit")
    assert committed["after"]["cuda_available"] is True
    assert environment.tree() == installed
    assert state(environment, identifier) == "committed"
    assert environment.document("history")["details"]["history"][0]["id"] == identifier

    again = environment.document("commit", identifier)
    assert ends(again) == (0, "already-satisfied")
    assert environment.tree() == installed

    assert ends(environment.document("undo", identifier)) == (0, "undone")
    assert environment.tree() == before
    found = row(environment, identifier)
    assert found["state"] == "undone"

    again = environment.document("undo", identifier)
    assert ends(again) == (0, "already-satisfied")
    assert again["details"] == {
        "id": identifier,
        "state": "undone",
        "undone_by": found["undone_by"],
    }
    assert environment.tree() == before
    refused = environment.document("commit", identifier)
    assert ends(refused) == (11, "refused")
    assert "undone" in refused["error"]["message"]


def test_an_extension_of_torch(
    environment: Environment, lab_wheels: Callable[..., Any], make_environment: Any
) -> None:
    (wheel,) = (lab_wheels("3.11").extensions / "1.8.1+cu111").glob("*.whl")
    identifier = stage(environment, str(wheel))
    committed = environment.document("commit", identifier)
    assert ends(committed) == (0, "installed"), committed
    assert committed["after"]["imports"]["torch_scatter"]["ok"] is True
    (foreign,) = lab_wheels("3.11").foreign.glob("*.whl")
    refused = environment.document("stage", "--force-reinstall", str(foreign))
    assert ends(refused) == (11, "refused")
    assert "does-not-load" in [finding["check"] for finding in refused["findings"]]
    assert environment.document("status")["details"]["changes"][0]["id"] == identifier


def test_a_change_that_breaks_torch_is_rolled_back_and_says_so_again(
    environment: Environment,
) -> None:
    before = environment.tree()
    identifier = stage(environment, "torch==2.4.1")
    for _ in range(2):
        document = environment.document("commit", identifier)
        assert ends(document) == (12, "rolled-back")
        assert environment.tree() == before
    found = row(environment, identifier)
    assert found["state"] == "rolled-back"
    assert "is_available() was True" in found["detail"]
    assert environment.cuda() == GOOD
    again = environment.document("undo", identifier)
    assert ends(again) == (0, "already-satisfied")
    assert environment.document("history")["details"]["history"] == []


# --- several --------------------------------------------------------------------------------------


@pytest.mark.long
def test_two_are_staged_and_one_is_committed(environment: Environment) -> None:
    before = environment.tree()
    first, second = stage(environment, "alpha==1"), stage(environment, "beta")
    ids = [one["id"] for one in environment.document("status")["details"]["changes"]]
    assert ids == [second, first]
    assert ends(environment.document("commit", first)) == (0, "installed")
    after = environment.tree()

    refused = environment.document("commit", second)
    assert ends(refused) == (11, "refused")
    assert "alpha-1.dist-info" in refused["error"]["message"]
    assert [finding["check"] for finding in refused["findings"]] == ["staged-misfit"]
    assert environment.tree() == after
    found = row(environment, second)
    assert (found["state"], found["fits"]) == ("staged", False)
    assert any(path.endswith("alpha-1.dist-info") for path in found["moved"])

    # what moved is moved back: it fits again
    assert ends(environment.document("undo", first)) == (0, "undone")
    assert row(environment, second)["fits"] is True
    assert ends(environment.document("commit", second)) == (0, "installed")
    assert ends(environment.document("undo", second)) == (0, "undone")
    assert environment.tree() == before


@pytest.mark.long
def test_the_same_again_is_the_same_change(environment: Environment) -> None:
    """An engine that lost the answer asks again; the change is not unpacked twice."""
    first = stage(environment, "alpha==1", "--ttl", "1h")
    expires = row(environment, first)["expires"]
    time.sleep(1.1)
    assert stage(environment, "alpha==1", "--ttl", "1h") == first
    assert row(environment, first)["expires"] > expires
    assert row(environment, first)["fits"] is True
    other = stage(environment, "alpha==1", "--no-rollback", "--ttl", "1h")
    assert other != first
    edit_file(find_folder(environment, first))
    third = stage(environment, "alpha==1", "--ttl", "1h")
    assert third not in (first, other)
    environment.must_pip("install", "beta")
    fourth = stage(environment, "alpha==1", "--ttl", "1h")
    assert fourth not in (first, other, third)
    assert ends(environment.document("commit", fourth)) == (0, "installed")


@pytest.mark.long
def test_the_same_again_of_a_wheel_host(
    make_environment: Callable[..., Environment], lab_wheels: Callable[..., Any], host: WheelHost
) -> None:
    """Whose page has no hashes."""
    need_python("3.11")
    (wheel,) = (lab_wheels("3.11").extensions / "2.4.1+cu121").glob("*.whl")
    host.add_pyg_page("2.4.0", "cu121", {wheel.name: wheel.read_bytes()})
    environment = make_environment(
        "3.11",
        "torch==2.4.1",
        FAKE_DRIVER_CUDA="12.1",
        SAFE_INSTALL_MIRRORS=host.mirrors,
        PIP_NO_INDEX="",
        PIP_INDEX_URL=host.index_url,
    )
    identifier = stage(environment, "torch-scatter")
    assert stage(environment, "torch-scatter") == identifier
    host.stop()
    assert ends(environment.document("commit", identifier)) == (0, "installed")


def test_pip_meanwhile(environment: Environment) -> None:
    identifier = stage(environment, "alpha==2")
    environment.must_pip("install", "beta")
    before = environment.tree()
    refused = environment.document("commit", identifier)
    assert ends(refused) == (11, "refused")
    assert "beta-1.dist-info" in refused["error"]["message"]
    assert environment.tree() == before
    environment.must_pip("uninstall", "-y", "beta")
    assert ends(environment.document("commit", identifier)) == (0, "installed")


@pytest.mark.long
def test_two_commits_at_once(environment: Environment) -> None:
    first, second = stage(environment, "alpha==1"), stage(environment, "beta")

    def start(identifier: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "safe_install", "commit", identifier, "--json"],
            env=environment.variables,
            cwd=environment.prefix.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    running = [start(one) for one in (first, first, second)]
    outputs = [process.communicate(timeout=120) for process in running]
    statuses = [process.returncode for process in running]
    assert set(statuses) <= {0, 11, 14}, outputs
    outcomes = [json.loads(out)["outcome"] for out, _ in outputs]
    assert outcomes.count("installed") == 1, outputs
    states = {state(environment, first), state(environment, second)}
    assert states == {"committed", "staged"}
    names = {path.name for path in environment.site.iterdir()}
    assert ("alpha" in names) != ("beta.py" in names)


# --- let go ---------------------------------------------------------------------------------------


def test_abandoned(environment: Environment) -> None:
    identifier = stage(environment, "alpha==1")
    assert ends(environment.document("abandon", identifier)) == (0, "abandoned")
    assert ends(environment.document("abandon", identifier)) == (0, "already-satisfied")
    assert state(environment, identifier) == "abandoned"
    assert not list((environment.prefix / ".safe-install").rglob("stage"))
    assert ends(environment.document("commit", identifier)) == (11, "refused")
    assert ends(environment.document("undo", identifier)) == (0, "already-satisfied")

    other = stage(environment, "alpha==1")
    refused = environment.document("undo", other)
    assert ends(refused) == (11, "refused")
    assert f"abandon {other}" in refused["error"]["hint"]
    environment.document("commit", other)
    refused = environment.document("abandon", other)
    assert ends(refused) == (11, "refused")
    assert f"undo {other}" in refused["error"]["hint"]


@pytest.mark.long
def test_over_its_time(environment: Environment) -> None:
    identifier = stage(environment, "alpha==1", "--ttl", "1")
    time.sleep(1.1)
    assert state(environment, identifier) == "expired"
    assert list((environment.prefix / ".safe-install").rglob("stage"))
    recovered = environment.document("recover")
    assert recovered["details"]["expired"] == [identifier]
    assert not list((environment.prefix / ".safe-install").rglob("stage"))
    refused = environment.document("commit", identifier)
    assert ends(refused) == (11, "refused")
    assert "expired" in refused["error"]["message"]
    assert row(environment, stage(environment, "alpha==1", "--ttl", "0"))["expires"] is None


def test_unknown(environment: Environment) -> None:
    unknown = "20200101T000000Z-3f2a"
    assert state(environment, unknown) == "unknown"
    for words in (("commit", unknown), ("abandon", unknown), ("undo", unknown)):
        assert ends(environment.document(*words)) == (11, "refused")
    for verb in ("commit", "abandon", "status"):
        assert ends(environment.document(verb, "../../x")) == (2, "error")


# --- what cannot be staged ------------------------------------------------------------------------


def test_nothing_to_do_and_dry_runs(environment: Environment) -> None:
    done = environment.document("stage", "torch")
    assert ends(done) == (0, "already-satisfied")
    assert done["transaction"] is None
    planned = environment.document("stage", "--dry-run", "alpha==1")
    assert ends(planned) == (0, "planned")
    assert environment.document("status")["details"]["changes"] == []


@pytest.mark.long
def test_editables_and_other_places(environment: Environment, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "setup.py").write_text("from setuptools import setup\nsetup(name='mine')\n")
    refused = environment.document("stage", "-e", str(project))
    assert ends(refused) == (11, "refused")
    assert "cannot be staged" in refused["error"]["message"]
    assert f"install -e {project}" in refused["error"]["hint"]
    refused = environment.document("stage", "--target", str(tmp_path / "there"), "alpha==1")
    assert ends(refused) == (2, "error")
    assert not (tmp_path / "there").exists()


# --- what others may have done to it --------------------------------------------------------------


def find_folder(environment: Environment, identifier: str) -> Path:
    return environment.prefix / ".safe-install" / f"staged-{identifier}"


@pytest.fixture(scope="module")
def staged_once(
    place_environment: Callable[..., Environment],
    projects: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tuple[Environment, str, Path]:
    """An environment, what is staged in it, and a copy of what `.safe-install` was then."""
    folder = tmp_path_factory.mktemp("staged")
    found = with_projects(place_environment(folder, "3.11", TORCH), projects)
    identifier = stage(found, "alpha==1")
    subprocess.run(
        ["cp", "-a", str(found.prefix / ".safe-install"), str(folder / "as-it-was")], check=True
    )
    return found, identifier, folder / "as-it-was"


@pytest.fixture
def staged(staged_once: Tuple[Environment, str, Path]) -> Tuple[Environment, str]:
    """As it was before the other tests, which change nothing else."""
    found, identifier, as_it_was = staged_once
    shutil.rmtree(found.prefix / ".safe-install")
    subprocess.run(["cp", "-a", str(as_it_was), str(found.prefix / ".safe-install")], check=True)
    return found, identifier


def link_document(folder: Path) -> None:
    (folder / "staged.json").rename(folder / "elsewhere")
    (folder / "staged.json").symlink_to("elsewhere")


def rename_step(folder: Path) -> None:
    document = json.loads((folder / "staged.json").read_text())
    document["steps"][0].update(name="torch", action="replace")
    (folder / "staged.json").write_text(json.dumps(document))


def edit_file(folder: Path) -> None:
    (path,) = folder.rglob("alpha/__init__.py")
    path.write_text("import os  # something else")


def add_file(folder: Path) -> None:
    (path,) = folder.rglob("alpha/__init__.py")
    (path.parents[1] / "evil.pth").write_text("import os")


def lead_elsewhere(folder: Path) -> None:
    (path,) = folder.rglob("alpha/__init__.py")
    path.unlink()
    path.symlink_to("/etc/passwd")


def remove_document(folder: Path) -> None:
    (folder / "staged.json").unlink()


def fill_document(folder: Path) -> None:
    with (folder / "staged.json").open("wb") as stream:
        stream.truncate(65 * 2**20)


@pytest.mark.parametrize(
    "harm",
    [
        link_document,
        rename_step,
        edit_file,
        add_file,
        lead_elsewhere,
        remove_document,
        fill_document,
    ],
)
def test_a_stage_that_somebody_wrote_to_is_refused(
    staged: Tuple[Environment, str], harm: Callable[[Path], None]
) -> None:
    environment, identifier = staged
    harm(find_folder(environment, identifier))
    before = environment.tree()
    refused = environment.document("commit", identifier)
    assert ends(refused) == (11, "refused"), refused
    assert environment.tree() == before
    found = row(environment, identifier)
    assert (found["state"], found["fits"]) == ("staged", False)
    assert found["detail"]
    assert ends(environment.document("abandon", identifier)) == (0, "abandoned")
    assert environment.tree() == before


@pytest.mark.long
def test_a_copied_environment(environment: Environment) -> None:
    identifier = stage(environment, "alpha==1")
    copy = environment.prefix.with_name("copy")
    subprocess.run(["cp", "-a", str(environment.prefix), str(copy)], check=True)
    other = Environment(copy, environment.variables)
    trees = environment.tree(), other.tree()
    refused = other.document("commit", identifier)
    assert ends(refused) == (11, "refused")
    assert "copied" in refused["error"]["message"]
    assert (environment.tree(), other.tree()) == trees
    assert ends(environment.document("commit", identifier)) == (0, "installed")
    assert other.tree() == trees[1]
    # the copy in the place of the original is that environment
    environment.document("undo", identifier)
    shutil.rmtree(environment.prefix)
    copy.rename(environment.prefix)
    assert ends(environment.document("commit", identifier)) == (0, "installed")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_environment_of_another_user(environment: Environment) -> None:
    identifier = stage(environment, "alpha==1")
    os.chown(environment.prefix / ".safe-install", 65534, 65534)
    before = environment.tree()
    for words in (("commit", identifier), ("abandon", identifier), ("stage", "beta")):
        refused = environment.document(*words)
        assert ends(refused) == (11, "refused")
        assert "belongs to another user" in refused["error"]["message"]
    assert environment.tree() == before


# --- what people read -----------------------------------------------------------------------------


def test_the_text(environment: Environment) -> None:
    staged = environment.safe_install("--python", str(environment.prefix), "stage", "alpha==1")
    assert staged.returncode == 0, staged.stderr
    first, last = staged.stdout.splitlines()[-2:]
    assert first.startswith("Staged, nothing is changed: +alpha 1 (")
    program = f"python -m safe_install --python {environment.prefix}"
    assert last.startswith(f"Put it in place with: {program} commit ")
    identifier = last.split()[-1]
    listed = environment.safe_install("status")
    assert listed.stdout.startswith(f"{identifier}  staged  +alpha 1  ")
    assert "  fits  until " in listed.stdout
    committed = environment.safe_install("commit", identifier)
    assert committed.returncode == 0
    assert "Successfully installed alpha-1" in committed.stdout
    assert committed.stdout.splitlines()[-1] == f"Undo with: {UNDO} {identifier}"
    assert environment.safe_install("commit", identifier).stdout == (
        f"{identifier} is committed already.\n"
    )
    environment.safe_install("undo", identifier)
    undone = environment.safe_install("undo", identifier)
    assert undone.returncode == 0
    assert "was undone already" in undone.stdout


# --- inventory ------------------------------------------------------------------------------------


def test_inventory(
    environment: Environment, make_environment: Callable[..., Environment], projects: Path
) -> None:
    other = with_projects(make_environment("3.11", TORCH, name="other"), projects)

    def ask(one: Environment) -> Dict[str, Any]:
        before = one.tree()
        document = one.document("inventory")
        assert ends(document) == (0, "listed")
        assert one.tree() == before
        return document

    document = ask(environment)
    found = document["environment"]
    assert found["torch"]["cuda"] == "11.1"
    assert found["driver"]["cuda"] == "11.1"
    assert found["libc"]
    details = document["details"]
    assert details["history"] == {"head": None, "count": 0}
    assert not (environment.prefix / ".safe-install").exists()
    assert details["place"]["marker"] is None
    value = details["tree"]["sha256"]
    assert ask(other)["details"]["tree"]["sha256"] == value

    identifier = stage(environment, "alpha==1")
    details = ask(environment)["details"]
    assert (details["staged"], details["tree"]["sha256"]) == ([identifier], value)
    marker = details["place"]["marker"]
    assert len(marker) == 32
    environment.document("commit", identifier)
    details = ask(environment)["details"]
    assert details["history"]["head"] == identifier
    assert details["place"]["marker"] == marker
    assert details["tree"]["sha256"] != value
    # by pip, from the same wheel: the same
    other.must_pip("install", "alpha==1")
    assert ask(other)["details"]["tree"] == details["tree"]
    names = {one["name"] for one in details["distributions"]}
    assert {"alpha", "torch"} <= names
