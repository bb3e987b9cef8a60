"""`python -m ferray.fit`."""

import sys

from ferray.commands.fit import main

if __name__ == "__main__":
    sys.exit(main())
