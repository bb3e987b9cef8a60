"""Which faces of a data set belong together: those of one photograph and of its copies.

Copies are looked for among the photographs and, where faces are cut out of them, among the faces: a face finds the copy
that is framed so differently that the whole photographs do not look alike. What two photographs' faces do not settle
is settled by the photographs. Begin at `group_faces`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.data.copies.find import Pair, Warp, find_copies, join
from ferray.data.prepare.cropping import Cropped
from ferray.data.prepare.options import Options
from ferray.data.prepare.photographs import read_photograph
from ferray.data.sources.rows import CLASS_NAMES, Box, Face, Fault, Source
from ferray.data.store.manifest import SPLITS
from ferray.data.store.reader import StoreWriter

SAME_FACE = 0.3
"""Least overlap (intersection over union) of two boxes that are of one face, one brought onto the other's photograph. A
detector frames a face anew in each copy, by up to a fifth of its side elsewhere; two faces of one photograph hardly
touch."""

CONFLICT = "copies with unlike labels"
LEAK = "copy of a face in a later split"
DROP_REASONS = (CONFLICT, LEAK)
"""Why faces were left out that are not bad in themselves."""


@dataclass(frozen=True, kw_only=True)
class Groups:
    """What belongs together, by row."""

    group: NDArray[np.int64]
    """Rows whose photographs are one or copies of each other: the smallest row, shape (faces,)."""
    same_face: NDArray[np.int64]
    """Rows that are one face in copies of a photograph: the smallest row, shape (faces,)."""
    num_copies: NDArray[np.int64]
    """Other photographs in the group, shape (faces,)."""
    pairs: dict[str, int]
    """Kind to the number of pairs; empty where copies were not looked for."""


def group_faces(
    source: Source, faces: Sequence[Face], cropped: Cropped, writer: StoreWriter, options: Options
) -> Groups:
    """Join the faces of photographs that are copies; with `copies` skipped, those of one photograph only.

    Args:
        source: Where the photographs are; candidates are read again.
        faces: One a row.
        cropped: With the sketches.
        writer: Of the store, whose faces are written.
        options: Whether copies are looked for.
    """
    names = list(cropped.digests)
    place_of = {name: place for place, name in enumerate(names)}
    photograph = np.array([place_of[face.source] for face in faces], dtype=np.int64)
    by_photographs, by_faces = _find(source, names, photograph, cropped, writer, options)
    alike = [pair for pair in by_faces if photograph[pair.first] != photograph[pair.second]]
    joined = [(pair.first, pair.second) for pair in by_photographs]
    joined += [(int(photograph[pair.first]), int(photograph[pair.second])) for pair in alike]
    group_of = join(len(names), joined)
    first_row = np.full(len(names), len(faces), dtype=np.int64)
    np.minimum.at(first_row, group_of[photograph], np.arange(len(faces)))
    twins = [(pair.first, pair.second) for pair in alike]
    twins += _match_faces(by_photographs, faces, photograph, cropped)
    return Groups(
        group=first_row[group_of[photograph]],
        same_face=join(len(faces), twins),
        num_copies=np.bincount(group_of, minlength=len(names))[group_of[photograph]] - 1,
        pairs=dict(Counter(pair.kind for pair in (*by_photographs, *alike))),
    )


def _find(
    source: Source,
    names: Sequence[str],
    photograph: NDArray[np.int64],
    cropped: Cropped,
    writer: StoreWriter,
    options: Options,
) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """Pairs of photographs and pairs of faces."""
    if options.copies == "skip":
        return (), ()
    among_faces = find_copies(
        cropped.faces, writer.get, kind="faces", workers=options.workers, progress=options.progress
    )  # fmt: skip
    doubtful = [
        (int(photograph[pair.first]), int(photograph[pair.second]), pair.mirrored) for pair in among_faces.borderline
    ]

    def load(place: int) -> NDArray[np.uint8]:
        return read_photograph(source.root, names[place], upright=source.upright).pixels

    among_photographs = find_copies(
        cropped.photographs, load, kind="photographs", also=doubtful, workers=options.workers, progress=options.progress
    )  # fmt: skip
    return among_photographs.pairs, among_faces.pairs


def _match_faces(
    pairs: Sequence[Pair], faces: Sequence[Face], photograph: NDArray[np.int64], cropped: Cropped
) -> list[tuple[int, int]]:
    """Rows that are one face in two photographs that are copies."""
    rows_of: dict[int, list[int]] = {}
    for row in sorted(cropped.sights):
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
            [[_overlap(cropped.sights[a].box, cropped.sights[b].box, pair.warp) for b in others] for a in rows]
        )
        while overlap.max() >= SAME_FACE:
            at, other = np.unravel_index(overlap.argmax(), overlap.shape)
            matched.append((rows[at], others[other]))
            overlap[at, :] = overlap[:, other] = 0
    return matched


def _overlap(box: Box, other: Box, warp: Warp) -> float:
    """Intersection over union of two boxes, the first brought onto the second's photograph."""
    (a, b, c), (d, e, f) = warp
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    x, y = a * x + b * y + c, d * x + e * y + f
    half = box.side_px * abs(a * e - b * d) ** 0.5 / 2
    across = min(x + half, other.right) - max(x - half, other.left)
    down = min(y + half, other.bottom) - max(y - half, other.top)
    shared = max(across, 0.0) * max(down, 0.0)
    return float(shared / (4 * half**2 + (other.right - other.left) * (other.bottom - other.top) - shared))


def find_conflicts(faces: Sequence[Face], groups: Groups, rows: Sequence[int]) -> dict[int, Fault]:
    """Rows of copies of one face that have unlike labels, all of each, with what is to be said of them."""
    members: dict[int, list[int]] = {}
    for row in rows:
        members.setdefault(int(groups.same_face[row]), []).append(row)
    found = {}
    for same in members.values():
        labels = sorted({faces[row].label for row in same})
        for row in same if len(labels) > 1 else ():
            face = faces[row]
            what = f"{face.source} is one of {len(same)} copies labeled {', '.join(CLASS_NAMES[at] for at in labels)}"
            found[row] = Fault(CONFLICT, face.place, what, face.source, face.face_id)
    return found


def find_leaks(faces: Sequence[Face], groups: Groups, rows: Sequence[int]) -> dict[int, Fault]:
    """Rows whose group has faces in a later split (validation is later than train, test than both)."""
    last: dict[int, int] = {}
    for row in rows:
        group = int(groups.group[row])
        if group not in last or _order(faces[row]) > _order(faces[last[group]]):
            last[group] = row
    found = {}
    for row in rows:
        face, other = faces[row], faces[last[int(groups.group[row])]]
        if _order(face) < _order(other):
            what = f"{face.source} is a copy of {other.source}, a {other.split} face"
            found[row] = Fault(LEAK, face.place, what, face.source, face.face_id)
    return found


def _order(face: Face) -> int:
    return SPLITS.index(face.split or "")
