"""`%safe_install ARGS` in IPython and Jupyter: a command line for the environment of the kernel.

Standard library only; the program runs in a process of its own, so that nothing of it is imported
into the kernel.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List

from safe_install.running import check_running

MAGIC = "safe_install"


def register(shell: Any) -> None:
    """Add the magic to an IPython shell."""
    shell.register_magic_function(run_line, magic_kind="line", magic_name=MAGIC)


def run_line(line: str) -> None:
    """Run a command line on the kernel's environment; say what the kernel has in memory and is not
    installed any more.

    A failure is in the output, and leaves the cell without an error, as `!pip` does.
    """
    status = run_program(command_of(line))
    if status != 0:
        print(f"safe-install ended with exit status {status}")
    for sentence in check_running():
        print(sentence.replace("this process", "this kernel"))


def command_of(line: str) -> List[str]:
    """The command: this very program, started by the kernel's interpreter, for its environment."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
    program = start + "sys.argv[0] = 'safe-install'; from safe_install.__main__ import run; run()"
    words = shlex.split(line)
    own = [] if "--python" in words else ["--python", sys.executable]
    return [sys.executable, "-c", program, *own, *words]


def run_program(command: List[str]) -> int:
    """Run it, its output line by line into the cell."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # one interrupt, ours, and not a second one from the terminal
    ) as process:
        try:
            for text in process.stdout or ():
                sys.stdout.write(text)
                sys.stdout.flush()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # it puts everything back
            for text in process.stdout or ():
                sys.stdout.write(text)
        return process.wait()
