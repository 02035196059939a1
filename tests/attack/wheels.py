"""A grammar of wheels: an ordinary one, and features of which each is a defect, an attack or only
odd.

A feature changes the files, the RECORD or the archive of the wheel before it is written. What must
become of it is not said here: whatever it is, the invariants of the machine hold.
"""

from __future__ import annotations

import re
import stat
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple, Union

from tests.unit.wheels.crafted import make_entry, make_wheel

Content = Union[str, bytes]
SITE = "lib/python{}/site-packages"


@dataclass
class Draft:
    """A wheel that is not yet written."""

    name: str
    version: str
    python: str  # "3.11"
    files: Dict[str, Content] = field(default_factory=dict)
    metadata: str = ""
    rows: List[Callable[[str], str]] = field(default_factory=list)  # changes of RECORD's text
    # entries unknown to RECORD
    extra: List[Tuple[Union[str, zipfile.ZipInfo], Content]] = field(default_factory=list)
    entry_points: str = ""

    @property
    def data(self) -> str:
        return f"{self.name}-{self.version}.data"

    @property
    def dist_info(self) -> str:
        return f"{self.name}-{self.version}.dist-info"

    def add(self, *paths: str, content: Content = "x = 1\n") -> None:
        """Files that RECORD lists."""
        self.files.update(dict.fromkeys(paths, content))

    def add_data(self, scheme: str, *paths: str, content: Content = "x = 1\n") -> None:
        """Files below one of the schemes."""
        self.add(*(f"{self.data}/{scheme}/{path}" for path in paths), content=content)


Feature = Callable[[Draft], None]


def _adding(*paths: str, content: Content = "x = 1\n") -> Feature:
    return lambda draft: draft.add(
        *(path.format(name=draft.name) for path in paths), content=content
    )


def _adding_data(scheme: str, *paths: str, content: Content = "x = 1\n") -> Feature:
    return lambda draft: draft.add_data(
        scheme,
        *(path.format(name=draft.name, site=SITE.format(draft.python)) for path in paths),
        content=content,
    )


def _changing_record(change: Callable[[str], str]) -> Feature:
    return lambda draft: draft.rows.append(change)


def _entry(name: str, *, mode: int = 0o100644, content: Content = "x = 1\n") -> Feature:
    return lambda draft: draft.extra.append((make_entry(name, mode=mode), content))


def _commands(text: str) -> Feature:
    def change(draft: Draft) -> None:
        draft.entry_points += f"[console_scripts]\n{text.format(name=draft.name)}\n"

    return change


def _saying(line: str) -> Feature:
    def change(draft: Draft) -> None:
        draft.metadata += f"{line}\n"

    return change


def _without_first_row(text: str) -> str:
    return text.partition("\n")[2]


