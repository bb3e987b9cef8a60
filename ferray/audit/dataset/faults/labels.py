"""Labels that contradict each other: copies with different labels, and labels shifted by a row.

Begin at `find_conflicting_labels` and `find_shifted_labels`.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.names import halves_by_name, name_words, predict_by_words
from ferray.audit.dataset.faults.thumbnail_classifier import (
    MAX_CLASSIFIER_ROWS,
    MIN_STANDARD_ERRORS,
    hog_features,
    predict_labels,
    standard_errors,
)
from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import NUM_EXAMPLES, Finding, share

MIN_LISTED_ROWS = 30
"""Shifted labels are not looked for in fewer rows."""

_SHIFTS = (-1, 0, 1)


def find_conflicting_labels(dataset: ScannedDataset) -> list[Finding]:
    """Groups of copies with more than one label, without pictures that show nothing, which are equal but not copies."""
    order = np.argsort(dataset.groups, kind="stable")
    order = order[~dataset.is_flat[order]]
    starts = np.flatnonzero(np.diff(dataset.groups[order], prepend=-1))
    groups = [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
    conflicting = [rows for rows in groups if len(np.unique(dataset.labels[rows])) > 1]
    if not conflicting:
        return []
    num_faces = sum(len(rows) for rows in conflicting)
    return [
        Finding(
            id="copies-with-conflicting-labels",
            severity="warning",
            seen=f"{share(len(conflicting), len(groups))} groups of copies carry more than one label ({num_faces:,} "
            "faces).",
            matters="The same face cannot be both: people disagreed, or a label is wrong. No model can be right on "
            "all of them, and how often it happens among copies says how noisy the labels are everywhere.",
            advice="Look at them and decide, or leave them out (ferray.data prepare has --drop-conflicts); compare "
            "scores with the noise ceiling above, not with 100 %.",
            num=num_faces,
            examples=tuple(
                " = ".join(dataset.describe(int(row)) for row in _one_row_per_label(dataset, rows))
                for rows in conflicting[:: max(1, len(conflicting) // NUM_EXAMPLES)][:NUM_EXAMPLES]
            ),
        )
    ]


def find_shifted_labels(dataset: ScannedDataset) -> list[Finding]:
    """Labels that stand one row above or below their faces, in a data set whose rows have an order.

    Labels are predicted in three ways: from the labels of copies, from the words of the names, and from thumbnails.
    Each way is tried with the labels as they are and moved by a row. Either one way must show a difference beyond
    chance, or all of them together.

    Source of the sum over the three ways: Stouffer et al., "The American Soldier", 1949.
    """
    if not dataset.is_listed or dataset.num_faces < MIN_LISTED_ROWS:
        return []
    is_right_by_way = {
        "copies with equal labels": _equal_labels_of_copies(dataset),
        "labels predicted from the words of the name": _predicted_by_words(dataset),
        "labels predicted from the picture": _predicted_by_thumbnails(dataset),
    }
    found: dict[int, list[tuple[float, str]]] = {}
    for shift in (-1, 1):
        ways = []
        for way, is_right in is_right_by_way.items():
            moved, unmoved = is_right[shift], is_right[0]
            errors = standard_errors(int((moved & ~unmoved).sum()), int((unmoved & ~moved).sum()))
            ways.append((errors, f"{way}: {int(unmoved.sum()):,} as they stand, {int(moved.sum()):,} when moved"))
        together = sum(errors for errors, _ in ways) / math.sqrt(len(ways))
        if max(together, *(errors for errors, _ in ways)) >= MIN_STANDARD_ERRORS:
            found[shift] = ways
    if not found:
        return []
    shift = max(found, key=lambda shift: sum(errors for errors, _ in found[shift]))
    where = "below" if shift > 0 else "above"
    return [
        Finding(
            id="labels-shifted-by-one-row",
            severity="fault",
            seen=f"The labels fit better when each is taken from the row {where}: "
            f"{'; '.join(text for errors, text in sorted(found[shift], reverse=True) if errors > 1)}.",
            matters="Every face carries its neighbor's label. A model can only learn the class shares, and scores "
            "stay near those of guessing, whatever the settings.",
            advice="Look for a header line or a dropped row in the list, and move the labels by one; the label of "
            f"row 10 is in row {10 + shift}.",
            num=dataset.num_faces,
        )
    ]


def _one_row_per_label(dataset: ScannedDataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """One row of each label among some rows, a few at most."""
    return rows[np.unique(dataset.labels[rows], return_index=True)[1]][:NUM_EXAMPLES]


def _shift_labels(labels: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """The label of the row `shift` below each row; the rows at the ends keep theirs."""
    return labels[np.clip(np.arange(len(labels)) + shift, 0, len(labels) - 1)]


def _equal_labels_of_copies(dataset: ScannedDataset) -> dict[int, NDArray[np.bool_]]:
    """Whether successive copies of a group have equal labels, by shift, shape (pairs,).

    Copies in adjacent rows are left out, since a shift hardly changes them.
    """
    order = np.argsort(dataset.groups, kind="stable")
    pairs = [(a, b) for a, b in pairwise(order.tolist()) if dataset.groups[a] == dataset.groups[b] and abs(a - b) > 1]
    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    by_shift = {shift: _shift_labels(dataset.labels, shift) for shift in _SHIFTS}
    return {shift: labels[first] == labels[second] for shift, labels in by_shift.items()}


def _predicted_by_words(dataset: ScannedDataset) -> dict[int, NDArray[np.bool_]]:
    """Whether the words of each name predict the label, by shift, shape (N,)."""
    words, halves = name_words(dataset), halves_by_name(dataset)
    return {shift: predict_by_words(words, _shift_labels(dataset.labels, shift), halves)[0] for shift in _SHIFTS}


def _predicted_by_thumbnails(dataset: ScannedDataset) -> dict[int, NDArray[np.bool_]]:
    """Whether the thumbnail classifier predicts each held-out label, by shift, shape (rows,).

    The two halves consist of blocks of rows, so that few neighbors are in different halves.
    """
    rows = np.arange(min(dataset.num_faces, 2 * MAX_CLASSIFIER_ROWS))
    halves = (rows // 50) % 2
    features = hog_features(dataset, rows)
    is_right = {}
    for shift in _SHIFTS:
        labels = _shift_labels(dataset.labels, shift)[rows]
        predictions = np.zeros_like(labels)
        for half in (0, 1):
            learned = halves != half
            predictions[~learned] = predict_labels(
                features[learned], labels[learned], features[~learned], len(dataset.class_names)
            )
        is_right[shift] = predictions == labels
    return is_right
