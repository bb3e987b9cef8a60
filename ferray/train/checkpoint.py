"""Checkpoints of a run, and the whole model that is made of the best one.

    TRIAL/last.safetensors     all that training needs to go on: trainable tensors, the optimizer's, the epochs so far
    TRIAL/best.safetensors     the trainable tensors of the best epoch
    BEST/model.safetensors     a whole model: trunk and head, float32
    BEST/recipe.json, classes.json, preprocessing.json

A head on VGG16 at 64 pixels is 2 MB, with Adam's moments 6 MB. A trial's frozen tensors are not kept: the weights'
fingerprint, a part of the run's identity, names them. Every file is written whole or not at all.

Begin at `save_epoch` and `load_last` for a run that goes on, at `export_best` and `load_model` for its result.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from ferray import storage
from ferray.data.store import Store
from ferray.errors import CheckpointError, FerrayError
from ferray.model.backbones import BACKBONES
from ferray.model.classifier import Classifier, FreePart, build_classifier, trunk_tensors
from ferray.model.weights import Weights
from ferray.recipe import Recipe, make_recipe, to_values, trial_id
from ferray.records import METRIC_FIELDS, EpochResult
from ferray.train.features import MICRO_BATCH
from ferray.train.pictures import RESIZE_FILTER, resize

FORMAT_VERSION = 1
LAST = "last.safetensors"
BEST = "best.safetensors"
REMOVE_IT = "Remove the file; the run then starts at its first epoch"


def save_epoch(
    folder: Path, free: FreePart, optimizer: Optimizer, history: Sequence[EpochResult], *, identity: str, is_best: bool
) -> None:
    """Write the state after an epoch; the best one first, so that `last` never tells of a best that is not there.

    Args:
        folder: Of the run's checkpoints.
        free: What is trained.
        optimizer: Over the parameters of `free`.
        history: All epochs so far, the one just ended last.
        identity: The run's `recipe.trial_id`.
        is_best: Whether the last epoch is the best so far.

    Raises:
        StorageError: The folder cannot be written.
    """
    tensors = {name: tensor.detach() for name, tensor in free.named_parameters()}
    facts = {"format": FORMAT_VERSION, "trial_id": identity, "epoch": history[-1].epoch}
    if is_best:
        storage.write_bytes(folder / BEST, save(_portable(tensors), metadata=_metadata(facts)))
    state = {f"model.{name}": tensor for name, tensor in tensors.items()}
    for name, parameter in free.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # momentum 0 keeps None
                state[f"optimizer.{name}.{key}"] = value
    epochs = [dataclasses.asdict(row) for row in history]
    storage.write_bytes(folder / LAST, save(_portable(state), metadata=_metadata(facts | {"epochs": epochs})))


def adopt(folder: Path, *, identity: str, donor: Path, donor_identity: str) -> None:
    """Begin a run where a shorter one, equal to it in all but the number of epochs, has ended.

    Args:
        folder: Of the new run's checkpoints.
        identity: The new run's `recipe.trial_id`.
        donor: Of the shorter run's checkpoints.
        donor_identity: The shorter run's `recipe.trial_id`.

    Raises:
        CheckpointError: The shorter run's checkpoints are missing, broken, or of another run.
        StorageError: The folder cannot be written.
    """
    for name in (BEST, LAST):
        file = donor / name
        try:
            data = file.read_bytes()
        except OSError as error:
            raise CheckpointError(str(file), f"cannot be read: {error.strerror or error}", REMOVE_IT) from error
        facts = _read_facts(data, where=str(file))
        if facts["trial_id"] != donor_identity:
            raise CheckpointError(str(file), f"of run {facts['trial_id']}, not of {donor_identity}", REMOVE_IT)
        tensors = _load(data, where=str(file))
        storage.write_bytes(folder / name, save(tensors, metadata=_metadata(facts | {"trial_id": identity})))


def read_last(folder: Path) -> bytes | None:
    """The bytes of the last checkpoint, for `load_last`; None where there is none.

    Raises:
        CheckpointError: It is there but cannot be read.
    """
    try:
        return (folder / LAST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(str(folder / LAST), f"cannot be read: {error.strerror or error}", REMOVE_IT) from error


def load_last(data: bytes, free: FreePart, optimizer: Optimizer, *, identity: str, where: str) -> list[EpochResult]:
    """Put the state after an epoch back.

    Args:
        data: From `read_last`.
        free: What is trained, changed here.
        optimizer: Over the parameters of `free`, changed here.
        identity: The run's `recipe.trial_id`.
        where: Name of the file, for errors.

    Returns:
        All epochs so far.

    Raises:
        CheckpointError: Broken, or of another run.
    """
    facts = _read_facts(data, where=where)
    if facts["trial_id"] != identity:
        what = f"a checkpoint of run {facts['trial_id']}, not of {identity}: other settings, data or weights"
        raise CheckpointError(where, what, "Use another folder, or remove the file to start anew")
    tensors = _load(data, where=where)
    try:
        history = [_to_epoch(row) for row in facts["epochs"]]
        copy_tensors(free, {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
        for name, parameter in free.named_parameters():
            prefix = f"optimizer.{name}."
            state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            # Moments lie in memory as their parameter does (channels last); Adam's count of steps is a single number.
            optimizer.state[parameter] = {
                key: torch.empty_like(parameter).copy_(value) if value.dim() else value.to(parameter.device)
                for key, value in state.items()
            }
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(where, f"a broken checkpoint: {error}", REMOVE_IT) from error
    return history


def read_best(checkpoints: Path, *, recipe: Recipe, store: Store, weights: Weights) -> tuple[int, dict[str, Tensor]]:
    """A run's best epoch and its trained tensors; arguments and errors as `export_best`."""
    file = checkpoints / BEST
    try:
        data = file.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise CheckpointError(str(file), what, "Run the trial again: its folder has no best epoch") from error
    facts = _read_facts(data, where=str(file))
    identity = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    if facts["trial_id"] != identity:
        raise CheckpointError(
            str(file), f"of run {facts['trial_id']}, not of {identity}", "Give the folder of this run"
        )
    return int(facts["epoch"]), _load(data, where=str(file))


