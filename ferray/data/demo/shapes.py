"""Shapes on a round head: they are turned with the head and drawn anti-aliased.

The unit of length, the head unit, is the distance from the middle of a face to its chin. The middle is (0, 0), the chin
lies at y = 1, the temples at x = ±0.8; x grows to the picture's right, y down.

Begin at `Pen`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Shape (points, 2), in head units."""
Color = tuple[float, float, float]
"""Red, green and blue, 0 to 255."""

_SHIFT = 4  # binary digits of a pixel's fraction that OpenCV is given


@dataclass(frozen=True)
class Pose:
    """Where a head is in the picture, and in which direction it is turned."""

    center: tuple[float, float]
    """In pixels."""
    scale: float
    """Pixels per head unit."""
    roll: float
    """Rotation in the plane of the picture, in radians, clockwise."""
    yaw: float
    """Rotation to the picture's right, in radians."""
    pitch: float
    """Rotation downwards, in radians."""

    def place(self, points: Points) -> Points:
        """Map points on the rounded front of the face to pixels."""
        x, y = points[:, 0], points[:, 1]
        depth = 0.6 * np.sqrt(np.maximum(0, 1 - (x / 0.85) ** 2 - (y / 1.15) ** 2))
        turned = np.stack([x * np.cos(self.yaw) + depth * np.sin(self.yaw), y + depth * np.sin(self.pitch)], axis=1)
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        placed: Points = np.asarray(self.center) + self.scale * turned @ np.array([[cos, sin], [-sin, cos]])
        return placed


class Pen:
    """Draws shapes given in head units."""

    def __init__(self, canvas: NDArray[np.uint8], pose: Pose) -> None:
        self._canvas = canvas
        self._pose = pose

    def fill(self, points: Points, color: Color) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self._canvas, [self._fixed(points)], color, cv2.LINE_AA, _SHIFT)

    def stroke(self, points: Points, color: Color, width: float, *, closed: bool = False) -> None:
        """Draw a line through points."""
        thickness = max(1, round(width * self._pose.scale))
        cv2.polylines(self._canvas, [self._fixed(points)], closed, color, thickness, cv2.LINE_AA, _SHIFT)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        fixed: NDArray[np.int32] = np.round(self._pose.place(points) * 2**_SHIFT).astype(np.int32)
        return fixed


def mix(one: Color, other: Color, share: float) -> Color:
    """A color between two: `one` at share 0."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(one, other, strict=True))
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    """A darker color for a factor below 1."""
    return mix((0, 0, 0), color, factor)


def pick_color(random: np.random.Generator) -> Color:
    """A muted color, neither black nor white."""
    red, green, blue = (random.uniform(70, 190) + random.normal(0, 20, 3)).clip(0, 255)
    return float(red), float(green), float(blue)


def oval(x: float, y: float, width: float, height: float) -> Points:
    """An ellipse around (x, y); `width` and `height` are its half axes."""
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([x + width * np.cos(turn), y + height * np.sin(turn)], axis=1)


def path(*points: tuple[float, float]) -> Points:
    """The given corners as an array."""
    return np.array(points, dtype=np.float64)


def rounded(*points: tuple[float, float]) -> Points:
    """A path whose inner corners are cut three times, by Chaikin's algorithm."""
    corners = path(*points)
    for _ in range(3):
        near, far = 0.75 * corners[:-1] + 0.25 * corners[1:], 0.25 * corners[:-1] + 0.75 * corners[1:]
        corners = np.concatenate([corners[:1], np.stack([near, far], axis=1).reshape(-1, 2), corners[-1:]])
    return corners


def curve(begin: tuple[float, float], control: tuple[float, float], end: tuple[float, float]) -> Points:
    """A quadratic Bézier curve in 21 points."""
    t = np.linspace(0, 1, 21)[:, None]
    points: Points = (1 - t) ** 2 * np.array(begin) + 2 * t * (1 - t) * np.array(control) + t**2 * np.array(end)
    return points


def band(upper: Points, lower: Points, begin: float, end: float) -> Points:
    """A horizontal band of the area between two curves; `begin` and `end` are fractions of the way down."""
    top, bottom = upper + begin * (lower - upper), upper + end * (lower - upper)
    return np.concatenate([top, bottom[::-1]])
