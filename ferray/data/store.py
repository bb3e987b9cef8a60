"""A store: decoded faces that any number of processes map into memory without copying.

    faces.npy       uint8 RGB, shape (N, size, size, 3)
    labels.npy      int64, shape (N,)
    table.parquet   one row a face: source, box, label, split, group, and every column worth slicing by
    manifest.json   what it is, how it was made, fingerprints; written last

Rows are ordered train, validation, test, so that a split is one contiguous slice. A face of 224 pixels is 147 KiB, all
91,793 of ExpW 13 GiB. Begin at `open_store`; `StoreWriter` makes one, whole or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ferray import storage
from ferray.errors import DataError, StorageError

if TYPE_CHECKING:
    import pandas

FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")
MAKE_ONE = "Make a store: python -m ferray.data prepare --help"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True))
class Manifest:
    """What a store is and how it was made."""

    version: int
    """Of the store's format."""
    dataset: str
    """`expw`, `folders` or `demo`."""
    class_names: tuple[str, ...]
    """In the order of the labels."""
    size_px: Annotated[int, Field(ge=8, le=1024)]
    """Side of a face."""
    margin: float
    """Added to each side of a box, as a fraction of its side."""
    num_faces: Annotated[int, Field(ge=1)]
    """Rows."""
    counts: dict[str, dict[str, int]]
    """Split to class to faces."""
    split: tuple[float, float, float] | None
    """Shares of train, validation and test; None where the split was given."""
    seed: int
    """Of the sample and of the split."""
    source_fingerprint: str
    """SHA-256 over the sources: names, bytes, labels."""
    fingerprint: str
    """SHA-256 over what a training run sees: faces, labels, splits, class names."""
    notes: tuple[str, ...]
    """What was done to the faces, in words."""
    skipped: dict[str, int]
    """Reason to number of rows of the source that were left out."""


_MANIFEST = TypeAdapter(Manifest)


