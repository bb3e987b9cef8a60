"""What a search decides: which point comes next, which trial is stopped. All of it is on record and can be replayed.

Ray Tune's own searchers and schedulers decide. Each decision and each result that led to it is one line of the journal.
A resumed search feeds the lines to a fresh searcher and scheduler in the recorded order, without Tune or training: they
then know what they knew, and their answers must be the recorded ones.

With folds, a point is as many trials, numbered one after the other; the searcher hears of their mean when the last has
ended.

Where the search has grown, the journal has a line `extend`. Searcher and scheduler are then made anew for the new space
and told what the trials before that line came to, as far as they are points of the new space; what they answer to that
is of no interest. A line `retry` opens a trial again that had failed.

Begin at `Decisions`. Trials are known by number here, the order in which the search asked for them.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from ferray.errors import RecordError
from ferray.files.journal import Journal
from ferray.records.trial import State
from ferray.search.history.points import (
    Identify,
    Known,
    Suggestion,
    draw,
    inside,
    known_trials,
    last_extension,
    next_new,
)
from ferray.space import Space

MOST_SCORE = 1e100
"""Beyond any loss that training goes on from."""


class Decisions:
    """Searcher, scheduler and journal of one search.

    Args:
        space: What is searched, now.
        journal: Empty, or of an earlier run of this search.
        identify: The trial id of a point.
        seed: Of the random draws and of Optuna's sampler.
        max_trials: Points of the space in all; None for its own limit.
        folds: Trials of a point; above 1 each gets a setting `fold`, and nothing is stopped early.
    """

    def __init__(
        self,
        space: Space,
        journal: Journal,
        *,
        identify: Identify,
        seed: int,
        max_trials: int | None,
        folds: int = 1,
    ) -> None:
        self._space = space
        self._journal = journal
        self._folds = folds
        self._identify = identify
        self._seed = seed
        self._known: dict[int, Suggestion] = {}
        self._seen: set[str] = set()  # the trial ids of the known ones
        self._open: set[int] = set()
        self._heard: dict[int, int] = {}  # number -> epochs
        self._scores: dict[int, float | None] = {}  # of trials that have ended; None for one that failed
        self._asked: set[int] = set()  # first trials of points that the searcher waits for
        self._ours: dict[int, dict[str, Any]] = {}  # trials of earlier spaces -> as points of this one
        self._unfinished: list[Suggestion] = []
        self._peeked: dict[str, Any] | None = None
        num_points = max_trials if max_trials is not None else space.run_cap
        self._limit = None if num_points is None else num_points * folds
        self.num_outside = 0
        """Trials that this space did not ask for: those of earlier ones."""
        self._parameters = {parameter.name: parameter for parameter in space.parameters}
        self._draws = draw(space, seed=seed) if space.method != "bayes" else iter(())
        self.scheduler = _make_scheduler(space)
        self._searcher: Searcher | None = None
        self._replay()

    @property
    def num_ended(self) -> int:
        """Trials that have ended, in this run of the search or an earlier one."""
        return len(self._known) - len(self._open)

    def more(self) -> bool:
        """Whether there is anything left to train."""
        if self._unfinished or self._open or len(self._known) % self._folds:
            return True
        if self._is_full():
            return False
        if self._searcher is not None:
            return True
        self._peeked = self._next_point(len(self._known))
        return self._peeked is not None

    def suggest(self) -> Suggestion | Literal["none left"]:
        """The next point: first those that an earlier run began and did not finish."""
        if self._unfinished:
            return self._unfinished.pop(0)
        number = len(self._known)
        if number % self._folds == 0 and self._is_full():
            return "none left"
        point = self._next_fold(number)
        if point is None:
            return "none left"
        suggestion = Suggestion(number, self._identify(point), point)
        self._journal.append(
            {"event": "suggest", "number": number, "trial_id": suggestion.trial_id, "point": suggestion.point},
            durable=self._searcher is not None,  # a draw that a power failure takes is drawn again, a learner's is not
        )
        self._note_suggestion(suggestion)
        return suggestion

    def hear(self, number: int, epoch: int, score: float) -> bool:
        """Tell the scheduler of an epoch; True if the trial is to stop.

        Args:
            number: Which trial.
            epoch: Counted from 1.
            score: The best monitored metric so far.
        """
        if self.scheduler is None or epoch <= self._heard[number]:  # trained again, since its record was lost
            return False
        stop = self._ask_scheduler(number, epoch, score)
        self._journal.append({"event": "result", "number": number, "epoch": epoch, "score": score, "stop": stop})
        return stop

    def end(self, number: int, state: State, epoch: int, score: float | None) -> None:
        """Tell searcher and scheduler that a trial has ended.

        Args:
            number: Which trial.
            state: `done`, `stopped` or `failed`.
            epoch: Its last.
            score: Its best; None if it has none.
        """
        self._journal.append(
            {
                "event": "end",
                "number": number,
                "trial_id": self._known[number].trial_id,
                "state": state,
                "epoch": epoch,
                "score": score,
            }
        )
        self._note_end(number, state, epoch, score)

    def _is_full(self) -> bool:
        """Whether the space has as many points as it may have; those of earlier spaces that it shares count."""
        return self._limit is not None and len(self._known) - self.num_outside >= self._limit

    def _next_fold(self, number: int) -> dict[str, Any] | None:
        """The next trial's point: another fold of the last one, or the next one's first."""
        fold = number % self._folds
        if fold:
            return {**self._known[number - fold].point, "fold": fold}
        point, self._peeked = self._peeked or self._next_point(number), None
        return point if point is None or self._folds == 1 else {**point, "fold": 0}

    def _next_point(self, number: int) -> dict[str, Any] | None:
        if self._searcher is None:
            return next_new(self._draws, self._seen, self._identify)
        answer = self._searcher.suggest(str(number))
        if answer is None or answer == Searcher.FINISHED:
            return None
        self._asked.add(number)
        return {name: self._parameters[name].settle(value) for name, value in answer.items()}

    def _ask_scheduler(self, number: int, epoch: int, score: float) -> bool:
        self._heard[number] = epoch
        if self.scheduler is None:  # it has nothing to do with a trial of an earlier space
            return False
        result = {"epoch": epoch, "score": score}
        return bool(self.scheduler.on_trial_result(None, _Name(str(number)), result) == TrialScheduler.STOP)

    def _note_suggestion(self, suggestion: Suggestion) -> None:
        number = suggestion.number
        self._known[number] = suggestion
        self._seen.add(suggestion.trial_id)
        self._open.add(number)
        self._heard[number] = 0
        if self.scheduler is not None:
            self.scheduler.on_trial_add(None, _Name(str(number)))

    def _note_end(self, number: int, state: State, epoch: int, score: float | None) -> None:
        failed = state == "failed" or score is None
        if self.scheduler is not None:
            if failed:
                self.scheduler.on_trial_error(None, _Name(str(number)))
            else:
                self.scheduler.on_trial_complete(None, _Name(str(number)), {"epoch": epoch, "score": score})
        self._open.discard(number)
        self._scores[number] = None if failed else score
        if self._searcher is not None:
            self._tell_searcher(number - number % self._folds)

    def _note_retry(self, number: int) -> None:
        """A trial that had failed is open again."""
        self._open.add(self._known[number].number)
        if self.scheduler is not None:
            self.scheduler.on_trial_add(None, _Name(str(number)))

    def _tell_searcher(self, first: int) -> None:
        """Of a point whose last fold has ended: the mean, or that one failed."""
        assert self._searcher is not None
        numbers = range(first, first + self._folds)
        if any(number not in self._scores or number in self._open for number in numbers):
            return
        scores = [score for number in numbers if (score := self._scores[number]) is not None]
        mean = statistics.fmean(scores) if len(scores) == self._folds else None
        if first in self._asked:
            self._asked.remove(first)
            result = None if mean is None else {"score": mean}
            self._searcher.on_trial_complete(str(first), result, error=mean is None)
        elif mean is not None:  # of an earlier space, or tried again
            point = self._ours.get(first) or (self._known[first].point if first >= self._first_number else None)
            if point is not None:
                searched = {name: point[name] for name in self._space.searched}
                self._searcher.add_evaluated_point(searched, mean)

    def _replay(self) -> None:
        """Feed the journal to searcher and scheduler; what is left open is to be gone on with."""
        self._journal.repair()
        events = self._journal.read()
        num_earlier = last_extension(events)
        stopped: dict[int, tuple[int, float]] = {}
        line = 0
        try:
            self._learn(events[:num_earlier], stopped)
            for line, event in enumerate(events[num_earlier:], start=num_earlier + 1):
                self._replay_event(event, stopped, f"{self._journal.file}:{line}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            where = f"{self._journal.file}:{line or f'1-{num_earlier}'}"
            raise RecordError(where, f"not an event: {error!r}", "Start the search under another name") from error
        for number, (epoch, score) in stopped.items():
            if number in self._open:  # the crash came between the decision and its consequence
                self.end(number, "stopped", epoch, score)
        self._unfinished = [
            Suggestion(known.number, known.trial_id, known.point, after=self._heard[number])
            for number, known in self._known.items()
            if number in self._open
        ]
        for known in self._unfinished:
            if self._identify(known.point) != known.trial_id:
                raise _not_reproduced(str(self._journal.file), f"trial {known.trial_id}", self._identify(known.point))

    def _learn(self, events: Sequence[dict[str, Any]], stopped: dict[int, tuple[int, float]]) -> None:
        """Make the searcher, and tell it and the scheduler what the trials of earlier spaces came to."""
        known = known_trials(events, self._space, seed=self._seed)
        points = {number: inside(self._space, one, self._identify) for number, one in known.items()}
        self._ours = {number: point for number, point in points.items() if point is not None}
        num_shared = len({known[number].trial_id for number in self._ours if number % self._folds == 0})
        self._first_number = len(known)
        self.num_outside = -(-len(known) // self._folds) * self._folds - num_shared * self._folds
        # One that knows points draws other ones; with the same seed it would begin with those it knows.
        self._searcher = _make_searcher(self._space, self._seed + num_shared)
        still_open: set[int] = set()
        for event in events:
            if event["event"] in ("suggest", "retry"):
                still_open.add(int(event["number"]))
            elif event["event"] == "end":
                still_open.discard(int(event["number"]))
        scheduler = self.scheduler
        for event in events:
            if event["event"] != "extend":
                number = int(event["number"])
                self.scheduler = scheduler if number in self._ours or number in still_open else None
                self._replay_event(event, stopped, "", known)
        self.scheduler = scheduler

    def _replay_event(
        self,
        event: dict[str, Any],
        stopped: dict[int, tuple[int, float]],
        where: str,
        earlier: Mapping[int, Known] | None = None,
    ) -> None:
        """Do what was done; the answers must be the recorded ones, unless it was for a trial of an earlier space."""
        number = int(event["number"])
        if event["event"] == "suggest":
            point = dict(event["point"]) if earlier is None else earlier[number].values
            if earlier is None and self._searcher is not None:
                again = self._next_fold(number)
                if again != point:
                    raise _not_reproduced(where, f"point {point}", f"{again}")
            self._note_suggestion(Suggestion(number, str(event["trial_id"]), point))
        elif event["event"] == "result":
            stop = self._ask_scheduler(number, int(event["epoch"]), _to_score(event["score"]))
            if earlier is None and stop != event["stop"]:
                raise _not_reproduced(where, f"stop={event['stop']}", f"stop={stop}")
            if event["stop"]:
                stopped[number] = (int(event["epoch"]), _to_score(event["score"]))
        elif event["event"] == "retry":
            self._note_retry(number)
        else:
            score = event["score"]
            self._note_end(number, event["state"], int(event["epoch"]), None if score is None else _to_score(score))


def _to_score(value: Any) -> float:
    """A score of a journal, which anybody may have written: one that training could have come to."""
    score = float(value)
    if not abs(score) < MOST_SCORE:
        raise ValueError(f"{score} is no score")
    return score


@dataclass(frozen=True)
class _Name:
    """All that asynchronous halving wants of a Tune trial."""

    trial_id: str


def _make_scheduler(space: Space) -> AsyncHyperBandScheduler | None:
    """W&B's hyperband as Tune's asynchronous successive halving with one bracket."""
    halving = space.early_terminate
    if halving is None:
        return None
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max" if space.metric.goal == "maximize" else "min",
        grace_period=halving.min_iter,
        max_t=halving.max_iter,
        reduction_factor=halving.eta,
        brackets=1,
    )


def _make_searcher(space: Space, seed: int) -> Searcher | None:
    """Optuna's TPE for `bayes`; None where the points are known in advance."""
    if space.method != "bayes":
        return None
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mode = "max" if space.metric.goal == "maximize" else "min"
    return OptunaSearch(space=_distributions(space), metric="score", mode=mode, seed=seed)


def _distributions(space: Space) -> dict[str, Any]:
    """The searched parameters as Optuna's distributions; steps on a logarithmic range are taken afterwards."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, BaseDistribution] = {}
    for parameter in space.parameters:
        low, high, log_scale = parameter.low, parameter.high, parameter.log
        if not parameter.searched:
            continue
        if parameter.kind in ("value", "values"):
            made[parameter.name] = CategoricalDistribution(parameter.values)
        elif parameter.kind == "int":
            assert isinstance(low, int)
            assert isinstance(high, int)
            step = 1 if log_scale or parameter.step is None else int(parameter.step)
            made[parameter.name] = IntDistribution(low, high, log=log_scale, step=step)
        else:
            assert low is not None
            assert high is not None
            step_f = None if log_scale or parameter.step is None else float(parameter.step)
            made[parameter.name] = FloatDistribution(float(low), float(high), log=log_scale, step=step_f)
    return made


def _not_reproduced(where: str, recorded: str, now: str) -> RecordError:
    return RecordError(
        where,
        f"the search decided {recorded} here, but decides {now} when replayed",
        "Use the versions in search.json, or start the search under another name",
    )
