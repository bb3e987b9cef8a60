"""`python -m ferray.search`: find the best settings of a space."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence

from ferray.commands.common import make_parser, number_option, run_command
from ferray.errors import FerrayError
from ferray.search.options import (
    MAX_COUNT,
    MAX_GPUS_PER_WORKER,
    MAX_MINUTES,
    MAX_PRICE,
    MIN_MINUTES,
    MIN_PRICE,
    SearchOptions,
)
from ferray.signals import catch_signals
from ferray.wording import DEFAULT_OUT

EXAMPLES = """\
  python -m ferray.search --space grid                          # demo faces drawn by code, no download
  python -m ferray.search --space grid --data data/expw         # real data: python -m ferray.data prepare --help
  python -m ferray.search --space asha --data data/expw --set epochs=20 --concurrent-trials 2
  python -m ferray.search --space my.yaml --data data/expw --weights vgg16.safetensors --name first
  python -m ferray.search --space backbones --data data/expw --weights weights/    # weights/resnet18.pth and so on
  python -m ferray.search --resume first                        # after Ctrl-C or a crash
  python -m ferray.search --resume first --space bigger.yaml    # also search what is new there; --dry-run lists it
  python -m ferray.search --resume first --set dropout=[0,0.5]  # the same with values instead of a file
  python -m ferray.search --resume first --retry                # run failed trials again
  python -m ferray.search --space grid --data data/expw --folds 5 --replicates 3    # means over folds and seeds
  python -m ferray.search --space grid --dry-run                # list the points, train nothing
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.search") -> int:
    """Parse, plan, and unless it is a dry run, search."""
    return run_command(lambda: _search(parse(argv, prog=prog)))


def parse(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.search") -> SearchOptions:
    """The options of a command line; a wrong one ends the process with exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(prog)
    given = vars(parser.parse_args(words))
    folds, shuffle_labels, settings = given.pop("folds"), given.pop("shuffle_labels"), given.pop("set") or []
    if folds is not None and any(setting.partition("=")[0].strip() == "folds" for setting in settings):
        parser.error(f"argument --folds: --folds {folds}: folds is given by --set, too")
    settings += [] if folds is None else [f"folds={folds}"]
    settings += ["shuffle_labels=true"] if shuffle_labels else []
    command = shlex.join(["python", "-m", "ferray.search", *words])
    return SearchOptions(**given, settings=tuple(settings), command=command)


def _search(options: SearchOptions) -> int:
    from ferray.search.session import announce_stop, run_session

    with catch_signals(on_first=announce_stop) as stop:
        try:
            if options.dry_run:
                with stop.raised():
                    return _show_plan(options)
            _, is_complete = run_session(options, stop, show="json" if options.json else "text")
        except FerrayError as error:
            if options.json:
                print(json.dumps({"state": "failed", "error": dict(zip(_PARTS, error.args, strict=True))}, indent=2))
            raise
    return 0 if is_complete else 130


_PARTS = ("where", "what", "way_out")
"""Of an error, as JSON has them."""


def _show_plan(options: SearchOptions) -> int:
    from ferray.search.dry_run import describe_plan, plan_to_json
    from ferray.search.session import open_plan

    with open_plan(options) as (plan, history):
        if options.json:
            print(json.dumps(plan_to_json(plan, history), indent=2))
        else:
            print("\n".join(describe_plan(plan, history)))
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = make_parser(
        prog,
        "Search training settings: Ray Tune decides, Ray Train trains; the best checkpoint and one test score remain.",
        EXAMPLES,
    )
    add, positive = parser.add_argument, number_option(int, 1, MAX_COUNT)
    add(
        "--space",
        metavar="NAME|FILE",
        help="search space: a W&B sweep file, or the name of a shipped one (default: grid)",
    )
    add("--data", metavar="DIR", help="store made by ferray.data prepare, or s3://BUCKET/KEY (default: demo faces)")
    add(
        "--out",
        metavar="DIR",
        default=DEFAULT_OUT,
        help="parent folder of all searches, or s3://BUCKET/RUNS (default: runs)",
    )
    add("--name", help="name of the search and of its folder (default: space and time)")
    add(
        "--resume",
        metavar="NAME",
        help="go on with a search, or extend it: with --space or --set only what is new is run",
    )
    add("--retry", action="store_true", help="with --resume: run failed trials again, once")
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        help="a setting, a list or a distribution: epochs=5, dropout=[0,0.5], 'dropout={min: 0.0, max: 0.5}'",
    )
    add(
        "--weights",
        metavar="FILE|DIR",
        help="pretrained trunk: a file, a folder with BACKBONE.safetensors for each, 'imagenet' (default) or 'none'"
        " (default with demo faces)",
    )
    add(
        "--workers-per-trial",
        metavar="N",
        type=positive,
        help="workers that train one trial together (default: 1)",
    )
    add(
        "--gpus-per-worker",
        metavar="X",
        type=number_option(float, 0, MAX_GPUS_PER_WORKER),
        help="GPUs of a worker, also 0.5 (default: 1 if there are any)",
    )
    add(
        "--concurrent-trials",
        metavar="N",
        type=positive,
        help="trials at a time (default: what the GPUs hold; on CPUs one a core, 8 at most, if the trunk is frozen)",
    )
    add(
        "--max-failures",
        metavar="N",
        type=number_option(int, 0, MAX_COUNT),
        help="worker deaths that a trial may have a part in (default: 2)",
    )
    add(
        "--folds",
        metavar="K",
        type=number_option(int, 2, 100),
        help="cross-validation: K trials a point, ranked by their mean",
    )
    add("--keep", choices=("refit", "best-fold"), help="the best model, with folds: refit (default) trains once more")
    add(
        "--replicates",
        metavar="R",
        type=positive,
        help="train the best points with R seeds; the best mean wins",
    )
    add("--finalists", metavar="N", type=positive, help="how many of the best points that are (default: 3)")
    add("--again", action="store_true", help="read the test split once more if a resumed search keeps another model")
    add("--shuffle-labels", action="store_true", help="train on labels dealt at random: scores must fall to chance")
    add("--max-trials", metavar="N", type=positive, help="points at most")
    add(
        "--minutes",
        metavar="X",
        type=number_option(float, MIN_MINUTES, MAX_MINUTES),
        help="begin no point after so many minutes, train to its end what has begun, and name the best so far",
    )
    add(
        "--seed",
        metavar="N",
        type=number_option(int, 0, MAX_COUNT),
        help="of the trials, and of the points drawn (default: 0)",
    )
    add(
        "--wandb",
        choices=("online", "offline", "disabled"),
        help="default: online with a key and a network, else offline",
    )
    add(
        "--price",
        metavar="X",
        type=number_option(float, MIN_PRICE, MAX_PRICE),
        help="of an hour of the machine, or of the whole cluster, in any currency: says what the search costs",
    )
    add(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="write event files to runs/NAME/tensorboard",
    )
    add("--mlflow", metavar="URI", help="send every trial to the MLflow server at http://HOST:PORT")
    add("--address", help="join a running Ray cluster, 'auto' or HOST:PORT (default: start one on loopback)")
    add("--json", action="store_true", help="print one JSON object instead of text; progress still goes to stderr")
    add("--dry-run", action="store_true", help="list the points and the work, train nothing")
    return parser