class Store:
    """A folder of faces, read-only. Made by `open_store`.

    Attributes:
        folder: Where it lies, absolute.
        manifest: What it is.
        faces: uint8 RGB, shape (N, size, size, 3), memory-mapped.
        labels: int64, shape (N,).
    """

    def __init__(
        self, folder: Path, manifest: Manifest, faces: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> None:
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
        import pandas

        file = self.folder / "table.parquet"
        try:
            table = pandas.read_parquet(file)
        except (OSError, ValueError) as error:
            raise DataError(str(file), f"cannot be read: {error}", MAKE_ONE) from error
        if len(table) != len(self.labels):
            raise DataError(str(file), f"has {len(table)} rows, but there are {len(self.labels)} faces", MAKE_ONE)
        return table

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
        """Ids of the photographs that a split's faces come from, shape (rows of the split,).

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
    file = folder / "manifest.json"
    if not file.is_file():
        raise DataError(str(folder), "not a store of faces: it has no manifest.json", MAKE_ONE)
    try:
        values = storage.read_json(file)
        if isinstance(values, dict) and values.get("version") != FORMAT_VERSION:
            what = f"a store of format {values.get('version')!r}, not {FORMAT_VERSION}"
            raise DataError(str(file), what, "Prepare it again with this version")
        manifest = _MANIFEST.validate_python(values)
        faces = np.load(folder / "faces.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise DataError(str(file), f"{place}: {fault['msg']}", MAKE_ONE) from error
    except (StorageError, OSError, ValueError, EOFError) as error:
        raise DataError(str(folder), f"a broken store: {error}", MAKE_ONE) from error
    size = manifest.size_px
    total = sum(sum(classes.values()) for classes in manifest.counts.values())
    for name, array, shape, dtype in (
        ("faces.npy", faces, (manifest.num_faces, size, size, 3), np.uint8),
        ("labels.npy", labels, (manifest.num_faces,), np.int64),
    ):
        if array.shape != shape or array.dtype != dtype:
            what = f"{array.dtype} of shape {array.shape}, but the manifest says {np.dtype(dtype)} of {shape}"
            raise DataError(str(folder / name), what, MAKE_ONE)
    if total != manifest.num_faces or (len(labels) and not 0 <= labels.min() <= labels.max() < len(manifest.class_names)):
        raise DataError(str(folder), "labels or counts disagree with the manifest", MAKE_ONE)
    return Store(folder, manifest, faces, labels)


class StoreWriter:
    """Writes a store into a temporary sibling folder, which takes its name in one step at the end.

    Args:
        folder: The store's; must not exist.
        num_faces: Rows.
        size_px: Side of a face.

    Raises:
        DataError: The folder exists, or another process is writing it.
    """

    def __init__(self, folder: Path, *, num_faces: int, size_px: int) -> None:
        self.folder = folder.resolve()
        if self.folder.exists():
            raise DataError(str(folder), "exists already", "Name another folder, or remove this one")
        self._temporary = self.folder.parent / f".{self.folder.name}.part"
        self._lock = storage.lock(self.folder.parent / f".{self.folder.name}.lock", wait_s=0)
        self._size_px = size_px
        self._num_faces = num_faces

    def __enter__(self) -> "StoreWriter":
        self._lock.__enter__()
        shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed; the lock says it is nobody's
        self._temporary.mkdir(parents=True)
        shape = (self._num_faces, self._size_px, self._size_px, 3)
        self.faces = np.lib.format.open_memmap(self._temporary / "faces.npy", mode="w+", dtype=np.uint8, shape=shape)
        return self

    def __exit__(self, *error: object) -> None:
        self.__dict__.pop("faces", None)
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._lock.__exit__(None, None, None)

    def finish(self, table: "pandas.DataFrame", *, class_names: Sequence[str], **facts: Any) -> Manifest:
        """Write labels, table and manifest, and give the store its name.

        Args:
            table: One row a face, in the order of `faces`: at least `label`, `split` and `group`; the splits in the
                order of `SPLITS`.
            class_names: In the order of the labels.
            facts: The other fields of `Manifest` that cannot be counted: dataset, margin, split, seed,
                source_fingerprint, notes, skipped.

        Raises:
            StorageError: The disk is full or the folder cannot be written; nothing is left behind.
        """
        labels = np.asarray(table["label"].to_numpy(), dtype=np.int64)
        splits = table["split"].tolist()
        assert [SPLITS.index(name) for name in splits] == sorted(SPLITS.index(name) for name in splits)
        try:
            self.faces.flush()
            np.save(self._temporary / "labels.npy", labels)
            table.to_parquet(self._temporary / "table.parquet", index=False)
            manifest = Manifest(
                version=FORMAT_VERSION,
                class_names=tuple(class_names),
                size_px=self._size_px,
                num_faces=self._num_faces,
                counts=count(labels, splits, class_names),
                fingerprint=fingerprint(self.faces, labels, splits, class_names),
                **facts,
            )
            storage.write_json(self._temporary / "manifest.json", _MANIFEST.dump_python(manifest, mode="json"))
            for file in self._temporary.iterdir():  # on the disk before the name says that it is whole
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            self._temporary.replace(self.folder)
        except OSError as error:
            raise StorageError(str(self.folder), f"cannot be written: {error}", "Free space or name another folder") from error
        return manifest


def count(labels: NDArray[np.int64], splits: Sequence[str], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Faces by split and class; every class is named, also an empty one."""
    names = np.asarray(splits)
    return {
        split: {name: int(np.sum((names == split) & (labels == label))) for label, name in enumerate(class_names)}
        for split in SPLITS
    }


def fingerprint(
    faces: NDArray[np.uint8], labels: NDArray[np.int64], splits: Iterable[str], class_names: Sequence[str]
) -> str:
    """SHA-256 over faces, labels, splits and class names, read in pieces of 64 faces."""
    digest = hashlib.sha256(json.dumps([list(class_names), list(splits), list(faces.shape)]).encode())
    digest.update(labels.tobytes())
    for begin in range(0, len(faces), 64):
        digest.update(np.ascontiguousarray(faces[begin : begin + 64]).tobytes())
    return digest.hexdigest()
