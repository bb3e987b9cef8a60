"""What is kept of a picture: a sketch, a thumbnail and its contrast, 2 kB. Begin at `scan_picture`."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.sketch import Sketch, Sketches, make_sketch, to_gray

THUMBNAIL_PX = 32
"""Side of a thumbnail."""


@dataclass(frozen=True, slots=True)
class PictureScan:
    """What is kept of one picture."""

    sketch: Sketch
    thumbnail: NDArray[np.uint8]
    """Gray, shape (32, 32)."""
    contrast: float
    """Standard deviation of the gray levels."""


def scan_picture(pixels: NDArray[np.uint8], digest: bytes | None = None) -> PictureScan:
    """Sketch a picture and scale it down.

    Args:
        pixels: Shape (height, width) or (height, width, 3).
        digest: Digest of the file's bytes; None takes the digest of the pixels.
    """
    gray = to_gray(pixels)
    thumbnail = cv2.resize(gray, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return PictureScan(make_sketch(pixels, digest=digest), np.asarray(thumbnail, dtype=np.uint8), float(gray.std()))


class PictureScans:
    """The scans of N pictures in a few arrays.

    Args:
        num: N.
        digest_of: What the digests are computed from: the files' bytes, or the decoded pixels.

    Attributes:
        sketches: N sketches.
        thumbnails: uint8, shape (N, 32, 32).
        contrast: float32, shape (N,).
    """

    def __init__(self, num: int, *, digest_of: Literal["bytes", "pixels"]) -> None:
        self.sketches = Sketches(num, digest_of=digest_of)
        self.thumbnails: NDArray[np.uint8] = np.zeros((num, THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.uint8)
        self.contrast: NDArray[np.float32] = np.zeros(num, dtype=np.float32)

    def put(self, place: int, scan: PictureScan) -> None:
        """Fill one place."""
        self.sketches.put(place, scan.sketch)
        self.thumbnails[place], self.contrast[place] = scan.thumbnail, scan.contrast

    def select(self, places: NDArray[np.int64]) -> "PictureScans":
        """The scans at some places, in their order."""
        selected = PictureScans(0, digest_of=self.sketches.digest_of)
        selected.sketches = self.sketches.select(places)
        selected.thumbnails, selected.contrast = self.thumbnails[places], self.contrast[places]
        return selected
