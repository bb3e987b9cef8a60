"""Copies among pictures: the same file, the same pixels, the same photograph, the same face.

Pictures with one digest are copies. Of the others, those whose sketches correlate are candidates, also with the one of
them mirrored: all pairs are looked at, as blocked products of matrices. Each candidate is then loaded, aligned and
compared pixel by pixel; only what that confirms is joined into groups, and what it nearly confirms is listed for a
person to look at.

    sketches = sketch_all(num, load)
    copies = find_copies(sketches, load, kind="photographs")

Begin at `find_copies`; `find_copies_of_faces` is for the faces of a store.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.registration import View, compare_faces, compare_photographs, view_face, view_photograph
from ferray.data.copies.sketch import Sketches, progress_bar, sketch_all, threads

log = logging.getLogger(__name__)

Kind = Literal["bytes", "pixels", "photograph", "series", "crop"]
"""`bytes`: the same file. `pixels`: the same once decoded. `photograph`: points and fine structure agree. `series`:
they agree less: another background, other words on it, the next frame of one shoot. `crop`: the fine structure of two
faces, or of two small pictures, agrees after alignment."""


Warp = tuple[tuple[float, float, float], tuple[float, float, float]]
"""(a, b, c), (d, e, f): x becomes a x + b y + c, and y becomes d x + e y + f."""
UNMOVED: Warp = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class _Step(NamedTuple):
    """The least that makes two pictures a pair of a kind."""

    kind: Kind
    inliers: int
    correlation: float


LEAST_SKETCH = {"photographs": 0.4, "faces": 0.5}
"""Least correlation of two sketches as they are; two faces share more by chance ..."""
LEAST_SHIFTED = 0.6
"""... and of the better of them when one may move a little. Two pictures with both are candidates."""
MOST_CANDIDATES = 32
"""Candidates of a picture among those after it; beyond, the most alike are compared."""
POINT_STEPS: tuple[_Step, ...] = (_Step("photograph", 60, 0.8), _Step("series", 60, 0.35), _Step("series", 20, 0.5))
"""What makes two photographs copies, from strong to weak. On a part of ExpW, of 92 pairs with 60 points whose gray
values correlate by 0.9 all but one lie above 0.8; between the steps lie one photograph with other words or another
background, and frames of one shoot; different people under one watermark have up to 40 points and 0.29."""
NEARLY_POINTS = _Step("series", 15, 0.25)
FACE_STEPS: tuple[_Step, ...] = (_Step("crop", 0, 0.8),)
"""What makes two faces copies: on FER2013 two of three compared lie below 0.7 and are different faces, the others above
0.75; one shoot's frames lie in between."""
NEARLY_FACE = _Step("crop", 0, 0.7)
SMALL_PX = 96
"""Photographs whose shorter side is below this are compared as faces are: they have too few points."""

_TILE = 2**24  # correlations computed at once: 64 MiB
_MOST_MOVED = 8 * MOST_CANDIDATES  # pairs of a picture that are correlated again with one of them moved
_MOVED = 2048  # of them at once: 40 MB
_VIEWS = 256  # kept while their pairs are compared, up to 0.3 MB each


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that are, or may be, copies."""

    first: int
    """Place in the list given; below `second`."""
    second: int
    kind: Kind
    mirrored: bool
    """Whether one is the mirror image of the other."""
    correlation: float
    """Of the fine structure after alignment, in [-1, 1]; 1 for `bytes` and `pixels`."""
    inliers: int
    """Points that agree with one transform; 0 where points were not used."""
    warp: Warp = UNMOVED
    """Where a place in the first, in pixels, lies in the second."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What was found; `groups` joins over `pairs`, never over `borderline`."""

    groups: NDArray[np.int64]
    """Shape (pictures,): the smallest place in the group; a picture without copies has its own place."""
    pairs: tuple[Pair, ...]
    """By first, then second. Of n pictures with one digest there are n - 1 pairs, all with the first of them."""
    borderline: tuple[Pair, ...]
    """Compared and nearly confirmed: `kind` is what it would have been."""
    num_compared: int
    """Pairs that were aligned and compared."""
    capped: tuple[int, ...]
    """Places of pictures that had more than `MOST_CANDIDATES`."""
    flat: tuple[int, ...]
    """Places of pictures in which nothing is to be seen: only an equal digest joins them."""


class _Candidate(NamedTuple):
    first: int
    second: int
    mirrored: bool


