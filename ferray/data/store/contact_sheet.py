"""A contact sheet: some faces of every class and split of a store in one picture. Begin at `write_contact_sheet`."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.sampling import evenly_spaced
from ferray.data.scaling import scale_to
from ferray.data.store.reader import Store
from ferray.errors import DataError, StorageError
from ferray.files import storage

NUM_PER_SPLIT = 6
"""Number of faces that are shown of each class and split."""
SHEET_FACE_PX = 72
MAX_ROWS = 100
"""Classes that are shown; of more, some at even distances."""
_LEFT_PX, _TOP_PX, _GAP_PX = 150, 60, 16
_MAX_LETTERS = 14
"""Of a class name, left of its faces."""
_INK, _PAPER = (40, 40, 40), 250


def write_contact_sheet(store: Store, file: Path) -> None:
    """Write a PNG file with a row for each class, of at most `MAX_ROWS`, and a block of faces for each split.

    The first face, the last face and faces at even distances between them are shown, so that a sheet represents the
    whole split.

    Raises:
        DataError: The file's name does not end in `.png`.
        StorageError: It cannot be written.
    """
    if file.suffix.lower() != ".png":
        raise DataError(str(file), "not a PNG", "Name a file that ends in .png")
    encoded, content = cv2.imencode(".png", draw_contact_sheet(store)[..., ::-1])
    if not encoded:
        raise StorageError(str(file), "the contact sheet cannot be encoded", "Report this store's manifest")
    storage.write_bytes(file, content.tobytes())


def draw_contact_sheet(store: Store) -> NDArray[np.uint8]:
    """The sheet as RGB, shape (height, width, 3)."""
    manifest = store.manifest
    shown = [split for split, size in manifest.split_sizes.items() if size]
    block_px = NUM_PER_SPLIT * SHEET_FACE_PX + _GAP_PX
    labels = evenly_spaced(np.arange(len(store.class_names)), MAX_ROWS).tolist()
    height = _TOP_PX + len(labels) * SHEET_FACE_PX + _GAP_PX
    sheet = np.full((height, _LEFT_PX + len(shown) * block_px, 3), _PAPER, dtype=np.uint8)
    _write(
        sheet, f"{store.folder.name}: {manifest.num_faces:,} {manifest.shown.nouns}, {store.size_px} px", _GAP_PX, 24
    )
    for place, label in enumerate(labels):
        name = store.class_names[label]
        middle = _TOP_PX + place * SHEET_FACE_PX + SHEET_FACE_PX // 2
        total = sum(manifest.counts[split][name] for split in shown)
        _write(sheet, name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}~", _GAP_PX, middle)
        _write(sheet, f"{total:,}", _GAP_PX, middle + 20)
    for column, split in enumerate(shown):
        left, rows = _LEFT_PX + column * block_px, store.rows(split)
        _write(sheet, f"{split}: {rows.stop - rows.start:,}", left, _TOP_PX - 10)
        for line, label in enumerate(labels):
            members = rows.start + np.flatnonzero(store.labels[rows] == label)
            for place, row in enumerate(evenly_spaced(members, NUM_PER_SPLIT)):
                x, y = left + place * SHEET_FACE_PX, _TOP_PX + line * SHEET_FACE_PX
                sheet[y : y + SHEET_FACE_PX, x : x + SHEET_FACE_PX] = scale_to(
                    np.asarray(store.faces[row]), SHEET_FACE_PX, SHEET_FACE_PX
                )
    return sheet


def _write(sheet: NDArray[np.uint8], text: str, x: int, y: int) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
