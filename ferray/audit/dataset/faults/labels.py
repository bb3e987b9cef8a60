"""Labels that contradict each other: copies labeled unlike, class names in another order, labels shifted by a row.

Begin at `find_conflicts`, `find_mixed_order`, `find_shift`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.dataset.faults.learned import CERTAIN, MOST_ROWS, draw_rows, features_of, predict, standard_errors
from ferray.audit.dataset.faults.names import folds, read_labels, tokens
from ferray.audit.finding import NUM_EXAMPLES, Finding, listed, share

LEAST_ROWS = 30
"""Faces of a split below which its class order is not questioned."""


def find_conflicts(evidence: Evidence) -> list[Finding]:
    """Groups of copies with more than one label; pictures that show nothing are equal without being copies."""
    order = np.argsort(evidence.groups, kind="stable")
    order = order[~evidence.is_flat[order]]
    starts = np.flatnonzero(np.diff(evidence.groups[order], prepend=-1))
    groups = [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
    clashing = [rows for rows in groups if len(np.unique(evidence.labels[rows])) > 1]
    if not clashing:
        return []
    num_faces = sum(len(rows) for rows in clashing)
    return [
        Finding(
            id="copies-with-conflicting-labels",
            severity="warning",
            seen=f"{share(len(clashing), len(groups))} groups of copies carry more than one label ({num_faces:,} "
            "faces).",
            matters="The same face cannot be both: people disagreed, or a label is wrong. No model can be right on "
            "all of them, and how often it happens among copies says how noisy the labels are everywhere.",
            advice="Look at them and decide, or leave them out (ferray.data prepare has --drop-conflicts); compare "
            "scores with the noise ceiling above, not with 100 %.",
            num=num_faces,
            examples=tuple(
                " = ".join(evidence.describe(int(row)) for row in _unlike(evidence, rows))
                for rows in clashing[:: max(1, len(clashing) // NUM_EXAMPLES)][:NUM_EXAMPLES]
            ),
        )
    ]


def find_mixed_order(evidence: Evidence) -> list[Finding]:
    """A split whose class names are another split's in another order.

    A small classifier learns from train; where it answers the faces of one class with another class's name, and those
    of that class with a third's or the first's, far more often than with their own, the order of names differs. Sets
    on which it learns nothing (ExpW is nearly so) are not judged.
    """
    parts = evidence.parts
    if "train" not in parts:
        return []
    num_classes = len(evidence.class_names)
    learned = draw_rows(parts["train"])
    features = features_of(evidence, learned)
    findings = []
    for split, all_rows in parts.items():
        if split == "train" or len(all_rows) < LEAST_ROWS:
            continue
        rows = draw_rows(all_rows)
        answers = predict(features, evidence.labels[learned], features_of(evidence, rows), num_classes)
        read = read_order(evidence.labels[rows], answers, num_classes)
        if read.is_mixed:
            findings.append(_mixed_order(evidence, split, read))
    return findings


def find_shift(evidence: Evidence) -> list[Finding]:
    """Labels that stand one row above or below their faces, in a set whose rows have an order.

    Three witnesses: copies, which agree with each other; words of the names, which tell the label; and the small
    classifier, which learns something. Each is asked with the labels as they are and moved by a row. One alone must be
    certain, or all together.

    Source of the sum over witnesses: Stouffer et al., "The American Soldier", 1949.
    """
    if not evidence.is_listed or evidence.num < LEAST_ROWS:
        return []
    witnesses = {
        "copies with equal labels": _agreeing_copies(evidence),
        "labels told by the words of the name": _told_by_names(evidence),
        "labels told by the picture": _told_by_pictures(evidence),
    }
    found: dict[int, list[tuple[float, str]]] = {}
    for shift in (-1, 1):
        told = []
        for witness, right in witnesses.items():
            moved, unmoved = right[shift], right[0]
            certainty = standard_errors(int((moved & ~unmoved).sum()), int((unmoved & ~moved).sum()))
            counts = f"{int(unmoved.sum()):,} as they stand, {int(moved.sum()):,} when moved"
            told.append((certainty, f"{witness}: {counts}"))
        together = sum(certainty for certainty, _ in told) / math.sqrt(len(told))
        if max(together, *(certainty for certainty, _ in told)) >= CERTAIN:
            found[shift] = told
    if not found:
        return []
    shift = max(found, key=lambda shift: sum(certainty for certainty, _ in found[shift]))
    where = "below" if shift > 0 else "above"
    return [
        Finding(
            id="labels-shifted-by-one-row",
            severity="fault",
            seen=f"The labels fit better when each is taken from the row {where}: "
            f"{'; '.join(text for certainty, text in sorted(found[shift], reverse=True) if certainty > 1)}.",
            matters="Every face carries its neighbor's label. A model can only learn the class shares, and scores "
            "stay near those of guessing, whatever the settings.",
            advice="Look for a header line or a dropped row in the list, and move the labels by one; the label of "
            f"row 10 is in row {10 + shift}.",
            num=evidence.num,
        )
    ]


def _unlike(evidence: Evidence, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """One row of each label, at most three."""
    return rows[np.unique(evidence.labels[rows], return_index=True)[1]][:NUM_EXAMPLES]


@dataclass(frozen=True, kw_only=True)
class Order:
    """How answers fit the classes' names, and how they fit them in another order."""

    order: NDArray[np.int64]
    """The class that each label is answered with most, no class twice, shape (classes,)."""
    as_moved: int
    """Answers that are right in an order that was read from other faces."""
    as_named: int
    """Of the same faces, answers that are right as the classes are named."""
    num: int
    """Faces whose class has another place in that order."""
    certainty: float
    """Standard errors by which the mean recall in that order is larger."""

    @property
    def is_mixed(self) -> bool:
        """Whether another order fits beyond doubt."""
        return bool((self.order != np.arange(len(self.order))).any()) and self.certainty >= CERTAIN


