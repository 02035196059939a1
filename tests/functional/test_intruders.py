"""Who else writes into the environment while a change is made: a build, an import, another
installer."""

from __future__ import annotations

import re
import shutil
import sys

import pytest

from safe_install.wheels.archive import hash_file
from tests.functional.conftest import read_document, run_process
from tests.namespaces import LIKE_DOCKER, need_landlock, need_mounts
from tests.unit.wheels.crafted import make_wheel

TORCH = "torch==1.8.1+cu111"
# Further ways to what is tried on every Python in one way.
any_python = pytest.mark.any_python
FURTHER = (any_python, pytest.mark.long)
PURE = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

DEMO = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"

BACKEND = """
import os, sys, sysconfig, zipfile

INTRUSION = {intrusion!r}
WHEN = {when!r}


def intrude(moment):
    if moment == WHEN:
        exec(INTRUSION, dict(site=os.environ["SITE_OF_THE_TEST"]))


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    intrude("metadata")
    os.mkdir(os.path.join(folder, "intruder-1.0.dist-info"))
    with open(os.path.join(folder, "intruder-1.0.dist-info", "METADATA"), "w") as stream:
        stream.write("Metadata-Version: 2.1\\nName: intruder\\nVersion: 1.0\\n")
    return "intruder-1.0.dist-info"


def build_editable(folder, config_settings=None, metadata_directory=None):
    return build_wheel(folder)


def prepare_metadata_for_build_editable(folder, config_settings=None):
    return prepare_metadata_for_build_wheel(folder)


def build_wheel(folder, config_settings=None, metadata_directory=None):
    intrude("wheel")
    name = "intruder-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        files = {{
            "intruder.py": "x = 1\\n",
            "intruder-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: intruder\\nVersion: 1.0\\n",
            "intruder-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        }}
        rows = ""
        for path, text in files.items():
            import base64, hashlib
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows += "%s,sha256=%s,%d\\n" % (path, digest, len(text))
            archive.writestr(path, text)
        archive.writestr("intruder-1.0.dist-info/RECORD", rows + "intruder-1.0.dist-info/RECORD,,\\n")
    return name
"""
INTRUSIONS = {
    "torch's version": (
        "open(site + '/torch/version.py', 'a').write('# moved')",
        "torch/version.py",
    ),
    "a file in torch": (
        "open(site + '/torch/extra_hook.py', 'w').write('x = 1')",
        "torch/extra_hook.py",
    ),
    "a .pth file": ("open(site + '/hook.pth', 'w').write('import sys')", "hook.pth"),
    "a distribution": ("import os; os.mkdir(site + '/other-1.0.dist-info')", "other-1.0.dist-info"),
}


def make_project(folder, intrusion, when):
    project = folder / "intruder"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (project / "backend.py").write_text(BACKEND.format(intrusion=intrusion, when=when))
    return project


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a file in torch", ("--dry-run",)),
        ("torch's version", ()),
        pytest.param("torch's version", ("--dry-run",), marks=FURTHER),
        pytest.param("a .pth file", ("--dry-run",), marks=FURTHER),
        pytest.param("a distribution", ("--dry-run",), marks=FURTHER),
    ],
)
def test_a_build_that_writes_into_the_environment_is_named(make_environment, tmp_path, what, words):
    environment = make_environment("3.11", TORCH)
    code, path = INTRUSIONS[what]
    project = make_project(tmp_path, code, "metadata")
    document = read_document(
        run_unprotected(environment, "install", "--json", *words, str(project))
    )
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert f"site-packages/{path}" in document["error"]["message"]
    assert "built meanwhile: intruder" in document["error"]["message"]
    brings_back = "To bring torch back: safe-install --force-reinstall --no-deps torch==1.8.1+cu111"
    assert (brings_back in document["error"]["hint"]) == (what != "a distribution")
    assert not any(line.startswith("intruder") for line in environment.versions())


@pytest.mark.parametrize("option", [(), pytest.param(("-e",), marks=FURTHER)])
def test_a_build_of_the_wheel_that_does_it_is_named_too(make_environment, tmp_path, option):
    environment = make_environment("3.11", TORCH)
    code, path = INTRUSIONS["torch's version"]
    project = make_project(tmp_path, code, "wheel")
    completed = run_unprotected(environment, "install", *option, str(project))
    assert completed.returncode == 11
    assert f"site-packages/{path}" in completed.stderr
    assert "Refused: nothing was installed into" in completed.stderr
    assert not (environment.site / "intruder.py").exists()


