"""What was done to the faces of a store, in words, for its manifest. Begin at `describe_faces`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2

from ferray.data.prepare.grouping import CopyGroups, find_leaking_rows
from ferray.data.prepare.options import PrepareOptions
from ferray.data.sources.rows import Face, Source
from ferray.data.store.manifest import SPLITS
from ferray.data.subject import Subject
from ferray.wording import count_of

if TYPE_CHECKING:
    import pandas


def describe_faces(table: "pandas.DataFrame", options: PrepareOptions, source: Source) -> list[str]:
    """How the faces of a table were cropped and scaled; nothing where they were before."""
    if source.margin is not None:
        return []
    subject = source.classes.subject
    size, num, faces = options.size_px, len(table), subject.nouns
    side = table["face_px"] * (1 + 2 * options.margin)
    num_up, num_down = int((side < size).sum()), int((side > size).sum())
    num_filled, num_gray = int(table["overruns"].sum()), int(table["gray"].sum())
    notes = [
        "whole photographs"
        if source.has_whole_photographs
        else f"square crops, {options.margin:.0%} of the box added all round"
    ]
    if num_filled:
        what = "overrun their photograph or are not square; filled from its edge, not squashed"
        notes.append(f"{num_filled:,} of {num:,} {what}")
    if num_up:
        median = int(table["face_px"].median())
        notes.append(
            f"{num_up:,} of {num:,} {faces} upsampled to {size} px (bicubic); median {subject.noun} before: {median} px"
        )
    if num_down:
        notes.append(f"{num_down:,} of {num:,} {faces} scaled down to {size} px (INTER_AREA)")
    if num_gray:
        notes.append(f"{num_gray:,} of {num:,} {faces} are gray; gray to RGB, three equal channels")
    return [*notes, f"decoded and resized with OpenCV {cv2.__version__}"]


def describe_copies(faces: Sequence[Face], groups: CopyGroups, rows: Sequence[int]) -> list[str]:
    """How many copies there are among the photographs of some rows."""
    row_of = {faces[row].source: row for row in rows}
    copied = [row for row in row_of.values() if groups.num_copies[row]]
    num_groups = len({int(groups.copied[row]) for row in copied})
    shares = f"{len(copied):,} of {count_of(len(row_of), 'photograph')}"
    notes = [f"{shares} are copies of others among them, in {count_of(num_groups, 'group')}"]
    if groups.num_pairs:
        kinds = ", ".join(f"{count:,} by {kind}" for kind, count in sorted(groups.num_pairs.items()))
        notes.append(f"pairs of copies found: {kinds}")
    if groups.num_chained:
        notes.append(
            f"{groups.num_chained:,} photographs resemble others, these resemble others again, and so on, but few of"
            " them resemble each other: they were not taken for copies"
        )
    return notes


def describe_leaks(faces: Sequence[Face], groups: CopyGroups, rows: Sequence[int], subject: Subject) -> str | None:
    """How many faces of each split are copies of {subject.nouns} in a later split; None where there are none."""
    splits = [faces[row].split for row in find_leaking_rows(faces, groups, rows)]
    counts = [count_of(splits.count(split), f"{split} {subject.noun}") for split in SPLITS if split in splits]
    what = "is a copy" if len(splits) == 1 else "are copies"
    return f"{' and '.join(counts)} {what} of {subject.nouns} in a later split" if counts else None
