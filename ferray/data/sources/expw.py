"""ExpW's layout: a folder of photographs and `label.lst` with one line per face.

    angry_actor_109.jpg 0 14 74 162 102 50.3056 0

The columns are name, face id, top, left, right, bottom, the detector's confidence, label. The whole set has 91,793
lines, and every box is a square. Begin at `read_expw`; `_read_line` checks one line.

Source: Zhang, Luo, Loy and Tang, "From Facial Expression Recognition to Interpersonal Relation Prediction", 2016.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ferray.data.sources.boxes import EXPW_ORDER, BoxOrder, to_box
from ferray.data.sources.rows import (
    INTEGER,
    MAX_LIST_BYTES,
    MISSING,
    NUMBERED_CLASSES,
    Face,
    Fault,
    Reason,
    Source,
    find_name_fault,
)
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

FIELDS = ("name", "face id", "top", "left", "right", "bottom", "confidence", "label")
REQUIRED_ORDER = f"The columns must be: {', '.join(FIELDS)}"

_WORDS = re.compile(r"^(.+)_([^_]+)_(\d+)\.jpg$")  # the emotion may have underscores: frightened_by_the_movie_man_12


def read_expw(images: Path, labels: Path, *, dataset: str = "expw", order: BoxOrder = EXPW_ORDER) -> Source:
    """Read the label file and compare it with the folder of photographs; no photograph is opened.

    Args:
        images: The folder of the photographs, ExpW's `origin`.
        labels: The list of faces, `label.lst`; a byte-order mark, Windows line ends and blank lines are accepted.
        dataset: `expw`, or `demo` where the photographs were drawn by code.
        order: The order of the box columns; `ferray data check` also reads other orders than ExpW's own.

    Raises:
        DataError: The folder or the file cannot be read, or the columns are in another order.
    """
    if not images.is_dir():
        raise DataError(str(images), "no such folder of photographs", "Name ExpW's folder `origin`: --images DIR")
    way_out = "Name ExpW's folder `origin` and its list of faces: --images DIR --labels FILE"
    try:
        content = untrusted.read_bytes(labels, max_bytes=MAX_LIST_BYTES)
        root = images.resolve()
        present = {entry.name for entry in root.iterdir()}
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], way_out) from error
    except OSError as error:
        raise DataError(str(error.filename), f"cannot be read: {error.strerror or error}", way_out) from error
    faces: list[Face] = []
    faults: list[Fault] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        found = _read_line(line, f"{labels}:{number}", order)
        if isinstance(found, Face) and not _is_present(found.source, root, present):
            what = f"there is no photograph {found.source} in {images}"
            found = Fault(MISSING, found.place, what, found.source, found.face_id)
        if isinstance(found, Face):
            faces.append(found)
        else:
            faults.append(found)
    _check_columns(faces, faults, labels)
    faces, twice = _leave_out_repeated(faces)
    return Source(
        dataset=dataset,
        root=root,
        faces=faces,
        faults=sorted(faults + twice, key=lambda fault: int(fault.place.rpartition(":")[2])),
        upright=False,
        label_digest=hashlib.sha256(content).digest(),
    )


class _BadLineError(Exception):
    """A reason and what is wrong; caught in this file."""


def _bad(reason: Reason, what: str) -> NoReturn:
    raise _BadLineError(reason, what)


def _read_line(line: bytes, place: str, order: BoxOrder) -> Face | Fault:
    """The face of one line, or what is wrong with it."""
    name, face_id = "", None
    try:
        try:
            fields = line.decode("utf-8").split()
        except UnicodeDecodeError as error:
            _bad("not UTF-8", f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not UTF-8")
        if len(fields) != len(FIELDS):
            _bad("wrong number of fields", f"{len(fields)} fields, not {len(FIELDS)} ({', '.join(FIELDS)})")
        name = fields[0]
        if fault := find_name_fault(name):
            _bad(*fault)
        face_id, *corners, label = (_integer(fields[at], FIELDS[at]) for at in (1, 2, 3, 4, 5, 7))
        if face_id < 0:
            _bad("not a number", f"face id is {face_id}, below 0")
        if not 0 <= label < len(CLASS_NAMES):
            _bad("unknown label", f"label is {label}; known: {NUMBERED_CLASSES}")
        confidence = _finite(fields[6])
        box = to_box(corners, order)
        if box.right <= box.left or box.bottom <= box.top:
            _bad("box of zero area", f"{box} has no area")
    except _BadLineError as error:
        reason, what = error.args
        return Fault(reason, place, what, name, face_id)
    words = _WORDS.fullmatch(name)
    columns = {
        "confidence": confidence,
        "emotion_word": words[1] if words else "",
        "subject_word": words[2] if words else "",
    }
    return Face(name, face_id, label, place, box=box, columns=columns)


def _integer(text: str, field: str) -> int:
    if not INTEGER.fullmatch(text):
        _bad("not a number", f"{field} is {text[:40]!r}, not a whole number of up to nine digits")
    return int(text)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        _bad("not a number", f"confidence is {text[:40]!r}, not a finite number")
    return value


def _is_present(name: str, root: Path, present: set[str]) -> bool:
    """Whether the photograph exists; the folder's listing answers this for names without a folder."""
    return name in present if "/" not in name else (root / name).exists()


def _check_columns(faces: Sequence[Face], faults: Sequence[Fault], labels: Path) -> None:
    """Refuse a list whose boxes are not squares: its columns are in another order, and every crop would be wrong.

    Of ExpW's boxes, 5,705 were looked at, and each is an exact square. Read as left, top, right, bottom, half of them
    have no area.
    """
    flat = sum(fault.reason == "box of zero area" for fault in faults)
    boxes = [face.box for face in faces if face.box is not None]
    is_odd = [abs((box.right - box.left) - (box.bottom - box.top)) > 0.25 * box.side_px for box in boxes]
    odd = sum(is_odd)
    if flat + odd >= 20 and 2 * (flat + odd) > len(boxes) + flat:
        shown = (
            f"{boxes[is_odd.index(True)]}" if odd else next(f.what for f in faults if f.reason == "box of zero area")
        )
        what = f"{flat + odd} of {len(boxes) + flat} boxes are not squares, and ExpW's all are; the first: {shown}"
        raise DataError(str(labels), what, REQUIRED_ORDER)


def _leave_out_repeated(faces: Sequence[Face]) -> tuple[list[Face], list[Fault]]:
    """Of several lines for one face, keep the first if they are equal, and none if they differ."""
    by_key: dict[tuple[str, int], list[Face]] = {}
    for face in faces:
        by_key.setdefault((face.source, face.face_id), []).append(face)
    kept: list[Face] = []
    faults: list[Fault] = []
    for (name, face_id), repeated in by_key.items():
        first = repeated[0]
        are_equal = all((face.box, face.label) == (first.box, first.label) for face in repeated)
        kept += [first] if are_equal else []
        for face in repeated[1:] if are_equal else repeated:
            other = first if face is not first else repeated[1]
            line = other.place.rpartition(":")[2]
            with_what = "the same box and label" if are_equal else "another box or label"
            what = f"{name} face {face_id} is also in line {line}, with {with_what}"
            faults.append(Fault("two rows for one face", face.place, what, name, face_id))
    return kept, faults
