"""`python -m ferray.train`: train one recipe on one store, without a search and without Ray.

Alone it trains in this process; under `torchrun` all ranks train one model together. Ctrl-C or SIGTERM ends it after
the current step, and the same command continues with the next one. Started by `wandb agent`, it is one run of that
sweep.
"""

import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.commands.common import make_parser, path_option, run_command
from ferray.errors import RecipeError, StorageError, WeightsError
from ferray.files import storage, untrusted
from ferray.files.location import is_address, local_path
from ferray.recipe import Recipe, check_value, make_recipe
from ferray.report.wording import setting_text
from ferray.signals import catch_signals, say_from_handler
from ferray.space import parse_settings
from ferray.space.nodes import Node, read_yaml
from ferray.waiting import waiting, waiting_for_first

if TYPE_CHECKING:
    from ferray.data.store.reader import Store
    from ferray.records.trial import EpochResult

log = logging.getLogger(__name__)

EXAMPLES = """\
  python -m ferray.train --recipe recipe.yaml --data data/expw --out runs/alone
  python -m ferray.train --recipe recipe.yaml --data data/expw --set learning_rate=1e-4 --set freeze=blocks1-4
  wandb agent SWEEP                                                   # the same for each point of a W&B sweep
  torchrun --nproc-per-node 2 -m ferray.train --recipe recipe.yaml --data data/expw    # two ranks, one model
"""

MAX_RECIPE_BYTES = 1_000_000

DATA_VARIABLE = "FERRAY_DATA"
"""The variable that the commands of the shipped sweep files have for `--data`; an agent of W&B's replaces it."""

