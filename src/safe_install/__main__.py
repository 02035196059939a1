"""Where the program starts: `safe-install`, `python -m safe_install` and the zipapp.

A key press of a completing shell is answered from here, because the rest takes longer to import than it may last.
"""

import os
import sys


def run() -> None:
    """Run the command line of this process, and end it."""
    if sys.argv[1:2] == ["--complete"]:
        from safe_install.completion.answer import answer

        sys.exit(answer(sys.argv[2:], os.environ))
    if "PIP_AUTO_COMPLETE" in os.environ:
        from safe_install.completion.answer import answer_as_pip

        sys.exit(answer_as_pip(os.environ))
    from safe_install.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