def find_copies(
    sketches: Sketches,
    load: Callable[[int], NDArray[np.uint8]],
    *,
    kind: Literal["photographs", "faces"],
    also: Sequence[tuple[int, int, bool]] = (),
    workers: int | None = None,
    progress: bool = False,
) -> Copies:
    """Find all copies among pictures.

    To sketch 100,000 faces and find their copies takes about 100 s of a core; comparing two photographs takes some 30
    ms with the loading, two faces 1 to 2 ms. Memory holds the sketches, 1 kB each, and some 200 MB.

    Args:
        sketches: One a picture.
        load: The pixels of a picture, uint8, shape (height, width) or (height, width, 3); called from several threads,
            for candidates only, some more than once.
        kind: What is compared: photographs by points; faces, which lie alike in their pictures, by gray values.
        also: Further candidates: two places, and whether mirrored.
        workers: Threads; None is one a core. It changes nothing of the result.
        progress: Show progress on stderr.
    """
    equal, alone = _join_equal(sketches)
    as_faces = kind == "faces" or sketches.short_side_px[alone] < SMALL_PX
    least = np.where(as_faces, LEAST_SKETCH["faces"], LEAST_SKETCH["photographs"]) + np.zeros(len(alone))
    candidates, capped = _find_candidates(sketches, alone, least, progress=progress)
    if capped:
        log.warning(
            "%d pictures look like more than %d others each; the most alike were compared", len(capped), MOST_CANDIDATES
        )
    further = {_Candidate(min(a, b), max(a, b), mirrored) for a, b, mirrored in also if a != b}
    wanted = sorted({*candidates, *further})
    confirmed: list[Pair] = []
    borderline: list[Pair] = []
    for pair, sure in _compare_all(wanted, load, kind, workers=workers, progress=progress):
        (confirmed if sure else borderline).append(pair)
    pairs = sorted([*equal, *_strongest(confirmed)], key=lambda pair: (pair.first, pair.second))
    groups = join(len(sketches), [(pair.first, pair.second) for pair in pairs])
    doubtful = [pair for pair in _strongest(borderline) if groups[pair.first] != groups[pair.second]]
    return Copies(
        groups=groups,
        pairs=tuple(pairs),
        borderline=tuple(doubtful),
        num_compared=len(wanted),
        capped=tuple(capped),
        flat=tuple(np.flatnonzero(sketches.flat).tolist()),
    )


def find_copies_of_faces(faces: NDArray[np.uint8], *, workers: int | None = None, progress: bool = False) -> Copies:
    """Find copies among the faces of a store.

    Args:
        faces: Shape (faces, size, size, 3), memory-mapped or not.
        workers: Threads; None is one a core.
        progress: Show progress on stderr.
    """

    def load(place: int) -> NDArray[np.uint8]:
        return np.asarray(faces[place])

    sketches = sketch_all(len(faces), load, workers=workers, progress=progress)
    return find_copies(sketches, load, kind="faces", workers=workers, progress=progress)


