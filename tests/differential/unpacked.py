"""`python -m tests.differential.unpacked`: varied real wheels, installed by pip and by
safe-install, and the two trees compared to the byte. Some of them also in
tests/functional/test_unpack_as_pip.py.

Compared are paths, modes and contents of all files and folders; of bytecode (whose bytes differ
between two runs of the same compiler) that it is there, its mode, and the file that it names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence

from packaging.version import Version

from tests.treehash import Row, read_tree

# What is special about each; of several versions pip takes the newest that fits the Python.
PROJECTS = (
    "attrs",  # two packages
    "backports.tarfile",  # a namespace
    "black",  # commands with extras, compiled in part
    "build",  # commands
    "certifi",  # data
    "cffi",  # a single extension beside a package
    "charset-normalizer",
    "click",
    "cmake",  # big, programs as data
    "coverage",  # a .pth file in newer versions
    "cryptography",  # abi3
    "Cython",  # modules, packages and extensions
    "debugpy",  # libraries of other platforms
    "distlib",
    "docutils",  # many small files, scripts
    "flit_core",
    "gevent",
    "greenlet",  # headers
    "idna",
    "Jinja2",
    "jupyterlab_widgets",  # data
    "lxml",
    "markdown-it-py",
    "msgpack",
    "networkx",
    "ninja",  # a program in .data/scripts
    "notebook_shim",  # etc/ by .data/data
    "numpy",  # .libs
    "pillow",
    "pip",  # commands named by the Python
    "psutil",
    "pyflakes",
    "Pygments",
    "pytest",  # a module beside packages
    "pywavelets",
    "PyYAML",
    "requests",
    "ruff",  # a program in .data/scripts
    "setuptools",  # a .pth file, and templates that are no Python
    "six",
    "sqlalchemy",
    "wheel",
    "widgetsnbextension",  # share/ by .data/data
    "zope.interface",
)
# One of each kind, small ones: what the test suite compares.
SHORT = (
    "backports.tarfile",
    "black",
    "cffi",
    "coverage",
    "cryptography",
    "docutils",
    "greenlet",
    "notebook_shim",
    "pillow",  # .libs
    "pip",
    "pytest",
    "requests",
    "ruff",  # and big
    "setuptools",
    "six",
    "widgetsnbextension",
    "zope.interface",
)
FIRST_PIP_WITH_HASHES = Version("23.1")
READ_BYTECODE = """\
import json, marshal, sys
print(json.dumps({path: marshal.loads(open(path, "rb").read()[16:]).co_filename
                  for path in json.load(sys.stdin)}))
"""


class Trial:
    """One environment, made anew at the same place for each of the two installers."""

    def __init__(self, folder: Path, template: Path) -> None:
        """`template`: an environment with a pip."""
        self.template, self.prefix = template, folder / "env"

    @property
    def executable(self) -> Path:
        """The interpreter."""
        return self.prefix / "bin" / "python"

    def _pip_version(self) -> Version:
        (metadata,) = self.template.glob("lib/python*/site-packages/pip-*.dist-info")
        return Version(metadata.name.split("-")[1][: -len(".dist")])

    def compare(self, *wheels: Path) -> List[str]:
        """How the two environments differ after one install of these wheels, which lie in one
        folder; empty where they do not."""
        options = ["--no-deps", "--no-index", "--quiet"]
        files = [str(wheel) for wheel in wheels]
        # An older pip writes no `archive_info.hashes` for a path, and we always do: the wheels are
        # found in their folder then.
        if self._pip_version() < FIRST_PIP_WITH_HASHES:
            named = ["==".join(wheel.name.split("-")[:2]) for wheel in wheels]
            files = ["--find-links", str(wheels[0].parent), *named]
        by_pip = self._tree_after([str(self.executable), "-m", "pip", "install", *options, *files])
        ours = [sys.executable, "-m", "safe_install", "--python", str(self.executable)]
        by_us = self._tree_after([*ours, *options, *files])
        return [
            f"{path}: pip {by_pip.get(path)}, safe-install {by_us.get(path)}"
            for path in sorted(by_pip.keys() | by_us.keys())
            if by_pip.get(path) != by_us.get(path)
        ]

    def _tree_after(self, command: Sequence[str]) -> Dict[str, Row]:
        shutil.rmtree(self.prefix, ignore_errors=True)
        shutil.copytree(self.template, self.prefix, symlinks=True)
        foreign = ("PIP_", "SAFE_INSTALL_", "VIRTUAL_ENV", "PYTHON")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
        variables = {
            **kept,
            "SAFE_INSTALL_CACHE_DIR": str(self.prefix.parent / "cache"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        tree = read_tree(self.prefix, bytecode=True)
        named = self._read_bytecode([path for path in tree if path.endswith(".pyc")])
        for path, source in named.items():
            # pip reaches those of .data by way of site-packages
            tree[path] = (*tree[path][:2], os.path.normpath(source))
        return tree

    def _read_bytecode(self, paths: Sequence[str]) -> Dict[str, str]:
        done = subprocess.run(
            [str(self.executable), "-I", "-c", READ_BYTECODE],
            input=json.dumps(paths),
            cwd=self.prefix,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout))


def main() -> int:
    """Exit status: 1 where a tree differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="a folder in which wheels are kept")
    parser.add_argument("python", nargs="+", help="interpreters")
    options = parser.parse_args()
    wrong = 0
    for python in options.python:
        with tempfile.TemporaryDirectory(prefix="unpacked-") as temporary:
            root = Path(temporary).resolve()
            folder = (options.wheels or root) / Path(python).parents[1].name
            for project in [] if list(folder.glob("*.whl")) else PROJECTS:
                try:
                    download(python, folder, [project])
                except subprocess.CalledProcessError:
                    print(f"no wheel of {project} for {python}")
            wheels = sorted(folder.glob("*.whl"))
            subprocess.run([python, "-m", "venv", str(root / "template")], check=True)
            trial = Trial(root, root / "template")
            for wheel in wheels:
                differences = trial.compare(wheel)
                wrong += bool(differences)
                print("differs" if differences else "alike  ", wheel.name, flush=True)
                for line in differences[:10]:
                    print(f"    {line}")
            print(f"{python}: {len(wheels)} wheels")
    return 1 if wrong else 0


def download(python: str, folder: Path, projects: Sequence[str]) -> None:
    """Into `folder`, the newest wheel of each project for this Python. Errors:
    CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), *projects]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
