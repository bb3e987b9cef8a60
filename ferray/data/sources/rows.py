"""What every source delivers: labeled faces in photographs, and the rows that cannot be used, each with a reason.

Begin at `Source`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ferray.data.sources.classes import EXPRESSION_CLASSES, Classes
from ferray.data.subject import CLASS_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUMBERED_CLASSES = ", ".join(f"{number} {name}" for number, name in enumerate(CLASS_NAMES))
"""The labels and their classes, for messages."""

INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)
"""A whole number in a list."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp")
"""How the names of pictures usually end."""

TABLE_COLUMNS = (
    "source", "face_id", "split", "group", "copies", "same_face", "label", "class_name", "top", "left", "right",
    "bottom", "face_px", "photo_width_px", "photo_height_px", "gray", "overruns", "sha256",
)  # fmt: skip
"""The columns of every store's table; a source's own columns have other names."""

MAX_LIST_BYTES = 2**28
"""Of a list of faces; the list of ExpW has 91,793 lines in 6 MB."""


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

    def __str__(self) -> str:
        return f"the box top {self.top}, left {self.left}, right {self.right}, bottom {self.bottom}"


@dataclass(frozen=True, slots=True)
class Face:
    """One labeled face of a source; its photograph has not been opened."""

    source: str
    """The photograph's path below the source's folder, with `/`."""
    face_id: int
    """Its number within the photograph; `source` and `face_id` together identify the face."""
    label: int
    """Place in the names of the source's classes."""
    place: str
    """Where it is listed, for messages: `label.lst:14`, or the photograph's own path."""
    box: Box | None = None
    """None means the whole photograph."""
    split: str | None = None
    """As the source gives it; None where the source has no split."""
    group: str | None = None
    """Faces of one group stay in one split, such as those of one person; None where the source names none."""
    columns: Mapping[str, str | float | None] = field(default_factory=dict)
    """Further columns of the source that are useful for slices."""
    votes: tuple[int, ...] | None = None
    """How many annotators chose each class; None where the source has only a label."""


Reason = Literal[
    "not UTF-8", "wrong number of fields", "empty cell", "not a number",
    "wrong number of pixels", "unknown label", "unknown split", "no annotation",
    "value that does not print",
    "box of zero area", "box outside the photograph", "two rows for one face",
    "name outside the folder", "name that is none", "missing photograph",
    "truncated photograph", "damaged photograph", "not a picture", "unreadable photograph", "photograph too large",
    "copies with unlike labels", "copy of a face in a later split",
    "of another class", "no label", "no majority of votes", "tied votes", "voted unknown", "voted not a face",
]  # fmt: skip
"""Why a row cannot be used, or was left out; `ferray.data.sources.ways_out` has what to do about each."""
MISSING: Reason = "missing photograph"
CONFLICT: Reason = "copies with unlike labels"
LEAK: Reason = "copy of a face in a later split"
DELIBERATE: tuple[Reason, ...] = (
    CONFLICT, LEAK, "of another class", "no label", "no majority of votes", "tied votes", "voted unknown",
    "voted not a face",
)  # fmt: skip
"""Reasons for which faces are left out on request or by a rule; the other reasons are faults."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row or photograph that cannot be used."""

    reason: Reason
    """A few words, the same for all faults of a kind: they are counted."""
    place: str
    """File and line."""
    what: str
    """What is wrong, with the value."""
    source: str = ""
    """The photograph, where it is known."""
    face_id: int | None = None
    """The face, where it is known."""
    way_out: str = ""
    """What to do about it, where that is not what its reason usually needs."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set on disk: the folder of its photographs, its faces and its faults."""

    dataset: str
    """The set, as a store's manifest records it: `expw`, `folders`, `ferplus-majority` and others."""
    root: Path
    """The folder of the photographs, resolved."""
    faces: Sequence[Face]
    """Faces whose labels and names are usable, in any order, each listed once."""
    faults: Sequence[Fault]
    """The rows that are not usable, in the order of the source."""
    upright: bool
    """Whether the camera's orientation tag is followed. It is not where boxes count pixels of the stored picture."""
    classes: Classes = EXPRESSION_CLASSES
    """The classes that the labels number, and what they are classes of."""
    is_listed: bool = False
    """Whether a table names the photographs, so that other files and a store may lie among them."""
    label_digest: bytes = b""
    """SHA-256 of the label file, where there is one."""
    left_out: Sequence[Fault] = ()
    """Rows that are left out by a rule, such as other classes: they are counted, and are no faults."""
    notes: Sequence[str] = ()
    """What was decided about the labels and the split, in words, for the manifest."""
    pixels: "Callable[[str], NDArray[np.uint8]] | None" = None
    """Gives a photograph's pixels by its name, BGR, shape (height, width, 3); None where photographs are files."""
    margin: float | None = None
    """The margin with which faces were cropped before; None where photographs are as they were taken."""

    @property
    def has_whole_photographs(self) -> bool:
        """Whether each photograph is one face, without a box."""
        return all(face.box is None for face in self.faces)

    @property
    def unused(self) -> Sequence[Fault]:
        """All rows that are not among the faces."""
        return [*self.faults, *self.left_out]


def find_name_fault(name: str) -> tuple[Reason, str] | None:
    """What is wrong with a photograph's name in a list, such as that it could point out of the folder."""
    parts = name.replace("\\", "/").split("/")
    if re.match("[A-Za-z]:", name) or "\0" in name or parts[0] == "":
        return "name outside the folder", f"the photograph's name {name[:80]!r} is not a path below the folder"
    if not name.isprintable() or any(len(part.encode()) > 255 for part in parts):
        return "name that is none", f"the photograph's name {name[:80]!r} is too long, or does not print"
    if any(part in ("", ".", "..") for part in parts):
        return "name outside the folder", f"the photograph's name {name[:80]!r} leads out of the folder"
    return None


def count_by_reason(faults: Iterable[Fault]) -> dict[Reason, int]:
    """Number of faults by reason, the most frequent reason first."""
    return dict(Counter(fault.reason for fault in faults).most_common())
