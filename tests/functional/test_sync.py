"""`sync` and `diff` in real environments: the file is the environment afterwards, or nothing was
changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from tests.functional.conftest import (
    Environment,
    make_once,
    need_python,
    run_process,
    run_safe_install,
)
from tests.lab.wheels import write_wheel
from tests.wheelhost import read_metadata

GONE = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def shared_wheels(shared: Path) -> Path:
    """Small wheels, which are not on any index but as a folder."""

    def make(folder: Path) -> None:
        for version in ("1.0", "2.0"):
            write_wheel(folder, "alpha", version, {"alpha.py": f"version = {version!r}\n"})
        write_wheel(folder, "beta", "1.0", {"beta.py": ""}, requires=["alpha"])
        write_wheel(folder, "gamma", "1.0", {"gamma/__init__.py": ""})
        write_wheel(folder, "needy", "1.0", {"needy.py": ""}, requires=["alpha<2"])

    return make_once(shared / "sync-wheels", make)


@pytest.fixture
def wheels(tmp_path: Path, shared_wheels: Path) -> Path:
    """The same, in the working folder."""
    folder = tmp_path / "wheels"
    folder.symlink_to(shared_wheels)
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def served(host, wheels) -> str:
    """The address below which the wheels lie on a host."""
    for path in wheels.glob("*.whl"):
        host.put(f"/own/{path.name}", path.read_bytes())
    return f"{host.url}/own/"


@pytest.fixture
def environment(make_environment, wheels, shared_wheels) -> Environment:
    """alpha 1.0 and gamma 1.0 are installed; pip finds wheels in their folder."""
    there = f"--find-links {shared_wheels} alpha==1.0 gamma==1.0"
    return make_environment("3.11", there, PIP_FIND_LINKS=str(wheels))


@pytest.fixture(scope="module")
def unchanged(place_environment, shared_wheels, tmp_path_factory) -> Iterator[Environment]:
    """The same for all that is refused: nobody changes it."""
    there = f"--find-links {shared_wheels} alpha==1.0 gamma==1.0"
    folder = tmp_path_factory.mktemp("unchanged")
    made = place_environment(folder, "3.11", there, PIP_FIND_LINKS=str(shared_wheels))
    made.before = made.tree()
    yield made
    assert made.tree() == made.before


def write(environment: Environment, name: str, text: str) -> Path:
    path = environment.prefix.parent / name
    path.write_text(text)
    return path


def lock_text(wheels: Path, base: str, *names: str, head: str = "") -> str:
    """A pylock.toml of these wheel files."""
    blocks = ['lock-version = "1.0"\ncreated-by = "tests"', head]
    blocks += ["packages = []"] if not names else []
    for filename in names:
        name, version = filename.split("-")[:2]
        blocks.append(
            f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
            f'wheels = [{{ name = "{filename}", url = "{base}{filename}", '
            f'hashes = {{ sha256 = "{sha256(wheels / filename)}" }} }}]'
        )
    return "\n".join(blocks)


def whl(name: str, version: str = "1.0") -> str:
    return f"{name}-{version}-py3-none-any.whl"


def versions(environment: Environment) -> dict:
    """What is recorded there, less what environments are made with."""
    stems = [path.stem.split("-") for path in environment.site.glob("*.dist-info")]
    found = dict(stems)
    return {name: found[name] for name in found if name not in ("pip", "setuptools", "wheel")}


def steps(document: dict) -> list:
    return [(row["action"], row["name"]) for row in document["plan"]["steps"]]


# --- in one change --------------------------------------------------------------------------------


def test_a_lock_file_is_the_environment(environment, wheels, served, host):
    """The second time nothing is done, and nobody asked."""
    before = environment.tree()
    write(environment, "pylock.toml", lock_text(wheels, served, whl("alpha", "2.0"), whl("beta")))
    document = environment.document("sync", "pylock.toml")
    assert (document["exit_code"], document["outcome"]) == (0, "synced")
    assert steps(document) == [("replace", "alpha"), ("add", "beta"), ("remove", "gamma")]
    assert versions(environment) == {"alpha": "2.0", "beta": "1.0"}
    assert set(document["details"]["kept"]) >= {"pip"}
    after = environment.tree()
    host.requests.clear()
    second = environment.safe_install("sync", "pylock.toml")
    assert second.returncode == 0, second.stderr
    assert second.stdout == "Nothing to do: the environment is what pylock.toml says.\n"
    assert host.requests == []
    assert environment.tree() == after
    assert len(environment.document("history")["details"]["history"]) == 1
    undone = environment.safe_install("undo", document["transaction"])
    assert undone.returncode == 0, undone.stderr
    assert environment.tree() == before


def test_requirements_of_an_index_and_of_addresses(environment, wheels, served):
    write(
        environment,
        "requirements.txt",
        f"alpha==2.0 --hash=sha256:{sha256(wheels / whl('alpha', '2.0'))}\n"
        f"beta @ {served}{whl('beta')}#sha256={sha256(wheels / whl('beta'))}\n",
    )
    done = environment.safe_install("sync", "requirements.txt")
    assert done.returncode == 0, done.stderr
    assert "/requirements.txt (line" not in done.stdout
    frozen = environment.freeze()
    assert "alpha==2.0" in frozen
    assert f"beta @ {served}{whl('beta')}#sha256={sha256(wheels / whl('beta'))}" in frozen
    assert not [line for line in frozen if line.startswith("gamma")]


@pytest.mark.long
def test_what_pip_freeze_wrote_is_the_same(environment):
    frozen = environment.pip("freeze").stdout
    write(environment, "frozen.txt", frozen)
    done = environment.safe_install("sync", "--check", "frozen.txt")
    assert (done.returncode, done.stdout) == (0, "The environment is what frozen.txt says.\n")


@pytest.mark.long
def test_a_wheel_by_its_path_and_one_without_a_hash(environment, wheels, served):
    text = f"./wheels/{whl('alpha', '2.0')}\nbeta @ {served}{whl('beta')}\ngamma==1.0\n"
    write(environment, "requirements.txt", text)
    done = environment.safe_install("sync", "requirements.txt")
    assert done.returncode == 0, done.stderr
    again = environment.safe_install("sync", "--check", "requirements.txt")
    assert again.returncode == 0, again.stdout


def test_the_pip_part_of_an_environment_yml(environment):
    text = "name: x\ndependencies:\n  - python=3\n  - gamma\n  - pip:\n    - alpha==2.0\n"
    write(environment, "environment.yml", text)
    document = environment.document("sync", "environment.yml")
    assert document["exit_code"] == 0, document
    assert steps(document) == [("replace", "alpha")]
    assert "conda-part" in [finding["check"] for finding in document["findings"]]


@pytest.mark.long
def test_what_is_extra_may_stay(environment):
    write(environment, "requirements.txt", "alpha==2.0\n")
    document = environment.document("sync", "--keep-extra", "requirements.txt")
    assert steps(document) == [("replace", "alpha")]
    assert versions(environment) == {"alpha": "2.0", "gamma": "1.0"}
    assert document["details"]["kept"]["gamma"] == "--keep-extra"


@pytest.mark.long
def test_another_file_of_the_same_version(environment, wheels, served, host, tmp_path):
    """What our history knows of the installed file contradicts the lock; also where it was let
    go."""
    write(environment, "pylock.toml", lock_text(wheels, served, whl("alpha", "2.0"), whl("gamma")))
    assert environment.safe_install("sync", "pylock.toml").returncode == 0
    assert environment.safe_install("history", "--prune", "--keep", "0").returncode == 0
    other = write_wheel(tmp_path / "other", "alpha", "2.0", {"alpha.py": "version = 'other'\n"})
    host.put(f"/other/{other.name}", other.read_bytes())
    text = lock_text(other.parent, f"{host.url}/other/", other.name)
    write(environment, "pylock.toml", text)
    document = environment.document("sync", "--keep-extra", "pylock.toml")
    assert steps(document) == [("replace", "alpha")], document
    assert "another file of this version is installed" in document["plan"]["steps"][0]["because"]
    assert environment.ask("import alpha; print(alpha.version)") == "other"
    assert environment.document("sync", "--check", "--keep-extra", "pylock.toml")["exit_code"] == 0


def test_only_removals(environment):
    write(environment, "requirements.txt", "alpha==1.0\n")
    done = environment.safe_install("sync", "requirements.txt")
    assert done.returncode == 0, done.stderr
    assert "Successfully uninstalled gamma-1.0" in done.stdout
    assert "As requirements.txt says now: ./env (Python 3." in done.stdout
    assert " undo 20" in done.stdout.splitlines()[-1]
    assert versions(environment) == {"alpha": "1.0"}


# Needs nothing to build: a wheel of one module, or of a link to it.
BACKEND = """
import base64, hashlib, os, zipfile

