"""The one reading of the test split, and the files that it leaves beside the model.

    metrics.json        every score by name, with intervals; temperature; the slices with the lowest accuracy
    predictions.csv     id, label, probabilities: what `ferray.report audit` and `slices` need, and no pictures
    confusion.png       the confusion matrix
    calibration.json    calibration errors before and after temperature scaling
    reliability.png     the same as a reliability diagram
    slices.csv          accuracy by every column of the store's table

Begin at `read_test_split`, the only function in a search that reads the split.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
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
from ferray.report.test_split.evaluate import Evaluation, SplitPredictions, predict_split, score_split
from ferray.report.test_split.recorded import METRICS_FILE, RecordedScore, parse_recorded
from ferray.train.predict import ValidationAnswers
from ferray.wording import utc_now

MAX_FACES_TO_FIT = 2000
"""Validation faces that are predicted for the temperature: one number needs no more, and each costs a full pass."""

PredictSplit = Callable[[str, int | None], SplitPredictions]
"""Predictions of a model for a split of its store, or for at most so many faces of it: see `predict_split`."""

NUM_LOWEST_SLICES = 5
"""Slices that the model card shows."""


def read_test_split(
    best_dir: Path,
    store: Store,
    *,
    readings: int,
    validation: ValidationAnswers | None = None,
    predict: PredictSplit | None = None,
) -> RecordedScore:
    """Score a model on its own test split, and write all that another reading could be needed for.

    The temperature is fitted on faces that the model was not trained on.

    Args:
        best_dir: The folder that `export_best` wrote.
        store: The store that the model was trained on.
        readings: Readings of this split in this search, including this one.
        validation: The model's predictions for the faces that it was validated on, those of its fold where it had one;
            None to predict the store's validation split, or `MAX_FACES_TO_FIT` faces of it.
        predict: Where a search has the model predict elsewhere; None for here, on the CPU.

    Returns:
        The content of `metrics.json`.

    Raises:
        FerrayError: As for `evaluate`, or a file cannot be written.
    """
    predict = predict or partial(_predict_here, best_dir, store)
    if validation is None:
        fitted = predict("validation", MAX_FACES_TO_FIT).predictions
    else:
        labels = np.asarray(store.labels[validation.rows])
        fitted = LabeledPredictions.from_probabilities(
            labels, validation.probabilities, np.arange(len(labels)), class_names=store.class_names
        )
    tested = score_split(predict("test", None), store, "test")
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


def _predict_here(best_dir: Path, store: Store, split: str, max_faces: int | None) -> SplitPredictions:
    return predict_split(best_dir, store, split, max_faces=max_faces)


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
