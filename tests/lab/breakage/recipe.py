"""What a recipe is, and the environment that it breaks."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Sequence, Tuple

if TYPE_CHECKING:
    from tests.functional.conftest import Environment

CPU = ("torch==2.13.0+cpu",)
CUDA = ("torch==2.14.1",)
OLD = ("torch==1.8.1+cu111",)
# In the header of a library: which machine it is for.
ELF_MACHINE = slice(18, 20)
AARCH64 = (183).to_bytes(2, "little")
# A driver that serves the torch of these rows, and one GPU.
DRIVER_OF = {CUDA: "13.0", OLD: "11.1"}


@dataclass
class Lab:
    """An environment of one test's own, and the folder that everything else of it lies in. doctor
    is started in that folder, with the variables of the environment."""

    environment: Environment
    folder: Path
    wheels: Path  # the folder of the stand-in wheels
    extensions: Path
    foreign: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    words: List[str] = field(default_factory=list)  # more of doctor's words
    prefix_words: List[str] = field(default_factory=list)  # what the command line begins with

    @property
    def site(self) -> Path:
        """site-packages."""
        return self.environment.site

    @property
    def torch(self) -> Path:
        """torch's folder."""
        return self.site / "torch"

    @property
    def variables(self) -> Dict[str, str]:
        """The variables in which doctor runs; a recipe may change them."""
        return self.environment.variables

    def info(self, name: str) -> Path:
        """The dist-info folder of a distribution."""
        (found,) = self.site.glob(f"{name}-*.dist-info")
        return found

    def copy_torch(self, folder: Path, version: str, *, metadata: bool = True) -> Path:
        """The installed torch once more, under another version, in another folder."""
        shutil.copytree(self.torch, folder / "torch", dirs_exist_ok=True)
        path = folder / "torch" / "version.py"
        path.write_text(re.sub("__version__ = .*", f"__version__ = {version!r}", path.read_text()))
        if metadata:
            copy_info(self.info("torch"), folder, version)
        return folder

    def must_pip(self, *words: str) -> None:
        """Plain pip, which says that all is well."""
        self.environment.must_pip("install", "--no-deps", "--no-compile", *words)


def copy_info(info: Path, folder: Path, version: str) -> Path:
    """A dist-info folder once more, under another version."""
    name = info.name.split("-")[0]
    target = folder / f"{name}-{version}.dist-info"
    shutil.copytree(info, target)
    text = (target / "METADATA").read_text()
    (target / "METADATA").write_text(re.sub("(?m)^Version: .*", f"Version: {version}", text))
    record = (target / "RECORD").read_text()
    (target / "RECORD").write_text(record.replace(info.name, target.name))
    return target


@dataclass(frozen=True)
class Recipe:
    """One way to break an environment."""

    breaks: Callable[[Lab], None]
    check: str  # of doctor, that has to find it
    says: Tuple[str, ...] = ()  # words of its findings, the cause and the mend
    severity: str = "error"
    base: Tuple[str, ...] = CPU  # what pip installs before
    follows: Tuple[str, ...] = ()  # checks that find errors because of it
    status: str = "found"
    mends: bool = False  # its hint, typed in the same shell, puts it right

    @property
    def name(self) -> str:
        """The name of its function, as words."""
        return self.breaks.__name__.replace("_", " ")


def truncate(path: Path) -> None:
    """Half of a file, as a full disk leaves it. The file is replaced: it may have other names."""
    half = path.read_bytes()[: path.stat().st_size // 2]
    replace(path, half)


def replace(path: Path, content: bytes) -> None:
    """Another file in its place."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)


def prepend(variables: Dict[str, str], name: str, folder: Path) -> None:
    """A folder at the front of a variable that lists folders."""
    rest = variables.get(name)
    variables[name] = f"{folder}{os.pathsep}{rest}" if rest else str(folder)


def rows(*recipes: Recipe) -> Sequence[Recipe]:
    """The recipes of a module; each name once."""
    names = [recipe.name for recipe in recipes]
    assert len(names) == len(set(names)), names
    return recipes
