"""Counts the trials of a search as they begin, go on and end, and makes a `SearchView` of them.

It keeps the trials that are running and as many of the others as are worth a line, however many there were.
Begin at `Tally`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferray.recipe import MetricName
from ferray.records.points import rank_trials
from ferray.records.trial import ENDED, EpochResult, State, TrialRecord
from ferray.report.results.early import reason_in_words
from ferray.report.watch.view import SearchView, TrialView
from ferray.report.wording import setting_text
from ferray.space import Space

MAX_BEST = 30
"""Trials that have ended and are kept, the best ones; failed ones are not among them."""

MAX_LISTED = 5
"""Trials that were stopped, and trials that failed, that are kept: the last ones."""


class Tally:
    """The trials of a search, as an observer of it.

    Args:
        name: Of the search.
        space: Its metric is shown, and its rule for stopping early explains what was stopped.
        columns: Settings in which the trials differ.
        known: Trials on record before.
    """

    def __init__(self, name: str, space: Space, *, columns: Sequence[str], known: Iterable[TrialRecord] = ()) -> None:
        self._name = name
        self._space = space
        self._columns = tuple(columns)
        self.running: dict[int, TrialRecord] = {}
        """Trials that have begun and not ended, by number."""
        self.num_ended = self.num_epochs = 0
        """Trials, and epochs that `add_epoch` was given."""
        self._states: dict[int, State] = {}  # of trials that have ended and not begun again, by number
        self._counts: Counter[State] = Counter()  # of those
        self._best: list[TrialRecord] = []
        self._stopped: list[TrialRecord] = []
        self._failed: list[TrialRecord] = []
        for record in known:
            if record.state in ENDED:
                self.end(record)

    @property
    def metric(self) -> MetricName:
        """The metric that is shown."""
        return self._space.metric.name

    def begin(self, record: TrialRecord) -> None:
        """A trial has begun; it may have epochs already, and may have failed or been stopped before."""
        self._forget(record.number)
        self.running[record.number] = record

    def add_epoch(self, trial_id: str, row: EpochResult) -> list[TrialRecord]:
        """A trial has one more epoch; returns the trials of this identity as they were before it."""
        self.num_epochs += 1
        found = [
            record
            for record in self.running.values()
            if record.trial_id == trial_id and len(record.epochs) + 1 == row.epoch
        ]
        for record in found:
            self.running[record.number] = replace(record, epochs=(*record.epochs, row))
        return found

    def end(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed."""
        self._forget(record.number)
        self.num_ended += 1
        self._states[record.number] = record.state
        self._counts[record.state] += 1
        self._best = rank_trials([*self._best, record])[:MAX_BEST]
        if record.state == "stopped":
            self._stopped = [record, *self._stopped][:MAX_LISTED]
        elif record.state == "failed":
            self._failed = [record, *self._failed][:MAX_LISTED]

    def _forget(self, number: int) -> None:
        """What was known of a trial is replaced."""
        self.running.pop(number, None)
        state = self._states.pop(number, None)
        if state is not None:
            self._counts[state] -= 1
            for kept in (self._best, self._stopped, self._failed):
                kept[:] = [record for record in kept if record.number != number]

    def trial_view(self, record: TrialRecord, *, activity: str = "", left_s: float | None = None) -> TrialView:
        """A trial as it is shown."""
        best = record.best()
        return TrialView(
            number=record.number,
            state=record.state,
            num_epochs=len(record.epochs),
            max_epochs=record.recipe.epochs,
            score=record.score(),
            best_epoch=None if best is None else best.epoch,
            settings={name: setting_text(name, getattr(record.recipe, name)) for name in self._columns},
            activity=activity[:300],
            left_s=left_s,
            reason=self._reason(record)[:300],
        )

    def view(
        self,
        *,
        activities: Mapping[str, str] | None = None,
        lefts: Mapping[int, float | None] | None = None,
        **facts: Any,
    ) -> SearchView:
        """All of it at this moment.

        Args:
            activities: What worker groups do, by trial id.
            lefts: Seconds that running trials still take, by number.
            facts: Fields of `SearchView` that trials do not say.
        """
        activities, lefts = activities or {}, lefts or {}
        numbers = {"num_ended": self.num_ended, "num_epochs": self.num_epochs}
        return SearchView(
            name=self._name,
            metric=self.metric,
            maximize=self._space.metric.goal == "maximize",
            columns=self._columns,
            num_stopped=self._counts["stopped"],
            num_failed=self._counts["failed"],
            running=tuple(
                self.trial_view(record, activity=activities.get(record.trial_id, ""), left_s=lefts.get(number))
                for number, record in sorted(self.running.items())
            ),
            best=tuple(map(self.trial_view, self._best)),
            stopped=tuple(map(self.trial_view, self._stopped)),
            failed=tuple(map(self.trial_view, self._failed)),
            **numbers | facts,
        )

    def _reason(self, record: TrialRecord) -> str:
        default = "without a reason on record" if record.state == "failed" else ""
        return reason_in_words(record, self._space) or default
