"""Tables of predictions in CSV files: one row per face, with its label and what a model predicted for it.

    id,label,angry,disgust,fear,happy,sad,surprise,neutral,group
    awe_man_12.jpg#0,surprise,0.01,0.02,0.2,0.03,0.02,0.7,0.02,117

All columns that are not named in `RESERVED` are classes; a table without probabilities has a column `prediction`
instead. A table holds no pictures and no features. Begin at `read_predictions`.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ferray.errors import DataError, StorageError
from ferray.files import untrusted
from ferray.metrics.labeled import LabeledPredictions

if TYPE_CHECKING:
    import pandas

PREDICTIONS_FILE = "predictions.csv"
"""The best model's predictions for the test split, beside the model."""

RESERVED = ("id", "label", "prediction", "group", "split", "trial", "seed")
"""Columns that are not classes."""

MAX_BYTES = 2**28
MAX_FACES = 10_000_000
MAX_CLASSES = 10_000
MAX_NAME = 100
"""Characters of a class name."""

_FORM = "Columns: id, label, one per class with its probability (or `prediction`), and where known group, split, trial"


@dataclass(frozen=True, kw_only=True)
class PredictionTable:
    """A table as it was read. Only its form was checked; `ferray.audit.score.audit` examines the values."""

    predictions: LabeledPredictions
    """Groups come from the column `group`, else from `id`; without both columns, each face is a group of its own."""
    ids: tuple[str, ...] | None
    """One id per face."""
    columns: Mapping[str, tuple[str, ...]]
    """The columns `group`, `split`, `trial` and `seed`, as far as the table has them."""

    def select(self, rows: NDArray[np.bool_]) -> "PredictionTable":
        """Some of the faces.

        Args:
            rows: Whether a face is kept, shape (faces,).
        """
        kept = np.flatnonzero(rows)
        return PredictionTable(
            predictions=self.predictions.select(rows),
            ids=None if self.ids is None else tuple(self.ids[row] for row in kept),
            columns={name: tuple(values[row] for row in kept) for name, values in self.columns.items()},
        )


def face_ids(table: "pandas.DataFrame") -> list[str]:
    """Names of a store's faces: the photograph and the number of the face in it, else the row.

    Args:
        table: Rows of `Store.table`.
    """
    if "source" not in table.columns:
        return [f"row {row}" for row in table.index]
    if "face_id" not in table.columns:
        return [str(source) for source in table["source"]]
    return [f"{source}#{face}" for source, face in zip(table["source"], table["face_id"], strict=True)]


def predictions_csv(predictions: LabeledPredictions, ids: Sequence[str]) -> str:
    """The table as text; nine digits restore a float32 bit by bit.

    Args:
        predictions: The faces, with probabilities.
        ids: One id per face.
    """
    assert predictions.probabilities is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", *predictions.class_names, "group"])
    probabilities = predictions.probabilities.tolist()
    for face, label, row, group in zip(ids, predictions.labels, probabilities, predictions.groups, strict=True):
        writer.writerow([face, predictions.class_names[label], *(f"{value:.9g}" for value in row), group])
    return text.getvalue()


def read_predictions(file: Path) -> PredictionTable:
    """Read a table of predictions.

    Args:
        file: CSV with a header; labels are class names, or numbers in the order of the class columns.

    Raises:
        DataError: It cannot be read, a column is missing, a probability is not a number, or a class is unknown.
    """
    head, rows = _read_csv(file)
    missing = {"label"} - set(head)
    class_names = tuple(name for name in head if name not in RESERVED)
    if missing or (not class_names and "prediction" not in head) or len(set(head)) < len(head):
        raise DataError(str(file), f"the columns are {', '.join(head)[:200]}", _FORM)
    column = {name: tuple(row[place] for row in rows) for place, name in enumerate(head)}
    if not class_names:
        class_names = tuple(sorted({*column["label"], *column["prediction"]}))
    _check_names(class_names, file)
    probabilities = None
    if class_names[0] in column:
        probabilities = np.asarray([_numbers(column[name], name, file) for name in class_names]).T
    labels = _class_numbers(column["label"], class_names, "label", file)
    if "prediction" in column:
        predicted = _class_numbers(column["prediction"], class_names, "prediction", file)
    else:
        assert probabilities is not None
        predicted = probabilities.argmax(axis=1).astype(np.int64)
    names = column.get("group") or column.get("id")
    groups = np.arange(len(labels)) if names is None else np.unique(np.asarray(names), return_inverse=True)[1]
    predictions = LabeledPredictions(
        class_names=class_names,
        labels=labels,
        predicted=predicted,
        probabilities=probabilities,
        groups=groups.astype(np.int64),
    )
    return PredictionTable(
        predictions=predictions,
        ids=column.get("id"),
        columns={name: column[name] for name in ("group", "split", "trial", "seed") if name in column},
    )


