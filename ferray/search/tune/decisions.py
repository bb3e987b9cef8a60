"""What a search decides: which point comes next, which trial is stopped. All of it is on record and can be replayed.

Points come from a grid, from random draws, or from Optuna's TPE through Tune's searcher; Tune's scheduler stops trials
if the space says so. Each suggestion, each end of a trial and, with a scheduler, each result is one event. A resumed
search gives the events to a new searcher and a new scheduler in the recorded order, without Tune's loop and without
training. An answer of the scheduler's that differs from the recorded one is an error. Where the searcher suggests
another point, as another version of Optuna does, it is made anew: it gets the points on record as evaluated ones, and
the search goes on from them.

With folds, a point is as many trials, numbered one after the other; their mean is reported to the searcher when the
last has ended.

Where the search was extended by another space, searcher and scheduler are made anew for it. The results of
earlier trials are reported to them, as far as these are points of the new space; their answers are not used.

A suggestion of TPE that repeats a known point is no trial: TPE is given the known score and asked again. Journals of
earlier versions have such trials, which are replayed as they are.

Begin at `Decisions`. Trials are known by number here, the order in which the search asked for them.
"""

import importlib.metadata
import logging
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from ray.tune.schedulers import TrialScheduler

from ferray.errors import RecordError
from ferray.records.events import (
    EndEvent,
    EndState,
    Event,
    EventLog,
    ExtendEvent,
    ResultEvent,
    RetryEvent,
    SuggestEvent,
    num_earlier_lines,
)
from ferray.search.history.points import Identify, Suggestion, draw_points, next_new
from ferray.search.tune.adaptive import AdaptiveSearcher
from ferray.search.tune.searchers import NamedTrial, make_scheduler
from ferray.search.tune.warm_start import EarlierTrials, look_back
from ferray.space import Space, num_existing_points, num_points

log = logging.getLogger(__name__)

MAX_REPEATED_SUGGESTIONS = 200
"""Suggestions in a row that repeat a known point, after which a search ends; each costs some milliseconds."""


