"""What a run's best epoch answers for the faces that it was validated with.

The frozen part's output is taken from the cache, so that a head's answers cost no pass of the trunk. They serve to
compare finalists picture by picture and to fit a temperature. Begin at `predict_validation`.
"""

from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferray.data.store.reader import Store
from ferray.model.classifier import build_free, trunk_tensors
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.train.checkpoints.checkpoint import copy_tensors, read_best
from ferray.train.features.inputs import open_inputs
from ferray.train.fit import VALIDATION_BATCH
from ferray.train.folds import divide


@dataclass(frozen=True)
class Predictions:
    """A model's answers."""

    rows: NDArray[np.int64]
    """Of the store, shape (faces,)."""
    probabilities: NDArray[np.float32]
    """Shape (faces, classes), in the store's order of classes."""


def predict_validation(
    recipe: Recipe,
    store: Store,
    weights: Weights,
    *,
    checkpoints: Path,
    cache: Path | None,
    recorded: int | None = None,
    device: str = "cpu",
) -> Predictions:
    """The answers of a run's best epoch for its validation part: the store's split, or its fold.

    Args:
        recipe: Of the run, settled.
        store: That the run was trained on.
        weights: That it started from.
        checkpoints: The run's folder, with `best.safetensors`.
        cache: Folder of the node; None computes features anew.
        recorded: The best epoch by the run's record; None where there is no record.
        device: `cpu`, or `cuda`, `cuda:1`, ...

    Raises:
        CheckpointError: There is no best checkpoint, or it is broken, or of another run or epoch.
    """

    @lru_cache(maxsize=1)
    def tensors() -> dict[str, Tensor]:
        return trunk_tensors(recipe, weights)

    place = torch.device(device)
    whole = tensors() if recipe.freeze != "trunk" else {}
    free = build_free(recipe, whole, num_classes=len(store.class_names), device=place)
    _, best = read_best(checkpoints, recipe=recipe, store=store, weights=weights, recorded=recorded)
    copy_tensors(free, best)
    division = divide(recipe, store)
    inputs = open_inputs(recipe, store, weights, division=division, trunk_tensors=tensors, device=place, cache=cache)
    inputs.open_epoch(1)
    places = np.arange(len(division.validation.rows))
    batches = [places[begin : begin + VALIDATION_BATCH] for begin in range(0, len(places), VALIDATION_BATCH)]
    with torch.no_grad(), closing(inputs.validation(batches)) as features:
        answers = [free(features_BDHW).softmax(dim=1).cpu().numpy() for features_BDHW in features]
    return Predictions(division.validation.rows, np.concatenate(answers))
