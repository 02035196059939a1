"""Runs one row of the table by pip and by safe-install, and says in what they differ."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.differential.packages import PASSWORD, USER, PackageIndex
from tests.treehash import Row as TreeRow
from tests.treehash import read_tree
from tests.variables import keep_variables

# What scripts look for in pip's output. Lines of one stream are compared in their order.
LINES = re.compile(
    r"^(Successfully |Would |Installing collected packages|Attempting uninstall|Found existing installation|"
    r"Uninstalling |Building (wheel|editable) for|Created wheel for|Requirement already satisfied|Collecting |"
    r"the build of |Processing |Obtaining |Looking in |Not uninstalling|ERROR: |WARNING: |DEPRECATION: |User for )"
)
# What differs between two runs of the same pip.
NOISE = (
    (re.compile(r"(Created wheel for \S+ filename=\S+) .*"), r"\1"),
    (re.compile(r"/tmp/[\w./-]*pip-[\w-]+"), "<temporary>"),
)
PIP_FILES = "lib/python3*/site-packages/pip"
LOG = "out/log.txt"
# of pip: `archive_info.hashes` in direct_url.json, which we always write
FIRST_WITH_HASHES = Version("23.1")
ASPECTS = ("status", "tree", "stdout", "stderr")


@dataclass(frozen=True)
class Allowed:
    """In what safe-install may and does differ from pip, and why."""

    aspects: Tuple[str, ...]  # of ASPECTS
    reason: str


@dataclass(frozen=True)
class Row:
    """One command line."""

    # shell words; {wheels}, {files}, {index}, {host}, {private}, {env}, {out} are filled in
    words: str
    given: str = "bare"  # the environment in which it runs: a key of ENVIRONMENTS
    allowed: Optional[Allowed] = None
    variables: Mapping[str, str] = field(default_factory=dict)
    answers: str = ""  # what stands on stdin
    pips: str = ""  # only on these versions of pip
    is_whole: bool = False  # every character of both streams counts
    configuration: str = ""  # pip.conf
    is_short: bool = False  # also in the short form

    def applies(self, pip: str) -> bool:
        """Is it a row for this version of pip?"""
        return Version(pip) in SpecifierSet(self.pips)


# The environments: what plain pip installed before.
ENVIRONMENTS: Mapping[str, Sequence[str]] = {
    "bare": (),
    "old": ("install alpha==1.0 beta==1.0",),
    "new": ("install alpha beta==2.0 gamma",),
    "mixed": ("install Mixed.Case_Name",),
    "editable": ("install -e {files}/project",),
    "project": ("install {files}/project",),
    "bound": ("install needs-old-beta",),
    "broken": ("install --no-deps zeta",),
}


@dataclass(frozen=True)
class Seen:
    """What a command line did."""

    status: int
    tree: Dict[str, TreeRow]
    stdout: List[str]
    stderr: List[str]
    text: str


class Bench:
    """The environments for one pip, and the place where they are used: always the same path."""

    def __init__(
        self, folder: Path, files: Path, index: PackageIndex, python: str, pip_wheel: Optional[Path]
    ) -> None:
        """`python`: the interpreter that makes the environments; `pip_wheel`: the pip to test,
        None: Python's own."""
        self.folder = folder
        self.files = files
        self.index = index
        self._python, self._pip_wheel = python, pip_wheel
        self.prefix = folder / "run" / "env"
        self.prefix.parent.mkdir(parents=True)
        self._trees: Dict[str, Dict[str, TreeRow]] = {}  # of the templates
        self._given = ""  # the template of which an unchanged copy lies at the prefix

    def variables(self, row: Row) -> Dict[str, str]:
        """Nothing of whoever runs the tests."""
        return {
            **keep_variables("PATH", "LANG", "LC_ALL", "TMPDIR"),
            "HOME": str(self.folder / "home"),
            "VIRTUAL_ENV": str(self.prefix),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.files / "wheels"),
            "SAFE_INSTALL_CACHE_DIR": str(self.folder / "cache"),
            **{name: self.fill(value) for name, value in row.variables.items()},
        }

    def fill(self, text: str) -> str:
        """Placeholders replaced."""
        quoted = PASSWORD.replace(" ", "%20").replace("@", "%40")
        places = {
            "wheels": self.files / "wheels",
            "files": self.files,
            "sdists": self.files / "sdists",
            "index": f"http://{self.index.host}/simple/",
            "private": f"http://{self.index.host}/private/",
            "known": f"http://{USER}:{quoted}@{self.index.host}/private/",
            "env": self.prefix,
            "out": self.folder / "run" / "out",
            "home": self.folder / "home",
        }
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", str(place))
        return text

    def template(self, given: str) -> Path:
        """The environment of this name, made when it is first needed."""
        made = self.folder / "templates" / given
        if made.exists():
            return made
        made.parent.mkdir(exist_ok=True)
        if given == "bare":
            _must([self._python, "-m", "venv", str(self.prefix)])
            if self._pip_wheel is not None:
                _must(
                    [
                        *self._pip(),
                        "install",
                        "--quiet",
                        "--no-index",
                        "--upgrade",
                        str(self._pip_wheel),
                    ]
                )
        else:
            self._copy(self.template("bare"))
            for command in ENVIRONMENTS[given]:
                words = shlex.split(self.fill(command))
                _must([*self._pip(), *words], self.variables(Row("")))
        self.prefix.rename(made)
        self._given = ""
        return made

    def _pip(self) -> List[str]:
        return [str(self.prefix / "bin" / "python"), "-m", "pip"]

    def _copy(self, template: Path) -> None:
        """Links to the files: neither program writes into one that it did not make."""
        shutil.rmtree(self.prefix, ignore_errors=True)
        subprocess.run(["cp", "-al", str(template), str(self.prefix)], check=True)

    def _lay_out(self, given: str) -> None:
        """A fresh copy of the template, or the one that the last command line left as it was."""
        template = self.template(given)
        if self._given != given:
            self._copy(template)
            self._given = given
            if given not in self._trees:
                self._trees[given] = self._read_tree()

    def _read_tree(self) -> Dict[str, TreeRow]:
        """What counts of the environment and of the folder for files elsewhere; pip's own files are
        left alone."""
        tree = read_tree(self.prefix.parent)
        passed_over = ["env/.safe-install"]
        passed_over += [
            f"{path.relative_to(self.prefix.parent)}/" for path in self.prefix.glob(PIP_FILES)
        ]
        found = {
            path: entry for path, entry in tree.items() if not path.startswith(tuple(passed_over))
        }
        log = self.prefix.parent / LOG
        if log.exists():
            # Its lines begin with the time, and what is not said to the person differs from run to
            # run.
            lines = [line.partition(" ")[2].strip() for line in log.read_text().splitlines()]
            # The pip that resolves for us says "Would install" there.
            kept = [
                line for line in lines if LINES.match(line) and not line.startswith("Would install")
            ]
            found[LOG] = tuple(dict.fromkeys(kept))
        return found

    def version(self) -> str:
        """Of the pip."""
        (found,) = self.template("bare").glob("lib/python3*/site-packages/pip-*.dist-info")
        return found.name[len("pip-") : -len(".dist-info")]

    def see(self, row: Row, program: Sequence[str]) -> Seen:
        """Run a row by one program in a fresh copy."""
        for folder in ("home", "run/out"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
            (self.folder / folder).mkdir(parents=True)
        (self.folder / "home" / "netrc").write_text(
            f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n'
        )
        self._lay_out(row.given)
        variables = self.variables(row)
        if row.configuration:
            path = self.folder / "home" / "pip.conf"
            path.write_text(self.fill(row.configuration))
            variables["PIP_CONFIG_FILE"] = str(path)
        words = shlex.split(self.fill(row.words))
        completed = subprocess.run(
            [*program, *words],
            env=variables,
            cwd=self.prefix.parent,
            input=row.answers,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # no terminal: a password is read from stdin
        )
        tree = self._read_tree()
        if tree != self._trees[row.given]:
            self._given = ""
        if Version(self.version()) < FIRST_WITH_HASHES:
            tree = _without_direct_urls(tree)
        return Seen(
            completed.returncode,
            tree,
            _lines(completed.stdout, is_whole=row.is_whole),
            _lines(completed.stderr, is_whole=row.is_whole),
            completed.stdout + completed.stderr,
        )

    def compare(self, row: Row) -> Tuple[Seen, Seen]:
        """By pip, and by safe-install."""
        by_pip = self.see(row, self._pip())
        ours = self.see(row, [sys.executable, "-m", "safe_install"])
        return by_pip, ours


def _must(command: Sequence[str], variables: Optional[Mapping[str, str]] = None) -> None:
    done = subprocess.run(list(command), env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _without_direct_urls(tree: Mapping[str, TreeRow]) -> Dict[str, TreeRow]:
    """Without the files direct_url.json, and without the RECORDs that hold their hashes."""
    folders = {
        path.rpartition("/")[0] for path in tree if path.endswith(".dist-info/direct_url.json")
    }
    left_out = {f"{folder}/{name}" for folder in folders for name in ("RECORD", "direct_url.json")}
    return {path: row for path, row in tree.items() if path not in left_out}


def _lines(text: str, *, is_whole: bool) -> List[str]:
    for pattern, instead in NOISE:
        text = pattern.sub(instead, text)
    lines = [line.strip() for line in text.splitlines()]
    return lines if is_whole else [line for line in lines if LINES.match(line)]


def differences(by_pip: Seen, ours: Seen) -> Dict[str, str]:
    """By aspect, in words."""
    found: Dict[str, str] = {}
    if by_pip.status != ours.status:
        found["status"] = f"pip {by_pip.status}, ours {ours.status}"
    paths = sorted({*by_pip.tree, *ours.tree})
    changed = [path for path in paths if by_pip.tree.get(path) != ours.tree.get(path)]
    if changed:
        found["tree"] = ", ".join(changed[:8])
    for stream in ("stdout", "stderr"):
        one, other = getattr(by_pip, stream), getattr(ours, stream)
        if one != other:
            missing = [line for line in one if line not in other]
            extra = [line for line in other if line not in one]
            found[stream] = (
                f"missing {missing}, extra {extra}" if missing or extra else f"order: {one} {other}"
            )
    return found


def judge(row: Row, found: Mapping[str, str]) -> List[str]:
    """What is wrong with a row: a difference that is not allowed, or one that is allowed and is not
    there."""
    allowed = row.allowed.aspects if row.allowed is not None else ()
    wrong = [f"{aspect}: {text}" for aspect, text in found.items() if aspect not in allowed]
    return wrong + [
        f"{aspect}: allowed to differ, and does not" for aspect in allowed if aspect not in found
    ]
