"""From a path to the evidence: each picture is read once, on all cores, and leaves a thumbnail and a sketch, 2 kB.

Only candidates for copies are read again. Begin at `read_evidence`; each form of a data set has its own `_read_`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.evidence import THUMB_PX, Evidence
from ferray.data.copies.find import Copies, find_copies, join
from ferray.data.copies.sketch import Sketches, progress_bar, sketch, threads, to_gray
from ferray.data.prepare.options import DEFAULT_MARGIN
from ferray.data.prepare.photographs import BadPhotographError, crop_face, read_photograph
from ferray.data.sources.boxes import EXPW_ORDER, find_box_order, read_box_columns
from ferray.data.sources.expw import read_expw
from ferray.data.sources.fer2013_csv import read_fer2013_csv
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import CLASS_NAMES, Box, Face, Fault, Source
from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import open_store
from ferray.errors import DataError, StorageError

CROP_PX = 64
"""Side at which ExpW's faces are looked at; half of them are not much larger."""
OVERRUN = 0.1
"""Part of a box's side beyond its photograph from which it does not fit."""
NUM_SIZES = 200
"""Photographs opened to tell apart two orders of box columns."""

_BATCH = 64


class _Pictures:
    """What the N pictures leave, filled from any thread."""

    def __init__(self, num: int, *, digest_of: Literal["bytes", "pixels"]) -> None:
        self.sketches = Sketches(num, digest_of=digest_of)
        self.thumbs = np.zeros((num, THUMB_PX, THUMB_PX), dtype=np.uint8)
        self.contrast = np.zeros(num, dtype=np.float32)
        self.seen = np.zeros(num, dtype=np.bool_)

    def put(self, place: int, pixels: NDArray[np.uint8], digest: bytes | None = None) -> None:
        gray = to_gray(pixels)
        self.sketches.put(place, sketch(pixels, digest=digest))
        self.thumbs[place] = cv2.resize(gray, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA)
        self.contrast[place] = gray.std()
        self.seen[place] = True

    def keep(self, places: NDArray[np.int64]) -> None:
        """Leave out all pictures but these."""
        kept = Sketches(len(places), digest_of=self.sketches.digest_of)
        kept.even, kept.odd = self.sketches.even[places], self.sketches.odd[places]
        kept.flat, kept.digests = self.sketches.flat[places], [self.sketches.digests[at] for at in places]
        self.sketches, self.thumbs, self.contrast = kept, self.thumbs[places], self.contrast[places]


def read_evidence(
    path: Path | None, *, images: Path | None = None, labels: Path | None = None, progress: bool = True
) -> Evidence:
    """Read a data set, whatever its form.

    Args:
        path: A store, a tree of folders, a folder with ExpW's `origin` and `label.lst`, or FER2013's CSV file.
        images: ExpW's photographs, instead of a path.
        labels: ExpW's list, instead of a path.
        progress: Show progress on stderr.

    Raises:
        DataError: It is none of these, or nothing in it can be used.
    """
    if path is None:
        if images is None or labels is None:
            raise DataError("check", "no data set named", "Name a PATH, or both --images DIR and --labels FILE")
        return _read_expw(images, labels, progress)
    if path.is_file():
        return _read_csv(path, progress)
    if not path.is_dir():
        raise DataError(str(path), "no such file or folder", "Name a store, a tree of folders or a CSV file")
    if (path / "manifest.json").is_file():
        return _read_store(path, progress)
    if (path / "label.lst").is_file():
        return _read_expw(path / "origin", path / "label.lst", progress)
    return _read_folders(path, progress)


def _read_store(folder: Path, progress: bool) -> Evidence:
    store = open_store(folder)
    table, manifest = store.table, store.manifest
    digests = [bytes.fromhex(digest) for digest in table["sha256"]]
    pictures = _Pictures(manifest.num_faces, digest_of="pixels")

    def look(place: int) -> None:
        pictures.put(place, np.asarray(store.faces[place]), digests[place])

    _on_all_cores(look, manifest.num_faces, "faces", progress)

    def load(place: int) -> NDArray[np.uint8]:
        return np.asarray(store.faces[place])

    copies = None if store.is_demo else find_copies(pictures.sketches, load, kind="faces", progress=progress)
    if copies is not None and manifest.copies == "find":
        copies = _agree_with(copies, np.asarray(table["group"], dtype=np.int64))
    num = manifest.num_faces
    ids = table["face_id"] if "face_id" in table else np.zeros(num)
    return Evidence(
        form="store",
        place=str(store.folder),
        dataset="" if manifest.dataset == "folders" else manifest.dataset,
        class_names=store.class_names,
        labels=store.labels,
        splits=np.asarray([SPLITS.index(split) for split in table["split"]], dtype=np.int64),
        names=tuple(table["source"]),
        face_ids=np.asarray(ids, dtype=np.int64),
        thumbs=pictures.thumbs,
        contrast=pictures.contrast,
        digests=tuple(pictures.sketches.digests),
        copies=copies,
        sample=manifest.sample,
        split_is_given=manifest.split is None,
    )


