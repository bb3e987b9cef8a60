"""What a store holds, as a table of counts and as a contact sheet. Begin at `format_counts`."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import Store
from ferray.errors import DataError, StorageError
from ferray.files import storage

PER_SPLIT = 6
"""Faces of a class shown from each split."""
FACE_PX = 72
_LEFT_PX, _TOP_PX, _GAP_PX = 150, 60, 16
_INK, _PAPER = (40, 40, 40), 250


def format_counts(store: Store) -> str:
    """Counts by class and split, what was done to the faces and what was left out, as text."""
    manifest = store.manifest
    head = f"{store.folder}: {manifest.num_faces:,} faces of {manifest.size_px} px from {manifest.dataset}"
    shown = [split for split in SPLITS if sum(manifest.counts[split].values())]
    lines = [head, "", "".join([f"{'class':12}", *(f"{split:>12}" for split in shown), f"{'all':>12}"])]
    for name in manifest.class_names:
        numbers = [manifest.counts[split][name] for split in shown]
        lines.append("".join([f"{name:12}", *(f"{number:12,}" for number in numbers), f"{sum(numbers):12,}"]))
    numbers = [sum(manifest.counts[split].values()) for split in shown]
    lines.append("".join([f"{'all':12}", *(f"{number:12,}" for number in numbers), f"{sum(numbers):12,}"]))
    lines += ["", *(f"- {note}" for note in manifest.notes)]
    lines += [f"- left out: {count:,} {reason}" for reason, count in manifest.skipped.items()]
    return "\n".join([*lines, f"- fingerprint {manifest.fingerprint[:16]}"])


def write_contact_sheet(store: Store, file: Path) -> None:
    """Draw a row for each class and a block of faces for each split, as PNG.

    The faces are the first, the last and others at even distances between them, so that a sheet shows all of a split.

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
    counts = store.manifest.counts
    shown = [split for split in SPLITS if sum(counts[split].values())]
    block = PER_SPLIT * FACE_PX + _GAP_PX
    height = _TOP_PX + len(store.class_names) * FACE_PX + _GAP_PX
    sheet = np.full((height, _LEFT_PX + len(shown) * block, 3), _PAPER, dtype=np.uint8)
    _write(sheet, f"{store.folder.name}: {store.manifest.num_faces:,} faces, {store.size_px} px", _GAP_PX, 24)
    for column, split in enumerate(shown):
        left, rows = _LEFT_PX + column * block, store.rows(split)
        _write(sheet, f"{split}: {rows.stop - rows.start:,}", left, _TOP_PX - 10)
        for label, name in enumerate(store.class_names):
            top = _TOP_PX + label * FACE_PX
            if column == 0:
                total = sum(counts[each][name] for each in shown)
                _write(sheet, name, _GAP_PX, top + FACE_PX // 2)
                _write(sheet, f"{total:,}", _GAP_PX, top + FACE_PX // 2 + 20)
            members = rows.start + np.flatnonzero(store.labels[rows] == label)
            for place, row in enumerate(_even(members)):
                x = left + place * FACE_PX
                how = cv2.INTER_AREA if store.size_px > FACE_PX else cv2.INTER_LINEAR
                sheet[top : top + FACE_PX, x : x + FACE_PX] = cv2.resize(
                    np.asarray(store.faces[row]), (FACE_PX, FACE_PX), interpolation=how
                )
    return sheet


def _even(members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to `PER_SPLIT` of the rows, at even distances."""
    if len(members) <= PER_SPLIT:
        return members
    return members[np.linspace(0, len(members) - 1, PER_SPLIT).round().astype(np.int64)]


def _write(sheet: NDArray[np.uint8], text: str, x: int, y: int) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
