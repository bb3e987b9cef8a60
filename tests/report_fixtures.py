"""Records and stores that the tests of `ferray.report` look at."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from ferray.data.store import Store, StoreWriter, open_store
from ferray.recipe import Recipe
from ferray.records import EpochResult, State, TrialRecord


def make_epoch(epoch: int, accuracy: float) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        train_loss=2 * math.exp(-epoch / 9),
        train_accuracy=0.5,
        train_balanced_accuracy=0.5,
        train_macro_f1=0.5,
        val_loss=1.9 - accuracy,
        val_accuracy=accuracy,
        val_balanced_accuracy=accuracy - 0.05,
        val_macro_f1=accuracy - 0.06,
        learning_rate=1e-3,
        images_per_s=100,
        seconds=1,
    )


def make_trial(number: int, *, epochs: int = 3, state: State = "done", **settings: Any) -> TrialRecord:
    """A trial whose accuracy depends on its number."""
    recipe = Recipe(image_size=32, precision="float32", **settings)
    accuracy = 0.3 + 0.1 * math.sin(number)
    rows = tuple(make_epoch(epoch, accuracy + 0.01 * epoch) for epoch in range(1, epochs + 1))
    return TrialRecord(trial_id=f"{number:012x}", number=number, recipe=recipe, state=state, epochs=rows)


def draw_answers(
    num_faces: int, *, num_classes: int = 7, skill: float = 1.0, sharpness: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, and probabilities that tell exactly how likely each label is; `sharpness` makes them too sure."""
    generator = np.random.default_rng(seed)
    logits = skill * generator.standard_normal((num_faces, num_classes))
    true = softmax(logits)
    labels = (generator.random(num_faces)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    return np.minimum(labels, num_classes - 1), softmax(sharpness * logits)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def write_answers(
    file: Path, rows: Iterable[Sequence[object]], *, head: Sequence[str] = ("id", "label", "prediction")
) -> Path:
    """A CSV table."""
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([head, *rows])
    return file


def copy_store(store: Store, folder: Path, class_names: tuple[str, ...]) -> Store:
    """The same faces with the same classes by name, in another order of classes."""
    place = {name: label for label, name in enumerate(class_names)}
    labels = [place.get(store.class_names[label], 0) for label in store.labels]
    with StoreWriter(folder, num_faces=len(store.labels), size_px=store.size_px) as writer:
        for row, face in enumerate(store.faces):
            writer.put(row, face)
        facts = {
            name: getattr(store.manifest, name) for name in ("dataset", "margin", "split", "seed", "notes", "skipped")
        }
        table = store.table.assign(label=labels)
        writer.finish(pandas.DataFrame(table), class_names=class_names, source_fingerprint="copy", **facts)
    return open_store(folder)
