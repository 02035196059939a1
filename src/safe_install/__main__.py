"""Where the program starts: `safe-install`, `python -m safe_install` and the zipapp.

A key press of a completing shell is answered from here, because the rest takes longer to import
than it may last.
"""

import atexit
import gc
import os
import sys
from typing import NoReturn

# `python -m` puts the working folder first: a random.py in it would take the place of Python's.
# One that was removed meanwhile has no name.
try:
    if __name__ == "__main__" and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109
        del sys.path[0]
except OSError:
    pass

from safe_install.cli import streams


def run() -> None:
    """Run the command line of this process, and end it."""
    streams.prepare()
    completes = sys.argv[1:2] == ["--complete"] or "PIP_AUTO_COMPLETE" in os.environ
    try:
        status = _complete() if completes else _run()
    finally:
        streams.finish(says_problem=not completes)
    end(status)


def end(status: int) -> NoReturn:
    """End this process. Python would take hundreds of modules apart first, one by one, and the
    memory of all goes at once anyway."""
    # the only way to run what was registered with atexit, and no more
    atexit._run_exitfuncs()
    os._exit(status & 0xFF)


def _complete() -> int:
    if sys.argv[1:2] == ["--complete"]:
        from safe_install.cli.completion.answer import answer

        return answer(sys.argv[2:], os.environ)
    from safe_install.cli.completion.answer import answer_as_pip

    return answer_as_pip(os.environ)


def _run() -> int:
    # What is imported stays: looking for garbage among it is a tenth of a short command.
    gc.set_threshold(50_000)
    from safe_install.cli.main import main

    return main()


if __name__ == "__main__":
    run()
