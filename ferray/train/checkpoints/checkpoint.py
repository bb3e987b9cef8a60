"""Checkpoints of a run: the state that it continues from, and its best epoch.

    TRIAL/last.safetensors            the state of training: trainable tensors, the optimizer's, the epochs so far, and
                                      the steps of an epoch that was interrupted
    TRIAL/last.safetensors.previous   the one before, used where the last one is damaged
    TRIAL/best.safetensors            the trainable tensors of the best epoch

A head on VGG16 at 64 pixels takes 2 MB, with Adam's moments 6 MB, and the previous file the same again; a VGG16 that
is trained as a whole takes 1.6 GB. A trial's frozen tensors are not stored: the weights' fingerprint, a part of the
run's identity, identifies them. Every file is written whole or not at all, with a checksum.

Begin at `CheckpointFolder`; `ferray.train.checkpoints.export` makes a whole model of the best epoch.
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

from ferray.errors import CheckpointError
from ferray.files import storage
from ferray.files.storage import Lease
from ferray.model.classifier import FreePart
from ferray.recipe import Recipe
from ferray.records.progress import best_epoch
from ferray.records.trial import EpochResult, epochs_from_json, epochs_to_json
from ferray.train.checkpoints.checked_safetensors import REMOVE_IT, DamagedError, read_checked, write_checked
from ferray.train.totals import PassTotals

log = logging.getLogger(__name__)

LAST = "last.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True)
class PartialEpoch:
    """The part of an epoch that was trained before an interruption."""

    steps: int = 0
    seconds: float = 0.0
    totals: PassTotals | None = None
    """The totals of the steps so far; None before the first."""


EPOCH_START = PartialEpoch()
"""An epoch before its first step."""


@dataclass(frozen=True, kw_only=True)
class BestWeights:
    """The trained tensors of the best epoch so far."""

    epoch: int
    """Counted from 1."""
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ResumeState:
    """What a run continues from; `restore` puts it into the model and its optimizer."""

    file: str
    """The checkpoint, for errors."""
    history: list[EpochResult]
    partial: PartialEpoch
    """The part of the epoch after `history` that is trained."""
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoint files of one run.

    Every method that reads raises a CheckpointError for files of another run or version, and a DamagedError for files
    that are missing or damaged; every method that writes raises a FencedError if another process holds the lease by
    now, and a StorageError if the folder cannot be written.
    """

    path: Path
    trial_id: str
    """The identity of the run that the files must belong to."""
    lease: Lease | None = None
    """The lease on the folder; None where no other process may take the folder over."""

    def save(
        self,
        free: FreePart,
        optimizer: Optimizer,
        history: Sequence[EpochResult],
        *,
        partial: PartialEpoch = EPOCH_START,
        best: BestWeights | None = None,
    ) -> None:
        """Write the state of a run; the best epoch first, so that `last` never refers to a best one that is missing.

        Args:
            free: What is trained.
            optimizer: Over the parameters of `free`.
            history: All epochs so far.
            partial: The epoch after `history`.
            best: The best epoch of `history`; None where its checkpoint exists already.
        """
        if best is not None:
            facts: dict[str, Any] = {"trial_id": self.trial_id, "epoch": best.epoch}
            write_checked(self.path / BEST, best.tensors, facts, lease=self.lease)
        tensors = _tensors_of(free, optimizer)
        facts = {"trial_id": self.trial_id, "epochs": epochs_to_json(history)}
        if partial.totals is not None:
            tensors["partial.losses"] = torch.from_numpy(partial.totals.losses)
            tensors["partial.confusion"] = torch.from_numpy(partial.totals.confusion)
            facts["partial"] = {"steps": partial.steps, "seconds": partial.seconds}
        write_checked(self.path / LAST, tensors, facts, lease=self.lease, keep_previous=True)

    def copy_from(self, shorter: "CheckpointFolder") -> None:
        """Start from a run that is done and equal to this one in all but the number of epochs, which are fewer.

        Args:
            shorter: The checkpoints of that run.
        """
        for name in (BEST, LAST):
            facts, tensors = shorter._read(name)
            write_checked(self.path / name, tensors, facts | {"trial_id": self.trial_id}, lease=self.lease)

    def find_last(self, recipe: Recipe) -> ResumeState | None:
        """The state to continue from: that of the last intact checkpoint, if the best epoch's checkpoint is intact too.

        Damaged files are named in the log. A run whose best epoch is lost starts at its first epoch: it comes to the
        same numbers, and to the best epoch again. Partial files that a killed process left are removed.

        Args:
            recipe: Decides which epoch is the best.

        Returns:
            None where the run must start at its first epoch.

        Raises:
            CheckpointError: The files are of another run or version.
            FencedError: Another process holds the lease by now; the files that it is writing are left alone.
        """
        with nullcontext() if self.lease is None else self.lease.held():
            storage.remove_partial(self.path)
        last, best = self.path / LAST, self.path / BEST
        is_damaged = False
        for file in (last, storage.previous(last)):
            if not file.exists():
                continue
            try:
                state = self._read_state(file)
                if (row := best_epoch(state.history, recipe)) is not None:
                    self._check_best(row.epoch, num_epochs=len(state.history))
            except DamagedError as error:
                log.warning("%s: %s", *error.args[:2])
                is_damaged = True
                if error.args[0] == str(best):
                    break
                continue
            if file != last:
                log.warning("%s: continues after epoch %d, from %s", self.trial_id, len(state.history), file)
            return state
        if is_damaged:
            log.warning("%s: starts at its first epoch again, with the same numbers", self.trial_id)
        return None

    def read_best(self, *, recorded: int | None = None) -> BestWeights:
        """The best epoch and its tensors.

        Args:
            recorded: The best epoch by the run's record; None where there is no record.

        Raises:
            CheckpointError: The best checkpoint is missing or damaged, or of another run or epoch.
        """
        try:
            facts, tensors = self._read(BEST)
            epoch = self._epoch_of(facts)
            if recorded not in (None, epoch):
                what = f"of epoch {epoch}, but by the run's record {recorded} is its best one"
                raise DamagedError(str(self.path / BEST), what, "")
            return BestWeights(epoch=epoch, tensors=tensors)
        except DamagedError as error:
            way_out = "Run the trial again: it starts at its first epoch, since the best one is lost"
            raise DamagedError(error.args[0], error.args[1], way_out) from error

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The facts and tensors of a file, if it is of this run."""
        file = self.path / name
        facts, tensors = read_checked(file)
        if facts.get("trial_id") != self.trial_id:
            found = facts.get("trial_id")
            what = f"a checkpoint of run {found}, not of {self.trial_id}: other settings, data or weights"
            way_out = "Use another folder, or remove this one's checkpoints to start at the first epoch"
            raise CheckpointError(str(file), what, way_out)
        return facts, tensors

    def _read_state(self, file: Path) -> ResumeState:
        facts, tensors = self._read(file.name)
        try:
            history = list(epochs_from_json(facts["epochs"]))
            partial = EPOCH_START
            if saved := facts.get("partial"):
                totals = PassTotals(tensors["partial.losses"].numpy(), tensors["partial.confusion"].numpy())
                partial = PartialEpoch(steps=int(saved["steps"]), seconds=float(saved["seconds"]), totals=totals)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise CheckpointError(str(file), f"a broken checkpoint: {error!r}", REMOVE_IT) from error
        return ResumeState(file=str(file), history=history, partial=partial, tensors=tensors)

    def _check_best(self, wanted: int, *, num_epochs: int) -> None:
        """Check that the best checkpoint is of the best epoch.

        It may be of an epoch beyond the history, which is trained again: a kill between the two files leaves that.

        Args:
            wanted: The best epoch.
            num_epochs: The length of the history.

        Raises:
            DamagedError: It is of another epoch of the history.
        """
        epoch = self._epoch_of(self._read(BEST)[0])
        if epoch != wanted and epoch <= num_epochs:
            raise DamagedError(str(self.path / BEST), f"of epoch {epoch}, but the best one is {wanted}", REMOVE_IT)

    def _epoch_of(self, facts: Mapping[str, Any]) -> int:
        """The epoch of the best checkpoint."""
        epoch = facts.get("epoch")
        if not isinstance(epoch, int):
            raise CheckpointError(str(self.path / BEST), f"a broken checkpoint: its epoch is {epoch!r}", REMOVE_IT)
        return epoch


def restore(state: ResumeState, free: FreePart, optimizer: Optimizer) -> None:
    """Set the model and its optimizer to a saved state.

    Args:
        state: The state, from `CheckpointFolder.find_last`.
        free: What is trained, changed here.
        optimizer: Over the parameters of `free`, changed here.

    Raises:
        CheckpointError: Tensors are missing or have other shapes.
    """
    model = {name.removeprefix("model."): t for name, t in state.tensors.items() if name.startswith("model.")}
    try:
        copy_tensors(free, model)
        for name, parameter in free.named_parameters():
            prefix = f"optimizer.{name}."
            own = {key.removeprefix(prefix): t for key, t in state.tensors.items() if key.startswith(prefix)}
            # Moments have the memory layout of their parameter (channels last); Adam's count of steps is one number.
            optimizer.state[parameter] = {
                key: torch.empty_like(parameter).copy_(value) if value.dim() else value.to(parameter.device)
                for key, value in own.items()
            }
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(state.file, f"a broken checkpoint: {error}", REMOVE_IT) from error


def copy_tensors(free: FreePart, tensors: Mapping[str, Tensor]) -> None:
    """Set every tensor of `FreePart.tensors` to the one of its name; tensors of other names are ignored.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    with torch.no_grad():
        for name, own in free.tensors().items():
            if name not in tensors:
                raise ValueError(f"tensor {name} is missing")
            if tensors[name].shape != own.shape:
                raise ValueError(f"tensor {name} has shape {tuple(tensors[name].shape)}, not {tuple(own.shape)}")
            own.copy_(tensors[name])


def _tensors_of(free: FreePart, optimizer: Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in free.tensors().items()}
    for name, parameter in free.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # momentum 0 keeps None
                tensors[f"optimizer.{name}.{key}"] = value
    return tensors
