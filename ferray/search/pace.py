"""How long a search and its trials still take, by what it has measured so far.

An epoch whose view of the frozen layers is not ready computes it, or waits for another trial that does: it takes many
times as long as those that share the view, and says nothing about them. So views and epochs are measured apart. A view
is ready if it was in the cache when the search began, or once an epoch has read it.

A searcher that learns does not say in advance which views its points need. Then the share of views that only one trial
has read estimates how many new ones each further trial brings (Good, "The population frequencies of species", 1953):
none where all trials share a view, one where a continuous setting gives each trial its own.

What an epoch takes of the search is its own seconds, by its kind and lately, times what a busy worker group needs of
the clock for a second of its epochs, with what comes between trials, divided by the number of groups: those that are
not up yet when the first trial ends will be. Before that is measured, and with the weight of two trials after it, an
earlier search on this machine says how long an epoch and a view take.

Begin at `Pace`.
"""

import math
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ferray.recipe import Recipe
from ferray.records.trial import ENDED, EpochResult, TrialRecord
from ferray.search.expected import epochs_to_come
from ferray.search.work import EpochKind, epoch_kind
from ferray.space import Hyperband
from ferray.train.features.key import ViewKey, keys_of_run, reads_views, view_key


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What earlier searches on this machine say of one before anything of it is measured."""

    epoch_s: float | None = None
    """Seconds of the search for an epoch, all worker groups together; None where no search was of its kind."""
    is_like: bool = True
    """Whether those searches had halving as this one has, or not; else an epoch is believed until one is measured."""
    view_s: float | None = None
    """Seconds for a view."""
    end_s: float = 0.0
    """Seconds from the end of the last trial to the end of the search; 0 where none is on record."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the trials of a session will take, as far as it is known in advance."""

    epochs: Mapping[EpochKind, float] | None = None
    """Epochs of all trials of the session, if none ends early; None where the points are not known in advance."""
    max_epochs: int = 0
    """Of the longest trial."""
    num_final: int = 0
    """Trials of the finals, which come last and are not stopped early."""
    halving: Hyperband | None = None
    """The rule for stopping early."""


