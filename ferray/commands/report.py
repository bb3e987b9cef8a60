"""`python -m ferray.report`: the score of a model, the audit of a reported score; all other commands are called here.

`export` and `latency` are in `ferray.commands.portable`, `fetch` in `ferray.commands.copies`, `wandb` in
`ferray.commands.wandb_runs`, all others in modules of their names.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.commands.common import make_parser, path_option, run_command
from ferray.commands.compare import CompareOptions, add_compare_parser, run_compare
from ferray.commands.copies import FetchOptions, add_fetch_parser, run_fetch
from ferray.commands.leaderboard import LeaderboardOptions, add_leaderboard_parser, run_leaderboard
from ferray.commands.page import PageOptions, add_page_parser, run_page
from ferray.commands.portable import (
    ExportOptions,
    LatencyOptions,
    add_export_parser,
    add_latency_parser,
    run_export,
    run_latency,
)
from ferray.commands.slices import SlicesOptions, add_slices_parser, run_slices
from ferray.commands.wandb_runs import WandbOptions, add_wandb_parser, run_wandb
from ferray.commands.watch import WatchOptions, add_watch_parser, run_watch
from ferray.errors import DataError, FerrayError
from ferray.files import storage
from ferray.records.bucket.fetch import best_folder
from ferray.waiting import waiting

if TYPE_CHECKING:
    from ferray.data.store.reader import Store
    from ferray.data.subject import Subject
    from ferray.report.test_split.evaluate import Evaluation
    from ferray.report.test_split.recorded import RecordedScore

EXAMPLES = """\
  python -m ferray.report watch runs/grid                                             # while it runs
  python -m ferray.report page runs/grid                                              # a page to open or to send
  python -m ferray.report compare runs/grid runs/asha --out compared.html             # searches side by side
  python -m ferray.report evaluate runs/grid/best --data data/expw                    # the test score on record
  python -m ferray.report evaluate runs/grid/best --data data/fer2013 --split test --json
  python -m ferray.report evaluate runs/grid/best --data data/fer2013 data/other      # one table
  python -m ferray.report audit runs/grid/best                                        # ferray's own predictions
  python -m ferray.report audit predictions.csv --claimed 0.91 --source-counts expw   # anybody's predictions
  python -m ferray.report audit --confusion matrix.csv --claimed 91%
  python -m ferray.report audit --claimed 0.98,0.92,0.91 --classes 7 --n 7200         # a number alone
  python -m ferray.report slices runs/grid/best --data data/expw --by subject_word
  python -m ferray.report export runs/grid/best --format onnx --out face.onnx         # runs without ferray
  python -m ferray.report latency runs/grid/best --threads 1
  python -m ferray.report leaderboard runs/backbones --latency                        # sizes and speeds side by side
  python -m ferray.report wandb runs/grid runs/asha                                   # side by side in W&B
"""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    best_dir: Path
    data: list[str]
    split: str
    again: bool
    device: str | None
    """None for a GPU if there is one, else the CPU."""
    predictions: Path | None
    json: bool

    @property
    def title(self) -> str:
        """What is scored, for the head of the text."""
        return f"{self.best_dir} on {self.split} of {', '.join(map(str, self.data))}"


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options of `audit`."""

    predictions: Path | None
    confusion: Path | None
    claimed: str | None
    classes: int | None
    n: int | None
    dataset: str | None
    source_counts: str | None
    ceiling: float | None
    strict: bool
    json: bool


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.report") -> int:
    """Parse the arguments and run the subcommand; see `--help`."""
    return run_command(lambda: _run(_parse(argv, prog)))


Options = (
    PageOptions
    | CompareOptions
    | FetchOptions
    | EvaluateOptions
    | AuditOptions
    | SlicesOptions
    | ExportOptions
    | LatencyOptions
    | LeaderboardOptions
    | WatchOptions
    | WandbOptions
)


def _run(options: Options) -> int:
    match options:
        case PageOptions():
            return run_page(options)
        case CompareOptions():
            return run_compare(options)
        case FetchOptions():
            return run_fetch(options)
        case EvaluateOptions():
            return _evaluate(options)
        case AuditOptions():
            return _audit(options)
        case SlicesOptions():
            return run_slices(options)
        case ExportOptions():
            return run_export(options)
        case LatencyOptions():
            return run_latency(options)
        case LeaderboardOptions():
            return run_leaderboard(options)
        case WatchOptions():
            return run_watch(options)
        case WandbOptions():
            return run_wandb(options)


