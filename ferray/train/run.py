"""A training run that is open: its model, its optimizer, its loss and its inputs.

Begin at `open_run`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from ferray.model.classifier import FreePart
from ferray.model.randomness import Purpose, make_seed
from ferray.recipe import Recipe
from ferray.train.environment import Environment
from ferray.train.features.inputs import Inputs, Rows, open_inputs
from ferray.train.losses import TrainingLoss, build_training_loss
from ferray.train.optim import build_optimizer
from ferray.train.preflight import require_votes
from ferray.train.ranks import Ranks
from ferray.train.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """All that the epochs of one run share."""

    spec: RunSpec
    environment: Environment
    free: FreePart
    """The part of the model that is trained."""
    optimizer: Optimizer
    """Over the parameters of `free`."""
    loss: TrainingLoss
    inputs: Inputs
    train_labels: Rows
    """The labels of the training faces, in the order of their rows."""
    validation_labels: Rows
    train_targets: NDArray[np.float32] | None
    """The shares of each training face's votes, shape (faces, classes); None where the labels are the targets."""

    @property
    def recipe(self) -> Recipe:
        """The run's settings."""
        return self.spec.recipe

    @property
    def trial_id(self) -> str:
        """The run's identity."""
        return self.spec.trial_id

    @property
    def ranks(self) -> Ranks:
        """This process's rank."""
        return self.environment.ranks

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.environment.torch_device

    @property
    def num_classes(self) -> int:
        """The number of classes of the store."""
        return len(self.spec.store.class_names)


def open_run(spec: RunSpec, environment: Environment) -> TrainingRun:
    """Build the model, its optimizer and its loss, and open its inputs.

    Raises:
        ValueError: The recipe is not settled.
        WeightsError: The weights belong to another backbone.
        DataError: A split without faces, fewer photographs than folds, a class without the training faces that the
            recipe's class balance needs, or no votes where they are the targets.
    """
    _ = spec.trial_id  # a recipe that is not settled fails here, before anything is built
    recipe, store, device = spec.recipe, spec.store, environment.torch_device
    free = spec.build_free(device)
    labeled = spec.split.train.rows  # the rows whose labels, and votes, the training faces have
    if recipe.shuffle_labels:
        labeled = np.random.default_rng(make_seed(recipe.seed, Purpose.LABELS)).permutation(labeled)
    train_labels = np.asarray(store.labels[labeled])
    return TrainingRun(
        spec=spec,
        environment=environment,
        free=free,
        optimizer=build_optimizer(free, recipe),
        loss=build_training_loss(recipe, train_labels, class_names=store.class_names, device=device),
        inputs=open_inputs(spec, environment),
        train_labels=train_labels,
        validation_labels=np.asarray(store.labels[spec.split.validation.rows]),
        train_targets=vote_shares(require_votes(store)[labeled]) if recipe.targets == "votes" else None,
    )


def vote_shares(votes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The share of each class in each face's votes, shape (faces, classes); every row has the sum 1."""
    counts = votes.astype(np.float32)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)
