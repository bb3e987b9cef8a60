"""Which faces of a data set belong together: the faces of one photograph and of its copies.

Copies are looked for among the photographs and, where faces are cropped from them, among the faces. Faces show that two
photographs are copies even if they are framed so differently that the whole photographs do not correlate. Pairs of
faces that are nearly copies are decided by comparing their photographs. Begin at `group_faces`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.find import CopyPair, Warp, find_copies, join_places
from ferray.data.copies.gradients import Candidate
from ferray.data.prepare.cropping import CropResult
from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.photographs import photograph_loader
from ferray.data.sources.rows import CONFLICT, LEAK, Box, Face, Fault, Source
from ferray.data.store.manifest import split_place
from ferray.data.store.writer import StoreWriter

MIN_BOX_OVERLAP = 0.3
"""Smallest overlap (intersection over union) of two boxes of the same face, after one is mapped onto the other's
photograph. A detector frames a face anew in each copy, shifted by up to a fifth of its side; two faces of one
photograph hardly overlap."""


@dataclass(frozen=True, kw_only=True)
class CopyGroups:
    """Which rows belong together."""

    group: NDArray[np.int64]
    """Rows of one photograph, its copies and the source's own group share a group: the smallest row in it, shape
    (faces,)."""
    copied: NDArray[np.int64]
    """The same without the source's own groups: what is together because it is copied, shape (faces,)."""
    same_face: NDArray[np.int64]
    """Rows of one face in copies of a photograph share a number: the smallest row among them, shape (faces,)."""
    num_copies: NDArray[np.int64]
    """Number of other photographs in the group, shape (faces,)."""
    num_pairs: dict[str, int]
    """Number of pairs by kind; empty where copies were not looked for."""
    num_chained: int
    """Photographs that resemble others in chains and are not joined: see `ferray.data.copies.find`."""


def group_faces(
    source: Source, faces: Sequence[Face], cropped: CropResult, writer: StoreWriter, options: PrepareOptions
) -> CopyGroups:
    """Join the faces of photographs that are copies; without looking for copies, the faces of one photograph.

    Args:
        source: Where the photographs are; candidates are read again.
        faces: One per row.
        cropped: The crops and sketches of all photographs.
        writer: Writes the store, and holds the pixels of its faces.
        options: Whether copies are looked for.
    """
    names = cropped.photographs
    place_of = {name: place for place, name in enumerate(names)}
    photograph = np.array([place_of[face.source] for face in faces], dtype=np.int64)
    photograph_pairs, face_pairs, chained = _find_pairs(source, photograph, cropped, writer, options)
    face_pairs = [pair for pair in face_pairs if photograph[pair.first] != photograph[pair.second]]
    joined = [pair.places for pair in photograph_pairs]
    joined += [(int(photograph[pair.first]), int(photograph[pair.second])) for pair in face_pairs]
    group_of = join_places(len(names), joined)
    same_faces = [pair.places for pair in face_pairs] + _match_faces(photograph_pairs, faces, photograph, cropped)
    return CopyGroups(
        group=_first_rows(join_places(len(names), joined + _join_given(faces, photograph)), photograph),
        copied=_first_rows(group_of, photograph),
        same_face=join_places(len(faces), same_faces),
        num_copies=np.bincount(group_of, minlength=len(names))[group_of[photograph]] - 1,
        num_pairs=dict(Counter(pair.kind for pair in (*photograph_pairs, *face_pairs))),
        num_chained=len(chained),
    )


