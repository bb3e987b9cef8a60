"""The one reading of the test split, and the files that it leaves beside the model.

    metrics.json        every score by name, with intervals; temperature; the slices with the lowest accuracy
    predictions.csv     id, label, probabilities: what `ferray.report audit` and `slices` need, and no pictures
    confusion.png       the confusion matrix
    calibration.json    calibration errors before and after temperature scaling
    reliability.png     the same as a reliability diagram
    slices.csv          accuracy by every column of the store's table

Begin at `read_test_split`, the only function in a search that reads the split.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ferray.data.store.reader import Store
from ferray.files import storage
from ferray.metrics.calibration import Calibration, calibrate
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.predictions import PREDICTIONS_FILE
from ferray.report import diagrams
from ferray.report.slices import Slice, compared_slices, score_slices, slices_csv, worst_to_json
from ferray.report.test_split.evaluate import Evaluation, evaluate, predict_split
from ferray.report.test_split.recorded import METRICS_FILE, RecordedScore, parse_recorded
from ferray.train.predict import ValidationAnswers
from ferray.wording import utc_now

MAX_FACES_TO_FIT = 2000
"""Validation faces that are predicted for the temperature: one number needs no more, and each costs a full pass."""

NUM_LOWEST_SLICES = 5
"""Slices that the model card shows."""


def read_test_split(
    best_dir: Path, store: Store, *, readings: int, validation: ValidationAnswers | None = None
) -> RecordedScore:
    """Score a model on its own test split, and write all that another reading could be needed for.

    The temperature is fitted on faces that the model was not trained on.

    Args:
        best_dir: The folder that `export_best` wrote.
        store: The store that the model was trained on.
        readings: Readings of this split in this search, including this one.
        validation: The model's predictions for the faces that it was validated on, those of its fold where it had one;
            None to predict the store's validation split, or `MAX_FACES_TO_FIT` faces of it.

    Returns:
        The content of `metrics.json`.

    Raises:
        FerrayError: As for `evaluate`, or a file cannot be written.
    """
    if validation is None:
        fitted = predict_split(best_dir, store, "validation", max_faces=MAX_FACES_TO_FIT).predictions
    else:
        labels = np.asarray(store.labels[validation.rows])
        fitted = LabeledPredictions.from_probabilities(
            labels, validation.probabilities, np.arange(len(labels)), class_names=store.class_names
        )
    tested = evaluate(best_dir, store, "test")
    calibration = calibrate(fitted, tested.predictions)
    slices = score_slices(store.table.iloc[store.rows("test")], tested.predictions)
    metrics = _metrics(tested, store, readings, calibration, slices)

    storage.write_json(best_dir / METRICS_FILE, metrics)
    storage.write_bytes(best_dir / PREDICTIONS_FILE, tested.to_csv(store, "test").encode())
    storage.write_json(best_dir / "calibration.json", calibration.to_json())
    storage.write_bytes(best_dir / "slices.csv", slices_csv(slices).encode())
    scores, nouns = tested.scores, store.manifest.shown.nouns
    title = f"Test split, {scores.num_faces:,} {nouns}: top-1 accuracy {scores.accuracy:.3f}"
    diagrams.draw_confusion(scores.confusion, scores.class_names, best_dir / "confusion.png", title=title, nouns=nouns)
    diagrams.draw_reliability(calibration, best_dir / "reliability.png", nouns=nouns)
    return parse_recorded(metrics, file=best_dir / METRICS_FILE)


def _metrics(
    tested: Evaluation, store: Store, readings: int, calibration: Calibration, slices: list[Slice]
) -> dict[str, Any]:
    """The content of `metrics.json`."""
    without_bins = calibration.to_json()
    for when in ("before", "after"):
        del without_bins[when]["bins"]
    lowest = sorted(compared_slices(slices), key=lambda one: one.gap)[:NUM_LOWEST_SLICES]
    return tested.scores.to_json() | {
        "data": store.fingerprint,
        "split": "test",
        "read": utc_now(),
        "test_readings": readings,
        "notes": list(tested.notes),
        "temperature": calibration.temperature,
        "calibration": without_bins,
        "slices": {"num": len(slices), "worst": worst_to_json(slices), "lowest": [asdict(one) for one in lowest]},
    }
