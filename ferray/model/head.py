"""The head: pooling and one or two linear layers, from the trunk's output to one logit per class.

At 64 pixels VGG16's output is (512, 2, 2); flattened, with 256 hidden units and 7 classes, a head has 526,000 weights.

Shapes: B faces, D channels, H and W pixels, U units before the output layer, K classes.

Begin at `Head`; dropout masks are arguments, drawn by `draw_dropout_mask`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ferray.model.randomness import Purpose, make_generator

MIN_VARIANCE = 1e-3
"""Part of the mean variance of all channels; it bounds what a rare channel is multiplied by to 32 times the usual."""


class Head(nn.Module):
    """Scaling if asked for, pooling, an optional hidden layer with ReLU, dropout, output layer; always in float32.

    Args:
        in_shape: (D, H, W) of the trunk's output.
        num_classes: K.
        pooling: `average` over height and width, or `flatten`.
        hidden_units: Units of the hidden layer; None for a linear head.
        generator: Draws the initial weights.
        standardizes: Whether the channels are standardized first; their mean and deviation are part of the model and
            are set by `set_scale`.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        *,
        pooling: Literal["average", "flatten"],
        hidden_units: int | None,
        generator: torch.Generator,
        standardizes: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = in_shape
        self.standardizes = standardizes
        if standardizes:
            self.mean = nn.Buffer(torch.zeros(channels, 1, 1))
            self.deviation = nn.Buffer(torch.ones(channels, 1, 1))
        self.pooling = pooling
        in_units = channels if pooling == "average" else channels * height * width
        self.num_units = hidden_units or in_units
        """U: units before the output layer, to which dropout applies."""
        self.hidden = None if hidden_units is None else _build_linear(in_units, hidden_units, generator)
        self.output = _build_linear(self.num_units, num_classes, generator)

    def forward(self, features_BDHW: Tensor, dropout_mask_BU: Tensor | None = None) -> Tensor:
        """Logits, shape (B, K).

        Args:
            features_BDHW: The trunk's output in any floating format.
            dropout_mask_BU: The factor of each unit, from `draw_dropout_mask`; None for no dropout.
        """
        features_BDHW = features_BDHW.float()
        if self.standardizes:
            features_BDHW = (features_BDHW - self.mean) / self.deviation
        units_BU = features_BDHW.mean(dim=(2, 3)) if self.pooling == "average" else features_BDHW.flatten(1)
        if self.hidden is not None:
            units_BU = functional.relu(self.hidden(units_BU))
        if dropout_mask_BU is not None:
            units_BU = units_BU * dropout_mask_BU
        logits_BK: Tensor = self.output(units_BU)
        return logits_BK

    def set_scale(self, mean_D: Tensor, variance_D: Tensor) -> None:
        """Standardize by these from now on.

        A channel that is almost always 0 would turn its few other values into outliers of hundreds of deviations.
        So `MIN_VARIANCE` of the mean variance is added to each.
        """
        self.mean.copy_(mean_D[:, None, None])
        self.deviation.copy_((variance_D + MIN_VARIANCE * variance_D.mean()).sqrt()[:, None, None])


def draw_dropout_mask(
    num_faces: int, num_units: int, *, dropout: float, seed: int, epoch: int, step: int
) -> Tensor | None:
    """The dropout mask of one step, for the batch of all ranks together; each rank takes its rows.

    Returns:
        0 for a dropped unit and 1 / (1 - dropout) for a kept one, float32, shape (num_faces, num_units); None where
        `dropout` is 0.
    """
    if dropout == 0:
        return None
    drawn_BU = torch.rand((num_faces, num_units), generator=make_generator(seed, Purpose.DROPOUT, epoch, step))
    return (drawn_BU >= dropout).float().div_(1 - dropout)


def _build_linear(in_units: int, out_units: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with weights and biases uniform in +-1 / sqrt(in_units), as torch's, but from our generator."""
    linear = nn.Linear(in_units, out_units, device="meta")
    bound = in_units**-0.5
    for name, tensor in list(linear.named_parameters()):  # `to_empty` would import torch's compiler first, 0.4 s
        drawn = torch.empty(tensor.shape).uniform_(-bound, bound, generator=generator)
        linear.register_parameter(name, nn.Parameter(drawn))
    return linear
