"""The recovery as one file: whole, each name once, and run by Pythons that have nothing of ours."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Iterator, List

import pytest

from safe_install.transaction import recovery
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery.main import main
from safe_install.transaction.recovery_script import make_recovery_script, write_recovery_script
from tests.functional.conftest import find_python
from tests.small_environment import SmallEnvironment
from tests.treehash import hash_tree
from tests.unit.transaction.test_swap import leave_swapped

FOLDER = Path(recovery.__file__).parent
ALLOWED = {
    "base64",
    "csv",
    "ctypes",
    "errno",
    "fcntl",
    "hashlib",
    "io",
    "json",
    "os",
    "re",
    "shutil",
    "stat",
    "struct",
    "sys",
    "typing",
}


def find_definitions(source: bytes) -> Iterator[str]:
    """The names that a module defines at its top level, imports aside."""
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for name in node.targets if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_the_script_has_every_name_of_every_module_once() -> None:
    modules: List[str] = []
    for path in FOLDER.glob("*.py"):
        modules.extend(find_definitions(path.read_bytes()))
    assert [name for name, count in Counter(modules).items() if count > 1] == []
    assert sorted(find_definitions(make_recovery_script())) == sorted(modules)


def test_the_script_imports_the_standard_library_only() -> None:
    imported = set()
    for node in ast.walk(ast.parse(make_recovery_script())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported == ALLOWED


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_what_is_left_out_of_the_script_are_names_that_it_defines(path: Path) -> None:
    """`import x`, `from . import x` and `as` would be missing in the joined script."""
    defined = set(find_definitions(make_recovery_script()))
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = getattr(node, "names", []) if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("safe_install"):
            assert {name.name for name in names} <= defined
            assert [name.asname for name in names if name.asname] == []


def test_the_copy_is_replaced_only_when_it_is_another(tmp_path: Path) -> None:
    copy = tmp_path / "recover.py"
    copy.write_text("print('of an older version')")
    write_recovery_script(tmp_path)
    assert copy.read_bytes() == make_recovery_script()
    first = copy.stat()
    write_recovery_script(tmp_path)
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert os.listdir(tmp_path) == ["recover.py"]


def test_an_environment_without_a_state_folder_gets_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert "nothing to recover" in capsys.readouterr().out
    assert os.listdir(tmp_path) == []


@pytest.mark.real_process
@pytest.mark.parametrize("version", ["3.6", "3.8", "own"])
def test_the_script_recovers_alone(tmp_path: Path, version: str) -> None:
    python = sys.executable if version == "own" else find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    env = SmallEnvironment(tmp_path / "env")
    with lock_environment(env.prefix):
        leave_swapped(env)
        held = run_script(python, env.prefix / ".safe-install" / "recover.py")
    assert (held.returncode, "held by" in held.stderr) == (14, True)
    copy = tmp_path / "copy"
    os.rename(env.prefix, copy)  # an environment that was moved
    done = run_script(python, copy / ".safe-install" / "recover.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rolled-back" in done.stdout
    assert (copy / "lib/python3.11/site-packages/p/a.py").read_text() == "1"
    before = hash_tree(copy)
    again = run_script(python, copy / ".safe-install" / "recover.py")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert hash_tree(copy) == before


def run_script(python: str, script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-S", str(script)], capture_output=True, text=True, check=False
    )
