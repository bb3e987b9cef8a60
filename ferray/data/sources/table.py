"""A table of photographs: a CSV file with a line for each, or for each box in one.

    path,label,split,group,left,top,right,bottom,camera
    a/1.jpg,cat,train,litter 3,10,20,110,120,phone

`path` and `label` are needed. The four numbers of a box are pixels, in columns of any order; right and bottom are just
outside it. Lines of one `group` stay in one split. All other columns are kept, and models are scored by them. Begin at
`read_table_source`.
"""

import csv
import hashlib
import io
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ferray.data.sources.classes import NONE, Classes, choose_classes
from ferray.data.sources.folders import SPLIT_OF_ALIAS
from ferray.data.sources.rows import (
    INTEGER,
    MAX_LIST_BYTES,
    MISSING,
    TABLE_COLUMNS,
    Box,
    Face,
    Fault,
    Source,
    find_name_fault,
)
from ferray.data.sources.ways_out import UnusableSourceError, explain_faults
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

BOX_COLUMNS = ("left", "top", "right", "bottom")
OWN_COLUMNS = ("path", "label", "split", "group", *BOX_COLUMNS)

MAX_COLUMNS = 100
"""Further columns that are kept."""
MAX_CHARS = 1000
"""Of a value."""

_FRACTION_OF_0 = re.compile(r"(?<=[0-9])\.0+$")
"""Of a whole number in a column of fractions, as pandas writes one that lacks some values."""

_FORM = "Write a CSV file in UTF-8 with columns path and label, and a line for each picture"


@dataclass(frozen=True, slots=True)
class _Line:
    """One usable line."""

    face: Face
    label: str
    columns: Mapping[str, str]


def read_table_source(file: Path, images: Path | None = None, classes: str | None = None) -> Source:
    """Read a table; no photograph is opened.

    Args:
        file: The CSV file.
        images: The folder that the paths begin in; None for the file's own.
        classes: `expressions`, or a file of classes and their names; None takes the labels themselves.

    Returns:
        The lines that can be used, perhaps none. Without `classes`, these are the labels of all lines, so that one of
        which no line can be used is missed.

    Raises:
        DataError: It cannot be read, lacks a column, has no line, or its labels are no classes; or a group is in two
            splits.
    """
    folder = file.parent if images is None else images
    root = folder.resolve()
    found: list[tuple[str, _Line | Fault]] = []
    num_read = 1
    if not root.is_dir():
        raise DataError(str(root), "no such folder of photographs", "Name the folder that the paths begin in: --images")
    try:
        content = untrusted.read_bytes(file, max_bytes=MAX_LIST_BYTES)
        # Strict: a quote that is never closed would make one cell of all lines behind it.
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
        columns = _check_columns(rows.fieldnames, file)
        roots = (root, Path(os.path.abspath(folder)))
        for row in rows:
            found.append((_label_of(row), _read_line(row, columns, roots, f"{file}:{rows.line_num}")))
            num_read = rows.line_num
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], _FORM) from error
    except UnicodeDecodeError as error:
        raise DataError(str(file), f"cannot be read: {error}", _FORM) from error
    except csv.Error as error:
        what = f"cannot be read: {error}; a quote in this line may lack another one"
        raise DataError(f"{file}:{num_read + 1}", what, _FORM) from error
    if not found:
        raise DataError(str(file), "no usable line: it has none", _FORM)
    faults = [one for _, one in found if isinstance(one, Fault)]
    lines, repeated = _leave_out_repeated([one for _, one in found if isinstance(one, _Line)])
    faults = sorted([*faults, *repeated], key=lambda fault: int(fault.place.rpartition(":")[2]))
    labels = [line.label for line in lines] if classes is not None else [label for label, _ in found if label]
    if not lines and not labels:  # what `prepare` explains by the faults
        return Source(dataset="csv", is_listed=True, root=root, faces=[], faults=faults, upright=True, classes=NONE)
    known = _choose_classes(classes, labels, faults, file, root)
    values = _read_values(lines)
    faces = []
    for line, columns_of_line in zip(lines, values, strict=True):
        label = known.find(line.label)
        assert label is not None, line
        faces.append(replace(line.face, label=label, columns=columns_of_line))
    _check_groups(faces, file)
    digest = hashlib.sha256(content).digest()
    return Source(
        dataset="csv",
        is_listed=True,
        root=root,
        faces=faces,
        faults=faults,
        upright=True,
        classes=known,
        label_digest=digest,
    )


