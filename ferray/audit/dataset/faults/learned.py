"""A small classifier of thumbnails, a witness of the checks on labels: where it learns at all, it notices wrong names.

Histograms of oriented gradients and ridge regression, in seconds and without torch. Begin at `predict`.

Sources: Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005; Hoerl and Kennard, "Ridge
Regression", 1970.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.evidence import THUMB_PX, Evidence

MOST_ROWS = 6_000
"""Learned from and predicted, each: more would not change a finding."""
RIDGE = 10.0
"""Added to the diagonal, in the scale of standardized features."""

_CELLS, _DIRECTIONS = 8, 8
_AT_ONCE = 1_000

CERTAIN = 4.0
"""Standard errors from which a difference between two readings of the labels is believed: once in 30,000 by chance,
which leaves room for the readings that are tried."""


def predict(
    features: NDArray[np.float32], labels: NDArray[np.int64], others: NDArray[np.float32], num_classes: int
) -> NDArray[np.int64]:
    """Learn labels from features, every class weighing the same, and predict those of others.

    Args:
        features: Shape (n, d).
        labels: Shape (n,).
        others: Shape (m, d).
        num_classes: Columns of the answer; a class without rows is never predicted.

    Returns:
        Shape (m,).
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = np.concatenate([(features - mean) / spread, np.ones((len(features), 1), np.float32)], axis=1)
    counts = np.bincount(labels, minlength=num_classes)
    weights = (len(labels) / (num_classes * np.maximum(counts, 1)))[labels].astype(np.float32)
    targets = np.eye(num_classes, dtype=np.float32)[labels]
    weighted = inputs * weights[:, None]
    square = weighted.T @ inputs + RIDGE * np.eye(inputs.shape[1], dtype=np.float32)
    solution = np.linalg.solve(square.astype(np.float64), (weighted.T @ targets).astype(np.float64))
    inputs = np.concatenate([(others - mean) / spread, np.ones((len(others), 1), np.float32)], axis=1)
    scores = inputs @ solution
    scores[:, counts == 0] = -np.inf
    return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)


def features_of(evidence: Evidence, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Histograms of oriented gradients of some thumbnails, float32, shape (rows, 512).

    8x8 cells of 4x4 pixels, 8 directions without sign, blocks of 2x2 cells scaled to length 1.
    """
    parts = [_describe(evidence.thumbs[rows[begin : begin + _AT_ONCE]]) for begin in range(0, len(rows), _AT_ONCE)]
    return np.concatenate(parts)


def _describe(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    padded = np.pad(thumbs.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    direction = np.arctan2(down, across) * (_DIRECTIONS / np.pi)  # a turn by pi is one by _DIRECTIONS
    strength = np.hypot(across, down)
    cells = np.empty((len(thumbs), _CELLS, _CELLS, _DIRECTIONS), dtype=np.float32)
    for place in range(_DIRECTIONS):
        away = np.abs((direction - place + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2)
        share = strength * np.clip(1 - away, 0, None)  # between two directions, to both
        cells[..., place] = share.reshape(len(thumbs), _CELLS, -1, _CELLS, THUMB_PX // _CELLS).sum(axis=(2, 4))
    blocks = cells.reshape(len(thumbs), _CELLS // 2, 2, _CELLS // 2, 2, _DIRECTIONS)
    length = np.sqrt((blocks**2).sum(axis=(2, 4, 5), keepdims=True))
    return np.asarray(blocks / (length + 1), dtype=np.float32).reshape(len(thumbs), -1)


def draw_rows(rows: NDArray[np.int64], most: int = MOST_ROWS) -> NDArray[np.int64]:
    """At most so many of the rows, at even distances."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def standard_errors(more: int, fewer: int) -> float:
    """By how many standard errors one count exceeds another, where each case falls to one, the other or neither.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    return (more - fewer) / math.sqrt(max(more + fewer, 1))
