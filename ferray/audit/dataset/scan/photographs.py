"""Reads data sets of photographs: folders by class, tables, and ExpW's layout. Begin at any `scan_`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.scan.dataset import Form, ScannedDataset
from ferray.audit.dataset.scan.pictures import PictureScan, PictureScans, scan_picture
from ferray.data.copies.find import Copies, PictureKind, find_copies, join_places
from ferray.data.copies.gradients import Candidate
from ferray.data.copies.sketch import Sketches
from ferray.data.decoding.formats import BadPhotographError
from ferray.data.prepare.options import DEFAULT_MARGIN
from ferray.data.prepare.photographs import crop_face, photograph_loader, read_photograph
from ferray.data.sources.boxes import EXPW_ORDER, BoxOrder, infer_box_order, read_box_columns
from ferray.data.sources.expw import REQUIRED_ORDER, read_expw
from ferray.data.sources.folders import read_folders
from ferray.data.sources.rows import Box, Face, Fault, Source
from ferray.data.sources.table import read_table_source
from ferray.data.sources.ways_out import explain_faults
from ferray.data.store.manifest import split_place
from ferray.data.threads import Threads
from ferray.errors import DataError, StorageError

CROP_PX = 64
"""Side to which ExpW's faces are scaled for the checks; half of them are not much larger."""
MIN_OVERRUN = 0.1
"""Part of a box's side outside its photograph from which the box does not fit."""
NUM_SIZES = 200
"""Number of photographs that are opened to decide between two orders of box columns."""


def scan_folders(folder: Path, threads: Threads) -> ScannedDataset:
    """Read photographs in folders by class.

    Raises:
        DataError: The folders cannot be read, or no photograph can be used.
    """
    return _scan_source("folders", folder, read_folders(folder), threads)


def scan_table(file: Path, threads: Threads) -> ScannedDataset:
    """Read a table of photographs, whose paths begin in its folder.

    Raises:
        DataError: The table cannot be read, or no photograph can be used.
    """
    return _scan_source("table", file, read_table_source(file), threads)


def _scan_source(form: Form, place: Path, source: Source, threads: Threads) -> ScannedDataset:
    """Read each photograph, or each box in one."""
    have_boxes = not source.has_whole_photographs

    def scan(face: Face) -> PictureScan | Fault:
        try:
            photograph = read_photograph(source.root, face.source, upright=source.upright)
        except BadPhotographError as error:
            return error.as_fault(face)
        if not have_boxes:
            return scan_picture(photograph.pixels, photograph.digest)
        try:
            return scan_picture(crop_face(photograph.pixels, face.box, size_px=CROP_PX, margin=DEFAULT_MARGIN)[0])
        except BadPhotographError as error:
            return Fault(error.reason, face.place, f"{face.source} {error.what}", face.source, face.face_id)

    pictures = PictureScans(len(source.faces), digest_of="pixels" if have_boxes else "bytes")
    faults = list(source.faults)
    faces: list[Face] = []
    for face, result in zip(
        source.faces, threads.map(scan, source.faces, title="reading", unit="pictures"), strict=True
    ):
        if isinstance(result, Fault):
            faults.append(result)
        else:
            pictures.put(len(faces), result)
            faces.append(face)
    _check_usable(faces, source, place, faults)
    pictures = pictures.select(np.arange(len(faces)))

    def load(row: int) -> NDArray[np.uint8]:
        pixels = read_photograph(source.root, faces[row].source, upright=source.upright).pixels
        return _crop(pixels, faces[row].box) if have_boxes else pixels

    kind: PictureKind = "faces" if have_boxes else "photographs"
    copies = find_copies(pictures.sketches, load, kind=kind, threads=threads)
    return _dataset_of_faces(form, place, source, faces, pictures, copies, faults)


def scan_expw(images: Path, labels: Path, threads: Threads) -> ScannedDataset:
    """Read ExpW's layout.

    Args:
        images: The folder of the photographs.
        labels: The list of faces.
        threads: How the work is spread.

    Raises:
        DataError: The list cannot be read, or no photograph can be used.
    """
    source, order = read_expw_list(images, labels)
    rows_of: dict[str, list[int]] = {}
    for row, face in enumerate(source.faces):
        rows_of.setdefault(face.source, []).append(row)
    names = list(rows_of)

    def scan(name: str) -> _ScannedPhotograph | BadPhotographError:
        try:
            photograph = read_photograph(source.root, name, upright=source.upright)
        except BadPhotographError as error:
            return error
        boxes = [source.faces[row].box for row in rows_of[name]]
        return _scan_photograph(photograph.pixels, photograph.digest, boxes)

    photographs = PictureScans(len(names), digest_of="bytes")
    pictures = PictureScans(len(source.faces), digest_of="pixels")
    bad: dict[int, Fault] = {}
    is_square, overruns = (np.zeros(len(source.faces), dtype=np.bool_) for _ in range(2))
    for place, result in enumerate(threads.map(scan, names, title="reading", unit="photographs")):
        rows = rows_of[names[place]]
        if isinstance(result, BadPhotographError):
            bad.update({row: result.as_fault(source.faces[row]) for row in rows})
            continue
        photographs.put(place, result.scan)
        is_square[rows], overruns[rows] = result.is_square, result.overruns
        for row, face_scan in zip(rows, result.faces, strict=True):
            pictures.put(row, face_scan)
    readable = np.asarray([row for row in range(len(source.faces)) if row not in bad], dtype=np.int64)
    faces = [source.faces[row] for row in readable.tolist()]
    faults = [*source.faults, *(bad[row] for row in sorted(bad))]
    _check_usable(faces, source, labels, faults)
    pictures = pictures.select(readable)
    is_demo = _is_demo(source.faces)
    copies = photograph_copies = None
    if not is_demo:
        load = photograph_loader(source, names)
        photograph_copies = find_copies(photographs.sketches, load, kind="photographs", threads=threads)
        copies = _find_copies_of_faces(source, faces, pictures.sketches, names, photograph_copies, threads)
    return replace(
        _dataset_of_faces("expw", labels.parent, source, faces, pictures, copies, faults),
        dataset="demo" if is_demo else "expw",
        overruns=overruns[readable],
        is_square=is_square[readable],
        box_order=None if order == EXPW_ORDER else order,
        photograph_copies=photograph_copies,
    )


