"""`python -m ferray.train`: train one recipe on one store, without a search and without Ray.

Alone it trains in this process; under `torchrun` all ranks train one model together. Ctrl-C or SIGTERM ends it after
the current step, and the same command continues with the next one.
"""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.commands.common import make_parser, run_command
from ferray.errors import RecipeError, StorageError
from ferray.files import untrusted
from ferray.recipe import Recipe, check_value, make_recipe
from ferray.signals import catch_signals
from ferray.space import parse_settings
from ferray.space.nodes import read_yaml

if TYPE_CHECKING:
    from ferray.records.trial import EpochResult

log = logging.getLogger(__name__)

EXAMPLES = """\
  python -m ferray.train --recipe recipe.yaml --data data/expw --out runs/alone
  python -m ferray.train --recipe recipe.yaml --data data/expw --set learning_rate=1e-4 --set freeze=blocks1-4
  torchrun --nproc-per-node 2 -m ferray.train --recipe recipe.yaml --data data/expw    # two ranks, one model
"""

MAX_RECIPE_BYTES = 1_000_000

ECHO_S = 1.0
"""A signal that follows another within this time is the same one: `torchrun` forwards those that its processes got."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of the command."""

    recipe: Path
    data: Path
    weights: str
    out: Path | None
    settings: tuple[str, ...]
    """`KEY=VALUE`, from `--set`."""
    device: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, print one line per epoch; see `--help`."""
    options = _parse(argv)
    return run_command(lambda: _train(options))


def _parse(argv: Sequence[str] | None) -> TrainOptions:
    parser = make_parser("python -m ferray.train", "Train one recipe and print one line per epoch.", EXAMPLES)
    parser.add_argument(
        "--recipe", type=Path, required=True, metavar="FILE", help="settings, YAML or JSON; see ferray.recipe"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a store, as ferray.data writes it")
    parser.add_argument(
        "--weights", default="imagenet", metavar="W", help="imagenet (default), none, or a file of weights"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="keep checkpoints here, continue from them if run again, and write the best model to DIR/best",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting of the recipe"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N; default: a GPU where there is one")
    given = parser.parse_args(argv)
    return TrainOptions(
        recipe=given.recipe,
        data=given.data,
        weights=given.weights,
        out=given.out,
        settings=tuple(given.set),
        device=given.device,
    )


def _train(options: TrainOptions) -> int:
    recipe = read_recipe_file(options.recipe, settings=options.settings)  # before torch: a wrong setting fails at once
    from ferray.data.store.reader import open_store
    from ferray.train.preflight import check_recipe, find_risks

    store = open_store(options.data)
    check_recipe(recipe, store, use_folds="--set folds=5 --set fold=0")
    if os.environ.get("RANK", "0") == "0":  # of `torchrun`
        for risk in find_risks(recipe, store):
            log.warning("%s: %s", store.folder, risk)

    from ferray.files.storage import cache_dir
    from ferray.model.weights import load_weights
    from ferray.train.checkpoints.export import export_best
    from ferray.train.checkpoints.writer import Checkpointing
    from ferray.train.device import choose_device, torchrun_ranks
    from ferray.train.environment import Environment
    from ferray.train.fit import fit
    from ferray.train.interruption import Interrupted
    from ferray.train.settle import measure_precision, settle

    cache = cache_dir()
    device = choose_device(options.device)
    with torchrun_ranks(device) as ranks:
        weights = load_weights("none" if recipe.weights == "none" else options.weights, recipe.backbone)
        precision = ranks.from_first(
            measure_precision(device, cache=cache) if recipe.precision == "auto" else recipe.precision
        )
        recipe = settle(recipe, store, precision=precision)
        try:
            with catch_signals(on_first=_announce if ranks.is_first else None, echo_s=ECHO_S) as interrupted:
                for result in fit(
                    recipe,
                    store,
                    weights,
                    checkpointing=None if options.out is None else Checkpointing(options.out, recorded_epochs=0),
                    environment=Environment(ranks=ranks, device=device, cache=cache),
                    is_interrupted=interrupted.is_set,
                ):
                    if ranks.is_first:
                        print(format_epoch(result, recipe), flush=True)
        except Interrupted as interruption:
            if ranks.is_first:
                kept = (
                    "nothing is kept: give --out DIR" if options.out is None else "run it again to continue from there"
                )
                print(f"interrupted in {interruption}; {kept}", file=sys.stderr)
            return 130
        if options.out is not None and ranks.is_first:
            best = options.out / "best"
            epoch = export_best(best, checkpoints=options.out, recipe=recipe, store=store, weights=weights)
            print(f"best epoch by {recipe.monitor}: {epoch}, in {best}")
    return 0


def _announce() -> None:
    print("ends after this step; once more to end at once", file=sys.stderr)


def read_recipe_file(file: Path, *, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML or JSON file, with some settings replaced.

    Args:
        file: One mapping of setting to value.
        settings: `KEY=VALUE`, the value written as in YAML.

    Raises:
        RecipeError: The file cannot be read, or a setting is unknown or out of bounds.
        SpaceError: The file is not YAML, or an option has another form.
    """
    way_out = "Give a YAML or JSON file of settings"
    try:
        text = untrusted.read_bytes(file, max_bytes=MAX_RECIPE_BYTES).decode("utf-8-sig")
    except StorageError as error:
        raise RecipeError(str(file), error.args[1], way_out) from error
    except UnicodeDecodeError as error:
        raise RecipeError(str(file), f"cannot be read: {error}", way_out) from error
    if not text.strip():
        raise RecipeError(str(file), "the file is empty", "Write one `setting: value` per line")
    values = {
        name: check_value(name, node.plain(), where=node.where)
        for name, node in read_yaml(text, file=str(file)).mapping().items()
    }
    for name, value in parse_settings(settings).items():
        values[name] = check_value(name, value, where=f"--set {name}={value}")
    return make_recipe(values, where=str(file))


def format_epoch(result: "EpochResult", recipe: Recipe) -> str:
    """The metrics of an epoch in one line."""
    return (
        f"epoch {result.epoch:3d} of {recipe.epochs}"
        f"  train loss {result.train_loss:.4f} accuracy {result.train_accuracy:.3f}"
        f"  validation loss {result.val_loss:.4f} accuracy {result.val_accuracy:.3f}"
        f" balanced {result.val_balanced_accuracy:.3f} macro F1 {result.val_macro_f1:.3f}"
        f"  rate {result.learning_rate:.2g}  {result.images_per_s:.0f} faces/s"
    )
