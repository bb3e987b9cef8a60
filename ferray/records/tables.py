"""Records as tables of pandas: one row per trial, or one row per epoch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ferray import recipe as recipes
from ferray.records.trial import METRIC_FIELDS, TrialRecord, epochs_to_json

if TYPE_CHECKING:
    import pandas


def trials_frame(records: Iterable[TrialRecord]) -> "pandas.DataFrame":
    """One row per trial: number, id, state, every setting, the best epoch's metrics (`best_*`), seconds, reason."""
    import pandas

    rows = []
    for record in records:
        row: dict[str, Any] = {"number": record.number, "trial_id": record.trial_id, "state": record.state}
        row |= recipes.to_values(record.recipe)
        row |= {"epochs_run": len(record.epochs), **best_columns(record)}
        row |= {"seconds": record.seconds(), "device": record.device, "reason": record.reason}
        rows.append(row)
    return pandas.DataFrame(rows)


def best_columns(record: TrialRecord) -> dict[str, Any]:
    """The best epoch as `best_epoch`, `best_train_loss` and so on, without its seconds; None where there is none."""
    best = record.best()
    names = ("epoch", *(name for name in METRIC_FIELDS if name != "seconds"))
    return {f"best_{name}": None if best is None else getattr(best, name) for name in names}


def epochs_frame(records: Iterable[TrialRecord]) -> "pandas.DataFrame":
    """One row per epoch: trial_id, number, and the fields of `EpochResult`."""
    import pandas

    return pandas.DataFrame(
        {"trial_id": record.trial_id, "number": record.number, **row}
        for record in records
        for row in epochs_to_json(record.epochs)
    )