class Pace:
    """The speed of a search in this session.

    Args:
        num_trials: Trials in all; None if unknown.
        views: Those that the new trials need; None if they are not known in advance.
        known: Trials on record before this session.
        find_ready: Returns those of some views that are in the cache, when the session or a trial begins.
        planned: What the trials will take.
        prior: What earlier searches say.
        num_groups: Worker groups, each of which trains a trial at a time.
    """

    def __init__(
        self,
        num_trials: int | None,
        views: Iterable[ViewKey] | None = (),
        known: Sequence[TrialRecord] = (),
        *,
        find_ready: Callable[[frozenset[ViewKey]], frozenset[ViewKey]] = lambda _: frozenset(),
        planned: Planned | None = None,
        prior: Prior | None = None,
        num_groups: int = 1,
    ) -> None:
        self._num_trials = num_trials
        self._num_groups = num_groups
        self._planned = planned or Planned()
        self._prior = prior or Prior()
        self._find_ready = find_ready
        self._are_views_known = views is not None
        needed = frozenset(views or ())
        self._views = set(find_ready(needed))
        self._wanted = set(needed - self._views)  # to be computed in this session
        self._num_readers: Counter[ViewKey] = Counter()  # of wanted views that were not known in advance: trials
        self._begun: set[str] = set()  # trials of this session
        self._kinds: dict[EpochKind, deque[float]] = {}  # seconds of the last epochs whose view was ready
        self._kind_counts: Counter[EpochKind] = Counter()  # of all such epochs
        self._epochs_busy_s = 0.0  # of the epochs in num_ready
        self._groups_busy_s = 0.0  # of worker groups with a trial, in other_s
        self._begun_epochs: Counter[EpochKind] = Counter()  # of the recipes of trials that began in this session
        self._num_full = self._num_trained = 0  # epochs of the recipes of trials that ended by themselves, and theirs
        # Of trials that had ended before this session:
        self._epochs_on_record = [len(record.epochs) for record in known if record.state in ENDED]
        for record in known:
            self._views |= _views_up_to(record.recipe, len(record.epochs))
        self._features_s = self._other_s = 0.0
        self._computed_s = 0.0  # of features_s, until the last view was ready
        self._on_features = False
        self._ready_s: list[float] = []  # of epochs whose view was ready, of all trials
        self._num_ready = 0  # of those, in other_s
        self._slow: dict[str, set[int]] = {}  # by trial: epochs whose view was not ready when the one before had ended
        self._epochs_of_ended: list[int] = []
        self.recipes: set[Recipe] = set()
        """Of the trials that had an epoch in this session."""

    def note_time(self, seconds: float, *, on_features: bool, num_busy: int = 1) -> None:
        """Some time has passed.

        Args:
            seconds: How much.
            on_features: Whether a worker group computed features in it.
            num_busy: Worker groups that had a trial.
        """
        self._on_features = on_features
        if on_features:
            self._features_s += seconds
        else:
            self._other_s += seconds
            self._groups_busy_s += seconds * num_busy

    def note_start(self, record: TrialRecord) -> None:
        """A trial may begin, or go on."""
        if record.trial_id not in self._begun:
            self._begun.add(record.trial_id)
            self._begun_epochs[epoch_kind(record.recipe)] += record.recipe.epochs
            if not self._are_views_known:
                self._note_views(keys_of_run(record.recipe, weights=""))
        self._slow[record.trial_id] = self._slow_before(record, len(record.epochs) + 1)

    def _note_views(self, keys: set[ViewKey]) -> None:
        """A trial reads some views, which were not known before."""
        new = frozenset(keys - self._wanted - self._views)
        ready = self._find_ready(new) if new else new
        self._views |= ready
        self._wanted |= new - ready
        self._num_readers.update(keys & self._wanted)

    def note_epoch(self, record: TrialRecord, row: EpochResult) -> None:
        """A trial has one more epoch."""
        recipe = record.recipe
        self.recipes.add(recipe)
        slow = self._slow.setdefault(record.trial_id, self._slow_before(record, row.epoch))
        if row.epoch not in slow:
            self._ready_s.append(row.seconds)
            kind = epoch_kind(recipe)
            self._kinds.setdefault(kind, deque(maxlen=max(20, 2 * recipe.epochs))).append(row.seconds)
            self._kind_counts[kind] += 1
            if not self._on_features:
                self._num_ready += 1
                self._epochs_busy_s += row.seconds
        self._see(recipe, row.epoch)
        if self.waits_for_view(recipe, row.epoch + 1):
            slow.add(row.epoch + 1)

    def note_end(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._epochs_of_ended.append(len(record.epochs))
        if record.state == "done":
            self._num_full += record.recipe.epochs
            self._num_trained += len(record.epochs)
        self._see(record.recipe, len(record.epochs))
        self._slow.pop(record.trial_id, None)
        if not self._are_views_known:  # it may have been stopped before it needed all of its views
            self._wanted -= keys_of_run(record.recipe, weights="") - self._views

    def waits_for_view(self, recipe: Recipe, epoch: int) -> bool:
        """Whether an epoch that began now would have to compute a view, or to wait for it, as far as is known."""
        return epoch <= recipe.epochs and not _views_of(recipe, epoch) <= self._views

    def _slow_before(self, record: TrialRecord, epoch: int) -> set[int]:
        """The epochs up to `epoch`, the next one, that wait for a view; of those on record all that may have."""
        slow = set(range(1, min(epoch - 1, _num_first(record.recipe)) + 1))
        return slow | {epoch} if self.waits_for_view(record.recipe, epoch) else slow

    def _see(self, recipe: Recipe, epochs: int) -> None:
        """A trial has so many epochs, so the views that it read are ready."""
        new = _views_up_to(recipe, epochs) - self._views
        self._views |= new
        if new & self._wanted:
            self._computed_s = self._features_s

    def left_of_trial(self, record: TrialRecord) -> float | None:
        """Seconds that a trial still takes if it is not stopped; None where nothing like it was measured yet."""
        recipe, num_done = record.recipe, len(record.epochs)
        known = self._slow.get(record.trial_id, self._slow_before(record, num_done + 1))
        slow = [row.seconds for row in record.epochs if row.epoch in known]
        ready = [row.seconds for row in record.epochs if row.epoch not in known] or self._ready_s
        views = self._views | _views_up_to(recipe, num_done)
        num_slow = 0
        for epoch in range(num_done + 1, recipe.epochs + 1):
            new = _views_of(recipe, epoch) - views
            num_slow += bool(new)
            views |= new
        num_ready = recipe.epochs - num_done - num_slow
        if (num_slow and not slow) or (num_ready and not ready):
            return None
        return num_slow * _mean(slow) + num_ready * _mean(ready)

    def left(self, num_ended: int, running: Sequence[TrialRecord]) -> float | None:
        """Seconds that the whole search still takes; None where it cannot be known yet.

        Args:
            num_ended: Trials that have ended, in this session and before.
            running: Trials that have begun and not ended.
        """
        if self._num_trials is None:
            return None
        num_not_begun = max(0, self._num_trials - num_ended - len(running))
        epochs_s = self._epochs_s(num_not_begun, running)
        to_come = self._num_views_to_come(num_ended + len(running))
        if epochs_s is None or to_come is None:
            return None
        # The last trials leave worker groups without one.
        lefts = [self.left_of_trial(record) for record in running if record.epochs]
        epochs_s = max(epochs_s, *(left for left in lefts if left is not None), 0.0)
        num_left = len(self._wanted - self._views) + to_come
        if not num_left:
            return epochs_s + self._prior.end_s
        _, view_s = self.rates()
        view_s = self._prior.view_s if view_s is None else view_s
        begun_s = self._features_s - self._computed_s
        return None if view_s is None else epochs_s + max(0.0, num_left * view_s - begun_s) + self._prior.end_s

    def _epochs_s(self, num_not_begun: int, running: Sequence[TrialRecord]) -> float | None:
        """Seconds of the search for all epochs that are left, views not counted; None where it cannot be known yet."""
        left = self._epochs_left(num_not_begun, running)
        if left is None or (self._prior.epoch_s is None and not self._num_ready):
            return None
        return sum(num * self._epoch_s(kind) for kind, num in left.items())

    def _epochs_left(self, num_not_begun: int, running: Sequence[TrialRecord]) -> dict[EpochKind, float] | None:
        """Epochs that are left, by their kind; None before it is known how long a trial is."""
        planned = self._planned
        if planned.epochs is None and not self._epochs_of_ended:
            return None
        left: dict[EpochKind, float] = {}
        for record in running:
            kind = epoch_kind(record.recipe)
            left[kind] = left.get(kind, 0.0) + record.recipe.epochs - len(record.epochs)
        if planned.epochs is not None:
            for kind, num in planned.epochs.items():
                left[kind] = left.get(kind, 0.0) + max(0.0, num - self._begun_epochs[kind])
        else:
            # Those to come are taken for a mixture like that of the epochs so far.
            seen = self._kind_counts or Counter({("", "", None, 0): 1})
            mean = statistics.fmean(self._epochs_of_ended)
            for kind, num in seen.items():
                left[kind] = left.get(kind, 0.0) + num_not_begun * mean * num / seen.total()
        total = sum(left.values())
        if planned.halving is not None and total:
            num_final = min(num_not_begun, planned.num_final)
            expected = num_final * planned.max_epochs + epochs_to_come(
                num_not_begun - num_final,
                planned.max_epochs,
                planned.halving,
                running=[len(record.epochs) for record in running],
                ended=[*self._epochs_on_record, *self._epochs_of_ended],
            )
            share = expected / total
        elif planned.epochs is not None and self._num_full:
            # Where patience ends trials. The first to end are those that end early: one of full length counts before.
            share = (self._num_trained + planned.max_epochs) / (self._num_full + planned.max_epochs)
        else:
            share = 1.0
        return {kind: num * share for kind, num in left.items()}

    def _epoch_s(self, kind: EpochKind) -> float:
        """Seconds of the search for an epoch of a kind."""
        prior_s = self._prior.epoch_s
        if not self._num_ready:
            assert prior_s is not None, "asked before"
            return prior_s
        busy_s = self._groups_busy_s / self._epochs_busy_s if self._epochs_busy_s else 1.0
        measured_s = self._own_seconds(kind) * busy_s / self._num_groups
        if prior_s is None or not self._prior.is_like:
            return measured_s
        weight = 2 * max(1, self._planned.max_epochs)
        return (self._num_ready * measured_s + weight * prior_s) / (self._num_ready + weight)

    def _own_seconds(self, kind: EpochKind) -> float:
        """What an epoch of a kind takes its worker group, by those lately, or by those with another batch size."""
        if kind in self._kinds:
            return statistics.fmean(self._kinds[kind])
        like = [one for one in self._kinds if one[:-1] == kind[:-1]]
        if not like:
            return statistics.fmean(self._ready_s)
        nearest = min(like, key=lambda one: abs(math.log(one[-1] / kind[-1])))
        # A step of a head costs about as much as its pictures: on two cores 64 at a time took .8 of the time of 32.
        _, freeze, _, _ = kind
        factor = (1 + nearest[-1] / kind[-1]) / 2 if freeze == "trunk" else 1.0
        return statistics.fmean(self._kinds[nearest]) * factor

    def _num_views_to_come(self, num_begun: int) -> float | None:
        """New views of trials that have not begun, beyond those known in advance; None while one trial is no sample."""
        num_trials = max(0, (self._num_trials or 0) - num_begun)
        if self._are_views_known or not num_trials:
            return 0.0
        num_single = sum(num == 1 for num in self._num_readers.values())
        return num_trials * num_single / len(self._begun) if len(self._begun) > 1 else None

    def rates(self) -> tuple[float | None, float | None]:
        """Seconds of an epoch, and of a view, of the search in this session; None for what was not measured."""
        computed = len(self._wanted & self._views)
        epoch_s = self._other_s / self._num_ready if self._num_ready and self._other_s else None
        return epoch_s, self._computed_s / computed if computed and self._computed_s else None


def _num_first(recipe: Recipe) -> int:
    """The epochs, from the first one on, that are the first of their trial to read a view."""
    if not reads_views(recipe):
        return 0
    return min(recipe.epochs, recipe.augmentation_views or recipe.epochs) if recipe.alters_pictures else 1


def _views_of(recipe: Recipe, epoch: int) -> set[ViewKey]:
    """The views that an epoch trains on and validates with."""
    return {view_key(recipe, one, weights="") for one in (None, epoch)} if reads_views(recipe) else set()


def _views_up_to(recipe: Recipe, epochs: int) -> set[ViewKey]:
    """The views that a trial has read when it has so many epochs."""
    keys = keys_of_run(recipe, weights="") if epochs else set()
    return {key for key in keys if key.epoch is None or key.epoch <= epochs}


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