NAME, VERSION = {name!r}, {version!r}


def pack(folder, files):
    info = "%s-%s.dist-info/" % (NAME, VERSION)
    files[info + "METADATA"] = "Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (NAME, VERSION)
    files[info + "WHEEL"] = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    name = "%s-%s-py3-none-any.whl" % (NAME, VERSION)
    rows = ""
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            digest = hashlib.sha256(text.encode()).digest()
            coded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            rows += "%s,sha256=%s,%d\\n" % (path, coded, len(text))
            archive.writestr(path, text)
        archive.writestr(info + "RECORD", rows + info + "RECORD,,\\n")
    return name


def build_wheel(folder, config_settings=None, metadata_directory=None):
    return pack(folder, {{NAME + ".py": "version = %r\\n" % VERSION}})


def build_editable(folder, config_settings=None, metadata_directory=None):
    return pack(folder, {{NAME + ".pth": os.getcwd() + "\\n"}})
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_project(folder: Path, name: str, version: str = "1.0") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version))
    (folder / f"{name}.py").write_text(f"version = {version!r}\n")


@pytest.mark.long
def test_a_folder_and_an_editable_folder(environment, tmp_path):
    make_project(tmp_path / "sources" / "plain", "plain")
    make_project(tmp_path / "sources" / "linked", "linked")
    text = "./sources/plain\n-e ./sources/linked\nalpha==1.0\n"
    write(environment, "requirements.txt", text)
    document = environment.document("sync", "requirements.txt")
    assert document["exit_code"] == 0, document
    assert set(steps(document)) == {("add", "plain"), ("add", "linked"), ("remove", "gamma")}
    code = "import plain, linked; print(plain.version, linked.__file__)"
    assert environment.ask(code) == f"1.0 {tmp_path}/sources/linked/linked.py"
    assert environment.document("sync", "--check", "requirements.txt")["outcome"] == "same"
    make_project(tmp_path / "elsewhere" / "plain", "plain", "2.0")
    write(environment, "requirements.txt", text.replace("./sources/plain", "./elsewhere/plain"))
    document = environment.document("sync", "requirements.txt")
    assert steps(document) == [("replace", "plain")]
    assert environment.ask(code).startswith("2.0 ")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=n@h", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, version: str) -> str:
    make_project(folder, "mine", version)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", version)
    return git(folder, "rev-parse", "HEAD")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_commit_of_a_repository(environment, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    first, second = commit(folder, "1.0"), commit(folder, "2.0")
    package = (
        '[[packages]]\nname = "mine"\n'
        f'vcs = {{ type = "git", url = "file://{folder}", commit-id = "%s" }}'
    )
    head = 'lock-version = "1.0"\ncreated-by = "tests"\n'
    write(environment, "pylock.toml", head + package % first)
    document = environment.document("sync", "pylock.toml")
    assert document["exit_code"] == 0, document
    assert environment.ask("import mine; print(mine.version)") == "1.0"
    assert environment.document("sync", "--check", "pylock.toml")["outcome"] == "same"
    write(environment, "requirements.txt", f"mine @ git+file://{folder}@{second}\n")
    document = environment.document("sync", "requirements.txt")
    assert steps(document) == [("replace", "mine")]
    assert environment.ask("import mine; print(mine.version)") == "2.0"
    assert environment.document("sync", "--check", "requirements.txt")["outcome"] == "same"


# --- nothing is changed ---------------------------------------------------------------------------


def assert_refused(environment, status, *words, said="", **variables):
    before = getattr(environment, "before", None) or environment.tree()
    done = environment.safe_install("sync", *words, **variables)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stderr + done.stdout
    assert environment.tree() == before
    assert not list((environment.prefix / ".safe-install").glob("txn-*"))
    return done


def test_check_changes_nothing(unchanged):
    write(unchanged, "requirements.txt", "alpha==2.0\nbeta==1.0\n")
    words = ("--check", "requirements.txt")
    done = assert_refused(unchanged, 1, *words, said="Would add 1, replace 1, remove 1 in ./env")
    assert done.stdout.splitlines()[:3] == [
        "  ~ alpha 1.0 -> 2.0  (as requirements.txt says: 1.0 is installed)",
        "  + beta 1.0  (as requirements.txt says)",
        "  - gamma 1.0  (not in requirements.txt)",
    ]


def test_a_dry_run_changes_nothing(unchanged):
    write(unchanged, "requirements.txt", "alpha==2.0\n")
    assert_refused(unchanged, 0, "--dry-run", "requirements.txt", said="Would replace 1, remove 1")


def test_a_file_with_another_hash(unchanged, wheels, served, host):
    text = lock_text(wheels, served, whl("alpha", "2.0"), whl("beta"))
    write(unchanged, "pylock.toml", text)
    host.put(f"/own/{whl('beta')}", (wheels / whl("gamma")).read_bytes())
    assert_refused(unchanged, 11, "pylock.toml", said=whl("beta"))


def test_a_requirement_with_another_hash(unchanged):
    write(unchanged, "requirements.txt", f"alpha==2.0 --hash=sha256:{'0' * 64}\n")
    assert_refused(unchanged, 1, "requirements.txt", said="0000")


def test_a_file_of_another_distribution(unchanged, wheels):
    write(unchanged, "requirements.txt", f"delta @ file://{wheels / whl('beta')}\n")
    assert_refused(unchanged, 11, "requirements.txt", said="delta")


def test_all_wheels_that_do_not_fit_are_named(unchanged):
    names = [
        "one-1.0-cp27-cp27m-linux_x86_64.whl",
        "two-1.0-cp311-cp311-win_amd64.whl",
    ]
    write(unchanged, "requirements.txt", "".join(f"{GONE}/{name}\n" for name in names))
    done = assert_refused(unchanged, 10, "requirements.txt")
    for name in names:
        assert name in done.stderr


def test_files_that_were_not_copied_along(unchanged, wheels, served):
    """All of them are named, by a dry run, too."""
    text = lock_text(wheels, served, whl("alpha", "2.0"))
    folder = '\n[[packages]]\nname = "mine"\ndirectory = { path = "src/mine" }\n'
    path = f"wheels/{whl('beta')}"
    beta = f'wheels = [{{ path = "{path}", hashes = {{ sha256 = "{"0" * 64}" }} }}]\n'
    text += f'{folder}\n[[packages]]\nname = "beta"\nversion = "1.0"\n{beta}'
    write(unchanged, "pylock.toml", text)
    for words in ([], ["--dry-run"]):
        done = assert_refused(unchanged, 11, "pylock.toml", *words, said="--wheels")
        for name in (path, "src/mine"):
            assert f"{unchanged.prefix.parent / name}, which is not there" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "status", "said"),
    [
        ("pylock.toml", 'lock-version = "1.0"\n[[packages]', 1, "pylock.toml is no TOML"),
        (
            "pylock.toml",
            'lock-version = "1.0"\ncreated-by = "x"\nrequires-python = "<3"\npackages = []',
            1,
            "Python <3",
        ),
        (
            "pylock.toml",
            'lock-version = "1.0"\ncreated-by = "x"\npackages = []',
            11,
            "--allow-empty",
        ),
        ("requirements.txt", "", 11, "--allow-empty"),
        ("requirements.txt", "# nothing\n", 11, "--allow-empty"),
        ("requirements.txt", "alpha>=1\nbeta\n", 11, "requirements.txt, line 2: beta"),
        ("environment.yml", "dependencies: {a: b}", 1, "environment.yml, line 1"),
        ("environment.yml", "dependencies:\n- python=2.7\n- pip:\n  - alpha==1.0\n", 11, "2.7"),
    ],
)
def test_a_file_that_cannot_be_followed(unchanged, name, text, status, said):
    write(unchanged, name, text)
    assert_refused(unchanged, status, name, said=said)


