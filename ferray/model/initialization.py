"""The tensors of a trunk that starts from no weights, drawn from a seed.

A trunk is in evaluation mode, and batch norm in it starts as no help: filters as they are usually drawn then give
features that are the same for all faces, that vanish, or that float16 cannot hold. So filters have a mean of 0, and the
norms of a deep trunk are scaled once.

Begin at `draw_tensors`.

Shapes: B pictures, C colors, S pixels along a side.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ferray.model.backbone import PREFIX, Backbone
from ferray.model.randomness import Purpose, make_generator


def draw_tensors(backbone: Backbone, *, seed: int) -> dict[str, Tensor]:
    """The tensors of a trunk, of which none is pretrained; torch's own generator is left as it was.

    Args:
        backbone: Row of the table.
        seed: The recipe's.
    """
    generator = make_generator(seed, Purpose.TRUNK)
    if backbone.counts is None:
        return _draw_vgg(backbone, generator)
    before, num_threads = torch.default_generator.get_state(), torch.get_num_threads()
    try:
        torch.default_generator.set_state(generator.get_state())  # libraries draw from it
        torch.set_num_threads(1)  # the bits of what is measured must not depend on who asks
        layers = backbone.build_layers().eval()
        if any(isinstance(module, nn.BatchNorm2d) for module in layers.modules()):
            _draw_filters(layers, generator)
            _scale_norms(layers, generator)
    finally:
        torch.default_generator.set_state(before)
        torch.set_num_threads(num_threads)
    return {f"{PREFIX}{key}": tensor for key, tensor in layers.state_dict().items() if tensor.is_floating_point()}


def _draw_vgg(backbone: Backbone, generator: torch.Generator) -> dict[str, Tensor]:
    """Filters by `_draw_filter`, and batch norm as the identity, from shapes alone."""
    tensors = {}
    for name, shape in backbone.tensor_shapes().items():
        if len(shape) == 4:
            tensors[name] = _draw_filter(shape, generator)
        else:
            is_scale = name.endswith(("weight", "running_var"))  # of batch norm; every bias and mean is 0
            tensors[name] = torch.ones(shape) if is_scale else torch.zeros(shape)
    return tensors


def _draw_filter(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Kaiming's normal initialization for convolutions, with all filters but the first layer's centered at 0.

    Filters for one channel each are not centered, and have no other channels to count in their fan-out.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, with fan-out.
    """
    one_by_one = shape[1] == 1
    mode: Literal["fan_in", "fan_out"] = "fan_in" if one_by_one else "fan_out"
    drawn = nn.init.kaiming_normal_(torch.empty(shape), mode=mode, nonlinearity="relu", generator=generator)
    after_relu = shape[1] != 3  # all but the first, whose input is normalized pictures
    return _center(drawn) if after_relu and not one_by_one else drawn


def _center(drawn: Tensor) -> Tensor:
    """Filters with a mean of 0, shape (out, in, height, width), so that features differ between faces.

    The output of a ReLU is positive, so the features of all faces have a large part in common. Filters as they are
    drawn pass it on, and after 13 layers the features of any two faces have nearly the same direction (mean cosine
    0.97): no head learns from them. Filters that sum to 0 remove most of the common part. What remains of a ReLU's
    output is its variance, 1 - 1/pi of its mean square; the scale compensates for that.

    Source: Qiao, Wang, Liu, Shen and Yuille, "Weight Standardization", 2019, for the mean of 0.
    """
    centered: Tensor = (drawn - drawn.mean(dim=(1, 2, 3), keepdim=True)) / (1 - 1 / math.pi) ** 0.5
    return centered


@torch.no_grad()
def _draw_filters(layers: nn.Module, generator: torch.Generator) -> None:
    """Draw the filters of all convolutions; what else there is stays as its library has drawn it."""
    for module in layers.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(_draw_filter(tuple(module.weight.shape), generator))


@torch.no_grad()
def _scale_norms(layers: nn.Module, generator: torch.Generator) -> None:
    """Give each batch norm, for all its channels, the mean square that its input has for pictures of noise.

    Each channel's own mean and variance, as in training, would enlarge the small differences between pictures from
    norm to norm: after 50 of them the features say nothing but how float16 rounds.

    The pictures have squares of 1, 2, 4, 8 and 16 pixels with equal shares, coarse and fine as in photographs.

    Source: Mishkin and Matas, "All you need is a good init", 2016, for one scale a layer.
    """

    def scale(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
        norm.running_var.fill_(inputs[0].square().mean())

    noise_BCSS = torch.zeros(16, 3, 64, 64)
    for square_px in (1, 2, 4, 8, 16):
        squares = torch.randn(16, 3, 64 // square_px, 64 // square_px, generator=generator)
        noise_BCSS += functional.interpolate(squares, (64, 64), mode="nearest")
    norms = [module for module in layers.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(scale) for norm in norms]
    layers(noise_BCSS / 5**0.5)
    for hook in hooks:
        hook.remove()
