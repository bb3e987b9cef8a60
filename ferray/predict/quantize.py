"""An exported ONNX file in integers of 8 bits, and what that costs: a quarter of the bytes, some of the accuracy.

Weights become integers of 7 bits, one scale for each output channel, and what passes between layers becomes integers of
8 bits, one scale for each tensor, from the smallest and largest value that training pictures give it. The eighth bit of
the weights would overflow on processors without VNNI, which would then answer otherwise than this one.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018; onnxruntime's guide to quantization, for the range of the weights.

Begin at `quantize`.
"""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.sampling import evenly_spaced
from ferray.data.store.reader import Store
from ferray.errors import DataError
from ferray.metrics.compare import compare_paired
from ferray.metrics.intervals import Interval
from ferray.model.inference import INPUT
from ferray.train.checkpoints.export import LoadedModel
from ferray.train.checkpoints.portable import open_encoded, require_onnx
from ferray.train.features.pictures import resize

NUM_CALIBRATION = 256
"""Training pictures that the ranges are taken from."""

BATCH_SIZE = 32
"""Pictures that are run at a time."""


@dataclass(frozen=True, kw_only=True)
class QuantizationCost:
    """The file in integers against the file in float32, on validation pictures."""

    num_calibration: int
    """Training pictures that the ranges were taken from."""
    data_fingerprint: str
    """Of the store."""
    num_pictures: int
    """Validation pictures that both files were run on."""
    accuracy_float: float
    accuracy_int8: float
    difference: float
    """Accuracy in integers minus accuracy in float32."""
    interval: Interval
    """Of the difference: 95 %, over the choice of photographs."""
    num_same: int
    """Pictures whose most probable class is the same."""
    max_difference: float
    """Largest difference in a probability."""
    num_bytes_float: int
    """Of the file in float32."""


def quantize(data: bytes, model: LoadedModel, store: Store) -> tuple[bytes, QuantizationCost]:
    """An ONNX file in integers, without its facts, and what it costs. The test split is not read.

    Args:
        data: The content of the file in float32, as `encode` wrote it.
        model: The model in it.
        store: Pictures of the model's classes, with a training and a validation split.

    Raises:
        DataError: The store has other classes or lacks a split, or a package is missing.
    """
    require_onnx()
    if store.class_names != model.class_names:
        what = f"has the classes {', '.join(store.class_names)}; the model has {', '.join(model.class_names)}"
        raise DataError(str(store.folder), what, "Give the store that the model was trained on")
    train = store.rows("train")
    rows = evenly_spaced(np.arange(train.start, train.stop), NUM_CALIBRATION)
    integers = _quantize(data, _Pictures(_resized(store, rows, model)))

    validation = np.arange(*store.rows("validation").indices(len(store.labels)))
    run_float, run_integers = open_encoded(data, "onnx")[0], open_encoded(integers, "onnx")[0]
    labels, correct, num_same, max_difference = store.labels[validation], [], 0, 0.0
    for begin in range(0, len(validation), BATCH_SIZE):
        chosen = slice(begin, begin + BATCH_SIZE)
        pictures = _resized(store, validation[chosen], model)
        some, others = run_integers(pictures), run_float(pictures)
        classes = np.stack([some.argmax(axis=1), others.argmax(axis=1)])
        correct.append(classes == labels[chosen])
        num_same += int((classes[0] == classes[1]).sum())
        max_difference = max(max_difference, float(np.abs(some - others).max()))
    of_integers, of_float = np.concatenate(correct, axis=1)
    compared = compare_paired(of_integers, of_float, store.groups("validation"))
    return integers, QuantizationCost(
        num_calibration=len(rows),
        data_fingerprint=store.fingerprint,
        num_pictures=len(validation),
        accuracy_float=float(of_float.mean()),
        accuracy_int8=float(of_integers.mean()),
        difference=compared.difference,
        interval=compared.interval,
        num_same=num_same,
        max_difference=max_difference,
        num_bytes_float=len(data),
    )


class _Pictures:
    """The calibration pictures in batches, as onnxruntime asks for them."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            [pictures[begin : begin + BATCH_SIZE] for begin in range(0, len(pictures), BATCH_SIZE)]
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch under the name of the graph's input; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _quantize(data: bytes, pictures: _Pictures) -> bytes:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory(prefix="ferray-") as folder:
        file = Path(folder) / "integers.onnx"
        try:
            root.setLevel(logging.ERROR)  # onnxruntime warns of a step that is for other models
            quantize_static(
                onnx.load_from_string(data),
                file,
                pictures,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            root.setLevel(level)
        return file.read_bytes()


def _resized(store: Store, rows: NDArray[np.int64], model: LoadedModel) -> NDArray[np.uint8]:
    """Pictures of the store, as the network gets them."""
    return resize(np.array(store.faces[rows]), model.preprocessing.size_px, rule=model.preprocessing.resize)
