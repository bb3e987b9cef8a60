"""A store's `manifest.json`: what the store holds and how it was made. Begin at `read_manifest`."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ferray.data.subject import SUBJECTS, Subject, SubjectName
from ferray.errors import DataError, StorageError
from ferray.files import untrusted

FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")
"""In the order of the rows of a store; validation is later than train, test later than both."""
HOW_TO_MAKE = "Make a store: python -m ferray.data prepare --help"
MAX_MANIFEST_BYTES = 64 * 2**20
MAX_CLASSES = 10_000
MAX_CLASS_CHARS = 100
"""Of the name of a class."""


def split_place(split: str | None) -> int:
    """The place of a split in `SPLITS`; -1 for None."""
    return -1 if split is None else SPLITS.index(split)


@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False),
)
class Manifest:
    """What a store holds and how it was made.

    Raises:
        ValueError: Fields that disagree.
    """

    version: int
    """Version of the store's format."""
    dataset: str
    """`expw`, `folders`, `csv`, `demo`, or another set; FER+ with the rule of its labels (`ferplus-majority`); a merged
    store with all of its sets (`expw+fer2013`)."""
    class_names: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_CLASS_CHARS)], ...], Field(min_length=1, max_length=MAX_CLASSES)
    ]
    """In the order of the labels."""
    size_px: Annotated[int, Field(ge=8, le=1024)]
    """Side of a face."""
    margin: Annotated[float, Field(ge=0, le=2)]
    """Added to each side of a box, as a fraction of its side."""
    num_faces: Annotated[int, Field(ge=1)]
    """Number of rows."""
    counts: dict[str, dict[str, Annotated[int, Field(ge=0)]]]
    """Number of faces by split and class."""
    split: tuple[float, float, float] | None
    """Shares of train, validation and test; None where the source brought its split."""
    seed: int
    """Seed of the sample and of the split."""
    source_fingerprint: str
    """SHA-256 over the sources: names, bytes, labels."""
    fingerprint: str
    """SHA-256 over everything that a training run reads: faces, labels, splits, class names."""
    notes: tuple[str, ...]
    """What was done to the faces, in words."""
    skipped: dict[str, int]
    """Number of rows of the source that were left out, by reason."""
    sample: int | None = None
    """Value of `--num-faces`; None where all faces were taken."""
    copies: Literal["find", "skip"] = "skip"
    """Whether copies were looked for and grouped."""
    dropped: tuple[Literal["conflicts", "leaks"], ...] = ()
    """Which copies were left out."""
    subject: SubjectName = "expressions"
    """What the pictures show; stores of before were all of expressions."""
    has_votes: bool = False
    """Whether `votes.npy` has the number of annotators who chose each class."""

    def __post_init__(self) -> None:
        names = self.class_names
        if len(set(names)) < len(names) or not all(name.isprintable() for name in names):
            raise ValueError("class_names has a name twice, or characters that do not print")
        if set(self.counts) != set(SPLITS) or any(set(each) != set(names) for each in self.counts.values()):
            raise ValueError("counts disagree with the splits or class_names")

    @property
    def datasets(self) -> list[str]:
        """The sets that the store was made of: one, unless it was merged."""
        return self.dataset.split("+")

    @property
    def shown(self) -> Subject:
        """What the pictures show, with the words for it."""
        return SUBJECTS[self.subject]

    @property
    def split_sizes(self) -> dict[str, int]:
        """Number of faces by split, in the order of `SPLITS`."""
        return {split: sum(self.counts[split].values()) for split in SPLITS}

    @property
    def splits(self) -> list[str]:
        """The split of each row."""
        return [split for split, size in self.split_sizes.items() for _ in range(size)]


_MANIFEST = TypeAdapter(Manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the store in a folder.

    Raises:
        DataError: It is missing, of another version, or not a manifest.
    """
    file = folder / "manifest.json"
    if not os.path.isfile(file):  # unlike Path.is_file, no error for a name that is too long
        raise DataError(str(folder), "not a store: it has no manifest.json", HOW_TO_MAKE)
    try:
        content = untrusted.read_bytes(file, max_bytes=MAX_MANIFEST_BYTES, inside=folder)
    except StorageError as error:
        raise DataError(str(folder), f"a broken store: manifest.json: {error}", HOW_TO_MAKE) from error
    return parse_manifest(content, where=str(folder))


def parse_manifest(content: bytes, *, where: str) -> Manifest:
    """The manifest that a file holds.

    Args:
        content: Of `manifest.json`.
        where: The store, for errors.

    Raises:
        DataError: It is of another version, or not a manifest.
    """
    try:
        values = json.loads(content)
        if isinstance(values, dict) and values.get("version") != FORMAT_VERSION:
            what = f"a store of format {values.get('version')!r}, not {FORMAT_VERSION}"
            raise DataError(f"{where}/manifest.json", what, "Prepare it again with this version")
        return _MANIFEST.validate_python(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "manifest"
        raise DataError(f"{where}/manifest.json", f"{place}: {fault['msg']}", HOW_TO_MAKE) from error
    except (ValueError, RecursionError) as error:
        raise DataError(where, f"a broken store: manifest.json: {error}", HOW_TO_MAKE) from error


def manifest_to_json(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values."""
    values: dict[str, Any] = _MANIFEST.dump_python(manifest, mode="json")
    return values
