"""`-e git+URL`: the clone is part of the change. Real repositories, by file://, with a real git and
real pips."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.functional.conftest import run_process
from tests.treehash import read_tree

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

# Writes its own folder's path where real backends do: in a .pth file, in a file of a build folder,
# in a link.
BACKEND = """
import base64, hashlib, os, zipfile

NAME, VERSION = {name!r}, {version!r}
METADATA = "Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (NAME, VERSION)


def prepare_metadata_for_build_editable(folder, config_settings=None):
    info = "%s-%s.dist-info" % (NAME, VERSION)
    os.mkdir(os.path.join(folder, info))
    with open(os.path.join(folder, info, "METADATA"), "w") as stream:
        stream.write(METADATA)
    return info


def build_editable(folder, config_settings=None, metadata_directory=None):
    here = os.getcwd()
    os.makedirs("build", exist_ok=True)
    with open("build/CMakeCache.txt", "w") as stream:
        stream.write("HOME_DIRECTORY=" + here + "\\n")
    if not os.path.lexists("build/link"):
        os.symlink(os.path.join(here, "source"), "build/link")
    info = "%s-%s.dist-info/" % (NAME, VERSION)
    files = {{
        NAME + ".pth": os.path.join(here, "source") + "\\n",
        info + "METADATA": METADATA,
        info + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    name = "%s-%s-py3-none-any.whl" % (NAME, VERSION)
    rows = ""
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows += "%s,sha256=%s,%d\\n" % (path, digest, len(text))
            archive.writestr(path, text)
        archive.writestr(info + "RECORD", rows + info + "RECORD,,\\n")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def git(folder, *words):
    command = ["git", "-c", "user.name=n", "-c", "user.email=n@h", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder, name, version, code):
    """One more commit, with the tag `vVERSION`."""
    (folder / "source" / name).mkdir(parents=True, exist_ok=True)
    (folder / "source" / name / "__init__.py").write_text(code)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version))
    # Refused outside of a clone: it would be read by every run of pip.
    (folder / "pip.conf").write_text("")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", version)
    git(folder, "tag", f"v{version}")


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "repository")


def make_repository(folder):
    """The address of a repository with two versions of `demo_clone`; pip calls its clone
    demo-clone."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    for version in ("1.0", "2.0"):
        commit(folder, "demo_clone", version, f"version = {version!r}\n")
    return f"git+file://{folder}@v{{}}#egg=demo_clone"


@pytest.fixture
def environment(python, make_environment):
    return make_environment(python)


def version(environment):
    return environment.ask("import demo_clone; print(demo_clone.version, demo_clone.__file__)")


def with_times_left_out(tree):
    """Without what differs between two clones: git's index and its logs have times in them."""
    return {
        path: row
        for path, row in tree.items()
        if not path.endswith("/.git/index") and "/.git/logs/" not in path
    }


def test_a_dry_run_clones_nothing_into_the_environment(environment, repository, tmp_path):
    before = environment.tree()
    report = tmp_path / "report.json"
    words = ("--dry-run", "--report", str(report), "-e", repository.format("1.0"))
    document = environment.document("install", *words)
    assert (document["exit_code"], document["outcome"]) == (0, "planned")
    assert environment.tree() == before
    (step,) = document["plan"]["steps"]
    assert step["url"].startswith((environment.prefix / "src").as_uri())
    assert (environment.prefix / "src").as_uri() in report.read_text()


