"""Losses, summed over faces: the mean over all ranks is their sum divided by the faces of all ranks.

Shapes: B faces, K classes.

Begin at `build_training_loss`; validation uses `cross_entropy_sum`, so that all runs can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ferray.errors import DataError
from ferray.recipe import Recipe


def cross_entropy_sum(logits_BK: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the faces; 0 for none.

    Args:
        logits_BK: One row per face, one column per class.
        targets: Class numbers, int64, shape (B,); or distributions over the classes, float32, shape (B, K).
        label_smoothing: Share of the target that is spread evenly over all classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7, for the smoothing.
    """
    return functional.cross_entropy(logits_BK, targets, label_smoothing=label_smoothing, reduction="sum")


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """The loss that training minimizes.

    For a face of class y with logits z it is, with p = softmax(z + offsets),

        weights[y] * (1 - p[y]) ** focal_gamma * cross_entropy(z + offsets, y)

    The targets of the cross-entropy may be distributions over the classes instead of y; y still decides the factors. A
    factor is left out where the recipe does not ask for it; without any factor it is plain cross-entropy, to the bit.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: Tensor | None = None
    """Shape (K,): from `class_weights`."""
    logit_offsets: Tensor | None = None
    """Shape (K,): tau times the logarithm of the classes' shares of the training faces."""

    def __call__(self, logits_BK: Tensor, labels_B: Tensor, targets_BK: Tensor | None = None) -> Tensor:
        """The loss summed over the faces.

        Args:
            logits_BK: One row per face, one column per class.
            labels_B: Class numbers, int64.
            targets_BK: The share of each class in the target, float32, each row with the sum 1; None for the labels.

        Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4; Menon et al., "Long-Tail Learning
            via Logit Adjustment", 2021, equation 10.
        """
        targets = labels_B if targets_BK is None else targets_BK
        if self.logit_offsets is not None:
            logits_BK = logits_BK + self.logit_offsets
        if self.class_weights is None and self.focal_gamma == 0:
            return cross_entropy_sum(logits_BK, targets, label_smoothing=self.label_smoothing)
        losses_B = functional.cross_entropy(logits_BK, targets, label_smoothing=self.label_smoothing, reduction="none")
        if self.focal_gamma > 0:
            log_p_B = -functional.cross_entropy(logits_BK, labels_B, reduction="none")
            # Where p rounds to 1, 1 - p is 0, and a power below 1 has no finite gradient there.
            losses_B = losses_B * (-torch.expm1(log_p_B)).clamp_min(1e-30) ** self.focal_gamma
        if self.class_weights is not None:
            losses_B = losses_B * self.class_weights[labels_B]
        return losses_B.sum()


def build_training_loss(
    recipe: Recipe, labels: NDArray[np.int64], *, class_names: Sequence[str], device: torch.device
) -> TrainingLoss:
    """The training loss of a recipe, with the class weights or logit offsets that follow from the training labels.

    Args:
        recipe: Gives the class balance, the focal exponent and the smoothing.
        labels: The labels of the training faces, not of the whole store; shape (faces,).
        class_names: In the order of the labels.
        device: Where the logits are.

    Raises:
        DataError: Logit adjustment with a class that no training face has: the logarithm of its share is not finite.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    weights = offsets = None
    if recipe.class_balance.endswith("_weights"):
        weights = class_weights(counts, rule=recipe.class_balance, beta=recipe.effective_number_beta)
    elif recipe.class_balance == "logit_adjustment":
        if not counts.all():
            missing = class_names[int(counts.argmin())]
            what = f"no training example is {missing!r}: logit adjustment needs the share of each class"
            raise DataError(
                "class_balance", what, "Choose another class_balance, or prepare a store with examples of it"
            )
        offsets = recipe.logit_adjustment_tau * np.log(counts / counts.sum())

    def to_tensor(values: NDArray[np.float64] | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(values).float().to(device)

    return TrainingLoss(
        label_smoothing=recipe.label_smoothing,
        focal_gamma=recipe.focal_gamma,
        class_weights=to_tensor(weights),
        logit_offsets=to_tensor(offsets),
    )


def class_weights(counts: NDArray[np.int64], *, rule: str, beta: float) -> NDArray[np.float64]:
    """The weight of each class in the loss, scaled so that the mean over the training faces is 1.

    A class of n faces gets 1 / n (`inverse_weights`), 1 / sqrt(n) (`sqrt_inverse_weights`), or
    (1 - beta) / (1 - beta ** n) (`effective_number_weights`), which is 1 for n = 1 and 1 - beta for a large n. With
    `inverse_weights`, the expected loss equals that of balanced sampling.

    Args:
        counts: Training faces of each class, shape (K,); a class without any gets 0.
        rule: A `class_balance` that ends in `_weights`.
        beta: The beta of the effective number.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019, equation 10.
    """
    n = np.maximum(counts, 1).astype(np.float64)
    by_rule = {
        "inverse_weights": 1 / n,
        "sqrt_inverse_weights": n**-0.5,
        "effective_number_weights": (1 - beta) / (1 - beta**n),
    }
    raw = np.where(counts > 0, by_rule[rule], 0.0)
    return np.asarray(raw * counts.sum() / (raw @ counts), dtype=np.float64)