def test_a_file_that_is_not_there(unchanged):
    assert_refused(unchanged, 1, "missing.txt", said="missing.txt")


def test_an_empty_file_with_consent(environment):
    write(environment, "requirements.txt", "")
    done = environment.safe_install("sync", "--allow-empty", "requirements.txt")
    assert done.returncode == 0, done.stderr
    assert versions(environment) == {}
    assert environment.pip("--version").returncode == 0


@pytest.mark.long
def test_what_stays_keeps_what_it_requires(environment):
    environment.must_pip("install", "needy")
    write(environment, "requirements.txt", "alpha==2.0\n")
    words = ("--keep-extra", "requirements.txt")
    assert_refused(environment, 11, *words, said="needy 1.0 requires alpha<2")


def test_offline_a_file_comes_from_the_cache_alone(environment, wheels, served, host):
    write(environment, "pylock.toml", lock_text(wheels, served, whl("alpha", "2.0")))
    assert_refused(environment, 1, "--offline", "pylock.toml")
    assert host.requests == []
    assert environment.safe_install("sync", "pylock.toml").returncode == 0
    assert environment.safe_install("undo").returncode == 0
    host.requests.clear()
    done = environment.safe_install("sync", "--offline", "pylock.toml")
    assert done.returncode == 0, done.stderr
    assert host.requests == []
    assert versions(environment) == {"alpha": "2.0"}