def join(num: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Groups of places that are joined by pairs, directly or through others.

    Returns:
        The smallest place of each one's group, shape (num,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    links = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(num, num))
    num_groups, group = connected_components(links, directed=False)
    smallest = np.full(num_groups, num, dtype=np.int64)
    np.minimum.at(smallest, group, np.arange(num))
    return np.asarray(smallest[group], dtype=np.int64)


def _join_equal(sketches: Sketches) -> tuple[list[Pair], NDArray[np.int64]]:
    """Pairs of equal digests, and the places that are left to compare: the first of each digest."""
    first_of: dict[bytes, int] = {}
    pairs = []
    for place, digest in enumerate(sketches.digests):
        if not digest:
            continue
        first = first_of.setdefault(digest, place)
        if first != place:
            pairs.append(Pair(first, place, sketches.digest_of, False, 1.0, 0))
    return pairs, np.array(sorted(first_of.values()), dtype=np.int64)


def _find_candidates(
    sketches: Sketches, places: NDArray[np.int64], least: NDArray[np.float64], *, progress: bool
) -> tuple[list[_Candidate], list[int]]:
    """Pairs of places whose sketches correlate, and the places that had too many of them.

    Args:
        sketches: Of all pictures.
        places: Those to look at, ascending.
        least: The correlation that each needs, shape (places,).
        progress: Show progress on stderr.
    """
    even, odd = sketches.even[places], sketches.odd[places]
    num = len(places)
    found: list[_Candidate] = []
    capped: set[int] = set()
    rows = max(1, _TILE // max(1, num))
    with progress_bar("looking for copies", num, "pictures", shown=progress) as advance:
        for begin in range(0, num, rows):
            end = min(begin + rows, num)
            odd_part = odd[begin:end] @ odd[begin:].T
            alike = np.abs(odd_part)
            alike += even[begin:end] @ even[begin:].T
            one, other = np.nonzero(alike >= least.min())
            enough = (other > one) & (alike[one, other] >= np.maximum(least[begin + one], least[begin + other]))
            one, other = one[enough], other[enough]
            kept, too_many = _strongest_of_each(one, alike[one, other], _MOST_MOVED)
            one, other = one[kept], other[kept]
            mirrored = odd_part[one, other] < 0
            firsts, seconds = places[begin + one], places[begin + other]
            moved = _correlate_shifted(sketches, firsts, seconds, mirrored)
            near = np.flatnonzero(moved >= LEAST_SHIFTED)
            kept, far_too_many = _strongest_of_each(firsts[near], moved[near], MOST_CANDIDATES)
            kept = near[kept]
            capped.update(places[begin + too_many].tolist(), far_too_many.tolist())
            found += map(_Candidate, firsts[kept].tolist(), seconds[kept].tolist(), mirrored[kept].tolist())
            advance(end - begin)
    return found, sorted(capped)


def _strongest_of_each(
    one: NDArray[np.int64], strength: NDArray[np.float32], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the strongest of each one's pairs are, at most so many, and the ones that had more."""
    order = np.lexsort((-strength, one))
    ones = one[order]
    rank = np.arange(len(ones)) - np.searchsorted(ones, ones)
    return order[rank < most], np.unique(ones[rank >= most])


def _correlate_shifted(
    sketches: Sketches, firsts: NDArray[np.int64], seconds: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """As `Sketches.correlate_shifted`, a few thousand pairs at once."""
    parts = [slice(begin, begin + _MOVED) for begin in range(0, len(firsts), _MOVED)]
    results = [sketches.correlate_shifted(firsts[part], seconds[part], mirrored[part]) for part in parts]
    return np.concatenate([np.zeros(0, dtype=np.float32), *results])


def _compare_all(
    candidates: Sequence[_Candidate],
    load: Callable[[int], NDArray[np.uint8]],
    kind: Literal["photographs", "faces"],
    *,
    workers: int | None,
    progress: bool,
) -> Iterator[tuple[Pair, bool]]:
    """Load and compare.

    Yields:
        Each pair that is a copy or nearly one, and whether it is one, in the order of the candidates.
    """

    @lru_cache(maxsize=_VIEWS)
    def view(place: int) -> View:
        return (view_face if kind == "faces" else view_photograph)(load(place))

    def compare(with_first: list[_Candidate]) -> list[tuple[Pair, bool] | None]:
        return [_judge(candidate, view(candidate.first), view(candidate.second), kind) for candidate in with_first]

    by_first = [list(group) for _, group in groupby(candidates, key=lambda candidate: candidate.first)]
    with threads(workers) as pool, progress_bar("comparing", len(candidates), "pairs", shown=progress) as advance:
        for results in pool.map(compare, by_first):
            advance(len(results))
            yield from (result for result in results if result is not None)


def _judge(
    candidate: _Candidate, first: View, second: View, kind: Literal["photographs", "faces"]
) -> tuple[Pair, bool] | None:
    """The pair and whether it is a copy; None where it is not even nearly one."""
    place, other, mirrored = candidate
    if not mirrored and first.digest == second.digest:
        return Pair(place, other, "pixels", False, 1.0, 0), True
    turned = second.mirrored if mirrored else second
    sides = first.width_px, first.height_px, second.width_px, second.height_px
    if kind == "faces" or min(sides) < SMALL_PX:
        first, turned = first.face, turned.face
        likeness, steps, nearly = compare_faces(first, turned), FACE_STEPS, NEARLY_FACE
    else:
        likeness, steps, nearly = compare_photographs(first, turned), POINT_STEPS, NEARLY_POINTS
    for step in (*steps, nearly):
        if likeness.inliers >= step.inliers and likeness.correlation >= step.correlation:
            warp = _in_pixels(likeness.warp, first, turned, mirrored=mirrored)
            return Pair(
                place, other, step.kind, mirrored, likeness.correlation, likeness.inliers, warp
            ), step is not nearly  # fmt: skip
    return None


def _in_pixels(warp: NDArray[np.float64], first: View, second: View, *, mirrored: bool) -> Warp:
    """A warp between two gray pictures, as one between the pictures as given; a mirrored one is turned back."""
    turn = np.array([[-1.0, 0, second.width_px - 1], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    (a, b, c), (d, e, f), _ = (turn @ np.linalg.inv(second.scale()) @ warp @ first.scale()).tolist()
    return (a, b, c), (d, e, f)


def _strongest(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair of two places: where both turns of a picture were compared, the better."""
    best: dict[tuple[int, int], Pair] = {}
    for pair in pairs:
        ends = pair.first, pair.second
        if ends not in best or pair.correlation > best[ends].correlation:
            best[ends] = pair
    return list(best.values())
