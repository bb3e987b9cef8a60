"""Pretrained weights of a trunk: downloaded, from a file, or none; every tensor is checked before use.

VGG16's trunk has 26 tensors, 59 MB in float32. The fingerprint covers names, shapes and float32 values, so that a
safetensors file and a torch state dict of the same weights have the same fingerprint.

Begin at `load_weights`.
"""

import hashlib
import logging
import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ferray.errors import WeightsError
from ferray.model.backbones import BACKBONES, Backbone
from ferray.model.randomness import Purpose, make_generator
from ferray.model.weights_file import find_misfits, is_of_trunk, misfit_error
from ferray.recipe import NO_WEIGHTS
from ferray.wording import first_line

log = logging.getLogger(__name__)

GIVE_A_FILE = (
    "Give a file with --weights FILE (.safetensors, or a torch state dict), or start from none: --weights none"
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The initial weights of a trunk. Do not change its tensors: all runs of a process share them."""

    name: str
    """`imagenet`, a file's name, or `none`."""
    backbone: str
    """Name of the row of `BACKBONES` that they belong to."""
    fingerprint: str
    """Hexadecimal SHA-256 of the tensors; `NO_WEIGHTS` where there are none."""
    tensors: Mapping[str, torch.Tensor]
    """`features.0.weight` and so on, float32; empty for `none`."""


def load_weights(source: str | Path, backbone: str) -> Weights:
    """The weights of a trunk, checked.

    Args:
        source: `imagenet` (torchvision's, downloaded once), `none`, or a file.
        backbone: Name of a row of `BACKBONES`.

    Raises:
        WeightsError: The download failed, the file cannot be read, or its tensors are not those of the backbone.
    """
    row = BACKBONES[backbone]
    if source == "none":
        return Weights(name="none", backbone=backbone, fingerprint=NO_WEIGHTS, tensors={})
    if source == "imagenet":
        name, tensors = "imagenet", _download(row)
    else:
        name, tensors = Path(source).name, _read_file(Path(source))
    checked = _check(tensors, row, where=str(source))
    return Weights(name=name, backbone=backbone, fingerprint=_fingerprint(checked), tensors=checked)


def first_tensors(weights: Weights, *, seed: int) -> dict[str, torch.Tensor]:
    """The trunk's tensors before the first step: the pretrained ones, or random ones where there are none.

    Args:
        weights: The weights, from `load_weights`.
        seed: The recipe's seed, for random tensors.
    """
    if weights.tensors:
        return dict(weights.tensors)
    return _draw(BACKBONES[weights.backbone], seed=seed)


def without_pretraining(weights: Weights) -> Weights:
    """No weights for the same backbone, as a recipe with `weights: none` needs."""
    return load_weights("none", weights.backbone)


def _draw(backbone: Backbone, *, seed: int) -> dict[str, torch.Tensor]:
    """Kaiming's normal initialization for convolutions, with all filters but the first layer's centered at 0.

    Batch norm starts as the identity.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, with fan-out.
    """
    generator = make_generator(seed, Purpose.TRUNK)
    tensors = {}
    for name, shape in backbone.tensor_shapes().items():
        if len(shape) == 4:
            drawn = nn.init.kaiming_normal_(
                torch.empty(shape), mode="fan_out", nonlinearity="relu", generator=generator
            )
            after_relu = shape[1] != 3  # all but the first, whose input is normalized pictures
            tensors[name] = _center(drawn) if after_relu else drawn
        else:
            is_scale = name.endswith(("weight", "running_var"))  # of batch norm; every bias and mean is 0
            tensors[name] = torch.ones(shape) if is_scale else torch.zeros(shape)
    return tensors


def _center(drawn: torch.Tensor) -> torch.Tensor:
    """Filters with a mean of 0, shape (out, in, height, width), so that features differ between faces.

    The output of a ReLU is positive, so the features of all faces have a large part in common. Filters as they are
    drawn pass it on, and after 13 layers the features of any two faces have nearly the same direction (mean cosine
    0.97): no head learns from them. Filters that sum to 0 remove most of the common part. What remains of a ReLU's
    output is its variance, 1 - 1/pi of its mean square; the scale compensates for that.

    Source: Qiao, Wang, Liu, Shen and Yuille, "Weight Standardization", 2019, for the mean of 0.
    """
    centered: torch.Tensor = (drawn - drawn.mean(dim=(1, 2, 3), keepdim=True)) / (1 - 1 / math.pi) ** 0.5
    return centered


def _download(backbone: Backbone) -> Mapping[str, Any]:
    """The ImageNet weights of torchvision, from torch hub's cache or the network."""
    from torchvision.models import get_weight

    url = get_weight(backbone.imagenet).url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    log.info("ImageNet weights of %s: %s, kept under %s", backbone.name, url, folder)
    try:
        state: Mapping[str, Any] = torch.hub.load_state_dict_from_url(
            url, check_hash=True, weights_only=True, progress=False
        )
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:  # no network, disk full, wrong hash
        reason = getattr(error, "reason", None) or error
        what = f"the ImageNet weights of {backbone.name} could not be downloaded to {folder}: {reason}"
        raise WeightsError(url, what, GIVE_A_FILE) from error
    return state


def _read_file(file: Path) -> Mapping[str, Any]:
    """The tensors of a .safetensors file or a torch state dict; no code in it is executed."""
    if not os.path.isfile(file):  # unlike Path.is_file, no error where the name is too long
        raise WeightsError(
            str(file), "no such file of weights", "Check the name; --weights takes imagenet, none or a file"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        what = f"cannot be read as weights: {first_line(str(error), default=type(error).__name__)}"
        raise WeightsError(str(file), what, "Give a .safetensors file or a torch state dict of tensors only") from error
    if not isinstance(state, Mapping):
        raise WeightsError(
            str(file), f"a {type(state).__name__}, not a state dict", "Save model.state_dict(), not the model"
        )
    return state


def _check(state: Mapping[str, Any], backbone: Backbone, *, where: str) -> dict[str, torch.Tensor]:
    """The trunk's tensors as float32, in the backbone's order.

    Raises:
        WeightsError: They are not exactly those of the backbone.
    """
    expected = backbone.tensor_shapes()
    given = {name: tensor for name, tensor in state.items() if is_of_trunk(name)}
    shapes = {name: tuple(getattr(tensor, "shape", expected.get(name, ()))) for name, tensor in given.items()}
    faults = find_misfits(shapes, backbone)
    for name in expected:
        tensor = given.get(name)
        if isinstance(tensor, torch.Tensor):
            if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
                faults.append(f"{name} has numbers that are not finite, or no real numbers at all")
        elif tensor is not None:
            faults.append(f"{name} is a {type(tensor).__name__}, not a tensor")
    if faults:
        raise misfit_error(where, backbone, faults)
    # A copy: a safetensors file is memory-mapped, and may be overwritten while a search runs.
    return {name: given[name].to(torch.float32, copy=True).contiguous() for name in expected}


def _fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and float32 bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
