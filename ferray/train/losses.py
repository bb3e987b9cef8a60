"""Losses, summed over faces: a mean over all ranks is their sum divided by the faces of all ranks."""

from torch import Tensor
from torch.nn import functional


def cross_entropy_sum(logits_BK: Tensor, labels_B: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the faces; 0 for none.

    Args:
        logits_BK: One row a face, one column a class.
        labels_B: Class numbers, int64.
        label_smoothing: Share of the target that is spread evenly over all classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7, for the smoothing.
    """
    return functional.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing, reduction="sum")
