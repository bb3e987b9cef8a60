"""Which way the edges of a picture run, in 4x4 cells: what pictures are compared by that were framed differently.

A sketch of gray values differs from that of the same picture moved by a twentieth of its side. Histograms of gradient
directions in large cells hardly do, so that the nearest pictures by histogram are worth comparing. They do not show
that two pictures are copies. Begin at `find_nearest`.

Source: Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005, with the root of the strength.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.threads import progress_bar

NUM_CELLS = 4
"""Cells along each axis."""
NUM_DIRECTIONS = 12
"""Directions of a gradient, 30 degrees apart; the first points to the right."""
NUM_GRADIENTS = NUM_CELLS * NUM_CELLS * NUM_DIRECTIONS
NUM_NEAREST = 2
"""Nearest pictures of each picture that are compared with it."""
MIN_SIMILARITY = 0.6
"""Smallest correlation of the histograms of two pictures to be compared."""

_TILE = 2**24  # correlations computed at once: 64 MiB
_NUM_PRIOR = 32  # pictures whose weight the means of no picture have: the means of few pictures say little


class Candidate(NamedTuple):
    """Two places, the first below the second, and whether one picture resembles the other's mirror image."""

    first: int
    second: int
    mirrored: bool


def make_gradients(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """The histograms of one picture.

    Args:
        gray: Shape (32, 32).

    Returns:
        Shape (`NUM_GRADIENTS`,): by row of cells, column and direction.
    """
    smooth = cv2.GaussianBlur(gray, (0, 0), 1.0)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=1) for order in ((1, 0), (0, 1)))
    strength, angle = cv2.cartToPolar(across, down)
    strength = np.sqrt(strength).ravel()
    direction = angle.ravel() * np.float32(NUM_DIRECTIONS / (2 * np.pi))
    below = direction.astype(np.int32)
    part = direction - below
    pixels = np.arange(len(below))
    by_direction = np.zeros((len(below), NUM_DIRECTIONS), dtype=np.float32)
    by_direction[pixels, below % NUM_DIRECTIONS] = strength * (1 - part)
    by_direction[pixels, (below + 1) % NUM_DIRECTIONS] += strength * part
    image = by_direction.reshape(*gray.shape, NUM_DIRECTIONS)
    blurred = cv2.GaussianBlur(image, (0, 0), gray.shape[0] / NUM_CELLS / 2)
    cells = cv2.resize(blurred, (NUM_CELLS, NUM_CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, dtype=np.float32).ravel()


def find_nearest(gradients: NDArray[np.float32], places: NDArray[np.int64], *, show_progress: bool) -> list[Candidate]:
    """Find the nearest pictures of each picture, also with one of them mirrored.

    Args:
        gradients: Of all pictures, shape (pictures, `NUM_GRADIENTS`); zeros for a picture that resembles no other.
        places: The places to look at, ascending.
        show_progress: Whether a progress bar is drawn on stderr.

    Returns:
        At most `NUM_NEAREST` pairs of each picture.
    """
    even, odd = _standardize(gradients[places])
    num = len(places)
    found: set[Candidate] = set()
    rows = max(1, _TILE // max(1, num))
    with progress_bar("finding the nearest", num, "pictures", is_shown=show_progress) as advance:
        for begin in range(0, num, rows):
            at = np.arange(min(begin + rows, num) - begin)
            odd_part = odd[begin : begin + len(at)] @ odd.T
            correlation = np.abs(odd_part)  # the better of the two: plain (even + odd) and mirrored (even - odd)
            correlation += even[begin : begin + len(at)] @ even.T
            correlation[at, begin + at] = -1
            for _ in range(min(NUM_NEAREST, num - 1)):
                other = correlation.argmax(axis=1)
                is_near = correlation[at, other] >= MIN_SIMILARITY
                pairs = np.sort(np.stack([places[begin + at], places[other]], axis=1)[is_near], axis=1)
                mirrored = odd_part[at, other][is_near] < 0
                found.update(map(Candidate, pairs[:, 0].tolist(), pairs[:, 1].tolist(), mirrored.tolist()))
                correlation[at, other] = -1
            advance(len(at))
    return sorted(found)


def _standardize(gradients: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What distinguishes each picture from the others, of length 1, as its even and odd half under mirroring.

    Returns:
        Twice shape (pictures, `NUM_GRADIENTS` / 2). The sum of the two inner products is the correlation of two
        pictures, their difference that with one of them mirrored.
    """
    shape = (-1, NUM_CELLS, NUM_CELLS, NUM_DIRECTIONS)
    plain = gradients.reshape(shape)
    directions = (NUM_DIRECTIONS // 2 - np.arange(NUM_DIRECTIONS)) % NUM_DIRECTIONS  # left becomes right
    mirrored = plain[:, :, ::-1, directions]
    is_picture = plain.any(axis=(1, 2, 3))
    num = int(is_picture.sum())
    both = np.stack([plain[is_picture], mirrored[is_picture]])
    mean = both.sum(axis=(0, 1)) / (2 * num + 2 * _NUM_PRIOR)
    variance = ((both - mean) ** 2).mean(axis=(0, 1)) if num else np.ones(shape[1:], dtype=np.float32)
    scale = np.sqrt((num * variance + _NUM_PRIOR * variance.mean()) / (num + _NUM_PRIOR)) + 1e-9
    plain, mirrored = (plain - mean) / scale, (mirrored - mean) / scale
    half = NUM_CELLS // 2
    even, odd = ((plain + sign * mirrored)[:, :, :half].reshape(len(plain), NUM_GRADIENTS // 2) for sign in (1, -1))
    length = np.sqrt((even**2).sum(axis=1) + (odd**2).sum(axis=1))[:, None]
    length[~is_picture] = np.inf
    return (even / length).astype(np.float32), (odd / length).astype(np.float32)
