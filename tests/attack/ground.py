"""A real environment with a stand-in torch, what is done to it, and what must hold after each
step."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from tests.crash.program import Action, Program, descendants, kill_after, wait_for
from tests.lab import LabWheels
from tests.lab.wheels import write_wheel
from tests.treehash import Row, hash_file, read_tree

TORCH_FOLDERS = ("torch/", "torchgen/", "torch-")
RECOVERY_TRIES = 6
Tree = Dict[str, Row]


class Ground:
    """One environment at a time, copied from a template; a canary lies beside it."""

    def __init__(self, folder: Path, wheels: LabWheels, environment: Optional[Path] = None) -> None:
        """`wheels`: for the Python that runs us. `environment`: what each sequence begins with a
        copy of; None: one with a stand-in torch."""
        version = "{}.{}".format(*sys.version_info[:2])
        self.python = version
        self.folder = folder
        (folder / "program").mkdir()
        self.program = Program(folder / "program", version, wheels)
        self.template = environment or self.program.templates[""]
        write_more_projects(Path(self.program.variables["PIP_FIND_LINKS"]))
        self.wheels = folder / "hostile"
        self.canary = folder / "program" / "canary"
        self.canary.mkdir()
        (self.canary / "evil.py").write_text("a canary\n")
        self.beside = read_tree(self.canary)
        self.copies = 0
        self.begin()
        self.run("install", "alpha==1", "gamma==1", **self.program.shimmed(at=0))
        self.calls = self.program.counted()  # of a change, in the environment

    @property
    def prefix(self) -> Path:
        return self.program.prefix

    @property
    def site(self) -> Path:
        (found,) = self.prefix.glob("lib/python3*/site-packages")
        return found

    def begin(self) -> None:
        """A fresh environment in its first place."""
        self.stop_orphans()
        self.program.prefix = self.program.folder / "env"
        for place in self.program.folder.glob("env*"):
            shutil.rmtree(place)
        subprocess.run(["cp", "-a", str(self.template), str(self.prefix)], check=True)

    def stop_orphans(self) -> None:
        """What a killed run has left running ends before the next step looks at the tree."""
        for number in self.program.orphans:
            try:
                os.kill(number, 9)
            except ProcessLookupError:
                pass
        wait_for(self.program.orphans)
        self.program.orphans = []

    def tree(self) -> Tree:
        return read_tree(self.prefix)

    # --- what is done -----------------------------------------------------------------------------

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The tool, to its end."""
        return self.program.run(Action(words), **variables)

    def pip(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A real pip, which knows nothing of us."""
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.prefix / "bin" / "python"),
            *words,
        ]
        return subprocess.run(
            command,
            env=self.program.variables,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def run_beside_pip(
        self, words: Sequence[str], pip_words: Sequence[str], delay: float
    ) -> Tuple[int, str]:
        """Both at once."""
        process = self.program.start(Action(tuple(words)))
        time.sleep(delay)
        self.pip(*pip_words)
        out, said = process.communicate(timeout=120)
        return process.returncode, out + said

    def kill(self, words: Sequence[str], moment: float, generator: random.Random) -> None:
        """SIGKILL at a moment of a run (0 to 1): of its calls that change a file there, or of its
        seconds."""
        if generator.random() < 0.3:
            kill_after(self.program, Action(tuple(words)), 0.2 + 2.5 * moment, generator)
            self.stop_orphans()
        else:
            at = 1 + int(moment * self.calls)
            done = self.run(*words, **self.program.shimmed(at=at))
            if done.returncode == 0 and "install" in words:
                self.calls = max(40, self.program.counted())

    def kill_recovery(self, moment: float) -> None:
        """SIGKILL before one of the first calls of a recovery."""
        self.run("recover", **self.program.shimmed(at=1 + int(moment * 25)))

    def fail(
        self, words: Sequence[str], moment: float, code: int, *, sticky: bool
    ) -> subprocess.CompletedProcess[str]:
        """One call fails, or all from there on."""
        return self.run(
            *words,
            **self.program.shimmed(at=1 + int(moment * self.calls), code=code, sticky=sticky),
        )

    def recover(self, generator: random.Random) -> subprocess.CompletedProcess[str]:
        """The command, or the script that lies beside the journal."""
        script = self.prefix / ".safe-install" / "recover.py"
        command = self.program.command(["recover"])
        if script.is_file() and generator.random() < 0.4:
            command = [sys.executable, "-I", "-S", str(script)]
        return subprocess.run(
            command,
            env=self.program.variables,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def move_to_copy(self, how: str) -> None:
        """From now on a copy of the environment counts, as it is now; the first one is gone."""
        self.copies += 1
        target = self.program.folder / f"env-copy-{self.copies}"
        if how == "cp -a":
            subprocess.run(["cp", "-a", str(self.prefix), str(target)], check=True)
        else:
            target.mkdir()
            archive = subprocess.run(
                ["tar", "-C", str(self.prefix), "-cf", "-", "."], capture_output=True, check=True
            )
            subprocess.run(
                ["tar", "-C", str(target), "-xpf", "-"], input=archive.stdout, check=True
            )
        shutil.rmtree(self.prefix)
        self.program.prefix = target

    # --- what is looked at ------------------------------------------------------------------------

    def versions(self) -> Mapping[str, str]:
        """The distributions by their metadata folders."""
        names = [path.name[: -len(".dist-info")] for path in self.site.glob("*.dist-info")]
        return dict(name.rsplit("-", 1) for name in names)

    def unfinished(self) -> List[str]:
        """What would be recovered: journals, transactions that had not begun, rubbish."""
        state = self.prefix / ".safe-install"
        begun = [path for path in state.glob("txn-*") if not (path / "committed").exists()]
        return sorted(
            path.name for path in [*begun, *state.glob("trash-*"), *state.glob("txn-*/journal")]
        )

    def history(self) -> Set[str]:
        """The ids of the changes that were kept."""
        return {
            path.parent.name for path in (self.prefix / ".safe-install").glob("txn-*/committed")
        }

    def read_wrong_records(self) -> List[str]:
        """Rows of RECORD without their file, and files that have not the content of their row."""
        wrong: List[str] = []
        for record in self.site.glob("*.dist-info/RECORD"):
            with record.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.reader(stream) if row]
            for path, written, *_ in rows:
                file = self.site / path
                if path.endswith(".pyc"):
                    # pip compiles over the bytecode that a wheel brings, and leaves its row
                    continue
                if not file.is_file():
                    wrong.append(f"{record.parent.name}: {path} is not there")
                elif written and hash_like(file, written) != written:
                    wrong.append(f"{record.parent.name}: {path} has other content")
        return wrong

    def read_unrecorded(self, tree: Tree, known: Set[str]) -> List[str]:
        """Files of the tree that no RECORD lists and that were not there at the beginning."""
        new = [path for path, row in tree.items() if row[0] != "d" and path not in known]
        if not new:
            return []
        listed: Set[str] = set()
        for record in self.site.glob("*.dist-info/RECORD"):
            with record.open(newline="", encoding="utf-8") as stream:
                paths = [row[0] for row in csv.reader(stream) if row]
            listed.update(os.path.realpath(self.site / path) for path in paths)
        return [path for path in new if str(self.prefix / path) not in listed]


def hash_like(file: Path, written: str) -> str:
    """The hash of a file, written as a row of RECORD has it."""
    name = written.partition("=")[0]
    if name == "sha256":
        digest = bytes.fromhex(hash_file(str(file), file.stat()))
    else:
        digest = hashlib.new(name, file.read_bytes()).digest()
    return f"{name}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def torch_in(tree: Tree, site: str) -> Tree:
    """What may not change: torch's files and its metadata."""
    start = tuple(f"{site}/{folder}" for folder in TORCH_FOLDERS)
    return {path: row for path, row in tree.items() if path.startswith(start)}


def write_more_projects(index: Path) -> None:
    """Beside those of `tests.crash.program`: a namespace, commands, a requirement, and one for the
    other installer."""
    for version in ("1", "2"):
        points = "[console_scripts]\ngamma = shared.gamma:main\n"
        files = {
            "shared/gamma.py": f"version = {version}\n",
            f"gamma-{version}.dist-info/entry_points.txt": points,
        }
        files[f"gamma-{version}.data/headers/gamma.h"] = version
        write_wheel(index, "gamma", version, files, requires=["beta"])
        write_wheel(
            index,
            "piped",
            version,
            {"piped/__init__.py": f"version = {version}\n", "shared/piped.py": ""},
        )


def read_outcome(completed: subprocess.CompletedProcess[str]) -> str:
    """The outcome of a run with --json; "" where it wrote none."""
    try:
        return str(json.loads(completed.stdout)["outcome"])
    except (ValueError, KeyError):
        return ""


__all__ = ["Ground", "descendants", "read_outcome", "torch_in"]
