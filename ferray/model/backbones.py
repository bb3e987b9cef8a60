"""The table of backbones: trunks that are cut into five blocks, one row for each, and timm's by name.

VGG's trunks are built by own code, the others by torchvision, or by timm for a name such as `timm/regnety_008`. This
module does not import torchvision, which takes 1.7 s, a third of the time in which a search imports its modules, and
torch only where layers are built: a plan asks for the shape of a trunk's output before anything heavy is loaded.

Where blocks end:

- VGG, MobileNet, EfficientNet: where the picture has half the sides of the block before;
- ResNet: its stem, then its four stages; ConvNeXt and Swin: patches, then their four stages, each with the layer that
  halves the sides before it;
- ViT: patches and tokens, then four times three of its twelve layers.

To add a backbone, add a row to `BACKBONES` and its name to `ferray.recipe.BackboneName`; `CONTRIBUTING.md` has the
steps. Begin at `BACKBONES`; `find_backbone` finds a row.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from ferray.libraries import TIMM
from ferray.model.backbone import FROZEN_BLOCKS, Backbone, Counts, Shape, halve
from ferray.model.vgg import VGG16_BLOCKS, VGG19_BLOCKS, build_vgg_layers, vgg_block_ends, vgg_tensor_shapes

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["BACKBONES", "FROZEN_BLOCKS", "Backbone", "build_trunk_layers", "find_backbone"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def find_backbone(name: str) -> Backbone:
    """The row of a backbone that `ferray.recipe.BackboneName` allows.

    Raises:
        RecipeError: timm is not installed, or has no model of this name.
    """
    if name not in BACKBONES and name.startswith(TIMM):
        return _find_timm_backbone(name)
    return BACKBONES[name]


def build_trunk_layers(backbone: Backbone, tensors: Mapping[str, torch.Tensor]) -> nn.Sequential:
    """The trunk's layers with copies of the given weights, in evaluation mode.

    Batch norm uses the running statistics of the weights, in training too: numbers must not depend on how a batch is
    divided among ranks, and statistics of a few faces are inaccurate. Dropout and stochastic depth within a trunk are
    off: what is drawn there would depend on more than seed and place.

    Args:
        backbone: Row of the table.
        tensors: Every tensor that `Backbone.tensor_shapes` names, float32.
    """
    import torch

    with torch.device("meta"):
        layers = backbone.build_layers()
    own = layers.state_dict()
    # What has no real numbers is batch norm's count of training steps, which has no effect in evaluation mode, or a
    # table of places, which a library makes by itself.
    state = {
        name: torch.zeros((), dtype=torch.int64) if tensor.is_meta else tensor
        for name, tensor in own.items()
        if not tensor.is_floating_point()
    }
    state |= {name.removeprefix("features."): tensor.clone() for name, tensor in tensors.items()}
    layers.load_state_dict(state, assign=True)
    return layers.eval()


@functools.cache
def _find_timm_backbone(name: str) -> Backbone:
    from ferray.model.timm_trunks import make_backbone

    return make_backbone(name)


def _vgg(name: str, imagenet: str, blocks: Sequence[tuple[int, int]], *, batch_norm: bool) -> Backbone:
    return Backbone(
        name=name,
        build_layers=lambda: build_vgg_layers(blocks, batch_norm=batch_norm),
        tensor_shapes=lambda: vgg_tensor_shapes(blocks, batch_norm=batch_norm),
        block_ends=vgg_block_ends(blocks, batch_norm=batch_norm),
        block_channels=tuple(channels for channels, _ in blocks),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        imagenet=imagenet,
    )


def _torchvision(
    name: str,
    imagenet: str,
    counts: tuple[int, int, int],
    *,
    ends: tuple[int, ...],
    channels: tuple[int, ...],
    sides: Callable[[int], tuple[Shape, ...]],
    file_names: tuple[tuple[str, str], ...] = (("", "features."),),
    joint: str = "",
    described: str = "",
    multiple_px: int = 1,
) -> Backbone:
    """A row of a trunk that torchvision builds; `joint` names the function of `ferray.model.torchvision_trunks`."""

    def trunks() -> ModuleType:
        return importlib.import_module("ferray.model.torchvision_trunks")

    return Backbone(
        name=name,
        build_layers=lambda: trunks().build_trunk(name),
        tensor_shapes=lambda: trunks().tensor_shapes(name),
        block_ends=ends,
        block_channels=channels,
        block_sides=sides,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        imagenet=imagenet,
        file_names=file_names,
        counts=Counts(*counts),
        joint=(lambda: getattr(trunks(), joint)()) if joint else None,
        described=described,
        multiple_px=multiple_px,
    )


def _resnet(name: str, imagenet: str, counts: tuple[int, int, int], channels: tuple[int, ...]) -> Backbone:
    return _torchvision(
        name,
        imagenet,
        counts,
        ends=(4, 5, 6, 7, 8),
        channels=channels,
        sides=partial(halve, halvings=(2, 2, 3, 4, 5), up=True),
        file_names=(("", ""),),
        described=f"torchvision's `{name}` up to `layer4`",
    )


def _swin_sides(size_px: int) -> tuple[Shape, ...]:
    """Patches of 4 x 4 pixels, of which a part at the edge is dropped; merging fills an odd side up instead."""
    patches = size_px // 4
    return ((patches, patches), *halve(patches, (0, 1, 2, 3), up=True))


def _vit_sides(size_px: int) -> tuple[Shape, ...]:
    """A column of all tokens, and at last one."""
    num_tokens = 1 + (size_px // 16) ** 2
    return (*((num_tokens, 1),) * 4, (1, 1))


ROWS = (
    _vgg("vgg16", "VGG16_Weights.IMAGENET1K_V1", VGG16_BLOCKS, batch_norm=False),
    _vgg("vgg16_bn", "VGG16_BN_Weights.IMAGENET1K_V1", VGG16_BLOCKS, batch_norm=True),
    _vgg("vgg19", "VGG19_Weights.IMAGENET1K_V1", VGG19_BLOCKS, batch_norm=False),
    _vgg("vgg19_bn", "VGG19_BN_Weights.IMAGENET1K_V1", VGG19_BLOCKS, batch_norm=True),
    _resnet("resnet18", "ResNet18_Weights.IMAGENET1K_V1", (100, 11_186_112, 11_176_512), (64, 64, 128, 256, 512)),
    _resnet("resnet50", "ResNet50_Weights.IMAGENET1K_V2", (265, 23_561_152, 23_508_032), (64, 256, 512, 1024, 2048)),
    _torchvision(
        "mobilenet_v3_small",
        "MobileNet_V3_Small_Weights.IMAGENET1K_V1",
        (206, 939_120, 927_008),
        ends=(1, 2, 4, 9, 13),
        channels=(16, 16, 24, 48, 576),
        sides=partial(halve, up=True),
    ),
    _torchvision(
        "mobilenet_v3_large",
        "MobileNet_V3_Large_Weights.IMAGENET1K_V2",
        (262, 2_996_352, 2_971_952),
        ends=(2, 4, 7, 13, 17),
        channels=(16, 24, 40, 112, 960),
        sides=partial(halve, up=True),
    ),
    _torchvision(
        "efficientnet_b0",
        "EfficientNet_B0_Weights.IMAGENET1K_V1",
        (309, 4_049_564, 4_007_548),
        ends=(2, 3, 4, 6, 9),
        channels=(16, 24, 40, 112, 1280),
        sides=partial(halve, up=True),
    ),
    _torchvision(
        "efficientnet_v2_s",
        "EfficientNet_V2_S_Weights.IMAGENET1K_V1",
        (670, 20_331_360, 20_177_488),
        ends=(2, 3, 4, 6, 8),
        channels=(24, 48, 64, 160, 1280),
        sides=partial(halve, up=True),
    ),
    _torchvision(
        "convnext_tiny",
        "ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
        (178, 27_818_592, 27_818_592),
        ends=(1, 2, 4, 6, 8),
        channels=(96, 96, 192, 384, 768),
        sides=partial(halve, halvings=(2, 2, 3, 4, 5)),
    ),
    _torchvision(
        "vit_b_16",
        "ViT_B_16_Weights.IMAGENET1K_V1",
        (150, 85_798_656, 85_798_656),
        ends=(2, 5, 8, 11, 16),
        channels=(768,) * 5,
        sides=_vit_sides,
        file_names=(
            ("conv_proj.", "conv_proj."),
            ("tokens.class_token", "class_token"),
            ("tokens.pos_embedding", "encoder.pos_embedding"),
            ("ln.", "encoder.ln."),
            ("", "encoder.layers."),
        ),
        joint="tokens_joint",
        described="torchvision's `vit_b_16` without `heads`: class token; positions scaled to the picture's size",
        multiple_px=16,
    ),
    _torchvision(
        "swin_t",
        "Swin_T_Weights.IMAGENET1K_V1",
        (171, 27_519_354, 27_519_354),
        ends=(1, 2, 4, 6, 10),
        channels=(96, 96, 192, 384, 768),
        sides=_swin_sides,
        file_names=(("norm.", "norm."), ("", "features.")),
        joint="channels_last_joint",
        described="`features`, `norm` and `permute` of torchvision's `swin_t`",
    ),
)

BACKBONES: dict[str, Backbone] = {row.name: row for row in ROWS}
"""All backbones of `ferray.recipe.BackboneName` by name."""
