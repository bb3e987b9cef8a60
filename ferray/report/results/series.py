"""Series that a search leaves: the best score so far, and how far training is ahead of validation.

Begin at `best_so_far`.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ferray.records.trial import EpochResult, TrialRecord

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Step:
    """The moment at which a search found a better score, or its end."""

    trials: int
    """Trials that had ended or were in training."""
    epochs: int
    """Epochs of all trials so far."""
    seconds: float
    """Seconds of training of all trials so far; trials that ran side by side count each."""
    score: float
    """The best score of one trial so far."""
    number: int
    """The trial that has it."""


def best_so_far(records: Sequence[TrialRecord]) -> list[Step]:
    """Every improvement of the best score, in the order of time, and at last where the search stands.

    A trial's epochs follow one another from its begin on, as far as records say; those of records without a begin come
    in the order of their numbers. Failed trials count with their epochs, but not with their scores.

    Args:
        records: All trials.
    """
    steps: list[Step] = []
    begun: set[int] = set()
    seconds, best, holder = 0.0, None, 0
    timeline = sorted(_timeline(records), key=lambda event: event[:3])
    for num_epochs, (_, number, _, row, record) in enumerate(timeline, start=1):
        begun.add(number)
        seconds += row.seconds
        score = float(getattr(row, record.recipe.monitor))
        is_better = best is None or record.recipe.cost(score) < record.recipe.cost(best)
        if record.state != "failed" and is_better:
            best, holder = score, number
        is_last = num_epochs == len(timeline)
        if best is not None and (is_last or (is_better and record.state != "failed")):
            step = Step(trials=len(begun), epochs=num_epochs, seconds=seconds, score=best, number=holder)
            steps.append(step)
    return steps


def _timeline(records: Iterable[TrialRecord]) -> Iterable[tuple[float, int, int, EpochResult, TrialRecord]]:
    """Every epoch with the time when it ended, in seconds."""
    for record in records:
        at = _timestamp(record.began)
        for row in record.epochs:
            at += row.seconds
            yield at, record.number, row.epoch, row, record


def _timestamp(began: str) -> float:
    """Seconds since 1970; 0 where a record does not have a readable time."""
    try:
        return datetime.datetime.fromisoformat(began).timestamp() if began else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0


def overfitting(record: TrialRecord) -> float | None:
    """How much better training was than validation in the best epoch, by the monitored metric; None without an epoch.

    Training scores are those seen while training: with dropout and altered pictures they may be below validation, and
    the result is negative.
    """
    best = record.best()
    if best is None:
        return None
    monitor = record.recipe.monitor
    gap = getattr(best, monitor.replace("val_", "train_")) - getattr(best, monitor)
    return float(gap if record.recipe.maximize else -gap)


def pick_evenly(ranked: Sequence[Item], *, max_best: int, max_others: int) -> list[Item]:
    """The best of many trials or points, and others at even distances in the ranking.

    Args:
        ranked: Best first.
        max_best: How many of the best are taken.
        max_others: How many of all others.
    """
    others = ranked[max_best:]
    step = max(1.0, len(others) / max_others) if others else 1.0
    places = dict.fromkeys(int(place * step) for place in range(min(len(others), max_others)))
    return [*ranked[:max_best], *(others[place] for place in places)]
