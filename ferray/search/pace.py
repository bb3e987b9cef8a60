"""How long a search and its trials still take, by what it has measured so far.

The first epochs of a trial may compute views of the frozen layers, which later epochs and other trials share: they
take many times as long as the others and say nothing about them. So views and epochs are measured apart.

Begin at `Pace`.
"""

import statistics
from collections.abc import Iterable, Sequence

from ferray.recipe import Recipe
from ferray.records.trial import EpochResult, TrialRecord
from ferray.train.features.key import ViewKey, keys_of_run, reads_views


class Pace:
    """The speed of a search in this session.

    Args:
        num_trials: Trials in all; None if unknown.
        views: Those that the new trials need and that are not in the cache, as far as they are known in advance.
        known: Trials on record before this session.
    """

    def __init__(
        self, num_trials: int | None, views: Iterable[ViewKey] = (), known: Iterable[TrialRecord] = ()
    ) -> None:
        self._num_trials = num_trials
        self._wanted = frozenset(views)
        self._views: set[ViewKey] = set()
        for record in known:
            self._views |= _views_up_to(record.recipe, len(record.epochs))
        self._features_s = self._other_s = 0.0
        self._computed_s = 0.0  # of features_s, until the last view was ready
        self._ready_s: list[float] = []  # of epochs whose view was ready, of all trials
        self._num_epochs = self._num_ready = 0
        self._epochs_of_ended: list[int] = []
        self.recipes: set[Recipe] = set()
        """Of the trials that had an epoch in this session."""

    def note_time(self, seconds: float, *, on_features: bool) -> None:
        """Some time has passed, in which a worker group computed features or none did."""
        if on_features:
            self._features_s += seconds
        else:
            self._other_s += seconds

    def note_epoch(self, recipe: Recipe, row: EpochResult) -> None:
        """A trial has one more epoch."""
        self._num_epochs += 1
        self.recipes.add(recipe)
        self._num_ready += row.epoch > num_first(recipe)
        if row.epoch > num_first(recipe):
            self._ready_s.append(row.seconds)
        self._see(recipe, row.epoch)

    def note_end(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._epochs_of_ended.append(len(record.epochs))
        self._see(record.recipe, len(record.epochs))

    def _see(self, recipe: Recipe, epochs: int) -> None:
        """A trial has so many epochs, so the views that it read are ready."""
        new = _views_up_to(recipe, epochs) - self._views
        self._views |= new
        if new & self._wanted:
            self._computed_s = self._features_s

    def left_of_trial(self, record: TrialRecord) -> float | None:
        """Seconds that a trial still takes if it is not stopped; None where nothing like it was measured yet."""
        num_done, num_epochs, first = len(record.epochs), record.recipe.epochs, num_first(record.recipe)
        own = [row.seconds for row in record.epochs[first:]] or self._ready_s
        slow = [row.seconds for row in record.epochs[:first]]
        num_slow = max(0, min(first, num_epochs) - num_done)
        num_ready = num_epochs - max(num_done, min(first, num_epochs))
        if (num_slow and not slow) or (num_ready and not own):
            return None
        return num_slow * _mean(slow) + num_ready * _mean(own)

    def left(self, num_ended: int, running: Sequence[TrialRecord]) -> float | None:
        """Seconds that the whole search still takes; None where it cannot be known yet.

        Args:
            num_ended: Trials that have ended, in this session and before.
            running: Trials that have begun and not ended.
        """
        if self._num_trials is None or not self._epochs_of_ended or not self._num_epochs:
            return None
        num_epochs = (self._num_trials - num_ended) * statistics.fmean(self._epochs_of_ended)
        num_epochs -= sum(len(record.epochs) for record in running)
        epochs_s = max(0.0, num_epochs) * self._other_s / max(1, self._num_ready)
        num_left, (_, view_s) = len(self._wanted - self._views), self.rates()
        if not num_left:
            return epochs_s
        begun_s = self._features_s - self._computed_s
        return None if view_s is None else epochs_s + max(0.0, num_left * view_s - begun_s)

    def rates(self) -> tuple[float | None, float | None]:
        """Seconds of an epoch, and of a view, of the search in this session; None for what was not measured."""
        computed = len(self._wanted & self._views)
        epoch_s = self._other_s / self._num_ready if self._num_ready and self._other_s else None
        return epoch_s, self._computed_s / computed if computed and self._computed_s else None


def num_first(recipe: Recipe) -> int:
    """The epochs, from the first one on, that may have to compute a view before they can train."""
    if not reads_views(recipe):
        return 0
    return min(recipe.epochs, recipe.augmentation_views or recipe.epochs) if recipe.alters_pictures else 1


def _views_up_to(recipe: Recipe, epochs: int) -> set[ViewKey]:
    """The views that a trial has read when it has so many epochs."""
    keys = keys_of_run(recipe, weights="") if epochs else set()
    return {key for key in keys if key.epoch is None or key.epoch <= epochs}


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
