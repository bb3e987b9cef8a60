"""`python -m ferray.report`: what a model's score is, what somebody's score is worth, where a model is weak."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ferray.commands.common import make_parser, run_command
from ferray.errors import DataError, FerrayError
from ferray.files import storage

EXAMPLES = """\
  python -m ferray.report evaluate runs/grid/best --data data/expw                    # the test score on record
  python -m ferray.report evaluate runs/grid/best --data data/fer2013 --split test --json
  python -m ferray.report audit runs/grid/best                                        # ferray's own answers, doubted
  python -m ferray.report audit answers.csv --claimed 0.91 --source-counts expw       # anybody's
  python -m ferray.report audit --confusion matrix.csv --claimed 91%
  python -m ferray.report audit --claimed 0.98,0.92,0.91 --classes 7 --n 7200         # a number alone
  python -m ferray.report slices runs/grid/best --data data/expw --by subject_word
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and do what was asked; see `--help`."""
    arguments = _parse(argv)
    body: Callable[[argparse.Namespace], int] = arguments.body
    return run_command(lambda: body(arguments))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("python -m ferray.report", "Say what a trained model is worth.", EXAMPLES)
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    text = "score a model on a split of a store; on its own test split, the score on record"
    evaluate = commands.add_parser("evaluate", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    evaluate.add_argument("best_dir", type=Path, metavar="BEST", help="the folder `best` of a search: runs/NAME/best")
    evaluate.add_argument("--data", type=Path, required=True, metavar="DIR", help="a store, as ferray.data writes it")
    evaluate.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="default: %(default)s"
    )
    evaluate.add_argument("--again", action="store_true", help="read the own test split again, and put that on record")
    evaluate.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    evaluate.add_argument("--predictions", type=Path, metavar="CSV", help="write the answers too, for `audit`")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    evaluate.set_defaults(body=_evaluate)

    text = "recompute a score from its table of answers under every name, and say what is to be doubted"
    audit = commands.add_parser("audit", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    audit.add_argument(
        "predictions", type=Path, nargs="?", metavar="ANSWERS",
        help="CSV: id, label, one column a class with its probability (or `prediction`), optional group, split, trial,"
        " seed; or a folder `best`",
    )  # fmt: skip
    audit.add_argument("--confusion", type=Path, metavar="CSV", help="a confusion matrix instead, labels in the rows")
    audit.add_argument("--claimed", metavar="X,...", help="what somebody says the accuracy is: 0.91 or 91%%")
    audit.add_argument("--classes", type=int, metavar="K", help="number of classes, where there is no table")
    audit.add_argument("--n", type=int, metavar="N", help="number of test faces, where there is no table")
    audit.add_argument("--dataset", metavar="NAME", help="compare with what was published for it: expw, fer2013, ...")
    audit.add_argument(
        "--source-counts", metavar="SET", help="faces a class of the source: expw, or angry=3671,disgust=3995,..."
    )
    audit.add_argument("--ceiling", type=float, metavar="X", help="the best accuracy that the labels' noise allows")
    audit.add_argument("--strict", action="store_true", help="exit with 1 if there is a fault")
    audit.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    audit.set_defaults(body=_audit)

    text = "accuracy on parts of the test split, from the answers on record; the model is not run"
    slices = commands.add_parser("slices", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    slices.add_argument("best_dir", type=Path, metavar="BEST", help="the folder `best` of a search: runs/NAME/best")
    slices.add_argument("--data", type=Path, required=True, metavar="DIR", help="the store that it was searched on")
    slices.add_argument("--by", metavar="COLUMN", help="a column of the store's table (default: all)")
    slices.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    slices.set_defaults(body=_slices)
    return parser.parse_args(argv)


def _evaluate(arguments: argparse.Namespace) -> int:
    from ferray.data.store.reader import open_store
    from ferray.report.test_split.readings import note_again, note_reading, recorded_score

    best_dir, split = arguments.best_dir, arguments.split
    store = open_store(arguments.data)
    recorded = None if arguments.again else recorded_score(best_dir, store, split)
    if recorded is not None:
        notes = [
            *recorded.get("notes", []),
            f"the score on record, read at {recorded['read']}; the split was not read again (--again does, on record)",
        ]
        if arguments.predictions is not None:
            what = "the answers on the own test split are on record"
            raise DataError(str(arguments.predictions), what, "Copy BEST/predictions.csv, or add --again")
    else:
        if split == "test" and arguments.again:
            note_again(best_dir, store)

        from ferray.report.test_split.evaluate import evaluate

        evaluation = evaluate(best_dir, store, split, device=arguments.device)
        recorded = evaluation.scores.to_json() | {"data": store.fingerprint, "split": split}
        notes = list(evaluation.notes)
        if arguments.predictions is not None:
            storage.write_bytes(arguments.predictions, evaluation.to_csv(store, split).encode())
        try:
            note_reading(best_dir, store, split, evaluation.scores)
        except FerrayError as error:
            print(f"warning: this reading is not on record: {error.args[0]}: {error.args[1]}", file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(recorded, indent=2))
    else:
        from ferray.report.terminal import format_scores

        print(format_scores(recorded, f"{best_dir} on {split} of {arguments.data}"))
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from ferray.audit.score.audit import audit, known_counts, known_published
    from ferray.metrics.predictions import PREDICTIONS, read_confusion, read_predictions
    from ferray.report.test_split.readings import test_readings

    file, table, readings = arguments.predictions, None, []
    if (file is None) + (arguments.confusion is None) + (arguments.claimed is None) == 3 or (
        file is not None and arguments.confusion is not None
    ):
        raise DataError("audit", "one table or a claim is needed", "Give ANSWERS, --confusion CSV, or --claimed X")
    if arguments.confusion is not None:
        file = arguments.confusion
        table = read_confusion(file)
    elif file is not None:
        if file.is_dir():
            file = file / PREDICTIONS
        table = read_predictions(file)
        readings = test_readings(file.parent)
    counts = arguments.source_counts
    found = audit(
        table,
        claimed=[] if arguments.claimed is None else arguments.claimed.split(","),
        num_classes=arguments.classes,
        n=arguments.n,
        published=known_published(arguments.dataset),
        source_counts=None if counts is None else _read_counts(counts) if "=" in counts else known_counts(counts),
        ceiling=arguments.ceiling,
        readings=readings,
    )
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        from ferray.report.terminal import format_audit

        print(format_audit(found, str(file or "claims")))
    return int(arguments.strict and found.has_fault)


def _read_counts(text: str) -> dict[str, int]:
    """`angry=3671,disgust=3995` as counts."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(number.strip().isdigit() for _, _, number in pairs):
        raise DataError(f"--source-counts {text}", "not class=number, ...", "Write angry=3671,disgust=3995 and so on")
    return {name.strip(): int(number) for name, _, number in pairs}


def _slices(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ferray.data.store.reader import open_store
    from ferray.report.slices import slice_recorded, worst_slice
    from ferray.report.terminal import format_slices

    slices = slice_recorded(arguments.best_dir, open_store(arguments.data), by=arguments.by)
    if arguments.json:
        print(json.dumps({"slices": [asdict(one) for one in slices], "worst": worst_slice(slices)}, indent=2))
    else:
        print(format_slices(slices, f"{arguments.best_dir} on the test split of {arguments.data}"))
    return 0
