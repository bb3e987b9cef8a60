"""FER2013's own file, one line per face.

    emotion,pixels,Usage
    0,70 80 82 72 ... 106 109 82,Training

`fer2013.csv` has these columns; `icml_face_data.csv` has emotion, Usage, pixels, with spaces before the names.
`train.csv` has no Usage and `test.csv` no emotion. A face of 48x48 has 2,304 gray levels. Begin at `read_fer2013_csv`.

Source: Goodfellow et al., "Challenges in Representation Learning: A report on three machine learning contests", 2013.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.data.sources.folders import SPLIT_OF_ALIAS
from ferray.data.sources.rows import NUMBERED_CLASSES, Fault
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

FER2013_PX = 48
"""Side of a face."""
MAX_CSV_BYTES = 2**31
"""Largest file that is read; FER2013's own has 300 MB."""
COLUMNS = ("emotion", "pixels", "usage")


@dataclass(frozen=True, kw_only=True)
class PixelTable:
    """The faces of a CSV file, N of them."""

    names: tuple[str, ...]
    """`row 2` and so on: the number of the line, counted from 1."""
    labels: NDArray[np.int64]
    """Places in `CLASS_NAMES`, which has FER2013's own order, shape (N,)."""
    splits: tuple[str | None, ...]
    """Training means train, PublicTest validation, PrivateTest test; None where there is no column `Usage`."""
    pixels: NDArray[np.uint8]
    """Shape (N, 48, 48), gray."""
    places: NDArray[np.int64]
    """The number of each face's line among all, counted from 0 below the header, shape (N,)."""
    num_lines: int
    """All lines below the header, usable or not."""
    faults: Sequence[Fault]
    """Lines that cannot be used."""


def read_fer2013_csv(file: Path) -> PixelTable:
    """Read the whole file; FER2013's 35,887 faces take 83 MB.

    Returns:
        The lines that can be used, perhaps none of them.

    Raises:
        DataError: It cannot be read, or has no columns `emotion` and `pixels`, or no line.
    """
    names: list[str] = []
    labels: list[int] = []
    splits: list[str | None] = []
    pixels: list[bytes] = []
    places: list[int] = []
    faults: list[Fault] = []
    num_lines = 0
    try:
        with untrusted.open_text(file, max_bytes=MAX_CSV_BYTES) as opened:
            lines = csv.reader(opened, skipinitialspace=True)
            columns = _columns(file, next(lines, []))
            for fields in lines:
                if not fields:
                    continue
                num_lines += 1
                found = _read_line(fields, columns, f"{file}:{lines.line_num}")
                if isinstance(found, Fault):
                    faults.append(found)
                    continue
                names.append(f"row {lines.line_num}")
                labels.append(found[0])
                splits.append(found[1])
                pixels.append(found[2])
                places.append(num_lines - 1)
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], "Name FER2013's CSV file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(file), f"cannot be read: {error}", "Name FER2013's CSV file") from error
    if not names and not faults:
        raise DataError(str(file), "no usable line of 0: it has none", "Name FER2013's CSV file")
    return PixelTable(
        names=tuple(names),
        labels=np.asarray(labels, dtype=np.int64),
        splits=tuple(splits),
        pixels=np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(-1, FER2013_PX, FER2013_PX),
        places=np.asarray(places, dtype=np.int64),
        num_lines=num_lines,
        faults=faults,
    )


def _columns(file: Path, header: Sequence[str]) -> dict[str, int]:
    found = {name.strip().casefold(): place for place, name in enumerate(header)}
    missing = [name for name in COLUMNS[:2] if name not in found]
    if missing:
        shown = ", ".join(name.strip()[:20] for name in header[:8])
        what = f"no column {' and '.join(missing)}, but {shown or 'nothing'}"
        if missing == ["emotion"]:
            what += ": faces without labels, as in Kaggle's test.csv"
            raise DataError(
                f"{file}:1", what, "Take fer2013.csv or icml_face_data.csv, which have all faces and labels"
            )
        raise DataError(f"{file}:1", what, "FER2013's CSV file has the columns emotion, pixels and Usage")
    return {name: found[name] for name in COLUMNS if name in found}


def _read_line(fields: Sequence[str], columns: dict[str, int], place: str) -> tuple[int, str | None, bytes] | Fault:
    """Label, split and gray levels, or what is wrong."""
    if len(fields) <= max(columns.values()):
        return Fault("wrong number of fields", place, f"{len(fields)} fields, not {max(columns.values()) + 1}")
    label = fields[columns["emotion"]].strip()
    if label not in {str(number) for number in range(len(CLASS_NAMES))}:
        return Fault("unknown label", place, f"label is {label[:20]!r}; known: {NUMBERED_CLASSES}")
    split = None
    if "usage" in columns:
        usage = fields[columns["usage"]].strip()
        if usage.casefold() not in SPLIT_OF_ALIAS:
            what = f"Usage is {usage[:20]!r}; known: Training, PublicTest, PrivateTest"
            return Fault("unknown split", place, what)
        split = SPLIT_OF_ALIAS[usage.casefold()]
    try:
        pixels = bytes(map(int, fields[columns["pixels"]].split()))
    except ValueError:
        return Fault("not a number", place, "a gray level is no whole number from 0 to 255")
    if len(pixels) != FER2013_PX**2:
        return Fault("wrong number of pixels", place, f"{len(pixels):,} gray levels, not {FER2013_PX**2:,}")
    return int(label), split, pixels
