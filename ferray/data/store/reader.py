"""A store: decoded faces that any number of processes map into memory without copying.

    faces.npy       uint8 RGB, shape (N, size, size, 3)
    labels.npy      int64, shape (N,)
    table.parquet   one row a face: source, box, label, split, group, and every column worth slicing by
    manifest.json   what it is, how it was made, fingerprints; written last

Rows are ordered train, validation, test, so that a split is one contiguous slice. A face of 224 pixels is 147 KiB, all
91,793 of ExpW 13 GiB. Begin at `open_store`; `StoreWriter` makes one, whole or not at all.
"""

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.arrays import open_array
from ferray.data.store.manifest import FORMAT_VERSION, MAKE_ONE, SPLITS, Manifest, read_manifest, to_values
from ferray.data.store.table import read_table
from ferray.errors import DataError, StorageError
from ferray.files import storage

if TYPE_CHECKING:
    import pandas


class Store:
    """A folder of faces, read-only. Made by `open_store`.

    Attributes:
        folder: Where it lies, absolute.
        manifest: What it is.
        faces: uint8 RGB, shape (N, size, size, 3), memory-mapped.
        labels: int64, shape (N,).
    """

    def __init__(self, folder: Path, manifest: Manifest, faces: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.faces = faces
        self.labels = labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return self.manifest.class_names

    @property
    def fingerprint(self) -> str:
        """Of everything that a training run sees."""
        return self.manifest.fingerprint

    @property
    def size_px(self) -> int:
        """Side of a face."""
        return self.manifest.size_px

    @property
    def is_demo(self) -> bool:
        """Whether the faces were drawn by code."""
        return self.manifest.dataset == "demo"

    @cached_property
    def table(self) -> "pandas.DataFrame":
        """One row a face, in the order of `faces`.

        Raises:
            DataError: The file is missing or broken.
        """
        file, splits = self.folder / "table.parquet", self.manifest.splits
        return read_table(file, labels=self.labels, splits=splits, way_out=MAKE_ONE)

    def rows(self, split: str) -> slice:
        """The rows of a split.

        Raises:
            DataError: No such split, or it is empty.
        """
        counts = [sum(self.manifest.counts.get(name, {}).values()) for name in SPLITS]
        if split not in SPLITS:
            raise DataError(f"split {split!r}", "no such split", f"Known: {', '.join(SPLITS)}")
        place = SPLITS.index(split)
        if not counts[place]:
            known = ", ".join(name for name, count in zip(SPLITS, counts, strict=True) if count)
            raise DataError(str(self.folder), f"has no {split} faces", f"It has {known}; prepare another --split")
        begin = sum(counts[:place])
        return slice(begin, begin + counts[place])

    def groups(self, split: str) -> NDArray[np.int64]:
        """Ids of the photographs that a split's faces come from, copies counted as one, shape (rows of the split,).

        Raises:
            DataError: As `rows`.
        """
        rows = self.rows(split)
        return np.asarray(self.table["group"].to_numpy()[rows], dtype=np.int64)


def open_store(folder: Path) -> Store:
    """Map a store into memory.

    Raises:
        DataError: It is missing, half written, of another version, or its files disagree.
    """
    folder = folder.resolve()
    manifest = read_manifest(folder)
    num, size = manifest.num_faces, manifest.size_px
    try:
        faces = open_array(folder / "faces.npy", shape=(num, size, size, 3), dtype="|u1", inside=folder)
        labels = np.array(open_array(folder / "labels.npy", shape=(num,), dtype="<i8", inside=folder))
    except DataError as error:
        where, what, _ = error.args
        raise DataError(str(folder), f"a broken store: {Path(where).name} is {what}", MAKE_ONE) from error
    totals = [sum(manifest.counts[split].values()) for split in SPLITS]
    if sum(totals) != num or count(labels, manifest.splits, manifest.class_names) != manifest.counts:
        raise DataError(str(folder), "labels or counts disagree with the manifest", MAKE_ONE)
    return Store(folder, manifest, faces, labels)


class StoreWriter:
    """Writes a store into a temporary sibling folder, which takes its name in one step at the end.

    Faces are written at their place in the file, from any thread, and never held: memory does not grow with the store.

    Args:
        folder: The store's; must not exist, or be empty.
        num_faces: Rows, at most; `arrange` can leave some out.
        size_px: Side of a face.

    Raises:
        DataError: The folder exists.
        StorageError: Another process is writing it, or the disk has no room for the faces, now or later.
    """

    def __init__(self, folder: Path, *, num_faces: int, size_px: int) -> None:
        self.folder = folder.resolve()
        self._temporary = self.folder.parent / f".{self.folder.name}.part"
        self._size_px = size_px
        self._num_faces = num_faces
        self._digests: list[bytes] = [b""] * num_faces

    def __enter__(self) -> "StoreWriter":
        self._open = ExitStack()
        with ExitStack() as stack:
            stack.enter_context(storage.lock(self.folder.parent / f".{self.folder.name}.lock", wait_s=0))
            check_absent(self.folder)
            stack.callback(shutil.rmtree, self._temporary, ignore_errors=True)
            shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed; the lock says it is nobody's
            try:
                self._temporary.mkdir(parents=True)
                self._check_room()
                self._file = stack.enter_context((self._temporary / "faces.npy").open("wb+", buffering=0))
                self._begin = self._write_header()
            except OSError as error:
                raise _not_written(self.folder, error) from error
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def put(self, row: int, face: NDArray[np.uint8]) -> bytes:
        """Write one face.

        Args:
            row: Its place.
            face: RGB, shape (size, size, 3).

        Returns:
            SHA-256 of its pixels.
        """
        assert face.shape == (self._size_px, self._size_px, 3), face.shape
        assert face.dtype == np.uint8, face.dtype
        pixels = face.tobytes()
        self._digests[row] = hashlib.sha256(pixels).digest()
        self._write(row, pixels)
        return self._digests[row]

    def get(self, row: int) -> NDArray[np.uint8]:
        """Read one face that was put, shape (size, size, 3)."""
        return np.frombuffer(self._read(row), dtype=np.uint8).reshape(self._size_px, self._size_px, 3)

    def arrange(self, rows: Sequence[int]) -> None:
        """Put the faces in another order, in place; rows that are not named are left out.

        Args:
            rows: The present row of each face, in the new order; each at most once.
        """
        num, named = len(rows), set(rows)
        arranged = [row == old for row, old in enumerate(rows)]
        free = [row for row in range(num) if row not in named]  # nobody wants what is there: a chain of moves begins
        for begin in (*free, *range(num)):  # what is left after those chains are rings
            row, held = begin, b"" if arranged[begin] else self._read(begin)
            while row < num and not arranged[row]:
                arranged[row] = True
                self._write(row, held if rows[row] == begin else self._read(rows[row]))
                row = rows[row]
        self._digests = [self._digests[row] for row in rows]
        self._num_faces = num
        assert self._write_header() == self._begin  # numpy leaves room in a header for another number of rows
        self._file.truncate(self._begin + num * self._face_bytes)

    def finish(self, table: "pandas.DataFrame", *, class_names: Sequence[str], **facts: Any) -> Manifest:
        """Write labels, table and manifest, and give the store its name.

        Args:
            table: One row a face, in the order of the faces: at least `label`, `split` and `group`; the splits in the
                order of `SPLITS`. A column `sha256` of each face's pixels is added.
            class_names: In the order of the labels.
            facts: The other fields of `Manifest` that cannot be counted: dataset, margin, split, seed,
                source_fingerprint, notes, skipped.

        Raises:
            StorageError: The disk is full or the folder cannot be written; nothing is left behind.
        """
        assert all(self._digests), "a face was never put"
        assert len(table) == self._num_faces
        labels = np.asarray(table["label"].to_numpy(), dtype=np.int64)
        splits = table["split"].tolist()
        assert [SPLITS.index(name) for name in splits] == sorted(SPLITS.index(name) for name in splits)
        manifest = Manifest(
            version=FORMAT_VERSION,
            class_names=tuple(class_names),
            size_px=self._size_px,
            num_faces=self._num_faces,
            counts=count(labels, splits, class_names),
            fingerprint=fingerprint(self._digests, labels, splits, class_names),
            **facts,
        )
        try:
            self._file.flush()
            np.save(self._temporary / "labels.npy", labels)
            hashes = [digest.hex() for digest in self._digests]
            table.assign(sha256=hashes).to_parquet(self._temporary / "table.parquet", index=False)
            storage.write_json(self._temporary / "manifest.json", to_values(manifest))
            for file in (*self._temporary.iterdir(), self._temporary):  # on the disk before the name says so
                _sync(file)
            self._temporary.replace(self.folder)
            _sync(self.folder.parent)
        except OSError as error:
            raise _not_written(self.folder, error) from error
        return manifest

    def _check_room(self) -> None:
        needed, free = self._num_faces * self._face_bytes, shutil.disk_usage(self._temporary).free
        if needed > free:
            what = f"needs {needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB are free"
            raise StorageError(str(self.folder), what, "Free space, name another folder, or take a smaller --size")

    @property
    def _face_bytes(self) -> int:
        return self._size_px**2 * 3

    def _read(self, row: int) -> bytes:
        return os.pread(self._file.fileno(), self._face_bytes, self._begin + row * self._face_bytes)

    def _write(self, row: int, pixels: bytes) -> None:
        try:
            written = os.pwrite(self._file.fileno(), pixels, self._begin + row * len(pixels))
        except OSError as error:
            raise _not_written(self.folder, error) from error
        if written != len(pixels):
            raise _not_written(self.folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _write_header(self) -> int:
        """Write the npy header of the present number of rows.

        Returns:
            Its length in bytes.
        """
        shape = (self._num_faces, self._size_px, self._size_px, 3)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        os.pwrite(self._file.fileno(), header.getvalue(), 0)
        return len(header.getvalue())


def check_absent(folder: Path) -> None:
    """Refuse a folder that a store would overwrite.

    Raises:
        DataError: It exists and is not an empty folder.
    """
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise DataError(str(folder), "exists already", "Name another folder, or remove this one")


def count(labels: NDArray[np.int64], splits: Sequence[str], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Faces by split and class; every class is named, also an empty one."""
    names = np.asarray(splits)
    return {
        split: {name: int(np.sum((names == split) & (labels == label))) for label, name in enumerate(class_names)}
        for split in SPLITS
    }


def fingerprint(
    digests: Iterable[bytes], labels: NDArray[np.int64], splits: Sequence[str], class_names: Sequence[str]
) -> str:
    """SHA-256 over class names, splits, labels and the SHA-256 of each face's pixels, in the order of the rows."""
    digest = hashlib.sha256(json.dumps([list(class_names), list(splits)]).encode())
    digest.update(labels.tobytes())
    for face in digests:
        digest.update(face)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _not_written(folder: Path, error: OSError) -> StorageError:
    what = f"cannot be written: {error.strerror or error}"
    return StorageError(str(folder), what, "Free space or name another folder")
