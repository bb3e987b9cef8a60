"""`python -m ferray.search`."""

import sys

from ferray.commands.search import main

if __name__ == "__main__":
    sys.exit(main())