def read_confusion(file: Path) -> PredictionTable:
    """Read a confusion matrix as the predicted classes of faces without names.

    Args:
        file: CSV. The header names the predicted classes, after a first cell with any text. Each row has its label and
            the counts.

    Raises:
        DataError: It cannot be read, is not square, has other classes in the rows than in the columns, or holds
            something else than counts.
    """
    head, rows = _read_csv(file)
    names = tuple(head[1:])
    if tuple(row[0] for row in rows) != names:
        what = f"rows are {', '.join(row[0] for row in rows)[:100]}; columns are {', '.join(names)[:100]}"
        way_out = "Name the predicted classes in the header, and the label in the first cell of each row"
        raise DataError(str(file), what, way_out)
    _check_names(names, file)
    table = np.asarray([_numbers(tuple(row[1:]), row[0], file) for row in rows])
    if (table < 0).any() or (table % 1).any() or not 0 < table.sum() <= MAX_FACES:
        what = f"not a table of counts of at most {MAX_FACES:,} faces"
        raise DataError(str(file), what, "Give whole numbers of faces, not shares")
    places = np.argwhere(table > 0)
    times = table[table > 0].astype(np.int64)
    labels = np.repeat(places[:, 0], times)
    predictions = LabeledPredictions(
        class_names=names,
        labels=labels,
        predicted=np.repeat(places[:, 1], times),
        probabilities=None,
        groups=np.arange(len(labels)),
    )
    return PredictionTable(predictions=predictions, ids=None, columns={})


def _read_csv(file: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, all with the same number of cells; without the spaces around these, but for ids."""
    try:
        with untrusted.open_text(file, max_bytes=MAX_BYTES) as text:
            rows = [row for row in csv.reader(text) if row]
    except StorageError as error:
        raise DataError(*error.args) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(file), f"cannot be read: {error}", "Give a CSV file in UTF-8") from error
    if len(rows) < 2:
        raise DataError(str(file), "has no rows", _FORM)
    head = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise DataError(f"{file}: row {number}", f"{len(row)} cells, not {len(head)}", "Write every column")
    ids = head.index("id") if "id" in head else None  # file names, in which spaces count
    return head, [[cell if at == ids else cell.strip() for at, cell in enumerate(row)] for row in rows[1:]]


def _check_names(names: Sequence[str], file: Path) -> None:
    """Refuse more classes than a table on a terminal can hold, and names that it cannot show."""
    if len(names) > MAX_CLASSES:
        raise DataError(str(file), f"{len(names):,} classes; at most {MAX_CLASSES:,} are read", _FORM)
    for name in names:
        if not name.isprintable() or len(name) > MAX_NAME:
            raise DataError(str(file), f"{name[:80]!r} is not a class name: too long, or not printable", _FORM)


def _numbers(cells: Sequence[str], name: str, file: Path) -> list[float]:
    numbers = []
    for number, cell in enumerate(cells, start=2):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            where, known = f"{file}: row {number}, column {name}", ", ".join(RESERVED)
            raise DataError(where, f"{cell[:40]!r} is not a number", f"All columns but {known} are classes")
        numbers.append(value)
    return numbers


def _class_numbers(cells: Sequence[str], class_names: tuple[str, ...], name: str, file: Path) -> NDArray[np.int64]:
    """Class numbers of class names; of numbers where the first cell is not a class name."""
    place = {text: number for number, text in enumerate(class_names)}
    if cells[0] not in place:
        place = {str(number): number for number in range(len(class_names))}
    try:
        return np.asarray([place[cell] for cell in cells], dtype=np.int64)
    except KeyError as error:
        known = ", ".join(class_names)
        raise DataError(
            f"{file}: column {name}", f"{error.args[0]!r} is not a class", f"Classes: {known[:200]}"
        ) from error
