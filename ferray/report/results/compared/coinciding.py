"""Points that two searches have in common: the same settings, as the same trials or as other runs, mostly other seeds.

Trials are compared after equally many epochs, since one search may have stopped what the other trained to its end.

Begin at `find_coinciding`.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ferray.metrics.intervals import Interval, student_interval
from ferray.records.points import rank_trials, settings_key
from ferray.records.progress import best_epoch
from ferray.records.trial import TrialRecord
from ferray.report.results.compared.searches import ComparedSearch

Repetition = Literal["the same trials", "other runs"]
"""Trials of equal ids, whose numbers differ by rounding on other devices alone; or runs with other seeds or weights."""

REPETITIONS: tuple[Repetition, ...] = get_args(Repetition)


@dataclass(frozen=True, kw_only=True)
class SharedPoint:
    """A point of two searches."""

    one: int
    """The number of its first trial in the first search."""
    other: int
    """That in the other search."""
    epochs: int
    """After which they are compared."""
    difference: float
    """Score in the other search minus that in the first, means over the point's trials."""
    repetition: Repetition


@dataclass(frozen=True, kw_only=True)
class Coinciding:
    """The points that a search shares with the first, of one kind of repetition."""

    letter: str
    """Of the search."""
    first: str
    """Letter of the first search, from which differences are counted."""
    repetition: Repetition
    points: tuple[SharedPoint, ...]
    """By number in the first search."""

    @property
    def mean(self) -> float:
        """Of the differences."""
        return statistics.fmean(point.difference for point in self.points)

    @property
    def interval(self) -> Interval | None:
        """95 %, of the mean over the choice of points and seeds; None for one point."""
        values = [point.difference for point in self.points]
        return student_interval(values) if len(values) > 1 else None

    @property
    def largest(self) -> float:
        """The largest difference, without its sign."""
        return max(abs(point.difference) for point in self.points)


def find_coinciding(searches: Sequence[ComparedSearch]) -> list[Coinciding]:
    """The points that each search shares with the first; none of the stages of one search, which share all."""
    if searches[0].is_stage:
        return []
    first = searches[0]
    found = []
    for search in searches[1:]:
        points = _share(first.records, search.records)
        for repetition in REPETITIONS:
            of_kind = tuple(point for point in points if point.repetition == repetition)
            if of_kind:
                found.append(
                    Coinciding(letter=search.letter, first=first.letter, repetition=repetition, points=of_kind)
                )
    return found


def _share(one: Iterable[TrialRecord], other: Iterable[TrialRecord]) -> list[SharedPoint]:
    ours, theirs = _by_settings(one), _by_settings(other)
    shared = [_compare(ours[key], theirs[key]) for key in ours if key in theirs]
    return sorted(shared, key=lambda point: (point.one, point.other))


def _by_settings(records: Iterable[TrialRecord]) -> dict[str, list[TrialRecord]]:
    found: dict[str, list[TrialRecord]] = {}
    for record in sorted(rank_trials(records), key=lambda record: record.number):
        found.setdefault(settings_key(record.recipe), []).append(record)
    return found


def _compare(ours: Sequence[TrialRecord], theirs: Sequence[TrialRecord]) -> SharedPoint:
    """Of trials with equal ids where there are any, else with the same seed and fold, else of all of both."""
    same_ids = {one.trial_id for one in ours} & {one.trial_id for one in theirs}
    repeats = {_repeat(one) for one in ours} & {_repeat(one) for one in theirs}
    if same_ids:
        ours, theirs = ([one for one in trials if one.trial_id in same_ids] for trials in (ours, theirs))
    elif repeats:
        ours, theirs = ([one for one in trials if _repeat(one) in repeats] for trials in (ours, theirs))
    epochs = min(len(one.epochs) for one in (*ours, *theirs))
    return SharedPoint(
        one=ours[0].number,
        other=theirs[0].number,
        epochs=epochs,
        difference=_mean_within(theirs, epochs) - _mean_within(ours, epochs),
        repetition="the same trials" if same_ids else "other runs",
    )


def _repeat(record: TrialRecord) -> tuple[int, int | None]:
    """What tells the trials of a point apart."""
    return record.recipe.seed, record.recipe.fold


def _mean_within(records: Sequence[TrialRecord], epochs: int) -> float:
    """Mean of the trials' best scores within their first epochs."""
    scores = []
    for record in records:
        best = best_epoch(record.epochs[:epochs], record.recipe)
        assert best is not None, "ranked trials have an epoch"
        scores.append(float(getattr(best, record.recipe.monitor)))
    return statistics.fmean(scores)
