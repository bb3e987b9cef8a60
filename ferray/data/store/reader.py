"""A store: decoded faces that any number of processes map into memory without copying.

    faces.npy       uint8 RGB, shape (N, size, size, 3)
    labels.npy      int64, shape (N,)
    votes.npy       uint16, shape (N, classes): annotators who chose each class; only where the source has votes
    table.parquet   one row per face: source, box, label, split, group, and every column that is useful for slices
    manifest.json   what the store holds, how it was made, fingerprints; written last

Rows are ordered train, validation, test, so that a split is one contiguous slice. A face of 224 pixels takes 147 KiB,
all 91,793 faces of ExpW take 13 GiB. Begin at `open_store`; `ferray.data.store.writer` writes a store.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.arrays import open_array
from ferray.data.store.manifest import HOW_TO_MAKE, SPLITS, Manifest, read_manifest
from ferray.data.store.table import read_table
from ferray.errors import DataError

if TYPE_CHECKING:
    import pandas


class Store:
    """A folder of faces, read-only. Made by `open_store`.

    Attributes:
        folder: Its absolute path.
        manifest: What it holds and how it was made.
        faces: uint8 RGB, shape (N, size, size, 3), memory-mapped.
        labels: int64, shape (N,).
        votes: uint16, shape (N, classes): annotators who chose each class, at least one in each row; None without them.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        faces: NDArray[np.uint8],
        labels: NDArray[np.int64],
        votes: NDArray[np.uint16] | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.faces = faces
        self.labels = labels
        self.votes = votes

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.manifest.class_names

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that a training run reads."""
        return self.manifest.fingerprint

    @property
    def size_px(self) -> int:
        """Side of a face."""
        return self.manifest.size_px

    @property
    def is_demo(self) -> bool:
        """Whether the faces were drawn by code."""
        return "demo" in self.manifest.datasets

    @cached_property
    def table(self) -> "pandas.DataFrame":
        """One row per face, in the order of `faces`.

        Raises:
            DataError: The file is missing or broken.
        """
        file, splits = self.folder / "table.parquet", self.manifest.splits
        return read_table(file, labels=self.labels, splits=splits, way_out=HOW_TO_MAKE)

    def rows(self, split: str) -> slice:
        """The rows of a split.

        Raises:
            DataError: There is no such split, or it is empty.
        """
        sizes = self.manifest.split_sizes
        if split not in sizes:
            raise DataError(f"split {split!r}", "no such split", f"Known: {', '.join(SPLITS)}")
        if not sizes[split]:
            present = ", ".join(name for name, size in sizes.items() if size)
            raise DataError(
                str(self.folder),
                f"has no {split} {self.manifest.shown.nouns}",
                f"It has {present}; prepare another --split",
            )
        begin = sum(sizes[earlier] for earlier in SPLITS[: SPLITS.index(split)])
        return slice(begin, begin + sizes[split])

    def groups(self, split: str) -> NDArray[np.int64]:
        """The photograph of each face of a split, as a number; copies of a photograph share it, shape (rows,).

        Raises:
            DataError: As `rows`.
        """
        rows = self.rows(split)
        return np.asarray(self.table["group"].to_numpy()[rows], dtype=np.int64)


def open_store(folder: str | os.PathLike[str]) -> Store:
    """Map a store into memory.

    Raises:
        DataError: It is missing, half written, of another version, or its files disagree.
    """
    folder = Path(folder).resolve()
    manifest = read_manifest(folder)
    num, size = manifest.num_faces, manifest.size_px
    votes = None
    try:
        faces = open_array(folder / "faces.npy", shape=(num, size, size, 3), dtype="|u1", inside=folder)
        labels = np.array(open_array(folder / "labels.npy", shape=(num,), dtype="<i8", inside=folder))
        if manifest.has_votes:
            shape = num, len(manifest.class_names)
            votes = open_array(folder / "votes.npy", shape=shape, dtype="<u2", inside=folder)
    except DataError as error:
        where, what, _ = error.args
        raise DataError(str(folder), f"a broken store: {Path(where).name} is {what}", HOW_TO_MAKE) from error
    total = sum(manifest.split_sizes.values())
    if total != num or count_faces(labels, manifest.splits, manifest.class_names) != manifest.counts:
        raise DataError(str(folder), "labels or counts disagree with the manifest", HOW_TO_MAKE)
    if votes is not None and not votes.any(axis=1).all():
        raise DataError(str(folder), "a broken store: votes.npy has a face without a vote", HOW_TO_MAKE)
    return Store(folder, manifest, faces, labels, votes)


def count_faces(
    labels: NDArray[np.int64], splits: Sequence[str], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Number of faces by split and class; every class is listed, also an empty one."""
    names = np.asarray(splits)
    return {
        split: {name: int(np.sum((names == split) & (labels == label))) for label, name in enumerate(class_names)}
        for split in SPLITS
    }


def fingerprint_faces(
    digests: Iterable[bytes],
    labels: NDArray[np.int64],
    splits: Sequence[str],
    class_names: Sequence[str],
    votes: NDArray[np.uint16] | None,
) -> str:
    """SHA-256 over class names, splits, labels, votes and the SHA-256 of each face's pixels, in the order of the rows.

    A store without votes has the fingerprint that it had before there were votes.
    """
    digest = hashlib.sha256(json.dumps([list(class_names), list(splits)]).encode())
    digest.update(labels.tobytes())
    if votes is not None:
        digest.update(votes.tobytes())
    for face in digests:
        digest.update(face)
    return digest.hexdigest()