def test_a_hostile_lock_file_leads_nowhere(unchanged, wheels, served, host, tmp_path):
    """A name is no folder, an address no place for what variables hold, a host's file names nothing
    of this machine; and nobody is asked."""
    outside = tmp_path / "outside"
    text = lock_text(wheels, served, whl("alpha", "2.0"))
    write(unchanged, "pylock.toml", text.replace('name = "alpha"', f'name = "{outside}/x"', 1))
    assert_refused(unchanged, 1, "pylock.toml", said="is no name of a project")
    assert not outside.exists()
    archive = f'archive = {{ url = "%s", hashes = {{ sha256 = "{"0" * 64}" }} }}'
    head = 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "alpha"\n'
    secret = f"{host.url}/${{SECRET}}/alpha-2.0.tar.gz"
    write(unchanged, "pylock.toml", head + archive % secret)
    assert_refused(unchanged, 1, "pylock.toml", said="is no address", SECRET="s3cr3t")
    assert host.requests == []
    local = (wheels / whl("alpha", "2.0")).resolve().as_uri()
    host.put("/pylock.toml", (head + archive % local).encode(), content_type="text/plain")
    assert_refused(unchanged, 1, f"{host.url}/pylock.toml", said="which is of this machine")


# --- torch ----------------------------------------------------------------------------------------