def test_the_result_is_that_of_pip(environment, repository, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(environment.prefix, plain, symlinks=True)
    completed = environment.safe_install("install", "-e", repository.format("1.0"))
    assert completed.returncode == 0, completed.stderr
    (folder,) = (environment.prefix / "src").iterdir()
    assert version(environment) == f"1.0 {folder}/source/demo_clone/__init__.py"
    assert os.readlink(folder / "build" / "link") == f"{folder}/source"
    assert git(folder, "describe", "--tags") == "v1.0"
    freeze = environment.freeze()
    assert any(line.startswith("-e git+file:") for line in freeze)
    ours = with_times_left_out(environment.tree())
    # The same path for pip: it stands in the files.
    environment.prefix.rename(tmp_path / "ours")
    plain.rename(environment.prefix)
    environment.must_pip("install", "--quiet", "-e", repository.format("1.0"))
    assert with_times_left_out(environment.tree()) == ours
    assert environment.freeze() == freeze


@pytest.mark.long
def test_a_clone_that_is_there_goes_on_from_where_it_is_and_undo_puts_it_back(
    environment, repository
):
    assert environment.safe_install("install", "-e", repository.format("1.0")).returncode == 0
    (folder,) = (environment.prefix / "src").iterdir()
    (folder / "mine.txt").write_text("not in git")
    git(folder, "branch", "mine")
    before = environment.tree()
    planned = environment.document("install", "--dry-run", "-e", repository.format("2.0"))
    assert planned["exit_code"] == 0
    assert environment.tree() == before
    completed = environment.safe_install("install", "-e", repository.format("2.0"))
    assert completed.returncode == 0, completed.stderr
    assert version(environment).startswith("2.0 ")
    assert (folder / "mine.txt").read_text() == "not in git"
    assert "mine" in git(folder, "branch")
    git(folder, "status")  # writes git's index
    undone = environment.safe_install("undo")
    assert undone.returncode == 0, undone.stderr
    assert environment.tree() == before
    assert version(environment).startswith("1.0 ")


def test_undo_does_not_take_work_in_a_clone_away(make_environment, repository):
    environment = make_environment("3.11")
    assert environment.safe_install("install", "-e", repository.format("1.0")).returncode == 0
    (folder,) = (environment.prefix / "src").iterdir()
    (folder / "mine.txt").write_text("not in git")
    refused = environment.safe_install("undo")
    assert refused.returncode == 11
    assert str(folder / "mine.txt") in refused.stderr
    assert (folder / "mine.txt").exists()


# Where the program kills itself: the journal is written; the first path is in its new place; all
# are.
MOMENTS = {
    "journal": "swap.Transaction._rename_all = die",
    "half": (
        "exchange, rename = swap.exchange, swap._rename_to_free_name\n"
        "swap.exchange = lambda *words: exchange(*words) or die()\n"
        "swap._rename_to_free_name = lambda *words: rename(*words) or die()"
    ),
    "swapped": "baseline.BaselineCheck.report_after = die",
}


@pytest.fixture(scope="module")
def first_version(place_environment, tmp_path_factory):
    """An environment, with the address of a repository of which it has the first version; and a copy
    of it."""
    folder = tmp_path_factory.mktemp("first")
    repository = make_repository(folder / "repository")
    environment = place_environment(folder, "3.11")
    assert environment.safe_install("install", "-e", repository.format("1.0")).returncode == 0
    copied = folder / "as-it-was"
    subprocess.run(["cp", "-a", str(environment.prefix), str(copied)], check=True)
    return environment, repository, copied


@pytest.fixture(params=["", "1.0"])
def cloned(request):
    """An environment without the clone or with its first version, which one it is, and the address
    of the repository."""
    if not request.param:
        environment = request.getfixturevalue("make_environment")("3.11")
        return environment, "", request.getfixturevalue("repository")
    environment, repository, copied = request.getfixturevalue("first_version")
    shutil.rmtree(environment.prefix)
    subprocess.run(["cp", "-a", str(copied), str(environment.prefix)], check=True)
    return environment, request.param, repository


@pytest.mark.long
@pytest.mark.parametrize("moment", sorted(MOMENTS))
def test_a_kill_while_a_clone_is_in_the_journal(cloned, moment):
    environment, earlier, repository = cloned
    before = environment.tree()
    code = (
        "import os, sys; from safe_install.pipeline import baseline; from safe_install.cli.main "
        "import main; "
        "from safe_install.transaction import swap\n"
        f"def die(*words, **options): os.kill(os.getpid(), 9)\n{MOMENTS[moment]}\nsys.exit(main())"
    )
    words = [sys.executable, "-c", code, "install", "-e", repository.format("2.0")]
    killed = run_process(words, environment.variables, cwd=environment.prefix.parent)
    assert killed.returncode == -9, killed.stderr
    assert list((environment.prefix / ".safe-install").glob("txn-*/journal"))
    assert (environment.tree() == before) == (moment == "journal")
    recovered = environment.safe_install("recover")
    assert recovered.returncode == 0, recovered.stderr
    assert environment.tree() == before
    if earlier:
        assert version(environment).startswith("1.0 ")
    # And the same again, whole.
    assert environment.safe_install("install", "-e", repository.format("2.0")).returncode == 0
    assert version(environment).startswith("2.0 ")


@pytest.mark.long
def test_a_clone_whose_project_does_not_import_goes_again(make_environment, tmp_path):
    environment = make_environment("3.11", "torch==2.13.0+cpu")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, "torchdata", "0.9.0", "raise OSError('broken')\n")
    before = environment.tree()
    completed = environment.safe_install("install", "-e", f"git+file://{folder}#egg=torchdata")
    assert completed.returncode == 12, completed.stdout + completed.stderr
    assert environment.tree() == before


@pytest.mark.long
def test_a_build_that_fails_leaves_the_clone_that_is_there(make_environment, repository, tmp_path):
    environment = make_environment("3.11")
    assert environment.safe_install("install", "-e", repository.format("1.0")).returncode == 0
    backend = tmp_path / "repository" / "backend.py"
    backend.write_text(backend.read_text().replace("here = os.getcwd()", "raise SystemExit(3)"))
    git(tmp_path / "repository", "commit", "--all", "--quiet", "--message", "broken")
    git(tmp_path / "repository", "tag", "v3.0")
    before = environment.tree()
    assert environment.safe_install("install", "-e", repository.format("3.0")).returncode == 1
    assert environment.tree() == before


@pytest.mark.long
def test_outside_of_the_environment_a_clone_is_not_moved_to_another_revision(
    make_environment, repository, tmp_path
):
    environment = make_environment("3.11")
    place = tmp_path / "elsewhere"
    words = ("install", "--src", str(place), "-e")
    assert environment.safe_install(*words, repository.format("1.0")).returncode == 0
    before = read_tree(tmp_path / "elsewhere")
    assert version(environment).startswith("1.0 ")
    refused = environment.document(*words, repository.format("2.0"))
    assert refused["exit_code"] == 11
    assert "would be moved to another revision" in refused["error"]["message"]
    assert read_tree(place) == before
    # The revision that is there is no change.
    assert environment.safe_install(*words, repository.format("1.0")).returncode == 0
    planned = environment.safe_install(
        "install", "--dry-run", "--src", str(tmp_path / "new"), "-e", repository.format("2.0")
    )
    assert planned.returncode == 0
    assert not (tmp_path / "new").exists()
