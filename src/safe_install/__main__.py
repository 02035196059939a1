"""`python -m safe_install` is the same program as `safe-install`."""

import sys

from safe_install.cli import main

if __name__ == "__main__":
    sys.exit(main())