WITH_TORCH = ("typing-extensions==4.7.1", "torch==1.8.1+cu111")


@pytest.fixture
def with_torch(make_environment) -> Environment:
    return make_environment("3.11", *WITH_TORCH)


def test_a_change_that_breaks_torch_is_rolled_back(with_torch):
    text = "torch==1.8.1+cu111\ntyping-extensions==3.6.6\nnumpy==1.26.4\n"
    write(with_torch, "requirements.txt", text)
    before = with_torch.tree()
    document = with_torch.document("sync", "requirements.txt")
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    assert with_torch.tree() == before
    assert with_torch.cuda() == "1.8.1+cu111 True"


def test_torch_is_not_removed_by_a_file_that_does_not_name_it(with_torch):
    write(with_torch, "requirements.txt", "typing-extensions==4.7.1\n")
    said = "requirements.txt does not name torch, and torch 1.8.1+cu111 is installed"
    assert_refused(with_torch, 11, "requirements.txt", said=said)
    document = with_torch.document("sync", "--allow-torch-change", "requirements.txt")
    assert document["exit_code"] == 0, document
    assert steps(document) == [("remove", "torch")]
    assert "No module named 'torch'" in with_torch.cuda()


@pytest.mark.long
def test_another_torch_of_the_file(with_torch):
    write(with_torch, "requirements.txt", "torch==2.13.0+cpu\n")
    document = with_torch.document("sync", "requirements.txt")
    assert document["exit_code"] == 0, document
    assert with_torch.cuda() == "2.13.0+cpu False"
    assert steps(document) == [("replace", "torch"), ("remove", "typing-extensions")]
    assert with_torch.document("sync", "--check", "requirements.txt")["outcome"] == "same"


