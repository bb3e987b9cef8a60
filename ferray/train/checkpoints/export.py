"""The whole model of a run's best epoch, in a folder that needs none of ferray's other files.

    BEST/model.safetensors     trunk and head, float32
    BEST/recipe.json, classes.json, preprocessing.json

Begin at `export_best` and `load_model`.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferray.data.scaling import RULES, SCALING
from ferray.data.store.reader import Store
from ferray.errors import CheckpointError, FerrayError
from ferray.files import storage
from ferray.model.backbones import find_backbone
from ferray.model.classifier import Classifier, build_classifier
from ferray.model.weights import Weights
from ferray.recipe import Recipe, make_recipe, to_values
from ferray.train.checkpoints.checked_safetensors import read_checked, write_checked
from ferray.train.checkpoints.checkpoint import CheckpointFolder, copy_tensors
from ferray.train.features.pictures import resize
from ferray.train.features.view import MICRO_BATCH
from ferray.train.spec import RunSpec
from ferray.train.transfer import to_device

MAX_CROP_PX = 10_000
"""Side of the largest picture of a store."""

WAY_OUT = "Give the folder `best` of a finished search, or let the search write it again"


def export_best(
    folder: Path,
    *,
    checkpoints: Path,
    recipe: Recipe,
    store: Store,
    weights: Weights,
    recorded: int | None = None,
) -> int:
    """Write the whole model of a run's best epoch, for use without ferray's other files.

    Args:
        folder: Where to write it; other files there are left alone.
        checkpoints: The run's folder, with `best.safetensors`.
        recipe: The run's recipe, settled.
        store: The store that the run was trained on.
        weights: The weights that it started from.
        recorded: The best epoch by the run's record; None where there is no record.

    Returns:
        The epoch.

    Raises:
        CheckpointError: The best checkpoint is missing or damaged, or of another run or epoch.
    """
    spec = RunSpec(recipe, store, weights)
    best = CheckpointFolder(checkpoints, spec.trial_id).read_best(recorded=recorded)
    preprocessing = _make_preprocessing(recipe, margin=store.manifest.margin, crop_px=store.size_px)
    storage.write_json(folder / "recipe.json", to_values(recipe))
    storage.write_json(folder / "classes.json", list(store.class_names))
    storage.write_json(folder / "preprocessing.json", dataclasses.asdict(preprocessing))
    facts = {"trial_id": spec.trial_id, "epoch": best.epoch}
    write_checked(folder / "model.safetensors", {**spec.trunk_tensors, **best.tensors}, facts)
    return best.epoch


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a face is prepared for the model, which normalizes the colors itself."""

    crop_px: int
    """Side of the pictures of the store: a picture is first cut out in this size ..."""
    size_px: int
    """... and then brought to this one, which the network sees."""
    color_order: str
    resize: str
    """Name in `ferray.data.scaling.RULES`."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Mean and standard deviation of colors in [0, 1], with which the model itself normalizes them."""
    margin: float
    """Added around a face's box on each side before it is cut out, as a fraction of the box."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready for use, from the folder that `export_best` wrote."""

    classifier: Classifier
    recipe: Recipe
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    device: torch.device
    trial_id: str
    """The trial whose best epoch it is; empty where the file does not name it."""


def load_model(
    folder: Path, *, device: str = "cpu", precision: Literal["float32", "bfloat16"] | None = None
) -> LoadedModel:
    """The model in a folder that `export_best` wrote.

    Args:
        folder: Where it is.
        device: `cpu`, or `cuda`, `cuda:1`, ...
        precision: The number format in which the trunk computes; None for that of the recipe.

    Raises:
        CheckpointError: A file is missing or damaged, or does not match the others.
    """
    try:
        recipe = make_recipe(storage.read_json(folder / "recipe.json"), where=str(folder / "recipe.json"))
        class_names = _read_classes(folder / "classes.json")
        preprocessing = _read_preprocessing(folder / "preprocessing.json", recipe)
        facts, tensors = read_checked(folder / "model.safetensors")
        trunk = {name: tensors[name] for name in find_backbone(recipe.backbone).tensor_shapes()}
        computed = recipe if precision is None else dataclasses.replace(recipe, precision=precision)
        classifier = build_classifier(computed, trunk, num_classes=len(class_names))
        copy_tensors(classifier.free, tensors)
    except CheckpointError as error:
        raise CheckpointError(error.args[0], error.args[1], WAY_OUT) from error
    except (
        OSError,
        FerrayError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
        RuntimeError,
    ) as error:
        what = f"not a model that ferray exported: {type(error).__name__}: {error}"
        raise CheckpointError(str(folder), what, WAY_OUT) from error
    torch_device = torch.device(device)
    return LoadedModel(
        classifier=classifier.to(torch_device).eval(),
        recipe=recipe,
        class_names=class_names,
        preprocessing=preprocessing,
        device=torch_device,
        trial_id=str(facts.get("trial_id", "")),
    )


def predict_probabilities(model: LoadedModel, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The model's probabilities for faces, which it gets in micro-batches.

    Args:
        model: The model, from `load_model`.
        faces: Square RGB pictures cropped like those of the store, of any size, shape (faces, size, size, 3); a
            memory-mapped array is read in pieces.

    Returns:
        Probabilities, shape (faces, classes); every row sums to 1.
    """
    parts = [torch.empty((0, len(model.class_names)), device=model.device)]
    for begin in range(0, len(faces), MICRO_BATCH):
        part = np.array(faces[begin : begin + MICRO_BATCH])
        pictures = resize(part, model.preprocessing.size_px, rule=model.preprocessing.resize)
        logits_BK: Tensor = model.classifier(to_device(torch.from_numpy(pictures), model.device))
        parts.append(logits_BK.softmax(dim=1))
    probabilities: NDArray[np.float32] = torch.cat(parts).cpu().numpy()  # a GPU is waited for once
    return probabilities


def _make_preprocessing(recipe: Recipe, *, margin: float, crop_px: int, rule: str = SCALING) -> Preprocessing:
    assert recipe.image_size is not None, "settled"
    backbone = find_backbone(recipe.backbone)
    return Preprocessing(
        crop_px=crop_px,
        size_px=recipe.image_size,
        color_order="RGB",
        resize=rule,
        mean=backbone.mean,
        std=backbone.std,
        margin=margin,
    )


def _read_preprocessing(file: Path, recipe: Recipe) -> Preprocessing:
    """Check the file's values, which follow from the recipe but for the store's size and margin and the resizing."""
    values = storage.read_json(file)
    values = {"crop_px": values["size_px"], **values}  # files of the first versions lack it
    margin, crop_px = values["margin"], values["crop_px"]
    if not isinstance(crop_px, int) or not 1 <= crop_px <= MAX_CROP_PX:
        raise ValueError(f"{file.name}: crop_px {crop_px!r}")
    if not isinstance(margin, int | float) or not 0 <= margin <= 2:
        raise ValueError(f"{file.name}: margin {margin!r}")
    if values["resize"] not in RULES:
        raise ValueError(f"{file.name}: resize {values['resize']!r}")
    made = _make_preprocessing(recipe, margin=margin, crop_px=crop_px, rule=values["resize"])
    if values | {"mean": tuple(values["mean"]), "std": tuple(values["std"])} != dataclasses.asdict(made):
        raise ValueError(f"{file.name} does not match recipe.json")
    return made


def _read_classes(file: Path) -> tuple[str, ...]:
    names = storage.read_json(file)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file.name} is not a list of names")
    if len(set(names)) < len(names):
        raise ValueError(f"{file.name} has a name twice")
    return tuple(names)