def _agree_with(copies: Copies, groups: NDArray[np.int64]) -> Copies:
    """Leave as doubtful what was no copy when the photographs themselves were compared, in full size, by `prepare`."""
    sure = [pair for pair in copies.pairs if pair.kind != "crop" or groups[pair.first] == groups[pair.second]]
    doubtful = sorted({*copies.borderline, *copies.pairs} - {*sure}, key=lambda pair: (pair.first, pair.second))
    joined = join(len(groups), [(pair.first, pair.second) for pair in sure])
    return replace(copies, groups=joined, pairs=tuple(sure), borderline=tuple(doubtful))


def _read_folders(folder: Path, progress: bool) -> Evidence:
    source = read_folders(folder)
    faces = list(source.faces)
    pictures = _Pictures(len(faces), digest_of="bytes")
    bad: dict[int, Fault] = {}

    def look(place: int) -> None:
        name = faces[place].source
        try:
            photograph = read_photograph(source.root, name, upright=True)
        except BadPhotographError as error:
            bad[place] = Fault(error.reason, faces[place].place, error.what, name)
            return
        pictures.put(place, photograph.pixels, photograph.digest)

    _on_all_cores(look, len(faces), "pictures", progress)
    faces = _leave_out(faces, pictures, folder, [*source.faults, *bad.values()])

    def load(place: int) -> NDArray[np.uint8]:
        return read_photograph(source.root, faces[place].source, upright=True).pixels

    copies = find_copies(pictures.sketches, load, kind="photographs", progress=progress)
    return _evidence_of_faces("folders", folder, source, faces, pictures, copies, [*source.faults, *bad.values()])


def _read_expw(images: Path, labels: Path, progress: bool) -> Evidence:
    source, order = read_list(images, labels)
    faces = list(source.faces)
    by_photograph: dict[str, list[int]] = {}
    for row, face in enumerate(faces):
        by_photograph.setdefault(face.source, []).append(row)
    names = list(by_photograph)
    photographs, pictures = _Pictures(len(names), digest_of="bytes"), _Pictures(len(faces), digest_of="pixels")
    bad: dict[int, Fault] = {}
    overruns = np.zeros(len(faces), dtype=np.bool_)
    square = np.zeros(len(faces), dtype=np.bool_)

    def look(place: int) -> None:
        rows = by_photograph[names[place]]
        try:
            photograph = read_photograph(source.root, names[place], upright=False)
        except BadPhotographError as error:
            bad.update({row: Fault(error.reason, faces[row].place, error.what, names[place]) for row in rows})
            return
        photographs.put(place, photograph.pixels, photograph.digest)
        height, width = photograph.pixels.shape[:2]
        for row in rows:
            box = faces[row].box
            pictures.put(row, _crop(photograph.pixels, box))
            overruns[row] = box is not None and _overrun(box, height, width) > OVERRUN
            square[row] = abs(height - width) <= 0.02 * width

    _on_all_cores(look, len(names), "photographs", progress)
    kept = np.flatnonzero(pictures.seen)
    faults = [*source.faults, *(bad[row] for row in sorted(bad))]

    def load_photograph(place: int) -> NDArray[np.uint8]:
        return read_photograph(source.root, names[place], upright=False).pixels

    is_demo = _is_demo(faces)
    faces = _leave_out(faces, pictures, labels, faults)

    def load(row: int) -> NDArray[np.uint8]:
        pixels = read_photograph(source.root, faces[row].source, upright=False).pixels
        return _crop(pixels, faces[row].box)

    whole, copies = None, None
    if not is_demo:
        row_of = {int(row): at for at, row in enumerate(kept)}
        rows_of = [[row_of[row] for row in by_photograph[name] if row in row_of] for name in names]
        whole = find_copies(photographs.sketches, load_photograph, kind="photographs", progress=progress)
        copies = _copies_of_faces(pictures.sketches, whole, rows_of, load, progress)
    evidence = _evidence_of_faces("expw", labels.parent, source, faces, pictures, copies, faults)
    return replace(
        evidence,
        dataset="demo" if is_demo else "expw",
        overruns=overruns[kept],
        square=square[kept],
        box_order=None if order == EXPW_ORDER else order,
        photograph_copies=whole,
    )


def _copies_of_faces(
    sketches: Sketches,
    whole: Copies,
    rows_of: Sequence[Sequence[int]],
    load: Callable[[int], NDArray[np.uint8]],
    progress: bool,
) -> Copies:
    """Copies among faces, with those that only their photographs show.

    Args:
        sketches: Of the faces.
        whole: Copies among photographs; where both have one face, these are copies, too.
        rows_of: The faces of each photograph.
        load: The pixels of a face.
        progress: Show progress on stderr.
    """
    also = [
        (a, b, pair.mirrored) for pair in whole.pairs for a, b in product(rows_of[pair.first], rows_of[pair.second])
    ]
    found = find_copies(sketches, load, kind="faces", also=also, progress=progress)
    known = {(pair.first, pair.second) for pair in found.pairs}
    single = []
    for pair in whole.pairs:
        rows = sorted([*rows_of[pair.first], *rows_of[pair.second]])
        if len(rows_of[pair.first]) == len(rows_of[pair.second]) == 1 and tuple(rows) not in known:
            single.append(replace(pair, first=rows[0], second=rows[1]))
    pairs = sorted([*found.pairs, *single], key=lambda pair: (pair.first, pair.second))
    groups = join(len(sketches), [(pair.first, pair.second) for pair in pairs])
    return replace(found, groups=groups, pairs=tuple(pairs))


