"""`alias pip=safe-install`: the same command line in two equal environments, once by pip and once
by safe-install.

Exit status, the installed files with their contents, `pip freeze` and pip's last word must be the
same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

import pytest

from tests.choice import long_unless
from tests.differential.packages import write_alpha_and_what_it_needs
from tests.functional.conftest import Environment, any_python, run_process
from tests.lab.wheels import write_wheel

PYTHON = any_python()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Local wheels, projects and requirements files."""
    root = tmp_path_factory.mktemp("drop-in")
    wheels = root / "wheels"
    write_alpha_and_what_it_needs(wheels)
    write_wheel(
        wheels, "needs-nothing-there", "1.0", {"nothing.py": ""}, requires=["no-such-project"]
    )
    write_wheel(wheels, "future", "1.0", {"future.py": ""}, metadata="Requires-Python: >=9\n")
    _write_project(root / "project")
    (root / "requirements.txt").write_text("alpha==1.0  # pinned\nbeta<2\n")
    (root / "editable.txt").write_text(f"-e {root}/project\nalpha\n")
    (root / "project.txt").write_text(f"{root}/project\n")
    (root / "nested.txt").write_text(
        f"-r requirements.txt\n--find-links {wheels}\ngamma ; python_version >= '3'\n"
    )
    (root / "settings.txt").write_text(
        f"{root}/project --config-settings one=1 -C 'two=a b'\nbeta==1.0\n"
    )
    (root / "constraints.txt").write_text("beta==1.0\n")
    (root / "good-hash.txt").write_text(
        f"beta==1.0 --hash=sha256:{_sha256(wheels / 'beta-1.0-py3-none-any.whl')}\n"
    )
    (root / "bad-hash.txt").write_text(f"beta==1.0 --hash=sha256:{'0' * 64}\n")
    return root


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_project(project: Path) -> None:
    """A project whose build backend is its own, so that nothing has to be fetched to build it."""
    project.mkdir()
    (project / "delta.py").write_text("value = 4\n")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "delta"\nversion = "4.0"\n'
    )
    (project / "backend.py").write_text(BACKEND)


BACKEND = """
import base64, hashlib, os, zipfile
INFO = "delta-4.0.dist-info/"
HERE = os.path.dirname(os.path.abspath(__file__))
def _digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
def _build(folder, name, text):
    files = {
        name: text,
        INFO + "METADATA": "Metadata-Version: 2.1\\nName: delta\\nVersion: 4.0\\n",
        INFO + "WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    rows = ["%s,sha256=%s,%d\\n" % (path, _digest(text), len(text)) for path, text in files.items()]
    files[INFO + "RECORD"] = "".join(rows) + INFO + "RECORD,,\\n"
    wheel = "delta-4.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel
def build_wheel(folder, config_settings=None, metadata_directory=None):
    text = open(os.path.join(HERE, "delta.py")).read() + "settings = %r\\n" % (config_settings or {},)
    return _build(folder, "delta.py", text)
def build_editable(folder, config_settings=None, metadata_directory=None):
    return _build(folder, "__editable__delta.pth", HERE + "\\n")
"""


class Seen(NamedTuple):
    """What a command line did, less what must differ: the folder of the environment."""

    status: int
    last_words: List[str]
    files: Dict[str, Tuple[object, ...]]


LAST_WORDS = {
    "install": (
        "Successfully installed",
        "Would install",
        "Requirement already satisfied",
        "ERROR: No matching",
    ),
    "uninstall": ("Found existing installation", "Successfully uninstalled", "WARNING: Skipping"),
}


def see(
    environment: Environment, run: str, commands: Sequence[Sequence[str]], **variables: str
) -> Seen:
    """Run all commands; the words and the status of the last one count."""
    for words in commands:
        act = environment.pip if run == "pip" else environment.safe_install
        completed = act(*words, **variables)
    text = (completed.stdout + completed.stderr).replace(str(environment.prefix), "<prefix>")
    text = text.replace(f"./{environment.prefix.name}/", "<prefix>/")
    lines = [line.strip() for line in text.splitlines()]
    last = sorted(line for line in lines if line.startswith(LAST_WORDS[words[0]]))
    files = {
        path: row
        for path, row in environment.tree().items()
        if not path.endswith("/RECORD") and path != "."
    }
    for path in files:
        whole = environment.prefix / path
        if whole.is_file() and str(environment.prefix).encode() in whole.read_bytes():
            files[path] = ("text", whole.read_text().replace(str(environment.prefix), "<prefix>"))
    records = environment.site.glob("*.dist-info/RECORD")
    files.update({f"{path.parent.name}/RECORD": tuple(_rows(path)) for path in records})
    if _writes_old_direct_urls(environment):
        _drop_hashes_of_direct_urls(environment, files)
    return Seen(completed.returncode, last, files)


def _writes_old_direct_urls(environment: Environment) -> bool:
    """pip before 23.1 (Debian 12 has 23.0.1) knows one hash in direct_url.json; ours is that of
    today's pip."""
    (info,) = environment.site.glob("pip-*.dist-info")
    major, minor = info.name.split("-")[1].split(".")[:2]
    return (int(major), int(minor)) < (23, 1)


