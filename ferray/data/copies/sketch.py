"""Sketches: 447 numbers and a digest per picture, made while it is decoded, so that it need not be read again.

192 are histograms of gradients (`ferray.data.copies.gradients`). The others are the lowest 16x16 coefficients of the
discrete cosine transform (DCT) of the picture in gray at 32x32, without the mean, each weighted by its frequency,
scaled to length 1. The inner product of two sketches is then a correlation of the two pictures; the weights reduce the
broad light and dark areas, which all faces have in common. A mirrored picture has the same coefficients with the sign
of every odd horizontal frequency reversed, so one pass over two halves gives both correlations.

Begin at `make_sketch`; `Sketches` holds many, about 2 kB each.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.gradients import NUM_GRADIENTS, make_gradients
from ferray.data.threads import Threads

SKETCH_PX = 32
"""Side of the gray picture that is transformed."""
NUM_FREQUENCIES = 16
"""Frequencies kept along each axis."""
MIN_CONTRAST = 2.0
"""Standard deviation of gray levels, 0 to 255, below which a picture shows nothing: it resembles all others."""


def _make_weights() -> NDArray[np.float32]:
    """The distance from frequency 0, with which the power of pictures falls (Field, 1987); 0 for the mean."""
    frequency = np.arange(NUM_FREQUENCIES)
    return np.asarray(np.hypot(frequency[:, None], frequency[None, :]), dtype=np.float32)


def _make_waves() -> NDArray[np.float32]:
    """The lowest cosines of the DCT, shape (16, 32)."""
    frequency, place = np.arange(NUM_FREQUENCIES)[:, None], np.arange(SKETCH_PX)[None, :]
    waves = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SKETCH_PX)) * np.sqrt(2 / SKETCH_PX)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, dtype=np.float32)


_WEIGHTS = _make_weights()
_WAVES = _make_waves()
_MAX_SHIFT = SKETCH_PX // 8
_ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Sketch:
    """A summary of one picture."""

    even: NDArray[np.float32]
    """Weighted coefficients of even horizontal frequency, shape (128,): a mirrored picture has the same."""
    odd: NDArray[np.float32]
    """Weighted coefficients of odd horizontal frequency, shape (128,): a mirrored picture has the negatives."""
    gradients: NDArray[np.float32]
    """Histograms of gradient directions, shape (192,); zeros where the picture shows nothing."""
    digest: bytes
    """16 bytes; equal where the files or the pixels are equal."""
    flat: bool
    """Whether the picture shows nothing; it then resembles no other."""
    short_side_px: int
    """Shorter side of the picture."""


def make_sketch(pixels: NDArray[np.uint8], *, digest: bytes | None = None) -> Sketch:
    """Sketch one decoded picture.

    Args:
        pixels: Shape (height, width) or (height, width, 3), the channels in the same order for all pictures.
        digest: Digest of the file's bytes; None takes the digest of the pixels.
    """
    tiny = np.asarray(cv2.resize(pixels, (SKETCH_PX, SKETCH_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    small = to_gray(tiny).astype(np.float32)
    lowest = cv2.dct(small)[:NUM_FREQUENCIES, :NUM_FREQUENCIES] * _WEIGHTS
    length = float(np.linalg.norm(lowest))
    flat = float(small.std()) < MIN_CONTRAST
    lowest = np.zeros_like(lowest) if flat else lowest / length
    if digest is None:
        digest = digest_pixels(pixels)
    gradients = np.zeros(NUM_GRADIENTS, dtype=np.float32) if flat else make_gradients(small)
    halves = lowest[:, 0::2].ravel(), lowest[:, 1::2].ravel()
    return Sketch(*halves, gradients, digest[:16], flat, min(pixels.shape[:2]))


def digest_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """SHA-256 of a picture's size and pixels."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel from one or three; whether the first of three is red or blue does not matter here."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