def _read_csv(file: Path, progress: bool) -> Evidence:
    table = read_fer2013_csv(file)
    pictures = _Pictures(len(table.labels), digest_of="pixels")
    _on_all_cores(lambda place: pictures.put(place, table.pixels[place]), len(table.labels), "faces", progress)
    copies = find_copies(pictures.sketches, lambda place: table.pixels[place], kind="faces", progress=progress)
    return Evidence(
        form="csv",
        place=str(file),
        dataset="fer2013",
        class_names=CLASS_NAMES,
        labels=table.labels,
        splits=np.asarray([-1 if split is None else SPLITS.index(split) for split in table.splits], dtype=np.int64),
        names=table.names,
        face_ids=np.zeros(len(table.labels), dtype=np.int64),
        thumbs=pictures.thumbs,
        contrast=pictures.contrast,
        digests=tuple(pictures.sketches.digests),
        copies=copies,
        faults=table.faults,
    )


def read_list(images: Path, labels: Path) -> tuple[Source, tuple[str, ...]]:
    """An ExpW list with its box columns in the order that fits.

    Args:
        images: Folder of the photographs.
        labels: The list.

    Returns:
        What `read_expw` makes of it, and the order.

    Raises:
        DataError: It cannot be read, or its boxes are squares in no order.
    """
    if not labels.is_file():
        raise DataError(str(labels), "no such list of faces", "Name ExpW's label.lst: --labels FILE")
    try:
        columns = read_box_columns(labels)
    except StorageError as error:
        raise DataError(*error.args) from error
    sizes = {}
    for name in list(dict.fromkeys(name for name, _ in columns))[:NUM_SIZES]:
        try:
            sizes[name] = read_photograph(images.resolve(), name, upright=False).pixels.shape[:2]
        except BadPhotographError:
            continue  # it is listed when all photographs are read
    order = find_box_order(columns, sizes)
    if order is None:
        what = "the boxes are no squares in any order of their columns, and ExpW's all are"
        raise DataError(
            str(labels), what, "The columns must be: name, face id, top, left, right, bottom, confidence, label"
        )
    return read_expw(images, labels, order=order), order


def _crop(pixels: NDArray[np.uint8], box: Box | None) -> NDArray[np.uint8]:
    """A face; the whole picture where the box lies outside it, which `overruns` tells."""
    try:
        return crop_face(pixels, box, size_px=CROP_PX, margin=DEFAULT_MARGIN)[0]
    except BadPhotographError:
        return crop_face(pixels, None, size_px=CROP_PX, margin=0.0)[0]


def _overrun(box: Box, height: int, width: int) -> float:
    """The longest part of the box beyond one edge of its photograph, as a fraction of its side."""
    return max(-box.top, -box.left, box.right - width, box.bottom - height, 0) / box.side_px


def _is_demo(faces: Sequence[Face]) -> bool:
    """Whether the photographs were drawn by `ferray.data demo`, by their names."""
    return all("_cartoon_" in face.source for face in faces)


def _leave_out(faces: Sequence[Face], pictures: _Pictures, place: Path, faults: Sequence[Fault]) -> list[Face]:
    """The faces whose pictures could be read; the pictures of the others are dropped."""
    kept = np.flatnonzero(pictures.seen)
    if not len(kept):
        first = f": {faults[0].place}: {faults[0].what}" if faults else ""
        raise DataError(str(place), f"no usable picture{first}", "Check the folder and the labels")
    pictures.keep(kept)
    return [faces[row] for row in kept.tolist()]


def _evidence_of_faces(
    form: str, place: Path, source: Source, faces: Sequence[Face], pictures: _Pictures, copies: Copies | None,
    faults: Sequence[Fault],
) -> Evidence:  # fmt: skip
    return Evidence(
        form="expw" if form == "expw" else "folders",
        place=str(place.resolve()),
        dataset="",
        class_names=CLASS_NAMES,
        labels=np.asarray([face.label for face in faces], dtype=np.int64),
        splits=np.asarray([-1 if face.split is None else SPLITS.index(face.split) for face in faces], dtype=np.int64),
        names=tuple(face.source for face in faces),
        face_ids=np.asarray([face.face_id for face in faces], dtype=np.int64),
        thumbs=pictures.thumbs,
        contrast=pictures.contrast,
        digests=tuple(pictures.sketches.digests),
        copies=copies,
        faults=faults,
    )


def _on_all_cores(work: Callable[[int], None], num: int, unit: str, progress: bool) -> None:
    def run(begin: int) -> int:
        places = range(begin, min(begin + _BATCH, num))
        for place in places:
            work(place)
        return len(places)

    with threads(None) as pool, progress_bar("reading", num, unit, shown=progress) as advance:
        for count in pool.map(run, range(0, num, _BATCH)):
            advance(count)
