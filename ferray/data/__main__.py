"""`python -m ferray.data`."""

import sys

from ferray.commands.data import main

if __name__ == "__main__":
    sys.exit(main())
