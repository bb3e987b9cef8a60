"""`python -m ferray.predict`."""

import sys

from ferray.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
