"""The whole program - its process, pip's, the checks - killed, or its file calls failing, in a real
environment.

    python -m tests.crash.program [--kills 500] [--signals 100] [--steps] [--faults] [--folder DIR]
    [--seed N]

`--kills`: SIGKILL at random moments, half of them for the process alone and half for all that it
started, sometimes
for the recovery too. `--signals`: SIGINT, SIGTERM or SIGHUP at random moments, and no recovery.
`--steps`: SIGKILL before every call that changes a file of the environment. `--faults`: every such
call fails in turn, once and from then on, with one of ENOSPC, EIO, EACCES and EROFS, or with each
(`--every-error`). The calls are counted by shim.c in all processes of a run together. Afterwards
the environment must be exactly as before or exactly as after.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from tests.lab import LabWheels, build_driver, build_wheels
from tests.lab.wheels import write_wheel
from tests.treehash import read_tree
from tests.wheelhost import HOSTS

ROOT = Path(__file__).resolve().parents[2]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
TORCH = "torch==1.8.1+cu111"


@dataclass(frozen=True)
class Action:
    """One command, and what must have been done before it."""

    words: Tuple[str, ...]
    earlier: Tuple[Tuple[str, ...], ...] = ()
    variables: Tuple[Tuple[str, str], ...] = ()
    status: int = 0
    live: Tuple[str, ...] = ()  # done anew each time
    changes: bool = True  # where it succeeds, is the environment another one?


STAGED = "STAGED"  # in the words of an action: the ID of what is staged
ACTIONS: Mapping[str, Action] = {
    "install": Action(("install", "alpha==1")),
    "upgrade": Action(("install", "alpha==2", "beta"), (("install", "alpha==1"),)),
    "replace torch": Action(("install", "torch==2.4.1"), (("install", "alpha==1"),)),
    "replace torch, rolled back": Action(
        ("install", "torch==2.4.1"), variables=(("FAKE_DRIVER_CUDA", "11.1"),), status=12
    ),
    "refused in the stage": Action(
        ("install", "alpha==2", "lying"), (("install", "alpha==1"),), status=11
    ),
    "uninstall": Action(("uninstall", "-y", "alpha"), (("install", "alpha==1"),)),
    # The journal that is read backwards names files by their numbers, which no copy has.
    "undo": Action(("undo",), (("install", "alpha==1"),), live=("install", "alpha==2", "beta")),
    "stage": Action(("stage", "alpha==2", "beta"), (("install", "alpha==1"),), changes=False),
    "commit": Action(("commit", STAGED), (("install", "alpha==1"), ("stage", "alpha==2", "beta"))),
}


class Program:
    """A real virtual environment with a stand-in torch, and the program run in it."""

    def __init__(
        self, folder: Path, python: str = "3.11", wheels: Optional[LabWheels] = None
    ) -> None:
        """`wheels`: of this Python, made before; a copy is used."""
        self.folder, self.prefix = folder, folder / "env"
        self.shim = folder / "shim.so"
        self.counts = folder / "counts"
        source = Path(__file__).with_name("shim.c")
        compile_it = [
            "cc",
            "-shared",
            "-fPIC",
            "-O1",
            "-U_FORTIFY_SOURCE",
            "-o",
            self.shim,
            source,
            "-ldl",
        ]
        subprocess.run([*map(str, compile_it)], check=True)
        driver = folder / "driver"
        build_driver(driver)
        index = make_index(folder / "wheels", python, wheels)
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "LD_LIBRARY_PATH": str(driver),
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(index),
            "SAFE_INSTALL_CACHE_DIR": str(folder / "cache"),
            "SAFE_INSTALL_MIRRORS": " ".join(f"{start}=http://127.0.0.1:9" for start in HOSTS),
            "FAKE_DRIVER_CUDA": "12.1",
        }
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(self.prefix)], check=True
        )
        self.must("install", TORCH)
        shutil.rmtree(self.prefix / ".safe-install")
        self.templates: Dict[str, Path] = {"": folder / "template"}
        self._save(self.templates[""])
        self.before: Dict[str, str] = {}
        self.after: Dict[str, str] = {}
        self.orphans: List[int] = []
        self.seconds: Dict[str, float] = {}  # what a run takes

    def _prepare(self, name: str) -> None:
        """What the environment is before and after an action, once."""
        action = ACTIONS[name]
        self.begin("")
        for words in action.earlier:
            self.must(*words)
        self.templates[name] = self.folder / f"template-{name}"
        self._save(self.templates[name])
        self.begin(name)
        self.before[name] = hash_state(self.prefix)
        started = time.monotonic()
        done = self.run(action)
        self.seconds[name] = time.monotonic() - started
        assert done.returncode == action.status, done.stderr
        self.after[name] = hash_state(self.prefix)
        is_same = self.after[name] == self.before[name]
        assert is_same == (action.status != 0 or not action.changes)

    def _save(self, template: Path) -> None:
        subprocess.run(["cp", "-a", str(self.prefix), str(template)], check=True)

    def begin(self, name: str) -> None:
        """The environment as it was before this action."""
        if name not in self.templates:
            self._prepare(name)
        # What an earlier trial has left running must not write into this one.
        for number in self.orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        wait_for(self.orphans)
        if self.prefix.exists():
            shutil.rmtree(self.prefix)
        subprocess.run(["cp", "-a", str(self.templates[name]), str(self.prefix)], check=True)
        if name and ACTIONS[name].live:
            self.must(*ACTIONS[name].live)

    def command(self, words: Sequence[str]) -> List[str]:
        """The words of the process."""
        return [
            sys.executable,
            "-B",
            "-m",
            "safe_install",
            "--python",
            str(self.prefix / "bin" / "python"),
            *(self.staged() if word == STAGED else word for word in words),
        ]

    def staged(self) -> str:
        """The ID of what is staged, or was."""
        (folder,) = (self.prefix / ".safe-install").glob("staged-*")
        return folder.name[len("staged-") :]

    def must(self, *words: str) -> None:
        """A command that has to succeed."""
        done = subprocess.run(
            self.command(words),
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, action: Action, **variables: str) -> subprocess.Popen[str]:
        """The action in a session of its own, so that all that it starts can be killed with it."""
        return subprocess.Popen(
            self.command(action.words),
            env={**self.variables, **dict(action.variables), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            start_new_session=True,
        )

    def run(self, action: Action, **variables: str) -> subprocess.CompletedProcess[str]:
        """The action from its beginning to its end."""
        with self.start(action, **variables) as process:
            out, words = process.communicate(timeout=120)
        return subprocess.CompletedProcess(action.words, process.returncode, out, words)

    # --- counted ----------------------------------------------------------------------------------

    def shimmed(self, *, at: int, code: int = 0, sticky: bool = False) -> Dict[str, str]:
        """The variables that make call number `at` fail with `code`, or kill the run there."""
        self.counts.write_bytes(bytes(4096))
        return {
            "LD_PRELOAD": str(self.shim),
            "FAULT_FOLDER": str(self.prefix),
            "FAULT_STATE": str(self.counts),
            "FAULT_AT": str(at),
            "FAULT_ERRNO": str(code),
            "FAULT_STICKY": str(int(sticky)),
        }

    def counted(self) -> int:
        """The calls of the last run."""
        with self.counts.open("rb") as stream, mmap.mmap(
            stream.fileno(), 0, access=mmap.ACCESS_READ
        ) as data:
            return int(struct.unpack_from("<q", data)[0])

    def count(self, name: str) -> int:
        """How many calls change a file of the environment when nothing is in the way."""
        self.begin(name)
        done = self.run(ACTIONS[name], **self.shimmed(at=0))
        assert done.returncode == ACTIONS[name].status, done.stderr
        return self.counted()

    def struck(self) -> str:
        """The name of the call that failed."""
        return self.counts.read_bytes()[8:72].partition(b"\0")[0].decode()

    # --- afterwards -------------------------------------------------------------------------------

    def recover(self, generator: Optional[random.Random] = None) -> None:
        """`recover`, or the script that lies beside the journal, by a Python that has nothing of
        ours."""
        script = self.prefix / ".safe-install" / "recover.py"
        command = self.command(["recover"])
        if generator is not None and generator.random() < 0.5 and script.is_file():
            command = [sys.executable, "-I", "-S", str(script)]
        done = subprocess.run(
            command,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        assert done.returncode == 0, f"recover: {done.returncode} {done.stdout} {done.stderr}"

    def state(self, name: str) -> str:
        """ "before", "after", or "neither"; a journal that is left counts as neither."""
        if list((self.prefix / ".safe-install").glob("txn-*/journal")):
            return "neither: a journal is left"
        found = hash_state(self.prefix)
        return (
            "before"
            if found == self.before[name]
            else "after"
            if found == self.after[name]
            else "neither"
        )


FOREIGN = (
    "PIP_",
    "SAFE_INSTALL_",
    "UV_",
    "CONDA_",
    "VIRTUAL_ENV",
    "PYTHON",
    "TORCH_",
    "CUDA_",
    "FAKE_",
    "NV_",
    "XDG_",
)


def make_index(folder: Path, python: str, wheels: Optional[LabWheels]) -> Path:
    """The stand-ins for torch and its libraries, and the projects of the actions."""
    if wheels is None:
        index = build_wheels(folder, python).index
    else:
        index = Path(shutil.copytree(wheels.index, folder / "index"))
    write_projects(index)
    return index


def write_projects(index: Path) -> None:
    """Two versions of a project with a package, modules, a script and data, and one more; another
    shape in each."""
    for version in ("1", "2"):
        files = {
            f"alpha/part{number}/module.py": f"version = {version}\n"
            for number in range(4 + int(version))
        }
        files.update(
            {
                "alpha/__init__.py": f"version = {version}\n",
                f"alpha/only{version}/data.txt": version,
            }
        )
        files.update({"alpha_module.py": f"version = {version}\n", "shared/alpha.txt": version})
        files.update({f"alpha-{version}.data/data/share/alpha/note.txt": version})
        files.update({f"alpha-{version}.data/scripts/alpha": f"#!python\nprint({version})\n"})
        # a file becomes a directory
        files["alpha/thing" if version == "1" else "alpha/thing/inside.txt"] = version
        write_wheel(index, "alpha", version, files)
    write_wheel(index, "beta", "1", {"shared/beta.txt": "beta", "beta.py": ""})
    write_lying_wheel(index)


def write_lying_wheel(index: Path) -> None:
    """A wheel of which one file is another one than RECORD says: that is seen when it is
    unpacked."""
    files = {f"lying/part{number}.py": f"x = {number}\n" for number in range(4)}
    path = write_wheel(index, "lying", "1", {**files, "lying/data.txt": "promised"})
    with zipfile.ZipFile(path) as source:
        members = {info: source.read(info) for info in source.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for info, content in members.items():
            is_liar = info.filename == "lying/data.txt"
            target.writestr(info, b"another!" if is_liar else content)


def hash_state(prefix: Path) -> str:
    """One value for what counts: pip goes on where bytecode cannot be written, and RECORD does not
    list it then."""
    rows = read_tree(prefix)
    for path in rows:
        if path.endswith(".dist-info/RECORD"):
            lines = (prefix / path).read_text().splitlines()
            rows[path] = (
                "RECORD",
                *sorted(line for line in lines if "/__pycache__/" not in f"/{line}"),
            )
    return hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()


# --- what is done to it ---------------------------------------------------------------------------


def kill_at_random(program: Program, name: str, generator: random.Random) -> str:
    """SIGKILL at a random moment of a run, perhaps of its recoveries; what the environment is
    then."""
    action = ACTIONS[name]
    program.begin(name)
    length = program.seconds[name]
    kill_after(program, action, generator.uniform(0.2, 1.0) * length, generator)
    while generator.random() < 0.3:
        kill_after(program, Action(("recover",)), generator.uniform(0, 0.4), generator)
    program.recover(generator)
    return program.state(name)


def kill_after(program: Program, action: Action, seconds: float, generator: random.Random) -> None:
    process = program.start(action)
    time.sleep(seconds)
    if generator.random() < 0.5:
        os.kill(process.pid, signal.SIGSTOP)
        started = descendants(process.pid)
        for number in (process.pid, *started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
    else:
        started = descendants(process.pid)
        process.kill()
    process.communicate()
    if generator.random() < 0.5:
        # Else the recovery works beside a pip that nobody waits for any more.
        wait_for(started)
    program.orphans = started


def wait_for(processes: Sequence[int]) -> None:
    """Until these have ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(map(is_running, processes)):
        time.sleep(0.02)


