"""AffectNet's manually annotated faces, in the layouts of both releases, or in folders by number.

    training.csv, validation.csv      subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,
                                      expression,valence,arousal: faces in photographs below one folder
    train_set/images/123.jpg          cropped faces, each with annotations/123_exp.npy, which holds one number
    val_set/images/7.jpg
    train/0/a.jpg, val/7/b.jpg        copies

The numbers are 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 angry, 7 contempt; 8 to 10 (none, uncertain,
no face) are no expressions and are left out. Copies numbered by the alphabet are found by the published counts. The
test labels were never published: papers test on the validation set, so it becomes test here, and validation is to be
taken out of train. Begin at `read_affectnet`.

Source: Mollahosseini, Hasani and Mahoor, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing
in the Wild", 2017.
"""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ferray.data.known_sets import WITH_CONTEMPT, sets_of_classes
from ferray.data.sources.classes import classes_of_expressions
from ferray.data.sources.number_files import read_number_file
from ferray.data.sources.numbered_folders import read_numbered_folders
from ferray.data.sources.numbering import OrderName, choose_order
from ferray.data.sources.rows import MISSING, Box, Face, Fault, Source, find_name_fault
from ferray.data.sources.ways_out import nothing_usable
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

KNOWN = [
    known for names in (WITH_CONTEMPT, CLASS_NAMES) for known in sets_of_classes(names) if known.name == "AffectNet"
]
READINGS: Sequence[OrderName] = ("affectnet", "alphabetical")
SPLITS_OF_SETS = {"train_set": "train", "val_set": "test"}
COLUMNS = ("subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "expression")
MAX_CSV_BYTES = 2**31
"""Largest list; each line holds 68 landmarks, and training.csv 414,798 lines."""
NO_EXPRESSIONS = {8: "none", 9: "uncertain", 10: "no face"}

_CONTEMPT = 7
_WAY_OUT_OF_LABEL = (
    "Write the expression as a whole number: 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 angry, "
    "7 contempt; or 8 to 10 for none of them"
)
_TREES = (
    "Name the folder that holds train_set and val_set; or the folder of the photographs, and the lists: --images DIR "
    "--training training.csv --validation validation.csv; or train and val with a folder for each class"
)


def read_affectnet(
    images: Path,
    *,
    training: Path | None = None,
    validation: Path | None = None,
    with_contempt: bool = True,
    order: OrderName | None = None,
) -> Source:
    """Read AffectNet; no photograph is opened.

    Args:
        images: The folder of both sets, of the photographs that the lists name, or of folders by number.
        training: The list of the training set.
        validation: The list of the validation set, whose faces become the test split.
        with_contempt: Whether the eighth class is kept.
        order: The order of the classes that the numbers count, where it is not certain.

    Raises:
        DataError: It is none of the layouts, or the order is not certain.
    """
    if not images.is_dir():
        raise DataError(str(images), "no such folder", _TREES)
    lists = [(file, split) for file, split in ((training, "train"), (validation, "test")) if file is not None]
    if lists:
        return _finish(images, _read_lists(images.resolve(), lists), order, with_contempt=with_contempt)
    if any((images / name).is_dir() for name in SPLITS_OF_SETS):
        return _finish(images, _read_sets(images.resolve()), order, with_contempt=with_contempt)
    tree = read_numbered_folders(
        images, [WITH_CONTEMPT, CLASS_NAMES], KNOWN, readings=READINGS, order=order, dataset="affectnet", way_out=_TREES
    )
    if tree is None:
        raise DataError(str(images), "is no layout of AffectNet's", f"{_TREES}. Named folders: prepare folders")
    has_test = any(face.split == "test" for face in tree.faces)
    faces = [
        replace(face, split="test") if face.split == "validation" and not has_test else face for face in tree.faces
    ]
    return _keep_classes(replace(tree, faces=faces), with_contempt=with_contempt)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Faces whose labels are still AffectNet's numbers."""

    faces: list[Face]
    faults: list[Fault]
    digest: bytes
    are_listed: bool


def _finish(images: Path, found: _Found, order: OrderName | None, *, with_contempt: bool) -> Source:
    """The source with labels in ferray's order, and other numbers left out."""
    usable = [face for face in found.faces if face.label not in NO_EXPRESSIONS]
    counts: dict[str, Counter[int]] = {}
    for face in usable:
        counts.setdefault(str(face.split), Counter())[face.label] += 1
    left_out = [
        Fault("of another class", face.place, f"label is {face.label}, {NO_EXPRESSIONS[face.label]}", face.source)
        for face in found.faces
        if face.label in NO_EXPRESSIONS
    ]
    if not usable:
        raise nothing_usable(str(images), "no usable face", [*found.faults, *left_out], _TREES)
    names = WITH_CONTEMPT if any(face.label == _CONTEMPT for face in usable) else CLASS_NAMES
    numbering = choose_order(
        counts, names, KNOWN,
        readings=READINGS, documented="affectnet", given=order, place=str(images), what="labels",
    )  # fmt: skip
    label_of = {number: names.index(name) for number, name in numbering.classes.items()}
    source = Source(
        dataset="affectnet",
        root=images.resolve(),
        faces=[replace(face, label=label_of[face.label]) for face in usable],
        faults=found.faults,
        upright=not any(face.box for face in usable),
        classes=classes_of_expressions(names),
        is_listed=found.are_listed,
        label_digest=hashlib.sha256(found.digest + numbering.name.encode()).digest(),
        left_out=left_out,
        notes=[f"order of the labels: {numbering}"],
    )
    return _keep_classes(source, with_contempt=with_contempt)


def _keep_classes(source: Source, *, with_contempt: bool) -> Source:
    """The source with what it says of its split, and without contempt where it is not asked for."""
    note = (
        "test is AffectNet's own validation set, on which papers test, since no test labels were published; validation "
        "is a part of its training set"
    )
    source = replace(source, notes=[*source.notes, note])
    if with_contempt or "contempt" not in source.classes.names:
        return source
    contempt = source.classes.names.index("contempt")
    left_out = [
        Fault("of another class", face.place, "label is contempt", face.source, face.face_id)
        for face in source.faces
        if face.label == contempt
    ]
    return replace(
        source,
        faces=[face for face in source.faces if face.label != contempt],  # the last class: other labels stay
        classes=classes_of_expressions(CLASS_NAMES),
        left_out=[*source.left_out, *left_out],
    )


def _read_lists(root: Path, lists: Sequence[tuple[Path, str]]) -> _Found:
    """The faces that `training.csv` and `validation.csv` list."""
    by_face: dict[tuple[str, Box | None], list[Face]] = {}
    faults: list[Fault] = []
    digest = hashlib.sha256()
    for file, split in lists:
        try:
            digest.update(untrusted.digest_file(file, max_bytes=MAX_CSV_BYTES))
            for one in _read_list(file, split, root):
                if isinstance(one, Fault):
                    faults.append(one)
                else:
                    by_face.setdefault((one.source, one.box), []).append(one)
        except StorageError as error:
            raise DataError(error.args[0], error.args[1], _TREES) from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(str(file), f"cannot be read: {error}", _TREES) from error
    faces: list[Face] = []
    num_boxes: Counter[str] = Counter()
    for (name, _), same in by_face.items():
        are_equal = len({(face.label, face.split) for face in same}) == 1
        if are_equal:
            faces.append(replace(same[0], face_id=num_boxes[name]))
            num_boxes[name] += 1
        how = "with the same label" if are_equal else "with another label or in the other list"
        faults += [
            Fault("two rows for one face", face.place, f"{name} is listed twice, {how}", name)
            for face in (same[1:] if are_equal else same)
        ]
    return _Found(faces=faces, faults=faults, digest=digest.digest(), are_listed=True)


def _read_list(file: Path, split: str, root: Path) -> Iterator[Face | Fault]:
    with untrusted.open_text(file, max_bytes=MAX_CSV_BYTES) as opened:
        lines = csv.reader(opened, skipinitialspace=True)
        header = [name.strip().casefold() for name in next(lines, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            shown = ", ".join(name[:30] for name in header[:10]) or "nothing"
            raise DataError(f"{file}:1", f"no column {', '.join(missing)}, but {shown}", _TREES)
        for fields in lines:
            if fields and len(fields) != len(header):
                what = f"{len(fields)} fields, not {len(header)} as in the first line"
                yield Fault("wrong number of fields", f"{file}:{lines.line_num}", what)
            elif fields:
                yield _read_line(dict(zip(header, fields, strict=True)), split, root, f"{file}:{lines.line_num}")


def _read_line(fields: Mapping[str, str], split: str, root: Path, place: str) -> Face | Fault:
    """The face of one line, its label still the number."""
    name, *corners, label = (fields[column].strip() for column in COLUMNS)
    if fault := find_name_fault(name):
        return Fault(fault[0], place, fault[1])
    if not (label.isascii() and label.isdecimal() and len(label) < 3 and int(label) <= 10):
        what = f"expression is {label[:20]!r}, not 0 to 10"
        return Fault("unknown label", place, what, name, way_out=_WAY_OUT_OF_LABEL)
    try:
        left, top, width, height = (round(float(text)) for text in corners)
    except (ValueError, OverflowError):
        return Fault("not a number", place, f"the box is {', '.join(corners)[:80]!r}", name)
    if width <= 0 or height <= 0 or max(map(abs, (left, top, width, height))) > 10**6:
        what = f"face_x {left}, face_y {top}, face_width {width}, face_height {height}"
        return Fault("box of zero area", place, what[:200], name)
    if int(label) not in NO_EXPRESSIONS and not os.path.lexists(root / name):
        return Fault(MISSING, place, f"there is no photograph {name} in {root}", name)
    box = Box(top, left, left + width, top + height)
    columns = {kind: _as_measure(fields.get(kind, "")) for kind in _MEASURES}
    return Face(name, 0, int(label), place, box=box, split=split, columns=columns)


def _read_sets(root: Path) -> _Found:
    """The faces of `train_set` and `val_set`."""
    faces: list[Face] = []
    faults: list[Fault] = []
    for folder, split in SPLITS_OF_SETS.items():
        if not (root / folder).is_dir():
            continue
        for kind in ("images", "annotations"):
            if not (root / folder / kind).is_dir():
                raise DataError(str(root / folder), f"has no folder {kind}", _TREES)
        try:
            names = sorted(os.listdir(root / folder / "images"))
        except OSError as error:
            raise DataError(str(error.filename), f"cannot be read: {error.strerror or error}", _TREES) from error
        for name in names:
            if not name.startswith(".") and name.isprintable():
                found = _read_annotated(root, folder, name, split)
                (faces if isinstance(found, Face) else faults).append(found)  # type: ignore[arg-type]
    return _Found(faces=faces, faults=faults, digest=b"", are_listed=False)


def _read_annotated(root: Path, folder: str, name: str, split: str) -> Face | Fault:
    """One face of a set, its label still the number."""
    source, stem = f"{folder}/images/{name}", name.rpartition(".")[0]
    place = str(root / source)
    try:
        columns = {kind: _read_measure(root, folder, f"{stem}_{short}.npy") for kind, short in _MEASURES.items()}
        label = read_number_file(root / folder / "annotations" / f"{stem}_exp.npy", inside=root)
    except DataError as error:
        return Fault("no annotation", place, f"{error.args[0]}: {error.args[1]}"[:400], source)
    if label is None or not label.is_integer() or not 0 <= label <= 10:
        what = f"{stem}_exp.npy holds {label}, not 0 to 10"
        return Fault("unknown label", place, what, source, way_out=_WAY_OUT_OF_LABEL)
    return Face(source, 0, int(label), place, split=split, columns=columns)


_MEASURES = {"valence": "val", "arousal": "aro"}


def _read_measure(root: Path, folder: str, name: str) -> float | None:
    """Valence or arousal, which slices use; None where it is missing or marked as such."""
    file = root / folder / "annotations" / name
    if not file.is_file():
        return None
    value = read_number_file(file, inside=root)
    return None if value is None else _as_measure(value)


def _as_measure(value: str | float) -> float | None:
    """Valence or arousal; None for -2, which marks that there is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if -1 <= number <= 1 else None