def export_best(folder: Path, *, checkpoints: Path, recipe: Recipe, store: Store, weights: Weights) -> int:
    """Write a whole model, that of a run's best epoch, for use without ferray's other files.

    Args:
        folder: Where to; files that it does not write are left alone.
        checkpoints: The run's folder, with `best.safetensors`.
        recipe: Of the run, settled.
        store: That the run was trained on.
        weights: That it started from.

    Returns:
        The epoch.

    Raises:
        CheckpointError: There is no best checkpoint, or it is broken or of another run.
    """
    epoch, best = read_best(checkpoints, recipe=recipe, store=store, weights=weights)
    tensors = trunk_tensors(recipe, weights) | best
    backbone = BACKBONES[recipe.backbone]
    assert recipe.image_size is not None, "settled"
    preprocessing = Preprocessing(
        size_px=recipe.image_size,
        color_order="RGB",
        resize=RESIZE_FILTER,
        mean=backbone.mean,
        std=backbone.std,
        margin=store.manifest.margin,
    )
    storage.write_json(folder / "recipe.json", to_values(recipe))
    storage.write_json(folder / "classes.json", list(store.class_names))
    storage.write_json(folder / "preprocessing.json", dataclasses.asdict(preprocessing))
    identity = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    facts = {"format": FORMAT_VERSION, "trial_id": identity, "epoch": epoch}
    storage.write_bytes(folder / "model.safetensors", save(_portable(tensors), metadata=_metadata(facts)))
    return epoch


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a face must go through before the model, which normalizes it itself."""

    size_px: int
    color_order: str
    resize: str
    """Filter, in words; see `ferray.train.pictures.resize`."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the model's own normalization, of colors in [0, 1]."""
    margin: float
    """Added around a face's box on each side before it is cut out, as a fraction of the box."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready for use, from the folder that `export_best` wrote."""

    classifier: Classifier
    recipe: Recipe
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    device: torch.device


