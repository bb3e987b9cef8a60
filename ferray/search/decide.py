"""What a search decides: which point comes next, which trial is stopped. All of it is on record and can be replayed.

Ray Tune's own searchers and schedulers decide. Each decision and each result that led to it is one line of the journal.
A resumed search feeds the lines to a fresh searcher and scheduler in the recorded order, without Tune or training: they
then know what they knew, and their answers must be the recorded ones.

With folds, a point is as many trials, numbered one after the other; the searcher hears of their mean when the last has
ended.

Begin at `Decisions`. Trials are known by number here, the order in which the search asked for them.
"""

import logging
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from ferray import space as spaces
from ferray.errors import RecordError
from ferray.journal import Journal
from ferray.records import State
from ferray.space import Space

log = logging.getLogger(__name__)

MAX_REPEATS = 1000
"""Draws in a row that repeat an earlier point, after which a random space counts as exhausted."""


@dataclass(frozen=True)
class Suggestion:
    """A point that was asked for."""

    number: int
    trial_id: str
    point: dict[str, Any]
    after: int = 0
    """Epochs that searcher and scheduler have already heard of."""


class Decisions:
    """Searcher, scheduler and journal of one search.

    Args:
        space: What is searched.
        journal: Empty, or of an earlier run of this search.
        identify: The trial id of a point.
        seed: Of the random draws and of Optuna's sampler.
        max_trials: Points in all; None for the space's own limit.
        folds: Trials of a point; above 1 each gets a setting `fold`, and nothing is stopped early.
    """

    def __init__(
        self,
        space: Space,
        journal: Journal,
        *,
        identify: Callable[[dict[str, Any]], str],
        seed: int,
        max_trials: int | None,
        folds: int = 1,
    ) -> None:
        self._journal = journal
        self._folds = folds
        self._identify = identify
        self._known: dict[int, Suggestion] = {}
        self._seen: set[str] = set()  # the trial ids of the known ones
        self._open: dict[int, int] = {}  # number -> epochs heard of
        self._unfinished: list[Suggestion] = []
        self._peeked: dict[str, Any] | None = None
        num_points = max_trials if max_trials is not None else space.run_cap
        self._limit = None if num_points is None else num_points * folds
        self._fold_scores: dict[int, list[float | None]] = {}  # number of a point's first trial -> of those that ended
        self._parameters = {parameter.name: parameter for parameter in space.parameters}
        self._searcher = _make_searcher(space, seed)
        self._draws = spaces.points(space, seed=seed) if self._searcher is None else iter(())
        self.scheduler = _make_scheduler(space)
        self._replay()

    @property
    def num_ended(self) -> int:
        """Trials that have ended, in this run of the search or an earlier one."""
        return len(self._known) - len(self._open)

    def more(self) -> bool:
        """Whether there is anything left to train."""
        if self._unfinished or self._open or len(self._known) % self._folds:
            return True
        if self._limit is not None and len(self._known) >= self._limit:
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
        if self._limit is not None and number >= self._limit:
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
        if self.scheduler is None:
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

    def _next_fold(self, number: int) -> dict[str, Any] | None:
        """The next trial's point: another fold of the last one, or the next one's first."""
        fold = number % self._folds
        if fold:
            return {**self._known[number - fold].point, "fold": fold}
        point, self._peeked = self._peeked or self._next_point(number), None
        return point if point is None or self._folds == 1 else {**point, "fold": 0}

    def _next_point(self, number: int) -> dict[str, Any] | None:
        if self._searcher is not None:
            answer = self._searcher.suggest(str(number))
            if answer is None or answer == Searcher.FINISHED:
                return None
            return {name: self._parameters[name].settle(value) for name, value in answer.items()}
        for repeats, point in enumerate(self._draws):
            if self._identify(point) not in self._seen:
                return point
            if repeats > MAX_REPEATS + len(self._seen):
                log.warning("no new point in %d draws: the space is exhausted", repeats)
                return None
        return None

    def _ask_scheduler(self, number: int, epoch: int, score: float) -> bool:
        assert self.scheduler is not None
        result = {"epoch": epoch, "score": score}
        answer = self.scheduler.on_trial_result(None, _Name(str(number)), result)
        self._open[number] = epoch
        return bool(answer == TrialScheduler.STOP)

    def _note_suggestion(self, suggestion: Suggestion) -> None:
        self._known[suggestion.number] = suggestion
        self._seen.add(suggestion.trial_id)
        self._open[suggestion.number] = 0
        if self.scheduler is not None:
            self.scheduler.on_trial_add(None, _Name(str(suggestion.number)))

    def _note_end(self, number: int, state: State, epoch: int, score: float | None) -> None:
        failed = state == "failed" or score is None
        if self.scheduler is not None:
            if failed:
                self.scheduler.on_trial_error(None, _Name(str(number)))
            else:
                self.scheduler.on_trial_complete(None, _Name(str(number)), {"epoch": epoch, "score": score})
        if self._searcher is not None:
            self._tell_searcher(number, None if failed else score)
        self._open.pop(number, None)

    def _tell_searcher(self, number: int, score: float | None) -> None:
        """Of a point whose last fold has ended: the mean, or that one failed."""
        first = number - number % self._folds
        scores = self._fold_scores.setdefault(first, [])
        scores.append(score)
        if len(scores) < self._folds:
            return
        ended = [one for one in self._fold_scores.pop(first) if one is not None]
        failed = len(ended) < self._folds
        result = None if failed else {"score": statistics.fmean(ended)}
        assert self._searcher is not None
        self._searcher.on_trial_complete(str(first), result, error=failed)

    def _replay(self) -> None:
        """Feed the journal to searcher and scheduler; what is left open is to be gone on with."""
        self._journal.repair()
        stopped: dict[int, tuple[int, float]] = {}
        for line, event in enumerate(self._journal.read(), start=1):
            where = f"{self._journal.file}:{line}"
            try:
                self._replay_event(event, stopped, where)
            except (KeyError, TypeError, ValueError) as error:
                raise RecordError(where, f"not an event: {error!r}", "Start the search under another name") from error
        for number, (epoch, score) in stopped.items():
            if number in self._open:  # the crash came between the decision and its consequence
                self.end(number, "stopped", epoch, score)
        self._unfinished = [
            Suggestion(known.number, known.trial_id, known.point, after=self._open[number])
            for number, known in self._known.items()
            if number in self._open
        ]

    def _replay_event(self, event: dict[str, Any], stopped: dict[int, tuple[int, float]], where: str) -> None:
        number = int(event["number"])
        if event["event"] == "suggest":
            if self._searcher is not None:
                point = self._next_fold(number)
                if point != event["point"]:
                    raise _not_reproduced(where, f"point {event['point']}", f"{point}")
            self._note_suggestion(Suggestion(number, str(event["trial_id"]), dict(event["point"])))
        elif event["event"] == "result":
            stop = self._ask_scheduler(number, int(event["epoch"]), float(event["score"]))
            if stop != event["stop"]:
                raise _not_reproduced(where, f"stop={event['stop']}", f"stop={stop}")
            if stop:
                stopped[number] = (int(event["epoch"]), float(event["score"]))
        else:
            score = event["score"]
            self._note_end(number, event["state"], int(event["epoch"]), None if score is None else float(score))


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
