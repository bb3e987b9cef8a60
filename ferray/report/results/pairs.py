"""What two settings together do to the score: a table of cells for every pair of searched settings.

Begin at `make_pairs`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ferray.records.points import Point
from ferray.report.results.early import is_cut
from ferray.report.results.noise import Noise
from ferray.report.results.scales import Scale


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The points that have one class of each of two settings."""

    best: float
    """Best score of a point."""
    mean: float
    """Of the points' scores."""
    num: int
    """Number of points."""
    has_winner: bool
    is_near: bool
    """Whether chance may explain that its best point is below the winner."""
    is_cut: bool
    """Whether its best point was stopped early or has not ended."""
    num_cut: int
    """Points of it that were."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A table of cells for two settings."""

    across: Scale
    down: Scale
    rows: tuple[tuple[Cell | None, ...], ...]
    """Cells by class of `down`, then of `across`; None where no point lies."""


def make_pairs(points: Sequence[Point], scales: Sequence[Scale], noise: Noise | None) -> list[Pair]:
    """A table for every pair of scales, in their order.

    Args:
        points: Best first.
        scales: Of these points.
        noise: How far below the winner chance reaches; None where that is not known.
    """
    return [_make_pair(points, *two, noise) for two in itertools.combinations(scales, 2)]


def _make_pair(points: Sequence[Point], down: Scale, across: Scale, noise: Noise | None) -> Pair:
    if len(across.texts) < len(down.texts):
        down, across = across, down
    cut = [is_cut(point) for point in points]
    members: dict[tuple[int, int], list[int]] = {}
    for place, key in enumerate(zip(down.places, across.places, strict=True)):
        members.setdefault(key, []).append(place)

    def cell(row: int, column: int) -> Cell | None:
        inside = members.get((row, column))
        if inside is None:
            return None
        scores = [points[place].mean for place in inside]
        # The points are ranked, and one with fewer seeds than wanted stands behind all others whatever its mean.
        return Cell(
            best=scores[0],
            mean=sum(scores) / len(scores),
            num=len(scores),
            has_winner=inside[0] == 0,
            is_near=noise is not None and noise.covers(scores[0]),
            is_cut=cut[inside[0]],
            num_cut=sum(cut[place] for place in inside),
        )

    rows = tuple(tuple(cell(row, column) for column in range(len(across.texts))) for row in range(len(down.texts)))
    return Pair(across=across, down=down, rows=rows)