ECHO_S = 1.0
"""A signal that follows another within this time is the same one: `torchrun` forwards those that its processes got."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of the command."""

    recipe: Path
    data: str
    weights: str
    out: Path | None
    settings: tuple[str, ...]
    """`KEY=VALUE`, from `--set`."""
    device: str | None
    arguments: str
    """All of them, as a shell reads them."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.train") -> int:
    """Parse, train, print one line per epoch; see `--help`."""
    return run_command(lambda: _train(_parse(argv, prog)))


def _parse(argv: Sequence[str] | None, prog: str) -> TrainOptions:
    parser = make_parser(prog, "Train one recipe and print one line per epoch.", EXAMPLES)
    parser.add_argument(
        "--recipe",
        type=path_option("--recipe"),
        required=True,
        metavar="FILE",
        help="settings, YAML or JSON; see ferray.recipe",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="a store, as ferray.data writes it")
    parser.add_argument(
        "--weights", default="imagenet", metavar="W", help="imagenet (default), none, or a file of weights"
    )
    parser.add_argument(
        "--out",
        type=path_option("--out"),
        metavar="DIR",
        help="keep checkpoints here, continue from them if run again, and write the best model to DIR/best",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting of the recipe"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N; default: a GPU where there is one")
    words = list(sys.argv[1:] if argv is None else argv)
    given = parser.parse_args(words)
    return TrainOptions(
        recipe=given.recipe,
        data=given.data,
        weights=given.weights,
        out=given.out,
        settings=tuple(given.set),
        device=given.device,
        arguments=shlex.join(words),
    )


def _train(options: TrainOptions) -> int:
    recipe = read_recipe_file(options.recipe, settings=options.settings)  # before torch: a wrong setting fails at once
    from ferray.data.store.fetched import find_store
    from ferray.data.store.reader import open_store
    from ferray.data.store.verify import verify_store
    from ferray.train.preflight import check_recipe, find_risks

    if options.data == DATA_VARIABLE and not Path(options.data).exists():
        what = f"the variable {DATA_VARIABLE} is not set, which the command of the sweep names"
        raise RecipeError(f"--data {DATA_VARIABLE}", what, f"{DATA_VARIABLE}=data/expw wandb agent ...")
    store = open_store(find_store(options.data, option="--data"))
    check_recipe(recipe, store, use_folds="--set folds=5 --set fold=0")
    _check_places(recipe, options)
    if os.environ.get("RANK", "0") == "0":  # of `torchrun`
        for risk in find_risks(recipe, store):
            log.warning("%s: %s", store.folder, risk)
    with waiting("checking every face of the store"):
        verify_store(store)

    with waiting("importing torch"):
        from ferray.model.weights import load_weights
        from ferray.model.weights_bucket import find_weights
        from ferray.train.checkpoints.export import export_best
        from ferray.train.checkpoints.writer import Checkpointing
        from ferray.train.device import choose_device, torchrun_ranks
        from ferray.train.environment import Environment
        from ferray.train.fit import fit
        from ferray.train.interruption import Interrupted
        from ferray.train.settle import measure_precision, settle
        from ferray.train.spec import identify

    from ferray.records.trial import TrialRecord
    from ferray.tracking.agent import AgentRun
    from ferray.tracking.names import AgentTask

    cache = storage.cache_dir()
    epochs: list[EpochResult] = []
    device = choose_device(options.device)
    with torchrun_ranks(device) as ranks:
        with waiting("reading the pretrained weights, or fetching them once"):
            source = "none" if recipe.weights == "none" else options.weights
            weights = load_weights(find_weights(source, [recipe.backbone], option="--weights"), recipe.backbone)
        precision = ranks.from_first(
            measure_precision(device, cache=cache) if recipe.precision == "auto" else recipe.precision
        )
        recipe = settle(recipe, store, precision=precision)
        identity = identify(recipe, store, weights_fingerprint=weights.fingerprint)
        agent_run = AgentRun(
            AgentTask.from_environment() if ranks.is_first else None,
            TrialRecord(trial_id=identity, number=0, recipe=recipe),
            {"data_fingerprint": store.fingerprint},
            interruption=Interrupted,
        )
        try:
            with (
                agent_run,
                catch_signals(on_first=_announce if ranks.is_first else None, echo_s=ECHO_S) as interrupted,
            ):
                results = fit(
                    recipe,
                    store,
                    weights,
                    checkpointing=None if options.out is None else Checkpointing(options.out, recorded_epochs=0),
                    environment=Environment(ranks=ranks, device=device, cache=cache),
                    is_interrupted=interrupted.is_set,
                )
                named = waiting_for_first(results, "training the first epoch, after the features of the frozen layers")
                for result in named if ranks.is_first else results:
                    epochs.append(result)
                    agent_run.add(result)
                    if ranks.is_first:
                        print(format_epoch(result, recipe), flush=True)
                agent_run.finish()
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
            _write_card(best, options, recipe, epochs, store, num_ranks=ranks.world)
            print(f"best epoch by {recipe.monitor}: {epoch}, in {best} (model and model card)")
    return 0


def _check_places(recipe: Recipe, options: TrainOptions) -> None:
    """What the run reads and writes, before it trains for an hour: the weights, `--out`, the cache."""
    if options.out is not None:
        storage.check_folder(options.out, "Name another folder for the checkpoints and the model")
    cache = storage.cache_dir()
    if not cache.is_dir():  # one that can only be read may have all that is needed
        storage.check_folder(cache, "Name another cache folder with FERRAY_CACHE")
    weights = "none" if recipe.weights == "none" else options.weights
    is_file = weights not in ("imagenet", "none") and not is_address(weights)
    if is_file and not os.path.exists(local_path(weights, option="--weights")):
        way_out = "Give a file, or a folder with a file for each backbone; or imagenet, or none"
        raise WeightsError(f"--weights {weights}", "no such file", way_out)


def _write_card(
    best: Path,
    options: TrainOptions,
    recipe: Recipe,
    epochs: "Sequence[EpochResult]",
    store: "Store",
    *,
    num_ranks: int,
) -> None:
    """The model card beside the model; it has no test score, since training reads no test split."""
    from ferray.records.progress import best_epoch
    from ferray.report.card import ModelOrigin, ModelSelection, model_card

    epoch = best_epoch(epochs, recipe)
    assert epoch is not None
    start = "python" if num_ranks == 1 else f"torchrun --nproc-per-node {num_ranks}"
    origin = ModelOrigin(
        name=best.resolve().parent.name,
        kind="training run",
        command=f"{start} -m ferray.train {options.arguments}",
        best_dir=str(best),
        data_dir=options.data,
        weights=Path(options.weights).name,
    )
    selection = ModelSelection(recipe=recipe, epoch=epoch, num_trials=1, num_epochs=len(epochs))
    storage.write_bytes(best / "README.md", model_card(origin, selection, store.manifest, None).encode())


def _announce() -> None:
    say_from_handler("ends after this step; once more to end at once")


def read_recipe_file(file: Path, *, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML or JSON file, with some settings replaced.

    Args:
        file: One mapping of setting to value; settings may be in groups, as in a sweep file.
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
        for name, node in _settings(read_yaml(text, file=str(file))).items()
    }
    given = parse_settings(settings)
    for name, value in given.items():
        values[name] = check_value(name, value, where=f"--set {name}={value}")
    try:
        return make_recipe(values, where=str(file))
    except RecipeError as error:  # a rule between settings; what the user typed is named before the file
        named = [f"--set {name}={given[name]}" for name in given if re.search(rf"\b{name}\b", str(error.args[1]))]
        raise RecipeError(", ".join(named) or str(file), *error.args[1:]) from error


def _settings(group: Node) -> dict[str, Node]:
    """Every setting by its own name, also those in groups."""
    found: dict[str, Node] = {}
    for name, node in group.mapping().items():
        for inner, value in (_settings(node) if isinstance(node.value, dict) else {name: node}).items():
            if inner in found:
                raise value.error(f"is {inner} for the second time, after {found[inner].where}", "Remove one of them")
            found[inner] = value
    return found


def format_epoch(result: "EpochResult", recipe: Recipe) -> str:
    """The metrics of an epoch in one line."""
    return (
        f"epoch {result.epoch:3d} of {recipe.epochs}"
        f"  train loss {result.train_loss:.4f} accuracy {result.train_accuracy:.3f}"
        f"  validation loss {result.val_loss:.4f} accuracy {result.val_accuracy:.3f}"
        f" balanced {result.val_balanced_accuracy:.3f} macro F1 {result.val_macro_f1:.3f}"
        f"  rate {setting_text('learning_rate', result.learning_rate)}  {result.images_per_s:.0f} images/s"
    )
