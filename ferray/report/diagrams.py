"""Pictures of one model's predictions for one split, as PNG files. Begin at `draw_confusion` and `draw_reliability`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ferray.report.figure import BEST_COLORS, open_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ferray.metrics.calibration import Calibration, ProbabilityErrors


def draw_confusion(matrix: NDArray[np.int64], class_names: Sequence[str], file: Path, *, title: str) -> None:
    """Draw a confusion matrix: counts, and shares of each label's faces.

    Args:
        matrix: Counts, shape (classes, classes); rows are labels, columns predictions.
        class_names: In the order of the matrix.
        file: The PNG file.
        title: One line above the picture.

    Raises:
        StorageError: The file cannot be written.
    """
    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(1, totals)[:, None]
    side = 1.6 + 0.85 * len(class_names)
    with open_figure(file, size=(side + 1.2, side)) as figure:
        panel = figure.subplots()
        image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        for row, column in np.ndindex(*matrix.shape):
            text = f"{matrix[row, column]:,}\n{shares[row, column]:.0%}" if totals[row] else "0"
            color = "white" if shares[row, column] > 0.55 else "#222222"
            weight = "bold" if row == column else "normal"
            panel.text(column, row, text, ha="center", va="center", color=color, fontsize=9, fontweight=weight)
        names = [f"{name}\n({total:,})" for name, total in zip(class_names, totals, strict=True)]
        panel.set_xticks(range(len(class_names)), labels=list(class_names), rotation=30, ha="right")
        panel.set_yticks(range(len(class_names)), labels=names)
        panel.set_xlabel("predicted")
        panel.set_ylabel("label (faces)")
        panel.set_title(title, loc="left")
        panel.spines[:].set_visible(False)
        figure.colorbar(image, ax=panel, label="share of the label's faces", shrink=0.8)


def draw_reliability(calibration: "Calibration", file: Path) -> None:
    """Draw the reliability diagram: accuracy by confidence, before and after temperature scaling.

    Args:
        calibration: Calibration on the test split.
        file: The PNG file.

    Raises:
        StorageError: The file cannot be written.
    """
    with open_figure(file, size=(9.6, 5.2)) as figure:
        tops = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
        for column, (title, errors) in enumerate(
            (
                ("As trained", calibration.before),
                (f"Divided by temperature {calibration.temperature:.2f}", calibration.after),
            )
        ):
            _draw_bins(tops[0, column], tops[1, column], title, errors)
        tops[0, 0].set_ylabel("share of correct predictions")
        tops[1, 0].set_ylabel("faces")


def _draw_bins(panel: "Axes", below: "Axes", title: str, errors: "ProbabilityErrors") -> None:
    """Draw bars of accuracy by confidence against the diagonal, and below them the number of faces of each bin."""
    width = 1 / len(errors.bins)
    middles = (np.arange(len(errors.bins)) + 0.5) * width
    faces = np.array([row.faces for row in errors.bins])
    known = faces > 0
    accuracy = np.array([row.accuracy for row in errors.bins])
    confidence = np.array([row.confidence for row in errors.bins])
    panel.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--")
    panel.bar(middles[known], accuracy[known], width * 0.92, color=BEST_COLORS[0], label="correct")
    gap = (confidence - accuracy)[known]
    panel.bar(
        middles[known],
        gap,
        width * 0.92,
        accuracy[known],
        color=BEST_COLORS[1],
        alpha=0.35,
        label="gap to mean confidence",
    )
    panel.set_title(f"{title}\nECE {errors.ece:.3f}, NLL {errors.nll:.3f}, Brier {errors.brier:.3f}", loc="left")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.legend(frameon=False, loc="upper left")
    below.bar(middles, faces, width * 0.92, color="#BBBBBB")
    below.set_xlabel("confidence: probability of the predicted class")
