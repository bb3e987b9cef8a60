"""What all rungs of the ladder work on, made before any of them is timed: faces, PNG files, weights, points.

Begin at `prepare`.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ladder_rungs.part_of_store import copy_part
from numpy.typing import NDArray
from safetensors.torch import save_file

from ferray.data.store.reader import Store, open_store
from ferray.model.weights import first_tensors, load_weights
from ferray.train.settle import measure_precision

MODES = {
    "frozen": ("trunk", ["none"]),
    "augmented": ("trunk", ["light"]),
    "grid": ("trunk", ["none", "light"]),
    "blocks1-4": ("blocks1-4", ["none"]),
    "full": ("none", ["none"]),
    "report": ("trunk", ["none", "light", "standard"]),
}
"""Mode to the recipe's `freeze` and the augmentations of the points."""
MOST = {"learning_rate": [1e-2, 3e-3, 1e-3, 3e-4, 1e-4], "dropout": [0.0, 0.3, 0.5], "batch_size": [16, 32, 64, 128]}
"""The other axes of mode `report`: 180 points with its three augmentations."""
VIEWS = 3
SEED = 0
MAX_TEST_FACES = 32
"""ferray scores its best model once; no other rung does."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work, and where it lies."""

    store: Path
    pictures: Path
    trunk: Path
    space: Path
    """The points as a search-space file of ferray; a search of fewer takes the first ones."""
    points: tuple[dict[str, Any], ...]
    freeze: str
    precision: str
    num_train: int
    num_validation: int


def prepare(
    folder: Path,
    *,
    data: Path,
    weights: str,
    mode: str,
    num_train: int,
    num_validation: int,
    num_points: int,
    epochs: int,
) -> Work:
    """Cut the store, write the pictures, the trunk's weights and the points.

    Args:
        folder: For all of it.
        data: A store.
        weights: A file, `imagenet` or `none`; whichever, all rungs get the tensors as a file.
        mode: Key of `MODES`.
        num_train: Faces of the training split to keep.
        num_validation: Faces of the validation split to keep.
        num_points: Most points that any rung is given.
        epochs: Of each point.
    """
    store = cut_store(open_store(data), folder / "store", num_train=num_train, num_validation=num_validation)
    freeze, augmentations = MODES[mode]
    parameters = make_parameters(num_points, augmentations)
    if mode == "report":
        parameters |= MOST
    precision = measure_precision("cuda" if torch.cuda.is_available() else "cpu")
    fixed = {"freeze": freeze, "head_pooling": "flatten", "hidden_units": 256, "optimizer": "adam"}
    fixed |= {"augmentation_views": VIEWS, "epochs": epochs, "precision": precision}
    products = itertools.product(*parameters.values())  # ferray's own order: the last one changes fastest
    work = Work(
        store=store.folder,
        pictures=write_pictures(store, folder / "pictures"),
        trunk=folder / "trunk.safetensors",
        space=write_space(folder / "ladder.yaml", parameters, fixed),
        points=tuple(dict(zip(parameters, values, strict=True)) for values in products)[:num_points],
        freeze=freeze,
        precision=precision,
        num_train=store.rows("train").stop,
        num_validation=store.rows("validation").stop - store.rows("validation").start,
    )
    save_file(first_tensors(load_weights(weights, "vgg16"), seed=SEED), work.trunk)
    return work


def cut_store(store: Store, folder: Path, *, num_train: int, num_validation: int) -> Store:
    """Faces of each split at equal distances, since a store may be ordered by class; all of them where it has fewer."""
    wanted = {"train": num_train, "validation": num_validation, "test": MAX_TEST_FACES}
    there = [split for split in wanted if sum(store.manifest.counts[split].values())]
    rows = np.concatenate([spread(store.rows(split), wanted[split]) for split in there])
    return copy_part(store, folder, rows, note="cut for a benchmark")


def spread(part: slice, limit: int) -> NDArray[np.int64]:
    """So many rows of a slice, at equal distances."""
    num_rows = part.stop - part.start
    count = min(limit, num_rows)
    return part.start + np.arange(count) * num_rows // count


def write_pictures(store: Store, folder: Path) -> Path:
    """The faces as torchvision's ImageFolder reads them; each file is named by its row in the store."""
    for split in ("train", "validation"):
        for label in range(len(store.class_names)):
            (folder / split / f"{label:03}").mkdir(parents=True)
        for row in range(store.rows(split).start, store.rows(split).stop):
            file = folder / split / f"{store.labels[row]:03}" / f"{row:06}.png"
            cv2.imwrite(str(file), np.asarray(store.faces[row])[..., ::-1])
    return folder


def make_parameters(num_points: int, augmentations: list[str]) -> dict[str, list[Any]]:
    """The axes of `search_spaces/grid.yaml`, with as many learning rates as the points need."""
    num_rates = -(-num_points // (4 * len(augmentations)))
    rates = [1e-3, 1e-4, 1e-2][:num_rates]
    if num_rates > 3:
        rates = [float(f"{rate:.4g}") for rate in np.geomspace(1e-2, 1e-4, num_rates)]
    return {"learning_rate": rates, "augmentation": augmentations, "dropout": [0.0, 0.5], "batch_size": [32, 128]}


def write_space(file: Path, parameters: dict[str, list[Any]], fixed: dict[str, Any]) -> Path:
    """The same points for ferray; JSON in each line, but for the rates, of which YAML wants a point."""
    lines = ["method: grid", "metric: {name: val_accuracy, goal: maximize}", "parameters:"]
    for name, values in parameters.items():
        words = [f"{value:.6e}" if isinstance(value, float) else json.dumps(value) for value in values]
        lines.append(f"  {name}: {{values: [{', '.join(words)}]}}")
    lines += [f"  {name}: {{value: {json.dumps(value)}}}" for name, value in fixed.items()]
    file.write_text("\n".join(lines) + "\n")
    return file
