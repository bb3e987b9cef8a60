"""Trunks that torchvision builds, as lists of layers that can be cut.

A trunk is torchvision's own model without its pooling and classifier: nothing is rewritten but the glue of vision
transformers, whose class token and positions are no layer there. Layers have names that `Backbone.file_names` turns
into torchvision's. Begin at `build_trunk`.

Shapes: B pictures, D channels, H and W places, T tokens.
"""

from collections import OrderedDict
from functools import cache
from types import MethodType

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.ops import Permute

from ferray.model.backbone import PREFIX, Shape


def build_trunk(name: str) -> nn.Sequential:
    """The layers of torchvision's model of this name, with torchvision's own first weights."""
    build = getattr(torchvision.models, name)
    try:
        return cut(build(weights=None))
    except NotImplementedError:  # one that computes with tensors while it is built, such as RegNet, on no device
        with torch.device("cpu"):
            return cut(build(weights=None))


def cut(model: nn.Module) -> nn.Sequential:
    """A model without its pooling and classifier as a list of layers; they are those of the model.

    Dropout and stochastic depth are left in place; a trunk is in evaluation mode, in which they do nothing.
    """
    if isinstance(model, torchvision.models.ResNet):
        return nn.Sequential(OrderedDict(list(model.named_children())[:-2]))  # without avgpool and fc
    if isinstance(model, torchvision.models.VisionTransformer):
        return _cut_vision_transformer(model)
    if isinstance(model, torchvision.models.SwinTransformer):
        return _cut_swin_transformer(model)
    features = model.features
    assert isinstance(features, nn.Sequential)
    return features


@cache
def tensor_shapes(name: str) -> dict[str, Shape]:
    """Name and shape of every tensor of real numbers of a trunk."""
    with torch.device("meta"):
        return shapes_of(build_trunk(name))


def shapes_of(layers: nn.Module) -> dict[str, Shape]:
    """Name in ferray and shape of every tensor of real numbers of a trunk's layers."""
    state = layers.state_dict()
    return {f"{PREFIX}{key}": tuple(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}


def channels_last_joint() -> tuple[nn.Module, nn.Module]:
    """For blocks that pass (B, H, W, D)."""
    return Permute([0, 3, 1, 2]), Permute([0, 2, 3, 1])


def tokens_joint() -> tuple[nn.Module, nn.Module]:
    """For blocks that pass (B, T, D): as a picture of T rows and one column."""
    return _TokensToColumn(), _ColumnToTokens()


def _cut_swin_transformer(model: torchvision.models.SwinTransformer) -> nn.Sequential:
    """Patches, four stages with merging between them, the last norm, and channels brought to their place."""
    for module in model.modules():
        if isinstance(module, ShiftedWindowAttention):
            with torch.device("cpu"):  # again: it has no numbers where the model is built without memory
                module.define_relative_position_index()
            module.get_relative_position_bias = MethodType(_relative_position_bias, module)
    layers = OrderedDict(model.features.named_children())
    return nn.Sequential(layers | {"norm": model.norm, "permute": model.permute})


def _relative_position_bias(attention: ShiftedWindowAttention) -> Tensor:
    """The bias of the attention, shape (1, heads, window, window), with a gradient of the same bits each time.

    On several threads torch adds the gradients of an indexed tensor up in any order, those of an embedding in one.
    """
    window = attention.window_size[0] * attention.window_size[1]
    bias = functional.embedding(attention.relative_position_index, attention.relative_position_bias_table)
    return bias.view(window, window, -1).permute(2, 0, 1).contiguous().unsqueeze(0)


def _cut_vision_transformer(model: torchvision.models.VisionTransformer) -> nn.Sequential:
    """Patches, tokens, the encoder's layers, its last norm, and the class token as a picture of one place.

    torch has a second way to compute attention where no gradient is asked for, which rounds otherwise. It is turned off
    in this process, or the features of an epoch would not be those that are validated and exported.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    tokens = _Tokens(model.class_token, model.encoder.pos_embedding)
    layers = OrderedDict(model.encoder.layers.named_children())
    first: OrderedDict[str, nn.Module] = OrderedDict(conv_proj=model.conv_proj, tokens=tokens)
    return nn.Sequential(first | layers | {"ln": model.encoder.ln, "class_token": _ClassToken()})


class _Tokens(nn.Module):
    """Patches as tokens, the class token before them, and the position added to each.

    Positions are learned for pictures of one size, 224 pixels; for another they are interpolated, as if the picture
    were scaled. The class token keeps its own.
    """

    def __init__(self, class_token: nn.Parameter, pos_embedding: nn.Parameter) -> None:
        super().__init__()
        self.class_token = class_token
        self.pos_embedding = pos_embedding

    def forward(self, patches_BDHW: Tensor) -> Tensor:
        tokens_BTD = patches_BDHW.flatten(2).transpose(1, 2)
        first_B1D = self.class_token.expand(tokens_BTD.shape[0], -1, -1)  # len() would fix the batch of a graph
        height, width = patches_BDHW.shape[2:]
        return torch.cat([first_B1D, tokens_BTD], dim=1) + self._positions(height, width)

    def _positions(self, height: int, width: int) -> Tensor:
        """Shape (1, T, D)."""
        side = round((self.pos_embedding.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return self.pos_embedding
        own_11D, rest_1TD = self.pos_embedding[:, :1], self.pos_embedding[:, 1:]
        rest_1DHW = rest_1TD.transpose(1, 2).reshape(1, -1, side, side)
        scaled_1DHW = functional.interpolate(rest_1DHW.float(), (height, width), mode="bicubic", antialias=True)
        return torch.cat([own_11D, scaled_1DHW.to(own_11D.dtype).flatten(2).transpose(1, 2)], dim=1)


class _ClassToken(nn.Module):
    """The class token alone, shape (B, D, 1, 1): what torchvision's own classifier of the model gets."""

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        return tokens_BTD[:, 0, :, None, None]


class _TokensToColumn(nn.Module):
    def forward(self, tokens_BTD: Tensor) -> Tensor:
        return tokens_BTD.transpose(1, 2).unsqueeze(3)


class _ColumnToTokens(nn.Module):
    def forward(self, column_BDT1: Tensor) -> Tensor:
        return column_BDT1.squeeze(3).transpose(1, 2)
