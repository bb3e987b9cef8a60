"""`python -m ferray.report`."""

import sys

from ferray.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
