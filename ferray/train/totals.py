"""Losses and predictions of one pass over faces: the loss of every step and the confusion matrix, of all ranks.

Begin at `PassAccumulator`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferray.metrics import confusion as confusions
from ferray.train.features.inputs import Rows
from ferray.train.ranks import Ranks


@dataclass(frozen=True)
class PassTotals:
    """Losses and counts of one pass, all ranks together."""

    losses: NDArray[np.float64]
    """The loss of every step in nats, summed over its faces; 0 for steps that are still to come. Shape (steps,)."""
    confusion: NDArray[np.int64]
    """Counts, shape (classes, classes); rows are labels, columns predictions."""

    @property
    def loss(self) -> float:
        """Mean over the faces."""
        return float(self.losses.sum() / self.confusion.sum())


class PassAccumulator:
    """Collects losses and predictions on the device until the end of a pass, so that a GPU need not wait for them.

    Args:
        steps: The number of steps of the pass.
        num_classes: The number of classes.
        ranks: This process's rank.
        device: Where losses and logits are.
        earlier: The totals of the steps before the pass was interrupted.
    """

    def __init__(
        self, *, steps: int, num_classes: int, ranks: Ranks, device: torch.device, earlier: PassTotals | None = None
    ) -> None:
        self._num_classes, self._ranks, self._earlier = num_classes, ranks, earlier
        self._loss_sums = torch.zeros(steps, dtype=torch.float64, device=device)
        self._rows: list[Rows] = [np.empty(0, dtype=np.int64)]
        self._predictions: list[Tensor] = [torch.empty(0, dtype=torch.int64, device=device)]

    def add(self, step: int, rows: Rows, logits_BK: Tensor, loss_sum: Tensor) -> None:
        """Add this rank's faces of one step."""
        self._loss_sums[step] += loss_sum
        self._rows.append(rows)
        self._predictions.append(logits_BK.argmax(dim=1))

    def totals(self, labels: Rows) -> PassTotals:
        """The totals so far of all ranks; every rank must call it.

        Args:
            labels: The labels of the whole subset.
        """
        predictions = torch.cat(self._predictions).cpu().numpy()
        own = confusions.make_confusion(labels[np.concatenate(self._rows)], predictions, num_classes=self._num_classes)
        both = torch.cat([self._loss_sums, torch.from_numpy(own.reshape(-1)).to(self._loss_sums)])
        self._ranks.all_reduce_sum(both)
        losses, counts = np.split(both.cpu().numpy(), [len(self._loss_sums)])
        confusion = counts.astype(np.int64).reshape(own.shape)
        if self._earlier is None:
            return PassTotals(losses, confusion)
        # A step's loss is in one of the two and 0 in the other, so the sum has the bits of an uninterrupted pass.
        return PassTotals(losses + self._earlier.losses, confusion + self._earlier.confusion)
