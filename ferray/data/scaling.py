"""How pictures are brought to another size: one rule for faces on their way into a store and out of it.

Pixels are averaged over areas on the way down, and interpolated by cubic convolution on the way up (Keys, "Cubic
Convolution Interpolation for Digital Image Processing", 1981). Faces scaled to a half and back by it have less error
than by linear interpolation: see `benchmarks/README.md`.

Begin at `scale_to`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SCALING = "area average down, bicubic up"
"""The rule in words, for exported models."""

RULES = {SCALING: cv2.INTER_CUBIC, "area average down, linear up": cv2.INTER_LINEAR}
"""OpenCV's filter on the way up, by rule. Models that were exported before `NUMBERS_VERSION` 2 keep the second one."""


def scale_to(picture: NDArray[np.uint8], width: int, height: int, *, rule: str = SCALING) -> NDArray[np.uint8]:
    """A picture at another size.

    Args:
        picture: Shape (height, width) or (height, width, channels).
        width: Of the result, in pixels.
        height: Of the result, in pixels.
        rule: Name in `RULES`.
    """
    shrinks = picture.shape[1] > width or picture.shape[0] > height
    how = cv2.INTER_AREA if shrinks else RULES[rule]
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), dtype=np.uint8)
