"""What a classifier predicts for the faces of one split, beside their labels. Begin at `LabeledPredictions`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class LabeledPredictions:
    """Labels and predictions of the same faces, which every score is computed from.

    Raises:
        ValueError: There are no faces, or the shapes disagree.
    """

    class_names: tuple[str, ...]
    """In the order of the class numbers."""
    labels: NDArray[np.int64]
    """True class numbers, shape (faces,)."""
    predicted: NDArray[np.int64]
    """Predicted class numbers, shape (faces,)."""
    probabilities: NDArray[np.floating[Any]] | None
    """Shape (faces, classes); None where only the predicted classes are known."""
    groups: NDArray[np.int64]
    """Ids of the photographs that the faces come from, shape (faces,)."""

    def __post_init__(self) -> None:
        shapes = {self.labels.shape, self.predicted.shape, self.groups.shape}
        table = None if self.probabilities is None else self.probabilities.shape
        if not len(self.labels) or len(shapes) > 1 or table not in (None, (len(self.labels), len(self.class_names))):
            raise ValueError(
                f"labels {self.labels.shape}, predicted classes {self.predicted.shape}, groups {self.groups.shape},"
                f" probabilities {table} and {len(self.class_names)} classes do not belong together"
            )

    @classmethod
    def from_probabilities(
        cls,
        labels: NDArray[np.int64],
        probabilities: NDArray[np.floating[Any]],
        groups: NDArray[np.int64],
        *,
        class_names: tuple[str, ...],
    ) -> "LabeledPredictions":
        """Predict the most probable class of each face, the first of equals."""
        return cls(
            class_names=class_names,
            labels=labels,
            predicted=probabilities.argmax(axis=1).astype(np.int64),
            probabilities=probabilities,
            groups=groups,
        )

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """Whether each face's label was predicted, shape (faces,)."""
        return np.asarray(self.labels == self.predicted)

    def select(self, rows: NDArray[np.bool_]) -> "LabeledPredictions":
        """Some of the faces.

        Args:
            rows: Whether a face is kept, shape (faces,).
        """
        return LabeledPredictions(
            class_names=self.class_names,
            labels=self.labels[rows],
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            groups=self.groups[rows],
        )