@pytest.mark.long
def test_an_extension_by_its_version_alone(make_environment, host, lab_wheels):
    """`pip freeze` writes no address: the build for this torch is found on the wheel host."""
    need_python("3.11")
    environment = make_environment(
        "3.11",
        "torch==2.4.1",
        FAKE_DRIVER_CUDA="12.1",
        SAFE_INSTALL_MIRRORS=host.mirrors,
        PIP_NO_INDEX="",
        PIP_INDEX_URL=host.index_url,
    )
    (scatter,) = (lab_wheels("3.11").extensions / "2.4.1+cu121").glob("torch_scatter-*.whl")
    host.add_pyg_page("2.4.0", "cu121", {scatter.name: scatter.read_bytes()})
    before = environment.tree()
    write(environment, "requirements.txt", "torch==2.4.1\ntorch-scatter==2.1.2+pt24cu121\n")
    document = environment.document("sync", "requirements.txt")
    assert document["exit_code"] == 0, document["error"]
    assert steps(document) == [("add", "torch-scatter")]
    assert document["after"]["imports"]["torch_scatter"]["ok"]
    assert environment.document("sync", "--check", "requirements.txt")["outcome"] == "same"
    # and away again: what is removed on purpose need not work afterwards
    write(environment, "requirements.txt", "torch==2.4.1\n")
    document = environment.document("sync", "requirements.txt")
    assert (document["exit_code"], document["outcome"]) == (0, "synced"), document
    assert steps(document) == [("remove", "torch-scatter")]
    assert environment.tree() == before


def test_an_extension_that_has_no_build_for_this_torch(with_torch):
    text = "torch==1.8.1+cu111\ntyping-extensions==4.7.1\ntorch-scatter==2.0.8\n"
    write(with_torch, "requirements.txt", text)
    assert_refused(
        with_torch, 10, "--no-build", "--offline", "requirements.txt", said="torch-scatter"
    )


# --- others, and an end in the middle -------------------------------------------------------------


def test_killed_in_the_middle(environment):
    write(environment, "requirements.txt", "alpha==2.0\nbeta==1.0\n")
    before = environment.tree()
    code = (
        "import os, sys; from safe_install.pipeline import baseline; "
        "from safe_install.cli.main import main\n"
        "baseline.BaselineCheck.report_after = lambda *words, **options: os.kill(os.getpid(), 9)\n"
        "sys.exit(main())"
    )
    words = [sys.executable, "-c", code, "sync", "requirements.txt"]
    killed = run_process(words, environment.variables, cwd=environment.prefix.parent)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert environment.tree() != before
    done = environment.safe_install("sync", "--check", "requirements.txt")
    assert done.returncode == 0, "the half change is what a look sees"
    done = environment.safe_install("sync", "requirements.txt")
    assert done.returncode == 0, done.stderr
    assert "an interrupted run was put right" in done.stderr
    assert versions(environment) == {"alpha": "2.0", "beta": "1.0"}
    assert environment.safe_install("undo").returncode == 0
    assert environment.tree() == before


