"""`python -m safe_install` is the same program as `safe-install`."""

import sys

from safe_install.cli import main


def run() -> None:
    """The entry of the zipapp."""
    sys.exit(main())


if __name__ == "__main__":
    run()
