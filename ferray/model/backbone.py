"""One row of the table of backbones: how a trunk is built and cut, without torch.

Every trunk of the table is a list of layers in five blocks. A block ends where a picture has been halved once more, or,
where the first halving has no layers of its own, after a stage as its authors call it; `ferray.model.backbones` says it
for each. `blocks1-3` and `blocks1-4` of `ferray.recipe.Freeze` keep the first blocks. So a setting of the search means
the same for all: nothing, three fifths, four fifths or all of the trunk's blocks are frozen.

Begin at `Backbone`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ferray.errors import RecipeError
from ferray.libraries import TIMM
from ferray.recipe import Freeze

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]

FROZEN_BLOCKS: dict[Freeze, int | None] = {"none": 0, "blocks1-3": 3, "blocks1-4": 4, "trunk": None}
"""Blocks that keep their weights, counted from the picture; None for all of them."""

PREFIX = "features."
"""Begins the name of each of a trunk's tensors in ferray: `features.` and the tensor's name within the layers."""


def halve(size_px: int, halvings: tuple[int, ...] = (1, 2, 3, 4, 5), *, up: bool = False) -> tuple[Shape, ...]:
    """Height and width after each block.

    Args:
        size_px: Side of the picture.
        halvings: Of its sides, from the picture to the end of each block.
        up: Whether half of an odd side is rounded up, as by padded convolutions, or down, as by pooling.
    """
    sides = [-(-size_px // 2**times) if up else size_px // 2**times for times in halvings]
    return tuple((side, side) for side in sides)


class Counts(NamedTuple):
    """What a plan knows of the tensors of a trunk that only its library can name."""

    tensors: int
    numbers: int
    """In all tensors."""
    parameters: int
    """Those that can be trained, so without batch norm's statistics."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One row: how a trunk is built, where it can be split into a frozen and a free part, and how colors are scaled."""

    name: str
    build_layers: Callable[[], nn.Sequential]
    """Builds the layers of the trunk, with arbitrary weights."""
    tensor_shapes: Callable[[], Mapping[str, Shape]]
    """Name and shape of every tensor of real numbers of the trunk: `features.0.weight`, ..."""
    block_ends: tuple[int, ...]
    """Index in the layers just after each block."""
    block_channels: tuple[int, ...]
    """Channels of each block's output."""
    block_sides: Callable[[int], tuple[Shape, ...]] = halve
    """Height and width of each block's output, from the picture's side."""
    mean: tuple[float, float, float]
    """Mean of red, green and blue in [0, 1], which is subtracted before the trunk."""
    std: tuple[float, float, float]
    """Standard deviation of red, green and blue, by which they are then divided."""
    imagenet: str
    """torchvision's or timm's name of the ImageNet weights."""
    file_names: tuple[tuple[str, str], ...] = (("", PREFIX),)
    """Beginnings of names within the layers, and what files of weights have in their place; the first match counts."""
    counts: Counts | None = None
    """Of the trunk's tensors; None where `tensor_shapes` needs no torch, so that they need not be known."""
    joint: Callable[[], tuple[nn.Module, nn.Module]] | None = None
    """Where blocks do not pass (batch, channels, height, width): builds what makes that of a block's output, at the end
    of the frozen part, and what undoes it, at the beginning of the free part."""
    described: str = ""
    """The layers in words, for the README of an exported file; empty for `features` of torchvision's model."""
    multiple_px: int = 1
    """Pictures must have a side that is a multiple of this."""

    @property
    def library(self) -> str:
        """Whose names of tensors files of weights have."""
        return "timm" if self.name.startswith(TIMM) else "torchvision"

    @property
    def num_parameters(self) -> int:
        """Weights and biases of the trunk; batch norm's statistics are none."""
        if self.counts is not None:
            return self.counts.parameters
        return sum(math.prod(shape) for name, shape in self.tensor_shapes().items() if "running_" not in name)

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
        height, width = self.block_sides(size_px)[blocks - 1]
        return self.block_channels[blocks - 1], height, width

    def check(self, *, size_px: int, freeze: Freeze, where: str) -> None:
        """Refuse what this trunk cannot do.

        Args:
            size_px: Side of the pictures.
            freeze: What is to be frozen.
            where: Of the setting, for the error.

        Raises:
            RecipeError: The side is none that it takes, or it cannot be cut there.
        """
        blocks = FROZEN_BLOCKS[freeze]
        if blocks is not None and blocks >= len(self.block_ends):
            what = f"freeze is {freeze}, but {self.name} is not cut into blocks"
            raise RecipeError(where, what, "Take freeze=trunk or freeze=none")
        if size_px % self.multiple_px:
            lower = max(self.multiple_px, size_px - size_px % self.multiple_px)
            sides = sorted({max(lower, 32), lower + self.multiple_px})
            what = f"pictures of {size_px} pixels, but {self.name} takes multiples of {self.multiple_px} alone"
            raise RecipeError(where, what, f"Resize them: image_size={' or '.join(map(str, sides))}")
        self.block_sides(size_px)

    def name_in_files(self, name: str) -> str:
        """The name that files of weights, such as torchvision's, have for one of the trunk's tensors."""
        path = name.removeprefix(PREFIX)
        own, theirs = next(pair for pair in self.file_names if path.startswith(pair[0]))
        return theirs + path.removeprefix(own)

    def shapes_in_files(self) -> dict[str, Shape]:
        """`tensor_shapes` by the names of files."""
        return {self.name_in_files(name): tuple(shape) for name, shape in self.tensor_shapes().items()}
