"""How many weights and biases a model has, without building it. Begin at `count_parameters`."""

import itertools
import math
from typing import NamedTuple

from ferray.model.backbones import find_backbone
from ferray.recipe import Recipe


class Parameters(NamedTuple):
    """Weights and biases, frozen ones included."""

    trunk: int
    head: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.trunk + self.head


def count_parameters(recipe: Recipe, *, num_classes: int) -> Parameters:
    """Those of a recipe's model; only timm's backbones are built for it, without memory.

    Args:
        recipe: With its image size settled.
        num_classes: Outputs of the head.

    Raises:
        RecipeError: timm is not installed.
    """
    assert recipe.image_size is not None, "settled"
    backbone = find_backbone(recipe.backbone)
    shape = backbone.output_shape(recipe.image_size)
    units = shape[0] if recipe.head_pooling == "average" else math.prod(shape)
    layers = [units, num_classes] if recipe.hidden_units is None else [units, recipe.hidden_units, num_classes]
    head = sum((one + 1) * other for one, other in itertools.pairwise(layers))
    return Parameters(trunk=backbone.num_parameters, head=head)
