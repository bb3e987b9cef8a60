"""Whether two pictures are one: brought into register, then compared pixel by pixel.

What is compared is the fine structure: gray values without their broad light and dark, which any two faces, and any two
people before a white wall, have in common. Two photographs are aligned by matched points (ORB, RANSAC, a similarity
transform): that finds a cut, scaled or framed copy and tells how many points agree. A small picture or a face has too
few points; two such are aligned by their gray values (ECC, an affine transform), which presumes that they overlap for
the most part already. Begin at `compare_photographs` and `compare_faces`.

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

LONG_SIDE_PX = 480
"""Photographs are compared at this length of their longer side, so that copies of other sizes have like points."""
FACE_PX = 64
"""Faces are compared at this size."""
NUM_POINTS = 1000
"""Points looked for in a photograph."""
MIN_OVERLAP = 0.25
"""Least part of the picture that must lie in the other; two photographs with one watermark share less."""
MAX_SCALE = 1.33
"""A face is not looked for at more than this times its size in the other picture ..."""
MAX_STRETCH = 1.15
"""... nor stretched by more than this: any two smooth pictures can be pulled into one shape."""

_TOLERANCE_PX = 3.0  # of a matched point
_MIN_MATCHES = 8  # below it, RANSAC finds some transform for any two pictures
_FACE_BAND = (0.0, 4.0)  # standard deviations of the blurs whose difference is compared, in pixels: of faces ...
_PHOTOGRAPH_BAND = (1.5, 8.0)  # ... and of photographs, whose finest structure another size or compression changes
_NOISE = 2.0  # gray levels: what JPEG leaves of a smooth picture
_ECC_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two pictures are after alignment."""

    correlation: float
    """Of the fine structure where they overlap, in [-1, 1]; 0 where they cannot be aligned."""
    inliers: int
    """Matched points that agree with one transform; 0 where points were not used."""
    warp: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    """From places in the first gray picture to places in the second, shape (3, 3)."""


class View:
    """A picture while it is compared with others: gray, at the size of comparison.

    Attributes:
        gray: Shape (height, width).
        digest: Of the pixels as given.
        width_px: Of the picture as given.
        height_px: Of the picture as given.
    """

    def __init__(self, gray: NDArray[np.uint8], digest: bytes, width_px: int, height_px: int) -> None:
        self.gray, self.digest, self.width_px, self.height_px = gray, digest, width_px, height_px

    @cached_property
    def mirrored(self) -> "View":
        """The mirror image."""
        turned = np.ascontiguousarray(self.gray[:, ::-1])
        return View(turned, b"mirrored" + self.digest, self.width_px, self.height_px)

    @cached_property
    def points(self) -> tuple[NDArray[np.float32], Any]:
        """Places of the points, shape (points, 2), and their descriptors."""
        found, descriptors = cv2.ORB.create(NUM_POINTS).detectAndCompute(self.gray, None)
        return np.array([point.pt for point in found], dtype=np.float32).reshape(-1, 2), descriptors

    @cached_property
    def photograph_structure(self) -> NDArray[np.float32]:
        """What is compared of a photograph, of the shape of `gray`."""
        return _filter(self.gray, _PHOTOGRAPH_BAND)

    @cached_property
    def face_structure(self) -> NDArray[np.float32]:
        """What is compared of a face, of the shape of `gray`."""
        return _filter(self.gray, _FACE_BAND)

    @cached_property
    def face(self) -> "View":
        """As a face, of shape (64, 64)."""
        return View(_resize(self.gray, FACE_PX, FACE_PX), self.digest, self.width_px, self.height_px)

    def scale(self) -> NDArray[np.float64]:
        """From places in the picture as given to places in `gray`, shape (3, 3)."""
        height, width = self.gray.shape
        return np.diag([width / self.width_px, height / self.height_px, 1.0])


def view_photograph(pixels: NDArray[np.uint8]) -> View:
    """A photograph, its longer side scaled to `LONG_SIDE_PX`.

    Args:
        pixels: Shape (height, width) or (height, width, 3).
    """
    height, width = pixels.shape[:2]
    scale = LONG_SIDE_PX / max(height, width)
    scaled = _resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
    return View(to_gray(scaled), digest_pixels(pixels), width, height)


def view_face(pixels: NDArray[np.uint8]) -> View:
    """A face at `FACE_PX`.

    Args:
        pixels: Shape (height, width) or (height, width, 3).
    """
    height, width = pixels.shape[:2]
    return View(to_gray(_resize(pixels, FACE_PX, FACE_PX)), digest_pixels(pixels), width, height)


def _resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    how = cv2.INTER_AREA if pixels.shape[1] > width or pixels.shape[0] > height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), dtype=np.uint8)


def compare_photographs(first: View, second: View) -> Likeness:
    """Align by points, then correlate the fine structure."""
    (places, descriptors), (others, other_descriptors) = first.points, second.points
    if len(places) < _MIN_MATCHES or len(others) < _MIN_MATCHES:
        return Likeness(0.0, 0)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors, other_descriptors)
    if len(matches) < _MIN_MATCHES:
        return Likeness(0.0, 0)
    begin = places[[match.queryIdx for match in matches]]
    end = others[[match.trainIdx for match in matches]]
    found: Any = cv2.estimateAffinePartial2D(begin, end, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE_PX)
    warp, agrees = found
    if warp is None:
        return Likeness(0.0, 0)
    correlation = _correlate(first.photograph_structure, second.photograph_structure, warp)
    return Likeness(correlation, int(agrees.sum()), np.vstack([warp, [0, 0, 1]]))


def compare_faces(first: View, second: View) -> Likeness:
    """Align by gray values, then correlate the fine structure.

    Args:
        first: Of shape (64, 64).
        second: Of shape (64, 64).
    """
    try:
        _, found = cv2.findTransformECC(
            first.gray, second.gray, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _ECC_STEPS
        )  # fmt: skip
    except cv2.error:  # does not converge: the two are too unlike, or far apart
        return Likeness(0.0, 0)
    warp = np.asarray(found)
    longer, shorter = np.linalg.svd(warp[:, :2], compute_uv=False)
    if longer > MAX_SCALE or shorter < 1 / MAX_SCALE or longer > MAX_STRETCH * shorter:
        return Likeness(0.0, 0)
    correlation = _correlate(first.face_structure, second.face_structure, warp)
    return Likeness(correlation, 0, np.vstack([warp, [0, 0, 1]]))


def _filter(gray: NDArray[np.uint8], band: tuple[float, float]) -> NDArray[np.float32]:
    """Without what a small blur takes, and without what a large one leaves."""
    values = gray.astype(np.float32)
    fine, broad = band
    kept = cv2.GaussianBlur(values, (0, 0), fine) if fine else values
    return np.asarray(kept - cv2.GaussianBlur(values, (0, 0), broad), dtype=np.float32)


def _correlate(first: NDArray[np.float32], second: NDArray[np.float32], warp: NDArray[Any]) -> float:
    """Correlation where the second, brought onto the first, overlaps it; 0 where that is too little.

    Args:
        first: Shape (height, width).
        second: Another shape.
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
    noise = len(one) * _NOISE**2  # what is fainter correlates with nothing
    return float(one @ other) / float(np.sqrt((one @ one + noise) * (other @ other + noise)))
