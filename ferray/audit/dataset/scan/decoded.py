"""Reads faces that are decoded already: those of a store, and those of FER2013's CSV file.

Begin at `scan_store` and `scan_csv`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.dataset.scan.pictures import PictureScan, PictureScans, scan_picture
from ferray.data.copies.find import Copies, find_copies, join_places
from ferray.data.prepare.options import OnCopies
from ferray.data.sources.fer2013_csv import read_fer2013_csv
from ferray.data.sources.ways_out import explain_faults
from ferray.data.store.manifest import split_place
from ferray.data.store.reader import open_store
from ferray.data.store.verify import verify_store
from ferray.data.subject import CLASS_NAMES
from ferray.data.threads import Threads
from ferray.errors import DataError


def scan_store(folder: Path, threads: Threads, *, copies: OnCopies = "find") -> ScannedDataset:
    """Read a store.

    Args:
        folder: Of the store.
        threads: How the work is spread.
        copies: Whether to look for copies, which takes most of the time where pictures are alike.

    Raises:
        DataError: It is not a store, it is broken, or a face differs from its checksum.
    """
    store = open_store(folder)
    verify_store(store)
    table, manifest = store.table, store.manifest
    digests = [bytes.fromhex(digest) for digest in table["sha256"]]

    def load(row: int) -> NDArray[np.uint8]:
        return np.asarray(store.faces[row])

    pictures = _scan_all(manifest.num_faces, lambda row: scan_picture(load(row), digests[row]), threads)
    found = None
    if copies == "find" and not store.is_demo:
        found = find_copies(pictures.sketches, load, kind="faces", threads=threads)
    if found is not None and manifest.copies == "find":
        found = _agree_with_groups(found, np.asarray(table["group"], dtype=np.int64))
    face_ids = table["face_id"] if "face_id" in table else np.zeros(manifest.num_faces)
    return ScannedDataset(
        form="store",
        place=str(store.folder),
        dataset="" if manifest.dataset == "folders" else manifest.dataset,
        class_names=store.class_names,
        labels=store.labels,
        splits=np.asarray([split_place(split) for split in table["split"]], dtype=np.int64),
        names=tuple(table["source"]),
        face_ids=np.asarray(face_ids, dtype=np.int64),
        thumbnails=pictures.thumbnails,
        contrast=pictures.contrast,
        digests=tuple(pictures.sketches.digests),
        copies=found,
        subject=manifest.shown,
        sample=manifest.sample,
    )


def scan_csv(file: Path, threads: Threads) -> ScannedDataset:
    """Read FER2013's CSV file.

    Raises:
        DataError: It cannot be read, is not such a file, or no line of it can be used.
    """
    table = read_fer2013_csv(file)
    num = len(table.labels)
    if not num:
        what, way_out = explain_faults(table.faults)
        raise DataError(str(file), f"no usable line of {len(table.faults):,}: {what}", way_out)
    pictures = _scan_all(num, lambda row: scan_picture(table.pixels[row]), threads)
    return ScannedDataset(
        form="csv",
        place=str(file),
        dataset="fer2013",
        class_names=CLASS_NAMES,
        labels=table.labels,
        splits=np.asarray([split_place(split) for split in table.splits], dtype=np.int64),
        names=table.names,
        face_ids=np.zeros(num, dtype=np.int64),
        thumbnails=pictures.thumbnails,
        contrast=pictures.contrast,
        digests=tuple(pictures.sketches.digests),
        copies=find_copies(pictures.sketches, lambda row: table.pixels[row], kind="faces", threads=threads),
        faults=table.faults,
    )


def _scan_all(num: int, scan: Callable[[int], PictureScan], threads: Threads) -> PictureScans:
    pictures = PictureScans(num, digest_of="pixels")
    for row, picture in enumerate(threads.map(scan, range(num), title="reading", unit="pictures")):
        pictures.put(row, picture)
    return pictures


def _agree_with_groups(copies: Copies, groups: NDArray[np.int64]) -> Copies:
    """Keep only pairs that `prepare`, which compared the photographs themselves in full size, joined as well.

    The other pairs become borderline. Equal pixels need no such confirmation.
    """
    sure = [pair for pair in copies.pairs if pair.kind != "crop" or groups[pair.first] == groups[pair.second]]
    borderline = sorted({*copies.borderline, *copies.pairs} - {*sure}, key=lambda pair: pair.places)
    joined = join_places(len(groups), [pair.places for pair in sure])
    return replace(copies, groups=joined, pairs=tuple(sure), borderline=tuple(borderline))
