"""Image registration: two pictures are aligned, then compared pixel by pixel.

The fine structure is compared: gray values without the broad light and dark areas, which any two faces, and any two
people in front of a white wall, have in common. Two photographs are aligned by matched points (ORB, RANSAC, a
similarity transform): that finds a cropped, scaled or framed copy and counts the points that agree. A small picture or
a face has too few points; two of them are aligned by their gray values (ECC, an affine transform), which requires that
they overlap for the most part already. Begin at `align_photographs` and `align_faces`.

Sources: Rublee et al., "ORB: an efficient alternative to SIFT or SURF", 2011; Evangelidis and Psarakis, "Parametric
image alignment using enhanced correlation coefficient maximization", 2008.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.sketch import digest_pixels, to_gray
from ferray.data.scaling import scale_to

LONG_SIDE_PX = 480
"""Longer side of the photographs that are compared, so that copies of other sizes have similar points."""
FACE_PX = 64
"""Side of the faces that are compared."""
NUM_POINTS = 1000
"""Points that are looked for in a photograph."""
MIN_OVERLAP = 0.25
"""Smallest part of a picture that must lie in the other; two photographs with the same watermark share less."""
MAX_SCALE = 1.33
"""A face is scaled by at most this factor to fit the other ..."""
MAX_STRETCH = 1.15
"""... and stretched along one direction by at most this one: any two smooth pictures can be distorted to agree."""

_TOLERANCE_PX = 3.0  # largest error of a matched point
_MIN_MATCHES = 8  # with fewer, RANSAC finds some transform for any two pictures
_FACE_BAND = (0.0, 4.0)  # standard deviations of the blurs whose difference is compared, in pixels: for faces ...
_PHOTOGRAPH_BAND = (1.5, 8.0)  # ... and for photographs, whose finest structure changes with size and compression
_NOISE = 2.0  # gray levels: what JPEG adds to a smooth picture
_ECC_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two pictures after alignment."""

    correlation: float
    """Correlation of the fine structure where they overlap, in [-1, 1]; 0 where they cannot be aligned."""
    num_inliers: int
    """Matched points that agree with one transform; 0 where points were not used."""
    warp: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    """From places in the first gray picture to places in the second, shape (3, 3)."""


class RegistrationImage:
    """A picture while it is compared with others: gray, at the size of comparison.

    Attributes:
        gray: Shape (height, width).
        digest: Digest of the pixels of the original picture.
        width_px: Width of the original picture.
        height_px: Height of the original picture.
    """

    def __init__(self, gray: NDArray[np.uint8], digest: bytes, width_px: int, height_px: int) -> None:
        self.gray, self.digest, self.width_px, self.height_px = gray, digest, width_px, height_px

    @classmethod
    def of_photograph(cls, pixels: NDArray[np.uint8]) -> "RegistrationImage":
        """A photograph, its longer side scaled to `LONG_SIDE_PX`.

        Args:
            pixels: Shape (height, width) or (height, width, 3).
        """
        height, width = pixels.shape[:2]
        ratio = LONG_SIDE_PX / max(height, width)
        scaled = scale_to(pixels, max(1, round(width * ratio)), max(1, round(height * ratio)))
        return cls(to_gray(scaled), digest_pixels(pixels), width, height)

    @classmethod
    def of_face(cls, pixels: NDArray[np.uint8]) -> "RegistrationImage":
        """A face, scaled to `FACE_PX`.

        Args:
            pixels: Shape (height, width) or (height, width, 3).
        """
        height, width = pixels.shape[:2]
        return cls(to_gray(scale_to(pixels, FACE_PX, FACE_PX)), digest_pixels(pixels), width, height)

    @cached_property
    def mirrored(self) -> "RegistrationImage":
        """The mirror image."""
        gray = np.ascontiguousarray(self.gray[:, ::-1])
        return RegistrationImage(gray, b"mirrored" + self.digest, self.width_px, self.height_px)

    @cached_property
    def points(self) -> tuple[NDArray[np.float32], Any]:
        """Places of the ORB points, shape (points, 2), and their descriptors."""
        found, descriptors = cv2.ORB.create(NUM_POINTS).detectAndCompute(self.gray, None)
        return np.array([point.pt for point in found], dtype=np.float32).reshape(-1, 2), descriptors

    @cached_property
    def photograph_structure(self) -> NDArray[np.float32]:
        """The fine structure of a photograph, of the shape of `gray`."""
        return _filter(self.gray, _PHOTOGRAPH_BAND)

    @cached_property
    def face_structure(self) -> NDArray[np.float32]:
        """The fine structure of a face, of the shape of `gray`."""
        return _filter(self.gray, _FACE_BAND)

    @cached_property
    def face(self) -> "RegistrationImage":
        """The picture scaled as a face, of shape (64, 64)."""
        return RegistrationImage(scale_to(self.gray, FACE_PX, FACE_PX), self.digest, self.width_px, self.height_px)

    def scale(self) -> NDArray[np.float64]:
        """From places in the original picture to places in `gray`, shape (3, 3)."""
        height, width = self.gray.shape
        return np.diag([width / self.width_px, height / self.height_px, 1.0])


