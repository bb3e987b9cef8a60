"""The whole model in two parts: the frozen part, which begins at the picture, and the free part, which is trained.

Where the whole trunk is frozen the free part is the head alone, and the frozen part's output can be cached: see
`ferray.train.features.view`. Where nothing is frozen the frozen part only normalizes the pictures.

Shapes: B faces, S pixels along a side, C colors, D channels, H and W places, U units, K classes.

Begin at `build_classifier`.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ferray.errors import WeightsError
from ferray.model.backbone import Backbone
from ferray.model.backbones import build_trunk_layers, find_backbone
from ferray.model.float32 import switch_tf32_off
from ferray.model.head import Head
from ferray.model.randomness import Purpose, make_generator
from ferray.model.weights import Weights, first_tensors, without_pretraining
from ferray.recipe import Recipe

CPU = torch.device("cpu")


class FrozenPart(nn.Module):
    """Normalization and the layers that keep their weights; it computes no gradients."""

    def __init__(self, backbone: Backbone, layers: nn.Sequential, *, precision: torch.dtype) -> None:
        super().__init__()
        self.layers = layers.requires_grad_(False).to(precision)
        self.precision = precision
        self.mean = nn.Buffer(255 * torch.tensor(backbone.mean).reshape(3, 1, 1), persistent=False)
        self.std = nn.Buffer(255 * torch.tensor(backbone.std).reshape(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, faces_BSSC: Tensor) -> Tensor:
        """Features, shape (B, D, H, W), channels last in memory.

        Args:
            faces_BSSC: RGB, uint8, on the device of this part.

        Returns:
            In float16, as in the cache, so that cached and uncached runs have the same numbers; where no layer is
            frozen, the normalized pictures in the recipe's precision.
        """
        faces_BCSS = faces_BSSC.permute(0, 3, 1, 2).float()
        features_BDHW: Tensor = self.layers(((faces_BCSS - self.mean) / self.std).to(self.precision))
        return features_BDHW.half() if len(self.layers) else features_BDHW


class FreePart(nn.Module):
    """The part that is trained: the trunk's remaining layers, if any, and the head."""

    def __init__(self, layers: nn.Sequential, head: Head, *, precision: torch.dtype) -> None:
        super().__init__()
        self.features = layers
        """Layers named as in the whole trunk."""
        self.head = head
        self.precision = precision

    def forward(self, features_BDHW: Tensor, dropout_mask_BU: Tensor | None = None) -> Tensor:
        """Logits in float32, shape (B, K), from the frozen part's output."""
        logits_BK: Tensor = self.head(self.trunk_output(features_BDHW), dropout_mask_BU)
        return logits_BK

    def trunk_output(self, features_BDHW: Tensor) -> Tensor:
        """What the head gets, shape (B, D, H, W), from the frozen part's output."""
        if not len(self.features):
            return features_BDHW
        lower = self.precision != torch.float32
        with torch.autocast(features_BDHW.device.type, dtype=torch.bfloat16, enabled=lower):
            output_BDHW: Tensor = self.features(features_BDHW.float())
        return output_BDHW

    def tensors(self) -> dict[str, Tensor]:
        """All that training decides, by name: the parameters, and the head's mean and deviation of the channels."""
        return {**dict(self.named_parameters()), **dict(self.head.named_buffers(prefix="head"))}


class Classifier(nn.Module):
    """Both parts as one model from pictures to logits, for inference."""

    def __init__(self, frozen: FrozenPart, free: FreePart) -> None:
        super().__init__()
        self.frozen = frozen
        self.free = free

    @torch.no_grad()
    def forward(self, faces_BSSC: Tensor) -> Tensor:
        """Logits in float32, shape (B, K).

        Args:
            faces_BSSC: RGB, uint8, of the recipe's size, on the device of this model.
        """
        logits_BK: Tensor = self.free(self.frozen(faces_BSSC))
        return logits_BK


def build_classifier(
    recipe: Recipe, tensors: Mapping[str, Tensor], *, num_classes: int, device: torch.device = CPU
) -> Classifier:
    """A whole model with given trunk tensors and a fresh head.

    Args:
        recipe: The recipe, settled.
        tensors: The trunk's, from `trunk_tensors` or an exported model.
        num_classes: The number of classes of the store.
        device: Where to put the model.
    """
    return Classifier(
        build_frozen(recipe, tensors, device=device),
        build_free(recipe, tensors, num_classes=num_classes, device=device),
    )


def build_frozen(recipe: Recipe, tensors: Mapping[str, Tensor], *, device: torch.device = CPU) -> FrozenPart:
    """The part that keeps its weights; arguments as `build_classifier`."""
    switch_tf32_off()
    backbone = find_backbone(recipe.backbone)
    num_frozen = backbone.frozen_layers(recipe.freeze)
    layers = build_trunk_layers(backbone, tensors)[:num_frozen]
    if backbone.joint is not None and 0 < num_frozen < backbone.block_ends[-1]:
        layers.add_module("joint", backbone.joint()[0])
    part = FrozenPart(backbone, layers, precision=_precision(recipe))
    return part.to(device).to(memory_format=torch.channels_last)


def build_free(
    recipe: Recipe, tensors: Mapping[str, Tensor], *, num_classes: int, device: torch.device = CPU
) -> FreePart:
    """The part that is trained, its head drawn from the recipe's seed; arguments as `build_classifier`."""
    assert recipe.image_size is not None, "settled"
    switch_tf32_off()
    backbone = find_backbone(recipe.backbone)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if recipe.freeze != "trunk":  # building a trunk takes a tenth of a second, as long as a head may train
        first = backbone.frozen_layers(recipe.freeze)
        if backbone.joint is not None and first:
            layers["joint"] = backbone.joint()[1]
        trunk = build_trunk_layers(backbone, tensors)
        layers.update(list(trunk.named_children())[first:])
    head = Head(
        backbone.output_shape(recipe.image_size),
        num_classes,
        pooling=recipe.head_pooling,
        hidden_units=recipe.hidden_units,
        generator=make_generator(recipe.seed, Purpose.HEAD),
        standardizes=recipe.feature_scaling == "standardize",
    )
    part = FreePart(nn.Sequential(layers), head, precision=_precision(recipe))
    return part.to(device).to(memory_format=torch.channels_last)


def trunk_tensors(recipe: Recipe, weights: Weights) -> dict[str, Tensor]:
    """The trunk's tensors before the first step.

    Raises:
        WeightsError: The weights belong to another backbone.
    """
    if weights.backbone != recipe.backbone:
        what = f"weights of {weights.backbone}, but the recipe's backbone is {recipe.backbone}"
        raise WeightsError(weights.name, what, f"Load the weights of {recipe.backbone}, or change backbone")
    chosen = weights if recipe.weights == "pretrained" else without_pretraining(weights)
    return first_tensors(chosen, seed=recipe.seed)


def _precision(recipe: Recipe) -> torch.dtype:
    assert recipe.precision != "auto", "settled"
    return torch.float32 if recipe.precision == "float32" else torch.bfloat16
