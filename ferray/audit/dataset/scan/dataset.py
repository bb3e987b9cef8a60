"""A data set after it was read once: all that the checks look at, in rows, whatever its form on disk.

A row is a labeled face. Rows are numbered as they are listed; their pictures are kept as 32x32 gray thumbnails, 1 kB
each. Begin at `ScannedDataset`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.find import Copies, CopyPair
from ferray.data.copies.sketch import MIN_CONTRAST
from ferray.data.sources.rows import Fault
from ferray.data.store.manifest import SPLITS
from ferray.data.subject import EXPRESSIONS, Subject

Form = Literal["store", "folders", "expw", "csv", "table"]
"""A store of ferray's, photographs in folders by class, ExpW's `origin` and `label.lst`, FER2013's CSV file, a table of
photographs."""


@dataclass(frozen=True, kw_only=True)
class ScannedDataset:
    """One data set with N labeled faces. Arrays have N rows unless they say otherwise."""

    form: Form
    """Its form on disk."""
    place: str
    """Its file or folder."""
    dataset: str
    """The data set that it claims to be: `expw`, `fer2013`, `demo`, or ``""`` where it makes no claim."""
    class_names: tuple[str, ...]
    """In the order of the labels."""
    labels: NDArray[np.int64]
    """Places in `class_names`."""
    splits: NDArray[np.int64]
    """Places in `SPLITS`; -1 where there is no split."""
    names: tuple[str, ...]
    """The photograph of each face, as a path with `/`; in a CSV file the number of the row."""
    face_ids: NDArray[np.int64]
    """The number of each face within its photograph."""
    thumbnails: NDArray[np.uint8]
    """Shape (N, 32, 32), gray."""
    contrast: NDArray[np.float32]
    """Standard deviation of the picture's gray levels, 0 to 128."""
    digests: tuple[bytes, ...]
    """Equal where the files, or the pixels of the faces, are equal."""
    copies: Copies | None
    """Copies among the rows; None for faces drawn by code, which resemble each other without being copies."""
    photograph_copies: Copies | None = None
    """Copies among whole photographs, in the order of their first rows; None where each photograph is one face."""
    overruns: NDArray[np.bool_] | None = None
    """Whether more than a tenth of the face's box lies outside its photograph; None without boxes."""
    is_square: NDArray[np.bool_] | None = None
    """Whether the photograph is square; None without boxes."""
    box_order: tuple[str, ...] | None = None
    """The order in which the box columns had to be read, where it is not the data set's own order."""
    faults: Sequence[Fault] = field(default=())
    """Rows and photographs that cannot be used; they are not among the N."""
    subject: Subject = EXPRESSIONS
    """What the pictures show."""
    sample: int | None = None
    """The number of faces that was asked for, where the data set is a sample."""

    @property
    def num_faces(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def is_tree(self) -> bool:
        """Whether the names begin with folders that name split and class."""
        return self.form == "folders" or (self.form == "store" and not self.dataset)

    @property
    def is_listed(self) -> bool:
        """Whether rows have an order of their own, as in a list or a CSV file."""
        return self.form in ("expw", "csv", "table")

    @property
    def split_places(self) -> list[int]:
        """The splits that have faces, as places in `SPLITS`, in their order."""
        return sorted(int(place) for place in np.unique(self.splits) if place >= 0)

    @cached_property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Rows by split, or all of them under `whole` where there is no split."""
        if not self.split_places:
            return {"whole": np.arange(self.num_faces)}
        return {SPLITS[place]: np.flatnonzero(self.splits == place) for place in self.split_places}

    @cached_property
    def photographs(self) -> NDArray[np.int64]:
        """The photograph of each row, numbered from 0: rows with the same name share it."""
        return np.unique(np.asarray(self.names), return_inverse=True)[1].astype(np.int64)

    @property
    def is_flat(self) -> NDArray[np.bool_]:
        """Whether a picture shows nothing, shape (N,)."""
        return self.contrast < MIN_CONTRAST

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group of copies of each row, as the smallest row in it."""
        return np.arange(self.num_faces) if self.copies is None else self.copies.groups

    @property
    def pairs(self) -> tuple[CopyPair, ...]:
        """All pairs of copies."""
        return () if self.copies is None else self.copies.pairs

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The file name of each row without its folder and ending."""
        return tuple(PurePosixPath(name).stem for name in self.names)

    def normalized_thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Thumbnails of some rows with mean 0 and length 1, shape (rows, 1024): an inner product is a correlation."""
        flat = self.thumbnails[rows].reshape(len(rows), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.float32(1e-6))
        return flat

    def count_classes(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Number of faces of each class among some rows, or among all, shape (classes,)."""
        labels = self.labels if rows is None else self.labels[rows]
        return np.bincount(labels, minlength=len(self.class_names)).astype(np.int64)

    def describe(self, row: int) -> str:
        """A face by its name, with face id, split and class where the name's folders do not have them."""
        if self.is_tree:
            return self.names[row]
        split = [SPLITS[self.splits[row]]] if self.splits[row] >= 0 else []
        details = [f"face {self.face_ids[row]}", *split, self.class_names[self.labels[row]]]
        return f"{self.names[row]} ({', '.join(details[self.form == 'csv' :])})"
