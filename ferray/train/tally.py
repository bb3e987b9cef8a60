"""What a pass over faces comes to: the loss of every step and the confusion matrix, all ranks together.

Begin at `Tally`.
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
class Sums:
    """Losses and counts of all ranks."""

    losses: NDArray[np.float64]
    """Of every step, in nats, summed over its faces; 0 where it is still to come. Shape (steps,)."""
    confusion: NDArray[np.int64]
    """Counts, shape (classes, classes); rows are labels, columns predictions."""

    @property
    def loss(self) -> float:
        """Mean over the faces."""
        return float(self.losses.sum() / self.confusion.sum())


class Tally:
    """Losses and predictions of a pass, kept on the device until its end: a GPU is not made to wait for them.

    Args:
        steps: How many the pass has.
        num_classes: Of the labels.
        ranks: This process's place.
        device: Where losses and logits lie.
        earlier: What all ranks came to before the pass was interrupted.
    """

    def __init__(
        self, *, steps: int, num_classes: int, ranks: Ranks, device: torch.device, earlier: Sums | None = None
    ) -> None:
        self._num_classes, self._ranks, self._earlier = num_classes, ranks, earlier
        self._loss_sums = torch.zeros(steps, dtype=torch.float64, device=device)
        self._rows: list[Rows] = [np.empty(0, dtype=np.int64)]
        self._predictions: list[Tensor] = [torch.empty(0, dtype=torch.int64, device=device)]

    def add(self, step: int, rows: Rows, logits_BK: Tensor, loss_sum: Tensor) -> None:
        """Count this rank's faces of one step."""
        self._loss_sums[step] += loss_sum
        self._rows.append(rows)
        self._predictions.append(logits_BK.argmax(dim=1))

    def sums(self, labels: Rows) -> Sums:
        """All that was counted so far, on all ranks; each of them must ask.

        Args:
            labels: Of the whole part.
        """
        predictions = torch.cat(self._predictions).cpu().numpy()
        own = confusions.make_confusion(labels[np.concatenate(self._rows)], predictions, num_classes=self._num_classes)
        both = torch.cat([self._loss_sums, torch.from_numpy(own.reshape(-1)).to(self._loss_sums)])
        self._ranks.all_reduce_sum(both)
        losses, counts = np.split(both.cpu().numpy(), [len(self._loss_sums)])
        confusion = counts.astype(np.int64).reshape(own.shape)
        if self._earlier is None:
            return Sums(losses, confusion)
        # A step's loss is in one of the two, and 0 in the other: the sum has the bits of a pass in one go.
        return Sums(losses + self._earlier.losses, confusion + self._earlier.confusion)
