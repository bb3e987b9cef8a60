"""Tables of colored cells: two settings against each other, and a confusion matrix.

They are tables of HTML, so that a screen reader and a keyboard reach every cell. Begin at `heat_tables`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ferray.metrics.scores import Scores
from ferray.report.results.pairs import Cell, Pair

MAX_CLASSES = 20
"""Classes up to which the whole confusion matrix is shown."""

MAX_CONFUSIONS = 25
"""Pairs of classes that are listed instead."""

_STOPS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
"""Viridis, by Smith and van der Walt, in nine steps: it gets lighter evenly, for people with any color vision."""

_COUNT_STOPS = ("#eef3fa", "#c6d9ee", "#8fb8de", "#4d8fc9", "#1d64a6", "#0a3d73")


@dataclass(frozen=True, kw_only=True)
class Shade:
    """One of the values that a cell can show."""

    text: str
    color: str
    """Of the cell, `#rrggbb`."""
    ink: str
    """Of the text on it."""


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """A cell of a table of two settings."""

    best: Shade
    mean: Shade
    num: Shade
    has_winner: bool
    is_near: bool
    is_cut: bool
    """Whether its best point was stopped early or has not ended."""
    has_cut: bool
    """Whether any point of it was."""
    title: str
    """All of it in words."""


@dataclass(frozen=True, kw_only=True)
class HeatTable:
    """A table of two settings."""

    down: str
    across: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell | None]]]


def heat_tables(pairs: Sequence[Pair], *, maximize: bool, cut: str = "") -> list[HeatTable]:
    """The tables of pairs of settings, all with one scale of colors: lighter is better.

    Args:
        pairs: Of one search.
        maximize: Whether a larger score is better.
        cut: Why points have fewer epochs, in words.
    """
    cells = [cell for pair in pairs for row in pair.rows for cell in row if cell is not None]
    if not cells:
        return []
    scores = [score for cell in cells for score in (cell.best, cell.mean)]
    low, high = min(scores), max(scores)
    largest = max(cell.num for cell in cells)

    def share(score: float) -> float:
        at = (score - low) / (high - low) if high > low else 1.0
        return at if maximize else 1 - at

    def shade(cell: Cell) -> HeatCell:
        return HeatCell(
            best=_shade(f"{cell.best:.3f}", share(cell.best), _STOPS),
            mean=_shade(f"{cell.mean:.3f}", share(cell.mean), _STOPS),
            num=_shade(f"{cell.num:,}", cell.num / largest, _COUNT_STOPS),
            has_winner=cell.has_winner,
            is_near=cell.is_near,
            is_cut=cell.is_cut,
            has_cut=cell.num_cut > 0,
            title=_title(cell, cut),
        )

    return [
        HeatTable(
            down=pair.down.title,
            across=pair.across.title,
            columns=pair.across.texts,
            rows=[
                (text, [None if cell is None else shade(cell) for cell in row])
                for text, row in reversed(list(zip(pair.down.texts, pair.rows, strict=True)))
            ],
        )
        for pair in pairs
    ]


def _title(cell: Cell, cut: str) -> str:
    best = f"best {cell.best:.3f}" + (f" ({cut})" if cell.is_cut else "")
    num = f"points {cell.num:,}" + (f", {cut}: {cell.num_cut:,}" if cell.num_cut else "")
    return f"{best}, mean {cell.mean:.3f}, {num}"


@dataclass(frozen=True, kw_only=True)
class ConfusionTable:
    """A confusion matrix, rows are labels; cells are shaded by their share of the row."""

    names: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[Shade], str]]
    """Name, pictures, cells, recall."""


def confusion_table(scores: Scores) -> ConfusionTable | None:
    """The whole matrix; None for more classes than `MAX_CLASSES`."""
    if len(scores.class_names) > MAX_CLASSES:
        return None
    rows = []
    for name, row, recall in zip(scores.class_names, scores.confusion.tolist(), scores.recalls, strict=True):
        total = sum(row)
        cells = [_shade(f"{count:,}", count / max(1, total), _COUNT_STOPS) for count in row]
        rows.append((name, total, cells, "" if recall is None else f"{recall:.2f}"))
    return ConfusionTable(names=scores.class_names, rows=rows)


def frequent_confusions(scores: Scores) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions: label, prediction, pictures, share of the label's pictures."""
    wrong = scores.confusion.copy()
    np.fill_diagonal(wrong, 0)
    totals = scores.class_counts
    largest = np.argsort(wrong, axis=None, kind="stable")[::-1][:MAX_CONFUSIONS]
    places: Iterable[tuple[int, int]] = (divmod(int(place), len(wrong)) for place in largest)
    names = scores.class_names
    return [
        (names[label], names[predicted], int(wrong[label, predicted]), float(wrong[label, predicted] / totals[label]))
        for label, predicted in places
        if wrong[label, predicted]
    ]


def _shade(text: str, share: float, stops: Sequence[str]) -> Shade:
    """A color between stops, and black or white on it, whichever has the higher contrast (WCAG 2)."""
    at = min(1.0, max(0.0, share)) * (len(stops) - 1)
    place = min(int(at), len(stops) - 2)
    parts = [
        round(one + (other - one) * (at - place))
        for one, other in zip(_parts(stops[place]), _parts(stops[place + 1]), strict=True)
    ]
    linear = [value / 12.92 if (value := part / 255) <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    ink = "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"
    return Shade(text=text, color="#{:02x}{:02x}{:02x}".format(*parts), ink=ink)


def _parts(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