class Sketches:
    """Sketches of many pictures in a few arrays, filled in any order and from any thread.

    Args:
        num: How many pictures.
        digest_of: What the digests are computed from: the files' bytes, or the decoded pixels.

    Attributes:
        even, odd: float32, shape (num, 128) each.
        gradients: float32, shape (num, 192).
        digests: One per picture; empty for a place that was not filled, which then resembles no other.
        flat: bool, shape (num,).
        short_side_px: int64, shape (num,).
    """

    def __init__(self, num: int, *, digest_of: Literal["bytes", "pixels"]) -> None:
        self.digest_of = digest_of
        half = NUM_FREQUENCIES * NUM_FREQUENCIES // 2
        self.even: NDArray[np.float32] = np.zeros((num, half), dtype=np.float32)
        self.odd: NDArray[np.float32] = np.zeros((num, half), dtype=np.float32)
        self.gradients: NDArray[np.float32] = np.zeros((num, NUM_GRADIENTS), dtype=np.float32)
        self.digests: list[bytes] = [b""] * num
        self.flat: NDArray[np.bool_] = np.zeros(num, dtype=np.bool_)
        self.short_side_px: NDArray[np.int64] = np.zeros(num, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.digests)

    def put(self, place: int, sketch: Sketch) -> None:
        """Fill one place."""
        self.even[place], self.odd[place] = sketch.even, sketch.odd
        self.gradients[place] = sketch.gradients
        self.digests[place], self.flat[place] = sketch.digest, sketch.flat
        self.short_side_px[place] = sketch.short_side_px

    def select(self, places: NDArray[np.int64]) -> "Sketches":
        """The sketches at some places, in their order."""
        selected = Sketches(len(places), digest_of=self.digest_of)
        selected.even, selected.odd, selected.flat = self.even[places], self.odd[places], self.flat[places]
        selected.gradients = self.gradients[places]
        selected.short_side_px = self.short_side_px[places]
        selected.digests = [self.digests[place] for place in places.tolist()]
        return selected

    def correlate_shifted(
        self, firsts: NDArray[np.int64], seconds: NDArray[np.int64], mirrored: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The best correlation of each pair of pictures when one is moved by up to an eighth of its side.

        Args:
            firsts: Places of the first pictures, shape (pairs,).
            seconds: Places of the second pictures, shape (pairs,).
            mirrored: Whether the second is to be mirrored, shape (pairs,).
        """
        from scipy import fft

        sign = np.where(mirrored, np.float32(-1), np.float32(1))
        spectrum = fft.rfft2(self._reconstruct(firsts)) * np.conj(fft.rfft2(self._reconstruct(seconds, sign)))
        correlation = fft.irfft2(spectrum, s=(SKETCH_PX, SKETCH_PX))
        shifts = np.r_[: _MAX_SHIFT + 1, -_MAX_SHIFT:0]
        return np.asarray(correlation[:, shifts[:, None], shifts].max(axis=(1, 2)), dtype=np.float32)

    def _reconstruct(
        self, places: NDArray[np.int64], odd_sign: NDArray[np.float32] | np.float32 = _ONE
    ) -> NDArray[np.float32]:
        """Pictures with the coefficients of the sketches, shape (places, 32, 32), each of length 1."""
        coefficients = np.empty((len(places), NUM_FREQUENCIES, NUM_FREQUENCIES), dtype=np.float32)
        coefficients[:, :, 0::2] = self.even[places].reshape(-1, NUM_FREQUENCIES, NUM_FREQUENCIES // 2)
        coefficients[:, :, 1::2] = self.odd[places].reshape(-1, NUM_FREQUENCIES, NUM_FREQUENCIES // 2)
        coefficients[:, :, 1::2] *= np.reshape(odd_sign, (-1, 1, 1))
        return np.asarray(_WAVES.T @ coefficients @ _WAVES, dtype=np.float32)


def sketch_all(num: int, load: Callable[[int], NDArray[np.uint8]], threads: Threads) -> Sketches:
    """Sketch `load(0)` to `load(num - 1)`; equal digests mean equal pixels.

    Args:
        num: How many pictures.
        load: Returns the pixels of a picture, as `make_sketch` takes them; called from several threads.
        threads: How the work is spread.
    """
    sketches = Sketches(num, digest_of="pixels")

    def make(place: int) -> Sketch:
        return make_sketch(load(place))

    for place, sketch in enumerate(threads.map(make, range(num), title="sketching", unit="pictures")):
        sketches.put(place, sketch)
    return sketches
