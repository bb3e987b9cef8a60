"""What is known of a score that is to be doubted. Begin at `Case`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferray.audit.finding import Finding
from ferray.audit.score.claims import Claim, Published
from ferray.metrics.predictions import Predictions
from ferray.metrics.scores import Scores

FEW = 10
"""Faces of a class below which nothing is said of it."""

_EQUAL = 0.02
"""Spread of class sizes, as a share of their mean, that counts as equal."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that is known of a score."""

    table: Predictions | None
    """Every row; None where only claims are known."""
    tested: Predictions | None
    """The rows that are scored."""
    scores: Scores | None
    """Of them."""
    by_split: Mapping[str, Scores]
    claims: tuple[Claim, ...]
    published: tuple[Published, ...]
    source_counts: tuple[int, ...] | None
    """Faces of each class in the source, in the table's order of classes."""
    ceiling: float | None
    readings: tuple[Mapping[str, Any], ...]


Doubt = Callable[[Case], Iterator[Finding]]
"""Yields what it finds, in words that need no knowledge of this program."""


def have_equal_classes(scores: Scores) -> bool:
    """Whether all classes have as many faces, more than a few."""
    supports = scores.confusion.sum(axis=1)
    return bool(supports.min() >= FEW and np.ptp(supports) <= max(1, _EQUAL * supports.mean()))
