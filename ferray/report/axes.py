"""Searched parameters as axes of a picture: which to show, in which order, and how their values are written.

Begin at `pick_axes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.report.results.scales import distinct_texts
from ferray.report.wording import in_words, setting_text, sort_words

if TYPE_CHECKING:
    import pandas

_FIRST = ("learning_rate", "batch_size")
"""Parameters that are shown before all others."""

_MIN_LOG_RATIO = 8
"""Ratio of the largest to the smallest value from which an axis may be logarithmic."""


@dataclass(frozen=True)
class Axis:
    """A parameter that differs between trials."""

    name: str
    """A field of `Recipe`."""
    values: tuple[Any, ...]
    """Distinct values: numbers ascending, other values in their own order or that of the alphabet, None last."""
    places: NDArray[np.int64]
    """Index of each trial's value in `values`, shape (trials,)."""
    is_numeric: bool
    """Whether all values are numbers."""

    @property
    def title(self) -> str:
        """The name in words."""
        return in_words(self.name)

    @property
    def texts(self) -> list[str]:
        """The values as people write them."""
        return [setting_text(self.name, value) for value in self.values]

    @property
    def names(self) -> list[str]:
        """The same for columns and rows: with more digits where two would have one name."""
        return distinct_texts(self.name, self.values)

    @property
    def is_log(self) -> bool:
        """Whether a logarithmic scale suits the values: they span a wide range and lie more evenly on it."""
        if not self.is_numeric or self.values[0] <= 0 or self.values[-1] < _MIN_LOG_RATIO * self.values[0]:
            return False
        numbers = np.asarray(self.values, dtype=np.float64)
        return abs(_middle(np.log(numbers)) - 0.5) < abs(_middle(numbers) - 0.5)

    def positions(self) -> NDArray[np.float64]:
        """Coordinate of each trial: its value, or the index of its value where that is not a number."""
        numbers = self.values if self.is_numeric else range(len(self.values))
        return np.asarray(numbers, dtype=np.float64)[self.places]


def pick_axes(trials: "pandas.DataFrame", searched: Sequence[str]) -> list[Axis]:
    """The parameters that differ between trials, the most informative first.

    Learning rate and batch size come first, then the parameters with the most values. The seed is last, since it is not
    a setting.

    Args:
        trials: From `ferray.records.tables.trials_frame`.
        searched: Names of the parameters that can differ.
    """
    axes = [axis for axis in (_make_axis(trials, name) for name in searched) if len(axis.values) > 1]

    def key(axis: Axis) -> tuple[bool, int, int]:
        lead = _FIRST.index(axis.name) if axis.name in _FIRST else len(_FIRST)
        return axis.name == "seed", lead, -len(axis.values)

    return sorted(axes, key=key)


def settings_text(place: int, axes: Sequence[Axis]) -> str:
    """A trial's searched settings in words: `learning rate 0.001, dropout 0.5`.

    Args:
        place: Index of the trial among those that the axes were made of.
        axes: In the order of the text.
    """
    return ", ".join(f"{axis.title} {axis.texts[axis.places[place]]}" for axis in axes)


def _make_axis(trials: "pandas.DataFrame", name: str) -> Axis:
    plain = trials[name].astype("object").where(trials[name].notna(), None)
    column = [_plain(value) for value in plain.tolist()]
    distinct = set(column)
    are_numbers = all(isinstance(value, int | float) for value in distinct if value is not None)
    numbers = sorted(value for value in distinct if value is not None) if are_numbers else []
    values = [*numbers, *sort_words(name, distinct.difference(numbers))]
    numeric = bool(numbers) and None not in distinct
    return Axis(name, tuple(values), np.asarray([values.index(value) for value in column], dtype=np.int64), numeric)


def _middle(numbers: NDArray[np.float64]) -> float:
    """Position of the median between the smallest, 0, and the largest, 1, of ascending numbers."""
    return float((np.median(numbers) - numbers[0]) / (numbers[-1] - numbers[0]))


def _plain(value: Any) -> Any:
    """A cell's value: pandas turns None among numbers into NaN, and the integers beside it into floats."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value
