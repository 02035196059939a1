"""What import-linter cannot say: one owner per outside thing, and stand-alone scripts that import
nothing of ours."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from tests.functional.conftest import find_python

pytestmark = pytest.mark.any_python

SOURCE = Path(__file__).resolve().parents[2] / "src" / "safe_install"
MODULES = sorted(SOURCE.rglob("*.py"))
RECOVERY = SOURCE / "transaction" / "recovery"
JOINED = "safe_install.transaction.recovery."
# They run inside a managed interpreter that is older than ours, or without us: Python 3.6, standard
# library.
STAND_ALONE = (
    "environment/script.py",
    "environment/programs_script.py",
    "fleet/engines/script.py",
    "fleet/engines/dask_script.py",
    "health/script.py",
    "wheels/script.py",
    "system/script.py",
    "system/pip_script.py",
    *sorted(f"transaction/recovery/{path.name}" for path in RECOVERY.glob("*.py")),
)
# What Ansible runs, on nodes and on the controller, where nothing of ours is installed.
COLLECTION = SOURCE / "fleet" / "ansible_collections" / "torch_safe_install" / "safe_install"
IN_ANSIBLE = sorted(path.relative_to(SOURCE).as_posix() for path in COLLECTION.rglob("*.py"))
OWNERS = {
    "typer": {"cli/options.py"},
    "rich": {"cli/table.py", "cli/progress.py"},
    "resolvelib": {"resolve/provider.py"},
    "pynvml": {"environment/driver.py"},
    "requests": {"system/http.py", "system/network.py"},
    "distributed": {"fleet/dask.py", "fleet/engines/dask.py", "fleet/engines/dask_script.py"},
    "ray": {"fleet/engines/ray.py"},
    "subprocess": {"system/process.py", "notebook.py", *STAND_ALONE, *IN_ANSIBLE},
}
# What a build has to have, and what the environment that is asked has to have.
THEIR_SUBJECT = {
    "fleet/engines/dask_script.py": {"distributed"},
    "wheels/script.py": {"setuptools", "distutils"},
    "health/script.py": {"torch"},
    "system/pip_script.py": {"pip"},
}


def relative(path):
    return path.relative_to(SOURCE).as_posix()


@functools.lru_cache(maxsize=None)
def imports_of(path):
    """The modules that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("outside", sorted(OWNERS))
def test_only_the_owner_imports(outside):
    importers = {
        relative(p) for p in MODULES if any(name.split(".")[0] == outside for name in imports_of(p))
    }
    assert importers <= OWNERS[outside]
    assert importers & OWNERS[outside], (
        f"nobody imports {outside} any more: the table above is out of date"
    )


# Who reads the variables of this process: the surface hands them on (`World.environ`), nobody else
# decides by them.
READERS_OF_VARIABLES = {
    "__main__.py",
    "cli/bundled.py",  # what is configured for pip says nothing of a bundle
    "cli/main.py",
    "cli/terminal.py",  # NO_COLOR, COLUMNS, TERM: how this terminal shows a line
    "packed.py",  # where the cache is, before the surface is unpacked
    "system/process.py",  # what a child inherits
}


def test_the_variables_of_this_process_are_read_in_one_place():
    readers = set()
    for path in MODULES:
        if relative(path) in (*STAND_ALONE, *IN_ANSIBLE):
            continue
        text = path.read_text(encoding="utf-8")
        if re.search(
            r"\bos\.(environb?|getenvb?|putenv)\b|from os import .*(environ|getenv)", text
        ):
            readers.add(relative(path))
    assert readers == READERS_OF_VARIABLES


@pytest.mark.skipif(
    sys.version_info < (3, 10), reason="sys.stdlib_module_names came with Python 3.10"
)
@pytest.mark.parametrize("script", STAND_ALONE)
def test_a_stand_alone_script_imports_the_standard_library_only(script):
    allowed = sys.stdlib_module_names | THEIR_SUBJECT.get(script, set())
    imported = set(imports_of(SOURCE / script))
    if script.startswith("transaction/recovery/"):  # these are joined
        imported = {name for name in imported if not name.startswith(JOINED)}
    assert {name.split(".")[0] for name in imported} <= allowed


@pytest.mark.skipif(
    sys.version_info < (3, 10), reason="sys.stdlib_module_names came with Python 3.10"
)
@pytest.mark.parametrize("script", IN_ANSIBLE)
def test_what_ansible_runs_needs_ansible_alone(script):
    """And Python 3.8."""
    allowed = sys.stdlib_module_names | {"ansible", "ansible_collections"}
    assert {name.split(".")[0] for name in imports_of(SOURCE / script)} <= allowed
    ast.parse((SOURCE / script).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.real_process
@pytest.mark.parametrize("script", STAND_ALONE)
def test_a_stand_alone_script_compiles_under_python_3_6(script, tmp_path):
    import subprocess

    python = find_python("3.6")
    if python is None:
        pytest.skip("no Python 3.6 here")
    code = "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')"
    done = subprocess.run(
        [python, "-c", code, str(SOURCE / script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_module_has_a_name_that_says_nothing():
    empty = {"utils", "util", "helpers", "common", "core", "manager", "base", "misc"}
    assert not {path.stem for path in MODULES} & empty
