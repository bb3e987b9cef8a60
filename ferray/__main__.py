"""`python -m ferray`, and the console script `ferray`: the commands, one line each."""

import importlib
import sys
from collections.abc import Sequence

from ferray.commands.common import run_command

COMMANDS = {
    "search": "find the best settings of a space; the best checkpoint and its one test score remain",
    "data": "make a store of faces from photographs, draw demo faces, look at a store",
    "train": "train one recipe, without a search",
    "predict": "label pictures with the best model of a search",
    "report": "score the best model of a search again",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the line to the command that its first word names."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(words))


def _run(words: list[str]) -> int:
    if words and words[0] in COMMANDS:
        command = importlib.import_module(f"ferray.commands.{words[0]}")
        return int(command.main(words[1:]))
    lines = [f"  {name:8} {what}" for name, what in COMMANDS.items()]
    text = "\n".join(["usage: ferray COMMAND ...", "", *lines, "", "Each has --help, with examples to copy."])
    if not words or words[0] in ("-h", "--help"):
        print(text)
        return 0 if words else 2
    print(f"error: unknown command {words[0]!r}\n\n{text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
