"""A table of answers: one row a face with its label and what a model made of it. ferray's own, or anybody's.

    id,label,angry,disgust,fear,happy,sad,surprise,neutral,group
    awe_man_12.jpg#0,surprise,0.01,0.02,0.2,0.03,0.02,0.7,0.02,117

All columns that are not named in `RESERVED` are classes; a table of hard answers has a column `prediction` instead. No
picture and no features are in it. Begin at `read_predictions`.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.errors import DataError, StorageError
from ferray.files import untrusted

if TYPE_CHECKING:
    import pandas

PREDICTIONS = "predictions.csv"
"""The answers of a search's best model on the test split, beside the model."""

RESERVED = ("id", "label", "prediction", "group", "split", "trial", "seed")
"""Columns that are no class."""

MAX_BYTES = 2**28
MAX_FACES = 10_000_000
MAX_CLASSES = 1000
MAX_NAME = 100
"""Characters of a class's name."""

_FORM = (
    "Columns: id, label, one a class with its probability (or `prediction`), and if you have them group, split, trial"
)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers and labels, checked for form only: `ferray.audit.score.audit` says what is wrong with the values."""

    file: str
    """Where they were read, for messages."""
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    """Shape (faces,)."""
    answers: NDArray[np.int64]
    """Shape (faces,); the column `prediction`, else the most probable class."""
    probabilities: NDArray[np.float64] | None
    """Shape (faces, classes), as written."""
    ids: tuple[str, ...] | None
    """One a face."""
    columns: dict[str, tuple[str, ...]]
    """`group`, `split`, `trial` and `seed`, those that are there."""

    def groups(self) -> NDArray[np.int64]:
        """Numbers of the photographs: by `group`, else by `id`, else one a face."""
        names = self.columns.get("group") or self.ids
        if names is None:
            return np.arange(len(self.labels))
        return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)

    def of(self, rows: NDArray[np.bool_]) -> "Predictions":
        """Some of the faces."""
        kept = np.flatnonzero(rows)
        return Predictions(
            file=self.file,
            class_names=self.class_names,
            labels=self.labels[kept],
            answers=self.answers[kept],
            probabilities=None if self.probabilities is None else self.probabilities[kept],
            ids=None if self.ids is None else tuple(self.ids[row] for row in kept),
            columns={name: tuple(values[row] for row in kept) for name, values in self.columns.items()},
        )


def face_ids(table: "pandas.DataFrame") -> list[str]:
    """Names of a store's faces: photograph and number of the face on it, else the row.

    Args:
        table: Rows of `Store.table`.
    """
    if "source" not in table.columns:
        return [f"row {row}" for row in table.index]
    if "face_id" not in table.columns:
        return [str(source) for source in table["source"]]
    return [f"{source}#{face}" for source, face in zip(table["source"], table["face_id"], strict=True)]


def predictions_csv(
    ids: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    groups: NDArray[np.int64],
    *,
    class_names: Sequence[str],
) -> str:
    """The table as text; nine digits bring a float32 back bit by bit.

    Args:
        ids: One a face.
        labels: Shape (faces,).
        probabilities: Shape (faces, classes).
        groups: Ids of the photographs, shape (faces,).
        class_names: In the order of the labels.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", *class_names, "group"])
    for face, label, row, group in zip(ids, labels, probabilities.tolist(), groups, strict=True):
        writer.writerow([face, class_names[label], *(f"{value:.9g}" for value in row), group])
    return text.getvalue()


def read_predictions(file: Path) -> Predictions:
    """Read a table of answers.

    Args:
        file: CSV with a header; labels are class names, or numbers in the order of the class columns.

    Raises:
        DataError: It cannot be read, a column is missing, or a value is no number or no class.
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
    labels = _places(column["label"], class_names, "label", file)
    if "prediction" in column:
        answers = _places(column["prediction"], class_names, "prediction", file)
    else:
        assert probabilities is not None
        answers = probabilities.argmax(axis=1).astype(np.int64)
    return Predictions(
        file=str(file),
        class_names=class_names,
        labels=labels,
        answers=answers,
        probabilities=probabilities,
        ids=column.get("id"),
        columns={name: column[name] for name in ("group", "split", "trial", "seed") if name in column},
    )


def read_confusion(file: Path) -> Predictions:
    """Read a confusion matrix as hard answers of faces without names.

    Args:
        file: CSV; the header names the answers after a first cell of any text, each row its label and the counts.

    Raises:
        DataError: It cannot be read, is not square, names other classes in rows than in columns, or a count is none.
    """
    head, rows = _read_csv(file)
    names = tuple(head[1:])
    if tuple(row[0] for row in rows) != names:
        what = f"rows are {', '.join(row[0] for row in rows)[:100]}; columns are {', '.join(names)[:100]}"
        raise DataError(str(file), what, "The header names the answers, the first cell of each row its label")
    _check_names(names, file)
    table = np.asarray([_numbers(tuple(row[1:]), row[0], file) for row in rows])
    if (table < 0).any() or (table % 1).any() or not 0 < table.sum() <= MAX_FACES:
        what = f"not a table of counts of at most {MAX_FACES:,} faces"
        raise DataError(str(file), what, "Give whole numbers of faces, not shares")
    places = np.argwhere(table > 0)
    times = table[table > 0].astype(np.int64)
    return Predictions(
        file=str(file),
        class_names=names,
        labels=np.repeat(places[:, 0], times),
        answers=np.repeat(places[:, 1], times),
        probabilities=None,
        ids=None,
        columns={},
    )


def _read_csv(file: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, all of one length."""
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
    return head, [[cell.strip() for cell in row] for row in rows[1:]]


def _check_names(names: Sequence[str], file: Path) -> None:
    """Refuse more classes, or other names of them, than a table on a terminal can hold."""
    if len(names) > MAX_CLASSES:
        raise DataError(str(file), f"{len(names):,} classes; at most {MAX_CLASSES:,} are read", _FORM)
    for name in names:
        if not name.isprintable() or len(name) > MAX_NAME:
            raise DataError(str(file), f"{name[:80]!r} is no name of a class: too long, or it does not print", _FORM)


def _numbers(cells: Sequence[str], name: str, file: Path) -> list[float]:
    numbers = []
    for number, cell in enumerate(cells, start=2):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            where = f"{file}: row {number}, column {name}"
            raise DataError(where, f"{cell[:40]!r} is no number", f"All columns but {', '.join(RESERVED)} are classes")
        numbers.append(value)
    return numbers


def _places(cells: Sequence[str], class_names: tuple[str, ...], name: str, file: Path) -> NDArray[np.int64]:
    """Class numbers of names, or of numbers where no class is called so."""
    place = {text: number for number, text in enumerate(class_names)}
    if cells[0] not in place:
        place = {str(number): number for number in range(len(class_names))}
    try:
        return np.asarray([place[cell] for cell in cells], dtype=np.int64)
    except KeyError as error:
        known = ", ".join(class_names)
        raise DataError(
            f"{file}: column {name}", f"{error.args[0]!r} is no class", f"Classes: {known[:200]}"
        ) from error
