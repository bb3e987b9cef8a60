"""The table of backbones: convolutional trunks in torchvision's layout, one row for each.

VGG16's trunk is 13 convolutions in five blocks, 14.7 million weights; it turns a picture of 224 x 224 pixels into
features of shape (512, 7, 7).

To add a backbone, add a row to `BACKBONES` and its name to `ferray.recipe.BackboneName`. This module does not import
torchvision, which takes 1.7 s, a third of the time in which a search imports its modules, and torch only where layers
are built: a plan asks for the shape of a trunk's output before anything heavy is loaded.

Begin at `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferray.recipe import Freeze

if TYPE_CHECKING:
    import torch
    from torch import nn

FROZEN_BLOCKS: dict[Freeze, int | None] = {"none": 0, "blocks1-3": 3, "blocks1-4": 4, "trunk": None}
"""Blocks that keep their weights, counted from the picture; None for all of them."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One row: how a trunk is built, where it can be split into a frozen and a free part, and how colors are scaled."""

    name: str
    build_layers: Callable[[], nn.Sequential]
    """Builds the layers of the trunk, with arbitrary weights."""
    tensor_shapes: Callable[[], dict[str, tuple[int, ...]]]
    """Name and shape of every tensor of the trunk, named as torchvision names them: `features.0.weight`, ..."""
    block_ends: tuple[int, ...]
    """Index in the layers just after each block's pooling."""
    block_channels: tuple[int, ...]
    """Channels of each block's output; each block halves the picture's sides."""
    mean: tuple[float, float, float]
    """Mean of red, green and blue in [0, 1], which is subtracted before the trunk."""
    std: tuple[float, float, float]
    """Standard deviation of red, green and blue, by which they are then divided."""
    imagenet: str
    """torchvision's name of the ImageNet weights."""

    def frozen_layers(self, freeze: Freeze) -> int:
        """The number of layers, counted from the picture, that keep their weights."""
        blocks = FROZEN_BLOCKS[freeze]
        if blocks is None:
            return self.block_ends[-1]
        return self.block_ends[blocks - 1] if blocks else 0

    def output_shape(self, size_px: int, freeze: Freeze = "trunk") -> tuple[int, int, int]:
        """Shape (channels, height, width) of the frozen blocks' output; by default of the whole trunk's.

        Args:
            size_px: Side of the square picture.
            freeze: At least one block.
        """
        blocks = FROZEN_BLOCKS[freeze]
        if blocks is None:
            blocks = len(self.block_ends)
        side = size_px // 2**blocks
        return self.block_channels[blocks - 1], side, side


def build_vgg_layers(blocks: Sequence[tuple[int, int]], *, batch_norm: bool) -> nn.Sequential:
    """A VGG trunk's layers in torchvision's order, with torch's own first weights.

    Args:
        blocks: Channels and convolutions of each block.
        batch_norm: Whether batch norm follows each convolution.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, table 1.
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


def build_trunk_layers(backbone: Backbone, tensors: Mapping[str, torch.Tensor]) -> nn.Sequential:
    """The trunk's layers with copies of the given weights, in evaluation mode.

    Batch norm uses the running statistics of the weights, in training too: numbers must not depend on how a batch is
    divided among ranks, and statistics of a few faces are inaccurate.

    Args:
        backbone: Row of the table.
        tensors: Every tensor that `Backbone.tensor_shapes` names, float32.
    """
    import torch

    with torch.device("meta"):
        layers = backbone.build_layers()
    state = {name: torch.zeros((), dtype=torch.int64) for name in layers.state_dict() if _is_counter(name)}
    state |= {name.removeprefix("features."): tensor.clone() for name, tensor in tensors.items()}
    layers.load_state_dict(state, assign=True)
    return layers.eval()


def _is_counter(name: str) -> bool:
    """Whether a tensor is batch norm's count of training steps, which has no effect in evaluation mode."""
    return name.endswith("num_batches_tracked")


VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each block: column D of the paper's table."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            name="vgg16",
            build_layers=lambda: build_vgg_layers(VGG16_BLOCKS, batch_norm=False),
            tensor_shapes=lambda: vgg_tensor_shapes(VGG16_BLOCKS, batch_norm=False),
            block_ends=(5, 10, 17, 24, 31),
            block_channels=(64, 128, 256, 512, 512),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            imagenet="VGG16_Weights.IMAGENET1K_V1",
        ),
        Backbone(
            name="vgg16_bn",
            build_layers=lambda: build_vgg_layers(VGG16_BLOCKS, batch_norm=True),
            tensor_shapes=lambda: vgg_tensor_shapes(VGG16_BLOCKS, batch_norm=True),
            block_ends=(7, 14, 24, 34, 44),
            block_channels=(64, 128, 256, 512, 512),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            imagenet="VGG16_BN_Weights.IMAGENET1K_V1",
        ),
    )
}
"""All backbones of `ferray.recipe.BackboneName` by name."""
