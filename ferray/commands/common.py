"""What all commands share: exit codes, error messages, the log, the form of the help.

Exit codes: 0 done, 1 failed while working, 2 an error that the user can correct, 130 interrupted.
"""

import argparse
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ferray.commands.streams import READER_LEFT, kept_streams
from ferray.errors import FerrayError, StorageError
from ferray.files.location import local_path
from ferray.files.storage import give_home

log = logging.getLogger(__name__)

Number = TypeVar("Number", int, float)

_WAY_OUT = "Name another place, or repair this one; FERRAY_LOG=debug shows where ferray uses it"

_LOST = "What was to be printed is lost; all else is done"


RUN_HELP = "runs/NAME, or s3://BUCKET/RUNS/NAME"
"""How a search is named, for helps."""


def path_option(option: str) -> Callable[[str], Path]:
    """A `type` for an argument that is a file or a folder of this machine: a path, or `file:///PATH`.

    Args:
        option: As it is typed, for the `StorageError` of one that names a bucket or another machine; empty for a
            positional one.
    """
    return lambda text: Path(local_path(text, option=option))


def run_command(body: Callable[[], int]) -> int:
    """Run a command's body, the parsing of its arguments included, and return its exit code.

    A `FerrayError` becomes a message on stderr and exit code 2, and so does an error of the system, such as a file name
    that is too long or a disk that is full; Ctrl-C becomes 130. A reader of its output that leaves, as in `... | head`,
    ends no command; where output is lost for another reason, a command that has done its work exits with 1.
    """
    give_home()
    keep_warnings_from_raising()
    os.environ.pop("MPLBACKEND", None)  # no window is opened; one that matplotlib has dropped would end a search late
    with kept_streams() as (out, _):
        try:
            code = _run(body)
        except SystemExit as end:  # of argparse: help or a usage error, which it has printed
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out.flush()
        if out.fault is not None and out.fault.errno not in READER_LEFT:
            print(f"error: stdout: {out.fault.strerror}\n  {_LOST}", file=sys.stderr)
            code = code or 1
    return code


def keep_warnings_from_raising() -> None:
    """A user's `PYTHONWARNINGS=error`, or `-W error`, prints warnings: those of libraries must not end a command.

    Also in the processes that it starts: Ray's own warn of their own settings.
    """
    kept = [option for option in sys.warnoptions if not "error".startswith(option.partition(":")[0].strip() or "-")]
    if len(kept) < len(sys.warnoptions):
        sys.warnoptions[:] = kept
        os.environ["PYTHONWARNINGS"] = ",".join(kept)
        warnings.simplefilter("default")


def _run(body: Callable[[], int]) -> int:
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
    except OSError as error:
        log.debug("raised here", exc_info=error)
        if error.filename is None and not _is_somewhere():
            print("error: the current folder: it was removed\n  Change to one that is there: cd", file=sys.stderr)
            return 2
        what = error.strerror or str(error) or type(error).__name__
        where = "the system" if error.filename is None else os.fsdecode(error.filename)
        print(f"error: {StorageError(where, what, _WAY_OUT)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _is_somewhere() -> bool:
    """Whether the folder that the process is in is still there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


class Parser(argparse.ArgumentParser):
    """A parser that refuses empty words: those of a shell's variable that is not set, as in `--out "$OUT"`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As its base, after a look at the words."""
        words = list(sys.argv[1:] if args is None else args)
        for before, word in zip(["", *words], words, strict=False):
            option = before if word == "" else word.removesuffix("=")
            if word == "" or (word.startswith("--") and word.endswith("=") and word.count("=") == 1):
                place = f"argument {option}: " if option.startswith("-") else ""
                self.error(f"{place}an empty value; leave the option out for its default")
        return super().parse_known_args(args, namespace)


def make_parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the project's form of help: one description, then examples to copy.

    Args:
        prog: What was typed: `python -m ferray.search`, or `ferray search`, which the examples then say, too.
        description: First lines of the help.
        examples: Commands, one per line, each with a comment, as `python -m ferray.NAME`.
    """
    return Parser(
        prog=prog,
        description=description,
        epilog="examples:\n" + as_typed(examples, prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def as_typed(examples: str, prog: str) -> str:
    """Examples of `python -m ferray.NAME`, as `ferray NAME` if that is what was typed."""
    return examples.replace("python -m ferray.", "ferray ") if prog.startswith("ferray ") else examples


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
