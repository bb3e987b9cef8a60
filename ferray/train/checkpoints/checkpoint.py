"""Checkpoints of a run: what it goes on from, and its best epoch.

    TRIAL/last.safetensors            all that training needs to go on: trainable tensors, the optimizer's, the epochs
                                      so far, and the steps of an epoch that was interrupted
    TRIAL/last.safetensors.previous   the one before, kept for the day on which the last one is damaged
    TRIAL/best.safetensors            the trainable tensors of the best epoch

A head on VGG16 at 64 pixels is 2 MB, with Adam's moments 6 MB, and so once more for the one before; of a VGG16 that is
free as a whole 1.6 GB. A trial's frozen tensors are not kept: the weights' fingerprint, a part of the run's identity,
names them. Every file is written whole or not at all, with a checksum.

Begin at `save` and `find_last`; `ferray.train.checkpoints.export` makes a whole model of the best epoch.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ferray.data.store.reader import Store
from ferray.errors import CheckpointError
from ferray.files import storage
from ferray.files.storage import Lease
from ferray.model.classifier import FreePart
from ferray.model.weights import Weights
from ferray.recipe import Recipe, trial_id
from ferray.records.progress import best_epoch
from ferray.records.trial import EpochResult, epochs_from_json, epochs_to_json
from ferray.train.checkpoints.checked_safetensors import REMOVE_IT, DamagedError, read_sealed, write_sealed
from ferray.train.tally import Sums

log = logging.getLogger(__name__)

LAST = "last.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True)
class Partial:
    """How far an epoch came before it was interrupted."""

    steps: int = 0
    seconds: float = 0.0
    sums: Sums | None = None
    """Of the steps so far; None before the first."""


NOT_BEGUN = Partial()


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch so far."""

    epoch: int
    """Counted from 1."""
    tensors: Mapping[str, Tensor]
    """What was trained, as it was then."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a run goes on from."""

    file: str
    """Where it was found, for errors."""
    history: list[EpochResult]
    partial: Partial
    """Of the epoch after those."""
    tensors: dict[str, Tensor]


def save(
    folder: Path,
    free: FreePart,
    optimizer: Optimizer,
    history: Sequence[EpochResult],
    *,
    identity: str,
    partial: Partial = NOT_BEGUN,
    best: Best | None = None,
    lease: Lease | None = None,
) -> None:
    """Write where a run is; the best epoch first, so that `last` never tells of a best that is not there.

    Args:
        folder: Of the run's checkpoints.
        free: What is trained.
        optimizer: Over the parameters of `free`.
        history: All epochs so far.
        identity: The run's `recipe.trial_id`.
        partial: How far the epoch after `history` has come.
        best: The best epoch of `history`; None where its checkpoint is there already.
        lease: On the folder; None where nobody else may take it over.

    Raises:
        FencedError: Somebody else holds the lease by now.
        StorageError: The folder cannot be written.
    """
    if best is not None:
        write_sealed(folder / BEST, best.tensors, {"trial_id": identity, "epoch": best.epoch}, lease=lease)
    tensors = _tensors_of(free, optimizer)
    facts: dict[str, Any] = {"trial_id": identity, "epochs": epochs_to_json(history)}
    if partial.sums is not None:
        tensors["partial.losses"] = torch.from_numpy(partial.sums.losses)
        tensors["partial.confusion"] = torch.from_numpy(partial.sums.confusion)
        facts["partial"] = {"steps": partial.steps, "seconds": partial.seconds}
    write_sealed(folder / LAST, tensors, facts, lease=lease, keep_previous=True)


def adopt(folder: Path, *, identity: str, donor: Path, donor_identity: str, lease: Lease | None = None) -> None:
    """Begin a run where a shorter one, equal to it in all but the number of epochs, has ended.

    Args:
        folder: Of the new run's checkpoints.
        identity: The new run's `recipe.trial_id`.
        donor: Of the shorter run's checkpoints.
        donor_identity: The shorter run's `recipe.trial_id`.
        lease: On the new run's folder; None where nobody else may take it over.

    Raises:
        CheckpointError: The shorter run's checkpoints are missing, damaged, or of another run.
        FencedError: Somebody else holds the lease by now.
        StorageError: The folder cannot be written.
    """
    for name in (BEST, LAST):
        facts, tensors = _read_own(donor / name, donor_identity)
        write_sealed(folder / name, tensors, facts | {"trial_id": identity}, lease=lease)