def align_photographs(first: RegistrationImage, second: RegistrationImage) -> Alignment:
    """Align by matched points, then correlate the fine structure."""
    (places, descriptors), (others, other_descriptors) = first.points, second.points
    if len(places) < _MIN_MATCHES or len(others) < _MIN_MATCHES:
        return Alignment(0.0, 0)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors, other_descriptors)
    if len(matches) < _MIN_MATCHES:
        return Alignment(0.0, 0)
    begin = places[[match.queryIdx for match in matches]]
    end = others[[match.trainIdx for match in matches]]
    found: Any = cv2.estimateAffinePartial2D(begin, end, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE_PX)
    warp, agrees = found
    if warp is None:
        return Alignment(0.0, 0)
    correlation = _correlate(first.photograph_structure, second.photograph_structure, warp)
    return Alignment(correlation, int(agrees.sum()), np.vstack([warp, [0, 0, 1]]))


def align_faces(first: RegistrationImage, second: RegistrationImage) -> Alignment:
    """Align by gray values, then correlate the fine structure.

    Args:
        first: Of shape (64, 64).
        second: Of shape (64, 64).
    """
    try:
        _, found = cv2.findTransformECC(
            first.gray, second.gray, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _ECC_STEPS
        )  # fmt: skip
    except cv2.error:  # does not converge: the two differ too much, or lie too far apart
        return Alignment(0.0, 0)
    warp = np.asarray(found)
    longer, shorter = np.linalg.svd(warp[:, :2], compute_uv=False)
    if longer > MAX_SCALE or shorter < 1 / MAX_SCALE or longer > MAX_STRETCH * shorter:
        return Alignment(0.0, 0)
    correlation = _correlate(first.face_structure, second.face_structure, warp)
    return Alignment(correlation, 0, np.vstack([warp, [0, 0, 1]]))


def _filter(gray: NDArray[np.uint8], band: tuple[float, float]) -> NDArray[np.float32]:
    """The difference of a small and a large blur: neither the finest structure nor the broad light and dark areas."""
    values = gray.astype(np.float32)
    fine, broad = band
    kept = cv2.GaussianBlur(values, (0, 0), fine) if fine else values
    return np.asarray(kept - cv2.GaussianBlur(values, (0, 0), broad), dtype=np.float32)


def _correlate(first: NDArray[np.float32], second: NDArray[np.float32], warp: NDArray[Any]) -> float:
    """Correlation where the second, moved onto the first, overlaps it; 0 where they overlap too little.

    Args:
        first: Shape (height, width).
        second: Any shape.
        warp: From places in the first to places in the second, shape (2, 3).
    """
    height, width = first.shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, warp, (width, height), flags=how)
    inside = cv2.warpAffine(np.ones(second.shape, dtype=np.uint8), warp, (width, height), flags=how) > 0
    if inside.mean() < MIN_OVERLAP:
        return 0.0
    one, other = first[inside].astype(np.float64), moved[inside].astype(np.float64)
    one, other = one - one.mean(), other - other.mean()
    noise = len(one) * _NOISE**2  # structure fainter than this does not count
    return float(one @ other) / float(np.sqrt((one @ one + noise) * (other @ other + noise)))
