"""A searcher that learns: it suggests points, and learns from what they came to.

This is Optuna's TPE through Ray Tune's searcher, which knows points by names. Here a point is known by the number of
its first trial, and what it came to is an `PointResult`. Begin at `AdaptiveSearcher`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import Searcher

from ferray.search.tune.searchers import distributions_of, make_searcher
from ferray.space import Space


@dataclass(frozen=True)
class PointResult:
    """What a point came to."""

    score: float | None
    """The mean over its folds; None if a trial failed."""
    stopped_after: int | None = None
    """The epoch after which the scheduler ended its trial; None where it was trained to its end."""


class AdaptiveSearcher:
    """Suggests points, in an order that depends on the seed, on what was reported to it, and on when.

    Args:
        space: An adaptive one.
        seed: Of the sampler.
        evaluated: Points that it knows from the start, with their results.
    """

    def __init__(
        self, space: Space, *, seed: int, evaluated: Iterable[tuple[Mapping[str, Any], PointResult]] = ()
    ) -> None:
        searcher = make_searcher(space, seed=seed)
        assert searcher is not None, "an adaptive space"
        self._searcher = searcher
        self._space = space
        self._parameters = {parameter.name: parameter for parameter in space.parameters}
        self._awaited: dict[int, str] = {}  # Tune's name of a point that was suggested and not reported yet
        for point, result in evaluated:
            self._add_evaluated(point, result)

    def suggest(self, name: str) -> dict[str, Any] | None:
        """Another point; None if the searcher has none. `expect` or `report` must follow.

        Args:
            name: Not given before.
        """
        answer = self._searcher.suggest(name)
        if answer is None or answer == Searcher.FINISHED:
            return None
        return {key: self._parameters[key].settle(value) for key, value in answer.items()}

    def expect(self, name: str, number: int) -> None:
        """What was suggested under a name is tried, as the point of a number."""
        self._awaited[number] = name

    def report(self, name: str, result: PointResult) -> None:
        """What a suggestion came to.

        A trial that was stopped early is reported as one: TPE ranks such trials below all complete ones, those that
        came further above others, and by their scores only among those that were stopped after the same epoch.
        """
        score = result.score
        if score is None:
            self._searcher.on_trial_complete(name, None, error=True)
        elif result.stopped_after is None:
            self._searcher.on_trial_complete(name, {"score": score})
        else:
            self._searcher.on_trial_result(name, {"score": score, TRAINING_ITERATION: result.stopped_after})
            self._searcher.on_trial_complete(name, None)

    def report_point(self, number: int, point: Mapping[str, Any] | None, result: PointResult) -> None:
        """What the point of a number came to; one that is not awaited is added as an evaluated point.

        Args:
            number: Of its first trial.
            point: As one of this space; None if it is none, as some of an earlier space.
            result: What it came to.
        """
        if number in self._awaited:
            self.report(self._awaited.pop(number), result)
        elif point is not None:
            self._add_evaluated(point, result)

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Whether a point is one that the searcher could suggest."""
        from optuna.trial import create_trial

        distributions = distributions_of(self._space)
        try:
            create_trial(value=0.0, params={name: point[name] for name in distributions}, distributions=distributions)
        except (KeyError, ValueError, TypeError):
            return False
        return True

    def _add_evaluated(self, point: Mapping[str, Any], result: PointResult) -> None:
        if result.score is None:
            return
        values = {name: point[name] for name in self._space.searched}
        if result.stopped_after is None:
            self._searcher.add_evaluated_point(values, result.score)
            return
        # Tune numbers the list from 0, and TPE reads the last one: it must have the number of the epoch.
        scores = [result.score] * (result.stopped_after + 1)
        self._searcher.add_evaluated_point(values, result.score, pruned=True, intermediate_values=scores)
