"""RAF-DB's basic expressions, in its own layout or in folders by number.

    DIR/EmoLabel/list_patition_label.txt        train_00001.jpg 5
    DIR/Image/aligned/train_00001_aligned.jpg

The name begins with the split. The numbers are 1 surprise, 2 fear, 3 disgust, 4 happy, 5 sad, 6 angry, 7 neutral.
Copies have folders `train/1` to `test/7` in this order, or `0` to `6` in AffectNet's; see
`ferray.data.sources.numbering`. RAF-DB has no validation split. Begin at `read_rafdb`.

Source: Li, Deng and Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the
Wild", 2017.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferray.data.known_sets import sets_of_classes
from ferray.data.sources.classes import classes_of_expressions
from ferray.data.sources.folders import read_folders
from ferray.data.sources.numbered_folders import read_numbered_folders
from ferray.data.sources.numbering import OrderName, choose_order
from ferray.data.sources.rows import MAX_LIST_BYTES, MISSING, Face, Fault, Source, find_name_fault
from ferray.data.sources.ways_out import nothing_usable
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

KNOWN = [known for known in sets_of_classes(CLASS_NAMES) if known.name == "RAF-DB"]
READINGS: Sequence[OrderName] = ("rafdb", "affectnet", "alphabetical")
LISTS = ("EmoLabel/list_patition_label.txt", "list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt")
"""Where the list lies below the folder, spelled as its authors do."""
PICTURES = ("Image/aligned", "aligned", "basic/Image/aligned")

_NAME = re.compile(r"(train|test)_\d+\.jpg")
_TREES = (
    "Name the folder that holds EmoLabel and Image, or train and test with a folder for each class: --images DIR; the "
    "list may be named too: --labels FILE"
)


def read_rafdb(images: Path, *, labels: Path | None = None, order: OrderName | None = None) -> Source:
    """Read RAF-DB; no photograph is opened.

    Args:
        images: The folder that holds `EmoLabel` and `Image`, or folders by class.
        labels: The list of labels, where it lies elsewhere.
        order: The order of the classes that the numbers count, where it is not certain.

    Raises:
        DataError: It is none of the layouts, or the order is not certain.
    """
    if not images.is_dir():
        raise DataError(str(images), "no such folder", _TREES)
    file = labels or next((images / name for name in LISTS if (images / name).is_file()), None)
    if file is not None:
        return _read_list(images, file, order)
    numbered = read_numbered_folders(
        images, [CLASS_NAMES], KNOWN, readings=READINGS, order=order, dataset="rafdb", way_out=_TREES
    )
    if numbered is not None:
        return numbered
    if order is not None:
        raise DataError(f"--order {order}", f"{images} has folders by name, not by number", "Leave --order out")
    named = read_folders(images, "expressions")
    return replace(named, dataset="rafdb", classes=classes_of_expressions(CLASS_NAMES))


def _read_list(images: Path, file: Path, order: OrderName | None) -> Source:
    root = images.resolve()
    aligned = next((name for name in PICTURES if (root / name).is_dir()), None)
    if aligned is None:
        what = f"has no folder {PICTURES[0]}, which holds the aligned faces"
        raise DataError(str(images), what, "Unpack RAF-DB's aligned.zip there; the original photographs are not read")
    try:
        content = untrusted.read_bytes(file, max_bytes=MAX_LIST_BYTES)
        present = set(os.listdir(root / aligned))
    except StorageError as error:
        raise DataError(error.args[0], error.args[1], _TREES) from error
    except OSError as error:
        raise DataError(str(error.filename), f"cannot be read: {error.strerror or error}", _TREES) from error
    found = [
        _read_line(line, f"{file}:{number}", aligned, present)
        for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
        if line.strip()
    ]
    faces, repeated = _leave_out_repeated([one for one in found if isinstance(one, Face)])
    faults = [*(one for one in found if isinstance(one, Fault)), *repeated]
    counts: dict[str, Counter[int]] = {}
    for one in faces:
        counts.setdefault(str(one.split), Counter())[one.label] += 1
    if not faces:
        way_out = "Name RAF-DB's list_patition_label.txt: --labels FILE"
        raise nothing_usable(str(file), "no usable line", faults, way_out)
    numbering = choose_order(
        counts, CLASS_NAMES, KNOWN,
        readings=READINGS, documented="rafdb", given=order, place=str(file), what="labels",
    )  # fmt: skip
    label_of = {number: CLASS_NAMES.index(name) for number, name in numbering.classes.items()}
    return Source(
        dataset="rafdb",
        root=root,
        faces=[replace(face, label=label_of[face.label]) for face in faces],
        faults=sorted(faults, key=lambda fault: int(fault.place.rpartition(":")[2])),
        upright=True,
        classes=classes_of_expressions(CLASS_NAMES),
        is_listed=True,
        label_digest=hashlib.sha256(content + numbering.name.encode()).digest(),
        notes=[f"order of the labels: {numbering}"],
    )


def _read_line(line: bytes, place: str, aligned: str, present: set[str]) -> Face | Fault:
    """The face of one line, its label still the number."""
    try:
        fields = line.decode().split()
    except UnicodeDecodeError:
        return Fault("not UTF-8", place, "the line is not UTF-8")
    if len(fields) != 2:
        return Fault("wrong number of fields", place, f"{len(fields)} fields, not 2: name and label")
    name, label = fields
    if fault := find_name_fault(name):
        return Fault(fault[0], place, fault[1])
    split = _NAME.fullmatch(name)
    if split is None:
        what = f"the name {name[:40]!r} is not train_ or test_ and a number"
        return Fault("unknown split", place, what, name, way_out="Name the pictures as RAF-DB does: train_00001.jpg")
    if label not in ("0", "1", "2", "3", "4", "5", "6", "7"):
        way_out = "Take RAF-DB's own list of the seven basic expressions, whose labels are 1 to 7: --labels FILE"
        return Fault("unknown label", place, f"label is {label[:20]!r}, not 1 to 7", name, way_out=way_out)
    stem = name.removesuffix(".jpg")
    file = next((one for one in (f"{stem}_aligned.jpg", name) if one in present), None)
    if file is None:
        return Fault(MISSING, place, f"there is no {stem}_aligned.jpg in {aligned}", name)
    return Face(f"{aligned}/{file}", 0, int(label), place, split=split[1])


def _leave_out_repeated(faces: Sequence[Face]) -> tuple[list[Face], list[Fault]]:
    """Of several lines for one picture, keep the first if they are equal, and none if they differ."""
    by_name: dict[str, list[Face]] = {}
    for face in faces:
        by_name.setdefault(face.source, []).append(face)
    kept: list[Face] = []
    faults: list[Fault] = []
    for name, same in by_name.items():
        are_equal = len({face.label for face in same}) == 1
        kept += same[:1] if are_equal else []
        how = "with the same label" if are_equal else "with another label"
        faults += [
            Fault("two rows for one face", face.place, f"{name} is listed twice, {how}", name)
            for face in (same[1:] if are_equal else same)
        ]
    return kept, faults
