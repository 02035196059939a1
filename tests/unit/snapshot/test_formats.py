"""A snapshot in each form: what it says of every source, that it can be read, and that it is
canonical."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from packaging.requirements import Requirement

from safe_install.resolve.requirements_file import parse_file
from safe_install.snapshot.conda_file import ChannelPackage, render_conda_file
from safe_install.snapshot.dockerfile import base_image, render_dockerfile
from safe_install.snapshot.formats import (
    Format,
    format_of_filename,
    format_of_name,
    render_snapshot,
)
from safe_install.snapshot.markdown import render_markdown
from safe_install.snapshot.requirements_text import render_requirements
from safe_install.snapshot.toml_text import parse_toml
from safe_install.snapshot.uv_project import render_uv_project
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    TorchFacts,
    UnknownSource,
    UrlSource,
)
from tests.unit.snapshot.snapshots import (
    COMMIT,
    EVERY_SOURCE,
    HASH,
    SCATTER_URL,
    distribution,
    index_wheel,
    snapshot_of,
    snapshots,
)

HASHED = snapshot_of(
    index_wheel("pip", "26.3"),
    index_wheel("numpy", "1.26.4"),
    distribution(
        "torch-scatter",
        "2.1.2+pt21cu121",
        UrlSource(SCATTER_URL, SCATTER_URL.rpartition("/")[2].replace("%2B", "+"), HASH),
    ),
    distribution(
        "torch-sparse",
        "0.6.18",
        FileSource(
            "wheels/torch_sparse-0.6.18-py3-none-any.whl",
            "torch_sparse-0.6.18-py3-none-any.whl",
            HASH,
            is_built_here=True,
        ),
    ),
)
MINE = distribution("mine", "0.1", DirectorySource("/home/me/mine", is_editable=True))


def lines_of(text):
    return [line for line in text.splitlines() if not line.startswith("#")]


def entries_of(text):
    return parse_file("requirements.txt", read=lambda location: text, environ={}).entries


def test_requirements_have_hashes_where_all_have_one():
    assert lines_of(render_requirements(HASHED)) == [
        "--find-links wheels",
        f"numpy==1.26.4 --hash=sha256:{HASH}",
        f"torch-scatter @ {SCATTER_URL}#sha256={HASH}",
        f"torch-sparse==0.6.18 --hash=sha256:{HASH}",
    ]


def test_a_folder_of_wheels_is_named_as_a_shell_reads_it():
    source = FileSource("it's my wheels/a-1.0-py3-none-any.whl", "a-1.0-py3-none-any.whl", HASH)
    text = render_requirements(snapshot_of(distribution("a", "1.0", source)))
    parsed = parse_file("requirements.txt", read=lambda location: text, environ={})
    assert parsed.options == (("find-links", "it's my wheels"),)


def test_an_archive_that_no_name_finds_is_named_by_its_path():
    """pip and uv look through a folder of wheels by the names of the files."""
    archive = distribution("a", "1.0", FileSource("wheels/master.zip", "master.zip", HASH))
    text = render_requirements(snapshot_of(archive))
    assert lines_of(text) == [f"./wheels/master.zip --hash=sha256:{HASH}"]
    text = render_requirements(snapshot_of(archive, MINE))
    assert lines_of(text)[0] == "./wheels/master.zip"


def test_requirements_name_addresses_where_something_has_no_hash():
    mixed = dataclasses.replace(HASHED, distributions=(*HASHED.distributions, MINE))
    text = render_requirements(mixed)
    assert "--hash" not in text
    assert lines_of(text)[1].startswith("numpy @ https://files.pythonhosted.org/")
    assert lines_of(text)[1].endswith(f"#sha256={HASH}")
    assert lines_of(text)[-1] == "-e /home/me/mine"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            IndexSource("https://own/simple", "https://own/a-1.0-py3-none-any.whl", "a.whl", HASH),
            f"a @ https://own/a-1.0-py3-none-any.whl#sha256={HASH}",
        ),
        (UrlSource("https://h/a.zip", "a.zip", None), "a @ https://h/a.zip"),
        (
            UrlSource("https://h/a.zip", "a.zip", HASH, None, "s"),
            f"a @ https://h/a.zip#sha256={HASH}&subdirectory=s",
        ),
        (
            FileSource("/my files/a-1.0-py3-none-any.whl", "a.whl", HASH),
            f"a @ file:///my%20files/a-1.0-py3-none-any.whl#sha256={HASH}",
        ),
        (
            FileSource("/files/a.zip", "a.zip", HASH, subdirectory="s"),
            f"a @ file:///files/a.zip#sha256={HASH}&subdirectory=s",
        ),
        (
            FileSource("files/a.zip", "a.zip", HASH, subdirectory="s"),
            f"file:./files/a.zip#subdirectory=s --hash=sha256:{HASH}",
        ),
        (DirectorySource("/src/a"), "a @ file:///src/a"),
        (DirectorySource("/src/a", subdirectory="s"), "a @ file:///src/a#subdirectory=s"),
        (DirectorySource("a", subdirectory="s"), "file:./a#subdirectory=s"),
        (DirectorySource("a b"), "file:./a%20b"),
        (DirectorySource("a b", is_editable=True), "-e file:./a%20b"),
        (DirectorySource(".", is_editable=True), "-e ."),
        (DirectorySource("/my src/a", is_editable=True), "-e file:///my%20src/a"),
        (
            RepositorySource("git", "https://h/a.git", COMMIT, "main", "s"),
            f"a @ git+https://h/a.git@{COMMIT}#subdirectory=s",
        ),
        (
            RepositorySource("git", "https://h/a.git", COMMIT, is_editable=True),
            f"-e git+https://h/a.git@{COMMIT}#egg=a",
        ),
    ],
)
def test_a_line_for_each_source(source, line):
    text = render_requirements(snapshot_of(distribution("a", "1.0", source)))
    assert lines_of(text) == [line]


def test_what_is_not_known_is_a_comment():
    text = render_requirements(EVERY_SOURCE)
    assert '# not known where from: nobody-knows 1-2-x (its "RECORD" is missing)' in text
    assert "nobody-knows" not in "".join(lines_of(text))


# --- conda ----------------------------------------------------------------------------------------


def test_conda_gets_its_python_and_pip_the_rest():
    text = render_conda_file(HASHED)
    lines = lines_of(text)
    assert lines[:8] == [
        'name: "environment"',
        "channels:",
        '  - "conda-forge"',
        '  - "nodefaults"',
        "dependencies:",
        '  - "python=3.11.7"',
        '  - "pip"',
        "  - pip:",
    ]
    by_pip = [json.loads(line.partition("- ")[2]) for line in lines[8:]]
    assert by_pip == lines_of(render_requirements(HASHED))


def test_conda_s_own_packages_are_named_by_their_builds():
    packages = [
        ChannelPackage("python", "3.11.7", "h1_0_cpython", "conda-forge"),
        ChannelPackage("mkl", "2024.0", "h2", "https://own.example/channel"),
    ]
    by_conda = distribution("numpy", "1.26.4", UnknownSource("conda installed it"))
    assert "numpy" not in render_conda_file(snapshot_of(by_conda), packages)
    text = render_conda_file(HASHED, packages)
    assert '  - "mkl=2024.0=h2"\n  - "python=3.11.7=h1_0_cpython"\n  - pip:' in text
    assert '  - "conda-forge"\n  - "https://own.example/channel"\n  - "nodefaults"' in text
    assert "pip:" not in render_conda_file(snapshot_of(), packages)


def test_a_name_of_conda_is_no_secret_and_what_is_one_is_hidden():
    packages = [ChannelPackage("tiktoken", "0.7.0", "py311_0", "https://h/channel?token=hush")]
    source = UrlSource("https://h/a-1.0.zip?token=hush", "a-1.0.zip", HASH)
    unknown = distribution("b", "1.0", UnknownSource("https://me:hush@h does not answer"))
    text = render_snapshot(
        snapshot_of(distribution("a", "1.0", source), unknown), Format.CONDA, packages
    )
    assert '"tiktoken=0.7.0=py311_0"' in text
    assert "hush" not in text


# --- uv -------------------------------------------------------------------------------------------


def test_uv_gets_sources_of_what_no_index_has_and_constraints_of_the_rest():
    document = parse_toml(render_uv_project(EVERY_SOURCE))
    uv = document["tool"]["uv"]
    assert document["project"]["requires-python"] == "==3.11.*"
    assert "torch-scatter" in document["project"]["dependencies"]
    assert uv["constraint-dependencies"] == [
        "antlr4-python3-runtime==4.9.3",
        "numpy==1.26.4",
    ]
    assert uv["sources"]["torch-scatter"] == {"url": SCATTER_URL}
    assert uv["sources"]["torch-sparse"]["path"].startswith("wheels/")
    assert uv["sources"]["mine"] == {"path": "/home/me/mine", "editable": True}
    assert uv["sources"]["from-git"] == {
        "git": "https://github.com/x/y.git",
        "rev": COMMIT,
        "subdirectory": "sub",
    }
    assert uv["environments"] == list(EVERY_SOURCE.environments)


def test_uv_is_told_the_address_of_what_an_unknown_index_has():
    """Another project of pypi.org may have its name and its version."""
    url = "https://own.example/a-1.0-py3-none-any.whl"
    source = IndexSource("", url, "a-1.0-py3-none-any.whl", HASH)
    document = parse_toml(render_uv_project(snapshot_of(distribution("a", "1.0", source))))
    assert document["project"]["dependencies"] == ["a"]
    assert document["tool"]["uv"]["sources"] == {"a": {"url": url}}


def test_uv_is_told_the_folder_in_an_archive():
    source = UrlSource("https://h/a.zip", "a.zip", HASH, subdirectory="s")
    snapshot = snapshot_of(distribution("a", "1.0", source), requires_python="")
    document = parse_toml(render_uv_project(snapshot))
    assert document["tool"]["uv"]["sources"]["a"] == {"url": "https://h/a.zip", "subdirectory": "s"}
    assert "requires-python" not in document["project"]


def test_uv_depends_on_what_was_requested():
    wanted = index_wheel("numpy", "1.26.4", is_requested=True)
    document = parse_toml(render_uv_project(snapshot_of(wanted, index_wheel("six", "1.16"))))
    assert document["project"]["dependencies"] == ["numpy==1.26.4"]
    assert document["tool"]["uv"]["constraint-dependencies"] == ["six==1.16"]
    assert "sources" not in document["tool"]["uv"]


def test_uv_is_told_what_nothing_else_brings():
    """What was installed for an extra, or left behind: a constraint would install nothing."""
    alone = dataclasses.replace(index_wheel("pysocks", "1.7.1"), is_unrequired=True)
    document = parse_toml(render_uv_project(snapshot_of(alone, index_wheel("idna", "3.10"))))
    assert document["project"]["dependencies"] == ["pysocks==1.7.1"]
    assert document["tool"]["uv"]["constraint-dependencies"] == ["idna==3.10"]


# --- docker ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "libc", "image"),
    [
        ("3.11.7", ("glibc", "2.36"), "python:3.11.7-slim-bookworm"),
        ("3.11.7", ("glibc", "2.35"), "python:3.11.7-slim-bookworm"),
        ("3.8.18", ("glibc", "2.31"), "python:3.8.18-slim-bullseye"),
        ("3.13.0", ("glibc", "2.41"), "python:3.13.0-slim-trixie"),
        ("3.8.18", ("glibc", "2.41"), "python:3.8.18-slim-bookworm"),
        ("3.13.0", ("glibc", "2.99"), "python:3.13.0-slim-trixie"),
        ("3.12.1", ("musl", "1.2"), "python:3.12.1-alpine"),
        ("3.12.1", ("", ""), "python:3.12.1-slim-trixie"),
    ],
)
def test_the_base_image_has_the_python_and_a_c_library_that_is_new_enough(python, libc, image):
    assert base_image(snapshot_of(python=python, libc=libc)) == image


def test_a_dockerfile_installs_the_lock_and_asks_for_cuda_at_the_start():
    torch = TorchFacts("2.1.0+cu121", "cu121", "12.1")
    text = render_dockerfile(dataclasses.replace(HASHED, torch=torch))
    assert "COPY pylock.toml safe-install.pyz ./\nCOPY wheels wheels\n" in text
    assert "pip install --no-cache-dir -r pylock.toml" in text
    assert "RUN python -B safe-install.pyz verify\n" in text
    assert text.endswith('"verify", "--require-cuda"]\n')


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/opt/a-1.0-py3-none-any.whl", "wheels"),
        ("files/a-1.0-py3-none-any.whl", "files"),
    ],
)
def test_a_dockerfile_copies_the_wheels_that_its_first_line_puts_beside_it(path, folder):
    source = FileSource(path, "a-1.0-py3-none-any.whl", HASH)
    text = render_dockerfile(snapshot_of(distribution("a", "1.0", source)))
    assert f"--wheels {folder})" in text.splitlines()[0]
    assert f"COPY {folder} {folder}\n" in text


@pytest.mark.parametrize(
    ("libc", "brings"),
    [
        (("glibc", "2.36"), "apt-get install -y --no-install-recommends git "),
        (("musl", "1.2"), "apk add --no-cache git\n"),
    ],
)
def test_a_dockerfile_brings_git_where_a_commit_is_named(libc, brings):
    """And requirements: pip takes no lock file that names a repository beside files."""
    source = RepositorySource("git", "https://h/a.git", COMMIT)
    tracked = distribution("tracked", "1.0", source)
    text = render_dockerfile(snapshot_of(index_wheel("numpy", "1.26.4"), tracked, libc=libc))
    assert brings in text
    assert "-r requirements.txt" in text and "pylock" not in text
    assert text.index(brings) < text.index("COPY") < text.index("pip install")


def test_a_dockerfile_copies_the_sources_that_lie_beside_it():
    mine = distribution("mine", "0.1", DirectorySource("src/mine", is_editable=True))
    text = render_dockerfile(snapshot_of(index_wheel("numpy", "1.26.4"), mine))
    assert "COPY src/mine src/mine\n" in text and "-r requirements.txt" in text
    assert "RUN apt-get" not in text
    spaced = distribution("mine", "0.1", DirectorySource("my src", is_editable=True))
    assert 'COPY ["my src", "my src"]\n' in render_dockerfile(snapshot_of(spaced))
    assert "COPY /home" not in render_dockerfile(snapshot_of(MINE))


def test_a_dockerfile_for_an_old_python_has_requirements_and_one_without_cuda_asks_for_none():
    torch = dataclasses.replace(EVERY_SOURCE.torch, cuda="")
    text = render_dockerfile(snapshot_of(python="3.8.18", torch=torch))
    assert "-r requirements.txt" in text and "pylock" not in text
    assert "--require-cuda" not in text
    assert "verify" not in render_dockerfile(snapshot_of())


# --- markdown -------------------------------------------------------------------------------------


def test_markdown_names_torch_cuda_driver_gpu_and_every_version():
    snapshot = dataclasses.replace(EVERY_SOURCE, driver="535.104.05", gpus=("A100 (8.0)",))
    text = render_markdown(snapshot)
    for row in (
        "| Python | 3.11.7 (linux_x86_64, glibc 2.36) |",
        "| torch | 2.1.0+cu121 |",
        "| CUDA of torch | 12.1 |",
        "| NVIDIA driver | 535.104.05 |",
        "| GPU | A100 (8.0) |",
        "| numpy | 1.26.4 | https://pypi.org/simple | 0123456789ab |",
        "| torch-sparse | 0.6.18 | built here | 0123456789ab |",
        "| mine | 0.1 | /home/me/mine (editable) |  |",
    ):
        assert row in text.splitlines()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") in (3, 5) for line in rows)


def test_a_cell_of_a_table_stays_one():
    odd = distribution("a", "1|0\n<b>", DirectorySource("/a|b"))
    row = render_markdown(snapshot_of(odd)).splitlines()[-1]
    assert row == "| a | 1\\|0 &lt;b> | /a\\|b |  |"


# --- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "wanted"),
    [
        ("pylock.toml", Format.PYLOCK),
        ("pylock.gpu.toml", Format.PYLOCK),
        ("lock.toml", Format.PYLOCK),
        ("pyproject.toml", Format.UV),
        ("requirements.txt", Format.REQUIREMENTS),
        ("constraints.in", Format.REQUIREMENTS),
        ("environment.yml", Format.CONDA),
        ("env.YAML", Format.CONDA),
        ("Dockerfile", Format.DOCKERFILE),
        ("Dockerfile.gpu", Format.DOCKERFILE),
        ("gpu.Dockerfile", Format.DOCKERFILE),
        ("appendix.md", Format.MARKDOWN),
        ("environment", None),
        ("my-dockerfile", None),
    ],
)
def test_the_name_of_a_file_says_its_format(filename, wanted):
    assert format_of_filename(filename) is wanted


def test_each_format_has_a_name():
    for wanted in Format:
        assert format_of_name(wanted.value.upper()) is wanted
    assert format_of_name("poetry") is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_any_snapshot_is_written_in_every_form_and_always_alike(snapshot):
    for wanted in Format:
        text = render_snapshot(snapshot, wanted)
        assert text == render_snapshot(snapshot, wanted)
        assert text.endswith("\n")
        text.encode("utf-8")
    parse_toml(render_snapshot(snapshot, Format.UV))
    named = {one.name for one in snapshot.distributions}
    for entry in entries_of(render_snapshot(snapshot, Format.REQUIREMENTS)):
        if not entry.editable and not entry.text.startswith(("/", ".")):
            assert Requirement(entry.text).name in named


def test_no_secret_gets_into_any_form():
    leaky = snapshot_of(
        distribution(
            "a", "1.0", UrlSource("https://me:hunter2@h/a.zip?token=hunter2", "a.zip", HASH)
        ),
        distribution("b", "1.0", RepositorySource("git", "https://me:hunter2@h/b.git", COMMIT)),
    )
    for wanted in Format:
        assert "hunter2" not in render_snapshot(leaky, wanted)
