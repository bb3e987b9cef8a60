"""Searched parameters as axes of a picture: which to show, in what order their values stand, how they are written.

Begin at `pick_axes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas

_FIRST = ("learning_rate", "batch_size")
_LOG_FROM = 8
"""Ratio of the largest to the smallest value from which an axis may be logarithmic."""


@dataclass(frozen=True)
class Axis:
    """A parameter that differs between trials."""

    name: str
    """A field of `Recipe`."""
    values: tuple[Any, ...]
    """Distinct: numbers ascending, other values in the order in which the search asked for them, None last."""
    places: NDArray[np.int64]
    """Of each trial's value in `values`, shape (trials,)."""
    is_numeric: bool
    """Whether all values are numbers."""

    @property
    def title(self) -> str:
        """The name in words."""
        return in_words(self.name)

    @property
    def texts(self) -> list[str]:
        """The values as people write them."""
        return [value_text(value) for value in self.values]

    @property
    def is_log(self) -> bool:
        """Whether the values ask for a logarithmic scale: they span much, and lie more evenly on it."""
        if not self.is_numeric or self.values[0] <= 0 or self.values[-1] < _LOG_FROM * self.values[0]:
            return False
        numbers = np.asarray(self.values, dtype=np.float64)
        return abs(_middle(np.log(numbers)) - 0.5) < abs(_middle(numbers) - 0.5)

    def positions(self) -> NDArray[np.float64]:
        """Where each trial stands: its number, or the place of its value where that is no number."""
        numbers = self.values if self.is_numeric else range(len(self.values))
        return np.asarray(numbers, dtype=np.float64)[self.places]


def pick_axes(trials: "pandas.DataFrame", searched: Sequence[str]) -> list[Axis]:
    """The parameters that differ, the most telling first.

    Learning rate and batch size lead; then come those with most values; the seed is last, as it is no setting.

    Args:
        trials: From `ferray.records.tables.trials_frame`.
        searched: Names of the parameters that can differ.
    """
    axes = [axis for axis in (_make_axis(trials, name) for name in searched) if len(axis.values) > 1]

    def key(axis: Axis) -> tuple[bool, int, int]:
        lead = _FIRST.index(axis.name) if axis.name in _FIRST else len(_FIRST)
        return axis.name == "seed", lead, -len(axis.values)

    return sorted(axes, key=key)


def describe(place: int, axes: Sequence[Axis]) -> str:
    """A trial's searched settings in words: `learning rate 0.001, dropout 0.5`.

    Args:
        place: Of the trial among those that the axes were made of.
        axes: In the order to be told.
    """
    return ", ".join(f"{axis.title} {axis.texts[axis.places[place]]}" for axis in axes)


def in_words(name: str) -> str:
    """A field's or metric's name as people say it: `validation accuracy`."""
    words = name.replace("val_", "validation ").replace("macro_f1", "macro F1").replace("lr_", "learning rate ")
    return words.replace("_", " ")


def value_text(value: Any) -> str:
    """A setting as people write it: `0.001`, `1e-4`, `256`, `none`.

    Args:
        value: A JSON scalar.
    """
    if value is None:
        return "none"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _make_axis(trials: "pandas.DataFrame", name: str) -> Axis:
    column = [_plain(value) for value in trials[name].tolist()]
    asked = [_plain(value) for value in trials.sort_values("number")[name].tolist()]
    is_number = {value: isinstance(value, int | float) for value in asked if value is not None}
    values = sorted(is_number) if all(is_number.values()) else list(is_number)
    numeric = bool(values) and all(is_number.values()) and None not in column
    if None in column:
        values.append(None)
    return Axis(name, tuple(values), np.asarray([values.index(value) for value in column], dtype=np.int64), numeric)


def _middle(numbers: NDArray[np.float64]) -> float:
    """Where the median lies between the smallest, 0, and the largest, 1, of ascending numbers."""
    return float((np.median(numbers) - numbers[0]) / (numbers[-1] - numbers[0]))


def _plain(value: Any) -> Any:
    """A cell's value; a frame turns None among numbers into NaN, and whole numbers beside it into fractions."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value
