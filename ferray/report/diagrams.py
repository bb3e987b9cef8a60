"""Pictures of one model's predictions for one split, as PNG files. Begin at `draw_confusion` and `draw_reliability`."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.intervals import wilson_interval
from ferray.report.figure import BEST_COLORS, ink, open_figure
from ferray.report.fonts import FAMILY, ReadableNames, make_readable
from ferray.wording import count_of, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ferray.metrics.calibration import Calibration, ProbabilityErrors

MAX_CLASSES = 20
"""Classes up to which the whole matrix is drawn; a larger one could not be read."""

NUM_PAIRS = 25
"""Pairs of classes that are drawn instead."""

_MAX_LETTERS = 28


def draw_confusion(
    matrix: NDArray[np.int64], class_names: Sequence[str], file: Path, *, title: str, nouns: str = "faces"
) -> None:
    """Draw a confusion matrix: counts, and shares of each label's faces; of many classes the worst pairs alone.

    Args:
        matrix: Counts, shape (classes, classes); rows are labels, columns predictions.
        class_names: In the order of the matrix.
        file: The PNG file.
        title: One line above the picture.
        nouns: What is counted.

    Raises:
        StorageError: The file cannot be written.
    """
    names = make_readable(short_names(class_names, _MAX_LETTERS))
    with open_figure(file, families=names.families) as figure:
        if len(class_names) > MAX_CLASSES:
            _draw_pairs(figure, matrix, names, title, nouns)
        else:
            _draw_matrix(figure, matrix, names, title, nouns)
        if names.note:
            note = textwrap.fill(names.note, int(12 * figure.get_figwidth()))
            figure.supxlabel(note, fontsize=9, x=0.02, ha="left", color="#444444")


def _draw_matrix(figure: "Figure", matrix: NDArray[np.int64], names: ReadableNames, title: str, nouns: str) -> None:
    import matplotlib

    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(1, totals)[:, None]
    side = 1.6 + 0.85 * len(names.texts)
    figure.set_size_inches(side + 1.2, side)
    panel = figure.subplots()
    colors = matplotlib.colormaps["Blues"]
    image = panel.imshow(shares, cmap=colors, vmin=0, vmax=1, aspect="equal")
    for row, column in np.ndindex(*matrix.shape):
        text = f"{matrix[row, column]:,}\n{shares[row, column]:.0%}" if totals[row] else "0"
        color = ink(colors(shares[row, column]))
        weight = "bold" if row == column else "normal"
        panel.text(
            column, row, text, ha="center", va="center", color=color, fontsize=9, fontweight=weight, fontfamily=FAMILY
        )
    labels = [f"{name}\n({total:,})" for name, total in zip(names.texts, totals, strict=True)]
    panel.set_xticks(range(len(names.texts)), labels=list(names.texts), rotation=30, ha="right")
    panel.set_yticks(range(len(names.texts)), labels=labels)
    panel.set_xlabel("predicted")
    panel.set_ylabel(f"label ({nouns})")
    _title(figure, title)
    panel.spines[:].set_visible(False)
    figure.colorbar(image, ax=panel, label=f"share of the label's {nouns}", shrink=0.8)


def _draw_pairs(figure: "Figure", matrix: NDArray[np.int64], names: ReadableNames, title: str, nouns: str) -> None:
    """Draw the pairs of label and wrong prediction with the most faces as bars."""
    from matplotlib.ticker import MaxNLocator

    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    totals = matrix.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_PAIRS]
    pairs = [(row, column) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    pairs = [(row, column) for row, column in pairs if wrong[row, column]]
    figure.set_size_inches(9.0, 1.8 + 0.27 * max(1, len(pairs)))
    panel = figure.subplots()
    counts = [int(wrong[pair]) for pair in pairs]
    bars = panel.barh(range(len(pairs)), counts, color=BEST_COLORS[0], height=0.7)
    shares = [f"{wrong[row, column]:,} of {totals[row]:,}" for row, column in pairs]
    panel.bar_label(bars, labels=shares, padding=3, fontsize=9)
    panel.set_yticks(
        range(len(pairs)), labels=[f"{names.texts[row]} → {names.texts[column]}" for row, column in pairs], fontsize=9
    )
    panel.invert_yaxis()
    panel.margins(x=0.15, y=0.02)
    panel.set_xlabel(f"{nouns} of the label that were predicted as the other class")
    shown = f"the {count_of(len(pairs), 'pair')} with the most wrong predictions" if pairs else "no wrong prediction"
    panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _title(figure, f"{title}\n{len(names.texts):,} classes: {shown} (label → prediction)")


def _title(figure: "Figure", text: str) -> None:
    """Above the whole picture, which may be no wider than the title of its panel."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, int(11 * figure.get_figwidth()))]
    figure.suptitle("\n".join(lines), x=0.02, ha="left", fontsize=11)


def draw_reliability(calibration: "Calibration", file: Path, *, nouns: str = "faces") -> None:
    """Draw the reliability diagram: accuracy by confidence, before and after temperature scaling.

    Args:
        calibration: Calibration on the test split.
        file: The PNG file.
        nouns: What is counted.

    Raises:
        StorageError: The file cannot be written.
    """
    with open_figure(file, size=(9.6, 5.6)) as figure:
        tops = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
        for column, (title, errors) in enumerate(
            (
                ("As trained", calibration.before),
                (f"Divided by temperature {calibration.temperature:.2f}", calibration.after),
            )
        ):
            _draw_bins(tops[0, column], tops[1, column], title, errors)
        tops[0, 0].set_ylabel("share of correct predictions")
        tops[1, 0].set_ylabel(nouns)
        handles, labels = tops[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=3)


def _draw_bins(panel: "Axes", below: "Axes", title: str, errors: "ProbabilityErrors") -> None:
    """Draw the accuracy of each bin with its interval, and its mean confidence; below them its number of faces."""
    width = 1 / len(errors.bins)
    middles = (np.arange(len(errors.bins)) + 0.5) * width
    faces = np.array([row.faces for row in errors.bins])
    known = faces > 0
    accuracy = np.array([row.accuracy for row in errors.bins])
    confidence = np.array([row.confidence for row in errors.bins])
    limits = np.array([wilson_interval(row.accuracy, row.faces) for row in errors.bins if row.faces]).reshape(-1, 2)
    panel.bar(
        middles[known],
        accuracy[known],
        width * 0.92,
        color=BEST_COLORS[0],
        alpha=0.75,
        label="correct, with 95 % interval",
    )
    panel.vlines(middles[known], limits[:, 0], limits[:, 1], color="#222222", linewidth=1.3)
    half = width * 0.46
    panel.hlines(
        confidence[known], middles[known] - half, middles[known] + half, color=BEST_COLORS[1], linewidth=2.5,
        label="mean confidence",
    )  # fmt: skip
    panel.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--", label="share = confidence")
    panel.set_title(f"{title}\nECE {errors.ece:.3f}, NLL {errors.nll:.3f}, Brier {errors.brier:.3f}", loc="left")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    below.bar(middles, faces, width * 0.92, color="#BBBBBB")
    below.set_xlabel("confidence: probability of the predicted class")
