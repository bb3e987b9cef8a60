"""What all commands share: exit codes, error messages, the log, the form of the help.

Exit codes: 0 done, 1 failed while working, 2 an error that the user can correct, 130 interrupted.
"""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from ferray.errors import FerrayError, StorageError

log = logging.getLogger(__name__)

Number = TypeVar("Number", int, float)

_WAY_OUT = "Name another place, or repair this one; FERRAY_LOG=debug shows where ferray uses it"


def run_command(body: Callable[[], int]) -> int:
    """Run a command's body; a `FerrayError` becomes a message on stderr and exit code 2, Ctrl-C becomes 130.

    An error of the system about a file name, such as one that is too long or not permitted, is treated the same way.
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
    except BrokenPipeError:  # as in `... | head`: the reader has closed its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        log.debug("raised here", exc_info=error)
        what = error.strerror or type(error).__name__
        print(f"error: {StorageError(str(error.filename), what, _WAY_OUT)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def make_parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the project's form of help: one description, then examples to copy.

    Args:
        prog: For example `python -m ferray.search`.
        description: First lines of the help.
        examples: Commands, one per line, each with a comment.
    """
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def number_option(kind: type[Number], low: float, high: float = math.inf) -> Callable[[str], Number]:
    """The `type` of an option that takes a number within bounds, both included.

    Args:
        kind: `int` or `float`.
        low: Smallest number.
        high: Largest number.
    """

    def parse(text: str) -> Number:
        value = kind(text)
        if not low <= value <= high:
            bounds = f"{low} or more" if high == math.inf else f"in {low} .. {high}"
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return value

    parse.__name__ = "number"  # argparse names it where the text is no number
    return parse
