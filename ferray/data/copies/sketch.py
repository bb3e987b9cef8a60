"""Sketches: a picture in 255 numbers and a digest, made while it is decoded, so that it need not be read again.

The numbers are the lowest 16x16 coefficients of the discrete cosine transform (DCT) of the picture in gray at 32x32,
without the mean, each weighted by its frequency, scaled to length 1. The inner product of two sketches is then a
correlation of the two pictures; the weights take from it what all faces share, the broad light and dark. A mirrored
picture has the same coefficients with the sign of every odd horizontal frequency turned, so one pass over two halves
gives both correlations. Begin at `sketch`; `Sketches` holds many, about 1 kB each.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 32
"""Side of the gray picture that is transformed."""
NUM_LOWEST = 16
"""Frequencies kept along each axis."""
FLAT = 2.0
"""Standard deviation, in gray levels of 255 at 32x32, below which a picture says nothing: it resembles all others."""

_BATCH = 64  # pictures handed to a thread at once


def _make_weights() -> NDArray[np.float32]:
    """The distance from frequency 0, which pictures' power falls with (Field, 1987); 0 for the mean."""
    frequency = np.arange(NUM_LOWEST)
    return np.asarray(np.hypot(frequency[:, None], frequency[None, :]), dtype=np.float32)


def _make_waves() -> NDArray[np.float32]:
    """The lowest cosines of the DCT, shape (16, 32)."""
    frequency, place = np.arange(NUM_LOWEST)[:, None], np.arange(SIDE_PX)[None, :]
    waves = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE_PX)) * np.sqrt(2 / SIDE_PX)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, dtype=np.float32)


_WEIGHTS = _make_weights()
_WAVES = _make_waves()
_SHIFT = SIDE_PX // 8
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Sketch:
    """A picture in little."""

    even: NDArray[np.float32]
    """Weighted coefficients of even horizontal frequency, shape (128,): a mirrored picture has the same."""
    odd: NDArray[np.float32]
    """Those of odd horizontal frequency, shape (128,): a mirrored picture has the opposite."""
    digest: bytes
    """16 bytes; equal where the files or the pixels are equal."""
    flat: bool
    """Whether nothing is to be seen; it then resembles no other."""
    short_side_px: int
    """Of the picture."""


def sketch(pixels: NDArray[np.uint8], *, digest: bytes | None = None) -> Sketch:
    """Sketch one decoded picture.

    Args:
        pixels: Shape (height, width) or (height, width, 3), the channels in any order that is the same for all.
        digest: Of the file's bytes; None takes that of the pixels.
    """
    tiny = np.asarray(cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    small = to_gray(tiny).astype(np.float32)
    lowest = cv2.dct(small)[:NUM_LOWEST, :NUM_LOWEST] * _WEIGHTS
    length = float(np.linalg.norm(lowest))
    flat = float(small.std()) < FLAT
    lowest = np.zeros_like(lowest) if flat else lowest / length
    if digest is None:
        digest = digest_pixels(pixels)
    return Sketch(lowest[:, 0::2].ravel(), lowest[:, 1::2].ravel(), digest[:16], flat, min(pixels.shape[:2]))


def digest_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """SHA-256 of a picture's size and pixels."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel of one or three; which of them is red makes no difference here."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


class Sketches:
    """Sketches of many pictures in a few arrays, filled in any order and from any thread.

    Args:
        num: How many pictures.
        digest_of: What the digests are taken of: the files' bytes, or the decoded pixels.

    Attributes:
        even, odd: float32, shape (num, 128) each.
        digests: One a picture; empty for a place that was not filled, which then resembles no other.
        flat: bool, shape (num,).
        short_side_px: int64, shape (num,).
    """

    def __init__(self, num: int, *, digest_of: Literal["bytes", "pixels"]) -> None:
        self.digest_of = digest_of
        half = NUM_LOWEST * NUM_LOWEST // 2
        self.even: NDArray[np.float32] = np.zeros((num, half), dtype=np.float32)
        self.odd: NDArray[np.float32] = np.zeros((num, half), dtype=np.float32)
        self.digests: list[bytes] = [b""] * num
        self.flat: NDArray[np.bool_] = np.zeros(num, dtype=np.bool_)
        self.short_side_px: NDArray[np.int64] = np.zeros(num, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.digests)

    def put(self, place: int, sketch: Sketch) -> None:
        """Fill one place."""
        self.even[place], self.odd[place] = sketch.even, sketch.odd
        self.digests[place], self.flat[place] = sketch.digest, sketch.flat
        self.short_side_px[place] = sketch.short_side_px

    def correlate_shifted(
        self, firsts: NDArray[np.int64], seconds: NDArray[np.int64], mirrored: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The best correlation of two pictures when one is moved by up to an eighth of its side, pair by pair.

        Args:
            firsts: Places, shape (pairs,).
            seconds: Others.
            mirrored: Whether the second is to be mirrored.
        """
        from scipy import fft

        moved = fft.rfft2(self._draw(firsts)) * np.conj(
            fft.rfft2(self._draw(seconds, np.where(mirrored, np.float32(-1), np.float32(1))))
        )
        alike = fft.irfft2(moved, s=(SIDE_PX, SIDE_PX))
        near = np.r_[: _SHIFT + 1, -_SHIFT:0]
        return np.asarray(alike[:, near[:, None], near].max(axis=(1, 2)), dtype=np.float32)

    def _draw(self, places: NDArray[np.int64], turn: NDArray[np.float32] | np.float32 = _ONE) -> NDArray[np.float32]:
        """The pictures that sketches stand for, shape (places, 32, 32), each of length 1."""
        coefficients = np.empty((len(places), NUM_LOWEST, NUM_LOWEST), dtype=np.float32)
        coefficients[:, :, 0::2] = self.even[places].reshape(-1, NUM_LOWEST, NUM_LOWEST // 2)
        coefficients[:, :, 1::2] = self.odd[places].reshape(-1, NUM_LOWEST, NUM_LOWEST // 2)
        coefficients[:, :, 1::2] *= np.reshape(turn, (-1, 1, 1))
        return np.asarray(_WAVES.T @ coefficients @ _WAVES, dtype=np.float32)


def sketch_all(
    num: int, load: Callable[[int], NDArray[np.uint8]], *, workers: int | None = None, progress: bool = False
) -> Sketches:
    """Sketch `load(0)` to `load(num - 1)` on all cores; equal digests mean equal pixels.

    Args:
        num: How many pictures.
        load: The pixels of a picture, as `sketch` takes them; called from several threads.
        workers: Threads; None is one a core.
        progress: Show progress on stderr.
    """
    sketches = Sketches(num, digest_of="pixels")

    def fill(begin: int) -> int:
        places = range(begin, min(begin + _BATCH, num))
        for place in places:
            sketches.put(place, sketch(load(place)))
        return len(places)

    with threads(workers) as pool, progress_bar("sketching", num, "pictures", shown=progress) as advance:
        for count in pool.map(fill, range(0, num, _BATCH)):
            advance(count)
    return sketches


@contextmanager
def threads(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """One thread a core, each with OpenCV on one core: one picture a thread is faster than one picture on all."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            yield pool
    finally:
        cv2.setNumThreads(before)


@contextmanager
def progress_bar(what: str, total: int, unit: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; what it yields takes the number of things done since the last call."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn(unit), progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
