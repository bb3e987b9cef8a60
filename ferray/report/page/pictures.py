"""Pictures of the data, for a page that was asked for them: the worst mistakes, and copies that disagree.

Begin at `picture_groups`.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferray.data.scaling import scale_to
from ferray.data.store.reader import Store
from ferray.metrics.predictions import face_ids
from ferray.report.slices import read_recorded_predictions

MAX_MISTAKES = 24
MAX_COPIES = 12
"""Groups of copies."""

MAX_OF_GROUP = 4
"""Copies of one group."""

SIDE_PX = 96

JPEG_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture within the page."""

    source: str
    """A `data:` address."""
    text: str


@dataclass(frozen=True, kw_only=True)
class PictureGroup:
    """Pictures with one title."""

    title: str
    note: str
    pictures: Sequence[Picture]


def picture_groups(best_dir: Path, store: Store, *, has_test_score: bool) -> list[PictureGroup]:
    """The most confident mistakes on the test split, and copies with different labels.

    Args:
        best_dir: The folder of the best model.
        store: That of the search.
        has_test_score: Whether the test split was read for the model.

    Raises:
        DataError: The predictions on record cannot be read, or the store is broken.
    """
    groups = [_mistakes(best_dir, store)] if has_test_score else []
    return [*groups, _conflicts(store)]


def _mistakes(best_dir: Path, store: Store) -> PictureGroup:
    recorded = read_recorded_predictions(best_dir)
    title = "The most confident mistakes"
    rows = store.rows("test")
    probabilities = recorded.predictions.probabilities
    if probabilities is None or list(recorded.ids or ()) != face_ids(store.table.iloc[rows]):
        return PictureGroup(title=title, note="The predictions on record are not of this store.", pictures=())
    predicted, labels = recorded.predictions.predicted, recorded.predictions.labels
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    names = recorded.predictions.class_names
    pictures = [
        Picture(
            source=_encode(store, rows.start + int(place)),
            text=f"{names[labels[place]]}, predicted {names[predicted[place]]} with {confidence[place]:.0%}",
        )
        for place in worst
    ]
    note = f"Of {len(wrong):,} mistakes on the test split; the label comes first."
    return PictureGroup(title=title, note=note, pictures=pictures)


def _conflicts(store: Store) -> PictureGroup:
    """Groups of copies whose labels disagree."""
    title = "Copies with different labels"
    if store.manifest.copies == "skip" or "same_face" not in store.table:
        note = "Not checked: copies were not looked for when the store was made."
        return PictureGroup(title=title, note=note, pictures=())
    members: dict[int, list[int]] = {}
    for row, group in enumerate(store.table["same_face"].tolist()):
        members.setdefault(group, []).append(row)
    groups = [rows for rows in members.values() if len({int(store.labels[row]) for row in rows}) > 1]
    pictures = [
        Picture(source=_encode(store, row), text=f"group {number}: {store.class_names[store.labels[row]]}")
        for number, rows in enumerate(groups[:MAX_COPIES], start=1)
        for row in rows[:MAX_OF_GROUP]
    ]
    note = f"{len(groups):,} groups of copies have different labels." + (" The first are shown." if groups else "")
    return PictureGroup(title=title, note=note, pictures=pictures)


def _encode(store: Store, row: int) -> str:
    import cv2

    side = min(SIDE_PX, store.size_px)
    picture = scale_to(np.asarray(store.faces[row]), side, side)
    encoded, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "an array of a store is a picture"
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