@pytest.mark.parametrize(
    ("moment", "words"),
    [("wheel", ()), pytest.param("metadata", ("--dry-run",), marks=FURTHER)],
)
def test_a_build_that_fails_after_it_did_it_is_named(make_environment, tmp_path, moment, words):
    environment = make_environment("3.11", TORCH)
    code, path = INTRUSIONS["torch's version"]
    project = make_project(tmp_path, f"{code}; raise SystemExit(3)", moment)
    completed = run_unprotected(environment, "install", *words, str(project))
    assert completed.returncode == 11, completed.stderr
    assert f"site-packages/{path}" in completed.stderr


# --- where the environment is read-only to builds -------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("metadata", ("--dry-run",)),
        ("wheel", ("--no-build-isolation",)),
        pytest.param("metadata", (), marks=FURTHER),
        pytest.param("wheel", ("-e",), marks=FURTHER),
    ],
)
def test_a_build_cannot_write_into_the_environment(make_environment, tmp_path, moment, words):
    environment = make_environment("3.11", TORCH)
    need_mounts(environment.site)
    before = environment.tree()
    project = make_project(tmp_path, INTRUSIONS["torch's version"][0], moment)
    completed = environment.safe_install(
        "install", *words, str(project), SITE_OF_THE_TEST=str(environment.site)
    )
    assert_named(completed, environment)
    assert environment.tree() == before


def assert_named(completed, environment):
    """The refusal names the build, what it did, and pip's own failure."""
    assert completed.returncode == 11, completed.stderr
    assert re.search(
        r"the build of \S*intruder\S* tried to write into the environment", completed.stderr
    )
    assert f"{environment.site}/torch/version.py" in completed.stderr
    assert "Refused: nothing was" in completed.stderr


@any_python
@pytest.mark.long
def test_a_build_that_fails_for_another_reason_is_a_failure_of_pip(make_environment, tmp_path):
    """Of the environment it only speaks; where it could not write lies elsewhere."""
    environment = make_environment("3.11", TORCH)
    code = f"raise SystemExit('Permission denied: /etc/x, looked for {environment.prefix}')"
    completed = environment.safe_install(
        "install", str(make_project(tmp_path, code, "metadata")), SITE_OF_THE_TEST=""
    )
    assert completed.returncode == 1, completed.stderr


# --- where neither mounts nor namespaces are to be had, as in Docker ------------------------------


def run_like_docker(environment, *words, **variables):
    """The tool with Docker's rights; TMPDIR is no folder above the environment."""
    temporary = environment.prefix.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    variables = {
        **environment.variables,
        "SITE_OF_THE_TEST": str(environment.site),
        "TMPDIR": str(temporary),
    }
    command = [sys.executable, "-I", str(LIKE_DOCKER), sys.executable, "-m", "safe_install", *words]
    return run_process(command, variables, cwd=environment.prefix.parent)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("metadata", ("--dry-run",)),
        ("wheel", ("--no-build-isolation", "-e")),
        pytest.param("wheel", (), marks=FURTHER),
    ],
)
def test_a_build_in_docker_cannot_write_into_the_environment(
    make_environment, tmp_path, moment, words
):
    need_landlock()
    environment = make_environment("3.11", TORCH)
    before = environment.tree()
    project = make_project(tmp_path, INTRUSIONS["torch's version"][0], moment)
    assert_named(run_like_docker(environment, "install", *words, str(project)), environment)
    assert environment.tree() == before


@pytest.mark.parametrize("option", [("-e",), pytest.param((), marks=FURTHER)])
def test_a_build_in_docker_that_keeps_to_itself_is_installed(make_environment, tmp_path, option):
    """It writes into its sources, TMPDIR and HOME, and pip into its cache and the stage."""
    environment = make_environment("3.11", TORCH)
    code = "import os, tempfile; os.mkdir('build-of-test'); tempfile.mkdtemp(); os.mkdir(os.path.expanduser('~/.new'))"
    project = make_project(tmp_path, code, "wheel")
    completed = run_like_docker(environment, "install", *option, str(project))
    assert completed.returncode == 0, completed.stderr
    assert (project / "build-of-test").is_dir()


@any_python
@pytest.mark.long
def test_where_the_sources_hold_the_environment_a_build_in_docker_is_compared_with_it(
    make_environment, tmp_path
):
    """`.venv` in the project: Landlock cannot keep them apart."""
    project = make_project(tmp_path, INTRUSIONS["torch's version"][0], "wheel")
    environment = make_environment("3.11", TORCH, name="intruder/.venv")
    completed = run_like_docker(environment, "install", str(project))
    assert completed.returncode == 11
    assert "something else changed the environment while this ran" in completed.stderr


