"""How far a training run is: its best epoch, and whether it is complete.

The record of a trial and the training loop, which knows no records, both ask here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ferray.recipe import Recipe

if TYPE_CHECKING:
    from ferray.records.trial import EpochResult


def best_epoch(epochs: Sequence["EpochResult"], recipe: Recipe) -> "EpochResult | None":
    """The epoch with the best `recipe.monitor`, the earliest of equals; None without epochs."""
    return min(epochs, key=lambda row: (recipe.cost(getattr(row, recipe.monitor)), row.epoch), default=None)


def is_complete(epochs: Sequence["EpochResult"], recipe: Recipe) -> bool:
    """Whether a run has all its epochs, or its patience has run out.

    Args:
        epochs: All so far, from the first one on.
        recipe: Gives the number of epochs, the patience and the monitored metric.
    """
    best = best_epoch(epochs, recipe)
    if best is None:
        return False
    is_out_of_patience = recipe.patience is not None and len(epochs) - best.epoch >= recipe.patience
    return len(epochs) >= recipe.epochs or is_out_of_patience