def _parse(argv: Sequence[str] | None, prog: str) -> Options:
    parser = make_parser(prog, "Show what the score of a trained model is worth, or take it elsewhere.", EXAMPLES)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_watch_parser(commands, prog)
    add_page_parser(commands, prog)
    add_compare_parser(commands, prog)
    add_fetch_parser(commands, prog)

    text = "score a model on a split of a store, or of several; on its own test split, show the score on record"
    evaluate = commands.add_parser("evaluate", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    # Optional for argparse alone: in `evaluate --data DIR BEST`, `--data` takes both.
    evaluate.add_argument(
        "best_dir", type=best_folder, nargs="?", metavar="BEST", help="the folder `best` of a search: runs/NAME/best"
    )
    evaluate.add_argument(
        "--data", nargs="+", required=True, metavar="DIR",
        help="a store, as ferray.data writes it; of several, a table, where classes may be missing",
    )  # fmt: skip
    evaluate.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="default: %(default)s"
    )
    evaluate.add_argument("--again", action="store_true", help="read the own test split once more, on record")
    evaluate.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    evaluate.add_argument(
        "--predictions", type=path_option("--predictions"), metavar="CSV", help="write the predictions too, for `audit`"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    evaluate.set_defaults(options=EvaluateOptions)

    text = "recompute a score from its predictions under every name, and list the reasons to distrust it"
    audit = commands.add_parser("audit", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    audit.add_argument(
        "predictions", type=path_option(""), nargs="?", metavar="PREDICTIONS",
        help="CSV: id, label, one column per class with its probability (or `prediction`), optional group, split,"
        " trial, seed; or a folder `best`",
    )  # fmt: skip
    audit.add_argument(
        "--confusion",
        type=path_option("--confusion"),
        metavar="CSV",
        help="a confusion matrix instead, labels in the rows",
    )
    audit.add_argument("--claimed", metavar="X,...", help="the reported accuracy: 0.91 or 91%%")
    audit.add_argument("--classes", type=int, metavar="K", help="number of classes, where there is no table")
    audit.add_argument("--n", type=int, metavar="N", help="number of test faces, where there is no table")
    audit.add_argument(
        "--dataset", metavar="NAME", help="compare with the published accuracies for it: expw, fer2013, ..."
    )
    audit.add_argument(
        "--source-counts", metavar="SET", help="faces per class of the source: expw, or angry=3671,disgust=3995,..."
    )
    audit.add_argument("--ceiling", type=float, metavar="X", help="the best accuracy that the label noise allows")
    audit.add_argument("--strict", action="store_true", help="exit with 1 if there is a fault")
    audit.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    audit.set_defaults(options=AuditOptions)

    add_slices_parser(commands)
    add_export_parser(commands)
    add_latency_parser(commands)
    add_leaderboard_parser(commands)
    add_wandb_parser(commands, prog)

    given = dict(vars(parser.parse_args(argv)))
    make_options: type[Options] = given.pop("options")
    if make_options is EvaluateOptions and given["best_dir"] is None:
        if len(given["data"]) == 1:
            evaluate.error("the following arguments are required: BEST")
        *given["data"], best_dir = given["data"]
        given["best_dir"] = best_folder(best_dir)
    return make_options(**given)


def _evaluate(options: EvaluateOptions) -> int:
    from ferray.data.store.fetched import find_store
    from ferray.data.store.reader import open_store
    from ferray.report.test_split.readings import recorded_score

    stores = [open_store(find_store(one, option="--data")) for one in options.data]
    for store in stores:
        store.rows(options.split)  # a split that is missing is an error before any is scored
    recorded = [None if options.again else recorded_score(options.best_dir, store, options.split) for store in stores]
    if len(stores) > 1:
        return _evaluate_several(options, stores, recorded)
    if recorded[0] is None:
        return _evaluate_now(options, stores[0])
    return _show_recorded(options, recorded[0], stores[0].manifest.shown)


def _evaluate_several(
    options: EvaluateOptions, stores: "Sequence[Store]", recorded: "Sequence[RecordedScore | None]"
) -> int:
    """Score the model on each store and print one table; a score on record is shown, not repeated."""
    from ferray.report.test_split.several import StoreScore, format_stores

    if options.predictions is not None:
        raise DataError(str(options.predictions), f"{len(stores)} stores are scored", "Give one store to --data")
    rows = []
    for folder, store, known in zip(options.data, stores, recorded, strict=True):
        if known is None:
            evaluation = _read(options, store, needs_all=False)
            _print_notes(*(f"{folder}: {note}" for note in evaluation.notes))
            scores, left_out, absent, read_at = evaluation.scores, evaluation.left_out, evaluation.absent, None
        else:
            _print_notes(*(f"{folder}: {note}" for note in known.notes))
            scores, left_out, absent, read_at = known.scores, {}, (), known.read_at
        rows.append(
            StoreScore(
                data=folder,
                fingerprint=store.fingerprint,
                scores=scores,
                left_out=left_out,
                absent=absent,
                read_at=read_at,
            )
        )
    if options.json:
        print(json.dumps({"stores": [row.to_json(options.split) for row in rows]}, indent=2))
    else:
        print(format_stores(rows, f"{options.best_dir} on {options.split}", stores[0].manifest.shown))
    return 0


def _show_recorded(options: EvaluateOptions, recorded: "RecordedScore", shown: "Subject") -> int:
    """Print the score on record; the test split is not read."""
    from ferray.report.terminal import format_scores

    if options.predictions is not None:
        what = "the predictions for the own test split are on record"
        raise DataError(str(options.predictions), what, "Copy BEST/predictions.csv, or add --again")
    _print_notes(
        *recorded.notes,
        f"the score on record, read at {recorded.read_at}; the split was not read again (--again does so, on record)",
    )
    if options.json:
        print(json.dumps(recorded.to_json(), indent=2))
    else:
        print(format_scores(recorded.scores, options.title, recorded=recorded, shown=shown))
    return 0


def _evaluate_now(options: EvaluateOptions, store: "Store") -> int:
    """Run the model, print its score, and note the reading."""
    from ferray.report.terminal import format_scores

    evaluation = _read(options, store, needs_all=True)
    if options.predictions is not None:
        storage.write_bytes(options.predictions, evaluation.to_csv(store, options.split).encode())
    _print_notes(*evaluation.notes)
    if options.json:
        values = evaluation.scores.to_json() | {"data": store.fingerprint, "split": options.split}
        print(json.dumps(values, indent=2))
    else:
        print(format_scores(evaluation.scores, options.title, shown=store.manifest.shown))
    return 0


def _read(options: EvaluateOptions, store: "Store", *, needs_all: bool) -> "Evaluation":
    """Run the model on the split of a store, and note the reading: of the own test split before, of any after."""
    from ferray.report.test_split.readings import note_reading_beside_model, note_reading_in_search

    if options.split == "test" and options.again:
        note_reading_in_search(options.best_dir, store)

    with waiting("importing torch"):
        from ferray.report.test_split.evaluate import evaluate
        from ferray.train.device import choose_device

    device = choose_device(options.device)
    with waiting(f"scoring the model on {options.split} of {store.folder}"):
        evaluation = evaluate(options.best_dir, store, options.split, device=device, needs_all=needs_all)
    try:
        note_reading_beside_model(options.best_dir, store, options.split, evaluation.scores)
    except FerrayError as error:
        print(f"warning: this reading is not on record: {error.args[0]}: {error.args[1]}", file=sys.stderr)
    return evaluation


def _print_notes(*notes: str) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _audit(options: AuditOptions) -> int:
    from ferray.audit.score.audit import ScoreContext, audit, known_counts, known_published
    from ferray.audit.score.claims import ClaimedScores
    from ferray.metrics.predictions import PREDICTIONS_FILE, read_confusion, read_predictions
    from ferray.report.slices import read_recorded_predictions
    from ferray.report.test_split.readings import read_test_readings

    if options.predictions is not None and options.confusion is not None:
        raise DataError("audit", "two tables are given", "Give one table: PREDICTIONS or --confusion CSV")
    if options.predictions is None and options.confusion is None and options.claimed is None:
        what = "one table or a claim is needed"
        raise DataError("audit", what, "Give PREDICTIONS, --confusion CSV, or --claimed X")
    file, table = options.confusion, None
    test_read_for: tuple[str | None, ...] = ()
    if options.confusion is not None:
        table = read_confusion(options.confusion)
    elif options.predictions is not None:
        if options.predictions.is_dir():
            file, table = options.predictions / PREDICTIONS_FILE, read_recorded_predictions(options.predictions)
        else:
            file, table = options.predictions, read_predictions(options.predictions)
        test_read_for = tuple(reading.trial_id for reading in read_test_readings(file.parent))
    counts = options.source_counts
    audited = audit(
        table,
        ClaimedScores(
            texts=() if options.claimed is None else tuple(options.claimed.split(",")),
            num_classes=options.classes,
            num_faces=options.n,
        ),
        ScoreContext(
            published=known_published(options.dataset),
            source_counts=None if counts is None else _read_counts(counts) if "=" in counts else known_counts(counts),
            ceiling=options.ceiling,
            test_read_for=test_read_for,
        ),
    )
    if options.json:
        print(json.dumps(audited.to_json(), indent=2))
    else:
        from ferray.report.terminal import format_audit

        print(format_audit(audited, str(file or "claims")))
    return int(options.strict and audited.has_fault)


def _read_counts(text: str) -> dict[str, int]:
    """`angry=3671,disgust=3995` as counts."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(number.strip().isdigit() for _, _, number in pairs):
        raise DataError(f"--source-counts {text}", "not class=number, ...", "Write angry=3671,disgust=3995 and so on")
    return {name.strip(): int(number) for name, _, number in pairs}
