"""`python -m ferray.report`: the score of an exported model, repeated from its folder alone."""

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.command import make_parser, run_command
from ferray.errors import RecordError

if TYPE_CHECKING:
    from ferray.data.store import Store
    from ferray.report.evaluate import Evaluation
    from ferray.report.scores import Scores

EXAMPLES = """\
  python -m ferray.report evaluate runs/grid/best --data data/expw                    # the test score again
  python -m ferray.report evaluate runs/grid/best --data data/fer2013 --split test --json
"""

READINGS = "readings.jsonl"
"""Every reading of a split with a model, one line each, beside the model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, evaluate, print; see `--help`."""
    arguments = _parse(argv)
    return run_command(lambda: _evaluate(arguments))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("python -m ferray.report", "Say what a trained model is worth.", EXAMPLES)
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    text = "score a model on a split of a store"
    evaluate = commands.add_parser("evaluate", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    evaluate.add_argument("best_dir", type=Path, metavar="BEST", help="the folder `best` of a search: runs/NAME/best")
    evaluate.add_argument("--data", type=Path, required=True, metavar="DIR", help="a store, as ferray.data writes it")
    evaluate.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="default: %(default)s"
    )
    evaluate.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def _evaluate(arguments: argparse.Namespace) -> int:
    from ferray.data.store import open_store

    store = open_store(arguments.data)

    from ferray.report.evaluate import evaluate

    evaluation = evaluate(arguments.best_dir, store, arguments.split, device=arguments.device)
    _note_reading(arguments.best_dir, store, arguments.split, evaluation)
    for note in evaluation.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(evaluation.scores.to_json(), indent=2))
    else:
        print(_table(evaluation.scores, f"{arguments.best_dir} on {arguments.split} of {arguments.data}"))
    return 0


def _note_reading(best_dir: Path, store: "Store", split: str, evaluation: "Evaluation") -> None:
    """A test split that is read often is no test any more: whoever holds the model can count."""
    from ferray.records import Journal

    reading = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data": store.fingerprint,
        "split": split,
        "n": evaluation.scores.n,
        "accuracy": evaluation.scores.accuracy,
    }
    try:
        Journal(best_dir / READINGS).append(reading)
    except RecordError as error:
        print(f"warning: this reading is not on record: {error.args[0]}: {error.args[1]}", file=sys.stderr)


def _table(scores: "Scores", title: str) -> str:
    """Scores with intervals, what guessing would score, and the recall of each class."""
    lines = [f"{title}: {scores.n:,} faces of {scores.num_groups:,} photographs", ""]
    for name, value in (
        ("accuracy", scores.accuracy),
        ("balanced_accuracy", scores.balanced_accuracy),
        ("macro_f1", scores.macro_f1),
    ):
        low, high = scores.intervals[name]
        words = name.replace("_", " ").replace("f1", "F1")
        lines.append(f"{words:<28} {value:.4f}   95 % interval {low:.4f} to {high:.4f}")
    for words, guess in (
        ("most frequent training class", scores.majority),
        ("best constant answer", scores.constant_guess),
        ("chance", scores.chance),
    ):
        if guess is not None:
            lines.append(f"{words:<28} {guess:.4f}")
    lines += ["", f"{'class':<12} {'faces':>7} {'recall':>7}"]
    for place, name in enumerate(scores.class_names):
        total = int(scores.confusion[place].sum())
        recall = f"{scores.confusion[place, place] / total:.3f}" if total else "-"
        lines.append(f"{name:<12} {total:>7,} {recall:>7}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
