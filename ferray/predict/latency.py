"""How long a model takes for one batch: percentiles of many calls.

Begin at `measure_latency`; `measure_recipe` times a model that is not there yet.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from ferray.model.classifier import build_classifier
from ferray.model.inference import Inference
from ferray.model.weights import first_tensors, load_weights
from ferray.predict.export import draw_pictures
from ferray.predict.model import find_folder, read_temperature
from ferray.recipe import Recipe
from ferray.train.checkpoints.export import load_model
from ferray.train.checkpoints.portable import Runner, encode, make_inference, make_runner, open_encoded
from ferray.train.device import check_device, set_threads
from ferray.train.settle import device_name

RUNTIMES = ("torch", "onnxruntime")

BATCH_SIZES = (1, 32)

WARM_UP = 3
"""Calls of each batch size that are not counted: the first ones reserve memory and choose algorithms."""


@dataclass(frozen=True, kw_only=True)
class BatchLatency:
    """Times of one size of batch, in milliseconds."""

    batch: int
    p50_ms: float
    """Median of the calls."""
    p95_ms: float
    """95 % of the calls took at most this, interpolated between calls."""

    @property
    def pictures_per_s(self) -> float:
        """At the median."""
        return 1000 * self.batch / self.p50_ms


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A model's times and sizes, and what they were measured with."""

    batches: tuple[BatchLatency, ...]
    calls: int
    """Timed calls of each size of batch."""
    runtime: str
    """One of `RUNTIMES`."""
    precision: str
    """The number format in which the trunk computes."""
    device: str
    """As it was asked for."""
    device_name: str
    """Its model, and the versions of torch and of the runtime."""
    threads: int
    """Of the CPU, for one call."""
    size_px: int
    """Side of the pictures."""
    num_parameters: int
    """Weights and biases, frozen ones included."""
    num_bytes: int
    """Of the model's file."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [asdict(row) | {"pictures_per_s": row.pictures_per_s} for row in self.batches]
        return asdict(self) | {"batches": rows, "warm_up": WARM_UP}


def measure_latency(
    folder: str | os.PathLike[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
    calls: int = 30,
    runtime: str = "torch",
    batch_sizes: Sequence[int] = BATCH_SIZES,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time a model on random pictures of its size.

    A call begins with uint8 pictures in memory and ends with probabilities in memory; on a GPU it includes both copies.
    Reading, cropping and resizing pictures is not part of it.

    Args:
        folder: `runs/NAME/best`, a copy of it, or `runs/NAME`.
        device: `cpu`, or `cuda`, `cuda:1`, ...; onnxruntime has the CPU only.
        threads: Of the CPU, for this process from now on; None for what torch chooses.
        calls: Timed calls of each size of batch, after `WARM_UP` others.
        runtime: `torch`, in the number format of the training, or `onnxruntime`, in float32, as it is exported.
        batch_sizes: Pictures of a call.
        clock: Returns seconds.

    Raises:
        CheckpointError: There is no model.
        DataError: onnxruntime is not installed.
        RecipeError: There is no such device.
    """
    path = find_folder(folder)
    check_device(device)
    num_threads = set_threads(threads)
    is_torch = runtime == "torch"
    loaded = load_model(path, device=device, precision=None if is_torch else "float32")
    module = make_inference(loaded, temperature=read_temperature(path))
    size_px, num_bytes = loaded.preprocessing.size_px, (path / "model.safetensors").stat().st_size
    run = make_runner(module, device=loaded.device)
    if not is_torch:
        data = encode(module, "onnx", size_px=size_px, facts={})
        num_bytes = len(data)
        run, _ = open_encoded(data, "onnx")
    rows = tuple(_time(run, size, size_px=size_px, calls=calls, clock=clock) for size in batch_sizes)
    return Latency(
        batches=rows,
        calls=calls,
        runtime=runtime,
        precision=str(loaded.recipe.precision) if is_torch else "float32",
        device=device,
        device_name=device_name(loaded.device) + ("" if is_torch else f", onnxruntime {version('onnxruntime')}"),
        threads=num_threads,
        size_px=size_px,
        num_parameters=module.num_parameters,
        num_bytes=num_bytes,
    )


def measure_recipe(recipe: Recipe, *, num_classes: int, calls: int = 30) -> BatchLatency:
    """Time a recipe's model, in its number format, for one picture on the CPU.

    Its weights are random: how long it takes does not depend on them.

    Args:
        recipe: The recipe, settled.
        num_classes: Outputs of the head.
        calls: Timed calls, after `WARM_UP` others.

    Raises:
        RecipeError: timm is not installed.
    """
    assert recipe.image_size is not None, "settled"
    tensors = first_tensors(load_weights("none", recipe.backbone), seed=recipe.seed)
    classifier = build_classifier(recipe, tensors, num_classes=num_classes).eval()
    run = make_runner(Inference(classifier, temperature=1.0), device=classifier.frozen.mean.device)
    return _time(run, 1, size_px=recipe.image_size, calls=calls, clock=time.perf_counter)


def _time(run: Runner, size: int, *, size_px: int, calls: int, clock: Callable[[], float]) -> BatchLatency:
    pictures, taken = draw_pictures(size, size_px=size_px), []
    for call in range(WARM_UP + calls):
        began = clock()
        run(pictures)
        if call >= WARM_UP:
            taken.append(1000 * (clock() - began))
    p50, p95 = np.percentile(taken, (50, 95))
    return BatchLatency(batch=size, p50_ms=float(p50), p95_ms=float(p95))
