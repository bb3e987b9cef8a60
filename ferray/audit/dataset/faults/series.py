"""Series: frames of one person, taken one after the other, told by running numbers and near-equal pictures.

CK+'s `S005_001_00000009.png`, `S005_001_00000010.png` are one. Two frames are no copies, but a model that has seen one
knows the person, the light and the expression of the next. Begin at `find_series`.
"""

import re

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.evidence import Evidence

MOST_BETWEEN = 5
"""Two frames of a series lie at most this far apart in their running numbers: a sample may have left some out."""
LEAST_ALIKE = 0.9
"""Correlation of the thumbnails of neighbors in a series."""
UNLIKELY = 0.995
"""And more than this part of pairs at random have: aligned faces of two people are alike, too."""
LEAST_FRAMES = 3

_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def find_series(evidence: Evidence) -> NDArray[np.int64]:
    """The series of each row, as the smallest row in it; -1 where it is in none, shape (N,).

    Names that differ only in a last number are a series where they are three or more and at least half of its neighbors
    are alike: single neighbors are alike by chance, and a set whose pictures are numbered through (`face_0001`) is no
    series.
    """
    runs: dict[str, list[tuple[int, int]]] = {}
    for row, stem in enumerate(evidence.stems):
        if found := _NUMBERED.match(stem):
            runs.setdefault(found[1], []).append((int(found[2]), row))
    series = np.full(evidence.num, -1, dtype=np.int64)
    runs = {prefix: sorted(run) for prefix, run in runs.items() if len(run) >= LEAST_FRAMES and prefix}
    if not runs:
        return series
    least = max(LEAST_ALIKE, _alike_by_chance(evidence))
    for run in runs.values():
        rows = np.asarray([row for _, row in run], dtype=np.int64)
        numbers = np.asarray([number for number, _ in run])
        near = np.diff(numbers) <= MOST_BETWEEN
        if 2 * int(near.sum()) < len(run) - 1:  # spares most sets the comparison
            continue
        looks = evidence.looks(rows)
        linked = near & (np.einsum("nd,nd->n", looks[:-1], looks[1:]) >= least)
        if 2 * int(linked.sum()) < len(run) - 1:
            continue
        for part in np.split(rows, np.flatnonzero(~linked) + 1):
            if len(part) > 1:
                series[part] = part.min()
    return series


def _alike_by_chance(evidence: Evidence, num_pairs: int = 4_000) -> float:
    """The correlation that few pairs of pictures drawn at random, of unlike names, exceed."""
    random = np.random.default_rng(0)
    first, second = random.integers(evidence.num, size=(2, num_pairs))
    prefixes = np.asarray([stem.rstrip("0123456789") for stem in evidence.stems])
    other = prefixes[first] != prefixes[second] if len(set(prefixes.tolist())) > 1 else first != second
    first, second = first[other], second[other]
    if not len(first):
        return LEAST_ALIKE
    alike = np.einsum("nd,nd->n", evidence.looks(first), evidence.looks(second))
    return float(np.quantile(alike, UNLIKELY))
