"""A searcher that learns: it suggests points, and learns from what they came to.

This is Optuna's TPE through Ray Tune's searcher, which knows points by names. Here a point is known by the number of
its first trial. What it came to is a score, the mean over its folds, or None where a trial failed.

Of a trial that was stopped early TPE learns the score that it had, as if it had been trained to its end;
`docs/decisions/0045-a-stopped-trial-counts-by-its-score.md` has what else was measured. Begin at `AdaptiveSearcher`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.search import Searcher

from ferray.search.tune.searchers import distributions_of, make_searcher
from ferray.space import Space


class AdaptiveSearcher:
    """Suggests points, in an order that depends on the seed, on what was reported to it, and on when.

    Args:
        space: An adaptive one.
        seed: Of the sampler.
        evaluated: Points that it knows from the start, with their scores.
    """

    def __init__(
        self, space: Space, *, seed: int, evaluated: Iterable[tuple[Mapping[str, Any], float | None]] = ()
    ) -> None:
        searcher = make_searcher(space, seed=seed)
        assert searcher is not None, "an adaptive space"
        self._searcher = searcher
        self._space = space
        self._parameters = {parameter.name: parameter for parameter in space.parameters}
        self._awaited: dict[int, str] = {}  # Tune's name of a point that was suggested and not reported yet
        for point, score in evaluated:
            self._add_evaluated(point, score)

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

    def report(self, name: str, score: float | None) -> None:
        """What a suggestion came to."""
        self._searcher.on_trial_complete(name, None if score is None else {"score": score}, error=score is None)

    def report_point(self, number: int, point: Mapping[str, Any] | None, score: float | None) -> None:
        """What the point of a number came to; one that is not awaited is added as an evaluated point.

        Args:
            number: Of its first trial.
            point: As one of this space; None if it is none, as some of an earlier space.
            score: What it came to.
        """
        if number in self._awaited:
            self.report(self._awaited.pop(number), score)
        elif point is not None:
            self._add_evaluated(point, score)

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Whether a point is one that the searcher could suggest."""
        from optuna.trial import create_trial

        distributions = distributions_of(self._space)
        try:
            create_trial(value=0.0, params={name: point[name] for name in distributions}, distributions=distributions)
        except (KeyError, ValueError, TypeError):
            return False
        return True

    def _add_evaluated(self, point: Mapping[str, Any], score: float | None) -> None:
        if score is not None:
            self._searcher.add_evaluated_point({name: point[name] for name in self._space.searched}, score)
