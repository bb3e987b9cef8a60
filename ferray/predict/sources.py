"""The pictures that a command line names: files, folders, tables, standard input; and the faces in them.

Begin at `list_pictures`.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from ferray.data.decoding.formats import BadPhotographError
from ferray.data.prepare.photographs import read_photograph
from ferray.data.sources.rows import SUFFIXES, Box
from ferray.data.sources.table import check_box_columns, read_box, spelled_on_disk
from ferray.data.threads import Threads, progress_bar
from ferray.errors import DataError
from ferray.files import untrusted
from ferray.predict.model import PictureFile, Unreadable

MAX_TABLE_BYTES = 2**30

MIN_FACE_PX = 24
"""Side of the smallest face that the detector knows."""

SCALE_STEP = 1.2
"""Ratio of two sizes that faces are looked for in."""


def list_pictures(names: Sequence[str], stdin: TextIO) -> list[PictureFile]:
    """The pictures that are named, in order.

    Args:
        names: Each a picture; a folder, whose pictures are taken with those of the folders below it, by name; a table
            `.csv` with a column `path`, relative to the table's folder, and optional columns left, top, right, bottom
            in pixels; or `-` for a file name a line on standard input.
        stdin: Standard input.

    Raises:
        DataError: A folder has no pictures, or a table cannot be used.
    """
    found: list[PictureFile] = []
    for name in names:
        if name == "-":
            found += [PictureFile(line.rstrip("\r\n")) for line in stdin if line.strip()]
        elif os.path.isdir(name):
            found += _list_folder(name)
        elif name.lower().endswith(".csv"):
            found += _read_table(Path(name))
        else:
            found.append(PictureFile(name))
    return found


def find_faces(
    pictures: Sequence[PictureFile], *, threads: Threads | None = None
) -> Iterator[PictureFile | Unreadable]:
    """The faces in pictures, largest first in each.

    They are found by scikit-image's cascade of local binary patterns, whose parameters are part of that package. It
    finds faces that look at the camera, and misses many others.

    Args:
        pictures: Those that have a box already are passed on.
        threads: Whether a progress bar is shown; the detector uses one thread.

    Raises:
        DataError: scikit-image is not installed.

    Source: Liao et al., "Learning multi-scale block local binary patterns for face recognition", 2007.
    """
    detect = _make_detector()
    shown = threads is not None and threads.show_progress
    with progress_bar("finding faces", len(pictures), "pictures", is_shown=shown) as advance:
        for picture in pictures:
            yield from [picture] if picture.box is not None else _find_in(picture, detect)
            advance(1)


def _find_in(
    picture: PictureFile, detect: Callable[[NDArray[np.uint8]], list[Box]]
) -> Sequence[PictureFile | Unreadable]:
    path = Path(os.path.realpath(picture.path))
    try:
        boxes = detect(read_photograph(path.parent, path.name, upright=True).pixels)
    except BadPhotographError as error:
        return [Unreadable(path=picture.path, reason=error.what)]
    if not boxes:
        return [Unreadable(path=picture.path, reason="no face was found in it")]
    return [PictureFile(picture.path, box) for box in boxes]


def _make_detector() -> Callable[[NDArray[np.uint8]], list[Box]]:
    try:
        from skimage import data, feature
    except ImportError as error:
        raise DataError("--crop-faces", "scikit-image is not installed", "pip install 'ferray[faces]'") from error
    file = data.lbp_frontal_face_cascade_filename()  # type: ignore[no-untyped-call]
    cascade = feature.Cascade(file)

    def detect(pixels: NDArray[np.uint8]) -> list[Box]:
        smallest, largest = (MIN_FACE_PX, MIN_FACE_PX), pixels.shape[:2]
        found = cascade.detect_multi_scale(pixels[..., ::-1], SCALE_STEP, 1, min_size=smallest, max_size=largest)
        boxes = [Box(left=f["c"], top=f["r"], right=f["c"] + f["width"], bottom=f["r"] + f["height"]) for f in found]
        return sorted(boxes, key=lambda box: (-box.side_px, box.left, box.top))

    return detect


def _list_folder(name: str) -> list[PictureFile]:
    found = []
    for folder, folders, files in os.walk(name, onerror=_refuse_folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        pictures = (file for file in sorted(files) if file.lower().endswith(SUFFIXES) and not file.startswith("."))
        found += [PictureFile(os.path.join(folder, file)) for file in pictures]
    if not found:
        raise DataError(name, "has no pictures", f"Pictures end in {', '.join(SUFFIXES)}; name other files one by one")
    return found


def _refuse_folder(error: OSError) -> NoReturn:
    what = f"cannot be read: {error.strerror or error}"
    raise DataError(str(error.filename), what, "Check the folder's permissions") from error


def _read_table(file: Path) -> list[PictureFile]:
    try:
        with untrusted.open_text(file, max_bytes=MAX_TABLE_BYTES) as lines:
            rows = csv.DictReader(lines, strict=True)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
            has_boxes = _check_columns(rows.fieldnames, file)
            return [_to_picture(row, file, rows.line_num, has_boxes=has_boxes) for row in rows]
    except UnicodeDecodeError as error:
        raise DataError(str(file), "not UTF-8", "Save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(str(file), f"not a table: {error}", "Write one picture a line, with commas between") from error


def _check_columns(columns: Sequence[str], file: Path) -> bool:
    """Whether a table has boxes."""
    if "path" not in columns:
        what = f"has no column path; its columns are {', '.join(columns) or 'none'}"
        raise DataError(str(file), what, "Name the column of the pictures `path` in the first line")
    return check_box_columns(columns, file)


def _to_picture(row: Mapping[str, str | None], file: Path, line: int, *, has_boxes: bool) -> PictureFile:
    text = (row["path"] or "").strip()  # as `prepare csv` reads a table
    if not text:
        raise DataError(f"{file}:{line}", "the path is empty", "Give one, or remove the line")
    path = str(file.parent / spelled_on_disk(file.parent, text))
    try:
        return PictureFile(path, read_box(row) if has_boxes else None)
    except ValueError as error:
        way_out = "Give four whole numbers of pixels, or none; left is below right, and top below bottom"
        raise DataError(f"{file}:{line}", str(error), way_out) from error