def test_two_at_the_same_time(environment, wheels, served, host):
    write(environment, "pylock.toml", lock_text(wheels, served, whl("alpha", "2.0")))
    host.misbehave(".whl ", "slow")
    command = [sys.executable, "-m", "safe_install", "sync", "pylock.toml"]
    first = subprocess.Popen(
        command,
        env=environment.variables,
        cwd=environment.prefix.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not host.asked(".whl") and time.monotonic() < deadline:
        time.sleep(0.01)
    second = environment.safe_install("sync", "pylock.toml")
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    assert second.returncode in (0, 14), second.stderr
    assert versions(environment) == {"alpha": "2.0"}


def test_without_pip_in_the_environment(make_environment, wheels, served):
    environment = make_environment("3.11", with_pip=False)
    write(environment, "pylock.toml", lock_text(wheels, served, whl("alpha", "2.0")))
    done = environment.safe_install("sync", "pylock.toml")
    assert done.returncode == 0, done.stderr
    assert environment.ask("import alpha; print(alpha.version)") == "2.0"


# --- what others write ----------------------------------------------------------------------------


def put_index(host, wheels: Path) -> None:
    """The wheels on the package index of the host, as it serves them itself."""
    for name in ("alpha", "beta", "gamma"):
        lines = []
        for path in sorted(wheels.glob(f"{name}-*.whl")):
            host.put(f"/own/{path.name}", path.read_bytes())
            metadata = read_metadata(path.read_bytes()).encode()
            host.put(f"/own/{path.name}.metadata", metadata)
            promised = hashlib.sha256(metadata).hexdigest()
            lines.append(
                f'<a href="{host.url}/own/{path.name}#sha256={sha256(path)}" '
                f'data-core-metadata="sha256={promised}">{path.name}</a>'
            )
        page = "<!DOCTYPE html>" + "".join(lines)
        host.put(f"/pypi/simple/{name}/", page.encode(), content_type="text/html")


WINDOWS_ALONE = "gamma; sys_platform == 'win32'"


def test_a_lock_file_of_uv(environment, wheels, host, tmp_path):
    """`uv export --format pylock.toml` names the files of all platforms, with markers."""
    put_index(host, wheels)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.8"\n'
        f'dependencies = ["beta", "{WINDOWS_ALONE}"]\n'
    )
    words = ["export", "--format", "pylock.toml", "--no-emit-project", "-o", "pylock.toml"]
    uv = str(Path(sys.executable).parent / "uv")
    base = {name: text for name, text in environment.variables.items() if name[:4] != "PIP_"}
    words += ["--default-index", host.index_url]
    done = run_process([uv, *words, "-q"], base, cwd=project)
    assert done.returncode == 0, done.stderr
    text = (project / "pylock.toml").read_text()
    assert "win32" in text
    write(environment, "pylock.toml", text)
    done = environment.safe_install("sync", "pylock.toml")
    assert done.returncode == 0, done.stderr
    assert versions(environment) == {"alpha": "2.0", "beta": "1.0"}
    uv_too = run_process([uv, "pip", "sync", "--dry-run", "pylock.toml", "-p", str(environment.executable)],
                         base, cwd=environment.prefix.parent)  # fmt: skip
    assert "alpha" not in uv_too.stderr + uv_too.stdout


@pytest.mark.long
def test_a_lock_file_of_pip(environment, wheels, host, tmp_path):
    """`pip lock` names the files for this Python alone."""
    put_index(host, wheels)
    base = {**environment.variables, "PIP_NO_INDEX": "0", "PIP_FIND_LINKS": ""}
    words = ["lock", "-i", host.index_url, "beta", WINDOWS_ALONE, "-o", "pylock.toml"]
    command = [sys.executable, "-m", "pip", *words]
    done = run_process(command, base, cwd=environment.prefix.parent)
    assert done.returncode == 0, done.stderr
    done = environment.safe_install("sync", "pylock.toml")
    assert done.returncode == 0, done.stderr
    assert versions(environment) == {"alpha": "2.0", "beta": "1.0"}


@pytest.mark.long
def test_extras_and_groups_as_pip_takes_them(environment, make_environment, wheels, served):
    """pip names both by the file: `pylock.toml[x]`, `--group pylock.toml:y`."""
    text = lock_text(wheels, served, whl("alpha", "2.0"), whl("beta"), whl("gamma"))
    text = text.replace('name = "beta"', 'name = "beta"\nmarker = "\'x\' in extras"', 1)
    text = text.replace(
        'name = "gamma"', 'name = "gamma"\nmarker = "\'y\' in dependency_groups"', 1
    )
    head = 'extras = ["x"]\ndependency-groups = ["y"]\n'
    write(environment, "pylock.toml", head + text)
    other = make_environment("3.11", name="other", with_pip=False)
    words = ["-r", "pylock.toml[x]", "--group", "pylock.toml:y"]
    command = [sys.executable, "-m", "pip", "--python", str(other.executable), "install", *words]
    done = run_process(command, other.variables, cwd=environment.prefix.parent)
    assert done.returncode == 0, done.stderr
    document = environment.document("sync", "pylock.toml[x]", "--group", "pylock.toml:y")
    assert document["exit_code"] == 0, document
    everything = {"alpha": "2.0", "beta": "1.0", "gamma": "1.0"}
    assert versions(environment) == everything
    brought = {path.name for path in other.site.glob("*.dist-info")}
    assert brought == {f"{name}-{version}.dist-info" for name, version in everything.items()}
    done = environment.safe_install("sync", "--check", "pylock.toml")
    assert [line.strip() for line in done.stdout.splitlines()[:-1]] == [
        "- beta 1.0  (not in pylock.toml)",
        "- gamma 1.0  (not in pylock.toml)",
    ]


