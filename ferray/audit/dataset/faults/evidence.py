"""What the checks look at: one data set laid out in rows, whatever it was on disk.

A row is a labelled face. Rows are numbered as they are listed; their pictures are kept as 32x32 gray thumbnails, 1 kB
each. Begin at `Evidence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.find import Copies, Pair
from ferray.data.sources.rows import Fault
from ferray.data.store.manifest import SPLITS

Form = Literal["store", "folders", "expw", "csv"]
"""A store of ferray's, photographs in folders by class, ExpW's `origin` and `label.lst`, FER2013's CSV file."""

THUMB_PX = 32
"""Side of a thumbnail."""
FLAT = 2.0
"""Standard deviation of gray levels, of 255, below which a picture shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One data set, N labelled faces. Arrays have N rows unless they say otherwise."""

    form: Form
    """How it lies on disk."""
    place: str
    """Where."""
    dataset: str
    """What it says it is: `expw`, `fer2013`, `demo`, or ``""`` where it does not say."""
    class_names: tuple[str, ...]
    """In the order of the labels."""
    labels: NDArray[np.int64]
    """Places in `class_names`."""
    splits: NDArray[np.int64]
    """Places in `SPLITS`; -1 where there is no split."""
    names: tuple[str, ...]
    """The photograph of each face, as a path with `/`; in a CSV file the row."""
    face_ids: NDArray[np.int64]
    """Of a face within its photograph."""
    thumbs: NDArray[np.uint8]
    """Shape (N, 32, 32), gray."""
    contrast: NDArray[np.float32]
    """Standard deviation of the picture's gray levels, 0 to 128."""
    digests: tuple[bytes, ...]
    """Equal where the files, or the pixels of the faces, are equal."""
    copies: Copies | None
    """Copies among the rows; None for drawn faces, which are alike without being copies."""
    photograph_copies: Copies | None = None
    """Copies among whole photographs, in the order of their first rows; None where each face is its own."""
    overruns: NDArray[np.bool_] | None = None
    """Whether more than a tenth of the face's box lies outside its photograph; None without boxes."""
    square: NDArray[np.bool_] | None = None
    """Whether the photograph is square; None without boxes."""
    box_order: tuple[str, ...] | None = None
    """The order in which the box columns had to be read, where it is not the set's own."""
    faults: Sequence[Fault] = field(default=())
    """Rows and photographs that cannot be used; they are not among the N."""
    sample: int | None = None
    """The number of faces that was asked for, where the set is a sample on purpose."""
    split_is_given: bool = True
    """Whether somebody else made the split; ferray's own keeps copies together."""

    @property
    def num(self) -> int:
        """Rows."""
        return len(self.labels)

    @property
    def is_tree(self) -> bool:
        """Whether the names begin with folders that say split and class."""
        return self.form == "folders" or (self.form == "store" and not self.dataset)

    @property
    def is_listed(self) -> bool:
        """Whether rows have an order of their own, as in a list or a CSV file."""
        return self.form in ("expw", "csv")

    @property
    def split_places(self) -> list[int]:
        """The splits that have faces, as places in `SPLITS`, in their order."""
        return sorted(int(place) for place in np.unique(self.splits) if place >= 0)

    @cached_property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Rows by split, or all of them under `whole` where there is no split."""
        if not self.split_places:
            return {"whole": np.arange(self.num)}
        return {SPLITS[place]: np.flatnonzero(self.splits == place) for place in self.split_places}

    @cached_property
    def photographs(self) -> NDArray[np.int64]:
        """The photograph of each row, numbered from 0: rows of one name share it."""
        return np.unique(np.asarray(self.names), return_inverse=True)[1].astype(np.int64)

    @property
    def is_flat(self) -> NDArray[np.bool_]:
        """Whether a picture shows nothing, shape (N,)."""
        return self.contrast < FLAT

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group of copies of each row, as the smallest row in it."""
        return np.arange(self.num) if self.copies is None else self.copies.groups

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Copies, two by two."""
        return () if self.copies is None else self.copies.pairs

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The file name of each row without its folder and ending; folders say split and class."""
        return tuple(PurePosixPath(name).stem for name in self.names)

    def looks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Thumbnails of some rows with mean 0 and length 1, shape (rows, 1024): an inner product is a correlation."""
        flat = self.thumbs[rows].reshape(len(rows), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.float32(1e-6))
        return flat

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Faces of each class among rows, shape (classes,)."""
        return np.bincount(self.labels[rows], minlength=len(self.class_names)).astype(np.int64)

    def describe(self, row: int) -> str:
        """A face by name, with what the name's folders do not say: face id, split, class."""
        if self.is_tree:
            return self.names[row]
        split = [SPLITS[self.splits[row]]] if self.splits[row] >= 0 else []
        told = [f"face {self.face_ids[row]}", *split, self.class_names[self.labels[row]]]
        return f"{self.names[row]} ({', '.join(told[self.form == 'csv' :])})"