def read_expw_list(images: Path, labels: Path) -> tuple[Source, BoxOrder]:
    """Read an ExpW list, with its box columns in the order that fits.

    Args:
        images: The folder of the photographs.
        labels: The list.

    Returns:
        The result of `read_expw`, and the order.

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
            height, width = read_photograph(images.resolve(), name, upright=False).pixels.shape[:2]
        except BadPhotographError:
            continue  # it is reported when all photographs are read
        sizes[name] = (height, width)
    order = infer_box_order(columns, sizes)
    if order is None:
        what = "the boxes are not squares in any order of their columns, and ExpW's all are"
        raise DataError(str(labels), what, REQUIRED_ORDER)
    return read_expw(images, labels, order=order), order


@dataclass(frozen=True, slots=True)
class _ScannedPhotograph:
    """What is kept of one photograph of ExpW."""

    scan: PictureScan
    faces: list[PictureScan]
    overruns: list[bool]
    """Whether the box of each face overruns the photograph."""
    is_square: bool


def _scan_photograph(pixels: NDArray[np.uint8], digest: bytes, boxes: Sequence[Box | None]) -> _ScannedPhotograph:
    height, width = pixels.shape[:2]
    return _ScannedPhotograph(
        scan=scan_picture(pixels, digest),
        faces=[scan_picture(_crop(pixels, box)) for box in boxes],
        overruns=[box is not None and _overrun(box, height, width) > MIN_OVERRUN for box in boxes],
        is_square=abs(height - width) <= 0.02 * width,
    )


def _crop(pixels: NDArray[np.uint8], box: Box | None) -> NDArray[np.uint8]:
    """A face; the whole picture where the box lies outside it, which `overruns` records."""
    try:
        return crop_face(pixels, box, size_px=CROP_PX, margin=DEFAULT_MARGIN)[0]
    except BadPhotographError:
        return crop_face(pixels, None, size_px=CROP_PX, margin=0.0)[0]


def _overrun(box: Box, height: int, width: int) -> float:
    """The longest part of the box beyond one edge of its photograph, as a fraction of its side."""
    return max(-box.top, -box.left, box.right - width, box.bottom - height, 0) / box.side_px


def _is_demo(faces: Sequence[Face]) -> bool:
    """Whether the photographs were drawn by `ferray data demo`, judged by their names."""
    return all("_cartoon_" in face.source for face in faces)


def _find_copies_of_faces(
    source: Source,
    faces: Sequence[Face],
    sketches: Sketches,
    names: Sequence[str],
    photograph_copies: Copies,
    threads: Threads,
) -> Copies:
    """Copies among the faces, together with those that only their photographs show.

    Two faces are copies if each is the only face of its photograph and the photographs are copies.
    """
    rows_by_name: dict[str, list[int]] = {name: [] for name in names}
    for row, face in enumerate(faces):
        rows_by_name[face.source].append(row)
    rows_of = list(rows_by_name.values())

    def load(row: int) -> NDArray[np.uint8]:
        pixels = read_photograph(source.root, faces[row].source, upright=source.upright).pixels
        return _crop(pixels, faces[row].box)

    also = [
        Candidate(first, second, pair.mirrored)
        for pair in photograph_copies.pairs
        for first, second in product(rows_of[pair.first], rows_of[pair.second])
    ]
    found = find_copies(sketches, load, kind="faces", also=also, threads=threads)
    known = {pair.places for pair in found.pairs}
    pairs = list(found.pairs)
    for pair in photograph_copies.pairs:
        if len(rows_of[pair.first]) == len(rows_of[pair.second]) == 1:
            first, second = sorted([*rows_of[pair.first], *rows_of[pair.second]])
            if (first, second) not in known:
                pairs.append(replace(pair, first=first, second=second))
    pairs.sort(key=lambda pair: pair.places)
    groups = join_places(len(sketches), [pair.places for pair in pairs])
    return replace(found, groups=groups, pairs=tuple(pairs))


def _check_usable(faces: Sequence[Face], source: Source, place: Path, faults: Sequence[Fault]) -> None:
    if not faces:
        nothing = "there are none", "Name a folder that holds pictures"
        what, way_out = explain_faults(faults, source.root) if faults else nothing
        raise DataError(str(place), f"no usable picture: {what}", way_out)


def _dataset_of_faces(
    form: Form,
    place: Path,
    source: Source,
    faces: Sequence[Face],
    pictures: PictureScans,
    copies: Copies | None,
    faults: Sequence[Fault],
) -> ScannedDataset:
    return ScannedDataset(
        form=form,
        place=str(place.resolve()),
        dataset="",
        class_names=source.classes.names,
        subject=source.classes.subject,
        labels=np.asarray([face.label for face in faces], dtype=np.int64),
        splits=np.asarray([split_place(face.split) for face in faces], dtype=np.int64),
        names=tuple(face.source for face in faces),
        face_ids=np.asarray([face.face_id for face in faces], dtype=np.int64),
        thumbnails=pictures.thumbnails,
        contrast=pictures.contrast,
        digests=tuple(pictures.sketches.digests),
        copies=copies,
        faults=faults,
    )
