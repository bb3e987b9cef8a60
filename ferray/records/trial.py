"""One trial on record: its recipe, its state, its epochs, and their form in JSON.

Begin at `TrialRecord`. `record.json` and a trial's last checkpoint both hold epochs; both write and read them with
`epochs_to_json` and `epochs_from_json`.
"""

import dataclasses
import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ferray import recipe as recipes
from ferray.errors import FerrayError, RecordError
from ferray.recipe import Recipe
from ferray.records import progress

State = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
"""`done`: trained for all its epochs, or until its patience ran out; `stopped`: ended early by the scheduler."""

FINISHED: frozenset[str] = frozenset({"done", "stopped"})
"""States of a trial that needs no more training."""

ENDED: frozenset[str] = FINISHED | {"failed"}
"""States that a trial leaves only if it is run again."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """The metrics of one epoch. Losses in nats, scores in [0, 1]; training scores are those seen while training."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    train_accuracy: float
    train_balanced_accuracy: float
    train_macro_f1: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_macro_f1: float
    learning_rate: float
    """The head's learning rate in the epoch's last step."""
    images_per_s: float
    """Training faces per second of training time, waiting for features included."""
    seconds: float
    """Wall time of the epoch, validation included, its checkpoint not."""


METRIC_FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(EpochResult))[1:]
"""All fields of an `EpochResult` but the epoch's number."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: its recipe, its epochs so far, and how it ended."""

    trial_id: str
    """`recipe.trial_id`: the identity of the training run, and the name of its folder."""
    number: int
    """Position in the order in which the search asked for trials, from 0."""
    recipe: Recipe
    state: State = "queued"
    reason: str = ""
    """Why it failed or was stopped; empty otherwise."""
    epochs: tuple[EpochResult, ...] = ()
    device: str = ""
    """For example `cpu` or the GPU's name."""
    began: str = ""
    """When a worker group first began with it, in UTC, ISO 8601; empty in records of the first versions."""

    def best(self) -> EpochResult | None:
        """The epoch with the best monitored metric, the earliest of equals; None before the first."""
        return progress.best_epoch(self.epochs, self.recipe)

    def score(self) -> float | None:
        """The best epoch's monitored metric; None before the first epoch."""
        best = self.best()
        return None if best is None else float(getattr(best, self.recipe.monitor))

    @property
    def complete(self) -> bool:
        """Whether training is over: all epochs are there, or the patience has run out."""
        return progress.is_complete(self.epochs, self.recipe)

    def seconds(self) -> float:
        """Wall time of all its epochs."""
        return sum(row.seconds for row in self.epochs)

    def began_s(self) -> float | None:
        """When it began, in seconds since 1970; None where that is not on record."""
        try:
            return datetime.datetime.fromisoformat(self.began).timestamp()
        except ValueError:
            return None


def record_to_json(record: TrialRecord) -> dict[str, Any]:
    """A record as an object of JSON values."""
    return {**dataclasses.asdict(record), "epochs": epochs_to_json(record.epochs)}


def record_from_json(values: dict[str, Any], *, where: str) -> TrialRecord:
    """The record that `record_to_json` was given, checked field by field: anybody may have edited the file.

    Args:
        values: The JSON object; a setting that its recipe lacks takes its default.
        where: The file, for errors.

    Raises:
        RecordError: The object is not a trial record.
        RecipeError: A setting is unknown or out of bounds.
    """
    way_out = "Restore the file, or remove the trial's folder: the trial is then run again"
    try:
        if values["state"] not in get_args(State):
            raise RecordError(where, f"unknown state {values['state']!r}", way_out)
        return TrialRecord(
            trial_id=str(values["trial_id"]),
            number=int(values["number"]),
            recipe=recipes.make_recipe(values["recipe"], where=where),
            state=values["state"],
            reason=str(values["reason"]),
            epochs=epochs_from_json(values["epochs"]),
            device=str(values["device"]),
            began=str(values.get("began", "")),
        )
    except FerrayError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise RecordError(where, f"not a trial record: {type(error).__name__} {error}", way_out) from error


def epochs_to_json(epochs: Iterable[EpochResult]) -> list[dict[str, Any]]:
    """Epochs as JSON objects, in their order."""
    return [dataclasses.asdict(row) for row in epochs]


def epochs_from_json(rows: Iterable[dict[str, Any]]) -> tuple[EpochResult, ...]:
    """The epochs that `epochs_to_json` was given, each metric checked.

    Raises:
        ValueError: The epochs are not numbered 1, 2, 3, ..., or a metric is not finite.
        KeyError: A metric is missing. (Other faults of their types: TypeError, OverflowError, AttributeError.)
    """
    epochs = tuple(_epoch_from_json(row) for row in rows)
    if [row.epoch for row in epochs] != list(range(1, len(epochs) + 1)):
        raise ValueError("the epochs are not 1, 2, 3, ...")
    return epochs


def _epoch_from_json(row: dict[str, Any]) -> EpochResult:
    metrics = {name: float(row[name]) for name in METRIC_FIELDS}
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    return EpochResult(epoch=int(row["epoch"]), **metrics)
