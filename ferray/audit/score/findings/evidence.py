"""What is known about a score that is audited. Begin at `ScoreEvidence`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ferray.audit.finding import Finding
from ferray.audit.score.claims import Claim, Published
from ferray.metrics.predictions import PredictionTable
from ferray.metrics.scores import Scores

MIN_CLASS_FACES = 10
"""Classes with fewer faces are not judged."""

_MAX_SPREAD = 0.02
"""Spread of class sizes, as a share of their mean, up to which the classes count as equal in size."""


@dataclass(frozen=True, kw_only=True)
class ScoreEvidence:
    """All that is known about a score."""

    table: PredictionTable | None
    """Every row; None where only claims are known."""
    tested: PredictionTable | None
    """The rows that are scored."""
    scores: Scores | None
    """Scores of `tested`."""
    by_split: Mapping[str, Scores]
    """Scores of every split that the table names."""
    claims: tuple[Claim, ...]
    published: tuple[Published, ...]
    """Published accuracies to compare the claims with."""
    source_counts: tuple[int, ...] | None
    """Faces of each class in the data set that the table's faces were taken from, in the table's order of classes."""
    ceiling: float | None
    """The best accuracy that the noise of the labels allows."""
    test_read_for: tuple[str | None, ...]
    """Trial ids of the models that the test split was read for; None for an unknown one."""


ScoreCheck = Callable[[ScoreEvidence], Iterator[Finding]]
"""Yields findings whose text can be understood without knowing this program."""


def have_equal_classes(scores: Scores) -> bool:
    """Whether all classes have about the same number of faces, and enough of them to be judged."""
    counts = scores.class_counts
    return bool(counts.min() >= MIN_CLASS_FACES and np.ptp(counts) <= max(1, _MAX_SPREAD * counts.mean()))
