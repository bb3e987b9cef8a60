"""Which pairs of pictures are worth comparing: those whose sketches correlate, also with one of them mirrored.

All pairs are looked at, as blocked products of matrices. Begin at `find_candidates`.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.gradients import Candidate
from ferray.data.copies.sketch import Sketches
from ferray.data.threads import progress_bar

log = logging.getLogger(__name__)

MIN_CORRELATION = {"photographs": 0.4, "faces": 0.5}
"""Smallest correlation of two sketches; two faces resemble each other more by chance than two photographs ..."""
MIN_SHIFTED_CORRELATION = 0.6
"""... and smallest correlation when one of them may be shifted a little. Candidates have both."""
MAX_CANDIDATES = 32
"""Candidates of a picture among the pictures after it; if there are more, only the most similar are compared."""

_TILE = 2**24  # correlations computed at once: 64 MiB
_MAX_SHIFTED = 8 * MAX_CANDIDATES  # pairs of a picture for which the shifted correlation is computed
_SHIFTED_AT_ONCE = 2048  # of these pairs: 40 MB


@dataclass(frozen=True)
class Candidates:
    """The pairs to compare."""

    pairs: list[Candidate]
    capped: tuple[int, ...]
    """Places of pictures that had more than `MAX_CANDIDATES`."""


def find_candidates(
    sketches: Sketches, places: NDArray[np.int64], minimum: NDArray[np.float64], *, show_progress: bool
) -> Candidates:
    """Find the pairs of places whose sketches correlate.

    Args:
        sketches: Of all pictures.
        places: The places to look at, ascending.
        minimum: The smallest correlation for each of them, shape (places,).
        show_progress: Whether a progress bar is drawn on stderr.
    """
    even, odd = sketches.even[places], sketches.odd[places]
    num = len(places)
    found: list[Candidate] = []
    capped: set[int] = set()
    rows = max(1, _TILE // max(1, num))
    with progress_bar("finding candidates", num, "pictures", is_shown=show_progress) as advance:
        for begin in range(0, num, rows):
            end = min(begin + rows, num)
            odd_part = odd[begin:end] @ odd[begin:].T
            correlation = np.abs(odd_part)  # the better of the two: plain (even + odd) and mirrored (even - odd)
            correlation += even[begin:end] @ even[begin:].T
            one, other = np.nonzero(correlation >= minimum.min())
            needed = np.maximum(minimum[begin + one], minimum[begin + other])
            is_enough = (other > one) & (correlation[one, other] >= needed)
            one, other = one[is_enough], other[is_enough]
            kept, too_many = _strongest_of_each(one, correlation[one, other], _MAX_SHIFTED)
            one, other = one[kept], other[kept]
            mirrored = odd_part[one, other] < 0
            firsts, seconds = places[begin + one], places[begin + other]
            shifted = _correlate_shifted(sketches, firsts, seconds, mirrored)
            near = np.flatnonzero(shifted >= MIN_SHIFTED_CORRELATION)
            kept, still_too_many = _strongest_of_each(firsts[near], shifted[near], MAX_CANDIDATES)
            kept = near[kept]
            capped.update(places[begin + too_many].tolist(), still_too_many.tolist())
            found += map(Candidate, firsts[kept].tolist(), seconds[kept].tolist(), mirrored[kept].tolist())
            advance(end - begin)
    if capped:
        log.warning(
            "%d pictures resemble more than %d others each; only the most similar were compared",
            len(capped),
            MAX_CANDIDATES,
        )
    return Candidates(found, tuple(sorted(capped)))


def _strongest_of_each(
    one: NDArray[np.int64], strength: NDArray[np.float32], max_num: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of the strongest pairs of each one, at most so many, and the ones that had more."""
    order = np.lexsort((-strength, one))
    ones = one[order]
    rank = np.arange(len(ones)) - np.searchsorted(ones, ones)
    return order[rank < max_num], np.unique(ones[rank >= max_num])


def _correlate_shifted(
    sketches: Sketches, firsts: NDArray[np.int64], seconds: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """`Sketches.correlate_shifted`, a few thousand pairs at once."""
    parts = [slice(begin, begin + _SHIFTED_AT_ONCE) for begin in range(0, len(firsts), _SHIFTED_AT_ONCE)]
    results = [sketches.correlate_shifted(firsts[part], seconds[part], mirrored[part]) for part in parts]
    return np.concatenate([np.zeros(0, dtype=np.float32), *results])
