"""`python -m ferray.train`."""

import sys

from ferray.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
