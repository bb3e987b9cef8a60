"""How fast the frozen trunk is on this machine, measured on a few pictures. Begin at `measure_trunk_speed`."""

import time
from pathlib import Path
from typing import cast

import torch

from ferray.model.classifier import build_frozen, trunk_tensors
from ferray.model.weights import Weights
from ferray.recipe import BackboneName, Recipe
from ferray.train.settle import measure_precision

NUM_PICTURES = 16
NUM_PASSES = 3
"""The first pass also initializes libraries; the fastest one counts."""


def measure_trunk_speed(weights: Weights, *, size_px: int, device: str, cache: Path | None) -> float:
    """Pictures a second that pass the whole trunk, in the number format that a search would choose.

    Args:
        weights: Of the trunk.
        size_px: Side of a picture.
        device: `cpu` or `cuda`.
        cache: Folder that knows the number format; None measures that, too.
    """
    recipe = Recipe(
        backbone=cast(BackboneName, weights.backbone),
        weights="pretrained" if weights.tensors else "none",
        freeze="trunk",
        image_size=size_px,
        precision=measure_precision(device, cache=cache),
    )
    place = torch.device(device)
    frozen = build_frozen(recipe, trunk_tensors(recipe, weights), device=place)
    pictures_BSSC = torch.zeros((NUM_PICTURES, size_px, size_px, 3), dtype=torch.uint8, device=place)
    shortest = float("inf")
    with torch.inference_mode():
        for _ in range(NUM_PASSES):
            began = time.perf_counter()
            frozen(pictures_BSSC).sum().item()  # waits for a GPU
            shortest = min(shortest, time.perf_counter() - began)
    return NUM_PICTURES / shortest
