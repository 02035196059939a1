"""Every console block of the README is typed here, in its order, and has to print what stands
there.

Both READMEs have the same blocks (tests/unit/test_docs.py), so one is enough. What differs from run
to run is made equal before the comparison: times, sizes, dates, identifiers, Python's version, the
home folder. A line `...` stands for any lines, and `...` within a line for any text. Lines of
progress and of pip need not stand in the README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from tests.functional.conftest import run_process

pytestmark = [pytest.mark.slow, pytest.mark.torch]

ROOT = Path(__file__).resolve().parents[2]
TORCHTEXT = "torchtext-0.18.0-cp311-cp311-manylinux1_x86_64.whl"
# How each command line of the README is run: `at-hand` with the safe-install of the tests in the
# environment with torch, `clone` in a fresh clone, `tool` as pipx and uv install it, `stand-ins` in
# an empty environment with stand-ins for torch (test_joint_plan.py), `elsewhere` by .ci/run.
WAYS = {
    "safe-install torch torchvision torch-scatter": "stand-ins",
    "safe-install torch-scatter": "at-hand",
    "git clone REPOSITORY safe-install": "clone",
    "pipx install ./safe-install": "tool",
    "safe-install --version": "tool",
    "./scripts/build_zipapp": "clone",
    "./dist/safe-install.pyz --python .venv/bin/python verify": "clone",
    "safe-install functorch==2.0.0": "at-hand",
    f"safe-install ./{TORCHTEXT}": "at-hand",
    "safe-install explain torch-scatter --torch 1.8.1+cu111 --python-version 3.8 --platform linux_x86_64 --offline": (
        "at-hand"
    ),
    "safe-install explain torch torchvision torch-scatter flash-attn --target-driver 560.35 "
    "--target-gpu 8.0 "
    "--python-version 3.11 --platform manylinux_2_28_x86_64 --offline": "at-hand",
    "safe-install verify": "at-hand",
    "safe-install history": "at-hand",
    "safe-install undo": "at-hand",
    "safe-install export -o pylock.toml": "at-hand",
    "safe-install sync pylock.toml": "at-hand",
    "safe-install diff pylock.toml .venv": "at-hand",
    "safe-install fleet install torch-scatter --inventory hosts.yml": "machines",
    "safe-install fleet install torch-scatter --dask tcp://10.0.0.1:8786": "machines",
    "safe-install fleet install torch-scatter --ray auto": "machines",
    "srun safe-install torch-scatter": "machines",
    "./scripts/demo": "elsewhere",
    "./scripts/test": "elsewhere",
}
# `machines`: with the engine itself, on stand-ins.
MACHINES = {
    "--inventory": "tests/functional/test_ansible_engine.py",
    "--dask": "tests/clusters/test_dask.py",
    "--ray": "tests/clusters/test_ray.py",
    "srun": "tests/functional/test_slurm.py",
}
STATUSES = {"safe-install functorch==2.0.0": 11, f"safe-install ./{TORCHTEXT}": 11}
VARIABLE_PARTS: List[Tuple[str, str]] = [
    (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d +\d+\.\d MB", "DATE SIZE"),
    (r"\(\d+\.\d s\)", "(SECONDS)"),
    (r"Python 3\.\d+\.\d+", "Python 3.X"),
    (r"\bcp3\d+\b", "cp3X"),
    (r"python3\.\d+", "python3.X"),
]
PROGRESS = re.compile(
    r"^[a-z][^:]*( \.\.\.|: done \(SECONDS\))$|^\s|^(Looking|Processing|Requirement|Collecting|WARNING)"
)
# Of a build: they go to stderr, among the lines on stdout, and one that is kept from an earlier run
# has other ones. test_real_torch.py looks at them.
BUILD_LINES = re.compile(
    r"torch-scatter 2\.1\.2: (from source|built here before)|No wheel of torch-scatter .*"
    r"|build(ing)? torch-scatter.*|warning: torch-scatter: \S+ does not answer .*"
)


@dataclass(frozen=True)
class Shown:
    """One command line of the README and the lines that stand below it."""

    command: str
    comment: str
    output: Tuple[str, ...]


def read_commands(text: str) -> List[Shown]:
    shown: List[Shown] = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        command, comment, output = "", "", []
        for line in [*block.splitlines(), "$ "]:
            if not line.startswith("$ "):
                output.append(line)
                continue
            if command:
                shown.append(Shown(command, comment, tuple(output)))
            command, _, comment = (part.strip() for part in line[2:].partition(" # "))
            output = []
    return shown


@pytest.fixture
def tmp_path(on_disk: Path) -> Path:
    """Where `environment` is, which gets another name there."""
    return on_disk


SHOWN = read_commands((ROOT / "README.md").read_text(encoding="utf-8"))


def comparable(line: str, home: str) -> str:
    line = line.replace(home, "/home/me")
    for pattern, word in VARIABLE_PARTS:
        line = re.sub(pattern, word, line)
    return line.rstrip()


def explain_difference(written: List[str], printed: List[str]) -> str:
    """What is in one and not in the other; empty where the README is right."""
    position = 0
    anything = False
    for line in written:
        if line.strip() == "...":
            anything = True
            continue
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        while position < len(printed) and not re.fullmatch(pattern, printed[position]):
            if not anything and not PROGRESS.search(printed[position]):
                return f"the README does not have: {printed[position]}\nit has here: {line}"
            position += 1
        if position == len(printed):
            return f"not printed: {line}"
        position += 1
        anything = False
    rest = [] if anything else [line for line in printed[position:] if not PROGRESS.search(line)]
    return f"the README does not have: {rest[0]}" if rest else ""


def check_output(shown: Shown, completed: subprocess.CompletedProcess[str], home: Path) -> None:
    assert completed.returncode == STATUSES.get(shown.command, 0), (
        completed.stdout + completed.stderr
    )
    printed = [
        comparable(line, str(home)) for line in (completed.stdout + completed.stderr).splitlines()
    ]
    written = [comparable(line, str(home)) for line in shown.output]
    if any(map(BUILD_LINES.fullmatch, printed)):
        printed = [line for line in printed if not BUILD_LINES.fullmatch(line)]
        written = [line for line in written if not BUILD_LINES.fullmatch(line)]
    if written:
        difference = explain_difference(written, [line for line in printed if line])
        assert not difference, difference + "\n\n" + completed.stdout + completed.stderr


@pytest.mark.parametrize(
    ("written", "printed", "fits"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["a", "check after the change: done (SECONDS)", "b"], True),
        (["a", "...", "c"], ["a", "x", "y", "c"], True),
        (["one ... three"], ["one two three"], True),
        (["a", "..."], ["a", "x"], True),
        (["a"], ["a", "error: x"], False),
        (["a", "b"], ["a"], False),
        (["a", "b"], ["a", "error: x", "b"], False),
        (["b", "a"], ["a", "b"], False),
    ],
)
def test_the_comparison_can_fail(written, printed, fits):
    assert (explain_difference(written, printed) == "") is fits


def test_every_command_is_run_somewhere():
    assert {shown.command for shown in SHOWN} == set(WAYS)
    ci = (ROOT / ".ci" / "run").read_text()
    for command in (command for command, way in WAYS.items() if way == "elsewhere"):
        assert re.search(rf"^{re.escape(command)}\b", ci, re.MULTILINE), command
    for word, file in MACHINES.items():
        assert f'"{word}"' in (ROOT / file).read_text(), file
    stand_ins = (ROOT / "tests" / "functional" / "test_joint_plan.py").read_text()
    for command in (command for command, way in WAYS.items() if way == "stand-ins"):
        assert f'"{command}"' in stand_ins


@pytest.mark.long  # it compiles torch-scatter, where none is kept
@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the README's torchtext wheel is for Python 3.11"
)
def test_usage(environment: Path, tmp_path: Path) -> None:
    """The blocks of "Usage" in the environment ./.venv, one after the other: undo takes back what
    install brought."""
    home = tmp_path / "home"
    home.mkdir()
    environment.rename(home / ".venv")
    try:
        run_blocks(home)
    finally:
        (home / ".venv").rename(environment)


def run_blocks(home: Path) -> None:
    """Those that need an environment with torch."""
    variables = activated(home)
    download = ["-m", "pip", "download", "-q", "--no-deps", "-d", str(home), "torchtext==0.18.0"]
    done = run_process([str(home / ".venv" / "bin" / "python"), *download], variables, cwd=home)
    assert (home / TORCHTEXT).exists(), done.stderr
    for shown in SHOWN:
        if WAYS[shown.command] == "at-hand" and (
            shown.output or shown.command == "safe-install undo"
        ):
            done = run_process(["/bin/sh", "-c", shown.command], variables, cwd=home, timeout=900)
            check_output(shown, done, home)


def activated(home: Path) -> Dict[str, str]:
    """The variables of a shell in which ./.venv is active and safe-install is on PATH."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAFE_INSTALL_PYTHON", "VIRTUAL"))
    }
    # Alone in a folder, as pipx puts it: nothing else of the tests' environment is on PATH.
    (home / "bin").mkdir()
    (home / "bin" / "safe-install").symlink_to(Path(sys.executable).parent / "safe-install")
    path = [str(home / ".venv" / "bin"), str(home / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        **kept,
        "VIRTUAL_ENV": str(home / ".venv"),
        "PATH": os.pathsep.join(path),
        "COLUMNS": "250",
    }


@pytest.mark.long
def test_installation(environment: Path, tmp_path: Path) -> None:
    """Clone, pipx, uv and the zipapp; and the clone is left as it was."""
    home = tmp_path / "home"
    home.mkdir()
    tools = tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
    subprocess.run(
        [str(tools / "bin" / "python"), "-m", "pip", "install", "-q", "pipx", "uv"], check=True
    )
    folders = {"PIPX_HOME": "pipx", "UV_TOOL_DIR": "uv"}
    variables = {**os.environ, **{name: str(tmp_path / folder) for name, folder in folders.items()}}
    variables["HOME"] = str(home)
    variables["PATH"] = os.pathsep.join(
        [str(tmp_path / "bin"), str(tools / "bin"), variables["PATH"]]
    )
    variables["PIPX_BIN_DIR"] = str(tmp_path / "bin")
    variables["UV_TOOL_BIN_DIR"] = str(tmp_path / "uv-bin")
    clone = home / "safe-install"
    for shown in SHOWN:
        command = shown.command.replace("REPOSITORY", str(ROOT))
        if WAYS[shown.command] not in ("clone", "tool"):
            continue
        folder = clone if command.startswith("./") else home
        done = run_process(["/bin/sh", "-c", command], variables, cwd=folder, timeout=600)
        check_output(shown, done, home)
        if command.startswith("git clone"):
            (clone / ".venv").symlink_to(environment)
        if shown.comment.startswith("or: "):
            done = run_process(
                ["/bin/sh", "-c", shown.comment[4:]], variables, cwd=home, timeout=600
            )
            assert done.returncode == 0, done.stderr
    assert os.access(tmp_path / "uv-bin" / "safe-install", os.X_OK)
    assert zipfile.is_zipfile(clone / "dist" / "safe-install.pyz")
    left = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"], cwd=clone, capture_output=True, text=True
    )
    assert set(left.stdout.split()) <= {"!!", "??", ".venv", "dist/"}, left.stdout
