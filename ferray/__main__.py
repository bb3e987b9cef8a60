"""`python -m ferray`, and the console script `ferray`: the commands, one line each."""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from ferray.commands.common import run_command

COMMANDS = {
    "fit": ("a folder of pictures in, a model out: prepare, check and search in so many minutes", ""),
    "search": ("find the best settings of a space; the best checkpoint and its one test score remain", ""),
    "data": ("make, check and show stores of pictures", "prepare, merge, check, demo, show"),
    "train": ("train one recipe, without a search", ""),
    "predict": ("label pictures with the best model of a search", ""),
    "report": (
        "show what a trained model is worth, or take it elsewhere",
        "watch, evaluate, audit, slices, export, latency",
    ),
}
"""What each does, and its own commands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the line to the command that its first word names."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(words))


def _run(words: list[str]) -> int:
    if words and words[0] in COMMANDS:
        command = importlib.import_module(f"ferray.commands.{words[0]}")
        return int(command.main(words[1:], prog=f"{_prog()} {words[0]}"))
    if words == ["--version"]:
        print(f"ferray {importlib.metadata.version('ferray')}")
        return 0
    lines = [f"usage: {_prog()} COMMAND ...", ""]
    for name, (what, own) in COMMANDS.items():
        lines += [f"  {name:8} {what}", *([f"           its commands: {own}"] if own else [])]
    lines += ["", "Each has --help, with examples to copy. --version prints the version."]
    lines += [f"Completion in bash: complete -o default -W '{' '.join(COMMANDS)}' ferray"]
    text = "\n".join(lines)
    if not words or words[0] in ("-h", "--help"):
        print(text)
        return 0 if words else 2
    print(f"error: unknown command {words[0]!r}\n\n{text}", file=sys.stderr)
    return 2


def _prog() -> str:
    """What was typed: the script's name, or Python with the module."""
    return "python -m ferray" if Path(sys.argv[0]).name == "__main__.py" else "ferray"


if __name__ == "__main__":
    sys.exit(main())