def is_running(process: int) -> bool:
    """Is it there, and more than the entry of one that nobody has asked for?"""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(process: int) -> List[int]:
    """The processes that a process started, and that they started."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    children = [int(number) for number in text.split()]
    return children + [below for child in children for below in descendants(child)]


def interrupt_at_random(program: Program, name: str, generator: random.Random) -> Tuple[int, str]:
    """SIGINT, SIGTERM or SIGHUP at a random moment, to the program as `kill` does it; no recovery
    follows.

    The exit status, and what the environment is. Raises AssertionError where a promise is broken.
    """
    action, number = ACTIONS[name], generator.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    program.begin(name)
    length = program.seconds[name]
    process = program.start(action)
    time.sleep(generator.uniform(0.2, 1.05) * length)
    process.send_signal(number)
    out, words = process.communicate(timeout=120)
    state = program.state(name)
    told = f"{name}, {signal.Signals(number).name}: exit status {process.returncode}, {state}\n{out}{words}"
    # Before Python has a handler, and after it has none any more, the signal itself ends the
    # process.
    assert process.returncode in (128 + number, action.status, -number), told
    assert state in ("before", "after"), told
    if process.returncode == 128 + number:
        assert (state == "after") == ("after the change was made" in words) or action.status, told
    return process.returncode, state


def hang_up_at_random(program: Program, name: str, generator: random.Random) -> str:
    """The terminal in which it runs goes away at a random moment: SIGHUP, and nobody reads what it
    writes."""
    program.begin(name)
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        program.command(ACTIONS[name].words),
        env={**program.variables, **dict(ACTIONS[name].variables)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=program.folder,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
    )
    os.close(terminal)
    end = time.monotonic() + generator.uniform(0.1, 3.0)
    while time.monotonic() < end and process.poll() is None:
        if select.select([controller], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):
                os.read(controller, 65536)
    os.close(controller)
    process.wait(120)
    return program.state(name)


def kill_at_step(
    program: Program, name: str, step: int, generator: random.Random
) -> Tuple[str, str]:
    """SIGKILL of the whole run before one of its calls; the state then, and after the recovery."""
    program.begin(name)
    done = program.run(ACTIONS[name], **program.shimmed(at=step))
    assert done.returncode in (-signal.SIGKILL, ACTIONS[name].status), (
        f"{done.returncode} {done.stderr}"
    )
    unrecovered = program.state(name)
    program.recover(generator)
    return unrecovered, program.state(name)


def fail_at_step(
    program: Program, name: str, step: int, code: int, *, sticky: bool
) -> Tuple[int, str]:
    """One call fails; the exit status, and what the environment is. Raises AssertionError where a
    promise is broken."""
    program.begin(name)
    done = program.run(ACTIONS[name], **program.shimmed(at=step, code=code, sticky=sticky))
    where = f"{name}: {program.struck()}, call {step}, {errno.errorcode[code]}{' from then on' if sticky else ''}"
    told = f"{where}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode in (0, 1, 11, 12, 13), told
    assert not re.search(r'File ".*/safe_install/(?!.*script\.py)', done.stderr), (
        f"a traceback of ours: {told}"
    )
    state = program.state(name)
    is_done = done.returncode == 0 and ACTIONS[name].changes
    if done.returncode == 13:
        assert "recover" in done.stderr, f"no way out: {told}"
    else:
        # A journal may be left, by which nothing was moved or everything moved back.
        expected = "after" if is_done else "before"
        assert state in (expected, "neither: a journal is left"), f"{state}: {told}"
    program.recover()
    state = program.state(name)
    assert state == ("after" if is_done else "before"), f"{state} after recover: {told}"
    return done.returncode, state


def steps_of(program: Program, name: str, every: int = 1, first: int = 1) -> Iterator[int]:
    """The numbers of the calls of an action, every n-th."""
    yield from range(first, program.count(name) + 1, every)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--signals", type=int, default=0)
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument(
        "--every-error", action="store_true", help="with --faults: each call with each error"
    )
    parser.add_argument(
        "--action", action="append", choices=ACTIONS, help="only this one, may be repeated"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="with --steps and --faults: every n-th call only"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work: choose the file system to test")
    options = parser.parse_args()
    generator, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        program = Program(Path(os.path.realpath(folder)))
        for name in options.action or ACTIONS:
            chance = Counter(
                kill_at_random(program, name, generator)
                for _ in range(options.kills // len(options.action or ACTIONS))
            )
            if options.kills:
                print(f"{name}: killed at random moments: {dict(chance)}", flush=True)
            bad += sum(count for state, count in chance.items() if state.startswith("neither"))
            if options.signals:
                ended = Counter(
                    interrupt_at_random(program, name, generator)
                    for _ in range(options.signals // len(ACTIONS))
                )
                print(f"{name}: signals at random moments: {dict(ended)}", flush=True)
            if options.steps:
                found = [
                    kill_at_step(program, name, at, generator)
                    for at in steps_of(program, name, options.every)
                ]
                between, then = (
                    Counter(was for was, _ in found),
                    Counter(state for _, state in found),
                )
                print(
                    f"{name}: killed before each call: {dict(between)}, recovered: {dict(then)}",
                    flush=True,
                )
                bad += sum(count for state, count in then.items() if state.startswith("neither"))
            if options.faults:
                bad += fail_all(program, name, options.every, every_error=options.every_error)
    return 1 if bad else 0


def fail_all(program: Program, name: str, every: int, *, every_error: bool) -> int:
    """Each call with each error; prints what became of them, returns how many broke a promise."""
    found: Counter[str] = Counter()
    for step in steps_of(program, name, every):
        for code in ERRORS if every_error else [ERRORS[step % len(ERRORS)]]:
            for sticky in (False, True):
                try:
                    status, state = fail_at_step(program, name, step, code, sticky=sticky)
                    found[f"{status} {state}"] += 1
                except AssertionError as error:
                    found["broken"] += 1
                    print(f"BROKEN: {error}", flush=True)
    print(f"{name}: each call fails: {dict(found)}", flush=True)
    return found["broken"]


if __name__ == "__main__":
    sys.exit(main())