# --- diff -----------------------------------------------------------------------------------------


def test_diff_with_a_file_an_environment_and_the_past(environment, make_environment, wheels):
    write(environment, "requirements.txt", "alpha==2.0\nbeta==1.0\n")
    done = environment.safe_install("diff", "requirements.txt")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["--- requirements.txt", "+++ now"]
    shown = [" ".join(line.split()) for line in done.stdout.splitlines()[2:]]
    assert shown == ["~ alpha 2.0 -> 1.0", "- beta 1.0", "+ gamma 1.0"]
    document = environment.document("sync", "requirements.txt")
    changes = environment.document("diff", document["transaction"])
    assert (changes["exit_code"], changes["outcome"]) == (0, "same")
    other = make_environment("3.11", name="other")
    changes = environment.document("diff", str(other.prefix), str(environment.executable))
    found = {(row["name"], row["old"], row["new"]) for row in changes["details"]["changes"]}
    assert found >= {("alpha", None, "2.0"), ("beta", None, "1.0")}
    second = environment.document("uninstall", "-y", "beta")
    changes = environment.document("diff", document["transaction"], second["transaction"])
    assert [(row["name"], row["old"], row["new"]) for row in changes["details"]["changes"]] == [
        ("beta", "1.0", None)
    ]


@pytest.mark.parametrize("side", ["missing.txt", "20261123T101112Z-1f43f2", "/nowhere/at/all"])
def test_diff_with_what_is_not_there(unchanged, side):
    done = unchanged.safe_install("diff", side)
    assert done.returncode == 2, done.stdout + done.stderr
    assert run_safe_install(["diff", side, "--json"], unchanged.variables).returncode == 2


def test_diff_of_records_of_other_machines(unchanged):
    """What differs between two machines is what a person asks it for."""
    named = 'lock-version = "1.0"\ncreated-by = "x"\nrequires-python = "==3.{minor}.*"\n'
    package = '[[packages]]\nname = "torch"\nversion = "{version}"\n'
    wheel = '[[packages.wheels]]\nurl = "https://h/{file}"\nhashes = {{ sha256 = "{sha256}" }}\n'
    ours = (
        '[tool.safe-install]\npython = "3.{minor}.1"\n[tool.safe-install.torch]\ncuda = "{cuda}"\n'
    )
    texts = named + package + wheel + ours
    for name, minor, version, cuda in (("a", 6, "1.8.1", "10.2"), ("b", 99, "2.8.0", "12.8")):
        tag = f"cp3{minor}-cp3{minor}-linux_x86_64"
        file = f"torch-{version}-{tag}.whl"
        text = texts.format(minor=minor, version=version, cuda=cuda, file=file, sha256="0" * 64)
        write(unchanged, f"pylock.{name}.toml", text)
    write(unchanged, "environment.yml", "dependencies:\n- python=3.7\n- pip:\n  - torch==1.8.1\n")
    changes = differences(unchanged, "pylock.a.toml", "pylock.b.toml")
    assert changes == [
        ("torch", "torch", "1.8.1", "2.8.0"),
        ("cuda", "torch's CUDA", "10.2", "12.8"),
        ("python", "Python", "3.6.1", "3.99.1"),
    ]
    assert differences(unchanged, "pylock.a.toml", "environment.yml") == [
        ("python", "Python", "3.6.1", "3.7")
    ]


def differences(environment, *sides):
    changes = environment.document("diff", *sides)["details"]["changes"]
    return [(row["subject"], row["name"], row["old"], row["new"]) for row in changes]


def test_diff_of_one_file_with_itself(unchanged):
    write(unchanged, "requirements.txt", "alpha==2.0\n")
    done = unchanged.safe_install("diff", "requirements.txt", "requirements.txt")
    assert (done.returncode, done.stdout) == (
        0,
        "The same: requirements.txt and requirements.txt.\n",
    )
    assert json.loads(unchanged.safe_install("diff", "requirements.txt", "--json").stdout)
