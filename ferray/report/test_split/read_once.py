"""The one reading of the test split, and all that it leaves beside the model.

    metrics.json        every score under its name, with intervals; temperature; the weakest slices
    predictions.csv     id, label, probabilities: what `ferray.report audit` and `slices` need, and no picture
    confusion.png       which class was taken for which
    calibration.json    how far the probabilities can be believed, before and after temperature scaling
    reliability.png     the same as a picture
    slices.csv          accuracy by every column of the store's table

Begin at `read_test_split`, the only function in a search that opens the split.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ferray.data.store.reader import Store
from ferray.files import storage
from ferray.metrics.calibration import Calibration, calibrate
from ferray.metrics.predictions import PREDICTIONS
from ferray.report import diagrams
from ferray.report.slices import Slice, score_slices, slices_csv, worst_slice
from ferray.report.test_split.evaluate import Evaluation, evaluate, predict
from ferray.report.test_split.readings import METRICS, now
from ferray.train.predict import ValidationAnswers

MOST_TO_FIT = 2000
"""Validation faces that are predicted for the temperature: one number needs no more, and each costs a whole pass."""

NUM_LOWEST = 5
"""Slices that the card shows."""


def read_test_split(
    best_dir: Path, store: Store, *, readings: int, validation: ValidationAnswers | None = None
) -> dict[str, Any]:
    """Score a model on its own test split and write down everything that another reading would be for.

    The temperature is fitted on faces that the model did not learn from.

    Args:
        best_dir: The folder that `export_best` wrote.
        store: That the model was trained on.
        readings: Of this split in this search, this one counted.
        validation: The model's answers for the faces that it was validated with, its fold's where it had one; None to
            predict the store's validation split, or `MOST_TO_FIT` faces of it.

    Returns:
        The value of `metrics.json`.

    Raises:
        FerrayError: As `evaluate`, or a file cannot be written.
    """
    if validation is None:
        answers = predict(best_dir, store, "validation", most=MOST_TO_FIT)
        to_fit = answers.labels, answers.probabilities
    else:
        to_fit = np.asarray(store.labels[validation.rows]), validation.probabilities
    tested = evaluate(best_dir, store, "test")
    rows = store.table.iloc[store.rows("test")]
    groups = store.groups("test")
    class_names = tested.scores.class_names
    calibration = calibrate(*to_fit, tested.labels, tested.probabilities, groups)
    slices = score_slices(rows, tested.labels, tested.answers, groups, num_classes=len(class_names))
    metrics = _metrics(tested, store, readings, calibration, slices)

    storage.write_json(best_dir / METRICS, metrics)
    storage.write_bytes(best_dir / PREDICTIONS, tested.to_csv(store, "test").encode())
    storage.write_json(best_dir / "calibration.json", calibration.to_json())
    storage.write_bytes(best_dir / "slices.csv", slices_csv(slices).encode())
    title = f"Test split, {metrics['n']:,} faces: top-1 accuracy {metrics['accuracy']:.3f}"
    diagrams.confusion(tested.scores.confusion, class_names, best_dir / "confusion.png", title=title)
    diagrams.reliability(calibration, best_dir / "reliability.png")
    return metrics


def _metrics(
    tested: Evaluation, store: Store, readings: int, calibration: Calibration, slices: list[Slice]
) -> dict[str, Any]:
    brief = calibration.to_json()
    for when in ("before", "after"):
        del brief[when]["bins"]
    lowest = sorted(slices, key=lambda one: one.gap)[:NUM_LOWEST]
    return tested.scores.to_json() | {
        "data": store.fingerprint,
        "split": "test",
        "read": now(),
        "test_readings": readings,
        "notes": list(tested.notes),
        "temperature": calibration.temperature,
        "calibration": brief,
        "slices": {"num": len(slices), "worst": worst_slice(slices), "lowest": [asdict(one) for one in lowest]},
    }