def _label_of(row: Mapping[str | None, str | None]) -> str:
    """The label of a line; empty where the line has none, or cells in other places than the first line says."""
    return "" if None in row or None in row.values() else (row["label"] or "").strip()


def _choose_classes(
    given: str | None, labels: Sequence[str], faults: Sequence[Fault], file: Path, root: Path
) -> Classes:
    """The classes of all labels; a refusal also says what cannot be used, which may be why there are too few."""
    try:
        return choose_classes(given, labels, str(file))
    except DataError as error:
        if not faults:
            raise
        place, what, way_out = error.args
        left_out, way_out_of_faults = explain_faults(faults, root)
        refusal = UnusableSourceError(place, f"{what}; left out: {left_out}", f"{way_out}; or: {way_out_of_faults}")
        refusal.faults = faults
        raise refusal from error


def is_table(file: Path) -> bool:
    """Whether a file's first line names the columns of a table of photographs."""
    try:
        with untrusted.open_text(file, max_bytes=MAX_LIST_BYTES) as text:
            return {"path", "label"} <= {name.strip() for name in next(csv.reader([text.readline(2**16)]), [])}
    except (StorageError, UnicodeDecodeError, csv.Error):
        return False


def check_box_columns(columns: Sequence[str], file: Path) -> bool:
    """Whether a table has boxes.

    Raises:
        DataError: It has some columns of a box, but not all.
    """
    missing = [name for name in BOX_COLUMNS if name not in columns]
    if 0 < len(missing) < len(BOX_COLUMNS):
        what = f"has no {', '.join(missing)}, but others of a box"
        raise DataError(str(file), what, "Add them, or remove the others")
    return not missing


def read_box(row: Mapping[str, str | None]) -> Box | None:
    """The box of a line; None where it has none.

    Raises:
        ValueError: It is no box; the message says what it is.
    """
    if not any((row.get(name) or "").strip() for name in BOX_COLUMNS):
        return None
    texts = {name: (row[name] or "").strip() for name in BOX_COLUMNS}
    texts = {name: _FRACTION_OF_0.sub("", text) for name, text in texts.items()}
    if not all(map(INTEGER.fullmatch, texts.values())):
        raise ValueError(f"a box of {', '.join(f'{name} {text[:20]!r}' for name, text in texts.items())}")
    box = Box(**{name: int(text) for name, text in texts.items()})
    if box.left >= box.right or box.top >= box.bottom:
        raise ValueError(f"{box} is empty")
    return box


def _check_columns(names: Sequence[str], file: Path) -> list[str]:
    """The names of the further columns."""
    missing = [name for name in ("path", "label") if name not in names]
    if missing:
        what = f"has no column {' and '.join(missing)}; its columns are {', '.join(names)[:200] or 'none'}"
        way_out = "Name the columns in the first line; the class is in `label`"
        if len(names) == 1 and (between := next((one for one in (";", "\t", "|") if one in names[0]), None)):
            way_out = f"Write commas between the cells, not {between!r}"
        raise DataError(f"{file}:1", what, way_out)
    check_box_columns(names, file)
    further = [name for name in names if name and name not in OWN_COLUMNS]  # pandas writes one without a name
    way_out = "Rename the column, or leave it out"
    for name in further:
        if name in TABLE_COLUMNS or names.count(name) > 1:
            what = "is a column that ferray writes itself" if name in TABLE_COLUMNS else "is there twice"
            raise DataError(f"{file}:1", f"the column {name[:80]!r} {what}", way_out)
        if not name.isprintable() or len(name) > 100:
            raise DataError(f"{file}:1", f"the column {name[:80]!r} is too long, or does not print", way_out)
    if any(names.count(name) > 1 for name in OWN_COLUMNS):
        raise DataError(f"{file}:1", "a column is there twice", way_out)
    if len(further) > MAX_COLUMNS:
        raise DataError(f"{file}:1", f"{len(further):,} further columns; at most {MAX_COLUMNS} are kept", way_out)
    return further