class Decisions:
    """Searcher, scheduler and event log of one search.

    Args:
        space: What is searched now.
        log: Empty, or of an earlier session of this search.
        identify: The trial id of a point.
        seed: Search seed, of random draws and of Optuna's sampler.
        max_points: Largest number of points of the space; None for its own.
    """

    def __init__(
        self, space: Space, log: EventLog, *, identify: Identify, seed: int, max_points: int | None = None
    ) -> None:
        self._space = space
        self._log = log
        self._folds = space.folds
        self._identify = identify
        self._known: dict[int, Suggestion] = {}
        self._numbers: dict[str, int] = {}  # of the known ones by trial id; the first of those that share one
        self._open: set[int] = set()
        self._reported: dict[int, int] = {}  # number -> epochs that were reported to the scheduler
        self._scores: dict[int, float | None] = {}  # of trials that have ended; None for one that failed
        self._not_reproduced = ""  # where and how the searcher's suggestions left those on record
        self._is_exhausted = False  # whether the searcher suggested nothing new, many times in a row
        self._unfinished: list[Suggestion] = []
        self._peeked: dict[str, Any] | None = None
        limit = max_points if max_points is not None else num_points(space)
        self._limit = None if limit is None else limit * self._folds
        self._draws = draw_points(space, seed=seed) if not space.is_adaptive else iter(())
        self.scheduler = make_scheduler(space)
        num_earlier = num_earlier_lines(log.events)
        self._earlier = look_back(log.events[:num_earlier], space, identify, seed=seed)
        # A searcher that knows points gets another seed, or its first draws would be those points again.
        seed += self._earlier.num_shared
        self._searcher = AdaptiveSearcher(space, seed=seed) if space.is_adaptive else None
        self._replay(num_earlier)
        if self._not_reproduced:
            self._searcher = self._make_searcher_anew(seed=seed)

    @property
    def num_ended(self) -> int:
        """Trials that have ended, in this session of the search or an earlier one."""
        return len(self._known) - len(self._open)

    @property
    def num_outside(self) -> int:
        """Trials that this space did not ask for: those of earlier ones."""
        return self._earlier.num_outside

    def has_more(self) -> bool:
        """Whether there is anything left to train."""
        if self._unfinished or self._open or len(self._known) % self._folds:
            return True
        if self._is_full():
            return False
        # No trial is open, so nothing can be reported to a searcher before this point is asked for.
        self._peeked = self._peeked or self._next_point(len(self._known))
        return self._peeked is not None

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next trial: first those that an earlier session began and did not finish."""
        if self._unfinished:
            return self._unfinished.pop(0)
        number = len(self._known)
        if number % self._folds == 0 and self._is_full():
            self._warn_if_exhausted()
            return "none left"
        self._warn_if_not_reproduced()
        point = self._next_fold(number)
        if point is None:
            return "none left"
        suggestion = Suggestion(number, self._identify(point), point)
        self._log.append(
            SuggestEvent(number=number, trial_id=suggestion.trial_id, point=point),
            durable=self._searcher
            is not None,  # after a power failure a draw can be repeated, but not a point of an adaptive searcher
        )
        self._note_suggestion(suggestion)
        return suggestion

    def report_epoch(self, number: int, epoch: int, score: float) -> bool:
        """Tell the scheduler of an epoch; True if the trial is to stop.

        Args:
            number: Which trial.
            epoch: Counted from 1.
            score: The best monitored metric so far.
        """
        # Epochs that were reported before come again if the trial is trained again, since its record was lost.
        if self.scheduler is None or epoch <= self._reported[number]:
            return False
        stop = self._ask_scheduler(number, epoch, score)
        self._log.append(ResultEvent(number=number, epoch=epoch, score=score, stop=stop))
        return stop

    def end(self, number: int, state: EndState, epoch: int, score: float | None) -> None:
        """Tell searcher and scheduler that a trial has ended.

        Args:
            number: Which trial.
            state: How it ended.
            epoch: Its last.
            score: Its best; None if it has none.
        """
        trial_id = self._known[number].trial_id
        event = EndEvent(number=number, trial_id=trial_id, state=state, epoch=epoch, score=score)
        self._log.append(event)
        self._note_end(event)

    def _is_full(self) -> bool:
        """Whether the space has as many points as it may have; those of earlier spaces that it shares count."""
        return self._limit is not None and len(self._known) - self.num_outside >= self._limit

    def _next_fold(self, number: int, recorded: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The next trial's point: another fold of the last one, or the first fold of a new one.

        Args:
            number: Of the trial.
            recorded: In a replay the point that was asked for, which may be a repetition.
        """
        fold = number % self._folds
        if fold:
            return {**self._known[number - fold].point, "fold": fold}
        point, self._peeked = self._peeked or self._next_point(number, recorded), None
        return point if point is None or self._folds == 1 else {**point, "fold": 0}

    def _next_point(self, number: int, recorded: dict[str, Any] | None = None) -> dict[str, Any] | None:
        if self._searcher is None:
            return next_new(self._draws, self._numbers, self._identify)
        for repeats in range(0 if self._is_exhausted else MAX_REPEATED_SUGGESTIONS):
            name = f"{number} after {repeats}" if repeats else str(number)
            point = self._searcher.suggest(name)
            if point is None:
                return None
            known = self._numbers.get(self._identify(point))
            if known is None or (recorded is not None and recorded == {**recorded, **point}):
                self._searcher.expect(name, number)
                return point
            self._report_repetition(name, known)
        if not self._is_exhausted and recorded is None:
            self._is_exhausted = True
            tried, existing = self._num_tried_points(), num_existing_points(self._space)
            log.warning(
                "%s: TPE repeated known points %d times in a row; the search ends after %d of %s points",
                self._space.file, MAX_REPEATED_SUGGESTIONS, tried, "endless" if existing is None else f"{existing:,}",
            )  # fmt: skip
        return None

    def _warn_if_exhausted(self) -> None:
        """Say that an adaptive search ends since no point is left, where its `run_cap` does not say so."""
        existing, run_cap = num_existing_points(self._space), self._space.run_cap
        if self._searcher is None or existing is None or self._is_exhausted or existing == run_cap:
            return
        if self._num_tried_points() >= existing:
            self._is_exhausted = True
            log.warning("%s: all of its %d points were tried; the search ends", self._space.file, existing)

    def _num_tried_points(self) -> int:
        """Different points of this space that were asked for."""
        return len(self._numbers) // self._folds - self.num_outside // self._folds

    def _warn_if_not_reproduced(self) -> None:
        """Say, once and where a new point is asked for, that the searcher does not suggest what is on record."""
        if self._not_reproduced:
            log.warning(
                "%s; Optuna %s gets the points on record with their scores, and the search goes on from them",
                self._not_reproduced, importlib.metadata.version("optuna"),
            )  # fmt: skip
            self._not_reproduced = ""

    def _report_repetition(self, name: str, known: int) -> None:
        """Give the searcher the score of a point that it repeated; while that is trained, the mean of all scores."""
        assert self._searcher is not None
        score = self._mean_score(known - known % self._folds)
        if score == "open":
            scores = [score for score in self._scores.values() if score is not None]
            score = statistics.fmean(scores) if scores else None
        self._searcher.report(name, score)

    def _mean_score(self, first: int) -> float | Literal["open"] | None:
        """Of a point: the mean over its folds, None if one failed."""
        numbers = range(first, first + self._folds)
        if any(number not in self._scores or number in self._open for number in numbers):
            return "open"
        scores = [score for number in numbers if (score := self._scores[number]) is not None]
        return statistics.fmean(scores) if len(scores) == self._folds else None

    def _ask_scheduler(self, number: int, epoch: int, score: float) -> bool:
        self._reported[number] = epoch
        if self.scheduler is None:
            return False
        result = {"epoch": epoch, "score": score}
        return bool(self.scheduler.on_trial_result(None, NamedTrial(str(number)), result) == TrialScheduler.STOP)

    def _note_suggestion(self, suggestion: Suggestion) -> None:
        number = suggestion.number
        self._known[number] = suggestion
        self._numbers.setdefault(suggestion.trial_id, number)
        self._open.add(number)
        self._reported[number] = 0
        if self.scheduler is not None:
            self.scheduler.on_trial_add(None, NamedTrial(str(number)))

    def _note_end(self, event: EndEvent) -> None:
        number, failed = event.number, event.state == "failed" or event.score is None
        if self.scheduler is not None:
            trial = NamedTrial(str(number))
            if failed:
                self.scheduler.on_trial_error(None, trial)
            else:
                result = {"epoch": event.epoch, "score": event.score}
                self.scheduler.on_trial_complete(None, trial, result)
        self._open.discard(number)
        self._scores[number] = None if failed else event.score
        if self._searcher is not None:
            self._tell_searcher(number - number % self._folds)

    def _note_retry(self, number: int) -> None:
        """A trial that had failed is open again."""
        self._open.add(self._known[number].number)
        if self.scheduler is not None:
            self.scheduler.on_trial_add(None, NamedTrial(str(number)))

    def _tell_searcher(self, first: int) -> None:
        """Of a point whose last fold has ended: the mean, or that a fold failed."""
        assert self._searcher is not None
        mean = self._mean_score(first)
        if mean != "open":  # a point of an earlier space, or one that is tried again, is not awaited
            self._searcher.report_point(first, self._point_of(first), mean)

    def _make_searcher_anew(self, *, seed: int) -> AdaptiveSearcher:
        """A searcher that knows all points on record; with another seed, or its first draws would be those again."""
        firsts = [number for number in self._known if number % self._folds == 0]
        evaluated = [
            (point, mean)
            for first in firsts
            if (point := self._point_of(first)) is not None and (mean := self._mean_score(first)) != "open"
        ]
        return AdaptiveSearcher(self._space, seed=seed + len(firsts), evaluated=evaluated)

    def _point_of(self, number: int) -> dict[str, Any] | None:
        """A trial as a point of this space; None if it is none."""
        if number in self._earlier.known:
            return self._earlier.points.get(number)
        return self._known[number].point

    def _replay(self, num_earlier: int) -> None:
        """Feed the events to searcher and scheduler; what they leave open is to be continued.

        Args:
            num_earlier: Events of earlier spaces.
        """
        file, events = self._log.journal.file, self._log.events
        line = 0
        try:
            self._replay_earlier_spaces(events[:num_earlier], self._earlier)
            for line, event in enumerate(events[num_earlier:], start=num_earlier + 1):
                self._replay_event(event, f"{file}:{line}")
        except (KeyError, ValueError, OverflowError) as error:
            where = f"{file}:{line or f'1-{num_earlier}'}"
            what = f"the event does not follow from those before it: {error!r}"
            raise RecordError(where, what, "Start the search under another name") from error
        stops = {event.number: event for event in self._log.of_kind(ResultEvent) if event.stop}
        for number, stop in stops.items():
            if number in self._open:  # the driver died between the decision and its consequence
                self.end(number, "stopped", stop.epoch, stop.score)
        self._unfinished = [
            Suggestion(known.number, known.trial_id, known.point, num_reported=self._reported[number])
            for number, known in self._known.items()
            if number in self._open
        ]
        for known in self._unfinished:
            if (now := self._identify(known.point)) != known.trial_id:
                raise _not_reproduced(str(file), f"trial {known.trial_id}", f"trial {now}")

    def _replay_earlier_spaces(self, events: Sequence[Event], earlier: EarlierTrials) -> None:
        """Tell searcher and scheduler what the trials of earlier spaces came to."""
        scheduler = self.scheduler
        for event in events:
            if isinstance(event, ExtendEvent):
                continue
            self.scheduler = scheduler if earlier.matters(event.number) else None
            if isinstance(event, SuggestEvent):
                values = earlier.known[event.number].values
                self._note_suggestion(Suggestion(event.number, event.trial_id, values))
            elif isinstance(event, ResultEvent):
                self._ask_scheduler(event.number, event.epoch, event.score)
            else:
                self._note_outcome(event)
        self.scheduler = scheduler

    def _replay_event(self, event: Event, where: str) -> None:
        """Do again what was done; the answers must be the recorded ones."""
        if isinstance(event, SuggestEvent):
            if self._searcher is not None:
                self._verify_suggestion(self._searcher, event, where)
            self._note_suggestion(Suggestion(event.number, event.trial_id, event.point))
        elif isinstance(event, ResultEvent):
            stop = self._ask_scheduler(event.number, event.epoch, event.score)
            if stop != event.stop:
                raise self._stop_not_reproduced(event, where, stop)
        elif not isinstance(event, ExtendEvent):
            self._note_outcome(event)

    def _verify_suggestion(self, searcher: AdaptiveSearcher, event: SuggestEvent, where: str) -> None:
        """Ask for a point again; after the first that is another one, those on record need only be points."""
        is_new_point = event.number % self._folds == 0
        again = None if self._not_reproduced and is_new_point else self._next_fold(event.number, event.point)
        if again == event.point:
            return
        if not is_new_point or not searcher.allows(event.point):
            raise _not_reproduced(where, f"point {event.point}", f"{again}")
        self._not_reproduced = self._not_reproduced or f"{where}: {event.point} is on record here, not {again}"

    def _stop_not_reproduced(self, event: ResultEvent, where: str, stop: bool) -> RecordError:
        halving = self._space.early_terminate
        rungs = "no epoch" if halving is None else f"epochs {', '.join(map(str, halving.rungs))}"
        what = f"stop={event.stop} for trial {event.number} after epoch {event.epoch}"
        return RecordError(
            where,
            f"the search decided {what} here, but decides stop={stop} when replayed, with rungs at {rungs}",
            "Use the versions in search.json: earlier ones had other rungs for max_iter and for a fractional eta. "
            "Or start the search under another name",
        )

    def _note_outcome(self, event: EndEvent | RetryEvent) -> None:
        if isinstance(event, RetryEvent):
            self._note_retry(event.number)
        else:
            self._note_end(event)


def _not_reproduced(where: str, recorded: str, now: str) -> RecordError:
    what = f"the search decided {recorded} here, but decides {now} when replayed"
    return RecordError(where, what, "Use the versions in search.json, or start the search under another name")
