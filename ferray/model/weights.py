"""Pretrained weights of a trunk: downloaded, from a file, or none; every tensor is checked before use.

VGG16's trunk has 26 tensors, 59 MB in float32. The fingerprint covers names, shapes and float32 values, so that a
safetensors file and a torch state dict of the same weights have the same fingerprint.

Begin at `load_weights`.
"""

import hashlib
import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ferray.errors import WeightsError
from ferray.model.backbone import Backbone
from ferray.model.backbones import find_backbone
from ferray.model.initialization import draw_tensors
from ferray.model.weights_file import find_file, find_misfits, is_of_trunk, misfit_error
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
        source: `imagenet` (torchvision's or timm's, downloaded once), `none`, a file, or a folder of files that are
            named after backbones.
        backbone: Name of a row of `BACKBONES`.

    Raises:
        WeightsError: The download failed, the file cannot be read, or its tensors are not those of the backbone.
    """
    row, source = find_backbone(backbone), find_file(str(source), backbone)
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
    return draw_tensors(find_backbone(weights.backbone), seed=seed)


def without_pretraining(weights: Weights) -> Weights:
    """No weights for the same backbone, as a recipe with `weights: none` needs."""
    return load_weights("none", weights.backbone)


def unloaded_weights(fingerprints: Mapping[str, str]) -> dict[str, Weights]:
    """Weights by backbone that only have their fingerprints: enough where the features of their trunks are cached.

    Args:
        fingerprints: Of the weights of each backbone.
    """
    return {
        backbone: Weights(
            name="not loaded",
            backbone=backbone,
            fingerprint=fingerprint,
            tensors={} if fingerprint == NO_WEIGHTS else _Unloaded(),
        )
        for backbone, fingerprint in fingerprints.items()
    }


class _Unloaded(Mapping[str, torch.Tensor]):
    """Tensors that nobody may read: a trunk that is drawn at random in their place would fill the cache."""

    def __getitem__(self, name: str) -> torch.Tensor:
        raise WeightsError(
            "cache", "the features of the frozen trunk are damaged", "Resume the search: it repairs them"
        )

    def __iter__(self) -> Iterator[str]:
        self[""]
        return iter(())

    def __len__(self) -> int:
        return 1


def _download(backbone: Backbone) -> Mapping[str, Any]:
    """The ImageNet weights of torchvision, from torch hub's cache or the network."""
    if backbone.library == "timm":
        return _download_from_hub(backbone)
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


def _download_from_hub(backbone: Backbone) -> Mapping[str, Any]:
    """The pretrained weights that timm names first for a model."""
    from ferray.model import timm_trunks

    try:
        return timm_trunks.download(backbone)
    except Exception as error:  # the hub's client raises those of whatever library it reaches the network with
        reason = first_line(str(error), default=type(error).__name__)
        what = f"the pretrained weights of {backbone.name} could not be downloaded by timm: {reason}"
        raise WeightsError(backbone.name, what, GIVE_A_FILE) from error


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
    expected = backbone.shapes_in_files()
    given = {name: tensor for name, tensor in state.items() if name in expected or is_of_trunk(name)}
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
    return {
        name: given[backbone.name_in_files(name)].to(torch.float32, copy=True).contiguous()
        for name in backbone.tensor_shapes()
    }


def _fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and float32 bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
