"""What every source hands over: labelled faces in photographs, and the rows that are no good, each with a reason.

Begin at `Source`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven, in the order of the labels: ExpW's own numbers 0 to 6."""

INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)
"""A whole number of a list."""

MAX_LIST_BYTES = 2**28
"""Of a list of faces; that of ExpW, with 91,793, has 6 MB."""


@dataclass(frozen=True, slots=True)
class Box:
    """A face's place in its photograph, in pixels; right and bottom are just outside it."""

    top: int
    left: int
    right: int
    bottom: int

    @property
    def side_px(self) -> int:
        """The longer side; ExpW's boxes are all square."""
        return max(self.right - self.left, self.bottom - self.top)


@dataclass(frozen=True, slots=True)
class Face:
    """One labelled face, not yet looked at."""

    source: str
    """The photograph's path below the source's folder, with `/`."""
    face_id: int
    """Its number within the photograph; with `source` it is the face's key."""
    label: int
    """Place in `CLASS_NAMES`."""
    place: str
    """Where it is written, for messages: `label.lst:14`, or the photograph's own path."""
    box: Box | None = None
    """None is the whole photograph."""
    split: str | None = None
    """As the source gives it; None where it is still to be split."""
    columns: Mapping[str, str | float] = field(default_factory=dict)
    """What else the source knows and is worth slicing by."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row or photograph that cannot be used."""

    reason: str
    """A few words, the same for all of a kind: they are counted."""
    place: str
    """File and line."""
    what: str
    """What is wrong, with the value."""
    source: str = ""
    """The photograph, where it is known."""
    face_id: int | None = None
    """The face, where it is known."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set on disk: its photographs' folder, its faces and its faults."""

    dataset: str
    """`expw`, `folders` or `demo`."""
    root: Path
    """The folder of the photographs, resolved."""
    faces: Sequence[Face]
    """Usable as far as the labels and the names tell, in any order, keys unique."""
    faults: Sequence[Fault]
    """What is not, in the order of the source."""
    upright: bool
    """Whether the camera's orientation tag is followed; not where boxes count pixels of the stored picture."""
    label_digest: bytes = b""
    """Of the label file's bytes, where there is one."""
