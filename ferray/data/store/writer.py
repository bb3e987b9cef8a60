"""Writes a store, whole or not at all. Begin at `StoreWriter`."""

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.manifest import FORMAT_VERSION, Manifest, manifest_to_json, split_place
from ferray.data.store.reader import count_faces, fingerprint_faces
from ferray.data.subject import SubjectName
from ferray.errors import DataError, StorageError
from ferray.files import storage

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a store was made of and how: the fields of its manifest that cannot be counted, see `Manifest`."""

    dataset: str
    source_fingerprint: str
    margin: float = 0.0
    split: tuple[float, float, float] | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    sample: int | None = None
    copies: Literal["find", "skip"] = "skip"
    dropped: tuple[Literal["conflicts", "leaks"], ...] = ()
    subject: SubjectName = "expressions"


class StoreWriter:
    """Writes a store into a temporary folder beside it, which is renamed in one step at the end.

    Each face is written at its place in the file, from any thread, and is not kept: memory does not grow with the
    store.

    Args:
        folder: The store's folder; it must not exist, or be empty.
        num_faces: Number of rows, at most; `arrange` can leave some out.
        size_px: Side of a face.

    Raises:
        DataError: The folder exists.
        StorageError: Another process is writing the store, or the disk has no room for the faces, now or later.
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
            shutil.rmtree(self._temporary, ignore_errors=True)  # left by a killed process; this one holds the lock
            try:
                self._temporary.mkdir(parents=True)
                self._check_room()
                self._file = stack.enter_context((self._temporary / "faces.npy").open("wb+", buffering=0))
                self._begin = self._write_header()
            except OSError as error:
                raise as_storage_error(self.folder, error) from error
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def put(self, row: int, face: NDArray[np.uint8]) -> bytes:
        """Write one face.

        Args:
            row: Its row.
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
        """Read one face that was written, shape (size, size, 3)."""
        return np.frombuffer(self._read(row), dtype=np.uint8).reshape(self._size_px, self._size_px, 3)

    def arrange(self, rows: Sequence[int]) -> None:
        """Put the faces in another order, in place; rows that are not listed are left out.

        Args:
            rows: The present row of each face, in the new order; each at most once.
        """
        num, kept = len(rows), set(rows)
        is_arranged = [row == old for row, old in enumerate(rows)]
        free = [row for row in range(num) if row not in kept]  # their faces are left out, so they can be overwritten
        for begin in (*free, *range(num)):  # chains of moves that end in a free row; then rings of moves
            row, first_face = begin, b"" if is_arranged[begin] else self._read(begin)
            while row < num and not is_arranged[row]:
                is_arranged[row] = True
                self._write(row, first_face if rows[row] == begin else self._read(rows[row]))
                row = rows[row]
        self._digests = [self._digests[row] for row in rows]
        self._num_faces = num
        assert self._write_header() == self._begin  # numpy pads a header, so that its length does not change
        self._file.truncate(self._begin + num * self._face_bytes)

    def finish(
        self,
        table: "pandas.DataFrame",
        class_names: Sequence[str],
        provenance: Provenance,
        votes: NDArray[np.uint16] | None = None,
    ) -> Manifest:
        """Write labels, votes, table and manifest, and rename the temporary folder to the store's name.

        Args:
            table: One row per face, in the order of the faces, with the columns `label`, `split` and `group` at least,
                ordered by split. A column `sha256` of each face's pixels is added.
            class_names: In the order of the labels.
            provenance: What the store was made of.
            votes: Annotators who chose each class, shape (faces, classes), at least one in each row; None without them.

        Raises:
            StorageError: The disk is full or the folder cannot be written; nothing is left behind.
        """
        assert all(self._digests), "a face was never written"
        assert len(table) == self._num_faces
        labels = np.asarray(table["label"].to_numpy(), dtype=np.int64)
        splits = table["split"].tolist()
        assert splits == sorted(splits, key=split_place)
        assert votes is None or (votes.dtype == np.uint16 and votes.any(axis=1).all())
        manifest = Manifest(
            version=FORMAT_VERSION,
            class_names=tuple(class_names),
            size_px=self._size_px,
            num_faces=self._num_faces,
            counts=count_faces(labels, splits, class_names),
            fingerprint=fingerprint_faces(self._digests, labels, splits, class_names, votes),
            has_votes=votes is not None,
            **vars(provenance),
        )
        try:
            self._file.flush()
            np.save(self._temporary / "labels.npy", labels)
            if votes is not None:
                np.save(self._temporary / "votes.npy", votes)
            hashes = [digest.hex() for digest in self._digests]
            table.assign(sha256=hashes).to_parquet(self._temporary / "table.parquet", index=False)
            storage.write_json(self._temporary / "manifest.json", manifest_to_json(manifest))
            for path in (*self._temporary.iterdir(), self._temporary):  # all bytes are on the disk before the rename
                _sync(path)
            self._temporary.replace(self.folder)
            _sync(self.folder.parent)
        except OSError as error:
            raise as_storage_error(self.folder, error) from error
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
            raise as_storage_error(self.folder, error) from error
        if written != len(pixels):
            raise as_storage_error(self.folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _write_header(self) -> int:
        """Write the npy header for the present number of rows.

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


def as_storage_error(path: Path, error: OSError) -> StorageError:
    """The error of a folder or file that cannot be written."""
    what = f"cannot be written: {error.strerror or error}"
    return StorageError(str(path), what, "Free space or name another folder")


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