def load_model(folder: Path, *, device: str = "cpu") -> LoadedModel:
    """The model in a folder that `export_best` wrote.

    Raises:
        CheckpointError: A file is missing, broken, or does not fit the others.
    """
    file = folder / "model.safetensors"
    try:
        recipe = make_recipe(storage.read_json(folder / "recipe.json"), where=str(folder / "recipe.json"))
        class_names = tuple(str(name) for name in storage.read_json(folder / "classes.json"))
        values = storage.read_json(folder / "preprocessing.json")
        preprocessing = Preprocessing(**values | {"mean": tuple(values["mean"]), "std": tuple(values["std"])})
        tensors = _load(file.read_bytes(), where=str(file))
        trunk = {name: tensors[name] for name in BACKBONES[recipe.backbone].tensor_shapes()}
        classifier = build_classifier(recipe, trunk, num_classes=len(class_names))
        copy_tensors(classifier.free, tensors)
    except CheckpointError:
        raise
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
        raise CheckpointError(str(folder), what, "Give the folder `best` of a finished search") from error
    place = torch.device(device)
    return LoadedModel(
        classifier=classifier.to(place).eval(),
        recipe=recipe,
        class_names=class_names,
        preprocessing=preprocessing,
        device=place,
    )


def predict_probabilities(model: LoadedModel, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the model makes of faces; they go through it in micro-batches.

    Args:
        model: From `load_model`.
        faces: Square RGB pictures cut out like those of the store, of any size, shape (faces, size, size, 3); a
            memory-mapped array is read piece by piece.

    Returns:
        Probabilities, shape (faces, classes); every row sums to 1.
    """
    parts = [np.empty((0, len(model.class_names)), dtype=np.float32)]
    for begin in range(0, len(faces), MICRO_BATCH):
        pictures = resize(np.array(faces[begin : begin + MICRO_BATCH]), model.preprocessing.size_px)
        logits_BK = model.classifier(torch.from_numpy(pictures).to(model.device))
        parts.append(logits_BK.softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)


def copy_tensors(free: FreePart, tensors: Mapping[str, Tensor]) -> None:
    """Set every trainable tensor to the one of its name; others are left unread.

    Raises:
        ValueError: One is missing or has another shape.
    """
    with torch.no_grad():
        for name, parameter in free.named_parameters():
            if name not in tensors:
                raise ValueError(f"tensor {name} is missing")
            if tensors[name].shape != parameter.shape:
                raise ValueError(f"tensor {name} has shape {tuple(tensors[name].shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(tensors[name])


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, row-major."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"ferray": json.dumps(facts, allow_nan=False)}


def _read_facts(data: bytes, *, where: str) -> dict[str, Any]:
    """The JSON that `_metadata` put into the header; the header is a length of 8 bytes and a JSON object."""
    try:
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["ferray"])
        version = facts["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(where, "not a checkpoint that ferray wrote, or a broken one", REMOVE_IT) from error
    if version != FORMAT_VERSION or not isinstance(facts, dict):
        what = f"a checkpoint of format {version}, not {FORMAT_VERSION}"
        raise CheckpointError(where, what, "Use the version of ferray that wrote it, or remove the file")
    return facts


def _load(data: bytes, *, where: str) -> dict[str, Tensor]:
    try:
        return load(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(where, f"broken: {error}", REMOVE_IT) from error


def _to_epoch(row: Mapping[str, Any]) -> EpochResult:
    return EpochResult(epoch=int(row["epoch"]), **{name: float(row[name]) for name in METRIC_FIELDS})
