"""The score of an exported model on a split of a store, from the model's folder alone, so that anybody can repeat it.

Begin at `evaluate`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.errors import CheckpointError, DataError
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.predictions import face_ids, predictions_csv
from ferray.metrics.scores import Scores, score
from ferray.train.checkpoints.export import load_model, predict_probabilities
from ferray.train.device import check_device


@dataclass(frozen=True, kw_only=True)
class SplitPredictions:
    """A model's predictions for a split, or for a part of it."""

    predictions: LabeledPredictions
    """In the order of the store's rows; classes are in the model's order."""
    notes: tuple[str, ...]
    """What a reader must know about the store and the model."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model's predictions for a split, and their scores."""

    scores: Scores
    predictions: LabeledPredictions
    """In the order of the store's rows; classes are in the model's order."""
    notes: tuple[str, ...]
    """What a reader of the scores must know."""

    def to_csv(self, store: Store, split: str) -> str:
        """The predictions as a table that `ferray.metrics.predictions` reads.

        Args:
            store: The store that the model was evaluated on.
            split: Its split.
        """
        return predictions_csv(self.predictions, face_ids(store.table.iloc[store.rows(split)]))


def evaluate(best_dir: Path, store: Store, split: str, *, device: str = "cpu") -> Evaluation:
    """Score a model on a split.

    Args:
        best_dir: The folder `best` of a search, or any that `export_best` wrote.
        store: The model's own store, or another one with the same class names in any order.
        split: `train`, `validation` or `test`.
        device: `cpu`, or `cuda`, `cuda:1`, ...

    Raises:
        CheckpointError: The folder has no model, or the model's probabilities are not finite.
        DataError: The split is empty or unknown, or the class names are not the model's.
        RecipeError: There is no such device.
    """
    predicted = predict_split(best_dir, store, split, device=device)
    train = store.manifest.counts.get("train", {})
    train_counts = [train.get(name, 0) for name in predicted.predictions.class_names]
    notes = list(predicted.notes)
    if split != "test":
        notes.append(
            f"if this is the model's own store, its {split} split was used to make the model: the score is optimistic"
        )
    return Evaluation(
        scores=score(predicted.predictions, train_counts=train_counts),
        predictions=predicted.predictions,
        notes=tuple(notes),
    )


def predict_split(
    best_dir: Path, store: Store, split: str, *, device: str = "cpu", max_faces: int | None = None
) -> SplitPredictions:
    """Run a model on a split.

    Args:
        best_dir: As for `evaluate`.
        store: As for `evaluate`.
        split: As for `evaluate`.
        device: As for `evaluate`.
        max_faces: Predict this many faces, evenly spaced among the rows of the split; None for all.

    Raises:
        FerrayError: As for `evaluate`.
    """
    check_device(device)
    rows = np.arange(len(store.labels))[store.rows(split)]  # before the model is loaded: a wrong split fails at once
    groups = store.groups(split)
    if max_faces is not None and len(rows) > max_faces:
        places = np.linspace(0, len(rows) - 1, max_faces).round().astype(np.int64)
        rows, groups = rows[places], groups[places]
    model = load_model(best_dir, device=device)
    to_model = _map_labels(store, model.class_names, best_dir)
    notes = []
    if store.class_names != model.class_names:
        notes.append(f"the store has its classes in another order: {', '.join(store.class_names)}; mapped by name")
    if store.is_demo:
        notes.append("demo faces: this score means nothing for real ones")
    if store.manifest.margin != model.preprocessing.margin:
        notes.append(
            f"the store's {store.manifest.shown.nouns} are cut with a margin of {store.manifest.margin:g},"
            f" the model was trained with {model.preprocessing.margin:g}"
        )
    span = slice(rows[0], rows[-1] + 1)
    faces = store.faces[span] if len(rows) == span.stop - span.start else store.faces[rows]
    probabilities = predict_probabilities(model, faces)
    if not np.isfinite(probabilities).all():
        what = "the model's probabilities are not finite"
        raise CheckpointError(str(best_dir), what, "Export another trial's best epoch")
    predictions = LabeledPredictions.from_probabilities(
        to_model[store.labels[rows]], probabilities, groups, class_names=model.class_names
    )
    return SplitPredictions(predictions=predictions, notes=tuple(notes))


def _map_labels(store: Store, class_names: tuple[str, ...], best_dir: Path) -> NDArray[np.int64]:
    """The model's class number for each of the store's, shape (classes,)."""
    if sorted(store.class_names) != sorted(class_names):
        what = f"its classes are {', '.join(store.class_names)}; those of {best_dir} are {', '.join(class_names)}"
        raise DataError(str(store.folder), what, "Give a store with the model's classes")
    return np.asarray([class_names.index(name) for name in store.class_names], dtype=np.int64)
