"""Two ranks on gloo; started by test_ranks.py as `two_ranks.py FOLDER`, leaves FOLDER/RANK.json of each.

Each rank is a process of its own, forked from this one, which has torch loaded and has computed nothing.
"""

import dataclasses
import itertools
import json
import math
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from fixtures.train import SmallStore, fit_in, small_backbone, small_recipe, small_weights

from ferray.errors import FerrayError, TrainError
from ferray.files.storage import Lease
from ferray.model.backbones import BACKBONES
from ferray.records.trial import EpochResult
from ferray.train import fit as fit_module
from ferray.train import interruption
from ferray.train.checkpoints.writer import Epochs
from ferray.train.interruption import Interrupted
from ferray.train.ranks import Ranks, joined

RECIPES = {
    "head": small_recipe(learning_rate=0.01),
    "block5": small_recipe(
        freeze="blocks1-4",
        optimizer="sgd",
        learning_rate=0.05,
        gradient_clip=0.1,
        label_smoothing=0.1,
        schedule="cosine",
    ),
    "all": small_recipe(freeze="none"),
    "batches of one": small_recipe(batch_size=1, epochs=1, freeze="blocks1-4"),
    "a last batch of one": small_recipe(batch_size=23),
    "mixed features": small_recipe(mixup_alpha=0.4, class_balance="logit_adjustment"),
    "mixed pictures": small_recipe(freeze="none", mixup_alpha=0.4, epochs=1),
    "balanced sampling": small_recipe(class_balance="balanced_sampling", focal_gamma=2.0),
    "standardized": small_recipe(feature_scaling="standardize", freeze="blocks1-4", learning_rate=0.01),
    "a fold": small_recipe(folds=3, fold=1, freeze="blocks1-4", class_balance="inverse_weights", shuffle_labels=True),
}


def start(name: str, folder: Path | None = None, **named: Any) -> Epochs:
    """`fit` of a recipe by its name."""
    return fit_in(folder, RECIPES[name], SmallStore(), small_weights(), **named)


def train(name: str, folder: Path | None = None, **named: Any) -> list[dict[str, float]]:
    """All epochs of a recipe, without their times."""
    return [without_times(row) for row in start(name, folder, **named)]


def without_times(row: EpochResult) -> dict[str, float]:
    return dataclasses.asdict(dataclasses.replace(row, images_per_s=0.0, seconds=0.0))


INTERRUPTED = ("head", "block5", "balanced sampling", "mixed features", "standardized")


def train_in_two(name: str, steps: int, ranks: Ranks, folder: Path, **named: Any) -> list[dict[str, float]]:
    """All epochs of a recipe, interrupted after some steps and continued from there; only rank 0 is asked."""
    rows, asked = [], itertools.count()
    is_interrupted = (lambda: next(asked) >= steps) if ranks.is_first else None
    try:
        for row in start(name, folder, ranks=ranks, is_interrupted=is_interrupted, **named):
            rows.append(without_times(row))
    except Interrupted:
        return rows + train(name, folder, ranks=ranks)
    raise AssertionError("it was not interrupted")


def diverge_in_the_last_epoch(ranks: Ranks, folder: Path) -> tuple[list[int], str, list[dict[str, float]]]:
    """The epochs that are reported where the losses of the third are NaN, the error, and all epochs of a new run."""
    reported: list[int] = []
    train_an_epoch = fit_module._train

    def spoil(run: Any, epoch: int, *others: Any) -> Any:
        if epoch == 3:
            for parameter in run.free.parameters():
                parameter.data.fill_(math.nan)
        return train_an_epoch(run, epoch, *others)

    fit_module._train = spoil
    rows = start("head", folder, ranks=ranks, min_interval_s=math.inf)

    def collect() -> None:
        for row in rows:
            reported.append(row.epoch)

    error = fault(collect)
    fit_module._train = train_an_epoch
    return reported, error, train("head", folder, ranks=ranks, recorded_epochs=0)


