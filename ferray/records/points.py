"""Trials and points in order of their scores.

A point is a choice of settings; trials of one point differ in seed or fold alone. Begin at `rank_points`.
"""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ferray import recipe as recipes
from ferray.recipe import Recipe
from ferray.records.trial import TrialRecord

REPEATED = ("seed", "fold")
"""Settings in which trials of one point may differ: their scores then differ by chance alone."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The trials of one point, each with at least one epoch: one trial for each seed and fold that was trained."""

    records: tuple[TrialRecord, ...]
    """In the order of their numbers."""

    @property
    def number(self) -> int:
        """The number of its first trial."""
        return self.records[0].number

    @property
    def recipe(self) -> Recipe:
        """The recipe of its first trial."""
        return self.records[0].recipe

    @property
    def scores(self) -> tuple[float, ...]:
        """Its trials' scores, in the order of `records`."""
        return tuple(score for record in self.records if (score := record.score()) is not None)

    @property
    def mean(self) -> float:
        """Mean of its trials' scores, by which points are ranked."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float | None:
        """Standard deviation of its trials' scores; None for one trial."""
        return statistics.stdev(self.scores) if len(self.records) > 1 else None

    def best_trial(self) -> TrialRecord:
        """Its trial with the best score."""
        return rank_trials(self.records)[0]


def is_whole(point: Point) -> bool:
    """Whether no trial is missing, as a failed fold would be, so that each seed has answers for the same faces."""
    seeds = {record.recipe.seed for record in point.records}
    return len(point.records) == len(seeds) * (point.recipe.folds or 1)


def settings_key(recipe: Recipe) -> str:
    """What the trials of one point have in common: all settings but those of `REPEATED`."""
    return json.dumps({name: value for name, value in recipes.to_values(recipe).items() if name not in REPEATED})


def rank_trials(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trials that have an epoch and did not fail, best first: by score, ties by fewer epochs, then by number."""

    def sort_key(record: TrialRecord) -> tuple[float, int, int]:
        best = record.best()
        assert best is not None
        return (record.recipe.cost(getattr(best, record.recipe.monitor)), best.epoch, record.number)

    return sorted((record for record in records if record.epochs and record.state != "failed"), key=sort_key)


def without_refit(records: Iterable[TrialRecord], *, folds: int) -> list[TrialRecord]:
    """All trials but the refit, which no point is ranked by.

    Args:
        records: All trials of a search.
        folds: Of the search; 1 without cross-validation.
    """
    return [record for record in records if folds == 1 or record.recipe.folds is not None]


def rank_points(records: Iterable[TrialRecord], *, wanted: int = 1) -> list[Point]:
    """The points of trials that have an epoch and did not fail, best first: by mean, ties by fewer epochs, by number.

    Args:
        records: All trials of a search.
        wanted: Points with fewer trials than this come after all others, whatever their mean: one lucky score must
            not beat the mean of several.
    """
    trials_by_settings: dict[str, list[TrialRecord]] = {}
    for record in rank_trials(records):
        trials_by_settings.setdefault(settings_key(record.recipe), []).append(record)
    points = [
        Point(records=tuple(sorted(trials, key=lambda record: record.number))) for trials in trials_by_settings.values()
    ]

    def sort_key(point: Point) -> tuple[bool, float, int, int]:
        num_epochs = sum(best.epoch for record in point.records if (best := record.best()) is not None)
        return (len(point.records) < wanted, point.recipe.cost(point.mean), num_epochs, point.number)

    return sorted(points, key=sort_key)