def find_last(folder: Path, *, recipe: Recipe, identity: str, lease: Lease | None = None) -> State | None:
    """What a run goes on from: the last checkpoint that is whole, if the best epoch's is there too.

    What is damaged is told. A run whose best epoch is lost starts anew: it comes to the same numbers, and by that epoch
    again. What a killed process left of a file that it was writing is removed.

    Args:
        folder: Of the run's checkpoints.
        recipe: Says which epoch is the best.
        identity: The run's `recipe.trial_id`.
        lease: On the folder; None where nobody else may take it over.

    Returns:
        None where the run must start at its first epoch.

    Raises:
        CheckpointError: Of another run or version.
        FencedError: Somebody else holds the lease by now; what they are writing is left alone.
    """
    with nullcontext() if lease is None else lease.held():
        storage.remove_partial(folder)
    last, best = folder / LAST, folder / BEST
    is_damaged = False
    for file in (last, storage.previous(last)):
        if not file.exists():
            continue
        try:
            state = _read_state(file, identity)
            if (row := best_epoch(state.history, recipe)) is not None:
                _check_best(best, identity, row.epoch, len(state.history))
        except DamagedError as error:
            log.warning("%s: %s", *error.args[:2])
            is_damaged = True
            if error.args[0] == str(best):
                break
            continue
        if file != last:
            log.warning("%s: goes on after epoch %d, from %s", identity, len(state.history), file)
        return state
    if is_damaged:
        log.warning("%s: starts at its first epoch again, with the same numbers", identity)
    return None


def put_back(state: State, free: FreePart, optimizer: Optimizer) -> None:
    """Set the model and its optimizer to what was saved.

    Args:
        state: From `find_last`.
        free: What is trained, changed here.
        optimizer: Over the parameters of `free`, changed here.

    Raises:
        CheckpointError: Tensors are missing or do not fit.
    """
    model = {name.removeprefix("model."): t for name, t in state.tensors.items() if name.startswith("model.")}
    try:
        copy_tensors(free, model)
        for name, parameter in free.named_parameters():
            prefix = f"optimizer.{name}."
            own = {key.removeprefix(prefix): t for key, t in state.tensors.items() if key.startswith(prefix)}
            # Moments lie in memory as their parameter does (channels last); Adam's count of steps is a single number.
            optimizer.state[parameter] = {
                key: torch.empty_like(parameter).copy_(value) if value.dim() else value.to(parameter.device)
                for key, value in own.items()
            }
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(state.file, f"a broken checkpoint: {error}", REMOVE_IT) from error


def read_best(
    checkpoints: Path, *, recipe: Recipe, store: Store, weights: Weights, recorded: int | None = None
) -> tuple[int, dict[str, Tensor]]:
    """A run's best epoch and its trained tensors.

    Args:
        checkpoints: The run's folder, with `best.safetensors`.
        recipe: Of the run, settled.
        store: That the run was trained on.
        weights: That it started from.
        recorded: The best epoch by the run's record; None where there is no record.

    Raises:
        CheckpointError: There is no best checkpoint, or it is damaged, or of another run or epoch.
    """
    identity = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    try:
        file = checkpoints / BEST
        facts, tensors = _read_own(file, identity)
        epoch = _epoch_of(facts, where=str(file))
        if recorded not in (None, epoch):
            raise DamagedError(str(file), f"of epoch {epoch}, but by the run's record {recorded} is its best one", "")
        return epoch, tensors
    except DamagedError as error:
        way_out = "Run the trial again: it starts at its first epoch, since the best one is lost"
        raise DamagedError(error.args[0], error.args[1], way_out) from error


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


def _tensors_of(free: FreePart, optimizer: Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {f"model.{name}": parameter for name, parameter in free.named_parameters()}
    for name, parameter in free.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # momentum 0 keeps None
                tensors[f"optimizer.{name}.{key}"] = value
    return tensors


def _read_own(file: Path, identity: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint of a certain run.

    Raises:
        DamagedError: As `read_sealed`.
        CheckpointError: Of another run or version.
    """
    facts, tensors = read_sealed(file)
    if facts.get("trial_id") != identity:
        what = f"a checkpoint of run {facts.get('trial_id')}, not of {identity}: other settings, data or weights"
        raise CheckpointError(str(file), what, "Use another folder, or remove this one's checkpoints to start anew")
    return facts, tensors


def _read_state(file: Path, identity: str) -> State:
    facts, tensors = _read_own(file, identity)
    try:
        history = list(epochs_from_json(facts["epochs"]))
        partial = NOT_BEGUN
        if told := facts.get("partial"):
            sums = Sums(tensors["partial.losses"].numpy(), tensors["partial.confusion"].numpy())
            partial = Partial(steps=int(told["steps"]), seconds=float(told["seconds"]), sums=sums)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CheckpointError(str(file), f"a broken checkpoint: {error!r}", REMOVE_IT) from error
    return State(file=str(file), history=history, partial=partial, tensors=tensors)


def _check_best(file: Path, identity: str, wanted: int, last: int) -> None:
    """Raise a DamagedError unless the best epoch's checkpoint is there, or that of an epoch still to come again."""
    epoch = _epoch_of(_read_own(file, identity)[0], where=str(file))
    if epoch != wanted and epoch <= last:
        raise DamagedError(str(file), f"of epoch {epoch}, but the best one is {wanted}", REMOVE_IT)


def _epoch_of(facts: Mapping[str, Any], *, where: str) -> int:
    epoch = facts.get("epoch")
    if not isinstance(epoch, int):
        raise CheckpointError(where, f"a broken checkpoint: its epoch is {epoch!r}", REMOVE_IT)
    return epoch
