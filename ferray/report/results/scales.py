"""The searched settings as scales: where each point lies, in classes for tables and as a position for plots.

Begin at `make_scales`.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ferray.records.points import Point
from ferray.report.wording import in_words, setting_text, sort_words

MAX_VALUES = 8
"""Distinct numbers up to which each is a class of its own; more are put into ranges."""

MAX_RANGES = 6
"""Ranges that a setting of more numbers is cut into, at round numbers."""

_MIN_LOG_RATIO = 8
"""Ratio of the largest to the smallest number from which a scale may be logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One setting over the points of a search."""

    name: str
    """A field of `Recipe`."""
    texts: tuple[str, ...]
    """Its classes, ascending: values, or ranges of them."""
    places: tuple[int, ...]
    """The class of each point."""
    positions: tuple[float, ...]
    """The position of each point between the lowest value, 0, and the highest, 1."""
    ticks: tuple[tuple[float, str], ...]
    """Positions on the scale with the values there."""
    labels: tuple[str, ...]
    """The value of each point, as people write it."""

    @cached_property
    def is_shared(self) -> bool:
        """Whether points share the positions of few values."""
        return len(set(self.positions)) == len(self.texts) < len(self.positions)

    @property
    def title(self) -> str:
        """The name in words."""
        return in_words(self.name)


def make_scales(points: Sequence[Point], names: Sequence[str]) -> list[Scale]:
    """A scale for each setting that has more than one value.

    Args:
        points: The points of a search.
        names: Settings, in the order of the result.
    """
    if not points:
        return []
    scales = (_make_scale(name, [getattr(point.recipe, name) for point in points]) for name in names)
    return [scale for scale in scales if len(scale.texts) > 1]


def _make_scale(name: str, values: Sequence[Any]) -> Scale:
    numbers = sorted({one for one in values if isinstance(one, int | float) and not isinstance(one, bool)})
    words = {one for one in values if isinstance(one, bool) or not isinstance(one, int | float)}
    others = sort_words(name, words)
    labels = tuple(setting_text(name, value) for value in values)
    if others or len(numbers) <= MAX_VALUES:
        return _of_values(name, values, [*numbers, *others], labels, evenly=bool(others))
    return _of_ranges(name, values, numbers, labels)


def _of_values(
    name: str, values: Sequence[Any], distinct: list[Any], labels: tuple[str, ...], *, evenly: bool
) -> Scale:
    """Every value is a class; None, true and words stand after the numbers, at even distances."""
    place = {_key(value): index for index, value in enumerate(distinct)}
    at = (
        [index / max(1, len(distinct) - 1) for index in range(len(distinct))]
        if evenly
        else _positions(distinct, is_log=_is_log(distinct))
    )
    texts = distinct_texts(name, distinct)
    places = tuple(place[_key(value)] for value in values)
    return Scale(
        name=name,
        texts=tuple(texts),
        places=places,
        positions=tuple(at[one] for one in places),
        ticks=tuple(zip(at, texts, strict=True)),
        labels=labels,
    )


def _of_ranges(name: str, values: Sequence[float], numbers: list[float], labels: tuple[str, ...]) -> Scale:
    """Numbers in ranges between round numbers, on a logarithmic scale where that suits them."""
    is_log = _is_log(numbers)
    edges = log_edges(numbers[0], numbers[-1]) if is_log else _linear_edges(numbers[0], numbers[-1])
    places = tuple(min(len(edges) - 2, bisect.bisect_right(edges, value) - 1) for value in values)
    written = distinct_texts(name, edges)
    all_positions = _positions([*numbers, *edges], is_log=is_log)
    position = dict(zip(numbers, all_positions, strict=False))
    return Scale(
        name=name,
        texts=tuple(f"{one} to {other}" for one, other in itertools.pairwise(written)),
        places=places,
        positions=tuple(position[value] for value in values),
        ticks=tuple(zip(all_positions[len(numbers) :], written, strict=True)),
        labels=labels,
    )


def _linear_edges(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from the last below all numbers to the first above."""
    power = 10.0 ** math.floor(math.log10((high - low) / MAX_RANGES))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= MAX_RANGES:
            return [float(f"{count * step:.12g}") for count in range(first, last + 1)]
    raise AssertionError("20 powers of ten are more than the range")


def log_edges(low: float, high: float) -> list[float]:
    """Powers of ten, from the last below all numbers to the first above; over few decades numbers between them, too."""
    for factors in ((1, 2, 5), (1, 3), (1,)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        all_edges = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
        begin = bisect.bisect_right(all_edges, low * (1 + 1e-9)) - 1
        edges = all_edges[begin : bisect.bisect_left(all_edges, high * (1 - 1e-9)) + 1]
        if len(edges) <= MAX_RANGES + 1:
            return edges
    return edges


def distinct_texts(name: str, values: Sequence[Any]) -> list[str]:
    """Different values of a setting as people write them, with all digits where fewer do not tell them apart."""
    texts = [setting_text(name, value) for value in values]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{value:.12g}" if isinstance(value, float) else text for value, text in zip(values, texts, strict=True)]


def _key(value: Any) -> tuple[str, Any]:
    """What tells `True` from 1."""
    return type(value).__name__ if isinstance(value, bool) else "", value


def _is_log(numbers: Sequence[float]) -> bool:
    """Whether numbers in ascending order span a wide range and lie more evenly on a logarithmic scale."""
    low, high = numbers[0], numbers[-1]
    if low <= 0 or high < _MIN_LOG_RATIO * low:
        return False
    middle = numbers[len(numbers) // 2]
    linear, log = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
    return abs(log - 0.5) < abs(linear - 0.5)


def _positions(numbers: Sequence[float], *, is_log: bool) -> list[float]:
    low, high = min(numbers), max(numbers)
    if low == high:
        return [0.5] * len(numbers)
    if is_log:
        return [math.log(one / low) / math.log(high / low) for one in numbers]
    return [(one - low) / (high - low) for one in numbers]
