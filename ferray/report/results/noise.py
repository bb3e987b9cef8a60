"""How far chance alone moves the winner's score, and the settings that change nothing beyond it.

Begin at `find_noise`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ferray.metrics.intervals import Interval, normal_interval
from ferray.records.points import Point
from ferray.report.results.read import SearchResults
from ferray.report.results.scales import Scale


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The 95 % interval of the winner's score, by the choice of the validation pictures."""

    interval: Interval
    is_rough: bool
    """Whether it is a binomial one, from the number of pictures alone."""
    maximize: bool

    def covers(self, score: float) -> bool:
        """Whether chance may explain that a score is worse than the winner's."""
        low, high = self.interval
        return score >= low if self.maximize else score <= high


def find_noise(results: SearchResults) -> Noise | None:
    """The interval on record; for an accuracy without one, a binomial one; None where nothing is known.

    A point of several trials has the mean of several scores. Folds validate with all pictures of two splits.
    """
    interval = None if results.verdict is None else results.verdict.interval
    if interval is not None:
        return Noise(interval=interval, is_rough=False, maximize=results.maximize)
    if results.metric != "val_accuracy" or results.manifest is None or not results.points:
        return None
    sizes = results.manifest.split_sizes
    num = sizes["validation"] + (sizes["train"] if results.space.folds > 1 else 0)
    share = results.points[0].mean
    if not num or not 0 <= share <= 1:
        return None
    error = math.sqrt(max(share * (1 - share), 1 / num) / num)
    low, high = normal_interval(share, error)
    return Noise(interval=(max(0.0, low), min(1.0, high)), is_rough=True, maximize=True)


def indifferent_settings(points: Sequence[Point], scales: Sequence[Scale], noise: Noise) -> list[Scale]:
    """The settings of which every class has a point that chance may explain to be below the winner.

    Args:
        points: Best first.
        scales: Of these points.
        noise: Of the winner.
    """
    return [
        scale
        for scale in scales
        if all(
            any(noise.covers(point.mean) for point, place in zip(points, scale.places, strict=True) if place == one)
            for one in set(scale.places)
        )
    ]
