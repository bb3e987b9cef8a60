"""What decides the numbers of a run: a recipe, a store and pretrained weights, and the parts that follow from them.

Begin at `RunSpec`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ferray.data.store.reader import Store
from ferray.model.classifier import FreePart, FrozenPart, build_free, build_frozen, trunk_tensors
from ferray.model.weights import Weights
from ferray.recipe import Recipe, trial_id
from ferray.train.folds import DataSplit, groups_fingerprint, split_rows


def identify(recipe: Recipe, store: Store, *, weights_fingerprint: str) -> str:
    """The identity of a training run on a store.

    Raises:
        ValueError: The recipe is not settled.
    """
    groups = "" if recipe.folds is None else groups_fingerprint(store)
    return trial_id(
        recipe,
        data_fingerprint=store.fingerprint,
        weights_fingerprint=weights_fingerprint,
        groups_fingerprint=groups,
    )


@dataclass(frozen=True, eq=False)
class RunSpec:
    """A training run before its first step. What is costly is made when it is first used, and kept."""

    recipe: Recipe
    """Settled: see `ferray.train.settle`."""
    store: Store
    """Its training and validation rows are used, never its test rows."""
    weights: Weights
    """What the trunk starts from."""

    @cached_property
    def trial_id(self) -> str:
        """The identity of the run.

        Raises:
            ValueError: The recipe is not settled.
        """
        return identify(self.recipe, self.store, weights_fingerprint=self.weights.fingerprint)

    @cached_property
    def split(self) -> DataSplit:
        """The rows to train on and to validate with.

        Raises:
            DataError: A split without faces, or fewer photographs than folds.
        """
        return split_rows(self.recipe, self.store)

    @cached_property
    def trunk_tensors(self) -> Mapping[str, Tensor]:
        """The trunk's tensors before the first step.

        Raises:
            WeightsError: The weights belong to another backbone.
        """
        return trunk_tensors(self.recipe, self.weights)

    def build_frozen(self, device: torch.device) -> FrozenPart:
        """The part of the model that keeps its weights."""
        return build_frozen(self.recipe, self.trunk_tensors, device=device)

    def build_free(self, device: torch.device) -> FreePart:
        """The part of the model that is trained, before the first step."""
        tensors = self.trunk_tensors if self.recipe.freeze != "trunk" else {}  # a head alone needs none
        return build_free(self.recipe, tensors, num_classes=len(self.store.class_names), device=device)
