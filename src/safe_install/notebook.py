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
    """Run safe-install on the environment of this kernel: `%safe_install install torch-scatter`.
    Then say whether the kernel has to be restarted.

    A failure is in the output, and leaves the cell without an error, as `!pip` does.
    """
    try:
        command = command_of(line)
    except ValueError as error:  # a quotation mark without its second one
        print(f"safe-install: {error}: {line}")
        return
    status = run_program(command)
    if status != 0:
        print(f"safe-install ended with exit status {status}")
    for sentence in check_running():
        print(sentence.replace("this process", "this kernel"))


def command_of(line: str) -> List[str]:
    """The command: this very program, started by the kernel's interpreter, for its environment.
    Errors: ValueError where the line cannot be split into words."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
    # By this name it says what to type next: in a cell.
    name = f"sys.argv[0] = '%{MAGIC}'; "
    program = start + name + "from safe_install.__main__ import run; run()"
    words = shlex.split(line)
    is_named = any(word.partition("=")[0] == "--python" for word in words)
    own = [] if is_named else ["--python", sys.executable]
    return [sys.executable, "-c", program, *own, *words]


def run_program(command: List[str]) -> int:
    """Run it, its output line by line into the cell. Each interrupt of the kernel is passed on: the
    program puts everything back, and a second one says that it shall not."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # one interrupt, ours, and not a second one from the terminal
    ) as process:
        while True:
            try:
                for text in process.stdout or ():
                    sys.stdout.write(text)
                    sys.stdout.flush()
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
