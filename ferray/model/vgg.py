"""VGG's trunks by own code: a plan of one, and its file of weights, are checked without torch and torchvision.

VGG16's trunk is 13 convolutions in five blocks, 14.7 million weights; it turns a picture of 224 x 224 pixels into
features of shape (512, 7, 7). Begin at `build_vgg_layers`.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each block: column D of the paper's table."""

VGG19_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Column E."""


def build_vgg_layers(blocks: Sequence[tuple[int, int]], *, batch_norm: bool) -> nn.Sequential:
    """A VGG trunk's layers in torchvision's order, with torch's own first weights.

    Args:
        blocks: Channels and convolutions of each block.
        batch_norm: Whether batch norm follows each convolution.
    """
    from torch import nn

    layers: list[nn.Module] = []
    channels_in = 3
    for channels, convolutions in blocks:
        for _ in range(convolutions):
            layers.append(nn.Conv2d(channels_in, channels, kernel_size=3, padding=1))
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            channels_in = channels
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def vgg_tensor_shapes(blocks: Sequence[tuple[int, int]], *, batch_norm: bool) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the layers that `build_vgg_layers` builds, without torch.

    Args:
        blocks: Channels and convolutions of each block.
        batch_norm: Whether batch norm follows each convolution.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    place, channels_in = 0, 3
    for channels, convolutions in blocks:
        for _ in range(convolutions):
            shapes |= {f"features.{place}.weight": (channels, channels_in, 3, 3), f"features.{place}.bias": (channels,)}
            if batch_norm:
                parts = ("weight", "bias", "running_mean", "running_var")
                shapes |= {f"features.{place + 1}.{part}": (channels,) for part in parts}
            place += 3 if batch_norm else 2  # ReLU has no tensors
            channels_in = channels
        place += 1  # nor has pooling
    return shapes


def vgg_block_ends(blocks: Sequence[tuple[int, int]], *, batch_norm: bool) -> tuple[int, ...]:
    """Index in the layers just after each block's pooling; arguments as `build_vgg_layers`."""
    ends: list[int] = []
    for _, convolutions in blocks:
        ends.append((ends[-1] if ends else 0) + convolutions * (3 if batch_norm else 2) + 1)
    return tuple(ends)
