"""Mixup: a step trains on mixtures of two faces each, and their labels count by the faces' shares.

What is mixed is the input of the trained part: normalized pictures where the whole trunk is free, as in the paper, and
the frozen layers' output where some are frozen, which is manifold mixup at that layer (Verma et al., "Manifold Mixup",
2019) and leaves the cached features as they are. A step's pairs and their share are a pure function of the recipe's
seed, the epoch and the step; they are drawn for the batch of all ranks, and a rank reads the partners of its faces too.

Begin at `cut_batches`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ferray.model.randomness import Purpose, make_seed
from ferray.recipe import Recipe
from ferray.train.features.inputs import Rows, send
from ferray.train.losses import TrainingLoss
from ferray.train.ranks import Ranks


@dataclass(frozen=True)
class Portion:
    """What one rank does of a step: its faces of the batch, each with the one that is mixed into it."""

    rows: Rows
    partners: Rows
    """As many as `rows`; the same where nothing is mixed."""
    share: float = 1.0
    """Of the face itself, in [0.5, 1]; its partner has the rest."""

    @cached_property
    def reads(self) -> Rows:
        """Rows whose inputs `mix` wants, in this order."""
        return self.rows if self.share == 1 else np.union1d(self.rows, self.partners)

    def mix(self, inputs_BDHW: Tensor) -> Tensor:
        """Inputs of `reads`, mixed: one for each of `rows`, in float32; as they are where nothing is mixed."""
        if self.share == 1:
            return inputs_BDHW
        own, partners = (
            send(torch.from_numpy(np.searchsorted(self.reads, rows)), inputs_BDHW.device)
            for rows in (self.rows, self.partners)
        )
        return torch.lerp(inputs_BDHW[partners].float(), inputs_BDHW[own].float(), self.share)

    def loss(self, loss: TrainingLoss, logits_BK: Tensor, labels: Rows) -> Tensor:
        """The loss of mixed faces, summed: that of either label by its share.

        Args:
            loss: Of plain faces.
            logits_BK: Of the mixed ones.
            labels: Of the whole training part.
        """

        def loss_of(rows: Rows) -> Tensor:
            return loss(logits_BK, send(torch.from_numpy(labels[rows]), logits_BK.device))

        if self.share == 1:
            return loss_of(self.rows)
        return self.share * loss_of(self.rows) + (1 - self.share) * loss_of(self.partners)


def cut_batches(batches: Sequence[Rows], *, recipe: Recipe, epoch: int, ranks: Ranks) -> list[Portion]:
    """This rank's portion of every step of an epoch.

    The share is one a step, from Beta(alpha, alpha), and the partners are the batch in another order. A pair with
    shares s and 1 - s is drawn as often as one with 1 - s and s, so the larger one is given to the face itself: the
    same law, and the scores seen while training are those of the face that prevails.

    Args:
        batches: Of all ranks together, from `ferray.train.features.inputs.order_batches`.
        recipe: Its alpha and seed.
        epoch: Counted from 1.
        ranks: This process's place.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, section 2.
    """
    portions = []
    for step, batch in enumerate(batches):
        own = ranks.own_part(len(batch))
        share, partners = 1.0, batch
        if recipe.mixup_alpha > 0:
            generator = np.random.default_rng(make_seed(recipe.seed, Purpose.MIXUP, epoch, step))
            drawn = float(generator.beta(recipe.mixup_alpha, recipe.mixup_alpha))
            share, partners = max(drawn, 1 - drawn), batch[generator.permutation(len(batch))]
        portions.append(Portion(batch[own], partners[own], share))
    return portions
