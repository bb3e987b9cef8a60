"""The mean and the deviation of each channel of the trunk's output, by which the head standardizes its input.

VGG16's last pooling layer gives values of up to several hundred, and their size depends on the picture's size and on
the weights. A learning rate that suits the head is then another one for each of them, unless the input is standardized.

Begin at `sum_channels`; `set_scale` completes it.

Shapes: B faces, D channels, H and W places.
"""

from collections.abc import Callable
from contextlib import closing

import torch
from torch import Tensor

from ferray.train.features.inputs import VALIDATION_BATCH
from ferray.train.run import TrainingRun


def sum_channels(run: TrainingRun, raise_if_interrupted: Callable[[], None]) -> Tensor:
    """Sums over this rank's training faces, in the order of their rows; labels and validation faces have no part.

    Args:
        run: Before its first step, with its first epoch open: the pictures are those that the epoch trains on.
        raise_if_interrupted: Called before each batch.

    Returns:
        The sums of the values and of their squares over faces and places, and their count, float64, shape (3, D).
    """
    own = run.ranks.own_part(len(run.train_labels))
    rows = torch.arange(own.start, own.stop).numpy()
    batches = [rows[first : first + VALIDATION_BATCH] for first in range(0, len(rows), VALIDATION_BATCH)]
    sums_3D = torch.zeros(3, len(run.free.head.mean), dtype=torch.float64, device=run.device)
    with torch.no_grad(), closing(run.inputs.train(batches)) as inputs:
        for features_BDHW in inputs:
            raise_if_interrupted()
            values_BDHW = run.free.trunk_output(features_BDHW).double()
            sums_3D[0] += values_BDHW.sum(dim=(0, 2, 3))
            sums_3D[1] += values_BDHW.square().sum(dim=(0, 2, 3))
            sums_3D[2] += values_BDHW[:, 0].numel()
    return sums_3D


def set_scale(run: TrainingRun, sums_3D: Tensor) -> None:
    """Give the head the mean and the variance over the training faces of all ranks.

    Args:
        run: Its model is changed.
        sums_3D: Of this rank, from `sum_channels`; changed here.
    """
    run.ranks.all_reduce_sum(sums_3D)
    mean_D = sums_3D[0] / sums_3D[2]
    run.free.head.set_scale(mean_D, (sums_3D[1] / sums_3D[2] - mean_D.square()).clamp(min=0))