@pytest.mark.parametrize("option", [(), pytest.param(("-e",), marks=FURTHER)])
def test_sources_in_site_packages_are_built_where_they_lie(make_environment, option):
    environment = make_environment("3.11", TORCH)
    project = make_project(environment.site, "import os; os.mkdir('build-of-test')", "wheel")
    completed = environment.safe_install("install", *option, str(project), SITE_OF_THE_TEST="/")
    assert completed.returncode == 0, completed.stderr
    assert (project / "build-of-test").is_dir()


@any_python
@pytest.mark.long
def test_a_build_that_runs_pip_moves_nothing(make_environment, tmp_path):
    """It does not look whether pip succeeded, as many a setup.py does not."""
    environment = make_environment("3.11", TORCH)
    need_mounts(environment.site)
    code = "import os, subprocess; subprocess.call([os.environ['PYTHON_OF_THE_TEST'], '-m', 'pip', 'install', {!r}])"
    project = make_project(tmp_path, code.format("torch==2.4.1"), "metadata")
    variables = {"PYTHON_OF_THE_TEST": str(environment.executable), "SITE_OF_THE_TEST": ""}
    completed = environment.safe_install("install", str(project), **variables)
    assert completed.returncode == 0, completed.stderr
    assert environment.cuda() == "1.8.1+cu111 True"
    assert any(line.startswith("intruder @") for line in environment.freeze())


def run_unprotected(environment, *words):
    """The tool where the system allows no mount namespace."""
    code = (
        "import sys; from safe_install.system import read_only; from safe_install.cli.main import "
        "main; "
        "read_only.Protection.wrap = lambda self, command: list(command); sys.exit(main())"
    )
    variables = {**environment.variables, "SITE_OF_THE_TEST": str(environment.site)}
    return run_process(
        [sys.executable, "-c", code, *words], variables, cwd=environment.prefix.parent
    )


def test_a_build_that_keeps_to_itself_is_installed(make_environment, tmp_path):
    environment = make_environment("3.11", TORCH)
    document = environment.document(
        "install", str(make_project(tmp_path, "pass", "wheel")), SITE_OF_THE_TEST="/"
    )
    assert document["exit_code"] == 0


@any_python
@pytest.mark.long
@pytest.mark.parametrize("path", ["torch/extra_hook.py", "torch/version.py"])
def test_a_wheel_that_writes_into_a_torch_without_metadata_is_refused(
    make_environment, tmp_path, path
):
    """-I of a distribution without a RECORD takes the files that nobody lists: not those of
    torch."""
    environment = make_environment("3.11", TORCH)
    for folder in environment.site.glob("torch-*.dist-info"):
        shutil.rmtree(folder)
    bare = environment.site / "demo-0.5.dist-info"
    bare.mkdir()
    (bare / "METADATA").write_text("Metadata-Version: 2.1\nName: demo\nVersion: 0.5\n")
    content = (environment.site / "torch" / "version.py").read_text() + "moved = True\n"
    before = environment.tree()
    files = {path: content, "demo/__init__.py": ""}
    wheel = make_wheel(
        tmp_path, files, filename="demo-1.0-py3-none-any.whl", metadata=DEMO, wheel=PURE
    )
    completed = environment.safe_install("install", "-I", str(wheel))
    assert completed.returncode == 11, completed.stdout + completed.stderr
    assert f"{path} would be loaded by torch, which does not bring it" in completed.stderr
    assert environment.tree() == before


# torchdata is a project that the check imports.
@pytest.mark.parametrize(
    "what",
    [
        "a .pth file",
        pytest.param("torch's version", marks=FURTHER),
        pytest.param("a file in torch", marks=FURTHER),
    ],
)
def test_an_import_that_writes_into_the_environment_is_rolled_back(
    make_environment, tmp_path, what
):
    environment = make_environment("3.11", TORCH)
    code, path = INTRUSIONS[what]
    wheel = torchdata(tmp_path, code)
    completed = environment.safe_install(
        "install", str(wheel), SITE_OF_THE_TEST=str(environment.site)
    )
    assert completed.returncode == 12
    assert f"site-packages/{path}" in completed.stderr
    assert "not as before" in completed.stderr
    assert "exactly as it was" not in completed.stdout
    assert not (environment.site / "torchdata").exists()
    assert environment.safe_install("recover").returncode == 0