def leave_features(ranks: Ranks, folder: Path) -> str:
    """The message of a run of which rank 1 alone is interrupted, while features are computed."""
    interruption.FEATURE_POLL_INTERVAL_S = 0.0
    try:
        list(start("head", folder, ranks=ranks, is_interrupted=(lambda: True) if ranks.rank == 1 else None))
    except Interrupted as error:
        return str(error)
    return "none"


def main(rank: int, folder: Path) -> None:
    """Train every recipe on two ranks; then interrupt, damage and fail in many ways."""
    torch.set_num_threads(1)
    interruption.POLL_INTERVAL_S = 0.0
    BACKBONES["vgg16"] = small_backbone()
    with joined("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2) as ranks:
        group = dist.group.WORLD
        found = explore(ranks, folder)
    found["holders of the group"] = sys.getrefcount(group) - 2  # beside the argument and the name
    del group  # an exception's frames outlive this function
    (folder / f"{rank}.json").write_text(json.dumps(found))


def explore(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """All that this rank found."""
    rank = ranks.rank
    found: dict[str, Any] = {"ranks": [rank, ranks.world]}
    found["trained"] = {name: train(name, ranks=ranks, cache=folder / "cache") for name in RECIPES}

    cut = start("block5", folder / "cut", ranks=ranks)
    next(cut)
    cut.close()
    found["resumed"] = train("block5", folder / "cut", ranks=ranks)

    found["interrupted"] = {
        f"{name} after {steps}": train_in_two(name, steps, ranks, folder / "two" / name / str(steps))
        for name in INTERRUPTED
        for steps in (1, 5)
    }

    found["waited"] = train("head", folder / "waited", ranks=ranks, min_interval_s=math.inf)
    found["waited and interrupted"] = train_in_two("head", 5, ranks, folder / "left", min_interval_s=math.inf)
    after = diverge_in_the_last_epoch(ranks, folder / "diverged")
    found["waited and diverged"], found["diverged"], found["diverged and continued"] = after
    found["features left"] = leave_features(ranks, folder / "features")

    if rank == 0:
        (folder / "cut" / "last.safetensors").write_bytes(b"torn")
        (folder / "two" / "head" / "1" / "best.safetensors").unlink()
    found["damaged"] = train("block5", folder / "cut", ranks=ranks)
    found["best lost"] = train("head", folder / "two" / "head" / "1", ranks=ranks, recorded_epochs=0)
    found["of another run"] = fault(lambda: train("head", folder / "cut", ranks=ranks))

    def taken_over() -> None:
        lease = Lease.take(folder / "taken", (1, 1)) if rank == 0 else None
        rows = start("head", folder / "taken", ranks=ranks, lease=lease)
        next(rows)
        if rank == 0:
            Lease.take(folder / "taken", (2, 1))
        next(rows)

    found["taken over"] = fault(taken_over)

    (folder / "file").touch()
    found["unwritable"] = fault(lambda: train("head", folder / "file" / "below", ranks=ranks))

    def fail_on_rank_1() -> None:
        with ranks.together():
            if rank == 1:
                raise KeyError("lost")

    found["alone"] = fault(fail_on_rank_1)
    found["shared"] = ranks.from_first({"from": rank})
    return found


def fault(act: Any) -> str:
    """Class and text of the fault that an act ends in."""
    try:
        act()
    except (FerrayError, TrainError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def start_rank(rank: int, folder: Path) -> int:
    """Its process; one that ends with an error has printed a traceback."""
    child = os.fork()
    if child == 0:
        try:
            main(rank, folder)
        except BaseException:  # noqa: BLE001 -- whatever it is, it must end here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


if __name__ == "__main__":
    import torch._dynamo  # which an optimizer loads

    ranks = [start_rank(rank, Path(sys.argv[1])) for rank in (0, 1)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks))
