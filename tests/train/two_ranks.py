"""One of two ranks on gloo; started by test_ranks.py as `two_ranks.py RANK FOLDER`, leaves FOLDER/RANK.json."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from train_fixtures import SmallStore, small_backbone, small_recipe, small_weights

from ferray.errors import FerrayError, TrainError
from ferray.model.backbones import BACKBONES
from ferray.train.fit import fit
from ferray.train.ranks import current_ranks

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
    "a fold": small_recipe(folds=3, fold=1, freeze="blocks1-4", class_balance="inverse_weights", shuffle_labels=True),
}


def train(name: str, **named: Any) -> list[dict[str, float]]:
    """All epochs of a recipe, without their times."""
    usual: dict[str, Any] = {"checkpoints": None, "cache": None}
    rows = fit(RECIPES[name], SmallStore(), small_weights(), **(usual | named))
    return [dataclasses.asdict(dataclasses.replace(row, images_per_s=0.0, seconds=0.0)) for row in rows]


def main(rank: int, folder: Path) -> None:
    """Train every recipe on two ranks; then fail in three ways."""
    torch.set_num_threads(1)
    BACKBONES["vgg16"] = small_backbone()
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks = current_ranks()
    found: dict[str, Any] = {"ranks": [ranks.rank, ranks.world]}
    found["trained"] = {name: train(name, ranks=ranks, cache=folder / "cache") for name in RECIPES}

    cut = fit(RECIPES["block5"], SmallStore(), small_weights(), checkpoints=folder / "cut", ranks=ranks, cache=None)
    next(cut)
    cut.close()
    found["resumed"] = train("block5", ranks=ranks, checkpoints=folder / "cut")

    if rank == 0:
        (folder / "cut" / "last.safetensors").write_bytes(b"torn")
    found["broken"] = fault(lambda: train("block5", ranks=ranks, checkpoints=folder / "cut"))

    (folder / "file").touch()
    found["unwritable"] = fault(lambda: train("head", ranks=ranks, checkpoints=folder / "file" / "below"))

    def fail_on_rank_1() -> None:
        with ranks.together():
            if rank == 1:
                raise KeyError("lost")

    found["alone"] = fault(fail_on_rank_1)
    found["shared"] = ranks.from_first({"from": rank})
    dist.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found))


def fault(act: Any) -> str:
    """Class and text of the fault that an act ends in."""
    try:
        act()
    except (FerrayError, TrainError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