def _join_given(faces: Sequence[Face], photograph: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of photographs that the source keeps together."""
    firsts: dict[str, int] = {}
    return [
        (firsts.setdefault(face.group, int(place)), int(place))
        for face, place in zip(faces, photograph, strict=True)
        if face.group is not None
    ]


def _first_rows(group_of: NDArray[np.int64], photograph: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest row of each row's group, from the groups of the photographs."""
    first_row = np.full(len(group_of), len(photograph), dtype=np.int64)
    np.minimum.at(first_row, group_of[photograph], np.arange(len(photograph)))
    return np.asarray(first_row[group_of[photograph]], dtype=np.int64)


def _find_pairs(
    source: Source,
    photograph: NDArray[np.int64],
    cropped: CropResult,
    writer: StoreWriter,
    options: PrepareOptions,
) -> tuple[Sequence[CopyPair], Sequence[CopyPair], set[int]]:
    """Pairs of photographs, pairs of faces, and the photographs that resemble others in chains."""
    if options.copies == "skip":
        return (), (), set()
    faces = find_copies(cropped.face_sketches, writer.get, kind="faces", threads=options.threads)
    undecided = [
        Candidate(int(photograph[pair.first]), int(photograph[pair.second]), pair.mirrored) for pair in faces.borderline
    ]
    photographs = find_copies(
        cropped.photograph_sketches,
        photograph_loader(source, cropped.photographs),
        kind="faces" if source.margin else "photographs",
        also=undecided,
        threads=options.threads,
    )
    chained = {*photographs.chained, *photograph[list(faces.chained)].tolist()}
    return photographs.pairs, faces.pairs, chained


def _match_faces(
    pairs: Sequence[CopyPair], faces: Sequence[Face], photograph: NDArray[np.int64], cropped: CropResult
) -> list[tuple[int, int]]:
    """Pairs of rows that are the same face in two photographs that are copies."""
    rows_of: dict[int, list[int]] = {}
    for row in sorted(cropped.crops):
        rows_of.setdefault(int(photograph[row]), []).append(row)
    matched = []
    for pair in pairs:
        rows, others = rows_of.get(pair.first, []), rows_of.get(pair.second, [])
        if not rows or not others:
            continue
        if faces[rows[0]].box is None:  # the photograph is the face
            matched.append((rows[0], others[0]))
            continue
        overlap = np.array(
            [[_overlap(cropped.crops[a].box, cropped.crops[b].box, pair.warp) for b in others] for a in rows]
        )
        while overlap.max() >= MIN_BOX_OVERLAP:
            at, other = np.unravel_index(overlap.argmax(), overlap.shape)
            matched.append((rows[at], others[other]))
            overlap[at, :] = overlap[:, other] = 0
    return matched


def _overlap(box: Box, other: Box, warp: Warp) -> float:
    """Intersection over union of two boxes, the first mapped onto the second's photograph."""
    (a, b, c), (d, e, f) = warp
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    x, y = a * x + b * y + c, d * x + e * y + f
    half = box.side_px * abs(a * e - b * d) ** 0.5 / 2
    across = min(x + half, other.right) - max(x - half, other.left)
    down = min(y + half, other.bottom) - max(y - half, other.top)
    shared = max(across, 0.0) * max(down, 0.0)
    return float(shared / (4 * half**2 + (other.right - other.left) * (other.bottom - other.top) - shared))


def find_conflicting_rows(
    faces: Sequence[Face], groups: CopyGroups, rows: Sequence[int], class_names: Sequence[str]
) -> dict[int, Fault]:
    """All rows of a face whose copies have different labels, each with the reason for leaving it out."""
    members: dict[int, list[int]] = {}
    for row in rows:
        members.setdefault(int(groups.same_face[row]), []).append(row)
    found = {}
    for same in members.values():
        labels = sorted({faces[row].label for row in same})
        for row in same if len(labels) > 1 else ():
            face = faces[row]
            what = f"{face.source} is one of {len(same)} copies labeled {', '.join(class_names[at] for at in labels)}"
            found[row] = Fault(CONFLICT, face.place, what, face.source, face.face_id)
    return found


def find_leaking_rows(faces: Sequence[Face], groups: CopyGroups, rows: Sequence[int]) -> dict[int, Fault]:
    """Rows whose group has faces in a later split, each with the reason for leaving it out."""
    last: dict[int, Face] = {}
    for row in rows:
        face, group = faces[row], int(groups.copied[row])
        if group not in last or split_place(face.split) > split_place(last[group].split):
            last[group] = face
    found = {}
    for row in rows:
        face, other = faces[row], last[int(groups.copied[row])]
        if split_place(face.split) < split_place(other.split):
            what = f"{face.source} is a copy of {other.source}, a {other.split} face"
            found[row] = Fault(LEAK, face.place, what, face.source, face.face_id)
    return found