def _drop_hashes_of_direct_urls(
    environment: Environment, files: Dict[str, Tuple[object, ...]]
) -> None:
    """What is left of direct_url.json is its address; RECORD's row of it has the name alone."""
    for path in environment.site.glob("*.dist-info/direct_url.json"):
        (key,) = [key for key in files if key.endswith(f"{path.parent.name}/direct_url.json")]
        files[key] = (
            "direct",
            json.loads(path.read_text())["url"].replace(str(environment.prefix), "<prefix>"),
        )
        record = f"{path.parent.name}/RECORD"
        files[record] = tuple(
            str(row).split(",")[0] if "/direct_url.json" in str(row) else row
            for row in files[record]
        )


def _rows(record: Path) -> List[str]:
    """RECORD without order; bytecode and scripts (whose first line names the environment) without
    hashes."""
    lines = record.read_text().splitlines()
    return sorted(
        line.split(",")[0] if "/bin/" in line or ".pyc" in line else line for line in lines
    )


@pytest.fixture
def pair(make_environment, folder) -> Tuple[Environment, Environment]:
    """Two equal environments."""
    links = {"PIP_FIND_LINKS": str(folder / "wheels")}
    return make_environment(PYTHON, name="one", **links), make_environment(
        PYTHON, name="two", **links
    )


def compare(
    pair: Tuple[Environment, Environment],
    folder: Path,
    commands: Sequence[Sequence[str]],
    **variables: str,
):
    """Both did the same; what safe-install did."""
    seen = []
    for environment, run in zip(pair, ("pip", "safe-install")):
        filled = [
            [
                word.replace("{folder}", str(folder)).replace("{prefix}", str(environment.prefix))
                for word in words
            ]
            for words in commands
        ]
        seen.append(see(environment, run, filled, **variables))
    by_pip, ours = seen
    assert ours.status == by_pip.status
    assert sorted(ours.files) == sorted(by_pip.files)
    assert {path: row for path, row in ours.files.items() if row != by_pip.files[path]} == {}
    assert ours.last_words == by_pip.last_words
    return ours


@pytest.fixture(scope="module")
def installed(tmp_path_factory, make_template, folder, lab_wheels, driver) -> Environment:
    """One environment with alpha, which nothing here changes."""
    from tests.functional.conftest import clean_variables

    prefix = tmp_path_factory.mktemp("installed") / "env"
    shutil.copytree(make_template(PYTHON, ()), prefix, symlinks=True)
    variables = clean_variables(driver, folder / "wheels", prefix.parent)
    environment = Environment(prefix, variables)
    environment.must_pip("install", "alpha")
    return environment


def test_version_is_our_own(installed):
    assert installed.safe_install("--version").stdout.startswith("safe-install ")


def test_a_mistyped_command_installs_nothing(installed):
    before = installed.tree()
    assert installed.safe_install("instal", "beta").returncode == 2
    assert installed.safe_install("statsu").returncode == 2
    assert installed.safe_install("torch-scater").returncode == 2
    assert installed.safe_install("nonsense").returncode == installed.pip("nonsense").returncode
    assert installed.tree() == before


# --- what only a newer pip reads ------------------------------------------------------------------

GROUPS = """
[dependency-groups]
some = ["beta==1.0"]
"""
SCRIPT_WITH_REQUIREMENTS = """
# /// script
# dependencies = ["beta==1.0"]
# ///
"""


@pytest.fixture(scope="module")
def newest_pip(tmp_path_factory) -> Path:
    """The newest pip of the package index, as a wheel."""
    folder = tmp_path_factory.mktemp("pip")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        "pip>=26",
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("pip-*.whl"))


@pytest.fixture
def newest_pair(make_environment, folder, newest_pip) -> Tuple[Environment, Environment]:
    """Two equal environments with the newest pip."""
    upgrade = f"--quiet --no-index --upgrade {newest_pip}"
    links = {"PIP_FIND_LINKS": str(folder / "wheels")}
    one = make_environment(PYTHON, upgrade, name="one", **links)
    return one, make_environment(PYTHON, upgrade, name="two", **links)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(["--group", "{folder}/groups/pyproject.toml:some"], 0, id="a group"),
        pytest.param(
            ["--group", "{folder}/groups/pyproject.toml:some", "gamma"],
            0,
            id="a group and a name",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ["--group", "{folder}/groups/pyproject.toml:missing"],
            1,
            id="a missing group",
            marks=pytest.mark.long,
        ),
        pytest.param(["--requirements-from-script", "{folder}/groups/script.py"], 0, id="a script"),
        pytest.param(
            ["--requirements-from-script", "{folder}/groups/none.py"],
            1,
            id="a missing script",
            marks=pytest.mark.long,
        ),
    ],
)
def test_groups_and_scripts_are_read(newest_pair, folder, words, status):
    (folder / "groups").mkdir(exist_ok=True)
    (folder / "groups" / "pyproject.toml").write_text(GROUPS)
    (folder / "groups" / "script.py").write_text(SCRIPT_WITH_REQUIREMENTS)
    ours = compare(newest_pair, folder, [["install", *words]])
    assert ours.status == status
    assert any(path.endswith("site-packages/beta.py") for path in ours.files) == (status == 0)