def read_order(labels: NDArray[np.int64], answers: NDArray[np.int64], num_classes: int) -> Order:
    """Find the order of classes that fits answers best, and how well.

    Some order fits even random answers better than the given one, if it is chosen by the faces that it is judged by: so
    each half of the faces is judged by the order of the other half. And an order that gives large classes to frequent
    answers gets more answers right, whatever the faces: so each class weighs the same.

    Args:
        labels: Shape (faces,).
        answers: Of a classifier that learned elsewhere, shape (faces,).
        num_classes: How many there are.
    """
    halves = np.random.default_rng(0).permutation(len(labels)) % 2
    confusions = np.zeros((2, num_classes, num_classes))
    np.add.at(confusions, (halves, labels, answers), 1)
    as_moved = as_named = num = 0.0
    difference = variance = 0.0
    for judged, other in (confusions, confusions[::-1]):
        order = _best_order(other)
        for label in np.flatnonzero(order != np.arange(num_classes)):
            faces, moved, named = judged[label].sum(), judged[label, order[label]], judged[label, label]
            as_moved, as_named, num = as_moved + moved, as_named + named, num + faces
            if faces:
                difference += (moved - named) / faces
                variance += (moved + named + 1) / (faces + 1) / faces  # one more: none of few is no certainty
    return Order(
        order=_best_order(confusions.sum(axis=0)),
        as_moved=int(as_moved),
        as_named=int(as_named),
        num=int(num),
        certainty=float(difference / math.sqrt(variance)) if variance else 0.0,
    )


def _best_order(confusion: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class that each label is answered with most, no class twice: the assignment of largest mean recall.

    Args:
        confusion: Counts, shape (classes, classes); rows are labels, columns answers.

    Source: Kuhn, "The Hungarian method for the assignment problem", 1955.
    """
    from scipy.optimize import linear_sum_assignment

    recalls = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return np.asarray(linear_sum_assignment(recalls, maximize=True)[1], dtype=np.int64)


def _mixed_order(evidence: Evidence, split: str, read: Order) -> Finding:
    names = evidence.class_names
    moved = [f"{names[label]} looks like {names[other]}" for label, other in enumerate(read.order) if label != other]
    return Finding(
        id="class-order-mixed-up",
        severity="fault",
        seen=f"{split} names its classes in another order than train. A small classifier that learned from train "
        f"answers {read.as_moved:,} of {read.num:,} faces of these classes as another class, always the same, and "
        f"{read.as_named:,} "
        f"as the class they are named: {listed([f'{split} {text}' for text in moved])}.",
        matters="The same number means one class while training and another while testing: right answers count as "
        "wrong, and whoever corrects for it by hand can choose the order that scores best.",
        advice="Map classes by name, never by position: folders are numbered by the alphabet, lists by their authors. "
        f"Look at some faces of each class of {split}.",
        num=read.num,
    )


def _shifted(labels: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """The label of the row `shift` below each row; at the ends those that are there."""
    places = np.clip(np.arange(len(labels)) + shift, 0, len(labels) - 1)
    return labels[places]


def _agreeing_copies(evidence: Evidence) -> dict[int, NDArray[np.bool_]]:
    """Whether neighbors within groups of copies have equal labels, by shift, shape (pairs,).

    Copies in adjacent rows say nothing about it.
    """
    order = np.argsort(evidence.groups, kind="stable")
    pairs = [(a, b) for a, b in pairwise(order.tolist()) if evidence.groups[a] == evidence.groups[b] and abs(a - b) > 1]
    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    by_shift = {shift: _shifted(evidence.labels, shift) for shift in (-1, 0, 1)}
    return {shift: labels[first] == labels[second] for shift, labels in by_shift.items()}


def _told_by_names(evidence: Evidence) -> dict[int, NDArray[np.bool_]]:
    """Whether the words of each name tell the label, by shift, shape (N,)."""
    words, halves = tokens(evidence), folds(evidence)
    return {shift: read_labels(words, _shifted(evidence.labels, shift), halves)[0] for shift in (-1, 0, 1)}


def _told_by_pictures(evidence: Evidence) -> dict[int, NDArray[np.bool_]]:
    """Whether the small classifier tells each held-out label, by shift, shape (rows,); the halves are runs of rows."""
    rows = np.arange(min(evidence.num, 2 * MOST_ROWS))
    halves = (rows // 50) % 2
    features = features_of(evidence, rows)
    right = {}
    for shift in (-1, 0, 1):
        labels = _shifted(evidence.labels, shift)[rows]
        answers = np.zeros_like(labels)
        for half in (0, 1):
            learned = halves != half
            answers[~learned] = predict(
                features[learned], labels[learned], features[~learned], len(evidence.class_names)
            )
        right[shift] = answers == labels
    return right
