"""ExpW in small, drawn: for the tests of what reads and prepares it."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WORDS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def draw(seed: int, height: int = 40, width: int = 48) -> NDArray[np.uint8]:
    """A smooth picture of its own, unlike all others."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@cache
def encode(seed: int, suffix: str) -> bytes:
    """The picture as a file's bytes."""
    encoded, content = cv2.imencode(suffix, draw(seed))
    assert encoded
    return content.tobytes()


@dataclass
class ExpW:
    """ExpW in small: seven classes, `per_class` photographs each, every third with a second face of the next class."""

    folder: Path
    per_class: int = 10
    lines: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images.mkdir(parents=True)
        number = 0
        for label, word in enumerate(WORDS):
            for photograph in range(self.per_class):
                name = f"{word}_man_{photograph}.jpg"
                (self.images / name).write_bytes(encode(number, ".jpg"))
                self.lines.append(format_line(name, label=label))
                if number % 3 == 0:
                    self.lines.append(format_line(name, face_id=2, left=20, label=(label + 1) % 7))
                number += 1
        self.add_lines()

    @property
    def images(self) -> Path:
        return self.folder / "origin"

    @property
    def labels(self) -> Path:
        return self.folder / "label.lst"

    def add_lines(self, *lines: bytes) -> None:
        """Write the list again with more lines at its end."""
        self.lines += lines
        self.labels.write_bytes(b"\n".join(self.lines) + b"\n")


def format_line(name: str, *, face_id: int = 0, top: int = 10, left: int = 5, side: int = 20, label: int = 0) -> bytes:
    """A line of `label.lst`."""
    return f"{name} {face_id} {top} {left} {left + side} {top + side} 50.25 {label}".encode()
