"""Settling a recipe: the picture's size and the number format of the trunk are decided before the first step.

With bfloat16 a VGG16 trunk runs four times as fast as with float32 on a processor with AMX, and seven times as slow on
one without. So the faster format is measured, once per device, in less than two seconds.

Begin at `settle`; `measure_precision` finds the precision that it is given.
"""

import hashlib
import logging
import platform
import time
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ferray.data.store.reader import Store
from ferray.errors import FerrayError, StorageError
from ferray.files import storage
from ferray.model.backbones import find_backbone
from ferray.model.float32 import switch_tf32_off
from ferray.recipe import Recipe, make_recipe, to_values

log = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]

MIN_SPEEDUP = 1.2
"""How many times as fast as float32 bfloat16 must be to be chosen: it rounds to 8 bits, and timings have noise."""


def settle(recipe: Recipe, store: Store, *, precision: str) -> Recipe:
    """The recipe with an image size and a precision; only a settled recipe has an identity.

    Args:
        recipe: Any recipe.
        store: Its picture size is used where `image_size` is None.
        precision: `float32` or `bfloat16`, used where `precision` is `auto`.

    Raises:
        RecipeError: The store's pictures have a size that recipes do not allow, or that the backbone does not take.
    """
    values = to_values(recipe)
    if recipe.precision == "auto":
        values["precision"] = precision
    if recipe.image_size is None:
        values["image_size"] = store.size_px
    settled = make_recipe(values, where=str(store.folder))
    assert settled.image_size is not None
    find_backbone(settled.backbone).check(
        size_px=settled.image_size, freeze=settled.freeze, where=f"backbone {settled.backbone}"
    )
    return settled


def measure_precision(device: str = "cpu", *, cache: Path | None = None) -> Precision:
    """The faster number format for a trunk's convolutions on a device.

    Args:
        device: `cpu` or `cuda`, `cuda:1`, ...
        cache: Folder that keeps the result for this device and this version of torch; None measures anew.
    """
    torch_device = torch.device(device)
    name = device_name(torch_device)
    file = None if cache is None else cache / "precision" / f"{_short_hash(name)}.json"
    if file is not None and file.exists():
        try:
            known = storage.read_json(file)
            if isinstance(known, dict) and known.get("device") == name:
                return "bfloat16" if known["precision"] == "bfloat16" else "float32"
        except (FerrayError, KeyError):
            log.warning("%s is damaged: the precision is measured again", file)
    switch_tf32_off()
    seconds = {dtype: _time_convolution(torch_device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    speedup = seconds[torch.float32] / seconds[torch.bfloat16]
    precision: Precision = "bfloat16" if speedup >= MIN_SPEEDUP else "float32"
    log.info("precision %s: bfloat16 is %.2f times as fast as float32 on %s", precision, speedup, name)
    if file is not None:
        known = {"device": name, "precision": precision, "bfloat16_speedup": round(speedup, 3)}
        try:
            storage.write_json(file, known)
        except StorageError as error:  # a cache that can only be read: measured again each time, in a second
            log.warning("the measured precision is not kept: %s", error)
    return precision


def device_name(device: torch.device) -> str:
    """The device's model, its instruction set, and torch's version, for which a measurement is valid."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def _cpu_name() -> str:
    """The model and a hash of its features, since virtual machines with one model name may differ in features."""
    try:
        rows = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    facts = {row[0].strip(): row[1].strip() for row in reversed(rows)}
    model = facts.get("model name") or platform.machine()
    return f"{model} {_short_hash(facts.get('flags') or facts.get('Features') or '')}"


def _time_convolution(device: torch.device, dtype: torch.dtype) -> float:
    """Shortest time in seconds of a convolution as in the trunk's third block: 8 faces of 64 pixels, channels last."""
    convolution = nn.Conv2d(256, 256, 3, padding=1, device="meta").to_empty(device="cpu")
    for tensor in convolution.parameters():
        nn.init.constant_(tensor, 0.01)
    convolution = convolution.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
    faces = torch.ones((8, 256, 16, 16), device=device, dtype=dtype).to(memory_format=torch.channels_last)
    shortest = float("inf")
    with torch.inference_mode():
        for _ in range(4):  # the first one also initializes the library
            _synchronize(device)
            started = time.perf_counter()
            convolution(faces)
            _synchronize(device)
            shortest = min(shortest, time.perf_counter() - started)
    return shortest


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
