"""The noise ceiling: how often copies of one face carry one label, and what that leaves for the best classifier.

Whoever labeled a photograph twice without knowing it was asked the same question twice. If p is the distribution of the
labels that a face would get, two copies agree with probability sum(p^2), and the best answer is right with probability
max(p), which lies between sum(p^2) and its root. Averaged over faces, by Jensen's inequality, with a the agreement of
two copies:

    a  <=  best possible accuracy  <=  sqrt(a)

Begin at `measure_ceiling`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000
"""Of the groups, for the intervals."""
FEW_GROUPS = 30
"""Below it the intervals are rough."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval, of a bootstrap over groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the labels of copies agree on; each group weighs the same, as each photograph is one question."""

    num_groups: int
    """Groups of two faces or more."""
    num_faces: int
    """In those groups."""
    conflicts: Estimate
    """Share of the groups whose labels disagree."""
    agreement: Estimate
    """a: the probability that two copies of a face carry one label."""
    upper_bound: Estimate
    """sqrt(a): no classifier is expected above it; the best possible lies between a and this."""
    best_constant: Estimate
    """Accuracy of the commonest label of each group: optimistic, since each group chose its own answer."""
    kappa: Estimate | None
    """Cohen's kappa of two copies: their agreement beyond chance. None where all faces have one label."""

    def __str__(self) -> str:
        lines = [
            f"{self.num_groups:,} faces appear more than once, in {self.num_faces:,} copies [95 % intervals]",
            f"  copies that disagree on the label  {self.conflicts} of the groups",
            f"  two copies agree (a)               {self.agreement}",
            f"  no classifier is expected above    {self.upper_bound}, the root of a, nor the best below a",
            f"  commonest label of each group      {self.best_constant}, optimistic for groups of two",
            f"  agreement beyond chance (kappa)    {self.kappa or 'undefined: one label only'}",
            "  It holds for faces like those that were copied, and only if no class was cut short in",
            "  the list: of a cut class the agreeing copies are missing, and agreement looks too low.",
        ]
        if self.num_groups < FEW_GROUPS:
            lines.append(f"  Only {self.num_groups} groups: read it as a hint, not as a figure.")
        return "\n".join(lines)


def measure_ceiling(groups: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int = 0) -> Ceiling | None:
    """Measure the noise ceiling on copies.

    Args:
        groups: Which faces are the same face in other files, shape (faces,); any numbers.
        labels: Classes from 0, shape (faces,).
        seed: Of the bootstrap.

    Returns:
        None where no face has a copy.

    Sources: Cohen, "A coefficient of agreement for nominal scales", 1960, over all ordered pairs of copies, each group
    weighing the same; Efron, "Bootstrap methods", 1979, percentile intervals.
    """
    counts = _count_labels(groups, labels)
    if not len(counts):
        return None
    size = counts.sum(axis=1)
    shares = counts / size[:, None]
    agreement = (counts * (counts - 1)).sum(axis=1) / (size * (size - 1))
    each = np.column_stack([agreement < 1, agreement, shares.max(axis=1), shares])
    drawn = _resample(each, np.random.default_rng(seed))
    whole = each.mean(axis=0, keepdims=True)

    def estimate(figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
        low, high = np.nanquantile(figure(drawn), [0.025, 0.975])
        return Estimate(float(figure(whole)[0]), float(low), float(high))

    one_label = bool((shares > 0).any(axis=0).sum() == 1)
    return Ceiling(
        num_groups=len(counts),
        num_faces=int(size.sum()),
        conflicts=estimate(lambda means: means[:, 0]),
        agreement=estimate(lambda means: means[:, 1]),
        upper_bound=estimate(lambda means: np.sqrt(means[:, 1])),
        best_constant=estimate(lambda means: means[:, 2]),
        kappa=None if one_label else estimate(_kappa),
    )


def _count_labels(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Faces by group and label, shape (groups of two or more, classes)."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    counts = np.zeros((len(size), int(labels.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(counts, (group, labels), 1)
    return counts[size > 1]


def _resample(each: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Means over groups drawn with replacement, shape (resamples, figures); groups alike in all are drawn as one."""
    kinds, num_each = np.unique(each, axis=0, return_counts=True)
    drawn = generator.multinomial(len(each), num_each / len(each), size=NUM_RESAMPLES)
    return np.asarray(drawn @ kinds / len(each), dtype=np.float64)


def _kappa(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Agreement beyond that of two labels drawn from all copies; NaN where all of a resample have one label."""
    by_chance = (means[:, 3:] ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance < 1, (means[:, 1] - by_chance) / (1 - by_chance), np.nan)
