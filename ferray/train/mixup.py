"""Mixup: a step trains on mixtures of two faces each, and each label counts by its face's share.

The input of the trained part is mixed: normalized pictures where the whole trunk is free, as in the paper, and the
frozen layers' output where some layers are frozen. The latter is manifold mixup at that layer (Verma et al., "Manifold
Mixup", 2019) and leaves the cached features unchanged. The pairs and the share of a step are a pure function of the
recipe's seed, the epoch and the step; they are drawn for the batch of all ranks, and a rank also reads the partners of
its faces.

Begin at `split_batches`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferray.model.randomness import Purpose, make_seed
from ferray.recipe import Recipe
from ferray.train.features.inputs import Rows
from ferray.train.losses import TrainingLoss
from ferray.train.ranks import Ranks
from ferray.train.transfer import to_device


@dataclass(frozen=True)
class RankBatch:
    """One rank's part of a batch: its faces, each with the face that is mixed into it."""

    rows: Rows
    partners: Rows
    """One for each of `rows`; the same rows where nothing is mixed."""
    share: float = 1.0
    """The share of the face itself, in [0.5, 1]; its partner has the rest."""

    @cached_property
    def reads(self) -> Rows:
        """The rows whose inputs `mix` takes, in this order."""
        return self.rows if self.share == 1 else np.union1d(self.rows, self.partners)

    def mix(self, inputs_BDHW: Tensor) -> Tensor:
        """Mixed inputs, one for each of `rows`, in float32; the inputs themselves where nothing is mixed.

        Args:
            inputs_BDHW: The inputs of the rows `reads`.
        """
        if self.share == 1:
            return inputs_BDHW
        own, partners = (
            to_device(torch.from_numpy(np.searchsorted(self.reads, rows)), inputs_BDHW.device)
            for rows in (self.rows, self.partners)
        )
        return torch.lerp(inputs_BDHW[partners].float(), inputs_BDHW[own].float(), self.share)

    def loss(
        self, loss: TrainingLoss, logits_BK: Tensor, labels: Rows, targets: NDArray[np.float32] | None = None
    ) -> Tensor:
        """The loss of mixed faces, summed: the losses for both labels or targets, weighted by their shares.

        Args:
            loss: The loss for faces that are not mixed.
            logits_BK: The logits of the mixed faces.
            labels: The labels of the whole training subset.
            targets: Its targets, shape (faces, classes); None for the labels.
        """

        def loss_of(rows: Rows) -> Tensor:
            labels_B = to_device(torch.from_numpy(labels[rows]), logits_BK.device)
            if targets is None:
                return loss(logits_BK, labels_B)
            return loss(logits_BK, labels_B, to_device(torch.from_numpy(targets[rows]), logits_BK.device))

        if self.share == 1:
            return loss_of(self.rows)
        return self.share * loss_of(self.rows) + (1 - self.share) * loss_of(self.partners)


def split_batches(batches: Sequence[Rows], *, recipe: Recipe, epoch: int, ranks: Ranks) -> list[RankBatch]:
    """This rank's part of every batch of an epoch.

    Each step has one share, from Beta(alpha, alpha), and the partners are the batch in another order. A pair with
    shares s and 1 - s is as likely as one with 1 - s and s, so the larger share is given to the face itself: the
    distribution is the same, and the training scores are those of the face with the larger share.

    Args:
        batches: The batches of all ranks together, from `ferray.train.features.inputs.order_batches`.
        recipe: Gives alpha and the seed.
        epoch: Counted from 1.
        ranks: This process's rank.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, section 2.
    """
    rank_batches = []
    for step, batch in enumerate(batches):
        own = ranks.own_part(len(batch))
        share, partners = 1.0, batch
        if recipe.mixup_alpha > 0:
            generator = np.random.default_rng(make_seed(recipe.seed, Purpose.MIXUP, epoch, step))
            drawn = float(generator.beta(recipe.mixup_alpha, recipe.mixup_alpha))
            share, partners = max(drawn, 1 - drawn), batch[generator.permutation(len(batch))]
        rank_batches.append(RankBatch(batch[own], partners[own], share))
    return rank_batches
