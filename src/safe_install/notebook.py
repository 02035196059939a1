"""`%safe_install ARGS` in IPython and Jupyter: a command line for the environment of the kernel.

Standard library only. The program runs in a child process, so that it is not imported into the
kernel.
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
    """Run safe-install on the environment of this kernel (`%safe_install install torch-scatter`),
    then print whether the kernel has to be restarted.

    A failure is printed, and raises no error in the cell, as with `!pip`.
    """
    try:
        command = command_of(line)
    except ValueError as error:  # a quotation mark is not closed
        print(f"safe-install: {error}: {line}")
        return
    status = run_program(command)
    if status != 0:
        print(f"safe-install ended with exit status {status}")
    for sentence in check_running():
        print(sentence.replace("this process", "this kernel"))


def command_of(line: str) -> List[str]:
    """The command that runs this safe-install with the kernel's interpreter, on its environment.
    Errors: ValueError if the line cannot be split into words."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
    # With this name, the commands in hints can be typed in a cell.
    name = f"sys.argv[0] = '%{MAGIC}'; "
    program = start + name + "from safe_install.__main__ import run; run()"
    words = shlex.split(line)
    is_named = any(word.partition("=")[0] == "--python" for word in words)
    own = [] if is_named else ["--python", sys.executable]
    return [sys.executable, "-c", program, *own, *words]


def run_program(command: List[str]) -> int:
    """Run a command, and print its output line by line; its exit status. Each interrupt of the
    kernel is passed on: at the first one the program rolls back, at the second one it ends."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that the terminal sends no second interrupt
    ) as process:
        while True:
            try:
                for text in process.stdout or ():
                    sys.stdout.write(text)
                    sys.stdout.flush()
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
