"""The start of the program: `safe-install`, `python -m safe_install` and the zipapp.

Shell completion is answered before the rest is imported, because it has to be fast.
"""

import atexit
import gc
import os
import sys
from typing import NoReturn

# `python -m` puts the working folder first on sys.path: a random.py in it would hide Python's.
try:
    if __name__ == "__main__" and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109
        del sys.path[0]
except OSError:  # the working folder was removed
    pass

from safe_install.cli import streams


def run() -> None:
    """Run the command line of this process, and end the process."""
    streams.prepare()
    completes = sys.argv[1:2] == ["--complete"] or "PIP_AUTO_COMPLETE" in os.environ
    try:
        status = _complete() if completes else _run()
    finally:
        streams.finish(says_problem=not completes)
    end(status)


def end(status: int) -> NoReturn:
    """End this process without Python's clean-up of hundreds of modules, which takes time."""
    # The only way to run the functions that were registered with atexit.
    atexit._run_exitfuncs()
    os._exit(status & 0xFF)


def _complete() -> int:
    if sys.argv[1:2] == ["--complete"]:
        from safe_install.cli.completion.answer import answer

        return answer(sys.argv[2:], os.environ)
    from safe_install.cli.completion.answer import answer_as_pip

    return answer_as_pip(os.environ)


def _run() -> int:
    # Imported modules are no garbage, and to look through them takes a tenth of a short command.
    gc.set_threshold(50_000)
    from safe_install.cli.main import main

    return main()


if __name__ == "__main__":
    run()