def test_an_import_that_keeps_to_itself_is_kept(make_environment, tmp_path):
    environment = make_environment("3.11", TORCH)
    completed = environment.safe_install(
        "install", str(torchdata(tmp_path, "pass")), SITE_OF_THE_TEST="/"
    )
    assert completed.returncode == 0, completed.stderr


@any_python
@pytest.mark.long
def test_what_another_installer_adds_meanwhile_is_named_and_kept(make_environment, tmp_path):
    """It may be that installer's: a roll back could take its files away with ours."""
    environment = make_environment("3.11", TORCH)
    code, path = INTRUSIONS["a distribution"]
    completed = environment.safe_install(
        "install", str(torchdata(tmp_path, code)), SITE_OF_THE_TEST=str(environment.site)
    )
    assert completed.returncode == 0, completed.stderr
    assert f"site-packages/{path}" in completed.stderr
    assert (environment.site / "torchdata").exists()


@any_python
@pytest.mark.long
def test_an_import_that_replaces_another_file_is_rolled_back(make_environment, tmp_path):
    environment = make_environment("3.11", TORCH)
    (environment.site / "mine.py").write_text("x = 1\n")
    wheel = torchdata(tmp_path, "open(site + '/mine.py', 'w').write('x = 23')")
    completed = environment.safe_install(
        "install", str(wheel), SITE_OF_THE_TEST=str(environment.site)
    )
    assert completed.returncode == 12, completed.stderr
    assert "site-packages/mine.py" in completed.stderr


def test_an_import_that_rewrites_its_own_file_is_rolled_back_whole(make_environment, tmp_path):
    environment = make_environment("3.11", TORCH)
    before = environment.tree()
    wheel = torchdata(
        tmp_path,
        "open(site + '/torchdata/__init__.py', 'w').write('x = 2')\nraise OSError('broken')",
    )
    completed = environment.safe_install(
        "install", str(wheel), SITE_OF_THE_TEST=str(environment.site)
    )
    assert completed.returncode == 12, completed.stdout + completed.stderr
    assert environment.tree() == before
    assert environment.safe_install("recover").returncode == 0


def torchdata(folder, code):
    return make_wheel(
        folder,
        {
            "torchdata/__init__.py": f"import os\nsite = os.environ['SITE_OF_THE_TEST']\n{code}\n",
            # What the check computes with it.
            "torchdata/stateful_dataloader.py": "def StatefulDataLoader(data, batch_size):\n    return data\n",
        },
        filename="torchdata-0.3.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: torchdata\nVersion: 0.3.0\n",
        wheel=PURE,
        dist_info="torchdata-0.3.0.dist-info",
    )


REPLACE = """
import os
wheel, other = {wheel!r}, {other!r}
if {in_place}:
    content = open(other, 'rb').read()
    open(wheel, 'r+b').write(content)
    os.truncate(wheel, len(content))
else:
    os.replace(other, wheel)
"""


@pytest.mark.parametrize(
    ("named", "in_place"),
    [
        ("path", False),
        pytest.param("address", True, marks=FURTHER),
        pytest.param("find-links", True, marks=FURTHER),
    ],
)
def test_a_wheel_that_is_replaced_after_its_check_is_not_the_one_that_comes(
    make_environment, tmp_path, named, in_place
):
    """The build of another project, a share that is written to: what was checked is what is
    unpacked and recorded."""
    environment = make_environment("3.11", TORCH)
    links, elsewhere = tmp_path / "links", tmp_path / "elsewhere"
    links.mkdir(), elsewhere.mkdir()
    options = {"filename": "demo-1.0-py3-none-any.whl", "metadata": DEMO, "wheel": PURE}
    wheel = make_wheel(links, {"demo/__init__.py": "x = 'the checked one'\n"}, **options)
    other = make_wheel(elsewhere, {"demo/__init__.py": "x = 'another one'\n"}, **options)
    sha256 = hash_file(wheel)
    code = REPLACE.format(wheel=str(wheel), other=str(other), in_place=in_place)
    project = make_project(tmp_path, code, "wheel")
    requirement = {
        "path": [str(wheel)],
        "address": [f"demo @ {wheel.as_uri()}#sha256={sha256}"],
        "find-links": ["--find-links", str(links), "demo"],
    }[named]
    completed = environment.safe_install(
        "install", *requirement, str(project), SITE_OF_THE_TEST="/"
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert hash_file(wheel) != sha256, "the test has replaced nothing"
    assert environment.ask("import demo; print(demo.x)") == "the checked one"
    if named != "find-links":
        assert sha256 in (environment.site / "demo-1.0.dist-info" / "direct_url.json").read_text()
