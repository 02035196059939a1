"""Real shells complete a line: --install-completion writes the script, a terminal is typed at, Tab
is pressed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "safe-install"
SHELLS = ("bash", "fish", "zsh")
ALIAS = {
    "bash": (".bashrc", "alias pip=safe-install\n"),
    "zsh": (".zshrc", "alias pip=safe-install\n"),
    "fish": (".config/fish/config.fish", "alias pip safe-install\n"),
}
LIMIT = 20.0  # seconds; a busy machine, a shell's first start


@pytest.fixture(params=SHELLS)
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    return request.param


@pytest.fixture
def surroundings(tmp_path):
    """A home of its own, and an environment with one distribution and one committed transaction."""
    prefix = tmp_path / "env"
    (prefix / "lib/python3.11/site-packages/Torch_Scatter-2.1.2.dist-info").mkdir(parents=True)
    transaction = prefix / ".safe-install" / "txn-20261123T101112Z-3f2a"
    transaction.mkdir(parents=True)
    (transaction / "committed").touch()
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "SAFE_INSTALL_"))
    }
    variables.update(
        HOME=str(tmp_path),
        ZDOTDIR=str(tmp_path),
        VIRTUAL_ENV=str(prefix),
        TERM="dumb",
        PATH=path_with_program(),
        PS1="$ ",
    )
    return variables


def path_with_program():
    return f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"


def safe_install(*words, **options):
    done = subprocess.run(
        [str(PROGRAM), *words], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_until(terminal, expected):
    """What the terminal shows until it holds `expected`, or until the time is over."""
    shown = b""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and expected.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], 1.0)
        if ready:
            shown += os.read(terminal, 4096)
    return shown.decode("utf-8", "replace")


@contextlib.contextmanager
def terminal_of(shell, variables):
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(variables["HOME"])
        os.execvpe(shell, [shell, "-i"], variables)
    try:
        os.write(terminal, b"echo re''ady\r")
        read_until(terminal, "ready")
        yield terminal
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


LINES = [
    ("safe-install unin", "uninstall "),
    ("safe-install torch-sca", "torch-scatter "),
    ("safe-install install --no-dep", "--no-deps "),
    ("safe-install uninstall torch-", "torch-scatter "),
    ("safe-install undo 2026", "20261123T101112Z-3f2a "),
    ("safe-install diff 2026", "20261123T101112Z-3f2a "),
    ("safe-install export --at 2026", "20261123T101112Z-3f2a "),
    ("pip install torch-sca", "torch-scatter "),
]


def test_tab_completes_the_word(shell, surroundings):
    start_file, alias = ALIAS[shell]
    path = Path(surroundings["HOME"], start_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(alias, encoding="utf-8")
    safe_install("--install-completion", shell, env=surroundings)
    if shell == "fish":  # it completes a line without a terminal
        questions = "".join(f"complete -C '{line}'; echo;" for line, _ in LINES)
        done = subprocess.run(
            ["fish", "-c", questions], capture_output=True, text=True, env=surroundings, check=True
        )
        offered = [answer.split() for answer in done.stdout.split("\n\n")]
        assert [expected.strip() in words for (_, expected), words in zip(LINES, offered)] == [
            True
        ] * len(LINES)
        return
    with terminal_of(shell, surroundings) as terminal:
        for line, expected in LINES:
            os.write(terminal, line.encode() + b"\t")
            shown = read_until(terminal, expected)
            assert expected in shown, (line, shown)
            os.write(terminal, b"\x15")  # Ctrl-U: the line is empty again


def test_a_second_installation_changes_nothing_and_the_printed_line_takes_it_back(
    shell, surroundings
):
    home = Path(surroundings["HOME"])
    start_file = home / {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".profile"}[shell]
    start_file.write_text("a line of the person's, without an end", encoding="utf-8")

    def files():
        return {
            str(path): path.read_text(encoding="utf-8")
            for path in home.rglob("*")
            if path.is_file()
        }

    safe_install("--install-completion", shell, env=surroundings)
    first = files()
    told = safe_install("--install-completion", shell, env=surroundings)
    assert files() == first
    undo = next(line for line in told.splitlines() if line.startswith("Undo with: "))[
        len("Undo with: ") :
    ]
    subprocess.run(["sh", "-c", undo], check=True)
    assert (
        start_file.read_text(encoding="utf-8").strip() == "a line of the person's, without an end"
    )
    assert len(files()) == len(first) - 1


def test_the_script_of_a_shell_is_good_syntax(shell, surroundings, tmp_path):
    script = tmp_path / "script"
    script.write_text(safe_install("--show-completion", shell, env=surroundings), encoding="utf-8")
    subprocess.run([shell, "-n", str(script)], check=True)


def test_the_script_of_pip_itself_is_answered_too(surroundings):
    variables = {
        **surroundings,
        "PIP_AUTO_COMPLETE": "1",
        "COMP_WORDS": "pip show torch-",
        "COMP_CWORD": "2",
    }
    assert safe_install(env=variables).split() == ["torch-scatter"]


@pytest.mark.parametrize(
    "words", [("undo", ""), ("show", ""), ("--python", "/nowhere", "show", ""), ("install", "x")]
)
def test_a_bad_environment_is_no_error(words, surroundings):
    variables = {
        **surroundings,
        "VIRTUAL_ENV": "/dev/null",
        "HOME": "/nowhere",
        "XDG_DATA_HOME": "/dev/null",
    }
    done = subprocess.run(
        [str(PROGRAM), "--complete", *words],
        capture_output=True,
        text=True,
        env=variables,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_key_press_loads_little(surroundings):
    """150 ms is the limit; what is loaded decides, and a busy machine does not."""
    code = (
        "import sys, runpy; sys.argv = ['safe-install', '--complete', 'install', 'torch-']\n"
        "try: runpy.run_module('safe_install', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=surroundings, check=True
    )
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "torch-scatter" in done.stdout.split()
    assert not loaded & {
        "packaging",
        "typer",
        "click",
        "rich",
        "requests",
        "resolvelib",
        "platformdirs",
    }
