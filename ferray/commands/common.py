"""What all commands share: exit codes, error texts, the log.

Exit 0 done, 1 failed while working, 2 something the user can put right, 130 interrupted.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable

from ferray.errors import FerrayError, StorageError

log = logging.getLogger(__name__)

WAY_OUT = "Name another place, or see to this one; FERRAY_LOG=debug tells where it was asked for"


def run_command(body: Callable[[], int]) -> int:
    """Run a command's body; a `FerrayError` becomes a message on stderr and exit code 2, Ctrl-C becomes 130.

    So does what the system refuses of a place by its name, such as one that is too long or not for this user.
    """
    level = os.environ.get("FERRAY_LOG", "WARNING").upper()
    if level not in logging.getLevelNamesMapping():
        print(f"error: FERRAY_LOG is {level}\n  Use DEBUG, INFO, WARNING or ERROR", file=sys.stderr)
        return 2
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        return body()
    except FerrayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        log.debug("from", exc_info=error)
        what = error.strerror or type(error).__name__
        print(f"error: {StorageError(str(error.filename), what, WAY_OUT)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def make_parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the project's form of help: one description, then examples to copy.

    Args:
        prog: For example `python -m ferray.search`.
        description: First lines of the help.
        examples: Commands, one a line, each with a comment.
    """
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