FEATURES: Mapping[str, Feature] = {
    # ordinary, in many shapes
    "a module": _adding("{name}_module.py"),
    "deep folders": _adding("{name}/a/b/c/d.py", "{name}/a/data.bin", content=b"\0" * 3000),
    "a namespace that others share": _adding("shared/{name}.txt", "shared/sub/{name}.py"),
    "a command": _commands("{name} = {name}:main"),
    "a script": _adding_data("scripts", "{name}-run", content="#!python\nprint(1)\n"),
    "data": _adding_data("data", "share/{name}/note.txt", "etc/{name}.conf"),
    "headers": _adding_data("headers", "{name}.h"),
    "both sites": _adding_data("platlib", "{name}_plat.py"),
    "bytecode of its own": _adding("{name}/__pycache__/__init__.cpython-311.pyc", content=b"\0"),
    "an empty file": _adding("{name}/empty", content=""),
    "odd names": _adding("{name}/a b.py", "{name}/\u00e9.py", "{name}/-x.py", "{name}/aux.py"),
    # paths
    "a path that leaves": _entry("../evil.py"),
    "a path that leaves later": _adding("{name}/../../evil.py"),
    "an absolute path": _entry("/tmp/evil-of-a-wheel.py"),
    "a backslash": _entry("demo\\evil.py"),
    "a drive": _entry("c:evil.py"),
    "a double slash": _entry("demo//evil.py"),
    "a dot": _entry("./evil.py"),
    "a control character": _adding("{name}/a\x1b[2J.py"),
    "a long name": _adding("{name}/" + "a" * 300 + ".py"),
    "a name of the file system's length": _adding("{name}/" + "a" * 251 + ".py"),
    # entries
    "a link": _entry("link", mode=stat.S_IFLNK | 0o777, content="/etc/passwd"),
    "a device": _entry("device", mode=stat.S_IFCHR | 0o666, content=""),
    "a FIFO": _entry("fifo", mode=stat.S_IFIFO | 0o666, content=""),
    "a set-user-id bit": _entry("su", mode=0o104755),
    "an entry twice": lambda draft: draft.extra.append((f"{draft.name}/__init__.py", "x = 2\n")),
    "a file and a folder": lambda draft: draft.add(f"{draft.name}/__init__.py/x.py"),
    "case variants": _adding("{name}/Data.txt", "{name}/data.txt"),
    "a folder in another case": lambda draft: draft.add(f"{draft.name.upper()}/x.py"),
    # RECORD
    "a row is missing": _changing_record(_without_first_row),
    "a row of a file that is not there": _changing_record(lambda text: f"gone.py,,\n{text}"),
    "a row of another's file": _changing_record(lambda text: f"alpha_module.py,,\n{text}"),
    "a row of torch": _changing_record(lambda text: f"torch/version.py,,\n{text}"),
    "a row that leaves": _changing_record(lambda text: f"../../../pyvenv.cfg,,\n{text}"),
    "an absolute row": _changing_record(lambda text: f"/etc/passwd,,\n{text}"),
    "a wrong hash": _changing_record(lambda text: text.replace("sha256=", "sha256=A", 1)),
    "a wrong size": _changing_record(lambda text: re.sub(r",(\d+)\n", r",1\1\n", text, count=1)),
    "a weak hash": _changing_record(lambda text: text.replace("sha256=", "md5=", 1)),
    "two rows that differ": _changing_record(lambda text: f"{text.partition(',')[0]},,\n{text}"),
    "a row twice": _changing_record(lambda text: text.partition("\n")[0] + "\n" + text),
    "one column": _changing_record(lambda text: "alone\n" + text),
    "a quote that does not end": _changing_record(lambda text: text + '"'),
    "an empty RECORD": _changing_record(lambda text: ""),
    "four columns": _changing_record(lambda text: text.replace("\n", ",more\n", 1)),
    # commands
    "a command in a folder": _commands("../evil = {name}:main"),
    "a command called python": _commands("python = {name}:main"),
    "a command called activate": _commands("activate = {name}:main"),
    "a command that is code": _commands("evil = os:system('x')"),
    "a command of alpha's": _commands("alpha = {name}:main"),
    "a script called python3": _adding_data("scripts", "python3"),
    "an interpreter among the data": _adding_data("data", "bin/python"),
    "torch among the commands": _adding_data("scripts", "torch.py"),
    # schemes
    "an unknown scheme": _adding_data("stdlib", "evil.py"),
    "site-packages by data": _adding_data("data", "{site}/{name}_by_data.py"),
    "site-packages by lib64": _adding_data(
        "data", "lib64/python3.11/site-packages/{name}_by_lib64.py"
    ),
    "the standard library": _adding_data(
        "data", "lib/python3.11/os.py", "lib/python3.11/sitecustomize.py"
    ),
    "the zip of the standard library": _adding_data("data", "lib/python311.zip"),
    "a folder for the zip": _adding_data("data", "lib/python311.zip/os.py"),
    "pyvenv.cfg": _adding_data("data", "pyvenv.cfg"),
    "pyvenv.cfg among the commands": _adding_data("scripts", "pyvenv.cfg"),
    "pyvenv.cfg among the headers": _adding_data("headers", "pyvenv.cfg"),
    "pip.conf": _adding_data("data", "pip.conf", content="[global]\nindex-url = http://evil\n"),
    "python._pth": _adding_data("scripts", "python._pth", content="/tmp\n"),
    "the driver's library": _adding_data("data", "lib/libcuda.so.1", content=b"\x7fELF"),
    "the C++ library": _adding_data("data", "lib/libstdc++.so.6", content=b"\x7fELF"),
    "our own folder": _adding_data(
        "data", ".safe-install/recover.py", ".safe-install/txn-20200101T000000Z-0000/journal"
    ),
    "conda's folder": _adding_data("data", "conda-meta/history"),
    "an activation script": _adding_data("data", "etc/conda/activate.d/{name}.sh"),
    # what runs at start
    "a .pth that adds a path": _adding("{name}.pth", content="{name}\n"),
    "a .pth that is broken": _adding("{name}.pth", content="import no_such_module_at_all\n"),
    "a .pth that prints": _adding("{name}.pth", content="import sys; sys.stdout.write('{{}}')\n"),
    "a .pth that ends Python": _adding("{name}.pth", content="import os; os._exit(3)\n"),
    "a .pth that hides torch": _adding(
        "{name}.pth", content="import sys; sys.modules['torch'] = sys\n"
    ),
    "sitecustomize": _adding("sitecustomize.py", content="import sys\n"),
    "sitecustomize that fails": _adding("sitecustomize.py", content="raise RuntimeError\n"),
    "sitecustomize as a package": _adding("sitecustomize/__init__.py"),
    "usercustomize": _adding("usercustomize.py"),
    # torch
    "a module in torch": _adding("torch/hook.py"),
    "a library in torch": _adding("torch/lib/libstdc++.so.6", content=b"\x7fELF"),
    "torch's version": _adding("torch/version.py", content="__version__ = '9'\n"),
    "torch's package": _adding("torch/__init__.py"),
    "bytecode in torch": _adding("torch/__pycache__/version.cpython-311.pyc", content=b"\0"),
    "torch by data": _adding_data("data", "{site}/torch/hook.py"),
    "another torch's metadata": _adding(
        "torch-9.0.dist-info/METADATA", content="Name: torch\nVersion: 9.0\n"
    ),
    "another torch's metadata by purelib": _adding_data("purelib", "torch-9.0.dist-info/METADATA"),
    "another torch's metadata by data": _adding_data("data", "{site}/torch-9.0.dist-info/METADATA"),
    "it requires another torch": _saying("Requires-Dist: torch==2.4.1"),
    "it requires no torch that is": _saying("Requires-Dist: torch==99"),
    # others
    "a file of alpha": _adding("alpha_module.py", content="evil = 1\n"),
    "a file of alpha, the same": _adding("alpha_module.py", content="version = 1\n"),
    "a file in alpha": _adding("alpha/added_by_{name}.py"),
    "a package in the place of alpha's module": _adding("alpha_module/__init__.py"),
    "a library in the place of alpha's module": _adding("alpha_module.abi3.so", content=b"\x7fELF"),
    "bytecode of alpha's module": _adding(
        "__pycache__/alpha_module.cpython-311.pyc", content=b"\0"
    ),
    "a folder in the place of alpha's file": _adding("shared/alpha.txt/x"),
    "alpha's script": _adding_data("scripts", "alpha", content="#!python\nevil\n"),
    "it requires alpha": _saying("Requires-Dist: alpha"),
    "it requires alpha 1": _saying("Requires-Dist: alpha==1"),
    "it requires what is not": _saying("Requires-Dist: no-such-project-at-all"),
    "another name in METADATA": lambda draft: setattr(draft, "metadata", "Name: other\n"),
    "an odd Requires-Dist": _saying("Requires-Dist: ???"),
    "it wants another Python": _saying("Requires-Python: <3"),
}


def write_hostile_wheel(
    folder: Path, number: int, version: str, features: Sequence[str], *, python: str
) -> Path:
    """A wheel of the project `hostile<number>` with these features."""
    draft = Draft(f"hostile{number}", version, python)
    draft.add(f"{draft.name}/__init__.py", content=f"version = {version!r}\n")
    for feature in features:
        FEATURES[feature](draft)
    if draft.entry_points:
        draft.files[f"{draft.dist_info}/entry_points.txt"] = draft.entry_points

    def change_record(text: str) -> str:
        for change in draft.rows:
            text = change(text)
        return text

    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, of an entry that comes twice
        return make_wheel(
            folder,
            draft.files,
            filename=f"{draft.name}-{version}-py3-none-any.whl",
            metadata=f"Metadata-Version: 2.1\nName: {draft.name}\nVersion: {version}\n{draft.metadata}",
            wheel="Wheel-Version: 1.0\nGenerator: attack\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            dist_info=draft.dist_info,
            record=change_record,
            extra=draft.extra,
        )
