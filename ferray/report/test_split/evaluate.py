"""The score of an exported model on a split of a store, from the model's folder alone, so that anybody can repeat it.

Begin at `evaluate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.data.store.verify import verify_faces
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
    left_out: Mapping[str, int]
    """Faces of classes that the model lacks, by class; they are in no score."""
    absent: tuple[str, ...]
    """Classes of the model that the store lacks."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model's predictions for a split, and their scores."""

    scores: Scores
    predictions: LabeledPredictions
    """In the order of the store's rows; classes are in the model's order."""
    notes: tuple[str, ...]
    """What a reader of the scores must know."""
    left_out: Mapping[str, int]
    """As in `SplitPredictions`."""
    absent: tuple[str, ...]
    """As in `SplitPredictions`."""

    def to_csv(self, store: Store, split: str) -> str:
        """The predictions as a table that `ferray.metrics.predictions` reads.

        Args:
            store: The store that the model was evaluated on.
            split: Its split.
        """
        assert not self.left_out, "a row for every face"
        return predictions_csv(self.predictions, face_ids(store.table.iloc[store.rows(split)]))


def evaluate(best_dir: Path, store: Store, split: str, *, device: str = "cpu", needs_all: bool = True) -> Evaluation:
    """Score a model on a split.

    Args:
        best_dir: The folder `best` of a search, or any that `export_best` wrote.
        store: The model's own store, or another one with the same class names in any order.
        split: `train`, `validation` or `test`.
        device: `cpu`, or `cuda`, `cuda:1`, ...
        needs_all: Refuse a store with other classes than the model's. Otherwise faces of classes that the model lacks
            are left out; a face that is given a class which the store lacks is predicted wrongly.

    Raises:
        CheckpointError: The folder has no model, or the model's probabilities are not finite.
        DataError: The split is empty or unknown, a face of it is damaged, the class names are not the model's, or no
            face has a class of it.
        RecipeError: There is no such device.
    """
    return score_split(predict_split(best_dir, store, split, device=device, needs_all=needs_all), store, split)


def score_split(predicted: SplitPredictions, store: Store, split: str) -> Evaluation:
    """Score a model's predictions for a split.

    Args:
        predicted: What `predict_split` returned.
        store: As for `evaluate`.
        split: As for `evaluate`.
    """
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
        left_out=predicted.left_out,
        absent=predicted.absent,
    )


def predict_split(
    best_dir: Path,
    store: Store,
    split: str,
    *,
    device: str = "cpu",
    max_faces: int | None = None,
    needs_all: bool = True,
) -> SplitPredictions:
    """Run a model on a split.

    Args:
        best_dir: As for `evaluate`.
        store: As for `evaluate`.
        split: As for `evaluate`.
        device: As for `evaluate`.
        max_faces: Predict this many faces, evenly spaced among the rows of the split; None for all.
        needs_all: As for `evaluate`.

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
    noun = store.manifest.shown.noun
    to_model = _map_labels(store, model.class_names, best_dir, needs_all=needs_all)
    labels = to_model[store.labels[rows]]
    notes = []
    if store.class_names != model.class_names:
        how = "in another order" if sorted(store.class_names) == sorted(model.class_names) else "other than the model's"
        notes.append(f"the store has its classes {how}: {', '.join(store.class_names)}; mapped by name")
    names, counts = np.unique(store.labels[rows][labels < 0], return_counts=True)
    left_out = {store.class_names[name]: int(num) for name, num in zip(names, counts, strict=True)}
    if left_out:
        named = ", ".join(f"{num:,} of {name}" for name, num in left_out.items())
        notes.append(f"left out of the score, since the model lacks the class: {named}")
    absent = tuple(name for name in model.class_names if name not in store.class_names)
    if absent:
        notes.append(f"the store lacks {', '.join(absent)}: a {noun} that is predicted so is predicted wrongly")
    if (labels < 0).all():
        what = f"no {split} {noun} has a class of {best_dir}: {', '.join(model.class_names)}"
        raise DataError(str(store.folder), what, "Give a store with some of the model's classes")
    if store.is_demo:
        notes.append("demo faces: this score means nothing for real ones")
    if store.manifest.margin != model.preprocessing.margin:
        notes.append(
            f"the store's {store.manifest.shown.nouns} are cut with a margin of {store.manifest.margin:g},"
            f" the model was trained with {model.preprocessing.margin:g}"
        )
    verify_faces(store, rows.tolist())
    span = slice(rows[0], rows[-1] + 1)
    faces = store.faces[span] if len(rows) == span.stop - span.start else store.faces[rows]
    probabilities = predict_probabilities(model, faces)
    if not np.isfinite(probabilities).all():
        what = "the model's probabilities are not finite"
        raise CheckpointError(str(best_dir), what, "Export another trial's best epoch")
    kept = labels >= 0
    predictions = LabeledPredictions.from_probabilities(
        labels[kept], probabilities[kept], groups[kept], class_names=model.class_names
    )
    return SplitPredictions(predictions=predictions, notes=tuple(notes), left_out=left_out, absent=absent)


def _map_labels(store: Store, class_names: tuple[str, ...], best_dir: Path, *, needs_all: bool) -> NDArray[np.int64]:
    """The model's class number for each of the store's, -1 for one that the model lacks, shape (classes,)."""
    if needs_all and sorted(store.class_names) != sorted(class_names):
        what = f"its classes are {', '.join(store.class_names)}; those of {best_dir} are {', '.join(class_names)}"
        raise DataError(str(store.folder), what, "Give a store with the model's classes")
    numbers = {name: number for number, name in enumerate(class_names)}
    return np.asarray([numbers.get(name, -1) for name in store.class_names], dtype=np.int64)