ONLY_OURS_TO_READ = {
    "a pipe": 'cat "$FILE" | "$@" -r /dev/stdin',
    "a file that is redirected": '"$@" -r /dev/stdin <"$FILE"',
    "a substituted process": '"$@" -r <(cat "$FILE")',
    "constraints": 'cat "$FILE" | "$@" alpha -c/dev/stdin',
}


@pytest.mark.parametrize("name", long_unless("a pipe".__eq__, ONLY_OURS_TO_READ))
def test_requirements_that_can_be_read_once(pair, folder, name):
    """And pip, which runs in a process of its own, reads them, too."""
    line = ONLY_OURS_TO_READ[name]
    programs = (
        [str(pair[0].executable), "-m", "pip"],
        [sys.executable, "-m", "safe_install", "--python", str(pair[1].executable)],
    )
    for environment, program in zip(pair, programs):
        variables = {**environment.variables, "FILE": str(folder / "requirements.txt")}
        command = ["timeout", "60", *program, "install"]
        done = run_process(["bash", "-c", line, "bash", *command], variables)
        assert done.returncode == 0, done.stderr
        assert "alpha==1.0" in environment.versions()


# --- settings -------------------------------------------------------------------------------------

VARIABLES = {
    "PIP_NO_DEPS": "1",
    "PIP_PRE": "1",
    "PIP_CONSTRAINT": "{folder}/constraints.txt",
    "PIP_REQUIREMENT": "{folder}/requirements.txt",
    "PIP_NO_COMPILE": "1",
    "PIP_QUIET": "1",
    "PIP_TARGET": "{folder}/../target",
    "PIP_DRY_RUN": "1",
}


@pytest.mark.parametrize("variable", long_unless("PIP_TARGET".__eq__, VARIABLES))
def test_variables_are_honoured(pair, folder, variable):
    filled = {variable: VARIABLES[variable].replace("{folder}", str(folder))}
    compare(pair, folder, [["install", "alpha"]], **filled)


@pytest.mark.long
def test_config_settings_of_a_variable_reach_the_build(pair, folder):
    ours = compare(pair, folder, [["install", "{folder}/project"]], PIP_CONFIG_SETTINGS="one=1")
    assert ours.status == 0
    (built,) = (environment.site / "delta.py" for environment in pair[1:])
    assert "settings = {'one': '1'}" in built.read_text()


@pytest.mark.long
def test_a_configuration_file_is_honoured(pair, folder, tmp_path):
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        f"[global]\nfind-links = {folder}/wheels\nno-index = true\n[install]\nno-deps = true\n"
    )
    settings = {"PIP_CONFIG_FILE": str(configuration), "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}
    ours = compare(pair, folder, [["install", "alpha==1.0"]], **settings)
    assert ours.last_words == ["Successfully installed alpha-1.0"]


def test_the_configuration_file_of_the_environment_is_honoured(pair, folder):
    for environment in pair:
        (environment.prefix / "pip.conf").write_text("[install]\nno-deps = yes\n")
    # /dev/null as PIP_CONFIG_FILE would switch every file off.
    ours = compare(pair, folder, [["install", "alpha"]], PIP_CONFIG_FILE="")
    assert ours.last_words == ["Successfully installed alpha-1.5"]


# --- other interpreters ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [pytest.param("3.8", marks=pytest.mark.long), PYTHON])
def test_an_environment_without_pip(make_environment, folder, version):
    environment = make_environment(version, with_pip=False, PIP_FIND_LINKS=str(folder / "wheels"))
    before = environment.tree()
    completed = environment.safe_install("install", "alpha==1.0")
    assert completed.returncode == 0, completed.stderr
    assert "Successfully installed alpha-1.0 beta-2.0" in completed.stdout
    assert environment.ask("import alpha; alpha.main()") == "alpha"
    assert sorted(environment.safe_install("freeze").stdout.splitlines()) == [
        "alpha==1.0",
        "beta==2.0",
    ]
    assert environment.safe_install("undo").returncode == 0
    assert environment.tree() == before


@pytest.mark.parametrize("form", long_unless("folder".__eq__, ["folder", "interpreter", "joined"]))
def test_python_names_another_environment(pair, form):
    active, other = pair
    words = {
        "folder": ["--python", str(other.prefix)],
        "interpreter": ["--python", str(other.executable)],
        "joined": [f"--python={other.executable}"],
    }[form]
    before = active.tree()
    completed = active.safe_install("install", *words, "beta")
    assert completed.returncode == 0, completed.stderr
    assert active.tree() == before
    assert "beta==2.0" in other.versions()
    listed = active.safe_install("freeze", *words)
    assert "beta==2.0" in listed.stdout


def test_uninstall_asks_when_it_is_not_told_yes(pair):
    for environment, act in zip(pair, (pair[0].pip, pair[1].safe_install)):
        environment.must_pip("install", "beta")
        before = environment.tree()
        assert act("uninstall", "beta", PIP_NO_INPUT="").returncode != 0
        assert environment.tree() == before
