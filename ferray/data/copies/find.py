"""Copies among pictures: the same file, the same pixels, the same photograph, the same face.

Pictures with equal digests are copies. Of the others, those whose sketches correlate are candidates, and the nearest of
each by their gradients, which find copies that are framed differently. Each candidate pair is loaded, aligned and
compared pixel by pixel. Confirmed pairs are joined into groups; pairs that are nearly
confirmed are listed for a person to look at.

    sketches = sketch_all(num, load, Threads())
    copies = find_copies(sketches, load, kind="photographs", threads=Threads())

Begin at `find_copies`; `ferray.data.copies.registration` compares two pictures.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.candidates import MIN_CORRELATION, find_candidates
from ferray.data.copies.gradients import Candidate, find_nearest
from ferray.data.copies.registration import RegistrationImage, align_faces, align_photographs
from ferray.data.copies.sketch import Sketches
from ferray.data.threads import Threads

PictureKind = Literal["photographs", "faces"]
"""Photographs are aligned by points, faces by gray values, since faces fill their pictures in the same way."""

CopyKind = Literal["bytes", "pixels", "photograph", "series", "crop"]
"""`bytes`: the same file. `pixels`: the same once decoded. `photograph`: points and fine structure agree. `series`:
they agree less: another background, other words on the picture, the next frame of one shoot. `crop`: the fine structure
of two faces, or of two small pictures, agrees after alignment."""

Warp = tuple[tuple[float, float, float], tuple[float, float, float]]
"""(a, b, c), (d, e, f): x becomes a x + b y + c, and y becomes d x + e y + f."""
IDENTITY: Warp = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class _Threshold(NamedTuple):
    """The smallest numbers that make two pictures a pair of a kind."""

    kind: CopyKind
    num_inliers: int
    correlation: float


PHOTOGRAPH_THRESHOLDS: tuple[_Threshold, ...] = (
    _Threshold("photograph", 60, 0.8),
    _Threshold("series", 60, 0.35),
    _Threshold("series", 20, 0.5),
)
"""What makes two photographs copies, from strong to weak. On a part of ExpW, of 92 pairs with 60 points whose gray
values correlate by 0.9 all but one lie above 0.8. Between the thresholds lie one photograph with other words or another
background, and frames of one shoot. Different people under the same watermark have up to 40 points and 0.29."""
BORDERLINE_PHOTOGRAPHS = _Threshold("series", 15, 0.25)
FACE_THRESHOLDS: tuple[_Threshold, ...] = (_Threshold("crop", 0, 0.8),)
"""What makes two faces copies. On FER2013 two of three compared pairs lie below 0.7 and are different faces, the others
lie above 0.75; frames of one shoot lie in between."""
BORDERLINE_FACES = _Threshold("crop", 0, 0.7)
SMALL_PX = 96
"""Photographs whose shorter side is below this are compared as faces are: they have too few points."""

MAX_CHAIN = 16
"""Pictures that may form a group although few pairs of them are copies."""
MIN_COHERENCE = 0.4
"""The smallest share of copies among the pairs of a larger group. Versions of one face that a program has turned, cut
and relit reach 0.64 and more, groups of FER2013 0.73; written digits, which form chains, up to 0.31. Versions with
holes and noise reach 0.29: a large group of them is taken for a chain."""
_NUM_SAMPLED = 24  # pairs of a group that are compared for its coherence

_NUM_IMAGES = 256  # registration images that are kept while their pairs are compared, up to 0.3 MB each


@dataclass(frozen=True, slots=True)
class CopyPair:
    """Two pictures that are, or may be, copies."""

    first: int
    """Place in the given list; below `second`."""
    second: int
    kind: CopyKind
    mirrored: bool
    """Whether one is the mirror image of the other."""
    correlation: float
    """Correlation of the fine structure after alignment, in [-1, 1]; 1 for `bytes` and `pixels`."""
    num_inliers: int
    """Points that agree with one transform; 0 where points were not used."""
    warp: Warp = IDENTITY
    """Where a place in the first, in pixels, lies in the second."""

    @property
    def places(self) -> tuple[int, int]:
        """Both places, the smaller first."""
        return self.first, self.second


@dataclass(frozen=True, kw_only=True)
class Copies:
    """The copies among N pictures; `groups` joins `pairs`, never `borderline`."""

    groups: NDArray[np.int64]
    """Shape (N,): the smallest place in the group; a picture without copies has its own place."""
    pairs: tuple[CopyPair, ...]
    """By first, then second. Of n pictures with one digest there are n - 1 pairs, all with the first of them."""
    borderline: tuple[CopyPair, ...]
    """Compared and nearly confirmed: `kind` is what the pair would have been."""
    num_compared: int
    """Pairs that were aligned and compared."""
    capped: tuple[int, ...]
    """Places of pictures that had more than `MAX_CANDIDATES`."""
    flat: tuple[int, ...]
    """Places of pictures that show nothing: only an equal digest joins them."""
    chained: tuple[int, ...] = ()
    """Places of small pictures that resemble others in chains: there are no groups of copies among them."""


def find_copies(
    sketches: Sketches,
    load: Callable[[int], NDArray[np.uint8]],
    *,
    kind: PictureKind,
    also: Sequence[Candidate] = (),
    threads: Threads,
) -> Copies:
    """Find all copies among pictures.

    To sketch 100,000 faces and find their copies takes about eight minutes of a core. Loading and comparing two
    photographs takes some 30 ms, two faces 1 to 2 ms. Memory holds the sketches, 2 kB each, and some 400 MB.

    Args:
        sketches: One per picture.
        load: Returns the pixels of a picture, uint8, shape (height, width) or (height, width, 3); called from several
            threads, for candidates only, for some more than once.
        kind: How the pictures are compared.
        also: Further pairs to compare, the places in any order.
        threads: How the work is spread; it changes nothing of the result.
    """
    equal, places = _join_equal(sketches)
    is_face = kind == "faces" or sketches.short_side_px[places] < SMALL_PX
    minimum = np.where(is_face, MIN_CORRELATION["faces"], MIN_CORRELATION["photographs"]) + np.zeros(len(places))
    candidates = find_candidates(sketches, places, minimum, show_progress=threads.show_progress)
    further = {Candidate(min(a, b), max(a, b), mirrored) for a, b, mirrored in also if a != b}
    nearest = find_nearest(sketches.gradients, places, show_progress=threads.show_progress)
    compared = sorted({*candidates.pairs, *nearest, *further})
    comparer = _Comparer(load, kind)
    results = [result for result in threads.map(comparer, compared, title="comparing", unit="pairs") if result]
    confirmed = _best_of_each(pair for pair, is_copy in results if is_copy)
    borderline = _best_of_each(pair for pair, is_copy in results if not is_copy)
    chained = _find_chains(len(sketches), confirmed, comparer, threads)
    confirmed = [pair for pair in confirmed if pair.kind != "crop" or pair.first not in chained]
    pairs = sorted([*equal, *confirmed], key=lambda pair: pair.places)
    groups = join_places(len(sketches), [pair.places for pair in pairs])
    return Copies(
        groups=groups,
        pairs=tuple(pairs),
        borderline=tuple(pair for pair in borderline if groups[pair.first] != groups[pair.second]),
        num_compared=len(compared),
        capped=candidates.capped,
        flat=tuple(np.flatnonzero(sketches.flat).tolist()),
        chained=tuple(sorted(chained)),
    )


def join_places(num: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
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


def _join_equal(sketches: Sketches) -> tuple[list[CopyPair], NDArray[np.int64]]:
    """Pairs with equal digests, and the places that remain to be compared: the first of each digest."""
    first_of: dict[bytes, int] = {}
    pairs = []
    for place, digest in enumerate(sketches.digests):
        if not digest:
            continue
        first = first_of.setdefault(digest, place)
        if first != place:
            pairs.append(CopyPair(first, place, sketches.digest_of, False, 1.0, 0))
    return pairs, np.array(sorted(first_of.values()), dtype=np.int64)


class _Comparer:
    """Loads and compares candidates; the pictures that were loaded last are kept."""

    def __init__(self, load: Callable[[int], NDArray[np.uint8]], kind: PictureKind) -> None:
        make = RegistrationImage.of_face if kind == "faces" else RegistrationImage.of_photograph
        self._image = lru_cache(maxsize=_NUM_IMAGES)(lambda place: make(load(place)))
        self._kind = kind

    def __call__(self, candidate: Candidate) -> tuple[CopyPair, bool] | None:
        """The pair and whether it is a copy; None where it is not even nearly one."""
        return _compare(candidate, self._image(candidate.first), self._image(candidate.second), self._kind)

    def is_copy(self, places: tuple[int, int]) -> bool:
        """Whether two pictures are copies, mirrored or not."""
        found = (self(Candidate(*places, mirrored)) for mirrored in (False, True))
        return any(result is not None and result[1] for result in found)


def _find_chains(num: int, confirmed: Sequence[CopyPair], comparer: _Comparer, threads: Threads) -> set[int]:
    """The places in large groups of which few pairs are copies.

    Pictures with little detail, such as written digits, all resemble some other. Then chains of pairs join pictures
    that have nothing in common, and groups of them would put a whole class on one side of a split. The versions of one
    picture, however, are copies of each other, not only of the next one.
    """
    groups = join_places(num, [pair.places for pair in confirmed if pair.kind == "crop"])
    ids, sizes = np.unique(groups, return_counts=True)
    large = ids[sizes > MAX_CHAIN].tolist()
    if not large:
        return set()

    def is_chain(group: int) -> bool:
        members, generator = np.flatnonzero(groups == group), np.random.default_rng(group)
        drawn = [sorted(generator.choice(members, 2, replace=False).tolist()) for _ in range(_NUM_SAMPLED)]
        num_copies = sum(comparer.is_copy((first, second)) for first, second in drawn)
        return num_copies < MIN_COHERENCE * _NUM_SAMPLED

    verdicts = threads.map(is_chain, large, title="checking groups", unit="groups")
    chains = [group for group, verdict in zip(large, verdicts, strict=True) if verdict]
    return set(np.flatnonzero(np.isin(groups, chains)).tolist())


def _compare(
    candidate: Candidate, first: RegistrationImage, second: RegistrationImage, kind: PictureKind
) -> tuple[CopyPair, bool] | None:
    """The pair and whether it is a copy; None where it is not even nearly one."""
    place, other, mirrored = candidate
    if not mirrored and first.digest == second.digest:
        return CopyPair(place, other, "pixels", False, 1.0, 0), True
    oriented = second.mirrored if mirrored else second
    sides = first.width_px, first.height_px, second.width_px, second.height_px
    if kind == "faces" or min(sides) < SMALL_PX:
        first, oriented = first.face, oriented.face
        alignment, thresholds, borderline = align_faces(first, oriented), FACE_THRESHOLDS, BORDERLINE_FACES
    else:
        alignment = align_photographs(first, oriented)
        thresholds, borderline = PHOTOGRAPH_THRESHOLDS, BORDERLINE_PHOTOGRAPHS
    for threshold in (*thresholds, borderline):
        if alignment.num_inliers >= threshold.num_inliers and alignment.correlation >= threshold.correlation:
            warp = _warp_of_originals(alignment.warp, first, oriented, mirrored=mirrored)
            pair = CopyPair(
                place, other, threshold.kind, mirrored, alignment.correlation, alignment.num_inliers, warp
            )  # fmt: skip
            return pair, threshold is not borderline
    return None


def _warp_of_originals(
    warp: NDArray[np.float64], first: RegistrationImage, second: RegistrationImage, *, mirrored: bool
) -> Warp:
    """The warp between the original pictures; where the second was mirrored, the mirroring is undone."""
    flip = np.array([[-1.0, 0, second.width_px - 1], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    (a, b, c), (d, e, f), _ = (flip @ np.linalg.inv(second.scale()) @ warp @ first.scale()).tolist()
    return (a, b, c), (d, e, f)


def _best_of_each(pairs: Iterable[CopyPair]) -> list[CopyPair]:
    """One pair of two places: where they were compared plain and mirrored, the better of the two."""
    best: dict[tuple[int, int], CopyPair] = {}
    for pair in pairs:
        if pair.places not in best or pair.correlation > best[pair.places].correlation:
            best[pair.places] = pair
    return list(best.values())
