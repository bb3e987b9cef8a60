"""Class names in another order in one split than in another. Begin at `find_mixed_order`."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.thumbnail_classifier import (
    MIN_STANDARD_ERRORS,
    hog_features,
    limit_rows,
    predict_labels,
)
from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import Finding, listed

MIN_SPLIT_FACES = 30
"""The class order of smaller splits is not checked."""


@dataclass(frozen=True, kw_only=True)
class ClassOrder:
    """How well predictions fit the classes as they are named, and how well in another order."""

    order: NDArray[np.int64]
    """The class that is predicted most for each label, no class twice, shape (classes,)."""
    num_right_in_order: int
    """Number of right predictions if the classes are in an order that was found on other faces."""
    num_right_as_named: int
    """Number of right predictions for the same faces if the classes are as named."""
    num: int
    """Number of faces whose class has another place in that order."""
    standard_errors: float
    """Difference of the mean recalls, in standard errors; positive where the order fits better."""

    @property
    def is_mixed(self) -> bool:
        """Whether another order fits better beyond chance."""
        return bool((self.order != np.arange(len(self.order))).any()) and self.standard_errors >= MIN_STANDARD_ERRORS


def find_mixed_order(dataset: ScannedDataset) -> list[Finding]:
    """A split whose class names have another order than those of train.

    A small classifier learns from train. If it predicts another class for the faces of some classes, always the same
    one and far more often than their own, then the orders differ. A data set on which it learns nothing (ExpW is nearly
    one) is not judged.
    """
    if "train" not in dataset.parts:
        return []
    num_classes = len(dataset.class_names)
    learned = limit_rows(dataset.parts["train"])
    features = hog_features(dataset, learned)
    findings = []
    for split, all_rows in dataset.parts.items():
        if split == "train" or len(all_rows) < MIN_SPLIT_FACES:
            continue
        rows = limit_rows(all_rows)
        predictions = predict_labels(features, dataset.labels[learned], hog_features(dataset, rows), num_classes)
        order = fit_class_order(dataset.labels[rows], predictions, num_classes)
        if order.is_mixed:
            findings.append(_make_finding(dataset, split, order))
    return findings


def fit_class_order(labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int) -> ClassOrder:
    """Find the order of classes that fits predictions best, and how well it fits.

    If an order is judged by the faces on which it was found, some order fits even random predictions better than the
    given one: so each half of the faces is judged by the order of the other half. An order that gives large classes to
    frequent predictions makes more of them right, whatever the faces show: so each class has the same weight.

    Args:
        labels: Shape (faces,).
        predictions: Predictions of a classifier that learned from other faces, shape (faces,).
        num_classes: Number of classes.
    """
    halves = np.random.default_rng(0).permutation(len(labels)) % 2
    confusions = np.zeros((2, num_classes, num_classes))
    np.add.at(confusions, (halves, labels, predictions), 1)
    right_in_order = right_as_named = num = 0.0
    difference = variance = 0.0
    for judged, other in (confusions, confusions[::-1]):
        order = _best_order(other)
        for label in np.flatnonzero(order != np.arange(num_classes)):
            faces, in_order, as_named = judged[label].sum(), judged[label, order[label]], judged[label, label]
            right_in_order, right_as_named = right_in_order + in_order, right_as_named + as_named
            num += faces
            if faces:
                difference += (in_order - as_named) / faces
                variance += (in_order + as_named + 1) / (faces + 1) / faces  # one is added: 0 of few is not certain
    return ClassOrder(
        order=_best_order(confusions.sum(axis=0)),
        num_right_in_order=int(right_in_order),
        num_right_as_named=int(right_as_named),
        num=int(num),
        standard_errors=float(difference / math.sqrt(variance)) if variance else 0.0,
    )


def _best_order(confusion: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class that is predicted most for each label, no class twice: the assignment of largest mean recall.

    Args:
        confusion: Counts, shape (classes, classes); rows are labels, columns predictions.

    Source: Kuhn, "The Hungarian method for the assignment problem", 1955.
    """
    from scipy.optimize import linear_sum_assignment

    recalls = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return np.asarray(linear_sum_assignment(recalls, maximize=True)[1], dtype=np.int64)


def _make_finding(dataset: ScannedDataset, split: str, order: ClassOrder) -> Finding:
    names = dataset.class_names
    moved = [f"{names[label]} looks like {names[other]}" for label, other in enumerate(order.order) if label != other]
    return Finding(
        id="class-order-mixed-up",
        severity="fault",
        seen=f"{split} names its classes in another order than train. A small classifier that learned from train "
        f"answers {order.num_right_in_order:,} of {order.num:,} faces of these classes as another class, always the "
        f"same, and {order.num_right_as_named:,} "
        f"as the class they are named: {listed([f'{split} {text}' for text in moved])}.",
        matters="The same number means one class while training and another while testing: right answers count as "
        "wrong, and whoever corrects for it by hand can choose the order that scores best.",
        advice="Map classes by name, never by position: folders are numbered by the alphabet, lists by their authors. "
        f"Look at some faces of each class of {split}.",
        num=order.num,
    )
