"""Trunks of timm by name, each as one block: they can be frozen as a whole or not at all.

timm has more than a thousand models, and no one way to cut all of them. What a trunk passes on is what timm calls the
model's features: a picture of channels, or of a vision transformer the class token, or the mean of its tokens where it
has none.

Begin at `make_backbone`.

Shapes: B pictures, D channels, H and W places, T tokens, S pixels along a side.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from ferray.errors import RecipeError
from ferray.libraries import TIMM, building_library
from ferray.model.backbone import Backbone, Counts, Shape
from ferray.model.torchvision_trunks import shapes_of
from ferray.wording import did_you_mean, first_line


def make_backbone(name: str) -> Backbone:
    """A row for one of timm's models.

    Args:
        name: `timm/` and timm's name.

    Raises:
        RecipeError: timm is not installed, has no such model, or its model is none of pictures.
    """
    building_library(name)  # an error without timm
    import timm

    short, where = name.removeprefix(TIMM), f"backbone {name}"
    if not timm.is_model(short):
        near = did_you_mean(short, timm.list_models())
        raise RecipeError(where, "timm has no such model", f"{near}python -c 'import timm; print(timm.list_models())'")
    settings = timm.get_pretrained_cfg(short)
    own_px = 224 if settings is None else settings.input_size[-1]
    mean, std = ((0.5,) * 3, (0.5,) * 3) if settings is None else (settings.mean, settings.std)
    channels, *_ = _output_shape(short, own_px)
    shapes = _tensor_shapes(short)
    return Backbone(
        name=name,
        build_layers=partial(_build, short),
        tensor_shapes=partial(_tensor_shapes, short),
        block_ends=(1,),
        block_channels=(channels,),
        block_sides=lambda size_px: (_output_shape(short, size_px)[1:],),
        mean=_three(mean),
        std=_three(std),
        imagenet=short,
        file_names=(("trunk.body.", ""),),
        counts=Counts(
            tensors=len(shapes),
            numbers=sum(torch.Size(shape).numel() for shape in shapes.values()),
            parameters=sum(torch.Size(shape).numel() for key, shape in shapes.items() if "running_" not in key),
        ),
        described=f"`forward_features` of timm's `{short}`{_pooling(short)}",
    )


def download(backbone: Backbone) -> Mapping[str, Tensor]:
    """The pretrained weights that timm names first for a model, from the hub's cache or the network; its own errors."""
    model = _create(backbone.imagenet, pretrained=True)
    return dict(model.state_dict())


@cache
def _tensor_shapes(short: str) -> dict[str, Shape]:
    with torch.device("meta"):
        return shapes_of(_build_here(short))


@cache
def _output_shape(short: str, size_px: int) -> tuple[int, int, int]:
    """Shape (D, H, W) for pictures of a size, found out on a model without memory."""
    with torch.device("meta"):
        layers = _build_here(short).eval()
        try:
            features_BDHW: Tensor = layers(torch.empty(1, 3, size_px, size_px))
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = first_line(str(error), default=type(error).__name__)
            what = f"takes no pictures of {size_px} pixels: {reason}"
            raise RecipeError(f"backbone {TIMM}{short}", what, "Choose another image_size, or backbone") from error
    channels, height, width = features_BDHW.shape[1:]
    return channels, height, width


def _build(short: str) -> nn.Sequential:
    """The layers with numbers, whatever device is usual: timm computes tables while it builds."""
    with torch.device("cpu"):
        return _build_here(short)


def _build_here(short: str) -> nn.Sequential:
    model = _create(short, pretrained=False)
    for path in _unused(short):
        model.set_submodule(path, nn.Identity())
    return nn.Sequential(OrderedDict(trunk=_Features(model)))


def _create(short: str, *, pretrained: bool) -> nn.Module:
    import timm

    create = partial(timm.create_model, short, pretrained=pretrained, num_classes=0, global_pool="")
    try:
        model: nn.Module = create(dynamic_img_size=True)
    except TypeError:  # one that takes pictures of any size without being asked
        model = create()
    return model


@cache
def _unused(short: str) -> tuple[str, ...]:
    """The modules whose weights have no part in the features, such as convolutions after pooling."""
    import timm

    settings = timm.get_pretrained_cfg(short)
    size_px = 224 if settings is None else settings.input_size[-1]
    with torch.device("meta"), torch.enable_grad():
        model = _create(short, pretrained=False).eval()
        features = _Features(model)(torch.empty(1, 3, size_px, size_px))
        features.sum().backward()
    own = {path: list(module.parameters(recurse=False)) for path, module in model.named_modules()}
    return tuple(path for path, tensors in own.items() if tensors and all(tensor.grad is None for tensor in tensors))


class _Features(nn.Module):
    """A model's features, shape (B, D, H, W); of tokens one place.

    Args:
        body: timm's model without its classifier.
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, pictures_BCSS: Tensor) -> Tensor:
        features: Tensor = self.body.forward_features(pictures_BCSS)
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(self.body, "output_fmt", "NCHW") == "NHWC" else features
        if features.ndim == 3:
            return _pool_tokens(self.body, features)[:, :, None, None]
        return features.flatten(1)[:, :, None, None]


def _pool_tokens(body: Any, tokens_BTD: Tensor) -> Tensor:
    if _has_class_token(body):
        return tokens_BTD[:, 0]
    return tokens_BTD[:, getattr(body, "num_prefix_tokens", 0) :].mean(dim=1)


def _has_class_token(body: Any) -> bool:
    return getattr(body, "cls_token", None) is not None


def _pooling(short: str) -> str:
    with torch.device("meta"):
        body = _create(short, pretrained=False)
    if not hasattr(body, "num_prefix_tokens"):
        return ""
    return ", the class token" if _has_class_token(body) else ", the mean of its tokens"


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
