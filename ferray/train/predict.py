"""The answers of a run's best epoch for the faces that it was validated with.

They serve to compare finalists face by face and to fit a temperature. The frozen part's output is taken from the cache,
so that the answers of a head cost no pass of the trunk.

Begin at `predict_validation`.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.train.checkpoints.checkpoint import CheckpointFolder, copy_tensors
from ferray.train.environment import Environment
from ferray.train.features.inputs import open_inputs, validation_batches
from ferray.train.features.key import reads_views
from ferray.train.features.view import make_view, view_folder
from ferray.train.spec import RunSpec


@dataclass(frozen=True)
class ValidationAnswers:
    """A model's probabilities for the faces that its run was validated with."""

    rows: NDArray[np.int64]
    """The rows of the faces in the store, shape (faces,)."""
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
) -> ValidationAnswers:
    """The answers of a run's best epoch for its validation faces: those of the store's split, or of its fold.

    Args:
        recipe: The run's recipe, settled.
        store: The store that the run was trained on.
        weights: The weights that it started from.
        checkpoints: The run's folder, with `best.safetensors`.
        cache: Folder of the node; None computes features anew.
        recorded: The best epoch by the run's record; None where there is no record.
        device: `cpu`, or `cuda`, `cuda:1`, ...

    Raises:
        CheckpointError: The best checkpoint is missing or damaged, or of another run or epoch.
    """
    spec, environment = RunSpec(recipe, store, weights), Environment(cache=cache, device=device)
    free = spec.build_free(environment.torch_device)
    copy_tensors(free, CheckpointFolder(checkpoints, spec.trial_id).read_best(recorded=recorded).tensors)
    inputs = open_inputs(spec, environment, views_of=_kind_of_cached_view(spec, cache, environment.torch_device.type))
    inputs.open_validation()
    batches = validation_batches(0, len(spec.split.validation.rows))
    with torch.no_grad(), closing(inputs.validation(batches)) as features:
        answers = [free(features_BDHW).softmax(dim=1) for features_BDHW in features]
    return ValidationAnswers(spec.split.validation.rows, torch.cat(answers).cpu().numpy())


def answers_are_cached(recipe: Recipe, store: Store, weights: Weights, *, cache: Path) -> bool:
    """Whether the answers of a run cost no pass of the trunk: it is frozen, and the cache has its output.

    Args:
        recipe: As for `predict_validation`, as are the others.
        store: What the run was trained on.
        weights: Need not have tensors.
        cache: Folder of the node.
    """
    return recipe.freeze == "trunk" and bool(_cached_kinds(RunSpec(recipe, store, weights), cache))


def _kind_of_cached_view(spec: RunSpec, cache: Path | None, own: str) -> str:
    """The kind of device whose view of the validation faces is cached; its own kind if both are, or none.

    Each computes with either, and its own would cost a pass of the trunk over all faces.
    """
    cached = _cached_kinds(spec, cache)
    return own if own in cached or not cached else cached[0]


def _cached_kinds(spec: RunSpec, cache: Path | None) -> list[str]:
    """The kinds of devices whose view of the validation faces is in the cache."""
    if cache is None or not reads_views(spec.recipe):
        return []
    split = spec.split.validation.span
    kinds = ("cpu", "cuda")
    return [
        kind for kind in kinds if view_folder(make_view(spec, split=split, epoch=None, device=kind), cache).exists()
    ]
