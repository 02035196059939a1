"""Real environments written down and made again, by pip and by uv: the same distributions, versions
and file contents.

torch is the stand-in 2.13.0+cu130; torch-scatter comes from a wheel host with the layout of
data.pyg.org, all else from a package index on loopback.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Iterator
from urllib.parse import quote

import pytest

from safe_install.environment.record import read_record
from safe_install.snapshot.sources import PYPI
from safe_install.snapshot.toml_text import parse_toml
from tests.choice import long_unless
from tests.differential.__main__ import PIPS
from tests.functional.conftest import Environment, answering, need_python, run_process
from tests.functional.round_trips import (
    LOCK,
    REQUIREMENTS,
    WAYS,
    bare_environment,
    by_bundle,
    by_pip,
    by_uv,
    contents,
    must,
    our_pip,
    uv,
)
from tests.functional.test_joint_plan import put
from tests.lab.wheels import Torch, build_torch_and_scatter, write_wheel
from tests.wheelhost import WheelHost

SCATTER = "2.1.2+pt213cu130"
QUICK = ("pylock-sync", "pylock-uv", "requirements-pip")  # by each installer
BACKEND = """
import base64, hashlib, os, zipfile
INFO = "{name}-0.1.dist-info"
FILES = {{
    "{name}.py": "VALUE = 3",
    f"{{INFO}}/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: 0.1\\n",
    f"{{INFO}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}}
def row(name, text):
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{{name}},sha256={{digest}},{{len(text)}}\\n"
def write(directory, files):
    name = "{name}-0.1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        rows = "".join(row(*item) for item in files.items())
        archive.writestr(f"{{INFO}}/RECORD", rows + f"{{INFO}}/RECORD,,\\n")
    return name
def build_wheel(directory, config_settings=None, metadata_directory=None):
    return write(directory, FILES)
def build_editable(directory, config_settings=None, metadata_directory=None):
    files = dict(FILES)
    del files["{name}.py"]
    files["{name}.pth"] = os.getcwd()
    return write(directory, files)
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture
def environment(environment_without_torch) -> Environment:
    return environment_without_torch


def add_projects(host, made: Path) -> None:
    """torch on the package index, torch-scatter on the wheel host; two plain projects."""
    torch = Torch("2.13.0+cu130", "2.13.0", "13.0")
    build_torch_and_scatter(made, "3.11", torch, SCATTER)
    (scatter,) = made.glob("torch_scatter-*.whl")
    put(host, *made.glob("torch-2*.whl"))
    put(host, write_wheel(made, "sample", "1.0", {"sample.py": "A = 1\n"}, requires=["needed"]))
    put(host, write_wheel(made, "sample", "2.0", {"sample.py": "A = 2\n"}))
    put(host, write_wheel(made, "needed", "1.5", {"needed/__init__.py": "B = 1\n"}))
    folder = "torch-2.13.0+cu130"
    host.put(f"/pyg/whl/{folder}/{scatter.name}", scatter.read_bytes())
    address = f"{host.url}/pyg/whl/{quote(folder)}/{quote(scatter.name)}"
    host.add_anchors(f"https://data.pyg.org/whl/{quote(folder)}.html", [address])
    host.scatter = f"{address}#sha256={hashlib.sha256(scatter.read_bytes()).hexdigest()}"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The wheels of the hosts."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def hosts(host, made):
    add_projects(host, made)
    return host


@dataclass(frozen=True)
class Origin:
    """An environment, and what was written down of it."""

    environment: Environment
    folder: Path  # of the documents
    hosts: WheelHost


@pytest.fixture(scope="module")
def origin(place_environment, made, tmp_path_factory) -> Iterator[Origin]:
    """From a package index, from a wheel host, and from a file that only this machine has; nobody
    changes it."""
    need_python("3.11")
    folder = tmp_path_factory.mktemp("origin")
    given = write_wheel(folder / "given", "given", "3.0", {"given.py": "C = 1\n"})
    with WheelHost() as hosts:
        add_projects(hosts, made)
        variables = {**answering(hosts), "PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"}
        environment = place_environment(folder, "3.11", **variables)
        must(environment.safe_install("torch", "torch-scatter", "sample<2", str(given)))
        yield Origin(environment, folder, hosts)


@pytest.fixture(scope="module")
def written(origin) -> Path:
    """The folder of the documents, where nothing else of that machine is."""
    there = origin.folder / "there"
    there.mkdir()
    for filename in (LOCK, REQUIREMENTS):
        words = ("export", "-o", str(there / filename), "--wheels", str(there / "wheels"))
        assert "Wrote" in must(origin.environment.safe_install(*words)).stdout
        assert str(origin.folder) not in (there / filename).read_text()
    return there.rename(origin.folder / "elsewhere")


@pytest.mark.parametrize("way", long_unless(lambda way: way in QUICK, WAYS))
def test_what_is_written_down_is_made_again(origin, written, tmp_path, way):
    filename, install = WAYS[way]
    again = bare_environment(tmp_path / "again", origin.environment.variables)
    install(again, written / filename)
    before, after = contents(origin.environment.site), contents(again.site)
    assert {name for name, _ in before} == {"torch", "torch_scatter", "sample", "needed", "given"}
    assert after == before


def make_sources(folder: Path, name: str) -> Path:
    """A project that needs nothing to be built."""
    folder.mkdir()
    (folder / "backend.py").write_text(BACKEND.format(name=name))
    (folder / "pyproject.toml").write_text(
        f'{PROJECT}[project]\nname = "{name}"\nversion = "0.1"\n'
    )
    (folder / f"{name}.py").write_text("VALUE = 3")
    return folder


@pytest.fixture(scope="module")
def of_sources(place_environment, tmp_path_factory) -> Iterator[Origin]:
    """With an editable folder, and a repository in which more was committed since."""
    folder = tmp_path_factory.mktemp("sources")
    mine, repository = (make_sources(folder / name, name) for name in ("mine", "tracked"))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(repository)]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    with WheelHost() as hosts:
        put(hosts, write_wheel(folder / "made", "sample", "1.0", {"sample.py": "A = 1\n"}))
        variables = {**answering(hosts), "PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"}
        environment = place_environment(folder, "3.11", **variables)
        must(environment.safe_install("sample", "-e", str(mine), f"git+{repository.as_uri()}@main"))
        documents = folder / "documents"
        documents.mkdir()
        for filename in (LOCK, REQUIREMENTS):
            document = documents / filename
            done = must(environment.safe_install("export", "-o", str(document)))
            assert ("pip installs no lock file" in done.stderr) == (filename == LOCK)
            assert commit in document.read_text()
        (repository / "later.py").write_text("")
        for words in (["add", "."], ["commit", "-qm", "second"]):
            subprocess.run([*git, *words], check=True)
        yield Origin(environment, documents, hosts)


# pip takes a lock file with such sources only where no file in it has a hash; an editable folder
# is no part of a bundle.
@pytest.mark.parametrize(
    "way", long_unless(QUICK[0].__eq__, sorted(set(WAYS) - {"pylock-pip", "requirements-bundle"}))
)
def test_a_repository_and_an_editable_folder_are_named_as_such(of_sources, tmp_path, way):
    filename, install = WAYS[way]
    environment = of_sources.environment
    again = bare_environment(tmp_path / "again", environment.variables)
    install(again, of_sources.folder / filename)
    assert contents(again.site) == contents(environment.site)
    mine = of_sources.folder.parent / "mine" / "mine.py"
    assert again.ask("import mine; print(mine.__file__)") == str(mine)


def put_pip_into(environment: Environment) -> None:
    """That of the tests: older ones than 23.3 know no repository of this machine by its name."""
    site = Path(str(metadata.distribution("pip").locate_file("")))
    for folder in (site / "pip", *site.glob("pip-*.dist-info")):
        shutil.copytree(folder, environment.site / folder.name)


@pytest.mark.long
def test_a_repository_in_a_bundle(of_sources, tmp_path):
    """It is built, and its wheel bundled; an editable folder is refused."""
    environment = of_sources.environment
    again = bare_environment(tmp_path / "again", environment.variables)
    document = tmp_path / REQUIREMENTS
    lines = (of_sources.folder / REQUIREMENTS).read_text().splitlines()
    refused = again.safe_install("bundle", "-r", str(of_sources.folder / REQUIREMENTS), "-oX.zip")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    document.write_text("\n".join(line for line in lines if not line.startswith("-e")) + "\n")
    put_pip_into(again)
    by_bundle(again, document)
    expected = {key: files for key, files in contents(environment.site).items() if key[0] != "mine"}
    assert contents(again.site) == expected


def test_the_same_environment_gives_the_same_bytes(origin):
    environment, hosts = origin.environment, origin.hosts
    first = must(environment.safe_install("export")).stdout
    assert must(environment.safe_install("export")).stdout == first
    offline = must(environment.safe_install("export", "--offline")).stdout
    known = [one["name"] for one in parse_toml(offline)["packages"]]
    # pip came with the environment
    assert known == ["given", "needed", "sample", "torch", "torch-scatter"]
    lock = parse_toml(first)
    scatter = next(one for one in lock["packages"] if one["name"] == "torch-scatter")
    address, _, sha256 = hosts.scatter.partition("#sha256=")
    assert scatter["archive"]["url"] == address
    assert scatter["archive"]["hashes"] == {"sha256": sha256}
    assert scatter["archive"]["size"] > 0
    torch = next(one for one in lock["packages"] if one["name"] == "torch")
    assert torch["index"] == f"{hosts.url}/pypi/simple"
    assert lock["tool"]["safe-install"]["torch"]["accelerator"] == "cu130"


def test_what_plain_pip_installed_is_found_on_the_index(environment, hosts):
    environment.must_pip("install", "sample==1.0")
    document = environment.document("export")
    sources = {one["name"]: one for one in document["details"]["distributions"]}
    assert document["outcome"] == "exported"
    for name in ("sample", "needed"):
        assert sources[name]["source"] == "package index"
        assert sources[name]["url"].startswith(f"{hosts.url}/served/{name}-")
    assert sources["pip"]["source"] == "not known"
    (finding,) = [one for one in document["findings"] if one["check"] == "source-unknown"]
    assert "pip " in finding["detail"]


def test_what_plain_pip_installed_out_of_a_folder(environment, hosts, made):
    """A folder of pip's find-links; an index that lists it is named before that."""
    environment.must_pip("install", "--find-links", str(made), "--no-index", "sample==1.0")
    for variables, source in (({}, "package index"), ({"PIP_NO_INDEX": "1"}, "file")):
        told = environment.document("export", PIP_FIND_LINKS=str(made), **variables)
        sources = {one["name"]: one for one in told["details"]["distributions"]}
        assert sources["sample"]["source"] == source
    assert sources["sample"]["path"] == str(made / "sample-1.0-py3-none-any.whl")
    assert sources["pip"]["source"] == "not known"


def source_of(environment, name):
    rows = environment.document("export")["details"]["distributions"]
    (row,) = [row for row in rows if row["name"] == name]
    return row


def test_a_wheel_by_its_path_is_not_the_one_that_an_index_has(environment, hosts, tmp_path):
    """Of the same name, version and tags, and with the same METADATA."""
    patched = {"needed/__init__.py": "B = 2\n"}
    mine = write_wheel(tmp_path / "mine", "needed", "1.5", patched)
    environment.must_pip("install", str(mine))
    sha256 = hashlib.sha256(mine.read_bytes()).hexdigest()
    there = source_of(environment, "needed")
    assert (there["source"], there["path"], there["sha256"]) == ("file", str(mine), sha256)
    mine.unlink()
    gone = source_of(environment, "needed")
    # pip before 23.1 writes no hash of a file down
    (written,) = environment.site.glob("needed-*.dist-info/direct_url.json")
    known = sha256 if sha256 in written.read_text() else ""
    assert (gone["source"], gone["sha256"]) == ("not known", known)
    assert gone["reason"] == (
        f"the file that it came from is gone: {mine}"
        if known
        else f"it came from {mine}, and no hash of that is known"
    )


def test_a_wheel_by_its_path_that_uv_installed(environment, hosts, made, tmp_path):
    """uv writes no hash of it down. What an index has, too, is named there."""
    mine = write_wheel(tmp_path / "mine", "own", "3.0", {"own.py": "D = 1\n"})
    (sample,) = made.glob("sample-1.0-*.whl")
    words = ["pip", "install", "--no-deps", "--python", str(environment.executable)]
    must(run_process([*uv(), *words, str(mine), str(sample)], environment.variables))
    own = source_of(environment, "own")
    assert (own["source"], own["path"]) == ("file", str(mine))
    assert own["sha256"] == hashlib.sha256(mine.read_bytes()).hexdigest()
    assert source_of(environment, "sample")["source"] == "package index"
    mine.unlink()
    assert "no hash of that is known" in source_of(environment, "own")["reason"]


def test_a_project_for_uv_names_what_nobody_requires_any_more(environment, hosts):
    def dependencies():
        words = ("export", "--format", "uv")
        text = must(environment.safe_install(*words, PIP_INDEX_URL=PYPI)).stdout
        return [line for line in parse_toml(text)["project"]["dependencies"] if "needed" in line]

    environment.must_pip("install", "sample==1.0")
    assert dependencies() == []
    environment.must_pip("uninstall", "-y", "sample")
    assert dependencies() == ["needed==1.5"]


def test_an_index_that_is_silent_is_the_reason(environment, hosts):
    environment.must_pip("install", "sample==1.0")
    hosts.misbehave("/pypi/simple/", "500")
    done = must(environment.safe_install("export", "--format", "requirements"))
    assert "# not known where from: sample 1.0 (127.0.0.1 does not answer: 500" in done.stdout
    assert "warning: not known where from:" in done.stderr


@pytest.mark.long
def test_the_environment_after_a_past_change(environment, hosts):
    must(environment.safe_install("sample<2"))
    first = environment.document("history")["details"]["history"][0]["id"]
    must(environment.safe_install("-U", "sample"))
    must(environment.safe_install("uninstall", "-y", "needed"))

    def plain(*words):
        lines = must(environment.safe_install("export", "--format", "requirements", *words)).stdout
        return [
            line.split(" @ ")[1].split("/")[-1].split("#")[0]
            for line in lines.splitlines()
            if " @ " in line
        ]

    assert plain() == ["sample-2.0-py3-none-any.whl"]
    past = ["needed-1.5-py3-none-any.whl", "sample-1.0-py3-none-any.whl"]
    assert plain("--at", first) == past
    must(environment.safe_install("undo"))
    assert plain("--at", first) == past
    refused = environment.safe_install("export", "--at", "20200101T000000Z-0000")
    assert refused.returncode == 11
    assert "has no transaction 20200101T000000Z-0000" in refused.stderr


def test_a_secret_of_an_address_is_not_written_down(environment, hosts, tmp_path):
    must(
        environment.safe_install(
            "sample<2", "--index-url", hosts.index_url.replace("//", "//me:hunter2@")
        )
    )
    for name in ("pylock", "requirements", "environment.yml", "uv", "markdown", "dockerfile"):
        variables = {"PIP_INDEX_URL": hosts.index_url.replace("//", "//me:hunter2@")}
        done = must(environment.safe_install("export", "--format", name, **variables))
        assert "hunter2" not in done.stdout + done.stderr
    assert "hunter2" not in must(environment.safe_install("history", "--json")).stdout


# --- odd environments -----------------------------------------------------------------------------


def test_an_empty_environment(make_environment):
    environment = make_environment("3.11", with_pip=False)
    done = must(environment.safe_install("export"))
    assert parse_toml(done.stdout)["packages"] == []
    for name in ("requirements", "environment.yml", "uv", "dockerfile", "markdown"):
        must(environment.safe_install("export", "--format", name))


def add_metadata(site: Path, folder: str, text: str) -> None:
    (site / folder).mkdir()
    (site / folder / "METADATA").write_text(text, encoding="utf-8")


@pytest.mark.long
def test_a_broken_environment(environment, hosts, tmp_path):
    """What others cannot read is no part of what they are told to install."""
    must(environment.safe_install("sample<2"))
    (info,) = environment.site.glob("needed-*.dist-info")
    (info / "METADATA").unlink()
    add_metadata(environment.site, "odd-1.dist-info", "Name: odd\nVersion: 1-x-y\n")
    add_metadata(environment.site, "größe-1.0.dist-info", "Name: größe\nVersion: 1.0\n")
    for version in ("1", "2"):
        text = f"Name: Twice\nVersion: {version}\n"
        add_metadata(environment.site, f"twice-{version}.dist-info", text)
    direct = '{"url": "https://h.example/x.zip", "archive_info": {"hash": "sha256=%s"}}' % (
        "0" * 64
    )
    (environment.site / "größe-1.0.dist-info" / "direct_url.json").write_text(direct)
    done = must(environment.safe_install("export"))
    document = parse_toml(done.stdout)
    assert [one["name"] for one in document["packages"]] == ["sample"]
    unknown = {one["name"]: one for one in document["tool"]["safe-install"]["unknown"]}
    assert {"odd", "größe", "twice"} <= set(unknown)
    assert "recorded twice, and named as one of the two: twice" in done.stderr
    assert unknown["größe"]["reason"] == "no project may have that name"
    assert "needed" not in unknown, "without METADATA nobody knows what it is"
    for name in ("requirements", "environment.yml", "uv", "dockerfile", "markdown"):
        text = must(environment.safe_install("export", "--format", name)).stdout
        lines = [line for line in text.splitlines() if "größe" in line]
        assert all(line.startswith(("#", "|")) for line in lines)
    # and what was written is what is there
    (tmp_path / LOCK).write_text(done.stdout, encoding="utf-8")
    same = environment.safe_install("sync", "--check", LOCK)
    assert same.returncode == 0, same.stdout + same.stderr
    command = [*our_pip(), "--python", str(environment.executable), "install", "--dry-run"]
    must(run_process([*command, "-r", LOCK], environment.variables, cwd=tmp_path))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--format", "poetry"], 2, "no such format"),
        (["-o", "missing/pylock.toml"], 2, "no file can be written there"),
        (["-o", "."], 2, "no file can be written there"),
        (["-o", "/dev/null"], 2, "without --output it is printed"),
        (["extra"], 2, "unexpected extra argument"),
    ],
)
def test_what_cannot_be_written(environment, words, status, said):
    done = environment.safe_install("export", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_a_project_of_the_person_is_not_replaced(environment, tmp_path):
    (tmp_path / "pyproject.toml").write_text("mine = true")
    done = environment.safe_install("export", "-o", "pyproject.toml")
    assert done.returncode == 2
    assert (tmp_path / "pyproject.toml").read_text() == "mine = true"


# --- pip freeze -----------------------------------------------------------------------------------


def scatter_line(lines):
    (found,) = [line for line in lines if line.startswith("torch_scatter")]
    return found


def test_pip_freeze_names_what_can_be_installed_again(origin, tmp_path):
    environment, hosts = origin.environment, origin.hosts
    frozen = environment.freeze()
    assert scatter_line(frozen) == f"torch_scatter @ {hosts.scatter}"
    assert "torch==2.13.0" in frozen, "what a package index has is as with pip"
    (info,) = environment.site.glob("torch_scatter-*.dist-info")
    rows = {entry.path: entry.hash for entry in read_record(info)}
    assert rows[f"{info.name}/direct_url.json"]
    document = tmp_path / "frozen.txt"
    kept = [line for line in frozen if not line.startswith(("pip", "setuptools", "wheel"))]
    document.write_text("\n".join(kept))
    for number, install in enumerate((by_pip, by_uv)):
        again = bare_environment(tmp_path / f"again{number}", environment.variables)
        install(again, document)
        assert contents(again.site) == contents(environment.site)
    command = [*uv(), "pip", "freeze", "--python", str(environment.executable)]
    listed = must(run_process(command, environment.variables))
    assert f"torch-scatter @ {hosts.scatter}" in listed.stdout.splitlines()


def test_pip_freeze_names_the_page_of_a_local_version(environment, hosts, made, tmp_path):
    """As `-f` and `-i https://download.pytorch.org/whl/cpu` bring it: without the words no pip finds
    it again."""
    wheel = write_wheel(made, "sample", "1.0+cu130", {"sample.py": "A = 3\n"})
    hosts.put(f"/whl/{wheel.name}", wheel.read_bytes())
    address = f"{hosts.url.replace('127.0.0.1', 'localhost')}/whl/{quote(wheel.name)}"
    page = f'<a href="{address}">{wheel.name}</a>'.encode()
    hosts.put("/whl/", page, content_type="text/html")
    must(environment.safe_install("sample==1.0+cu130", "-f", f"{hosts.url}/whl/"))
    (frozen,) = [line for line in environment.freeze() if line.startswith("sample")]
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert frozen == f"sample @ {address}#sha256={sha256}"
    document = tmp_path / "frozen.txt"
    document.write_text(frozen)
    again = bare_environment(tmp_path / "again", environment.variables)
    by_pip(again, document)
    assert contents(again.site) == contents(environment.site)


@pytest.mark.long
def test_without_a_direct_url_it_is_as_before(environment, hosts):
    must(environment.safe_install("torch", "torch-scatter", "--no-direct-url"))
    assert scatter_line(environment.freeze()) == f"torch_scatter=={SCATTER}"
    assert not list(environment.site.glob("torch_scatter-*.dist-info/direct_url.json"))
    # the history knows it all the same, and what is kept of it when it is let go
    for words in (("history",), ("history", "--prune", "--keep", "0")):
        must(environment.safe_install(*words))
        lock = parse_toml(must(environment.safe_install("export", "--offline")).stdout)
        scatter = next(one for one in lock["packages"] if one["name"] == "torch-scatter")
        assert scatter["archive"]["url"] == hosts.scatter.partition("#")[0]


@pytest.mark.long
def test_a_distribution_with_its_address_is_changed_as_any_other(environment, hosts):
    must(environment.safe_install("torch", "torch-scatter"))
    before = environment.tree()
    for words in (["torch-scatter"], ["-U", "torch-scatter"]):
        assert environment.document(*words)["outcome"] == "already-satisfied"
        assert environment.tree() == before
    satisfied = environment.pip("install", "torch-scatter")
    assert "Requirement already satisfied: torch-scatter" in satisfied.stdout
    assert environment.document("uninstall", "-y", "torch-scatter")["outcome"] == "uninstalled"
    assert not list(environment.site.glob("torch_scatter*"))
    assert environment.document("undo")["outcome"] == "undone"
    assert environment.tree() == before
    environment.must_pip("uninstall", "-y", "torch-scatter")
    assert not list(environment.site.glob("torch_scatter*"))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("version", PIPS)
def test_each_pip_installs_again_what_it_freezes(environment, hosts, tmp_path, version):
    target = tmp_path / "pip"
    fetch = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target)]
    if run_process([*fetch, f"pip=={version}"], os.environ).returncode != 0:
        pytest.skip(f"pip {version} cannot be fetched here")
    must(environment.safe_install("torch", "torch-scatter"))

    def pip(of, *words):
        variables = {**environment.variables, "PYTHONPATH": str(target)}
        return must(run_process([str(of.executable), "-m", "pip", *words], variables)).stdout

    frozen = pip(environment, "freeze")
    assert scatter_line(frozen.splitlines()) == f"torch_scatter @ {hosts.scatter}"
    document = tmp_path / "frozen.txt"
    document.write_text("\n".join(line for line in frozen.splitlines() if "torch" in line))
    again = bare_environment(tmp_path / "again", environment.variables)
    pip(again, "install", "-r", str(document))
    assert contents(again.site) == contents(environment.site)
    assert f"torch_scatter {SCATTER}" in " ".join(pip(again, "list").split())
    for words in (["torch-scatter"], ["-U", "torch-scatter"]):
        assert "already satisfied: torch-scatter" in pip(again, "install", *words)
    pip(again, "uninstall", "-y", "torch-scatter")
    assert not list(again.site.glob("torch_scatter*"))
