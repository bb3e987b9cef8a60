"""The score of an exported model on a split of a store: from the folder alone, so that anybody can repeat it.

Begin at `evaluate`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.errors import CheckpointError, DataError
from ferray.metrics.predictions import face_ids, predictions_csv
from ferray.metrics.scores import Scores, score
from ferray.train.checkpoints.export import load_model, predict_probabilities

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model's answers on a split, and what they are worth. Classes are in the model's order."""

    scores: Scores
    labels: NDArray[np.int64]
    """Shape (faces,), in the order of the store's rows."""
    probabilities: NDArray[np.float32]
    """Shape (faces, classes)."""
    notes: tuple[str, ...]
    """What a reader of the score must know, in words."""

    @property
    def answers(self) -> NDArray[np.int64]:
        """The most probable classes, shape (faces,)."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    def to_csv(self, store: Store, split: str) -> str:
        """The answers as a table that `ferray.metrics.predictions` reads.

        Args:
            store: That was predicted.
            split: Of it.
        """
        ids, groups = face_ids(store.table.iloc[store.rows(split)]), store.groups(split)
        return predictions_csv(ids, self.labels, self.probabilities, groups, class_names=self.scores.class_names)


def evaluate(best_dir: Path, store: Store, split: str, *, device: str = "cpu") -> Evaluation:
    """Score a model on a split.

    Args:
        best_dir: The folder `best` of a search, or any that `export_best` wrote.
        store: The model's own, or another with the same class names in any order.
        split: `train`, `validation` or `test`.
        device: `cpu`, or `cuda`, `cuda:1`, ...

    Raises:
        CheckpointError: The folder holds no model, or the model's answers are no numbers.
        DataError: The split is empty or unknown, the class names are not the model's, or there is no such device.
    """
    answers = predict(best_dir, store, split, device=device)
    train = store.manifest.counts.get("train", {})
    scores = score(
        answers.labels,
        answers.probabilities,
        store.groups(split),
        class_names=answers.class_names,
        train_counts=[train.get(name, 0) for name in answers.class_names],
    )
    notes = list(answers.notes)
    if split != "test":
        notes.append(f"the {split} split had a part in making the model, if this is its store: an optimistic score")
    return Evaluation(scores=scores, labels=answers.labels, probabilities=answers.probabilities, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model makes of faces. Classes are in the model's order."""

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    """Shape (faces,), in the order of the store's rows."""
    probabilities: NDArray[np.float32]
    """Shape (faces, classes)."""
    notes: tuple[str, ...]
    """What a reader must know of the store and the model, in words."""


def predict(best_dir: Path, store: Store, split: str, *, device: str = "cpu", most: int | None = None) -> Answers:
    """Run a model on a split.

    Args:
        best_dir: As for `evaluate`.
        store: As for `evaluate`.
        split: As for `evaluate`.
        device: As for `evaluate`.
        most: Faces, at even distances among the split's rows; None for all.

    Raises:
        FerrayError: As `evaluate`.
    """
    _check_device(device)
    rows = np.arange(len(store.labels))[store.rows(split)]  # before the model: a wrong name is told at once
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
    model = load_model(best_dir, device=device)
    to_model = _map_labels(store, model.class_names, best_dir)
    notes = []
    if store.class_names != model.class_names:
        notes.append(f"the store has its classes in another order: {', '.join(store.class_names)}; mapped by name")
    if store.is_demo:
        notes.append("demo faces: this score means nothing for real ones")
    if store.manifest.margin != model.preprocessing.margin:
        notes.append(
            f"the store's faces are cut with a margin of {store.manifest.margin:g},"
            f" the model was trained with {model.preprocessing.margin:g}"
        )
    whole = slice(rows[0], rows[-1] + 1)
    faces = store.faces[whole] if len(rows) == whole.stop - whole.start else store.faces[rows]
    probabilities = predict_probabilities(model, faces)
    if not np.isfinite(probabilities).all():
        what = "the model's probabilities are not finite"
        raise CheckpointError(str(best_dir), what, "Export another trial's best epoch")
    return Answers(
        class_names=model.class_names,
        labels=to_model[store.labels[rows]],
        probabilities=probabilities,
        notes=tuple(notes),
    )


def _check_device(device: str) -> None:
    """Refuse a device that torch does not know or that is not here."""
    way_out = "Name cpu, cuda, or cuda:1 and so on"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise DataError(f"device {device!r}", "no such device", way_out) from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise DataError(f"device {device!r}", f"there are {torch.cuda.device_count()} GPUs here", way_out)


def _map_labels(store: Store, class_names: tuple[str, ...], best_dir: Path) -> NDArray[np.int64]:
    """The model's class number of each of the store's, shape (classes,)."""
    if sorted(store.class_names) != sorted(class_names):
        what = f"its classes are {', '.join(store.class_names)}; those of {best_dir} are {', '.join(class_names)}"
        raise DataError(str(store.folder), what, "Give a store with the model's classes")
    return np.asarray([class_names.index(name) for name in store.class_names], dtype=np.int64)
