"""Series: frames of one person taken in sequence, detected by numbered names and nearly equal pictures.

For example `S005_001_00000009.png` and `S005_001_00000010.png` of CK+. Two frames of a series are not copies, but they
show the same person with the same expression in the same light. Begin at `find_series`.
"""

import re

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.scan.dataset import ScannedDataset

MAX_NUMBER_GAP = 5
"""Largest difference of the numbers of two successive frames of a series: a sample may have left frames out."""
MIN_FRAME_CORRELATION = 0.9
"""Smallest correlation of the thumbnails of two successive frames ..."""
CHANCE_QUANTILE = 0.995
"""... which must also exceed that of this part of random pairs: aligned faces of any two people correlate."""
MIN_FRAMES = 3

_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def find_series(dataset: ScannedDataset) -> NDArray[np.int64]:
    """The series of each row, as the smallest row in it; -1 for rows that are in none, shape (N,).

    Three or more names that differ only in a number at their end are a series if at least half of the successive
    pictures correlate. Single pairs correlate by chance, and a data set whose pictures are merely numbered
    (`face_0001`) is not a series.
    """
    runs: dict[str, list[tuple[int, int]]] = {}
    for row, stem in enumerate(dataset.stems):
        if found := _NUMBERED.match(stem):
            runs.setdefault(found[1], []).append((int(found[2]), row))
    series = np.full(dataset.num_faces, -1, dtype=np.int64)
    runs = {prefix: sorted(run) for prefix, run in runs.items() if len(run) >= MIN_FRAMES and prefix}
    if not runs:
        return series
    minimum = max(MIN_FRAME_CORRELATION, _chance_correlation(dataset))
    for run in runs.values():
        rows = np.asarray([row for _, row in run], dtype=np.int64)
        numbers = np.asarray([number for number, _ in run])
        near = np.diff(numbers) <= MAX_NUMBER_GAP
        if 2 * int(near.sum()) < len(run) - 1:  # not a series, whatever the pictures show
            continue
        thumbnails = dataset.normalized_thumbnails(rows)
        linked = near & (np.einsum("nd,nd->n", thumbnails[:-1], thumbnails[1:]) >= minimum)
        if 2 * int(linked.sum()) < len(run) - 1:
            continue
        for part in np.split(rows, np.flatnonzero(~linked) + 1):
            if len(part) > 1:
                series[part] = part.min()
    return series


def _chance_correlation(dataset: ScannedDataset, num_pairs: int = 4_000) -> float:
    """The correlation that few random pairs of pictures with different names exceed."""
    random = np.random.default_rng(0)
    first, second = random.integers(dataset.num_faces, size=(2, num_pairs))
    prefixes = np.asarray([stem.rstrip("0123456789") for stem in dataset.stems])
    other = prefixes[first] != prefixes[second] if len(set(prefixes.tolist())) > 1 else first != second
    first, second = first[other], second[other]
    if not len(first):
        return MIN_FRAME_CORRELATION
    one, two = dataset.normalized_thumbnails(first), dataset.normalized_thumbnails(second)
    return float(np.quantile(np.einsum("nd,nd->n", one, two), CHANCE_QUANTILE))