def _read_line(
    row: Mapping[str | None, str | None], columns: Sequence[str], roots: tuple[Path, Path], place: str
) -> _Line | Fault:
    """One line, or what is wrong with it.

    Args:
        row: Its cells.
        columns: The further columns.
        roots: The folder of the photographs, resolved and as it was given.
        place: File and line.
    """
    if None in row or None in row.values():
        return Fault("wrong number of fields", place, "more or fewer cells than the first line has")
    cells = {str(name): (value or "").strip() for name, value in row.items()}
    root, label = roots[0], cells["label"]
    path = spelled_on_disk(root, _shorten(cells["path"], roots))
    if not path or not label:
        return Fault("empty cell", place, f"the {'label' if path else 'path'} is empty", path)
    if fault := find_name_fault(path):
        return Fault(fault[0], place, fault[1])
    for name in ("group", *columns):
        if len(cells.get(name, "")) > MAX_CHARS or not cells.get(name, "").isprintable():
            what = f"{name} is {cells[name][:40]!r}, which is too long, or does not print"
            return Fault("value that does not print", place, what, path)
    split = SPLIT_OF_ALIAS.get(cells.get("split", "").casefold())
    if "split" in cells and split is None:
        return Fault("unknown split", place, f"split is {cells['split'][:20]!r}", path)
    try:
        box = read_box(cells)
    except ValueError as error:
        return Fault("box of zero area" if "empty" in str(error) else "not a number", place, str(error), path)
    if not os.path.lexists(root / path):
        way_out = "Write / between the folders of a path" if "\\" in path else ""
        return Fault(MISSING, place, f"there is no photograph {path} in {root}", path, way_out=way_out)
    face = Face(path, 0, 0, place, box=box, split=split, group=cells.get("group") or None)
    return _Line(face, label, {name: cells[name] for name in columns})


def spelled_on_disk(root: Path, path: str) -> str:
    """A path below a folder as the disk composes its letters, where a file of another spelling is there."""
    spellings = (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    try:
        return next((one for one in spellings if os.path.lexists(root / one)), path)
    except ValueError:  # a NUL in it
        return path


def _shorten(path: str, roots: Sequence[Path]) -> str:
    """A path as it lies below one of the folders, without `.` and repeated `/`; what leads out of them as it is."""
    if os.path.isabs(path):
        below = next((root for root in roots if Path(path).is_relative_to(root)), None)
        if below is None:
            return path
        path = Path(path).relative_to(below).as_posix()
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _leave_out_repeated(lines: Sequence[_Line]) -> tuple[list[_Line], list[Fault]]:
    """Number the boxes of each photograph; of several lines for one, keep the first, or none if labels differ."""
    by_box: dict[tuple[str, Box | None], list[_Line]] = {}
    for line in lines:
        by_box.setdefault((line.face.source, line.face.box), []).append(line)
    kept: list[_Line] = []
    faults: list[Fault] = []
    num_boxes: dict[str, int] = {}
    for (path, _), same in by_box.items():
        are_equal = len({(line.label, line.face.split) for line in same}) == 1
        for line in same[1:] if are_equal else same:
            how = "with the same label" if are_equal else "with another label or split"
            faults.append(Fault("two rows for one face", line.face.place, f"{path} is listed twice, {how}", path))
        if are_equal:
            face_id = num_boxes.get(path, 0)
            num_boxes[path] = face_id + 1
            kept.append(replace(same[0], face=replace(same[0].face, face_id=face_id)))
    return kept, faults


def _read_values(lines: Sequence[_Line]) -> list[dict[str, str | float]]:
    """The further columns; one whose values are all numbers is numbers."""
    values: list[dict[str, str | float]] = [{} for _ in lines]
    for name in lines[0].columns if lines else ():
        texts = [line.columns[name] for line in lines]
        numbers = _as_numbers(texts)
        for place, text in enumerate(texts):
            values[place][name] = text if numbers is None else numbers[place]
    return values


def _as_numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    if any("_" in text for text in texts):  # Python reads the name 12_34 as a number
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _check_groups(faces: Sequence[Face], file: Path) -> None:
    """Refuse a group, or a photograph, in two splits."""
    splits: dict[tuple[str, str], str | None] = {}
    for face in faces:
        for kind, name in (("group", face.group), ("photograph", face.source)):
            if name is not None and splits.setdefault((kind, name), face.split) != face.split:
                what = f"the {kind} {name[:80]!r} is in {splits[kind, name]} and in {face.split}"
                raise DataError(
                    face.place, what, f"Write one split for all lines of a {kind}; or leave out {file.name}'s split"
                )
